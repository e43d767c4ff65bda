import numpy as np
import pytest
import torch
from torch.nn import functional as F

from deconvnet.layers.bilinear import (
    BilinearUpsampling,
    bilinear_kernel,
    bilinear_transposed_convolution,
)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 16, 32, 64])
def test_the_kernel_is_the_published_pyramid(size):
    factor = (size + 1) // 2
    centre = factor - 1 if size % 2 == 1 else factor - 0.5
    expected = np.empty((size, size), np.float32)
    for i, j in np.ndindex(size, size):
        expected[i, j] = (1 - abs(i - centre) / factor) * (1 - abs(j - centre) / factor)
    np.testing.assert_allclose(bilinear_kernel(size), expected, rtol=1e-6)


@pytest.mark.parametrize("factor", [2, 8, 16, 32])
def test_upsampling_interpolates_between_half_pixels(factor):
    features = torch.rand(2, 3, 5, 4)
    enlarged = BilinearUpsampling(factor)(features)
    assert enlarged.shape == (2, 3, 6 * factor, 5 * factor)
    edge = factor // 2
    cropped = enlarged[:, :, edge:-edge, edge:-edge]
    expected = F.interpolate(features, scale_factor=factor, mode="bilinear")
    inner = slice(edge, -edge)
    torch.testing.assert_close(cropped[:, :, inner, inner], expected[:, :, inner, inner])


def test_the_learned_upsampling_starts_equal_to_the_fixed_one():
    features = torch.rand(1, 4, 6, 5)
    learned = bilinear_transposed_convolution(4, 2, bias=True)
    torch.testing.assert_close(learned(features), BilinearUpsampling(2)(features))

"""Convolutions as one product, against their twins in torch."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from deconvnet.errors import ShapeError
from deconvnet.kernels import product

pytestmark = pytest.mark.skipif(
    not product.is_available(), reason="there is no C++ compiler for the native kernels"
)


def assert_near(result, expected):
    assert result.shape == expected.shape
    assert (result - expected).abs().max() <= 2e-5 * expected.abs().max().clamp(min=1)


def assert_convolves_like_torch(features, kernel, out_channels, padding, relu):
    weight = torch.randn(out_channels, features.shape[1], *kernel)
    bias = torch.randn(out_channels)
    matrix = product.pack(weight, bias)
    result = product.convolve(features, matrix, padding=padding, relu=relu)
    expected = F.conv2d(features.double(), weight.double(), bias.double(), padding=padding)
    assert_near(result, expected.relu() if relu else expected)


@settings(deadline=None, max_examples=30)
@given(
    count=st.integers(1, 3),
    channels=st.integers(1, 40),
    out_channels=st.integers(1, 40),
    kernel=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    more=st.tuples(st.integers(0, 9), st.integers(0, 9)),
    padding=st.integers(0, 2),
    relu=st.booleans(),
)
def test_any_convolution_is_that_of_torch(
    count, channels, out_channels, kernel, more, padding, relu
):
    size = (kernel[0] + more[0], kernel[1] + more[1])
    features = torch.randn(count, channels, *size)
    assert_convolves_like_torch(features, kernel, out_channels, padding, relu)


@pytest.mark.parametrize(
    ("channels", "kernel", "out_channels", "side"),
    [(300, 3, 40, 7), (2000, 1, 33, 2), (3, 3, 64, 50), (64, 1, 21, 30), (512, 7, 48, 7)],
)
def test_deep_and_wide_ones_are_shared_out_among_threads(
    threads, channels, kernel, out_channels, side
):
    features = torch.randn(2, channels, side, side + 1)
    assert_convolves_like_torch(features, (kernel, kernel), out_channels, 0, relu=True)


def test_features_in_any_memory_format_are_taken():
    features = torch.randn(2, 3, 9, 11)
    for laid_out in (
        features,
        features.to(memory_format=torch.channels_last),
        features.expand(2, 3, 9, 11),
        torch.randn(2, 6, 18, 22)[:, ::2, ::2, 1::2],
        torch.randn(1, 3, 1, 11).expand(2, 3, 9, 11),
    ):
        assert_convolves_like_torch(laid_out, (3, 3), 16, 1, relu=False)


@settings(deadline=None, max_examples=20)
@given(
    count=st.integers(1, 3),
    channels=st.integers(1, 40),
    out_channels=st.integers(1, 20),
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    size=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    bias=st.booleans(),
    relu=st.booleans(),
)
def test_windows_side_by_side_are_those_of_a_transposed_convolution(
    count, channels, out_channels, kernel, size, bias, relu
):
    features = torch.randn(count, channels, *size)
    weight = torch.randn(channels, out_channels, *kernel)
    shift = torch.randn(out_channels) if bias else None
    matrix = product.pack(weight, shift, transposed=True)
    expected = F.conv_transpose2d(
        features.double(), weight.double(), shift if shift is None else shift.double(), kernel
    )
    result = product.convolve(features, matrix, relu=relu)
    assert_near(result, expected.relu() if relu else expected)


def test_what_is_no_number_stays_so():
    features = torch.zeros(1, 16, 8, 8)
    features[0, 3, 2, 2] = float("nan")
    matrix = product.pack(torch.ones(16, 16, 1, 1), None)
    assert product.convolve(features, matrix, relu=True)[0, :, 2, 2].isnan().all()


def test_an_empty_batch_gives_an_empty_result():
    matrix = product.pack(torch.randn(16, 3, 3, 3), None)
    assert product.convolve(torch.zeros(0, 3, 8, 8), matrix).shape == (0, 16, 6, 6)


def test_other_types_are_refused_in_words():
    matrix = product.pack(torch.randn(16, 16, 1, 1), None)
    with pytest.raises(ShapeError, match=r"given torch.float64 on cpu; they take float32"):
        product.convolve(torch.zeros(1, 16, 8, 8, dtype=torch.float64), matrix)


def test_a_kernel_that_does_not_fit_is_refused_in_words():
    matrix = product.pack(torch.randn(4, 3, 7, 7), None)
    with pytest.raises(ShapeError, match=r"features of 6 x 9 pixels with a padding of 0 were"):
        product.convolve(torch.zeros(1, 3, 6, 9), matrix)

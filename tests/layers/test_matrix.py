import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from deconvnet.errors import ShapeError
from deconvnet.layers import convolution_matrix

pairs = st.tuples(st.integers(1, 4), st.integers(1, 4))


@given(
    channels=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    kernel=pairs,
    size=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    seed=st.integers(0, 99),
)
@settings(deadline=None, max_examples=50)
def test_the_matrix_convolves_and_its_transpose_is_the_transposed_convolution(
    channels, kernel, size, stride, padding, seed
):
    assume(all(n + 2 * p >= k for n, p, k in zip(size, padding, kernel, strict=True)))
    random = np.random.default_rng(seed)
    weight = random.normal(size=(*channels, *kernel))
    x = random.normal(size=(channels[1], *size))
    matrix = convolution_matrix(weight, size, stride=stride, padding=padding)

    forward = F.conv2d(
        torch.from_numpy(x)[None], torch.from_numpy(weight), stride=stride, padding=padding
    )[0]
    np.testing.assert_allclose(matrix @ x.ravel(), forward.numpy().ravel(), atol=1e-12)

    y = random.normal(size=forward.shape)
    # What a stride left over, torch calls output_padding; the matrix knows it from `size`.
    left_over = [
        (n + 2 * p - k) % s for n, p, k, s in zip(size, padding, kernel, stride, strict=True)
    ]
    back = F.conv_transpose2d(
        torch.from_numpy(y)[None],
        torch.from_numpy(weight),
        stride=stride,
        padding=padding,
        output_padding=left_over,
    )[0]
    assert back.shape == x.shape
    np.testing.assert_allclose(matrix.T @ y.ravel(), back.numpy().ravel(), atol=1e-12)


def test_the_matrix_of_a_pooling_by_two_has_one_window_a_row():
    matrix = convolution_matrix(np.ones((1, 1, 2, 2)), (4, 4), stride=2)
    assert matrix.shape == (4, 16)
    assert matrix.nnz == 16
    assert matrix.toarray()[0].reshape(4, 4).tolist() == [
        [1, 1, 0, 0],
        [1, 1, 0, 0],
        [0, 0, 0, 0],
        [0, 0, 0, 0],
    ]


def test_a_kernel_that_does_not_fit_is_refused_in_words():
    with pytest.raises(ShapeError) as caught:
        convolution_matrix(np.ones((1, 1, 5, 5)), (3, 8))
    assert str(caught.value) == (
        "a kernel of 5 pixels does not fit on 3 pixels padded by 0; take a larger plane, more "
        "padding or a smaller kernel."
    )

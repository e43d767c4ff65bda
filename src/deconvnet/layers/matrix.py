"""The convolution as a sparse matrix, and the transposed convolution as its transpose."""

from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from deconvnet.errors import ShapeError

if TYPE_CHECKING:
    import scipy.sparse

Pair = int | tuple[int, int]


def convolution_matrix(
    weight: Float[np.ndarray, "out_channels in_channels kernel_h kernel_w"],
    size: tuple[int, int],
    *,
    stride: Pair = 1,
    padding: Pair = 0,
) -> "scipy.sparse.csr_array[Any]":
    """Write a convolution as the matrix M with conv(x) = M x, for flattened x.

    The transposed convolution by the same weights is M.T y, and no inverse of anything. Its
    output_padding is not needed here: `size` says which of the possible sizes is meant.

    Args:
        weight: As in torch's conv2d; conv_transpose2d takes the same array for the way back.
        size: (height, width) of one plane of x, in pixels.
        stride: Step between windows, in pixels: for both axes or (rows, columns).
        padding: Zeros at each side, in pixels: for both axes or (rows, columns).

    Returns:
        A matrix with one row for each (out channel, row, column) of the result, and one column
        for each (in channel, row, column) of x.

    Raises:
        ShapeError: When the kernel is larger than the padded plane.

    Source: Dumoulin & Visin 2016, section 4.1.

    >>> kernel = np.array([[[[1.0, 2.0]]]])
    >>> convolution_matrix(kernel, (1, 3)).toarray()
    array([[1., 2., 0.],
           [0., 1., 2.]])
    """
    from scipy import sparse

    out_channels, in_channels, *kernel = weight.shape
    rows, columns = (
        [
            _window_places(
                length, kernel[axis], _axis(stride, axis), _axis(padding, axis), offset
            )
            for offset in range(kernel[axis])
        ]
        for axis, length in enumerate(size)
    )
    total = sparse.csr_array(
        (
            out_channels * rows[0].shape[0] * columns[0].shape[0],
            in_channels * size[0] * size[1],
        ),
        dtype=weight.dtype,
    )
    for i, of_rows in enumerate(rows):
        for j, of_columns in enumerate(columns):
            places = sparse.kron(of_rows, of_columns)  # which pixel lies under this weight
            total = total + sparse.kron(
                sparse.csr_array(weight[:, :, i, j]), places, format="csr"
            )
    return total


def _axis(pair: Pair, axis: int) -> int:
    return pair if isinstance(pair, int) else pair[axis]


def _window_places(
    length: int, kernel: int, stride: int, padding: int, offset: int
) -> "scipy.sparse.csr_array[Any]":
    """A matrix that takes, for each window along one axis, the pixel at this offset in it."""
    from scipy import sparse

    count = (length + 2 * padding - kernel) // stride + 1
    if count < 1:
        raise ShapeError(
            f"a kernel of {kernel} pixels does not fit on {length} pixels padded by {padding}; "
            "take a larger plane, more padding or a smaller kernel."
        )
    pixels = np.arange(count) * stride - padding + offset
    windows = np.flatnonzero((pixels >= 0) & (pixels < length))  # the others lie on the padding
    ones = np.ones(len(windows))
    return sparse.csr_array((ones, (windows, pixels[windows])), shape=(count, length))

"""Convolutions as one product of matrices: `product.cpp` for tensors.

For what Winograd's way does not suit: kernels of one pixel, the first layer with its few
channels, fully connected layers in disguise, and transposed convolutions whose windows do not
overlap. Tensors are float32 on the CPU and (N, C, H, W); results are in channels_last.
"""

import ctypes
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from deconvnet.errors import ShapeError
from deconvnet.kernels import load_kernel
from deconvnet.kernels.memory import check_features, empty_channels_last, in_huge_pages
from deconvnet.kernels.parallel import in_parallel
from deconvnet.shapes import Features, Float

CACHED_MATRIX = 2**16
"""Floats: a packed matrix up to here stays in a core's cache, beside so few rows."""

FEW_ROWS, MANY_ROWS = 48, 384
"""Rows at once for such a matrix; and for a larger one, which is read anew for each lot."""

ROWS_PER_THREAD = 64
"""With fewer rows, threads share out the columns instead, so that each reads its own."""


class Matrix(NamedTuple):
    """The kernels of a convolution, packed for `convolve`."""

    packed: Float[Tensor, "blocks depth block"]
    """block: so many columns at once."""
    bias: Float[Tensor, " padded_columns"]
    columns: int
    kernel_size: tuple[int, int]
    """(height, width) of what a row sees, in pixels."""
    window: tuple[int, int] = (1, 1)
    """(height, width) of what comes of a place, in pixels: more than one if transposed."""


def is_available() -> bool:
    """Whether the kernels can be used; tries to compile them at the first call."""
    return load_kernel("product") is not None


def pack(
    weight: Float[Tensor, "a b kernel_h kernel_w"],
    bias: Float[Tensor, " out_channels"] | None,
    *,
    transposed: bool = False,
) -> Matrix:
    """Lay the kernels of a convolution out as `convolve` reads them.

    Args:
        weight: (out, in, height, width) as conv2d takes it.
        bias: None is zero.
        transposed: Of a convolution that goes the other way: (in, out, height, width), as
            conv_transpose2d takes it.
    """
    block = int(_library().product_columns())
    height, width = weight.shape[2:]
    if transposed:
        kernels = weight.detach().permute(2, 3, 1, 0).flatten(0, 2)  # (columns, depth)
        window, seen = (height, width), (1, 1)
    else:
        kernels = weight.detach().permute(0, 2, 3, 1).flatten(1)
        window, seen = (1, 1), (height, width)
    columns, depth = kernels.shape
    whole, rest = divmod(columns, block)
    packed = in_huge_pages(torch.empty(whole + bool(rest), depth, block))
    packed[:whole] = kernels[: whole * block].view(whole, block, depth).mT
    if rest:
        packed[whole] = 0
        packed[whole, :, :rest] = kernels[whole * block :].T
    padded_bias = torch.zeros(len(packed) * block)
    if bias is not None:
        padded_bias[:columns] = bias.detach().repeat(window[0] * window[1])
    return Matrix(packed, padded_bias, columns, seen, window)


def convolve(
    features: Features, matrix: Matrix, *, padding: int = 0, relu: bool = False
) -> Float[Tensor, "n out_channels out_h out_w"]:
    """Give conv2d(features, weight, bias, padding=padding), or what ReLU leaves of it.

    Of a transposed one it gives conv_transpose2d(features, weight, bias, stride=(h, w)), where
    h and w are the kernel's sides.

    Raises:
        ShapeError: The features are not float32 on the CPU, or smaller than the kernel.
    """
    check_features(features)
    count, channels, height, width = features.shape
    down, across = (
        side + 2 * padding - kernel + 1
        for side, kernel in zip((height, width), matrix.kernel_size, strict=True)
    )
    if min(down, across) < 1:
        raise ShapeError(
            f"features of {height} x {width} pixels with a padding of {padding} were given; a "
            f"kernel of {' x '.join(map(str, matrix.kernel_size))} must fit in."
        )
    window_h, window_w = matrix.window
    out_channels = matrix.columns // (window_h * window_w)
    result = empty_channels_last(count, out_channels, down * window_h, across * window_w)
    rows, blocks = count * down * across, len(matrix.packed)
    chunk = min(rows, FEW_ROWS if matrix.packed.numel() <= CACHED_MATRIX else MANY_ROWS)

    def work(first_row: int, last_row: int, first_block: int, last_block: int) -> None:
        size = _library().product_scratch(channels, last_block - first_block, chunk)
        memory = (features, matrix.packed, matrix.bias, result, torch.empty(size))
        steps = tuple(features.stride(axis) for axis in (0, 2, 3, 1))
        sizes = (height, width, channels, *steps, *matrix.kernel_size, padding, matrix.columns)
        part = (first_row, last_row, first_block, last_block, chunk)
        places = (tensor.data_ptr() for tensor in memory)
        _library().product(*places, *sizes, window_h, int(relu), *part)

    if rows >= ROWS_PER_THREAD * torch.get_num_threads():
        in_parallel(lambda first, last: work(first, last, 0, blocks), rows)
    elif rows:
        in_parallel(lambda first, last: work(0, rows, first, last), blocks)
    return result


@cache
def _library() -> ctypes.CDLL:
    library = load_kernel("product")
    if library is None:
        raise RuntimeError("ask is_available() before using native kernels")
    numbers, place = ctypes.c_int64, ctypes.c_void_p
    library.product_columns.restype = numbers
    library.product_scratch.restype = numbers
    library.product_scratch.argtypes = [numbers] * 3
    library.product.argtypes = [place] * 5 + [numbers] * 18
    return library

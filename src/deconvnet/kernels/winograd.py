"""Winograd's convolution, and pooling by switches of one byte: `winograd.cpp` for tensors.

Every function has its twin in torch: `F.conv2d` with `F.relu`, and the pooling and unpooling of
`deconvnet.layers`. Tensors are float32 on the CPU and (N, C, H, W) in channels_last.
"""

import ctypes
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from deconvnet.errors import ShapeError
from deconvnet.kernels import load_kernel
from deconvnet.shapes import Features, Float, UInt8

KERNEL_TRANSFORM = (
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)
"""G of F(4 x 4, 3 x 3), at the points 0, 1, -1, 2, -2 (Lavin & Gray 2016, section 4.3)."""

CACHED_KERNELS = 170**2
"""In times out channels: up to here the transformed kernels stay in a core's cache."""

TILES_PER_THREAD = 64
"""With fewer tiles, threads share out the channels instead, so that each reads its kernels."""


class Kernels(NamedTuple):
    """The 3 x 3 kernels of a convolution, transformed and packed for `convolve`."""

    packed: Float[Tensor, "places blocks in_channels block"]
    """places: the 36 of a transformed tile; block: so many out channels at once."""
    bias: Float[Tensor, " padded_channels"]
    out_channels: int


def is_available() -> bool:
    """Whether the kernels can be used; tries to compile them at the first call."""
    return load_kernel("winograd") is not None


def pack(weight: Float[Tensor, "o i 3 3"], bias: Float[Tensor, " o"] | None) -> Kernels:
    """Transform the kernels of a convolution, once and in float64."""
    transform = torch.tensor(KERNEL_TRANSFORM, dtype=torch.float64)
    block = 2 * int(_library().winograd_lanes())
    out_channels, in_channels = weight.shape[:2]
    blocks = -(-out_channels // block)
    padded = torch.zeros(blocks * block, in_channels, 3, 3, dtype=torch.float64)
    padded[:out_channels] = weight
    transformed = torch.einsum("ij,ocjk,lk->iloc", transform, padded, transform)
    packed = transformed.reshape(36, blocks, block, in_channels).transpose(2, 3)
    padded_bias = torch.zeros(blocks * block)
    if bias is not None:
        padded_bias[:out_channels] = bias
    return Kernels(packed.float().contiguous(), padded_bias, out_channels)


def convolve(
    features: Features, kernels: Kernels, *, padding: int = 1, relu: bool = False
) -> Float[Tensor, "n out_channels out_h out_w"]:
    """Give conv2d(features, weight, bias, padding=padding), or what ReLU leaves of it.

    Rounding errors are some five times those of a direct convolution in float32.

    Raises:
        ShapeError: The features are not float32 on the CPU.
    """
    features = _channels_last(features)
    count, channels, height, width = features.shape
    down, across = height + 2 * padding - 2, width + 2 * padding - 2
    result = _empty(count, kernels.out_channels, down, across)
    tiles = count * -(-down // 4) * -(-across // 4)
    blocks = kernels.packed.shape[1]
    chunk = 24 if channels * kernels.out_channels <= CACHED_KERNELS else 192

    def work(first_tile: int, last_tile: int, first_block: int, last_block: int) -> None:
        size = _library().winograd_scratch(channels, last_block - first_block, chunk)
        scratch = torch.empty(size)
        memory = (features, kernels.packed, kernels.bias, result, scratch)
        sizes = (height, width, channels, kernels.out_channels, padding, int(relu))
        part = (first_tile, last_tile, first_block, last_block, chunk)
        _library().winograd_convolution(*(t.data_ptr() for t in memory), *sizes, *part)

    if tiles >= TILES_PER_THREAD * torch.get_num_threads():
        _in_parallel(lambda first, last: work(first, last, 0, blocks), tiles)
    else:
        _in_parallel(lambda first, last: work(0, tiles, first, last), blocks)
    return result


def pool_corners(
    features: Features,
) -> tuple[Float[Tensor, "n c pooled_h pooled_w"], UInt8[Tensor, "n c pooled_h pooled_w"]]:
    """Give the maximum of each 2 x 2 window, and the corner it was in: 0 1 above 2 3 below.

    Edges and ties are those of `layers.pool`.

    Raises:
        ShapeError: The features are not float32 on the CPU.
    """
    features = _channels_last(features)
    count, channels, height, width = features.shape
    rows = -(-height // 2)
    best = _empty(count, channels, rows, -(-width // 2))
    corners = torch.empty_like(best, dtype=torch.uint8)

    def work(first_row: int, last_row: int) -> None:
        memory = (features, best, corners)
        sizes = (height, width, channels, first_row, last_row)
        _library().pool_corners(*(t.data_ptr() for t in memory), *sizes)

    _in_parallel(work, count * rows)
    return best, corners


def unpool_corners(
    features: Features, corners: UInt8[Tensor, "n c h w"], size: tuple[int, int]
) -> Float[Tensor, "n c plane_h plane_w"]:
    """Put each value back into its corner of a plane of zeros: the twin of `layers.unpool`.

    Args:
        features: What is put back.
        corners: As `pool_corners` gave them.
        size: (height, width) of the plane, in pixels.

    Raises:
        ShapeError: The features are not float32 on the CPU.
    """
    features = _channels_last(features)
    count, channels = features.shape[:2]
    plane = _empty(count, channels, *size)

    def work(first_row: int, last_row: int) -> None:
        memory = (features, corners, plane)
        _library().unpool_corners(
            *(t.data_ptr() for t in memory), *size, channels, first_row, last_row
        )

    _in_parallel(work, count * size[0])
    return plane


def _channels_last(features: Tensor) -> Tensor:
    if features.dtype != torch.float32 or features.device.type != "cpu":
        raise ShapeError(
            f"native kernels were given {features.dtype} on {features.device}; they take "
            "float32 on the CPU (the engine 'torch' takes anything)."
        )
    return features.contiguous(memory_format=torch.channels_last)


def _empty(*shape: int) -> Tensor:
    return torch.empty(shape, memory_format=torch.channels_last)


def _in_parallel(work: Callable[[int, int], None], total: int) -> None:
    """Let torch's number of threads each do one part of 0 ... total."""
    threads = min(torch.get_num_threads(), total)
    if threads <= 1:
        work(0, total)
        return
    bounds = [total * part // threads for part in range(threads + 1)]
    others = _pool(threads - 1).map(work, bounds[1:-1], bounds[2:])
    work(bounds[0], bounds[1])
    list(others)


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="deconvnet-kernels")


@cache
def _library() -> ctypes.CDLL:
    library = load_kernel("winograd")
    if library is None:
        raise RuntimeError("ask is_available() before using native kernels")
    library.winograd_lanes.restype = ctypes.c_int64
    library.winograd_scratch.restype = ctypes.c_int64
    numbers, place = ctypes.c_int64, ctypes.c_void_p
    library.winograd_scratch.argtypes = [numbers] * 3
    library.winograd_convolution.argtypes = [place] * 5 + [numbers] * 11
    library.pool_corners.argtypes = [place] * 3 + [numbers] * 5
    library.unpool_corners.argtypes = [place] * 3 + [numbers] * 5
    return library

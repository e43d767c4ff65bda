"""Winograd's convolution, and pooling by switches of one byte: `winograd.cpp` for tensors.

Every function has its twin in torch: `F.conv2d` with `F.relu`, and the pooling and unpooling of
`deconvnet.layers`. Tensors are float32 on the CPU and (N, C, H, W) in channels_last.
"""

import ctypes
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from deconvnet.kernels import load_kernel
from deconvnet.kernels.memory import channels_last, empty_channels_last, in_huge_pages
from deconvnet.kernels.parallel import in_parallel
from deconvnet.shapes import Features, Float, UInt8

CACHED_KERNELS = 170**2
"""In times out channels: up to here the transformed kernels stay in a core's cache."""

FEW_TILES, MANY_TILES = 24, 192
"""Tiles at once with such kernels; and about so many with more, which are read for each lot."""

SUMMED_TILES = 64
"""Tiles that are multiplied at once for the gradient of the kernels."""

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


def pack(
    weight: Float[Tensor, "a b 3 3"],
    bias: Float[Tensor, " out_channels"] | None,
    *,
    turned: bool = False,
) -> Kernels:
    """Transform the kernels of a convolution, in float64 (Lavin & Gray 2016, section 4.3).

    Args:
        weight: (out, in, 3, 3) as conv2d takes it.
        bias: None is zero.
        turned: Of the convolution that undoes the shift of the first: (in, out, 3, 3), as
            conv_transpose2d takes it, and turned half round.
    """
    block = 2 * int(_library().winograd_lanes())
    out_channels, in_channels = weight.shape[1::-1] if turned else weight.shape[:2]
    blocks = -(-out_channels // block)
    weight = weight.detach().float()
    packed = in_huge_pages(torch.empty(36, blocks, in_channels, block))

    def work(first_block: int, last_block: int) -> None:
        place, strides = _kernel_places(weight, turned=turned)
        sizes = (in_channels, out_channels, first_block, last_block)
        _library().winograd_pack(place, packed.data_ptr(), *strides, *sizes)

    in_parallel(work, blocks)
    padded_bias = torch.zeros(blocks * block)
    if bias is not None:
        padded_bias[:out_channels] = bias.detach()
    return Kernels(packed, padded_bias, out_channels)


def convolve(
    features: Features, kernels: Kernels, *, padding: int = 1, relu: bool = False
) -> Float[Tensor, "n out_channels out_h out_w"]:
    """Give conv2d(features, weight, bias, padding=padding), or what ReLU leaves of it.

    Rounding errors are some five times those of a direct convolution in float32.

    Raises:
        ShapeError: The features are not float32 on the CPU.
    """
    features = channels_last(features)
    count, channels, height, width = features.shape
    down, across = height + 2 * padding - 2, width + 2 * padding - 2
    result = empty_channels_last(count, kernels.out_channels, down, across)
    tiles = count * -(-down // 4) * -(-across // 4)
    blocks = kernels.packed.shape[1]

    def work(first_tile: int, last_tile: int, first_block: int, last_block: int) -> None:
        cached = channels * kernels.out_channels <= CACHED_KERNELS
        chunk = _chunk(last_tile - first_tile, FEW_TILES if cached else MANY_TILES)
        size = _library().winograd_scratch(channels, last_block - first_block, chunk)
        scratch = in_huge_pages(torch.empty(size))
        memory = (features, kernels.packed, kernels.bias, result, scratch)
        sizes = (height, width, channels, kernels.out_channels, padding, int(relu))
        part = (first_tile, last_tile, first_block, last_block, chunk)
        _library().winograd_convolution(*(t.data_ptr() for t in memory), *sizes, *part)

    if tiles >= TILES_PER_THREAD * torch.get_num_threads():
        in_parallel(lambda first, last: work(first, last, 0, blocks), tiles)
    else:
        in_parallel(lambda first, last: work(0, tiles, first, last), blocks)
    return result


def kernel_gradient(
    features: Features,
    gradient: Float[Tensor, "n out_channels out_h out_w"],
    weight: Float[Tensor, "a b 3 3"],
    *,
    padding: int = 1,
    turned: bool = False,
) -> tuple[Float[Tensor, "a b 3 3"], Float[Tensor, " out_channels"]]:
    """Give what a loss changes by the kernels and the bias of a convolution.

    The same bits come out each time with the same number of threads.

    Args:
        features: What was convolved.
        gradient: What the loss changes by the result of the convolution.
        weight: As it was packed; only its shape, layout and `turned` matter.
        padding: Of that convolution.
        turned: As for `pack`.

    Raises:
        ShapeError: The features are not float32 on the CPU.
    """
    features, gradient = channels_last(features), channels_last(gradient)
    count, channels, height, width = features.shape
    out_channels, down, across = gradient.shape[1:]
    lanes = int(_library().winograd_lanes())
    groups, blocks = -(-channels // lanes), -(-out_channels // (2 * lanes))
    tiles = count * -(-down // 4) * -(-across // 4)
    chunk = SUMMED_TILES
    by_tiles = channels * out_channels <= CACHED_KERNELS
    parts = max(1, min(torch.get_num_threads(), tiles)) if by_tiles else 1
    sums = torch.empty(parts, (36 * groups * lanes + 1) * blocks * 2 * lanes)

    def add_up(part: int, tile_range: tuple[int, int], group_range: tuple[int, int]) -> None:
        size = _library().winograd_sums_scratch(channels, out_channels, chunk)
        memory = (features, gradient, sums[part], torch.empty(size))
        sizes = (height, width, channels, out_channels, padding)
        _library().winograd_sums(
            *(t.data_ptr() for t in memory), *sizes, *tile_range, *group_range, chunk
        )

    def add_up_parts(first: int, last: int) -> None:
        for part in range(first, last):
            bounds = tiles * part // parts, tiles * (part + 1) // parts
            add_up(part, bounds, (0, groups))

    if by_tiles:
        in_parallel(add_up_parts, parts)
    else:
        in_parallel(lambda first, last: add_up(0, (0, tiles), (first, last)), groups)

    result = torch.empty_like(weight)

    def transform_back(first: int, last: int) -> None:
        place, strides = _kernel_places(result, turned=turned)
        sizes = (channels, out_channels, first, last)
        _library().winograd_kernel_gradient(
            sums.data_ptr(), place, parts, sums.shape[1], *strides, *sizes
        )

    in_parallel(transform_back, channels)
    totals = sums[:, 36 * groups * lanes * blocks * 2 * lanes :].sum(0)
    return result, totals[:out_channels]


def pool_corners(
    features: Features,
) -> tuple[Float[Tensor, "n c pooled_h pooled_w"], UInt8[Tensor, "n c pooled_h pooled_w"]]:
    """Give the maximum of each 2 x 2 window, and the corner it was in: 0 1 above 2 3 below.

    Edges and ties are those of `layers.pool`.

    Raises:
        ShapeError: The features are not float32 on the CPU.
    """
    features = channels_last(features)
    count, channels, height, width = features.shape
    rows = -(-height // 2)
    best = empty_channels_last(count, channels, rows, -(-width // 2))
    corners = torch.empty_like(best, dtype=torch.uint8)

    def work(first_row: int, last_row: int) -> None:
        memory = (features, best, corners)
        sizes = (height, width, channels, first_row, last_row)
        _library().pool_corners(*(t.data_ptr() for t in memory), *sizes)

    in_parallel(work, count * rows)
    return best, corners


def join_channels(parts: Sequence[Features]) -> Float[Tensor, "n all_channels h w"]:
    """Give torch.cat(parts, dim=1).

    Raises:
        ShapeError: The features are not float32 on the CPU.
    """
    parts = [channels_last(part) for part in parts]
    count, _, height, width = parts[0].shape
    every = sum(part.shape[1] for part in parts)
    result = empty_channels_last(count, every, height, width)
    place = result.data_ptr()
    for part in parts:
        channels = part.shape[1]

        def work(first: int, last: int, part: Tensor = part, place: int = place) -> None:
            _library().join_channels(part.data_ptr(), place, part.shape[1], every, first, last)

        in_parallel(work, count * height * width)
        place += channels * result.element_size()
    return result


def to_planes(features: Features) -> Features:
    """Give features.contiguous(): each channel's plane by itself, as torch lays maps out.

    Raises:
        ShapeError: The features are not float32 on the CPU.
    """
    features = channels_last(features)
    count, channels, height, width = features.shape
    planes = in_huge_pages(torch.empty(features.shape))

    def work(first: int, last: int) -> None:
        sizes = (height * width, channels, first, last)
        _library().to_planes(features.data_ptr(), planes.data_ptr(), *sizes)

    in_parallel(work, count * height * width)
    return planes


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
    features = channels_last(features)
    count, channels = features.shape[:2]
    plane = empty_channels_last(count, channels, *size)

    def work(first_row: int, last_row: int) -> None:
        memory = (features, corners, plane)
        _library().unpool_corners(
            *(t.data_ptr() for t in memory), *size, channels, first_row, last_row
        )

    in_parallel(work, count * size[0])
    return plane


def pick_corners(
    plane: Float[Tensor, "n c plane_h plane_w"], corners: UInt8[Tensor, "n c h w"]
) -> Float[Tensor, "n c h w"]:
    """Take what lies in the corners of a plane's windows: the way back of `unpool_corners`.

    Raises:
        ShapeError: The plane is not float32 on the CPU.
    """
    plane = channels_last(plane)
    corners = corners.contiguous(memory_format=torch.channels_last)
    count, channels, height, width = plane.shape
    rows = -(-height // 2)
    picked = empty_channels_last(count, channels, rows, -(-width // 2))

    def work(first_row: int, last_row: int) -> None:
        memory = (plane, corners, picked)
        sizes = (height, width, channels, first_row, last_row)
        _library().pick_corners(*(t.data_ptr() for t in memory), *sizes)

    in_parallel(work, count * rows)
    return picked


def _chunk(tiles: int, about: int) -> int:
    """Lots of nearly equal size, of half to one and a half times about so many tiles."""
    lots = max(1, round(tiles / about))
    return -(-tiles // lots)


def _kernel_places(weight: Tensor, *, turned: bool) -> tuple[int, tuple[int, int, int, int]]:
    """Where the first weight of a convolution lies, and the steps to out, in, row, column."""
    first, second, row, column = weight.stride()
    if not turned:
        return weight.data_ptr(), (first, second, row, column)
    end = weight.data_ptr() + weight.element_size() * 2 * (row + column)
    return end, (second, first, -row, -column)


@cache
def _library() -> ctypes.CDLL:
    library = load_kernel("winograd")
    if library is None:
        raise RuntimeError("ask is_available() before using native kernels")
    library.winograd_lanes.restype = ctypes.c_int64
    library.winograd_scratch.restype = ctypes.c_int64
    numbers, place = ctypes.c_int64, ctypes.c_void_p
    library.winograd_sums_scratch.restype = ctypes.c_int64
    library.winograd_scratch.argtypes = [numbers] * 3
    library.winograd_convolution.argtypes = [place] * 5 + [numbers] * 11
    library.winograd_pack.argtypes = [place] * 2 + [numbers] * 8
    library.winograd_sums_scratch.argtypes = [numbers] * 3
    library.winograd_sums.argtypes = [place] * 4 + [numbers] * 10
    library.winograd_kernel_gradient.argtypes = [place] * 2 + [numbers] * 10
    library.pool_corners.argtypes = [place] * 3 + [numbers] * 5
    library.to_planes.argtypes = [place] * 2 + [numbers] * 4
    library.join_channels.argtypes = [place] * 2 + [numbers] * 4
    library.unpool_corners.argtypes = [place] * 3 + [numbers] * 5
    library.pick_corners.argtypes = [place] * 3 + [numbers] * 5
    return library

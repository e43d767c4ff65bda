"""Memory for the maps and weights of the native kernels."""

import ctypes
import mmap
from functools import cache
from typing import Any

import torch
from torch import Tensor

from deconvnet.errors import ShapeError
from deconvnet.shapes import Features

HUGE_PAGE = 2**21
"""Bytes of a huge page, as Linux has them on x86 and most of ARM."""


def check_features(features: Features) -> None:
    """Refuse features that the kernels cannot read.

    Raises:
        ShapeError: They are not float32 on the CPU.
    """
    if features.dtype != torch.float32 or features.device.type != "cpu":
        raise ShapeError(
            f"native kernels were given {features.dtype} on {features.device}; they take "
            "float32 on the CPU (the engine 'torch' takes anything)."
        )


def channels_last(features: Features) -> Features:
    """Give features pixel by pixel in memory, as most kernels read them.

    Raises:
        ShapeError: They are not float32 on the CPU.
    """
    check_features(features)
    return features.contiguous(memory_format=torch.channels_last)


def empty_channels_last(*shape: int) -> Tensor:
    """Give unset features of this shape (N, C, H, W), in channels_last."""
    return in_huge_pages(torch.empty(shape, memory_format=torch.channels_last))


def in_huge_pages(tensor: Tensor) -> Tensor:
    """Ask Linux for large pages below a tensor that is still to be written, and give it back.

    The kernels read and write at many places by turns, and looking pages of 4 KiB up takes a
    part of their time (docs/performance.md). Elsewhere, and for small tensors, nothing is done.
    """
    size = tensor.numel() * tensor.element_size()
    if size >= 2 * HUGE_PAGE and (advise := _madvise()):
        start = -(-tensor.data_ptr() // HUGE_PAGE) * HUGE_PAGE
        end = (tensor.data_ptr() + size) // HUGE_PAGE * HUGE_PAGE
        advise(start, end - start, mmap.MADV_HUGEPAGE)
    return tensor


@cache
def _madvise() -> Any:
    """The C library's madvise, or None where there are no huge pages to ask for."""
    if not hasattr(mmap, "MADV_HUGEPAGE"):
        return None
    try:
        advise = ctypes.CDLL(None).madvise
    except (OSError, AttributeError):
        return None
    advise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    return advise

"""Keeping the C library from giving memory back between two passes."""

import ctypes
import os
import sys
from functools import cache

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4


@cache
def tune_allocator() -> bool:
    """Let glibc keep freed memory, so that each pass does not fault its pages in anew.

    Activations above 32 MB are otherwise mapped and unmapped at every forward, which costs more
    than most optimisations win (docs/performance.md). The price is more resident memory. The
    environment variable DECONVNET_MALLOC=default leaves the C library as it is.

    Returns:
        Whether the settings hold: False with another C library, or when opted out.
    """
    if not sys.platform.startswith("linux") or os.environ.get("DECONVNET_MALLOC") == "default":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # musl has none
        return False
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1), (_M_TOP_PAD, 256 * 2**20))
    return all(mallopt(name, value) == 1 for name, value in settings)

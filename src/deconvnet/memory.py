"""How much memory this process has held, on Linux, macOS and Windows."""

import ctypes
import re
import sys
from pathlib import Path

from deconvnet.errors import UserError


def bytes_in(text: str) -> int:
    """The bytes in a size such as 4GB or 1.5 GiB.

    >>> bytes_in("4GB"), bytes_in("1.5 GiB"), bytes_in("500m")
    (4000000000, 1610612736, 500000000)

    Raises:
        UserError: If it is no size, or zero.
    """
    found = re.fullmatch(r"(\d+\.?\d*)\s*([kmgt]?)(i?)b?", text.strip(), re.IGNORECASE)
    if found is None or float(found[1]) == 0:
        raise UserError(f"'{text}' is no amount of memory; give one such as 4GB.")
    power = ("", "k", "m", "g", "t").index(found[2].lower())
    return int(float(found[1]) * (1024 if found[3] else 1000) ** power)


def peak_memory() -> int:
    """Most bytes this process has held at once, since `forget_peak` where that works."""
    if sys.platform == "win32":
        return _peak_on_windows()
    status = Path("/proc/self/status")
    if status.exists():
        found = re.search(r"^VmHWM:\s*(\d+) kB", status.read_text(), re.MULTILINE)
        if found:
            return int(found[1]) * 1024
    import resource  # absent on Windows

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def forget_peak() -> bool:
    """Let `peak_memory` begin again from what is held now; only Linux can, which is told."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


class _Counters(ctypes.Structure):
    """PROCESS_MEMORY_COUNTERS of psapi.h."""

    _fields_ = [
        ("cb", ctypes.c_uint32),
        ("PageFaultCount", ctypes.c_uint32),
        *(
            (name, ctypes.c_size_t)
            for name in (
                "PeakWorkingSetSize",
                "WorkingSetSize",
                "QuotaPeakPagedPoolUsage",
                "QuotaPagedPoolUsage",
                "QuotaPeakNonPagedPoolUsage",
                "QuotaNonPagedPoolUsage",
                "PagefileUsage",
                "PeakPagefileUsage",
            )
        ),
    ]


def _peak_on_windows() -> int:
    counters = _Counters(cb=ctypes.sizeof(_Counters))
    kernel = ctypes.windll.kernel32  # type: ignore[attr-defined,unused-ignore]  # Windows alone
    kernel.GetCurrentProcess.restype = ctypes.c_void_p
    asked = kernel.K32GetProcessMemoryInfo
    asked.argtypes = [ctypes.c_void_p, ctypes.POINTER(_Counters), ctypes.c_uint32]
    if not asked(kernel.GetCurrentProcess(), ctypes.byref(counters), counters.cb):
        raise OSError("Windows did not say how much memory this process holds")
    return int(counters.PeakWorkingSetSize)

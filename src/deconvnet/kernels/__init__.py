"""Optional native speed, chosen at run time; every kernel has a twin in NumPy or torch.

A kernel is one C++ file in this folder with `extern "C"` functions (and `vectors.h`, which
they share). It is compiled for this
machine's processor when it is first wanted, by whatever C++ compiler is there, and kept in the
user's cache folder. Without a compiler the twin does the work.
"""

import ctypes
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

FLAGS = ("-O3", "-march=native", "-ffp-contract=off", "-std=c++17", "-shared", "-fPIC")
"""No contraction: a kernel rounds as its twin does."""

COMPILE_SECONDS = 120


@cache
def load_kernel(name: str) -> ctypes.CDLL | None:
    """Compile kernels/NAME.cpp, or take it from the cache, and load it; None where that fails.

    A failure is said once, in one line of the log, and costs speed alone. The environment
    variable DECONVNET_KERNELS=off keeps to the twins.

    Args:
        name: Of the C++ file, without its suffix.
    """
    if os.environ.get("DECONVNET_KERNELS") == "off":
        return None
    try:
        return ctypes.CDLL(str(_compiled(Path(__file__).with_name(f"{name}.cpp"))))
    except (OSError, subprocess.SubprocessError) as error:
        reason = getattr(error, "stderr", None) or str(error)
        logging.getLogger(__name__).warning(
            "The native %s kernel is not used (%s); the slower plain code is.",
            name,
            reason.strip().splitlines()[0],
        )
        return None


def cache_folder() -> Path:
    """Where compiled kernels are kept: deconvnet/kernels in the user's cache folder."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "deconvnet" / "kernels"


def _compiled(source: Path) -> Path:
    """The shared library made from this source by this compiler for this processor.

    Raises:
        OSError: There is no compiler, or no place to write.
        subprocess.SubprocessError: The compiler failed.
    """
    compiler = shutil.which(os.environ.get("CXX") or "c++") or shutil.which("g++")
    if compiler is None:
        raise FileNotFoundError("no C++ compiler was found")
    version = _output([compiler, "--version"])
    sources = [source, *sorted(source.parent.glob("*.h"))]
    texts = [text.read_text(encoding="utf-8") for text in sources]
    made_of = [*texts, *FLAGS, compiler, version, _processor()]
    key = hashlib.sha256("\0".join(made_of).encode()).hexdigest()[:16]
    library = cache_folder() / f"{source.stem}-{key}.so"
    if not library.exists():
        library.parent.mkdir(parents=True, exist_ok=True)
        # Compiled beside its place and then renamed, so that no process loads half a file.
        with tempfile.TemporaryDirectory(dir=library.parent) as folder:
            unfinished = Path(folder) / library.name
            _output([compiler, *FLAGS, str(source), "-o", str(unfinished)])
            unfinished.replace(library)
    return library


def _output(command: list[str]) -> str:
    """What a command prints."""
    done = subprocess.run(  # noqa: S603 - a compiler found on the PATH, no shell
        command, check=True, capture_output=True, text=True, timeout=COMPILE_SECONDS
    )
    return done.stdout


def _processor() -> str:
    """What tells processors apart for -march=native: their instruction sets, where known."""
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text(errors="replace").splitlines():
            if line.startswith(("flags", "Features")):
                return line
    return f"{platform.machine()} {platform.processor()}"

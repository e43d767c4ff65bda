"""The loop: hostile files, one after the other, and what must hold of each.

An input is made from the target's name, a seed and its number alone, so that one that fails is
made again by `python scripts/fuzz_readers.py --target NAME --seed S --only N`.
"""

import random
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from deconvnet.errors import UserError
from fuzz.targets import TARGETS

MOST_SECONDS = 5.0
"""Of processor time for one input; the slowest honest ones take a tenth of that."""

MOST_MEMORY = 800
"""MiB that one input may take beside what the process holds before it."""

MAX_PIXELS = 4_000_000
"""What DECONVNET_MAX_PIXELS is set to, so that the memory bound can be a low one."""


class Trouble(NamedTuple):
    """An input that did what none may do."""

    target: str
    seed: int
    number: int
    what: str
    where: str = ""

    def __str__(self) -> str:
        return (
            f"{self.target}, seed {self.seed}, input {self.number}: {self.what}\n{self.where}"
        )


class _HungError(BaseException):
    """Raised by the timer; no reader catches it."""


def hostile(target: str, seed: int, number: int) -> bytes:
    """An input; the same one for the same three."""
    return TARGETS[target].make(random.Random(f"{target} {seed} {number}"))


def try_one(target: str, seed: int, number: int, folder: Path) -> Trouble | None:
    """Read one input; gives what went wrong, if anything did."""
    content = hostile(target, seed, number)
    forget_peak()
    began, held = time.process_time(), peak_memory()
    what = where = ""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Pillow's: the command line does so too
        try:
            with _timer():
                TARGETS[target].read(folder, content)
        except UserError as error:
            what = _wrong_with(str(error))
        except (Exception, _HungError) as error:  # that is the question
            what = f"{type(error).__name__}: {str(error)[:300]}"
            where = "".join(traceback.format_tb(error.__traceback__)[-4:])
    took = time.process_time() - began
    if not what and took > MOST_SECONDS:
        what = f"took {took:.1f} s of processor time"
    grown = peak_memory() - held
    if not what and grown > MOST_MEMORY:
        what = f"the process grew by {grown:.0f} MiB"
    return Trouble(target, seed, number, what, where) if what else None


def _wrong_with(message: str) -> str:
    """What is wrong with the message of a UserError: it is printed as one line."""
    if not message.strip():
        return "an error without words"
    if len(message) > 3000:
        return f"an error of {len(message)} letters: {message[:200]}"
    if any(line.startswith("Traceback") for line in message.splitlines()):
        return "an error with a traceback in it"
    return ""


@contextmanager
def _timer() -> Iterator[None]:
    """Raise where Python code takes more than the seconds allowed; does nothing on Windows."""
    if not hasattr(signal, "setitimer"):
        yield
        return

    def ring(*_: object) -> None:
        raise _HungError(f"ran for more than {MOST_SECONDS} s of processor time")

    before = signal.signal(signal.SIGVTALRM, ring)
    signal.setitimer(signal.ITIMER_VIRTUAL, MOST_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def forget_peak() -> None:
    """Let the peak be what is held now, so that no input hides behind the one before."""
    with suppress(OSError):  # only Linux can
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_memory() -> float:
    """MiB that this process has held at most, since that was forgotten; 0 if none can say."""
    try:
        import resource
    except ImportError:  # Windows
        return 0.0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20

"""Throw hostile files at every reader, for as long as wanted.

    python scripts/fuzz_readers.py                          100,000 inputs, for all targets
    python scripts/fuzz_readers.py --minutes 5 --seed 7     fewer, and others
    python scripts/fuzz_readers.py --target pictures --only 17     one, its error not caught

A process of its own reads them all, about 300 in a second of processor time; where a crash of a
C library ends it, the input is told and another process goes on behind it. Ends with 1 if
anything was found; stopped by SIGTERM or Ctrl-C it says, and records, how far it came.
DECONVNET_RECORD=1 records the count for the seed; those of other seeds are added to it, that of
the same seed before is replaced.
"""

import argparse
import math
import multiprocessing
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

CONTEXT = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
"""Forked, a process has torch and the targets already, and misses no thread: none runs yet."""

TURNS = 50
"""So that a run which is stopped has tried every target."""

SCRATCH = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - a folder in it is
"""Where the files are written before they are read: in memory, where there is such a disk."""

MOST_SHOWN = 20
"""Findings of one target; then it is given up, since they are likely the same."""

NAME = "Hostile files read in process (scripts/fuzz_readers.py)"
CLEAN = "no crash, hang, traceback or run code"


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop after so many")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--target", help="one, or several with commas; all if not given")
    parser.add_argument("--only", type=int, help="run this input alone")
    arguments = parser.parse_args()
    prepare()
    if arguments.only is not None:
        run_one(arguments.target, arguments.seed, arguments.only)
        return
    names = arguments.target.split(",") if arguments.target else None
    run = Run(arguments.seed, parts(arguments.count, names))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, run.stop)
    run.go(time.monotonic() + 60 * arguments.minutes)
    tried, found = sum(run.tried), sum(run.found)
    print(f"{tried:,} inputs, {found} findings, seed {arguments.seed}")
    if tried and not arguments.target:
        from reliability import record

        result = CLEAN if not found else f"{found} findings with seed {arguments.seed}"
        record(NAME, tried, result, part=f"seed {arguments.seed}")
    sys.exit(1 if found else 0)


def parts(count: int, names: "list[str] | None" = None) -> "list[tuple[str, range]]":
    """The inputs in the order in which they are read: every target in turns, by its share.

    Args:
        count: How many in all; each target's share is rounded up.
        names: Of the targets; all if not given, and alike if given.
    """
    from fuzz.targets import TARGETS

    shares = {name: 100 / len(names) for name in names} if names else None
    counts = {
        name: math.ceil(count * share / 100)
        for name, share in (shares or {n: t.share for n, t in TARGETS.items()}).items()
    }
    return [
        (name, range(of * turn // TURNS, of * (turn + 1) // TURNS))
        for turn in range(TURNS)
        for name, of in counts.items()
    ]


def prepare() -> None:
    """Set the limits before anything is imported that reads them."""
    import torch

    from fuzz.loop import MAX_PIXELS

    os.environ["DECONVNET_MAX_PIXELS"] = str(MAX_PIXELS)
    torch.set_num_threads(1)


def run_one(name: str, seed: int, number: int) -> None:
    """Read one input, and let its error through."""
    from fuzz.loop import hostile
    from fuzz.targets import TARGETS

    with tempfile.TemporaryDirectory() as folder:
        content = hostile(name, seed, number)
        print(f"{len(content)} bytes: {content[:200]!r}")
        print(TARGETS[name].read(Path(folder), content))


class Run:
    """Inputs, how far they are read, and what was found; shared with the process that reads."""

    def __init__(self, seed: int, todo: "list[tuple[str, range]]") -> None:
        self.seed, self.todo = seed, todo
        self.names = list(dict.fromkeys(name for name, _ in todo))
        self.part, self.within = CONTEXT.Value("q", 0), CONTEXT.Value("q", 0)
        self.tried, self.found = (CONTEXT.Array("q", len(self.names)) for _ in range(2))
        self.stopped = CONTEXT.Value("b", 0)

    def stop(self, *_: object) -> None:
        """End after the input that is being read."""
        self.stopped.value = 1

    def go(self, ends: float) -> None:
        """Read all, or until that time.monotonic(), in a new process after each that dies."""
        while self.part.value < len(self.todo) and not self.stopped.value:
            with tempfile.TemporaryDirectory(dir=SCRATCH) as scratch:
                process = CONTEXT.Process(target=self.work, args=(ends, Path(scratch)))
                process.start()
                process.join()
            if process.exitcode:
                name, numbers = self.todo[self.part.value]
                number = numbers[self.within.value]
                self.note(name, f"{name}, seed {self.seed}, input {number}: died "
                          f"({process.exitcode})")  # fmt: skip

    def work(self, ends: float, scratch: Path) -> None:
        """Read from where the run is, to its end; runs in a process of its own."""
        prepare()
        from fuzz.loop import try_one

        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        while self.part.value < len(self.todo):
            name, numbers = self.todo[self.part.value]
            folder = scratch / str(self.names.index(name))
            folder.mkdir(exist_ok=True)
            while self.within.value < len(numbers) and not self.given_up(name):
                if self.stopped.value or time.monotonic() > ends:
                    self.stop()
                    return
                trouble = try_one(name, self.seed, numbers[self.within.value], folder)
                self.note(name, trouble)
            self.part.value, self.within.value = self.part.value + 1, 0

    def given_up(self, name: str) -> bool:
        """Whether a target has shown enough."""
        return self.found[self.names.index(name)] >= MOST_SHOWN

    def note(self, name: str, trouble: object) -> None:
        """Count the input just read, and tell what was found."""
        self.within.value += 1
        self.tried[self.names.index(name)] += 1
        if trouble is not None:
            self.found[self.names.index(name)] += 1
            print(trouble, flush=True)


if __name__ == "__main__":
    main()

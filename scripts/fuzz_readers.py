"""Throw hostile files at every reader, for as long as wanted.

    python scripts/fuzz_readers.py                          100,000 inputs, for all targets
    python scripts/fuzz_readers.py --minutes 5 --seed 7     fewer, and others
    python scripts/fuzz_readers.py --target pictures --only 17     one, its error not caught

Each target runs in a process of its own, so that a crash of a C library is told apart and the
rest goes on. Ends with 1 if anything was found. DECONVNET_RECORD=1 records the count.
"""

import argparse
import math
import multiprocessing
import os
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

_START = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"

TURNS = 50
"""So that a run which is stopped has tried every target."""

MOST_SHOWN = 20
"""Findings of one target; then it is given up, since they are likely the same."""


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
    tried, found = run_all(arguments)
    print(f"{tried:,} inputs, {found} findings")
    if not arguments.target:
        from reliability import record

        result = "no crash, hang, traceback or run code" if not found else f"{found} findings"
        record("Hostile files read in process (scripts/fuzz_readers.py)", tried, result)
    sys.exit(1 if found else 0)


def run_all(arguments: argparse.Namespace) -> "tuple[int, int]":
    """Run every target in turns, a part of its share at a time.

    Returns:
        How many inputs were read, and how many of them did what none may.
    """
    from fuzz.targets import TARGETS

    names = arguments.target.split(",") if arguments.target else list(TARGETS)
    ends = time.monotonic() + 60 * arguments.minutes
    tried = found = 0
    for turn in range(TURNS):
        for name in names:
            share = 100 / len(names) if arguments.target else TARGETS[name].share
            count = math.ceil(arguments.count * share / 100)
            first, last = count * turn // TURNS, count * (turn + 1) // TURNS
            if time.monotonic() < ends and first < last:
                done, troubles = run_target(name, arguments.seed, first, last)
                tried, found = tried + done, found + troubles
                print(f"{name}: {done:,} inputs, {troubles} findings", flush=True)
    return tried, found


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


def run_target(name: str, seed: int, first: int, last: int) -> "tuple[int, int]":
    """Run some inputs of one target, in a new process after each that dies.

    Returns:
        How many were read, and how many of them did what none may.
    """
    context = multiprocessing.get_context(_START)
    if _START == "forkserver":  # importing torch once, and not for each process
        context.set_forkserver_preload(["fuzz.loop"])
    at, found = context.Value("q", first), context.Value("q", 0)
    while at.value < last and found.value < MOST_SHOWN:
        process = context.Process(target=_work, args=(name, seed, last, at, found))
        process.start()
        process.join()
        if process.exitcode:
            print(
                f"{name}, seed {seed}, input {at.value}: died ({process.exitcode})", flush=True
            )
            found.value += 1
            at.value += 1
    return at.value - first, found.value


def _work(name, seed, last, at, found) -> None:  # noqa: ANN001 - values shared by processes
    prepare()
    from fuzz.loop import try_one

    with tempfile.TemporaryDirectory() as folder:
        while at.value < last and found.value < MOST_SHOWN:
            trouble = try_one(name, seed, at.value, Path(folder))
            if trouble is not None:
                found.value += 1
                print(trouble, flush=True)
            at.value += 1


if __name__ == "__main__":
    main()

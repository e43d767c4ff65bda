"""How fast this machine is, and how fast we are on it, beside everything else installed.

Fair to peers: the same weights, pictures and threads, interleaved in one process with the same
allocator settings (`deconvnet.kernels.allocator`); medians of several rounds, with the range.
The exception is training, where the allocator is itself compared: two processes take turns.
"""

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from deconvnet import crf, proposals
from deconvnet.checkpoint import Config
from deconvnet.data import open_dataset
from deconvnet.data.scenes import Scenes
from deconvnet.engines import ENGINES, accelerate, onnx_file
from deconvnet.errors import RecipeError, UserError, did_you_mean
from deconvnet.kernels.allocator import tune_allocator
from deconvnet.models import build_model
from deconvnet.progress import say
from deconvnet.recipe import Recipe
from deconvnet.solver import build_optimizer
from deconvnet.training_pictures import TrainingPictures

NETWORKS = ("deconvnet", "segnet", "unet", "fcn8s")
"""The networks that are timed."""

PEERS = ("onnxruntime", "openvino", "opencv-contrib-python-headless", "pydensecrf2")

ROUNDS = 5
"""How often each thing is timed, after once to warm up."""


@dataclass(frozen=True)
class Table:
    """One comparison."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str | float | None, ...], ...]
    note: str = ""

    def to_text(self) -> str:
        """The table in aligned columns, words to the left and numbers to the right."""
        cells = [self.columns, *(tuple(map(_cell, row)) for row in self.rows)]
        widths = [max(len(row[i]) for row in cells) for i in range(len(self.columns))]
        lines = [
            "  ".join(
                cell.rjust(width) if i and "  " not in self.columns[i] else cell.ljust(width)
                for i, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in cells
        ]
        return "\n".join([self.title, *lines, *([self.note] if self.note else [])])


@dataclass(frozen=True)
class Report:
    """What was measured, and on what."""

    machine: Mapping[str, Any]
    tables: tuple[Table, ...]

    def to_text(self) -> str:
        """Everything, to be read."""
        machine = "\n".join(f"{name:<12}{value}" for name, value in self.machine.items())
        return "\n\n".join([machine, *(table.to_text() for table in self.tables)])

    def to_json(self) -> str:
        """Everything, to be computed with."""
        tables = [
            asdict(table)
            | {"rows": [dict(zip(table.columns, row, strict=True)) for row in table.rows]}
            for table in self.tables
        ]
        return json.dumps({"machine": dict(self.machine), "tables": tables}, indent=2)


class Settings(NamedTuple):
    """What may be chosen."""

    width: float = 0.25
    """Scale of the networks' channel counts; 1 is as published."""
    size: int = 224
    """Side of the pictures in pixels."""
    data: str = "scenes"
    """Data set with instances, for the proposals."""
    networks: tuple[str, ...] = NETWORKS


class Timing(NamedTuple):
    """Seconds a call took: the middle of all rounds, the quickest and the slowest."""

    median: float
    low: float
    high: float

    def milliseconds(self, pictures: int = 1) -> tuple[float, float, float]:
        """The three, for each picture of a batch."""
        median, low, high = (round(1e3 * seconds / pictures, 3) for seconds in self)
        return median, low, high


def run(what: str = "all", settings: Settings | None = None, *, quiet: bool = False) -> Report:
    """Measure one thing, or all of them.

    Args:
        what: One of BENCHES, or "all".
        settings: Sizes that differ from the small ones.
        quiet: Say nothing on the way.

    Raises:
        RecipeError: There is no such measurement.
        DataError: The data set of `settings` cannot be read.
    """
    if what != "all" and what not in BENCHES:
        raise RecipeError(
            f"there is no measurement '{what}'; choose all, {', '.join(BENCHES)}."
            + did_you_mean(what, BENCHES)
        )
    tuned = tune_allocator()
    tables = []
    for name in BENCHES if what == "all" else [what]:
        say(f"bench {name} ...", quiet=quiet)
        tables += BENCHES[name](settings or Settings())
    return Report(_machine(allocator_tuned=tuned), tuple(tables))


def interleaved(
    calls: Mapping[str, Callable[[], object]], rounds: int = ROUNDS
) -> dict[str, Timing]:
    """Time several things turn by turn, so that a busy moment meets them all alike."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(rounds + 1):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if turn:
                seconds[name].append(time.perf_counter() - start)
    return {
        name: Timing(statistics.median(taken), min(taken), max(taken))
        for name, taken in seconds.items()
    }


def _machine(*, allocator_tuned: bool) -> dict[str, Any]:
    information = Path("/proc/cpuinfo")
    models = [
        line.partition(":")[2].strip()
        for line in (information.read_text().splitlines() if information.exists() else [])
        if line.startswith("model name")
    ]
    return {
        "processor": models[0] if models else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
        "allocator": "tuned" if allocator_tuned else "default",
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        **{name: found for name in ("torch", "numpy", *PEERS) if (found := _version(name))},
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _bench_machine(_: Settings) -> list[Table]:
    """What no program can beat: the rate of multiplying matrices, and of copying."""
    matrix, plane = torch.randn(1024, 1024), torch.randn(16 * 2**20)
    target = torch.empty_like(plane)
    timing = interleaved(
        {"multiply": lambda: matrix @ matrix, "copy": lambda: target.copy_(plane)}
    )
    work = {"multiply": 2 * 1024**3, "copy": 2 * 4 * plane.numel()}
    labels = {"multiply": "sgemm 1024, GFLOP/s", "copy": "copy 64 MiB, GB/s read and written"}
    rows = tuple(
        (
            labels[name],
            *(round(work[name] / seconds / 1e9, 1) for seconds in (found.median, found.high, found.low)),
        )
        for name, found in timing.items()
    )
    return [Table("The machine", ("limit", "median", "low", "high"), rows)]

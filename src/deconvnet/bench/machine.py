"""The machine: what it is, and what no program can beat on it."""

import os
import platform
import warnings
from collections.abc import Callable
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from deconvnet.bench.report import Row, Table
from deconvnet.bench.settings import Settings
from deconvnet.bench.timing import interleaved

SIDE = 1024
"""Of the matrices multiplied."""

STEP = 1 / 32
"""What one step of 8 bits is worth: numbers up to 4, which N(0, 1) hardly passes."""

PEERS = ("onnxruntime", "openvino", "opencv-contrib-python-headless", "pydensecrf2")


def bench_machine(_: Settings) -> list[Table]:
    """The rates of multiplying matrices, in float32 and in 8 bits, and of copying."""
    matrix, plane = torch.randn(SIDE, SIDE), torch.randn(16 * 2**20)
    target = torch.empty_like(plane)
    calls: dict[str, Callable[[], object]] = {
        f"sgemm {SIDE}, GFLOP/s": lambda: matrix @ matrix,
        "copy 64 MiB, GB/s in and out": lambda: target.copy_(plane),
    }
    work = dict(zip(calls, (2 * SIDE**3, 2 * 4 * plane.numel()), strict=True))
    if (product := eight_bit_product(matrix)) is not None:
        name = f"int8 {SIDE}, GOP/s"
        calls[name], work[name] = product, 2 * SIDE**3
    rows: list[Row] = []
    for name, seconds in interleaved(calls).items():
        rates = (work[name] / one / 1e9 for one in (seconds.median, seconds.high, seconds.low))
        rows.append((name, *(round(rate, 1) for rate in rates)))
    note = "" if product else "This torch has no 8-bit product, so that limit is unknown."
    columns = ("limit", "median", "low", "high")
    return [Table("The machine", columns, tuple(rows), note, kind="machine")]


def eight_bit_product(matrix: Tensor) -> Callable[[], Tensor] | None:
    """The square of a matrix in 8-bit whole numbers, by FBGEMM or oneDNN, or None without.

    Weights are packed beforehand, as a network's would be; sums are in 32 bits, and rounded to
    8 again. `torch._int_mm` is no limit to go by: it is a plain loop on many processors.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that these functions are to move elsewhere
            features = torch.quantize_per_tensor(matrix, STEP, 128, torch.quint8)
            weight = torch.quantize_per_tensor(matrix.T.contiguous(), STEP, 0, torch.qint8)
            packed = torch.ops.quantized.linear_prepack(weight, None)
            product = partial(torch.ops.quantized.linear, features, packed, 1.0, 128)
            product()
    except (AttributeError, RuntimeError):
        return None
    return product


def describe_machine(*, allocator_tuned: bool) -> dict[str, Any]:
    """What figures depend on: processor, threads, load, allocator, versions."""
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

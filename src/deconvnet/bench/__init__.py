"""How fast this machine is, and how fast we are on it, beside everything else installed.

Fair to peers: the same weights, pictures and threads, interleaved in one process with the same
allocator settings (`deconvnet.kernels.allocator`); medians of several rounds, with the range.
The exceptions are training and the pipeline, where the allocator is itself compared: there
processes take turns.

One file for each thing measured; what may be measured is BENCHES.
"""

from collections.abc import Callable

import torch

from deconvnet.bench.crf import bench_crf
from deconvnet.bench.inference import bench_inference
from deconvnet.bench.machine import bench_machine, describe_machine
from deconvnet.bench.pipeline import bench_pipeline, check_engines
from deconvnet.bench.proposals import bench_proposals
from deconvnet.bench.report import Report, Table
from deconvnet.bench.settings import NETWORKS, Settings
from deconvnet.bench.startup import bench_startup
from deconvnet.bench.timing import Timing, interleaved
from deconvnet.bench.training import bench_loading, bench_training
from deconvnet.data.scenes import Scenes
from deconvnet.errors import RecipeError, did_you_mean
from deconvnet.kernels.allocator import tune_allocator
from deconvnet.models import build_model
from deconvnet.progress import say

__all__ = [
    "BENCHES",
    "NETWORKS",
    "Report",
    "Settings",
    "Table",
    "Timing",
    "check_bench",
    "interleaved",
    "run",
]

BENCHES: dict[str, Callable[[Settings], list[Table]]] = {
    "machine": bench_machine,
    "inference": bench_inference,
    "pipeline": bench_pipeline,
    "training": bench_training,
    "loading": bench_loading,
    "startup": bench_startup,
    "proposals": bench_proposals,
    "crf": bench_crf,
}
"""What can be measured, by name."""


def run(what: str = "all", settings: Settings | None = None, *, quiet: bool = False) -> Report:
    """Measure one thing, or all of them.

    Args:
        what: One of BENCHES, or "all".
        settings: Sizes that differ from the small ones.
        quiet: Say nothing on the way.

    Raises:
        RecipeError: There is no such measurement, network or engine.
        DataError: The data set of `settings` cannot be read, or the size cannot be drawn.
        MissingExtraError: The library of an engine is not installed.
    """
    settings = settings or Settings()
    check_bench(what, settings)
    tuned = tune_allocator()
    tables = []
    for name in BENCHES if what == "all" else [what]:
        say(f"bench {name} ...", quiet=quiet)
        tables += BENCHES[name](settings)
    return Report(describe_machine(allocator_tuned=tuned), tuple(tables))


def check_bench(what: str, settings: Settings) -> None:
    """Find now what would stop a measurement in the middle, or in another process.

    Raises:
        RecipeError: As `run` does, and so are the others.
    """
    if what != "all" and what not in BENCHES:
        raise RecipeError(
            f"there is no measurement '{what}'; choose all, {', '.join(BENCHES)}."
            + did_you_mean(what, BENCHES)
        )
    Scenes("val", count=1, size=settings.size)
    with torch.device("meta"):
        for name in settings.networks:
            build_model(name, 21, width=settings.width)
    if what in {"all", "pipeline"}:
        check_engines(settings)

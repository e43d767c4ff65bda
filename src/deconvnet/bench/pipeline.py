"""The whole published system on one picture: ours beside the same written naively.

Naive is plain torch: each network as it was trained, without gradients but with nothing else
done to it, and the CRF as products of sparse matrices. Weights, windows and batches are the
same, so the labels should be, too.

Source: Noh, Hong & Han 2015, sections 4.3 and 4.4.
"""

import os
import tempfile
import time
from collections import defaultdict, deque
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np
import PIL.Image
import PIL.ImageOps
import torch

from deconvnet import crf
from deconvnet.bench.report import Row, Table
from deconvnet.bench.samples import network_of
from deconvnet.bench.settings import Settings
from deconvnet.bench.timing import Timing
from deconvnet.checkpoint import Config
from deconvnet.data import open_dataset
from deconvnet.data.image_files import read_image
from deconvnet.engines import ENGINES, accelerate
from deconvnet.errors import MissingExtraError, RecipeError, did_you_mean
from deconvnet.instances import BATCH, choose_windows, grow
from deconvnet.kernels.allocator import tune_allocator
from deconvnet.labels import Classes
from deconvnet.memory import forget_peak, peak_memory
from deconvnet.predict import Predictor, combined
from deconvnet.shapes import LabelMap

PICTURE = (500, 375)
"""(width, height) in pixels of most of VOC's pictures."""

TURNS = 3
"""How often each variant segments the picture, in a process of its own each time."""

PARTS = ("proposals", "network", "FCN-8s", "CRF", "rest")
"""What the time is spent on; rest is reading the picture, the ensemble and the argmax."""


class Variant(NamedTuple):
    """One way to run the system."""

    engine: str
    """One of ENGINES, or naive."""
    allocator: str
    """default or tuned."""


class Segmented(NamedTuple):
    """What one run gave, and took."""

    label_map: LabelMap
    seconds: dict[str, float]
    """Of each part."""
    windows: int
    peak: int
    """Most bytes that the process held at once, its networks included."""


def check_engines(settings: Settings) -> None:
    """Refuse engines and numbers of proposals that cannot be had.

    Raises:
        RecipeError: There is no such engine, or fewer than one proposal is asked for.
        MissingExtraError: OpenVINO is asked for and not installed.
    """
    for engine in settings.engines:
        if engine not in ENGINES:
            raise RecipeError(
                f"there is no engine '{engine}'; the engines are {', '.join(ENGINES)}."
                + did_you_mean(engine, ENGINES)
            )
    if "openvino" in settings.engines and find_spec("openvino") is None:
        raise MissingExtraError("the engine 'openvino'", "openvino")
    if settings.proposals < 1:
        raise RecipeError(f"{settings.proposals} proposals were asked for; ask for 1 or more.")


def bench_pipeline(settings: Settings) -> list[Table]:
    """Each variant in processes of its own, which take turns."""
    allocators = ("default", "tuned") if tune_allocator() else ("default",)
    engines = ("naive", *dict.fromkeys(settings.engines))
    variants = [Variant(engine, memory) for engine in engines for memory in allocators]
    runs: dict[Variant, list[Segmented]] = {variant: [] for variant in variants}
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder) / "picture.png"
        _write_picture(settings.data, picture)
        for _ in range(TURNS):
            for variant in variants:
                runs[variant].append(_in_own_process(variant, picture, settings))
    windows = runs[variants[0]][0].windows
    return [
        Table(
            f"Pipeline: seconds for {PICTURE[0]} x {PICTURE[1]} pixels, {windows} windows by "
            f"DeconvNet, FCN-8s, dense CRF, width {settings.width:g}",
            (
                *("by", "allocator", "seconds", "low", "high", *PARTS),
                *(f"x naive, {memory}" for memory in allocators),
                *("argmax %", "peak MB"),
            ),
            tuple(_row(variant, runs, allocators) for variant in variants),
            "Random weights. Medians with the range, and the median of each part. argmax: "
            "agreement with naive. peak: most memory held at once.",
            kind="pipeline",
        )
    ]


def _row(
    variant: Variant, runs: dict[Variant, list[Segmented]], allocators: tuple[str, ...]
) -> Row:
    expected = runs[Variant("naive", "default")][0].label_map
    found = runs[variant]
    total = _total(found)
    parts = [Timing.of(one.seconds[part] for one in found).median for part in PARTS]
    ratios = [_total(runs[Variant("naive", memory)]).median for memory in allocators]
    agreement = min(float((one.label_map == expected).mean()) for one in found)
    return (
        *variant,
        *(round(seconds, 3) for seconds in (*total, *parts)),
        *(round(naive / total.median, 2) for naive in ratios),
        round(100 * agreement, 3),
        round(max(one.peak for one in found) / 1e6),
    )


def _total(runs: list[Segmented]) -> Timing:
    return Timing.of(sum(one.seconds.values()) for one in runs)


def _write_picture(data: str, place: Path) -> None:
    """Write the first picture of a data set at the size of VOC's."""
    image = open_dataset("scenes:size=500" if data == "scenes" else data, "val")[0].image
    picture = PIL.Image.fromarray(image)
    PIL.ImageOps.fit(picture, PICTURE, PIL.Image.Resampling.BILINEAR).save(place)


def _in_own_process(variant: Variant, picture: Path, settings: Settings) -> Segmented:
    """Since the allocator's settings hold for a process, as does the peak of its memory.

    Raises:
        RecipeError: The process was killed.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        work = process.submit(_measure, variant, picture, settings, torch.get_num_threads())
        try:
            return work.result()
        except BrokenProcessPool:
            raise RecipeError(
                f"The process that ran {variant.engine} at width {settings.width:g} was "
                "killed, most likely for want of memory; take a smaller width."
            ) from None


def _measure(variant: Variant, picture: Path, settings: Settings, threads: int) -> Segmented:
    """Build the networks, warm up on a few windows, and segment the picture once."""
    torch.set_num_threads(threads)
    if variant.allocator == "default":
        os.environ["DECONVNET_MALLOC"] = "default"
    tune_allocator()
    if variant.engine == "naive":
        os.environ["DECONVNET_KERNELS"] = "off"
    first, second = (
        _predictor(name, variant.engine, settings.width) for name in ("deconvnet", "fcn8s")
    )
    segment(first, second, picture, BATCH)
    forget_peak()
    return segment(first, second, picture, settings.proposals)


def _predictor(name: str, engine: str, width: float) -> Predictor:
    network = network_of(name, width)
    if engine != "naive":
        network = accelerate(network, engine)
    return Predictor(network, Config(name, Classes.named([f"class_{n}" for n in range(21)])))


def segment(first: Predictor, second: Predictor, picture: Path, proposals: int) -> Segmented:
    """What `Predictor` does with proposals, an ensemble and the CRF, timed part by part.

    Args:
        first: The network that segments windows.
        second: The network that segments the picture as a whole.
        picture: The file.
        proposals: As many windows at most, beside the whole picture.
    """
    seconds: dict[str, float] = defaultdict(float)
    with _timed(seconds, "rest"):
        image = read_image(picture)
    with _timed(seconds, "proposals"):
        windows = choose_windows(image, proposals)
    with _timed(seconds, "network"):
        growth = deque(grow(first, image, windows), maxlen=1)[0]  # keeps none but the last
    with _timed(seconds, "FCN-8s"):
        whole = second.scores(image)
    with _timed(seconds, "rest"):
        probabilities = combined(torch.from_numpy(growth.scores), whole, "mean").numpy()
    with _timed(seconds, "CRF"):
        refined = crf.refine(image, probabilities)
    with _timed(seconds, "rest"):
        label_map = refined.argmax(0).astype(np.uint8)
    return Segmented(label_map, dict(seconds), len(windows), peak_memory())


@contextmanager
def _timed(seconds: dict[str, float], part: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[part] += time.perf_counter() - start

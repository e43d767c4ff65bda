"""How fast this machine is, and how fast we are on it, beside everything else installed.

Fair to peers: the same weights, pictures and threads, interleaved in one process with the same
allocator settings (`deconvnet.kernels.allocator`); medians of several rounds, with the range.
The exception is training, where the allocator is itself compared: processes take turns.
"""

import contextlib
import copy
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
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

from deconvnet import crf, proposals
from deconvnet.checkpoint import Config
from deconvnet.data import open_dataset
from deconvnet.data.scenes import Scenes
from deconvnet.engines import ENGINES, Convertible, accelerate
from deconvnet.errors import MissingExtraError, RecipeError, UserError, did_you_mean
from deconvnet.kernels import winograd
from deconvnet.kernels.allocator import tune_allocator
from deconvnet.kernels.training import native_operations
from deconvnet.layers import Switches
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


Row = tuple[str | float | None, ...]


@dataclass(frozen=True)
class Table:
    """One comparison."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    note: str = ""

    def to_text(self) -> str:
        """The table in aligned columns: words to the left, numbers to the right."""
        cells = [self.columns, *(tuple(map(_cell, row)) for row in self.rows)]
        columns = []
        for index, column in enumerate(zip(*cells, strict=True)):
            width = max(map(len, column))
            in_words = any(isinstance(row[index], str) for row in self.rows)
            columns.append(
                [cell.ljust(width) if in_words else cell.rjust(width) for cell in column]
            )
        lines = ["  ".join(line).rstrip() for line in zip(*columns, strict=True)]
        return "\n".join([self.title, *lines, *([self.note] if self.note else [])])


@dataclass(frozen=True)
class Report:
    """What was measured, and on what."""

    machine: Mapping[str, Any]
    tables: tuple[Table, ...]

    def to_text(self) -> str:
        """Everything, to be read."""
        width = max(map(len, self.machine)) + 2
        machine = "\n".join(f"{name:<{width}}{value}" for name, value in self.machine.items())
        return "\n\n".join([machine, *(table.to_text() for table in self.tables)])

    def to_json(self) -> dict[str, Any]:
        """Everything, to be computed with."""
        tables = [
            asdict(table)
            | {"rows": [dict(zip(table.columns, row, strict=True)) for row in table.rows]}
            for table in self.tables
        ]
        return {"machine": dict(self.machine), "tables": tables}


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
        RecipeError: There is no such measurement or network.
        DataError: The data set of `settings` cannot be read, or the size cannot be drawn.
    """
    if what != "all" and what not in BENCHES:
        raise RecipeError(
            f"there is no measurement '{what}'; choose all, {', '.join(BENCHES)}."
            + did_you_mean(what, BENCHES)
        )
    settings = settings or Settings()
    _check(settings)
    tuned = tune_allocator()
    tables = []
    for name in BENCHES if what == "all" else [what]:
        say(f"bench {name} ...", quiet=quiet)
        tables += BENCHES[name](settings)
    return Report(_machine(allocator_tuned=tuned), tuple(tables))


def _check(settings: Settings) -> None:
    """Find now what would stop a measurement in the middle, or in another process."""
    Scenes("val", count=1, size=settings.size)
    with torch.device("meta"):
        for name in settings.networks:
            build_model(name, 21, width=settings.width)


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
    labels = {"multiply": "sgemm 1024, GFLOP/s", "copy": "copy 64 MiB, GB/s in and out"}
    rows: list[Row] = []
    for name, seconds in timing.items():
        rates = (work[name] / one / 1e9 for one in (seconds.median, seconds.high, seconds.low))
        rows.append((labels[name], *(round(rate, 1) for rate in rates)))
    return [Table("The machine", ("limit", "median", "low", "high"), tuple(rows))]


def _bench_inference(settings: Settings) -> list[Table]:
    """Each network as it was trained, by every engine, and by every peer."""
    rows: list[Row] = []
    left_out = []
    images = _pictures(8, settings.size)
    for name in settings.networks:
        plain = _network(name, settings.width)
        runners, failed = _runners(plain, settings.size)
        left_out += [f"{name}: {reason}" for reason in failed]
        expected = runners["plain"](images).argmax(1)
        flips = _flipped_switches(plain, runners, images[:1])
        agreement = {
            who: float((call(images).argmax(1) == expected).float().mean())
            for who, call in runners.items()
        }
        timings = [
            interleaved({who: partial(call, images[:count]) for who, call in runners.items()})
            for count in (1, 8)
        ]
        for who in runners:
            single, batch = (timing[who] for timing in timings)
            rows.append(
                (
                    name,
                    who,
                    *single.milliseconds(),
                    *batch.milliseconds(8),
                    round(timings[1]["plain"].median / batch.median, 2),
                    round(100 * agreement[who], 3),
                    flips.get(who),
                )
            )
    return [
        Table(
            f"Inference: ms a picture of {settings.size} pixels, width {settings.width:g}",
            tuple("network,by,one,low,high,of 8,low 8,high 8,x plain,argmax %,ppm".split(",")),
            tuple(rows),
            "\n".join(
                [
                    "Random weights. one, of 8: batches. argmax: agreement with plain. ppm: "
                    "switches turned over by rounding, against float64, in a million.",
                    *left_out,
                ]
            ),
        )
    ]


Runner = Callable[[Tensor], Tensor]


def _runners(network: nn.Module, size: int) -> tuple[dict[str, Runner], list[str]]:
    """The ways to run this network here, and why others are missing."""
    runners: dict[str, Runner] = {"plain": network}
    failed = []
    for engine in ENGINES:
        try:
            runners[engine] = accelerate(network, engine)
        except UserError as error:
            failed.append(f"{engine}: {error}")
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model.onnx"
        for peer, load in (("onnxruntime", _onnxruntime), ("opencv", _opencv)):
            try:
                if not model.exists():
                    _write_onnx(network, size, model)
                call = load(model)
                for count in (8, 1):
                    call(torch.zeros(count, 3, size, size))
                runners[peer] = call
            except Exception as error:  # a peer that fails is left out, and said to be
                failed.append(f"{peer}: {' '.join(str(error).split())[:100]}")
    return runners, failed


def _write_onnx(network: nn.Module, size: int, place: Path) -> None:
    """By the exporter that needs no further library; the batch size stays free."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it is the older exporter
        torch.onnx.export(
            Convertible(network),
            (torch.zeros(1, 3, size, size),),
            place,
            dynamo=False,
            input_names=["image"],
            output_names=["logits"],
            dynamic_axes={"image": {0: "n"}, "logits": {0: "n"}},
            opset_version=17,
        )


def _onnxruntime(model: Path) -> Runner:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run(None, {"image": images.numpy()})[0])


def _opencv(model: Path) -> Runner:
    import cv2

    cv2.utils.logging.setLogLevel(0)  # it reports failures twice
    cv2.setNumThreads(torch.get_num_threads())
    loaded = cv2.dnn.readNetFromONNX(str(model))

    def call(images: Tensor) -> Tensor:
        loaded.setInput(images.numpy())
        return torch.from_numpy(loaded.forward())

    return call


def _network(name: str, width: float) -> nn.Module:
    """A network whose random weights keep the size of activations through every layer."""
    torch.manual_seed(0)
    network = build_model(name, 21, width=width).eval().requires_grad_(requires_grad=False)
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_normal_(
                module.weight,
                mode="fan_out" if isinstance(module, nn.ConvTranspose2d) else "fan_in",
            )
    return network


def _pictures(count: int, size: int) -> Tensor:
    """Drawn pictures, standardised."""
    scenes = Scenes("val", count=count, size=size)
    images = np.stack([scenes[index].image for index in range(count)]).transpose(0, 3, 1, 2)
    return torch.from_numpy(images.astype(np.float32) / 255 - 0.5) * 4


def _flipped_switches(
    network: nn.Module, runners: Mapping[str, Runner], images: Tensor
) -> dict[str, float]:
    """In a million, for the runners in torch: the switches that rounding has turned over."""
    exact = _corners(copy.deepcopy(network).double(), images.double())
    flips = {}
    for who, runner in runners.items():
        found = _corners(runner, images) if isinstance(runner, nn.Module) else []
        if exact and len(found) == len(exact):  # the peers do not tell
            unlike = sum(int((a != b).sum()) for a, b in zip(exact, found, strict=True))
            flips[who] = round(1e6 * unlike / sum(a.numel() for a in exact), 1)
    return flips


def _corners(network: nn.Module, images: Tensor) -> list[Tensor]:
    """The switches of every unpooling, as corners of their windows: 0 1 above, 2 3 below."""
    corners: list[Tensor] = []

    def note(_: nn.Module, given: tuple[Tensor, Switches]) -> None:
        positions, size = given[1]
        if positions.dtype == torch.uint8:  # the engine `native` has corners alone
            corners.append(positions.long())
        else:
            corners.append(positions // size[1] % 2 * 2 + positions % size[1] % 2)

    hooks = [
        module.register_forward_pre_hook(note)
        for module in network.modules()
        if type(module).__name__.endswith("Unpooling")
    ]
    with torch.no_grad():
        network(images)
    for hook in hooks:
        hook.remove()
    return corners


def _bench_training(settings: Settings) -> list[Table]:
    """Each network in processes that take turns: written as one first would, and ours."""
    rows: list[Row] = []
    for name in settings.networks:
        with (
            _trainer("default", name, settings) as naive,
            _trainer("tuned", name, settings) as ours,
            _trainer("native", name, settings) as native,
        ):
            timing = interleaved(
                {
                    "naive": partial(_step_in, naive),
                    "ours": partial(_step_in, ours),
                    "native": partial(_step_in, native),
                },
                rounds=3,
            )
        rates = {who: round(BATCH / seconds.median, 2) for who, seconds in timing.items()}
        ratios = (round(rates[who] / rates["naive"], 2) for who in ("ours", "native"))
        rows.append((name, *rates.values(), *ratios))
    return [
        Table(
            f"Training: pictures of {settings.size} pixels a second, batch {BATCH}, "
            f"width {settings.width:g}",
            ("network", "naive", "ours", "native", "ours x naive", "native x naive"),
            tuple(rows),
            "Naive: the C library's own allocator, torch's own memory format. Native: ours, by "
            "the engine of that name.",
        )
    ]


BATCH = 4
"""Pictures a training step."""

_training: dict[str, Any] = {}
"""The network that a process of `_trainer` trains."""


def _trainer(way: str, network: str, settings: Settings) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(
        1,
        mp_context=get_context("spawn"),
        initializer=_begin_training,
        initargs=(way, network, settings, torch.get_num_threads()),
    )


def _begin_training(way: str, name: str, settings: Settings, threads: int) -> None:
    torch.set_num_threads(threads)
    network = build_model(name, 21, width=settings.width)
    images = torch.randn(BATCH, 3, settings.size, settings.size)
    if way != "default":
        tune_allocator()
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # stubs lag
        images = images.contiguous(memory_format=torch.channels_last)
    _training["native"] = way == "native" and winograd.is_available()
    _training["network"] = network
    _training["images"] = images
    _training["labels"] = torch.randint(0, 21, (BATCH, settings.size, settings.size))
    _training["optimizer"] = build_optimizer(network, Recipe(learning_rate=1e-5))


def _step_in(trainer: ProcessPoolExecutor) -> float:
    return trainer.submit(_step).result()


def _step() -> float:
    with native_operations() if _training["native"] else contextlib.nullcontext():
        logits = _training["network"](_training["images"])
    loss = nn.functional.cross_entropy(logits, _training["labels"])
    loss.backward()  # type: ignore[no-untyped-call]  # torch's
    _training["optimizer"].step()
    _training["optimizer"].zero_grad()
    return float(loss.detach())


def _bench_loading(settings: Settings) -> list[Table]:
    """What drawing and augmenting a batch costs beside a step on it."""
    recipe = Recipe(crop_size=settings.size, batch_size=BATCH)
    scenes = open_dataset(settings.data, "train")
    config = Config("unet", scenes.classes)
    pictures = TrainingPictures(scenes, recipe, config)
    turns = iter(range(10**9))

    def load() -> object:
        return [pictures[next(turns)] for _ in range(BATCH)]

    name = settings.networks[0]
    _begin_training("tuned", name, settings, torch.get_num_threads())
    timing = interleaved({"load": load, "train": _step}, rounds=3)
    load_ms, train_ms = (timing[who].milliseconds(BATCH)[0] for who in ("load", "train"))
    return [
        Table(
            f"Loading: ms a picture of {settings.size} pixels from {settings.data}",
            ("data", "load", "train", "share of a step %"),
            (
                (
                    settings.data,
                    load_ms,
                    train_ms,
                    round(100 * load_ms / (load_ms + train_ms), 1),
                ),
            ),
            f"Train: {name} of width {settings.width:g}. `workers` hides loading.",
        )
    ]


def _bench_startup(_: Settings) -> list[Table]:
    """How long a newcomer waits for the first word."""
    commands = {
        "python": ["-c", "pass"],
        "import deconvnet": ["-c", "import deconvnet"],
        "deconvnet --help": ["-m", "deconvnet", "--help"],
        "import torch": ["-c", "import torch"],
        "import deconvnet.predict": ["-c", "import deconvnet.predict"],
    }
    calls = {
        name: partial(
            subprocess.run, [sys.executable, *words], check=True, stdout=subprocess.DEVNULL
        )
        for name, words in commands.items()
    }
    rows = tuple((name, *found.milliseconds()) for name, found in interleaved(calls).items())
    return [Table("Start-up: ms", ("of", "median", "low", "high"), rows)]


def _bench_proposals(settings: Settings) -> list[Table]:
    """Time and recall of every way to propose boxes, on pictures with instances."""
    dataset = open_dataset(settings.data, "val")
    samples = [dataset[index] for index in range(min(8, len(dataset)))]
    samples = [s for s in samples if s.instance_map is not None and s.instance_map.any()]
    if not samples:
        raise RecipeError(
            f"{settings.data} has no instance maps, so recall cannot be measured; name another "
            "data set, or scenes."
        )
    truths = [proposals.boxes_of(np.asarray(sample.instance_map))[0] for sample in samples]
    rows: list[Row] = []
    left_out = []
    for method in proposals.METHODS:
        try:
            timing = interleaved(
                {
                    str(i): partial(proposals.propose, sample.image, method)
                    for i, sample in enumerate(samples)
                },
                rounds=1,
            )
        except MissingExtraError as error:
            left_out.append(str(error))
            continue
        median = statistics.median(found.median for found in timing.values())
        boxes = [proposals.propose(sample.image, method)[0] for sample in samples]
        recalls = [
            np.mean(
                [
                    proposals.recall(b[:count], t, 0.5)
                    for b, t in zip(boxes, truths, strict=True)
                ]
            )
            for count in (50, 500, 2000)
        ]
        rows.append(
            (
                method,
                round(1e3 * median, 1),
                *(round(100 * float(share), 1) for share in recalls),
            )
        )
    return [
        Table(
            f"Proposals: {len(samples)} pictures of {settings.data}",
            ("method", "ms", "recall of 50 %", "of 500", "of 2000"),
            tuple(rows),
            "\n".join(
                ["Recall: share of the objects' boxes met with an IoU of 0.5.", *left_out]
            ),
        )
    ]


def _bench_crf(settings: Settings) -> list[Table]:
    """Our dense CRF beside pydensecrf2, on the same problem."""
    image = np.ascontiguousarray(Scenes("val", count=1, size=settings.size)[0].image)
    scores = torch.randn(21, settings.size // 16, settings.size // 16)
    logits = nn.functional.interpolate(2 * scores[None], (settings.size,) * 2, mode="bilinear")
    probabilities = logits[0].softmax(0).numpy()
    calls: dict[str, Callable[[], np.ndarray]] = {
        "deconvnet.crf": partial(crf.refine, image, probabilities)
    }
    with contextlib.suppress(ImportError):
        calls["pydensecrf2"] = _pydensecrf(image, probabilities)
    labels = {who: call().argmax(0) for who, call in calls.items()}
    timing = interleaved(calls, rounds=3)
    rows = tuple(
        (
            who,
            *found.milliseconds(),
            round(100 * float(np.mean(labels[who] == labels["deconvnet.crf"])), 2),
        )
        for who, found in timing.items()
    )
    return [
        Table(
            f"Dense CRF: ms for {settings.size} x {settings.size} pixels, 21 classes",
            ("by", "median", "low", "high", "argmax %"),
            rows,
        )
    ]


def _pydensecrf(image: np.ndarray, probabilities: np.ndarray) -> Callable[[], np.ndarray]:
    """The published problem (gaussian 3, 3; bilateral 20, 3, 5; no normalisation)."""
    import pydensecrf.densecrf as dcrf

    count, height, width = probabilities.shape
    unary = np.ascontiguousarray(-np.log(probabilities.clip(1e-9)).reshape(count, -1))

    def call() -> np.ndarray:
        field = dcrf.DenseCRF2D(width, height, count)
        field.setUnaryEnergy(unary)
        plain = {"kernel": dcrf.CONST_KERNEL, "normalization": dcrf.NO_NORMALIZATION}
        field.addPairwiseGaussian(sxy=3, compat=3, **plain)
        field.addPairwiseBilateral(sxy=20, srgb=3, rgbim=image, compat=5, **plain)
        return np.array(field.inference(10)).reshape(count, height, width)

    return call


BENCHES: dict[str, Callable[[Settings], list[Table]]] = {
    "machine": _bench_machine,
    "inference": _bench_inference,
    "training": _bench_training,
    "loading": _bench_loading,
    "startup": _bench_startup,
    "proposals": _bench_proposals,
    "crf": _bench_crf,
}
"""What can be measured, by name."""


def _cell(value: str | float | None) -> str:
    if value is None:
        return "-"
    return value if isinstance(value, str) else f"{value:g}"

"""Training, and what loading costs beside it."""

import contextlib
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from typing import Any

import torch
from torch import nn

from deconvnet.bench.report import Row, Table
from deconvnet.bench.settings import Settings
from deconvnet.bench.timing import interleaved
from deconvnet.checkpoint import Config
from deconvnet.data import open_dataset
from deconvnet.kernels import winograd
from deconvnet.kernels.allocator import tune_allocator
from deconvnet.kernels.training import native_operations
from deconvnet.models import build_model
from deconvnet.recipe import Recipe
from deconvnet.training.pictures import TrainingPictures
from deconvnet.training.solver import build_optimizer

BATCH = 4
"""Pictures a training step."""


_training: dict[str, Any] = {}
"""The network that a process of `_trainer` trains."""


def bench_training(settings: Settings) -> list[Table]:
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
            kind="training",
        )
    ]


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


def bench_loading(settings: Settings) -> list[Table]:
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
            kind="loading",
        )
    ]

"""What a training would take, from a few steps that are thrown away."""

import itertools
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import torch
from torch.nn import functional as F

from deconvnet.checkpoint import build_network
from deconvnet.errors import RecipeError
from deconvnet.memory import forget_peak, peak_memory
from deconvnet.progress import duration, say
from deconvnet.recipe import Recipe
from deconvnet.training.job import Job, channels_last
from deconvnet.training.pictures import TrainingPictures, batches_from
from deconvnet.training.solver import build_optimizer, freeze
from deconvnet.training.step import take_step, trained_module


class Trial(NamedTuple):
    """What a few steps took."""

    seconds: float
    """Of a step, the fastest."""
    memory: int
    """Most bytes held at once: by the whole process, or on a GPU by its tensors."""
    parameters: int


def plan_job(job: Job) -> str:
    """What carrying out a job would do and take, as `deconvnet train --dry-run` says it."""
    recipe = job.recipe
    trial = try_steps(job, min(3, recipe.steps))
    pictures = recipe.steps * job.pictures_per_step
    passes = f", {recipe.accumulate} passes each" if recipe.accumulate > 1 else ""
    lines = [
        f"network    {recipe.model}, {trial.parameters / 1e6:.2f} M parameters, "
        f"{len(job.config.classes)} classes",
        f"data       {len(job.training)} training pictures, "
        f"{len(job.validation) if job.validation else 0} for validation",
        f"steps      {recipe.steps} of {job.pictures_per_step} crops of "
        f"{recipe.crop_size} pixels: {pictures / len(job.training):.1f} epochs{passes}",
        f"time       about {duration(trial.seconds * recipe.steps)} on this machine's "
        f"{job.fabric.device.type} with {torch.get_num_threads()} threads, "
        "evaluations not counted",
        f"memory     about {trial.memory / 1e9:.1f} GB",
    ]
    if recipe.precision == "bf16-mixed" and job.fabric.device.type == "cpu":
        factor = bf16_speed()
        verdict = "which this CPU is fast at" if factor > 1 else "so 32-true is faster here"
        lines.append(f"precision  bf16 convolves at {factor:.2f} x the speed of 32, {verdict}")
    return "\n".join([*lines, f"writes     {job.out}"])


def try_steps(job: Job, steps: int) -> Trial:
    """Take some steps with a network that is thrown away."""
    recipe, device = job.recipe, job.fabric.device
    forget_peak()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    network = channels_last(build_network(job.config))
    average = [p.clone() for p in network.state_dict().values()] if recipe.ema else []
    freeze(network, recipe.freeze)
    module = trained_module(network, job)
    trained, optimizer = job.fabric.setup(module, build_optimizer(module, recipe))
    batches = batches_from(TrainingPictures(job.training, recipe, job.config), 0)
    times = [time.monotonic()]
    for step in range(steps):
        take_step(job, step, trained, optimizer, batches)
        times.append(time.monotonic())
    del average
    on_gpu = device.type == "cuda"
    return Trial(
        min(end - start for start, end in itertools.pairwise(times)),
        torch.cuda.max_memory_allocated(device) if on_gpu else peak_memory(),
        sum(p.numel() for p in network.parameters()),
    )


def fitted(job: Job, limit: int, *, resume: bool = False) -> Job:
    """The job with the largest batch whose training stays under a limit of memory.

    The pictures of an optimiser step stay as many, in more passes (`accumulate`), so that the
    learning rate keeps its sense. A run that goes on keeps the batch that it began with.

    Args:
        job: The run.
        limit: Bytes of the whole process, or of tensors on a GPU.
        resume: Take the batch from the run in the job's folder.

    Raises:
        RecipeError: If even one picture a pass takes more, or there are several processes.
    """
    if job.fabric.world_size > 1:
        raise RecipeError(
            "fit_memory tries steps in one process; find the batch with it on one device, then "
            "train on several with that batch_size and accumulate."
        )
    written = job.out / "recipe.yaml"
    if resume and written.exists():
        begun = Recipe.from_file(written)
        return _with_batch(job, begun.batch_size, begun.accumulate)
    total = job.recipe.batch_size * job.recipe.accumulate
    best = 0
    tried: list[tuple[int, int]] = []
    for batch in _sizes(job.recipe):
        if len(tried) > 1 and _foreseen(tried, batch) > limit:
            break
        few = replace(_with_batch(job, batch, 1).recipe, workers=0, steps=2)
        tried.append((batch, try_steps(replace(job, recipe=few), 2).memory))
        if tried[-1][1] > limit:
            break
        best = batch
    if best == 0:
        raise RecipeError(
            f"One picture a pass takes {tried[0][1] / 1e9:.2f} GB, more than the limit of "
            f"{limit / 1e9:.2f} GB; raise it, or lower crop_size or width, or set recompute."
        )
    used = dict(tried)[best]
    say(
        f"Batches of {best}, {total // best} to a step, take about {used / 1e9:.2f} GB of the "
        f"{limit / 1e9:.2f} GB allowed (evaluations not counted).",
        quiet=job.quiet,
    )
    return _with_batch(job, best, total // best)


def bf16_speed() -> float:
    """How many times as fast this CPU convolves in bfloat16 as in float32, measured."""
    seconds = {}
    for dtype in (torch.float32, torch.bfloat16):
        features = torch.rand(1, 64, 56, 56, dtype=dtype)
        kernels = torch.rand(64, 64, 3, 3, dtype=dtype)
        times = []
        for _ in range(4):
            began = time.perf_counter()
            F.conv2d(features, kernels, padding=1)
            times.append(time.perf_counter() - began)
        seconds[dtype] = min(times)
    return seconds[torch.float32] / seconds[torch.bfloat16]


def _sizes(recipe: Recipe) -> Iterator[int]:
    """Batches in which the pictures of a step divide evenly, from 1 to the recipe's own."""
    total = recipe.batch_size * recipe.accumulate
    return (n for n in range(1, recipe.batch_size + 1) if total % n == 0)


def _foreseen(tried: list[tuple[int, int]], batch: int) -> float:
    """The memory that a batch would take, on the line through the last two."""
    (small, little), (large, much) = tried[-2:]
    return much + (much - little) / (large - small) * (batch - large)


def _with_batch(job: Job, batch_size: int, accumulate: int) -> Job:
    recipe = replace(job.recipe, batch_size=batch_size, accumulate=accumulate)
    return replace(job, recipe=recipe, config=replace(job.config, recipe=recipe.to_dict()))

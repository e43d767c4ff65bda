"""The loop of training: begin or go on, step by step, with all that is written on the way.

Every step draws its pictures and its random numbers from (seed, step) alone. So a run that was
stopped and resumed goes through the same numbers as one that was not, bit for bit, on the same
machine with the same number of threads.
"""

import copy
import math
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from deconvnet.checkpoint import build_network, load_state
from deconvnet.errors import OutputError, RecipeError
from deconvnet.evaluate import Evaluation
from deconvnet.files import remove_partial_files, write_text
from deconvnet.progress import ProgressBar, say, sparkline
from deconvnet.recipe import Recipe
from deconvnet.training.job import Job, Run, channels_last
from deconvnet.training.pictures import TrainingPictures, batches_from
from deconvnet.training.records import finish, save, score_and_keep, write_log
from deconvnet.training.solver import build_optimizer, freeze, update_average
from deconvnet.training.step import refuse_broken_weights, take_step, trained_module
from deconvnet.training.transfer import start_from

MAY_CHANGE = {"data", "start_from", "workers", "log_every", "save_every", "tensorboard"}
"""Settings that may differ when a run is resumed: they do not change what is computed then."""

SAME_REQUEST = 1.0
"""Seconds within which a second signal is the first one, sent on by a launcher."""


def carry_out(job: Job, *, resume: bool) -> Evaluation | None:
    """Train what a job says, on its data, into its folder; the rest is as for `train`."""
    recipe = job.recipe
    run = begin(job, resume=resume)
    trained, optimizer = job.fabric.setup(run.trained, run.optimizer)
    batches = batches_from(
        TrainingPictures(job.training, recipe, job.config),
        run.step,
        rank=job.fabric.global_rank,
        world_size=job.fabric.world_size,
    )
    with (
        ProgressBar("train", recipe.steps, start=run.step, quiet=job.quiet) as bar,
        _interrupts_noted() as interrupted,
    ):
        while run.step < recipe.steps and not out_of_patience(run, recipe):
            began = time.monotonic()
            loss = take_step(job, run.step, trained, optimizer, batches)
            run.step += 1
            if run.average is not run.network:
                update_average(run.average, run.network, recipe.ema, run.step)
            run.recent.append((loss, time.monotonic() - began))
            bar.advance(1, _figures(job, run, width=bar.course_width))
            stopping = job.agreed(bool(interrupted))
            _write_what_is_due(job, run, bar, stopping=stopping)
            if stopping and run.step < recipe.steps:
                bar.say(f"Stopped at step {run.step}, state saved; go on with --resume.")
                raise KeyboardInterrupt
    return finish(job, run)


def _write_what_is_due(job: Job, run: Run, bar: ProgressBar, *, stopping: bool) -> None:
    """Score, log and save as often as the recipe says, at the end and at a stop."""
    recipe = job.recipe
    at_end = run.step == recipe.steps
    scoring = run.step % recipe.evaluate_every == 0 or at_end
    saving = run.step % recipe.save_every == 0 or at_end or stopping
    if scoring or saving:
        refuse_broken_weights(job, run.step, run.network, run.average)
    if scoring:
        score_and_keep(job, run, bar)
    elif run.step % recipe.log_every == 0:
        write_log(job, run)
    if saving:
        save(job, run)


def begin(job: Job, *, resume: bool) -> Run:
    """A fresh run, or the one saved in the job's folder.

    Raises:
        OutputError: If the folder holds a run and resume was not asked for.
        CheckpointError: If there is no saved run to resume, or it is of another recipe.
    """
    recipe, state_file = job.recipe, job.out / "state.pt"
    torch.manual_seed(recipe.seed)
    network = channels_last(build_network(job.config))
    average = copy.deepcopy(network).requires_grad_(False) if recipe.ema else network
    freeze(network, recipe.freeze)
    trained = trained_module(network, job)
    run = Run(network, trained, build_optimizer(trained, recipe), average)
    begun = (job.out / "recipe.yaml").exists()
    if resume and (state_file.exists() or not begun):
        state = load_state(state_file)
        check_same_recipe(recipe, state["recipe"], job.out)
        run.restore(state, state_file, job.fabric)
    else:  # new, or stopped before there was a state to go on from
        if begun and not resume:
            raise OutputError(
                f"{job.out} holds a run already; go on with it by --resume, "
                "or name another folder with --out."
            )
        if recipe.start_from:
            said = start_from(recipe.start_from, network, recipe.model, job.config.classes)
            average.load_state_dict(network.state_dict())
            say(said, quiet=job.quiet)
        job.fabric.barrier()  # every process has looked before one writes
        job.by_first(lambda: write_text(job.out / "recipe.yaml", recipe.to_yaml()))
    if job.fabric.is_global_zero:
        for folder in (job.out, job.out / "best", job.out / "last"):
            remove_partial_files(folder)
    average.to(job.fabric.device)
    return run


def out_of_patience(run: Run, recipe: Recipe) -> bool:
    """Whether the last `patience` evaluations brought nothing better."""
    scores = [row["mean_iou"] for row in run.log if not math.isnan(row["mean_iou"])]
    if recipe.patience is None or not scores:
        return False
    return len(scores) - 1 - int(np.argmax(scores)) >= recipe.patience


def check_same_recipe(recipe: Recipe, saved: Mapping[str, Any], out: Path) -> None:
    """Refuse to go on with other settings: the result would belong to no recipe.

    Raises:
        RecipeError: With the settings that differ.
    """
    saved = {**Recipe().to_dict(), **saved}  # a setting newer than the run had its default
    differing = [
        f"{name} was {saved[name]} and is {value}"
        for name, value in recipe.to_dict().items()
        if name not in MAY_CHANGE and saved[name] != value
    ]
    if differing:
        raise RecipeError(
            f"The run in {out} was begun with other settings ({'; '.join(differing)}); "
            f"resume it with {out / 'recipe.yaml'}, or start anew in another folder."
        )


def _figures(job: Job, run: Run, *, width: int) -> str:
    """What stands beside the progress: loss, its course in a terminal, speed, best score."""
    loss, seconds = run.recent[-1]
    course = [row["loss"] for row in run.log]
    drawn = f" {sparkline(course, width)}" if width and len(course) > 1 else ""
    figures = f"loss {loss:.3f}{drawn}  {job.pictures_per_step / seconds:.1f} images/s"
    return f"{figures}  best mIoU {100 * run.best:.1f}" if run.best >= 0 else figures


@contextmanager
def _interrupts_noted() -> Iterator[list[float]]:
    """Gather Ctrl-C and a request to end, so that a step is finished before they are obeyed.

    The list of their times is empty until then. A second Ctrl-C stops at once.
    """
    asked: list[float] = []

    def note(_number: int, _frame: object) -> None:
        now = time.monotonic()
        if asked and now - asked[0] > SAME_REQUEST:
            raise KeyboardInterrupt
        asked.append(now)

    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

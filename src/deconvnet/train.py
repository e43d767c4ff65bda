"""Training: one loop, on Lightning Fabric.

Every step draws its pictures and its random numbers from (seed, step) alone. So a run that was
stopped and resumed goes through the same numbers as one that was not, bit for bit, on the same
machine with the same number of threads.
"""

import copy
import itertools
import math
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from deconvnet import losses
from deconvnet.checkpoint import (
    build_network,
    load_state,
)
from deconvnet.errors import (
    DivergedError,
    OutputError,
    RecipeError,
)
from deconvnet.evaluate import Evaluation
from deconvnet.files import write_text
from deconvnet.kernels.training import native_operations
from deconvnet.progress import ProgressBar, duration, say
from deconvnet.recipe import Recipe
from deconvnet.solver import (
    build_optimizer,
    freeze,
    hold_frozen,
    rate_factor,
    update_average,
)
from deconvnet.supervision import Supervised, thinned
from deconvnet.training_job import Job, Run, prepare
from deconvnet.training_pictures import TrainingPictures, batches_from
from deconvnet.training_records import finish, save, score_and_keep, write_log
from deconvnet.transfer import start_from

MAY_CHANGE = {"data", "start_from", "workers", "log_every", "save_every", "tensorboard"}
"""Settings that may differ when a run is resumed: they do not change what is computed then."""


def train(
    recipe: Recipe,
    *,
    out: str | Path,
    resume: bool = False,
    device: str = "auto",
    devices: int = 1,
    quiet: bool = False,
) -> Evaluation | None:
    """Train a network as a recipe says; writes best/, last/, log.csv and curve.png into `out`.

    Args:
        recipe: What to train, on what, and how.
        out: Folder of the run; must not hold another.
        resume: Go on with the run in that folder.
        device: auto, cpu, cuda or mps.
        devices: Devices or processes that train side by side (DDP); torchrun sets it too.
        quiet: Show no progress.

    Returns:
        The scores of best/ on the whole of val; none where the data set has no val.

    Raises:
        UserError: If a setting, the data or the folder does not do, before any training.
        KeyboardInterrupt: On Ctrl-C, after the state was saved.
    """
    if recipe.stages == "two":
        raise RecipeError(
            "The recipe asks for two stages; train it by deconvnet.stages.train_two_stages, "
            "as `deconvnet train` does, or set stages to one."
        )
    job = prepare(recipe, Path(out), device=device, devices=devices, quiet=quiet)
    return carry_out(job, resume=resume)


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
            bar.advance(1, _figures(job, run))
            at_end = run.step == recipe.steps
            if run.step % recipe.evaluate_every == 0 or at_end:
                score_and_keep(job, run, bar)
            elif run.step % recipe.log_every == 0:
                write_log(job, run)
            if run.step % recipe.save_every == 0 or at_end or interrupted:
                save(job, run)
            if interrupted and not at_end:
                bar.say(f"Stopped at step {run.step}, state saved; go on with --resume.")
                raise KeyboardInterrupt
    return finish(job, run)


def begin(job: Job, *, resume: bool) -> Run:
    """A fresh run, or the one saved in the job's folder.

    Raises:
        OutputError: If the folder holds a run and resume was not asked for.
        CheckpointError: If there is no saved run to resume, or it is of another recipe.
    """
    recipe, state_file = job.recipe, job.out / "state.pt"
    torch.manual_seed(recipe.seed)
    network = _channels_last(build_network(job.config))
    average = copy.deepcopy(network).requires_grad_(False) if recipe.ema else network
    freeze(network, recipe.freeze)
    trained = trained_module(network, job)
    run = Run(network, trained, build_optimizer(trained, recipe), average)
    begun = (job.out / "recipe.yaml").exists()
    if resume and (state_file.exists() or not begun):
        state = load_state(state_file)
        check_same_recipe(recipe, state["recipe"], job.out)
        run.restore(state, state_file)
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
        if job.fabric.is_global_zero:
            write_text(job.out / "recipe.yaml", recipe.to_yaml())
    average.to(job.fabric.device)
    return run


def take_step(
    job: Job,
    step: int,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Iterator[list[Tensor]],
) -> float:
    """One optimiser step, over as many passes as are accumulated; gives the mean loss.

    Raises:
        DivergedError: If the loss is not a finite number.
    """
    recipe, fabric = job.recipe, job.fabric
    torch.manual_seed(_seed_of(recipe.seed, step, fabric.global_rank))  # dropout
    network.train()
    hold_frozen(network)
    for group in optimizer.param_groups:
        group["lr"] = recipe.learning_rate * rate_factor(step, recipe) * group["multiplier"]
    optimizer.zero_grad()
    total = 0.0
    for turn in range(recipe.accumulate):
        images, labels, *pixel_weights = (fabric.to_device(part) for part in next(batches))
        with fabric.no_backward_sync(network, enabled=turn < recipe.accumulate - 1):
            with native_operations() if job.native else nullcontext():
                output = network(images.contiguous(memory_format=torch.channels_last))
            loss = _loss(output, labels, pixel_weights, job) / recipe.accumulate
            fabric.backward(loss)
        total += loss.item()
    if not math.isfinite(total):
        raise DivergedError(
            f"The loss became {total} at step {step + 1}, so training stopped; the last good "
            f"state is in {job.out}. Lower learning_rate (now {recipe.learning_rate:g}), "
            "add warmup or clip, and look at the data with `deconvnet check-data`."
        )
    if recipe.clip is not None:
        fabric.clip_gradients(network, optimizer, max_norm=recipe.clip)
    optimizer.step()
    return total


def trained_module(network: nn.Module, job: Job) -> nn.Module:
    """The network, with classifiers on its decoder's stages where the recipe asks for them."""
    if not job.recipe.auxiliary:
        return network
    side = job.recipe.crop_size
    example = torch.zeros(1, job.config.in_channels, side, side)
    return Supervised(network, len(job.config.classes), example)


def out_of_patience(run: Run, recipe: Recipe) -> bool:
    """Whether the last `patience` evaluations brought nothing better."""
    scores = [row["mean_iou"] for row in run.log if not math.isnan(row["mean_iou"])]
    if recipe.patience is None or not scores:
        return False
    return len(scores) - 1 - int(np.argmax(scores)) >= recipe.patience


def plan(recipe: Recipe, out: str | Path, *, device: str = "auto") -> str:
    """What training by a recipe would do and take, from three steps that are thrown away.

    Raises:
        UserError: As train would.
    """
    return plan_job(prepare(recipe, Path(out), device=device, quiet=True))


def plan_job(job: Job) -> str:
    """What carrying out a job would do and take, as `plan` says it."""
    recipe = job.recipe
    network = _channels_last(build_network(job.config))
    freeze(network, recipe.freeze)
    module = trained_module(network, job)
    trained, optimizer = job.fabric.setup(module, build_optimizer(module, recipe))
    batches = batches_from(TrainingPictures(job.training, recipe, job.config), 0)
    times = [time.monotonic()]
    for step in range(min(3, recipe.steps)):
        take_step(job, step, trained, optimizer, batches)
        times.append(time.monotonic())
    seconds = min(end - start for start, end in itertools.pairwise(times))
    parameters = sum(p.numel() for p in network.parameters())
    pictures = recipe.steps * job.pictures_per_step
    return "\n".join(
        [
            f"network    {recipe.model}, {parameters / 1e6:.2f} M parameters, "
            f"{len(job.config.classes)} classes",
            f"data       {len(job.training)} training pictures, "
            f"{len(job.validation) if job.validation else 0} for validation",
            f"steps      {recipe.steps} of {job.pictures_per_step} crops of "
            f"{recipe.crop_size} pixels: {pictures / len(job.training):.1f} epochs",
            f"time       about {duration(seconds * recipe.steps)} on this machine's "
            f"{job.fabric.device.type} with {torch.get_num_threads()} threads, "
            "evaluations not counted",
            f"memory     about {_peak_memory() / 1e9:.1f} GB",
            f"writes     {job.out}",
        ]
    )


def _channels_last(network: nn.Module) -> nn.Module:
    """The network with its weights laid out as CPUs and GPUs read them fastest."""
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in torch's stubs


def _peak_memory() -> float:
    """Most bytes this process has held so far."""
    import resource  # absent on Windows

    unit = 1 if sys.platform == "darwin" else 1024
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * unit


def _loss(
    output: Tensor | tuple[Tensor, list[Tensor]],
    labels: Tensor,
    pixel_weights: list[Tensor],
    job: Job,
) -> Tensor:
    """The recipe's sum of losses on one batch, from logits or what `Supervised` gives."""
    logits, stages = output if isinstance(output, tuple) else (output, [])
    loss = losses.cross_entropy(
        logits,
        labels,
        class_weights=job.class_weights,
        pixel_weights=pixel_weights[0] if pixel_weights else None,
    )
    if job.recipe.dice:
        loss = loss + job.recipe.dice * losses.dice_loss(logits, labels)
    if job.recipe.lovasz:
        loss = loss + job.recipe.lovasz * losses.lovasz_loss(logits, labels)
    for stage_logits in stages:
        stage_labels = thinned(labels, (stage_logits.shape[2], stage_logits.shape[3]))
        loss = loss + job.recipe.auxiliary / len(stages) * losses.cross_entropy(
            stage_logits, stage_labels, class_weights=job.class_weights
        )
    return loss


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


def _seed_of(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def _figures(job: Job, run: Run) -> str:
    """What stands beside the progress: loss, speed, best score."""
    loss, seconds = run.recent[-1]
    figures = f"loss {loss:.3f}  {job.pictures_per_step / seconds:.1f} images/s"
    return f"{figures}  best mIoU {100 * run.best:.1f}" if run.best >= 0 else figures


@contextmanager
def _interrupts_noted() -> Iterator[list[int]]:
    """Gather Ctrl-C and a request to end, so that a step is finished before they are obeyed.

    The list is empty until then. A second Ctrl-C stops at once.
    """
    asked: list[int] = []

    def note(number: int, _frame: object) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)

    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

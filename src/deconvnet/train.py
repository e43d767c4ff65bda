"""Training: one loop, on Lightning Fabric.

Every step draws its pictures and its random numbers from (seed, step) alone. So a run that was
stopped and resumed goes through the same numbers as one that was not, bit for bit, on the same
machine with the same number of threads.
"""

import copy
import csv
import io
import itertools
import math
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from deconvnet import draw, losses
from deconvnet.checkpoint import (
    Checkpoint,
    Config,
    build_network,
    library_versions,
    load_checkpoint,
    load_state,
    load_weights,
    read_weights,
    save_checkpoint,
    save_state,
)
from deconvnet.data import Dataset, open_dataset
from deconvnet.data.doctor import check_dataset, class_statistics, median_frequency_weights
from deconvnet.errors import (
    CheckpointError,
    DataError,
    DivergedError,
    MissingExtraError,
    OutputError,
    RecipeError,
)
from deconvnet.evaluate import Evaluation, evaluate
from deconvnet.files import write_text, written_whole
from deconvnet.kernels.allocator import tune_allocator
from deconvnet.metrics import ConfusionMatrix
from deconvnet.models.vgg import load_vgg16
from deconvnet.predict import Predictor, find_device
from deconvnet.progress import ProgressBar, duration, say
from deconvnet.recipe import Recipe
from deconvnet.solver import build_optimizer, rate_factor, update_average
from deconvnet.training_pictures import TrainingPictures, batches_from

MAY_CHANGE = {"data", "start_from", "workers", "log_every", "save_every", "tensorboard"}
"""Settings that may differ when a run is resumed: they do not change what is computed then."""

LOG_COLUMNS = ("step", "loss", "learning_rate", "images_per_second", "mean_iou")


@dataclass(frozen=True)
class Job:
    """What a run trains, on what, and where it writes."""

    recipe: Recipe
    config: Config
    training: Dataset
    validation: Dataset | None
    out: Path
    fabric: Fabric
    class_weights: Tensor | None
    quiet: bool

    @property
    def pictures_per_step(self) -> int:
        """Pictures behind one optimiser step, over all passes and devices."""
        return self.recipe.batch_size * self.recipe.accumulate * int(self.fabric.world_size)


@dataclass
class Run:
    """A training run as it stands; what state.pt keeps."""

    network: nn.Module
    optimizer: torch.optim.Optimizer
    average: nn.Module
    """The moving average of the network; the network itself where there is none."""
    step: int = 0
    best: float = -1.0
    """Best mean IoU on val so far."""
    log: list[dict[str, float]] = field(default_factory=list)
    recent: list[tuple[float, float]] = field(default_factory=list)
    """Loss and seconds of each step since the last line of the log."""

    def state(self, recipe: Recipe) -> dict[str, Any]:
        """Everything needed to go on bit for bit."""
        return {
            "step": self.step,
            "best": self.best,
            "network": self.network.state_dict(),
            "average": self.average.state_dict() if self.average is not self.network else None,
            "optimizer": self.optimizer.state_dict(),
            "log": self.log,
            "recent": self.recent,
            "recipe": recipe.to_dict(),
        }

    def restore(self, state: Mapping[str, Any], source: Path) -> None:
        """Go on from a saved state.

        Raises:
            CheckpointError: If the state is of another network.
        """
        load_weights(self.network, state["network"], str(source))
        if state["average"] is not None:
            load_weights(self.average, state["average"], str(source))
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.best = state["step"], state["best"]
        self.log, self.recent = list(state["log"]), list(state["recent"])


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
    trained, optimizer = job.fabric.setup(run.network, run.optimizer)
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
        while run.step < recipe.steps:
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


def prepare(
    recipe: Recipe, out: Path, *, device: str = "auto", devices: int = 1, quiet: bool = False
) -> Job:
    """Open the data and check all that can be checked before training.

    Raises:
        UserError: If something does not do.
    """
    tune_allocator()
    find_device(device)
    _check_tensorboard(recipe)
    training = _open(recipe, "train")
    validation = _validation(recipe, quiet=quiet)
    _check_data(training, validation)
    config = Config(
        model=recipe.model,
        classes=training.classes,
        options=model_options(recipe),
        input_scale=recipe.input_scale,
        recipe=recipe.to_dict(),
        versions=library_versions(),
    )
    with torch.device("meta"):
        build_network(config)  # a wrong model or option is found before the data is counted
    fabric = Fabric(
        accelerator=device,
        devices=devices,
        strategy="ddp" if devices > 1 else "auto",
        precision=recipe.precision,
    )
    fabric.launch()
    weights = _class_weights(recipe, training)
    return Job(
        recipe,
        config,
        training,
        validation,
        out,
        fabric,
        None if weights is None else weights.to(fabric.device),
        quiet or not fabric.is_global_zero,
    )


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
    run = Run(network, build_optimizer(network, recipe), average)
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
            say(start_from(run, recipe.start_from), quiet=job.quiet)
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
    for group in optimizer.param_groups:
        group["lr"] = recipe.learning_rate * rate_factor(step, recipe) * group["multiplier"]
    optimizer.zero_grad()
    total = 0.0
    for turn in range(recipe.accumulate):
        images, labels, *pixel_weights = (fabric.to_device(part) for part in next(batches))
        with fabric.no_backward_sync(network, enabled=turn < recipe.accumulate - 1):
            logits = network(images.contiguous(memory_format=torch.channels_last))
            loss = _loss(logits, labels, pixel_weights, job) / recipe.accumulate
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


def model_options(recipe: Recipe) -> dict[str, Any]:
    """The options of build_model that a recipe sets."""
    options: dict[str, Any] = {"width": recipe.width}
    for name in ("fc_channels", "unpooling", "batch_norm", "dropout", "bn_eps", "init"):
        if getattr(recipe, name) is not None:
            options[name] = getattr(recipe, name)
    return options


def start_from(run: Run, source: str) -> str:
    """Take over the weights that fit from a checkpoint or a VGG-16 file; says what was kept.

    Raises:
        CheckpointError: If there is no such file, or nothing in it fits.
    """
    path = Path(source)
    if path.is_file():
        load_vgg16(run.network, read_weights(path))
        kept = f"Encoder started from the VGG-16 weights in {path}."
    else:
        weights = load_checkpoint(source).network.state_dict()
        own = run.network.state_dict()
        fitting = {
            name: value
            for name, value in weights.items()
            if name in own and own[name].shape == value.shape
        }
        if not fitting:
            raise CheckpointError(
                f"Nothing in {source} fits this network; start from one of the same model "
                "and width, or without init."
            )
        run.network.load_state_dict({**own, **fitting})
        fresh = [name for name in own if name not in fitting]
        kept = f"Started from {source}: {len(fitting)} tensors kept, {len(fresh)} new" + (
            f" ({', '.join(fresh[:4])}{', ...' if fresh[4:] else ''})." if fresh else "."
        )
    if run.average is not run.network:
        run.average.load_state_dict(run.network.state_dict())
    return kept


def score_and_keep(job: Job, run: Run, bar: ProgressBar) -> None:
    """Score the average on val, write last/, and best/ if it is the best so far."""
    if job.fabric.is_global_zero:
        scored = math.nan
        if job.validation is not None:
            scored = quick_mean_iou(job, run, job.validation)
            bar.say(f"step {run.step}: val mIoU {100 * scored:.1f}")
        save_checkpoint(job.out / "last", run.average, job.config)
        if job.validation is None or scored > run.best:
            run.best = scored
            save_checkpoint(job.out / "best", run.average, job.config)
        write_log(job, run, scored)
    job.fabric.barrier()


def quick_mean_iou(job: Job, run: Run, validation: Dataset) -> float:
    """Mean IoU on val, or on evenly spread pictures of it."""
    total = len(validation)
    count = min(total, job.recipe.val_pictures or total)
    was_training = run.average.training
    run.average.eval()
    predictor = Predictor(run.average, job.config, job.fabric.device)
    matrix = ConfusionMatrix.empty(len(job.config.classes))
    for index in np.linspace(0, total - 1, count).round().astype(int):
        sample = validation[int(index)]
        matrix = matrix.add(predictor(sample.image).label_map, sample.label_map)
    run.average.train(was_training)
    return matrix.mean_iou


def write_log(job: Job, run: Run, scored: float = math.nan) -> None:
    """Add a line to the log and write log.csv anew, whole."""
    steps = len(run.recent)
    run.log.append(
        {
            "step": float(run.step),
            "loss": sum(loss for loss, _ in run.recent) / steps,
            "learning_rate": job.recipe.learning_rate * rate_factor(run.step - 1, job.recipe),
            "images_per_second": steps
            * job.pictures_per_step
            / sum(seconds for _, seconds in run.recent),
            "mean_iou": scored,
        }
    )
    run.recent.clear()
    if job.fabric.is_global_zero:
        write_table(job.out / "log.csv", run.log)
        if job.recipe.tensorboard:
            _write_events(job.out / "tensorboard", run.log[-1])


def write_table(path: Path, log: Iterable[Mapping[str, int | float]]) -> None:
    """Write the lines of a log as CSV; what was not measured stays empty."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(LOG_COLUMNS)
    for row in log:
        writer.writerow(["" if math.isnan(row[c]) else f"{row[c]:.6g}" for c in LOG_COLUMNS])
    write_text(path, table.getvalue())


def save(job: Job, run: Run) -> None:
    """Write state.pt, from which the run goes on bit for bit."""
    if job.fabric.is_global_zero:
        save_state(job.out / "state.pt", run.state(job.recipe))
    job.fabric.barrier()


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
    trained, optimizer = job.fabric.setup(network, build_optimizer(network, recipe))
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


def finish(job: Job, run: Run) -> Evaluation | None:
    """Draw the curve, score best/ on the whole of val, and write that into its model card."""
    if not job.fabric.is_global_zero:
        return None
    with written_whole(job.out / "curve.png") as temporary:
        draw.curve_picture(run.log, temporary)
    if job.validation is None:
        return None
    best = load_checkpoint(job.out / "best")
    predictor = Predictor(best.network.to(job.fabric.device), best.config, job.fabric.device)
    evaluation = evaluate(predictor, job.validation, quiet=job.quiet)
    trained = (
        f"{len(job.training)} pictures of `{Path(job.recipe.data).name}`, {run.step} steps of "
        f"{job.pictures_per_step} crops of {job.recipe.crop_size} pixels"
    )
    write_text(job.out / "best" / "README.md", model_card(best, trained, evaluation))
    return evaluation


def model_card(checkpoint: Checkpoint, trained: str, evaluation: Evaluation) -> str:
    """README.md of a checkpoint: what it is, how it was trained, what it reached.

    Args:
        checkpoint: The network.
        trained: On what and how long, as the beginning of a sentence.
        evaluation: Its scores.
    """
    config = checkpoint.config
    parameters = sum(p.numel() for p in checkpoint.network.parameters())
    return f"""---
library_name: deconvnet
pipeline_tag: image-segmentation
---
# {config.model}, {len(config.classes)} classes

{parameters / 1e6:.2f} M parameters, width {config.options["width"]:g}.
Classes: {", ".join(config.classes.names)}.

## Use

```
deconvnet predict CHECKPOINT PICTURE --out DIR
```

## Training

{trained}; the settings are in config.json.

## Scores

Measured by `deconvnet evaluate` with its defaults, in percent:

```
{evaluation.to_text()}
```
"""


def _check_tensorboard(recipe: Recipe) -> None:
    """Refuse a recipe that wants TensorBoard where it is not installed.

    Raises:
        MissingExtraError: If so.
    """
    if recipe.tensorboard and find_spec("tensorboard") is None:
        raise MissingExtraError("The setting tensorboard", "tensorboard")


def _write_events(folder: Path, row: Mapping[str, float]) -> None:
    """Add a line of the log to TensorBoard's events."""
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder)) as writer:
        for name, value in row.items():
            if name != "step" and not math.isnan(value):
                writer.add_scalar(name, value, int(row["step"]))


def _channels_last(network: nn.Module) -> nn.Module:
    """The network with its weights laid out as CPUs and GPUs read them fastest."""
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in torch's stubs


def _peak_memory() -> float:
    """Most bytes this process has held so far."""
    import resource  # absent on Windows

    unit = 1 if sys.platform == "darwin" else 1024
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * unit


def _open(recipe: Recipe, split: str) -> Dataset:
    """A split of the recipe's data set.

    Raises:
        RecipeError: If mask_values are no numbers.
    """
    given = recipe.mask_values
    if given is not None and not all(value.strip().isdecimal() for value in given.split(",")):
        raise RecipeError(
            f"mask_values is '{given}'; give the number of each class, such as 0,255."
        )
    values = None if given is None else [int(value) for value in given.split(",")]
    return open_dataset(recipe.data, split, format=recipe.format, mask_values=values)


def _validation(recipe: Recipe, *, quiet: bool) -> Dataset | None:
    """The val split, or none where the data set has none."""
    try:
        return _open(recipe, "val")
    except DataError as error:
        say(f"Training goes on without scores on val: {error}", quiet=quiet)
        return None


def _check_data(training: Dataset, validation: Dataset | None) -> None:
    """Refuse data that would fail hours later.

    Raises:
        DataError: With the first problem found, and how many more there are.
    """
    for dataset in (training, validation):
        problems = (
            [p for p in check_dataset(dataset) if p.severity == "error"] if dataset else []
        )
        if problems:
            more = f" ({len(problems) - 1} more: deconvnet check-data)" if problems[1:] else ""
            raise DataError(f"{problems[0].sentence}{more}")


def _class_weights(recipe: Recipe, training: Dataset) -> Tensor | None:
    if recipe.class_weights == "none":
        return None
    weights = torch.from_numpy(median_frequency_weights(class_statistics(training))).float()
    return weights.sqrt() if recipe.class_weights == "root_median" else weights


def _loss(logits: Tensor, labels: Tensor, pixel_weights: list[Tensor], job: Job) -> Tensor:
    """The recipe's sum of losses on one batch."""
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

"""What a training run leaves behind: scores, checkpoints, a log, a curve, a model card."""

import csv
import io
import math
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from deconvnet import draw
from deconvnet.checkpoint import (
    Checkpoint,
    load_checkpoint,
    save_checkpoint,
    save_state,
)
from deconvnet.data import Dataset
from deconvnet.data.joined import short_name
from deconvnet.evaluate import Evaluation, evaluate, remember
from deconvnet.familiarity import LEAST_PICTURES
from deconvnet.files import write_text, written_whole
from deconvnet.metrics import ConfusionMatrix
from deconvnet.predict import Predictor
from deconvnet.progress import ProgressBar
from deconvnet.training.job import Job, Run
from deconvnet.training.solver import rate_factor

LOG_COLUMNS = ("step", "loss", "learning_rate", "images_per_second", "mean_iou")


def score_and_keep(job: Job, run: Run, bar: ProgressBar) -> None:
    """Score the average on val, write last/, and best/ if it is the best so far."""
    scored = math.nan

    def score() -> None:
        nonlocal scored
        if job.validation is not None:
            scored = quick_mean_iou(job, run, job.validation)
            bar.say(f"step {run.step}: val mIoU {100 * scored:.1f}")
        save_checkpoint(job.out / "last", run.average, job.config)
        first = not (job.out / "best" / "model.safetensors").exists()
        if job.validation is None or first or scored > run.best:
            run.best = run.best if math.isnan(scored) else scored
            save_checkpoint(job.out / "best", run.average, job.config)

    job.by_first(score)
    scored, run.best = job.fabric.broadcast((scored, run.best))
    write_log(job, run, scored)


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

    def write() -> None:
        write_table(job.out / "log.csv", run.log)
        if job.recipe.tensorboard:
            _write_events(job.out / "tensorboard", run.log[-1])

    job.by_first(write)


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
    job.by_first(lambda: save_state(job.out / "state.pt", run.state(job.recipe, job.fabric)))


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
    if len(evaluation.traits) >= LEAST_PICTURES:
        remember(job.out / "best", evaluation, job.training)
    trained = (
        f"{len(job.training)} pictures of `{short_name(job.recipe.data)}`, {run.step} steps of "
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


def _write_events(folder: Path, row: Mapping[str, float]) -> None:
    """Add a line of the log to TensorBoard's events."""
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder)) as writer:
        for name, value in row.items():
            if name != "step" and not math.isnan(value):
                writer.add_scalar(name, value, int(row["step"]))

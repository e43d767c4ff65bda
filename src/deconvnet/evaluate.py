"""Scores of a network on a whole data set."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isnan, nan
from pathlib import Path
from typing import Any

import numpy as np

from deconvnet.checkpoint import BUNDLED, Config, find_checkpoint
from deconvnet.data import Dataset
from deconvnet.data.light import LIGHTS, in_light
from deconvnet.errors import CheckpointError, DataError, RecipeError
from deconvnet.familiarity import LEAST_PICTURES, Familiarity, traits
from deconvnet.files import is_dir, write_text
from deconvnet.labels import Classes
from deconvnet.metrics import Calibration, Scores
from deconvnet.predict import Predictor, Segmentation
from deconvnet.progress import tracked

REMEMBERED = 200
"""Training pictures that are looked at for what they are like."""


@dataclass(frozen=True)
class Evaluation:
    """What a network reached, and on what."""

    scores: Scores
    classes: Classes
    split: str
    calibration: Calibration | None = None
    """Confidence against accuracy; none if a picture was segmented in tiles."""
    traits: Sequence[Mapping[str, float]] = ()
    """What each picture is like (deconvnet.familiarity)."""
    light: str | None = None
    """In which light the pictures were put (deconvnet.data.light); none: as they are."""

    def to_json(self) -> dict[str, Any]:
        """The scores, 0 to 1, by name; none where a score does not exist."""
        error = nan if self.calibration is None else self.calibration.expected_calibration_error
        return {
            **self.scores.to_json(self.classes.names),
            "expected_calibration_error": None if isnan(error) else error,
            "split": self.split,
            **({"light": self.light} if self.light else {}),
        }

    def to_text(self) -> str:
        """The scores as a table for people, in percent."""
        values = self.to_json()
        light = f", made {self.light}" if self.light else ""
        lines = [f"{values['images']} pictures of split {self.split}{light}", ""]
        lines += [f"  {name:<16} {_percent(iou)}" for name, iou in values["iou"].items()]
        lines += ["", f"mIoU               {_percent(values['mean_iou'])}"]
        for name, label in (
            ("pixel_accuracy", "pixel accuracy"),
            ("mean_accuracy", "mean accuracy"),
            ("frequency_weighted_iou", "fw IoU"),
            ("boundary_f1", "boundary F1"),
            ("expected_calibration_error", "calibration error"),
        ):
            lines.append(f"{label:<18} {_percent(values[name])}")
        bands = "  ".join(
            f"{band} {_percent(iou).strip()}" for band, iou in values["iou_by_size"].items()
        )
        return "\n".join([*lines, f"IoU by object size {bands}"])


def evaluate(
    predictor: Predictor,
    dataset: Dataset,
    *,
    quiet: bool = False,
    segment: Callable[[np.ndarray], Segmentation] | None = None,
    light: str | None = None,
) -> Evaluation:
    """Segment every picture of a data set and score the results.

    Args:
        predictor: The network.
        dataset: Pictures and truth.
        quiet: Show no progress.
        segment: How to segment a picture; the predictor with its defaults if not given.
        light: A name in deconvnet.data.light.LIGHTS: the pictures are put in it first.

    Raises:
        DataError: If there is no such light, or the network and the data set do not have the
            same number of classes.
    """
    check_classes(predictor.classes, dataset.classes)
    if light is not None and light not in LIGHTS:
        raise DataError(f"There is no light '{light}'; take one of {', '.join(LIGHTS)}.")
    segment = segment or predictor
    scores = Scores.empty(len(dataset.classes), background=dataset.classes.background)
    calibration: Calibration | None = Calibration.empty()
    seen: list[dict[str, float]] = []
    for index in tracked(range(len(dataset)), "evaluate", len(dataset), quiet=quiet):
        sample = dataset[index]
        image = sample.image if light is None else in_light(sample.image, LIGHTS[light])
        segmentation = segment(image)
        scores = scores.add(segmentation.label_map, sample.label_map, sample.instance_map)
        probabilities = segmentation.probabilities
        seen.append(traits(image, probabilities))
        if probabilities is None:
            calibration = None
        elif calibration is not None:
            calibration = calibration.add(probabilities, sample.label_map)
    return Evaluation(scores, dataset.classes, dataset.split, calibration, seen, light)


def refuse_training_split(split: str) -> None:
    """Refuse to score a network on what it has learned by heart.

    Raises:
        RecipeError: If the split is one to train on.
    """
    if split.startswith("train"):
        raise RecipeError(
            f"The split '{split}' holds the pictures that networks are trained on, so its "
            "scores say little about new ones; take --split val, or insist with --yes."
        )


def calibration_of(evaluation: Evaluation) -> Calibration:
    """The calibration of a network that was evaluated.

    Raises:
        DataError: If it was not measured.
    """
    if evaluation.calibration is None:
        raise DataError(
            "There are no probabilities of pictures that are segmented in tiles, so how sure "
            "the network is cannot be drawn; leave out --tile, or give smaller pictures."
        )
    return evaluation.calibration


def remember(
    checkpoint: str | Path, evaluation: Evaluation, training: Dataset | None = None
) -> None:
    """Note in a checkpoint what the pictures are like that it was trained for.

    `predict` then says of a picture when it is unlike them. How sure the network is of a
    picture it has not learned comes from the evaluation; up to REMEMBERED pictures of the
    training data, evenly spread, are looked at too.

    Raises:
        DataError: If they are too few for that.
        CheckpointError: If there is no such checkpoint.
    """
    seen = list(evaluation.traits)
    if training is not None:
        count = min(len(training), REMEMBERED)
        for index in np.linspace(0, len(training) - 1, count).round().astype(int):
            seen.append(traits(training[int(index)].image))
    known = Familiarity.of(seen)
    if known is None:
        raise DataError(
            f"What pictures are like needs {LEAST_PICTURES} of them or more, and there are "
            f"{len(seen)}; evaluate on more."
        )
    path = find_checkpoint(checkpoint) / "config.json"
    config = Config.from_json(path.read_text(encoding="utf-8"), str(path))
    write_text(path, replace(config, familiarity=known).to_json())


def own_checkpoint(checkpoint: str | Path) -> Path:
    """The folder of a checkpoint that may be changed.

    Raises:
        CheckpointError: If there is none, or it belongs to the package or the Hub's cache.
    """
    folder = find_checkpoint(checkpoint)
    if is_dir(Path(checkpoint)) and BUNDLED not in folder.resolve().parents:
        return folder
    raise CheckpointError(
        f"{checkpoint} is no folder of your own, and what its pictures are like would be noted "
        f"for everyone who uses it here; copy {folder} and give the copy."
    )


def check_classes(network: Classes, data: Classes) -> None:
    """Refuse a data set whose classes are not the network's.

    Raises:
        DataError: If their numbers differ, or a class of both stands at another place.
    """
    if any(data.names.index(n) != i for i, n in enumerate(network.names) if n in data.names):
        raise DataError(
            f"The network has the classes in the order {', '.join(network.names[:4])}, ... and "
            f"the data set in the order {', '.join(data.names[:4])}, ..., so a number means "
            "other things here and there; give data in the order that the network learned."
        )
    if len(network) != len(data):
        raise DataError(
            f"The network tells apart {len(network)} classes ({', '.join(network.names[:4])}, "
            f"...) and the data set has {len(data)} ({', '.join(data.names[:4])}, ...); "
            "give the data it was trained for, or train a network on this data."
        )


def _percent(score: float | None) -> str:
    return "    –" if score is None else f"{100 * score:5.1f}"

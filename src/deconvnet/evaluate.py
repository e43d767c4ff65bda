"""Scores of a network on a whole data set."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from deconvnet.data import Dataset
from deconvnet.errors import DataError
from deconvnet.labels import Classes
from deconvnet.metrics import Scores
from deconvnet.predict import Predictor, Segmentation
from deconvnet.progress import tracked


@dataclass(frozen=True)
class Evaluation:
    """What a network reached, and on what."""

    scores: Scores
    classes: Classes
    split: str

    def to_json(self) -> dict[str, Any]:
        """The scores, 0 to 1, by name; none where a score does not exist."""
        return {**self.scores.to_json(self.classes.names), "split": self.split}

    def to_text(self) -> str:
        """The scores as a table for people, in percent."""
        values = self.to_json()
        lines = [f"{values['images']} pictures of split {self.split}", ""]
        lines += [f"  {name:<16} {_percent(iou)}" for name, iou in values["iou"].items()]
        lines += ["", f"mIoU               {_percent(values['mean_iou'])}"]
        for name, label in (
            ("pixel_accuracy", "pixel accuracy"),
            ("mean_accuracy", "mean accuracy"),
            ("frequency_weighted_iou", "fw IoU"),
            ("boundary_f1", "boundary F1"),
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
) -> Evaluation:
    """Segment every picture of a data set and score the results.

    Args:
        predictor: The network.
        dataset: Pictures and truth.
        quiet: Show no progress.
        segment: How to segment a picture; the predictor with its defaults if not given.

    Raises:
        DataError: If the network and the data set do not have the same number of classes.
    """
    check_classes(predictor.classes, dataset.classes)
    segment = segment or predictor
    scores = Scores.empty(len(dataset.classes), background=dataset.classes.background)
    for index in tracked(range(len(dataset)), "evaluate", len(dataset), quiet=quiet):
        sample = dataset[index]
        label_map = segment(sample.image).label_map
        scores = scores.add(label_map, sample.label_map, sample.instance_map)
    return Evaluation(scores, dataset.classes, dataset.split)


def check_classes(network: Classes, data: Classes) -> None:
    """Refuse a data set whose classes are not the network's.

    Raises:
        DataError: If their numbers differ.
    """
    if len(network) != len(data):
        raise DataError(
            f"The network tells apart {len(network)} classes ({', '.join(network.names[:4])}, "
            f"...) and the data set has {len(data)} ({', '.join(data.names[:4])}, ...); "
            "give the data it was trained for, or train a network on this data."
        )


def _percent(score: float | None) -> str:
    return "    –" if score is None else f"{100 * score:5.1f}"

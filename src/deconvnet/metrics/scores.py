"""Everything that `evaluate` reports, gathered picture by picture."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import ArrayLike

from deconvnet.errors import LabelError, ShapeError
from deconvnet.labels import IGNORED
from deconvnet.metrics.boundary import boundary_f1
from deconvnet.metrics.confusion import ConfusionMatrix, mean_of_present
from deconvnet.metrics.object_size import SizeBands


@dataclass(frozen=True, eq=False)
class Scores:
    """All scores over a data set, as one value that grows by one picture at a time.

    IoU and accuracies come from pixels of the whole data set; boundary F1 is a mean over
    pictures, each the mean over the classes present in it.

    >>> scores = Scores.empty(2).add([[0, 1], [0, 1]], [[0, 1], [0, 1]])
    >>> scores.to_json(["cat", "dog"])["iou"]
    {'cat': 1.0, 'dog': 1.0}
    """

    confusion: ConfusionMatrix
    sizes: SizeBands
    boundary_sum: float = 0.0
    """Sum of the pictures' boundary F1."""
    boundary_images: int = 0
    """Pictures with a boundary F1: those with a counted pixel."""
    images: int = 0
    background: int | None = None
    """The class that is no object, for the IoU by object size."""

    @classmethod
    def empty(cls, num_classes: int, *, background: int | None = None) -> "Scores":
        """Nothing counted yet."""
        return cls(
            ConfusionMatrix.empty(num_classes),
            SizeBands.empty(num_classes),
            background=background,
        )

    def add(
        self,
        predicted: ArrayLike,
        target: ArrayLike,
        instance_map: ArrayLike | None = None,
        *,
        ignored: int = IGNORED,
    ) -> "Scores":
        """These scores and one more picture.

        Args:
            predicted: Class of each pixel, (height, width).
            target: True class of each pixel, of the same shape.
            instance_map: Object of each pixel, from 1; 0 for none. Components without it.
            ignored: The true label whose pixels count nowhere.

        Raises:
            ShapeError: When the shapes differ or are not (height, width).
            LabelError: When a counted pixel holds no class.
        """
        num_classes = len(self.confusion.counts)
        boundary = mean_of_present(boundary_f1(predicted, target, num_classes, ignored=ignored))
        counts = not math.isnan(boundary)
        return Scores(
            self.confusion.add(predicted, target, ignored),
            self.sizes.add(
                predicted, target, instance_map, background=self.background, ignored=ignored
            ),
            self.boundary_sum + (boundary if counts else 0.0),
            self.boundary_images + counts,
            self.images + 1,
            self.background,
        )

    def __add__(self, other: "Scores") -> "Scores":
        if self.background != other.background:
            raise ShapeError(
                f"Scores with the background classes {self.background} and {other.background} "
                "cannot be added; count both with the same one."
            )
        return Scores(
            self.confusion + other.confusion,
            self.sizes + other.sizes,
            self.boundary_sum + other.boundary_sum,
            self.boundary_images + other.boundary_images,
            self.images + other.images,
            self.background,
        )

    @property
    def boundary_f1(self) -> float:
        """Mean over pictures of the mean over the classes present, 0 to 1."""
        return self.boundary_sum / self.boundary_images if self.boundary_images else math.nan

    def to_json(self, class_names: Sequence[str]) -> dict[str, Any]:
        """The scores, 0 to 1, under the names of `evaluate --json`; None where there is none.

        Raises:
            LabelError: When the names are not as many as the classes.
        """
        matrix = self.confusion
        if len(class_names) != len(matrix.counts):
            raise LabelError(
                f"{len(class_names)} class names came for {len(matrix.counts)} classes; "
                "give one for each."
            )
        return {
            "mean_iou": _or_none(matrix.mean_iou),
            "pixel_accuracy": _or_none(matrix.pixel_accuracy),
            "mean_accuracy": _or_none(matrix.mean_accuracy),
            "frequency_weighted_iou": _or_none(matrix.frequency_weighted_iou),
            "boundary_f1": _or_none(self.boundary_f1),
            "iou": {
                name: _or_none(float(iou))
                for name, iou in zip(class_names, matrix.iou, strict=True)
            },
            "iou_by_size": self.sizes.iou_by_size,
            "images": self.images,
        }


def _or_none(score: float) -> float | None:
    """JSON has no NaN."""
    return None if math.isnan(score) else score

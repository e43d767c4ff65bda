"""The confusion matrix and the scores that follow from it."""

import warnings
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64
from numpy.typing import ArrayLike

from deconvnet.errors import ShapeError
from deconvnet.labels import IGNORED
from deconvnet.metrics.label_pairs import label_pair


@dataclass(frozen=True, eq=False)
class ConfusionMatrix:
    """Pixels counted by true and predicted class, over a whole data set.

    Absent classes, one rule for every score: a class that neither the truth nor the prediction
    holds has no score (NaN) and is left out of the means; a class that is predicted but not in
    the truth has an IoU of 0 and counts. Accuracies look at the truth alone, so there a class
    absent from the truth is NaN and left out. With nothing counted, every score is NaN.

    Source: Long, Shelhamer & Darrell 2015, section 5, "Metrics".

    >>> matrix = ConfusionMatrix.empty(3).add([[0, 0, 1]], [[0, 1, 255]])
    >>> matrix.counts.tolist()
    [[1, 0, 0], [1, 0, 0], [0, 0, 0]]
    >>> matrix.iou.tolist(), matrix.mean_iou
    ([0.5, 0.0, nan], 0.25)
    """

    counts: Int64[np.ndarray, "k k"]
    """Pixels of each true class (row) that were predicted as each class (column)."""

    @classmethod
    def empty(cls, num_classes: int) -> "ConfusionMatrix":
        """Nothing counted yet."""
        return cls(np.zeros((num_classes, num_classes), dtype=np.int64))

    def add(
        self, predicted: ArrayLike, target: ArrayLike, ignored: int = IGNORED
    ) -> "ConfusionMatrix":
        """This matrix and the pixels of one more picture, or batch of them.

        Args:
            predicted: Class of each pixel, of any shape.
            target: True class of each pixel, of the same shape.
            ignored: The true label whose pixels count nowhere.

        Raises:
            ShapeError: When the shapes differ, or the values are not whole numbers.
            LabelError: When a counted pixel holds no class.
        """
        num_classes = len(self.counts)
        pair = label_pair(predicted, target, num_classes=num_classes, ignored=ignored)
        cells = pair.target[pair.counted].astype(np.int64) * num_classes
        cells += pair.predicted[pair.counted].astype(np.int64)
        added = np.bincount(cells, minlength=num_classes**2)
        return ConfusionMatrix(self.counts + added.reshape(num_classes, num_classes))

    def __add__(self, other: "ConfusionMatrix") -> "ConfusionMatrix":
        if len(self.counts) != len(other.counts):
            raise ShapeError(
                f"Confusion matrices of {len(self.counts)} and {len(other.counts)} classes "
                "cannot be added; count both with the same classes."
            )
        return ConfusionMatrix(self.counts + other.counts)

    @property
    def iou(self) -> Float64[np.ndarray, " k"]:
        """Intersection over union of each class, 0 to 1; NaN for one that occurs nowhere."""
        union = self._true_pixels + self.counts.sum(axis=0) - self._hits
        return ratio(self._hits, union)

    @property
    def mean_iou(self) -> float:
        """Mean over the classes that occur in truth or prediction, 0 to 1."""
        return mean_of_present(self.iou)

    @property
    def pixel_accuracy(self) -> float:
        """Share of the counted pixels that are right."""
        return float(ratio(self._hits.sum(), self.counts.sum()))

    @property
    def class_accuracy(self) -> Float64[np.ndarray, " k"]:
        """Share of each true class that is found; NaN for a class absent from the truth."""
        return ratio(self._hits, self._true_pixels)

    @property
    def mean_accuracy(self) -> float:
        """Mean of `class_accuracy` over the classes of the truth."""
        return mean_of_present(self.class_accuracy)

    @property
    def frequency_weighted_iou(self) -> float:
        """IoU of the classes of the truth, each weighted by its share of the true pixels."""
        weighted = self._true_pixels * np.nan_to_num(self.iou)
        return float(ratio(weighted.sum(), self._true_pixels.sum()))

    @property
    def _hits(self) -> Int64[np.ndarray, " k"]:
        hits: Int64[np.ndarray, " k"] = np.diagonal(self.counts)
        return hits

    @property
    def _true_pixels(self) -> Int64[np.ndarray, " k"]:
        true_pixels: Int64[np.ndarray, " k"] = self.counts.sum(axis=1)
        return true_pixels


def ratio(part: ArrayLike, whole: ArrayLike) -> Float64[np.ndarray, "*shape"]:
    """Part by whole; NaN, without a warning, where the whole is 0."""
    parts, wholes = np.asarray(part, dtype=np.float64), np.asarray(whole, dtype=np.float64)
    ratios: Float64[np.ndarray, "*shape"] = np.full(wholes.shape, np.nan)
    np.divide(parts, wholes, out=ratios, where=wholes > 0)
    return ratios


def mean_of_present(scores: Float64[np.ndarray, "*shape"]) -> float:
    """Mean of what is not NaN; NaN when nothing is."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # "Mean of empty slice"
        return float(np.nanmean(scores))

"""How sure a score is: intervals from drawing the pictures again, with replacement.

Networks are compared in pairs: each draw takes the same pictures for all of them, so what makes
a picture hard for every network cancels out of their difference.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int64

from deconvnet.errors import ShapeError
from deconvnet.metrics.confusion import ratio
from deconvnet.metrics.object_size import BANDS
from deconvnet.metrics.scores import Scores

SUMMARIES = (
    "mean_iou",
    "pixel_accuracy",
    "mean_accuracy",
    "frequency_weighted_iou",
    "boundary_f1",
)
"""The scores that are one number each, as `evaluate --json` names them."""

LEVEL = 0.95
"""Share of the draws that an interval holds."""


class Interval(NamedTuple):
    """A score and the range that most draws of the pictures give; NaN where there is none."""

    value: float
    low: float
    high: float

    @property
    def is_beside_zero(self) -> bool:
        """Whether all of it lies on one side of 0, as of a difference that is no accident."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True, eq=False)
class PictureCounts:
    """What one network got right and wrong in each of n pictures, ready to be added up."""

    true: Int64[np.ndarray, "n k"]
    """Counted pixels of each true class."""
    predicted: Int64[np.ndarray, "n k"]
    """Counted pixels of each predicted class."""
    hits: Int64[np.ndarray, "n k"]
    """Pixels of each class that are right."""
    bands: Int64[np.ndarray, "n 3 k 3"]
    """Hits, misses and wrong pixels, of each class and size of object (SizeBands)."""
    boundary: Float64[np.ndarray, " n"]
    """Boundary F1; NaN for a picture without a counted pixel."""

    @classmethod
    def of(cls, pictures: Sequence[Scores]) -> "PictureCounts":
        """From the scores of the pictures, each with one picture in it.

        Raises:
            ShapeError: When there is no picture, or a score holds several.
        """
        if not pictures or any(scores.images != 1 for scores in pictures):
            raise ShapeError(
                f"{len(pictures)} scores were given, of {sum(s.images for s in pictures)} "
                "pictures; give one for each picture, and one at least."
            )
        matrices = np.stack([scores.confusion.counts for scores in pictures])
        sizes = [scores.sizes for scores in pictures]
        return cls(
            matrices.sum(axis=2),
            matrices.sum(axis=1),
            np.diagonal(matrices, axis1=1, axis2=2),
            np.stack([np.stack([size.hits, size.misses, size.wrong]) for size in sizes]),
            np.array([scores.boundary_f1 for scores in pictures]),
        )

    def scores(self, times: Int64[np.ndarray, "d n"]) -> Float64[np.ndarray, "d s"]:
        """Every score of d data sets made from these pictures, all at once.

        Args:
            times: How often each data set holds each picture.

        Returns:
            The columns are SUMMARIES, the IoU of each class, and that of each of BANDS, each
            as Scores defines it; NaN where a data set has none.
        """
        weights = times.astype(np.float64)  # exact below 2**53 pixels, and a fast product
        true, predicted, hits = (
            weights @ counts for counts in (self.true, self.predicted, self.hits)
        )
        iou = ratio(hits, true + predicted - hits)
        columns = np.stack(
            [
                _mean_of_rows(iou),
                ratio(hits.sum(axis=1), true.sum(axis=1)),
                _mean_of_rows(ratio(hits, true)),
                ratio((true * np.nan_to_num(iou)).sum(axis=1), true.sum(axis=1)),
                ratio(weights @ np.nan_to_num(self.boundary), weights @ self._has_boundary),
            ],
            axis=1,
        )
        found, missed, wrong = np.moveaxis(np.tensordot(weights, self.bands, axes=1), 1, 0)
        band_iou = np.where(found + missed > 0, ratio(found, found + missed + wrong), np.nan)
        by_size = np.stack([_mean_of_rows(band_iou[..., band]) for band in range(3)], axis=1)
        return np.hstack([columns, iou, by_size])

    @property
    def each_mean_iou(self) -> Float64[np.ndarray, " n"]:
        """Mean IoU of each picture alone, over the classes in it."""
        return _mean_of_rows(ratio(self.hits, self.true + self.predicted - self.hits))

    @property
    def _has_boundary(self) -> Float64[np.ndarray, " n"]:
        return (~np.isnan(self.boundary)).astype(np.float64)


def resampled(pictures: int, draws: int, seed: int) -> Int64[np.ndarray, "d n"]:
    """How often each picture is in each of `draws` data sets drawn with replacement.

    Each data set has as many pictures as the first one had.
    """
    generator = np.random.default_rng(seed)
    even = np.full(pictures, 1 / pictures)
    return generator.multinomial(pictures, even, size=draws).astype(np.int64)


def intervals(
    scores: Float64[np.ndarray, " s"], draws: Float64[np.ndarray, "d s"], level: float = LEVEL
) -> list[Interval]:
    """The percentile interval of each score: the middle `level` of its draws.

    They are a little too narrow where pictures are few (of 20 pictures, 93 % of them hold the
    true score where 95 % should), and say nothing about another training of the network.

    Args:
        scores: Of the data set itself, or differences of two networks' scores.
        draws: The same of each draw; draws without a score (NaN) are left out.
        level: 0 to 1.

    Source: Efron & Tibshirani 1993, chapter 13, percentile intervals.
    """
    tail = (1 - level) / 2
    made = []
    for score, column in zip(scores, draws.T, strict=True):
        low, high = _quantiles(column[~np.isnan(column)], tail)
        made.append(Interval(float(score), low, high))
    return made


def score_names(class_names: Sequence[str]) -> list[str]:
    """The names of the columns of `PictureCounts.scores`; classes as iou.NAME.

    >>> score_names(["cat"])[-4:]
    ['iou.cat', 'iou_by_size.small', 'iou_by_size.medium', 'iou_by_size.large']
    """
    classes = [f"iou.{name}" for name in class_names]
    return [*SUMMARIES, *classes, *(f"iou_by_size.{band}" for band in BANDS)]


def _mean_of_rows(values: Float64[np.ndarray, "d k"]) -> Float64[np.ndarray, " d"]:
    """Mean of what is not NaN in each row; NaN when nothing is."""
    present = ~np.isnan(values)
    return ratio(np.where(present, values, 0).sum(axis=1), present.sum(axis=1))


def _quantiles(values: Float64[np.ndarray, " d"], tail: float) -> tuple[float, float]:
    if not len(values):
        return np.nan, np.nan
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)

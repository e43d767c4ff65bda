"""IoU by object size: the paper's claim about fixed receptive fields, as a number."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int8, Int64, Integer
from numpy.typing import ArrayLike

from deconvnet.errors import ShapeError
from deconvnet.labels import IGNORED
from deconvnet.metrics.confusion import mean_of_present, ratio
from deconvnet.metrics.label_pairs import label_pair, require_picture, whole_numbers

BANDS = ("small", "medium", "large")
"""Under 1 % of the picture's pixels; between; over 25 %."""


@dataclass(frozen=True, eq=False)
class SizeBands:
    """Pixels found, missed and made up, by class and size of the object they belong to.

    An object is one id of the instance map, or else one 8-connected component of one class, the
    background excluded. Hits and misses count in the band of the true object. A pixel that is
    wrongly given to a class counts, for that class, in the band of the predicted component it
    lies in; so it does when that component is mostly right, or finds an object of another band.

    What the sentence leaves open: pixels of a class without an id (0) in an instance map are
    grouped into components. A size is the whole extent, in parts of the whole picture: an id
    keeps the pixels that void covers, a predicted component those that lie over void. Void
    itself is never a hit, a miss or wrong; it belongs to no class, so it parts components of
    the truth that touch only across it.
    """

    hits: Int64[np.ndarray, "k 3"]
    """True positives, by class and band of the true object."""
    misses: Int64[np.ndarray, "k 3"]
    """False negatives, by class and band of the true object."""
    wrong: Int64[np.ndarray, "k 3"]
    """False positives, by class and band of the predicted component."""

    @classmethod
    def empty(cls, num_classes: int) -> "SizeBands":
        """Nothing counted yet."""
        nothing = np.zeros((num_classes, len(BANDS)), dtype=np.int64)
        return cls(nothing, nothing, nothing)

    def add(
        self,
        predicted: ArrayLike,
        target: ArrayLike,
        instance_map: ArrayLike | None = None,
        *,
        background: int | None = None,
        ignored: int = IGNORED,
    ) -> "SizeBands":
        """These counts and those of one more picture.

        Args:
            predicted: Class of each pixel, (height, width).
            target: True class of each pixel, of the same shape.
            instance_map: Object of each pixel, from 1; 0 for none. Components without it.
            background: The class that is no object, if there is one.
            ignored: The true label whose pixels count nowhere.

        Raises:
            ShapeError: When the shapes differ or are not (height, width).
            LabelError: When a counted pixel holds no class.
        """
        num_classes = len(self.hits)
        pair = label_pair(predicted, target, num_classes=num_classes, ignored=ignored)
        require_picture(pair)
        instance_bands = _instance_bands(instance_map, pair.target.shape)
        hits, misses, wrong = self.hits.copy(), self.misses.copy(), self.wrong.copy()
        for label in range(num_classes):
            mine = pair.counted & (pair.target == label)
            guessed = pair.predicted == label
            if label == background:
                continue
            if mine.any():
                loose = _component_bands(mine & (instance_bands < 0))
                true_bands = np.where(instance_bands < 0, loose, instance_bands)
                hits[label] += _count(true_bands[mine & guessed])
                misses[label] += _count(true_bands[mine & ~guessed])
            false = guessed & pair.counted & ~mine
            if false.any():
                wrong[label] += _count(_component_bands(guessed)[false])
        return SizeBands(hits, misses, wrong)

    def __add__(self, other: "SizeBands") -> "SizeBands":
        if len(self.hits) != len(other.hits):
            raise ShapeError(
                f"Counts of {len(self.hits)} and {len(other.hits)} classes cannot be added; "
                "count both with the same classes."
            )
        return SizeBands(
            self.hits + other.hits, self.misses + other.misses, self.wrong + other.wrong
        )

    @property
    def iou(self) -> Float64[np.ndarray, "k 3"]:
        """IoU of each class and band, 0 to 1; NaN where no true object is of that band."""
        objects = self.hits + self.misses
        iou: Float64[np.ndarray, "k 3"] = ratio(self.hits, objects + self.wrong)
        return np.where(objects > 0, iou, np.nan)

    @property
    def iou_by_size(self) -> dict[str, float | None]:
        """Mean over the classes with a true object in the band; None where there is none."""
        means = [mean_of_present(column) for column in self.iou.T]
        return {
            band: None if np.isnan(mean) else mean
            for band, mean in zip(BANDS, means, strict=True)
        }


def _bands(sizes: Int64[np.ndarray, " s"], pixels: int) -> Int8[np.ndarray, " s"]:
    """The band of each size: 0 small, 1 medium, 2 large; in whole numbers, so exact."""
    return ((sizes * 100 >= pixels).astype(np.int8) + (sizes * 4 > pixels)).astype(np.int8)


def _instance_bands(
    instance_map: ArrayLike | None, shape: tuple[int, ...]
) -> Int8[np.ndarray, "h w"]:
    """The band of the object at each pixel; -1 where there is none."""
    if instance_map is None:
        return np.full(shape, -1, dtype=np.int8)
    ids = whole_numbers(instance_map, "instance map")
    if ids.shape != shape:
        raise ShapeError(
            f"The instance map has the shape {ids.shape} and the target {shape}; "
            "both must be the same."
        )
    objects, which, sizes = np.unique(ids, return_inverse=True, return_counts=True)
    bands = np.where(objects > 0, _bands(sizes, ids.size), -1).astype(np.int8)
    return bands[which.reshape(shape)]


def _component_bands(mask: Bool[np.ndarray, "h w"]) -> Int8[np.ndarray, "h w"]:
    """The band of the 8-connected component at each pixel; -1 outside the mask."""
    from scipy.ndimage import label

    components, _ = label(mask, structure=np.ones((3, 3)))
    bands = _bands(np.bincount(components.ravel()), mask.size)
    bands[0] = -1  # the outside
    return bands[components]


def _count(bands: Integer[np.ndarray, " p"]) -> Int64[np.ndarray, " 3"]:
    """Pixels of each band."""
    return np.bincount(bands, minlength=len(BANDS))

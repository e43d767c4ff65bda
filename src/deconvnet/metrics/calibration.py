"""Whether the probabilities mean what they say."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64
from numpy.typing import ArrayLike

from deconvnet.errors import ShapeError
from deconvnet.labels import IGNORED
from deconvnet.metrics.confusion import ratio
from deconvnet.metrics.label_pairs import label_pair


@dataclass(frozen=True, eq=False)
class Calibration:
    """Confidence against accuracy, pixel by pixel, in bins of equal width.

    The confidence of a pixel is the probability of its most probable class; a bin holds its
    upper edge and not its lower one.

    Source: Guo, Pleiss, Sun & Weinberger 2017, section 2, equation (3).

    >>> sure_and_half_right = [[[0.9, 0.9]], [[0.1, 0.1]]]
    >>> calibration = Calibration.empty().add(sure_and_half_right, [[0, 1]])
    >>> round(calibration.expected_calibration_error, 3)
    0.4
    """

    pixels: Int64[np.ndarray, " bins"]
    """Counted pixels of each bin of confidence."""
    right: Int64[np.ndarray, " bins"]
    """Those whose most probable class is the true one."""
    confidence: Float64[np.ndarray, " bins"]
    """Sum of their confidences."""

    @classmethod
    def empty(cls, bins: int = 15) -> "Calibration":
        """Nothing counted yet; `bins` of equal width from 0 to 1."""
        nothing = np.zeros(bins, dtype=np.int64)
        return cls(nothing, nothing, np.zeros(bins))

    def add(
        self, probabilities: ArrayLike, target: ArrayLike, *, ignored: int = IGNORED
    ) -> "Calibration":
        """These counts and those of one more picture.

        Args:
            probabilities: (classes, height, width), 0 to 1.
            target: True class of each pixel, (height, width).
            ignored: The true label whose pixels count nowhere.

        Raises:
            ShapeError: When the shapes do not fit, or values lie outside 0 to 1.
            LabelError: When a counted pixel holds no class.
        """
        scores = np.asarray(probabilities)
        if not scores.size or not 0 <= scores.min() <= scores.max() <= 1.001:  # float16 rounds
            raise ShapeError(
                f"An array of shape {scores.shape} was given, with values that are no "
                "probabilities; calibration takes (classes, height, width) from 0 to 1, so "
                "apply softmax first."
            )
        guess = scores.argmax(axis=0)
        pair = label_pair(guess, target, num_classes=len(scores), ignored=ignored)
        sureness = np.take_along_axis(scores, guess[None], axis=0)[0][pair.counted].astype(
            float
        )
        correct = (guess == pair.target)[pair.counted]
        bins = len(self.pixels)
        which = np.clip(np.ceil(sureness * bins).astype(np.int64) - 1, 0, bins - 1)
        return Calibration(
            self.pixels + np.bincount(which, minlength=bins),
            self.right + np.bincount(which[correct], minlength=bins),
            self.confidence + np.bincount(which, weights=sureness, minlength=bins),
        )

    def __add__(self, other: "Calibration") -> "Calibration":
        if len(self.pixels) != len(other.pixels):
            raise ShapeError(
                f"Calibrations of {len(self.pixels)} and {len(other.pixels)} bins cannot be "
                "added; count both with the same number."
            )
        return Calibration(
            self.pixels + other.pixels,
            self.right + other.right,
            self.confidence + other.confidence,
        )

    @property
    def bin_confidence(self) -> Float64[np.ndarray, " bins"]:
        """Mean confidence of each bin; NaN of an empty one."""
        return ratio(self.confidence, self.pixels)

    @property
    def bin_accuracy(self) -> Float64[np.ndarray, " bins"]:
        """Share of each bin's pixels that are right; NaN of an empty one."""
        return ratio(self.right, self.pixels)

    @property
    def expected_calibration_error(self) -> float:
        """Mean over pixels of |accuracy - confidence| of their bin, 0 to 1; NaN of nothing."""
        return float(ratio(np.abs(self.right - self.confidence).sum(), self.pixels.sum()))

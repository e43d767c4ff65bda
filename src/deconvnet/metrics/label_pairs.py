"""A predicted and a true label map, checked before anything is counted."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Integer
from numpy.typing import ArrayLike

from deconvnet.errors import LabelError, ShapeError


class LabelPair(NamedTuple):
    """Two label maps of one shape, whose counted pixels hold classes of the network."""

    predicted: Integer[np.ndarray, "*shape"]
    target: Integer[np.ndarray, "*shape"]
    counted: Bool[np.ndarray, "*shape"]
    """Where the truth is known: the target is not the ignored label."""


def label_pair(
    predicted: ArrayLike, target: ArrayLike, *, num_classes: int, ignored: int
) -> LabelPair:
    """Check two label maps against each other and against the number of classes.

    What is predicted where the truth is ignored may be anything, the ignored label included.

    Raises:
        ShapeError: When the shapes differ, or the values are not whole numbers.
        LabelError: When a counted pixel holds no class.
    """
    guess, truth = whole_numbers(predicted, "prediction"), whole_numbers(target, "target")
    if guess.shape != truth.shape:
        raise ShapeError(
            f"The prediction has the shape {guess.shape} and the target {truth.shape}; "
            "both must be the same, so resize one of them (nearest neighbour, for labels)."
        )
    counted = np.asarray(truth != ignored)
    for name, labels in ("prediction", guess), ("target", truth):
        strange = counted & (labels >= num_classes)
        if labels.dtype.kind == "i":
            strange |= counted & (labels < 0)
        if strange.any():
            values = ", ".join(map(str, np.unique(labels[strange])[:5]))
            raise LabelError(
                f"The {name} holds the values {values}; there are {num_classes} classes, 0 to "
                f"{num_classes - 1}, and {ignored} in the target is ignored. Check the number "
                "of classes, or mark such pixels as ignored."
            )
    return LabelPair(guess, truth, counted)


def whole_numbers(labels: ArrayLike, name: str) -> Integer[np.ndarray, "*shape"]:
    """The labels as an array of integers.

    Raises:
        ShapeError: When they are fractions: probabilities, say, instead of classes.
    """
    array = np.asarray(labels)
    if array.dtype.kind == "b":
        return array.astype(np.uint8)
    if array.dtype.kind not in "iu":
        raise ShapeError(
            f"The {name} is of type {array.dtype}; labels are whole numbers. "
            "Take the argmax over the classes, or convert with astype(int)."
        )
    return array


def require_picture(pair: LabelPair) -> None:
    """Refuse batches where a score is defined on one picture.

    Raises:
        ShapeError: When the label maps are not (height, width).
    """
    if pair.target.ndim != 2:
        raise ShapeError(
            f"The label maps have the shape {pair.target.shape}; this score takes one picture "
            "at a time, (height, width)."
        )

"""Where a network is unsure: maps of doubt, 0 to 1, from its probabilities."""

from collections.abc import Iterable

import numpy as np

from deconvnet.errors import ShapeError
from deconvnet.shapes import Float32, Probabilities


def entropy(probabilities: Probabilities) -> Float32[np.ndarray, "h w"]:
    """Entropy of each pixel's probabilities, in parts of the largest there can be.

    0 where one class has it all, 1 where all are equally likely; 0 for a single class.

    >>> entropy(np.array([[[0.5, 1.0]], [[0.5, 0.0]]], np.float32)).tolist()
    [[1.0, 0.0]]
    """
    doubt = np.zeros(probabilities.shape[1:], np.float32)
    for share in probabilities:  # class by class: no second array of all of them
        doubt -= share * np.log(np.maximum(share, np.float32(1e-30)))
    doubt /= np.float32(np.log(max(len(probabilities), 2)))
    return doubt.clip(0, 1)


def deviation(
    samples: Iterable[Probabilities],
) -> tuple[Probabilities, Float32[np.ndarray, "h w"]]:
    """Mean of several answers about one picture, and how far they lie apart at each pixel.

    The doubt is the root of the classes' summed variances: 0 where all answers agree, towards 1
    where each is sure of another class.

    Args:
        samples: Probabilities, one answer after the other; only sums are kept.

    Raises:
        ShapeError: If there is no answer.

    Source: Kendall, Badrinarayanan & Cipolla 2015 (Bayesian SegNet), section 4: the variance of
    each class over samples of dropout, averaged over the classes. Differs: the root of the sum,
    so that the range is 0 to 1 for any number of classes; the order of the pixels is the same.

    >>> one, other = np.array([[[[1.0]], [[0.0]]], [[[0.0]], [[1.0]]]], np.float32)
    >>> print(f"{deviation([one, other])[1].item():.3f}")
    0.707
    """
    count, total, squares = 0, None, None
    for probabilities in samples:
        count += 1
        if total is None or squares is None:
            total, squares = probabilities.astype(np.float64), probabilities.astype(float) ** 2
        else:
            total += probabilities
            squares += probabilities.astype(np.float64) ** 2
    if total is None or squares is None:
        raise ShapeError("Doubt by samples needs at least one sample; none was given.")
    mean = total / count
    variance = (squares / count - mean**2).sum(axis=0)
    return mean.astype(np.float32), np.sqrt(variance.clip(0, 1)).astype(np.float32)

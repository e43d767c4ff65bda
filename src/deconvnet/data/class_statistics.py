"""How much of each class a data set holds, and what its classes should weigh."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from deconvnet.labels import IGNORED
from deconvnet.shapes import Float32, Int64


@dataclass(frozen=True)
class ClassStatistics:
    """How much of each class a data set holds; the arrays have an entry for each class."""

    pixels: Int64[np.ndarray, " k"]
    """Pixels of the class."""
    pictures: Int64[np.ndarray, " k"]
    """Pictures that contain it."""
    pixels_around: Int64[np.ndarray, " k"]
    """All pixels of these pictures, ignored ones too."""
    ignored: int
    """Pixels that count nowhere."""

    @property
    def ignored_share(self) -> float:
        """Share of all pixels that counts nowhere."""
        return self.ignored / max(self.ignored + int(self.pixels.sum()), 1)


def statistics_of(counts: Sequence[np.ndarray], num_classes: int) -> ClassStatistics:
    """The statistics of pictures whose labels were counted, 0 to 255 each."""
    table = np.array(counts, np.int64).reshape(-1, 256)
    pixels = table[:, :num_classes]
    whole = table.sum(axis=1, keepdims=True)
    return ClassStatistics(
        pixels=pixels.sum(axis=0),
        pictures=(pixels > 0).sum(axis=0),
        pixels_around=((pixels > 0) * whole).sum(axis=0),
        ignored=int(table[:, IGNORED].sum()),
    )


def median_frequency_weights(statistics: ClassStatistics) -> Float32[np.ndarray, " k"]:
    """Weights that make rare classes count: median frequency over the class's frequency.

    The frequency of a class is its share of the pixels of the pictures that contain it, ignored
    pixels among them. A class that never occurs gets 1.

    Source: Eigen & Fergus 2015, section 6.3.2, as SegNet uses it.
    """
    seen = statistics.pixels > 0
    frequency = statistics.pixels[seen] / statistics.pixels_around[seen]
    weights = np.ones(len(seen), np.float32)
    if seen.any():  # else no picture could be read
        weights[seen] = np.median(frequency) / frequency
    return weights

"""Several data sets of the same classes as one."""

import bisect
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deconvnet.data.sample import Dataset, Sample
from deconvnet.errors import DataError
from deconvnet.labels import Classes

JOINS = " + "
"""Between the names of data sets that are to be one. With its spaces, since a file name may
hold a plus, and the settings of drawn pictures do."""


def short_name(data: str) -> str:
    """A data set's folder without the path to it.

    >>> short_name("data/VOC2012 + /home/me/mine")
    'VOC2012 + mine'
    """
    return JOINS.join(Path(part).name for part in data.split(JOINS))


@dataclass(frozen=True)
class JoinedDataset:
    """The pictures of one data set after those of another.

    >>> from deconvnet.data import open_dataset
    >>> both = open_dataset("scenes:count=2,size=64 + scenes:count=3,size=96")
    >>> len(both), both[2].image.shape, both.names[2]
    (5, (96, 96, 3), '2/train/00000')
    """

    parts: tuple[Dataset, ...]

    def __post_init__(self) -> None:
        first = self.parts[0].classes
        for number, part in enumerate(self.parts[1:], start=2):
            if part.classes.names != first.names:
                raise DataError(
                    f"Data set {number} of those joined has the classes "
                    f"{_few(part.classes.names)} and the first has {_few(first.names)}; only "
                    "data sets of the same classes in the same order can be joined."
                )

    @property
    def classes(self) -> Classes:
        """Those of each part."""
        return self.parts[0].classes

    @property
    def split(self) -> str:
        """Train, val, test or the name of a list."""
        return self.parts[0].split

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the pictures after the number of their data set, from 1: 2/street/07."""
        numbered = enumerate(self.parts, start=1)
        return tuple(f"{number}/{name}" for number, part in numbered for name in part.names)

    def __len__(self) -> int:
        return sum(len(part) for part in self.parts)

    def __getitem__(self, index: int) -> Sample:
        """Read one picture and its masks.

        Raises:
            IndexError: If there is no such picture.
            UserError: As the data set does that it is from.
        """
        if not 0 <= index < len(self):
            raise IndexError(index)
        ends = list(itertools.accumulate(len(part) for part in self.parts))
        number = bisect.bisect_right(ends, index)
        part = self.parts[number]
        sample = part[index - (ends[number] - len(part))]
        return sample._replace(name=f"{number + 1}/{sample.name}")


def _few(names: Sequence[str]) -> str:
    return f"{', '.join(names[:4])}{', ...' if names[4:] else ''}"

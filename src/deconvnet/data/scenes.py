"""Pictures drawn by the program: a segmentation problem that needs no download.

Each picture has up to a dozen objects of seven kinds, from under 1 % to over 60 % of its area,
that hide one another on cluttered, textured, unevenly lit ground. All kinds and the ground take
their colours from the same palettes, and a third of the objects wear a pattern that is not
their own, so colour tells nothing, texture little, and ball and cookie differ in texture alone.
"""

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from deconvnet.data.sample import Sample
from deconvnet.data.scene_paint import draw_scene
from deconvnet.errors import DataError, did_you_mean
from deconvnet.labels import Classes

SCENES = Classes.named(
    ["background", "ball", "cookie", "brick", "leaf", "star", "ring", "fish"],
    [
        (38, 42, 51),
        (230, 85, 74),
        (166, 106, 60),
        (242, 169, 59),
        (77, 168, 92),
        (250, 226, 92),
        (86, 180, 211),
        (164, 110, 201),
    ],
    background=0,
)
"""The classes of drawn pictures."""

_HINTS = tuple(np.array(color, np.float32) / 255 for color in SCENES.colors[1:])

SPLITS = ("train", "val", "test")

DEFAULT_COUNTS = {"train": 10_000, "val": 200, "test": 200}
"""Pictures of a split if no count is given; there is no end to them, and none is stored."""

MOST_PICTURES, MOST_OBJECTS = 10_000_000, 1000


@dataclass(frozen=True)
class Scenes:
    """A data set of drawn pictures: picture i is the same whenever it is asked for.

    >>> scenes = Scenes("train", count=3, size=64)
    >>> [sample.image.shape for sample in scenes]
    [(64, 64, 3), (64, 64, 3), (64, 64, 3)]
    """

    split: str = "train"
    """train, val or test: different pictures of the same kind."""
    count: int = 0
    """Pictures; 0 means DEFAULT_COUNTS."""
    size: int | tuple[int, int] = 256
    """Side, or height and width, in pixels."""
    seed: int = 0
    """Another seed, other pictures."""
    min_extent: float = 0.07
    """Least diameter of an object, as a share of the picture's shorter side."""
    max_extent: float = 1.05
    """Largest diameter of an object, as a share of the picture's shorter side."""
    max_objects: int = 9
    """Most objects in a picture."""
    kinds: str = ""
    """Classes of the objects that occur, joined by +, as in ball+leaf+fish; all if empty."""
    color_hint: float = 0.0
    """Share of the objects that wear the colour of their class, 0 to 1: 0 is the real problem,
    1 an easy start, learnt in minutes."""

    def __post_init__(self) -> None:
        height, width = self.shape
        if self.split not in SPLITS:
            raise DataError(
                f"Drawn pictures have no split '{self.split}'; choose {', '.join(SPLITS)}."
            )
        if self.count < 0 or self.seed < 0 or self.max_objects < 1:
            raise DataError(
                f"Drawn pictures with count={self.count}, seed={self.seed} and "
                f"max_objects={self.max_objects}: the first two must not be negative, the last "
                "must be at least 1."
            )
        if self.count > MOST_PICTURES or self.max_objects > MOST_OBJECTS:
            raise DataError(
                f"Drawn pictures with count={self.count:,} and max_objects="
                f"{self.max_objects:,}: give at most {MOST_PICTURES:,} and {MOST_OBJECTS:,}."
            )
        if not (16 <= height <= 8192 and 16 <= width <= 8192):
            raise DataError(
                f"Drawn pictures of {height} x {width}: give 16 to 8192 pixels a side."
            )
        if not 0 < self.min_extent <= self.max_extent <= 2:
            raise DataError(
                f"Objects are to have {self.min_extent} to {self.max_extent} of the picture's "
                "side; give two numbers above 0 and up to 2, the smaller first."
            )

        wrong = [kind for kind in self._kind_names if kind not in SCENES.names[1:]]
        if wrong:
            raise DataError(
                f"Drawn pictures have no objects of kind '{wrong[0]}'; choose from "
                f"{', '.join(SCENES.names[1:])}, joined by +."
            )
        if not 0 <= self.color_hint <= 1:
            raise DataError(
                f"color_hint of drawn pictures is {self.color_hint}; give 0 to 1, the share of "
                "the objects that wear the colour of their class."
            )

    @property
    def _kind_names(self) -> tuple[str, ...]:
        return tuple(self.kinds.split("+")) if self.kinds else SCENES.names[1:]

    @property
    def _kinds(self) -> tuple[int, ...]:
        """The kinds as scene_paint counts them: without the background."""
        return tuple(SCENES.names.index(name) - 1 for name in self._kind_names)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the pictures in pixels."""
        return (self.size, self.size) if isinstance(self.size, int) else self.size

    @property
    def classes(self) -> Classes:
        """SCENES."""
        return SCENES

    @cached_property
    def names(self) -> tuple[str, ...]:
        """train/00000, train/00001, ..."""
        return tuple(self._name(index) for index in range(len(self)))

    def __len__(self) -> int:
        return self.count or DEFAULT_COUNTS[self.split]

    def __getitem__(self, index: int) -> Sample:
        """Draw a picture.

        Raises:
            IndexError: If the data set has fewer.
        """
        index = range(len(self))[index]
        seeds = np.random.SeedSequence([self.seed, SPLITS.index(self.split), index])
        drawn = draw_scene(
            np.random.Generator(np.random.PCG64(seeds)),
            self.shape,
            extent=(self.min_extent, self.max_extent),
            max_objects=self.max_objects,
            kinds=self._kinds,
            hints=_HINTS,
            hinted=self.color_hint,
        )
        return Sample(*drawn, name=self._name(index))

    def _name(self, index: int) -> str:
        return f"{self.split}/{index:05d}"


def is_scenes(path: str | Path) -> bool:
    """Whether a data set's name asks for drawn pictures; a folder scenes is ./scenes.

    >>> is_scenes("scenes:size=128"), is_scenes("./scenes")
    (True, False)
    """
    return str(path).partition(":")[0] == "scenes"


def open_scenes(path: str | Path = "scenes", split: str = "train", **settings: Any) -> Scenes:
    """Drawn pictures with the settings of a name such as `scenes:count=500,size=256`.

    Raises:
        DataError: If a setting does not exist or cannot hold its value.
    """
    _, _, written = str(path).partition(":")
    for item in filter(None, (part.strip() for part in written.split(","))):
        name, equals, value = item.partition("=")
        if not equals:
            raise DataError(f"'{item}' in {path} is no setting; write such as scenes:size=128.")
        settings[name.strip().replace("-", "_")] = value.strip()
    return Scenes(split, **{name: _setting(name, value) for name, value in settings.items()})


def _setting(name: str, value: Any) -> Any:
    kinds: dict[str, Any] = {
        field.name: type(field.default)
        for field in dataclasses.fields(Scenes)
        if field.name != "split"
    }
    if name not in kinds:
        raise DataError(
            f"Drawn pictures have no setting '{name}'; they have {', '.join(kinds)}."
            f"{did_you_mean(name, kinds)}"
        )
    try:
        if isinstance(value, str) and name == "size" and "x" in value:
            height, width = value.split("x")
            return int(height), int(width)
        return value if isinstance(value, tuple) else kinds[name](value)
    except (TypeError, ValueError):
        kind = "a whole number" if kinds[name] is int else "a number"
        raise DataError(f"{name} of drawn pictures is '{value}'; give {kind}.") from None

"""Whether a picture is like those a network was trained for: a few plain numbers, compared.

A network answers for any picture, also for one of a kind it has never seen. What it was trained
for is kept as mean and spread of six numbers over pictures of train and val. A picture of which
one number lies further from its mean than any of those is unlike them, and the name of the
number says in what way.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from deconvnet.errors import CheckpointError
from deconvnet.shapes import Image, Probabilities

LEAST_PICTURES = 8
"""Fewer pictures say too little to warn of anything."""

LEAST_LIMIT, LARGEST_LIMIT = 3.0, 6.0
"""How many standard deviations from the mean are unlike at least and at most."""

ROOM = 1.25
"""The limit lies so much further out than the farthest of the pictures it was taken from."""

WORDS = {
    "brightness": ("darker", "brighter"),
    "contrast": ("of less contrast", "of more contrast"),
    "red": ("less red", "redder"),
    "blue": ("less blue", "bluer"),
    "detail": ("smoother", "rougher"),
    "confidence": ("the network is less sure", "the network is surer"),
}
"""The numbers, and what it is called when they are small or large."""

_FLOOR = 1 / 255
"""Added to shares and sizes before their logarithm: a step of grey."""

_LEAST_SPREAD = 1e-3
"""Of pictures that are all alike."""

_SAMPLE = 256
"""Pictures are looked at through every n-th pixel, so that their longer side has so many."""


def traits(image: Image, probabilities: Probabilities | None = None) -> dict[str, float]:
    """The numbers of one picture.

    Mean and standard deviation of its grey, mean of red and of blue minus green, mean step
    between neighbours in grey, and the mean probability of the most probable class, which needs
    the probabilities. Shares are taken as logits and sizes as logarithms, so that twice and
    half are equally far: half the light is as strange at noon as at night.
    """
    every = max(1, -(-max(image.shape[:2]) // _SAMPLE))
    pixels = image[::every, ::every].astype(np.float32) / 255
    grey = pixels.mean(axis=2)
    steps = [np.abs(np.diff(grey, axis=axis)) for axis in (0, 1)]
    count = sum(step.size for step in steps)
    found = {
        "brightness": _logit(float(grey.mean())),
        "contrast": math.log(float(grey.std()) + _FLOOR),
        "red": float((pixels[..., 0] - pixels[..., 1]).mean()),
        "blue": float((pixels[..., 2] - pixels[..., 1]).mean()),
        "detail": math.log(sum(float(step.sum()) for step in steps) / max(count, 1) + _FLOOR),
    }
    if probabilities is not None:
        sureness = probabilities[:, ::every, ::every].max(axis=0)
        found["confidence"] = _logit(float(sureness.mean()))
    return found


def _logit(share: float) -> float:
    """Odds as a logarithm; the ends are held off infinity."""
    return math.log((share + _FLOOR) / (1 + _FLOOR - share))


@dataclass(frozen=True)
class Familiarity:
    """What the pictures are like that a network was trained for."""

    usual: Mapping[str, tuple[float, float]]
    """Mean and standard deviation of each number over the pictures."""
    limit: float
    """Standard deviations from the mean beyond which a picture is unlike them."""
    pictures: int
    """How many they were."""

    @classmethod
    def of(cls, pictures: Sequence[Mapping[str, float]]) -> "Familiarity | None":
        """What these pictures' traits have in common; none for fewer than LEAST_PICTURES."""
        if len(pictures) < LEAST_PICTURES:
            return None
        usual, farthest = {}, 0.0
        for name in WORDS:
            values = np.array([picture[name] for picture in pictures if name in picture])
            if len(values) < LEAST_PICTURES:
                continue
            mean, spread = float(values.mean()), max(float(values.std()), _LEAST_SPREAD)
            usual[name] = mean, spread
            farthest = max(farthest, float(np.abs(values - mean).max()) / spread)
        limit = min(max(ROOM * farthest, LEAST_LIMIT), LARGEST_LIMIT)
        return cls(usual, limit, len(pictures))

    def strangeness(self, picture: Mapping[str, float]) -> dict[str, float]:
        """How far each number lies from its mean, in parts of the limit: over 1 is unlike.

        Negative values lie below the mean.
        """
        return {
            name: (picture[name] - mean) / (spread * self.limit)
            for name, (mean, spread) in self.usual.items()
            if name in picture
        }

    def to_json(self) -> dict[str, Any]:
        """Plain values, for config.json."""
        return {
            "pictures": self.pictures,
            "limit": self.limit,
            "usual": {name: list(values) for name, values in self.usual.items()},
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Familiarity":
        """Read them back.

        Raises:
            CheckpointError: If they are not what to_json gives.
        """
        try:
            usual = {
                str(name): (float(mean), float(spread))
                for name, (mean, spread) in dict(values["usual"]).items()
            }
            found = cls(usual, float(values["limit"]), int(values["pictures"]))
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(
                "What config.json says about the training pictures cannot be read "
                f"({error!r}); remove the entry 'familiarity' from it."
            ) from None
        spreads = [spread for _, spread in usual.values()]
        if not min([found.limit, *spreads]) > 0 or not usual.keys() <= WORDS.keys():
            raise CheckpointError(
                "What config.json says about the training pictures names numbers that there "
                "are not, or a spread that is not above 0; remove the entry 'familiarity'."
            )
        return found


def in_words(strangeness: Mapping[str, float]) -> str:
    """In what ways a picture is unlike, the strongest first; empty if it is not.

    >>> in_words({"brightness": -1.8, "detail": 0.4})
    'darker'
    """
    found = sorted(strangeness.items(), key=lambda item: -abs(item[1]))
    return ", ".join(WORDS[name][value > 0] for name, value in found if abs(value) > 1)

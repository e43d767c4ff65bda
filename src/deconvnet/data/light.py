"""The same picture in another light, always alike, to see what a network's score hangs on."""

from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from deconvnet.shapes import Image


class Light(NamedTuple):
    """How a light differs from the one that a picture was taken in."""

    red: float = 1
    green: float = 1
    blue: float = 1
    """Factors of the three channels."""
    contrast: float = 1
    """Factor of each value's distance from 128."""


LIGHTS = MappingProxyType(
    {
        "warmer": Light(red=1.15, blue=0.8),
        "colder": Light(red=0.8, blue=1.2),
        "brighter": Light(1.4, 1.4, 1.4),
        "darker": Light(0.6, 0.6, 0.6),
        "flatter": Light(contrast=0.6),
    }
)
"""Every light by its name: the first two are what the white balance of another camera does."""


def in_light(image: Image, light: Light) -> Image:
    """A picture as it would look in another light.

    >>> in_light(np.full((1, 1, 3), 100, np.uint8), LIGHTS["warmer"]).tolist()
    [[[115, 100, 80]]]
    """
    gains = np.array([light.red, light.green, light.blue], np.float32)
    middle = np.float32(128)
    pixels = (image * gains - middle) * np.float32(light.contrast) + middle
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)

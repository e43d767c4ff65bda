"""What may be chosen."""

from typing import NamedTuple

NETWORKS = ("deconvnet", "segnet", "unet", "fcn8s")
"""The networks that are timed."""


class Settings(NamedTuple):
    """The sizes and names that a measurement goes by."""

    width: float = 0.25
    """Scale of the networks' channel counts; 1 is as published."""
    size: int = 224
    """Side of the pictures in pixels."""
    data: str = "scenes"
    """Data set: with instances for the proposals; the pipeline takes its first picture."""
    networks: tuple[str, ...] = NETWORKS
    engines: tuple[str, ...] = ("torch", "native")
    """What runs our networks in the pipeline."""
    proposals: int = 50
    """Windows of the pipeline, beside the whole picture; the paper takes 50."""

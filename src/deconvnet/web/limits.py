"""How much of anything the server takes on."""

import math
from dataclasses import dataclass

from deconvnet.errors import UserError


class LimitError(UserError, ValueError):
    """A limit cannot hold the value given."""


@dataclass(frozen=True)
class Limits:
    """What one server allows; every limit is an option of `deconvnet serve`.

    >>> Limits(workers=0)
    Traceback (most recent call last):
    ...
    deconvnet.web.limits.LimitError: The limit workers is 0; give a number above 0.
    """

    upload_bytes: int = 20_000_000
    """Largest request body."""
    pixels: int = 12_000_000
    """Most pixels of a picture; larger ones are refused from their header, undecoded."""
    score_pixels: int = 2_000_000
    """Most pixels with proposals or the CRF, which keep every class's score at each pixel."""
    proposals: int = 200
    """Most proposals of one request."""
    workers: int = 1
    """Requests worked on at the same time."""
    queue: int = 8
    """Requests that may wait for that; further ones are told to come back later."""
    seconds: float = 60.0
    """Time of one request, waiting included."""
    header_bytes: int = 16_384
    """Size of the request line and headers together."""
    connections: int = 256
    """Open connections; further ones are told to come back later."""
    patience: float = 20.0
    """Seconds a client may take to send its headers, to begin its body (from then on 20 kB a
    second), or to take what it is sent."""
    grace: float = 10.0
    """Seconds that work in hand is given to finish when the server is stopped."""
    kept_bytes: int = 512_000_000
    """Memory for what was computed about the latest pictures."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if (
                not math.isfinite(value)
                or value < 0
                or (value == 0 and name not in ("queue", "grace", "proposals"))
            ):
                least = "0 or more" if name in ("queue", "grace", "proposals") else "above 0"
                raise LimitError(f"The limit {name} is {value}; give a number {least}.")

"""A network that needs nothing around it: pictures in, as they are; logits out, at their size.

What leaves this library (`deconvnet.export`) is this, so that whoever uses the file cannot
standardise or resize wrongly. Everything is written so that tracers and exporters keep the
sizes free: no branch on a size, whole numbers for sizes, and no resizing by the engine, for
each has rules of its own.
"""

import math
from fractions import Fraction

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deconvnet.checkpoint import Config
from deconvnet.shapes import Float, ImageBatch

FINEST_SCALE = 10_000
"""input_scale is taken as a fraction whose denominator is at most this."""


class Standalone(nn.Module):
    """RGB in 0 to 1 to logits of the same size, as `Predictor` does it for one picture.

    Args:
        network: Takes standardised pictures at its own scale.
        config: Says how it wants them.
    """

    def __init__(self, network: nn.Module, config: Config) -> None:
        super().__init__()
        self.network = network
        self.one_channel = config.in_channels == 1
        self.scale = as_fraction(config.input_scale)
        self.mean = nn.Buffer(torch.tensor(config.mean)[:, None, None])
        self.std = nn.Buffer(torch.tensor(config.std)[:, None, None])

    def forward(self, image: ImageBatch) -> Float[Tensor, "n k h w"]:
        """Standardise, shrink where the network wants that, and give logits at full size."""
        height, width = image.shape[2:]
        picture = image
        if self.scale != 1:
            picture = shrunk(torch.round(image * 255), self.scale) / 255
        if self.one_channel:
            picture = picture.mean(1, keepdim=True)
        logits: Tensor = self.network((picture - self.mean) / self.std)
        if self.scale != 1:
            logits = F.interpolate(logits, (height, width), mode="bilinear")
        return logits


def shrunk(levels: ImageBatch, scale: Fraction) -> Float[Tensor, "n c small_h small_w"]:
    """Resize pictures to the level as Pillow's BILINEAR does: columns first, then rows.

    One level of 256 more or less turns switches over, so this is exact: whole numbers below
    2^24, which every engine's float32 keeps.

    Args:
        levels: 0 to 255.
        scale: Of both sides.

    Source: Pillow's Resample.c, read for its rules alone: a triangle as wide as the shrinking,
    shares of 22 bits, rounding after each direction.

    >>> shrunk(torch.tensor([[[[0.0, 9.0, 9.0, 0.0]]]]), Fraction(1, 2)).tolist()
    [[[[5.0, 5.0]]]]
    """
    columns = _shrunk_rows(levels.transpose(2, 3), scale)
    return _shrunk_rows(columns.transpose(2, 3), scale)


def _shrunk_rows(levels: ImageBatch, scale: Fraction) -> Float[Tensor, "n c small_h w"]:
    rows = levels.shape[2]
    small = scaled_side(rows, scale)
    # A row has its middle at 2 row + 1, a new row at that times rows / small: in whole numbers
    middles = (2 * torch.arange(small) + 1) * rows
    # Tiny pictures are shrunk by up to 1.5 / scale, to one row; no branch on that either.
    reach = math.ceil(max(1.5 / scale, 1.0))
    steps = torch.arange(-reach, reach + 1)[:, None]
    places = torch.div(middles, 2 * small, rounding_mode="floor") + steps
    distances = ((2 * places + 1) * small - middles).abs()
    shares = (2 * torch.sym_max(rows, small) - distances).clamp(min=0)  # type: ignore[no-untyped-call]  # torch's
    shares = shares * (places >= 0) * (places < rows)
    high, low = _in_22_bits(shares.float())
    places = places.clamp(min=0).minimum(torch.full((1,), rows - 1))
    high_sum, low_sum = torch.zeros(()), torch.zeros(())
    for step in range(2 * reach + 1):
        row = levels.index_select(2, places[step])
        high_sum = high_sum + row * high[step, :, None]
        low_sum = low_sum + row * low[step, :, None]
    return torch.floor((high_sum + 2**10 + torch.floor(low_sum / 2**11)) / 2**11)


def _in_22_bits(shares: Tensor) -> tuple[Tensor, Tensor]:
    """Shares over their sum, times 2^22, rounded: the upper 11 bits and the lower.

    By long division, a few bits at a time, so that no number needs more than 24 bits.
    """
    whole = shares.sum(0, keepdim=True)
    rest = shares
    halves = []
    for _ in range(2):
        digits = torch.zeros_like(shares)
        for bits in (6, 5):
            digit = torch.floor(rest * 2**bits / whole)
            rest = rest * 2**bits - digit * whole
            digits = digits * 2**bits + digit
        halves.append(digits)
    high, low = halves
    return high, low + (2 * rest >= whole)


def as_fraction(input_scale: float) -> Fraction:
    """The scale as a ratio of whole numbers, which every engine multiplies by alike.

    >>> as_fraction(0.45)
    Fraction(9, 20)
    """
    return max(Fraction(input_scale).limit_denominator(FINEST_SCALE), Fraction(1, FINEST_SCALE))


def scaled_side(length: int, scale: Fraction) -> int:
    """The side of a resized picture: at least 1; halves are rounded up.

    >>> [scaled_side(length, Fraction(1, 2)) for length in (0, 1, 3, 4)]
    [1, 1, 2, 2]
    """
    doubled = 2 * scale.numerator * length + scale.denominator
    side: int = torch.sym_max(doubled // (2 * scale.denominator), 1)  # type: ignore[no-untyped-call]  # torch's
    return side

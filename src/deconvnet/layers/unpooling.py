"""Pooling that remembers, and the ways to undo it.

Switches are values passed along, never state of a module: `pool` gives them, `unpool` takes
them.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from deconvnet.errors import RecipeError, ShapeError, did_you_mean
from deconvnet.layers.bilinear import bilinear_transposed_convolution
from deconvnet.shapes import Features

UNPOOLING_KINDS = (
    "switches",
    "nails",
    "nearest",
    "average",
    "bilinear",
    "subpixel",
    "transposed",
)
"""The unpooling family; `Unpooling` says what each does."""


class Switches(NamedTuple):
    """Where each maximum came from (Zeiler & Fergus 2014, section 2.1)."""

    positions: Int64[Tensor, "n c h w"]
    """Flat index of each maximum in the plane it was taken from: row * width + column."""
    size: tuple[int, int]
    """(height, width) of that plane in pixels; pooling alone cannot tell 3 from 4."""


def pool(features: Features) -> tuple[Float[Tensor, "n c pooled_h pooled_w"], Switches]:
    """Take the maximum of each 2 x 2 window, and remember where it was.

    Windows that run past the right or lower edge are kept (Caffe's ceil mode), so n pixels
    become ceil(n / 2). Of equal values the first in row-major order wins.

    Source: Noh, Hong & Han 2015, section 3.2.1; the rules for edges and ties are Caffe's.

    >>> pooled, switches = pool(torch.tensor([[[[1.0, 5.0, 5.0], [2.0, 5.0, 3.0]]]]))
    >>> pooled[0, 0].tolist(), switches.positions[0, 0].tolist(), switches.size
    ([[5.0, 5.0]], [[1, 2]], (2, 3))
    """
    pooled, positions = F.max_pool2d(features, 2, 2, ceil_mode=True, return_indices=True)
    return pooled, Switches(positions, (features.shape[2], features.shape[3]))


def unpool(
    features: Features, switches: Switches
) -> Float[Tensor, "n c plane_height plane_width"]:
    """Put activations back where their maxima were; every other place is zero.

    Raises:
        ShapeError: When features and switches are not of one shape; take the switches of the
            pooling that made a map of this size.

    Source: Noh, Hong & Han 2015, section 3.2.1; Zeiler & Fergus 2014, section 2.1.

    >>> pooled, switches = pool(torch.tensor([[[[1.0, 5.0], [2.0, 3.0]]]]))
    >>> unpool(pooled, switches)[0, 0]
    tensor([[0., 5.],
            [0., 0.]])
    """
    if features.shape != switches.positions.shape:
        raise ShapeError(
            f"features of shape {tuple(features.shape)} came with switches of shape "
            f"{tuple(switches.positions.shape)}; unpooling needs the switches of the pooling "
            "that made a map of just this shape."
        )
    height, width = switches.size
    traced = torch.jit.is_tracing()  # type: ignore[attr-defined,no-untyped-call]  # torch's
    exported = traced or torch.compiler.is_compiling()
    if features.device.type == "cpu" and not exported:  # faster than what can be exported
        return F.max_unpool2d(features, switches.positions, (2, 2), output_size=[height, width])
    plane = features.new_zeros(*features.shape[:2], height * width)
    filled = plane.scatter(2, switches.positions.flatten(2), features.flatten(2))
    return filled.view(*features.shape[:2], height, width)


class Unpooling(nn.Module):
    """Undo a 2 x 2 pooling in one of seven ways; all take their size from the switches.

    - `switches`: each value to the place its maximum came from, zeros elsewhere (DeconvNet).
    - `nails`: each value to the upper left of its window, zeros elsewhere (bed of nails).
    - `nearest`: each value copied over its window.
    - `average`: each value shared out evenly over its window, so that sums are kept.
    - `bilinear`: interpolated between the centres of the windows.
    - `subpixel`: a learned 1 x 1 convolution to 4 maps, interleaved (Shi et al. 2016);
      starts as `nearest`.
    - `transposed`: a learned 4 x 4 transposed convolution of stride 2; starts as bilinear.

    Args:
        kind: One of UNPOOLING_KINDS.
        channels: Channels of the features; only the learned kinds depend on it.

    Raises:
        RecipeError: For any other kind.

    Source: Noh, Hong & Han 2015, section 3.2.1; the modes MAX, AVE and TILE of their release.
    Differs: at an odd edge, `average` divides by the pixels the window really has.
    """

    def __init__(self, kind: str, channels: int) -> None:
        super().__init__()
        if kind not in UNPOOLING_KINDS:
            raise RecipeError(
                f"there is no unpooling '{kind}'; the kinds are {', '.join(UNPOOLING_KINDS)}."
                + did_you_mean(kind, UNPOOLING_KINDS)
            )
        self.kind = kind
        self.convolution: nn.Module
        if kind == "subpixel":
            self.convolution = _nearest_subpixel_convolution(channels)
        elif kind == "transposed":
            self.convolution = bilinear_transposed_convolution(channels, 2, padding=1)

    def forward(
        self, features: Features, switches: Switches
    ) -> Float[Tensor, "n c plane_height plane_width"]:
        """Make the features as large as the plane that was pooled."""
        if self.kind == "switches":
            return unpool(features, switches)
        if self.kind == "subpixel":
            doubled = F.pixel_shuffle(self.convolution(features), 2)
        elif self.kind == "transposed":
            doubled = self.convolution(features)
        else:
            doubled = _FIXED_KINDS[self.kind](features)
        height, width = switches.size
        cropped = doubled[:, :, :height, :width]  # an odd side lost nothing to ceil mode
        if self.kind == "average":
            return cropped / _window_areas(height, width).to(features)
        return cropped

    def extra_repr(self) -> str:
        """Name the kind where the network is printed."""
        return self.kind


def _nearest_subpixel_convolution(channels: int) -> nn.Conv2d:
    """A 1 x 1 convolution whose four maps per channel all start as copies of that channel."""
    convolution = nn.Conv2d(channels, 4 * channels, 1)
    with torch.no_grad():
        copies = torch.eye(channels).repeat_interleave(4, dim=0)
        convolution.weight.copy_(copies[:, :, None, None])
        nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]  # bias=True above
    return convolution


def _on_nails(features: Tensor) -> Tensor:
    """Each value followed by a zero to the right and a row of zeros below."""
    rows = torch.stack((features, torch.zeros_like(features)), dim=-1).flatten(-2)
    return torch.stack((rows, torch.zeros_like(rows)), dim=-2).flatten(-3, -2)


def _copied(features: Tensor) -> Tensor:
    return F.interpolate(features, scale_factor=2, mode="nearest")


def _interpolated(features: Tensor) -> Tensor:
    return F.interpolate(features, scale_factor=2, mode="bilinear", align_corners=False)


_FIXED_KINDS: dict[str, Callable[[Tensor], Tensor]] = {
    "nails": _on_nails,
    "nearest": _copied,
    "average": _copied,
    "bilinear": _interpolated,
}


def _window_areas(height: int, width: int) -> Float[Tensor, "height width"]:
    """How many pixels each pixel's window has: 4, and fewer at an odd edge."""
    heights = torch.full((height,), 2.0)
    widths = torch.full((width,), 2.0)
    heights[height - height % 2 :] = 1.0
    widths[width - width % 2 :] = 1.0
    return heights[:, None] * widths

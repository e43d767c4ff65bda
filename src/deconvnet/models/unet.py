"""U-Net: down and up again, with the finer map of the way down set beside each coarser one."""

from collections import OrderedDict

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from deconvnet.errors import RecipeError, ShapeError
from deconvnet.layers.blocks import conv_block, crop_like, initialise_he, scaled
from deconvnet.shapes import Features, ImageBatch, LogitsBatch

LEVELS = (64, 128, 256, 512, 1024)
"""Channels of the two 3 x 3 convolutions of each level, from the picture down."""

PUBLISHED_DEPTH = len(LEVELS)

MARGIN = 92
"""Pixels that the unpadded convolutions take from each side: 572 become 388."""


class UNet(nn.Module):
    """U-Net: 31,030,658 parameters for 1 channel and 2 classes.

    Args:
        num_classes: Channels of the logits.
        in_channels: Channels of the pictures.
        width: Scales every channel count.
        padded: True pads each convolution, so that maps keep their size. False is the published
            form: the picture is continued by its mirror image instead, and the convolutions eat
            the margin.
        batch_norm: Between convolution and ReLU; none as published.
        dropout: Probability at the end of the contracting path (its two deepest levels).
        depth: Levels, 5 as published. Each further one, of as many channels as the fifth, lets
            the deepest layer see about twice as far.

    Raises:
        RecipeError: When it is not padded, and of another depth than the published.

    Source: Ronneberger, Fischer & Brox 2015, figure 1 and section 2. Differs: an odd side loses
    no pixel to pooling (ceil mode; the surplus is cropped on the way up); the dropout's 0.5 is
    that of later implementations, the paper gives no figure.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        *,
        width: float = 1.0,
        padded: bool = True,
        batch_norm: bool = False,
        dropout: float = 0.5,
        depth: int = PUBLISHED_DEPTH,
    ) -> None:
        super().__init__()
        if not padded and depth != PUBLISHED_DEPTH:
            raise RecipeError(
                f"depth is {depth}; without padding the U-Net is the published one, of depth "
                f"{PUBLISHED_DEPTH}."
            )
        self.padded = padded

        def level(name: str, inputs: int, outputs: int, dropout: float = 0.0) -> nn.Sequential:
            padding = 1 if padded else 0
            first = conv_block(inputs, outputs, padding=padding, batch_norm=batch_norm)
            second = conv_block(
                outputs, outputs, padding=padding, batch_norm=batch_norm, dropout=dropout
            )
            return nn.Sequential(OrderedDict({f"{name}_1": first, f"{name}_2": second}))

        *sides, deepest = (scaled(channels, width) for channels in _levels(depth))
        self.encoder = nn.ModuleList()
        channels = in_channels
        for number, side in enumerate(sides, start=1):
            at_the_end = dropout if number == len(sides) else 0.0
            self.encoder.append(level(f"conv{number}", channels, side, at_the_end))
            channels = side
        self.bottleneck = level(f"conv{depth}", channels, deepest, dropout)

        self.upconvolutions = nn.ModuleDict()
        self.decoder = nn.ModuleList()
        channels = deepest
        for number, side in reversed(list(enumerate(sides, start=1))):
            self.upconvolutions[f"upconv{number}"] = nn.ConvTranspose2d(channels, side, 2, 2)
            self.decoder.append(level(f"up{number}", 2 * side, side))
            channels = side
        self.classifier = nn.Conv2d(channels, num_classes, 1)

        initialise_he([self])

    def forward(self, images: ImageBatch) -> LogitsBatch:
        """Give logits of the picture's own size, whatever that is."""
        if self.padded:
            return self.forward_tile(images)
        height, width = images.shape[2:]
        tile = mirrored(images, (_valid_side(height), _valid_side(width)))
        return crop_like(self.forward_tile(tile), images)

    def forward_tile(self, tile: ImageBatch) -> Float[Tensor, "n k tile_h tile_w"]:
        """Go down to 1/16 of the size (at depth 5), and up beside the maps of the way down.

        Args:
            tile: Of any size if padded; else each side is 12 more than a multiple of 16, and at
                least 188. Logits are then 184 smaller.

        Raises:
            ShapeError: For a tile of another size.
        """
        if not self.padded and any(side < 188 or side % 16 != 12 for side in tile.shape[2:]):
            raise ShapeError(
                f"a tile of {tuple(tile.shape[2:])} pixels was given; without padding each "
                "side must be 12 more than a multiple of 16, and at least 188."
            )
        features: Features = tile
        skips = []
        for level in self.encoder:
            features = level(features)
            skips.append(features)
            features = F.max_pool2d(features, 2, ceil_mode=True)  # 1/2, 1/4, 1/8, 1/16

        features = self.bottleneck(features)

        for upconvolution, level in zip(
            self.upconvolutions.values(), self.decoder, strict=True
        ):
            skip = skips.pop()
            grown = upconvolution(features)  # 1/8, 1/4, 1/2, 1
            if self.padded:
                grown = crop_like(grown, skip)
            else:
                skip = crop_like(skip, grown, (skip.shape[2] - grown.shape[2]) // 2)
            features = level(torch.cat((skip, grown), dim=1))
        logits: LogitsBatch = self.classifier(features)
        return logits


def _levels(depth: int) -> tuple[int, ...]:
    """Channels of each level, from the picture down."""
    return LEVELS[:depth] + LEVELS[-1:] * (depth - len(LEVELS))


def mirrored(
    images: Features, size: tuple[int, int], margin: int = MARGIN
) -> Float[Tensor, "n c tile_h tile_w"]:
    """Continue pictures by their mirror images, as often as needed, to tiles of a given size.

    Args:
        images: Of any size; unlike torch's reflection, the margin may be wider than the
            picture.
        size: (height, width) of the tiles, in pixels.
        margin: Pixels of mirror image above and on the left.

    Source: Ronneberger, Fischer & Brox 2015, figure 2 (overlap-tile strategy).

    >>> mirrored(torch.tensor([[[[1.0, 2.0, 3.0]]]]), (1, 8), margin=2)[0, 0, 0].tolist()
    [3.0, 2.0, 1.0, 2.0, 3.0, 2.0, 1.0, 2.0]
    """
    rows = _mirrored_places(images.shape[2], size[0], margin, images.device)
    columns = _mirrored_places(images.shape[3], size[1], margin, images.device)
    return images.index_select(2, rows).index_select(3, columns)


def _mirrored_places(length: int, padded: int, margin: int, device: torch.device) -> Tensor:
    """Where each pixel of the padded side comes from: 0 1 2 1 0 1 2 ... for 3 pixels."""
    turn = torch.sym_max(2 * (length - 1), 1)  # type: ignore[no-untyped-call]  # torch's
    period = torch.full((1,), turn, device=device)
    phase = (torch.arange(padded, device=device) - margin) % period  # a tensor: ONNX needs one
    return torch.minimum(phase, period - phase)


def _valid_side(length: int) -> int:
    """The least side of a tile whose logits cover this many pixels: 12 (mod 16)."""
    return 2 * MARGIN + 4 + (max(length - 4, 0) + 15) // 16 * 16  # ONNX rounds -1 / 16 to 0

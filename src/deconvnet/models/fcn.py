"""FCN-32s, FCN-16s and FCN-8s: VGG-16 scores coarsely; finer scores are added on the way up.

conv1_1 is padded by 100 pixels so that any picture survives five poolings and a 7 x 7 window.
That shifts every map by a known offset, which the crops below take back.
"""

from collections import OrderedDict
from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn import functional as F

from deconvnet.errors import CheckpointError
from deconvnet.layers.bilinear import BilinearUpsampling, bilinear_transposed_convolution
from deconvnet.layers.blocks import (
    conv_block,
    crop_like,
    initialise_he,
    initialise_zero,
    scaled,
)
from deconvnet.models import vgg
from deconvnet.shapes import Features, ImageBatch, LogitsBatch

FIRST_PADDING = 100
"""Pixels on each side of the picture."""


class FCN32s(nn.Module):
    """Score once, at 1/32 of the size, and interpolate up.

    Args:
        num_classes: Channels of the logits.
        in_channels: Channels of the pictures.
        width: Scales every channel count.
        fc_channels: Channels of fc6 and fc7; None is 4096 x width.
        dropout: Probability after fc6 and fc7.
        batch_norm: Before each ReLU; none as published, a help when training from scratch.

    Source: Long, Shelhamer & Darrell 2015, section 4.1; crop offset 19 of the release.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        *,
        width: float = 1.0,
        fc_channels: int | None = None,
        dropout: float = 0.5,
        batch_norm: bool = False,
    ) -> None:
        super().__init__()
        fc = scaled(4096, width) if fc_channels is None else fc_channels
        self.encoder = _encoder(in_channels, width, batch_norm)
        self.bottleneck = _bottleneck(width, fc, dropout, batch_norm)
        self.score_fr = nn.Conv2d(fc, num_classes, 1)
        self.upscore32 = BilinearUpsampling(32)

        initialise_he([self.encoder, self.bottleneck])
        initialise_zero([self.score_fr])

    def forward(self, images: ImageBatch) -> LogitsBatch:
        """Give the coarse scores, 32 times enlarged."""
        _, _, pool5 = _three_deepest(self.encoder, images)
        score = self.score_fr(self.bottleneck(pool5))  # 500 pixels: 16 x 16
        return crop_like(self.upscore32(score), images, 19)


class FCN16s(nn.Module):
    """Score at 1/32, add the scores of pool4 at 1/16, and interpolate up.

    Args:
        num_classes: Channels of the logits.
        in_channels: Channels of the pictures.
        width: Scales every channel count.
        fc_channels: Channels of fc6 and fc7; None is 4096 x width.
        dropout: Probability after fc6 and fc7.
        batch_norm: Before each ReLU; none as published, a help when training from scratch.

    Source: Long, Shelhamer & Darrell 2015, section 4.2; crop offsets 5 and 27 of the release.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        *,
        width: float = 1.0,
        fc_channels: int | None = None,
        dropout: float = 0.5,
        batch_norm: bool = False,
    ) -> None:
        super().__init__()
        fc = scaled(4096, width) if fc_channels is None else fc_channels
        self.encoder = _encoder(in_channels, width, batch_norm)
        self.bottleneck = _bottleneck(width, fc, dropout, batch_norm)
        self.score_fr = nn.Conv2d(fc, num_classes, 1)
        self.score_pool4 = nn.Conv2d(scaled(512, width), num_classes, 1)
        self.upscore2 = BilinearUpsampling(2)
        self.upscore16 = BilinearUpsampling(16)

        initialise_he([self.encoder, self.bottleneck])
        initialise_zero([self.score_fr, self.score_pool4])

    def forward(self, images: ImageBatch) -> LogitsBatch:
        """Give the scores of two depths, 16 times enlarged."""
        _, pool4, pool5 = _three_deepest(self.encoder, images)
        score = self.upscore2(self.score_fr(self.bottleneck(pool5)))  # 500 pixels: 34 x 34
        score = score + crop_like(self.score_pool4(pool4), score, 5)
        return crop_like(self.upscore16(score), images, 27)


class FCN8s(nn.Module):
    """Score at 1/32, add the scores of pool4 at 1/16 and of pool3 at 1/8, and interpolate up.

    Args:
        num_classes: Channels of the logits.
        in_channels: Channels of the pictures.
        width: Scales every channel count.
        fc_channels: Channels of fc6 and fc7; None is 4096 x width.
        dropout: Probability after fc6 and fc7.
        batch_norm: Before each ReLU; none as published, a help when training from scratch.
        at_once: Scale pool4 by 0.01 and pool3 by 0.0001 before scoring, so that all three
            depths can be trained at once instead of in stages.
        learned_upsampling: Learn both doublings, the first with a bias: the older FCN-8s that
            DeconvNet's release combines with. The last enlargement stays bilinear.

    Source: Long, Shelhamer & Darrell 2015, section 4.2, and 2017, section 4.3 (at once); crop
    offsets 5, 9 and 31 of the release.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        *,
        width: float = 1.0,
        fc_channels: int | None = None,
        dropout: float = 0.5,
        batch_norm: bool = False,
        at_once: bool = False,
        learned_upsampling: bool = False,
    ) -> None:
        super().__init__()
        fc = scaled(4096, width) if fc_channels is None else fc_channels
        self.encoder = _encoder(in_channels, width, batch_norm)
        self.bottleneck = _bottleneck(width, fc, dropout, batch_norm)
        self.score_fr = nn.Conv2d(fc, num_classes, 1)
        self.score_pool4 = nn.Conv2d(scaled(512, width), num_classes, 1)
        self.score_pool3 = nn.Conv2d(scaled(256, width), num_classes, 1)
        self.pool4_scale, self.pool3_scale = (0.01, 0.0001) if at_once else (1.0, 1.0)
        self.upscore2: nn.Module
        self.upscore4: nn.Module
        if learned_upsampling:
            self.upscore2 = bilinear_transposed_convolution(num_classes, 2, bias=True)
            self.upscore4 = bilinear_transposed_convolution(num_classes, 2)
        else:
            self.upscore2 = BilinearUpsampling(2)
            self.upscore4 = BilinearUpsampling(2)
        self.upscore8 = BilinearUpsampling(8)

        initialise_he([self.encoder, self.bottleneck])
        initialise_zero([self.score_fr, self.score_pool4, self.score_pool3])

    def forward(self, images: ImageBatch) -> LogitsBatch:
        """Give the scores of three depths, 8 times enlarged."""
        pool3, pool4, pool5 = _three_deepest(self.encoder, images)
        score = self.upscore2(self.score_fr(self.bottleneck(pool5)))  # 500 pixels: 34 x 34
        score = score + crop_like(self.score_pool4(pool4 * self.pool4_scale), score, 5)
        score = self.upscore4(score)  # 70 x 70
        score = score + crop_like(self.score_pool3(pool3 * self.pool3_scale), score, 9)
        return crop_like(self.upscore8(score), images, 31)


def load_coarser(finer: nn.Module, coarser: Mapping[str, Tensor]) -> list[str]:
    """Start a finer FCN from a trained coarser one, as the staged training does.

    The finer net's new score layers are zero, so at first it adds nothing to the coarser scores
    and differs only in how it interpolates them.

    Args:
        finer: FCN-16s or FCN-8s as built. Changed in place, and only if everything fits.
        coarser: The state dict of FCN-32s or FCN-16s.

    Returns:
        The names of the finer net's weights that the coarser has not, left as they were.

    Raises:
        CheckpointError: When the coarser net has weights that do not fit into the finer one.

    Source: Long, Shelhamer & Darrell 2015, section 4.2.
    """
    own = finer.state_dict()
    for name, value in coarser.items():
        if name not in own or own[name].shape != value.shape:
            has = tuple(own[name].shape) if name in own else "no such weight"
            raise CheckpointError(
                f"'{name}' of the coarser network has the shape {tuple(value.shape)}, the "
                f"finer one's is {has}; both need the same classes, width, fc_channels and "
                "batch_norm, and the order is fcn32s, fcn16s, fcn8s."
            )
    finer.load_state_dict(coarser, strict=False)
    return [name for name in own if name not in coarser]


def _encoder(in_channels: int, width: float, batch_norm: bool) -> nn.ModuleList:
    return vgg.encoder(
        in_channels, width=width, batch_norm=batch_norm, first_padding=FIRST_PADDING
    )


def _bottleneck(width: float, fc: int, dropout: float, batch_norm: bool) -> nn.Sequential:
    """The two fully connected layers of VGG-16, as convolutions."""
    deepest = scaled(512, width)
    return nn.Sequential(
        OrderedDict(
            fc6=conv_block(
                deepest, fc, kernel=7, padding=0, batch_norm=batch_norm, dropout=dropout
            ),
            fc7=conv_block(fc, fc, kernel=1, padding=0, batch_norm=batch_norm, dropout=dropout),
        )
    )


def _three_deepest(encoder: nn.ModuleList, images: ImageBatch) -> tuple[Tensor, Tensor, Tensor]:
    """The maps after pool3, pool4 and pool5; for 500 pixels 88, 44 and 22 a side."""
    features: Features = images
    maps = []
    for stage in encoder:
        features = F.max_pool2d(stage(features), 2, ceil_mode=True)
        maps.append(features)
    return maps[2], maps[3], maps[4]

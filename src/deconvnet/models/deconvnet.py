"""DeconvNet: down by VGG-16, back up by its mirror image through the same switches."""

from collections import OrderedDict

from torch import nn

from deconvnet.layers.blocks import (
    CAFFE_BN_EPS,
    conv_block,
    crop_like,
    deconv_block,
    initialise_gaussian,
    initialise_he,
    pad_to_side,
    scaled,
)
from deconvnet.layers.unpooling import Unpooling, pool
from deconvnet.models import vgg
from deconvnet.shapes import ImageBatch, LogitsBatch

DECODER = ((512, 512, 512), (512, 512, 256), (256, 256, 128), (128, 64), (64, 64))
"""Channels of the 3 x 3 transposed convolutions; each row begins with an unpooling."""

LEAST_SIDE = 193
"""Pixels; from here on pool5 is at least 7 x 7, the window of fc6."""


class DeconvNet(nn.Module):
    """The deconvolution network: 251,805,653 parameters for 21 classes.

    Everything is convolution of stride 1 but the poolings and unpoolings, which take their
    sizes from the switches; so pictures of any size are welcome. 224 x 224 is the published
    one.

    Args:
        num_classes: Channels of the logits.
        in_channels: Channels of the pictures.
        width: Scales every channel count; 1 as published, 1/16 for tests on a CPU.
        fc_channels: Channels of fc6 and fc7; None is 4096 x width.
        unpooling: One of layers.UNPOOLING_KINDS; "switches" as published.
        dropout: Probability after fc6 and fc7; 0 as published.
        bn_eps: Added to each variance in batch norm. As published 1e-9: safe in float32, where
            it only matters for channels that are constant over a whole batch. Take 1e-5 where
            batches are tiny or blank.
        init: "published": the decoder starts with N(0, 0.01). "he": as the encoder does.

    Source: Noh, Hong & Han 2015, figure 2 and section 3; the layer table of the release.
    Differs: the encoder starts by He et al. 2015, since the release's start without ImageNet
    weights is 0, from which nothing learns; see `load_vgg16` for those weights.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        *,
        width: float = 1.0,
        fc_channels: int | None = None,
        unpooling: str = "switches",
        dropout: float = 0.0,
        bn_eps: float = CAFFE_BN_EPS,
        init: str = "published",
    ) -> None:
        super().__init__()
        deepest = scaled(512, width)
        fc = scaled(4096, width) if fc_channels is None else fc_channels
        self.encoder = vgg.encoder(in_channels, width=width, bn_eps=bn_eps)
        fc6_deconv = deconv_block(fc, deepest, kernel=7, padding=0, bn_eps=bn_eps)
        self.bottleneck = nn.Sequential(
            OrderedDict(
                fc6=conv_block(
                    deepest, fc, kernel=7, padding=0, bn_eps=bn_eps, dropout=dropout
                ),
                fc7=conv_block(fc, fc, kernel=1, padding=0, bn_eps=bn_eps, dropout=dropout),
                fc6_deconv=fc6_deconv,
            )
        )
        self.unpoolings = nn.ModuleDict()
        self.decoder = nn.ModuleList()
        channels = deepest
        for number, stage_channels in zip((5, 4, 3, 2, 1), DECODER, strict=True):
            self.unpoolings[f"unpool{number}"] = Unpooling(unpooling, channels)
            blocks: OrderedDict[str, nn.Module] = OrderedDict()
            for index, published in enumerate(stage_channels, start=1):
                out_channels = scaled(published, width)
                blocks[f"deconv{number}_{index}"] = deconv_block(
                    channels, out_channels, bn_eps=bn_eps
                )
                channels = out_channels
            self.decoder.append(nn.Sequential(blocks))
        self.classifier = nn.Conv2d(channels, num_classes, 1)

        initialise_he([self.encoder, self.bottleneck, self.decoder, self.classifier])
        if init == "published":
            initialise_gaussian([fc6_deconv, self.decoder, self.classifier])

    def forward(self, images: ImageBatch) -> LogitsBatch:
        """Go down to 1/32 of the size, and back up by the same switches."""
        features = pad_to_side(images, LEAST_SIDE)
        all_switches = []
        for stage in self.encoder:
            features, switches = pool(stage(features))  # size: 1/2, 1/4, 1/8, 1/16, 1/32
            all_switches.append(switches)

        features = self.bottleneck(features)  # 7 x 7 to 1 x 1 and back, for 224 pixels

        for unpooling, stage in zip(self.unpoolings.values(), self.decoder, strict=True):
            features = stage(unpooling(features, all_switches.pop()))  # 1/16, 1/8, 1/4, 1/2, 1
        return crop_like(self.classifier(features), images)

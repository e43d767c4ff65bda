"""SegNet: an encoder, and a decoder that gets the switches and nothing else."""

from collections import OrderedDict

from torch import nn

from deconvnet.layers.blocks import CAFFE_BN_EPS, conv_block, initialise_he, scaled
from deconvnet.layers.unpooling import Unpooling, pool
from deconvnet.models import vgg
from deconvnet.shapes import ImageBatch, LogitsBatch

DECODER = ((512, 512, 512), (512, 512, 256), (256, 256, 128), (128, 64), (64,))
"""Channels of the 3 x 3 convolutions; each row begins with an unpooling."""

DROPOUT_STAGES = (3, 4, 5)
"""Bayesian SegNet drops out after these poolings, and at the end of these decoder stages."""


class SegNet(nn.Module):
    """VGG-16 without its fc layers, mirrored: 29,449,355 parameters for 11 classes.

    Args:
        num_classes: Channels of the logits.
        in_channels: Channels of the pictures.
        width: Scales every channel count.
        unpooling: One of layers.UNPOOLING_KINDS; "switches" as published.
        dropout: Probability at the six places of Bayesian SegNet: 0.5 there, 0 in SegNet. With
            `sample_dropout` a trained network then gives samples.
        bn_eps: Added to each variance in batch norm; 1e-9 as published.

    Source: Badrinarayanan, Kendall & Cipolla 2015, section 3, and Kendall et al. 2015, section
    3; the layers of the release.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        *,
        width: float = 1.0,
        unpooling: str = "switches",
        dropout: float = 0.0,
        bn_eps: float = CAFFE_BN_EPS,
    ) -> None:
        super().__init__()
        self.encoder = vgg.encoder(in_channels, width=width, bn_eps=bn_eps)
        self.pool_dropouts = nn.ModuleList(
            nn.Dropout(dropout if number in DROPOUT_STAGES else 0.0)
            for number in (1, 2, 3, 4, 5)
        )
        self.unpoolings = nn.ModuleDict()
        self.decoder = nn.ModuleList()
        channels = scaled(512, width)
        for number, stage_channels in zip((5, 4, 3, 2, 1), DECODER, strict=True):
            self.unpoolings[f"unpool{number}"] = Unpooling(unpooling, channels)
            blocks: OrderedDict[str, nn.Module] = OrderedDict()
            first = len(vgg.VGG16[number - 1])  # names count down; conv1_1_D is the classifier
            for step, published in enumerate(stage_channels):
                out_channels = scaled(published, width)
                blocks[f"conv{number}_{first - step}_D"] = conv_block(
                    channels, out_channels, bn_eps=bn_eps
                )
                channels = out_channels
            if number in DROPOUT_STAGES:
                blocks["dropout"] = nn.Dropout(dropout)
            self.decoder.append(nn.Sequential(blocks))
        self.classifier = nn.Conv2d(channels, num_classes, 3, padding=1)  # conv1_1_D

        initialise_he([self.encoder, self.decoder, self.classifier])

    def forward(self, images: ImageBatch) -> LogitsBatch:
        """Go down to 1/32 of the size, and back up by the same switches."""
        features = images
        all_switches = []
        for stage, dropout in zip(self.encoder, self.pool_dropouts, strict=True):
            features, switches = pool(stage(features))  # size: 1/2, 1/4, 1/8, 1/16, 1/32
            features = dropout(features)
            all_switches.append(switches)

        for unpooling, stage in zip(self.unpoolings.values(), self.decoder, strict=True):
            features = stage(unpooling(features, all_switches.pop()))  # 1/16, 1/8, 1/4, 1/2, 1
        logits: LogitsBatch = self.classifier(features)
        return logits


class SegNetBasic(nn.Module):
    """Four stages of one 7 x 7 convolution each: 1,416,587 parameters for 11 classes.

    The pictures are normalised over their channels first (LRN), which is not indifferent to
    scale: the published network saw 0 to 255.

    Args:
        num_classes: Channels of the logits.
        in_channels: Channels of the pictures.
        width: Scales the 64 channels of every layer.
        unpooling: One of layers.UNPOOLING_KINDS; "switches" as published.
        dropout: Probability at the four places of Bayesian SegNet-Basic: 0.5 there, here 0.
        bn_eps: Added to each variance in batch norm; 1e-9 as published.

    Source: Badrinarayanan, Kendall & Cipolla 2015, section 3.1; the layers of the release. The
    decoder has no ReLU.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        *,
        width: float = 1.0,
        unpooling: str = "switches",
        dropout: float = 0.0,
        bn_eps: float = CAFFE_BN_EPS,
    ) -> None:
        super().__init__()
        channels = scaled(64, width)
        self.lrn = nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75)
        self.encoder = nn.ModuleList()
        self.pool_dropouts = nn.ModuleList()
        self.unpoolings = nn.ModuleDict()
        self.decoder = nn.ModuleList()
        for number in (1, 2, 3, 4):
            conv = conv_block(
                in_channels if number == 1 else channels,
                channels,
                kernel=7,
                padding=3,
                bn_eps=bn_eps,
            )
            self.encoder.append(nn.Sequential(OrderedDict({f"conv{number}": conv})))
            self.pool_dropouts.append(nn.Dropout(dropout if number in (3, 4) else 0.0))
        for number in (4, 3, 2, 1):
            self.unpoolings[f"unpool{number}"] = Unpooling(unpooling, channels)
            conv = conv_block(
                channels,
                channels,
                kernel=7,
                padding=3,
                relu=False,
                bn_eps=bn_eps,
                dropout=dropout if number in (3, 4) else 0.0,
            )
            self.decoder.append(nn.Sequential(OrderedDict({f"conv_decode{number}": conv})))
        self.classifier = nn.Conv2d(channels, num_classes, 1)

        initialise_he([self.encoder, self.decoder, self.classifier])

    def forward(self, images: ImageBatch) -> LogitsBatch:
        """Go down to 1/16 of the size, and back up by the same switches."""
        features = self.lrn(images)
        all_switches = []
        for stage, dropout in zip(self.encoder, self.pool_dropouts, strict=True):
            features, switches = pool(stage(features))  # size: 1/2, 1/4, 1/8, 1/16
            features = dropout(features)
            all_switches.append(switches)

        for unpooling, stage in zip(self.unpoolings.values(), self.decoder, strict=True):
            features = stage(unpooling(features, all_switches.pop()))  # 1/8, 1/4, 1/2, 1
        logits: LogitsBatch = self.classifier(features)
        return logits

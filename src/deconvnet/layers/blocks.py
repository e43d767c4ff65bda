"""The steps networks repeat, and how their weights start."""

import math
from collections import OrderedDict
from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from deconvnet.shapes import Features

BN_EPS = 1e-5
"""What batch norm adds to a variance where the paper has no batch norm; torch's habit."""
CAFFE_BN_EPS = 1e-9
"""What the DeconvNet and SegNet releases add to a variance (bn_layer.cpp)."""


def scaled(channels: int, width: float) -> int:
    """Channels of a layer in a network of this width: at least 1.

    >>> scaled(512, 1 / 16), scaled(64, 0.001)
    (32, 1)
    """
    return max(1, round(channels * width))


class BatchNorm(nn.BatchNorm2d):
    """Batch normalisation that also trains on a single value per channel.

    A batch of one 1 x 1 map has no spread to normalise by (torch raises an error there): it is
    then normalised by the running statistics, which it leaves as they are. fc6 and fc7 of
    DeconvNet meet this for one picture of 224 pixels.
    """

    def forward(self, features: Features) -> Features:
        """Normalise each channel, then scale and shift it."""
        if self.training and features.numel() == features.shape[1]:
            return F.batch_norm(
                features,
                self.running_mean,
                self.running_var,
                self.weight,
                self.bias,
                training=False,
                eps=self.eps,
            )
        return super().forward(features)


def conv_block(
    in_channels: int,
    out_channels: int,
    *,
    kernel: int = 3,
    padding: int = 1,
    batch_norm: bool = True,
    relu: bool = True,
    bn_eps: float = BN_EPS,
    dropout: float = 0.0,
) -> nn.Sequential:
    """Convolution, then batch norm, ReLU and dropout as far as they are wanted."""
    conv = nn.Conv2d(in_channels, out_channels, kernel, padding=padding)
    return _block(
        "conv", conv, batch_norm=batch_norm, relu=relu, bn_eps=bn_eps, dropout=dropout
    )


def deconv_block(
    in_channels: int,
    out_channels: int,
    *,
    kernel: int = 3,
    padding: int = 1,
    bn_eps: float = BN_EPS,
) -> nn.Sequential:
    """Transposed convolution of stride 1, batch norm, ReLU."""
    deconv = nn.ConvTranspose2d(in_channels, out_channels, kernel, padding=padding)
    return _block("deconv", deconv, batch_norm=True, relu=True, bn_eps=bn_eps, dropout=0.0)


def _block(
    name: str,
    convolution: nn.Conv2d | nn.ConvTranspose2d,
    *,
    batch_norm: bool,
    relu: bool,
    bn_eps: float,
    dropout: float,
) -> nn.Sequential:
    steps: OrderedDict[str, nn.Module] = OrderedDict({name: convolution})
    if batch_norm:
        steps["norm"] = BatchNorm(convolution.out_channels, eps=bn_eps)
    if relu:
        steps["relu"] = nn.ReLU()
    if dropout:
        steps["dropout"] = nn.Dropout(dropout)
    return nn.Sequential(steps)


def initialise_he(modules: Iterable[nn.Module]) -> None:
    """Start convolutions with variance 2 / N, N the inputs of one output (He et al. 2015).

    Biases start at 0; batch norm as in Caffe's forks.
    """
    for module in _leaves(modules):
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            inputs = module.in_channels // module.groups * math.prod(module.kernel_size)
            if isinstance(module, nn.ConvTranspose2d):  # each output sees 1 / stride^2 of them
                inputs = max(1, inputs // math.prod(module.stride))
            _start_convolution(module, math.sqrt(2 / inputs))
        _start_batch_norm(module)


def initialise_gaussian(modules: Iterable[nn.Module], std: float = 0.01) -> None:
    """Start convolutions with N(0, std) and bias 0, and batch norm with gamma 1, beta 0.001.

    Source: the fillers of the DeconvNet release.
    """
    for module in _leaves(modules):
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            _start_convolution(module, std)
        _start_batch_norm(module)


def initialise_zero(modules: Iterable[nn.Module]) -> None:
    """Start convolutions at 0, so that they add nothing at first (FCN's score layers)."""
    for module in _leaves(modules):
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            _start_convolution(module, 0.0)


def _leaves(modules: Iterable[nn.Module]) -> Iterable[nn.Module]:
    return (leaf for module in modules for leaf in module.modules())


def _start_convolution(module: nn.Conv2d | nn.ConvTranspose2d, std: float) -> None:
    if not module.weight.is_meta:  # where torch would import its compiler, for two seconds
        nn.init.normal_(module.weight, std=std)
    if module.bias is not None:
        nn.init.zeros_(module.bias)


def _start_batch_norm(module: nn.Module) -> None:
    if isinstance(module, nn.BatchNorm2d):
        nn.init.ones_(module.weight)
        nn.init.constant_(module.bias, 0.001)


def pad_to_side(images: Features, side: int) -> Float[Tensor, "n c padded_h padded_w"]:
    """Add zeros on the right and below until both sides have at least this many pixels.

    Without a branch on the size, so that an exported network takes small pictures too.
    """
    height, width = images.shape[2:]
    missing_width = torch.sym_max(side - width, 0)  # type: ignore[no-untyped-call]  # torch's
    missing_height = torch.sym_max(side - height, 0)  # type: ignore[no-untyped-call]  # torch's
    return F.pad(images, (0, missing_width, 0, missing_height))


def crop_like(
    features: Features, like: Float[Tensor, "n2 c2 like_h like_w"], offset: int = 0
) -> Float[Tensor, "n c like_h like_w"]:
    """Cut out the window that begins `offset` pixels in and is as large as another map."""
    height, width = like.shape[2:]
    return features[:, :, offset : offset + height, offset : offset + width]

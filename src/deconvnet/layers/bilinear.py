"""Bilinear upsampling as a transposed convolution, as FCN does it."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from deconvnet.shapes import Features


def bilinear_kernel(size: int) -> Float[Tensor, "size size"]:
    """Weights that make a transposed convolution interpolate: a pyramid about the centre.

    Args:
        size: Side of the kernel in pixels; twice the stride, for upsampling by the stride.

    Source: the surgery of Long, Shelhamer & Darrell 2015, section 3.3 (SPEC, section 2.1).

    >>> bilinear_kernel(4)[0]
    tensor([0.0625, 0.1875, 0.1875, 0.0625])
    """
    factor = (size + 1) // 2
    centre = factor - 1 if size % 2 else factor - 0.5
    ramp = 1 - (torch.arange(size) - centre).abs() / factor
    return ramp[:, None] * ramp


class BilinearUpsampling(nn.Module):
    """Upsample every channel alone by a fixed factor; nothing is learned, nothing is stored.

    A side of n becomes (n - 1) * factor + 2 * factor, as in Caffe: what hangs over is cropped
    by the network, at the offsets of the paper.
    """

    def __init__(self, factor: int) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, features: Features) -> Float[Tensor, "n c big_h big_w"]:
        """Spread each value over 2 * factor pixels a side."""
        channels = features.shape[1]
        kernel = bilinear_kernel(2 * self.factor).to(features)
        weight = kernel.expand(channels, 1, *kernel.shape)
        return F.conv_transpose2d(features, weight, stride=self.factor, groups=channels)

    def extra_repr(self) -> str:
        """Name the factor where the network is printed."""
        return f"x{self.factor}"


def bilinear_transposed_convolution(
    channels: int, factor: int, *, padding: int = 0, bias: bool = False
) -> nn.ConvTranspose2d:
    """Give a learned upsampling that starts as bilinear, each channel from itself alone."""
    upsampling = nn.ConvTranspose2d(
        channels, channels, 2 * factor, stride=factor, padding=padding, bias=bias
    )
    with torch.no_grad():
        kernel = bilinear_kernel(2 * factor)
        upsampling.weight.copy_(torch.eye(channels)[:, :, None, None] * kernel)
        if upsampling.bias is not None:
            nn.init.zeros_(upsampling.bias)
    return upsampling

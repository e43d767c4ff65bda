"""The engine `native`: the network with our own kernels in it, compiled when first wanted."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deconvnet.engines.rewriting import (
    MAX_POOL,
    Instead,
    as_convolution,
    is_fully_connected,
    is_padded_convolution,
    overlaid,
    pools_in_halves,
    rewritten,
    torch_engine,
)
from deconvnet.errors import RecipeError
from deconvnet.kernels import product, winograd
from deconvnet.layers.unpooling import Switches, Unpooling
from deconvnet.shapes import Features, Float, ImageBatch

LEAST_CHANNELS = 16
"""From so many channels on, in and out, our own convolution is faster than torch's."""


def native_engine(network: nn.Module) -> nn.Module:
    """The network with our own kernels in it, or the engine `torch` where they cannot be used.

    Raises:
        RecipeError: The network is not in float32 on the CPU.
    """
    weights = list(network.parameters())
    if any(weight.dtype != torch.float32 or weight.is_cuda for weight in weights):
        raise RecipeError(
            "the engine 'native' computes in float32 on the CPU, which this network does not; "
            "use the engine 'torch'."
        )
    if not (
        winograd.is_available() and product.is_available()
    ):  # which has said why, in one line of the log
        return torch_engine(network)
    twin = rewritten(network, _native)
    for sequence in [module for module in twin.modules() if type(module) is nn.Sequential]:
        _fuse_relu(sequence)
    return _Native(twin.to(memory_format=torch.channels_last))  # type: ignore[call-overload]  # stubs lag


class _Native(nn.Module):
    """A network whose poolings give corners, one byte each."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: ImageBatch) -> Float[Tensor, "n k logits_h logits_w"]:
        ours: dict[Callable[..., Any], Callable[..., Any]] = {
            MAX_POOL: _native_pool,
            F.max_pool2d: _native_max_pool,
            torch.cat: _native_join,
        }
        with Instead(ours):
            logits: Tensor = self.network(images)
        # By torch, its idle threads would be in the way of ours for some milliseconds more.
        return winograd.to_planes(logits)


def _native_pool(features: Tensor, *_: int, **_options: Any) -> tuple[Tensor, Tensor]:
    return winograd.pool_corners(features)


def _native_max_pool(features: Tensor, kernel_size: Any, **options: Any) -> Tensor:
    if _are_maps(features) and pools_in_halves(kernel_size, options):
        return winograd.pool_corners(features)[0]
    return F.max_pool2d(features, kernel_size, **options)


def _native_join(
    parts: tuple[Tensor, ...] | list[Tensor], dim: int = 0, **options: Any
) -> Tensor:
    if dim == 1 and not options and _are_maps(*parts):
        return winograd.join_channels(parts)
    return (
        torch.cat(parts, **options) if "axis" in options else torch.cat(parts, dim, **options)
    )


def _are_maps(*tensors: Tensor) -> bool:
    return all(tensor.ndim == 4 and tensor.dtype == torch.float32 for tensor in tensors)


def _native(module: nn.Module) -> nn.Module:
    """A module that computes the same by our own kernels, or itself where none suits."""
    if isinstance(module, Unpooling) and module.kind == "switches":
        return _CornerUnpooling()
    if type(module) is nn.ConvTranspose2d:
        if is_fully_connected(module) or _is_spread_out(module):
            return _ProductDeconvolution(module)
        if is_padded_convolution(module):
            module = as_convolution(module)
    if type(module) is nn.Conv2d:
        if _suits_winograd(module):
            return _WinogradConvolution(module)
        if _suits_product(module):
            return _ProductConvolution(module)
    return module


def _is_spread_out(deconv: nn.ConvTranspose2d) -> bool:
    """Whether the windows of a transposed convolution lie side by side."""
    return (
        deconv.stride == deconv.kernel_size
        and deconv.dilation == (1, 1)
        and deconv.padding == deconv.output_padding == (0, 0)
        and deconv.groups == 1
    )


def _suits_product(conv: nn.Conv2d) -> bool:
    return (
        conv.stride == conv.dilation == (1, 1)
        and not isinstance(conv.padding, str)
        and conv.padding[0] == conv.padding[1]
        and conv.padding_mode == "zeros"
        and conv.groups == 1
    )


def _suits_winograd(conv: nn.Conv2d) -> bool:
    return (
        conv.kernel_size == (3, 3)
        and conv.stride == conv.dilation == (1, 1)
        and conv.padding in {(0, 0), (1, 1)}
        and conv.padding_mode == "zeros"
        and conv.groups == 1
        and min(conv.in_channels, conv.out_channels) >= LEAST_CHANNELS
    )


class _KernelConvolution(nn.Module):
    """A convolution by kernels of ours, which can do the ReLU that follows it."""

    relu = False


class _WinogradConvolution(_KernelConvolution):
    """A 3 x 3 convolution in 36 products where the definition takes 144."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.kernels = winograd.pack(conv.weight, conv.bias)
        self.padding = int(conv.padding[0])

    def forward(self, features: Features) -> Float[Tensor, "n out_channels out_h out_w"]:
        return winograd.convolve(features, self.kernels, padding=self.padding, relu=self.relu)


class _ProductConvolution(_KernelConvolution):
    """Any other convolution of stride 1, as a product of matrices."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.matrix = product.pack(conv.weight, conv.bias)
        self.padding = int(conv.padding[0])

    def forward(self, features: Features) -> Float[Tensor, "n out_channels out_h out_w"]:
        return product.convolve(features, self.matrix, padding=self.padding, relu=self.relu)


class _ProductDeconvolution(_KernelConvolution):
    """A transposed convolution: one product gives all windows, which add up where they meet."""

    def __init__(self, deconv: nn.ConvTranspose2d) -> None:
        super().__init__()
        self.side_by_side = _is_spread_out(deconv)
        self.matrix = product.pack(deconv.weight, deconv.bias, transposed=True)
        self.unbiased = self.matrix._replace(bias=torch.zeros_like(self.matrix.bias))
        self.bias = self.matrix.bias[: deconv.out_channels].clone()

    def forward(self, features: Features) -> Float[Tensor, "n out_channels plane_h plane_w"]:
        if self.side_by_side or features.shape[2:] == (1, 1):
            return product.convolve(features, self.matrix, relu=self.relu)
        windows = product.convolve(features, self.unbiased)
        plane = overlaid(windows, self.matrix.window) + self.bias.view(1, -1, 1, 1)
        return plane.relu_() if self.relu else plane


class _CornerUnpooling(nn.Module):
    """`unpool` by corners of one byte."""

    def forward(
        self, features: Features, switches: Switches
    ) -> Float[Tensor, "n c plane_h plane_w"]:
        return winograd.unpool_corners(features, switches.positions, switches.size)


def _fuse_relu(sequence: nn.Sequential) -> None:
    """Let a convolution of ours do the ReLU that follows it."""
    before: nn.Module | None = None
    for index, step in enumerate(sequence):
        if isinstance(before, _KernelConvolution) and isinstance(step, nn.ReLU):
            before.relu = True
            sequence[index] = nn.Identity()
        if not isinstance(step, nn.Identity):
            before = step

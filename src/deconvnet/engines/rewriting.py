"""The engine `torch`: a copy of the network in fewer and cheaper steps, of plain PyTorch.

conv, batch norm         become one convolution
transposed 3 x 3         becomes the convolution that it is, by its weights turned
fc6 and its way back     become matrix products where there are few windows
everything               runs in channels_last, without autograd, in bounded batches
"""

import copy
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from deconvnet.layers.unpooling import Switches, Unpooling
from deconvnet.shapes import Features, Float

FEW_WINDOWS = 64
"""Up to so many windows in a batch, a 7 x 7 kernel is faster as a matrix product."""

LARGE_KERNEL = 5
"""Pixels; unpadded kernels from here on are fully connected layers in disguise."""


def torch_engine(network: nn.Module) -> nn.Module:
    """The network rewritten, in channels_last."""
    twin = rewritten(network, _faster)
    return twin.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # stubs lag


def rewritten(network: nn.Module, replacement: Callable[[nn.Module], nn.Module]) -> nn.Module:
    """A copy of the network in fewer and cheaper steps."""
    twin = nn.Sequential(copy.deepcopy(network)).eval().requires_grad_(requires_grad=False)
    places = Counter(id(module) for _, module in twin.named_modules(remove_duplicate=False))
    for sequence in [module for module in twin.modules() if type(module) is nn.Sequential]:
        if all(places[id(step)] == 1 for step in sequence):
            _fold_batch_norm(sequence)
            _work_in_place(sequence)
    for parent in list(twin.modules()):
        for name, module in parent.named_children():
            setattr(parent, name, replacement(module))
    return twin


def _fold_batch_norm(sequence: nn.Sequential) -> None:
    """Let each convolution do the scaling and shifting of the batch norm that follows it."""
    for index in range(len(sequence) - 1):
        conv, norm = sequence[index], sequence[index + 1]
        if type(conv) not in (nn.Conv2d, nn.ConvTranspose2d):
            continue
        if isinstance(norm, nn.BatchNorm2d) and norm.track_running_stats:
            conv = cast("nn.Conv2d | nn.ConvTranspose2d", conv)
            _scale_and_shift(conv, *_factor_and_shift(norm))
            sequence[index + 1] = nn.Identity()


def _factor_and_shift(norm: nn.BatchNorm2d) -> tuple[Float[Tensor, " c"], Float[Tensor, " c"]]:
    """What batch norm multiplies by and adds, in float64: the variance may be near zero."""
    mean, variance = cast("Tensor", norm.running_mean), cast("Tensor", norm.running_var)
    factor = (variance.double() + norm.eps).rsqrt()
    if norm.affine:
        factor = factor * norm.weight.double()
    shift = -mean.double() * factor
    return factor, shift + norm.bias.double() if norm.affine else shift


def _scale_and_shift(
    conv: nn.Conv2d | nn.ConvTranspose2d,
    factor: Float[Tensor, " c"],
    shift: Float[Tensor, " c"],
) -> None:
    weight = conv.weight.double()
    if isinstance(conv, nn.ConvTranspose2d):  # in, out of each group, height, width
        grouped = weight.reshape(conv.groups, -1, *weight.shape[1:])
        weight = (grouped * factor.view(conv.groups, 1, -1, 1, 1)).flatten(0, 1)
    else:
        weight = weight * factor[:, None, None, None]
    bias = shift if conv.bias is None else shift + conv.bias.double() * factor
    conv.weight, conv.bias = (
        nn.Parameter(value.to(conv.weight.dtype), requires_grad=False)
        for value in (weight, bias)
    )


def _work_in_place(sequence: nn.Sequential) -> None:
    """Let ReLU overwrite what a convolution has just written for it alone."""
    written_here = False
    for step in sequence:
        if isinstance(step, nn.ReLU):
            step.inplace = written_here
        elif not isinstance(step, nn.Identity):
            written_here = isinstance(step, nn.Conv2d | nn.ConvTranspose2d | nn.BatchNorm2d)


def _faster(module: nn.Module) -> nn.Module:
    """A module that computes the same in less time, or the module itself."""
    if type(module) is nn.Conv2d and is_fully_connected(module):
        return _WindowConvolution(module)
    if type(module) is nn.ConvTranspose2d:
        if is_fully_connected(module):
            return _WindowDeconvolution(module)
        if is_padded_convolution(module):
            return as_convolution(module)
    if isinstance(module, Unpooling) and module.kind == "switches":
        return _Unpooling()
    return module


def is_fully_connected(conv: nn.Conv2d | nn.ConvTranspose2d) -> bool:
    """Whether it has a large kernel and no padding, as fc6 and its way back have."""
    return (
        min(conv.kernel_size) >= LARGE_KERNEL
        and conv.stride == conv.dilation == (1, 1)
        and conv.padding == (0, 0)
        and conv.groups == 1
    )


def is_padded_convolution(deconv: nn.ConvTranspose2d) -> bool:
    """Whether `as_convolution` can write this transposed convolution as one."""
    return (
        deconv.stride == (1, 1)
        and deconv.output_padding == (0, 0)
        and min(_outer_padding(deconv)) >= 0
    )


class _WindowConvolution(nn.Module):
    """An unpadded convolution of stride 1 that sees few windows, as one matrix product."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.weight, self.bias = conv.weight, conv.bias  # out, in, height, width

    def forward(
        self, features: Features
    ) -> Float[Tensor, "n out_channels windows_down windows_across"]:
        kernel_h, kernel_w = self.weight.shape[2:]
        down, across = features.shape[2] - kernel_h + 1, features.shape[3] - kernel_w + 1
        if not 0 < len(features) * down * across <= FEW_WINDOWS:
            return F.conv2d(features, self.weight, self.bias)
        windows = features.unfold(2, kernel_h, 1).unfold(3, kernel_w, 1)
        rows = windows.permute(0, 2, 3, 4, 5, 1).reshape(-1, self.weight[0].numel())
        matrix = self.weight.permute(0, 2, 3, 1).flatten(1)
        product = F.linear(rows, matrix, self.bias)
        return product.view(len(features), down, across, -1).permute(0, 3, 1, 2)


class _WindowDeconvolution(nn.Module):
    """Its transpose: each place is spread over a window by one product, and windows add up."""

    def __init__(self, deconv: nn.ConvTranspose2d) -> None:
        super().__init__()
        self.weight, self.bias = deconv.weight, deconv.bias  # in, out, height, width

    def forward(self, features: Features) -> Float[Tensor, "n out_channels plane_h plane_w"]:
        count, channels, height, width = features.shape
        if not 0 < count * height * width <= FEW_WINDOWS:
            return F.conv_transpose2d(features, self.weight, self.bias)
        _, out_channels, kernel_h, kernel_w = self.weight.shape
        rows = features.permute(0, 2, 3, 1).reshape(-1, channels)
        windows = rows @ self.weight.permute(0, 2, 3, 1).flatten(1)
        by_line = windows.view(count, height, width, kernel_h, kernel_w, out_channels)
        side_by_side = by_line.transpose(2, 3).reshape(
            count, height * kernel_h, width * kernel_w, out_channels
        )
        plane = overlaid(side_by_side.permute(0, 3, 1, 2), (kernel_h, kernel_w))
        return plane if self.bias is None else plane + self.bias.view(1, -1, 1, 1)


def overlaid(windows: Features, size: tuple[int, int]) -> Float[Tensor, "n c plane_h plane_w"]:
    """Windows that lie side by side, each moved to one pixel from the next; they add up.

    Args:
        windows: In channels_last.
        size: (height, width) of one, in pixels.
    """
    kernel_h, kernel_w = size
    count, channels = windows.shape[:2]
    height, width = windows.shape[2] // kernel_h, windows.shape[3] // kernel_w
    pixels = windows.permute(0, 2, 3, 1)
    parts = pixels.reshape(count, height, kernel_h, width, kernel_w, channels)
    plane = windows.new_zeros(count, height + kernel_h - 1, width + kernel_w - 1, channels)
    for row in range(kernel_h):
        for column in range(kernel_w):
            place = plane[:, row : row + height, column : column + width]
            place += parts[:, :, row, :, column]
    return plane.permute(0, 3, 1, 2)


def as_convolution(deconv: nn.ConvTranspose2d) -> nn.Conv2d:
    """The convolution that a transposed one of stride 1 is: by weights turned half round."""
    kernel_h, kernel_w = deconv.kernel_size
    dilation_h, dilation_w = deconv.dilation
    conv = nn.Conv2d(
        deconv.in_channels,
        deconv.out_channels,
        (kernel_h, kernel_w),
        padding=_outer_padding(deconv),
        dilation=(dilation_h, dilation_w),
        groups=deconv.groups,
        device="meta",
    )
    weight = deconv.weight.view(deconv.groups, -1, *deconv.weight.shape[1:])  # group, in, out
    turned = weight.transpose(1, 2).flatten(0, 1).flip(2, 3)
    conv.weight, conv.bias = nn.Parameter(turned, requires_grad=False), deconv.bias
    return conv


def _outer_padding(deconv: nn.ConvTranspose2d) -> tuple[int, int]:
    """How far the windows of a transposed convolution reach over the edge of its input."""
    sides = cast(
        "Iterable[tuple[int, int, int]]",
        zip(deconv.dilation, deconv.kernel_size, deconv.padding, strict=True),
    )
    rows, columns = (dilation * (kernel - 1) - padding for dilation, kernel, padding in sides)
    return rows, columns


class _Unpooling(nn.Module):
    """`unpool` by torch's own kernel, which does not export, but keeps channels_last."""

    def forward(
        self, features: Features, switches: Switches
    ) -> Float[Tensor, "n c plane_h plane_w"]:
        return F.max_unpool2d(
            features, switches.positions, (2, 2), output_size=list(switches.size)
        )


class Instead(TorchFunctionMode):
    """Calls other functions in place of torch's; in its scope `pool` can give corners."""

    def __init__(self, functions: dict[Callable[..., Any], Callable[..., Any]]) -> None:
        super().__init__()
        self.functions = functions

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if function in self.functions:
            return self.functions[function](*args, **(kwargs or {}))
        return function(*args, **(kwargs or {}))


MAX_POOL = F.max_pool2d_with_indices
"""What torch calls for the pooling of `layers.pool`, and for no other in our networks."""


def pools_in_halves(kernel_size: Any, options: Mapping[str, Any]) -> bool:
    """Whether F.max_pool2d, called so, takes 2 x 2 windows side by side and keeps edges."""
    return (
        kernel_size in (2, (2, 2))
        and (options.get("stride") or kernel_size) in (2, (2, 2))
        and options.get("padding", 0) in (0, (0, 0))
        and options.get("dilation", 1) in (1, (1, 1))
        and bool(options.get("ceil_mode"))
    )

"""Training by the native kernels: in `native_operations` they do the work of any network.

The network stays as it is, with its own modules, weights and names: torch's functions are
exchanged below it. What the kernels do not do, or not faster, stays with torch.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from deconvnet.kernels import winograd

LEAST_KERNELS = 170
"""From so many kernels on (in times out channels), ours trains faster than torch's."""

LEAST_CHANNELS = 4
"""With the 3 of a picture torch's is faster: nobody asks for that gradient."""


class native_operations(TorchFunctionMode):  # noqa: N801 - used as torch.no_grad is
    """A `with` block in which networks compute, and later find gradients, by our kernels.

    Gradients are those of torch but for rounding, some five times larger. With the same number
    of threads the same bits come out each time. It takes any network: what is not float32 on
    the CPU, and what we have no kernel for, goes the usual way.

    Switches are then corners of one byte (`winograd.pool_corners`): what is pooled in the block
    must be unpooled in it.
    """

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Call our function in place of torch's where there is one that suits."""
        if function in _OPERATIONS:
            result = _OPERATIONS[function](*args, **(kwargs or {}))
            if result is not None:
                return result
        return function(*args, **(kwargs or {}))


def _conv2d(
    features: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor | None:
    if isinstance(padding, str) or not _suits(features, weight, stride, dilation, groups):
        return None
    return _convolution(features, weight, bias, _pair(padding), turned=False)


def _conv_transpose2d(
    features: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Tensor | None:
    if not _suits(features, weight, stride, dilation, groups) or _pair(output_padding) != (
        0,
        0,
    ):
        return None
    if not isinstance(padding, tuple):
        return None
    return _convolution(
        features, weight, bias, tuple(2 - side for side in padding), turned=True
    )


def _suits(features: Tensor, weight: Tensor, stride: Any, dilation: Any, groups: int) -> bool:
    return (
        weight.shape[2:] == (3, 3)
        and _pair(stride) == _pair(dilation) == (1, 1)
        and groups == 1
        and weight.shape[0] * weight.shape[1] >= LEAST_KERNELS
        and min(weight.shape[:2]) >= LEAST_CHANNELS
        and features.ndim == 4
        and _is_ours(features)
        and _is_ours(weight)
    )


def _convolution(
    features: Tensor, weight: Tensor, bias: Tensor | None, padding: Any, *, turned: bool
) -> Tensor | None:
    if padding not in {(0, 0), (1, 1), (2, 2)}:
        return None
    if min(features.shape[2:]) + 2 * padding[0] < 3:  # torch says it better
        return None
    result: Tensor = _Convolution.apply(features, weight, bias, padding[0], turned)  # type: ignore[no-untyped-call]
    return result


def _is_ours(tensor: Tensor) -> bool:
    return tensor.dtype == torch.float32 and tensor.device.type == "cpu"


def _pair(value: Any) -> tuple[int, ...]:
    return (value, value) if isinstance(value, int) else tuple(value)


class _Convolution(torch.autograd.Function):
    """A 3 x 3 convolution of stride 1, or a transposed one (`turned`), by Winograd all ways."""

    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        padding: int,
        turned: bool,
    ) -> Tensor:
        features = features.contiguous(memory_format=torch.channels_last)
        ctx.save_for_backward(features, weight)
        ctx.padding, ctx.turned = padding, turned
        kernels = winograd.pack(weight, bias, turned=turned)
        return winograd.convolve(features, kernels, padding=padding)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        features, weight = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        to_features = to_weight = to_bias = None
        if ctx.needs_input_grad[0]:
            kernels = winograd.pack(weight, None, turned=not ctx.turned)
            to_features = winograd.convolve(gradient, kernels, padding=2 - ctx.padding)
        if ctx.needs_input_grad[1] or ctx.needs_input_grad[2]:
            to_weight, to_bias = winograd.kernel_gradient(
                features, gradient, weight, padding=ctx.padding, turned=ctx.turned
            )
        return to_features, to_weight, to_bias if ctx.needs_input_grad[2] else None, None, None


def _max_pool2d_with_indices(
    features: Tensor, kernel_size: Any, stride: Any = None, **options: Any
) -> tuple[Tensor, Tensor] | None:
    sizes = (_pair(kernel_size), _pair(kernel_size if stride is None else stride))
    plain = (
        _pair(options.get("padding", 0)) == (0, 0)
        and _pair(options.get("dilation", 1)) == (1, 1)
        and options.get("ceil_mode", False)
    )
    if sizes != ((2, 2), (2, 2)) or not plain or features.ndim != 4 or not _is_ours(features):
        return None
    pooled: tuple[Tensor, Tensor] = _Pooling.apply(features)  # type: ignore[no-untyped-call]
    return pooled


def _max_pool2d(features: Tensor, kernel_size: Any, **options: Any) -> Tensor | None:
    pooled = _max_pool2d_with_indices(features, kernel_size, **options)
    return None if pooled is None else pooled[0]


class _Pooling(torch.autograd.Function):
    """The maximum of each window, and its corner; the way back is an unpooling."""

    @staticmethod
    def forward(ctx: Any, features: Tensor) -> tuple[Tensor, Tensor]:
        pooled, corners = winograd.pool_corners(features)
        ctx.save_for_backward(corners)
        ctx.mark_non_differentiable(corners)
        ctx.size = features.shape[2:]
        return pooled, corners

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, _: object) -> Tensor:
        (corners,) = ctx.saved_tensors
        return winograd.unpool_corners(gradient, corners, tuple(ctx.size))


def _max_unpool2d(
    features: Tensor, switches: Tensor, _kernel_size: Any, *, output_size: Any, **_options: Any
) -> Tensor | None:
    if switches.dtype != torch.uint8:
        return None
    plane: Tensor = _Unpooling.apply(features, switches, tuple(output_size))  # type: ignore[no-untyped-call]
    return plane


class _Unpooling(torch.autograd.Function):
    """Each value to its corner; the way back takes from it."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, corners: Tensor, size: tuple[int, int]) -> Tensor:
        ctx.save_for_backward(corners)
        return winograd.unpool_corners(features, corners, size)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (corners,) = ctx.saved_tensors
        return winograd.pick_corners(gradient, corners), None, None


_OPERATIONS: dict[Callable[..., Any], Callable[..., Any]] = {
    F.conv2d: _conv2d,
    F.conv_transpose2d: _conv_transpose2d,
    F.max_pool2d_with_indices: _max_pool2d_with_indices,
    F.max_pool2d: _max_pool2d,
    F.max_unpool2d: _max_unpool2d,
}
"""Ours by torch's; they give None for what torch does better."""

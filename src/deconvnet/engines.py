"""One face for everything that runs a trained network fast: `accelerate`.

The engine `torch` rewrites a copy of the network and stays plain PyTorch:

    conv, batch norm         become one convolution
    transposed 3 x 3         becomes the convolution that it is, by its weights turned
    fc6 and its way back     become matrix products where there are few windows
    everything               runs in channels_last, without autograd, in bounded batches

`deconvnet bench` measures what that wins; docs/performance.md discusses it.
"""

import copy
import math
import warnings
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from deconvnet.errors import MissingExtraError, RecipeError, UserError, did_you_mean
from deconvnet.int8 import check_int8, quantised
from deconvnet.kernels import winograd
from deconvnet.kernels.allocator import tune_allocator
from deconvnet.layers.bilinear import BilinearUpsampling, bilinear_kernel
from deconvnet.layers.unpooling import Switches, Unpooling
from deconvnet.shapes import Features, Float, ImageBatch

BATCH_PIXELS = 2**19
"""Pictures run together as long as they have no more pixels: 10 crops of 224 x 224.

That bounds the memory of a batch, whatever its size; larger batches are not faster.
"""

FEW_WINDOWS = 64
"""Up to so many windows in a batch, a 7 x 7 kernel is faster as a matrix product."""

LEAST_CHANNELS = 16
"""From so many channels on, in and out, our own convolution is faster than torch's."""

LARGE_KERNEL = 5
"""Pixels; unpadded kernels from here on are fully connected layers in disguise."""


def accelerate(
    network: nn.Module,
    engine: str = "torch",
    *,
    precision: str = "fp32",
    calibration: Iterable[Tensor] | None = None,
) -> nn.Module:
    """Give a faster twin of a network: same call, same output, inference only.

    The network stays as it is. Its twin shares nothing with it, is in eval mode for good, and
    gives no gradients. Dropout is kept, so that `sample_dropout` works on the twin too. On the
    way the C library's allocator is tuned (`kernels.allocator` says how, and how to opt out).

    Args:
        network: (N, C, H, W) to logits (N, K, H, W): any of MODELS, or another of convolutions.
        engine: "torch"; "native": our own kernels for the CPU, compiled when first wanted, or
            "torch" where there is no compiler; "openvino", which needs the extra of that name,
            takes seconds to compile, runs on the CPU, and cannot sample dropout.
        precision: "fp32"; or "int8" with the engine "openvino": convolutions in whole numbers
            of 8 bits, faster, and a little off (docs/performance.md).
        calibration: For "int8", batches of pictures as the network takes them, some dozens of
            those it was trained on, on which the range of each layer is measured.

    Raises:
        RecipeError: For an engine or precision that there is not, and for "int8" without
            pictures.
        MissingExtraError: When the engine's library is not installed.

    >>> network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
    >>> accelerate(network)(torch.zeros(2, 3, 5, 7)).shape
    torch.Size([2, 4, 5, 7])
    """
    if engine not in ENGINES:
        raise RecipeError(
            f"there is no engine '{engine}'; the engines are {', '.join(ENGINES)}."
            + did_you_mean(engine, ENGINES)
        )
    if precision == "int8":
        check_int8(engine)
    elif precision != "fp32":
        raise RecipeError(
            f"the engine '{engine}' does not compute in precision '{precision}'; take 'fp32'."
        )
    if isinstance(network, Accelerated):
        raise RecipeError(
            "this network is accelerated already; give the one that it was made from."
        )
    tune_allocator()
    if precision == "int8":
        return Accelerated(
            _openvino_engine(network, lambda model: quantised(model, calibration))
        )
    return Accelerated(ENGINES[engine](network))


class Accelerated(nn.Module):
    """What `accelerate` gives: a network that can only be called.

    Args:
        network: Gives logits for a batch of bounded size.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        super().train(mode=False)

    def forward(self, images: ImageBatch) -> Float[Tensor, "n k logits_h logits_w"]:
        """Give the logits that the network it was made from gives in eval mode.

        Raises:
            UserError: When gradients are asked for.
        """
        if images.requires_grad and torch.is_grad_enabled():
            raise UserError(
                "an accelerated network gives no gradients, and these pictures ask for them; "
                "use the network that it was made from."
            )
        at_once = max(1, BATCH_PIXELS // math.prod(images.shape[2:]))
        with torch.no_grad():
            parts = [self.network(part) for part in torch.split(images, at_once)]
            return (parts[0] if len(parts) == 1 else torch.cat(parts)).contiguous()

    def train(self, mode: bool = True) -> "Accelerated":
        """Stay in eval mode: there is nothing to train here."""
        return self


def _torch_engine(network: nn.Module) -> nn.Module:
    twin = _rewritten(network, _faster)
    return twin.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # stubs lag


def _rewritten(network: nn.Module, replacement: Callable[[nn.Module], nn.Module]) -> nn.Module:
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
    if type(module) is nn.Conv2d and _is_fully_connected(module):
        return _WindowConvolution(module)
    if type(module) is nn.ConvTranspose2d:
        if _is_fully_connected(module):
            return _WindowDeconvolution(module)
        if _is_padded_convolution(module):
            return _as_convolution(module)
    if isinstance(module, Unpooling) and module.kind == "switches":
        return _Unpooling()
    return module


def _is_fully_connected(conv: nn.Conv2d | nn.ConvTranspose2d) -> bool:
    return (
        min(conv.kernel_size) >= LARGE_KERNEL
        and conv.stride == conv.dilation == (1, 1)
        and conv.padding == (0, 0)
        and conv.groups == 1
    )


def _is_padded_convolution(deconv: nn.ConvTranspose2d) -> bool:
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
        product = rows @ self.weight.permute(0, 2, 3, 1).flatten(1)
        windows = product.view(count, height, width, kernel_h, kernel_w, out_channels)
        plane = features.new_zeros(
            count, height + kernel_h - 1, width + kernel_w - 1, out_channels
        )
        if self.bias is not None:
            plane += self.bias
        for row in range(kernel_h):
            for column in range(kernel_w):
                place = plane[:, row : row + height, column : column + width]
                place += windows[:, :, :, row, column]
        return plane.permute(0, 3, 1, 2)


def _as_convolution(deconv: nn.ConvTranspose2d) -> nn.Conv2d:
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


class Convertible(nn.Module):
    """A twin of a network that other engines can take over: no pooling with indices.

    They compare the corners of each window instead, for OpenVINO's pooling is slow where it
    gives indices, and ONNX's unpooling is known to few. To be traced; sizes stay free.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = _rewritten(network, _convertible)

    def forward(self, images: ImageBatch) -> Float[Tensor, "n k logits_h logits_w"]:
        """Give the same logits."""
        instead: dict[Callable[..., Any], Callable[..., Any]] = {
            _MAX_POOL: _pool_by_corners,
            F.max_pool2d: _pool_padded,
        }
        if torch.jit.is_tracing():  # type: ignore[attr-defined,no-untyped-call]  # torch's
            instead[torch.sym_max] = _traced_max
        with _Instead(instead):
            logits: Tensor = self.network(images)
            return logits


def _convertible(module: nn.Module) -> nn.Module:
    """A module that others run well; no branch on a size, for tracing takes but one."""
    if type(module) is nn.ConvTranspose2d and _is_padded_convolution(module):
        return _as_convolution(module)
    if isinstance(module, Unpooling) and module.kind == "switches":
        return _SelectUnpooling()
    if isinstance(module, BilinearUpsampling):
        return _BilinearUpsampling(module.factor)
    return module


def _openvino_engine(
    network: nn.Module, change: Callable[[Any], Any] = lambda model: model
) -> nn.Module:
    try:
        import openvino
    except ImportError:
        raise MissingExtraError("the engine 'openvino'", "openvino") from None
    return _OpenVino(Convertible(network).float(), openvino, change)


class _BilinearUpsampling(nn.Module):
    """The layer of that name by a kernel whose shape does not depend on the features."""

    def __init__(self, factor: int) -> None:
        super().__init__()
        self.factor = factor
        self.kernel = nn.Buffer(bilinear_kernel(2 * factor)[None, None])

    def forward(self, features: Features) -> Float[Tensor, "n c big_h big_w"]:
        planes = features.flatten(0, 1)[:, None]
        grown = F.conv_transpose2d(planes, self.kernel, stride=self.factor)
        return grown.view(*features.shape[:2], *grown.shape[2:])


class _OpenVino(nn.Module):
    """A network compiled by OpenVINO for this processor, for pictures of any size."""

    def __init__(self, network: nn.Module, openvino: Any, change: Callable[[Any], Any]) -> None:
        super().__init__()
        convolutions = [step for step in network.modules() if isinstance(step, nn.Conv2d)]
        dropouts = [step for step in network.modules() if isinstance(step, nn.Dropout)]
        self.dropouts = nn.ModuleList(dropouts)
        example = torch.zeros(1, convolutions[0].in_channels, 224, 256)
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # of tracing, about the checks of sizes
            try:
                model = openvino.convert_model(network, example_input=example)
            except Exception as error:  # of many kinds, none of them our own
                raise RecipeError(
                    "OpenVINO cannot convert this network "
                    f"({' '.join(str(error).split())[:200]}); use the engine 'torch'."
                ) from error
        settings = {
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "INFERENCE_PRECISION_HINT": "f32",
        }
        self.compiled = openvino.Core().compile_model(change(model), "CPU", settings)

    def forward(self, images: ImageBatch) -> Float[Tensor, "n k logits_h logits_w"]:
        if any(dropout.training and dropout.p for dropout in self.dropouts):
            raise RecipeError(
                "the engine 'openvino' cannot sample dropout; use the engine 'torch' for that."
            )
        logits = self.compiled(images.float().contiguous().cpu().numpy())[0]
        return torch.from_numpy(logits.copy()).to(images)


class _Instead(TorchFunctionMode):
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


_MAX_POOL = F.max_pool2d_with_indices
"""What torch calls for the pooling of `layers.pool`, and for no other in our networks."""


def _traced_max(side: Tensor, least: int) -> Tensor:
    """While a graph is traced, sizes are tensors; OpenVINO does not know sym_max."""
    return torch.as_tensor(side).clamp(min=least)


def _pool_padded(features: Tensor, kernel_size: Any, **options: Any) -> Tensor:
    """2 x 2 pooling that keeps edges, by a padding; any other pooling as it is.

    Where `ceil_mode` pools a single row or column, OpenVINO (2026.4) computes nothing, and
    answers with what it had computed for the picture before.
    """
    stride = options.get("stride") or kernel_size
    in_halves = kernel_size in (2, (2, 2)) and stride in (2, (2, 2))
    plain = options.get("padding", 0) in (0, (0, 0)) and options.get("dilation", 1) in (
        1,
        (1, 1),
    )
    if in_halves and plain and options.get("ceil_mode"):
        return F.max_pool2d(F.pad(features, (0, 1, 0, 1), value=-math.inf), 2)
    return F.max_pool2d(features, kernel_size, **options)


def _pool_by_corners(features: Tensor, *_: int, **_options: Any) -> tuple[Tensor, Tensor]:
    """The maximum of each 2 x 2 window and its corner; the first wins, edges are kept."""
    corners = (
        F.pad(features, (left, 1 - left, above, 1 - above), value=-math.inf)[:, :, 1::2, 1::2]
        for above in (1, 0)
        for left in (1, 0)
    )
    best = next(corners)
    winner = torch.zeros_like(best)
    for number, corner in enumerate(corners, start=1):
        winner = torch.where(corner > best, float(number), winner)
        best = torch.maximum(best, corner)
    return best, winner


class _SelectUnpooling(nn.Module):
    """`unpool` by the corners that `_pool_by_corners` gives."""

    def forward(
        self, features: Features, switches: Switches
    ) -> Float[Tensor, "n c plane_h plane_w"]:
        corners = [
            torch.where(switches.positions == corner, features, 0) for corner in range(4)
        ]
        plane = F.pixel_shuffle(torch.stack(corners, dim=2).flatten(1, 2), 2)
        height, width = switches.size
        return plane[:, :, :height, :width]


def _native_engine(network: nn.Module) -> nn.Module:
    """The engine `torch` with our own kernels in it, where they can be used."""
    weights = list(network.parameters())
    if any(weight.dtype != torch.float32 or weight.is_cuda for weight in weights):
        raise RecipeError(
            "the engine 'native' computes in float32 on the CPU, which this network does not; "
            "use the engine 'torch'."
        )
    if not winograd.is_available():  # which has said why, in one line of the log
        return _torch_engine(network)
    twin = _rewritten(network, _native)
    for sequence in [module for module in twin.modules() if type(module) is nn.Sequential]:
        _fuse_relu(sequence)
    return _Native(twin.to(memory_format=torch.channels_last))  # type: ignore[call-overload]  # stubs lag


class _Native(nn.Module):
    """A network whose poolings give corners, one byte each."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: ImageBatch) -> Float[Tensor, "n k logits_h logits_w"]:
        with _Instead({_MAX_POOL: _native_pool}):
            logits: Tensor = self.network(images)
            return logits


def _native_pool(features: Tensor, *_: int, **_options: Any) -> tuple[Tensor, Tensor]:
    return winograd.pool_corners(features)


def _native(module: nn.Module) -> nn.Module:
    """A module that computes the same by our own kernels, or by torch where that is faster."""
    if isinstance(module, Unpooling) and module.kind == "switches":
        return _CornerUnpooling()
    faster = _faster(module)
    if type(faster) is nn.Conv2d and _suits_winograd(faster):
        return _WinogradConvolution(faster)
    return faster


def _suits_winograd(conv: nn.Conv2d) -> bool:
    return (
        conv.kernel_size == (3, 3)
        and conv.stride == conv.dilation == (1, 1)
        and conv.padding in {(0, 0), (1, 1)}
        and conv.padding_mode == "zeros"
        and conv.groups == 1
        and min(conv.in_channels, conv.out_channels) >= LEAST_CHANNELS
    )


class _WinogradConvolution(nn.Module):
    """A 3 x 3 convolution in 36 products where the definition takes 144."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.kernels = winograd.pack(conv.weight, conv.bias)
        self.padding = int(conv.padding[0])
        self.relu = False

    def forward(self, features: Features) -> Float[Tensor, "n out_channels out_h out_w"]:
        return winograd.convolve(features, self.kernels, padding=self.padding, relu=self.relu)


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
        if isinstance(before, _WinogradConvolution) and isinstance(step, nn.ReLU):
            before.relu = True
            sequence[index] = nn.Identity()
        if not isinstance(step, nn.Identity):
            before = step


ENGINES: dict[str, Callable[[nn.Module], nn.Module]] = {
    "torch": _torch_engine,
    "native": _native_engine,
    "openvino": _openvino_engine,
}
"""What can run a network, by name."""

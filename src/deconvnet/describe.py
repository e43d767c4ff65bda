"""A network in figures: its layers, parameters, multiply-adds and receptive field."""

import dataclasses
import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from deconvnet.errors import RecipeError
from deconvnet.layers.bilinear import BilinearUpsampling
from deconvnet.layers.unpooling import Unpooling


@dataclasses.dataclass(frozen=True)
class Layer:
    """One row of the layer table."""

    name: str
    """As in the paper: conv1_1, pool1, fc6, unpool5, deconv5_1."""
    kind: str
    """convolution, transposed_convolution, max_pooling, unpooling, bilinear_upsampling,
    batch_norm or local_response_norm."""
    kernel: tuple[int, int]
    stride: tuple[int, int]
    pad: tuple[int, int]
    out_channels: int
    out_size: tuple[int, int]
    """(height, width) in pixels."""
    parameters: int
    multiply_adds: int
    """For one picture; those of convolutions, as papers count them."""


@dataclasses.dataclass(frozen=True)
class MeasuredField:
    """The receptive field that gradients find, in pixels a side."""

    reached: int
    """Of the smallest square around every pixel that moves the value at all."""
    effective: int
    """Of a square with as many pixels as move it by more than EFFECTIVE of the strongest."""


EFFECTIVE = 1 - 0.9545
"""Share of the strongest gradient, as Luo et al. 2016 count the effective receptive field."""


@dataclasses.dataclass(frozen=True)
class Description:
    """What `describe` found, for one picture of the given size."""

    size: tuple[int, int]
    """(height, width) in pixels."""
    parameters: int
    multiply_adds: int
    receptive_field: int
    """Pixels a side, at the deepest encoder layer."""
    weights_mib: float
    """MiB of the parameters in float32."""
    maps_mib: float
    """MiB of what the convolutions put out, in float32: about what training keeps a picture."""
    layers: tuple[Layer, ...]
    """In the order they ran."""
    measured_receptive_field: MeasuredField | None = None
    """At the deepest encoder layer too; none unless asked for."""

    def to_json(self) -> dict[str, Any]:
        """Give everything as plain lists, numbers and strings."""
        described = dataclasses.asdict(self)
        described["size"] = list(self.size)
        described["layers"] = [
            {
                key: list(value) if isinstance(value, tuple) else value
                for key, value in row.items()
            }
            for row in described["layers"]
        ]
        return described

    def __str__(self) -> str:
        """The table of the paper, with the totals below; batch norm is in the totals alone."""
        rows: list[tuple[str, ...]] = [_HEADINGS]
        rows += [_cells(layer) for layer in self.layers if layer.kind != "batch_norm"]
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        lines = [
            "  ".join(
                cell.rjust(width) if column > 1 else cell.ljust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
            for row in rows
        ]
        norms = [layer.parameters for layer in self.layers if layer.kind == "batch_norm"]
        if norms:
            lines.append(f"and batch norm: {len(norms)} layers, {sum(norms):,} parameters")
        height, width = self.size
        lines += [
            "",
            f"parameters       {self.parameters:,}",
            f"multiply-adds    {_engineering(self.multiply_adds)} at {height} x {width} pixels",
            f"weights          {self.weights_mib:,.1f} MiB in float32",
            f"feature maps     {self.maps_mib:,.1f} MiB in float32, after the convolutions",
            f"receptive field  {self.receptive_field} pixels, at the deepest encoder layer",
        ]
        if self.measured_receptive_field is not None:
            measured = self.measured_receptive_field
            lines.append(
                f"measured         {measured.effective} pixels, where the gradient is strong; "
                f"some within {measured.reached}"
            )
        return "\n".join(lines)


def describe(
    network: nn.Module,
    size: int | tuple[int, int] = 224,
    in_channels: int = 3,
    *,
    measure: bool = False,
) -> Description:
    """Run a network once on a picture without values, and write down what ran.

    Nothing is computed and nothing changes (torch's meta device), so full width takes a moment;
    all but the measured receptive field, which takes some passes there and back.

    Args:
        network: Any of ours, in any mode, on any device.
        size: Side, or (height, width), of the picture in pixels.
        in_channels: Channels of the picture.
        measure: Measure the receptive field too, on pictures of noise of this size; it depends
            on the weights.

    Raises:
        RecipeError: For a size under 1.
    """
    height, width = (size, size) if isinstance(size, int) else size
    if min(height, width) < 1:
        raise RecipeError(
            f"a picture of {height} x {width} pixels was asked for; take 1 or more."
        )
    weights = {
        name: torch.empty_like(value, device="meta")
        for name, value in (*network.named_parameters(), *network.named_buffers())
    }
    image = torch.empty(1, in_channels, height, width, device="meta")
    with torch.no_grad(), _recorded(network) as layers:
        torch.func.functional_call(network, weights, (image,))
    parameters = sum(parameter.numel() for parameter in network.parameters())
    values = sum(
        layer.out_channels * math.prod(layer.out_size)
        for layer in layers
        if layer.kind in ("convolution", "transposed_convolution")
    )
    return Description(
        size=(height, width),
        parameters=parameters,
        multiply_adds=sum(layer.multiply_adds for layer in layers),
        receptive_field=receptive_field(layers),
        weights_mib=parameters * 4 / 2**20,
        maps_mib=values * 4 / 2**20,
        layers=tuple(layers),
        measured_receptive_field=(
            field_of(
                measured_receptive_field(
                    network, None, size=max(height, width), in_channels=in_channels, samples=4
                )
            )
            if measure
            else None
        ),
    )


def receptive_field(layers: Iterable[Layer]) -> int:
    """Give the side, in pixels, of what one value of the deepest encoder layer can see.

    Every window of k adds k - 1 steps, and every stride makes the steps of what follows longer.
    The encoder ends where the first layer enlarges the map.

    >>> receptive_field([Layer("conv", "convolution", (3, 3), (1, 1), (1, 1), 8, (9, 9), 0, 0)])
    3
    """
    side, step = 1, 1
    for layer in layers:
        if layer.kind in _ENLARGING:
            break
        side += (max(layer.kernel) - 1) * step
        step *= max(layer.stride)
    return side


def field_of(strength: Float32[np.ndarray, "h w"]) -> MeasuredField:
    """Put a measured receptive field into two numbers.

    Source: Luo, Li, Urtasun & Zemel 2016, section 3.

    >>> field_of(np.float32([[0.01, 0.01, 0.01], [0.01, 1.0, 1.0], [0.0, 1.0, 1.0]]))
    MeasuredField(reached=3, effective=2)
    """
    reached = 0
    for axis in (0, 1):
        places = np.flatnonzero(strength.any(axis=axis))
        if len(places):
            reached = max(reached, int(places[-1] - places[0]) + 1)
    strong = np.count_nonzero(strength > EFFECTIVE * strength.max())
    return MeasuredField(reached, round(math.sqrt(strong)))


def measured_receptive_field(
    network: nn.Module,
    layer: str | None,
    *,
    size: int = 224,
    in_channels: int = 3,
    samples: int = 8,
    seed: int = 0,
) -> Float32[np.ndarray, "size size"]:
    """Measure how strongly each pixel moves the middle value of a layer: the mean |gradient|.

    The field that matters in practice: it fades towards its edges, and is smaller than the
    theoretical one.

    Args:
        network: Runs in evaluation mode, and is given back as it was.
        layer: Name of a module as in `network.named_modules()`: "bottleneck.fc6"; None is the
            deepest encoder layer, what the first layer that enlarges the map takes in.
        size: Side of the pictures in pixels.
        in_channels: Channels of the pictures.
        samples: Pictures of noise to average over.
        seed: Of the noise.

    Raises:
        RecipeError: When the network has no such layer.

    Source: Luo, Li, Urtasun & Zemel 2016, section 3.
    """
    modules = dict(network.named_modules())
    if layer is not None and layer not in modules:
        raise RecipeError(f"the network has no layer '{layer}'; see network.named_modules().")
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(samples, in_channels, size, size, generator=generator)
    parameter = next(network.parameters())
    images = images.to(parameter).requires_grad_()
    seen: list[Tensor] = []
    hooks = (
        [modules[layer].register_forward_hook(lambda _module, _inputs, out: seen.append(out))]
        if layer is not None
        else [
            module.register_forward_hook(lambda _module, inputs, _out: seen.append(inputs[0]))
            for module in modules.values()
            if isinstance(module, nn.ConvTranspose2d | Unpooling | BilinearUpsampling)
        ]
    )
    try:
        with _evaluating(network), torch.enable_grad():
            network(images)
            *_, height, width = seen[0].shape
            middle = seen[0][:, :, height // 2, width // 2]
            (gradient,) = torch.autograd.grad(middle.sum(), images)
    finally:
        for hook in hooks:
            hook.remove()
    strength: Float32[np.ndarray, "size size"] = (
        gradient.abs().mean(dim=(0, 1)).float().cpu().numpy()
    )
    return strength


_ENLARGING = {"transposed_convolution", "unpooling", "bilinear_upsampling"}


@contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    """Evaluation mode within, and every module's own mode after."""
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


@contextmanager
def _recorded(network: nn.Module) -> Iterator[list[Layer]]:
    """Within, every layer of the network that runs is appended to the list."""
    layers: list[Layer] = []

    def record(module: nn.Module, name: str) -> Any:
        def append(_module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
            layers.append(_layer(name, module, inputs[0], output))

        return module.register_forward_hook(append)

    hooks = [
        record(module, _paper_name(path))
        for path, module in network.named_modules()
        if isinstance(module, _LAYERS)
    ]
    try:
        with _PoolingRecorder(layers):
            yield layers
    finally:
        for hook in hooks:
            hook.remove()


class _PoolingRecorder(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's
    """Sees max pooling, which is a function of the networks' forward and no module."""

    def __init__(self, layers: list[Layer]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's
        self.layers = layers

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        del types
        result = func(*args, **(kwargs or {}))
        if func is torch.ops.aten.max_pool2d_with_indices.default:
            number = 1 + sum(layer.kind == "max_pooling" for layer in self.layers)
            _, kernel, *strides = args
            self.layers.append(
                Layer(
                    f"pool{number}",
                    "max_pooling",
                    kernel=_pair(kernel),
                    stride=_pair(strides[0] if strides and strides[0] else kernel),
                    pad=(0, 0),
                    out_channels=result[0].shape[1],
                    out_size=tuple(result[0].shape[2:]),
                    parameters=0,
                    multiply_adds=0,
                )
            )
        return result


_LAYERS = (
    nn.Conv2d,
    nn.ConvTranspose2d,
    nn.BatchNorm2d,
    nn.LocalResponseNorm,
    Unpooling,
    BilinearUpsampling,
)


def _layer(name: str, module: nn.Module, given: Tensor, output: Tensor) -> Layer:
    kind, kernel, stride, pad, multiply_adds = "batch_norm", (1, 1), (1, 1), (0, 0), 0
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        transposed = isinstance(module, nn.ConvTranspose2d)
        kind = "transposed_convolution" if transposed else "convolution"
        kernel, stride = _pair(module.kernel_size), _pair(module.stride)
        pad = _pair(module.padding)
        places = given if transposed else output  # where the kernel is laid down
        multiply_adds = math.prod(places.shape[2:]) * module.weight.numel()
    elif isinstance(module, nn.LocalResponseNorm):
        kind = "local_response_norm"
    elif isinstance(module, Unpooling):
        kind, kernel, stride = "unpooling", (2, 2), (2, 2)
    elif isinstance(module, BilinearUpsampling):
        kind, stride = "bilinear_upsampling", _pair(module.factor)
        kernel = _pair(2 * module.factor)
        multiply_adds = given.numel() * math.prod(kernel)
    own = () if isinstance(module, Unpooling) else module.parameters()
    return Layer(
        name,
        kind,
        kernel=kernel,
        stride=stride,
        pad=pad,
        out_channels=output.shape[1],
        out_size=(output.shape[2], output.shape[3]),
        parameters=sum(parameter.numel() for parameter in own),
        multiply_adds=multiply_adds,
    )


def _pair(value: Any) -> tuple[int, int]:
    first, last = (value, value) if isinstance(value, int) else (value[0], value[-1])
    return int(first), int(last)


_ROOMS = {"encoder", "bottleneck", "decoder", "unpoolings", "upconvolutions", "conv", "deconv"}
"""Words of a module's path that only say where it stands."""


def _paper_name(path: str) -> str:
    """Turn a module's path into the name the paper uses.

    >>> _paper_name("encoder.0.conv1_1.conv"), _paper_name("decoder.1.deconv4_1.norm")
    ('conv1_1', 'deconv4_1.norm')
    """
    return ".".join(
        word for word in path.split(".") if word not in _ROOMS and not word.isdigit()
    )


_HEADINGS = ("layer", "kind", "kernel", "stride", "pad", "output", "parameters")


def _cells(layer: Layer) -> tuple[str, ...]:
    height, width = layer.out_size
    return (
        layer.name,
        layer.kind.replace("_", " "),
        *(f"{rows} x {columns}" for rows, columns in (layer.kernel, layer.stride, layer.pad)),
        f"{height} x {width} x {layer.out_channels}",
        f"{layer.parameters:,}" if layer.parameters else "-",
    )


def _engineering(count: int) -> str:
    """Write a large number as papers do.

    >>> _engineering(32_750_000_000), _engineering(1_500_000)
    ('32.75 G', '1.50 M')
    """
    return f"{count / 1e9:,.2f} G" if count >= 1e9 else f"{count / 1e6:,.2f} M"

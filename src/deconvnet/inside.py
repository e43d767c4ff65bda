"""One forward pass with everything kept: what each layer of a network made of a picture."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, Float64, UInt8
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from deconvnet.engines import Accelerated
from deconvnet.errors import LabelError, RecipeError, ShapeError, did_you_mean
from deconvnet.labels import Classes
from deconvnet.layers.bilinear import BilinearUpsampling
from deconvnet.layers.unpooling import Switches, Unpooling
from deconvnet.models.unet import MARGIN, UNet
from deconvnet.predict import AnyImage, Predictor, as_image
from deconvnet.shapes import Image, LabelMap

LARGEST = 1_000_000
"""Pixels, at the network's scale, up to which every map of a pass is kept."""

Choice = Literal["contribution", "correlation", "energy"]
CHOICES: tuple[Choice, ...] = ("contribution", "correlation", "energy")
"""What makes a channel representative; `representative_channels` says what each means."""


@dataclass(frozen=True)
class Layer:
    """What one layer gave, in the order the network ran."""

    name: str
    """As in the paper: image, conv1_1, pool1, fc6, unpool5, deconv5_1, scores."""
    kind: str
    """image, convolution, max_pooling, unpooling, transposed_convolution,
    bilinear_upsampling, skip (a map that is handed across to the way up) or scores."""
    values: Float32[np.ndarray, "c h w"] = field(repr=False)
    """After batch norm and ReLU, where the layer has them."""
    step: float
    """Pixels of the picture from one place of the map to the next."""
    start: float
    """Where place 0 lies on the picture, in pixels from the middle of its first pixel."""

    @property
    def nonzero(self) -> float:
        """Share of values that are not zero, 0 to 1."""
        return float(np.count_nonzero(self.values) / self.values.size)


@runtime_checkable
class _Named(Protocol):
    """What has the name of a layer."""

    @property
    def name(self) -> str:
        """As in the paper."""


Found = TypeVar("Found", bound=_Named)


def named(layers: Sequence[Found], name: str) -> Found:
    """The one of that name.

    Raises:
        RecipeError: When there is none; the message lists them, and proposes the nearest.
    """
    for layer in layers:
        if layer.name == name:
            return layer
    names = [layer.name for layer in layers]
    raise RecipeError(
        f"this network has no layer '{name}'; its layers are {', '.join(names)}."
        + did_you_mean(name, names)
    )


@dataclass(frozen=True)
class Inside:
    """A network's pass over one picture, with every layer's maps; `look_inside` makes it."""

    picture: Image = field(repr=False)
    """What the network saw, at its own scale; grey where it takes one channel."""
    size: tuple[int, int]
    """(height, width) in pixels of what was given; `picture` is smaller by `input_scale`."""
    layers: tuple[Layer, ...]
    """From the image to the scores, in the order they ran."""
    switches: Mapping[str, Switches] = field(repr=False)
    """Of each pooling by its name, `pool1` first, on the CPU."""
    label_map: LabelMap = field(repr=False)
    """The class predicted for each pixel of `picture`."""
    classes: Classes = field(repr=False)
    network: nn.Module = field(repr=False)
    """In eval mode; a pass leaves no trace in it."""
    standardised: Float32[Tensor, "c h w"] = field(repr=False)
    """The picture as the network takes it."""

    def __getitem__(self, name: str) -> Layer:
        """The layer of that name.

        Raises:
            RecipeError: When the network has none.
        """
        return named(self.layers, name)

    @property
    def unpools_by_switches(self) -> bool:
        """Whether the way up puts values back where the maxima came from."""
        kinds = [m.kind for m in self.network.modules() if isinstance(m, Unpooling)]
        return bool(kinds) and set(kinds) == {"switches"}

    def seen_at(self, x: int, y: int) -> tuple[int, int]:
        """The pixel of `picture` that shows pixel x, y (column, row) of what was given.

        Raises:
            ShapeError: For a pixel outside it.
        """
        height, width = self.size
        if not (0 <= x < width and 0 <= y < height):
            raise ShapeError(
                f"The pixel {x},{y} lies outside the picture, which is {width} x {height}; "
                f"give X,Y from 0,0 to {width - 1},{height - 1}."
            )
        rows, columns = self.picture.shape[:2]
        return x * columns // width, y * rows // height

    def label(self, name: str | None = None) -> int:
        """The index of a class; without a name the one predicted most, background apart.

        Raises:
            LabelError: When the network knows no such class.
        """
        if name is not None:
            return class_index(self.classes, name)
        counts = np.bincount(self.label_map.ravel(), minlength=len(self.classes))
        if self.classes.background is not None and counts.sum() > counts.max():
            counts[self.classes.background] = 0
        elif self.classes.background is not None and len(self.classes) > 1:
            counts[self.classes.background] = -1  # nothing but background: the next best
        return int(counts.argmax())


def class_index(classes: Classes, name: str) -> int:
    """The index of the class of that name.

    Raises:
        LabelError: When there is none.
    """
    if name not in classes.names:
        raise LabelError(
            f"there is no class '{name}'; the classes are {', '.join(classes.names)}."
            + did_you_mean(name, classes.names)
        )
    return classes.names.index(name)


def look_inside(
    predictor: Predictor, image: AnyImage, *, box: tuple[int, int, int, int] | None = None
) -> Inside:
    """Run a network once over a picture and keep what every layer gave.

    Args:
        predictor: Of the engine "plain" (`deconvnet.load(name, engine="plain")`), whose layers
            are those of the paper; the other engines merge and rearrange them.
        image: A path, a PIL image, or uint8 (H, W, 3) RGB.
        box: (x0, y0, x1, y1) in pixels of the image, half-open: look at this part alone.

    Raises:
        ImageFileError: If the picture cannot be read.
        RecipeError: For a predictor of another engine.
        ShapeError: For a box outside the picture, or more pixels than LARGEST.
    """
    if isinstance(predictor.network, Accelerated):
        raise RecipeError(
            "an accelerated network has other layers than the paper's; "
            "load it with engine='plain' to look inside."
        )
    pixels = as_image(image)
    if box is not None:
        pixels = _cut_out(pixels, box)
    height, width = pixels.shape[:2]
    if height * width * predictor.config.input_scale**2 > LARGEST:
        raise ShapeError(
            f"The picture has {height} x {width} pixels, and looking inside keeps every map of "
            f"up to {LARGEST:,}; give a part of it (box) or a smaller picture."
        )
    standardised = predictor.standardised(pixels)
    with torch.no_grad(), recording(predictor.network) as record:
        logits = predictor.network(standardised[None])
    record.add("scores", "scores", logits, (1.0, 0.0))
    first = Layer("image", "image", standardised.cpu().numpy(), 1.0, 0.0)
    return Inside(
        picture=_as_seen(predictor, standardised),
        size=(height, width),
        layers=(first, *(made.layer() for made in record.made)),
        switches={
            name: Switches(positions.cpu(), size)
            for name, (positions, size) in record.switches.items()
        },
        label_map=logits[0].argmax(0).to(torch.uint8).cpu().numpy(),
        classes=predictor.classes,
        network=predictor.network,
        standardised=standardised,
    )


def representative_channels(
    inside: Inside,
    layers: Sequence[str],
    *,
    by: Choice = "contribution",
    label: int | None = None,
) -> dict[str, tuple[int, float]]:
    """The channel of each layer that stands for it best, with the number that says so.

    - `contribution`: activation times gradient, summed over the map: how much the channel adds,
      to first order, to the mean logit of the class over the pixels where it was predicted
      (over all pixels where it was predicted nowhere).
    - `correlation`: between the map and the predicted mask of the class, -1 to 1.
    - `energy`: the mean of the squared activations; the class does not matter.

    Args:
        inside: A pass.
        layers: Names of its layers.
        by: What to choose by.
        label: Index of the class; None is `inside.label()`.

    Raises:
        RecipeError: For a layer or a choice that there is not.

    Source: SPEC, section 3; the paper (figure 4) does not say how its channels were chosen.
    """
    numbers = channel_numbers(inside, layers, by=by, label=label)
    return {name: (int(row.argmax()), float(row.max())) for name, row in numbers.items()}


def representative_channel(
    inside: Inside, layer: str, by: Choice = "contribution", *, label: int | None = None
) -> tuple[int, float]:
    """One layer's `representative_channels`: (channel, number)."""
    return representative_channels(inside, [layer], by=by, label=label)[layer]


def channel_numbers(
    inside: Inside, layers: Sequence[str], *, by: str, label: int | None = None
) -> dict[str, Float64[np.ndarray, " _"]]:
    """The number of every channel of some layers; `representative_channels` takes the largest.

    Raises:
        RecipeError: For a layer or a choice that there is not.
    """
    if by not in CHOICES:
        raise RecipeError(
            f"a channel cannot be chosen by '{by}'; take {', '.join(CHOICES)}."
            + did_you_mean(by, CHOICES)
        )
    maps = {name: inside[name] for name in layers}
    label = inside.label() if label is None else label
    if by == "energy":
        return {
            name: np.square(layer.values, dtype=np.float64).mean(axis=(1, 2))
            for name, layer in maps.items()
        }
    if by == "correlation":
        mask = (inside.label_map == label).astype(np.float64)
        return {name: _correlations(layer, mask) for name, layer in maps.items()}
    chosen = torch.from_numpy(inside.label_map == label)
    if not chosen.any():
        chosen[:] = True
    added = contributions(inside, layers, lambda logits: logits[label][chosen].mean())
    return {name: row.sum(axis=(1, 2), dtype=np.float64) for name, row in added.items()}


def contributions(
    inside: Inside, layers: Iterable[str], score: Callable[[Tensor], Tensor]
) -> dict[str, Float32[np.ndarray, "_ _ _"]]:
    """Activation times gradient of some layers: what each value adds to a score.

    To first order, that is exactly as far as the network is linear about this picture: with
    the switches and the ReLUs as they are. Biases add the rest.

    Args:
        inside: A pass.
        layers: Names of its layers.
        score: From the logits (K, H, W), on the CPU, to the number to be explained.

    Returns:
        An array of the layer's shape (C, H, W) for each name.

    Raises:
        RecipeError: When the network has no such layer.
    """
    names = [inside[name].name for name in layers]
    image = inside.standardised[None].detach().clone().requires_grad_()
    with torch.enable_grad(), recording(inside.network) as record:
        logits = inside.network(image)
    tensors = {"image": image} | {made.name: made.tensor for made in record.made}
    tensors["scores"] = logits
    wanted = [tensors[name] for name in names]
    gradients = torch.autograd.grad(score(logits[0].cpu()), wanted, allow_unused=True)
    return {
        name: (
            np.zeros(tensor.shape[1:], np.float32)
            if gradient is None  # a layer that the score does not see
            else (tensor * gradient)[0].detach().float().cpu().numpy()
        )
        for name, tensor, gradient in zip(names, wanted, gradients, strict=True)
    }


class Made(NamedTuple):
    """A layer's output while it is still a tensor that gradients go through."""

    name: str
    kind: str
    tensor: Float[Tensor, "n c h w"]
    geometry: tuple[float, float]
    """(step, start), as in Layer."""

    def layer(self) -> Layer:
        """The same as arrays."""
        values = self.tensor[0].detach().float().cpu().numpy()
        return Layer(self.name, self.kind, values, *self.geometry)


class Record:
    """What `recording` wrote down of a pass, in the order it happened."""

    def __init__(self, image_start: float) -> None:
        self.made: list[Made] = []
        self.switches: dict[str, Switches] = {}
        self.image = 1.0, image_start

    def add(
        self,
        name: str,
        kind: str,
        tensor: Tensor,
        geometry: tuple[float, float],
    ) -> None:
        """Write down the output of a layer."""
        self.made.append(Made(name, kind, tensor, geometry))

    def geometry_of(self, tensor: Tensor | None, name: str) -> tuple[float, float]:
        """Where the places of a layer's input lie on the picture.

        Crops, sums and concatenations begin where the map from below begins, which ran last.
        """
        source = name.removeprefix("score_") if name.startswith("score_pool") else None
        for made in reversed(self.made):
            if made.tensor is tensor or made.name == source:
                return made.geometry
        return next(
            (made.geometry for made in reversed(self.made) if not _is_score_of_skip(made)),
            self.image,
        )


@contextmanager
def recording(network: nn.Module) -> Iterator[Record]:
    """Within, every layer of the network that runs is written down, poolings included.

    Tensors are kept as they are, so gradients can be taken with respect to them.
    """
    start = -float(MARGIN) if isinstance(network, UNet) and not network.padded else 0.0
    record = Record(start)

    def hook(name: str, kind: str, step: nn.Module) -> Any:
        def write(_module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
            geometry = _after(step, record.geometry_of(inputs[0], name))
            record.add(name, kind, output, geometry)

        return write

    hooks = [
        module.register_forward_hook(hook(name, kind, step))
        for name, kind, module, step in named_layers(network)
    ]
    try:
        with PoolingMode(_remembering(record)):
            yield record
    finally:
        for handle in hooks:
            handle.remove()


Pooling = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
"""From the features, their maxima and their positions to the two that the network is to see."""


class PoolingMode(TorchFunctionMode):
    """Within, what max pooling gives the networks goes through a function of ours.

    Pooling is a function of the networks and no module, so hooks cannot see it.
    """

    def __init__(self, pooling: Pooling) -> None:
        super().__init__()
        self.pooling = pooling

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Pool with positions, whether they were asked for or not."""
        kwargs = kwargs or {}
        wanted = kwargs.get("return_indices")
        if function not in (F.max_pool2d, F.max_pool2d_with_indices):
            return function(*args, **kwargs)
        kwargs = kwargs | {"return_indices": True}
        pooled, positions = F.max_pool2d_with_indices(*args, **kwargs)
        seen = self.pooling(args[0], pooled, positions)
        return seen if wanted else seen[0]


def _remembering(record: Record) -> Pooling:
    def remember(features: Tensor, pooled: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        name = f"pool{len(record.switches) + 1}"
        record.switches[name] = Switches(positions, (features.shape[2], features.shape[3]))
        step, start = record.geometry_of(features, name)
        record.add(name, "max_pooling", pooled, (2 * step, start + step / 2))
        return pooled, positions

    return remember


def named_layers(network: nn.Module) -> Iterator[tuple[str, str, nn.Module, nn.Module]]:
    """The layers of a network: (name, kind, module, the module that gives it its geometry).

    A convolution's layer is its whole block, with batch norm and ReLU. The classifier is left
    out: what it gives are the scores.
    """
    inner: set[nn.Module] = set()
    for path, module in network.named_modules():
        if module in inner or path == "classifier":
            continue
        step: nn.Module = module
        if isinstance(module, nn.Sequential):
            children = dict(module.named_children())
            if not {"conv", "deconv"} & set(children):
                continue
            step = children.get("conv", children.get("deconv", module))
        if isinstance(step, _KINDS):
            inner.update(module.modules())
            name = path.rsplit(".", 1)[-1]
            yield name, _kind(network, path, step), module, step


_KINDS = (nn.Conv2d, nn.ConvTranspose2d, Unpooling, BilinearUpsampling)


def _kind(network: nn.Module, path: str, module: nn.Module) -> str:
    handed_across = isinstance(network, UNet) and path.startswith("encoder.")
    if path.startswith("score_pool") or (handed_across and path.endswith("_2")):
        return "skip"
    if isinstance(module, nn.Conv2d):
        return "convolution"
    if isinstance(module, nn.ConvTranspose2d):
        return "transposed_convolution"
    return "unpooling" if isinstance(module, Unpooling) else "bilinear_upsampling"


def _is_score_of_skip(made: Made) -> bool:
    return made.name.startswith("score_pool")


def _after(module: nn.Module, geometry: tuple[float, float]) -> tuple[float, float]:
    """Where the places of a layer lie, from where those of its input do: (step, start)."""
    step, start = geometry
    if isinstance(module, Unpooling):
        return step / 2, start - step / 4
    if isinstance(module, BilinearUpsampling):
        kernel, stride, padding = 2 * module.factor, module.factor, 0
        transposed = True
    else:
        kernel, stride, padding = (
            int(getattr(module, key)[0]) for key in ("kernel_size", "stride", "padding")
        )
        transposed = isinstance(module, nn.ConvTranspose2d)
    offset = (kernel - 1) / 2 - padding
    if transposed:
        return step / stride, start - offset * step / stride
    return step * stride, start + offset * step


def _cut_out(
    pixels: Image, box: tuple[int, int, int, int]
) -> UInt8[np.ndarray, "box_h box_w 3"]:
    x0, y0, x1, y1 = box
    height, width = pixels.shape[:2]
    if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
        raise ShapeError(
            f"The box {x0},{y0},{x1},{y1} is no part of a picture of {width} x {height} "
            "pixels; give x0,y0,x1,y1 with x0 < x1 and y0 < y1 inside it."
        )
    return np.ascontiguousarray(pixels[y0:y1, x0:x1])


def _as_seen(predictor: Predictor, standardised: Float32[Tensor, "c h w"]) -> Image:
    """The standardised picture as RGB again."""
    mean = standardised.new_tensor(predictor.config.mean)[:, None, None]
    std = standardised.new_tensor(predictor.config.std)[:, None, None]
    rgb = ((standardised * std + mean) * 255).round().clamp(0, 255).to(torch.uint8)
    picture = rgb.expand(3, *rgb.shape[1:]).permute(1, 2, 0)
    return np.ascontiguousarray(picture.cpu().numpy())


def _correlations(
    layer: Layer, mask: Float64[np.ndarray, "height width"]
) -> Float64[np.ndarray, " c"]:
    """Pearson's correlation of each channel with a mask seen at the layer's places."""
    seen = places_of(layer, mask)
    seen = seen - seen.mean()
    values = layer.values - layer.values.mean(axis=(1, 2), keepdims=True, dtype=np.float64)
    together = (values * seen).sum(axis=(1, 2))
    scale = np.sqrt((values**2).sum(axis=(1, 2)) * (seen**2).sum())
    correlations: Float64[np.ndarray, " c"] = np.divide(
        together, scale, out=np.zeros_like(together), where=scale > 1e-12
    )
    return correlations


def places_of(
    layer: Layer, picture: Float64[np.ndarray, "height width"]
) -> Float64[np.ndarray, "h w"]:
    """A map of the picture as seen at a layer's places: the mean over the pixels of each.

    Places beyond the picture's edge see 0.
    """
    _, rows, columns = layer.values.shape
    across = _coverage(rows, picture.shape[0], layer)
    along = _coverage(columns, picture.shape[1], layer)
    return across @ picture @ along.T


def _coverage(places: int, pixels: int, layer: Layer) -> Float64[np.ndarray, "places pixels"]:
    """How much of each place, a square about its middle, each pixel covers."""
    middles = layer.start + layer.step * np.arange(places)[:, None]
    edges = np.arange(pixels) - 0.5
    low = np.maximum(middles - layer.step / 2, edges)
    high = np.minimum(middles + layer.step / 2, edges + 1)
    return np.maximum(high - low, 0) / layer.step

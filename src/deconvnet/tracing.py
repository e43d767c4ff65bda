"""Where a value came from: through the switches back to the picture, and forward again.

Three questions are answered, from the widest to the narrowest:

- `trace_back` and `trace_forward`: from which places can a value come at all, and where can it
  go? Whatever the weights: values travel through the windows of the convolutions, and at
  poolings and unpoolings only by the switches.
- `strongest_path`: by which single chain of values did most of it come? This asks the weights.
- `project`: what in the picture does an activation stand for? (Zeiler and Fergus)
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float32, Float64, Int64
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from deconvnet.errors import RecipeError, ShapeError, did_you_mean
from deconvnet.inside import Inside, PoolingMode, named, recording
from deconvnet.layers.unpooling import Switches

Rule = Literal["zeiler-fergus", "guided", "gradient"]
RULES: tuple[Rule, ...] = ("zeiler-fergus", "guided", "gradient")
"""What a ReLU does to the signal on its way back; `project` says what each means."""


@dataclass(frozen=True)
class TracedMap:
    """The traced places of one layer."""

    name: str
    kind: str
    """As in `inside.Layer`."""
    weight: Float64[np.ndarray, "h w"] = field(repr=False)
    """Above 0 exactly at the traced places: the share of all paths that go through each, where
    every tap of a window and every channel counts alike."""
    switches: Int64[np.ndarray, "h w"] | None = field(repr=False)
    """Of an unpooling by switches: how many channels have their maximum at each traced place;
    0 at the others."""
    step: float
    start: float
    """Where the places lie on the picture, as in `inside.Layer`."""

    @property
    def places(self) -> Int64[np.ndarray, "count 2"]:
        """Column and row (x, y) of each traced place of this map."""
        rows, columns = np.nonzero(self.weight)
        return np.stack((columns, rows), axis=1)

    @property
    def count(self) -> int:
        """How many places are traced."""
        return int(np.count_nonzero(self.weight))


@dataclass(frozen=True)
class Trace:
    """All layers' traced places; `trace_back` and `trace_forward` make it."""

    x: int
    y: int
    """The pixel that was asked about."""
    maps: tuple[TracedMap, ...]
    """From the image to the scores."""

    def __getitem__(self, name: str) -> TracedMap:
        """The map of that layer.

        Raises:
            RecipeError: When the network has none.
        """
        return named(self.maps, name)


def trace_back(inside: Inside, x: int, y: int) -> Trace:
    """The places of every layer from which the value of an output pixel can have come.

    With the switches held, changing the network's values at any other place changes nothing at
    this pixel. The set is exact over the channels together: each layer of the network mixes its
    channels, so a place is in if any channel can carry a value from it.

    Args:
        inside: A pass of any network.
        x: Column of the output pixel, in pixels of `inside.picture`.
        y: Its row.

    Raises:
        ShapeError: For a pixel outside the picture.
    """
    _check_pixel(inside, x, y)
    picture = torch.zeros((1, *inside.standardised.shape), dtype=torch.float64)
    with torch.enable_grad():
        tensors = _count_paths(inside, picture.requires_grad_())
        paths = tensors["scores"][0, :, y, x].mean()
        gradients = torch.autograd.grad(paths, list(tensors.values()), allow_unused=True)
    planes = {
        name: _plane(gradient, tensor)
        for (name, tensor), gradient in zip(tensors.items(), gradients, strict=True)
    }
    return _trace(inside, (x, y), planes)


def trace_forward(inside: Inside, x: int, y: int) -> Trace:
    """The places of every layer that the value of an input pixel can reach.

    The counterpart of `trace_back`: output pixel o can be reached from input pixel i exactly if
    i is among the places that o can have come from.

    Args:
        inside: A pass of any network.
        x: Column of the input pixel, in pixels of `inside.picture`.
        y: Its row.

    Raises:
        ShapeError: For a pixel outside the picture.
    """
    _check_pixel(inside, x, y)
    picture = torch.zeros((1, *inside.standardised.shape), dtype=torch.float64)
    picture[..., y, x] = 1
    with torch.no_grad():
        tensors = _count_paths(inside, picture)
    return _trace(inside, (x, y), {name: _plane(t, t) for name, t in tensors.items()})


class Step(NamedTuple):
    """One value on a `strongest_path`."""

    layer: str
    channel: int
    x: int
    """Column of the value in its map."""
    y: int
    """Row of the value in its map."""
    contribution: float
    """What it adds to the step before it (the first: to the logit), to first order."""


def strongest_path(
    inside: Inside, x: int, y: int, *, label: int | None = None
) -> tuple[Step, ...]:
    """The chain of values that gave an output pixel most of its score, back to the picture.

    From the logit to the value of unpool1 that adds most to it (activation times gradient);
    that value came by its switch from one value of the coarser map; from there to the value of
    unpool2 that adds most to that one, and so on, down the unpoolings and then down the
    poolings, whose switches lead to finer maps again. Stops early where nothing adds anything.

    Args:
        inside: A pass of any network; those without unpoolings have the poolings alone.
        x: Column of the output pixel, in pixels of `inside.picture`.
        y: Its row.
        label: Index of the class whose logit is meant; None is the class predicted there.

    Raises:
        ShapeError: For a pixel outside the picture.
    """
    _check_pixel(inside, x, y)
    label = int(inside.label_map[y, x]) if label is None else label
    image = inside.standardised[None].detach().clone().requires_grad_()
    with torch.enable_grad(), recording(inside.network) as record:
        target = inside.network(image)[0, label, y, x]
    ways_up = [made for made in record.made if made.kind == "unpooling"]
    ways_down = [made for made in record.made if made.kind == "max_pooling"]
    stops = [(made.name, made.tensor) for made in (*reversed(ways_up), *reversed(ways_down))]
    steps: list[Step] = []
    for name, tensor in (*stops, ("image", image)):
        (gradient,) = torch.autograd.grad(target, tensor, retain_graph=True, allow_unused=True)
        if gradient is None or not gradient.any():
            break
        added = (tensor * gradient)[0].detach()
        strongest = np.unravel_index(int(added.argmax()), added.shape)
        channel, row, column = (int(index) for index in strongest)
        steps.append(Step(name, channel, column, row, float(added[channel, row, column])))
        target = tensor[0, channel, row, column]
    return tuple(steps)


def project(
    inside: Inside,
    layer: str,
    channel: int,
    *,
    place: tuple[int, int] | Literal["strongest", "all"] = "strongest",
    rule: Rule = "zeiler-fergus",
) -> Float32[np.ndarray, "h w 3"]:
    """Project an activation back to the picture, by the switches and the same filters.

    All activations of the layer but one (or one channel's) are set to zero, and the rest goes
    back to the picture: unpooling by the switches of this picture, ReLU on the signal, the
    transposes of the network's own filters (with the scale of their batch norm; no bias).
    Nothing is learned. Rules for the ReLU on the way back:

    - `zeiler-fergus`: what is negative in the signal becomes zero.
    - `gradient`: what was negative on the way forward becomes zero; the gradient, that is.
    - `guided`: both.

    Args:
        inside: A pass.
        layer: Name of a layer before the scores.
        channel: Which of its channels, from 0.
        place: Column and row (x, y) of the activation in its map, "strongest" in that channel,
            or "all" of that channel.
        rule: One of RULES.

    Returns:
        The signal at the picture (zero means nothing), one colour channel repeated where the
        network takes one; in the standardised picture's units times the activation's.

    Raises:
        RecipeError: For a layer, channel, place or rule that there is not.

    Source: Zeiler & Fergus 2014, section 2.1; guided: Springenberg et al. 2015, section 3.4.
    """
    values = inside[layer].values
    start = _kept(values, layer, channel, place)
    if rule not in RULES:
        raise RecipeError(
            f"there is no rule '{rule}' for the way back; the rules are {', '.join(RULES)}."
            + did_you_mean(rule, RULES)
        )
    image = inside.standardised[None].detach().clone().requires_grad_()
    if layer == "image":
        signal = start
    else:
        with (
            torch.enable_grad(),
            recording(inside.network) as record,
            _rule_at_relus(inside.network, rule),
        ):
            scores = inside.network(image)
            tensors = {made.name: made.tensor for made in record.made} | {"scores": scores}
            (gradient,) = torch.autograd.grad(
                tensors[layer], image, torch.from_numpy(start)[None].to(image)
            )
        signal = gradient[0].float().cpu().numpy()
    projection = np.broadcast_to(signal, (3, *signal.shape[1:])).transpose(1, 2, 0)
    return np.ascontiguousarray(projection, dtype=np.float32)


def _kept(
    values: Float32[np.ndarray, "c h w"],
    layer: str,
    channel: int,
    place: tuple[int, int] | Literal["strongest", "all"],
) -> Float32[np.ndarray, "c h w"]:
    """The activations with all but the chosen ones set to zero."""
    channels, height, width = values.shape
    if not 0 <= channel < channels:
        raise RecipeError(
            f"{layer} has the channels 0 to {channels - 1}, and {channel} was asked for."
        )
    kept = np.zeros_like(values)
    if place == "all":
        kept[channel] = values[channel]
        return kept
    if place == "strongest":
        row, column = np.unravel_index(int(values[channel].argmax()), (height, width))
    else:
        column, row = place  # type: ignore[assignment]  # a pair, no word
        if not (0 <= column < width and 0 <= row < height):
            raise RecipeError(
                f"the maps of {layer} are {width} x {height}, and place {column},{row} lies "
                "outside; give x,y from 0,0."
            )
    kept[channel, row, column] = values[channel, row, column]
    return kept


@contextmanager
def _rule_at_relus(network: nn.Module, rule: Rule) -> Iterator[None]:
    """Within, gradients pass the network's ReLUs by this rule."""

    def rectified(
        _module: nn.Module, through: tuple[Tensor, ...], above: tuple[Tensor, ...]
    ) -> tuple[Tensor]:
        return ((above if rule == "zeiler-fergus" else through)[0].clamp(min=0),)

    relus = [module for module in network.modules() if isinstance(module, nn.ReLU)]
    hooks = (
        []
        if rule == "gradient"
        else [relu.register_full_backward_hook(rectified) for relu in relus]
    )
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _count_paths(
    inside: Inside, picture: Float64[Tensor, "1 c h w"]
) -> dict[str, Float64[Tensor, "1 _ _ _"]]:
    """Run the network with its weights forgotten: the linear map that counts paths.

    All windows take plain means, over their taps and all channels; poolings and unpoolings
    keep to the switches of the pass. What comes out is above zero exactly where a path leads.
    """
    poolings = iter(inside.switches.values())

    def gather(features: Tensor, pooled: Tensor, _: Tensor) -> tuple[Tensor, Tensor]:
        positions = next(poolings).positions
        gathered = features.flatten(2).gather(2, positions.flatten(2))
        return gathered.view_as(pooled), positions

    # gather stands outside, so that what it gives is what is recorded
    with _WeightsForgotten(), PoolingMode(gather), recording(inside.network) as record:
        out = inside.network(picture)
    made = {layer.name: layer.tensor for layer in record.made}
    return {"image": picture} | made | {"scores": out}


class _WeightsForgotten(TorchFunctionMode):
    """Within, convolutions are means and everything else that works on values does nothing."""

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Call the function, or what stands for it here."""
        if function in _WITHOUT_EFFECT:
            return args[0]
        kwargs = kwargs or {}
        if function not in (F.conv2d, F.conv_transpose2d):
            return function(*args, **kwargs)
        features, weight, _bias, *rest = (*args, None)[: max(3, len(args))]
        transposed = function is F.conv_transpose2d
        taps = features.new_full((1, 1, *weight.shape[2:]), 1 / math.prod(weight.shape[2:]))
        options = dict(zip(_OPTIONS[transposed], rest, strict=False)) | kwargs
        groups = options.pop("groups", 1)
        options.pop("bias", None)
        channels = weight.shape[1] * groups if transposed else weight.shape[0]
        mean = function(features.mean(1, keepdim=True), taps, **options)
        return mean.expand(-1, channels, -1, -1)


_WITHOUT_EFFECT = (F.batch_norm, F.relu, F.dropout, F.local_response_norm)

_OPTIONS = {
    False: ("stride", "padding", "dilation", "groups"),
    True: ("stride", "padding", "output_padding", "groups", "dilation"),
}
"""What follows weight and bias in conv2d and, transposed, in conv_transpose2d."""


def _trace(
    inside: Inside, pixel: tuple[int, int], planes: Mapping[str, Float64[np.ndarray, "_ _"]]
) -> Trace:
    """The planes, each with what is known of its layer."""
    maps = []
    for layer in inside.layers:
        weight = planes[layer.name]
        switches = None
        if layer.kind == "unpooling" and inside.unpools_by_switches:
            number = layer.name.removeprefix("unpool")
            counts = switch_counts(inside.switches[f"pool{number}"])
            switches = np.where(weight > 0, counts, 0)
        maps.append(
            TracedMap(layer.name, layer.kind, weight, switches, layer.step, layer.start)
        )
    return Trace(*pixel, tuple(maps))


def switch_counts(switches: Switches) -> Int64[np.ndarray, "height width"]:
    """How many channels of a picture have their maximum at each place of the pooled plane.

    >>> from deconvnet.layers import pool
    >>> _, switches = pool(torch.tensor([[[[1.0, 5.0], [2.0, 3.0]], [[4.0, 5.0], [9.0, 3.0]]]]))
    >>> switch_counts(switches)
    array([[0, 1],
           [1, 0]])
    """
    height, width = switches.size
    counts = torch.bincount(switches.positions[0].flatten(), minlength=height * width)
    return counts.view(height, width).numpy()


def _plane(signal: Tensor | None, like: Tensor) -> Float64[np.ndarray, "_ _"]:
    """Paths through each place, over all channels; none where the layer is not on the way."""
    if signal is None:
        return np.zeros(like.shape[2:])
    return signal[0].sum(dim=0).detach().numpy()


def _check_pixel(inside: Inside, x: int, y: int) -> None:
    height, width = inside.picture.shape[:2]
    if not (0 <= x < width and 0 <= y < height):
        raise ShapeError(
            f"The pixel {x},{y} lies outside the picture, which the network sees at "
            f"{width} x {height}; give x,y from 0,0 to {width - 1},{height - 1}."
        )

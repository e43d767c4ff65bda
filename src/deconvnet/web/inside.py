"""Layers, channels and switches of a picture, kept so that looking around is quick."""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np
import PIL.Image
from pydantic import BaseModel, Field

from deconvnet.inside import Inside, Layer, look_inside, representative_channels
from deconvnet.predict import Predictor
from deconvnet.shapes import Float32, Image, UInt8
from deconvnet.tracing import Step, strongest_path, trace_back
from deconvnet.web.answers import grey_png, in_base64, map_png, picture_png
from deconvnet.web.limits import Limits
from deconvnet.web.problems import WebError

Thing = TypeVar("Thing")

SIDE = 224
"""Longer side in pixels, at the network's scale, of the pictures looked into."""

THUMBNAIL = 64
"""Longer side in pixels of the small pictures of layers, at most."""

CELL = 56
"""Side in pixels of a channel's place in a grid, at most."""

GRID = 64
"""Most channels of one grid."""

COLUMNS = 8
"""Channels in a row of a grid."""


class LayerAnswer(BaseModel):
    """A layer, and what it made of the picture."""

    name: str
    kind: str
    channels: int
    width: int
    height: int
    nonzero: float = Field(description="Share of values that are not zero, 0 to 1")
    step: float = Field(description="Pixels of the picture between two places of the map")
    start: float = Field(description="Where place 0 lies on the picture, in pixels")
    channel: int = Field(description="The channel that adds most to the class shown")
    thumbnail_png: str = Field(description="That channel, small, in base64")


class ExplainAnswer(BaseModel):
    """A picture as a network sees it, layer by layer."""

    id: str = Field(description="Asks for channels and traces of this picture")
    model: str
    width: int
    height: int
    label: str = Field(description="The class that the channels were chosen by")
    picture_png: str = Field(description="What the network saw, in base64")
    mask_png: str = Field(description="Grey PNG in base64; the values are class indices")
    layers: list[LayerAnswer]


class ChannelAnswer(BaseModel):
    """A channel of a layer."""

    index: int
    mean: float
    largest: float
    nonzero: float = Field(description="Share of values that are not zero, 0 to 1")


class ChannelsAnswer(BaseModel):
    """The channels of a layer, in the order of their indices."""

    layer: str
    channels: list[ChannelAnswer]


class StepAnswer(BaseModel):
    """One value on the way back from a pixel."""

    layer: str
    channel: int
    x: int
    y: int
    left: float = Field(description="Where its place lies on the picture, in pixels")
    top: float
    size: float


class ReachAnswer(BaseModel):
    """How many places of a layer a value of the pixel can have come from."""

    layer: str
    places: int
    of: int


class TraceAnswer(BaseModel):
    """Where the value of an output pixel came from, by the switches."""

    x: int
    y: int
    label: str
    path: list[StepAnswer] = Field(description="The chain of values that gave it most")
    reach: list[ReachAnswer]
    reach_png: str = Field(
        description="Grey PNG in base64: by how many of its paths each pixel"
    )


class Shelf(Generic[Thing]):
    """Keeps the latest things, up to a weight."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.weight = 0
        self._things: OrderedDict[str, tuple[Thing, int]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, name: str) -> Thing | None:
        """The thing of that name, if it is still there."""
        with self._lock:
            if name not in self._things:
                return None
            self._things.move_to_end(name)
            return self._things[name][0]

    def put(self, name: str, thing: Thing, weight: int = 1) -> None:
        """Keep a thing, and let go of the oldest ones that there is no room for."""
        with self._lock:
            self.weight += weight - self._things.pop(name, (None, 0))[1]
            self._things[name] = (thing, weight)
            while self.weight > self.most and len(self._things) > 1:
                self.weight -= self._things.popitem(last=False)[1][1]


@dataclass(frozen=True)
class Kept:
    """A pass that is kept."""

    model: str
    inside: Inside = field(repr=False)
    answer: ExplainAnswer = field(repr=False)
    traces: Shelf[TraceAnswer] = field(repr=False)


class Observatory:
    """Looks into networks, and keeps what it saw of the latest pictures."""

    def __init__(self, limits: Limits) -> None:
        self._kept: Shelf[Kept] = Shelf(limits.kept_bytes)
        self._lock = threading.Lock()
        """A pass hooks itself into the network, so there is one at a time."""

    def look(
        self, model: str, predictor: Callable[[], Predictor], image: Image
    ) -> ExplainAnswer:
        """Run a network over a picture, reduced to SIDE, and keep every layer's maps.

        Args:
            model: Its name here.
            predictor: Gives the network as it was trained (engine "plain").
            image: The picture.
        """
        name = hashlib.sha256(model.encode() + str(image.shape).encode() + image.tobytes())
        known = self._kept.get(name.hexdigest()[:32])
        if known is not None:
            return known.answer
        with self._lock:
            plain = predictor()
            inside = look_inside(plain, _reduced(image, SIDE / plain.config.input_scale))
            label = inside.label()
            names = [layer.name for layer in inside.layers]
            chosen = representative_channels(inside, names, label=label)
        height, width = inside.picture.shape[:2]
        answer = ExplainAnswer(
            id=name.hexdigest()[:32],
            model=model,
            width=width,
            height=height,
            label=inside.classes.names[label],
            picture_png=in_base64(picture_png(inside.picture)),
            mask_png=in_base64(grey_png(inside.label_map / np.float32(255))),
            layers=[_layer_answer(layer, chosen[layer.name][0]) for layer in inside.layers],
        )
        weight = sum(layer.values.nbytes for layer in inside.layers)
        weight += sum(8 * switches.positions.numel() for switches in inside.switches.values())
        self._kept.put(answer.id, Kept(model, inside, answer, Shelf(500)), weight)
        return answer

    def channels(self, name: str, layer: str) -> ChannelsAnswer:
        """Numbers of every channel of a layer."""
        values = self._layer(name, layer).values
        return ChannelsAnswer(
            layer=layer,
            channels=[
                ChannelAnswer(
                    index=index,
                    mean=float(channel.mean()),
                    largest=float(channel.max()),
                    nonzero=float(np.count_nonzero(channel) / channel.size),
                )
                for index, channel in enumerate(values)
            ],
        )

    def channel(self, name: str, layer: str, channel: int) -> bytes:
        """One channel as a PNG, a pixel for each place."""
        values = self._layer(name, layer).values
        _check_channels(values, layer, [channel])
        return map_png(_levels(values[channel]))

    def grid(self, name: str, layer: str, channels: Sequence[int]) -> bytes:
        """Channels side by side as a PNG, each in the upper left of its cell."""
        values = self._layer(name, layer).values
        _check_channels(values, layer, channels)
        cells = [_fitted(_levels(values[channel]), CELL) for channel in channels]
        height, width = cells[0].shape
        rows = -(-len(cells) // COLUMNS)
        sheet = np.zeros((rows * height, COLUMNS * width), np.uint8)
        for place, cell in enumerate(cells):
            top, left = place // COLUMNS * height, place % COLUMNS * width
            sheet[top : top + height, left : left + width] = cell
        return map_png(sheet)

    def trace(self, name: str, x: int, y: int) -> TraceAnswer:
        """Follow a pixel of the output back through the switches."""
        kept = self._find(name)
        known = kept.traces.get(f"{x},{y}")
        if known is not None:
            return known
        with self._lock:
            steps = strongest_path(kept.inside, x, y)
            trace = trace_back(kept.inside, x, y)
        label = int(kept.inside.label_map[y, x])
        reach = trace.maps[0].weight
        answer = TraceAnswer(
            x=x,
            y=y,
            label=kept.inside.classes.names[label],
            path=[_step_answer(kept.inside[step.layer], step) for step in steps],
            reach=[
                ReachAnswer(layer=traced.name, places=traced.count, of=traced.weight.size)
                for traced in trace.maps
            ],
            reach_png=in_base64(grey_png(reach / max(float(reach.max()), 1e-30))),
        )
        kept.traces.put(f"{x},{y}", answer)
        return answer

    def _find(self, name: str) -> Kept:
        kept = self._kept.get(name)
        if kept is None:
            raise WebError(
                410,
                "What was computed about this picture is no longer kept; send it to "
                "/api/explain again.",
                code="gone",
            )
        return kept

    def _layer(self, name: str, layer: str) -> Layer:
        return self._find(name).inside[layer]


def _reduced(image: Image, side: float) -> UInt8[np.ndarray, "fitted_h fitted_w 3"]:
    """The picture with a longer side of `side` pixels at most."""
    factor = side / max(image.shape[:2])
    if factor >= 1:
        return image
    height, width = (max(1, round(length * factor)) for length in image.shape[:2])
    picture = PIL.Image.fromarray(image)
    return np.array(picture.resize((width, height), PIL.Image.Resampling.LANCZOS))


def _layer_answer(layer: Layer, channel: int) -> LayerAnswer:
    count, height, width = layer.values.shape
    return LayerAnswer(
        name=layer.name,
        kind=layer.kind,
        channels=count,
        width=width,
        height=height,
        nonzero=layer.nonzero,
        step=layer.step,
        start=layer.start,
        channel=channel,
        thumbnail_png=in_base64(map_png(_fitted(_levels(layer.values[channel]), THUMBNAIL))),
    )


def _step_answer(layer: Layer, step: Step) -> StepAnswer:
    corner = layer.start - layer.step / 2 + 0.5  # of place 0, from the picture's edge
    return StepAnswer(
        layer=step.layer,
        channel=step.channel,
        x=step.x,
        y=step.y,
        left=corner + step.x * layer.step,
        top=corner + step.y * layer.step,
        size=layer.step,
    )


def _levels(values: Float32[np.ndarray, "rows columns"]) -> UInt8[np.ndarray, "rows columns"]:
    """0 for the least value (or zero, where none is less), 255 for the largest."""
    least, largest = min(float(values.min()), 0.0), float(values.max())
    if largest <= least:
        return np.zeros(values.shape, np.uint8)
    return np.rint(255 * (values - least) / (largest - least)).astype(np.uint8)


def _fitted(
    levels: UInt8[np.ndarray, "rows columns"], side: int
) -> UInt8[np.ndarray, "fitted_rows fitted_columns"]:
    """Levels reduced to a longer side of `side` places, if they have more."""
    height, width = levels.shape
    factor = side / max(height, width)
    if factor >= 1:
        return levels
    size = max(1, round(width * factor)), max(1, round(height * factor))
    return np.array(PIL.Image.fromarray(levels).resize(size, PIL.Image.Resampling.BOX))


def _check_channels(
    values: Float32[np.ndarray, "c h w"], layer: str, channels: Sequence[int]
) -> None:
    if not channels or len(channels) > GRID:
        raise WebError(
            422, f"{len(channels)} channels were asked for; ask for 1 to {GRID} at a time."
        )
    wrong = [channel for channel in channels if not 0 <= channel < len(values)]
    if wrong:
        raise WebError(
            422, f"{layer} has the channels 0 to {len(values) - 1}; {wrong[0]} is none of them."
        )

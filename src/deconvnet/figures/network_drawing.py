"""Figure 2 of the paper for any network: its blocks, and what joins them beside the main way.

Nothing is known here about any one network: it runs once on a picture without values, and what
each layer was fed with is followed back to the layers that made it.
"""

import itertools
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import matplotlib.patches as shapes
import torch
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from deconvnet.describe import Layer, describe
from deconvnet.figures import style
from deconvnet.figures.style import BLUE, GREEN, INK, ORANGE, PURPLE, SKY, SOFT, VERMILION
from deconvnet.layers.bilinear import BilinearUpsampling
from deconvnet.layers.unpooling import Unpooling

COLORS = {
    "convolution": BLUE,
    "max_pooling": VERMILION,
    "unpooling": ORANGE,
    "transposed_convolution": GREEN,
    "bilinear_upsampling": SKY,
}
WORDS = {
    "convolution": "convolution",
    "max_pooling": "max pooling",
    "unpooling": "unpooling",
    "transposed_convolution": "transposed convolution",
    "bilinear_upsampling": "bilinear upsampling",
}
SCORES = PURPLE
"""Of the layer whose channels are the classes."""


class Link(NamedTuple):
    """Something that goes past the main way, from one block to another."""

    start: int
    """Index of the block it leaves."""
    end: int
    """Index of the block it reaches."""
    kind: str
    """switches, sum or concatenation."""
    through: str
    """Names of the layers it passes, if any: FCN scores its skips."""


@dataclass(frozen=True)
class Diagram:
    """What the drawing shows of a network."""

    blocks: tuple[Layer, ...]
    """The layers on the way from picture to scores, in order, as `describe` gives them."""
    links: tuple[Link, ...]
    parameters: int
    receptive_field: int
    size: tuple[int, int]
    """(height, width) of the picture in pixels."""


def diagram(
    network: nn.Module, size: int | tuple[int, int] = 224, in_channels: int = 3
) -> Diagram:
    """Find the main way through a network and what joins its ends beside it.

    Args:
        network: Any of ours, of any width, in any mode; it may have no values (meta device).
        size: Side, or (height, width), of the picture in pixels.
        in_channels: Channels of the picture.

    Raises:
        RecipeError: For a size under 1.
    """
    description = describe(network, size, in_channels)
    traced = _traced(network, description.size, in_channels)
    layers = [layer for layer in description.layers if layer.kind in COLORS]
    way = _main_way(traced)
    position = {node: index for index, node in enumerate(way)}
    links = []
    for earlier, node in itertools.pairwise(way):
        pooling = traced[node].switches
        if pooling is not None:
            links.append(Link(position[pooling], position[node], "switches", ""))
        for source in sorted(traced[node].inputs - {earlier}):
            start, passed = source, []
            while start not in position:
                passed.append(layers[start].name)
                start = min(traced[start].inputs)
            links.append(
                Link(position[start], position[node], traced[node].join, ", ".join(passed))
            )
    return Diagram(
        blocks=tuple(layers[node] for node in way),
        links=tuple(links),
        parameters=description.parameters,
        receptive_field=description.receptive_field,
        size=description.size,
    )


def architecture(
    network: nn.Module,
    title: str,
    size: int | tuple[int, int] = 224,
    in_channels: int = 3,
) -> Figure:
    """Draw a network: each map as a block, and its switches or skips as arrows above.

    Args:
        network: Any of ours, of any width.
        title: Its name.
        size: Side, or (height, width), of the picture in pixels.
        in_channels: Channels of the picture.

    Raises:
        RecipeError: For a size under 1.

    Source: Noh, Hong & Han 2015, figure 2.
    """
    drawn = diagram(network, size, in_channels)
    height, width = drawn.size
    sheet = style.board(
        f"{title}: {drawn.parameters:,} parameters",
        f"A picture of {height} × {width} pixels goes through {len(drawn.blocks)} layers; "
        f"the deepest value of the encoder sees {drawn.receptive_field} pixels a side.",
    )
    groups = _groups(drawn)
    places = _placed(drawn, groups)
    for group in groups:
        _draw_group(sheet, drawn, group, places)
    for link, level in zip(drawn.links, _levels(drawn.links, places), strict=True):
        _draw_link(sheet, drawn, link, places, level)
    _draw_key(sheet, drawn)
    return sheet.figure


# How the network is followed


class _Node(NamedTuple):
    inputs: frozenset[int]
    switches: int | None
    join: str


@dataclass
class _Trace:
    """Which layers made each tensor."""

    nodes: list[_Node]
    origins: dict[int, frozenset[int]]
    kept: list[Tensor]
    """So that no tensor's id is given to another."""
    joins: dict[frozenset[int], str]

    def of(self, values: Any) -> frozenset[int]:
        tensors = [leaf for leaf in pytree.tree_leaves(values) if isinstance(leaf, Tensor)]
        return frozenset().union(*(self.origins.get(id(t), frozenset()) for t in tensors))

    def mark(self, values: Any, origins: frozenset[int]) -> None:
        for leaf in pytree.tree_leaves(values):
            if isinstance(leaf, Tensor):
                self.origins[id(leaf)] = origins
                self.kept.append(leaf)

    def add(self, inputs: frozenset[int], output: Any, switches: int | None = None) -> None:
        join = self.joins.get(inputs, "sum")
        self.nodes.append(_Node(inputs, switches, join))
        self.mark(output, frozenset({len(self.nodes) - 1}))


class _Follower(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's
    """Hands the origins of a function's inputs on to its outputs; sees max pooling."""

    def __init__(self, trace: _Trace) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's
        self.trace = trace

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        del types
        result = func(*args, **(kwargs or {}))
        origins = self.trace.of((args, kwargs))
        if func is torch.ops.aten.cat.default:
            self.trace.joins[origins] = "concatenation"
        if func is torch.ops.aten.max_pool2d_with_indices.default:
            self.trace.add(origins, result)
        else:
            self.trace.mark(result, origins)
        return result


_LAYERS = (nn.Conv2d, nn.ConvTranspose2d, Unpooling, BilinearUpsampling)


def _traced(network: nn.Module, size: tuple[int, int], in_channels: int) -> list[_Node]:
    """Each layer that ran, in the order of `describe`."""
    trace = _Trace([], {}, [], {})
    weights = {
        name: torch.empty_like(value, device="meta")
        for name, value in (*network.named_parameters(), *network.named_buffers())
    }
    image = torch.empty(1, in_channels, *size, device="meta")
    with torch.no_grad(), _hooked(network, trace), _Follower(trace):
        torch.func.functional_call(network, weights, (image,))
    return trace.nodes


@contextmanager
def _hooked(network: nn.Module, trace: _Trace) -> Iterator[None]:
    def seen(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        switches = None
        if isinstance(module, Unpooling) and module.kind == "switches":
            switches = min(trace.of(inputs[1]))
        trace.add(trace.of(inputs[0]), output, switches)

    hooks = [
        module.register_forward_hook(seen)
        for module in network.modules()
        if isinstance(module, _LAYERS)
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _main_way(nodes: Sequence[_Node]) -> list[int]:
    """The longest way from the picture to the last layer."""
    depths: list[int] = []
    for node in nodes:
        depths.append(1 + max((depths[source] for source in node.inputs), default=0))
    way = [len(nodes) - 1]
    while nodes[way[-1]].inputs:
        way.append(max(nodes[way[-1]].inputs, key=lambda source: depths[source]))
    return way[::-1]


# How it is laid out, in inches

TALLEST, AXIS = 3.3, 3.66
"""Height of the largest map, and where the middle of every map lies."""
LABELS = AXIS + TALLEST / 2 + 0.3
GAP, JOINT = 0.17, 0.2
LEAST_THICKNESS, LARGEST_UNIT = 0.035, 0.0155
BETWEEN = 0.02


class Place(NamedTuple):
    """Where a block is drawn."""

    left: float
    width: float
    height: float

    @property
    def middle(self) -> float:
        """Its middle from left to right."""
        return self.left + self.width / 2

    @property
    def top(self) -> float:
        """Its upper edge."""
        return AXIS - self.height / 2


def _groups(drawn: Diagram) -> list[range]:
    """Blocks of about one size that stand together, each with one label."""
    starts = [0]
    for index, (before, block) in enumerate(itertools.pairwise(drawn.blocks), start=1):
        ratio = max(block.out_size) / max(before.out_size)
        if block.kind in ("max_pooling", "unpooling") or not 2 / 3 < ratio < 3 / 2:
            starts.append(index)
    return [range(*span) for span in itertools.pairwise([*starts, len(drawn.blocks)])]


def _placed(drawn: Diagram, groups: Sequence[range]) -> list[Place]:
    """Give every block its place, as thick as the slide allows."""
    joints = {link.end for link in drawn.links if link.kind != "switches"}
    slots = [max(map(_text_width, _label(drawn, group))) for group in groups]

    def thickness(index: int, unit: float) -> float:
        return max(LEAST_THICKNESS, unit * math.sqrt(drawn.blocks[index].out_channels))

    def inner(group: range, unit: float) -> float:
        return sum(
            thickness(index, unit) + (JOINT if index in joints else BETWEEN) for index in group
        )

    def total(unit: float) -> float:
        widths = [
            max(slot, inner(group, unit)) for slot, group in zip(slots, groups, strict=True)
        ]
        return sum(widths) + GAP * (len(groups) - 1)

    room = style.WIDTH - 2 * style.MARGIN
    widest = LARGEST_UNIT * 64 / math.sqrt(max(block.out_channels for block in drawn.blocks))
    low, high = 0.0, max(LARGEST_UNIT, min(widest, 0.09))
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if total(middle) <= room else (low, middle)
    unit = low
    largest = max(max(block.out_size) for block in drawn.blocks)
    left = style.MARGIN + max(0.0, room - total(unit)) / 2
    places = []
    for slot, group in zip(slots, groups, strict=True):
        x = left + max(0.0, slot - inner(group, unit)) / 2
        for index in group:
            x += JOINT - BETWEEN if index in joints else 0.0
            height = TALLEST * math.sqrt(max(drawn.blocks[index].out_size) / largest)
            places.append(Place(x, thickness(index, unit), height))
            x += thickness(index, unit) + BETWEEN
        left += max(slot, inner(group, unit)) + GAP
    return places


def _levels(links: Sequence[Link], places: Sequence[Place]) -> list[float]:
    """How high the bracket of each link runs: above its blocks and the brackets within it."""
    levels: dict[Link, float] = {}
    for link in sorted(links, key=lambda link: link.end - link.start):
        under = places[link.start : link.end + (link.kind == "switches")]
        tops = [place.top for place in under] + [
            level - 0.03 for inner, level in levels.items() if inner.end < link.end
        ]
        levels[link] = min(tops) - 0.2
    return [levels[link] for link in links]


def _label(drawn: Diagram, group: range) -> tuple[str, str, str]:
    """Name, size and channels of a group."""
    blocks = [drawn.blocks[index] for index in group]
    names = [block.name for block in blocks if block.kind not in ("max_pooling", "unpooling")]
    short = list(dict.fromkeys(re.sub(r"_\d(_D)?$", "", name) for name in names))
    if len(short) > 1 and "classifier" in short:
        short.remove("classifier")  # the key names it
    height, width = blocks[-1].out_size
    channels = dict.fromkeys(block.out_channels for block in blocks)
    listed = [str(count) for count in channels]
    shown = [listed[0], listed[-1]] if len(listed) > 2 else listed
    if not names:
        short = [blocks[0].name]
    return "\n".join(short), f"{height} × {width}", " → ".join(shown)


def _text_width(words: str) -> float:
    """About the width of small letters, in inches."""
    return 0.078 * max(map(len, words.split("\n")))


# How it is drawn


def _draw_group(
    sheet: style.Board, drawn: Diagram, group: range, places: Sequence[Place]
) -> None:
    for index in group:
        block, place = drawn.blocks[index], places[index]
        color = SCORES if index == len(drawn.blocks) - 1 else COLORS[block.kind]
        if block.kind == "bilinear_upsampling":
            color = COLORS[block.kind]
        sheet.box(
            place.left, place.top, place.width, place.height, fill=style.tint(color, 0.72),
            edge=color, line=0.9, gid=f"block:{block.name}",
        )  # fmt: skip
    middle = (places[group[0]].left + places[group[-1]].left + places[group[-1]].width) / 2
    name, size, channels = _label(drawn, group)
    lines = name.count("\n")
    sheet.text(
        middle,
        LABELS,
        name,
        size=style.SMALL,
        bold=True,
        ha="center",
        va="top",
        linespacing=1.15,
    )
    for row, words in enumerate((size, channels)):
        y = LABELS + 0.2 * (1 + lines) + 0.03 + 0.2 * row
        sheet.text(middle, y, words, size=9.5, color=SOFT, ha="center", va="top")


def _draw_link(
    sheet: style.Board, drawn: Diagram, link: Link, places: Sequence[Place], level: float
) -> None:
    """Draw a link as a bracket over the blocks between its ends."""
    start, end = places[link.start], places[link.end]
    color = VERMILION if link.kind == "switches" else INK
    if link.kind == "switches":
        x, y = end.middle, end.top - 0.02
    else:
        x, y = end.left - JOINT / 2, AXIS - 0.075
        sheet.axes.add_patch(
            shapes.Circle(
                (x, AXIS), 0.075, facecolor=style.PAPER, edgecolor=INK, lw=1.1, zorder=5
            )
        )
        sign = "+" if link.kind == "sum" else "‖"
        sheet.text(x, AXIS, sign, size=9, ha="center", va="center", zorder=6)
    names = drawn.blocks[link.start].name, drawn.blocks[link.end].name
    way = Line2D(
        [start.middle, start.middle, x], [start.top, level, level], color=color, lw=1.4,
        solid_joinstyle="round", zorder=3,
    )  # fmt: skip
    sheet.axes.add_line(way)
    sheet.arrow((x, level), (x, y), color=color, line=1.4, gid=f"link:{names[0]}:{names[1]}")
    height, width = drawn.blocks[link.start].out_size
    words = f"switches, {height} × {width}" if link.kind == "switches" else link.through
    if words and x - start.middle > _text_width(words) + 0.1:
        sheet.text(
            (start.middle + x) / 2, level, words, size=9.5, color=color, ha="center",
            va="center_baseline", zorder=4, bbox={"fc": style.PAPER, "ec": "none", "pad": 1},
        )  # fmt: skip


def _draw_key(sheet: style.Board, drawn: Diagram) -> None:
    """Name the colours that occur, and the scales."""
    kinds = list(dict.fromkeys(block.kind for block in drawn.blocks))
    entries = [(COLORS[kind], WORDS[kind]) for kind in COLORS if kind in kinds]
    if drawn.blocks[-1].kind != "bilinear_upsampling":
        entries.append((SCORES, "class scores"))
    x, y = style.MARGIN, style.HEIGHT - 0.72
    for color, words in entries:
        sheet.box(x, y - 0.13, 0.16, 0.16, fill=style.tint(color, 0.72), edge=color, line=0.9)
        sheet.text(x + 0.25, y, words, size=style.SMALL)
        x += 0.25 + _text_width(words) * 1.08 + 0.3
    joins = {link.kind for link in drawn.links}
    signs = {"sum": "+  added", "concatenation": "‖  set beside it"}
    for kind in sorted(joins & set(signs)):
        sheet.text(x, y, signs[kind], size=style.SMALL)
        x += 1.3
    style.footnote(
        sheet,
        "Drawn to the root of the numbers: height for the side of a map, thickness for its "
        "channels.",
    )

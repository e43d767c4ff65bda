"""Figure 4 of the paper for any network and picture: what the way up makes, layer by layer."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

import matplotlib.patches as shapes
import numpy as np
from jaxtyping import Bool, Float32
from matplotlib.figure import Figure

from deconvnet.figures import style
from deconvnet.inside import Choice, Inside, Layer, representative_channels

HOW = {
    "contribution": "adds most to the score of the class",
    "correlation": "is most like the predicted mask of the class",
    "energy": "has the largest energy",
}
UNITS = {"contribution": "adds {:+.2f}", "correlation": "r = {:.2f}", "energy": "energy {:.3g}"}

CAPTION = 0.74
"""Inches under a panel for its words."""
TOP, BOTTOM = 1.3, 0.55
GAP = 0.28
TALLEST = 2.3
"""Inches of a panel."""
NARROWEST = 2.2
"""Inches that the words under a panel need."""
ROWS = 2


class Panel(NamedTuple):
    """One map of the figure."""

    letter: str
    layer: str
    channel: int
    number: float | None
    """By which the channel was chosen: its contribution, correlation or energy; None where the
    channel is that of the class."""
    nonzero: float
    """Share of this channel's places that are not zero, 0 to 1."""


class Density(NamedTuple):
    """One row of the table: how dense a layer is."""

    letter: str
    """Of its panel; blank without one."""
    layer: str
    kind: str
    channels: int
    size: tuple[int, int]
    """(height, width) of its maps."""
    nonzero: float
    """Share of all its values that are not zero, 0 to 1."""


@dataclass(frozen=True)
class Explanation:
    """The figure in numbers: which channels stand for the layers, and how dense they are."""

    class_name: str
    by: Choice
    panels: tuple[Panel, ...]
    """From (b) on; (a) is the picture."""
    densities: tuple[Density, ...]
    """Every layer from the first panel's to the last's: from sparse to dense."""
    inside: Inside = field(repr=False)

    def __str__(self) -> str:
        """A table, one line a layer."""
        chosen = {panel.layer: panel for panel in self.panels}
        rows = [("", "layer", "maps", "non-zero", "channel", f"its {self.by}", "its non-zero")]
        for density in self.densities:
            height, width = density.size
            panel = chosen.get(density.layer)
            rows.append(
                (
                    f"({density.letter})" if density.letter else "",
                    density.layer,
                    f"{height} x {width} x {density.channels}",
                    f"{100 * density.nonzero:.1f} %",
                    *(_chosen_in_words(panel) if panel else ("", "", "")),
                )
            )
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        lines = [
            "  ".join(
                cell.ljust(width) if column < 2 else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in rows
        ]
        return "\n".join([f"class: {self.class_name}", *lines])

    def figure(self) -> Figure:
        """Draw it: a slide of 16 to 9, without matplotlib's global state."""
        return _draw(self)


def explain(
    inside: Inside, *, class_name: str | None = None, by: Choice = "contribution"
) -> Explanation:
    """Choose the most telling channel of each layer on the way up, and measure how dense it is.

    DeconvNet and SegNet: the last layer before each unpooling and the unpooling itself, which
    shows the same channel, up to the last layer. FCN and U-Net: the maps handed across and what
    they are joined with. The score maps of an FCN have a channel for each class, and show it.

    Args:
        inside: A pass of the network over the picture (`inside.look_inside`).
        class_name: Which class to look for; None is the one predicted most, background apart.
        by: What makes a channel telling (`inside.representative_channels`).

    Raises:
        LabelError: When the network knows no such class.
        RecipeError: For another choice.

    Source: Noh, Hong & Han 2015, figure 4. The paper does not say how its channels were chosen.
    """
    label = inside.label(class_name)
    groups = _shown(inside)
    names = [name for group in groups for name in group]
    of_classes = {name for name in names if _has_a_channel_per_class(name)}
    chosen = representative_channels(
        inside, [group[0] for group in groups if group[0] not in of_classes], by=by, label=label
    )
    panels: list[Panel] = []
    for group in groups:
        for name in group:
            letter = chr(ord("b") + len(panels))
            channel, number = chosen.get(group[0], (label, None))
            nonzero = _nonzero(inside[name].values[channel])
            panels.append(Panel(letter, name, channel, number, nonzero))
    letters = {panel.layer: panel.letter for panel in panels}
    order = [layer.name for layer in inside.layers]
    first, last = (pick(order.index(name) for name in names) for pick in (min, max))
    return Explanation(
        class_name=inside.classes.names[label],
        by=by,
        panels=tuple(panels),
        densities=tuple(
            Density(
                letters.get(layer.name, ""),
                layer.name,
                layer.kind,
                layer.values.shape[0],
                (layer.values.shape[1], layer.values.shape[2]),
                layer.nonzero,
            )
            for layer in inside.layers[first : last + 1]
        ),
        inside=inside,
    )


def _shown(inside: Inside) -> list[tuple[str, ...]]:
    """Layers to show, in order; those of one group show one channel."""
    kinds = {layer.kind for layer in inside.layers}
    before_scores = inside.layers[-2].name
    if "unpooling" in kinds:
        pairs = [
            (below.name, layer.name)
            for below, layer in pairwise(inside.layers)
            if layer.kind == "unpooling"
        ]
        return [*pairs[1:], (before_scores,)]
    names = [layer.name for layer in inside.layers]
    if "bilinear_upsampling" in kinds:
        return [(name,) for name in names[names.index("fc6") :]]
    deepest = names[names.index("upconv4") - 1]
    levels = [name for n in (4, 3, 2, 1) for name in (f"conv{n}_2", f"up{n}_2")]
    return [(deepest,), *((name,) for name in levels)]


def _has_a_channel_per_class(name: str) -> bool:
    return name.startswith(("score", "upscore"))


def _chosen_in_words(panel: Panel) -> tuple[str, str, str]:
    number = "the class" if panel.number is None else f"{panel.number:.4g}"
    return f"{panel.channel}", number, f"{100 * panel.nonzero:.1f} %"


def _nonzero(plane: Float32[np.ndarray, "h w"]) -> float:
    return float(np.count_nonzero(plane) / plane.size)


def _draw(explanation: Explanation) -> Figure:
    inside = explanation.inside
    name = explanation.class_name.replace("_", " ")
    count = len(explanation.panels) + 1
    columns = -(-count // ROWS)
    height, width = inside.picture.shape[:2]
    across = (style.WIDTH - 2 * style.MARGIN - (columns - 1) * GAP) / columns
    wide = min(across, TALLEST * width / height)
    across = min(across, max(wide, NARROWEST))
    needed = TOP + ROWS * (wide * height / width + CAPTION) + BOTTOM
    sheet = style.board(
        f"The way up, layer by layer: {name}",
        f"One channel of each layer: the one that {HOW[explanation.by]}. "
        "Bars: share of the map that is not zero.",
        height=max(needed, style.HEIGHT),
    )
    row_height = (sheet.figure.get_figheight() - TOP - BOTTOM) / ROWS

    def corner(index: int) -> tuple[float, float]:
        row, column = divmod(index, columns)
        return style.MARGIN + column * (across + GAP), TOP + row * row_height

    mask = inside.label_map == inside.classes.names.index(explanation.class_name)
    _picture_panel(sheet, inside, mask, (corner(0), wide, across))
    for index, panel in enumerate(explanation.panels, start=1):
        _map_panel(sheet, explanation, panel, (corner(index), wide, across))
    style.footnote(
        sheet,
        "Each map by itself, from its smallest value (dark) to its largest (light). "
        "After Noh, Hong & Han 2015, figure 4.",
    )
    return sheet.figure


_Place = tuple[tuple[float, float], float, float]
"""Of a panel, in inches: its upper left corner, how wide it is, how wide its words may be."""


def _picture_panel(
    sheet: style.Board,
    inside: Inside,
    mask: Bool[np.ndarray, "h w"],
    place: _Place,
) -> None:
    """The picture, with the predicted area of the class outlined."""
    corner, wide, across = place
    frame = sheet.picture(inside.picture, *corner, wide)
    if mask.any() and not mask.all():
        outline(sheet, frame, mask, style.ORANGE)
    height, width = mask.shape
    found = f"{100 * mask.mean():.0f} % outlined" if mask.any() else "not found"
    _words(sheet, frame, across, ("(a) picture", ""), (f"{height} × {width}", found))


def outline(
    sheet: style.Board, frame: style.Frame, mask: Bool[np.ndarray, "h w"], color: str
) -> None:
    """Draw the edge of an area on a picture; one that is a single pixel wide has none."""
    if min(mask.shape) < 2:
        return
    columns = frame.left + (np.arange(mask.shape[1]) + 0.5) * frame.width / mask.shape[1]
    rows = frame.top + (np.arange(mask.shape[0]) + 0.5) * frame.height / mask.shape[0]
    for line, ink in ((2.6, style.INK), (1.3, color)):  # dark around light shows on any picture
        sheet.axes.contour(
            columns, rows, mask.astype(float), levels=[0.5], colors=[ink], linewidths=line,
            zorder=3,
        )  # fmt: skip


def _map_panel(
    sheet: style.Board,
    explanation: Explanation,
    panel: Panel,
    place: _Place,
) -> None:
    """One map over the extent of the picture, with its words and its bar."""
    corner, wide, across = place
    layer = explanation.inside[panel.layer]
    size = explanation.inside.picture.shape[:2]
    frame = blank(sheet, corner, wide, (size[0], size[1]))
    lay_map(sheet, frame, layer, layer.values[panel.channel])
    rows, columns = layer.values.shape[1:]
    number = "the class" if panel.number is None else UNITS[explanation.by].format(panel.number)
    _words(
        sheet,
        frame,
        across,
        (f"({panel.letter}) {panel.layer}", f"channel {panel.channel}"),
        (f"{rows} × {columns}, {number}", f"{100 * panel.nonzero:.0f} %"),
    )
    left, bar = frame.left, frame.top + frame.height + 0.58
    sheet.box(left, bar, across, 0.07, fill=style.tint(style.INK, 0.1), edge="none")
    sheet.box(left, bar, across * panel.nonzero, 0.07, fill=style.BLUE, edge="none")


def _words(
    sheet: style.Board,
    frame: style.Frame,
    across: float,
    above: tuple[str, str],
    below: tuple[str, str],
) -> None:
    """Two lines under a panel, each with words on the left and on the right."""
    left, right, top = frame.left, frame.left + across, frame.top + frame.height
    sheet.text(left, top + 0.25, above[0], bold=True)
    sheet.text(right, top + 0.25, above[1], size=style.SMALL, ha="right")
    for place, words, side in ((left, below[0], "left"), (right, below[1], "right")):
        sheet.text(place, top + 0.48, words, size=style.SMALL, color=style.SOFT, ha=side)


def blank(
    sheet: style.Board,
    corner: tuple[float, float],
    wide: float,
    pixels: tuple[int, int],
) -> style.Frame:
    """A dark frame for something that is laid over the extent of a picture."""
    tall = wide * pixels[0] / pixels[1]
    sheet.box(*corner, wide, tall, fill="black", edge="none", zorder=0)
    return style.Frame(*corner, wide, tall, pixels)


def lay_map(
    sheet: style.Board,
    frame: style.Frame,
    layer: Layer,
    values: Float32[np.ndarray, "h w"],
    *,
    color_map: str = style.HEAT,
) -> None:
    """Lay a map where its places lie on the picture; what lies beyond the frame is cut off.

    The colours run from the smallest to the largest value that is seen.
    """
    rows, columns = values.shape
    low, step = (
        layer.start - layer.step / 2 + 0.5,
        layer.step,
    )  # pixels begin half a pixel before
    left, top = frame.at(low, low)
    right, bottom = frame.at(low + columns * step, low + rows * step)
    seen = values[seen_places(layer, frame.pixels)]
    image = sheet.axes.imshow(
        values,
        extent=(left, right, bottom, top),
        aspect="auto",
        interpolation="nearest",
        cmap=color_map,
        vmin=float(seen.min()),
        vmax=float(seen.max()),
        zorder=1,
    )
    edge = shapes.Rectangle(
        (frame.left, frame.top), frame.width, frame.height, transform=sheet.axes.transData
    )
    image.set_clip_path(edge)
    sheet.box(frame.left, frame.top, frame.width, frame.height, edge=style.RULE, line=0.8)


def seen_places(layer: Layer, pixels: Sequence[int]) -> tuple[slice, slice]:
    """Rows and columns of a layer that lie over the picture, be it in part."""
    spans = []
    for places, length in zip(layer.values.shape[1:], pixels, strict=True):
        middles = layer.start + layer.step * np.arange(places)
        over = (middles > -layer.step / 2 - 0.5) & (middles < length - 0.5 + layer.step / 2)
        inside = np.flatnonzero(over)
        spans.append(slice(int(inside[0]), int(inside[-1]) + 1))
    return spans[0], spans[1]

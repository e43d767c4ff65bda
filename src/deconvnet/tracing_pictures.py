"""Traces and projections, drawn: what ties an output pixel or a value to the picture."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import matplotlib.patches as shapes
import numpy as np
from jaxtyping import Bool, Float32, Float64
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from deconvnet.figures import style
from deconvnet.inside import Choice, Inside, channel_numbers, contributions
from deconvnet.tracing import (
    Step,
    Trace,
    TracedMap,
    project,
    strongest_path,
    trace_back,
    trace_forward,
)

Direction = Literal["back", "forward"]

TOP = 1.35
BIG = 3.7
"""Inches of the picture on the left."""
COLUMNS = 5
GAP = 0.22
WORDS = 0.72
FEW = 30
"""Places across up to which each is drawn as a square of its own."""
UNTRACED = "#59626b"
LEAST_VIEW = 9
"""Places across that a panel shows at least, so that one sees what lies around."""

WAY_UP, WAY_DOWN = style.SKY, style.ORANGE


class Level(NamedTuple):
    """One row of a trace's table."""

    layer: str
    places: int
    """How many places are traced."""
    of: int
    """How many places the map has."""
    switches: int | None
    """Of an unpooling: how many (channel, place) pairs among them hold a switch."""


@dataclass(frozen=True)
class TracedPicture:
    """A trace with what is needed to draw it; `explain_trace` makes it."""

    trace: Trace
    direction: Direction
    levels: tuple[Level, ...]
    """From the pixel that was asked about to the other end of the network."""
    path: tuple[Step, ...]
    """The strongest path, for a trace back."""
    class_name: str
    """Of the class predicted at the pixel, which the path explains."""
    inside: Inside = field(repr=False)

    def __str__(self) -> str:
        """A table, one line a layer, with the strongest path beside it."""
        steps = {step.layer: step for step in self.path}
        rows = [("layer", "places", "of", "switches", "strongest")]
        for level in self.levels:
            step = steps.get(level.layer)
            rows.append(
                (
                    level.layer,
                    f"{level.places:,}",
                    f"{level.of:,}",
                    "" if level.switches is None else f"{level.switches:,}",
                    f"channel {step.channel} at {step.x},{step.y}" if step else "",
                )
            )
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        lines = [
            "  ".join(
                cell.rjust(width) if 0 < column < 4 else cell.ljust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in rows
        ]
        where = f"pixel {self.trace.x},{self.trace.y}"
        height, width = self.inside.picture.shape[:2]
        if (height, width) != self.inside.size:
            where += f" of the {width} x {height} that the network sees"
        heading = (
            f"{where}, predicted as {self.class_name}: where its value can have come from"
            if self.direction == "back"
            else f"{where}: where its value can go"
        )
        return "\n".join([heading, *lines])

    def figure(self) -> Figure:
        """Draw it: a slide of 16 to 9, without matplotlib's global state."""
        return _draw_trace(self)


def explain_trace(
    inside: Inside, x: int, y: int, *, direction: Direction = "back"
) -> TracedPicture:
    """Follow an output pixel back to the picture, or an input pixel forward to the scores.

    Args:
        inside: A pass of the network over the picture.
        x: Column of the pixel, in pixels of `inside.picture`.
        y: Its row.
        direction: "back" or "forward".

    Raises:
        ShapeError: For a pixel outside the picture.
    """
    follow = trace_back if direction == "back" else trace_forward
    trace = follow(inside, x, y)
    levels = [
        Level(
            traced.name,
            traced.count,
            traced.weight.size,
            None if traced.switches is None else int(traced.switches.sum()),
        )
        for traced in trace.maps
    ]
    if direction == "back":
        levels.reverse()
    return TracedPicture(
        trace,
        direction,
        tuple(levels),
        strongest_path(inside, x, y) if direction == "back" else (),
        inside.classes.names[int(inside.label_map[y, x])],
        inside,
    )


def shown_levels(inside: Inside) -> tuple[list[str], list[str]]:
    """The layers a trace is drawn at, on the way up and on the way down, the last ones first.

    On the way up they are the unpoolings, or what stands for them; on the way down the maps
    that were pooled, where the switches lie.
    """
    names = [layer.name for layer in inside.layers]
    up = [layer.name for layer in inside.layers if layer.kind == "unpooling"]
    if not up:
        up = [name for name in names if name.startswith(("upscore", "upconv"))]
    down = [names[names.index(pool) - 1] for pool in inside.switches]
    return up[::-1], down[::-1]


def _draw_trace(picture: TracedPicture) -> Figure:
    inside, trace = picture.inside, picture.trace
    back = picture.direction == "back"
    name = picture.class_name.replace("_", " ")
    sheet = style.board(
        f"Back from one pixel: {name} at {trace.x}, {trace.y}"
        if back
        else f"On from one pixel: {trace.x}, {trace.y}",
        "Framed: the places its value can have come from, by windows and switches. "
        "Light: what those places added to its score."
        if back
        else "Framed: the places its value can reach, by windows and switches. "
        "Light: the share of all paths that lead there.",
    )
    up, down = shown_levels(inside)
    heat = _heat(inside, trace, [*up, *down, "image"], back=back)
    frame = _overview(sheet, picture, heat["image"])
    left = style.MARGIN + BIG + 0.5
    pitch = (style.WIDTH - style.MARGIN - left + GAP) / COLUMNS
    tall = (style.HEIGHT - TOP - 0.45) / 2
    rows = [(up, WAY_UP), (down, WAY_DOWN)]
    if not back:
        rows = [(names[::-1], color) for names, color in reversed(rows)]
    steps = _steps_at_maps(inside, picture.path)
    for row, (names, color) in enumerate(rows):
        for column, layer in enumerate(names[:COLUMNS]):
            corner = left + column * pitch, TOP + row * tall
            _level_panel(
                sheet,
                picture,
                (layer, color),
                heat[layer],
                steps.get(layer),
                (corner, min(pitch - GAP, tall - WORDS - 0.2)),
            )
    _key(sheet, frame, back=back)
    style.footnote(
        sheet,
        "Each panel: its layer around the traced places, enlarged; grey is not traced. "
        + ("The ring follows the strongest contribution from level to level." if back else ""),
    )
    return sheet.figure


def _heat(
    inside: Inside, trace: Trace, names: Sequence[str], *, back: bool
) -> dict[str, Float64[np.ndarray, "_ _"]]:
    """What the colours of each level mean, 0 to 1 of its largest."""
    if back:
        label = int(inside.label_map[trace.y, trace.x])
        added = contributions(inside, names, lambda logits: logits[label, trace.y, trace.x])
        planes = {
            name: np.abs(values, dtype=np.float64).sum(axis=0) for name, values in added.items()
        }
    else:
        planes = {name: trace[name].weight for name in names}
    return {name: plane / max(plane.max(), 1e-300) for name, plane in planes.items()}


def _steps_at_maps(inside: Inside, path: Sequence[Step]) -> dict[str, tuple[int, int]]:
    """Column and row of the path at each level drawn; of a pooled value, its switch's."""
    names = [layer.name for layer in inside.layers]
    places: dict[str, tuple[int, int]] = {}
    for step in path:
        if step.layer not in inside.switches:
            places[step.layer] = step.x, step.y
            continue
        positions, (_, width) = inside.switches[step.layer]
        row, column = divmod(int(positions[0, step.channel, step.y, step.x]), width)
        places[names[names.index(step.layer) - 1]] = column, row
    return places


def _overview(
    sheet: style.Board, picture: TracedPicture, heat: Float64[np.ndarray, "h w"]
) -> style.Frame:
    """The picture with the frames of all levels on the way up, and the strongest path."""
    inside, trace = picture.inside, picture.trace
    height, width = inside.picture.shape[:2]
    wide = min(BIG, 4.6 * width / height)
    frame = sheet.picture(inside.picture, style.MARGIN, TOP, wide)
    glow = np.zeros((height, width, 4))
    glow[..., :3] = 1.0, 1.0, 0.6
    glow[..., 3] = 0.85 * np.sqrt(heat)
    if picture.direction == "back":
        extent = (frame.left, frame.left + wide, frame.top + frame.height, frame.top)
        sheet.axes.imshow(glow, extent=extent, aspect="auto", interpolation="nearest", zorder=2)
    up, _ = shown_levels(inside)
    shown = up if picture.direction == "back" else ["scores"]
    for name in shown:
        box = _box(trace[name], (height, width))
        _frame_box(sheet, frame, box, WAY_UP)
    points = [(trace.x + 0.5, trace.y + 0.5)]
    for name, (x, y) in _steps_at_maps(inside, picture.path).items():
        layer = inside[name]
        points.append((layer.start + layer.step * x + 0.5, layer.start + layer.step * y + 0.5))
    along = [frame.at(*point) for point in points]
    for line, color in ((3.2, style.INK), (1.6, style.ORANGE)):
        sheet.axes.plot(*zip(*along, strict=True), color=color, linewidth=line, zorder=5)
    sheet.axes.plot(*along[0], "o", markersize=9, color=style.ORANGE, mec=style.INK, zorder=6)
    return frame


def _key(sheet: style.Board, frame: style.Frame, *, back: bool) -> None:
    """What the marks on the picture mean."""
    top = frame.top + frame.height + 0.32
    entries = (
        [
            (style.ORANGE, "the pixel, and its strongest path to the picture"),
            (WAY_UP, "what each level of the way up can bring to it"),
            ("#e8e07a", "input pixels that its score came from"),
        ]
        if back
        else [(style.ORANGE, "the pixel"), (WAY_UP, "the scores it can reach")]
    )
    for number, (color, words) in enumerate(entries):
        y = top + 0.3 * number
        sheet.box(style.MARGIN, y - 0.12, 0.16, 0.16, fill=color, edge=style.INK, line=0.6)
        sheet.text(style.MARGIN + 0.26, y, words, size=style.SMALL)


def _frame_box(
    sheet: style.Board,
    frame: style.Frame,
    box: tuple[float, float, float, float],
    color: str,
) -> None:
    left, top = frame.at(box[0], box[1])
    right, bottom = frame.at(box[2], box[3])
    for line, ink in ((2.6, style.INK), (1.2, color)):
        sheet.box(left, top, right - left, bottom - top, edge=ink, line=line, zorder=4)


def _box(traced: TracedMap, pixels: tuple[int, int]) -> tuple[float, float, float, float]:
    """The rectangle around the traced places, in pixels of the picture and inside it."""
    edges = []
    for axis, length in ((1, pixels[1]), (0, pixels[0])):
        places = np.flatnonzero(traced.weight.any(axis=1 - axis))
        if not len(places):
            return 0.0, 0.0, 0.0, 0.0
        low = traced.start + traced.step * (places[0] - 0.5) + 0.5
        high = traced.start + traced.step * (places[-1] + 0.5) + 0.5
        edges.append((min(max(low, 0.0), length), min(max(high, 0.0), length)))
    (x0, x1), (y0, y1) = edges
    return float(x0), float(y0), float(x1), float(y1)


def _level_panel(
    sheet: style.Board,
    picture: TracedPicture,
    level: tuple[str, str],
    heat: Float64[np.ndarray, "h w"],
    ring: tuple[int, int] | None,
    place: tuple[tuple[float, float], float],
) -> None:
    """One level: its map around the traced places, in squares."""
    name, color = level
    (left, top), side = place
    traced = picture.trace[name]
    rows, columns = _view(traced)
    seen = heat[rows, columns]
    reached = traced.weight[rows, columns] > 0
    cell = side / max(seen.shape)
    frame = style.Frame(left, top, cell * seen.shape[1], cell * seen.shape[0], seen.shape)
    sheet.box(left, top, frame.width, frame.height, fill=UNTRACED, edge="none", zorder=0)
    sheet.axes.imshow(
        np.ma.masked_array(np.sqrt(seen), ~reached),
        extent=(left, left + frame.width, top + frame.height, top),
        aspect="auto",
        interpolation="nearest",
        cmap=style.HEAT,
        vmin=0,
        vmax=1,
        zorder=1,
    )
    _grid(sheet, frame)
    if max(seen.shape) <= FEW:
        _reached(sheet, frame, reached, color)
    else:
        sheet.box(left, top, frame.width, frame.height, edge=color, line=1.6, zorder=3)
    if ring is not None:
        x, y = frame.at(ring[0] - columns.start + 0.5, ring[1] - rows.start + 0.5)
        radius = max(0.8 * cell, 0.09)
        for line, ink in ((3.0, style.INK), (1.5, "white")):
            sheet.axes.add_patch(
                shapes.Circle((x, y), radius, fill=False, edgecolor=ink, lw=line, zorder=6)
            )
    bottom = top + side
    sheet.text(left, bottom + 0.24, name, bold=True)
    words = f"{traced.count:,} of {traced.weight.size:,}"
    sheet.text(left, bottom + 0.45, words, **_NOTE)
    if traced.switches is not None:
        words = f"{int(traced.switches.sum()):,} switches"
        sheet.text(left, bottom + 0.64, words, **_NOTE)


_NOTE: dict[str, Any] = {"size": 9.5, "color": style.SOFT}


def _view(traced: TracedMap) -> tuple[slice, slice]:
    """Rows and columns to show: the traced ones and a margin, LEAST_VIEW or more."""
    spans = []
    for axis, length in enumerate(traced.weight.shape):
        places = np.flatnonzero(traced.weight.any(axis=1 - axis))
        low, high = (int(places[0]), int(places[-1]) + 1) if len(places) else (0, length)
        margin = max(1, (high - low) // 8, -(-(LEAST_VIEW - (high - low)) // 2))
        spans.append(slice(max(low - margin, 0), min(high + margin, length)))
    return spans[0], spans[1]


def _grid(sheet: style.Board, frame: style.Frame) -> None:
    """Thin lines between the places, where they are few enough to be seen."""
    rows, columns = frame.pixels
    if max(rows, columns) > FEW:
        return
    settings: dict[str, Any] = {"color": "white", "linewidth": 0.4, "alpha": 0.25, "zorder": 2}
    for column in range(columns + 1):
        (x, low), (_, high) = frame.at(column, 0), frame.at(column, rows)
        sheet.axes.plot([x, x], [low, high], **settings)
    for row in range(rows + 1):
        (low, y), (high, _) = frame.at(0, row), frame.at(columns, row)
        sheet.axes.plot([low, high], [y, y], **settings)


def _reached(
    sheet: style.Board,
    frame: style.Frame,
    reached: Bool[np.ndarray, "h w"],
    color: str,
) -> None:
    """A line around the traced places, along the edges of their squares."""
    padded = np.pad(reached, 1)
    lines = []
    for row, column in np.argwhere(padded[1:, 1:-1] != padded[:-1, 1:-1]).tolist():
        lines.append((frame.at(column, row), frame.at(column + 1, row)))
    for row, column in np.argwhere(padded[1:-1, 1:] != padded[1:-1, :-1]).tolist():
        lines.append((frame.at(column, row), frame.at(column, row + 1)))
    sheet.axes.add_collection(LineCollection(lines, colors=color, linewidths=1.6, zorder=3))


SHOWN = 8
"""Channels of a layer that are projected where none is named."""


@dataclass(frozen=True)
class Projection:
    """One activation projected back to the picture."""

    channel: int
    number: float
    """By which the channel was chosen."""
    place: tuple[int, int]
    """Column and row of the activation in its map: the strongest of the channel."""
    activation: float
    signal: Float32[np.ndarray, "h w 3"] = field(repr=False)
    """What `tracing.project` gives."""
    box: tuple[int, int, int, int]
    """x0, y0, x1, y1 around what is not zero in it, half-open."""


@dataclass(frozen=True)
class ProjectedPicture:
    """A layer's projections with what is needed to draw them; `explain_projection` makes it."""

    layer: str
    class_name: str
    by: Choice
    projections: tuple[Projection, ...]
    inside: Inside = field(repr=False)

    def __str__(self) -> str:
        """A table, one line a channel."""
        lines = [f"{self.layer}, class {self.class_name}: the channels' strongest activations"]
        for found in self.projections:
            x0, y0, x1, y1 = found.box
            lines.append(
                f"channel {found.channel:4}  {self.by} {found.number:.4g}  activation "
                f"{found.activation:.4g} at {found.place[0]},{found.place[1]}  comes from "
                f"{x1 - x0} x {y1 - y0} pixels at {x0},{y0}"
            )
        return "\n".join(lines)

    def figure(self) -> Figure:
        """Draw it: a slide of 16 to 9, without matplotlib's global state."""
        return _draw_projections(self)


def explain_projection(
    inside: Inside,
    layer: str,
    channel: int | None = None,
    *,
    class_name: str | None = None,
    by: Choice = "contribution",
) -> ProjectedPicture:
    """Project a layer's strongest activations back to the picture.

    Args:
        inside: A pass of the network over the picture.
        layer: Name of one of its layers.
        channel: Which channel; None takes the best SHOWN by `by`, those that are active.
        class_name: The class to choose channels for; None is the one predicted most.
        by: How channels are chosen (`inside.representative_channels`).

    Raises:
        LabelError: When the network knows no such class.
        RecipeError: For a layer or channel that there is not.
    """
    values = inside[layer].values
    label = inside.label(class_name)
    numbers = channel_numbers(inside, [layer], by=by, label=label)[layer]
    if channel is None:
        active = values.max(axis=(1, 2)) > 0
        best = np.argsort(-np.where(active, numbers, -np.inf), kind="stable")
        chosen = [int(index) for index in best[:SHOWN] if active[index]] or [int(best[0])]
    else:
        chosen = [channel]
    projections = []
    for index in chosen:
        signal = project(inside, layer, index)
        row, column = np.unravel_index(int(values[index].argmax()), values.shape[1:])
        projections.append(
            Projection(
                channel=index,
                number=float(numbers[index]),
                place=(int(column), int(row)),
                activation=float(values[index].max()),
                signal=signal,
                box=_around(signal),
            )
        )
    name = inside.classes.names[label]
    return ProjectedPicture(layer, name, by, tuple(projections), inside)


def _around(signal: Float32[np.ndarray, "h w 3"]) -> tuple[int, int, int, int]:
    """The box around what is not zero; the whole picture where all is."""
    height, width = signal.shape[:2]
    rows = np.flatnonzero(signal.any(axis=(1, 2)))
    columns = np.flatnonzero(signal.any(axis=(0, 2)))
    if not len(rows):
        return 0, 0, width, height
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _draw_projections(found: ProjectedPicture) -> Figure:
    inside = found.inside
    name = found.class_name.replace("_", " ")
    sheet = style.board(
        f"What {found.layer} saw: {name}",
        "Strongest activations, taken back to the picture by the same switches and filters "
        "(grey: nothing), beside the part of the picture they come from.",
    )
    height, width = inside.picture.shape[:2]
    frame = sheet.picture(inside.picture, style.MARGIN, TOP, min(BIG, 4.6 * width / height))
    for number, projection in enumerate(found.projections, start=1):
        box = tuple(float(edge) for edge in projection.box)
        _frame_box(sheet, frame, (box[0], box[1], box[2], box[3]), style.ORANGE)
        x, y = frame.at(box[0], box[1])
        sheet.text(
            x + 0.06, y + 0.19, f"{number}", size=style.SMALL, color="white", bold=True,
            zorder=5, bbox={"facecolor": style.INK, "edgecolor": "none", "pad": 1.2},
        )  # fmt: skip
    left = style.MARGIN + BIG + 0.5
    columns = 2 if len(found.projections) > 1 else 1
    rows = max(1, -(-len(found.projections) // columns))
    pitch = (style.WIDTH - style.MARGIN - left + GAP) / columns
    tall = (style.HEIGHT - TOP - 0.5) / rows
    for index, projection in enumerate(found.projections):
        row, column = divmod(index, columns)
        corner = left + column * pitch, TOP + row * tall
        _pair(sheet, inside, (index + 1, projection), corner, (pitch - GAP, tall - 0.1))
    style.footnote(sheet, "After Zeiler & Fergus 2014, figure 2.")
    return sheet.figure


def _pair(
    sheet: style.Board,
    inside: Inside,
    numbered: tuple[int, Projection],
    corner: tuple[float, float],
    room: tuple[float, float],
) -> None:
    """A projection beside its part of the picture, with its words on the right or below."""
    number, projection = numbered
    x0, y0, x1, y1 = projection.box
    patch = inside.picture[y0:y1, x0:x1]
    signal = projection.signal[y0:y1, x0:x1]
    loud = float(np.quantile(np.abs(signal), 0.995))  # a few pixels would leave the rest grey
    shown = (0.5 + 0.5 * signal / max(loud, 1e-30)).clip(0, 1)
    big = room[1] > 3
    words = (0.0, 0.6) if big else (1.15, 0.0)
    high = room[1] - words[1] - 0.12
    slot = (room[0] - words[0] - GAP / 2) / 2
    wide = min(slot, high * patch.shape[1] / patch.shape[0])
    first = sheet.picture(shown, *corner, wide, interpolation="nearest")
    sheet.picture(patch, corner[0] + wide + GAP / 2, corner[1], wide, interpolation="nearest")
    left = corner[0] if big else corner[0] + 2 * slot + GAP
    top = corner[1] + (first.height + 0.3 if big else 0.15)
    title = f"{number}  channel {projection.channel}"
    sheet.text(left, top, title, size=style.SMALL, bold=True)
    place = f"at {projection.place[0]}, {projection.place[1]}"
    sheet.text(left, top + 0.2, f"{projection.activation:.2f} {place}", **_NOTE)

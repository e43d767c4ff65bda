"""The figures of inference and of the pipeline as one picture of bars."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.patches import Patch

from deconvnet.bench.pipeline import PARTS
from deconvnet.bench.report import Report, Table
from deconvnet.errors import RecipeError
from deconvnet.figures import style
from deconvnet.figures.style import BLUE, GREEN, INK, ORANGE, RULE, SKY, SOFT, Number

DRAWN = ("inference", "pipeline")
"""What a plot can be made of."""

OURS = ("torch", "native")
"""Written in bold."""

BATCHES = {"one": ("one at a time", ORANGE), "of 8": ("in batches of 8", BLUE)}
"""Column of the table, its name and colour."""

PART_COLORS = dict(zip(PARTS, (ORANGE, BLUE, SKY, GREEN, SOFT), strict=True))

HEAD, FOOT, GAP = 1.5, 0.75, 0.95
"""Inches above, below and between the panels; a gap holds a title and the numbers below."""

BAR, LABELS = 0.5, 1.45
"""Inches for each line of bars, and for the names beside them."""

ROOM = 1.3
"""How far a panel reaches, in parts of its longest bar: beyond it stand the numbers."""

Line = Mapping[str, Any]
"""A row of a table, by column."""

Panel = tuple[str, list[Line]]
"""Its title and the lines it shows."""


def check_plot(what: str, path: str | Path) -> None:
    """Refuse a plot that could not be drawn or written.

    Raises:
        RecipeError: What is measured is not drawn.
        OutputError: The name says no format that we write.
    """
    style.check_suffix(path)
    if what not in {"all", *DRAWN}:
        raise RecipeError(
            f"--plot draws {' and '.join(DRAWN)}, and '{what}' was to be measured; measure one "
            "of those or all, or leave --plot out."
        )


def plot(report: Report, path: str | Path) -> None:
    """Draw time a picture as bars with their range: a panel a network, one for the pipeline.

    Raises:
        RecipeError: The report holds nothing that is drawn.
        OutputError: The place cannot be written.
    """
    shelves = _shelves(report.tables)
    if not shelves:
        raise RecipeError(f"there is nothing to draw here; measure {' or '.join(DRAWN)}.")
    heights = [BAR * max(len(lines) for _, lines in shelf) for shelf in shelves]
    height = HEAD + sum(heights) + GAP * (len(shelves) - 1) + FOOT + 0.35
    machine = report.machine
    titles = [table.title for table in report.tables if table.kind in DRAWN]
    sheet = style.board(
        titles[0].partition(":")[0] if len(titles) == 1 else "Time a picture",
        f"{machine['processor']}, threads {machine['threads']}, load {machine['load']}, "
        f"torch {machine.get('torch', '')}. Shorter is faster; lines span the rounds.",
        height=height,
    )
    top = HEAD
    for shelf, tall in zip(shelves, heights, strict=True):
        wide = (style.WIDTH - 2 * style.MARGIN) / len(shelf)
        for index, (title, lines) in enumerate(shelf):
            left = style.MARGIN + index * wide + LABELS
            size = wide - LABELS - 0.2, BAR * len(lines)
            axes = _axes(sheet, left, top, size)
            (_stack_parts if "allocator" in lines[0] else _draw_batches)(axes, lines)
            _dress(axes, title, [_name(line) for line in lines])
        top += tall + GAP
    style.footnote(sheet, "   ".join(title.partition(": ")[2] for title in titles))
    style.save(sheet.figure, path)


def _shelves(tables: tuple[Table, ...]) -> list[list[Panel]]:
    """Panels in rows of two, the pipeline's alone."""
    panels: list[Panel] = []
    wide: list[list[Panel]] = []
    for table in tables:
        lines: list[Line] = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
        if table.kind == "inference":
            for name in dict.fromkeys(line["network"] for line in lines):
                shown = [line for line in lines if line["network"] == name]
                panels.append((f"{name}, ms", shown))
        elif table.kind == "pipeline":
            wide.append([("the whole system, seconds", lines)])
    return [panels[index : index + 2] for index in range(0, len(panels), 2)] + wide


def _axes(sheet: style.Board, left: float, top: float, size: tuple[float, float]) -> Axes:
    """Room for a panel on the sheet, all in inches."""
    width, height = size
    tall = sheet.figure.get_figheight()
    place = (left, tall - top - height, width, height)
    unit = (style.WIDTH, tall, style.WIDTH, tall)
    x, y, w, h = (length / whole for length, whole in zip(place, unit, strict=True))
    return sheet.figure.add_axes((x, y, w, h))


def _draw_batches(axes: Axes, lines: list[Line]) -> None:
    longest = max(line[high] for line in lines for high in ("high", "high 8"))
    for place, line in enumerate(lines):
        for (column, (_, color)), low, high, shift in zip(
            BATCHES.items(), ("low", "low 8"), ("high", "high 8"), (-0.19, 0.19), strict=True
        ):
            axes.barh(place + shift, line[column], 0.36, color=color)
            _span(axes, place + shift, line[low], line[high])
            _write(axes, max(line[column], line[high]), place + shift, _short(line[column]))
    axes.set_xlim(0, ROOM * longest)
    _explain(axes, dict(BATCHES.values()))


def _stack_parts(axes: Axes, lines: list[Line]) -> None:
    for place, line in enumerate(lines):
        start = 0.0
        for part, color in PART_COLORS.items():
            axes.barh(place, line[part], 0.62, left=start, color=color)
            start += line[part]
        _span(axes, place, line["low"], line["high"])
        words = f"{_short(line['seconds'])} s, {line['peak MB'] / 1000:.2f} GB"
        _write(axes, max(start, line["high"]), place, words)
    axes.set_xlim(0, ROOM * max(line["high"] for line in lines))
    _explain(axes, PART_COLORS)


def _short(number: Number) -> str:
    """Three digits, or all of those before the point.

    >>> _short(1234.5), _short(12.345)
    ('1234', '12.3')
    """
    return f"{number:.0f}" if number >= 100 else f"{number:.3g}"


def _span(axes: Axes, place: Number, low: Number, high: Number) -> None:
    """A line over the rounds, from the quickest to the slowest."""
    axes.plot([low, high], [place, place], color=INK, linewidth=1.4, solid_capstyle="butt")


def _write(axes: Axes, beyond: Number, place: Number, words: str) -> None:
    axes.annotate(
        words, (beyond, place), (4, 0), textcoords="offset points", va="center_baseline",
        fontsize=style.SMALL - 1.5, color=INK, fontfamily=style.FAMILY,
    )  # fmt: skip


def _explain(axes: Axes, colors: Mapping[str, str]) -> None:
    patches = [Patch(color=color, label=name) for name, color in colors.items()]
    axes.legend(
        handles=patches, loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=len(patches),
        frameon=False, borderaxespad=0.2, handlelength=1.0, columnspacing=1.2,
        prop={"family": style.FAMILY, "size": style.SMALL - 1},
    )  # fmt: skip


def _name(line: Line) -> str:
    return f"{line['by']}, {line['allocator']}" if "allocator" in line else str(line["by"])


def _dress(axes: Axes, title: str, names: list[str]) -> None:
    """The title, the names of the lines, and as little else as can be."""
    axes.set_title(
        title, loc="left", fontsize=style.HEADING - 1, fontweight="bold", color=INK,
        fontfamily=style.FAMILY,
    )  # fmt: skip
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(length=0, labelsize=style.SMALL, labelcolor=SOFT)
    for label, name in zip(axes.get_yticklabels(), names, strict=True):
        label.set_color(INK)
        label.set_fontweight("bold" if name.split(",")[0] in OURS else "normal")
    for label in [*axes.get_yticklabels(), *axes.get_xticklabels()]:
        label.set_fontfamily(style.FAMILY)
    axes.set_axisbelow(True)
    axes.grid(axis="x", color=RULE, linewidth=0.6)
    for side in ("top", "right", "bottom"):
        axes.spines[side].set_visible(False)
    axes.spines["left"].set_color(RULE)

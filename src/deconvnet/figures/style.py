"""One look for every figure: a board measured in inches, its colours, letters and parts.

Colours are those of Okabe and Ito, told apart by the colour-blind too. Nothing here leaves a
trace in matplotlib's global state.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.patches as shapes
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from deconvnet.errors import OutputError
from deconvnet.files import written_whole

INK, SOFT, RULE, PAPER = "#1d2329", "#5c6670", "#c9ced4", "#ffffff"
BLUE, ORANGE, GREEN, VERMILION = "#0072b2", "#e69f00", "#009e73", "#d55e00"
PURPLE, SKY = "#b0609a", "#56b4e9"
HEAT = "inferno"
"""Colour map of shares and probabilities: its lightness rises evenly, so it prints in grey."""

WIDTH, HEIGHT = 13.333, 7.5
"""Inches: a slide of 16 to 9."""
MARGIN = 0.55
TITLE, HEADING, TEXT, SMALL = 21.0, 13.5, 12.0, 10.5
"""Points, on a slide of that width."""
FAMILY = "DejaVu Sans"
"""Comes with matplotlib, so a figure looks the same everywhere."""

DPI = 120
SUFFIXES = (".png", ".svg", ".pdf")

Number = int | float


@dataclass(frozen=True)
class Frame:
    """Where a picture lies on the board, in inches."""

    left: float
    top: float
    width: float
    height: float
    pixels: tuple[int, int]
    """(height, width) of the picture."""

    def at(self, x: Number, y: Number) -> tuple[float, float]:
        """The place of a pixel coordinate, 0 at the picture's left and upper edge."""
        rows, columns = self.pixels
        return (
            self.left + float(x) * self.width / columns,
            self.top + float(y) * self.height / rows,
        )


@dataclass(frozen=True)
class Board:
    """A blank sheet with a title; places are in inches from its upper left corner."""

    figure: Figure
    axes: Axes

    def text(
        self,
        x: Number,
        y: Number,
        words: str,
        *,
        size: Number = TEXT,
        color: str = INK,
        ha: str = "left",
        va: str = "baseline",
        bold: bool = False,
        **settings: Any,
    ) -> None:
        """Write words."""
        weight = "bold" if bold else "normal"
        self.axes.text(
            x, y, words, fontsize=size, color=color, ha=ha, va=va, fontweight=weight,
            fontfamily=FAMILY, **settings,
        )  # fmt: skip

    def picture(
        self,
        image: np.ndarray,
        left: Number,
        top: Number,
        width: Number,
        **settings: Any,
    ) -> Frame:
        """Lay down a picture, or a map of numbers, with a thin edge around it."""
        rows, columns = image.shape[:2]
        height = float(width) * rows / columns
        frame = Frame(float(left), float(top), float(width), height, (rows, columns))
        extent = (left, left + width, top + height, top)
        settings.setdefault("interpolation", "antialiased")
        self.axes.imshow(image, extent=extent, aspect="auto", zorder=1, **settings)
        self.box(left, top, width, height, edge=RULE, line=0.8)
        return frame

    def box(
        self,
        left: Number,
        top: Number,
        width: Number,
        height: Number,
        *,
        fill: str | tuple[float, ...] = "none",
        edge: str = INK,
        line: Number = 1.0,
        **settings: Any,
    ) -> None:
        """Draw a rectangle."""
        settings.setdefault("zorder", 2)
        patch = shapes.Rectangle(
            (left, top), width, height, facecolor=fill, edgecolor=edge, linewidth=line,
            **settings,
        )  # fmt: skip
        self.axes.add_patch(patch)

    def arrow(
        self,
        start: tuple[float, float],
        end: tuple[float, float],
        *,
        color: str = INK,
        bend: Number = 0.0,
        line: Number = 1.6,
        style: str = "-|>",
        gid: str | None = None,
    ) -> None:
        """Draw an arrow; a bend of 0.2 bows it by a fifth of its length."""
        patch = shapes.FancyArrowPatch(
            start, end, arrowstyle=style, mutation_scale=12, color=color, linewidth=line,
            connectionstyle=f"arc3,rad={bend}", shrinkA=0, shrinkB=0, zorder=4, gid=gid,
        )  # fmt: skip
        self.axes.add_patch(patch)


def board(title: str, subtitle: str = "", *, height: Number = HEIGHT) -> Board:
    """A blank sheet as wide as a slide, with its title."""
    figure = Figure(figsize=(WIDTH, float(height)), dpi=DPI, facecolor=PAPER)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_autoscale_on(False)
    axes.set(xlim=(0, WIDTH), ylim=(height, 0))
    axes.axis("off")
    sheet = Board(figure, axes)
    sheet.text(MARGIN, 0.66, title, size=TITLE, bold=True)
    sheet.text(MARGIN, 1.0, subtitle, size=TEXT, color=SOFT)
    return sheet


def footnote(sheet: Board, words: str) -> None:
    """Write a line at the lower edge."""
    height = sheet.figure.get_figheight()
    sheet.text(MARGIN, height - 0.3, words, size=SMALL, color=SOFT)


def tint(color: str, strength: Number) -> tuple[float, float, float]:
    """The colour on white paper: 0 is white, 1 the colour itself."""
    red, green, blue = (1 - float(strength) * (1 - channel) for channel in to_rgb(color))
    return red, green, blue


def percent(share: float) -> str:
    """A share of 0 to 1 in percent, or a dash for none.

    >>> percent(0.7261), percent(float("nan"))
    ('72.6', '–')
    """
    return "–" if np.isnan(share) else f"{100 * share:.1f}"


def check_suffix(path: str | Path) -> None:
    """Refuse a file name that says no format we write.

    Raises:
        OutputError: If it ends in none of SUFFIXES.
    """
    if Path(path).suffix.lower() not in SUFFIXES:
        raise OutputError(
            f"The figure cannot be written as '{path}'; its name must end in "
            f"{', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}."
        )


def save(figure: Figure, path: str | Path, *, dpi: int = DPI) -> None:
    """Write a figure whole or not at all, in the format that its name says.

    Same figure, same bytes: no date is written into it.

    Raises:
        OutputError: If the name says no format, or the place cannot be written.
    """
    check_suffix(path)
    kind = Path(path).suffix.lower()[1:]
    undated = {"png": {}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}[kind]
    same_names: Any = {"svg.hashsalt": "deconvnet"}  # else an SVG numbers its parts at random
    with written_whole(path) as temporary, mpl.rc_context(same_names):
        figure.savefig(temporary, format=kind, dpi=dpi, metadata=undated)

"""Figure 3 of the paper, with real numbers: unpooling by switches, and deconvolution.

Everything drawn is computed by the very functions the networks use.
"""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from torch.utils._python_dispatch import TorchDispatchMode

from deconvnet.errors import RecipeError, ShapeError
from deconvnet.figures import style
from deconvnet.figures.style import BLUE, GREEN, INK, ORANGE, PURPLE, RULE, SOFT, VERMILION
from deconvnet.layers.matrix import convolution_matrix
from deconvnet.layers.unpooling import Switches, Unpooling, pool
from deconvnet.predict import Predictor
from deconvnet.shapes import Image

GOLDEN = (
    (1.0, 2.0, 5.0, 3.0),
    (4.0, 0.0, 1.0, 2.0),
    (7.0, 1.0, 2.0, 2.0),
    (0.0, 6.0, 9.0, 8.0),
)
"""The map of the example: the maximum of each window lies at another place of it."""

FAMILY = {
    "nails": "upper left corner,\nzeros elsewhere",
    "nearest": "copied over\nthe window",
    "average": "shared out over\nthe window",
    "bilinear": "interpolated\nbetween centres",
    "subpixel": "learned 1 × 1 to four\nmaps; starts as nearest",
    "transposed": "learned 4 × 4; starts as\nbilinear, zeros around",
}
"""What each kind but the switches does with a value, in a few words."""

HUES = (BLUE, ORANGE, GREEN, PURPLE)
"""Of the windows of a pooling, or of the weights of a kernel, in turns."""

LARGEST = 8

Plane = Float[np.ndarray, "rows columns"]


class Grid:
    """A plane of numbers drawn as cells; gives the place of each."""

    def __init__(self, sheet: style.Board, left: float, top: float, cell: float) -> None:
        self.sheet, self.left, self.top, self.cell = sheet, left, top, cell

    def draw(self, values: np.ndarray, fills: np.ndarray, size: float = style.TEXT) -> None:
        """Draw the cells: fills (rows, columns, 3) are their colours, 0 to 1."""
        for (row, column), value in np.ndenumerate(values):
            corner = self.left + column * self.cell, self.top + row * self.cell
            fill = tuple(float(channel) for channel in fills[row, column])
            self.sheet.box(*corner, self.cell, self.cell, fill=fill, edge=RULE, line=0.8)
            ink = RULE if value == 0 else _ink_on(fill)
            x, y = self.at(row, column)
            self.sheet.text(
                x, y, short(float(value)), size=size, color=ink, ha="center",
                va="center_baseline", zorder=5,
            )  # fmt: skip

    def at(self, row: float | int, column: float | int) -> tuple[float, float]:
        """The middle of a cell."""
        return (
            self.left + (float(column) + 0.5) * self.cell,
            self.top + (float(row) + 0.5) * self.cell,
        )

    def frame(self, cells: tuple[int, ...], color: str) -> None:
        """Draw a strong line around (rows, columns) of cells, from the upper left one."""
        rows, columns = cells
        self.sheet.box(
            self.left, self.top, columns * self.cell, rows * self.cell, edge=color, line=2.4,
            zorder=4,
        )  # fmt: skip


def short(value: float) -> str:
    """A number in at most five signs.

    >>> short(5.0), short(5.0625), short(0.0)
    ('5', '5.06', '0')
    """
    return f"{value:.2f}".rstrip("0").rstrip(".")


def unpooled(plane: Plane, kind: str) -> Float32[np.ndarray, "rows columns"]:
    """Pool a plane and undo it in one of the ways of UNPOOLING_KINDS, as they start."""
    pooled, switches = pool(_as_features(plane))
    with torch.no_grad():
        return Unpooling(kind, 1)(pooled, switches)[0, 0].numpy()


def unpooling(plane: np.ndarray | None = None) -> Figure:
    """Draw pooling, its switches and unpooling on a small plane, and the rest of the family.

    Args:
        plane: (rows, columns) of at most 8 x 8 numbers; the example of our tests if not given.

    Raises:
        ShapeError: For a plane of another shape.

    Source: Noh, Hong & Han 2015, figure 3, left.
    """
    plane = np.array(GOLDEN) if plane is None else np.asarray(plane, dtype=np.float64)
    if plane.ndim != 2 or not 2 <= min(plane.shape) <= max(plane.shape) <= LARGEST:
        raise ShapeError(
            f"A plane of shape {plane.shape} was given; the figure takes 2 x 2 to "
            f"{LARGEST} x {LARGEST} numbers."
        )
    pooled, switches = pool(_as_features(plane))
    sheet = style.board(
        "Unpooling puts each maximum back where it came from",
        "Pooling keeps the largest of each 2 × 2 window and remembers its place: the switch. "
        "Unpooling needs nothing else.",
    )
    _draw_way(sheet, plane, pooled[0, 0].numpy(), switches)
    _draw_family(sheet, plane)
    return sheet.figure


def _draw_way(sheet: style.Board, plane: Plane, pooled: np.ndarray, switches: Switches) -> None:
    """Draw the upper half: there, the switches, and back."""
    rows, columns = plane.shape
    cell = 2.08 / max(rows, columns)
    positions = switches.positions[0, 0].numpy()
    first = Grid(sheet, 1.0, 1.72, cell)
    # strongest where the maximum is, so that the eye finds what the arrows carry
    kept = np.isin(np.arange(plane.size).reshape(plane.shape), positions)
    first.draw(plane, _fills(plane.shape, np.where(kept, 0.75, 0.13)))
    small = Grid(sheet, 4.85, 1.72 + 1.04 - cell * pooled.shape[0] / 2, cell)
    small.draw(pooled, _fills(pooled.shape, np.full(pooled.shape, 0.75), window=1))
    places = Grid(sheet, 6.5, small.top, cell)
    places.draw(
        positions + 0.0, _fills(positions.shape, np.full(positions.shape, 0.13), window=1)
    )
    back = unpooled(plane, "switches")
    last = Grid(sheet, 9.75, 1.72, cell)
    last.draw(back, _fills(plane.shape, np.where(kept, 0.75, 0.0)))
    for (row, column), position in np.ndenumerate(positions):
        source = divmod(int(position), columns)
        color = HUES[_window(row, column) % len(HUES)]
        gid = f"switch:{position}"
        bend = -0.16 if row < pooled.shape[0] / 2 else 0.16
        reach = 0.42 * cell
        _join(
            sheet,
            first.at(*source),
            small.at(row, column),
            color,
            bend,
            reach,
            f"pool:{position}",
        )
        _join(sheet, places.at(row, column), last.at(*source), color, bend, reach, gid)
    bottom = 1.72 + cell * rows + 0.27
    for grid, width, name in (
        (first, columns, f"map, {rows} × {columns}"),
        (small, pooled.shape[1], "pooled"),
        (places, pooled.shape[1], "switches"),
        (last, columns, "unpooled"),
    ):
        middle = grid.left + width * cell / 2
        low = bottom if width == columns else small.top + pooled.shape[0] * cell + 0.27
        sheet.text(middle, low, name, size=style.HEADING, ha="center", bold=True)
    low = small.top + pooled.shape[0] * cell + 0.5
    middle = places.left + pooled.shape[1] * cell / 2
    sheet.text(
        middle, low, f"row × {columns} + column", size=style.SMALL, color=SOFT, ha="center"
    )


def _draw_family(sheet: style.Board, plane: Plane) -> None:
    """Draw the lower half: the other ways to undo the same pooling."""
    top = 4.72
    sheet.axes.add_line(
        Line2D([style.MARGIN, style.WIDTH - style.MARGIN], [top - 0.38] * 2, color=RULE, lw=1)
    )
    sheet.text(style.MARGIN, top - 0.08, "The others do without the switches", bold=True,
               size=style.HEADING)  # fmt: skip
    pitch = (style.WIDTH - 2 * style.MARGIN) / len(FAMILY)
    cell = 1.48 / max(plane.shape)
    for place, (kind, words) in enumerate(FAMILY.items()):
        values = unpooled(plane, kind)
        left = style.MARGIN + place * pitch
        grid = Grid(sheet, left, top + 0.2, cell)
        strength = 0.55 * np.abs(values) / max(float(np.abs(values).max()), 1e-9)
        grid.draw(values, _fills(plane.shape, strength), size=min(9.5, 26 * cell))
        below = top + 0.2 + cell * plane.shape[0]
        sheet.text(left, below + 0.26, kind, bold=True)
        sheet.text(left, below + 0.34, words, size=style.SMALL, color=SOFT, va="top")


def plane_of(network: Predictor, image: Image, side: int = 4) -> Plane:
    """A small part of the map that a network's deepest pooling gets, to draw it.

    It is the part with the largest sum, in the channel with the largest, and starts where
    windows do.

    Args:
        network: The network.
        image: The picture.
        side: Places of the part, an even number.

    Raises:
        RecipeError: If the network pools nothing.
    """
    seen = _Pooled()
    with torch.no_grad(), seen:
        network.network(network.standardised(image)[None])
    if not seen.maps:
        raise RecipeError("This network has no pooling to draw; give one that has.")
    maps = seen.maps[-1][0]
    channel = maps[int(maps.sum(dim=(1, 2)).argmax())].float().cpu()
    side = min(side, *(length // 2 * 2 for length in channel.shape))
    sums = torch.nn.functional.avg_pool2d(channel[None], side, stride=2)[0]
    row, column = (2 * int(place) for place in np.unravel_index(int(sums.argmax()), sums.shape))
    return channel[row : row + side, column : column + side].double().numpy()


class _Pooled(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's
    """Keeps what max pooling gets, which is a function of the networks and no module."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's
        self.maps: list[torch.Tensor] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        del types
        if func is torch.ops.aten.max_pool2d_with_indices.default:
            self.maps.append(args[0])
        return func(*args, **(kwargs or {}))


def deconvolution(kernel: np.ndarray | None = None, size: tuple[int, int] = (3, 3)) -> Figure:
    """Draw a convolution and its transposed convolution, as windows and as sparse matrices.

    Args:
        kernel: (rows, columns) of weights, of at most 4 x 4; 1 2 3 4 in 2 x 2 if not given.
        size: (rows, columns) of the plane that is convolved, at most 5 x 5.

    Raises:
        ShapeError: For a larger kernel or plane, or a kernel larger than the plane.

    Source: Noh, Hong & Han 2015, figure 3, right; Dumoulin & Visin 2016, section 4.1.
    """
    weights = (
        np.array([[1.0, 2.0], [3.0, 4.0]]) if kernel is None else np.asarray(kernel, float)
    )
    if weights.ndim != 2 or max(weights.shape) > 4 or max(size) > 5 or min(size) < 1:
        raise ShapeError(
            f"A kernel of shape {weights.shape} and a plane of {size} were given; the figure "
            "takes kernels up to 4 x 4 and planes up to 5 x 5."
        )
    matrix = convolution_matrix(weights[None, None], size).toarray()
    out = size[0] - weights.shape[0] + 1, size[1] - weights.shape[1] + 1
    plane = np.arange(1.0, 1 + size[0] * size[1]).reshape(size)
    convolved = (matrix @ plane.ravel()).reshape(out)
    small = np.arange(1.0, 1 + out[0] * out[1]).reshape(out)
    spread = (matrix.T @ small.ravel()).reshape(size)
    sheet = style.board(
        "Deconvolution is the transpose of convolution",
        "The same weights, wired the other way round: many values to one, or one to many. "
        "Nothing is inverted.",
    )
    half = style.WIDTH / 2
    sheet.axes.add_line(Line2D([half, half], [1.35, 7.2], color=RULE, lw=1))
    _draw_side(sheet, style.MARGIN, plane, weights, convolved)
    _draw_side(sheet, half + 0.4, small, weights, spread)
    sheet.text(style.MARGIN, 1.6, "Convolution: many to one", size=style.HEADING, bold=True)
    sheet.text(
        half + 0.4, 1.6, "Transposed convolution: one to many", size=style.HEADING, bold=True
    )
    _draw_matrix(sheet, style.MARGIN, matrix, plane, convolved, weights, by_row=True)
    _draw_matrix(sheet, half + 0.4, matrix.T, small, spread, weights, by_row=False)
    return sheet.figure


def _draw_side(
    sheet: style.Board, left: float, given: np.ndarray, weights: np.ndarray, made: np.ndarray
) -> None:
    """Draw a plane, the kernel and the result, with one window joined to one value."""
    cell, top, tall = 0.46, 1.88, 1.5
    shapes_of = given.shape, weights.shape, made.shape
    lefts = left + 0.05, left + 2.25, left + 4.0
    grids = []
    for place, (shape, start) in enumerate(zip(shapes_of, lefts, strict=True)):
        side = min(cell, tall / max(shape))
        grids.append(Grid(sheet, start, top + (tall - side * shape[0]) / 2, side))
        values = (given, weights, made)[place]
        fills = _weight_fills(weights, weights, 0.6) if place == 1 else np.ones((*shape, 3))
        grids[-1].draw(values, fills)
    many_to_one = given.size > made.size
    window, point = (grids[0], grids[2]) if many_to_one else (grids[2], grids[0])
    window.frame(weights.shape, VERMILION)
    point.frame((1, 1), VERMILION)
    _beam(sheet, window, weights.shape, point, window_first=many_to_one)
    names = ("x", "kernel", "y") if many_to_one else ("y", "the same kernel", "output")
    for name, grid, shape in zip(names, grids, shapes_of, strict=True):
        middle = grid.left + shape[1] * grid.cell / 2
        sheet.text(middle, top + tall + 0.32, name, ha="center", color=SOFT)


def _beam(
    sheet: style.Board, window: Grid, shape: tuple[int, ...], point: Grid, *, window_first: bool
) -> None:
    """Join the corners of a window to a cell: the cone of the paper's drawing."""
    right = shape[1] if window_first else 0
    near = point.left + (0 if window_first else point.cell)
    x = window.left + right * window.cell
    for row, end in ((0, point.top), (shape[0], point.top + point.cell)):
        line = Line2D(
            [x, near], [window.top + row * window.cell, end], color=VERMILION, lw=1.2,
            alpha=0.7, zorder=0.5,
        )  # fmt: skip
        sheet.axes.add_line(line)


def _draw_matrix(
    sheet: style.Board,
    left: float,
    matrix: np.ndarray,
    given: np.ndarray,
    made: np.ndarray,
    weights: np.ndarray,
    *,
    by_row: bool,
) -> None:
    """Draw matrix times flattened plane; the line of the window above is framed."""
    rows, columns = matrix.shape
    cell = min(0.34, 2.6 / max(rows, columns))
    top = 4.5
    size = min(style.TEXT, 33 * cell)

    def column_of(values: np.ndarray, start: float, *, marked: bool) -> None:
        flat = values.reshape(-1, 1)
        grid = Grid(sheet, start, top, cell)
        grid.draw(flat, np.ones((*flat.shape, 3)), size=size)
        if marked:
            grid.frame((1, 1), VERMILION)

    name = "y = M x" if by_row else "output = Mᵀ y"
    nonzero = f"{np.count_nonzero(matrix)} of {matrix.size} are not zero"
    sheet.text(left, 4.3, name, size=style.HEADING, bold=True)
    sheet.text(left + 1.65, 4.3, nonzero, size=style.SMALL, color=SOFT)
    column_of(made, left + 0.05, marked=by_row)
    sheet.text(left + 0.05 + cell + 0.2, top + cell / 2, "=", ha="center", va="center")
    start = left + 0.05 + cell + 0.42
    grid = Grid(sheet, start, top, cell)
    grid.draw(matrix, _weight_fills(matrix, weights, 0.6), size=size)
    grid.frame((1, columns) if by_row else (rows, 1), VERMILION)
    after = start + columns * cell
    sheet.text(after + 0.2, top + cell / 2, "·", ha="center", va="center")
    column_of(given, after + 0.36, marked=not by_row)
    if by_row:
        words, place = (
            "A row for each y:\nthe window it sees.",
            (start, top + rows * cell + 0.16),
        )
    else:
        words = "A column for each y:\nthe window it is\nspread over."
        place = after + 0.36 + cell + 0.25, top
    sheet.text(*place, words, color=SOFT, va="top")


def _weight_fills(values: np.ndarray, weights: np.ndarray, strength: float) -> np.ndarray:
    """A colour for each weight of the kernel, white for zeros."""
    fills = np.ones((*values.shape, 3))
    for index, weight in enumerate(weights.ravel()):
        if weight != 0:
            fills[values == weight] = style.tint(HUES[index % len(HUES)], strength)
    return fills


def _fills(
    shape: tuple[int, ...], strength: np.ndarray, *, window: int = 2
) -> Float[np.ndarray, "rows columns 3"]:
    """The colour of each cell's window, as strong as asked."""
    fills = np.empty((*shape, 3))
    for row, column in np.ndindex(shape):
        color = HUES[_window(row // window, column // window) % len(HUES)]
        fills[row, column] = style.tint(color, float(strength[row, column]))
    return fills


def _window(row: int, column: int) -> int:
    """Neighbouring windows get different numbers modulo 4."""
    return 2 * (row % 2) + column % 2


def _join(
    sheet: style.Board,
    start: tuple[float, float],
    end: tuple[float, float],
    color: str,
    bend: float,
    reach: float,
    gid: str,
) -> None:
    """An arrow from cell to cell that leaves their numbers free."""
    sheet.arrow(
        (start[0] + reach, start[1]), (end[0] - reach, end[1]), color=color, bend=bend, gid=gid
    )


def _ink_on(fill: tuple[float, ...]) -> str:
    red, green, blue = fill
    return INK if 0.3 * red + 0.59 * green + 0.11 * blue > 0.5 else style.PAPER


def _as_features(plane: np.ndarray) -> torch.Tensor:
    return torch.tensor(np.asarray(plane), dtype=torch.float32)[None, None]

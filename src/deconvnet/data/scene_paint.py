"""How one picture is drawn: ground, clutter, objects, light."""

import math
from typing import NamedTuple

import numpy as np
import PIL.Image

from deconvnet.data.scene_shapes import (
    CLUTTER,
    OUTLINES,
    OWN_PATTERNS,
    PATTERNS,
    Function,
    Traits,
    chips,
    disc,
    fish,
    panels,
    plain,
)
from deconvnet.shapes import Float32, Image, InstanceMap, LabelMap

_PALETTES = (
    "264653 2a9d8f e9c46a f4a261 e76f51 faf0dc",
    "1d3557 457b9d a8dadc f1faee e63946 f7c548",
    "355070 6d597a b56576 e56b6f eaac8b fae8cd",
    "606c38 283618 fefae0 dda15e bc6c25 96aa78",
    "0f4c5c 5f0f40 9a031e fb8b24 e36414 f0dcbe",
    "4b5d67 82a0aa d2be96 be6e5a 6e3c46 f0ece2",
    "006d77 83c5be edf6f9 ffddd2 e29578 46506e",
    "3d405b 81b29a f2cc8f e07a5f f4f1de 5f7db9",
    "483d69 7896c8 fac8cd f08296 ffebb4 5aaaa0",
    "2d2d34 6e6e69 b4afa5 e8e2d6 c84b31 507896",
)
_EIGHT_WAYS = ((0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1), (-1, 0), (-1, 1))
_BEVEL = 0.16
_OWN_PATTERN = 0.65
_SPOTTED = (panels, chips)

Color = Float32[np.ndarray, " 3"]


class Drawn(NamedTuple):
    """A picture and what is in it."""

    image: Image
    label_map: LabelMap
    instance_map: InstanceMap


class _Canvas(NamedTuple):
    """A picture in the making; its arrays are painted on."""

    pixels: Float32[np.ndarray, "3 h w"]
    label_map: LabelMap
    instance_map: InstanceMap
    colors: Float32[np.ndarray, "6 3"]
    light: tuple[int, int]
    """Rows and columns of a step towards the lamp."""


class _Thing(NamedTuple):
    """What is painted, and where."""

    outline: Function
    pattern: Function
    traits: Traits
    radius: float
    """Pixels."""
    row: float
    column: float
    angle: float
    colors: tuple[Color, Color]


def draw_scene(
    rng: np.random.Generator,
    shape: tuple[int, int],
    *,
    extent: tuple[float, float] = (0.07, 1.05),
    max_objects: int = 9,
    kinds: tuple[int, ...] = tuple(range(len(OUTLINES))),
    hints: tuple[Color, ...] = (),
    hinted: float = 0.0,
) -> Drawn:
    """Draw one picture with its label map and instance map.

    Args:
        rng: Decides everything.
        shape: Height and width in pixels.
        extent: Least and largest diameter of the objects, as shares of the shorter side.
        max_objects: At least two are drawn, if this allows it.
        kinds: The kinds of objects that may occur, counted from 0.
        hints: A colour for each kind of object, RGB from 0 to 1.
        hinted: Share of the objects that wear that colour, 0 to 1.
    """
    canvas = _Canvas(
        np.empty((3, *shape), np.float32),
        np.zeros(shape, np.uint8),
        np.zeros(shape, np.int32),
        rng.permutation(_rgb(_PALETTES[rng.integers(len(_PALETTES))])),
        _EIGHT_WAYS[rng.integers(8)],
    )
    grain = rng.standard_normal(shape, np.float32)
    _paint_ground(canvas, rng, grain)
    for _ in range(rng.integers(0, 16)):
        _paint_clutter(canvas, rng)
    count = int(rng.integers(min(2, max_objects), max_objects + 1))
    place = rng.random(count) ** 0.8  # a few more of the large ones than of the small
    radii = 0.5 * min(shape) * extent[0] * (extent[1] / extent[0]) ** place
    order = np.argsort(-radii * rng.uniform(0.5, 1, size=count))  # mostly the large ones behind
    for number, radius in enumerate(radii[order].tolist(), start=1):
        kind = kinds[rng.integers(len(kinds))]
        hint = hints[kind] if hinted > 0 and rng.random() < hinted else None
        _paint_object(canvas, rng, kind, radius, number, hint)
    for _ in range(rng.integers(0, 3)):
        _paint_clutter(canvas, rng)
    _light_up(canvas, rng, grain[::-1, ::-1])
    image = np.empty((*shape, 3), np.uint8)
    for channel, plane in enumerate(canvas.pixels):
        np.clip(plane * 255, 0, 255, out=image[:, :, channel], casting="unsafe")
    return Drawn(image, canvas.label_map, _renumbered(canvas.instance_map))


def _paint_ground(
    canvas: _Canvas, rng: np.random.Generator, grain: Float32[np.ndarray, "h w"]
) -> None:
    """Two muted colours that blend into each other, under a pattern, with some grain."""
    height, width = canvas.label_map.shape
    colors = _muted(canvas.colors[:2], rng.uniform(0.1, 0.5), rng.uniform(0.55, 1.05))
    blend = _smooth_noise(rng, (height, width), cells=int(rng.integers(2, 7)))
    thing = _Thing(
        outline=disc,
        pattern=PATTERNS[rng.integers(len(PATTERNS))],
        traits=tuple(rng.random(4).tolist()),
        radius=min(height, width) * float(rng.uniform(0.3, 1.0)),
        row=height / 2,
        column=width / 2,
        angle=float(rng.uniform(0, 2 * math.pi)),
        colors=(colors[0], colors[1]),
    )
    if thing.pattern is not plain:
        tint = _tint(thing, *_own_coordinates(thing, slice(0, height), slice(0, width)))
        blend += 0.4 * tint * (float(rng.uniform(0.2, 1)) - blend)
    blend += 0.05 * grain
    np.multiply(blend, (colors[1] - colors[0])[:, None, None], out=canvas.pixels)
    np.add(canvas.pixels, colors[0][:, None, None], out=canvas.pixels)


def _paint_clutter(canvas: _Canvas, rng: np.random.Generator) -> None:
    height, width = canvas.label_map.shape
    first, second = rng.choice(len(canvas.colors), 2, replace=False)
    thing = _Thing(
        outline=CLUTTER[rng.integers(len(CLUTTER))],
        pattern=PATTERNS[rng.integers(len(PATTERNS))],
        traits=tuple(rng.random(4).tolist()),
        radius=0.5 * min(height, width) * float(np.exp(rng.uniform(np.log(0.03), np.log(0.3)))),
        row=float(rng.uniform(0, height)),
        column=float(rng.uniform(0, width)),
        angle=float(rng.uniform(0, 2 * math.pi)),
        colors=(canvas.colors[first], canvas.colors[second]),
    )
    _paint(canvas, thing, label=0, number=0)


def _paint_object(
    canvas: _Canvas,
    rng: np.random.Generator,
    kind: int,
    radius: float,
    number: int,
    hint: Color | None,
) -> None:
    height, width = canvas.label_map.shape
    pattern = OWN_PATTERNS[kind]
    if pattern not in _SPOTTED and rng.random() > _OWN_PATTERN:
        pattern = PATTERNS[rng.integers(len(PATTERNS))]
    inset_rows, inset_columns = min(0.7 * radius, height / 2), min(0.7 * radius, width / 2)
    first, second = rng.choice(len(canvas.colors), 2, replace=False)
    upright = OUTLINES[kind] is fish
    thing = _Thing(
        outline=OUTLINES[kind],
        pattern=pattern,
        traits=tuple(rng.random(4).tolist()),
        radius=radius,
        row=float(rng.uniform(inset_rows, height - inset_rows)),
        column=float(rng.uniform(inset_columns, width - inset_columns)),
        angle=float(rng.uniform(-0.6, 0.6) if upright else rng.uniform(0, 2 * math.pi)),
        colors=(
            _jittered(canvas.colors[first] if hint is None else hint, rng),
            _jittered(canvas.colors[second], rng),
        ),
    )
    _paint(canvas, thing, label=kind + 1, number=number)


def _paint(canvas: _Canvas, thing: _Thing, *, label: int, number: int) -> None:
    """Paint a thing with its shadow, and write down where it is."""
    height, width = canvas.label_map.shape
    rows = _span(thing.row, thing.radius, height)
    columns = _span(thing.column, thing.radius, width)
    if rows.start >= rows.stop or columns.start >= columns.stop:
        return
    u, v = _own_coordinates(thing, rows, columns)
    distance = thing.outline(u, v, thing.traits)
    _paint_shadow(canvas, thing, distance, rows, columns)
    cover = _coverage(distance, thing.radius)
    shade, shine = _shading(canvas.light, thing, distance, (rows, columns))
    paint = shade * thing.colors[0][:, None, None]
    if thing.pattern is not plain:
        tinted = shade * _tint(thing, u, v)
        paint += tinted * (thing.colors[1] - thing.colors[0])[:, None, None]
    if shine is not None:
        paint += shine
    if thing.outline is fish:
        eye = np.sqrt((u - 0.68) ** 2 + (v + 0.07) ** 2)
        paint += _coverage(eye - 0.1, thing.radius) * (0.95 - paint)
        paint -= _coverage(eye - 0.05, thing.radius) * 0.9
    part = canvas.pixels[:, rows, columns]
    paint -= part
    paint *= cover
    part += paint
    inside = cover >= 0.5
    canvas.label_map[rows, columns][inside] = label
    canvas.instance_map[rows, columns][inside] = number


def _paint_shadow(
    canvas: _Canvas,
    thing: _Thing,
    distance: Float32[np.ndarray, "h w"],
    rows: slice,
    columns: slice,
) -> None:
    """Darken the ground on the side away from the lamp."""
    height, width = canvas.label_map.shape
    reach = 2 + 0.07 * thing.radius
    down, right = (-round(step * reach) for step in canvas.light)
    to_rows = slice(max(rows.start + down, 0), min(rows.stop + down, height))
    to_columns = slice(max(columns.start + right, 0), min(columns.stop + right, width))
    if to_rows.start >= to_rows.stop or to_columns.start >= to_columns.stop:
        return
    top, left = to_rows.start - down - rows.start, to_columns.start - right - columns.start
    size = to_rows.stop - to_rows.start, to_columns.stop - to_columns.start
    moved = distance[top : top + size[0], left : left + size[1]]
    dark = 1 - 0.45 * np.clip(0.5 - moved * (thing.radius / (2 * reach)), 0, 1)
    canvas.pixels[:, to_rows, to_columns] *= dark


def _shading(
    light: tuple[int, int],
    thing: _Thing,
    distance: Float32[np.ndarray, "h w"],
    place: tuple[slice, slice],
) -> tuple[Float32[np.ndarray, "h w"], Float32[np.ndarray, "h w"] | None]:
    """Brightness of the thing's surface, around 1, and the shine of a ball."""
    length = math.hypot(*light)
    if thing.pattern is panels:
        rows, columns = place
        scale = 1 / (thing.radius * length)
        y = (np.arange(rows.start, rows.stop, dtype=np.float32) - thing.row)[:, None]
        x = (np.arange(columns.start, columns.stop, dtype=np.float32) - thing.column)[None]
        facing = y * (light[0] * scale) + x * (light[1] * scale)
        depth = np.sqrt(np.maximum(-distance * (2 + distance), 0))  # of a sphere
        lit = 0.62 * facing + 0.7 * depth
        return 0.5 + 0.62 * np.maximum(lit, 0), 0.5 * np.clip((lit - 0.86) * 12, 0, 1)
    rim = np.clip(1 + distance / _BEVEL, 0, 1)  # 1 at the edge, 0 on the flat
    slope = np.zeros_like(distance)
    towards = tuple(
        slice(step, None) if step > 0 else slice(None, step or None) for step in light
    )
    away = tuple(slice(-step or None) if step >= 0 else slice(-step, None) for step in light)
    slope[away] = (distance[towards] - distance[away]) * (thing.radius / length)
    return 1 + 0.38 * rim * slope, None


def _light_up(
    canvas: _Canvas, rng: np.random.Generator, grain: Float32[np.ndarray, "h w"]
) -> None:
    """Light from one side, the edge of a shadow, a colour cast, noise."""
    height, width = canvas.label_map.shape
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, width, dtype=np.float32)[None]
    slope, level = float(rng.uniform(0, 0.16)), float(rng.uniform(0.85, 1.15))
    gain = y * (slope * canvas.light[0]) + (x * (slope * canvas.light[1]) + level)
    if rng.random() < 0.4:
        angle, place = float(rng.uniform(0, 2 * math.pi)), float(rng.uniform(-0.7, 0.7))
        edge = y * (9 * math.sin(angle)) + (x * 9 - 9 * place) * math.cos(angle)
        gain *= 1 - float(rng.uniform(0.2, 0.5)) * np.clip(edge, 0, 1)
    noise = grain * float(rng.uniform(0, 0.03))
    for plane, cast in zip(canvas.pixels, rng.uniform(0.88, 1.08, 3).tolist(), strict=True):
        np.add(plane * (gain * cast), noise, out=plane)


def _own_coordinates(
    thing: _Thing, rows: slice, columns: slice
) -> tuple[Float32[np.ndarray, "h w"], Float32[np.ndarray, "h w"]]:
    y = (np.arange(rows.start, rows.stop, dtype=np.float32) - thing.row)[:, None]
    x = (np.arange(columns.start, columns.stop, dtype=np.float32) - thing.column)[None]
    cosine = math.cos(thing.angle) / thing.radius
    sine = math.sin(thing.angle) / thing.radius
    return x * cosine + y * sine, y * cosine - x * sine


def _tint(
    thing: _Thing, u: Float32[np.ndarray, "h w"], v: Float32[np.ndarray, "h w"]
) -> Float32[np.ndarray, "h w"]:
    """Share of the second colour."""
    return _coverage(-thing.pattern(u, v, thing.traits), thing.radius)


def _coverage(
    distance: Float32[np.ndarray, "h w"], radius: float
) -> Float32[np.ndarray, "h w"]:
    """Share of each pixel that lies inside an edge, from its distance in radii."""
    share = distance * -radius
    share += 0.5
    return np.clip(share, 0, 1, out=share)


def _span(center: float, radius: float, length: int) -> slice:
    return slice(max(int(center - radius) - 2, 0), min(int(center + radius) + 3, length))


def _smooth_noise(
    rng: np.random.Generator, shape: tuple[int, int], *, cells: int
) -> Float32[np.ndarray, "h w"]:
    grid = PIL.Image.fromarray(rng.random((cells, cells), np.float32))
    return np.array(grid.resize(shape[::-1], PIL.Image.Resampling.BICUBIC))


def _rgb(palette: str) -> Float32[np.ndarray, "n 3"]:
    """The colours of a palette, 0 to 1."""
    return (
        np.frombuffer(bytes.fromhex(palette), np.uint8).reshape(-1, 3).astype(np.float32) / 255
    )


def _muted(
    colors: Float32[np.ndarray, "n 3"], grey: float, brightness: float
) -> Float32[np.ndarray, "n 3"]:
    means = colors.mean(axis=1, keepdims=True)
    return ((colors + grey * (means - colors)) * brightness).astype(np.float32)


def _jittered(color: Color, rng: np.random.Generator) -> Color:
    return np.clip(color + rng.uniform(-0.07, 0.07, 3), 0.02, 1).astype(np.float32)


def _renumbered(instance_map: InstanceMap) -> InstanceMap:
    """The objects that can be seen, numbered from 1 without gaps."""
    counts = np.bincount(instance_map.ravel())
    if (counts > 0).all():
        return instance_map
    seen = counts > 0
    seen[0] = False
    return np.where(seen, np.cumsum(seen), 0).astype(np.int32)[instance_map]

"""Labels that are described instead of painted: outlines, strokes and run lengths."""

import io
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import PIL.Image
import PIL.ImageDraw

from deconvnet.data.image_files import opened
from deconvnet.errors import DataError
from deconvnet.shapes import Bool, InstanceMap, LabelMap

Kind = Literal[
    "polygon", "rectangle", "circle", "line", "point", "stamp", "coco", "rle", "file"
]

LINE_WIDTH = 10
"""Pixels; how wide Labelme draws lines that are to become masks."""

POINT_RADIUS = 2.5
"""Pixels; Labelme's points are 5 wide."""

FURTHEST = 100_000.0
"""Coordinates beyond this many pixels are taken for a mistake."""


class Outline(NamedTuple):
    """One object, or a part of one; small, comparable and quick to send to a process."""

    kind: Kind
    """stamp: a small mask at a place; coco: a polygon filled as pycocotools does; file: a mask
    of the whole picture."""
    label: int
    """Its class, or 255."""
    instance: int
    """Number of the object, 0 for none."""
    points: bytes
    """float32 x, y, x, y, ... in pixels; of a stamp its upper left corner."""
    content: bytes = b""
    """The PNG of a stamp, the counts of run lengths in COCO's compressed form, or the path of a
    file."""


class Outlines(NamedTuple):
    """All objects of one picture, the hindmost first."""

    outlines: tuple[Outline, ...]
    size: tuple[int, int] | None
    """(height, width) of the picture they were drawn on, where the file says it."""
    background: int
    """Label of the pixels in no outline."""
    largest_first: bool = False
    """Whether the largest is the hindmost, whatever their order."""


class Patch(NamedTuple):
    """Pixels of one outline in a part of the picture."""

    inside: Bool[np.ndarray, "h w"]
    left: int
    top: int


def points_of(values: list[float]) -> bytes:
    """Coordinates as an outline keeps them."""
    return np.array(values, np.float32).tobytes()


def draw_outlines(
    outlines: Outlines, size: tuple[int, int], where: str
) -> tuple[LabelMap, InstanceMap]:
    """Paint the objects one over the other.

    Args:
        outlines: The objects.
        size: (height, width) of the picture.
        where: The file they come from, for messages.

    Raises:
        DataError: If run lengths or a stamp are damaged, or do not fit the picture.
    """
    height, width = size
    label_map = np.full(size, outlines.background, np.uint8)
    instance_map = np.zeros(size, np.int32)
    drawn = (
        (outline, _DRAWERS[outline.kind](outline, size, where)) for outline in outlines.outlines
    )
    patches: Iterable[tuple[Outline, Patch]]
    patches = ((outline, patch) for outline, patch in drawn if patch is not None)
    if outlines.largest_first:
        patches = sorted(patches, key=lambda each: -np.count_nonzero(each[1].inside))
    for outline, (whole, left, top) in patches:
        rows = slice(top, min(top + whole.shape[0], height))
        columns = slice(left, min(left + whole.shape[1], width))
        inside = whole[: rows.stop - top, : columns.stop - left]
        label_map[rows, columns][inside] = outline.label
        instance_map[rows, columns][inside] = outline.instance
    return label_map, instance_map


def _coordinates(outline: Outline) -> np.ndarray:
    return np.frombuffer(outline.points, np.float32).reshape(-1, 2).astype(np.float64)


def _draw_shape(outline: Outline, size: tuple[int, int], where: str) -> Patch | None:
    """A geometric shape, drawn in its bounding box; None if that lies outside the picture."""
    points = _coordinates(outline)
    reach = {"circle": 0.0, "line": LINE_WIDTH / 2, "point": POINT_RADIUS}.get(outline.kind, 0)
    if outline.kind == "circle":
        reach = float(np.hypot(*(points[1] - points[0])))
        points = points[:1]
    corner = np.floor(points.min(axis=0) - reach - 1).clip(0).astype(int)
    end = np.ceil(points.max(axis=0) + reach + 2).clip(max=size[::-1]).astype(int)
    extent = end - corner
    if (extent <= 0).any():
        return None
    canvas = PIL.Image.new("1", (int(extent[0]), int(extent[1])))
    draw = PIL.ImageDraw.Draw(canvas)
    shifted = points - corner
    flat = [tuple(point) for point in shifted.tolist()]
    if outline.kind == "polygon":
        draw.polygon(flat, fill=1, outline=1)
    elif outline.kind == "rectangle":
        draw.rectangle([*shifted.min(axis=0).tolist(), *shifted.max(axis=0).tolist()], fill=1)
    elif outline.kind == "line":
        draw.line(flat, fill=1, width=LINE_WIDTH)
    else:
        x, y = flat[0]
        draw.ellipse([x - reach, y - reach, x + reach, y + reach], fill=1)
    return Patch(np.array(canvas), int(corner[0]), int(corner[1]))


def _draw_stamp(outline: Outline, size: tuple[int, int], where: str) -> Patch | None:
    try:
        with PIL.Image.open(io.BytesIO(outline.content), formats=["PNG"]) as picture:
            small = picture.width <= size[1] and picture.height <= size[0]
            inside = np.array(picture.convert("L")) > 0 if small else None
    except Exception:  # a damaged PNG may raise anything
        raise DataError(
            f"{where} has a mask whose PNG cannot be read; draw it again."
        ) from None
    if inside is None:
        raise DataError(f"{where} has a mask larger than its picture; draw it again.")
    left, top = _coordinates(outline)[0].astype(int).tolist()
    inside = inside[max(-top, 0) :, max(-left, 0) :]
    left, top = max(left, 0), max(top, 0)
    return None if left >= size[1] or top >= size[0] else Patch(inside, left, top)


def _draw_coco(outline: Outline, size: tuple[int, int], where: str) -> Patch:
    from pycocotools import mask

    polygon = _coordinates(outline).ravel().tolist()
    runs = mask.frPyObjects([polygon], *size)
    return _decoded(runs[0], size, where)


def _draw_runs(outline: Outline, size: tuple[int, int], where: str) -> Patch | None:
    if not outline.content:
        return None
    if _filled_by(outline.content) != size[0] * size[1]:  # pycocotools would leave the rest raw
        raise _does_not_fill(size, where)
    return _decoded({"size": list(size), "counts": outline.content}, size, where)


def _draw_file(outline: Outline, size: tuple[int, int], where: str) -> Patch | None:
    """The pixels of a mask that are not 0, cut out."""
    path = Path(os.fsdecode(outline.content))
    with opened(path) as picture:
        inside = np.array(picture.convert("L")) > 0
    if inside.shape != size:
        raise DataError(
            f"{path} has {inside.shape[1]} x {inside.shape[0]} pixels and its picture "
            f"{size[1]} x {size[0]}; export the annotations again, or give the picture that "
            "was labelled."
        )
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    if not rows.size:
        return None
    left, top = int(columns[0]), int(rows[0])
    return Patch(inside[top : rows[-1] + 1, left : columns[-1] + 1].copy(), left, top)


def _decoded(runs: dict[str, object], size: tuple[int, int], where: str) -> Patch:
    from pycocotools import mask

    try:
        inside = mask.decode(runs)
    except ValueError:
        raise _does_not_fill(size, where) from None
    return Patch(inside > 0, 0, 0)


def _does_not_fill(size: tuple[int, int], where: str) -> DataError:
    return DataError(
        f"{where} has run lengths that do not fill a picture of {size[1]} x {size[0]}; "
        "export the annotations again."
    )


def _filled_by(counts: bytes) -> int:
    """How many pixels COCO's compressed run lengths cover.

    Each number is written in groups of 5 bits, the lowest first, of which the last has a sign;
    from the fourth on they are differences to the last but one.
    """
    lengths: list[int] = []
    number = shift = 0
    for byte in counts:
        group = byte - 48
        number |= (group & 31) << shift
        shift += 5
        if group & 32:
            continue
        if group & 16:
            number -= 1 << shift
        lengths.append(number + (lengths[-2] if len(lengths) > 2 else 0))
        number = shift = 0
    return sum(lengths) if min(lengths, default=0) >= 0 and not shift else -1


_DRAWERS: dict[Kind, Callable[[Outline, tuple[int, int], str], Patch | None]] = {
    "polygon": _draw_shape,
    "rectangle": _draw_shape,
    "circle": _draw_shape,
    "line": _draw_shape,
    "point": _draw_shape,
    "stamp": _draw_stamp,
    "coco": _draw_coco,
    "rle": _draw_runs,
    "file": _draw_file,
}

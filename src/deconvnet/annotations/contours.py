"""Areas of a label map as polygons, to the pixel."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int64

from deconvnet.labels import IGNORED
from deconvnet.shapes import LabelMap

Ring = Int64[np.ndarray, "_ 2"]
"""x, y of the corners of a closed line along the edges of pixels, the first not repeated.

Pixel (x, y) is the square from (x, y) to (x + 1, y + 1).
"""

_STEPS = ((1, 0), (0, 1), (-1, 0), (0, -1))
"""Right, down, left, up: each is a right turn from the one before."""


class Area(NamedTuple):
    """A 4-connected area of one class."""

    label: int
    left: int
    top: int
    mask: Bool[np.ndarray, "rows columns"]
    """Its pixels, in the box that starts at (left, top) and just holds it."""

    @property
    def pixels(self) -> int:
        """Its size."""
        return int(np.count_nonzero(self.mask))


def areas(label_map: LabelMap, *, without: int | None = None) -> Iterator[Area]:
    """The 4-connected areas of each class, class by class; ignored pixels are in none.

    Args:
        label_map: Class of each pixel.
        without: A class to leave out.
    """
    from scipy.ndimage import find_objects, label

    for index in np.unique(label_map):
        if index in (IGNORED, without):
            continue
        numbered, _ = label(label_map == index)
        for number, (rows, columns) in enumerate(find_objects(numbered), start=1):
            mask = numbered[rows, columns] == number
            yield Area(int(index), columns.start, rows.start, mask)


def rings(area: Area) -> list[Ring]:
    """The outline of an area, clockwise on the screen, and then those of its holes.

    >>> rings(Area(1, 10, 20, np.ones((1, 2), bool)))[0].tolist()
    [[10, 20], [12, 20], [12, 21], [10, 21]]
    """
    outgoing = _edges(area.mask)
    found: list[Ring] = []
    while outgoing:
        start = next(iter(outgoing))
        place, direction = start, outgoing[start][0]
        corners: list[tuple[int, int]] = []
        while True:
            turns = outgoing[place]
            # where two pixels touch at a corner, a right turn stays with the same one
            onward = next(d for d in ((direction + 1) % 4, direction, (direction + 3) % 4)
                          if d in turns)  # fmt: skip
            if onward != direction or not corners:
                corners.append(place)
            turns.remove(onward)
            if not turns:
                del outgoing[place]
            direction = onward
            place = place[0] + _STEPS[onward][0], place[1] + _STEPS[onward][1]
            if place == start and not _goes_on(outgoing, start, direction):
                break
        ring = np.array(_without_straight(corners), np.int64)
        found.append(ring + np.array([area.left, area.top]))
    return sorted(found, key=signed_area, reverse=True)


def signed_area(ring: Ring) -> float:
    """Area inside a ring in pixels; negative for a hole."""
    x, y = ring.T
    return float(np.dot(x, np.roll(y, -1)) - np.dot(np.roll(x, -1), y)) / 2


def through_centres(ring: Ring) -> Ring:
    """The outline moved half a pixel inwards: through the centres of the pixels along it.

    So Labelme and others draw it whose polygons hold the pixels they pass through. The numbers
    are those of the pixels. Only for outlines, not for holes.
    """
    before = np.roll(ring, 1, axis=0)
    after = np.roll(ring, -1, axis=0)
    moved = ring.copy()
    for one, other in ((before, ring), (ring, after)):  # the edge to each corner, and from it
        along = other - one
        moved[:, 0] -= along[:, 1] > 0  # going down: the pixels lie to the left
        moved[:, 1] -= along[:, 0] < 0  # going left: they lie above
    return moved


def simplified(ring: Ring, tolerance: float) -> Ring:
    """The ring with fewer corners, none left out further than the tolerance from what is left.

    A ring that would lose its area stays as it is.

    Source: Douglas & Peucker 1973; the ring is cut at its first corner and the one farthest
    from that.
    """
    if tolerance <= 0 or len(ring) <= 4:
        return ring
    far = int(np.argmax(((ring - ring[0]) ** 2).sum(axis=1)))
    closed = np.concatenate([ring, ring[:1]])
    keep = np.zeros(len(closed), bool)
    keep[[0, far, -1]] = True
    open_spans = [(0, far), (far, len(ring))]
    while open_spans:
        start, end = open_spans.pop()
        if end - start < 2:
            continue
        distances = _distances(closed[start + 1 : end], closed[start], closed[end])
        farthest = int(distances.argmax())
        if distances[farthest] > tolerance:
            middle = start + 1 + farthest
            keep[middle] = True
            open_spans += [(start, middle), (middle, end)]
    reduced = ring[keep[:-1]]
    return reduced if len(reduced) >= 3 and signed_area(reduced) != 0 else ring


def _edges(mask: Bool[np.ndarray, "rows columns"]) -> dict[tuple[int, int], list[int]]:
    """From each corner the directions in which an edge leaves it, the area to its right."""
    padded = np.pad(mask, 1)
    inside = padded[1:-1, 1:-1]
    sides = (
        (inside & ~padded[:-2, 1:-1], 0, 0),  # above nothing: along the top, to the right
        (inside & ~padded[1:-1, 2:], 1, 0),  # down the right side
        (inside & ~padded[2:, 1:-1], 1, 1),  # along the bottom, to the left
        (inside & ~padded[1:-1, :-2], 0, 1),  # up the left side
    )
    outgoing: dict[tuple[int, int], list[int]] = {}
    for direction, (where, right, down) in enumerate(sides):
        rows, columns = np.nonzero(where)
        for x, y in zip((columns + right).tolist(), (rows + down).tolist(), strict=True):
            outgoing.setdefault((x, y), []).append(direction)
    return outgoing


def _goes_on(
    outgoing: dict[tuple[int, int], list[int]], start: tuple[int, int], direction: int
) -> bool:
    """Whether a ring passes on through its start: another edge of the same pixel leaves it."""
    return (direction + 1) % 4 in outgoing.get(start, [])


def _without_straight(corners: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Without the start, if the line goes straight through it."""
    first, second, last = corners[0], corners[1], corners[-1]
    straight = first[0] == second[0] == last[0] or first[1] == second[1] == last[1]
    return corners[1:] if straight else corners


def _distances(points: Ring, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Distance in pixels of each point to the stretch from start to end."""
    along = (end - start).astype(np.float64)
    offsets = (points - start).astype(np.float64)
    length = float(along @ along)
    share = np.clip(offsets @ along / length, 0, 1) if length else np.zeros(len(points))
    return np.hypot(*(offsets - share[:, None] * along).T)

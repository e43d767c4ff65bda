"""Figure 1 of the paper: what a fixed receptive field does to very large and small objects."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool
from matplotlib.figure import Figure
from scipy import ndimage

from deconvnet.data import Dataset, Sample
from deconvnet.describe import describe
from deconvnet.errors import DataError
from deconvnet.evaluate import check_classes
from deconvnet.figures import style
from deconvnet.figures.picture_parts import (
    Networks,
    check_networks,
    fitting_side,
    named,
    outline,
    overlay,
    tag,
)
from deconvnet.labels import IGNORED
from deconvnet.predict import Predictor
from deconvnet.progress import tracked
from deconvnet.shapes import LabelMap

AMONG = 24
"""Pictures that are looked through."""

SMALL_SHARE = 0.01
"""An object under this share of its picture is small, as in the IoU by object size."""

LEAST_PIXELS = 40
"""Objects of fewer pixels can hardly be seen in a figure."""

FAILED = 0.5
"""An object with a lower IoU counts as broken or missed."""

PART = 0.01
"""A part of a broken object has at least this share of it."""

AROUND = np.ones((3, 3))


class Object(NamedTuple):
    """A true object and what a network made of it."""

    picture: int
    mask: Bool[np.ndarray, "h w"]
    label: int
    iou: float
    """0 to 1, of the object with the predicted areas of its class that touch it."""
    parts: int
    """Pieces that its class was found in, within the object; 0 if nowhere."""
    taken_for: int
    """The class that most of its pixels were given."""

    @property
    def box(self) -> tuple[int, int, int, int]:
        """x0, y0, x1, y1 in pixels, half-open."""
        rows, columns = (np.flatnonzero(self.mask.any(axis)) for axis in (1, 0))
        return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1

    @property
    def side(self) -> int:
        """Longer side of its box in pixels."""
        x0, y0, x1, y1 = self.box
        return max(x1 - x0, y1 - y0)

    @property
    def failed(self) -> bool:
        """Whether it was broken or missed."""
        return self.iou < FAILED


class Failures(NamedTuple):
    """The two objects of the figure, if the pictures hold such."""

    large: Object | None
    small: Object | None
    field: float
    """Side of the receptive field in pixels of the pictures."""


def true_objects(
    sample: Sample, background: int | None
) -> Iterator[tuple[Bool[np.ndarray, "h w"], int]]:
    """Mask and class of each object: ids of the instance map, or connected areas of a class."""
    for label in np.unique(sample.label_map):
        if label in (IGNORED, background):
            continue
        area = sample.label_map == label
        ids = sample.instance_map
        if ids is None or not ids[area].any():
            ids = ndimage.label(area, structure=AROUND)[0]
        for number in np.unique(ids[area]):
            mask = area & (ids == number)
            if number > 0 and mask.sum() >= LEAST_PIXELS:
                yield mask, int(label)


def object_score(
    mask: Bool[np.ndarray, "h w"], label: int, predicted: LabelMap, truth: LabelMap
) -> tuple[float, int]:
    """IoU of one object with the predicted areas that touch it, and its pieces.

    What lies on other objects of the class, or is ignored, is not held against it.
    """
    areas, _ = ndimage.label(predicted == label, structure=AROUND)
    touching = np.isin(areas, np.unique(areas[mask & (areas > 0)]))
    wrong = touching & (areas > 0) & (truth != label) & (truth != IGNORED)
    hit = mask & (predicted == label)
    _, sizes = np.unique(ndimage.label(hit, structure=AROUND)[0][hit], return_counts=True)
    parts = int((sizes >= PART * mask.sum()).sum())
    return float(hit.sum() / (mask.sum() + wrong.sum())), parts


def find_failures(
    network: Predictor, dataset: Dataset, *, among: int = AMONG, quiet: bool = True
) -> Failures:
    """Find the object larger than the receptive field that is broken most, and a missed one.

    Where no object is larger than the field, the largest one there is stands for it.

    Args:
        network: Whose receptive field and failures.
        dataset: Pictures and truth.
        among: How many of its pictures, from the first.
        quiet: Show no progress.
    """
    field = receptive_field(network)
    large: list[Object] = []
    small: list[Object] = []
    count = min(among, len(dataset))
    for index in tracked(range(count), "look", count, quiet=quiet):
        sample = dataset[index]
        predicted = network(sample.image).label_map
        for mask, label in true_objects(sample, dataset.classes.background):
            score = object_score(mask, label, predicted, sample.label_map)
            taken_for = int(np.bincount(predicted[mask]).argmax())
            (small if mask.mean() < SMALL_SHARE else large).append(
                Object(index, mask, label, *score, taken_for)
            )
    background = dataset.classes.background
    return Failures(_most_broken(large, field), _most_missed(small, background), field)


def _most_broken(things: list[Object], field: float) -> Object | None:
    """Of the objects larger than the field, the failed one in most parts, or else the worst."""
    over = [thing for thing in things if thing.side > field]
    if not over:
        return max(things, key=lambda thing: thing.side, default=None)
    failed = [thing for thing in over if thing.failed and thing.parts > 1]
    if failed:
        return max(failed, key=lambda thing: (thing.parts, -thing.iou))
    return min(over, key=lambda thing: thing.iou)


def _most_missed(things: list[Object], background: int | None) -> Object | None:
    """The object of the least IoU; of several the largest, first one lost in the background."""
    return min(
        things,
        key=lambda thing: (thing.iou, thing.taken_for != background, -int(thing.mask.sum())),
        default=None,
    )


def receptive_field(network: Predictor) -> float:
    """Side of the receptive field in pixels of the picture, whatever the network's scale."""
    described = describe(network.network, in_channels=network.config.in_channels)
    return described.receptive_field / network.config.input_scale


def failures(
    networks: Networks,
    dataset: Dataset,
    *,
    among: int = AMONG,
    proposals: int = 20,
    quiet: bool = True,
) -> Figure:
    """Draw the large object that a network breaks and the small one that it misses.

    Args:
        networks: By title: the one that is looked at, and perhaps a second beside it.
        dataset: Pictures and truth.
        among: How many pictures are looked through, from the first of the data set.
        proposals: The second network segments so many object proposals, the paper's answer to
            objects of all sizes; 0: the picture as a whole.
        quiet: Show no progress.

    Raises:
        CheckpointError: If there is no network, or more than two.
        DataError: If networks and data set do not have the same classes, or no object is found.

    Source: Noh, Hong & Han 2015, figure 1.
    """
    check_networks(networks, 1, "failures", most=2)
    title, network = next(iter(networks.items()))
    check_classes(network.classes, dataset.classes)
    found = find_failures(network, dataset, among=among, quiet=quiet)
    things = [thing for thing in (found.large, found.small) if thing is not None]
    if not things:
        raise DataError(
            f"The first {among} pictures of {dataset.split} hold no object to look at; "
            "give pictures with labelled objects."
        )
    samples = [dataset[thing.picture] for thing in things]
    aspect = max(sample.image.shape[0] / sample.image.shape[1] for sample in samples)
    columns = ["picture", "truth", title]
    columns += [f"{other}" for other in list(networks)[1:]]
    top, line = 1.75, 0.62 if len(networks) > 1 else 0.42
    room = style.WIDTH - 2 * style.MARGIN - 2.6, style.HEIGHT - top - 0.25
    cell = fitting_side(len(columns), len(things), aspect, room, line)
    sheet = style.board(_title(title, found), _subtitle(title, found, among, dataset))
    left = style.MARGIN + 2.6
    gap = min(0.9, (room[0] - len(columns) * cell) / (len(columns) - 1))
    for place, column in enumerate(columns):
        x = left + place * (cell + gap) + cell / 2
        sheet.text(x, top - 0.14, column, size=style.HEADING, bold=True, ha="center")
    for row, (thing, sample) in enumerate(zip(things, samples, strict=True)):
        y = top + row * (cell * aspect + line)
        _draw_words(sheet, y, thing, found, dataset)
        maps = [sample.label_map, network(sample.image).label_map]
        maps += [
            other(sample.image, proposals=proposals).label_map
            for other in list(networks.values())[1:]
        ]
        panels = [sample.image]
        panels += [overlay(sample.image, labels, dataset.classes) for labels in maps]
        for place, panel in enumerate(panels):
            corner = left + place * (cell + gap), y
            frame = _draw_panel(sheet, corner, cell, panel, thing, found)
            if place >= 2:
                score, parts = object_score(
                    thing.mask, thing.label, maps[place - 1], sample.label_map
                )
                words = f"IoU {style.percent(score)}" + (f", {parts} parts" * (parts > 1))
                below = frame.top + frame.height + 0.25
                sheet.text(frame.left + cell / 2, below, words, ha="center", bold=True)
                if place == 3 and proposals:
                    sheet.text(frame.left + cell / 2, below + 0.2, f"in {proposals} proposals",
                               ha="center", size=9.5, color=style.SOFT)  # fmt: skip
    return sheet.figure


def _title(title: str, found: Failures) -> str:
    """What the figure shows, as far as it does."""
    over = found.large is not None and found.large.side > found.field and found.large.failed
    missed = found.small is not None and found.small.failed
    broken = "breaks" if found.large is not None and found.large.parts > 1 else "loses"
    if over and missed:
        return f"{title} {broken} what is large and misses what is small"
    if over:
        return f"{title} {broken} an object larger than its receptive field"
    if missed:
        return f"{title} misses a small object"
    return f"{title} makes no such failure here"


def _subtitle(title: str, found: Failures, among: int, dataset: Dataset) -> str:
    looked = min(among, len(dataset))
    return (
        f"The square is the receptive field of {title}: {found.field:.0f} pixels a side. "
        f"The worst of {looked} pictures of {dataset.split}; IoU of the object in percent."
    )


def _draw_words(
    sheet: style.Board, y: float, thing: Object, found: Failures, dataset: Dataset
) -> None:
    """Say beside a row what its object is and how it fared, whether it failed or not."""
    x0, y0, x1, y1 = thing.box
    if thing is found.small:
        head = "A small object"
    elif thing.side > found.field:
        head = "Larger than the field"
    else:
        head = "The largest object"
    sheet.text(style.MARGIN, y + 0.2, head, size=style.HEADING, bold=True)
    name = named(thing.label, dataset.classes)
    share = f"{100 * thing.mask.mean():.1f} % of the picture"
    words = f"{name}, {x1 - x0} × {y1 - y0} pixels,\n{share}.\n{_fate(thing, found, dataset)}"
    sheet.text(style.MARGIN, y + 0.34, words, color=style.SOFT, va="top", linespacing=1.4)


def _fate(thing: Object, found: Failures, dataset: Dataset) -> str:
    """What became of an object, in a short sentence; no failure is called one."""
    if thing is found.large and thing.side <= found.field:
        return "None is larger than\nthe field."
    if not thing.failed:
        return "Yet it is found:\nno failure."
    if thing.parts > 1:
        return f"It is broken into {thing.parts} parts."
    if thing.parts == 1:
        return "Little of it is found."
    if thing.taken_for in (thing.label, dataset.classes.background):
        return "It is missed."
    return f"It is taken for a\n{named(thing.taken_for, dataset.classes)}."


def _draw_panel(
    sheet: style.Board,
    corner: tuple[float, float],
    cell: float,
    panel: np.ndarray,
    thing: Object,
    found: Failures,
) -> style.Frame:
    """Draw a panel with the receptive field about the object; a small object is enlarged."""
    frame = sheet.picture(panel, corner[0], corner[1], cell)
    x0, y0, x1, y1 = thing.box
    middle = (x0 + x1) / 2, (y0 + y1) / 2
    reach = found.field / 2
    square = middle[0] - reach, middle[1] - reach, middle[0] + reach, middle[1] + reach
    outline(sheet, frame, square, line=1.6, linestyle=(0, (4, 2)), gid="field")
    if thing is found.small:
        _draw_enlarged(sheet, frame, panel, thing)
    return frame


def _draw_enlarged(
    sheet: style.Board, frame: style.Frame, panel: np.ndarray, thing: Object
) -> None:
    """Draw the surroundings of an object larger, in the corner farthest from it."""
    rows, columns = panel.shape[:2]
    x0, y0, x1, y1 = thing.box
    reach = min(round(0.65 * thing.side) + 2, min(rows, columns) // 4)
    x = int(np.clip((x0 + x1) // 2, reach, columns - reach))
    y = int(np.clip((y0 + y1) // 2, reach, rows - reach))
    part = panel[y - reach : y + reach, x - reach : x + reach]
    side = 0.42 * frame.width
    left = frame.left if x > columns / 2 else frame.left + frame.width - side
    top = frame.top if y > rows / 2 else frame.top + frame.height - side
    around = (float(x - reach), float(y - reach), float(x + reach), float(y + reach))
    outline(sheet, frame, around, color=style.ORANGE, line=1.4, gid="small object")
    extent = (left, left + side, top + side, top)
    sheet.axes.imshow(part, extent=extent, aspect="auto", zorder=5, interpolation="nearest")
    sheet.box(left, top, side, side, edge=style.ORANGE, line=2.0, zorder=6)
    zoom = side / (2 * reach) / (frame.width / columns)
    tag(sheet, left + side - 0.06, top + side - 0.07, f"× {zoom:.0f}", ha="right", size=9.5)

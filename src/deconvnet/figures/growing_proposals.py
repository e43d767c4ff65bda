"""Figure 6 of the paper: the map as proposals are added, from the largest to the smallest."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from deconvnet.errors import RecipeError
from deconvnet.evaluate import check_classes
from deconvnet.figures import style
from deconvnet.figures.picture_parts import (
    GAP,
    draw_key,
    mean_iou,
    outline,
    overlay,
)
from deconvnet.instances import choose_windows, grow
from deconvnet.labels import Classes
from deconvnet.predict import Predictor
from deconvnet.shapes import BoxArray, Image, LabelMap

STAGES = 5


class Stage(NamedTuple):
    """The map after some of the windows."""

    label_map: LabelMap
    windows: BoxArray
    """Those segmented so far, largest first."""
    new: int
    """How many of them came in since the last stage."""


def growing_counts(total: int, stages: int = STAGES) -> list[int]:
    """Counts of windows from 1 to all, each a like multiple of the one before.

    >>> growing_counts(50), growing_counts(3)
    ([1, 3, 7, 19, 50], [1, 2, 3])
    """
    counts = np.geomspace(1, total, min(stages, total))
    return sorted({round(float(count)) for count in counts})


def stages(
    predictor: Predictor, image: Image, windows: BoxArray, counts: Sequence[int]
) -> Iterator[Stage]:
    """Segment windows and give the map, joined by the maximum, after each of the counts."""
    before = 0
    for growth in grow(predictor, image, windows, together=1):
        if growth.done in counts:
            label_map = growth.scores.argmax(0).astype(np.uint8)
            yield Stage(label_map, growth.boxes, growth.done - before)
            before = growth.done


def proposals(
    predictor: Predictor,
    image: Image,
    *,
    count: int = 50,
    truth: LabelMap | None = None,
    truth_classes: Classes | None = None,
) -> Figure:
    """Draw how the segmentation grows as object proposals are added.

    Args:
        predictor: The network.
        image: The picture.
        count: Proposals to segment; the paper takes 50.
        truth: If given, it is drawn, and the mean IoU of each stage is written below.
        truth_classes: Of the truth; the network's if not given.

    Raises:
        RecipeError: If no proposal is asked for.

    Source: Noh, Hong & Han 2015, figure 6.
    """
    if count < 1:
        raise RecipeError(f"{count} proposals were asked for; take 1 or more (the paper, 50).")
    check_classes(predictor.classes, truth_classes or predictor.classes)
    windows = choose_windows(image, count)
    steps = list(stages(predictor, image, windows, growing_counts(len(windows))))
    rows, columns = image.shape[:2]
    cells, top = 1 + len(steps), 1.78
    room = style.WIDTH - 2 * style.MARGIN
    cell = min((room - GAP * (cells - 1)) / cells, 2.35 * columns / rows)
    gap = min(0.4, (room - cells * cell) / max(1, cells - 1))
    height = cell * rows / columns
    sheet = style.board(
        "Proposals are added, from the largest window to the smallest",
        "Each window is segmented alone; at each pixel the largest score of any window counts.",
        height=top + 2 * height + 1.25,
    )
    lower = top + height + GAP
    _draw_column(sheet, "picture", (style.MARGIN, top), cell, image)
    if truth is not None:
        sheet.picture(overlay(image, truth, predictor.classes), style.MARGIN, lower, cell)
        sheet.text(style.MARGIN + cell / 2, lower + height + 0.28, "truth", ha="center")
    for place, step in enumerate(steps, start=1):
        x = style.MARGIN + place * (cell + gap)
        done = len(step.windows)
        frame = _draw_column(sheet, f"{done} window{'s' * (done > 1)}", (x, top), cell, image)
        _draw_windows(sheet, frame, step)
        sheet.picture(overlay(image, step.label_map, predictor.classes), x, lower, cell)
        if truth is not None:
            score = mean_iou(step.label_map, truth, len(predictor.classes))
            words = f"mIoU {style.percent(score)}"
            sheet.text(x + cell / 2, lower + height + 0.28, words, ha="center")
    shown = [step.label_map for step in steps] + ([] if truth is None else [truth])
    draw_key(sheet, predictor.classes, shown, sheet.figure.get_figheight() - 0.3)
    return sheet.figure


def _draw_column(
    sheet: style.Board, title: str, corner: tuple[float, float], cell: float, image: Image
) -> style.Frame:
    x, y = corner
    sheet.text(x + cell / 2, y - 0.14, title, size=style.HEADING, bold=True, ha="center")
    return sheet.picture(image, x, y, cell)


def _draw_windows(sheet: style.Board, frame: style.Frame, step: Stage) -> None:
    """Draw the windows so far, the new ones strongly."""
    old = len(step.windows) - step.new
    for index, window in enumerate(step.windows):
        x0, y0, x1, y1 = (float(side) for side in window)
        fresh = index >= old
        outline(
            sheet, frame, (x0, y0, x1, y1), color=style.ORANGE if fresh else style.PAPER,
            line=1.3 if fresh else 0.5, alpha=1.0 if fresh else 0.55, gid="window",
        )  # fmt: skip

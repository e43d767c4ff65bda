"""What the figures of pictures share: rows of panels, a key of classes, lines one can see."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.patheffects as effects
import numpy as np
from matplotlib.patches import Rectangle

from deconvnet import draw
from deconvnet.errors import CheckpointError
from deconvnet.evaluate import check_classes
from deconvnet.figures import style
from deconvnet.labels import IGNORED, Classes
from deconvnet.metrics import ConfusionMatrix
from deconvnet.predict import Predictor
from deconvnet.shapes import Image, LabelMap

Networks = Mapping[str, Predictor]
"""Networks by the titles of their columns."""

OPACITY = 0.68
GAP = 0.12

TITLES = {
    "deconvnet": "DeconvNet",
    "fcn32s": "FCN-32s",
    "fcn16s": "FCN-16s",
    "fcn8s": "FCN-8s",
    "fcn8s-at-once": "FCN-8s at once",
    "segnet": "SegNet",
    "segnet-basic": "SegNet-Basic",
    "segnet-bayesian": "Bayesian SegNet",
    "unet": "U-Net",
    "unet-valid": "U-Net, unpadded",
}
"""How networks are written where people read."""


def check_networks(
    networks: Networks, least: int, figure: str, most: int | None = None
) -> None:
    """Refuse too few or too many networks, or such as do not tell apart the same classes.

    Raises:
        CheckpointError: If their number is wrong.
        DataError: If the classes of two differ in number.
    """
    if len(networks) < least or (most is not None and len(networks) > most):
        wanted = (
            str(least)
            if most == least
            else f"{least} to {most}"
            if most
            else f"{least} or more"
        )
        raise CheckpointError(
            f"The figure '{figure}' is drawn from {wanted} trained networks, and "
            f"{len(networks)} came; give the folder of each, such as runs/mine/best."
        )
    first, *others = networks.values()
    for other in others:
        check_classes(first.classes, other.classes)


def mean_iou(predicted: LabelMap, truth: LabelMap, num_classes: int) -> float:
    """Mean IoU of one picture, 0 to 1."""
    return ConfusionMatrix.empty(num_classes).add(predicted, truth).mean_iou


def overlay(image: Image, label_map: LabelMap, classes: Classes) -> Image:
    """The picture with the classes over it, as strong as every figure has it."""
    return draw.overlay(image, label_map, classes, opacity=OPACITY)


def fitting_side(
    columns: int, rows: int, aspect: float, room: tuple[float, float], line: float
) -> float:
    """Width of the panels, in inches, so that columns and rows fit.

    Args:
        columns: Panels side by side.
        rows: Panels one over the other.
        aspect: Height by width of a panel.
        room: (width, height) in inches.
        line: Inches of words below each row.
    """
    by_width = (room[0] - GAP * (columns - 1)) / columns
    by_height = (room[1] / rows - line) / aspect
    return min(by_width, by_height)


def draw_key(
    sheet: style.Board, classes: Classes, label_maps: Sequence[np.ndarray], y: float
) -> None:
    """Name the colours of the classes that occur, in a line."""
    found = sorted({int(label) for labels in label_maps for label in np.unique(labels)})
    x = style.MARGIN
    for label in found:
        if label in (IGNORED, classes.background):
            continue
        words = classes.names[label].replace("_", " ")
        color = tuple(channel / 255 for channel in classes.colors[label])
        sheet.box(x, y - 0.14, 0.18, 0.18, fill=color, edge=style.SOFT, line=0.6)
        sheet.text(x + 0.27, y, words, size=style.SMALL)
        x += 0.27 + 0.085 * len(words) + 0.28


def outline(
    sheet: style.Board,
    frame: style.Frame,
    box: tuple[float, float, float, float],
    *,
    color: str = style.PAPER,
    line: float = 2.2,
    **settings: Any,
) -> None:
    """Draw a box of pixels on a picture, cut off at its edge, to be seen on any ground."""
    left, top = frame.at(box[0], box[1])
    right, bottom = frame.at(box[2], box[3])
    patch = Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor=color,
                      linewidth=line, zorder=4, **settings)  # fmt: skip
    patch.set_path_effects([effects.withStroke(linewidth=line + 1.8, foreground=style.INK)])
    sheet.axes.add_patch(patch)
    edge = Rectangle(
        (frame.left, frame.top), frame.width, frame.height, transform=sheet.axes.transData
    )
    patch.set_clip_path(edge)


def tag(sheet: style.Board, x: float, y: float, words: str, **settings: Any) -> None:
    """Write white words with a dark rim on a picture."""
    rim = [effects.withStroke(linewidth=2.6, foreground=style.INK)]
    settings = {"size": style.SMALL, "zorder": 6, "bold": True, **settings}
    sheet.text(x, y, words, color=style.PAPER, path_effects=rim, **settings)


def named(label: int, classes: Classes) -> str:
    """A class as people write it."""
    return classes.names[label].replace("_", " ")


def contour(sheet: style.Board, frame: style.Frame, mask: np.ndarray, color: str) -> None:
    """Draw the outline of an area of a picture."""
    if mask.all() or not mask.any():
        return
    rows, columns = mask.shape
    x = [frame.at(column + 0.5, 0)[0] for column in range(columns)]
    y = [frame.at(0, row + 0.5)[1] for row in range(rows)]
    lines = sheet.axes.contour(x, y, mask.astype(np.float32), [0.5], colors=[color],
                               linewidths=1.4, zorder=3)  # fmt: skip
    lines.set_path_effects([effects.withStroke(linewidth=2.6, foreground=style.INK)])

"""Where a network is unsure, beside where it is wrong."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from deconvnet.errors import RecipeError
from deconvnet.figures import style
from deconvnet.figures.picture_parts import (
    GAP,
    draw_key,
    fitting_side,
    overlay,
)
from deconvnet.labels import IGNORED
from deconvnet.predict import Asked, Predictor, Segmentation, Uncertainty
from deconvnet.shapes import Bool, Image, LabelMap

WAYS: dict[Uncertainty, str] = {
    "entropy": "spread over the classes",
    "flips": "unlike its mirror image",
    "dropout": "its samples apart",
}
"""Every way to measure doubt, as the figure calls it."""

COLUMNS, ROW = 3, 4.85
"""Panels side by side; and the height of a row of them, in inches, at most."""

BRIGHT = 99.5
"""Percentile of a map's doubt from which on it is brightest: dropout rarely comes near 1."""


def doubt(network: Predictor, image: Image, *, truth: LabelMap | None = None) -> Figure:
    """Draw a picture's classes, the errors in them, and the network's doubt by each way it has.

    Doubt by dropout needs a network that was trained with it, and is left out of the others.

    Args:
        network: With dropout or without.
        image: The picture.
        truth: If given, the wrong pixels are drawn, and below each map stands the mean doubt
            of its answer's right pixels and of its wrong ones.

    Source: Kendall, Badrinarayanan & Cipolla 2015, figures 3 and 4; differs: one map for all
    classes, and two ways that need no dropout beside theirs.
    """
    answers = {way: network(image, uncertainty=way) for way in WAYS if _has(network, way)}
    label_map = answers["entropy"].label_map
    rows, columns = image.shape[:2]
    count = 2 + (truth is not None) + len(answers)
    lines, top = -(-count // COLUMNS), 1.72
    room = style.WIDTH - 2 * style.MARGIN, lines * ROW
    cell = fitting_side(COLUMNS, lines, rows / columns, room, 0.85)
    step = cell * rows / columns + 0.85
    sheet = style.board(
        "Where is the network unsure?",
        "Bright is doubt, each map on its own scale"
        + (", beside the pixels that are wrong." if truth is not None else "."),
        height=top + lines * step,
    )

    def panel(place: int, title: str, pixels: np.ndarray, words: str = "", **how: Any) -> None:
        x = style.MARGIN + place % COLUMNS * (cell + GAP)
        y = top + place // COLUMNS * step
        sheet.text(x, y - 0.14, title, size=style.HEADING, bold=True)
        sheet.picture(pixels, x, y, cell, **how)
        sheet.text(x, y + cell * rows / columns + 0.26, words)

    panel(0, "picture", image)
    panel(1, "classes", overlay(image, label_map, network.classes))
    if truth is not None:
        wrong = _wrong(label_map, truth)
        share = wrong.sum() / max(1, (truth != IGNORED).sum())
        words = f"{style.percent(float(share))} % of the labelled pixels"
        panel(2, "wrong pixels", wrong, words, cmap="gray_r", vmin=0, vmax=1)
    for place, (way, answer) in enumerate(answers.items(), count - len(answers)):
        doubt_map = np.asarray(answer.doubt_map)
        scale = {"vmin": 0.0, "vmax": max(1e-6, float(np.percentile(doubt_map, BRIGHT)))}
        words = _in_words(answer, truth)
        panel(place, f"{way}: {WAYS[way]}", doubt_map, words, cmap=style.HEAT, **scale)
    draw_key(sheet, network.classes, [label_map], top - 0.48)
    return sheet.figure


def _has(network: Predictor, way: Uncertainty) -> bool:
    """Whether a network can measure doubt so."""
    try:
        network.check(Asked(uncertainty=way))
    except RecipeError:
        return False
    return True


def _wrong(label_map: LabelMap, truth: LabelMap) -> Bool[np.ndarray, "h w"]:
    return (label_map != truth) & (truth != IGNORED)


def _in_words(answer: Segmentation, truth: LabelMap | None) -> str:
    """The map in one or two numbers."""
    if truth is not None and answer.doubt_map is not None:
        wrong = _wrong(answer.label_map, truth)
        right = ~wrong & (truth != IGNORED)
        if wrong.any() and right.any():
            means = (answer.doubt_map[right].mean(), answer.doubt_map[wrong].mean())
            return "doubt {:.3f} where right, {:.3f} where wrong".format(*means)
    return f"doubt {answer.doubt:.3f}"

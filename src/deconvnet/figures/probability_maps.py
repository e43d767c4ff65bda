"""Figure 5 of the paper: how sure two or more networks are of one class, pixel by pixel."""

import numpy as np
from matplotlib.figure import Figure

from deconvnet.errors import LabelError, did_you_mean
from deconvnet.figures import style
from deconvnet.figures.picture_parts import (
    GAP,
    Networks,
    check_networks,
    contour,
    fitting_side,
    named,
)
from deconvnet.labels import IGNORED, Classes, normalise_name
from deconvnet.shapes import Image, LabelMap, Probabilities


def class_index(classes: Classes, name: str) -> int:
    """The index of a class by its name.

    Raises:
        LabelError: If there is none of that name.
    """
    wanted = normalise_name(name)
    if wanted not in classes.names:
        raise LabelError(
            f"The network knows no class '{name}'; it knows {', '.join(classes.names)}."
            + did_you_mean(wanted, classes.names)
        )
    return classes.names.index(wanted)


def largest_class(maps: list[Probabilities], background: int | None) -> int:
    """The class that covers most pixels of all predictions together; background only alone."""
    num_classes = maps[0].shape[0]
    counts = np.zeros(num_classes, dtype=np.int64)
    for probabilities in maps:
        counts += np.bincount(probabilities.argmax(0).ravel(), minlength=num_classes)
    if background is not None and counts.sum() > counts[background]:
        counts[background] = 0
    return int(counts.argmax())


def probabilities(
    networks: Networks,
    image: Image,
    *,
    class_name: str | None = None,
    truth: LabelMap | None = None,
) -> Figure:
    """Draw the probability of one class by two or more networks, on one scale.

    Args:
        networks: By title.
        image: The picture.
        class_name: Which class; the largest predicted one if not given.
        truth: If given, the outline of the true area is drawn, and how sure each network is
            inside of it and outside.

    Raises:
        CheckpointError: If there are not two networks or more.
        LabelError: If there is no such class.

    Source: Noh, Hong & Han 2015, figure 5.
    """
    check_networks(networks, 2, "probabilities")
    classes = next(iter(networks.values())).classes
    label = None if class_name is None else class_index(classes, class_name)
    maps = [network.probabilities(image) for network in networks.values()]
    label = largest_class(maps, classes.background) if label is None else label
    name = named(label, classes)
    rows, columns = image.shape[:2]
    top = 1.72
    room = style.WIDTH - 2 * style.MARGIN - 0.75, style.HEIGHT - top - 0.6
    cell = fitting_side(1 + len(maps), 1, rows / columns, room, 0.6)
    gap = min(0.5, GAP + (room[0] - (1 + len(maps)) * cell) / (2 + len(maps)))
    height = cell * rows / columns
    sheet = style.board(
        f"How sure is each network of “{name}”?",
        "Probability of the class at each pixel, on one scale"
        + (". The line is the outline of the truth." if truth is not None else "."),
        height=top + height + 0.75,
    )
    panels = [image, *(probability[label] for probability in maps)]
    for place, (title, panel) in enumerate(zip(("picture", *networks), panels, strict=True)):
        x = style.MARGIN + place * (cell + gap)
        sheet.text(x, top - 0.14, title, size=style.HEADING, bold=True)
        scale = {"cmap": style.HEAT, "vmin": 0.0, "vmax": 1.0} if place else {}
        frame = sheet.picture(panel, x, top, cell, **scale)
        if truth is not None:
            contour(sheet, frame, truth == label, style.PAPER)
        if place:
            words = _in_words(maps[place - 1], label, truth)
            sheet.text(x, top + height + 0.3, words)
    _draw_scale(sheet, style.MARGIN + (1 + len(maps)) * (cell + gap), top, height)
    return sheet.figure


def _in_words(maps: Probabilities, label: int, truth: LabelMap | None) -> str:
    """The map in two numbers."""
    if truth is not None and (truth == label).any() and (truth != label).any():
        inside = float(maps[label][truth == label].mean())
        outside = float(maps[label][(truth != label) & (truth != IGNORED)].mean())
        return f"mean {inside:.2f} inside, {outside:.2f} outside"
    share = float((maps.argmax(0) == label).mean())
    return f"at most {maps[label].max():.2f}; wins {100 * share:.1f} % of the picture"


def _draw_scale(sheet: style.Board, left: float, top: float, height: float) -> None:
    """Draw the scale from 0 to 1."""
    ramp = np.linspace(1, 0, 256)[:, None]
    sheet.axes.imshow(
        ramp, extent=(left, left + 0.16, top + height, top), aspect="auto", cmap=style.HEAT,
        zorder=1,
    )  # fmt: skip
    sheet.box(left, top, 0.16, height, edge=style.RULE, line=0.8)
    for value in (0.0, 0.5, 1.0):
        y = top + (1 - value) * height
        sheet.text(left + 0.24, y, f"{value:.1f}", size=style.SMALL, color=style.SOFT,
                   va="center_baseline")  # fmt: skip

"""Pictures of label maps, scores and training runs, for eyes.

Every function returns a uint8 (height, width, 3) RGB image, or writes a PNG where it says so.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Integer, UInt8
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont

from deconvnet.errors import LabelError, OutputError, ShapeError
from deconvnet.labels import IGNORED, Classes

if TYPE_CHECKING:
    import matplotlib.axes
    import matplotlib.figure

# The words of shapes.py, said again because that module imports torch and drawing needs none.
Image = UInt8[np.ndarray, "h w 3"]
LabelMap = UInt8[np.ndarray, "h w"]

WHITE, INK = (255, 255, 255), (20, 20, 20)


class Panel(NamedTuple):
    """One picture of a sheet."""

    image: Image
    caption: str = ""
    """Stands above the picture; may have several lines."""


def overlay(
    image: Image,
    label_map: UInt8[np.ndarray, "rows columns"],  # its size is checked below, in words
    classes: Classes,
    *,
    opacity: float = 0.55,
) -> Image:
    """Lay the colours of the classes over a picture, with a thin white line around each area.

    Ignored pixels, and those of the background class if there is one, stay as they are.

    Args:
        image: The picture.
        label_map: Class of each of its pixels; 255 for ignored.
        classes: Colours and background.
        opacity: 0 to 1: the picture alone to the colours alone.

    Raises:
        ShapeError: When picture and label map differ in size.
        LabelError: When the label map holds no class of these.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ShapeError(
            f"The picture is {image.dtype} of shape {image.shape}; drawing takes uint8 RGB of "
            "shape (height, width, 3)."
        )
    if image.shape[:2] != label_map.shape:
        raise ShapeError(
            f"The picture has the size {image.shape[:2]} and the label map {label_map.shape}; "
            "both must be the same (height, width)."
        )
    painted = (label_map != IGNORED) & (
        label_map != (IGNORED if classes.background is None else classes.background)
    )
    colors = colored(label_map, classes)[painted].astype(np.float32)
    drawn = image.copy()
    drawn[painted] = np.rint(opacity * colors + (1 - opacity) * drawn[painted])
    drawn[_outlines(label_map, painted)] = WHITE
    return drawn


def colored(label_map: LabelMap, classes: Classes) -> Image:
    """The label map alone, each class in its colour and ignored pixels near-white.

    Raises:
        LabelError: When it holds no class of these.
    """
    strange = np.unique(label_map)
    strange = strange[(strange >= len(classes)) & (strange != IGNORED)]
    if len(strange):
        raise LabelError(
            f"The label map holds the values {', '.join(map(str, strange[:5]))}; there are "
            f"colours for {len(classes)} classes, 0 to {len(classes) - 1}, and for {IGNORED}. "
            "Draw it with the classes it was made with."
        )
    palette = np.frombuffer(classes.palette(), dtype=np.uint8).reshape(256, 3)
    picture: Image = palette[label_map]
    return picture


def legend(
    classes: Classes,
    indices: Sequence[int] | None = None,
    *,
    shares: Mapping[str, float] | None = None,
    font_size: int = 16,
) -> Image:
    """A column of colours with the names of their classes.

    Args:
        classes: Names and colours.
        indices: The classes to show, in this order; all of them if None.
        shares: Share of the picture by class name, 0 to 1, written beside the name.
        font_size: Height of the letters in pixels.
    """
    chosen = range(len(classes)) if indices is None else indices
    texts = [classes.names[index].replace("_", " ") for index in chosen]
    if shares is not None:
        names = [classes.names[index] for index in chosen]
        texts = [
            f"{text}  {100 * shares.get(name, 0):.1f} %"
            for text, name in zip(texts, names, strict=True)
        ]
    font = ImageFont.load_default(font_size)
    line, margin = round(1.5 * font_size), font_size // 2
    width = (
        3 * margin + font_size + max((_text_size(text, font)[0] for text in texts), default=0)
    )
    canvas = Pillow.new("RGB", (width, max(1, len(texts)) * line + 2 * margin), WHITE)
    pen = ImageDraw.Draw(canvas)
    for row, (index, text) in enumerate(zip(chosen, texts, strict=True)):
        top = margin + row * line + (line - font_size) // 2
        swatch = (margin, top, margin + font_size, top + font_size)
        pen.rectangle(swatch, fill=classes.colors[index], outline=INK)
        middle = top + font_size // 2
        pen.text((2 * margin + font_size, middle), text, fill=INK, font=font, anchor="lm")
    return np.array(canvas)


def sheet(rows: Sequence[Sequence[Panel]], *, font_size: int = 16, gap: int = 8) -> Image:
    """Pictures in rows and columns on white, each below its caption.

    A column is as wide as its widest picture or caption, a row as high as its highest picture;
    pictures keep their size. Rows may be of different lengths.

    Args:
        rows: The panels, row by row.
        font_size: Height of the letters in pixels.
        gap: Space between and around the panels in pixels.

    Raises:
        ShapeError: When there is no panel.
    """
    if not any(rows):
        raise ShapeError("A sheet of no panels was asked for; give it one picture at least.")
    font = ImageFont.load_default(font_size)
    captions = [[_text_size(panel.caption, font) for panel in row] for row in rows]
    widths = [0] * max(map(len, rows))
    for row, sizes in zip(rows, captions, strict=True):
        for column, (panel, (text_width, _)) in enumerate(zip(row, sizes, strict=True)):
            widths[column] = max(widths[column], panel.image.shape[1], text_width)
    heads = [max((height for _, height in sizes), default=0) for sizes in captions]
    bodies = [max((panel.image.shape[0] for panel in row), default=0) for row in rows]

    size = (
        gap + sum(widths) + gap * len(widths),
        gap + sum(heads) + sum(bodies) + gap * len(rows),
    )
    canvas = Pillow.new("RGB", size, WHITE)
    pen = ImageDraw.Draw(canvas)
    top = gap
    for row, head, body in zip(rows, heads, bodies, strict=True):
        left = gap
        for panel, width in zip(row, widths[: len(row)], strict=True):
            pen.multiline_text((left, top), panel.caption, fill=INK, font=font)
            canvas.paste(Pillow.fromarray(panel.image), (left, top + head))
            left += width + gap
        top += head + body + gap
    return np.array(canvas)


def confusion_picture(
    counts: Integer[np.ndarray, "k k"], classes: Classes, path: str | Path
) -> None:
    """Write a confusion matrix as a PNG: each row the shares of one true class, in percent.

    A class absent from the truth has an empty row; shares that round to 0 go without a number.

    Args:
        counts: Pixels by true class (row) and predicted class (column).
        classes: Their names.
        path: The PNG to write.

    Raises:
        ShapeError: When matrix and classes are not of one number.
        OutputError: When the file cannot be written.
    """
    from matplotlib.figure import Figure

    number = len(classes)
    if counts.shape != (number, number):
        raise ShapeError(
            f"A confusion matrix of shape {counts.shape} came with {number} classes; "
            "it needs one row and one column for each."
        )
    totals = counts.sum(axis=1, keepdims=True)
    percent = 100 * counts / np.where(totals > 0, totals, np.nan)
    names = [name.replace("_", " ") for name in classes.names]
    side = 2.5 + 0.42 * number
    figure = Figure(figsize=(side, side), dpi=110, layout="constrained")
    axes = figure.subplots()
    axes.imshow(percent, cmap="cividis", vmin=0, vmax=100)  # cividis: also for the colour-blind
    axes.set_xticks(range(number), names, rotation=90)
    axes.set_yticks(range(number), names)
    axes.set(xlabel="predicted", ylabel="truth", title="Percent of each true class")
    for row, column in np.argwhere(percent >= 0.5):
        share = percent[row, column]
        ink = "black" if share > 55 else "white"
        axes.text(column, row, f"{share:.0f}", ha="center", va="center", color=ink, fontsize=8)
    _write(figure, path)


def curve_picture(log: Sequence[Mapping[str, Any]], path: str | Path) -> None:
    """Write the course of a training run as a PNG: loss above, mean IoU on val below.

    Args:
        log: Rows with `step`, `loss` and, where val was measured, `mean_iou` (0 to 1). Values
            may be numbers or their text, as read from a CSV; blank for not measured.
        path: The PNG to write.

    Raises:
        OutputError: When the file cannot be written.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5.5), dpi=110, layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    _loss_curve(above, *_column(log, "loss"))
    steps, scores = _column(log, "mean_iou")
    below.plot(steps, 100 * scores, marker="o", markersize=4, color="#0072b2")
    if len(scores):
        best = int(scores.argmax())
        text = f"best {100 * scores[best]:.1f} at step {steps[best]:.0f}"
        below.set_title(text, loc="right", fontsize=10)
    below.set(xlabel="step", ylabel="val mIoU (%)")
    below.set_ylim(bottom=0)
    for axes in above, below:
        axes.grid(visible=True, alpha=0.3)
    _write(figure, path)


def reliability_picture(
    confidence: Float64[np.ndarray, " bins"],
    accuracy: Float64[np.ndarray, " bins"],
    pixels: Integer[np.ndarray, " bins"],
    path: str | Path,
    *,
    error: float,
) -> None:
    """Write how right a network is at each confidence, and how often it is so sure.

    On the dotted line it is as right as it is sure; below, it is too sure of itself.

    Args:
        confidence: Mean confidence of each bin, 0 to 1; NaN of an empty one.
        accuracy: Share of right pixels of each bin.
        pixels: Pixels in each bin.
        path: A PNG file.
        error: The expected calibration error, for the title.

    Raises:
        OutputError: If the file cannot be written.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 5.5), dpi=110, layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    edges = np.linspace(0, 1, len(pixels) + 1)
    above.plot([0, 1], [0, 1], ":", color="#5b6675")
    above.bar(edges[:-1], np.nan_to_num(accuracy), 1 / len(pixels), align="edge",
              color="#9fd3c7", edgecolor="white")  # fmt: skip
    above.plot(confidence, accuracy, "o-", color="#0072b2", markersize=4)
    above.set(ylabel="share of right pixels", xlim=(0, 1), ylim=(0, 1))
    above.set_title(f"calibration error {100 * error:.1f} %", loc="right", fontsize=10)
    shares = 100 * pixels / max(int(pixels.sum()), 1)
    below.bar(edges[:-1], shares, 1 / len(pixels), align="edge", color="#c9ccd1",
              edgecolor="white")  # fmt: skip
    below.set(xlabel="probability of the chosen class", ylabel="% of pixels")
    for axes in above, below:
        axes.grid(visible=True, alpha=0.3)
        axes.set_axisbelow(True)
    _write(figure, path)


def _outlines(label_map: LabelMap, painted: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """The painted pixels that touch an area of lower class, or an unpainted one."""
    rank = np.where(painted, label_map.astype(np.int16), -1)  # one side of an edge: one pixel
    lines = np.zeros(label_map.shape, dtype=bool)
    lines[1:] |= rank[1:] > rank[:-1]
    lines[:-1] |= rank[:-1] > rank[1:]
    lines[:, 1:] |= rank[:, 1:] > rank[:, :-1]
    lines[:, :-1] |= rank[:, :-1] > rank[:, 1:]
    return lines


def _text_size(
    text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont
) -> tuple[int, int]:
    """Width and height in pixels, with room below; nothing for no text."""
    if not text:
        return 0, 0
    measure = ImageDraw.Draw(Pillow.new("RGB", (1, 1)))
    _, _, right, bottom = measure.multiline_textbbox((0, 0), text, font=font)
    return int(right) + 1, int(bottom) + 5


def _column(
    log: Sequence[Mapping[str, Any]], name: str
) -> tuple[Float64[np.ndarray, " rows"], Float64[np.ndarray, " rows"]]:
    """Steps and values of one column, where it was measured."""
    values = [(float(row["step"]), row.get(name)) for row in log]
    measured = np.array(
        [(step, float(value)) for step, value in values if value not in (None, "")]
    ).reshape(-1, 2)
    steps, numbers = measured[np.isfinite(measured[:, 1])].T
    return steps, numbers


def _loss_curve(
    axes: "matplotlib.axes.Axes",
    steps: Float64[np.ndarray, " rows"],
    losses: Float64[np.ndarray, " rows"],
) -> None:
    """The losses, and their running mean over a twentieth of the run."""
    window = max(1, len(losses) // 20)
    axes.plot(steps, losses, color="#999999" if window > 1 else "#d55e00", linewidth=1)
    if window > 1:
        mean = np.convolve(losses, np.ones(window) / window, mode="valid")
        centres = steps[window // 2 :][: len(mean)]
        axes.plot(centres, mean, color="#d55e00", linewidth=1.8)
    axes.set_ylabel("training loss")
    axes.set_ylim(bottom=0)


def _write(figure: "matplotlib.figure.Figure", path: str | Path) -> None:
    """Save as PNG, or say in words that it cannot be."""
    try:
        figure.savefig(path, format="png")
    except OSError as error:
        raise OutputError(
            f"The picture {path} cannot be written ({error.strerror}); "
            "name a file in a folder that exists and may be written to."
        ) from error

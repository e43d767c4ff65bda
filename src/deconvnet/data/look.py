"""What one picture and its labels show at a look: what is wrong, and what they hold."""

import hashlib
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import PIL.Image
import PIL.ImageOps

from deconvnet.data.duplicates import Print, print_of
from deconvnet.data.image_files import (
    as_grey,
    exif_orientation,
    image_size,
    opened,
    upright_size,
)
from deconvnet.data.mask_files import (
    MaskCoding,
    RawMask,
    labels_of_raw,
    read_instances,
    read_mask,
    read_raw_mask,
)
from deconvnet.data.pairs import PairDataset, PairFiles, check_sizes
from deconvnet.errors import UserError
from deconvnet.labels import IGNORED
from deconvnet.shapes import Int64

MaskKind = Literal["grey", "palette", "RGB", "outlines"]

_LEAST_DECODED = 32
"""Pixels; a picture is decoded no smaller than this, so that there is something to compare."""

_ALMOST_BLACK = 16


class Problem(NamedTuple):
    """Something that stops training (error) or may spoil it (warning)."""

    severity: Literal["error", "warning"]
    path: str
    """The file or folder, or the split."""
    sentence: str
    split: str = ""
    """Where the pictures it is about are, if it is about some."""
    names: tuple[str, ...] = ()
    """These pictures."""
    doubles: tuple[tuple[str, str], ...] = ()
    """Of duplicates: the split and the name of the picture that each of them repeats."""


class Look(NamedTuple):
    """What was seen of one picture and its labels."""

    pair: PairFiles
    problems: tuple[Problem, ...]
    counts: Int64[np.ndarray, "256"] | None
    """Pixels of each label; None where the labels cannot be read."""
    size: tuple[int, int] | None
    """(height, width); None where the picture cannot be read."""
    fingerprint: Print | None
    orientation: int
    """EXIF's; 1 is upright."""
    brightness: tuple[int, int]
    """Lowest and highest grey of the shrunken picture, 0 to 255."""
    kind: MaskKind
    compressed: bool
    """Whether the mask is a JPEG."""
    palette_conflict: bool
    """Whether the numbers of a palette mask and its colours name different classes."""


class _Picture(NamedTuple):
    size: tuple[int, int]
    fingerprint: Print
    orientation: int
    brightness: tuple[int, int]


def look_at(dataset: PairDataset, pair: PairFiles) -> Look:
    """Decode a picture, JPEG at an eighth of its size, and its labels."""
    problems: list[Problem] = []
    about = (dataset.split, (pair.name,))
    picture = None
    try:
        picture = _look_at_picture(pair)
    except UserError as error:
        problems.append(Problem("error", str(pair.image), str(error), *about))
    size = picture.size if picture else None
    raw = None
    counts = None
    try:
        if pair.outlines is None:
            raw = read_raw_mask(pair.mask, page=pair.page)
            label_map = labels_of_raw(pair.mask, raw, dataset.coding)
            counts = label_counts(label_map)
            if size is not None:
                check_sizes(pair.image, size, pair.mask, label_map.shape)
                _check_instances(pair, size)
        elif size is not None:
            counts = label_counts(dataset.read_labels(pair, size).label_map)
    except UserError as error:
        problems.append(Problem("error", str(pair.mask), str(error), *about))
    if counts is not None and counts[IGNORED] == counts.sum():
        sentence = f"{pair.mask} labels nothing: all its pixels are ignored."
        problems.append(Problem("warning", str(pair.mask), sentence, *about))
    return Look(
        pair,
        tuple(problems),
        counts,
        size,
        picture.fingerprint if picture else None,
        picture.orientation if picture else 1,
        picture.brightness if picture else (0, 255),
        _kind(raw),
        raw is not None and raw.compressed,
        raw is not None and _palette_conflict(raw, dataset.coding),
    )


def counts_of(dataset: PairDataset, pair: PairFiles) -> Int64[np.ndarray, "256"] | None:
    """Pixels of each label; None where the labels cannot be read."""
    try:
        if pair.outlines is None:
            return label_counts(read_mask(pair.mask, dataset.coding, page=pair.page))
        size = pair.outlines.size or image_size(pair.image, page=pair.page)
        return label_counts(dataset.read_labels(pair, size).label_map)
    except UserError:
        return None


def label_counts(label_map: np.ndarray) -> Int64[np.ndarray, "256"]:
    """Pixels of each label from 0 to 255."""
    return np.bincount(label_map.ravel(), minlength=256)


def _look_at_picture(pair: PairFiles) -> _Picture:
    """The size of a picture, how it was held, and what tells it from others.

    Raises:
        ImageFileError: If it cannot be read.
    """
    with opened(pair.image, page=pair.page) as picture:
        size, orientation = upright_size(picture), exif_orientation(picture)
        wanted = [max(side // 8, _LEAST_DECODED) for side in picture.size]
        picture.draft("L", (wanted[0], wanted[1]))
        if picture.mode.startswith("I") or picture.mode == "F":
            grey = PIL.Image.fromarray(as_grey(np.array(picture)))
        else:
            grey = picture.convert("L")
        if orientation != 1:
            grey = PIL.ImageOps.exif_transpose(grey)
        several = pair.page or getattr(picture, "is_animated", False)
        content = grey.tobytes() if several else _content(pair.image)
        low, high = grey.getextrema()
    fingerprint = print_of(content, grey)
    return _Picture(size, fingerprint, orientation, (int(low), int(high)))  # type: ignore[arg-type]  # of one band


def _content(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha1").digest()


def _check_instances(pair: PairFiles, size: tuple[int, int]) -> None:
    """Refuse an instance map of another size; only a MATLAB file has to be read for that."""
    if pair.instances is None:
        return
    if pair.instances.suffix == ".mat":
        shape = read_instances(pair.instances).shape
    else:
        shape = image_size(pair.instances, page=pair.page)
    check_sizes(pair.image, size, pair.instances, shape)


def _kind(raw: RawMask | None) -> MaskKind:
    if raw is None:
        return "outlines"
    if raw.values.ndim == 3:
        return "RGB"
    return "grey" if raw.palette is None else "palette"


def _palette_conflict(raw: RawMask, coding: MaskCoding) -> bool:
    """Whether a number of a palette mask has the colour of another class than its own."""
    if raw.palette is None or coding.colors is None:
        return False
    class_of_color = {color: label for label, color in enumerate(coding.colors)}
    label_of_value = coding.label_of_value()
    for value in np.unique(raw.values).tolist():
        color = tuple(raw.palette[value].tolist()) if value < len(raw.palette) else ()
        own = int(label_of_value[value])
        if value not in coding.ignored and class_of_color.get(color, own) != own:
            return True
    return False


def almost_black(look: Look) -> bool:
    """Whether a picture is so dark that it is rather a mask."""
    return look.brightness[1] < _ALMOST_BLACK


def one_colour(look: Look) -> bool:
    """Whether a picture shows nothing."""
    return look.brightness[0] == look.brightness[1]

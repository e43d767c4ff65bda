"""The plain folder format: pictures in images/, masks of the same names beside it.

    images/street/01.jpg
    labels/street/01.png       or masks/ or semantic/: numbers, a palette, colours, or 0 and 255
    instances/street/01.png    optional: the number of each object, 0 for none
    train.txt val.txt test.txt optional: a picture's name a line
    classes.txt                optional: `name` or `name red green blue` a line, in their order

Without lists, each picture's name decides whether it is in val (one in five) or in train, so
that the split stays as it is when pictures are added; pictures in images/train/ and images/val/
are split that way. A line `ignored red green blue` of classes.txt names a colour that counts
nowhere. Without classes.txt (or another file of deconvnet.data.class_files), the classes are
the values found in all the masks: VOC's 21 if the palette is VOC's and the highest value is 20,
else class_0, class_1, ...
"""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from deconvnet.data.class_files import ClassTable, read_classes
from deconvnet.data.image_files import IMAGE_SUFFIXES
from deconvnet.data.mask_files import (
    MaskCoding,
    labels_of_colors,
    read_raw_mask,
    value_counts,
)
from deconvnet.data.pairs import (
    MASK_SUFFIXES,
    PairDataset,
    PairFiles,
    files_below,
)
from deconvnet.data.splits import names_of_split
from deconvnet.errors import DataError, ImageFileError, LabelError
from deconvnet.labels import IGNORED, VOC, Classes, Color

LAYOUT = "a plain folder (images/ with labels/, masks/ or semantic/)"

MASK_FOLDERS = ("labels", "masks", "semantic")
"""Where the masks may be; the first that is there is taken."""


def is_folder(folder: Path) -> bool:
    """Whether the folder has the plain layout."""
    return (folder / "images").is_dir() and _mask_folder(folder) is not None


def open_folder(
    folder: Path, split: str = "train", *, mask_values: tuple[int, ...] | None = None
) -> PairDataset:
    """A split of a plain folder.

    Args:
        folder: Holds images/ and the masks.
        split: train, val, test, or the name of any list NAME.txt.
        mask_values: The number in the masks that stands for each class; none: the class itself.

    Raises:
        DataError: If a part of the layout or the split is missing.
        LabelError: If classes.txt is wrong, or the masks do not say what the classes are.
    """
    masks = _mask_folder(folder)
    if masks is None or not (folder / "images").is_dir():
        raise DataError(
            f"{folder} is no plain folder of pictures and masks; put the pictures into images/ "
            "and the masks into labels/, with the same names."
        )
    images = files_below(folder / "images", IMAGE_SUFFIXES)
    names = names_of_split(folder, split, images)
    mask_files = files_below(masks, MASK_SUFFIXES)
    table = read_classes(folder) or inferred_classes(masks, mask_files.values(), mask_values)
    instances = folder / "instances"
    objects = files_below(instances, MASK_SUFFIXES) if instances.is_dir() else {}
    pairs = tuple(
        PairFiles(
            name,
            images.get(name, folder / "images" / f"{name}.jpg"),
            mask_files.get(name, masks / f"{name}.png"),
            objects.get(name),
        )
        for name in names
    )
    return PairDataset(table.classes, split, pairs, table.coding(mask_values))


def _mask_folder(folder: Path) -> Path | None:
    return next((folder / name for name in MASK_FOLDERS if (folder / name).is_dir()), None)


def inferred_classes(
    folder: Path, masks: Iterable[Path], mask_values: tuple[int, ...] | None
) -> ClassTable:
    """The classes that the masks themselves show.

    Raises:
        LabelError: If they do not: RGB masks, a single class, or numbers with wide gaps.
    """
    if mask_values is not None:
        return ClassTable(Classes.numbered(len(mask_values)))
    with ThreadPoolExecutor(4) as pool:  # decoding leaves Python's lock
        seen = [mask for mask in pool.map(_seen_in, masks) if mask is not None]
    used = np.flatnonzero(sum((mask.used for mask in seen), np.zeros(256, int))).tolist()
    labels = [value for value in used if value != IGNORED]
    _refuse_unlikely(folder, labels, used)
    palettes = {mask.palette for mask in seen}
    palette = palettes.pop() if len(palettes) == 1 else None
    if palette is not None and labels[-1] == len(VOC) - 1 and palette[: len(VOC)] == VOC.colors:
        return ClassTable(VOC)
    classes = Classes.numbered(labels[-1] + 1)
    if palette is not None and len(set(palette[: len(classes)])) == len(classes):
        return ClassTable(Classes(classes.names, palette[: len(classes)]))
    return ClassTable(classes)


def _refuse_unlikely(folder: Path, labels: list[int], used: list[int]) -> None:
    values = ", ".join(map(str, used[:12])) + (f", ... {used[-1]}" if len(used) > 12 else "")
    if len(labels) < 2 and labels in ([], [0]):
        advice = "label at least two classes"
        if used == [0, IGNORED]:
            advice = "masks saved as 0 and 255 become classes 0 and 1 with --mask_values 0,255"
        raise LabelError(f"The masks in {folder} hold {values or 'nothing'}: {advice}.")
    if len(labels) < (labels[-1] + 1) / 2:
        raise LabelError(
            f"The masks in {folder} hold the values {values}, which are hardly class indices; "
            f"say which stand for classes, with --mask_values {values.replace(' ', '')}, "
            "or write classes.txt with the name of each class on a line."
        )


class _Seen(NamedTuple):
    used: np.ndarray
    palette: tuple[Color, ...] | None


def _seen_in(path: Path) -> _Seen | None:
    """Which numbers a mask uses, and its palette; unreadable ones are left to the doctor."""
    try:
        raw = read_raw_mask(path)
    except ImageFileError:
        return None
    if raw.compressed:
        raise LabelError(
            f"{path} is a JPEG, whose compression changes labels; save masks as PNG."
        )
    if raw.values.ndim == 3:
        labels_of_colors(path, raw, MaskCoding(1))  # which says that nothing names the colours
    palette = None if raw.palette is None else tuple(map(tuple, raw.palette.tolist()))
    return _Seen(value_counts(path, raw) > 0, palette)

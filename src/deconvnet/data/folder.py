"""The plain folder format: pictures in images/, masks of the same names beside it.

    images/street/01.jpg
    labels/street/01.png       or masks/ or semantic/: numbers, a palette, colours, or 0 and 255
    instances/street/01.png    optional: the number of each object, 0 for none
    train.txt val.txt test.txt optional: a picture's name a line
    classes.txt                optional: `name` or `name red green blue` a line, in their order

Without lists, each picture's name decides whether it is in val (one in five) or in train, so
that the split stays as it is when pictures are added. A line `ignored red green blue` of
classes.txt names a colour that counts nowhere. Without classes.txt (or classes.json: a list of
names, or of {"name", "color"}), the classes are the values found in all the masks: VOC's 21 if
the palette is VOC's and the highest value is 20, else class_0, class_1, ...
"""

import hashlib
import json
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from deconvnet.data.image_files import IMAGE_SUFFIXES
from deconvnet.data.mask_files import (
    VOID_COLOR,
    MaskCoding,
    labels_of_colors,
    read_raw_mask,
    value_counts,
)
from deconvnet.data.pairs import (
    MASK_SUFFIXES,
    PairDataset,
    PairFiles,
    coding_of,
    files_below,
    listed_names,
    without_suffix,
)
from deconvnet.errors import DataError, ImageFileError, LabelError
from deconvnet.labels import IGNORED, VOC, Classes, Color, normalise_name

LAYOUT = "a plain folder (images/ with labels/, masks/ or semantic/)"

MASK_FOLDERS = ("labels", "masks", "semantic")
"""Where the masks may be; the first that is there is taken."""

VAL_SHARE = 0.2
"""Share of the pictures that is in val where no list says so."""

_IGNORED_NAMES = ("ignored", "ignore", "void", "unlabelled", "unlabeled")


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
    table = _read_classes(folder) or _inferred_classes(masks, mask_files.values(), mask_values)
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
    coding = coding_of(
        table.classes,
        mask_values,
        colors=table.colors,
        ignored_colors=table.ignored_colors,
        ignored=table.ignored_values,
    )
    return PairDataset(table.classes, split, pairs, coding)


def names_of_split(folder: Path, split: str, names: Iterable[str]) -> list[str]:
    """The pictures of a split: those of the list SPLIT.txt, or those whose name says so.

    Raises:
        DataError: If there are lists but not this one, or a name occurs twice.
    """
    listing = folder / f"{split}.txt"
    if listing.is_file():
        listed = [
            without_suffix(line.removeprefix("images/").removeprefix("./"))
            for line in listed_names(listing)
        ]
        if len(set(listed)) < len(listed):
            twice = next(name for name in listed if listed.count(name) > 1)
            raise DataError(f"{listing} has the name {twice} twice; take one of the lines out.")
        return listed
    lists = [name for name in ("train", "val", "test") if (folder / f"{name}.txt").is_file()]
    if lists or split not in ("train", "val"):
        there = ", ".join(lists) or "train and val, made from the names of the pictures"
        raise DataError(
            f"{folder} has no split '{split}': there is no {listing}. Its splits are {there}."
        )
    in_val = held_out(names)
    return [name for name in names if (name in in_val) == (split == "val")]


def held_out(names: Iterable[str]) -> set[str]:
    """The pictures that are in val, by their names alone: one in five, never none or all.

    >>> held_out(f"photo_{number}" for number in range(10))
    {'photo_7'}
    """
    digests = {name: hashlib.sha256(name.encode()).digest() for name in names}
    ordered = sorted(digests, key=digests.__getitem__)
    below = sum(digest[0] < VAL_SHARE * 256 for digest in digests.values())
    return set(ordered[: min(max(below, 1), len(ordered) - 1)])


class ClassTable(NamedTuple):
    """Classes, and what their colours are in RGB masks."""

    classes: Classes
    colors: tuple[Color, ...] | None = None
    ignored_colors: tuple[Color, ...] = (VOID_COLOR,)
    ignored_values: tuple[int, ...] = (IGNORED,)


def _mask_folder(folder: Path) -> Path | None:
    return next((folder / name for name in MASK_FOLDERS if (folder / name).is_dir()), None)


def _read_classes(folder: Path) -> ClassTable | None:
    """The classes of classes.txt or classes.json, if there is one.

    Raises:
        LabelError: If it is not as it should be.
    """
    if (text := folder / "classes.txt").is_file():
        lines = [line.split("#")[0].strip() for line in listed_names(text)]
        values = [int(line.split()[1]) for line in lines if _ignores_a_value(line)]
        named = _class_table(
            text,
            [
                _entry_of_line(text, line)
                for line in lines
                if line and not _ignores_a_value(line)
            ],
        )
        return named._replace(ignored_values=(IGNORED, *values))
    if (table := folder / "classes.json").is_file():
        try:
            entries = json.loads(table.read_text(encoding="utf-8-sig"))
        except (OSError, ValueError) as error:
            raise LabelError(f"{table} is not valid JSON: {error}.") from None
        if not isinstance(entries, list):
            raise LabelError(f"{table} is no list; write a list of class names.")
        return _class_table(table, [_entry_of_json(table, entry) for entry in entries])
    return None


def _ignores_a_value(line: str) -> bool:
    """Whether a line of classes.txt names a number that counts nowhere: `ignored 11`."""
    words = line.split()
    return len(words) == 2 and words[0].lower() in _IGNORED_NAMES and words[1].isdecimal()


def _entry_of_line(path: Path, line: str) -> tuple[str, Color | None]:
    words = line.replace(",", " ").split()
    numbers = words[-3:]
    if len(words) > 3 and all(word.isdecimal() for word in numbers):
        return " ".join(words[:-3]), _color(path, [int(word) for word in numbers])
    return " ".join(words), None


def _entry_of_json(path: Path, entry: Any) -> tuple[str, Color | None]:
    if isinstance(entry, str):
        return entry, None
    if isinstance(entry, dict) and isinstance(entry.get("name"), str):
        color = entry.get("color")
        return entry["name"], None if color is None else _color(path, color)
    raise LabelError(
        f"{path} has the entry {entry!r}; "
        'write "name" or {"name": "...", "color": [r, g, b]}.'
    )


def _color(path: Path, channels: Any) -> Color:
    right = isinstance(channels, list) and len(channels) == 3
    if not right or not all(isinstance(c, int) and 0 <= c <= 255 for c in channels):
        raise LabelError(
            f"{path} has the colour {channels}; give red, green, blue from 0 to 255."
        )
    red, green, blue = channels
    return red, green, blue


def _class_table(path: Path, entries: list[tuple[str, Color | None]]) -> ClassTable:
    """Classes of the entries; an entry with a colour named `ignored` or `void` is none.

    Raises:
        LabelError: If there is no class, or some have a colour and others not, or two the same.
    """
    ignored = [
        color for name, color in entries if color and normalise_name(name) in _IGNORED_NAMES
    ]
    kept = [(name, color) for name, color in entries if color is None or color not in ignored]
    names = [normalise_name(name) for name, _ in kept]
    colors = [color for _, color in kept if color is not None]
    if not kept:
        raise LabelError(f"{path} names no class; write the name of a class on each line.")
    if colors and len(colors) < len(kept):
        bare = next(name for name, color in kept if color is None)
        raise LabelError(f"{path} gives {bare} no colour; give every class one, or none.")
    if len(set(colors)) < len(colors):
        twice = next(color for color in colors if colors.count(color) > 1)
        raise LabelError(f"{path} gives two classes the colour {twice}; give each its own.")
    background = names.index("background") if "background" in names else None
    classes = Classes.named(names, colors or None, background)
    return ClassTable(classes, tuple(colors) or None, (VOID_COLOR, *ignored))


def _inferred_classes(
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

"""Files that say what the classes are called, and which colour is which class."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from deconvnet.data.mask_files import VOID_COLOR, MaskCoding
from deconvnet.data.pairs import listed_names
from deconvnet.errors import LabelError
from deconvnet.labels import IGNORED, Classes, Color, normalise_name

_IGNORED_NAMES = ("ignored", "ignore", "void", "unlabelled", "unlabeled")
_DIGITS = 9  # int() refuses some thousands of them with a ValueError
_HEADINGS = ("name", "class", "class_name", "label", "classes")


class ClassTable(NamedTuple):
    """Classes, and what their colours are in RGB masks."""

    classes: Classes
    colors: tuple[Color, ...] | None = None
    ignored_colors: tuple[Color, ...] = (VOID_COLOR,)
    ignored_values: tuple[int, ...] = (IGNORED,)
    values: tuple[int, ...] | None = None
    """The number of each class in index masks; none: 0, 1, 2, ..."""

    def coding(self, mask_values: tuple[int, ...] | None = None) -> MaskCoding:
        """What the numbers and colours in the masks mean.

        Raises:
            LabelError: If there is not one mask value for each class, or one is not in 8 bits.
        """
        if mask_values is not None:
            refuse_mask_values(mask_values, len(self.classes))
        return MaskCoding(
            len(self.classes),
            mask_values or self.values,
            self.ignored_values,
            self.colors,
            self.ignored_colors,
        )


def read_classes(folder: Path) -> ClassTable | None:
    """The classes of the first of CLASS_FILES that the folder has.

    Raises:
        LabelError: If it is not as it should be.
    """
    for name, read in CLASS_FILES.items():
        if (folder / name).is_file():
            return read(folder / name)
    return None


def _read_names(path: Path) -> ClassTable:
    """`name` or `name red green blue` a line; `ignored 11` for a number that counts nowhere."""
    lines = [line.split("#")[0].strip() for line in listed_names(path)]
    values = [_ignored_value(path, line) for line in lines if _ignores_a_value(line)]
    entries = [
        _entry_of_line(path, line) for line in lines if line and not _ignores_a_value(line)
    ]
    table = _class_table(path, entries)
    return table._replace(ignored_values=(*table.ignored_values, *values))


def _read_json(path: Path) -> ClassTable:
    """A list of names, or of {"name", "color"}."""
    try:
        entries = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise LabelError(f"{path} is not valid JSON: {error}.") from None
    if not isinstance(entries, list):
        raise LabelError(f"{path} is no list; write a list of class names.")
    return _class_table(path, [_entry_of_json(path, entry) for entry in entries])


def _read_csv(path: Path) -> ClassTable:
    """`name,red,green,blue` a line, or `name`; a first line of headings is left out."""
    rows = [
        [cell.strip() for cell in row]
        for row in csv.reader(listed_names(path))
        if any(cell.strip() for cell in row)
    ]
    if rows and rows[0][0].lower() in _HEADINGS:
        rows = rows[1:]
    return _class_table(path, [_entry_of_line(path, " ".join(row[:4])) for row in rows])


def _read_colors(path: Path) -> ClassTable:
    """`red green blue name` a line: CamVid's label_colors.txt."""
    return _class_table(path, [(name, color) for name, color in listed_colors(path)])


def listed_colors(path: Path) -> list[tuple[str, Color]]:
    """The names and colours of a list with `red green blue name` a line, in its order.

    Raises:
        LabelError: If a line is something else.
    """
    entries: list[tuple[str, Color]] = []
    for line in listed_names(path):
        words = line.split(maxsplit=3)
        if line.startswith("#"):
            continue
        if len(words) < 4 or not all(word.isdecimal() for word in words[:3]):
            raise LabelError(f"{path} has the line '{line}'; write `red green blue name`.")
        entries.append((words[3], _color(path, [_whole(word) for word in words[:3]])))
    return entries


def counts_nowhere(name: str) -> bool:
    """Whether a class of this name is none: void, ignored, unlabelled.

    >>> counts_nowhere("Unlabeled"), counts_nowhere("road")
    (True, False)
    """
    return normalise_name(name) in _IGNORED_NAMES


def _read_labelmap(path: Path) -> ClassTable:
    """`name:red,green,blue:parts:actions` a line: CVAT's labelmap.txt."""
    entries: list[tuple[str, Color | None]] = []
    for line in listed_names(path):
        if line.startswith("#"):
            continue
        name, _, rest = line.partition(":")
        numbers = rest.partition(":")[0].split(",")
        if not name.strip() or not all(number.strip().isdecimal() for number in numbers):
            raise LabelError(f"{path} has the line '{line}'; write `name:red,green,blue::`.")
        entries.append((name, _color(path, [_whole(number) for number in numbers])))
    return _class_table(path, entries)


CLASS_FILES: dict[str, Callable[[Path], ClassTable]] = {
    "classes.txt": _read_names,
    "classes.json": _read_json,
    "classes.csv": _read_csv,
    "class_dict.csv": _read_csv,
    "label_colors.txt": _read_colors,
    "labelmap.txt": _read_labelmap,
}
"""Files that name the classes, in the order in which they are looked for."""


def _ignores_a_value(line: str) -> bool:
    """Whether a line of classes.txt names a number that counts nowhere: `ignored 11`."""
    words = line.split()
    return len(words) == 2 and words[0].lower() in _IGNORED_NAMES and words[1].isdecimal()


def _ignored_value(path: Path, line: str) -> int:
    value = _whole(line.split()[1])
    if value > 255:
        raise LabelError(f"{path} has the line '{line}'; give a number from 0 to 255.")
    return value


def _whole(word: str) -> int:
    """A number of a table; those of so many digits are out of every range there is here."""
    return int(word) if len(word) <= _DIGITS else 10**_DIGITS


def _entry_of_line(path: Path, line: str) -> tuple[str, Color | None]:
    words = line.replace(",", " ").split()
    numbers = words[-3:]
    if len(words) > 3 and all(word.isdecimal() for word in numbers):
        return " ".join(words[:-3]), _color(path, [_whole(word) for word in numbers])
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
    """Classes of the entries; one that is named `ignored` or `void` is none.

    Where no entry has a colour, such a one leaves its number in the masks to what is ignored.

    Raises:
        LabelError: If there is no class, or some have a colour and others not, or two the same.
    """
    ignored = [color for name, color in entries if color and counts_nowhere(name)]
    kept = [(name, color) for name, color in entries if color is None or color not in ignored]
    values: list[int] = []
    if not any(color for _, color in entries):
        values = [index for index, (name, _) in enumerate(entries) if not counts_nowhere(name)]
        kept = [entries[index] for index in values]
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
    void = tuple(index for index in range(len(entries)) if index not in values)
    if not values or not void:
        return ClassTable(classes, tuple(colors) or None, (VOID_COLOR, *ignored))
    return ClassTable(classes, ignored_values=(IGNORED, *void), values=tuple(values))


def refuse_mask_values(values: tuple[int, ...], num_classes: int) -> None:
    """Refuse mask values that cannot stand for the classes.

    Raises:
        LabelError: If there is not one for each class, or one is no 8-bit number.
    """
    if len(values) != num_classes:
        raise LabelError(
            f"{len(values)} mask values were given for {num_classes} classes; give "
            "one for each class, in their order."
        )
    if len(set(values)) < len(values) or not set(values) <= set(range(256)):
        raise LabelError(
            f"The mask values are {', '.join(map(str, values))}; give different numbers from 0 "
            "to 255."
        )

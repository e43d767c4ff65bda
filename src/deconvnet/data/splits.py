"""Which picture is in which split: by lists, by folders, or by its name."""

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

from deconvnet.data.pairs import composed, listed_names, without_suffix
from deconvnet.errors import DataError
from deconvnet.files import is_file

SPLITS = ("train", "val", "test")

VAL_SHARE = 0.2
"""Share of the pictures that is in val where nothing else says so."""

_SPLIT_WORDS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}


def names_of_split(folder: Path, split: str, names: Iterable[str]) -> list[str]:
    """The pictures of a split.

    Those of the list SPLIT.txt; without lists, those in the folder SPLIT/ if every picture is
    in a folder named after a split; else those whose name says so.

    Raises:
        DataError: If there are lists or folders but not this one, or a name occurs twice.
    """
    listing = folder / f"{split}.txt"
    if is_file(listing):
        listed = [
            composed(without_suffix(line.removeprefix("images/").removeprefix("./")))
            for line in listed_names(listing)
        ]
        if len(set(listed)) < len(listed):
            twice = next(name for name in listed if listed.count(name) > 1)
            raise DataError(f"{listing} has the name {twice} twice; take one of the lines out.")
        return listed
    names = list(names)
    lists = [name for name in SPLITS if (folder / f"{name}.txt").is_file()]
    parts = {} if lists else _in_folders(names)
    if split in parts:
        return parts[split]
    if lists or parts or split not in ("train", "val"):
        there = ", ".join(lists or parts) or (
            "train and val, made from the names of the pictures"
        )
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


def name_of_split(split: str, there: Iterable[str]) -> str | None:
    """What the lists or folders of a data set call a split; None if they have it not.

    >>> name_of_split("val", ["Train", "Validation"]), name_of_split("val", ["default"])
    ('Validation', None)
    """
    names = sorted(there)
    if split in names:
        return split
    return next((name for name in names if split_word(name) == split), None)


def _in_folders(names: list[str]) -> dict[str, list[str]]:
    """The names by the split their first folder is named after; empty if one has none."""
    parts: dict[str, list[str]] = {}
    for name in names:
        first, slash, _ = name.partition("/")
        split = split_word(first) if slash else None
        if split is None:
            return {}
        parts.setdefault(split, []).append(name)
    return parts if "train" in parts else {}


def split_word(word: str) -> str | None:
    """The split that a folder or a file is named after, if it is one.

    >>> split_word("valid"), split_word("instances_train2017"), split_word("default")
    ('val', 'train', None)
    """
    last = re.split(r"[_\-. ]", word.lower())[-1].rstrip("0123456789")
    return _SPLIT_WORDS.get(last)

"""Stacks: all slices in one TIFF of several pages, and their masks in another.

    train-volume.tif  train-labels.tif     as the ISBI 2012 challenge has them; test-... alike
    images.tif        labels.tif           any other stack; masks.tif does as well

Masks of 0 and 255 become classes 0 and 1: for the files of ISBI these are membrane and cell.
"""

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from deconvnet.data.class_files import ClassTable, read_classes
from deconvnet.data.image_files import count_pages
from deconvnet.data.mask_files import read_raw_mask, value_counts
from deconvnet.data.pairs import PairDataset, PairFiles
from deconvnet.data.splits import names_of_split
from deconvnet.errors import DataError, UserError
from deconvnet.labels import MEMBRANES, Classes

LAYOUT = "TIFF stacks (train-volume.tif with train-labels.tif, or images.tif with labels.tif)"

VAL_EVERY = 5
"""Of the slices 0, 1, 2, ... 4, 9, ... are in val where no list says otherwise."""

_SUFFIXES = (".tif", ".tiff")
_STACKS = (("train-volume", "train-labels"), ("images", "labels"), ("images", "masks"))
_TEST = ("test-volume", "test-labels")


class Stack(NamedTuple):
    """A file of pictures and the file of their masks."""

    images: Path
    masks: Path


def is_stack(folder: Path) -> bool:
    """Whether the folder has a stack of pictures and one of masks."""
    return _stack(folder, _STACKS) is not None


def open_stack(folder: Path, split: str = "train") -> PairDataset:
    """A split of a stack: by lists of numbers from 0, or every fifth slice in val.

    Raises:
        DataError: If the stack or the split is missing, or the two files differ in length.
        LabelError: If it is not clear what the masks mean.
    """
    stack = _stack(folder, _STACKS)
    if stack is None:
        raise DataError(
            f"{folder} has no stack; name the file of pictures train-volume.tif and that of "
            "masks train-labels.tif."
        )
    table, values = _classes(folder, stack)
    test = _stack(folder, (_TEST,)) if split == "test" else None
    stack = test or stack
    pages, masks = count_pages(stack.images), count_pages(stack.masks)
    if pages != masks:
        raise DataError(
            f"{stack.images} has {pages} slices and {stack.masks} {masks}; give each slice its "
            "mask."
        )
    names = [str(page) for page in range(pages)]
    if test is None:
        names = _chosen(folder, split, names)
    unknown = [name for name in names if not name.isdecimal() or int(name) >= pages]
    if unknown:
        raise DataError(
            f"The split {split} of {folder} names the slice {unknown[0]}; there are 0 to "
            f"{pages - 1}."
        )
    pairs = tuple(
        PairFiles(str(int(name)), stack.images, stack.masks, page=int(name)) for name in names
    )
    coding = table.coding(values)
    if values:  # here 255 is a class
        coding = replace(coding, ignored=())
    return PairDataset(table.classes, split, pairs, coding)


def _chosen(folder: Path, split: str, names: list[str]) -> list[str]:
    lists = any((folder / f"{word}.txt").is_file() for word in ("train", "val", "test", split))
    if lists or split not in ("train", "val"):
        return names_of_split(folder, split, names)
    in_val = [int(name) % VAL_EVERY == VAL_EVERY - 1 for name in names]
    return [name for name, held in zip(names, in_val, strict=True) if held == (split == "val")]


def _stack(folder: Path, stems: tuple[tuple[str, str], ...]) -> Stack | None:
    for images, masks in stems:
        for suffix in _SUFFIXES:
            stack = Stack(folder / f"{images}{suffix}", folder / f"{masks}{suffix}")
            if stack.images.is_file() and stack.masks.is_file():
                return stack
    return None


def _classes(folder: Path, stack: Stack) -> tuple[ClassTable, tuple[int, ...] | None]:
    """The classes, and the numbers that stand for them where these are not the classes.

    Raises:
        LabelError: If the class file is wrong.
        ImageFileError: If the masks cannot be read.
        DataError: If the numbers in the masks are hardly classes.
    """
    table = read_classes(folder)
    used = np.zeros(256, np.int64)
    for page in range(count_pages(stack.masks)):
        try:
            used += value_counts(stack.masks, read_raw_mask(stack.masks, page=page))
        except UserError:  # left to the doctor, page by page
            continue
    found = np.flatnonzero(used).tolist()
    if set(found) == {0, 255} and (table is None or len(table.classes) == 2):
        isbi = stack.images.stem == "train-volume"
        classes = MEMBRANES if isbi else Classes.numbered(2)
        return table or ClassTable(classes), (0, 255)
    if table is not None:
        return table, None
    labels = [value for value in found if value != 255]
    if len(labels) < 2 or len(labels) < (labels[-1] + 1) / 2:
        raise DataError(
            f"The masks in {stack.masks} hold {', '.join(map(str, found[:12])) or 'nothing'}, "
            "which are hardly class indices; write classes.txt with the name of each class on "
            "a line."
        )
    return ClassTable(Classes.numbered(labels[-1] + 1)), None

"""Label Studio's "Brush labels to PNG": one mask for each region that was painted.

    task-7-annotation-12-by-ann@example.org-tag-Car-0.png    ... -Car-1.png -Road-0.png
    project-1.json      JSON or JSON-MIN of the same project: which picture each task is
    images/             the pictures, with or without the eight digits of an upload before
    labels.txt          optional: a class a line

Class 0 is background, and the classes follow in the order of labels.txt (or classes.txt), else
of the alphabet; a label named void, ignore or unlabelled counts nowhere. Each region is one
object; smaller regions lie over larger ones. Of several
annotations of one task the last is taken. Tasks that nobody has labelled are left out.
"""

import os
import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

from deconvnet.data.class_files import counts_nowhere
from deconvnet.data.image_files import IMAGE_SUFFIXES
from deconvnet.data.json_files import (
    first_there,
    picture_name,
    read_json_list,
    whole_number,
)
from deconvnet.data.mask_files import MaskCoding
from deconvnet.data.outlines import Outline, Outlines
from deconvnet.data.pairs import PairDataset, PairFiles, listed_names, without_suffix
from deconvnet.data.splits import names_of_split
from deconvnet.errors import DataError, LabelError
from deconvnet.labels import IGNORED, Classes, normalise_name

LAYOUT = "Label Studio's Brush labels to PNG (task-1-annotation-2-by-...png, JSON and images/)"

_REGION = re.compile(r"task-(\d{1,18})-annotation-(\d{1,18})-by-([^-]*)-(.+)-(\d+)\.png")
_LISTS = ("labels.txt", "classes.txt")
_BACKGROUND = "background"


class _Region(NamedTuple):
    task: int
    annotation: int
    words: str
    """Name of the brush and label, joined by a hyphen."""
    path: Path


class _Task(NamedTuple):
    image: str
    labelled: bool
    brushes: frozenset[str]
    """Names of the tags of the project that gave results."""


def is_label_studio(folder: Path) -> bool:
    """Whether the folder, or one in it, has masks of Label Studio's regions."""
    return next(_regions(folder), None) is not None


def open_label_studio(folder: Path, split: str = "train") -> PairDataset:
    """A split of pictures that were painted in Label Studio.

    Raises:
        DataError: If nothing says which picture a task is, or there is no such split.
    """
    regions = list(_regions(folder))
    if not regions:
        raise DataError(
            f"{folder} has no mask of Label Studio, such as task-1-annotation-2-by-3-tag-Car-0"
            ".png; export Brush labels to PNG."
        )
    tasks = _tasks(folder)
    unknown = next((region for region in regions if region.task not in tasks), None)
    if unknown is not None:
        raise DataError(
            f"{unknown.path} is of the task {unknown.task}, which no JSON file in {folder} "
            "has; export both again, at one time."
        )
    labels = _labels(regions, tasks)
    classes = _classes(folder, labels)
    number_of = {name: number for number, name in enumerate(classes.names)}
    painted = [number_of.get(label, IGNORED) for label in labels]
    pairs = _pairs(folder, tasks, regions, painted)
    names = names_of_split(folder, split, sorted(pairs))
    absent = next((name for name in names if name not in pairs), None)
    if absent is not None:
        raise DataError(
            f"The picture {absent} is in the split {split} and is no labelled task; label it, "
            "or take it out of the list."
        )
    unlabelled = tuple(task.image for task in tasks.values() if not task.labelled)
    return PairDataset(
        classes,
        split,
        tuple(pairs[name] for name in names),
        MaskCoding(len(classes)),
        unlabelled if split == "train" else (),
    )


def _regions(folder: Path) -> Iterator[_Region]:
    """The masks in the folder and in the folders in it."""
    for path in chain(folder.glob("task-*.png"), folder.glob("*/task-*.png")):
        found = _REGION.fullmatch(path.name)
        if found:
            yield _Region(int(found[1]), int(found[2]), found[4], path)


def _tasks(folder: Path) -> dict[int, _Task]:
    """Which picture each task is, by the JSON files beside the masks.

    Raises:
        DataError: If there is none, or it is not as it should be.
    """
    files = sorted(chain(folder.glob("*.json"), folder.glob("*/*.json")))
    if not files:
        raise DataError(
            f"{folder} holds Label Studio's Brush labels to PNG, which do not say which "
            "picture each task is; export JSON-MIN of the same project, too, and put that "
            "file beside them and the pictures into images/."
        )
    tasks: dict[int, _Task] = {}
    for path in files:
        for entry in read_json_list(path):
            number = whole_number(entry.get("id"))
            image = _picture_in(entry)
            if number is None or image is None:
                raise DataError(
                    f"{path} has a task without an id or without a picture; export it again."
                )
            made = [each for each in _annotations(entry) if not each.get("was_cancelled")]
            known = tasks.get(number, _Task(image, labelled=False, brushes=frozenset()))
            tasks[number] = _Task(
                known.image, known.labelled or bool(made), known.brushes | _brushes(made)
            )
    return tasks


def _annotations(entry: dict[str, Any]) -> list[dict[str, Any]]:
    """What was made of a task; an entry of JSON-MIN is one annotation itself."""
    found = entry.get("annotations", entry.get("completions"))
    if isinstance(found, list):
        return [each for each in found if isinstance(each, dict)]
    return [entry] if entry.get("annotation_id") is not None else []


def _brushes(annotations: list[dict[str, Any]]) -> frozenset[str]:
    names: set[object] = set()
    for each in annotations:
        results = each.get("result")
        if isinstance(results, list):
            names |= {str(r.get("from_name")) for r in results if isinstance(r, dict)}
        else:
            names |= {key for key, value in each.items() if isinstance(value, list)}
    return frozenset(name for name in names if isinstance(name, str))


def _picture_in(entry: dict[str, Any]) -> str | None:
    """The name of the file that a task shows."""
    data = entry.get("data", entry)
    for value in data.values() if isinstance(data, dict) else ():
        if not isinstance(value, str):
            continue
        path, _, query = value.partition("?")
        if query.startswith("d="):  # local files: /data/local-files/?d=a%20folder/1.jpg
            path = query.removeprefix("d=").partition("&")[0]
        if unquote(path).lower().endswith(IMAGE_SUFFIXES):
            return picture_name(unquote(path), "A task of Label Studio").rpartition("/")[2]
    return None


def _labels(regions: list[_Region], tasks: dict[int, _Task]) -> list[str]:
    """The class of each region: what stands behind the name of the brush."""
    labels = []
    for region in regions:
        known = [name for name in tasks[region.task].brushes if _begins(region.words, name)]
        brush = max(known, key=len) if known else region.words.partition("-")[0]
        labels.append(normalise_name(region.words[len(brush) + 1 :] or brush))
    return labels


def _begins(words: str, brush: str) -> bool:
    return len(words) > len(brush) + 1 and words.startswith(f"{brush}-")


def _classes(folder: Path, labels: list[str]) -> Classes:
    """The classes: those of a list, else all labels in the order of the alphabet.

    Raises:
        DataError: If a label is not in the list, or the labels cannot be classes.
    """
    listing = next((folder / name for name in _LISTS if (folder / name).is_file()), None)
    used = sorted(label for label in set(labels) if not counts_nowhere(label))
    names = (
        used if listing is None else [normalise_name(line) for line in listed_names(listing)]
    )
    missing = [label for label in used if label not in (*names, _BACKGROUND)]
    if missing:
        raise DataError(
            f"{folder} has regions of {missing[0]!a}, which is not in {listing}; add it there."
        )
    kept = [name for name in names if name != _BACKGROUND and not counts_nowhere(name)]
    try:
        return Classes.named([_BACKGROUND, *kept], background=0)
    except LabelError as error:
        raise DataError(f"The labels in {folder} cannot be classes: {error}") from None


def _pairs(
    folder: Path, tasks: dict[int, _Task], regions: list[_Region], labels: list[int]
) -> dict[str, PairFiles]:
    """The labelled pictures by their names.

    Raises:
        DataError: If two tasks show pictures of one name.
    """
    last: dict[int, int] = {}
    for region in regions:
        last[region.task] = max(region.annotation, last.get(region.task, 0))
    outlines: dict[int, list[Outline]] = {}
    for region, label in sorted(zip(regions, labels, strict=True)):
        if region.annotation == last[region.task]:
            drawn = outlines.setdefault(region.task, [])
            number = len(drawn) + 1 if 0 < label < IGNORED else 0
            drawn.append(Outline("file", label, number, b"", os.fsencode(region.path)))
    pairs: dict[str, PairFiles] = {}
    for number, task in tasks.items():
        if not task.labelled and number not in outlines:
            continue
        image = first_there((folder / "images", folder), task.image)
        name = without_suffix(image.name)
        if name in pairs:
            raise DataError(
                f"{folder} has two labelled tasks with a picture {task.image}; rename one, or "
                "remove one of the tasks."
            )
        parts = tuple(outlines.get(number, ()))
        where = Path(os.fsdecode(parts[0].content)) if parts else image
        pairs[name] = PairFiles(
            name, image, where, outlines=Outlines(parts, None, 0, largest_first=True)
        )
    return pairs

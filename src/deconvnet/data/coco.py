"""COCO's JSON: polygons and run lengths, of COCO itself, CVAT, Label Studio and Roboflow.

    annotations/instances_train2017.json   with train2017/ or images/train2017/; val alike
    annotations/stuff_train2017.json       optional: painted first, so that things lie over it
    annotations/instances_default.json     with images/: what CVAT writes
    result.json                            with images/: what Label Studio writes
    train/_annotations.coco.json           with its pictures beside it: what Roboflow writes

Class 0 is background, and the categories follow by their ids; a category named background is
class 0 itself. Larger objects are painted first. A crowd has its class and is no object.
"""

import json
import mmap
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from deconvnet.data.json_files import (
    coordinates,
    first_there,
    picture_name,
    read_json,
    whole_number,
)
from deconvnet.data.mask_files import MaskCoding
from deconvnet.data.outlines import Outline, Outlines, points_of
from deconvnet.data.pairs import PairDataset, PairFiles, without_suffix
from deconvnet.data.splits import names_of_split, split_word
from deconvnet.errors import DataError, LabelError, MissingExtraError
from deconvnet.labels import Classes, normalise_name

LAYOUT = "COCO JSON (annotations/*.json, result.json or */_annotations.coco.json, and pictures)"

_BESIDE = "_annotations.coco.json"
_OTHER_TASKS = ("captions", "person_keypoints", "panoptic", "image_info")
_BACKGROUND = ("background", "_background_")
_HEAD = 4096


class AnnotationFile(NamedTuple):
    """One of the JSON files of a data set."""

    path: Path
    split: str | None
    """None where its name does not say."""


def is_coco(folder: Path) -> bool:
    """Whether the folder has files of annotations as COCO's."""
    return bool(_annotation_files(folder))


def open_coco(folder: Path, split: str = "train") -> PairDataset:
    """A split of a data set in COCO's form.

    Where the names of the files do not say which split they are, lists or the names of the
    pictures decide, as for plain folders.

    Raises:
        MissingExtraError: If pycocotools is not installed.
        DataError: If a file is not as it should be, or there is no such split.
    """
    if find_spec("pycocotools") is None:
        raise MissingExtraError("Reading COCO's annotations", "coco")
    files = _annotation_files(folder)
    if not files:
        raise DataError(
            f"{folder} has no annotations as COCO's; put them into annotations/ as "
            "instances_train.json and instances_val.json."
        )
    table = _categories(files)
    splits = sorted({file.split for file in files if file.split})
    if splits and split not in splits:
        raise DataError(
            f"{folder} has no split '{split}': no JSON file is named after it; its splits "
            f"are {', '.join(splits)}."
        )
    chosen = [file for file in files if not splits or file.split == split]
    pictures: dict[str, _Picture] = {}
    for file in chosen:
        _add_file(pictures, file, folder, table.label_of_id)
    if not any(picture.objects for picture in pictures.values()) and pictures:
        raise DataError(
            f"{chosen[0].path} has no segmentation for any of its objects (boxes alone?); "
            "export it with polygons or masks."
        )
    names = sorted(pictures) if splits else names_of_split(folder, split, sorted(pictures))
    pairs = tuple(_pair(name, pictures, chosen[0].path) for name in names)
    return PairDataset(table.classes, split, pairs, MaskCoding(len(table.classes)))


class _Table(NamedTuple):
    classes: Classes
    label_of_id: dict[int, int]


class _Object(NamedTuple):
    outlines: tuple[Outline, ...]
    area: float


class _Picture:
    """A picture as the files describe it, while they are read."""

    def __init__(self, image: Path, mask: Path, size: tuple[int, int] | None) -> None:
        self.image, self.mask, self.size = image, mask, size
        self.objects: list[_Object] = []
        """Of all files, those of each from the largest to the smallest."""


def _annotation_files(folder: Path) -> list[AnnotationFile]:
    """The files of annotations, those of stuff first."""
    found = [
        AnnotationFile(path, split_word(path.stem))
        for place in (folder / "annotations", folder)
        for path in sorted(place.glob("*.json"))
        if not path.name.startswith(_OTHER_TASKS) and _looks_like_coco(path)
    ]
    found += [
        AnnotationFile(path, split_word(path.parent.name))
        for path in sorted(folder.glob(f"*/{_BESIDE}"))
    ]
    return sorted(found, key=lambda file: "stuff" not in file.path.name)


def _looks_like_coco(path: Path) -> bool:
    """Whether a JSON file begins as COCO's do, without reading all of it."""
    if path.name == _BESIDE or path.name.startswith(("instances_", "stuff_")):
        return True
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD).lstrip(b"\xef\xbb\xbf \r\n\t")
    except OSError:
        return False
    words = (b'"images"', b'"annotations"', b'"categories"')
    return head[:1] == b"{" and b'"shapes"' not in head and any(word in head for word in words)


def _categories(files: Iterable[AnnotationFile]) -> _Table:
    """The classes of all files together, so that every split has the same.

    Raises:
        DataError: If the categories are not as they should be.
    """
    name_of_id: dict[int, str] = {}
    for path in sorted(file.path for file in files):
        for category in _categories_in(path):
            number = whole_number(category.get("id"))
            name = category.get("name")
            if number is None or not isinstance(name, str) or not name.strip():
                raise DataError(
                    f"{path} has a category without an id or a name; give each both."
                )
            name = normalise_name(name)
            if name_of_id.setdefault(number, name) != name:
                raise DataError(
                    f"{path} gives the category {number} the name {name!a}, and another "
                    f"place {name_of_id[number]!a}; give each category one name."
                )
    names = ["background"]
    label_of_id = {}
    for number, name in sorted(name_of_id.items()):
        label_of_id[number] = 0 if name in _BACKGROUND else len(names)
        if name not in _BACKGROUND:
            names.append(name)
    try:
        return _Table(Classes.named(names, background=0), label_of_id)
    except LabelError as error:
        first = next(iter(files)).path
        raise DataError(f"{first} has categories that cannot be classes: {error}") from None


def _categories_in(path: Path) -> list[dict[str, Any]]:
    """The categories, without decoding the hundreds of megabytes around them if it can be."""
    found = _list_in_file(path, b'"categories"')
    if found is None:
        found = read_json(path).get("categories")
    if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
        raise DataError(f"{path} has no list of categories; export it again in COCO's format.")
    return found


def _list_in_file(path: Path, key: bytes) -> list[Any] | None:
    """The list after a key that occurs once in a file; None where it is not so simple."""
    try:
        with (
            path.open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
        ):
            start = content.find(key)
            if start < 0 or content.find(key, start + 1) >= 0:
                return None
            text = content[start + len(key) : start + 2**20].decode("utf-8", "ignore")
    except (OSError, ValueError):
        return None
    try:
        found, _ = json.JSONDecoder().raw_decode(text.lstrip(": \r\n\t"))
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, list) else None


def _add_file(
    pictures: dict[str, _Picture],
    file: AnnotationFile,
    folder: Path,
    label_of_id: dict[int, int],
) -> None:
    """Take over the pictures and objects of one file.

    Raises:
        DataError: If it is not as it should be.
    """
    content = read_json(file.path)
    images, annotations = content.get("images"), content.get("annotations", [])
    if not isinstance(images, list) or not isinstance(annotations, list):
        raise DataError(
            f"{file.path} has no list of images and annotations; export it again in COCO's "
            "format."
        )
    folders = _picture_folders(file, folder)
    name_of_id: dict[object, str] = {}
    for entry in images:
        name, picture = _picture_of(file.path, entry, folders)
        if name_of_id.setdefault(_key(entry.get("id")), name) != name:
            raise DataError(
                f"{file.path} has the image id {entry['id']!a} twice; export again."
            )
        known = pictures.setdefault(name, picture)
        if known.image != picture.image or known.size != picture.size:
            raise DataError(f"{file.path} has two pictures named {name!a}; rename one.")
    numbers = dict.fromkeys(pictures, 0)
    added: dict[str, list[_Object]] = {}
    for entry in annotations:
        if not isinstance(entry, dict) or _key(entry.get("image_id")) not in name_of_id:
            raise DataError(
                f"{file.path} has an annotation of an image that it does not list; export it "
                "again."
            )
        name = name_of_id[_key(entry.get("image_id"))]
        numbers[name] += 1
        before = len(pictures[name].objects)
        found = _object(file.path, entry, label_of_id, before + numbers[name], pictures[name])
        if found is not None:
            added.setdefault(name, []).append(found)
    for name, objects in added.items():
        pictures[name].objects += sorted(objects, key=lambda found: -found.area)


def _key(value: object) -> object:
    """An id that can be looked up: a number or a word; JSON could have a list there."""
    return value if isinstance(value, str | int) else None


def _picture_of(path: Path, entry: object, folders: tuple[Path, ...]) -> tuple[str, _Picture]:
    if not isinstance(entry, dict) or _key(entry.get("id")) is None:
        raise DataError(f"{path} has an image without an id; export it again.")
    name = picture_name(entry.get("file_name"), f"The image {entry['id']!a} of {path}")
    height, width = whole_number(entry.get("height")), whole_number(entry.get("width"))
    size = (height, width) if height and width else None
    image = first_there(folders, name)
    return without_suffix(name.removeprefix("images/")), _Picture(image, path, size)


def _picture_folders(file: AnnotationFile, folder: Path) -> tuple[Path, ...]:
    """Where the pictures of a file may be, the likeliest first."""
    if file.path.name == _BESIDE:
        return (file.path.parent,)
    tail = file.path.stem.rpartition("_")[2]  # train2017 of instances_train2017
    words = dict.fromkeys([tail, *([file.split] if file.split else [])])
    places = [place / word for word in words for place in (folder / "images", folder)]
    places += [folder / "images", folder, folder / "JPEGImages", folder / "data"]
    there = [place for place in places if place.is_dir()]
    return tuple(there) or (folder / "images",)


def _object(
    path: Path, entry: dict[str, Any], label_of_id: dict[int, int], number: int, on: _Picture
) -> _Object | None:
    """One annotation; None if it has a box alone.

    Raises:
        DataError: If it is not as it should be.
    """
    what = f"The annotation {entry.get('id')!a} of {path}"
    category = whole_number(entry.get("category_id"))
    if category not in label_of_id:
        raise DataError(
            f"{what} has the category {entry.get('category_id')!a}, which is not among the "
            "categories; export it again."
        )
    label = label_of_id[category]
    instance = 0 if entry.get("iscrowd") or not label else number
    segmentation = entry.get("segmentation")
    if not segmentation:
        return None
    if isinstance(segmentation, dict):
        runs = _runs(what, segmentation, on.size)
        area = entry.get("area")
        known = float(area) if isinstance(area, int | float) and abs(area) < 1e12 else 0.0
        return _Object((Outline("rle", label, instance, b"", runs),), known)
    if not isinstance(segmentation, list):
        raise DataError(f"{what} has neither polygons nor run lengths; export it again.")
    nested = all(isinstance(ring, list) for ring in segmentation)
    rings = segmentation if nested else [segmentation]
    outlines, total = [], 0.0
    for ring in rings:
        points = coordinates(ring, what, least=3)
        outlines.append(Outline("coco", label, instance, points_of(points)))
        total += _area(points)
    return _Object(tuple(outlines), total)


def _runs(what: str, segmentation: dict[str, Any], size: tuple[int, int] | None) -> bytes:
    """Run lengths in COCO's compressed form.

    Raises:
        DataError: If they are for a picture of another size, or no run lengths.
    """
    from pycocotools import mask

    declared, counts = segmentation.get("size"), segmentation.get("counts")
    numbers = [whole_number(side) for side in declared] if isinstance(declared, list) else []
    if len(numbers) != 2 or (size is not None and tuple(numbers) != size):
        raise DataError(
            f"{what} has run lengths for a picture of {declared!a}, and the picture has "
            f"{list(size) if size else 'no size'} (height, width); export it again."
        )
    if isinstance(counts, str) and counts.isascii():
        return counts.encode()
    lengths = [whole_number(count) for count in counts] if isinstance(counts, list) else [None]
    known = [length for length in lengths if length is not None]
    if len(known) < len(lengths) or sum(known) != (numbers[0] or 0) * (numbers[1] or 0):
        raise DataError(
            f"{what} has run lengths that do not fill a picture of {declared!a}; export it "
            "again."
        )
    runs = mask.frPyObjects({"size": numbers, "counts": known}, *numbers)
    return bytes(runs["counts"])


def _area(points: list[float]) -> float:
    """Pixels inside a polygon, by the shoelace formula."""
    xs, ys = points[::2], points[1::2]
    doubled = sum(
        x0 * y1 - x1 * y0
        for x0, y0, x1, y1 in zip(xs, ys, [*xs[1:], xs[0]], [*ys[1:], ys[0]], strict=True)
    )
    return abs(doubled) / 2


def _pair(name: str, pictures: dict[str, _Picture], missing: Path) -> PairFiles:
    """The files and objects of one picture.

    Raises:
        DataError: If a list names a picture that no file of annotations has.
    """
    if name not in pictures:
        raise DataError(f"The picture {name} is in the split and not in {missing}; add it.")
    picture = pictures[name]
    outlines = tuple(_flattened(picture.objects))
    return PairFiles(
        name, picture.image, picture.mask, outlines=Outlines(outlines, picture.size, 0)
    )


def _flattened(objects: list[_Object]) -> Iterator[Outline]:
    for found in objects:
        yield from found.outlines

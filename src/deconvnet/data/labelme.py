"""Labelme's JSON: one file for each picture, with polygons, rectangles, circles, lines, points.

    street/01.jpg  street/01.json      pictures and outlines side by side, in one folder or more
    images/ with labels/ or annotations/ holding the JSON files do as well
    labels.txt                         optional: a class a line, as labelme --labels takes it

Class 0 is background (`_background_`), what is labelled `__ignore__` counts nowhere, and the
classes follow in the order of labels.txt (or classes.txt), else of the alphabet. Shapes of one
label and one group_id are one object; later shapes lie over earlier ones.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from deconvnet.data.image_files import IMAGE_SUFFIXES
from deconvnet.data.json_files import (
    coordinates,
    first_there,
    picture_name,
    read_json,
    whole_number,
)
from deconvnet.data.mask_files import MaskCoding
from deconvnet.data.outlines import Kind, Outline, Outlines, points_of
from deconvnet.data.pairs import PairDataset, PairFiles, listed_names
from deconvnet.data.splits import names_of_split
from deconvnet.errors import DataError, LabelError
from deconvnet.labels import IGNORED, Classes, normalise_name

LAYOUT = "Labelme JSON (a .json beside each picture)"

_LISTS = ("labels.txt", "classes.txt")
_IGNORED = ("__ignore__", "ignored", "ignore", "void")
_BACKGROUND = ("_background_", "background")
_HEAD = 2**16
_TRIED = 5


class ShapeKind(NamedTuple):
    """How Labelme's shape becomes an outline of ours."""

    kind: Kind
    least: int
    """Fewest points."""
    most: int


SHAPES = {
    "polygon": ShapeKind("polygon", 3, 10**6),
    "oriented_rectangle": ShapeKind("polygon", 4, 4),
    "rotation": ShapeKind("polygon", 4, 4),
    "rectangle": ShapeKind("rectangle", 2, 4),
    "circle": ShapeKind("circle", 2, 2),
    "line": ShapeKind("line", 2, 2),
    "linestrip": ShapeKind("line", 2, 10**6),
    "point": ShapeKind("point", 1, 1),
    "points": ShapeKind("point", 1, 10**6),
    "mask": ShapeKind("stamp", 2, 2),
}
"""Labelme's kinds of shapes."""


def is_labelme(folder: Path) -> bool:
    """Whether the folder has JSON files of Labelme."""
    return any(_looks_like_labelme(path) for path in _some_files(folder))


def open_labelme(folder: Path, split: str = "train") -> PairDataset:
    """A split of pictures labelled with Labelme: by lists, folders, or the pictures' names.

    Raises:
        DataError: If a file is not as it should be, or there is no such split.
    """
    files = [path for path in sorted(folder.rglob("*.json")) if _looks_like_labelme(path)]
    if not files:
        raise DataError(
            f"{folder} has no JSON file of Labelme; put the files beside the pictures."
        )
    found = [_picture_of(folder, path) for path in files]
    pictures = {picture.name: picture for picture in found}
    if len(pictures) < len(found):
        names = [picture.name for picture in found]
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError(f"{folder} labels the picture {twice} in two files; keep one.")
    classes = _classes(folder, found)
    pairs = []
    for name in names_of_split(folder, split, sorted(pictures)):
        if name not in pictures:
            raise DataError(
                f"The picture {name} is in the split {split} and has no JSON file in {folder}; "
                "label it, or take it out of the list."
            )
        pairs.append(_pair(pictures[name], classes))
    return PairDataset(classes, split, tuple(pairs), MaskCoding(len(classes)))


class _Shape(NamedTuple):
    label: str
    group: object
    kind: Kind
    points: bytes
    content: bytes


class _Picture(NamedTuple):
    name: str
    image: Path
    source: Path
    size: tuple[int, int] | None
    shapes: tuple[_Shape, ...]


def _some_files(folder: Path) -> Iterator[Path]:
    """A few JSON files of the folder and of the folders in it."""
    for pattern in ("*.json", "*/*.json", "*/*/*.json"):
        for tried, path in enumerate(folder.glob(pattern)):
            if tried == _TRIED:
                break
            yield path


def _looks_like_labelme(path: Path) -> bool:
    """Whether a JSON file begins or ends as Labelme's do; the picture inside may be between."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError:
        return False
    return head.lstrip(b"\xef\xbb\xbf \r\n\t")[:1] == b"{" and (
        b'"shapes"' in head or b'"imageData"' in head
    )


def _picture_of(folder: Path, path: Path) -> _Picture:
    """What one file says.

    Raises:
        DataError: If it is not as it should be.
    """
    content = read_json(path)
    shapes = content.get("shapes")
    if not isinstance(shapes, list):
        raise DataError(f"{path} has no list of shapes; save it again with Labelme.")
    height, width = (whole_number(content.get(f"image{side}")) for side in ("Height", "Width"))
    return _Picture(
        path.relative_to(folder).with_suffix("").as_posix(),
        _image(folder, path, content.get("imagePath")),
        path,
        (height, width) if height and width else None,
        tuple(_shape(path, number, shape) for number, shape in enumerate(shapes)),
    )


def _image(folder: Path, path: Path, named: object) -> Path:
    """The picture: of the same name beside the file or in images/, else the one it names."""
    below = path.relative_to(folder).with_suffix("")
    inner = Path(*below.parts[1:]) if len(below.parts) > 1 else below
    for place in (path.with_suffix(""), folder / "images" / inner, folder / "images" / below):
        for suffix in IMAGE_SUFFIXES:
            for candidate in (
                place.with_name(place.name + suffix),
                place.with_name(place.name + suffix.upper()),
            ):
                if candidate.is_file():
                    return candidate
    name = picture_name(named, f"The imagePath of {path}")
    return first_there((path.parent, folder / "images", folder), name)


def _shape(path: Path, number: int, shape: object) -> _Shape:
    """One shape of a file.

    Raises:
        DataError: If it is of an unknown kind, or has no label or too few points.
    """
    what = f"The shape {number} of {path}"
    if not isinstance(shape, dict):
        raise DataError(f"{what} is no shape; save the file again with Labelme.")
    label = shape.get("label")
    if not isinstance(label, str) or not label.strip():
        raise DataError(f"{what} has no label; give it one in Labelme.")
    kind = shape.get("shape_type") or "polygon"
    if not isinstance(kind, str) or kind not in SHAPES:
        raise DataError(
            f"{what} is a {kind!a}; {', '.join(SHAPES)} can be read. Draw it as one of these."
        )
    as_ours = SHAPES[kind]
    points = coordinates(shape.get("points"), what, least=as_ours.least)
    if len(points) > 2 * as_ours.most:
        raise DataError(
            f"{what} is a {kind} with {len(points) // 2} points; it has {as_ours.most} at "
            "most. Draw it again."
        )
    content = b""
    if as_ours.kind == "stamp":
        content = _png(what, shape.get("mask"))
        points = [min(points[::2]), min(points[1::2])]
    group = shape.get("group_id")
    group = group if isinstance(group, int | str) else None
    return _Shape(label, group, as_ours.kind, points_of(points), content)


def _png(what: str, text: Any) -> bytes:
    import base64

    try:
        return base64.b64decode(text, validate=True)
    except (TypeError, ValueError):
        raise DataError(f"{what} has no mask that can be read; draw it again.") from None


def _classes(folder: Path, pictures: list[_Picture]) -> Classes:
    """The classes: those of a list, else all labels in the order of the alphabet.

    Raises:
        DataError: If a label is not in the list, or the labels cannot be classes.
    """
    listing = next((folder / name for name in _LISTS if (folder / name).is_file()), None)
    listed = [] if listing is None else listed_names(listing)
    names = dict.fromkeys(_class_names(listed))
    for picture in pictures:
        used = sorted(set(_class_names([shape.label for shape in picture.shapes])))
        unknown = [name for name in used if name not in names]
        if unknown and listing is not None:
            raise DataError(
                f"{picture.source} has the label {unknown[0]!a}, which is not in {listing}; "
                "add it there, or correct it in Labelme."
            )
        names |= dict.fromkeys(unknown)
    ordered = list(names) if listing is not None else sorted(names)
    try:
        return Classes.named(["background", *ordered], background=0)
    except LabelError as error:
        raise DataError(f"The labels in {folder} cannot be classes: {error}") from None


def _class_names(labels: list[str]) -> list[str]:
    """The labels that are classes, as classes are written, without background."""
    names = [normalise_name(label) for label in labels]
    return [name for name in names if name not in (*_IGNORED, *_BACKGROUND)]


def _pair(picture: _Picture, classes: Classes) -> PairFiles:
    numbers: dict[object, int] = {}
    outlines = []
    for place, shape in enumerate(picture.shapes):
        name = normalise_name(shape.label)
        label = IGNORED if name in _IGNORED else 0
        if label == 0 and name not in _BACKGROUND:
            label = classes.names.index(name)
        key = (name, shape.group) if shape.group is not None else place
        number = numbers.setdefault(key, len(numbers) + 1) if 0 < label < IGNORED else 0
        outlines.append(Outline(shape.kind, label, number, shape.points, shape.content))
    return PairFiles(
        picture.name,
        picture.image,
        picture.source,
        outlines=Outlines(tuple(outlines), picture.size, 0),
    )

"""PASCAL VOC 2012, segmentation: 20 classes and background, 255 for void borders.

CVAT's "Segmentation mask" has the same folders, with labelmap.txt for its own classes and
colours, and one list default.txt, which is then split by the names of the pictures; the subsets
of a project have a list each. It lists pictures without annotations, too, and writes them no
mask: these are left out.
"""

from pathlib import Path

from deconvnet.data.class_files import read_classes
from deconvnet.data.image_files import IMAGE_SUFFIXES
from deconvnet.data.mask_files import MaskCoding
from deconvnet.data.other_exports import WITHOUT_PICTURES
from deconvnet.data.pairs import (
    PairDataset,
    PairFiles,
    listed_names,
    without_suffix,
)
from deconvnet.data.splits import name_of_split, names_of_split, split_word
from deconvnet.errors import DataError
from deconvnet.files import is_file
from deconvnet.labels import VOC

LAYOUT = "PASCAL VOC (JPEGImages/, SegmentationClass/, ImageSets/Segmentation/)"

_CODING = MaskCoding(len(VOC), colors=VOC.colors)
_TABLE = "labelmap.txt"
"""What CVAT names its classes in, and VOC has not."""


def is_voc(folder: Path) -> bool:
    """Whether the folder, or its VOC2012 or VOCdevkit/VOC2012, has VOC's layout."""
    return (_root(folder) / "SegmentationClass").is_dir()


def open_voc(folder: Path, split: str = "train") -> PairDataset:
    """A split of VOC: train, val, trainval, or any list in ImageSets/Segmentation.

    Objects are told apart where SegmentationObject has a file for every picture of the split.

    Raises:
        DataError: If the folder has not VOC's layout or the split has no list.
        LabelError: If there is a labelmap.txt and it is wrong.
    """
    root = _root(folder)
    names, unlabelled = _names(root, split)
    objects = root / "SegmentationObject"
    numbered = objects.is_dir() and all(is_file(objects / f"{name}.png") for name in names)
    pairs = tuple(
        PairFiles(
            name,
            _image(root, name),
            root / "SegmentationClass" / f"{name}.png",
            objects / f"{name}.png" if numbered else None,
        )
        for name in names
    )
    table = read_classes(root)
    if table is None:
        return PairDataset(VOC, split, pairs, _CODING)
    return PairDataset(table.classes, split, pairs, table.coding(), unlabelled)


def _names(root: Path, split: str) -> tuple[list[str], tuple[str, ...]]:
    """The pictures of a split, and those that CVAT lists there and nobody has labelled.

    Raises:
        DataError: If the split has no list.
    """
    lists = root / "ImageSets" / "Segmentation"
    of_cvat = is_file(root / _TABLE)
    there = sorted(path.stem for path in lists.glob("*.txt"))
    called = name_of_split(split, there) if of_cvat else split
    if called is not None and is_file(lists / f"{called}.txt"):
        named, parted = _listed(lists / f"{called}.txt"), True
    elif of_cvat and there and not any(map(split_word, there)):
        named = [name for word in there for name in _listed(lists / f"{word}.txt")]
        parted = False
    else:
        raise DataError(
            f"{root} has no split '{split}': there is no {lists / split}.txt; "
            f"its lists are {', '.join(there) or 'none'}."
        )
    if not of_cvat:
        return named, ()
    if not any(path.is_file() for path in (root / "JPEGImages").rglob("*")):
        raise DataError(f"{root} holds {WITHOUT_PICTURES}.")
    kept = [name for name in named if is_file(root / "SegmentationClass" / f"{name}.png")]
    without = tuple(sorted(set(named) - set(kept)))
    if parted:
        return kept, without
    return names_of_split(root, split, kept), without if split == "train" else ()


def _listed(path: Path) -> list[str]:
    return [without_suffix(line.split("\t")[0].strip()) for line in listed_names(path)]


def _image(root: Path, name: str) -> Path:
    """The picture; CVAT keeps the suffix it had."""
    places = [root / "JPEGImages" / f"{name}{suffix}" for suffix in IMAGE_SUFFIXES]
    return next((place for place in places if is_file(place)), places[0])


def _root(folder: Path) -> Path:
    candidates = (folder, folder / "VOC2012", folder / "VOCdevkit" / "VOC2012")
    return next((path for path in candidates if (path / "SegmentationClass").is_dir()), folder)

"""PASCAL VOC 2012, segmentation: 20 classes and background, 255 for void borders.

CVAT's "Segmentation mask" has the same folders, with labelmap.txt for its own classes and
colours, and one list default.txt, which is then split by the names of the pictures.
"""

from pathlib import Path

from deconvnet.data.class_files import read_classes
from deconvnet.data.image_files import IMAGE_SUFFIXES
from deconvnet.data.mask_files import MaskCoding
from deconvnet.data.pairs import (
    PairDataset,
    PairFiles,
    listed_names,
    without_suffix,
)
from deconvnet.data.splits import names_of_split
from deconvnet.errors import DataError
from deconvnet.files import is_file
from deconvnet.labels import VOC

LAYOUT = "PASCAL VOC (JPEGImages/, SegmentationClass/, ImageSets/Segmentation/)"

_CODING = MaskCoding(len(VOC), colors=VOC.colors)
_UNSPLIT = "default"


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
    names = _names(root, split)
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
    return PairDataset(table.classes, split, pairs, table.coding())


def _names(root: Path, split: str) -> list[str]:
    lists = root / "ImageSets" / "Segmentation"
    listing = lists / f"{split}.txt"
    there = sorted(path.stem for path in lists.glob("*.txt"))
    if there == [_UNSPLIT] and split != _UNSPLIT:
        return names_of_split(root, split, _listed(lists / f"{_UNSPLIT}.txt"))
    if not is_file(listing):
        raise DataError(
            f"{root} has no split '{split}': there is no {listing}; "
            f"its lists are {', '.join(there) or 'none'}."
        )
    return _listed(listing)


def _listed(path: Path) -> list[str]:
    return [without_suffix(line.split("\t")[0].strip()) for line in listed_names(path)]


def _image(root: Path, name: str) -> Path:
    """The picture; CVAT keeps the suffix it had."""
    places = [root / "JPEGImages" / f"{name}{suffix}" for suffix in IMAGE_SUFFIXES]
    return next((place for place in places if is_file(place)), places[0])


def _root(folder: Path) -> Path:
    candidates = (folder, folder / "VOC2012", folder / "VOCdevkit" / "VOC2012")
    return next((path for path in candidates if (path / "SegmentationClass").is_dir()), folder)

"""PASCAL VOC 2012, segmentation: 20 classes and background, 255 for void borders."""

from pathlib import Path

from deconvnet.data.mask_files import MaskCoding
from deconvnet.data.pairs import PairDataset, PairFiles, listed_names, without_suffix
from deconvnet.errors import DataError
from deconvnet.labels import VOC

LAYOUT = "PASCAL VOC (JPEGImages/, SegmentationClass/, ImageSets/Segmentation/)"

_CODING = MaskCoding(len(VOC), colors=VOC.colors)


def is_voc(folder: Path) -> bool:
    """Whether the folder, or its VOC2012 or VOCdevkit/VOC2012, has VOC's layout."""
    return (_root(folder) / "SegmentationClass").is_dir()


def open_voc(folder: Path, split: str = "train") -> PairDataset:
    """A split of VOC: train, val, trainval, or any list in ImageSets/Segmentation.

    Objects are told apart where SegmentationObject has a file for every picture of the split.

    Raises:
        DataError: If the folder has not VOC's layout or the split has no list.
    """
    root = _root(folder)
    listing = root / "ImageSets" / "Segmentation" / f"{split}.txt"
    if not listing.is_file():
        there = sorted(path.stem for path in listing.parent.glob("*.txt"))
        raise DataError(
            f"{root} has no split '{split}': there is no {listing}; "
            f"its lists are {', '.join(there) or 'none'}."
        )
    names = [without_suffix(line.split()[0]) for line in listed_names(listing)]
    objects = root / "SegmentationObject"
    numbered = objects.is_dir() and all((objects / f"{name}.png").is_file() for name in names)
    pairs = tuple(
        PairFiles(
            name,
            root / "JPEGImages" / f"{name}.jpg",
            root / "SegmentationClass" / f"{name}.png",
            objects / f"{name}.png" if numbered else None,
        )
        for name in names
    )
    return PairDataset(VOC, split, pairs, _CODING)


def _root(folder: Path) -> Path:
    candidates = (folder, folder / "VOC2012", folder / "VOCdevkit" / "VOC2012")
    return next((path for path in candidates if (path / "SegmentationClass").is_dir()), folder)

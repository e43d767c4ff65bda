"""Cityscapes, fine annotations: 34 label ids become the 19 classes that are trained on.

    leftImg8bit/train/CITY/NAME_leftImg8bit.png
    gtFine/train/CITY/NAME_gtFine_labelIds.png
    gtFine/train/CITY/NAME_gtFine_instanceIds.png     1000 x id + number; below 1000 no object

Source: Cordts et al. 2016, table 1 and the label ids of cityscapesScripts.
"""

from pathlib import Path

from deconvnet.data.mask_files import MaskCoding
from deconvnet.data.pairs import PairDataset, PairFiles
from deconvnet.errors import DataError
from deconvnet.labels import Classes

LAYOUT = "Cityscapes (leftImg8bit/ and gtFine/)"

CITYSCAPES = Classes.named(
    (
        "road sidewalk building wall fence pole traffic_light traffic_sign vegetation terrain "
        "sky person rider car truck bus train motorcycle bicycle"
    ).split(),
    [
        (128, 64, 128),
        (244, 35, 232),
        (70, 70, 70),
        (102, 102, 156),
        (190, 153, 153),
        (153, 153, 153),
        (250, 170, 30),
        (220, 220, 0),
        (107, 142, 35),
        (152, 251, 152),
        (70, 130, 180),
        (220, 20, 60),
        (255, 0, 0),
        (0, 0, 142),
        (0, 0, 70),
        (0, 60, 100),
        (0, 80, 100),
        (0, 0, 230),
        (119, 11, 32),
    ],
)

LABEL_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
"""The number in a labelIds file of each class; all other numbers count nowhere."""

_CODING = MaskCoding(
    len(CITYSCAPES),
    values=LABEL_IDS,
    ignored=tuple(number for number in range(256) if number not in LABEL_IDS),
    least_instance=1000,
)
_IMAGE, _LABELS, _INSTANCES = "_leftImg8bit.png", "_gtFine_labelIds.png", "_instanceIds.png"


def is_cityscapes(folder: Path) -> bool:
    """Whether the folder has Cityscapes' layout."""
    return (folder / "leftImg8bit").is_dir() and (folder / "gtFine").is_dir()


def open_cityscapes(folder: Path, split: str = "train") -> PairDataset:
    """A split of Cityscapes: train, val or test.

    Objects are told apart where every picture of the split has its file of instances.

    Raises:
        DataError: If the split is not there.
    """
    images, labels = folder / "leftImg8bit" / split, folder / "gtFine" / split
    if not images.is_dir() or not labels.is_dir():
        places = (folder / "leftImg8bit").glob("*/")
        there = sorted(
            place.name for place in places if (folder / "gtFine" / place.name).is_dir()
        )
        raise DataError(
            f"{folder} has no split '{split}': there is no {images} with {labels}; its splits "
            f"are {', '.join(there) or 'none'}."
        )
    pairs = [
        _pair(path.relative_to(images).as_posix().removesuffix(_IMAGE), images, labels)
        for path in sorted(images.rglob(f"*{_IMAGE}"))
    ]
    if not all(pair.instances and pair.instances.is_file() for pair in pairs):
        pairs = [pair._replace(instances=None) for pair in pairs]
    return PairDataset(CITYSCAPES, split, tuple(pairs), _CODING)


def _pair(name: str, images: Path, labels: Path) -> PairFiles:
    return PairFiles(
        name,
        images / f"{name}{_IMAGE}",
        labels / f"{name}{_LABELS}",
        labels / f"{name}_gtFine{_INSTANCES}",
    )

"""Cityscapes, fine annotations: 34 label ids become the 19 classes that are trained on.

    leftImg8bit/train/CITY/NAME_leftImg8bit.png
    gtFine/train/CITY/NAME_gtFine_labelIds.png
    gtFine/train/CITY/NAME_gtFine_instanceIds.png     1000 x id + number; below 1000 no object

CVAT's "Cityscapes" has the pictures in imgsFine/leftImg8bit/, and label_colors.txt with a class
of its own a line: the number in the masks is the line. Its subset is `default`, which is then
split by the names of the pictures, and pictures without annotations have no mask: these are
left out.

Source: Cordts et al. 2016, table 1 and the label ids of cityscapesScripts.
"""

from pathlib import Path

from deconvnet.data.class_files import counts_nowhere, listed_colors
from deconvnet.data.image_files import IMAGE_SUFFIXES
from deconvnet.data.mask_files import MaskCoding
from deconvnet.data.pairs import PairDataset, PairFiles, files_below
from deconvnet.data.splits import name_of_split, names_of_split, split_word
from deconvnet.errors import DataError, LabelError
from deconvnet.labels import IGNORED, Classes, normalise_name

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
_IMAGE, _LABELS = "_leftImg8bit", "_gtFine_labelIds.png"
_INSTANCES = "_gtFine_instanceIds.png"
_TABLES = ("label_colors.txt", "label_color.txt")
"""What CVAT writes; its manual leaves the s out."""


def is_cityscapes(folder: Path) -> bool:
    """Whether the folder has Cityscapes' layout, or that of CVAT's export."""
    return _pictures(folder).is_dir() and (folder / "gtFine").is_dir()


def open_cityscapes(folder: Path, split: str = "train") -> PairDataset:
    """A split of Cityscapes: train, val or test.

    Objects are told apart where every picture of the split has its file of instances.

    Raises:
        DataError: If the split is not there.
        LabelError: If CVAT's list of classes is wrong.
    """
    table = next((folder / name for name in _TABLES if (folder / name).is_file()), None)
    pictures, masks = _pictures(folder), folder / "gtFine"
    there = [place.name for place in pictures.glob("*/") if (masks / place.name).is_dir()]
    called = split if table is None else name_of_split(split, there)
    if called in there:
        found = _pairs(pictures / str(called), masks / str(called))
    elif table is not None and there and not any(map(split_word, there)):
        found = _pairs(pictures, masks)
    else:
        raise DataError(
            f"{folder} has no split '{split}': there is no {pictures / split} with "
            f"{masks / split}; its splits are {', '.join(sorted(there)) or 'none'}."
        )
    if table is None:
        return PairDataset(CITYSCAPES, split, tuple(_with_objects(found)), _CODING)
    pairs = {pair.name: pair for pair in found if pair.mask.is_file()}
    unlabelled = tuple(pair.name for pair in found if pair.name not in pairs)
    if called not in there:
        chosen = names_of_split(folder, split, pairs)
        pairs = {name: pairs[name] for name in chosen if name in pairs}
        unlabelled = unlabelled if split == "train" else ()
    classes, coding = _of_lines(table)
    return PairDataset(
        classes, split, tuple(_with_objects(list(pairs.values()))), coding, unlabelled
    )


def _pictures(folder: Path) -> Path:
    """The folder with the pictures."""
    of_cvat = folder / "imgsFine" / "leftImg8bit"
    return of_cvat if of_cvat.is_dir() else folder / "leftImg8bit"


def _pairs(images: Path, labels: Path) -> list[PairFiles]:
    """The pairs below two folders; CVAT keeps the suffix that a picture had."""
    found = files_below(images, IMAGE_SUFFIXES)
    names = {
        name.removesuffix(_IMAGE): path for name, path in found.items() if name.endswith(_IMAGE)
    }
    return [
        PairFiles(name, path, labels / f"{name}{_LABELS}", labels / f"{name}{_INSTANCES}")
        for name, path in names.items()
    ]


def _with_objects(pairs: list[PairFiles]) -> list[PairFiles]:
    """The pairs, without instances if any has none."""
    if all(pair.instances and pair.instances.is_file() for pair in pairs):
        return pairs
    return [pair._replace(instances=None) for pair in pairs]


def _of_lines(path: Path) -> tuple[Classes, MaskCoding]:
    """CVAT's classes, whose numbers are their lines; void ones count nowhere.

    Raises:
        LabelError: If the list is wrong.
    """
    entries = listed_colors(path)
    kept = {line: entry for line, entry in enumerate(entries) if not counts_nowhere(entry[0])}
    if not kept or len(entries) > IGNORED:
        raise LabelError(
            f"{path} names {len(kept)} classes; there must be 1 to {IGNORED}, a line each."
        )
    names = [normalise_name(name) for name, _ in kept.values()]
    background = names.index("background") if "background" in names else None
    classes = Classes.named(names, [color for _, color in kept.values()], background)
    ignored = (*(line for line in range(len(entries)) if line not in kept), IGNORED)
    return classes, MaskCoding(len(kept), tuple(kept), ignored, least_instance=1000)

"""CamVid: SegNet's 11 classes, and the 32 colours of the original.

    train/ trainannot/ val/ valannot/ ...   SegNet's tutorial: numbers 0 to 10, and 11 for void;
                                            CVAT writes the same with label_colors.txt and RGB
    701_StillsRaw_full/ LabeledApproved_full/NAME_L.png label_colors.txt     the original
    train/ train_labels/NAME_L.png val/ val_labels/ class_dict.csv           the original, split

Of the 32 colours Void counts nowhere, so that 31 classes are left.

Source: Brostow et al. 2008; Badrinarayanan et al. 2017 for the 11 classes.
"""

from pathlib import Path

from deconvnet.data.class_files import read_classes
from deconvnet.data.image_files import IMAGE_SUFFIXES
from deconvnet.data.mask_files import MaskCoding
from deconvnet.data.pairs import (
    PairDataset,
    PairFiles,
    files_below,
    listed_names,
    without_suffix,
)
from deconvnet.data.splits import SPLITS, names_of_split
from deconvnet.errors import DataError
from deconvnet.files import is_file
from deconvnet.labels import CAMVID, IGNORED

LAYOUT = "CamVid (train/ with trainannot/, val/ with valannot/, ...)"
LAYOUT_32 = (
    "CamVid's 32 colours (701_StillsRaw_full/ with LabeledApproved_full/, or train/ with "
    "train_labels/, and label_colors.txt)"
)

_CODING = MaskCoding(len(CAMVID), ignored=(11, IGNORED))
_UNSPLIT = "default"
"""What CVAT calls a split that was given no name."""

_STILLS, _APPROVED = "701_StillsRaw_full", "LabeledApproved_full"
_HELD_OUT_FILM = "Seq05VD"


def is_camvid(folder: Path) -> bool:
    """Whether the folder has CamVid's layout as in SegNet's tutorial."""
    return any(
        (folder / split).is_dir() and (folder / f"{split}annot").is_dir()
        for split in (*SPLITS, _UNSPLIT)
    )


def open_camvid(folder: Path, split: str = "train") -> PairDataset:
    """A split of CamVid: train, val or test.

    The list SPLIT.txt ("picture mask" a line) decides where there is one, else the folder does.

    Raises:
        DataError: If the split is not there.
        LabelError: If label_colors.txt is wrong.
    """
    pairs = _pairs(folder, split)
    if pairs is None:
        pairs = _unsplit(folder, split)
    table = read_classes(folder) if (folder / "label_colors.txt").is_file() else None
    if table is None:
        return PairDataset(CAMVID, split, tuple(pairs), _CODING)
    return PairDataset(table.classes, split, tuple(pairs), table.coding())


def _pairs(folder: Path, split: str) -> list[PairFiles] | None:
    """The pairs of a split that is a list or a folder; None if it is neither."""
    listing = folder / f"{split}.txt"
    if is_file(listing):
        return [_listed_pair(folder, listing, line) for line in listed_names(listing)]
    if not (folder / split).is_dir():
        return None
    masks = folder / f"{split}annot"
    return [
        PairFiles(f"{split}/{name}", image, masks / f"{name}.png")
        for name, image in files_below(folder / split, IMAGE_SUFFIXES).items()
    ]


def _unsplit(folder: Path, split: str) -> list[PairFiles]:
    """The pairs of a split of what CVAT exported without splits.

    Raises:
        DataError: If there is no such thing.
    """
    everything = _pairs(folder, _UNSPLIT)
    if everything is None:
        there = [name for name in SPLITS if (folder / name).is_dir()]
        raise DataError(
            f"{folder} has no split '{split}'; it has {', '.join(there) or 'none'}."
        )
    by_name = {pair.name: pair for pair in everything}
    return [by_name[name] for name in names_of_split(folder, split, by_name)]


def _listed_pair(folder: Path, listing: Path, line: str) -> PairFiles:
    """The pair of a line, which SegNet's lists write as absolute paths of another machine.

    Raises:
        DataError: If the line is no pair.
    """
    words = line.rstrip(";").split()
    if len(words) != 2:
        raise DataError(
            f"{listing} has the line '{line}'; write `picture mask`, a pair a line."
        )
    image, mask = ("/".join(word.split("/")[-2:]) for word in words)
    return PairFiles(without_suffix(image), folder / image, folder / mask)


def is_camvid32(folder: Path) -> bool:
    """Whether the folder has the original CamVid, or its copy with folders for the splits."""
    original = (folder / _STILLS).is_dir() and (folder / _APPROVED).is_dir()
    return original or (folder / "train_labels").is_dir()


def open_camvid32(folder: Path, split: str = "train") -> PairDataset:
    """A split of the original CamVid.

    Folders or lists decide; without them the film Seq05VD is val, because neighbouring frames
    of one film in train and val would make the scores too good.

    Raises:
        DataError: If the split or the table of colours is not there.
        LabelError: If the table of colours is wrong.
    """
    table = read_classes(folder)
    if table is None or table.colors is None:
        raise DataError(
            f"{folder} has no table of colours; put CamVid's label_colors.txt (`red green blue "
            "name` a line) there."
        )
    if (folder / f"{split}_labels").is_dir():
        images, masks = folder / split, folder / f"{split}_labels"
        names = list(files_below(images, IMAGE_SUFFIXES))
    else:
        images, masks = folder / _STILLS, folder / _APPROVED
        if not images.is_dir():
            raise DataError(
                f"{folder} has no split '{split}': there is no {folder / split}_labels."
            )
        names = _names_in_films(folder, split, list(files_below(images, IMAGE_SUFFIXES)))
    there = files_below(images, IMAGE_SUFFIXES)
    labelled = files_below(masks, IMAGE_SUFFIXES)
    pairs = tuple(
        PairFiles(
            name,
            there.get(name, images / f"{name}.png"),
            labelled.get(f"{name}_L") or labelled.get(name) or masks / f"{name}_L.png",
        )
        for name in names
    )
    return PairDataset(table.classes, split, pairs, table.coding())


def _names_in_films(folder: Path, split: str, names: list[str]) -> list[str]:
    lists = any((folder / f"{word}.txt").is_file() for word in SPLITS)
    held = [name.startswith(_HELD_OUT_FILM) for name in names]
    if lists or split not in ("train", "val") or not any(held) or all(held):
        return names_of_split(folder, split, names)
    return [name for name, out in zip(names, held, strict=True) if out == (split == "val")]

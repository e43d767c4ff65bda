"""CamVid: SegNet's 11 classes, and the 32 colours of the original.

    train/ trainannot/ val/ valannot/ ...   SegNet's tutorial: numbers 0 to 10, and 11 for void;
                                            CVAT writes the same with label_colors.txt and RGB,
                                            and lists pictures that nobody labelled without mask
    701_StillsRaw_full/ LabeledApproved_full/NAME_L.png label_colors.txt     the original
    train/ train_labels/NAME_L.png val/ val_labels/ class_dict.csv           the original, split

Of the 32 colours Void counts nowhere, so that 31 classes are left.

Source: Brostow et al. 2008; Badrinarayanan et al. 2017 for the 11 classes.
"""

import re
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
from deconvnet.data.splits import SPLITS, name_of_split, names_of_split, split_word
from deconvnet.errors import DataError
from deconvnet.files import is_file
from deconvnet.labels import CAMVID, IGNORED

LAYOUT = "CamVid (train/ with trainannot/, val/ with valannot/, ...)"
LAYOUT_32 = (
    "CamVid's 32 colours (701_StillsRaw_full/ with LabeledApproved_full/, or train/ with "
    "train_labels/, and label_colors.txt)"
)

_CODING = MaskCoding(len(CAMVID), ignored=(11, IGNORED))
_ANNOTATED = "annot"
_TABLE = "label_colors.txt"

_STILLS, _APPROVED = "701_StillsRaw_full", "LabeledApproved_full"
_HELD_OUT_FILM = "Seq05VD"


def is_camvid(folder: Path) -> bool:
    """Whether the folder has CamVid's layout as in SegNet's tutorial, or as CVAT writes it."""
    there = _parts(folder)
    return any(part in there for part in SPLITS) or bool(there and is_file(folder / _TABLE))


def open_camvid(folder: Path, split: str = "train") -> PairDataset:
    """A split of CamVid: train, val or test.

    The list SPLIT.txt ("picture mask" a line) decides where there is one, else the folder does.

    Raises:
        DataError: If the split is not there.
        LabelError: If label_colors.txt is wrong.
    """
    table = read_classes(folder) if is_file(folder / _TABLE) else None
    there = _parts(folder)
    called = split if table is None else name_of_split(split, there) or split
    found = _pairs(folder, called)
    unsplit = found is None and table is not None and not any(map(split_word, there))
    if unsplit:
        found = [pair for part in there for pair in _pairs(folder, part) or ()]
    if found is None or (unsplit and not found):
        splits = [name for name in SPLITS if (folder / name).is_dir()] or there
        raise DataError(
            f"{folder} has no split '{split}'; it has {', '.join(splits) or 'none'}."
        )
    if table is None:
        return PairDataset(CAMVID, split, tuple(found), _CODING)
    pairs = {pair.name: pair for pair in found if is_file(pair.mask)}
    unlabelled = tuple(pair.name for pair in found if pair.name not in pairs)
    if unsplit:
        chosen = names_of_split(folder, split, pairs)
        pairs = {name: pairs[name] for name in chosen if name in pairs}
        unlabelled = unlabelled if split == "train" else ()
    return PairDataset(table.classes, split, tuple(pairs.values()), table.coding(), unlabelled)


def _parts(folder: Path) -> list[str]:
    """The folders of pictures that have one of masks beside them."""
    masks = sorted(place.name for place in folder.glob(f"?*{_ANNOTATED}/"))
    names = [name.removesuffix(_ANNOTATED) for name in masks]
    return [name for name in names if (folder / name).is_dir()]


def _pairs(folder: Path, split: str) -> list[PairFiles] | None:
    """The pairs of a split that is a list or a folder; None if it is neither."""
    listing = folder / f"{split}.txt"
    if is_file(listing):
        return [_listed_pair(folder, listing, line) for line in listed_names(listing)]
    if not (folder / split).is_dir():
        return None
    masks = folder / f"{split}{_ANNOTATED}"
    return [
        PairFiles(f"{split}/{name}", image, masks / f"{name}.png")
        for name, image in files_below(folder / split, IMAGE_SUFFIXES).items()
    ]


def _listed_pair(folder: Path, listing: Path, line: str) -> PairFiles:
    """The pair of a line, which SegNet's lists write as absolute paths of another machine.

    CVAT's lines are `/default/a photo.png /defaultannot/a photo.png`, and have no mask where
    nobody labelled the picture.

    Raises:
        DataError: If the line is no pair.
    """
    split = listing.stem
    part = re.escape(split)
    ours = re.fullmatch(rf"/?({part}/.+?)( /?({part}{_ANNOTATED}/.+))?", line)
    words = line.rstrip(";").split()
    if ours and is_file(folder / _TABLE):
        image = ours[1]
        mask = ours[3] or f"{split}{_ANNOTATED}/{without_suffix(image.partition('/')[2])}.png"
    elif len(words) == 2:
        image, mask = (_below(split, word) for word in words)
    else:
        raise DataError(
            f"{listing} has the line '{line}'; write `picture mask`, a pair a line."
        )
    return PairFiles(without_suffix(image), folder / image, folder / mask)


def _below(split: str, path: str) -> str:
    """A path of another machine from the folder of the split on, else its last two parts."""
    parts = path.split("/")
    for folder in (split, f"{split}{_ANNOTATED}"):
        if folder in parts[:-1]:
            return "/".join(parts[parts.index(folder) :])
    return "/".join(parts[-2:])


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

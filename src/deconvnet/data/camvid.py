"""CamVid as in SegNet's tutorial: 11 classes, and 11 for void."""

from pathlib import Path

from deconvnet.data.image_files import IMAGE_SUFFIXES
from deconvnet.data.mask_files import MaskCoding
from deconvnet.data.pairs import (
    PairDataset,
    PairFiles,
    files_below,
    listed_names,
    without_suffix,
)
from deconvnet.errors import DataError
from deconvnet.labels import CAMVID, IGNORED

LAYOUT = "CamVid (train/ with trainannot/, val/ with valannot/, ...)"

_CODING = MaskCoding(len(CAMVID), ignored=(11, IGNORED))


def is_camvid(folder: Path) -> bool:
    """Whether the folder has CamVid's layout."""
    return any(
        (folder / split).is_dir() and (folder / f"{split}annot").is_dir()
        for split in ("train", "val", "test")
    )


def open_camvid(folder: Path, split: str = "train") -> PairDataset:
    """A split of CamVid: train, val or test.

    The list SPLIT.txt ("picture mask" a line) decides where there is one, else the folder does.

    Raises:
        DataError: If the split is not there.
    """
    listing = folder / f"{split}.txt"
    if listing.is_file():
        pairs = [_listed_pair(folder, listing, line) for line in listed_names(listing)]
    elif (folder / split).is_dir():
        masks = folder / f"{split}annot"
        pairs = [
            PairFiles(f"{split}/{name}", image, masks / f"{name}.png")
            for name, image in files_below(folder / split, IMAGE_SUFFIXES).items()
        ]
    else:
        there = [name for name in ("train", "val", "test") if (folder / name).is_dir()]
        raise DataError(
            f"{folder} has no split '{split}'; it has {', '.join(there) or 'none'}."
        )
    return PairDataset(CAMVID, split, tuple(pairs), _CODING)


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

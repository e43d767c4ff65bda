"""ISBI 2012's membrane challenge: slices of nerve tissue under the electron microscope.

30 grey slices of 512 x 512 pixels; in the masks 0 is membrane (class 0), 255 is cell (class 1).
"""

from pathlib import Path

from deconvnet.data.image_files import IMAGE_SUFFIXES, opened
from deconvnet.data.mask_files import MaskCoding, read_raw_mask, value_counts
from deconvnet.data.pairs import PairDataset, PairFiles, files_below
from deconvnet.data.splits import names_of_split
from deconvnet.errors import DataError, UserError
from deconvnet.labels import MEMBRANES

LAYOUT = "ISBI 2012 (images/ and labels/ with numbered slices of 512 x 512, masks of 0 and 255)"

SLICE_SIZE = (512, 512)
"""Width and height of a slice in pixels."""

VAL_EVERY = 5
"""Of the slices 0 to 29, 4, 9, ... are in val where no list says otherwise."""

_CODING = MaskCoding(2, values=(0, 255), ignored=())


def is_isbi(folder: Path) -> bool:
    """Whether the folder holds numbered grey slices of the right size with 0/255 masks."""
    images, labels = folder / "images", folder / "labels"
    if not (images.is_dir() and labels.is_dir()) or any(folder.glob("classes.*")):
        return False
    slices = files_below(images, IMAGE_SUFFIXES)
    masks = files_below(labels, IMAGE_SUFFIXES)
    if not slices or not all(name.isdecimal() for name in slices) or not masks:
        return False
    first = next(iter(slices))
    try:
        with opened(slices[first]) as picture:
            if picture.mode != "L" or picture.size != SLICE_SIZE:
                return False
        mask = masks.get(first, next(iter(masks.values())))
        counts = value_counts(mask, read_raw_mask(mask))
    except UserError:
        return False
    return set(counts.nonzero()[0].tolist()) == {0, 255}


def open_isbi(folder: Path, split: str = "train") -> PairDataset:
    """A split of the slices: by lists, or every fifth slice in val.

    Raises:
        DataError: If the layout or the split is missing.
    """
    images, labels = folder / "images", folder / "labels"
    if not images.is_dir() or not labels.is_dir():
        raise DataError(
            f"{folder} is not laid out as ISBI 2012: put the slices into images/ and their "
            "masks into labels/, with the same names."
        )
    slices = files_below(images, IMAGE_SUFFIXES)
    masks = files_below(labels, IMAGE_SUFFIXES)
    if split in ("train", "val") and not any(folder.glob("*.txt")):
        names = [name for name in slices if (int(name) % VAL_EVERY == 4) == (split == "val")]
        names.sort(key=int)
    else:
        names = names_of_split(folder, split, slices)
    pairs = tuple(
        PairFiles(
            name,
            slices.get(name, images / f"{name}.png"),
            masks.get(name, labels / f"{name}.png"),
        )
        for name in names
    )
    return PairDataset(MEMBRANES, split, pairs, _CODING)

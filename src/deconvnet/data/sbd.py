"""SBD, the Semantic Boundaries Dataset: 11,355 pictures of VOC 2011 in MATLAB files.

    img/NAME.jpg      pictures
    cls/NAME.mat      GTcls.Segmentation: classes, 0 background; there is no void border
    inst/NAME.mat     GTinst.Segmentation: numbers of the objects
    train.txt val.txt (train_noval.txt: train without the pictures of VOC 2012's val)

Source: Hariharan et al. 2011.
"""

from pathlib import Path

from deconvnet.data.mask_files import MaskCoding
from deconvnet.data.pairs import PairDataset, PairFiles, listed_names, without_suffix
from deconvnet.errors import DataError
from deconvnet.files import is_file
from deconvnet.labels import VOC

LAYOUT = "SBD (img/, cls/ and inst/ with .mat files, train.txt)"

_CODING = MaskCoding(len(VOC))


def is_sbd(folder: Path) -> bool:
    """Whether the folder, or its benchmark_RELEASE/dataset, has SBD's layout."""
    root = _root(folder)
    return (root / "img").is_dir() and next((root / "cls").glob("*.mat"), None) is not None


def open_sbd(folder: Path, split: str = "train") -> PairDataset:
    """A split of SBD: train, val, train_noval, or any list NAME.txt beside img/.

    Raises:
        DataError: If the split has no list.
    """
    root = _root(folder)
    listing = root / f"{split}.txt"
    if not is_file(listing):
        there = ", ".join(sorted(path.stem for path in root.glob("*.txt")))
        raise DataError(
            f"{root} has no split '{split}': there is no {listing}; its lists are "
            f"{there or 'none'}."
        )
    names = [without_suffix(line.split()[0]) for line in listed_names(listing)]
    numbered = all(is_file(root / "inst" / f"{name}.mat") for name in names)
    pairs = tuple(
        PairFiles(
            name,
            root / "img" / f"{name}.jpg",
            root / "cls" / f"{name}.mat",
            root / "inst" / f"{name}.mat" if numbered else None,
        )
        for name in names
    )
    return PairDataset(VOC, split, pairs, _CODING)


def _root(folder: Path) -> Path:
    candidates = (folder, folder / "dataset", folder / "benchmark_RELEASE" / "dataset")
    return next((path for path in candidates if (path / "cls").is_dir()), folder)

"""Data sets made of picture files, and mask files or outlines."""

import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from deconvnet.data.image_files import IMAGE_SUFFIXES, read_image
from deconvnet.data.mask_files import MaskCoding, read_instances, read_mask
from deconvnet.data.outlines import Outlines, draw_outlines
from deconvnet.data.sample import Sample
from deconvnet.errors import DataError
from deconvnet.files import is_file, walk_files
from deconvnet.labels import Classes
from deconvnet.shapes import InstanceMap, LabelMap

MASK_SUFFIXES = (".png", ".tif", ".tiff", ".bmp", ".gif", ".pgm", ".jpg", ".jpeg")
"""Files that are taken for masks, the best first: JPEG is found so that it can be refused."""


class PairFiles(NamedTuple):
    """Where one sample is."""

    name: str
    image: Path
    mask: Path
    """The mask, or the file with the outlines."""
    instances: Path | None = None
    page: int = 0
    """Which picture, and which mask, of files that hold several."""
    outlines: Outlines | None = None
    """The objects, where `mask` describes them instead of showing them."""


class Labels(NamedTuple):
    """What is known of each pixel of one picture."""

    label_map: LabelMap
    instance_map: InstanceMap | None


@dataclass(frozen=True)
class PairDataset:
    """Pictures with a mask file or outlines each, read when asked for."""

    classes: Classes
    split: str
    pairs: tuple[PairFiles, ...]
    coding: MaskCoding
    unlabelled: tuple[str, ...] = ()
    """Pictures that were left out because nobody has labelled them yet."""

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the pictures."""
        return tuple(pair.name for pair in self.pairs)

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Sample:
        """Read one picture and its masks.

        Raises:
            IndexError: If there is no such picture.
            ImageFileError: If a file cannot be read.
            LabelError: If the mask holds values that are no class.
            DataError: If the picture and its masks differ in size.
        """
        pair = self.pairs[index]
        image = read_image(pair.image, page=pair.page)
        height, width = image.shape[:2]
        return Sample(image, *self.read_labels(pair, (height, width)), pair.name)

    def read_labels(self, pair: PairFiles, size: tuple[int, int]) -> Labels:
        """The labels of one of the pairs, whose picture has the size (height, width).

        Raises:
            UserError: As __getitem__ does.
        """
        if pair.outlines is not None:
            declared = pair.outlines.size
            if declared is not None:
                check_sizes(pair.image, size, pair.mask, declared)
            return Labels(*draw_outlines(pair.outlines, size, str(pair.mask)))
        label_map = read_mask(pair.mask, self.coding, page=pair.page)
        check_sizes(pair.image, size, pair.mask, label_map.shape)
        instance_map = None
        if pair.instances is not None:
            instance_map = read_instances(
                pair.instances, page=pair.page, least=self.coding.least_instance
            )
            check_sizes(pair.image, size, pair.instances, instance_map.shape)
        return Labels(label_map, instance_map)


def check_sizes(
    image: Path, image_size: tuple[int, ...], mask: Path, mask_size: tuple[int, ...]
) -> None:
    """Refuse a mask that does not cover its picture pixel by pixel.

    Raises:
        DataError: If the sizes, (height, width), differ.
    """
    if image_size == mask_size:
        return
    hint = "give a mask of the picture's size"
    if image_size == mask_size[::-1]:
        hint += " (one of the two was turned, perhaps by the camera's EXIF rotation)"
    raise DataError(
        f"{mask} has {mask_size[1]} x {mask_size[0]} pixels and its picture {image} has "
        f"{image_size[1]} x {image_size[0]}; {hint}."
    )


def files_below(folder: Path, suffixes: tuple[str, ...]) -> dict[str, Path]:
    """Every file with one of the suffixes, by its path below the folder without suffix, sorted.

    Of files that differ only in their suffix the one whose suffix comes first is taken. Names
    are composed (Unicode's NFC): a Mac writes letters in parts, other systems do not.
    """
    found = [path for path in walk_files(folder, suffixes) if path.name[0] != "."]
    found.sort(key=lambda path: suffixes.index(path.suffix.lower()), reverse=True)
    by_name = {
        composed(path.relative_to(folder).with_suffix("").as_posix()): path for path in found
    }
    return dict(sorted(by_name.items()))


def composed(name: str) -> str:
    r"""A name with each letter as one character.

    >>> len("\u1100\u1161"), len(composed("\u1100\u1161"))
    (2, 1)
    """
    return unicodedata.normalize("NFC", name)


def refuse_missing(dataset: PairDataset) -> None:
    """Refuse a data set with files that are not there.

    Raises:
        DataError: If there is no picture, or a picture or its mask is missing.
    """
    if not dataset.pairs and dataset.unlabelled:
        raise DataError(
            f"None of the {len(dataset.unlabelled)} pictures of the split {dataset.split} is "
            "labelled; label some, and export again."
        )
    if not dataset.pairs:
        raise DataError(
            f"The split {dataset.split} has no picture; add some, or choose another."
        )
    for kind in ("image", "mask"):
        missing = [pair for pair in dataset.pairs if not is_file(getattr(pair, kind))]
        if missing:
            first = missing[0]
            what = "picture" if kind == "image" else "mask"
            others = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            raise DataError(
                f"The {what} of {first.name} is missing{others}: there is no "
                f"{getattr(first, kind)}; add it, or take the name out of the split."
            )


def listed_names(path: Path) -> list[str]:
    """The lines of a list of pictures, without blank ones.

    Raises:
        DataError: If it cannot be read as text.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as text: {error}; save it as UTF-8.") from None
    return [line.strip() for line in lines if line.strip()]


def without_suffix(name: str) -> str:
    """A picture's name without the suffix of a picture file.

    >>> without_suffix("2007_000033.jpg"), without_suffix("v1.2 left")
    ('2007_000033', 'v1.2 left')
    """
    stem, dot, suffix = name.rpartition(".")
    return stem if dot and f".{suffix.lower()}" in IMAGE_SUFFIXES else name

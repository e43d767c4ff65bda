"""Masks from files: palette, index, RGB and 0/255 masks told apart.

A mask file holds either numbers (grey or palette PNG, MATLAB file of SBD) or colours (RGB). A
MaskCoding says which number or colour stands for which class; what it does not name is an
error, not a class.
"""

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from deconvnet.data.image_files import opened
from deconvnet.data.matlab_files import read_structure_field
from deconvnet.errors import ImageFileError, LabelError
from deconvnet.labels import IGNORED, VOC, Color
from deconvnet.shapes import InstanceMap, Integer, LabelMap, UInt8

VOID_COLOR: Color = (224, 224, 192)
"""VOC's colour of 255, ignored wherever it occurs in an RGB mask."""

_SHOWN = 12
_BASE_256 = np.array([1, 256, 65536], np.int32)


@dataclass(frozen=True)
class MaskCoding:
    """What the values in mask files mean."""

    num_classes: int
    values: tuple[int, ...] | None = None
    """The number that stands for each class; none: the class index itself."""
    ignored: tuple[int, ...] = (IGNORED,)
    """Numbers that count nowhere, unless they are among `values`."""
    colors: tuple[Color, ...] | None = None
    """The colour of each class, for RGB masks; none: such masks are refused."""
    ignored_colors: tuple[Color, ...] = (VOID_COLOR,)
    """Colours that count nowhere."""
    least_instance: int = 1
    """In instance maps, numbers below are no single object; Cityscapes begins at 1000."""

    def label_of_value(self) -> Integer[np.ndarray, "256"]:
        """The label of every number, -1 where it stands for nothing."""
        table = np.full(256, -1, np.int16)
        table[list(self.ignored)] = IGNORED
        values = range(self.num_classes) if self.values is None else self.values
        table[list(values)] = np.arange(self.num_classes)
        return table

    def described(self) -> str:
        """The numbers and their meaning, as the part of a sentence."""
        if self.values is None:
            ignored = f", and {_listed(self.ignored)} for ignored" if self.ignored else ""
            return f"classes 0 to {self.num_classes - 1}{ignored}"
        return f"the mask values {_listed(self.values)} for classes 0 to {self.num_classes - 1}"


class RawMask(NamedTuple):
    """A mask as it is in its file."""

    values: Integer[np.ndarray, "..."]
    """(H, W) numbers, or (H, W, 3) colours."""
    palette: UInt8[np.ndarray, "n 3"] | None
    """The colours of the numbers, of a palette file."""
    compressed: bool
    """Whether the file is a JPEG, whose compression invents values."""


def read_mask(path: str | Path, coding: MaskCoding, *, page: int = 0) -> LabelMap:
    """Read a label map: classes 0 to K - 1, and 255 where ignored.

    An RGB mask with three equal channels is an index mask. A palette mask is read by its
    numbers, unless the coding has colours and all the colours used are among them.

    Raises:
        ImageFileError: If the file cannot be read.
        LabelError: If it holds values that stand for nothing.
    """
    return labels_of_raw(path, read_raw_mask(path, page=page), coding)


def labels_of_raw(path: str | Path, raw: RawMask, coding: MaskCoding) -> LabelMap:
    """The label map of a mask that was read from `path`, as read_mask gives it.

    Raises:
        LabelError: If it holds values that stand for nothing.
    """
    if raw.values.ndim == 3:
        return labels_of_colors(path, raw, coding)
    counts = value_counts(path, raw)
    if coding.colors is not None and raw.palette is not None:
        by_color = _palette_labels(raw.palette, counts > 0, coding)
        if by_color is not None:
            return by_color[raw.values]
    table = coding.label_of_value()
    if (table[counts > 0] < 0).any():
        raise LabelError(_wrong_values(path, counts, coding, raw))
    return table.astype(np.uint8)[raw.values]


def read_instances(path: str | Path, *, page: int = 0, least: int = 1) -> InstanceMap:
    """Read an instance map: 0 where there is no object, else the object's number.

    In an 8-bit file 255 is VOC's void border and becomes 0, as do numbers below `least`. In an
    RGB file the number is red + 256 green + 65536 blue, as in COCO's panoptic files, and VOC's
    colour of the void border becomes 0.

    Raises:
        ImageFileError: If the file cannot be read.
    """
    values = read_raw_mask(path, page=page).values
    if values.ndim == 3:
        numbers = values.astype(np.int32) @ _BASE_256
        return np.where(numbers == np.array(VOID_COLOR, np.int32) @ _BASE_256, 0, numbers)
    if values.dtype == np.uint8:
        values = np.where(values == IGNORED, 0, values)
    return np.where(values < least, 0, values).astype(np.int32)


def read_raw_mask(path: str | Path, *, page: int = 0) -> RawMask:
    """Read the numbers or colours of a mask file, and its palette.

    Raises:
        ImageFileError: If the file cannot be read.
    """
    if Path(path).suffix.lower() == ".mat":
        return RawMask(_matlab_values(Path(path)), None, compressed=False)
    with opened(path, page=page) as picture:
        compressed = picture.format == "JPEG"
        if picture.mode == "P":
            palette = np.array(picture.getpalette() or [], np.uint8).reshape(-1, 3)
            return RawMask(np.array(picture), palette, compressed)
        if picture.mode == "1":
            return RawMask(np.array(picture).astype(np.uint8) * 255, None, compressed)
        if picture.mode == "L" or picture.mode.startswith("I"):
            values = np.array(picture)
            return RawMask(
                values.astype(np.int32) if values.itemsize > 1 else values, None, compressed
            )
        if picture.mode == "LA":
            return RawMask(np.array(picture.getchannel("L")), None, compressed)
        colors = np.array(picture.convert("RGB"))
    if (colors == colors[:, :, :1]).all():
        return RawMask(np.ascontiguousarray(colors[:, :, 0]), None, compressed)
    return RawMask(colors, None, compressed)


def _matlab_values(path: Path) -> Integer[np.ndarray, "h w"]:
    """The map in a MATLAB file of SBD: Segmentation of GTcls (classes) or GTinst (objects).

    Raises:
        ImageFileError: If there is no such file, or it holds no such map.
    """
    try:
        values = read_structure_field(path, ("GTcls", "GTinst"), "Segmentation")
    except FileNotFoundError:
        raise ImageFileError(f"There is no mask {path}; check the path.") from None
    except (OSError, ValueError, struct.error) as error:
        raise ImageFileError(
            f"{path} is no mask of SBD ({type(error).__name__}: GTcls.Segmentation or "
            "GTinst.Segmentation cannot be read); replace the file."
        ) from error
    if values.ndim != 2 or values.dtype.kind not in "ui":
        raise ImageFileError(
            f"{path} holds a {values.ndim}-dimensional map of {values.dtype}; a mask of SBD "
            "has whole numbers in two dimensions. Replace the file."
        )
    return np.ascontiguousarray(values)


def value_counts(path: str | Path, raw: RawMask) -> Integer[np.ndarray, "256"]:
    """How many pixels of an index mask have each number, 0 to 255.

    Raises:
        LabelError: If a number is larger, as in a 16-bit file of instances.
    """
    largest = int(raw.values.max(initial=0))
    if largest > 255 or int(raw.values.min(initial=0)) < 0:
        raise LabelError(
            f"{path} holds values up to {largest}; a label map holds classes 0 to 254, and 255 "
            "for ignored. If these are numbers of objects, put it into a folder instances/."
        )
    return np.bincount(raw.values.ravel(), minlength=256)


def _palette_labels(
    palette: UInt8[np.ndarray, "n 3"], used: np.ndarray, coding: MaskCoding
) -> UInt8[np.ndarray, "256"] | None:
    """The label of every number by its colour; None if a used colour is no class's."""
    known = _label_of_color(coding)
    table = np.full(256, IGNORED, np.uint8)
    for number in np.flatnonzero(used):
        color = tuple(palette[number].tolist()) if number < len(palette) else ()
        if color not in known and number not in coding.ignored:
            return None
        table[number] = known.get(color, IGNORED)
    return table


def _label_of_color(coding: MaskCoding) -> dict[tuple[int, ...], int]:
    table: dict[tuple[int, ...], int] = dict.fromkeys(coding.ignored_colors, IGNORED)
    return table | {color: label for label, color in enumerate(coding.colors or ())}


def labels_of_colors(path: str | Path, raw: RawMask, coding: MaskCoding) -> LabelMap:
    """The labels of an RGB mask.

    Raises:
        LabelError: If a colour stands for nothing.
    """
    packed = raw.values.astype(np.int32) @ np.array([65536, 256, 1], np.int32)
    if coding.colors is None:
        raise LabelError(
            f"{path} is an RGB mask with the colours {_colors_in(packed)}, and nothing says "
            "which class each stands for; write a file classes.txt with a line "
            "`name red green blue` for each class."
        )
    known = {
        int.from_bytes(bytes(color), "big"): label
        for color, label in _label_of_color(coding).items()
    }
    codes = np.array(sorted(known), np.int32)
    labels = np.array([known[code] for code in codes.tolist()], np.uint8)
    places = np.searchsorted(codes, packed).clip(max=len(codes) - 1)
    wrong = codes[places] != packed
    if wrong.any():
        raise LabelError(
            f"{path} holds the colours {_colors_in(packed[wrong])}, which are no class's; give "
            f"each class its colour in classes.txt.{_compression_note(raw)}"
        )
    return labels[places]


def _colors_in(packed: np.ndarray) -> str:
    codes = np.unique(packed)
    shown = [f"({code >> 16}, {code >> 8 & 255}, {code & 255})" for code in codes[:6].tolist()]
    return ", ".join(shown) + (f" and {len(codes) - 6} more" if len(codes) > 6 else "")


def _wrong_values(
    path: str | Path, counts: np.ndarray, coding: MaskCoding, raw: RawMask
) -> str:
    found = np.flatnonzero(counts).tolist()
    hint = ""
    if found == [0, 255] or found in ([0], [255]):
        hint = " Masks saved as 0 and 255 become classes 0 and 1 with --mask_values 0,255."
    elif set(found) <= _GREYS_OF_VOC and set(found) - {0, 128, IGNORED}:
        hint = (
            " They look like VOC's colours turned grey, as when a palette mask is converted; "
            "save it as palette PNG, or as RGB with classes.txt."
        )
    return (
        f"{path} holds the values {_listed(found)}; this data set has {coding.described()}."
        f"{hint}{_compression_note(raw)}"
    )


_GREYS_OF_VOC = {
    round((red * 299 + green * 587 + blue * 114) / 1000) for red, green, blue in VOC.colors
} | {IGNORED, 220}
"""What Pillow and OpenCV make of VOC's palette when a mask is converted to grey."""


def _compression_note(raw: RawMask) -> str:
    return (
        " It is a JPEG, whose compression changes labels: save masks as PNG." * raw.compressed
    )


def _listed(values: "tuple[int, ...] | list[int]") -> str:
    if len(values) > _SHOWN:
        return f"{', '.join(map(str, values[:_SHOWN]))}, ... {values[-1]}"
    return ", ".join(map(str, values))

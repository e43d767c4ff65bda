"""Data sets: labelled pictures in folders of several layouts, or drawn by the program."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from deconvnet.data import (
    camvid,
    cityscapes,
    coco,
    folder,
    isbi,
    label_studio,
    labelme,
    sbd,
    stack,
    voc,
)
from deconvnet.data.folder import MASK_FOLDERS
from deconvnet.data.joined import JOINS, JoinedDataset
from deconvnet.data.other_exports import advice_on
from deconvnet.data.pairs import MASK_SUFFIXES, PairDataset, refuse_missing
from deconvnet.data.sample import Dataset, Sample
from deconvnet.data.scenes import is_scenes, open_scenes
from deconvnet.errors import DataError, did_you_mean
from deconvnet.files import is_dir, is_file

__all__ = ["READERS", "Dataset", "Sample", "open_dataset"]


class Reader(NamedTuple):
    """How one layout of folders is told and read."""

    recognises: Callable[[Path], bool]
    opens: Callable[..., PairDataset]
    """(folder, split) -> data set; that of plain folders also takes mask_values."""
    layout: str
    """The layout in words, for messages."""


READERS = {
    "camvid": Reader(camvid.is_camvid, camvid.open_camvid, camvid.LAYOUT),
    "camvid32": Reader(camvid.is_camvid32, camvid.open_camvid32, camvid.LAYOUT_32),
    "cityscapes": Reader(
        cityscapes.is_cityscapes, cityscapes.open_cityscapes, cityscapes.LAYOUT
    ),
    "voc": Reader(voc.is_voc, voc.open_voc, voc.LAYOUT),
    "sbd": Reader(sbd.is_sbd, sbd.open_sbd, sbd.LAYOUT),
    "coco": Reader(coco.is_coco, coco.open_coco, coco.LAYOUT),
    "labelme": Reader(labelme.is_labelme, labelme.open_labelme, labelme.LAYOUT),
    "label-studio": Reader(
        label_studio.is_label_studio, label_studio.open_label_studio, label_studio.LAYOUT
    ),
    "stack": Reader(stack.is_stack, stack.open_stack, stack.LAYOUT),
    "isbi": Reader(isbi.is_isbi, isbi.open_isbi, isbi.LAYOUT),
    "folder": Reader(folder.is_folder, folder.open_folder, folder.LAYOUT),
}
"""Every layout by its name on the command line, in the order in which they are tried.

To add one, add a line. Drawn pictures (`scenes`) come from no folder and are not among them.
"""

_TRIED = 20
_ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".7z", ".rar")


def open_dataset(
    path: str | Path,
    split: str = "train",
    *,
    format: str | None = None,  # noqa: A002 - the command line's word
    mask_values: Sequence[int] | None = None,
    check_files: bool = True,
    **settings: Any,
) -> Dataset:
    """Open a data set.

    >>> drawn = open_dataset("scenes:count=8,size=64", "val")
    >>> len(drawn), drawn[0].image.shape, drawn.classes.names[:3]
    (8, (64, 64, 3), ('background', 'ball', 'cookie'))

    Args:
        path: A folder, or `scenes` for drawn pictures, with settings as in
            `scenes:count=500,size=256`; or several of the same classes, joined by a plus
            between spaces: `VOC2012 + mine`.
        split: train, val, test, or what else the layout has.
        format: A name in READERS, or scenes; none: the layout is recognised.
        mask_values: For plain folders: the number in the masks that stands for each class.
        check_files: Refuse a data set with missing files at once; without, reading them fails.
        settings: Of deconvnet.data.scenes.Scenes, for drawn pictures.

    Raises:
        DataError: If there is no such folder or split, the layout is unknown, a file is
            missing, or a setting does not exist.
        LabelError: If it is not clear what the labels are.
    """
    if JOINS in str(path):
        parts = (
            open_dataset(
                part,
                split,
                format=format,
                mask_values=mask_values,
                check_files=check_files,
                **settings,
            )
            for part in str(path).split(JOINS)
        )
        return JoinedDataset(tuple(parts))
    if format == "scenes" or (format is None and is_scenes(path)):
        return open_scenes(path, split, **settings)
    if settings:
        raise DataError(f"{', '.join(settings)}: only drawn pictures (`scenes`) have settings.")
    if mask_values is None:
        dataset = READERS[recognised(path, format)].opens(Path(path), split)
    elif format in (None, "folder"):
        recognised(path, "folder")  # says so if there is no such folder
        dataset = folder.open_folder(Path(path), split, mask_values=tuple(mask_values))
    else:
        raise DataError(f"mask_values are for plain folders, and the format is '{format}'.")
    if check_files:
        refuse_missing(dataset)
    return dataset


def recognised(path: str | Path, format: str | None = None) -> str:  # noqa: A002 - as above
    """The name of a folder's layout: as given, or as the folder looks.

    Raises:
        DataError: If there is no such folder, no layout of that name, or the folder has none
            that is known.
    """
    place = Path(path)
    if not is_dir(place):
        archive = place.suffix.lower() in _ARCHIVES and is_file(place)
        raise DataError(
            f"{path} is an archive; unpack it, and give the folder."
            if archive
            else f"There is no data set {path}; give a folder, or `scenes` for drawn pictures."
        )
    if format in READERS:
        return format
    if format is not None:
        raise DataError(
            f"There is no format '{format}'; choose one of {', '.join([*READERS, 'scenes'])}."
            f"{did_you_mean(format, [*READERS, 'scenes'])}"
        )
    found_as = next((name for name in READERS if READERS[name].recognises(place)), None)
    advice = advice_on(place) if found_as in (None, "folder") else None
    if found_as is not None and (advice is None or _has_masks(place)):
        return found_as
    if advice is not None:
        raise DataError(f"{place} holds {advice}.")
    found = sorted(entry.name + "/" * entry.is_dir() for entry in place.iterdir())
    shown = ", ".join(found[:8]) + (f" and {len(found) - 8} more" if len(found) > 8 else "")
    for inner in sorted(place.glob("*/"))[:_TRIED]:
        if any(reader.recognises(inner) for reader in READERS.values()):
            raise DataError(
                f"{place} holds {shown}, which is no layout that is known, and {inner} is one; "
                "give that folder."
            )
    known = "; ".join(reader.layout for reader in READERS.values())
    raise DataError(
        f"{place} holds {shown or 'nothing'}, which is no layout that is known. "
        f"Known are: {known}."
    )


def _has_masks(folder: Path) -> bool:
    """Whether a plain folder has a file that can be a mask."""
    places = (folder / name for name in MASK_FOLDERS)
    return any(
        path.suffix.lower() in MASK_SUFFIXES
        for place in places
        if place.is_dir()
        for path in place.rglob("*")
    )

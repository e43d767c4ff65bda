"""Exports of labelling tools that cannot be read, and which export to choose instead."""

from collections.abc import Callable, Iterator
from itertools import chain, islice
from pathlib import Path

_HEAD = 4096
_TRIED = 3

_OF_CVAT = (
    "export 'Segmentation mask 1.1' or 'COCO 1.0' from CVAT, with 'Save images' switched on"
)
_OF_LABEL_STUDIO = (
    "export 'COCO with Images' from Label Studio where polygons were drawn, and 'Brush labels "
    "to PNG' with 'JSON-MIN' where brushes were used"
)


WITHOUT_PICTURES = (
    "masks of CVAT without their pictures; export again with 'Save images' switched on"
)


def advice_on(folder: Path) -> str | None:
    """What the folder is and what to export instead, as the end of a sentence; else None.

    >>> advice_on(Path("/nowhere")) is None
    True
    """
    return next((advice for is_it, advice in _ADVICE if is_it(folder)), None)


def _heads(folder: Path, *patterns: str) -> Iterator[bytes]:
    """How a few files begin."""
    for path in chain.from_iterable(islice(folder.glob(p), _TRIED) for p in patterns):
        try:
            with path.open("rb") as file:
                yield file.read(_HEAD)
        except OSError:
            continue


def _is_cvat_xml(folder: Path) -> bool:
    return any(b"<annotations>" in head for head in _heads(folder, "annotations.xml"))


def _is_labelme_xml(folder: Path) -> bool:
    heads = _heads(folder, "*.xml", "*/*.xml")
    return any(b"<annotation>" in head and b"<sourceAnnotation>" in head for head in heads)


def _lacks_pictures(folder: Path) -> bool:
    """Whether these are CVAT's Cityscapes or CamVid, of which the masks alone are there."""
    listed = any((folder / name).is_file() for name in ("label_colors.txt", "label_color.txt"))
    return listed and ((folder / "gtFine").is_dir() or any(folder.glob("?*annot/")))


def _is_boxes_xml(folder: Path) -> bool:
    heads = _heads(folder, "Annotations/*.xml", "Annotations/*/*.xml", "*.xml")
    return any(b"<annotation>" in head for head in heads)


def _is_yolo(folder: Path) -> bool:
    if any((folder / name).is_file() for name in ("data.yaml", "obj.names", "notes.json")):
        return True
    labels = folder / "labels"
    found = list(islice(labels.rglob("*.*"), 50)) if labels.is_dir() else []
    return bool(found) and all(path.suffix == ".txt" or path.is_dir() for path in found)


def _is_brush_numpy(folder: Path) -> bool:
    return any(folder.glob("task-*-annotation-*.npy"))


def _is_label_studio_json(folder: Path) -> bool:
    words = (b'"annotations"', b'"annotation_id"', b'"completed_by"', b'"annotator"')
    return any(
        head.lstrip(b"\xef\xbb\xbf \r\n\t")[:1] == b"[" and any(word in head for word in words)
        for head in _heads(folder, "*.json")
    )


_ADVICE: tuple[tuple[Callable[[Path], bool], str], ...] = (
    (
        _is_cvat_xml,
        f"CVAT's own XML ('CVAT for images' or 'for video'), which is not read; {_OF_CVAT}",
    ),
    (
        _is_labelme_xml,
        f"LabelMe's XML (CVAT's 'LabelMe 3.0'), which is not read; {_OF_CVAT}",
    ),
    (_lacks_pictures, WITHOUT_PICTURES),
    (
        _is_boxes_xml,
        "XML files as PASCAL VOC's, which hold boxes and no outlines of objects; "
        f"{_OF_CVAT}, or {_OF_LABEL_STUDIO}",
    ),
    (
        _is_brush_numpy,
        "Label Studio's 'Brush labels to NumPy', which is not read; export 'Brush labels to "
        "PNG' and 'JSON-MIN'",
    ),
    (
        _is_label_studio_json,
        f"Label Studio's JSON alone, which is not read by itself; {_OF_LABEL_STUDIO}",
    ),
    (
        _is_yolo,
        "YOLO's text files, which are not read; export COCO from the same tool, with the "
        "pictures",
    ),
)

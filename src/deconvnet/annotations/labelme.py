"""Labelme: a JSON for each picture, with polygons painted in their order."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from deconvnet.annotations.contours import (
    Area,
    areas,
    rings,
    signed_area,
    simplified,
    through_centres,
)
from deconvnet.annotations.pictures import Labelled, copy_picture
from deconvnet.files import write_text
from deconvnet.labels import Classes
from deconvnet.shapes import LabelMap

VERSION = "5.5.0"
"""Of Labelme, whose files these are like."""


def write_labelme(
    pictures: Iterable[Labelled], classes: Classes, out: Path, tolerance: float = 0.0
) -> list[Path]:
    """Write NAME.json beside a copy of each picture, as Labelme does, and labels.txt.

    Labelme knows no holes: what lies in one is painted over it by a later shape, background
    too. Rendered in their order by Labelme's own converter the shapes give the label map.
    """
    names = [name for index, name in enumerate(classes.names) if index != classes.background]
    write_text(out / "labels.txt", "\n".join(["__ignore__", "_background_", *names]) + "\n")
    written = []
    for picture in pictures:
        path = out / f"{picture.name}.json"
        document = labelme_document(picture.read(), classes, tolerance)
        document["imagePath"] = Path(picture.file_name).name
        copy_picture(picture, out)
        if picture.doubt is not None:
            document["doubt"] = round(picture.doubt, 6)
        write_text(path, json.dumps(document, indent=1) + "\n")
        written.append(path)
    return written


def labelme_document(
    label_map: LabelMap, classes: Classes, tolerance: float = 0.0
) -> dict[str, Any]:
    """The content of such a JSON, but for the path of the picture."""
    height, width = label_map.shape
    outlines = []
    for area in areas(label_map):
        if area.label == classes.background and _at_the_rim(area, height, width):
            continue
        outline = rings(area)[0]
        outlines.append((signed_area(outline), area.label, outline))
    outlines.sort(key=lambda item: -item[0])  # what lies in a hole comes after what has it
    shapes = []
    for _, label, outline in outlines:
        points = simplified(through_centres(outline), tolerance).tolist()
        points += points[:1] * (3 - len(points))  # Labelme wants three, of a single pixel too
        shapes.append(
            {
                "label": classes.names[label],
                "points": points,
                "group_id": None,
                "description": "",
                "shape_type": "polygon",
                "flags": {},
            }
        )
    return {
        "version": VERSION,
        "flags": {},
        "shapes": shapes,
        "imagePath": "",
        "imageData": None,
        "imageHeight": height,
        "imageWidth": width,
    }


def _at_the_rim(area: Area, height: int, width: int) -> bool:
    rows, columns = area.mask.shape
    return (
        area.left == 0
        or area.top == 0
        or area.left + columns == width
        or area.top + rows == height
    )

"""COCO: one JSON for all pictures, with polygons, and run lengths where an area has holes."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from deconvnet.annotations.contours import Area, areas, rings, signed_area, simplified
from deconvnet.annotations.pictures import Labelled, copy_picture
from deconvnet.files import written_whole
from deconvnet.labels import Classes


def write_coco(
    pictures: Iterable[Labelled], classes: Classes, out: Path, tolerance: float = 0.0
) -> list[Path]:
    """Write annotations/instances_default.json, and images/ with copies of the pictures.

    The pictures keep their order. An area without holes is a polygon along the edges of its
    pixels, one with holes has run lengths. Categories are the classes but for the background,
    numbered from 1.
    """
    path = out / "annotations" / "instances_default.json"
    images: list[dict[str, Any]] = []
    with written_whole(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write('{"annotations": [')
        count = 0
        for number, picture in enumerate(pictures, start=1):
            label_map = picture.read()
            height, width = label_map.shape
            image = {
                "id": number,
                "file_name": picture.file_name,
                "height": height,
                "width": width,
            }
            copy_picture(picture, out / "images")
            images.append(
                image if picture.doubt is None else {**image, "doubt": round(picture.doubt, 6)}
            )
            for area in areas(label_map, without=classes.background):
                count += 1
                annotation = {
                    "id": count,
                    "image_id": number,
                    "category_id": category(area.label, classes),
                    **annotation_of(area, (height, width), tolerance),
                }
                file.write((",\n" if count > 1 else "\n") + json.dumps(annotation))
        rest = {"images": images, "categories": categories(classes)}
        file.write("\n], " + json.dumps(rest)[1:] + "\n")
    return [path]


def annotation_of(area: Area, size: tuple[int, int], tolerance: float) -> dict[str, Any]:
    """What COCO says about one area of a picture of (height, width) pixels."""
    outline, *holes = rings(area)
    rows, columns = area.mask.shape
    segmentation: Any = run_lengths(area, size)
    if not holes:
        ring = simplified(outline, tolerance)
        if tolerance > 0 or abs(signed_area(ring)) == area.pixels:
            segmentation = [ring.ravel().tolist()]
    return {
        "segmentation": segmentation,
        "bbox": [area.left, area.top, columns, rows],
        "area": area.pixels,
        "iscrowd": 0,
    }


def run_lengths(area: Area, size: tuple[int, int]) -> dict[str, Any]:
    """COCO's uncompressed run lengths: column by column, beginning with what is outside.

    >>> run_lengths(Area(1, 1, 0, np.ones((2, 1), bool)), (2, 3))["counts"]
    [2, 2, 2]
    """
    height, width = size
    rows, columns = area.mask.shape
    band = np.zeros((height, columns), bool)
    band[area.top : area.top + rows] = area.mask
    flat = band.T.ravel()
    changes = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff([0, *changes, flat.size]).tolist()
    counts = ([0] if flat[0] else []) + counts
    counts[0] += area.left * height
    after = (width - area.left - columns) * height
    if len(counts) % 2:  # the last run is outside already
        counts[-1] += after
    elif after:
        counts.append(after)
    return {"counts": counts, "size": [height, width]}


def category(label: int, classes: Classes) -> int:
    """The number of a class: from 1, so that VOC's aeroplane is 1 as everywhere."""
    return label if classes.background == 0 else label + 1


def categories(classes: Classes) -> list[dict[str, Any]]:
    """The list of COCO's categories."""
    return [
        {"id": category(index, classes), "name": name, "supercategory": ""}
        for index, name in enumerate(classes.names)
        if index != classes.background
    ]

"""CVAT: one XML for all pictures ("CVAT for images 1.1"), with masks as run lengths."""

from collections.abc import Iterable
from pathlib import Path
from xml.sax.saxutils import quoteattr

import numpy as np

from deconvnet.annotations.contours import Area, areas
from deconvnet.annotations.pictures import Labelled
from deconvnet.files import written_whole
from deconvnet.labels import Classes


def write_cvat(
    pictures: Iterable[Labelled], classes: Classes, out: Path, tolerance: float = 0.0
) -> list[Path]:
    """Write annotations.xml; the pictures keep their order in it.

    Shapes are masks, which CVAT edits by its brush; they need no simplifying, so the tolerance
    does nothing here.
    """
    del tolerance
    path = out / "annotations.xml"
    with written_whole(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write('<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n')
        file.write("  <version>1.1</version>\n")
        for number, picture in enumerate(pictures):
            label_map = picture.read()
            height, width = label_map.shape
            name = quoteattr(picture.file_name)
            file.write(
                f'  <image id="{number}" name={name} width="{width}" height="{height}">\n'
            )
            for area in areas(label_map, without=classes.background):
                file.write(_mask_element(area, classes.names[area.label]))
            file.write("  </image>\n")
        file.write("</annotations>\n")
    return [path]


def _mask_element(area: Area, name: str) -> str:
    rows, columns = area.mask.shape
    lengths = ", ".join(map(str, run_lengths(area)))
    return (
        f'    <mask label={quoteattr(name)} source="auto" occluded="0" rle="{lengths}" '
        f'left="{area.left}" top="{area.top}" width="{columns}" height="{rows}" z_order="0">'
        "</mask>\n"
    )


def run_lengths(area: Area) -> list[int]:
    """Runs in the area's own box, row by row, beginning with what is outside.

    >>> run_lengths(Area(1, 5, 5, np.array([[False, True], [True, True]])))
    [1, 3]
    """
    flat = area.mask.ravel()
    changes = np.flatnonzero(np.diff(flat)) + 1
    lengths: list[int] = np.diff([0, *changes, flat.size]).tolist()
    return [0, *lengths] if flat[0] else lengths

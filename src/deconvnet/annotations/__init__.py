"""Label maps as the files of labelling tools, so that people correct what a network said.

Every format holds the label map to the pixel, unless its polygons are simplified. Each
connected area of a class becomes one shape. The background class, if there is one, is what no
shape covers.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from deconvnet.annotations.coco import write_coco
from deconvnet.annotations.cvat import write_cvat
from deconvnet.annotations.geojson import write_geojson
from deconvnet.annotations.labelme import write_labelme
from deconvnet.annotations.pictures import Labelled
from deconvnet.labels import Classes

__all__ = ["WRITERS", "Labelled"]

Writer = Callable[[Iterable[Labelled], Classes, Path, float], list[Path]]
"""(pictures, classes, folder, tolerance of polygons in pixels) -> files of annotations."""

WRITERS: Mapping[str, Writer] = {
    "coco": write_coco,
    "labelme": write_labelme,
    "cvat": write_cvat,
    "geojson": write_geojson,
}
"""Every format by its name on the command line. To add one, add a line."""

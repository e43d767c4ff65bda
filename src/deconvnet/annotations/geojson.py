"""GeoJSON: a file for each picture, in the map coordinates of a GeoTIFF or else in pixels."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import PIL.Image

from deconvnet.annotations.contours import Area, Ring, areas, rings, simplified
from deconvnet.annotations.pictures import Labelled
from deconvnet.files import written_whole
from deconvnet.labels import Classes

_PIXEL_SCALE, _TIE_POINTS, _GEO_KEYS = 33550, 33922, 34735
_GEOGRAPHIC_TYPE, _PROJECTED_TYPE = 2048, 3072
_USER_DEFINED = 32767


class Place(NamedTuple):
    """Where a picture lies on the map: x = x0 + column * dx, y = y0 + row * dy."""

    x0: float = 0.0
    y0: float = 0.0
    dx: float = 1.0
    dy: float = 1.0
    epsg: int | None = None
    """Number of the coordinate system; none for pixels, y downwards."""

    def of(self, ring: Ring) -> list[list[float]]:
        """The ring as GeoJSON has it: closed, in coordinates of the map."""
        closed = np.concatenate([ring, ring[:1]])
        points: list[list[float]] = (closed * [self.dx, self.dy] + [self.x0, self.y0]).tolist()
        return points


def write_geojson(
    pictures: Iterable[Labelled], classes: Classes, out: Path, tolerance: float = 0.0
) -> list[Path]:
    """Write NAME.geojson for each picture: a polygon with its holes for each area."""
    written = []
    for picture in pictures:
        path = out / f"{picture.name}.geojson"
        place = place_of(picture.source)
        with written_whole(path) as temporary, temporary.open("w", encoding="utf-8") as file:
            file.write('{"type": "FeatureCollection", ')
            if place.epsg is not None:
                name = f"urn:ogc:def:crs:EPSG::{place.epsg}"
                file.write(f'"crs": {{"type": "name", "properties": {{"name": "{name}"}}}}, ')
            file.write('"features": [')
            for number, area in enumerate(areas(picture.read(), without=classes.background)):
                feature = feature_of(area, classes, place, tolerance)
                file.write((",\n" if number else "\n") + json.dumps(feature))
            file.write("\n]}\n")
        written.append(path)
    return written


def feature_of(area: Area, classes: Classes, place: Place, tolerance: float) -> dict[str, Any]:
    """One area as a feature; its size in pixels is among the properties."""
    turned = -1 if place.dx * place.dy < 0 else 1  # outlines go anticlockwise on the map
    lines = [simplified(ring, tolerance)[::turned] for ring in rings(area)]
    return {
        "type": "Feature",
        "properties": {
            "class": classes.names[area.label],
            "index": area.label,
            "pixels": area.pixels,
        },
        "geometry": {"type": "Polygon", "coordinates": [place.of(line) for line in lines]},
    }


def place_of(source: Path) -> Place:
    """Where a GeoTIFF says it lies; pixels for any other picture, and for a turned raster."""
    if source.suffix.lower() not in {".tif", ".tiff"}:
        return Place()
    try:
        with PIL.Image.open(source) as picture:
            tags = dict(getattr(picture, "tag_v2", {}))
    except (OSError, PIL.Image.DecompressionBombError):
        return Place()
    scale, tie = tags.get(_PIXEL_SCALE), tags.get(_TIE_POINTS)
    if not scale or not tie or len(scale) < 2 or len(tie) < 6:
        return Place()
    dx, dy = float(scale[0]), -float(scale[1])
    x0, y0 = float(tie[3]) - float(tie[0]) * dx, float(tie[4]) - float(tie[1]) * dy
    return Place(x0, y0, dx, dy, _epsg(tags.get(_GEO_KEYS, ())))


def _epsg(keys: Any) -> int | None:
    """The coordinate system among GeoTIFF's keys: four numbers each, after a head of four."""
    entries = [tuple(keys[at : at + 4]) for at in range(4, len(keys) - 3, 4)]
    values = {entry[0]: int(entry[3]) for entry in entries if entry[1] == 0}
    found = values.get(_PROJECTED_TYPE) or values.get(_GEOGRAPHIC_TYPE)
    return None if found in (None, _USER_DEFINED) else found

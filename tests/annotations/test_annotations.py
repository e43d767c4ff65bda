import json
import xml.etree.ElementTree as ET
from functools import partial
from pathlib import Path

import hypothesis.extra.numpy as arrays
import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.TiffImagePlugin
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deconvnet.annotations import WRITERS, Labelled
from deconvnet.annotations.coco import annotation_of
from deconvnet.annotations.contours import areas, rings, signed_area, simplified
from deconvnet.annotations.labelme import labelme_document
from deconvnet.labels import CAMVID, VOC, Classes

THREE = Classes.named(["background", "cat", "dog"], background=0)
OPEN = Classes.named(["sky", "road", "car"])

label_maps = arrays.arrays(
    np.uint8,
    arrays.array_shapes(min_dims=2, max_dims=2, max_side=9),
    elements=st.integers(0, 2),
)


def as_labelme_draws(document, classes, empty=0):
    """The shapes painted in their order, as Labelme's own converter does."""
    height, width = document["imageHeight"], document["imageWidth"]
    label_map = np.full((height, width), empty, np.uint8)
    for shape in document["shapes"]:
        canvas = PIL.Image.new("1", (width, height))
        points = [tuple(point) for point in shape["points"]]
        assert len(points) >= 3
        PIL.ImageDraw.Draw(canvas).polygon(points, outline=1, fill=1)
        label_map[np.array(canvas)] = classes.names.index(shape["label"])
    return label_map


def as_pycocotools_draws(document, classes, image):
    mask = pytest.importorskip("pycocotools.mask")
    names = {entry["id"]: entry["name"] for entry in document["categories"]}
    label_map = np.zeros((image["height"], image["width"]), np.uint8)
    for annotation in document["annotations"]:
        if annotation["image_id"] != image["id"]:
            continue
        runs = mask.frPyObjects(annotation["segmentation"], image["height"], image["width"])
        inside = mask.decode(mask.merge(runs) if isinstance(runs, list) else runs) > 0
        assert int(inside.sum()) == annotation["area"]
        assert not label_map[inside].any()
        label_map[inside] = classes.names.index(names[annotation["category_id"]])
    return label_map


def drawn(seed, size=(30, 41), classes=3):
    rough = np.random.default_rng(seed).integers(0, classes, (size[0] // 3, size[1] // 3))
    label_map = np.zeros(size, np.uint8)
    grown = np.kron(rough, np.ones((3, 3))).astype(np.uint8)
    label_map[: grown.shape[0], : grown.shape[1]] = grown
    label_map[10:20, 10:20] = 1
    label_map[13:16, 13:16] = 2  # in a hole
    label_map[14, 14] = 0  # and what is in it in one of its own
    return label_map


def written(format_name, label_maps, classes, out, tolerance=0.0):
    pictures = []
    for number, label_map in enumerate(label_maps):
        source = out / "pictures" / f"{number}.jpg"
        source.parent.mkdir(exist_ok=True)
        PIL.Image.new("RGB", label_map.shape[::-1]).save(source)
        labelled = Labelled(
            f"a & b/{number}", source, partial(np.copy, label_map), 0.5 - number / 10
        )
        pictures.append(labelled)
    return WRITERS[format_name](pictures, classes, out, tolerance)


@given(label_maps)
@settings(max_examples=30, deadline=None)
def test_outlines_less_holes_have_the_areas_size(label_map):
    whole = np.zeros(label_map.shape, int)
    for area in areas(label_map):
        outline, *holes = rings(area)
        assert signed_area(outline) > 0
        assert all(signed_area(hole) < 0 for hole in holes)
        assert sum(map(signed_area, [outline, *holes])) == area.pixels
        rows, columns = area.mask.shape
        whole[area.top : area.top + rows, area.left : area.left + columns] += area.mask
    assert (whole == 1).all()


@given(label_maps)
@settings(max_examples=30, deadline=None)
@pytest.mark.parametrize("classes", [THREE, OPEN], ids=["background", "no background"])
def test_labelme_draws_the_label_map_to_the_pixel(classes, label_map):
    document = labelme_document(label_map, classes)
    np.testing.assert_array_equal(as_labelme_draws(document, classes), label_map)


@given(label_maps)
@settings(max_examples=30, deadline=None)
def test_coco_polygons_and_run_lengths_hold_each_area_to_the_pixel(label_map):
    mask = pytest.importorskip("pycocotools.mask")
    height, width = label_map.shape
    for area in areas(label_map, without=0):
        drawn = annotation_of(area, (height, width), 0.0)["segmentation"]
        runs = mask.frPyObjects(drawn, height, width)
        inside = mask.decode(mask.merge(runs) if isinstance(runs, list) else runs)
        expected = np.zeros(label_map.shape, bool)
        rows, columns = area.mask.shape
        expected[area.top : area.top + rows, area.left : area.left + columns] = area.mask
        np.testing.assert_array_equal(inside > 0, expected)
        assert isinstance(drawn, dict) == (len(rings(area)) > 1)


def test_labelme_files_name_their_picture_and_the_doubt(tmp_path):
    label_map = drawn(0)
    (path,) = written("labelme", [label_map], THREE, tmp_path)
    assert path == tmp_path / "a & b" / "0.json"
    document = json.loads(path.read_text())
    assert document["imagePath"] == "0.jpg"
    assert (path.parent / "0.jpg").read_bytes() == (tmp_path / "pictures/0.jpg").read_bytes()
    assert (tmp_path / "labels.txt").read_text() == "__ignore__\n_background_\ncat\ndog\n"
    assert document["doubt"] == 0.5
    np.testing.assert_array_equal(as_labelme_draws(document, THREE), label_map)


def test_coco_lists_pictures_in_their_order_with_voc_s_numbers(tmp_path):
    pytest.importorskip("pycocotools")
    label_maps = [drawn(1), drawn(2)]
    (path,) = written("coco", label_maps, VOC, tmp_path)
    document = json.loads(path.read_text())
    assert [image["file_name"] for image in document["images"]] == [
        "a & b/0.jpg",
        "a & b/1.jpg",
    ]
    assert document["categories"][0] == {"id": 1, "name": "aeroplane", "supercategory": ""}
    assert len({entry["id"] for entry in document["annotations"]}) == len(
        document["annotations"]
    )
    for image, label_map in zip(document["images"], label_maps, strict=True):
        np.testing.assert_array_equal(as_pycocotools_draws(document, VOC, image), label_map)


def test_cvat_holds_the_label_map_to_the_pixel(tmp_path):
    label_map = drawn(3)
    (path,) = written("cvat", [label_map], CAMVID, tmp_path)
    image = ET.parse(path).getroot().find("image")  # noqa: S314 - ours
    assert image.get("name") == "a & b/0.jpg"
    read = np.full(label_map.shape, 255, np.uint8)
    for mask in image.findall("mask"):
        left, top, width, height = (
            int(mask.get(k)) for k in ("left", "top", "width", "height")
        )
        runs = [int(run) for run in mask.get("rle").split(",")]
        inside = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(height, width)
        read[top : top + height, left : left + width][inside] = CAMVID.names.index(
            mask.get("label")
        )
    np.testing.assert_array_equal(read, label_map)


def test_geojson_is_in_pixels_or_in_the_map_coordinates_of_a_geotiff(tmp_path):
    label_map = np.zeros((10, 20), np.uint8)
    label_map[2:6, 3:9] = 1
    label_map[3, 4] = 0
    (path,) = written("geojson", [label_map], THREE, tmp_path)
    (feature,) = json.loads(path.read_text())["features"]
    outline, hole = feature["geometry"]["coordinates"]
    assert outline[0] == outline[-1]
    assert {tuple(point) for point in outline} == {(3, 2), (9, 2), (9, 6), (3, 6)}
    assert {tuple(point) for point in hole} == {(4, 3), (5, 3), (5, 4), (4, 4)}
    assert feature["properties"] == {"class": "cat", "index": 1, "pixels": 23}

    tags = PIL.TiffImagePlugin.ImageFileDirectory_v2()
    for tag, kind, value in (
        (33550, 12, (0.5, 0.5, 0.0)),
        (33922, 12, (0.0, 0.0, 0.0, 500_000.0, 4_000_000.0, 0.0)),
        (34735, 3, (1, 1, 0, 1, 3072, 0, 1, 32652)),
    ):
        tags.tagtype[tag] = kind
        tags[tag] = value
    raster = tmp_path / "raster.tif"
    PIL.Image.new("RGB", (20, 10)).save(raster, tiffinfo=tags)
    (path,) = WRITERS["geojson"](
        [Labelled("raster", raster, lambda: label_map)], THREE, tmp_path, 0.0
    )
    document = json.loads(path.read_text())
    assert document["crs"]["properties"]["name"] == "urn:ogc:def:crs:EPSG::32652"
    outline = np.array(document["features"][0]["geometry"]["coordinates"][0])
    assert set(outline[:, 0]) == {500_001.5, 500_004.5}
    assert set(outline[:, 1]) == {3_999_999.0, 3_999_997.0}
    x, y = outline.T
    assert np.sum(x[:-1] * y[1:] - x[1:] * y[:-1]) > 0  # anticlockwise, as RFC 7946 asks


def test_simplifying_leaves_fewer_corners_and_nothing_further_than_the_tolerance():
    rows, columns = np.mgrid[:60, :60]
    disc = ((rows - 30) ** 2 + (columns - 30) ** 2 < 25**2).astype(np.uint8)
    (area,) = areas(disc, without=0)
    outline = rings(area)[0]
    fewer = simplified(outline, 1.0)
    assert len(fewer) < len(outline) / 3
    assert signed_area(fewer) == pytest.approx(area.pixels, rel=0.05)
    assert {tuple(corner) for corner in fewer.tolist()} <= {tuple(c) for c in outline.tolist()}
    assert simplified(outline, 0.0) is outline


def test_ignored_pixels_are_in_no_area():
    label_map = np.full((4, 4), 255, np.uint8)
    label_map[1, 1] = 2
    assert [(area.label, area.left, area.top) for area in areas(label_map)] == [(2, 1, 1)]


@pytest.mark.parametrize("format_name", WRITERS)
def test_a_picture_without_objects_is_written_too(format_name, tmp_path):
    paths = written(format_name, [np.zeros((5, 6), np.uint8)], THREE, tmp_path)
    assert all(Path(path).stat().st_size > 10 for path in paths)

"""COCO's and Labelme's JSON: what is read, and that anything else is a sentence."""

import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from deconvnet.data import coco, labelme, open_dataset
from deconvnet.data.pairs import PairDataset
from deconvnet.errors import DataError, MissingExtraError
from trees import (
    SIZE,
    coco_content,
    draw_coco,
    draw_coco_of_cvat,
    drawn_samples,
    labelme_content,
    write_jpeg,
    write_json,
)

GREY = np.full((*SIZE, 3), 100, np.uint8)
SQUARE = [[10, 10, 20, 10, 20, 20, 10, 20]]


def one_coco(root, annotations, **extra):
    """A data set of two pictures, the annotations on the one in train."""
    images = [
        {"id": n, "file_name": f"{n}.jpg", "height": SIZE[0], "width": SIZE[1]} for n in (1, 2)
    ]
    for image in images:
        write_jpeg(root / "images" / image["file_name"], GREY)
    categories = [{"id": 3, "name": "Traffic Light"}, {"id": 8, "name": "bush"}]
    content = {"images": images, "annotations": annotations, "categories": categories} | extra
    write_json(root / "annotations" / "instances.json", content)
    (root / "train.txt").write_text("1\n")
    (root / "val.txt").write_text("2\n")
    return root


def annotation(segmentation, category=3, **extra):
    return {
        "id": 7, "image_id": 1, "category_id": category, "segmentation": segmentation
    } | extra  # fmt: skip


def coco_error(root):
    with pytest.raises(DataError) as caught:
        open_dataset(root)[0]
    return str(caught.value).replace(str(root), "DIR")


def test_run_lengths_give_back_the_drawn_objects(tmp_path):
    draw_coco(tmp_path)
    drawn = drawn_samples(5)
    for split, expected in (("train", drawn[:3]), ("val", drawn[3:])):
        for sample, truth in zip(open_dataset(tmp_path, split), expected, strict=True):
            outside = np.ones(SIZE, bool)
            outside[:8, :10] = False  # the square that coco_content adds
            np.testing.assert_array_equal(sample.label_map[outside], truth.label_map[outside])
            same = (sample.instance_map > 0) == (truth.instance_map > 0)
            assert same[outside].all()


def test_polygons_are_filled_as_pycocotools_fills_them(tmp_path):
    ring = [3.5, 4.25, 40.0, 9.0, 25.5, 33.0]
    sample = open_dataset(one_coco(tmp_path, [annotation([ring])]))[0]
    runs = coco_mask.frPyObjects([ring], *SIZE)
    np.testing.assert_array_equal(sample.label_map, coco_mask.decode(runs)[:, :, 0])
    assert open_dataset(tmp_path).classes.names == ("background", "traffic_light", "bush")


def test_compressed_run_lengths_are_read_too(tmp_path):
    mask = np.zeros(SIZE, np.uint8, order="F")
    mask[5:9, 7:30] = 1
    counts = coco_mask.encode(mask)["counts"].decode()
    runs = {"size": list(SIZE), "counts": counts}
    sample = open_dataset(one_coco(tmp_path, [annotation(runs)]))[0]
    np.testing.assert_array_equal(sample.label_map, mask)


def test_small_objects_lie_over_large_ones_and_crowds_are_no_objects(tmp_path):
    large = [[0, 0, 50, 0, 50, 35, 0, 35]]
    root = one_coco(
        tmp_path, [annotation(SQUARE), annotation(large, 8, id=9, iscrowd=1, area=1750)]
    )
    sample = open_dataset(root)[0]
    assert (sample.label_map[15, 15], sample.label_map[5, 5]) == (1, 2)
    assert (sample.instance_map[15, 15] > 0, sample.instance_map[5, 5]) == (True, 0)


def test_stuff_lies_under_things(tmp_path):
    everything = [[0, 0, 56, 0, 56, 40, 0, 40]]
    one_coco(tmp_path, [annotation(SQUARE)])
    things = tmp_path / "annotations" / "instances.json"
    things.rename(tmp_path / "annotations" / "instances_train2017.json")
    content = json.loads((tmp_path / "annotations" / "instances_train2017.json").read_text())
    content["annotations"] = [annotation(everything, 100)]
    content["categories"] = [{"id": 100, "name": "grass"}]
    write_json(tmp_path / "annotations" / "stuff_train2017.json", content)
    dataset = open_dataset(tmp_path)
    assert dataset.classes.names == ("background", "traffic_light", "bush", "grass")
    label_map = dataset[0].label_map
    assert (label_map[15, 15], label_map[30, 40]) == (1, 3)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (annotation(SQUARE, 5), "The annotation 7 of DIR/annotations/instances.json has the "
         "category 5, which is not among the categories; export it again."),
        (annotation([[1, 2, 3, 4]]), "The annotation 7 of DIR/annotations/instances.json needs "
         "at least 3 points x, y in pixels, and has [1, 2, 3, 4]; draw it again."),
        (annotation(SQUARE, image_id=9), "DIR/annotations/instances.json has an annotation of "
         "an image that it does not list; export it again."),
        (annotation({"size": [5, 5], "counts": [25]}), "The annotation 7 of "
         "DIR/annotations/instances.json has run lengths for a picture of [5, 5], and the "
         "picture has [40, 56] (height, width); export it again."),
        (annotation({"size": list(SIZE), "counts": [25]}), "The annotation 7 of "
         "DIR/annotations/instances.json has run lengths that do not fill a picture of "
         "[40, 56]; export it again."),
        (annotation({"size": list(SIZE), "counts": "zzzz"}), "DIR/annotations/instances.json "
         "has run lengths that do not fill a picture of 56 x 40; export the annotations "
         "again."),
        (annotation([]), "DIR/annotations/instances.json has no segmentation for any of its "
         "objects (boxes alone?); export it with polygons or masks."),
    ],
)  # fmt: skip
def test_a_wrong_annotation_is_told_in_full(tmp_path, bad, message):
    assert coco_error(one_coco(tmp_path, [bad])) == message


def test_a_picture_of_another_size_than_declared_is_told(tmp_path):
    one_coco(tmp_path, [annotation(SQUARE)])
    write_jpeg(tmp_path / "images" / "1.jpg", GREY[:30])
    assert "has 56 x 40 pixels and its picture" in coco_error(tmp_path)


def test_files_that_are_named_after_splits_have_no_others(tmp_path):
    draw_coco(tmp_path)
    with pytest.raises(DataError, match="has no split 'test': no JSON file is named after it"):
        open_dataset(tmp_path, "test")


def test_pycocotools_is_asked_for_by_name(tmp_path, monkeypatch):
    draw_coco_of_cvat(tmp_path)
    monkeypatch.setattr(coco, "find_spec", lambda _name: None)
    with pytest.raises(
        MissingExtraError, match=r"annotations needs the extra 'coco', which is"
    ):
        open_dataset(tmp_path)


def test_a_picture_outside_the_data_set_is_not_reached(tmp_path):
    write_jpeg(tmp_path / "secret.jpg", GREY)
    content = coco_content(["../secret.jpg"], drawn_samples(1)[:1])
    write_json(tmp_path / "data" / "annotations" / "instances_train.json", content)
    with pytest.raises(DataError, match="The picture of secret is missing"):
        open_dataset(tmp_path / "data")


def one_labelme(root, *shapes, **extra):
    for name in ("1", "2"):
        write_jpeg(root / f"{name}.jpg", GREY)
        content = labelme_content(f"{name}.jpg", list(shapes)) | extra
        write_json(root / f"{name}.json", content)
    (root / "train.txt").write_text("1\n")
    (root / "val.txt").write_text("2\n")
    return root


def shape(label, points, kind="polygon", group=None):
    return {"label": label, "points": points, "shape_type": kind, "group_id": group}


def test_each_kind_of_shape_covers_what_it_should(tmp_path):
    root = one_labelme(
        tmp_path,
        shape("rect", [[12, 14], [4, 2]], "rectangle"),
        shape("disc", [[30, 20], [30, 26]], "circle"),
        shape("line", [[2, 33], [50, 33]], "line"),
        shape("dot", [[50, 10]], "point"),
    )
    dataset = open_dataset(root)
    label_map = dataset[0].label_map
    places = {name: dataset.classes.names.index(name) for name in ("rect", "disc", "line")}
    assert (label_map[2:15, 4:13] == places["rect"]).all()
    disc = label_map == places["disc"]
    assert 100 < disc.sum() < 150  # pi x 6 x 6 is 113
    assert disc[20, 30]
    assert not disc[20, 37]
    assert 9 <= (label_map[:, 25] == places["line"]).sum() <= 11  # 10 wide
    assert label_map[10, 50] == dataset.classes.names.index("dot")


def test_shapes_of_one_group_are_one_object_and_later_ones_lie_above(tmp_path):
    left, right = [[2, 2], [8, 8]], [[20, 2], [28, 8]]
    root = one_labelme(
        tmp_path,
        shape("cow", left, "rectangle", 5),
        shape("cow", right, "rectangle", 5),
        shape("cow", [[40, 2], [48, 8]], "rectangle"),
        shape("__ignore__", [[3, 3], [4, 4]], "rectangle"),
        shape("_background_", [[6, 6], [7, 7]], "rectangle"),
    )
    sample = open_dataset(root)[0]
    assert sample.instance_map[2, 2] == sample.instance_map[5, 25] != 0
    assert sample.instance_map[5, 45] not in (0, sample.instance_map[2, 2])
    assert (sample.label_map[3, 3], sample.instance_map[3, 3]) == (255, 0)
    assert (sample.label_map[6, 6], sample.instance_map[6, 6]) == (0, 0)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (shape("x", [[1, 2], [3, 4]]), "The shape 0 of DIR/1.json needs at least 3 points x, y "
         "in pixels, and has [[1, 2], [3, 4]]; draw it again."),
        (shape("", [[1, 2]], "point"), "The shape 0 of DIR/1.json has no label; give it one in "
         "Labelme."),
        (shape("x", [[1, 2]], "blob"), "The shape 0 of DIR/1.json is a 'blob'; polygon, "
         "oriented_rectangle, rotation, rectangle, circle, line, linestrip, point, points, "
         "mask can be read. Draw it as one of these."),
        (shape("x", [[1, 2], [3, 4]], "mask") | {"mask": "?"}, "The shape 0 of DIR/1.json "
         "has no mask that can be read; draw it again."),
        (shape("x", [[1, 2], [3, 4]], "mask") | {"mask": "AAAA"}, "DIR/1.json has a mask whose "
         "PNG cannot be read; draw it again."),
        (shape("x", [[1, 2, 3]], "point"), "The shape 0 of DIR/1.json needs at least 1 points "
         "x, y in pixels, and has [[1, 2, 3]]; draw it again."),
    ],
)  # fmt: skip
def test_a_wrong_shape_is_told_in_full(tmp_path, bad, message):
    assert coco_error(one_labelme(tmp_path, bad)) == message


def test_a_label_that_is_not_in_the_list_is_told(tmp_path):
    one_labelme(tmp_path, shape("Caw", [[1, 2]], "point"))
    (tmp_path / "labels.txt").write_text("__ignore__\n_background_\ncow\n")
    assert coco_error(tmp_path) == (
        "DIR/1.json has the label 'caw', which is not in DIR/labels.txt; add it there, or "
        "correct it in Labelme."
    )


def test_a_picture_of_another_size_than_labelme_saw_is_told(tmp_path):
    one_labelme(tmp_path, shape("x", [[1, 2]], "point"), imageHeight=56, imageWidth=40)
    assert "(one of the two was turned, perhaps by the camera's EXIF" in coco_error(tmp_path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=8,
)


def or_anything(strategy):
    return strategy | strategy | strategy | JSON


NUMBERS = st.integers(-5, 60) | st.floats(-5, 60) | st.sampled_from([1e308, 10**30, True])
IDS = st.integers(0, 2)
RINGS = st.lists(or_anything(st.lists(NUMBERS, max_size=8)), max_size=2)
RUNS = st.fixed_dictionaries(
    {
        "size": or_anything(st.just(list(SIZE))),
        "counts": or_anything(
            st.lists(st.integers(0, 2240), max_size=4)
            | st.just([2240])
            | st.text(st.characters(max_codepoint=127), max_size=6)
        ),
    }
)
COCO = st.fixed_dictionaries(
    {
        "images": or_anything(
            st.lists(
                or_anything(
                    st.fixed_dictionaries(
                        {
                            "id": IDS,
                            "file_name": or_anything(st.sampled_from(["1.jpg", "2.jpg"])),
                        },
                        optional={"height": or_anything(st.just(40)), "width": st.just(56)},
                    )
                ),
                max_size=3,
            )
        ),
        "annotations": or_anything(
            st.lists(
                or_anything(
                    st.fixed_dictionaries(
                        {
                            "image_id": or_anything(IDS),
                            "category_id": or_anything(IDS),
                            "segmentation": or_anything(RINGS | RUNS),
                        },
                        optional={"area": JSON, "iscrowd": JSON, "id": JSON},
                    )
                ),
                max_size=3,
            )
        ),
        "categories": or_anything(
            st.lists(
                or_anything(
                    st.fixed_dictionaries({"id": IDS, "name": or_anything(st.text(min_size=1))})
                ),
                max_size=3,
            )
        ),
    }
)  # fmt: skip
LABELME = st.fixed_dictionaries(
    {
        "shapes": or_anything(
            st.lists(
                or_anything(
                    st.fixed_dictionaries(
                        {
                            "label": or_anything(st.sampled_from(["a", "b", "__ignore__"])),
                            "points": or_anything(
                                st.lists(
                                    or_anything(st.lists(NUMBERS, min_size=2, max_size=2)),
                                    max_size=4,
                                )
                            ),
                            "shape_type": or_anything(st.sampled_from([*labelme.SHAPES, None])),
                        },
                        optional={"group_id": JSON, "mask": JSON | st.just("AAAA")},
                    )
                ),
                max_size=3,
            )
        ),
        "imagePath": JSON,
    },
    optional={"imageHeight": or_anything(st.just(40)), "imageWidth": st.just(56)},
)  # fmt: skip


@pytest.fixture(scope="module")
def place():
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for name in ("1", "2"):
            write_jpeg(root / f"{name}.jpg", GREY)
        (root / "train.txt").write_text("1\n")
        yield root


def assert_data_or_a_sentence(place, format_, content):
    """A data set whose samples can be read, or a DataError; nothing else."""
    try:
        dataset = open_dataset(place, format=format_)
        samples = list(dataset)
    except DataError:
        return
    assert isinstance(dataset, PairDataset), content
    for sample in samples:
        assert sample.label_map.shape == SIZE
        labels = sample.label_map[sample.label_map < 255]
        assert labels.max(initial=0) < len(dataset.classes)


@settings(deadline=None, max_examples=60)
@given(content=or_anything(COCO))
def test_random_coco_is_read_or_told(place, content):
    path = place / "instances_fuzzed.json"
    path.write_text(json.dumps(content))
    try:
        assert_data_or_a_sentence(place, "coco", content)
    finally:
        path.unlink()


@settings(deadline=None, max_examples=60)
@given(content=or_anything(LABELME))
def test_random_labelme_is_read_or_told(place, content):
    path = place / "1.json"
    path.write_text(json.dumps(content))
    try:
        assert_data_or_a_sentence(place, "labelme", content)
    finally:
        path.unlink()


@settings(deadline=None, max_examples=20)
@given(content=st.binary(max_size=50))
def test_random_bytes_are_told(place, content):
    for name, format_ in (("instances_x.json", "coco"), ("1.json", "labelme")):
        path = place / name
        path.write_bytes(b'{"shapes" ' + content)
        with pytest.raises(DataError):
            open_dataset(place, format=format_)
        path.unlink()

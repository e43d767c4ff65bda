"""What labelling tools export, beside the contract of every data set."""

import json
import re
import shutil
import tempfile
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deconvnet.data import doctor, open_dataset, recognised
from deconvnet.data.doctor import check_dataset, examine, quick_check
from deconvnet.errors import DataError, LabelError
from trees import (
    draw_camvid_of_cvat,
    draw_cityscapes_of_cvat,
    draw_coco_of_label_studio,
    draw_label_studio,
    draw_voc_of_cvat,
    drawn_samples,
    write_json,
)

CVAT_TREES = {
    "masks": draw_voc_of_cvat,
    "camvid": draw_camvid_of_cvat,
    "cityscapes": draw_cityscapes_of_cvat,
    "brush": draw_label_studio,
}


@pytest.mark.parametrize("draw", CVAT_TREES.values(), ids=CVAT_TREES)
def test_exports_hold_what_was_drawn(tmp_path, draw):
    draw(tmp_path)
    for split in ("train", "val"):
        for sample in open_dataset(tmp_path, split):
            number = int(re.findall(r"\d+", sample.name)[-1])
            truth = drawn_samples(6)[number - 11 if draw is draw_label_studio else number]
            np.testing.assert_array_equal(sample.label_map, truth.label_map)
            if sample.instance_map is not None:
                drawn = np.unique(truth.instance_map[truth.label_map > 0])
                assert len(np.unique(sample.instance_map[sample.label_map > 0])) == len(drawn)


@pytest.mark.parametrize("draw", CVAT_TREES.values(), ids=CVAT_TREES)
def test_pictures_that_nobody_labelled_are_left_out_and_told(tmp_path, draw, monkeypatch):
    draw(tmp_path)
    train = open_dataset(tmp_path)
    assert len(train.unlabelled) == 1
    assert len(train) + len(open_dataset(tmp_path, "val")) == 6
    said = [problem.sentence for problem in check_dataset(train)]
    told = f"1 picture without any annotation is left out: {train.unlabelled[0]}."
    assert told in said
    monkeypatch.setattr(doctor, "_BATCH", 1)  # so that the time is over after one picture
    assert told in [problem.sentence for problem in quick_check(train, seconds=0.0)]


def test_subsets_of_cvat_are_splits_by_their_names(tmp_path):
    for name, draw in (("masks", draw_voc_of_cvat), ("camvid", draw_camvid_of_cvat)):
        draw(tmp_path / name)
    draw_cityscapes_of_cvat(tmp_path / "cityscapes")
    lists = tmp_path / "masks" / "ImageSets" / "Segmentation"
    (lists / "default.txt").rename(lists / "Validation.txt")
    (lists / "Train.txt").write_text("photo 0\n")
    for old, new in (("default", "Train"), ("defaultannot", "Trainannot")):
        (tmp_path / "camvid" / old).rename(tmp_path / "camvid" / new)
    (tmp_path / "camvid" / "default.txt").unlink()
    for place in ("gtFine", "imgsFine/leftImg8bit"):
        there = tmp_path / "cityscapes" / place
        (there / "default").rename(there / "Train")
    assert open_dataset(tmp_path / "masks").names == ("photo 0",)
    assert len(open_dataset(tmp_path / "masks", "val")) == 6
    assert len(open_dataset(tmp_path / "camvid")) == 6
    assert len(open_dataset(tmp_path / "cityscapes")) == 6
    for name in ("camvid", "cityscapes"):
        with pytest.raises(DataError, match=r"has no split 'val'.* Train"):
            open_dataset(tmp_path / name, "val")


def test_an_export_without_any_label_is_told(tmp_path):
    draw_voc_of_cvat(tmp_path)
    (tmp_path / "ImageSets" / "Segmentation" / "Train.txt").write_text("not labelled\n")
    with pytest.raises(DataError, match=r"None of the 1 pictures of the split train is lab"):
        open_dataset(tmp_path)
    said = [problem.sentence for problem in examine(tmp_path).problems]
    assert "Nothing in the split train is labelled; label some of its pictures." in said


def test_the_list_of_cvats_cityscapes_must_name_classes(tmp_path):
    draw_cityscapes_of_cvat(tmp_path)
    (tmp_path / "label_colors.txt").write_text("0 0 0 void\n")
    with pytest.raises(LabelError, match="names 0 classes; there must be 1 to 255"):
        open_dataset(tmp_path)


def as_json(root):
    """The same tasks as Label Studio's JSON has them, in place of JSON-MIN."""
    (path,) = root.glob("*.json")
    tasks = []
    for entry in json.loads(path.read_text()):
        made = {"id": 1, "was_cancelled": False, "result": [{"from_name": "the-brush"}]}
        skipped = {"id": 2, "was_cancelled": True, "result": []}
        done = [made] if entry["annotation_id"] else [skipped]
        local = "/data/local-files/?d=a%20folder%2F" + entry["image"].rpartition("/")[2]
        tasks.append(
            {"id": entry["id"], "data": {"text": "a", "image": local}, "annotations": done}
        )
    path.write_text(json.dumps(tasks))


def test_label_studios_two_kinds_of_json_say_the_same(tmp_path):
    draw_label_studio(tmp_path)
    first = open_dataset(tmp_path)
    as_json(tmp_path)
    assert open_dataset(tmp_path) == first


def test_smaller_regions_lie_over_larger_ones_and_no_region_is_background(tmp_path):
    (tmp_path / "images").mkdir()
    for name in ("a.jpg", "b.jpg"):
        PIL.Image.new("RGB", (8, 6), "grey").save(tmp_path / "images" / name)
    small, large, void = np.zeros((3, 6, 8), np.uint8)
    small[2:4, 2:4], large[1:, 1:] = 100, 255  # half transparent brushes are brushes, too
    void[5, 5] = 255
    for label, region in (("Car", small), ("Road", large), ("void", void)):
        path = tmp_path / f"task-1-annotation-1-by-a@b.org-tag-{label}-0.png"
        PIL.Image.fromarray(region).save(path)
    tasks = [{"id": 1 + n, "img": f"s3://x/{name}.jpg", "annotation_id": 5 + n}
             for n, name in enumerate("ab")]  # fmt: skip
    write_json(tmp_path / "tasks.json", tasks)
    (tmp_path / "train.txt").write_text("a\nb\n")
    first, second = open_dataset(tmp_path)
    expected = np.where(small > 0, 1, np.where(large > 0, 2, 0))
    expected[5, 5] = 255
    np.testing.assert_array_equal(first.label_map, expected)
    assert not second.label_map.any()
    assert not second.instance_map.any()


def test_what_label_studios_masks_lack_is_told(tmp_path):
    draw_label_studio(tmp_path)
    (path,) = tmp_path.glob("*.json")
    tasks = json.loads(path.read_text())
    for changed, said in (
        (tasks[1:], r"is of the task 11, which no JSON file in .* has; export both again"),
        ([*tasks, {"id": 5}], "has a task without an id or without a picture"),
        ({"tasks": tasks}, "holds no list of JSON objects"),
        (
            [{**task, "image": "a.jpg"} for task in tasks],
            "two labelled tasks with a picture",
        ),
    ):
        path.write_text(json.dumps(changed))
        with pytest.raises(DataError, match=said):
            open_dataset(tmp_path)
    path.unlink()
    with pytest.raises(DataError, match="do not say which picture each task is; export"):
        open_dataset(tmp_path)
    path.write_text(json.dumps(tasks))
    (tmp_path / "train.txt").write_text("later\n")
    with pytest.raises(DataError, match="later is in the split train and is no labelled task"):
        open_dataset(tmp_path)
    (tmp_path / "labels.txt").write_text("ball\n")
    with pytest.raises(DataError, match=r"regions of 'brick', which is not in .*labels\.txt"):
        open_dataset(tmp_path)


def test_a_region_of_another_size_than_its_picture_is_told(tmp_path):
    draw_label_studio(tmp_path)
    dataset = open_dataset(tmp_path)
    PIL.Image.new("RGB", (10, 10)).save(dataset.pairs[0].image)
    with pytest.raises(DataError, match=r"has 56 x 40 pixels and its picture 10 x 10; export"):
        dataset[0]


UNREAD = {
    "annotations.xml": (
        '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n  <version>1.1</version>',
        "CVAT's own XML",
    ),
    "default/item_000000000.xml": (
        "<annotation>\n  <filename>1.jpg</filename>\n  <folder/>\n  <source>\n    "
        "<sourceImage/>\n    <sourceAnnotation>Datumaro</sourceAnnotation>",
        "LabelMe's XML",
    ),
    "Annotations/1.xml": (
        "<annotation>\n  <folder></folder>\n  <filename>1.jpg</filename>",
        "XML files as PASCAL VOC's, which hold boxes",
    ),
    "labels/1.txt": ("0 0.5 0.5 0.1 0.1\n", "YOLO's text files"),
    "project-1.json": ('[{"id": 1, "annotations": [', "Label Studio's JSON alone"),
    "task-1-annotation-2-by-3-tag-Car-0.npy": ("", "Label Studio's 'Brush labels to NumPy'"),
}


@pytest.mark.parametrize("name", UNREAD)
def test_exports_that_are_not_read_are_told_with_those_that_are(tmp_path, name):
    text, said = UNREAD[name]
    (tmp_path / "images").mkdir()
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=rf"holds {re.escape(said)}.*; export ") as caught:
        recognised(tmp_path)
    assert str(caught.value).endswith(".")


@pytest.mark.parametrize(
    ("draw", "pictures"),
    [
        (draw_voc_of_cvat, "JPEGImages"),
        (draw_camvid_of_cvat, "default"),
        (draw_cityscapes_of_cvat, "imgsFine"),
    ],
)
def test_masks_of_cvat_without_their_pictures_are_told(tmp_path, draw, pictures):
    draw(tmp_path)
    shutil.rmtree(tmp_path / pictures)
    with pytest.raises(DataError, match=r"without their pictures; export again with 'Save"):
        open_dataset(tmp_path)


def test_label_studios_brushes_as_coco_find_the_pictures_as_they_were_uploaded(tmp_path):
    draw_coco_of_label_studio(tmp_path)
    expected = open_dataset(tmp_path)[0]
    content = json.loads((tmp_path / "result.json").read_text())
    for entry in content["images"]:
        last = entry["file_name"].rpartition("\\")[2]
        entry |= {"file_name": f"0a1b2c3d-{last}", "path": f"/data/upload/1/0a1b2c3d-{last}"}
    (tmp_path / "result.json").unlink()
    write_json(tmp_path / "result_coco.json", content)
    (tmp_path / "train.txt").write_text(f"0a1b2c3d-{expected.name}\n")
    (sample,) = open_dataset(tmp_path)
    np.testing.assert_array_equal(sample.label_map, expected.label_map)


def test_masks_beside_texts_are_read(tmp_path):
    for place in ("images", "labels"):
        (tmp_path / place).mkdir()
        PIL.Image.new("L", (9, 9)).save(tmp_path / place / "1.png")
    (tmp_path / "data.yaml").touch()
    assert recognised(tmp_path) == "folder"


def test_archives_and_the_folder_above_are_told(tmp_path):
    (tmp_path / "export.zip").touch()
    with pytest.raises(DataError, match=r"export\.zip is an archive; unpack it, and give the"):
        recognised(tmp_path / "export.zip")
    draw_voc_of_cvat(tmp_path / "task 1")
    with pytest.raises(DataError, match=r"and .*task 1 is one; give that folder\."):
        recognised(tmp_path)


WORDS = st.text(max_size=6) | st.sampled_from(
    ["a.jpg", "/data/local-files/?d=a.jpg", "x/b.png"]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | WORDS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(WORDS, inner, max_size=2),
    max_leaves=4,
)
TASK = st.fixed_dictionaries(
    {"id": st.just(11) | JSON, "image": st.just("a.jpg") | JSON},
    optional={
        "data": st.fixed_dictionaries({"image": WORDS}) | JSON,
        "annotations": st.lists(st.fixed_dictionaries({"result": JSON}), max_size=2) | JSON,
        "annotation_id": JSON,
        "tag": JSON,
    },
)


@settings(deadline=None, max_examples=60)
@given(content=st.lists(TASK, max_size=3) | JSON)
def test_random_tasks_are_read_or_told(content):
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        for name in ("a.png", "task-11-annotation-1-by--tag-Car-0.png"):
            PIL.Image.new("L", (5, 4), 255).save(place / name)
        (place / "a.png").rename(place / "a.jpg")
        (place / "tasks.json").write_text(json.dumps(content))
        (place / "train.txt").write_text("a\n")
        try:
            (sample,) = open_dataset(place, format="label-studio")
        except DataError:
            return
        assert (sample.label_map == 1).all()

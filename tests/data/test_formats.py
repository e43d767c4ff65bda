"""What is particular to a layout, beside the contract of every data set."""

import numpy as np
import pytest

from deconvnet.data import open_dataset
from deconvnet.data.class_files import read_classes
from deconvnet.data.splits import names_of_split, split_word
from deconvnet.errors import DataError, ImageFileError, LabelError
from deconvnet.labels import MEMBRANES
from trees import (
    draw_camvid32,
    draw_cityscapes,
    draw_rgb_folder,
    draw_sbd,
    draw_stack,
    draw_voc_of_cvat,
    drawn_samples,
    write_stack,
)


def test_cityscapes_ids_become_train_classes_and_groups_no_objects(tmp_path):
    draw_cityscapes(tmp_path)
    dataset, truth = open_dataset(tmp_path), drawn_samples(3)
    expected = np.array([255, 0, 1, 2, 11, 13, 18, 255], np.uint8)
    for sample, drawn in zip(dataset, truth, strict=True):
        np.testing.assert_array_equal(sample.label_map, expected[drawn.label_map])
        thing = (sample.label_map == 11) | (sample.label_map == 13)
        assert ((sample.instance_map > 0) == (thing & (drawn.instance_map > 0))).all()
    assert dataset.names[0] == "aachen/aachen_000000_000019"
    with pytest.raises(DataError, match=r"has no split 'test'.* its splits are train, val\."):
        open_dataset(tmp_path, "test")


def test_camvid32_ignores_void_and_holds_a_film_out(tmp_path):
    draw_camvid32(tmp_path)
    train, val = open_dataset(tmp_path), open_dataset(tmp_path, "val")
    assert train.classes.names == ("animal", "sky")
    assert val.names == ("Seq05VD_f00000",)
    expected = np.array([0, 1, 255], np.uint8)[np.minimum(drawn_samples(4)[0].label_map, 2)]
    np.testing.assert_array_equal(train[0].label_map[3:], expected[3:])
    (tmp_path / "label_colors.txt").unlink()
    with pytest.raises(DataError, match="has no table of colours; put CamVid's label_colors"):
        open_dataset(tmp_path)


def test_sbd_is_read_from_its_matlab_files(tmp_path):
    draw_sbd(tmp_path)
    dataset = open_dataset(tmp_path)
    for sample, drawn in zip(dataset, drawn_samples(6)[:4], strict=True):
        np.testing.assert_array_equal(sample.label_map, drawn.label_map)
        np.testing.assert_array_equal(sample.instance_map, drawn.instance_map)
    assert len(open_dataset(tmp_path, "train_noval")) == 2
    dataset.pairs[0].mask.write_bytes(b"MATLAB 5.0 MAT-file, or not")
    with pytest.raises(ImageFileError, match=r"is no mask of SBD .*; replace the file"):
        dataset[0]


def test_masks_of_cvat_keep_their_names_and_classes(tmp_path):
    draw_voc_of_cvat(tmp_path)
    train, val = open_dataset(tmp_path), open_dataset(tmp_path, "val")
    assert {*train.names, *val.names} == {f"photo {index}" for index in range(6)}
    truth = drawn_samples(6)[int(train.names[0][-1])]
    np.testing.assert_array_equal(train[0].label_map, truth.label_map)
    np.testing.assert_array_equal(train[0].instance_map, truth.instance_map)


def test_a_stack_holds_every_fifth_slice_out_and_knows_isbis_classes(tmp_path):
    draw_stack(tmp_path)
    train, val = open_dataset(tmp_path), open_dataset(tmp_path, "val")
    assert (train.names, val.names) == (("0", "1", "2", "3", "5", "6"), ("4",))
    assert train.classes == MEMBRANES
    assert not (train[0].label_map == train[1].label_map).all()
    (tmp_path / "train.txt").write_text("0\n3\n")
    assert open_dataset(tmp_path).names == ("0", "3")
    (tmp_path / "train.txt").write_text("0\n7\n")
    with pytest.raises(DataError, match=r"names the slice 7; there are 0 to 6\."):
        open_dataset(tmp_path)


def test_stacks_of_different_lengths_are_refused(tmp_path):
    draw_stack(tmp_path)
    write_stack(tmp_path / "train-labels.tif", [np.eye(48, 40, dtype=np.uint8) * 255] * 2)
    with pytest.raises(DataError, match=r"has 7 slices and .* 2; give each slice its mask"):
        open_dataset(tmp_path)


def test_folders_named_after_splits_are_the_splits(tmp_path):
    draw_rgb_folder(tmp_path)
    assert open_dataset(tmp_path).names == tuple(f"train/{index}" for index in range(5))
    assert names_of_split(tmp_path, "val", ["train/a", "valid/b"]) == ["valid/b"]
    # one picture elsewhere, and the folders are no splits
    assert len(names_of_split(tmp_path, "train", ["train/a", "valid/b", "c"])) == 2
    assert [split_word(word) for word in ("Validation", "train", "trainer")] == [
        "val",
        "train",
        None,
    ]


@pytest.mark.parametrize(
    ("name", "text", "colors"),
    [
        ("classes.csv", "class_name,r,g,b\nRoad,1,2,3\nCar,4,5,6\n", True),
        ("class_dict.csv", "Road,1,2,3\nCar,4,5,6\n", True),
        ("label_colors.txt", "1 2 3\t\tRoad\n4 5 6\t\tCar\n0 0 0\tVoid\n", True),
        ("labelmap.txt", "# label:color_rgb:parts:actions\nRoad:1,2,3::\nCar:4,5,6::\n", True),
        ("classes.csv", "Road\nCar\n", False),
    ],
)
def test_class_files_of_other_tools_are_read(tmp_path, name, text, colors):
    (tmp_path / name).write_text(text)
    table = read_classes(tmp_path)
    assert table.classes.names == ("road", "car")
    assert table.colors == (((1, 2, 3), (4, 5, 6)) if colors else None)
    assert ((0, 0, 0) in table.ignored_colors) == ("Void" in text)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("label_colors.txt", "Road 1 2 3"),
        ("labelmap.txt", "Road=1,2,3"),
        ("labelmap.txt", "a:b"),
    ],
)
def test_a_wrong_line_of_a_class_file_is_told(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    with pytest.raises(LabelError) as caught:
        read_classes(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path / name} has the line '{text}'; write `")

import json
import os
import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deconvnet.data import open_dataset
from deconvnet.data.image_files import write_mask, write_png
from deconvnet.data.splits import held_out
from deconvnet.errors import DataError, LabelError
from deconvnet.labels import VOC, Classes
from trees import drawn_samples, write_grey, write_jpeg

GREY = np.full((8, 9, 3), 100, np.uint8)


def plain(root, masks, *, folder="labels"):
    for index, mask in enumerate(masks):
        write_jpeg(root / "images" / f"{index}.jpg", GREY)
        write_grey(root / folder / f"{index}.png", np.resize(np.array(mask, np.uint8), (8, 9)))
    return root


@settings(deadline=None, max_examples=50)
@given(names=st.sets(st.text(min_size=1), min_size=40, max_size=80), new=st.text(min_size=1))
def test_the_split_stays_as_it_is_when_a_picture_is_added(names, new):
    before, after = held_out(names), held_out(names | {new})
    assert before - {new} == after - {new} or not before


@given(names=st.sets(st.text(min_size=1), min_size=2, max_size=12))
def test_neither_train_nor_val_is_ever_empty(names):
    assert 0 < len(held_out(names)) < len(names)


def test_one_picture_in_five_is_in_val():
    assert 1800 < len(held_out(str(index) for index in range(10_000))) < 2200


@pytest.mark.parametrize("folder", ["labels", "masks", "semantic"])
def test_masks_may_be_in_any_of_three_folders(tmp_path, folder):
    dataset = open_dataset(plain(tmp_path, [[0, 1]] * 6, folder=folder))
    assert dataset.classes.names == ("class_0", "class_1")
    assert len(dataset) + len(open_dataset(tmp_path, "val")) == 6


def test_lists_decide_the_split(tmp_path):
    plain(tmp_path, [[0, 1]] * 4)
    (tmp_path / "train.txt").write_text("0\nimages/2.jpg\n\n")
    (tmp_path / "val.txt").write_text("1.jpg\n")
    assert open_dataset(tmp_path).names == ("0", "2")
    assert open_dataset(tmp_path, "val").names == ("1",)
    with pytest.raises(DataError, match=r"has no split 'test'.* Its splits are train, val\."):
        open_dataset(tmp_path, "test")


def test_class_names_and_colours_come_from_classes_txt(tmp_path):
    colors = [(0, 0, 0), (0, 128, 255), (255, 0, 0)]
    for index, sample in enumerate(drawn_samples(4)):
        labels = np.minimum(sample.label_map, 2)
        write_png(tmp_path / "images" / f"{index}.png", sample.image)
        write_png(tmp_path / "masks" / f"{index}.png", np.array(colors, np.uint8)[labels])
    (tmp_path / "classes.txt").write_text(
        "# what we label\nBackground 0 0 0\nRoad Sign 0,128,255\nignored 255 0 0\n"
    )
    dataset = open_dataset(tmp_path)
    assert dataset.classes == Classes(("background", "road_sign"), tuple(colors[:2]), 0)
    assert set(np.unique(dataset[0].label_map)) <= {0, 1, 255}


def test_a_number_can_be_declared_to_count_nowhere(tmp_path):
    place = plain(tmp_path, [[0, 1, 9], [1, 0, 9]])
    (place / "classes.txt").write_text("road\ncar\nvoid 9\n")
    dataset = open_dataset(place, "train")
    assert dataset.classes.names == ("road", "car")
    assert set(np.unique(dataset[0].label_map)) == {0, 1, 255}


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("classes.txt", "road\nvoid\ncar\n"),
        ("classes.json", '["road", {"name": "Unlabeled"}, "car"]'),
        ("classes.csv", "name\nroad\nignored\ncar\n"),
    ],
)
def test_a_name_that_counts_nowhere_leaves_its_number_to_what_is_ignored(tmp_path, file, text):
    place = plain(tmp_path, [[0, 1, 2], [2, 0, 1]])
    (place / file).write_text(text)
    dataset = open_dataset(place, "train")
    assert dataset.classes.names == ("road", "car")
    assert set(np.unique(dataset[0].label_map)) == {0, 1, 255}


def test_linked_folders_are_read_and_links_into_the_data_itself_are_not(tmp_path):
    elsewhere = plain(tmp_path / "elsewhere", [[0, 1]] * 6)
    data = tmp_path / "data"
    for kind in ("images", "labels"):
        (data / kind).mkdir(parents=True)
        (data / kind / "street").symlink_to(elsewhere / kind)
        (data / kind / "again").symlink_to(data / kind)
    (data / "classes.txt").write_text("road\ncar\n")
    names = [*open_dataset(data, "train").names, *open_dataset(data, "val").names]
    assert len(names) == 6
    assert all(name.startswith("street/") for name in names)


def test_pictures_and_masks_agree_however_their_letters_are_composed(tmp_path):
    """A Mac writes 거 as two characters, other systems as one."""
    for index, form in enumerate(("NFD", "NFC", "NFD", "NFC")):
        other = "NFC" if form == "NFD" else "NFD"
        name = f"거리 {index}"
        write_jpeg(tmp_path / "images" / f"{unicodedata.normalize(form, name)}.jpg", GREY)
        mask = np.resize(np.array([0, 1], np.uint8), (8, 9))
        write_grey(tmp_path / "masks" / f"{unicodedata.normalize(other, name)}.png", mask)
    (tmp_path / "val.txt").write_text(unicodedata.normalize("NFD", "거리 0\n거리 1\n"))
    (tmp_path / "train.txt").write_text("거리 2\n거리 3\n")
    for split in ("train", "val"):
        dataset = open_dataset(tmp_path, split)
        assert [np.unique(sample.label_map).tolist() for sample in dataset] == [[0, 1], [0, 1]]


def test_a_name_in_another_encoding_is_refused_in_one_sentence(tmp_path):
    place = plain(tmp_path, [[0, 1]] * 6)
    try:
        write_png(place / "images" / os.fsdecode(b"\xb0\xc5\xb8\xae.png"), GREY)
    except OSError:
        pytest.skip("this file system takes no names but UTF-8")
    with pytest.raises(DataError, match=r"xb0.* has a name that is not UTF-8; rename it"):
        open_dataset(place, "train")


def test_class_names_come_from_classes_json(tmp_path):
    plain(tmp_path, [[0, 1]] * 6)
    entries = [{"name": "soil", "color": [1, 2, 3]}, {"name": "plant", "color": [4, 5, 6]}]
    (tmp_path / "classes.json").write_text(json.dumps(entries))
    assert open_dataset(tmp_path).classes == Classes(("soil", "plant"), ((1, 2, 3), (4, 5, 6)))
    (tmp_path / "classes.json").write_text('["soil", "plant"]')
    assert open_dataset(tmp_path).classes.names == ("soil", "plant")


def test_vocs_palette_up_to_label_20_means_vocs_classes(tmp_path):
    for index in range(5):
        write_jpeg(tmp_path / "images" / f"{index}.jpg", GREY)
        labels = np.resize(np.array([0, 20, *range(3, 15)], np.uint8), (8, 9))
        write_mask(tmp_path / "semantic" / f"{index}.png", labels, VOC)
    assert open_dataset(tmp_path).classes == VOC


def test_another_palette_lends_its_colours(tmp_path):
    classes = Classes(("x", "y"), ((9, 8, 7), (6, 5, 4)))
    for index in range(5):
        write_jpeg(tmp_path / "images" / f"{index}.jpg", GREY)
        write_mask(
            tmp_path / "masks" / f"{index}.png", np.resize([0, 1], (8, 9)).astype("u1"), classes
        )
    assert open_dataset(tmp_path).classes.colors == classes.colors


def test_mask_values_name_the_classes(tmp_path):
    plain(tmp_path, [[0, 255]] * 6)
    dataset = open_dataset(tmp_path, mask_values=(0, 255))
    assert len(dataset.classes) == 2
    assert np.unique(dataset[0].label_map).tolist() == [0, 1]


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        (
            [[0, 255]],
            "The masks in DIR/labels hold 0, 255: masks saved as 0 and 255 become classes 0 "
            "and 1 with --mask_values 0,255.",
        ),
        ([[0]], "The masks in DIR/labels hold 0: label at least two classes."),
        (
            [[0, 128]],
            "The masks in DIR/labels hold the values 0, 128, which are hardly class indices; "
            "say which stand for classes, with --mask_values 0,128, or write classes.txt with "
            "the name of each class on a line.",
        ),
    ],
)
def test_masks_that_do_not_say_their_classes_are_refused(tmp_path, masks, message):
    plain(tmp_path, masks * 6)
    with pytest.raises(LabelError) as caught:
        open_dataset(tmp_path)
    assert str(caught.value) == message.replace("DIR", str(tmp_path))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "DIR/classes.txt names no class; write the name of a class on each line."),
        ("a 1 2 3\nb", "DIR/classes.txt gives b no colour; give every class one, or none."),
        (
            "a 1 2 3\nb 1 2 3",
            "DIR/classes.txt gives two classes the colour (1, 2, 3); give each its own.",
        ),
        (
            "a 1 2 300\nb 1 2 3",
            "DIR/classes.txt has the colour [1, 2, 300]; give red, green, blue from 0 to 255.",
        ),
        ("a\na", "Class names must differ; these occur twice: a."),
    ],
)
def test_a_wrong_classes_txt_is_told_in_full(tmp_path, text, message):
    plain(tmp_path, [[0, 1]] * 6)
    (tmp_path / "classes.txt").write_text(text)
    with pytest.raises(LabelError) as caught:
        open_dataset(tmp_path)
    assert str(caught.value) == message.replace("DIR", str(tmp_path))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "DIR/classes.json is not valid JSON: "),
        ("{}", "DIR/classes.json is no list; write a list of class names."),
        ("[1]", "DIR/classes.json has the entry 1; write "),
        ('[{"name": "a", "color": 7}]', "DIR/classes.json has the colour 7; give red"),
    ],
)
def test_a_wrong_classes_json_is_told(tmp_path, text, message):
    plain(tmp_path, [[0, 1]] * 6)
    (tmp_path / "classes.json").write_text(text)
    with pytest.raises(LabelError) as caught:
        open_dataset(tmp_path)
    assert str(caught.value).startswith(message.replace("DIR", str(tmp_path)))


def test_rgb_and_jpeg_masks_without_a_table_are_refused(tmp_path):
    plain(tmp_path, [[0, 1]] * 6)
    write_png(tmp_path / "labels" / "0.png", np.resize(np.arange(9, dtype=np.uint8), (8, 9, 3)))
    with pytest.raises(LabelError, match="is an RGB mask with the colours"):
        open_dataset(tmp_path)
    (tmp_path / "labels" / "0.png").unlink()
    write_jpeg(tmp_path / "labels" / "0.jpg", GREY)
    with pytest.raises(LabelError, match=r"0.jpg is a JPEG, whose compression changes labels"):
        open_dataset(tmp_path)


def test_a_missing_mask_is_told_before_anything_is_read(tmp_path):
    plain(tmp_path, [[0, 1]] * 3)
    (tmp_path / "train.txt").write_text("0\n1\n2\n")
    (tmp_path / "labels" / "1.png").unlink()
    with pytest.raises(DataError) as caught:
        open_dataset(tmp_path)
    assert str(caught.value) == (
        f"The mask of 1 is missing: there is no {tmp_path}/labels/1.png; add it, or take the "
        "name out of the split."
    )


def test_a_mask_of_another_size_is_told_when_read(tmp_path):
    plain(tmp_path, [[0, 1]] * 2)
    (tmp_path / "train.txt").write_text("0\n1\n")
    write_grey(tmp_path / "labels" / "1.png", np.resize(np.array([0, 1], np.uint8), (9, 8)))
    with pytest.raises(DataError) as caught:
        open_dataset(tmp_path)[1]
    assert str(caught.value) == (
        f"{tmp_path}/labels/1.png has 8 x 9 pixels and its picture {tmp_path}/images/1.jpg has "
        "9 x 8; give a mask of the picture's size (one of the two was turned, perhaps by the "
        "camera's EXIF rotation)."
    )


def test_a_name_listed_twice_is_told(tmp_path):
    plain(tmp_path, [[0, 1]] * 2)
    (tmp_path / "train.txt").write_text("0\n1\n0\n")
    with pytest.raises(DataError, match=r"train.txt has the name 0 twice"):
        open_dataset(tmp_path)

import numpy as np
import pytest

from deconvnet.data import open_dataset
from deconvnet.data.doctor import (
    ClassStatistics,
    check_dataset,
    class_statistics,
    examine,
    median_frequency_weights,
)
from deconvnet.errors import DataError
from trees import draw_folder, write_grey, write_jpeg


@pytest.fixture
def tree(tmp_path):
    draw_folder(tmp_path, count=10)
    return tmp_path


def sentences(root, split="train"):
    dataset = open_dataset(root, split, check_files=False)
    return [problem.sentence for problem in check_dataset(dataset)]


def errors(root):
    dataset = open_dataset(root, check_files=False)
    return [p.sentence for p in check_dataset(dataset) if p.severity == "error"]


def first_pair(root):
    return open_dataset(root).pairs[0]


def test_a_missing_mask_is_found(tree):
    mask = first_pair(tree).mask
    mask.unlink()
    assert errors(tree) == [f"There is no picture {mask}; check the path."]


def test_a_mask_of_another_size_is_found(tree):
    pair = first_pair(tree)
    write_grey(pair.mask, np.ones((8, 9), np.uint8))
    assert errors(tree) == [
        f"{pair.mask} has 9 x 8 pixels and its picture {pair.image} has 56 x 40; "
        "give a mask of the picture's size."
    ]


def test_labels_out_of_range_are_found(tree):
    pair = first_pair(tree)
    write_grey(pair.mask, np.full((40, 56), 77, np.uint8))
    assert errors(tree) == [
        f"{pair.mask} holds the values 77; this data set has classes 0 to 7, and 255 for "
        "ignored."
    ]


def test_a_truncated_picture_is_found(tree):
    pair = first_pair(tree)
    pair.image.write_bytes(pair.image.read_bytes()[:900])
    (problem,) = errors(tree)
    assert problem.startswith(f"{pair.image} is damaged or incomplete")


def test_a_mask_that_labels_nothing_is_a_warning(tree):
    pair = first_pair(tree)
    write_grey(pair.mask, np.full((40, 56), 255, np.uint8))
    assert f"{pair.mask} labels nothing: all its pixels are ignored." in sentences(tree)
    assert errors(tree) == []


def test_a_single_class_is_an_error(tmp_path):
    for index in range(6):
        write_jpeg(tmp_path / "images" / f"{index}.jpg", np.zeros((8, 8, 3), np.uint8))
        write_grey(tmp_path / "labels" / f"{index}.png", np.zeros((8, 8), np.uint8))
    (tmp_path / "classes.txt").write_text("background\nweed\n")
    assert errors(tmp_path) == [
        "The masks of train hold background alone; there is nothing to tell apart. "
        "Label at least two classes."
    ]


def test_a_report_tells_all(tree):
    report = examine(tree)
    assert report.can_train
    content = report.to_json()
    assert content["splits"]["train"]["pictures"] + content["splits"]["val"]["pictures"] == 10
    assert set(content["median_frequency_weights"]) == set(content["classes"])
    text = report.to_text()
    assert text.startswith(f"{tree} can be trained on: ")
    assert "background" in text


def test_a_report_of_data_that_cannot_be_trained_on_says_so(tree):
    first_pair(tree).mask.unlink()
    (tree / "train.txt").write_text("\n".join(open_dataset(tree, check_files=False).names))
    (tree / "val.txt").write_text((tree / "train.txt").read_text())
    report = examine(tree)
    assert not report.can_train
    assert "cannot be trained on yet" in report.to_text()
    assert any("are also in train, such as" in p.sentence for p in report.problems)


def test_wrong_class_files_are_reported_not_raised(tree):
    (tree / "classes.txt").write_text("a\na\n")
    report = examine(tree)
    assert [problem.severity for problem in report.problems] == ["error"]
    assert report.to_json()["can_train"] is False
    with pytest.raises(DataError, match="There is no data set"):
        examine(tree / "absent")


def test_masks_of_0_and_255_are_understood_when_told(tmp_path):
    for index in range(6):
        write_jpeg(tmp_path / "images" / f"{index}.jpg", np.zeros((8, 8, 3), np.uint8))
        write_grey(tmp_path / "labels" / f"{index}.png", np.eye(8, dtype=np.uint8) * 255)
    (problem,) = examine(tmp_path).problems
    assert "become classes 0 and 1 with --mask_values 0,255" in problem.sentence
    assert examine(tmp_path, mask_values=(0, 255)).can_train


def test_drawn_pictures_are_reported_too():
    report = examine("scenes:count=4,size=32")
    assert report.can_train
    assert report.counts == {"train": 4, "val": 4, "test": 4}


def test_weights_are_the_median_frequency_over_the_frequency():
    statistics = ClassStatistics(
        pixels=np.array([60, 30, 5, 0]),
        pictures=np.array([2, 1, 1, 0]),
        pixels_around=np.array([100, 50, 50, 0]),
        ignored=5,
    )
    # frequencies 0.6, 0.6, 0.1; the median is 0.6
    np.testing.assert_allclose(median_frequency_weights(statistics), [1, 1, 6, 1], rtol=1e-6)


def test_camvids_weights_are_those_computed_from_segnets_own_labels(shared_data):
    statistics = class_statistics(open_dataset(shared_data / "camvid"))
    expected = [
        0.2793,
        0.2017,
        4.7865,
        0.1490,
        1.0,
        0.4217,
        3.8467,
        1.9736,
        0.7889,
        6.3747,
        8.8587,
    ]
    np.testing.assert_allclose(median_frequency_weights(statistics), expected, atol=6e-5)

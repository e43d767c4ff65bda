import io
import time

import numpy as np
import PIL.Image
import pytest

from deconvnet.data import open_dataset
from deconvnet.data.doctor import (
    ClassStatistics,
    check_dataset,
    class_statistics,
    examine,
    median_frequency_weights,
    quick_check,
)
from deconvnet.data.image_files import write_mask, write_png
from deconvnet.data.scenes import SCENES
from deconvnet.errors import DataError
from deconvnet.labels import Classes
from trees import SIZE, draw_folder, drawn_samples, write_grey, write_jpeg


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


def colored_folder(root, samples=None):
    """A plain folder whose classes.txt gives each class its colour."""
    lines = []
    for index, sample in enumerate(samples or drawn_samples(8)):
        write_png(root / "images" / f"{index}.png", sample.image)
        write_mask(root / "labels" / f"{index}.png", sample.label_map, SCENES)
    for name, color in zip(SCENES.names, SCENES.colors, strict=True):
        lines.append(f"{name} {' '.join(map(str, color))}")
    (root / "classes.txt").write_text("\n".join(lines))
    (root / "train.txt").write_text("0\n1\n2\n3\n4\n")
    (root / "val.txt").write_text("5\n6\n7\n")
    return root


def warnings_of(root):
    report = examine(root)
    assert report.can_train, report.to_text()
    return " ".join(problem.sentence for problem in report.problems)


def test_jpeg_masks_that_happen_to_fit_are_a_warning(tmp_path):
    root = colored_folder(tmp_path)
    (root / "classes.txt").write_text("\n".join(SCENES.names))
    (root / "labels" / "0.png").unlink()
    write_jpeg(root / "labels" / "0.jpg", np.full((*SIZE, 3), 1, np.uint8))
    assert "1 of 5 pictures of train are JPEG files, whose compression" in warnings_of(root)


def test_a_palette_in_another_order_than_the_classes_is_a_warning(tmp_path):
    root = colored_folder(tmp_path)
    swapped = Classes(SCENES.names, (*SCENES.colors[1::-1], *SCENES.colors[2:]), 0)
    sample = drawn_samples(8)[1]
    write_mask(root / "labels" / "1.png", sample.label_map, swapped)
    assert (
        "In 1 of 5 pictures of train the numbers and the colours of the palette name different "
        "classes (1); the colours are followed"
    ) in warnings_of(root)


def test_rgb_masks_among_index_masks_are_a_warning(tmp_path):
    root = colored_folder(tmp_path)
    colors = np.array(SCENES.colors, np.uint8)
    write_png(root / "labels" / "2.png", colors[drawn_samples(8)[2].label_map])
    assert "are of several kinds (4 palette, 1 RGB; 2)" in warnings_of(root)


def test_a_turned_camera_is_a_warning_and_a_mask_that_was_not_turned_an_error(tmp_path):
    root = colored_folder(tmp_path)
    picture = PIL.Image.fromarray(drawn_samples(8)[0].image)
    exif = PIL.Image.Exif()
    exif[0x0112] = 3
    picture.save(root / "images" / "0.png", exif=exif)
    assert "The EXIF of 1 of 5 pictures of train says that the camera" in warnings_of(root)
    exif[0x0112] = 6
    picture.save(root / "images" / "0.png", exif=exif)
    (error,) = [p for p in examine(root).problems if p.severity == "error"]
    assert (
        "(one of the two was turned, perhaps by the camera's EXIF rotation)" in error.sentence
    )


def test_the_same_file_in_two_splits_is_leakage(tmp_path):
    root = colored_folder(tmp_path)
    content = (root / "images" / "1.png").read_bytes()
    (root / "images" / "6.png").write_bytes(content)
    report = examine(root)
    (duplicate,) = report.duplicates
    assert duplicate == ("same", "train", "1", "val", "6")
    assert "1 picture of val is the same file as in train, such as 6 as 1;" in warnings_of(root)


def test_a_re_encoded_lighter_copy_in_two_splits_is_leakage_and_other_pictures_are_not(
    tmp_path,
):
    root = colored_folder(tmp_path)
    assert examine(root).duplicates == ()
    copy = PIL.Image.open(root / "images" / "1.png").point(lambda value: min(value + 12, 255))
    buffer = io.BytesIO()
    copy.save(buffer, format="JPEG", quality=70)
    PIL.Image.open(buffer).save(root / "images" / "6.png")
    (duplicate,) = examine(root).duplicates
    assert duplicate == ("near", "train", "1", "val", "6")


def test_pictures_that_show_nothing_are_no_duplicates_but_suspect(tmp_path):
    root = colored_folder(tmp_path)
    for name, grey in (("0", 90), ("5", 92)):
        write_png(root / "images" / f"{name}.png", np.full((*SIZE, 3), grey, np.uint8))
    write_png(root / "images" / "1.png", drawn_samples(8)[1].image // 20)
    report = examine(root)
    assert report.duplicates == ()
    said = warnings_of(root)
    assert "1 of 5 pictures of train show a single colour (0)" in said
    assert "1 of 5 pictures of train are almost black (1)" in said


def test_empty_masks_and_rare_classes_are_warnings(tmp_path):
    samples = list(drawn_samples(8))
    blank = [s._replace(label_map=np.zeros(SIZE, np.uint8)) for s in samples[:3]]
    said = warnings_of(colored_folder(tmp_path, blank + samples[3:]))
    assert "3 of 5 masks of train hold background alone (such as 0); is that meant" in said
    assert "Rare in train: " in said
    assert "--class_weights root_median" in said


def test_a_class_that_is_in_val_alone_is_a_warning(tmp_path):
    samples = list(drawn_samples(8))
    for index in range(5):
        samples[index] = samples[index]._replace(
            label_map=np.minimum(samples[index].label_map, 1)
        )
    said = warnings_of(colored_folder(tmp_path, samples))
    assert "occur in val and never in train; a network cannot learn them" in said


def test_vocs_colours_turned_grey_are_recognised(tmp_path):
    root = colored_folder(tmp_path)
    (root / "classes.txt").write_text("\n".join(SCENES.names))
    write_grey(root / "labels" / "0.png", np.resize([0, 38, 75, 113], SIZE).astype(np.uint8))
    (error,) = [p for p in examine(root).problems if p.severity == "error"]
    assert "They look like VOC's colours turned grey" in error.sentence


def test_a_report_says_the_sizes_and_the_json_has_all(tmp_path):
    report = examine(colored_folder(tmp_path))
    assert "train: all pictures have 56 x 40 pixels." in report.to_text()
    content = report.to_json()
    assert content["splits"]["val"]["sizes"]["largest"] == SIZE
    assert content["verdict"] == report.verdict
    assert content["duplicates"] == []


def test_the_quick_check_sees_all_of_a_small_data_set_and_stops_in_time_on_a_large_one(tree):
    mask = first_pair(tree).mask
    mask.unlink()
    dataset = open_dataset(tree, check_files=False)
    assert [p.sentence for p in quick_check(dataset)] == [
        f"There is no picture {mask}; check the path."
    ]
    many = dataset.__class__(
        dataset.classes, "train", dataset.pairs[1:2] * 20_000, dataset.coding
    )
    start = time.monotonic()
    assert [p for p in quick_check(many, seconds=0.2) if p.severity == "error"] == []
    assert time.monotonic() - start < 10  # all of them would take minutes

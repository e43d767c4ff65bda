import re

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from deconvnet.data.image_files import write_mask
from deconvnet.data.mask_files import MaskCoding, read_instances, read_mask
from deconvnet.errors import LabelError
from deconvnet.labels import VOC, Classes

LABELS = np.array([[0, 1, 2], [2, 1, 255]], np.uint8)
COLORS = ((10, 20, 30), (200, 0, 0), (0, 200, 0))
CODING = MaskCoding(3)
COLORED = MaskCoding(3, colors=COLORS)


def saved(path, values, **settings):
    PIL.Image.fromarray(values).save(path, **settings)
    return path


def painted(labels, colors=COLORS, void=(224, 224, 192)):
    table = np.zeros((256, 3), np.uint8)
    table[: len(colors)] = colors
    table[255] = void
    return table[labels]


@settings(deadline=None, max_examples=30)
@given(arrays(np.uint8, (5, 7), elements=st.sampled_from([0, 1, 2, 255])))
def test_index_palette_and_rgb_masks_give_the_same_labels(tmp_path_factory, labels):
    folder = tmp_path_factory.mktemp("masks")
    classes = Classes(("a", "b", "c"), COLORS)
    write_mask(folder / "palette.png", labels, classes)
    grey = saved(folder / "grey.png", labels)
    rgb = saved(folder / "rgb.png", painted(labels))
    for path in (folder / "palette.png", grey, rgb):
        np.testing.assert_array_equal(read_mask(path, COLORED), labels)
    np.testing.assert_array_equal(read_mask(folder / "palette.png", CODING), labels)


def test_a_palette_in_another_order_is_read_by_its_colours(tmp_path):
    """Programs that turn RGB masks into palette files sort the palette as they like."""
    rgb = PIL.Image.fromarray(painted(LABELS))
    rgb.convert("P", palette=PIL.Image.Palette.ADAPTIVE).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "a.png", COLORED), LABELS)


def test_a_palette_of_other_colours_is_read_by_its_numbers(tmp_path):
    write_mask(tmp_path / "a.png", LABELS, VOC)
    np.testing.assert_array_equal(read_mask(tmp_path / "a.png", COLORED), LABELS)


def test_grey_saved_as_rgb_is_an_index_mask(tmp_path):
    path = saved(tmp_path / "a.png", np.repeat(LABELS[:, :, None], 3, axis=2))
    np.testing.assert_array_equal(read_mask(path, CODING), LABELS)


def test_masks_of_0_and_255_are_two_classes_when_told(tmp_path):
    values = np.array([[0, 255]], np.uint8)
    grey = saved(tmp_path / "grey.png", values)
    bits = saved(tmp_path / "bits.png", values > 0)
    for path in (grey, bits):
        assert read_mask(path, MaskCoding(2, (0, 255))).tolist() == [[0, 1]]
        assert read_mask(path, MaskCoding(2, (255, 0))).tolist() == [[1, 0]]
        assert read_mask(path, MaskCoding(2)).tolist() == [[0, 255]]


def test_declared_values_are_ignored(tmp_path):
    path = saved(tmp_path / "a.png", np.array([[0, 1, 11, 255]], np.uint8))
    coding = MaskCoding(2, ignored=(11, 255))
    assert read_mask(path, coding).tolist() == [[0, 1, 255, 255]]


def test_a_wide_file_of_small_numbers_is_a_mask(tmp_path):
    path = saved(tmp_path / "a.png", LABELS.astype(np.uint16))
    np.testing.assert_array_equal(read_mask(path, CODING), LABELS)


@pytest.mark.parametrize(
    ("values", "coding", "message"),
    [
        (
            np.array([[0, 3, 7]], np.uint8),
            CODING,
            "PATH holds the values 0, 3, 7; this data set has classes 0 to 2, and 255 for "
            "ignored.",
        ),
        (
            np.array([[0, 128]], np.uint8),
            MaskCoding(2, (0, 255)),
            "PATH holds the values 0, 128; this data set has the mask values 0, 255 for "
            "classes 0 to 1.",
        ),
        (
            np.array([[0, 255]], np.uint8),
            MaskCoding(2, ignored=()),
            "PATH holds the values 0, 255; this data set has classes 0 to 1. Masks saved as 0 "
            "and 255 become classes 0 and 1 with --mask_values 0,255.",
        ),
        (
            np.array([[0, 999]], np.uint16),
            CODING,
            "PATH holds values up to 999; a label map holds classes 0 to 254, and 255 for "
            "ignored. If these are numbers of objects, put it into a folder instances/.",
        ),
        (
            painted(LABELS),
            CODING,
            "PATH is an RGB mask with the colours (0, 200, 0), (10, 20, 30), (200, 0, 0), "
            "(224, 224, 192), and nothing says which class each stands for; write a file "
            "classes.txt with a line `name red green blue` for each class.",
        ),
        (
            painted(LABELS, void=(1, 2, 3)),
            COLORED,
            "PATH holds the colours (1, 2, 3), which are no class's; give each class its "
            "colour in classes.txt.",
        ),
    ],
)
def test_wrong_values_are_told_in_full(tmp_path, values, coding, message):
    path = saved(tmp_path / "a.png", values)
    with pytest.raises(LabelError) as caught:
        read_mask(path, coding)
    assert str(caught.value) == message.replace("PATH", str(path))


def test_jpeg_masks_are_named_as_the_cause(tmp_path):
    noisy = np.kron(np.array([[0, 2], [1, 0]], np.uint8) * 60, np.ones((5, 5), np.uint8))
    path = saved(tmp_path / "a.jpg", noisy, quality=30)
    with pytest.raises(LabelError, match=re.escape("It is a JPEG, whose compression changes")):
        read_mask(path, CODING)


def test_instances_are_numbers_or_panoptic_colours(tmp_path):
    wide = saved(tmp_path / "wide.png", np.array([[0, 255, 1000]], np.uint16))
    narrow = saved(tmp_path / "narrow.png", np.array([[0, 7, 255]], np.uint8))
    colors = saved(
        tmp_path / "rgb.png", np.array([[[0, 0, 0], [5, 1, 0], [0, 0, 2]]], np.uint8)
    )
    assert read_instances(wide).tolist() == [[0, 255, 1000]]
    assert read_instances(narrow).tolist() == [[0, 7, 0]]
    assert read_instances(colors).tolist() == [[0, 261, 131072]]

import numpy as np
import pytest
from PIL import Image as Pillow

from deconvnet import draw
from deconvnet.errors import LabelError, OutputError, ShapeError
from deconvnet.labels import VOC, Classes

DRAWS_ANEW = True
PETS = Classes.named(["background", "cat", "dog"], [(0, 0, 0), (200, 10, 20), (30, 40, 210)], 0)


def drawn(height=24, width=40):
    """A picture, and a cat beside a dog in it, with a corner ignored."""
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8)
    label_map = np.zeros((height, width), dtype=np.uint8)
    label_map[5:20, 5:15], label_map[5:20, 15:30] = 1, 2
    label_map[:3, :3] = 255
    return image, label_map


def test_colours_are_those_of_the_classes():
    _, label_map = drawn()
    picture = draw.colored(label_map, PETS)
    assert (picture[label_map == 1] == (200, 10, 20)).all()
    assert (picture[label_map == 2] == (30, 40, 210)).all()
    assert (picture[label_map == 255] == (224, 224, 192)).all()


def test_an_overlay_mixes_inside_and_leaves_background_and_ignored_pixels_alone():
    image, label_map = drawn()
    picture = draw.overlay(image, label_map, PETS, opacity=0.5)
    bare = (label_map == 0) | (label_map == 255)
    np.testing.assert_array_equal(picture[bare], image[bare])
    np.testing.assert_array_equal(
        picture[10, 10], np.rint(0.5 * image[10, 10] + 0.5 * np.array([200, 10, 20]))
    )
    assert picture.dtype == np.uint8
    assert picture.shape == image.shape


def test_an_outline_is_one_pixel_wide():
    image, label_map = drawn()
    picture = draw.overlay(np.zeros_like(image), label_map, PETS)
    white = (picture == 255).all(axis=2)
    assert np.flatnonzero(white[10]).tolist() == [5, 15, 29]  # cat, then the dog's two sides


def test_without_a_background_class_every_known_pixel_is_coloured():
    image, label_map = drawn()
    classes = Classes.named(["floor", "cat", "dog"], [(9, 9, 9), (200, 10, 20), (30, 40, 210)])
    picture = draw.overlay(np.zeros_like(image), label_map, classes, opacity=1.0)
    assert tuple(picture[22, 38]) == (9, 9, 9)
    np.testing.assert_array_equal(picture[1, 1], [0, 0, 0])


def test_drawing_is_the_same_every_time_and_changes_nothing_given():
    image, label_map = drawn()
    before = image.copy(), label_map.copy()
    first, second = (draw.overlay(image, label_map, PETS) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(image, before[0])
    np.testing.assert_array_equal(label_map, before[1])


def test_a_legend_shows_the_chosen_colours_and_grows_with_them():
    two = draw.legend(PETS, [2, 1], shares={"cat": 0.25, "dog": 0.5})
    assert two.dtype == np.uint8
    reds = np.flatnonzero((two == (200, 10, 20)).all(axis=2).any(axis=1))
    blues = np.flatnonzero((two == (30, 40, 210)).all(axis=2).any(axis=1))
    assert blues.max() < reds.min()  # the order asked for
    assert two.shape[0] < draw.legend(VOC).shape[0]
    assert two.shape[1] > draw.legend(PETS, [2, 1]).shape[1]
    assert draw.legend(PETS, []).ndim == 3


def test_a_sheet_holds_every_picture_whole():
    red = np.full((10, 30, 3), (255, 0, 0), dtype=np.uint8)
    blue = np.full((20, 5, 3), (0, 0, 255), dtype=np.uint8)
    picture = draw.sheet(
        [
            [draw.Panel(red, "wider than its picture"), draw.Panel(blue)],
            [draw.Panel(red)],
        ]
    )
    assert (picture == (255, 0, 0)).all(axis=2).sum() == 2 * red[..., 0].size
    assert (picture == (0, 0, 255)).all(axis=2).sum() == blue[..., 0].size
    assert picture[0, 0].tolist() == [255, 255, 255]


def test_scores_and_curves_become_pngs(tmp_path):
    draw.confusion_picture(
        np.array([[5, 1, 0], [2, 9, 1], [0, 0, 0]]), PETS, tmp_path / "m.png"
    )
    log = [
        {"step": str(step), "loss": str(2 / step), "learning_rate": "0.1", "mean_iou": ""}
        for step in range(1, 60)
    ]
    log[30]["mean_iou"] = "0.25"
    draw.curve_picture(log, tmp_path / "curve.png")
    draw.curve_picture([], tmp_path / "empty.png")
    for name in "m.png", "curve.png", "empty.png":
        with Pillow.open(tmp_path / name) as picture:
            assert picture.format == "PNG"
            assert min(picture.size) > 200


def test_the_same_curve_is_the_same_file(tmp_path):
    log = [
        {"step": 1, "loss": 2.0, "mean_iou": None},
        {"step": 2, "loss": 1.0, "mean_iou": 0.5},
    ]
    for name in "one.png", "two.png":
        draw.curve_picture(log, tmp_path / name)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda image, labels: draw.overlay(image[1:], labels, PETS),
            ShapeError,
            (
                "The picture has the size (23, 40) and the label map (24, 40); both must be "
                "the same (height, width)."
            ),
        ),
        (
            lambda image, labels: draw.overlay(image, labels % 255 * 3, PETS),
            LabelError,
            (
                "The label map holds the values 3, 6; there are colours for 3 classes, 0 to 2, "
                "and for 255. Draw it with the classes it was made with."
            ),
        ),
        (
            lambda *_: draw.sheet([[]]),
            ShapeError,
            "A sheet of no panels was asked for; give it one picture at least.",
        ),
        (
            lambda *_: draw.confusion_picture(np.ones((2, 2), dtype=int), PETS, "m.png"),
            ShapeError,
            (
                "A confusion matrix of shape (2, 2) came with 3 classes; it needs one row and "
                "one column for each."
            ),
        ),
    ],
)
def test_what_does_not_fit_is_refused_in_words(call, error, message):
    with pytest.raises(error) as raised:
        call(*drawn())
    assert str(raised.value) == message


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(OutputError, match=r"nowhere.*cannot be written"):
        draw.curve_picture([], tmp_path / "nowhere" / "curve.png")

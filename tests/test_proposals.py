import builtins
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from deconvnet import proposals
from deconvnet.errors import MissingExtraError, RecipeError, ShapeError
from oracles.padded_windows import crop_label_map_padded, crop_padded, paste_padded

METHODS = pytest.mark.parametrize("method", proposals.METHODS)
few_examples = settings(deadline=None, max_examples=25)


@st.composite
def boxes_around(draw, height=12, width=15):
    """One box on whole pixels, often past the border of a picture of that size."""
    x0, y0 = draw(st.integers(-20, width + 3)), draw(st.integers(-20, height + 3))
    return np.float32([x0, y0, x0 + draw(st.integers(1, 40)), y0 + draw(st.integers(1, 40))])


def picture_of_two_objects():
    image = np.full((160, 220, 3), 90, np.uint8)
    image[30:110, 20:80] = 200, 60, 40
    row, column = np.indices((160, 220))
    image[(row - 90) ** 2 + (column - 150) ** 2 < 40**2] = 40, 160, 220
    return image, np.float32([[20, 30, 80, 110], [111, 51, 190, 130]])


@METHODS
def test_proposals_lie_within_the_picture_best_first_and_differ(method):
    if method != "windows":
        pytest.importorskip("cv2")
    image, _ = picture_of_two_objects()
    boxes, scores = proposals.propose(image, method, max_boxes=100)
    assert 0 < len(boxes) <= 100
    assert boxes.dtype == scores.dtype == np.float32
    assert len(boxes) == len(scores) == len(np.unique(boxes, axis=0))
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, 2:] <= [220, 160]).all()
    assert (boxes[:, 2:] > boxes[:, :2]).all()
    assert (np.diff(scores) <= 0).all()


@METHODS
def test_the_same_picture_gives_the_same_proposals(method):
    if method != "windows":
        pytest.importorskip("cv2")
    image, _ = picture_of_two_objects()
    first, second = (proposals.propose(image, method) for _ in range(2))
    assert np.array_equal(first[0], second[0])
    assert np.array_equal(first[1], second[1])


@pytest.mark.parametrize("method", ["edge_boxes", "selective_search"])
def test_plain_objects_are_found_closely(method):
    pytest.importorskip("cv2")
    image, truth = picture_of_two_objects()
    boxes, _ = proposals.propose(image, method, max_boxes=50)
    assert proposals.recall(boxes, truth, 0.8) == 1


def test_windows_of_many_sizes_find_any_object_roughly():
    boxes, _ = proposals.propose(np.zeros((160, 220, 3), np.uint8), "windows")
    truth = np.float32([[3, 5, 210, 150], [100, 60, 150, 120], [180, 100, 210, 150]])
    assert proposals.recall(boxes, truth, 0.5) == 1


@METHODS
@pytest.mark.parametrize("shape", [(1, 1, 3), (3, 200, 3), (40, 50, 3)])
def test_small_and_even_pictures_give_few_or_no_boxes(method, shape):
    if method != "windows":
        pytest.importorskip("cv2")
    boxes, scores = proposals.propose(np.full(shape, 77, np.uint8), method)
    assert boxes.shape == (len(scores), 4)


def test_edges_are_thin_and_across_their_direction():
    pytest.importorskip("cv2")
    image = np.zeros((40, 60, 3), np.uint8)
    image[:, 30:] = 255
    strength, direction = proposals.thinned_edges(image)
    assert (np.count_nonzero(strength > 0.1, axis=1) <= 2).all()
    on_edge = direction[strength > 0.1]
    assert np.minimum(on_edge, np.pi - on_edge).max() < 0.1  # across: along x
    assert 0 <= strength.min() <= strength.max() <= 1


@pytest.mark.parametrize("method", ["edge_boxes", "selective_search"])
def test_without_opencv_the_extra_is_named(method, monkeypatch):
    def without_opencv(name, *arguments, **options):
        if name == "cv2":
            raise ImportError(name)
        return import_as_ever(name, *arguments, **options)

    import_as_ever = builtins.__import__
    monkeypatch.delitem(sys.modules, "cv2", raising=False)
    monkeypatch.setattr(builtins, "__import__", without_opencv)
    with pytest.raises(MissingExtraError, match=r"pip install 'deconvnet\[proposals\]'"):
        proposals.propose(np.zeros((20, 20, 3), np.uint8), method)


def test_the_default_method_needs_no_opencv_where_there_is_none(monkeypatch):
    monkeypatch.setattr(proposals, "find_spec", lambda name: None)
    assert proposals.default_method() == "windows"


def test_what_cannot_be_proposed_from_is_refused_in_words():
    image = np.zeros((20, 20, 3), np.uint8)
    with pytest.raises(RecipeError, match="no proposal method 'boxes'; use one of edge_boxes"):
        proposals.propose(image, "boxes")
    with pytest.raises(RecipeError, match="max_boxes is 0; ask for 1 box or more"):
        proposals.propose(image, "windows", 0)
    with pytest.raises(ShapeError, match="give RGB of shape"):
        proposals.propose(image[:, :, 0], "windows")
    with pytest.raises(ShapeError, match="at least one pixel"):
        proposals.propose(image[:0], "windows")


def test_enlarging_and_squaring_keep_the_centre():
    boxes = np.float32([[10, 20, 40, 30], [0, 0, 5, 50]])
    for changed in (proposals.enlarge(boxes, 1.2), proposals.square(boxes)):
        np.testing.assert_allclose(
            changed[:, :2] + changed[:, 2:], boxes[:, :2] + boxes[:, 2:], atol=1e-4
        )
    sides = proposals.square(proposals.enlarge(boxes, 1.2))
    np.testing.assert_allclose(sides[:, 2:] - sides[:, :2], [[36, 36], [60, 60]], rtol=1e-5)


def test_selection_passes_over_small_boxes_without_counting_them():
    boxes = np.float32([[0, 0, 50, 500], [0, 0, 112, 112], [0, 0, 111, 300], [0, 0, 200, 200]])
    scores = np.float32([0.9, 0.8, 0.7, 0.6])
    chosen, kept_scores = proposals.select(boxes, scores, count=2)
    assert np.array_equal(chosen, boxes[[1, 3]])
    assert np.array_equal(kept_scores, scores[[1, 3]])
    assert proposals.select(boxes[:0], scores[:0])[0].shape == (0, 4)


def test_the_largest_come_first_and_equals_keep_their_order():
    boxes = np.float32([[0, 0, 2, 2], [0, 0, 9, 9], [1, 1, 3, 3]])
    assert proposals.largest_first(boxes).tolist() == [1, 0, 2]


@given(first=boxes_around(), second=boxes_around())
@few_examples
def test_iou_agrees_with_its_definition_by_sets(first, second):
    pixels = [
        {(x, y) for x in range(int(b[0]), int(b[2])) for y in range(int(b[1]), int(b[3]))}
        for b in (first, second)
    ]
    expected = len(pixels[0] & pixels[1]) / len(pixels[0] | pixels[1])
    assert proposals.iou(first[None], second[None])[0, 0] == pytest.approx(expected)


def test_recall_counts_the_true_boxes_found():
    truth = np.float32([[0, 0, 10, 10], [20, 20, 30, 30]])
    near = np.float32([[0, 0, 10, 9]])
    assert proposals.recall(near, truth, 0.5) == 0.5
    assert proposals.recall(near, truth, 0.95) == 0
    assert proposals.recall(near[:0], truth, 0.5) == 0
    assert np.isnan(proposals.recall(near, truth[:0], 0.5))


def test_each_object_gets_its_tight_box_and_id():
    instance_map = np.zeros((6, 8), np.int32)
    instance_map[1:3, 2:5] = 70_000
    instance_map[5, 7] = 2
    boxes, ids = proposals.boxes_of(instance_map)
    assert ids.tolist() == [2, 70_000]
    assert boxes.tolist() == [[7, 5, 8, 6], [2, 1, 5, 3]]
    assert proposals.boxes_of(np.zeros((3, 3), np.int32))[0].shape == (0, 4)
    assert proposals.boxes_of(np.ones((3, 3), np.int32))[0].tolist() == [[0, 0, 3, 3]]


@given(box=boxes_around(), size=st.integers(1, 20), seed=st.integers(0, 9))
@few_examples
def test_a_crop_is_that_of_a_padded_picture(box, size, seed):
    image = np.random.default_rng(seed).integers(0, 256, (12, 15, 3), dtype=np.uint8)
    expected = crop_padded(image, box, size)
    assert np.abs(proposals.crop(image, box, size) - expected).max() <= 0.501  # rounding


@given(box=boxes_around(), size=st.integers(1, 20), seed=st.integers(0, 9))
@few_examples
def test_a_crop_of_a_label_map_is_that_of_a_padded_one(box, size, seed):
    label_map = np.random.default_rng(seed).integers(0, 21, (12, 15), dtype=np.uint8)
    expected = crop_label_map_padded(label_map, box, size, 255)
    assert np.array_equal(proposals.crop_label_map(label_map, box, size), expected)
    instance_map = label_map.astype(np.int32) + 1000
    window = proposals.crop_label_map(instance_map, box, size, outside=0)
    assert window.dtype == np.int32
    assert np.array_equal(
        window, np.where(expected == 255, 0, expected.astype(np.int32) + 1000)
    )


@given(
    box=boxes_around(),
    how=st.sampled_from(["max", "mean"]),
    seed=st.integers(0, 9),
    size=st.integers(1, 12),
)
@few_examples
def test_pasting_is_that_onto_a_padded_canvas(box, how, seed, size):
    rng = np.random.default_rng(seed)
    canvas = rng.normal(size=(2, 12, 15)).astype(np.float32)
    scores = rng.normal(size=(2, size, size)).astype(np.float32)
    expected = paste_padded(canvas, scores, box, how)
    counts = np.zeros((12, 15), np.float32)
    proposals.paste(canvas, scores, box, how, counts)
    np.testing.assert_allclose(canvas, expected, atol=1e-5)
    covered = paste_padded(np.zeros((1, 12, 15)), np.ones((1, 1, 1)), box, "max")[0]
    assert np.array_equal(counts, covered)


@given(
    x=st.integers(0, 20), y=st.integers(0, 20), side=st.integers(8, 40), seed=st.integers(0, 9)
)
@few_examples
def test_a_crop_pasted_back_is_the_picture_but_for_interpolation(x, y, side, seed):
    phase = np.random.default_rng(seed).uniform(0, 6, 3)
    row, column = np.indices((60, 60))
    waves = np.sin(row[..., None] / 15 + phase) * np.cos(column[..., None] / 15 + phase)
    image = (127 + 120 * waves).astype(np.uint8)
    box = np.float32([x, y, x + side, y + side])
    canvas = np.zeros((3, 60, 60), np.float32)
    window = np.moveaxis(proposals.crop(image, box, 80), 2, 0).astype(np.float32)
    proposals.paste(canvas, window, box)
    inside = np.moveaxis(image, 2, 0)[:, y : y + side, x : x + side]
    assert np.abs(canvas[:, y : y + side, x : x + side] - inside).max() < 8
    canvas[:, y : y + side, x : x + side] = 0
    assert not canvas.any()


def test_a_window_as_large_as_its_box_is_pasted_unchanged():
    scores = np.random.default_rng(0).normal(size=(4, 10, 12)).astype(np.float32)
    canvas = np.full((4, 20, 20), -np.inf, np.float32)
    proposals.paste(canvas, scores, np.float32([3, 5, 15, 15]))
    np.testing.assert_array_equal(canvas[:, 5:15, 3:15], scores)


def test_unknown_ways_to_merge_are_refused_in_words():
    canvas = np.zeros((1, 4, 4), np.float32)
    box = np.float32([0, 0, 2, 2])
    with pytest.raises(RecipeError, match="cannot be merged by 'sum'; use 'max' or 'mean'"):
        proposals.paste(canvas, canvas, box, "sum")
    with pytest.raises(RecipeError, match="'mean' needs counts"):
        proposals.paste(canvas, canvas, box, "mean")


@METHODS
def test_real_pictures_get_boxes_on_their_objects(method, shared_data):
    if method != "windows":
        pytest.importorskip("cv2")
    found, folder = [], shared_data / "coco200"
    for name in (folder / "val.txt").read_text().split()[:3]:
        image = np.asarray(Image.open(folder / "images" / f"{name}.jpg").convert("RGB"))
        instance_map = np.asarray(Image.open(folder / "instances" / f"{name}.png"))
        truth, _ = proposals.boxes_of(instance_map.astype(np.int32))
        boxes, _ = proposals.propose(image, method)
        large = np.prod(truth[:, 2:] - truth[:, :2], axis=1) > 0.01 * instance_map.size
        found.append(proposals.recall(boxes, truth[large], 0.5))
    assert np.nanmean(found) > 0.5

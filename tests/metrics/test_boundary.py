import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deconvnet.errors import ShapeError
from deconvnet.metrics import boundary_f1
from oracles.metrics import boundary_f1_by_distances

label_maps = arrays.arrays(np.uint8, (7, 9), elements=st.integers(0, 2))


def square(top, left, side=20, canvas=(80, 100)):
    labels = np.zeros(canvas, dtype=np.uint8)
    labels[top : top + side, left : left + side] = 1
    return labels


@given(label_maps, label_maps, st.sampled_from([0.0, 0.0876, 0.1, 0.25]))
@settings(max_examples=40, deadline=None)
def test_it_agrees_with_all_distances_measured(predicted, target, tolerance):
    radius = tolerance * np.hypot(7, 9)
    expected = [
        boundary_f1_by_distances(predicted, target, label, radius) for label in range(4)
    ]
    scores = boundary_f1(predicted, target, 4, tolerance=tolerance)
    np.testing.assert_allclose(scores, expected)


def test_a_shift_within_the_tolerance_costs_nothing():
    truth, diagonal = square(20, 30), np.hypot(80, 100)
    assert boundary_f1(square(20, 32), truth, 2, tolerance=2 / diagonal)[1] == 1
    assert boundary_f1(square(20, 33), truth, 2, tolerance=2 / diagonal)[1] < 0.8


def test_classes_in_one_map_alone_score_zero_and_in_neither_have_no_score():
    np.testing.assert_array_equal(
        boundary_f1(square(20, 30), square(20, 30) * 2, 4), [1, 0, 0, np.nan]
    )


def test_a_class_that_fills_both_pictures_is_perfect():
    everything = np.ones((5, 5), dtype=np.uint8)
    np.testing.assert_array_equal(boundary_f1(everything, everything, 2), [np.nan, 1])


def test_void_along_the_edges_leaves_the_edges_countable():
    truth = square(20, 30)
    seam = square(18, 28, side=24) != square(22, 32, side=16)  # VOC's void band, 4 pixels wide
    with_void = np.where(seam, 255, truth)
    np.testing.assert_array_equal(boundary_f1(truth, with_void, 2, tolerance=0.02), [1, 1])
    assert boundary_f1(square(20, 60), with_void, 2, tolerance=0.02)[1] < 0.2


def test_what_is_drawn_deep_inside_a_void_does_not_count():
    target = square(5, 5, side=10)
    target[:, 50:] = 255
    predicted = square(5, 5, side=10) | square(40, 70)
    np.testing.assert_array_equal(boundary_f1(predicted, target, 2), [1, 1])


def test_a_picture_of_void_has_no_score():
    void = np.full((4, 4), 255)
    assert np.isnan(boundary_f1(np.zeros((4, 4), dtype=int), void, 2)).all()


def test_batches_are_refused_in_words():
    batch = np.zeros((2, 4, 4), dtype=int)
    with pytest.raises(ShapeError, match="takes one picture at a time"):
        boundary_f1(batch, batch, 2)

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deconvnet.errors import ShapeError
from deconvnet.metrics import SizeBands
from deconvnet.metrics.object_size import BANDS, _bands
from oracles.metrics import band, iou_by_size

SHAPE = (10, 11)  # one pixel is under 1 %, two are over
few = settings(max_examples=40, deadline=None)


@st.composite
def pictures(draw):
    """Blocks of classes, so that objects of every size and some void occur."""
    maps = []
    for values in [0, 1, 2], [0, 1, 2, 255], [0, 1, 2, 3]:
        labels = np.full(SHAPE, draw(st.sampled_from(values)))
        for _ in range(draw(st.integers(0, 4))):
            top, left = draw(st.integers(0, 9)), draw(st.integers(0, 10))
            height, width = draw(st.integers(1, 8)), draw(st.integers(1, 8))
            labels[top : top + height, left : left + width] = draw(st.sampled_from(values))
        maps.append(labels)
    predicted, target, instance_map = maps
    return predicted, target, draw(st.sampled_from([None, instance_map]))


def counted(pictures, background=None):
    bands = SizeBands.empty(3)
    for predicted, target, instance_map in pictures:
        bands = bands.add(predicted, target, instance_map, background=background)
    return bands


@given(st.lists(pictures(), min_size=1, max_size=3), st.sampled_from([None, 0]))
@few
def test_it_follows_the_definition_word_by_word(several, background):
    expected = iou_by_size(several, 3, background)
    found = counted(several, background).iou_by_size
    assert found.keys() == expected.keys()
    for size in found:
        assert found[size] == pytest.approx(expected[size])


@given(pictures(), pictures())
@few
def test_counts_add_up_and_do_not_mind_the_order(one, other):
    summed = counted([one]) + counted([other])
    for name in "hits", "misses", "wrong":
        expected = getattr(counted([other, one]), name)
        np.testing.assert_array_equal(getattr(summed, name), expected)


@given(arrays.arrays(np.int64, 20, elements=st.integers(1, 1000)), st.integers(1, 3000))
@few
def test_bands_have_exact_edges(sizes, pixels):
    assert [BANDS[index] for index in _bands(sizes, pixels)] == [
        band(size, pixels) for size in sizes.tolist()
    ]
    assert _bands(np.array([99, 100, 2500, 2501]), 10_000).tolist() == [0, 1, 1, 2]


def test_touching_objects_are_told_apart_by_their_ids_alone():
    target = np.zeros((10, 10), dtype=int)
    target[:, :6] = 1  # 60 %: large, unless ids make two halves of 30 % and 20 % and a rest
    ids = np.zeros((10, 10), dtype=int)
    ids[:, :3], ids[:, 3:5] = 1, 2
    truth_alone = SizeBands.empty(2).add(target, target, background=0)
    with_ids = SizeBands.empty(2).add(target, target, ids, background=0)
    assert truth_alone.hits[1].tolist() == [0, 0, 60]
    assert with_ids.hits[1].tolist() == [0, 30, 30]  # the column without id is a component


def test_a_false_positive_counts_in_the_band_of_its_predicted_component():
    target, predicted = np.zeros((2, 10, 20), dtype=int)
    target[5, 5] = 1  # one of 200 pixels: small
    predicted[4:7, 4:7] = 1  # nine pixels: medium, eight of them wrong
    bands = SizeBands.empty(2).add(predicted, target, background=0)
    assert bands.hits[1].tolist() == [1, 0, 0]
    assert bands.wrong[1].tolist() == [0, 8, 0]
    assert bands.iou_by_size == {"small": 1.0, "medium": None, "large": None}


def test_void_is_never_wrong_but_belongs_to_the_sizes_it_covers():
    target, ids, predicted = np.zeros((3, 10, 10), dtype=int)
    ids[:, :4] = 1  # 40 %: large, though void leaves only 10 % of it labelled
    target[:, :1], target[:, 1:4], predicted[:, :4] = 1, 255, 1
    bands = SizeBands.empty(2).add(predicted, target, ids, background=0)
    assert bands.hits[1].tolist() == [0, 0, 10]
    assert not bands.wrong.any()


@pytest.mark.filterwarnings("error")
def test_a_band_without_objects_has_no_score():
    nothing = np.zeros((4, 4), dtype=int)
    bands = SizeBands.empty(2).add(nothing, nothing, background=0)
    assert bands.iou_by_size == {"small": None, "medium": None, "large": None}


def test_an_instance_map_of_another_size_is_refused_in_words():
    labels = np.zeros((4, 4), dtype=int)
    with pytest.raises(ShapeError) as raised:
        SizeBands.empty(2).add(labels, labels, np.zeros((2, 2), dtype=int))
    assert str(raised.value) == (
        "The instance map has the shape (2, 2) and the target (4, 4); both must be the same."
    )

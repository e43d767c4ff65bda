"""Several data sets as one."""

import numpy as np
import pytest
from tests.trees import draw_voc

from deconvnet.data import open_dataset
from deconvnet.data.doctor import examine, quick_check
from deconvnet.errors import DataError

TWO = "scenes:count=2,size=32 + scenes:count=3,size=48,seed=4"


def test_the_pictures_of_each_part_come_in_order_under_names_of_their_own():
    parts = [open_dataset(name) for name in TWO.split(" + ")]
    joined = open_dataset(TWO)
    expected = [sample for part in parts for sample in part]
    given = [joined[index] for index in range(len(joined))]
    assert len(given) == 5
    for was, now in zip(expected, given, strict=True):
        np.testing.assert_array_equal(was.image, now.image)
        np.testing.assert_array_equal(was.label_map, now.label_map)
    assert tuple(sample.name for sample in given) == joined.names
    assert len(set(joined.names)) == 5


@pytest.mark.parametrize("index", [-1, 5])
def test_there_is_nothing_before_the_first_and_after_the_last(index):
    with pytest.raises(IndexError):
        open_dataset(TWO)[index]


def test_data_sets_of_other_classes_are_not_joined(tmp_path):
    draw_voc(tmp_path)
    with pytest.raises(DataError, match="only data sets of the same classes"):
        open_dataset(f"scenes:count=2,size=32 + {tmp_path}")


def test_a_damaged_mask_of_the_second_part_is_found_before_training(tmp_path):
    for name in ("first", "second"):
        draw_voc(tmp_path / name)
    mask = min((tmp_path / "second" / "SegmentationClass").glob("*.png"))
    mask.write_bytes(mask.read_bytes()[:40])
    joined = open_dataset(f"{tmp_path / 'first'} + {tmp_path / 'second'}")
    errors = [p for p in quick_check(joined) if p.severity == "error"]
    assert [mask.name in problem.sentence for problem in errors] == [True]


def test_check_data_asks_for_one_data_set_at_a_time():
    with pytest.raises(DataError, match="check one at a time"):
        examine(TWO)

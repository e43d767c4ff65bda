import numpy as np
import pytest

from deconvnet.errors import ShapeError
from deconvnet.metrics import cell_scores
from oracles.metrics import components, places, rand_by_pairs

BESIDE = [(-1, 0), (1, 0), (0, -1), (0, 1)]


def grid(*walls, size=12):
    """Cells of class 1, parted by walls of one column."""
    labels = np.ones((size, size), dtype=np.uint8)
    labels[:, list(walls)] = 0
    return labels


def test_the_truth_itself_is_perfect_at_any_width_of_its_membranes():
    assert cell_scores(grid(5).astype(float), grid(5)) == pytest.approx((1, 1))
    assert cell_scores(grid(4, 5, 6).astype(float), grid(5)) == pytest.approx((1, 1))


def test_two_halves_merged_score_two_thirds_by_pairs_and_nothing_by_information():
    merged = cell_scores(np.ones((11, 11)), grid(5, size=11))
    assert merged == pytest.approx((2 * 0.5 / (1 + 0.5), 0))


def test_a_cell_split_in_halves_is_the_same_fault_the_other_way():
    split = cell_scores(grid(5).astype(float), np.ones((12, 12), dtype=int))
    assert split.rand == pytest.approx(2 / 3, abs=0.01)
    assert split.information == pytest.approx(0)


def test_it_agrees_with_counted_pairs():
    truth, guess = grid(3, 8, size=11), np.ones((11, 11))
    guess[6:8], guess[:, 4:6] = 0, 0  # two pixels wide, so each lies nearest to one part
    parts = components(places(guess > 0.5), BESIDE)
    owner = {
        place: min(
            (np.hypot(*np.subtract(place, p)), i) for i, part in enumerate(parts) for p in part
        )
        for place in places(truth == 1)
    }
    cells = components(places(truth == 1), BESIDE)
    cell_of = {place: i for i, cell in enumerate(cells) for place in cell}
    expected = rand_by_pairs(
        [owner[place][1] for place in cell_of], [cell_of[place] for place in cell_of]
    )
    assert cell_scores(guess, truth).rand == pytest.approx(expected)


def test_diagonal_neighbours_are_two_cells():
    truth = np.array([[1, 0], [0, 1]])
    assert cell_scores(truth.astype(float), truth) == pytest.approx((1, 1))
    assert cell_scores(np.ones((2, 2)), truth).information == pytest.approx(0)


def test_the_threshold_decides_and_no_cell_at_all_is_one_segment():
    probability = np.where(grid(5) == 1, 0.9, 0.6)
    assert cell_scores(probability, grid(5), threshold=0.7).rand == pytest.approx(1)
    assert cell_scores(probability, grid(5)).rand < 0.7
    assert cell_scores(np.zeros((12, 12)), grid(5)) == cell_scores(np.ones((12, 12)), grid(5))


def test_a_truth_without_cells_has_no_score():
    assert np.isnan(cell_scores(np.ones((3, 3)), np.zeros((3, 3), dtype=int))).all()


def test_shapes_that_differ_are_refused_in_words():
    with pytest.raises(ShapeError) as raised:
        cell_scores(np.ones((2, 3)), np.ones((3, 2), dtype=int))
    assert str(raised.value) == (
        "The cell probability has the shape (2, 3) and the target (3, 2); both must be the "
        "same, (height, width)."
    )

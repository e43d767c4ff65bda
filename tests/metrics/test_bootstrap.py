import math

import numpy as np
import pytest

from deconvnet.errors import ShapeError
from deconvnet.metrics import Scores
from deconvnet.metrics.bootstrap import (
    SUMMARIES,
    Interval,
    PictureCounts,
    intervals,
    resampled,
    score_names,
)

CLASSES = ["background", "cat", "dog", "never"]


def pictures(count, seed=0):
    """Random pictures of blocks, some pixels predicted wrongly, some of the truth void."""
    generator = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        coarse = generator.integers(0, 3, (4, 4))
        target = np.kron(coarse, np.ones((6, 6))).astype(np.uint8)
        guess = np.where(generator.random(target.shape) < 0.2, 1, target).astype(np.uint8)
        target[generator.random(target.shape) < 0.05] = 255
        made.append(Scores.empty(4, background=0).add(guess, target))
    return made


def flat(scores):
    """All scores of one data set in the order of score_names; NaN for None."""
    values = scores.to_json(CLASSES)
    row = [values[name] for name in SUMMARIES]
    row += [*values["iou"].values(), *values["iou_by_size"].values()]
    return np.array([math.nan if value is None else value for value in row])


def test_all_draws_at_once_give_what_a_loop_over_pictures_gives():
    made = pictures(5)
    times = resampled(5, 20, seed=3)
    times[0] = [0, 0, 5, 0, 0]
    expected = []
    for row in times:
        total = Scores.empty(4, background=0)
        for scores, often in zip(made, row, strict=True):
            for _ in range(often):
                total = total + scores
        expected.append(flat(total))
    found = PictureCounts.of(made).scores(times)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert found.shape == (20, len(score_names(CLASSES)))
    assert np.isnan(found[:, score_names(CLASSES).index("iou.never")]).all()


def test_the_mean_iou_of_each_picture_is_that_of_a_data_set_of_it_alone():
    made = pictures(3)
    expected = [scores.confusion.mean_iou for scores in made]
    np.testing.assert_allclose(PictureCounts.of(made).each_mean_iou, expected)


def test_a_picture_without_truth_counts_nowhere():
    void = np.full((8, 8), 255, np.uint8)
    blank = Scores.empty(4, background=0).add(np.zeros_like(void), void)
    made = pictures(2)
    alone = PictureCounts.of(made).scores(np.array([[1, 1]]))
    np.testing.assert_allclose(
        PictureCounts.of([*made, blank]).scores(np.array([[1, 1, 1]])), alone
    )
    assert np.isnan(PictureCounts.of([blank]).scores(np.array([[1]]))).all()


def test_draws_are_those_of_the_seed_and_as_large_as_the_data_set():
    times = resampled(7, 50, seed=1)
    assert (times.sum(axis=1) == 7).all()
    assert (times == resampled(7, 50, seed=1)).all()
    assert (times != resampled(7, 50, seed=2)).any()


def test_an_interval_holds_the_middle_of_the_draws():
    draws = np.arange(101.0)[:, None] / 100
    (interval,) = intervals(np.array([0.5]), draws, level=0.9)
    assert interval == pytest.approx((0.5, 0.05, 0.95))
    (nothing,) = intervals(np.array([np.nan]), np.full((4, 1), np.nan))
    assert all(map(math.isnan, nothing))


def test_intervals_hold_the_true_accuracy_about_as_often_as_they_say():
    """A network is right on a share of pixels drawn anew for each picture; its mean is 0.6."""
    generator = np.random.default_rng(0)
    pixels, count, held, repeats = 100, 40, 0, 250
    for repeat in range(repeats):
        right = generator.binomial(pixels, generator.beta(6, 4, count))
        counts = PictureCounts(
            np.stack([np.full(count, pixels), np.zeros(count)], axis=1).astype(np.int64),
            np.stack([right, pixels - right], axis=1),
            np.stack([right, np.zeros(count)], axis=1).astype(np.int64),
            np.zeros((count, 3, 2, 3), np.int64),
            np.full(count, np.nan),
        )
        draws = counts.scores(resampled(count, 200, seed=repeat))[:, :2]
        _, low, high = intervals(np.zeros(2), draws)[1]
        held += low <= 0.6 <= high
    assert 0.885 <= held / repeats <= 0.98  # 0.935 in 1,500 repeats; in 250 give or take 0.016


def test_pairing_makes_the_difference_surer_than_the_scores():
    hard_and_easy = pictures(30)
    first = PictureCounts.of(hard_and_easy)
    second = PictureCounts(
        first.true, first.predicted, first.hits, first.bands, first.boundary * 0.9
    )
    times = resampled(30, 500, seed=0)
    column = SUMMARIES.index("boundary_f1")
    one, other = first.scores(times)[:, [column]], second.scores(times)[:, [column]]
    (score,) = intervals(np.zeros(1), one)
    (difference,) = intervals(np.zeros(1), other - one)
    assert difference.high - difference.low < 0.2 * (score.high - score.low)
    assert difference.is_beside_zero
    assert not Interval(0.0, -1.0, 1.0).is_beside_zero


def test_scores_of_several_pictures_are_refused():
    one, other = pictures(2)
    with pytest.raises(ShapeError, match="2 scores were given, of 3 pictures; give one for"):
        PictureCounts.of([one, one + other])
    with pytest.raises(ShapeError, match="one at least"):
        PictureCounts.of([])

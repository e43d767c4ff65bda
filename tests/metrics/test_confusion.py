import subprocess
import sys

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deconvnet.errors import LabelError, ShapeError
from deconvnet.metrics import ConfusionMatrix
from oracles.metrics import accuracy_by_sets, iou_by_sets

SHAPE = (4, 5)
guesses = arrays.arrays(np.uint8, SHAPE, elements=st.integers(0, 2))
truths = arrays.arrays(np.uint8, SHAPE, elements=st.sampled_from([0, 1, 2, 255]))
few = settings(max_examples=40, deadline=None)


@given(guesses, truths)
@few
def test_iou_and_accuracy_agree_with_their_definitions_by_sets(predicted, target):
    matrix = ConfusionMatrix.empty(4).add(predicted, target)
    iou = [iou_by_sets(predicted, target, label) for label in range(4)]
    accuracy = [accuracy_by_sets(predicted, target, label) for label in range(4)]
    np.testing.assert_allclose(matrix.iou, iou)
    np.testing.assert_allclose(matrix.class_accuracy, accuracy)
    if (target != 255).any():
        share = [(target == label).sum() / (target != 255).sum() for label in range(4)]
        assert matrix.mean_iou == pytest.approx(np.nanmean(iou))
        assert matrix.mean_accuracy == pytest.approx(np.nanmean(accuracy))
        assert matrix.pixel_accuracy == pytest.approx(
            ((predicted == target) & (target != 255)).sum() / (target != 255).sum()
        )
        assert matrix.frequency_weighted_iou == pytest.approx(np.nansum(share * np.array(iou)))


@given(guesses, truths, guesses, truths)
@few
def test_counts_add_up_and_do_not_mind_the_order(guess, truth, other_guess, other_truth):
    empty = ConfusionMatrix.empty(3)
    forward = empty.add(guess, truth).add(other_guess, other_truth)
    backward = empty.add(other_guess, other_truth).add(guess, truth)
    summed = empty.add(guess, truth) + empty.add(other_guess, other_truth)
    batched = empty.add(np.stack([guess, other_guess]), np.stack([truth, other_truth]))
    for matrix in backward, summed, batched:
        np.testing.assert_array_equal(matrix.counts, forward.counts)
    assert not empty.counts.any()


def test_torchmetrics_agrees_where_every_class_occurs():
    from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex

    random = np.random.default_rng(0)
    predicted, target = random.integers(0, 5, (2, 3, 40, 50))
    target[random.random(target.shape) < 0.1] = 255
    matrix = ConfusionMatrix.empty(5).add(predicted, target)
    guess, truth = torch.from_numpy(predicted), torch.from_numpy(target)
    jaccard = MulticlassJaccardIndex(5, average="none", ignore_index=255)(guess, truth)
    accuracy = MulticlassAccuracy(5, average="none", ignore_index=255)(guess, truth)
    np.testing.assert_allclose(matrix.iou, jaccard, rtol=1e-6)
    np.testing.assert_allclose(matrix.class_accuracy, accuracy, rtol=1e-6)
    weighted = MulticlassJaccardIndex(5, average="weighted", ignore_index=255)(guess, truth)
    assert matrix.frequency_weighted_iou == pytest.approx(float(weighted))


def test_an_absent_class_is_left_out_and_one_only_predicted_scores_zero():
    matrix = ConfusionMatrix.empty(3).add([[0, 0, 1]], [[0, 0, 0]])
    np.testing.assert_array_equal(matrix.iou, [2 / 3, 0, np.nan])
    assert matrix.mean_iou == pytest.approx(1 / 3)
    assert matrix.mean_accuracy == pytest.approx(2 / 3)
    assert matrix.frequency_weighted_iou == pytest.approx(2 / 3)


@pytest.mark.filterwarnings("error")
def test_nothing_counted_gives_no_score_and_no_warning():
    matrix = ConfusionMatrix.empty(2).add([[7]], [[255]])
    scores = [matrix.mean_iou, matrix.pixel_accuracy, matrix.mean_accuracy]
    assert np.isnan([*scores, matrix.frequency_weighted_iou]).all()


def test_tensors_lists_and_booleans_are_taken():
    from_tensors = ConfusionMatrix.empty(2).add(torch.tensor([1, 0]), torch.tensor([1, 1]))
    from_booleans = ConfusionMatrix.empty(2).add(np.array([True, False]), [1, 1])
    assert from_tensors.counts.tolist() == from_booleans.counts.tolist() == [[0, 0], [1, 1]]


def test_another_ignored_label_may_be_declared():
    matrix = ConfusionMatrix.empty(2).add([0, 1], [0, -1], ignored=-1)
    assert matrix.counts.tolist() == [[1, 0], [0, 0]]


@pytest.mark.parametrize(
    ("predicted", "target", "error", "message"),
    [
        (
            [[0, 1]],
            [[0, 3]],
            LabelError,
            (
                "The target holds the values 3; there are 3 classes, 0 to 2, and 255 "
                "in the target is ignored. Check the number of classes, or mark such pixels as "
                "ignored."
            ),
        ),
        (
            [[0, -1]],
            [[0, 1]],
            LabelError,
            (
                "The prediction holds the values -1; there are 3 classes, 0 to 2, and 255 "
                "in the target is ignored. Check the number of classes, or mark such pixels as "
                "ignored."
            ),
        ),
        (
            [[0, 1]],
            [[0], [1]],
            ShapeError,
            (
                "The prediction has the shape (1, 2) and the target (2, 1); both must be the "
                "same, so resize one of them (nearest neighbour, for labels)."
            ),
        ),
        (
            [[0.1, 0.9]],
            [[0, 1]],
            ShapeError,
            (
                "The prediction is of type float64; labels are whole numbers. Take the argmax "
                "over the classes, or convert with astype(int)."
            ),
        ),
    ],
)
def test_what_does_not_fit_is_refused_in_words(predicted, target, error, message):
    with pytest.raises(error) as raised:
        ConfusionMatrix.empty(3).add(predicted, target)
    assert str(raised.value) == message


def test_matrices_of_different_classes_do_not_add():
    with pytest.raises(ShapeError, match="of 2 and 3 classes"):
        ConfusionMatrix.empty(2) + ConfusionMatrix.empty(3)


def test_metrics_and_drawing_need_no_torch():
    code = "import sys, deconvnet.metrics, deconvnet.draw; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

import numpy as np
import pytest
import torch

from deconvnet.errors import ShapeError
from deconvnet.metrics import Calibration


def drawn(classes=4, seed=0):
    random = np.random.default_rng(seed)
    odds = random.random((classes, 30, 40)) ** 4
    target = random.integers(0, classes, (30, 40))
    target[:3] = 255
    return (odds / odds.sum(axis=0)).astype(np.float32), target


@pytest.mark.parametrize("bins", [1, 10, 15])
def test_torchmetrics_agrees(bins):
    from torchmetrics.classification import MulticlassCalibrationError

    probabilities, target = drawn()
    ours = Calibration.empty(bins).add(probabilities, target).expected_calibration_error
    theirs = MulticlassCalibrationError(4, n_bins=bins, norm="l1", ignore_index=255)(
        torch.from_numpy(probabilities)[None], torch.from_numpy(target)[None]
    )
    assert ours == pytest.approx(float(theirs), abs=1e-6)


def test_pictures_add_up():
    one, two = drawn(seed=1), drawn(seed=2)
    whole = Calibration.empty().add(*one).add(*two)
    joined = Calibration.empty().add(*two) + Calibration.empty().add(*one)
    assert whole.expected_calibration_error == pytest.approx(joined.expected_calibration_error)


def test_certainty_that_is_right_has_no_error_and_no_pixels_no_score():
    right = Calibration.empty().add([[[1.0, 1.0]], [[0.0, 0.0]]], [[0, 0]])
    assert right.expected_calibration_error == 0
    assert np.isnan(Calibration.empty().expected_calibration_error)


def test_logits_are_refused_in_words():
    with pytest.raises(ShapeError, match="apply softmax first"):
        Calibration.empty().add([[[3.0]], [[-2.0]]], [[0]])

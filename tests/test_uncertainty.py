import numpy as np
import pytest

from deconvnet.errors import ShapeError
from deconvnet.uncertainty import deviation, entropy


def drawn(classes=5, seed=0):
    odds = np.random.default_rng(seed).random((classes, 6, 7)) ** 3
    return (odds / odds.sum(0)).astype(np.float32)


def test_entropy_is_that_of_its_definition_in_parts_of_the_largest():
    probabilities = drawn()
    exact = -(probabilities * np.log(probabilities)).sum(0) / np.log(5)
    np.testing.assert_allclose(entropy(probabilities), exact, rtol=1e-5)


def test_entropy_is_one_where_all_classes_are_equal_and_zero_where_one_has_all():
    even = np.full((4, 2, 2), 0.25, np.float32)
    np.testing.assert_allclose(entropy(even), 1, rtol=1e-6)
    sure = np.zeros((4, 2, 2), np.float32)
    sure[1] = 1
    np.testing.assert_array_equal(entropy(sure), 0)
    np.testing.assert_array_equal(entropy(np.ones((1, 2, 2), np.float32)), 0)


def test_deviation_is_that_of_numpy_over_the_samples():
    samples = [drawn(seed=seed) for seed in range(6)]
    mean, doubt = deviation(iter(samples))
    np.testing.assert_allclose(mean, np.mean(samples, axis=0), rtol=1e-6)
    np.testing.assert_allclose(doubt, np.sqrt(np.var(samples, axis=0).sum(0)), rtol=1e-5)


def test_equal_answers_leave_no_doubt():
    mean, doubt = deviation([drawn()] * 3)
    np.testing.assert_allclose(mean, drawn(), rtol=1e-6)
    assert doubt.max() < 1e-3


def test_no_answers_are_refused():
    with pytest.raises(ShapeError, match="at least one sample"):
        deviation([])

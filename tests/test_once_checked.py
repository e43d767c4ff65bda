"""The checks of annotations see what beartype alone would see."""

import numpy as np
import pytest
from jaxtyping import Float, TypeCheckError, jaxtyped

from once_checked import checked


@jaxtyped(typechecker=checked)
def first(rows: Float[np.ndarray, "n 2"], count: int) -> Float[np.ndarray, "n 2"]:
    return rows[:count]


@jaxtyped(typechecker=checked)
def said(count: int) -> str:
    return "many" if count > 3 else count


def test_what_fits_passes():
    assert first(np.zeros((3, 2)), 3).shape == (3, 2)
    assert said(4) == "many"


@pytest.mark.parametrize(
    "arguments",
    [(np.zeros((3, 1)), 3), (np.zeros((3, 2), int), 3), (np.zeros((3, 2)), 1.5)],
)
def test_an_argument_that_does_not_fit_is_refused(arguments):
    with pytest.raises(TypeCheckError, match="checking the parameters"):
        first(*arguments)


def test_a_result_that_does_not_fit_is_refused_and_its_axes_are_those_of_the_arguments():
    with pytest.raises(TypeCheckError, match="checking the return value"):
        said(1)
    with pytest.raises(TypeCheckError, match="checking the return value"):
        first(np.zeros((3, 2)), 2)

"""The scores of the ISBI 2012 challenge: which cells were merged, which were split."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Integer
from numpy.typing import ArrayLike

from deconvnet.errors import ShapeError
from deconvnet.metrics.label_pairs import whole_numbers


class CellScores(NamedTuple):
    """How well the cells of one picture are told apart, 0 to 1; higher is better."""

    rand: float
    """V_Rand: pairs of pixels that are in one cell, in both; falls most when cells merge."""
    information: float
    """V_Info: what the predicted cells tell of the true ones, by entropy."""


def cell_scores(
    cell_probability: ArrayLike, target: ArrayLike, *, cell: int = 1, threshold: float = 0.5
) -> CellScores:
    """Foreground-restricted Rand and information scores of one picture.

    A cell is a 4-connected component, in the truth of the class `cell`, in the prediction of
    the pixels above the threshold; 4-connected, so that a membrane one pixel wide parts two
    cells. Only pixels of true cells count. Predicted membrane joins the nearest predicted cell,
    so its width costs nothing. NaN when the truth has no cell. The challenge takes the best of
    several thresholds: call this for each.

    Args:
        cell_probability: (height, width), 0 to 1: membrane to cell.
        target: True class of each pixel, (height, width); all but `cell` is left out.
        cell: The class whose components are the cells.
        threshold: A pixel is cell above it.

    Raises:
        ShapeError: When the shapes differ or are not (height, width).

    Source: Arganda-Carreras et al. 2015, "Evaluation of segmentation", V_Rand and V_Info with
    equal weight of split and merge; differs: the challenge thins membranes to one pixel, here
    to none.
    """
    probability, truth = np.asarray(cell_probability), whole_numbers(target, "target")
    if probability.shape != truth.shape or truth.ndim != 2:
        raise ShapeError(
            f"The cell probability has the shape {probability.shape} and the target "
            f"{truth.shape}; both must be the same, (height, width)."
        )
    cells = truth == cell
    if not cells.any():
        return CellScores(float("nan"), float("nan"))
    guessed = _thinned(_components(probability > threshold))[cells]
    true = _components(cells)[cells]

    pairs = np.stack([guessed, true])
    both = np.unique(pairs, axis=1, return_counts=True)[1] / true.size
    of_guess = np.unique(guessed, return_counts=True)[1] / true.size
    of_truth = np.unique(true, return_counts=True)[1] / true.size
    rand = 2 * _agreement(both) / (_agreement(of_guess) + _agreement(of_truth))
    total = _entropy(of_guess) + _entropy(of_truth)
    shared = total - _entropy(both)
    return CellScores(rand, 2 * shared / total if total > 0 else 1.0)


def _components(mask: Bool[np.ndarray, "h w"]) -> Integer[np.ndarray, "h w"]:
    """4-connected components from 1; 0 outside the mask."""
    from scipy.ndimage import label

    components: Integer[np.ndarray, "h w"] = label(mask)[0]
    return components


def _thinned(cells: Integer[np.ndarray, "h w"]) -> Integer[np.ndarray, "h w"]:
    """Give each pixel of membrane to the nearest cell; without a cell, all is one."""
    from scipy.ndimage import distance_transform_edt

    if not cells.any():
        return cells
    rows, columns = distance_transform_edt(
        cells == 0, return_distances=False, return_indices=True
    )
    thinned: Integer[np.ndarray, "h w"] = cells[rows, columns]
    return thinned


def _agreement(shares: Float64[np.ndarray, " s"]) -> float:
    """Chance that two pixels drawn at random fall into the same part."""
    return float(np.sum(shares**2))


def _entropy(shares: Float64[np.ndarray, " s"]) -> float:
    """Entropy of the parts, in nats."""
    return float(-np.sum(shares * np.log(shares)))

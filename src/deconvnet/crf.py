"""Sharpen class probabilities with the picture's own edges: a fully connected CRF.

Every pixel is joined to every other by two Potts terms: a Gaussian one of position (smooth) and
a bilateral one of position and colour (follow edges). Mean field needs, per iteration, one
Gaussian filter of the probabilities for each; the permutohedral lattice does it in time linear
in the pixels, here as products of sparse matrices, so that no compiler is needed (where there
is one, `kernels/crf.cpp` takes over the products).

Sources: Krähenbühl & Koltun 2011 (the CRF and its mean field, algorithm 1); Adams, Baek & Davis
2010 (the lattice).
"""

import ctypes
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32, Int64
from scipy import sparse

from deconvnet.errors import RecipeError, ShapeError
from deconvnet.kernels import load_kernel
from deconvnet.kernels.parallel import in_parallel
from deconvnet.shapes import Image, Probabilities

Numbers = Sequence[int | float]

LOG_FLOOR = float(np.finfo(np.float32).tiny)
"""A probability of 0 counts as this much (a unary of 87), so that its logarithm is finite."""


class CrfSettings(NamedTuple):
    """The settings of `refine` as one value; the defaults are the published ones."""

    iterations: int = 10
    gaussian: tuple[float, float] = (3.0, 3.0)
    bilateral: tuple[float, float, float] = (20.0, 3.0, 5.0)
    normalization: str = "none"

    @classmethod
    def from_text(cls, text: str) -> "CrfSettings":
        """Read settings as `str` writes them; those left out are the published ones.

        >>> CrfSettings.from_text("iterations=5,bilateral=40:3:5")
        CrfSettings(iterations=5, gaussian=(3.0, 3.0), bilateral=(40.0, 3.0, 5.0), ...)

        Raises:
            RecipeError: If a setting does not exist or is out of its range.
        """
        read: dict[str, Callable[[str], Any]] = {
            "iterations": int,
            "gaussian": _colon_separated,
            "bilateral": _colon_separated,
            "normalization": str,
        }
        settings = cls()
        for part in filter(None, text.split(",")):
            name, _, value = part.strip().partition("=")
            try:
                settings = settings._replace(**{name: read[name](value)})
            except (KeyError, ValueError):
                raise RecipeError(
                    f"'{part}' is no setting of the CRF; write such as iterations=10,"
                    "gaussian=3:3,bilateral=20:3:5,normalization=none."
                ) from None
        _check_settings(*settings)
        return settings

    def __str__(self) -> str:
        """The settings as the command line takes them.

        >>> str(CrfSettings())
        'iterations=10,gaussian=3:3,bilateral=20:3:5,normalization=none'
        """
        gaussian, bilateral = (
            ":".join(f"{number:g}" for number in numbers)
            for numbers in (self.gaussian, self.bilateral)
        )
        return (
            f"iterations={self.iterations},gaussian={gaussian},bilateral={bilateral},"
            f"normalization={self.normalization}"
        )


def refine(
    image: np.ndarray,
    probabilities: np.ndarray,
    *,
    iterations: int = 10,
    gaussian: Numbers = (3, 3),
    bilateral: Numbers = (20, 3, 5),
    normalization: str = "none",
) -> Probabilities:
    """Move class probabilities towards the edges of the picture by mean field.

    The defaults are those of the DeconvNet release, found for VOC and without normalisation: a
    peak-1 kernel of sigma 3 sums to about 56, so a weight of 3 acts as about 170 would with it.

    Args:
        image: (H, W, 3) uint8 RGB.
        probabilities: (K, H, W) float, 0 to 1; the unary term is their negative logarithm.
        iterations: Rounds of mean field; 0 gives the probabilities back, made to add up to 1.
        gaussian: (sigma in pixels, weight) of the position kernel.
        bilateral: (sigma in pixels, sigma in grey levels, weight) of position and colour.
        normalization: "none": a kernel's weights stand as they are; "symmetric": divided by the
            root of their sum at both pixels, so that a weight means the same at any sigma.

    Returns:
        (K, H, W) float32, adding up to 1 at every pixel.

    Raises:
        ShapeError: The arrays do not fit together or are of the wrong type.
        RecipeError: A setting is out of its range.

    Source: Krähenbühl & Koltun 2011, algorithm 1; like the authors' public code, and unlike the
    paper's equation, a pixel's message to itself is kept.

    >>> image = np.zeros((1, 2, 3), np.uint8)
    >>> unsure = np.array([[[0.9, 0.4]], [[0.1, 0.6]]], np.float32)
    >>> refine(image, unsure).argmax(axis=0)
    array([[0, 0]])
    """
    _check_arrays(image, probabilities)
    _check_settings(iterations, gaussian, bilateral, normalization)
    num_classes, height, width = probabilities.shape
    kernels = [
        _lattice_filter(features, weight, normalization)
        for features, weight in _features(image, gaussian, bilateral)
    ]
    per_pixel = probabilities.reshape(num_classes, -1).T  # (N, K): a pixel's classes together
    negative_unary = np.log(np.maximum(per_pixel, LOG_FLOOR, dtype=np.float32, order="C"))
    beliefs = _softmax(negative_unary.copy())
    for _ in range(iterations):
        logits = negative_unary.copy()
        for kernel in kernels:
            logits += kernel(beliefs)
        beliefs = _softmax(logits)
    return np.ascontiguousarray(beliefs.T).reshape(num_classes, height, width)


class LatticeFilter(NamedTuple):
    """A Gaussian filter of scattered points: splat, blur, slice (Adams et al. 2010)."""

    splat: sparse.csr_array
    """(M, N): spreads each of N pixels over the corners of its simplex, M corners in all."""
    blurs: list[sparse.csr_array]
    """(M, M) each: one pass of the kernel 1/2 1 1/2 along one of the lattice's axes."""
    slice: sparse.csr_array
    """(N, M): reads each pixel back from its corners; carries weight and gain."""

    def __call__(self, values: Float32[np.ndarray, "n k"]) -> Float32[np.ndarray, "n k"]:
        """Filter K values per pixel."""
        corners = _product(self.splat, values)  # (M, K)
        for blur in self.blurs:
            corners = _product(blur, corners)
        return _product(self.slice, corners)


def _features(
    image: Image, gaussian: Numbers, bilateral: Numbers
) -> list[tuple[Float32[np.ndarray, "n d"], float]]:
    """Where each pixel lies for each kernel, in standard deviations; the kernel's weight."""
    height, width = image.shape[:2]
    row, column = np.indices((height, width), dtype=np.float32)
    position = np.stack([column.ravel(), row.ravel()], axis=1)  # (N, 2)
    color = image.reshape(-1, 3).astype(np.float32)
    sigma, weight = gaussian
    sigma_position, sigma_color, bilateral_weight = bilateral
    near_and_alike = np.hstack([position / sigma_position, color / sigma_color])  # (N, 5)
    scaled = [(position / sigma, weight), (near_and_alike, bilateral_weight)]
    return [(points.astype(np.float32), float(mass)) for points, mass in scaled if mass > 0]


def _lattice_filter(
    features: Float32[np.ndarray, "n d"], weight: float, normalization: str
) -> LatticeFilter:
    """Build the filter of one kernel, in the gain that the published weights were found with.

    Against the exact sum over exp(-distance^2 / 2) the lattice gives about 0.88 of it for the
    position kernel and 0.4 to 0.5 for the bilateral one, as every lattice of this design does.
    """
    num_pixels, dimensions = features.shape
    keys, barycentric, steps = _enclosing_simplices(features)
    corner_keys, corner = np.unique(keys, return_inverse=True)
    ends = np.arange(0, keys.size + 1, dimensions + 1, dtype=np.int32)
    shape = (num_pixels, len(corner_keys))
    slicing = sparse.csr_array(
        (barycentric.ravel(), corner.ravel().astype(np.int32), ends), shape=shape
    )
    # Each of the d + 1 blur passes adds half of either neighbour; this takes their gain back to
    # near the peak-1 Gaussian's.
    gain = np.float32(1 / (1 + 2.0**-dimensions))
    blurs = [_blur(corner_keys, step) for step in steps]
    plain = LatticeFilter(slicing.T.tocsr(), blurs, slicing * gain)
    if normalization == "none":
        return plain._replace(slice=plain.slice * np.float32(weight))
    mass = plain(np.ones((num_pixels, 1), np.float32))[:, 0]
    root = sparse.diags_array(1 / np.sqrt(mass + np.float32(1e-20)), dtype=np.float32)
    return LatticeFilter(
        (plain.splat @ root).tocsr(), blurs, (root @ plain.slice).tocsr() * np.float32(weight)
    )


def _enclosing_simplices(
    features: Float32[np.ndarray, "n d"],
) -> tuple[Int64[np.ndarray, "n corners"], Float32[np.ndarray, "n corners"], list[int]]:
    """Find the d + 1 corners around each point, and how near each is.

    A corner is a point of Z^(d+1) with coordinates that sum to 0 and agree modulo d + 1. Its
    key packs the first d of them into one integer of mixed radix, so that a step along an axis
    of the lattice is the addition of one constant.

    Returns:
        The corners' keys, their barycentric weights (sum 1), and the step of each axis.

    Raises:
        RecipeError: The sigmas are so small that a key would not fit 63 bits.

    Source: Adams et al. 2010 (rounding to the nearest remainder-0 point, and the ranks).
    """
    dimensions = features.shape[1]
    period = dimensions + 1
    elevated = _embedding(dimensions) @ features.T  # (d + 1, N), each column sums to 0
    nearest = np.rint(elevated / period) * period
    remainder = elevated - nearest
    rank = _falling_rank(remainder)
    # The rounded coordinates may sum to some periods too many: those rounded up most then give
    # one back each, and the other way round, which turns the ranks on.
    rank += (nearest.sum(axis=0) / period).astype(np.int64)
    turn = (rank < 0) * period - (rank > dimensions) * period
    rank, nearest, remainder = rank + turn, nearest + turn, remainder - turn

    falling = np.empty_like(remainder, np.float32)
    np.put_along_axis(falling, rank, remainder.astype(np.float32), axis=0)
    gaps = (falling[:-1] - falling[1:])[::-1] / np.float32(period)  # weights of corners 1 to d
    barycentric = np.vstack([1 - gaps.sum(axis=0), gaps])

    coordinates = nearest[:dimensions].astype(np.int64)
    strides = _strides(coordinates, period)  # (d + 1,), 0 for the last coordinate
    base = strides[:dimensions] @ (coordinates - coordinates.min(axis=1, keepdims=True))
    # Corner k adds k to every coordinate and takes a period off the k of least remainder.
    ordered = np.empty_like(rank)
    np.put_along_axis(ordered, rank, np.broadcast_to(strides[:, None], rank.shape), axis=0)
    taken = np.cumsum(ordered[::-1], axis=0)[:dimensions]  # (d, N)
    ahead = np.arange(1, period)[:, None] * strides.sum()
    keys = np.vstack([base, base + ahead - period * taken]) + 2 * period * strides.sum()
    steps = [int(strides.sum() - period * stride) for stride in strides]
    return np.ascontiguousarray(keys.T), np.ascontiguousarray(barycentric.T), steps


def _falling_rank(values: Float32[np.ndarray, "d n"]) -> Int64[np.ndarray, "d n"]:
    """Place of each value in its column, from the greatest (0); the earlier of equals first."""
    rank = np.zeros(values.shape, np.int64)
    for first in range(len(values)):
        for second in range(first + 1, len(values)):
            later = values[first] < values[second]
            rank[first] += later
            rank[second] += ~later
    return rank


def _embedding(dimensions: int) -> Float32[np.ndarray, "corners d"]:
    """The orthogonal map from R^d onto the plane of the lattice, scaled for its blur.

    Two thirds: splat, blur and slice together have a variance of 2/3 (d + 1)^2 in lattice units
    (Adams et al. 2010).
    """
    basis = np.triu(np.ones((dimensions + 1, dimensions)))
    for column in range(dimensions):
        basis[column + 1, column] = -(column + 1)
    basis /= np.linalg.norm(basis, axis=0)
    scale = np.float64((dimensions + 1) * (2 / 3) ** 0.5)
    return np.asarray(basis * scale, np.float32)


def _strides(
    coordinates: Int64[np.ndarray, "d n"], period: int
) -> Int64[np.ndarray, " corners"]:
    """The place value of each coordinate in a key, with room for a step past either end."""
    extents = [int(extent) + 4 * period for extent in np.ptp(coordinates, axis=1)]
    strides = [1]
    for extent in extents:
        strides.append(strides[-1] * extent)
    if strides[-1] >= 2**62:
        raise RecipeError(
            "the CRF's sigmas are too small for this picture: its filter would need more cells "
            "than 62 bits can number; use larger sigmas (the published ones are 3, 20 and 3)."
        )
    return np.array([*strides[:-1], 0], np.int64)


def _blur(keys: Int64[np.ndarray, " m"], step: int) -> sparse.csr_array:
    """One pass along one axis: each corner plus half of the two beside it, where they exist."""
    size = len(keys)
    place = np.minimum(np.searchsorted(keys, keys + step), size - 1)
    found = np.flatnonzero(keys[place] == keys + step).astype(np.int32)
    beside = place[found].astype(np.int32)
    itself = np.arange(size, dtype=np.int32)
    weights = np.ones(size + 2 * len(found), np.float32)
    weights[size:] = 0.5
    row, column = np.hstack([itself, found, beside]), np.hstack([itself, beside, found])
    return sparse.coo_array((weights, (row, column)), shape=(size, size)).tocsr()


def _product(
    matrix: sparse.csr_array, values: Float32[np.ndarray, "columns k"]
) -> Float32[np.ndarray, "rows k"]:
    """Matrix times values; the native kernel gives the same bits in about half the time."""
    kernel = load_kernel("crf")
    if kernel is None:
        return np.asarray(matrix @ values)
    rows, width = matrix.shape[0], values.shape[1]
    product = np.empty((rows, width), np.float32)
    ends = np.asarray(matrix.indptr, np.int32)
    given = (np.asarray(matrix.indices, np.int32), matrix.data, np.ascontiguousarray(values))

    def multiply(first: int, last: int) -> None:
        arrays = (ends[first:], *given, product[first:])
        places = [ctypes.c_void_p(array.ctypes.data) for array in arrays]
        kernel.multiply(ctypes.c_int64(last - first), ctypes.c_int64(width), *places)

    in_parallel(multiply, rows)
    return product


def _softmax(logits: Float32[np.ndarray, "n k"]) -> Float32[np.ndarray, "n k"]:
    """Softmax over the classes, in place; the native kernel agrees to 1e-6."""
    kernel = load_kernel("crf")
    if kernel is not None:
        width = ctypes.c_int64(logits.shape[1])

        def softmax(first: int, last: int) -> None:
            place = ctypes.c_void_p(logits[first:].ctypes.data)
            kernel.softmax(ctypes.c_int64(last - first), width, place)

        in_parallel(softmax, len(logits))
        return logits
    logits -= logits.max(axis=1, keepdims=True)
    np.exp(logits, out=logits)
    logits /= logits.sum(axis=1, keepdims=True)
    return logits


def _colon_separated(text: str) -> tuple[float, ...]:
    return tuple(float(number) for number in text.split(":"))


def _check_arrays(image: np.ndarray, probabilities: np.ndarray) -> None:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ShapeError(
            f"the CRF was given an image of shape {image.shape} and type {image.dtype}; "
            "it takes RGB of shape (height, width, 3) and type uint8."
        )
    if probabilities.ndim != 3 or not np.issubdtype(probabilities.dtype, np.floating):
        raise ShapeError(
            f"the CRF was given probabilities of shape {probabilities.shape} and type "
            f"{probabilities.dtype}; it takes floats of shape (classes, height, width)."
        )
    if probabilities.shape[1:] != image.shape[:2] or probabilities.size == 0:
        raise ShapeError(
            f"the CRF was given probabilities of shape {probabilities.shape} for an image of "
            f"{image.shape[0]} x {image.shape[1]} pixels (height x width); they must be of the "
            "same height and width, with at least one pixel and one class."
        )
    if not (np.isfinite(probabilities).all() and probabilities.min() >= 0):
        raise ShapeError(
            "the CRF was given probabilities that are negative or not finite; "
            "it takes values from 0 to 1, so give it the softmax of the logits."
        )


def _check_settings(
    iterations: int,
    gaussian: Numbers,
    bilateral: Numbers,
    normalization: str,
) -> None:
    if iterations < 0:
        raise RecipeError(f"the CRF was given {iterations} iterations; it takes 0 or more.")
    if len(gaussian) != 2 or len(bilateral) != 3:
        raise RecipeError(
            f"the CRF was given gaussian={gaussian} and bilateral={bilateral}; they are "
            "(sigma, weight) and (sigma in pixels, sigma in grey levels, weight)."
        )
    sigmas = (gaussian[0], *bilateral[:2])
    weights = (gaussian[1], bilateral[2])
    if not (
        np.isfinite([*sigmas, *weights]).all() and min(sigmas) >= 1e-3 and min(weights) >= 0
    ):
        raise RecipeError(
            f"the CRF was given gaussian={gaussian} and bilateral={bilateral}; sigmas "
            "must be 0.001 or above, and weights 0 (which switches a kernel off) or above."
        )
    if normalization not in ("none", "symmetric"):
        raise RecipeError(
            f"the CRF has no normalization {normalization!r}; use 'none' or 'symmetric'."
        )

"""Boundary F1: whether the edges are where they should be."""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int64, Integer, UInt32
from numpy.typing import ArrayLike

from deconvnet.labels import IGNORED
from deconvnet.metrics.label_pairs import LabelPair, label_pair, require_picture

_BITS = 32
"""Classes that are looked at in one pass."""


def boundary_f1(
    predicted: ArrayLike,
    target: ArrayLike,
    num_classes: int,
    *,
    tolerance: float = 0.0075,
    ignored: int = IGNORED,
) -> Float64[np.ndarray, " k"]:
    """Boundary F1 of each class in one picture, 0 to 1.

    A pixel of a class is on its boundary when one of its four neighbours is of another class;
    the rim of the picture is no boundary. A boundary pixel is right when the other map has a
    boundary pixel of the class within the tolerance. Precision is the right share of the
    predicted boundary, recall that of the true one, and the score their harmonic mean.

    A class is present when it covers a counted pixel. Present in neither map: NaN; in one of
    the two: 0; in both without any boundary (it fills the picture): 1; with a boundary in one
    map alone: 0. The mean over the classes that are not NaN is the picture's score.

    Ignored pixels first take the class of the nearest counted pixel, because data sets draw
    void just where the edges are (VOC). There a boundary pixel, true or predicted, counts only
    if a counted pixel lies within the tolerance: inside a large void nothing is known.

    Args:
        predicted: Class of each pixel, (height, width).
        target: True class of each pixel, of the same shape.
        num_classes: Classes are 0 to num_classes - 1.
        tolerance: Distance that still matches, in parts of the picture's diagonal.
        ignored: The true label whose pixels count nowhere.

    Raises:
        ShapeError: When the shapes differ or are not (height, width).
        LabelError: When a counted pixel holds no class.

    Source: Csurka, Larlus & Perronnin 2013, section 3; Badrinarayanan, Kendall & Cipolla 2015
    (SegNet), section 4, for the mean over pictures; differs: the treatment of void is ours, as
    neither paper states one.
    """
    pair = label_pair(predicted, target, num_classes=num_classes, ignored=ignored)
    require_picture(pair)
    scores = np.full(num_classes, np.nan)
    in_truth = np.unique(pair.target[pair.counted])
    in_guess = np.unique(pair.predicted[pair.counted])
    scores[np.union1d(in_truth, in_guess)] = 0.0

    radius = tolerance * math.hypot(*pair.target.shape)
    truth, known = _filled(pair, radius)
    both = np.intersect1d(in_truth, in_guess)
    true_edges = _class_edges(truth, known, both)
    guessed_edges = _class_edges(pair.predicted, known, both)
    recall, true_count = _matched(true_edges, guessed_edges, len(both), radius)
    precision, guessed_count = _matched(guessed_edges, true_edges, len(both), radius)
    with np.errstate(invalid="ignore"):  # 0 by 0 where nothing matches
        f1 = np.nan_to_num(2 * precision * recall / (precision + recall))
    scores[both] = np.where((true_count == 0) & (guessed_count == 0), 1.0, f1)
    return scores


def _filled(
    pair: LabelPair, radius: float
) -> tuple[Integer[np.ndarray, "h w"], Bool[np.ndarray, "h w"]]:
    """The truth with its void filled from the nearest class, and where it may be trusted."""
    if pair.counted.all() or not pair.counted.any():
        return pair.target, pair.counted
    from scipy.ndimage import distance_transform_edt

    distance, (rows, columns) = distance_transform_edt(~pair.counted, return_indices=True)
    return pair.target[rows, columns], distance <= radius


def _edges(labels: Integer[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """Pixels with one of their four neighbours of another class."""
    edges = np.zeros(labels.shape, dtype=bool)
    differs = labels[1:] != labels[:-1]
    edges[1:] |= differs
    edges[:-1] |= differs
    differs = labels[:, 1:] != labels[:, :-1]
    edges[:, 1:] |= differs
    edges[:, :-1] |= differs
    return edges


class _ClassEdges(NamedTuple):
    """The boundary pixels of some classes."""

    shape: tuple[int, int]
    rows: Int64[np.ndarray, " p"]
    columns: Int64[np.ndarray, " p"]
    which: Int64[np.ndarray, " p"]
    """The place of each pixel's class in the list of classes."""


def _class_edges(
    labels: Integer[np.ndarray, "h w"],
    known: Bool[np.ndarray, "h w"],
    classes: Integer[np.ndarray, " present"],
) -> _ClassEdges:
    """The boundary pixels of these classes, where the truth is known."""
    rows, columns = np.nonzero(_edges(labels) & known)
    values = labels[rows, columns]
    which = np.full(len(values), -1)
    for place, label in enumerate(classes):
        which[values == label] = place
    wanted = which >= 0
    height, width = labels.shape
    return _ClassEdges((height, width), rows[wanted], columns[wanted], which[wanted])


def _matched(
    edges: _ClassEdges, others: _ClassEdges, count: int, radius: float
) -> tuple[Float64[np.ndarray, " present"], Int64[np.ndarray, " present"]]:
    """For each class: the share of its pixels with another within the radius, and how many.

    A bit of a plane stands for a class, so that one pass grows the boundaries of many.
    """
    met = np.zeros(len(edges.which), bool)
    for start in range(0, count, _BITS):
        drawn = (others.which >= start) & (others.which < start + _BITS)
        plane = np.zeros(others.shape, np.uint32)
        bits = np.uint32(1) << (others.which[drawn] - start).astype(np.uint32)
        plane[others.rows[drawn], others.columns[drawn]] = bits
        near = _grown(plane, radius)
        asked = (edges.which >= start) & (edges.which < start + _BITS)
        shifts = (edges.which[asked] - start).astype(np.uint32)
        met[asked] = near[edges.rows[asked], edges.columns[asked]] >> shifts & 1
    counts = np.bincount(edges.which, minlength=count)
    return np.bincount(edges.which[met], minlength=count) / np.maximum(counts, 1), counts


def _grown(bits: UInt32[np.ndarray, "h w"], radius: float) -> UInt32[np.ndarray, "h w"]:
    """At each pixel the bits of all pixels within the radius, itself included.

    The disc is a stack of rows. From its rim to its middle the rows grow longer, so that each
    is the last one and a pixel more at both ends.
    """
    grown, row, length = np.zeros_like(bits), bits.copy(), 0
    for down in range(math.floor(radius), -1, -1):
        while math.sqrt((length + 1) ** 2 + down**2) <= radius:
            length += 1
            row[:, length:] |= bits[:, :-length]
            row[:, :-length] |= bits[:, length:]
        if down < len(bits):
            grown[down:] |= row[: len(bits) - down]
            grown[: len(bits) - down] |= row[down:]
    return grown

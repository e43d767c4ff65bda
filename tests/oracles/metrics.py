"""Metrics by their definitions: loops and sets over pixels, slow and obvious."""

import math
from itertools import product

import numpy as np

IGNORED = 255
AROUND = [(dy, dx) for dy, dx in product((-1, 0, 1), repeat=2) if (dy, dx) != (0, 0)]
BESIDE = [(-1, 0), (1, 0), (0, -1), (0, 1)]


def places(mask):
    """The set of (row, column) where the mask holds."""
    return {(int(y), int(x)) for y, x in zip(*np.nonzero(mask), strict=True)}


def iou_by_sets(predicted, target, label):
    counted = places(target != IGNORED)
    guess, truth = places(predicted == label) & counted, places(target == label)
    return len(guess & truth) / len(guess | truth) if guess | truth else math.nan


def accuracy_by_sets(predicted, target, label):
    guess, truth = places(predicted == label), places(target == label)
    return len(guess & truth) / len(truth) if truth else math.nan


def components(pixels, steps=AROUND):
    """Flood fill: the connected sets of a set of pixels."""
    rest, found = set(pixels), []
    while rest:
        edge = [rest.pop()]
        part = set(edge)
        while edge:
            y, x = edge.pop()
            for dy, dx in steps:
                if (y + dy, x + dx) in rest:
                    rest.remove((y + dy, x + dx))
                    part.add((y + dy, x + dx))
                    edge.append((y + dy, x + dx))
        found.append(part)
    return found


def band(size, pixels):
    """Small is under 1 % of the picture's pixels, large over 25 %, medium between."""
    if size / pixels < 0.01:
        return "small"
    return "large" if size / pixels > 0.25 else "medium"


def iou_by_size(pictures, num_classes, background=None):
    """DESIGN.md, "IoU by object size"; of (predicted, target, instance_map or None)."""
    found = {"small": [], "medium": [], "large": []}
    for label in range(num_classes):
        if label == background:
            continue
        hits, misses, wrong = (dict.fromkeys(found, 0) for _ in range(3))
        for predicted, target, instance_map in pictures:
            guess, truth = places(predicted == label), places(target == label)
            for extent, pixels in true_objects(truth, instance_map):
                size = band(len(extent), target.size)
                hits[size] += len(pixels & guess)
                misses[size] += len(pixels - guess)
            for part in components(guess):
                size = band(len(part), target.size)
                wrong[size] += len((part - truth) & places(target != IGNORED))
        for size, ious in found.items():
            if hits[size] + misses[size] > 0:
                ious.append(hits[size] / (hits[size] + misses[size] + wrong[size]))
    return {size: sum(ious) / len(ious) if ious else None for size, ious in found.items()}


def true_objects(truth, instance_map):
    """Each object of a class: its whole extent, and its pixels that are labelled so."""
    if instance_map is None:
        return [(part, part) for part in components(truth)]
    ids = [places(instance_map == number) for number in np.unique(instance_map) if number > 0]
    loose = truth & places(instance_map <= 0)
    return [(extent, extent & truth) for extent in ids] + [
        (part, part) for part in components(loose)
    ]


def boundary(labels, label):
    """Pixels of the class with one of four neighbours of another class."""
    mask = labels == label
    inside = {place for place in np.ndindex(labels.shape)}  # noqa: C416 - a set to look up in
    return [
        (y, x)
        for y, x in places(mask)
        if any((y + dy, x + dx) in inside and not mask[y + dy, x + dx] for dy, dx in BESIDE)
    ]


def boundary_f1_by_distances(predicted, target, label, radius):
    """Every boundary pixel against every other; for maps without void."""
    if label not in predicted and label not in target:
        return math.nan
    if label not in predicted or label not in target:
        return 0.0
    guess, truth = boundary(predicted, label), boundary(target, label)
    if not guess or not truth:
        return float(not guess and not truth)

    def matched(points, others):
        near = [any(math.dist(p, q) <= radius for q in others) for p in points]
        return sum(near) / len(near)

    precision, recall = matched(guess, truth), matched(truth, guess)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def rand_by_pairs(guessed, true):
    """V_Rand by counting ordered pairs of pixels, each with itself too."""
    together_in_guess = together_in_truth = together_in_both = 0
    for i, j in product(range(len(true)), repeat=2):
        in_guess, in_truth = guessed[i] == guessed[j], true[i] == true[j]
        together_in_guess += in_guess
        together_in_truth += in_truth
        together_in_both += in_guess and in_truth
    return 2 * together_in_both / (together_in_guess + together_in_truth)

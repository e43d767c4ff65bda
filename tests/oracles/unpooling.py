"""Pooling and the unpooling family by loops over single pixels."""

import numpy as np


def pool_by_loops(plane):
    """Maximum and flat index of each 2 x 2 window of one plane; the first of equals wins."""
    height, width = plane.shape
    pooled = np.empty(((height + 1) // 2, (width + 1) // 2), plane.dtype)
    positions = np.empty(pooled.shape, np.int64)
    for row, column in np.ndindex(pooled.shape):
        best = None
        for y in range(2 * row, min(2 * row + 2, height)):
            for x in range(2 * column, min(2 * column + 2, width)):
                if best is None or plane[y, x] > plane[best]:
                    best = (y, x)
        pooled[row, column] = plane[best]
        positions[row, column] = best[0] * width + best[1]
    return pooled, positions


def unpool_by_loops(kind, pooled, positions, size):
    """One plane of a kind that copies values, by its definition."""
    height, width = size
    plane = np.zeros(size, pooled.dtype)
    for row, column in np.ndindex(pooled.shape):
        value = pooled[row, column]
        window = [
            (y, x)
            for y in range(2 * row, min(2 * row + 2, height))
            for x in range(2 * column, min(2 * column + 2, width))
        ]
        if kind == "switches":
            plane[divmod(positions[row, column], width)] = value
        elif kind == "nails":
            plane[window[0]] = value
        else:
            for pixel in window:
                plane[pixel] = value / len(window) if kind == "average" else value
    return plane

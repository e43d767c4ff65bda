"""The nearest pixel of a window, one pixel at a time."""

import math

import numpy as np


def nearest(plane: np.ndarray, window, size, outside: int) -> np.ndarray:
    result = np.full(size, outside, plane.dtype)
    for row in range(size[0]):
        for column in range(size[1]):
            y = math.floor(window.top + (row + 0.5) * (window.height / size[0]))
            x = math.floor(window.left + (column + 0.5) * (window.width / size[1]))
            if 0 <= y < plane.shape[0] and 0 <= x < plane.shape[1]:
                result[row, column] = plane[y, x]
    return result

"""Windows the naive way: pad the picture far enough, cut, resize pixel by pixel."""

import math

import numpy as np


def resize_bilinear(values, height, width):
    """(h, w) to (height, width) by loops: pixel centres at halves, ends repeated."""
    rows, columns = values.shape
    result = np.zeros((height, width))
    for i in range(height):
        for j in range(width):
            y = min(max((i + 0.5) * rows / height - 0.5, 0), rows - 1)
            x = min(max((j + 0.5) * columns / width - 0.5, 0), columns - 1)
            a, b = math.floor(y), math.floor(x)
            c, d = min(a + 1, rows - 1), min(b + 1, columns - 1)
            top = (1 - (x - b)) * values[a, b] + (x - b) * values[a, d]
            bottom = (1 - (x - b)) * values[c, b] + (x - b) * values[c, d]
            result[i, j] = (1 - (y - a)) * top + (y - a) * bottom
    return result


def padded(values, margin, fill):
    """(..., H, W) with a margin on each of the four sides."""
    sides = [(0, 0)] * (values.ndim - 2) + [(margin, margin)] * 2
    return np.pad(values, sides, constant_values=fill)


def crop_padded(image, box, size, margin=100):
    x0, y0, x1, y1 = (int(edge) + margin for edge in box)
    canvas = padded(np.moveaxis(image, 2, 0), margin, 0)
    windows = [resize_bilinear(plane[y0:y1, x0:x1], size, size) for plane in canvas]
    return np.stack(windows, axis=2)


def crop_label_map_padded(label_map, box, size, outside, margin=100):
    x0, y0, x1, y1 = (int(edge) + margin for edge in box)
    window = padded(label_map, margin, outside)[y0:y1, x0:x1]
    at = [[math.floor((i + 0.5) * side / size) for i in range(size)] for side in window.shape]
    return window[np.ix_(*at)]


def paste_padded(canvas, scores, box, how, margin=100):
    x0, y0, x1, y1 = (int(edge) + margin for edge in box)
    large = padded(canvas, margin, 0).astype(np.float64)
    for plane, window in zip(large, scores, strict=True):
        resized = resize_bilinear(window, y1 - y0, x1 - x0)
        part = plane[y0:y1, x0:x1]
        part[:] = np.maximum(part, resized) if how == "max" else part + resized
    return large[:, margin:-margin, margin:-margin]

"""The words for arrays, once, for every signature.

The tests execute these shapes (jaxtyping with beartype); in everyday use they cost nothing.
Axes: n pictures, c channels, h height, w width, k classes, b boxes.
"""

import numpy as np
from jaxtyping import Bool, Float, Float32, Int32, Int64, Integer, UInt8
from torch import Tensor

Image = UInt8[np.ndarray, "h w 3"]
"""RGB, 0 to 255."""
LabelMap = UInt8[np.ndarray, "h w"]
"""The class of each pixel; 255 counts nowhere."""
InstanceMap = Int32[np.ndarray, "h w"]
"""The object each pixel belongs to, from 1; 0 is no object."""
Probabilities = Float32[np.ndarray, "k h w"]
"""0 to 1; the classes of a pixel add up to 1."""
BoxArray = Float32[np.ndarray, "b 4"]
"""x0, y0, x1, y1 in pixels; x1 and y1 lie outside."""
BoxScores = Float32[np.ndarray, " b"]
"""Objectness of each box; higher is better."""

ImageBatch = Float[Tensor, "n c h w"]
"""RGB in 0 to 1, then (value - mean) / std."""
Features = Float[Tensor, "n c h w"]
"""Activations of any layer."""
LogitsBatch = Float[Tensor, "n k h w"]
"""Before softmax; any real number."""
LabelBatch = Int64[Tensor, "n h w"]
"""Classes, 255 where ignored."""

__all__ = [
    "Bool",
    "BoxArray",
    "BoxScores",
    "Features",
    "Float",
    "Float32",
    "Image",
    "ImageBatch",
    "InstanceMap",
    "Int32",
    "Int64",
    "Integer",
    "LabelBatch",
    "LabelMap",
    "LogitsBatch",
    "Probabilities",
    "Tensor",
    "UInt8",
]

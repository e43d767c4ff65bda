"""Boxes that may hold an object, and windows of a picture cut out and put back.

Three ways to propose: Edge Boxes (Zitnick & Dollár 2014) and selective search (Uijlings et al.
2013), both from OpenCV's contributed modules (the extra `proposals`), and sliding windows of
several sizes, which need nothing. Windows may run past the picture's border, as the published
training and inference do; what lies outside is never stored.

Boxes are (B, 4) float32 in pixels, x0 y0 x1 y1, half-open: one pixel is x, y, x + 1, y + 1.
"""

from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32, Int32, Int64, Integer, UInt8
from scipy import ndimage

from deconvnet.errors import MissingExtraError, RecipeError, ShapeError
from deconvnet.labels import IGNORED
from deconvnet.shapes import BoxArray, BoxScores, Image, InstanceMap

METHODS = ("edge_boxes", "selective_search", "windows")
"""What `propose` knows; the first two need the extra `proposals`."""

WORKING_SIDE = 256
"""Pictures are shrunk to this longest side (pixels) before OpenCV looks for boxes: at 500
Edge Boxes took 6 times as long here, for a recall no better."""

EDGE_SIGMA = 2.0
"""Pixels of the shrunk picture over which its gradient is taken."""


def default_method() -> str:
    """The best method this installation has: "edge_boxes" with OpenCV, else "windows"."""
    return "edge_boxes" if find_spec("cv2") is not None else "windows"


def propose(
    image: np.ndarray, method: str = "edge_boxes", max_boxes: int = 2000
) -> tuple[BoxArray, BoxScores]:
    """Propose boxes that may hold an object, best first; the same picture gives the same boxes.

    Args:
        image: (H, W, 3) uint8 RGB.
        method: "edge_boxes", "selective_search" or "windows"; see `default_method`.
        max_boxes: At most so many boxes; a small or even picture may give fewer, or none.

    Returns:
        The boxes, within the picture, and their scores: Edge Boxes' objectness, or a falling
        rank from 1 towards 0 where the method has none. Scores of two methods do not compare.

    Raises:
        ShapeError: The image is not of that shape and type.
        RecipeError: There is no such method, or max_boxes is under 1.
        MissingExtraError: The method needs OpenCV's contributed modules.

    >>> boxes, scores = propose(np.zeros((64, 96, 3), np.uint8), "windows", max_boxes=3)
    >>> boxes[0], len(scores)
    (array([ 0.,  0., 96., 64.], dtype=float32), 3)
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
        raise ShapeError(
            f"proposals were asked for an image of shape {image.shape} and type {image.dtype}; "
            "give RGB of shape (height, width, 3) and type uint8, with at least one pixel."
        )
    if max_boxes < 1:
        raise RecipeError(f"max_boxes is {max_boxes}; ask for 1 box or more.")
    if method == "windows":
        return _windows(image, max_boxes)
    if method == "edge_boxes":
        return _edge_boxes(image, max_boxes)
    if method == "selective_search":
        return _selective_search(image, max_boxes)
    raise RecipeError(
        f"there is no proposal method {method!r}; use one of {', '.join(METHODS)}."
    )


def _edge_boxes(image: Image, max_boxes: int) -> tuple[BoxArray, BoxScores]:
    """Edge Boxes on thinned gradient edges, with the authors' scoring defaults.

    Source: Zitnick & Dollár 2014; differs: they take the edges from a learned detector, whose
    weights are for research only; ours are the picture's gradient, so recall is lower.
    """
    ximgproc = _opencv("Edge Boxes").ximgproc
    small, scale = _shrink(image)
    strength, direction = thinned_edges(small)
    search = ximgproc.createEdgeBoxes(
        alpha=0.65,
        beta=0.75,
        eta=1.0,
        minScore=0.01,
        maxBoxes=max_boxes,
        edgeMinMag=0.1,
        edgeMergeThr=0.5,
        clusterMinMag=0.5,
        maxAspectRatio=3.0,
        minBoxArea=1000 * scale[0] * scale[1],
        gamma=2.0,
        kappa=1.5,
    )
    found, scores = search.getBoundingBoxes(strength, direction)
    boxes = _from_corner_and_size(found, image, scale)
    scores = np.array([] if scores is None else scores, np.float32).reshape(-1)
    order = np.argsort(-scores, kind="stable")[:max_boxes]
    return boxes[order], scores[order]


def _selective_search(image: Image, max_boxes: int) -> tuple[BoxArray, BoxScores]:
    """Selective search in its fast mode.

    Source: Uijlings et al. 2013; the order is theirs, place by size times a random number,
    which OpenCV draws afresh and we from a fixed seed; differs: a shrunk picture.
    """
    segmentation = _opencv("Selective search").ximgproc.segmentation
    small, scale = _shrink(image)
    search = segmentation.createSelectiveSearchSegmentation()
    search.setBaseImage(np.ascontiguousarray(small[:, :, ::-1]))  # OpenCV counts on BGR
    search.switchToSelectiveSearchFast()
    boxes = np.unique(_from_corner_and_size(search.process(), image, scale), axis=0)
    boxes = boxes[largest_first(boxes)]
    place = np.arange(1, len(boxes) + 1) * np.random.default_rng(0).random(len(boxes))
    boxes = boxes[np.argsort(place, kind="stable")[:max_boxes]]
    return boxes, _falling_rank(len(boxes))


def _windows(image: Image, max_boxes: int) -> tuple[BoxArray, BoxScores]:
    """Windows of falling size, each size and shape covering the whole picture evenly.

    Neighbours of one size overlap by half. Sizes fall by the root of 2 from the whole picture,
    at the aspect ratios 1:2, 1:1 and 2:1 of width to height.
    """
    height, width = image.shape[:2]
    boxes = [(0.0, 0.0, float(width), float(height))]
    side = float(max(height, width))
    while len(boxes) < max_boxes and side >= 1:
        for stretch in (1, 2**0.5, 0.5**0.5):
            box_width = min(side * stretch, float(width))
            box_height = min(side / stretch, float(height))
            columns = np.linspace(0, width - box_width, _count(width, box_width))
            rows = np.linspace(0, height - box_height, _count(height, box_height))
            boxes += [(x, y, x + box_width, y + box_height) for y in rows for x in columns]
        side /= 2**0.5
    unique = list(dict.fromkeys(boxes))[:max_boxes]
    return np.array(unique, np.float32), _falling_rank(len(unique))


def _count(length: int, window: float) -> int:
    """How many windows of a length cover another when each overlaps the next by half."""
    return int(np.ceil(2 * (length - window) / window - 1e-6)) + 1


def thinned_edges(
    image: Image,
) -> tuple[Float32[np.ndarray, "h w"], Float32[np.ndarray, "h w"]]:
    """Edges one pixel wide from the picture's gradient, its three colours added up.

    Edge Boxes groups edge pixels into curves; edges left wide make so many groups that a
    picture takes most of a minute instead of a tenth of a second.

    Returns:
        Strength, 0 to 1, zero off the ridges, and the direction across the edge, 0 to pi.

    Raises:
        MissingExtraError: OpenCV is not installed.

    Source: the gradient of a colour picture, Di Zenzo 1986; thinning, Canny 1986.
    """
    cv2 = _opencv("Edge Boxes")
    smooth = cv2.GaussianBlur(image.astype(np.float32), (0, 0), EDGE_SIGMA)
    along_x = cv2.Scharr(smooth, cv2.CV_32F, 1, 0) / 32  # grey levels a pixel, (H, W, 3)
    along_y = cv2.Scharr(smooth, cv2.CV_32F, 0, 1) / 32
    xx, yy = (along_x**2).sum(axis=2), (along_y**2).sum(axis=2)
    strength = np.sqrt(xx + yy)
    direction = 0.5 * np.arctan2(2 * (along_x * along_y).sum(axis=2), xx - yy)
    strongest = np.percentile(strength, 99.9)
    if strongest < 0.1:  # an even picture: what is left is rounding
        return np.zeros_like(strength), np.zeros_like(strength)

    row, column = np.indices(strength.shape, dtype=np.float32)
    down, right = np.sin(direction), np.cos(direction)
    ahead, behind = (
        cv2.remap(strength, column + sign * right, row + sign * down, cv2.INTER_LINEAR)
        for sign in (1, -1)
    )
    ridge = (strength >= ahead) & (strength >= behind)
    thinned = np.where(ridge, np.minimum(strength / strongest, 1), 0)
    return thinned.astype(np.float32), np.mod(direction, np.pi).astype(np.float32)


def _opencv(what: str) -> Any:
    """OpenCV with its contributed modules."""
    try:
        import cv2
    except ImportError as error:
        raise MissingExtraError(what, "proposals") from error
    if not hasattr(cv2, "ximgproc"):  # the plain wheel of OpenCV lacks the contributed modules
        raise MissingExtraError(what, "proposals")
    return cv2


def _shrink(
    image: Image,
) -> tuple[UInt8[np.ndarray, "height width 3"], tuple[float, float]]:
    """The picture at WORKING_SIDE at most, and its scale along x and y."""
    height, width = image.shape[:2]
    factor = min(1, WORKING_SIDE / max(height, width))
    size = max(1, round(width * factor)), max(1, round(height * factor))
    cv2 = _opencv("Proposing boxes")
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA) if factor < 1 else image
    return small, (size[0] / width, size[1] / height)


def _from_corner_and_size(
    found: Integer[np.ndarray, "b 4"] | tuple[()], image: Image, scale: tuple[float, float]
) -> BoxArray:
    """OpenCV's x, y, width, height on the shrunk picture, as boxes on the picture."""
    rectangles = np.asarray(found, np.float32).reshape(-1, 4)
    boxes = np.hstack([rectangles[:, :2], rectangles[:, :2] + rectangles[:, 2:]])
    return clip(boxes / np.array([*scale, *scale], np.float32), image.shape[0], image.shape[1])


def _falling_rank(count: int) -> BoxScores:
    return np.linspace(1, 0, count, endpoint=False, dtype=np.float32)


def clip(boxes: BoxArray, height: int, width: int) -> BoxArray:
    """Cut boxes off at the border of a picture of that size."""
    return np.clip(boxes, 0, np.array([width, height, width, height], np.float32))


def enlarge(boxes: BoxArray, factor: int | float = 1.2) -> BoxArray:
    """Boxes with the same centre and sides this many times as long; they may pass the border.

    Source: the context margin of the published training, 1.2 times.

    >>> enlarge(np.float32([[10, 10, 20, 30]]), 2)
    array([[ 5.,  0., 25., 40.]], dtype=float32)
    """
    centre, half = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]) / 2
    return np.hstack([centre - half * factor, centre + half * factor]).astype(np.float32)


def square(boxes: BoxArray) -> BoxArray:
    """Squares of each box's longer side, with the same centre; they may pass the border.

    Source: the authors' list of training windows (squares, with negative corners).

    >>> square(np.float32([[10, 10, 20, 30]]))
    array([[ 5., 10., 25., 30.]], dtype=float32)
    """
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = (boxes[:, 2:] - boxes[:, :2]).max(axis=1, keepdims=True) / 2
    return np.hstack([centre - half, centre + half]).astype(np.float32)


def largest_first(boxes: BoxArray) -> Int64[np.ndarray, " b"]:
    """The order of falling area, in which the paper's figure 6 adds proposals."""
    return np.argsort(-np.prod(boxes[:, 2:] - boxes[:, :2], axis=1), kind="stable")


def select(
    boxes: BoxArray, scores: BoxScores, *, count: int = 50, least_side: int | float = 112
) -> tuple[Float32[np.ndarray, "c 4"], Float32[np.ndarray, " c"]]:
    """The first `count` boxes (best first) of those with both sides of at least `least_side`.

    Source: the authors' inference code, on boxes already enlarged: one too small is passed over
    and does not count.
    """
    kept = np.flatnonzero((boxes[:, 2:] - boxes[:, :2]).min(axis=1) >= least_side)[:count]
    return boxes[kept], scores[kept]


def iou(first: BoxArray, second: Float32[np.ndarray, "c 4"]) -> Float32[np.ndarray, "b c"]:
    """Intersection over union of every box of one list with every box of the other, 0 to 1.

    >>> iou(np.float32([[0, 0, 2, 2]]), np.float32([[1, 0, 3, 2], [5, 5, 6, 6]]))
    array([[0.33333334, 0.        ]], dtype=float32)
    """
    corner = np.maximum(first[:, None, :2], second[None, :, :2])
    far_corner = np.minimum(first[:, None, 2:], second[None, :, 2:])
    shared = np.prod(np.maximum(far_corner - corner, 0), axis=2)  # (B, C)
    area, other_area = (
        np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) for boxes in (first, second)
    )
    union = area[:, None] + other_area[None, :] - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def recall(proposed: BoxArray, truth: Float32[np.ndarray, "c 4"], threshold: float) -> float:
    """Share of the true boxes that a proposal overlaps by at least this IoU; NaN for none."""
    if len(truth) == 0:
        return float("nan")
    if len(proposed) == 0:
        return 0.0
    return float(np.mean(iou(proposed, truth).max(axis=0) >= threshold))


def boxes_of(instance_map: InstanceMap) -> tuple[BoxArray, Int32[np.ndarray, " b"]]:
    """The tight box around each object of an instance map, and its id, in the order of ids."""
    ids, index = np.unique(instance_map, return_inverse=True)
    found = ndimage.find_objects(index.reshape(instance_map.shape) + 1)
    corners = [(x.start, y.start, x.stop, y.stop) for y, x in found]
    boxes = np.array(corners, np.float32).reshape(-1, 4)
    return boxes[ids > 0], ids[ids > 0]


class _Taps(NamedTuple):
    """Where the samples of one axis of a resized window come from."""

    first: Int64[np.ndarray, " size"]
    """The source sample at or before each, counted from the window's start."""
    second: Int64[np.ndarray, " size"]
    """The one after it; the last stays the last."""
    share: Float32[np.ndarray, " size"]
    """Weight of the second, 0 to 1."""


def _taps(length: int, size: int) -> _Taps:
    """Bilinear resizing of `length` samples to `size`: centres at halves, no smoothing."""
    place = np.clip((np.arange(size) + 0.5) * (length / size) - 0.5, 0, length - 1)
    first = place.astype(np.int64)
    return _Taps(first, np.minimum(first + 1, length - 1), (place - first).astype(np.float32))


def _whole(box: Float32[np.ndarray, "4"]) -> tuple[int, int, int, int]:
    """The box on whole pixels, at least one wide and high."""
    x0, y0, x1, y1 = (int(edge) for edge in np.rint(box))
    return x0, y0, max(x1, x0 + 1), max(y1, y0 + 1)


def crop(
    image: Image, box: Float32[np.ndarray, "4"], size: int
) -> UInt8[np.ndarray, "size size 3"]:
    """Cut out a window, black past the picture's border, and resize it to size x size.

    The same as padding the picture with 0, cutting and resizing, without the padded picture.

    Source: the authors' window data layer, which pads before it subtracts the mean.

    Args:
        image: (H, W, 3) RGB.
        box: x0, y0, x1, y1, rounded to whole pixels; may lie partly or wholly outside.
        size: Side of the result in pixels.
    """
    x0, y0, x1, y1 = _whole(box)
    rows, columns = _taps(y1 - y0, size), _taps(x1 - x0, size)
    left, right = max(x0, 0), min(x1, image.shape[1])
    top, bottom = max(y0, 0), min(y1, image.shape[0])
    if left >= right or top >= bottom:
        return np.zeros((size, size, 3), np.uint8)
    inside = image[top:bottom, left:right]
    tall = _blend(inside, rows, y0 - top, axis=0)  # (size, width inside, 3)
    window = _blend(tall, columns, x0 - left, axis=1)  # (size, size, 3)
    return np.rint(window).astype(np.uint8)


def _blend(
    values: Integer[np.ndarray, "h w c"] | Float32[np.ndarray, "h w c"],
    taps: _Taps,
    offset: int,
    axis: int,
) -> Float32[np.ndarray, "a b c"]:
    """Resample one axis; a sample outside the values is 0. Offset: window's start in them."""
    shape = [-1 if index == axis else 1 for index in range(values.ndim)]
    samples = []
    for place, weight in ((taps.first, 1 - taps.share), (taps.second, taps.share)):
        index = place + offset
        known = (index >= 0) & (index < values.shape[axis])
        sample = np.take(values, np.where(known, index, 0), axis=axis)
        samples.append(sample * np.where(known, weight, 0).astype(np.float32).reshape(shape))
    return samples[0] + samples[1]


def crop_label_map(
    label_map: Integer[np.ndarray, "h w"],
    box: Float32[np.ndarray, "4"],
    size: int,
    *,
    outside: int = IGNORED,
) -> Integer[np.ndarray, "size size"]:
    """Cut out a window of a label map and resize it to size x size by the nearest pixel.

    Args:
        label_map: (H, W), of any integer type, so an instance map too.
        box: As for `crop`.
        size: Side of the result in pixels.
        outside: What stands past the picture's border.
    """
    x0, y0, x1, y1 = _whole(box)
    row = y0 + ((2 * np.arange(size) + 1) * (y1 - y0)) // (2 * size)
    column = x0 + ((2 * np.arange(size) + 1) * (x1 - x0)) // (2 * size)
    height, width = label_map.shape
    window = label_map[np.clip(row, 0, height - 1)][:, np.clip(column, 0, width - 1)]
    known = ((row >= 0) & (row < height))[:, None] & ((column >= 0) & (column < width))
    return np.where(known, window, np.asarray(outside, label_map.dtype))


def paste(
    canvas: Float32[np.ndarray, "k height width"],
    scores: Float32[np.ndarray, "k h w"],
    box: Float32[np.ndarray, "4"],
    how: str = "max",
    counts: Float32[np.ndarray, "height width"] | None = None,
) -> None:
    """Resize score maps to a box bilinearly and merge them into the canvas, in place.

    What lies past the canvas is never computed, and classes are done one by one, so the memory
    used is that of one class of the picture.

    Args:
        canvas: (K, H, W) scores of the whole picture so far.
        scores: (K, h, w) scores of one window.
        box: Where the window was, as for `crop`; may lie partly or wholly outside.
        how: "max" keeps the greater score of each class (the release, from a canvas of 0);
            "mean" adds, and the mean is canvas / counts where counts are above 0.
        counts: (H, W), how many windows have covered each pixel; goes with "mean".

    Raises:
        RecipeError: There is no such way to merge, or "mean" came without counts.

    Source: the authors' inference code; differs: windows are clipped in place of a padded
    canvas, and without the release's shift by one pixel.
    """
    if how not in ("max", "mean"):
        raise RecipeError(f"windows cannot be merged by {how!r}; use 'max' or 'mean'.")
    if how == "mean" and counts is None:
        raise RecipeError("merging by 'mean' needs counts: an (H, W) float32 array of zeros.")
    x0, y0, x1, y1 = _whole(box)
    left, right = max(x0, 0), min(x1, canvas.shape[2])
    top, bottom = max(y0, 0), min(y1, canvas.shape[1])
    if left >= right or top >= bottom:
        return
    rows = _Taps(*(part[top - y0 : bottom - y0] for part in _taps(scores.shape[1], y1 - y0)))
    columns = _Taps(*(part[left - x0 : right - x0] for part in _taps(scores.shape[2], x1 - x0)))
    merge = np.maximum if how == "max" else np.add
    for plane, window in zip(canvas[:, top:bottom, left:right], scores, strict=True):
        wide = np.take(window, columns.first, axis=1)  # (h, width inside)
        wide += columns.share * (np.take(window, columns.second, axis=1) - wide)
        pasted = wide[rows.first]  # (height inside, width inside)
        pasted += rows.share[:, None] * (wide[rows.second] - pasted)
        merge(plane, pasted, out=plane)
    if counts is not None:
        counts[top:bottom, left:right] += 1

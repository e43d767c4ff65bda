"""Random changes of a sample: image, label map and instance map stay on one another.

Labels are never interpolated: what is enlarged or warped takes the nearest label. What comes
from outside the picture is ignored (255) in the label map, no object, and GREY in the image.
"""

import math
from typing import NamedTuple

import numpy as np
import PIL.Image
import torch
from torch.nn import functional

from deconvnet.data.sample import Sample
from deconvnet.errors import ShapeError
from deconvnet.labels import IGNORED
from deconvnet.shapes import Bool, Float, Float32, Image, Integer, UInt8

GREY = 124
"""What fills the image outside of the picture: about ImageNet's mean."""

ELASTIC_GRID = 3
"""U-Net's displacements are drawn on a grid of 3 x 3 and interpolated."""

_LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)


Number = int | float


class Window(NamedTuple):
    """A rectangle in the pixels of a picture, perhaps beyond its edges."""

    top: Number
    left: Number
    height: Number
    width: Number


def augment(
    sample: Sample,
    rng: np.random.Generator,
    *,
    crop_size: int | tuple[int, int],
    scale: tuple[Number, Number] = (0.6, 1.6),
    flip: Number = 0.5,
    color: Number = 0.2,
    elastic: Number = 0,
) -> Sample:
    """A random part of a sample at a random scale, perhaps mirrored, recoloured and warped.

    Args:
        sample: Stays as it is.
        rng: Decides everything; the same state gives the same bytes.
        crop_size: Side, or height and width, of the result in pixels.
        scale: Least and largest factor of enlargement, drawn evenly on a logarithmic scale.
        flip: Chance of a mirror image, 0 to 1.
        color: Strength of changes of brightness, contrast, saturation, hue and white balance,
            0 to 1.
        elastic: Standard deviation of the displacements in pixels of the result; 0 for none.

    Raises:
        ShapeError: If a setting is out of its range.
    """
    height, width = (crop_size, crop_size) if isinstance(crop_size, int) else crop_size
    if min(height, width) < 1 or not 0 < scale[0] <= scale[1]:
        raise ShapeError(
            f"The crop is to have {height} x {width} pixels at a scale of {scale[0]} to "
            f"{scale[1]}; give sizes of at least 1 and two factors above 0, the smaller first."
        )
    factor = math.exp(rng.uniform(math.log(scale[0]), math.log(scale[1])))
    window = random_window(sample.label_map.shape, (height / factor, width / factor), rng)
    result = resized_part(sample, window, (height, width))
    if rng.random() < flip:
        result = mirrored(result)
    if elastic > 0:
        result = warped(result, elastic_displacements((height, width), elastic, rng))
    if color > 0:
        result = result._replace(image=recolored(result.image, rng, color))
    return result


def random_window(
    shape: tuple[int, ...], size: tuple[Number, Number], rng: np.random.Generator
) -> Window:
    """A window of this size, inside the picture if it fits, else with the picture inside it."""
    top, left = (
        float(rng.uniform(min(0, length - side), max(0, length - side)))
        for length, side in zip(shape, size, strict=True)
    )
    # a whole number of pixels, so that a window of scale 1 is copied and not resampled
    if all(side == round(side) for side in size):
        top, left = round(top), round(left)
    return Window(top, left, *size)


def resized_part(sample: Sample, window: Window, size: tuple[int, int]) -> Sample:
    """What a window shows, resized: the image smoothly, the labels by the nearest pixel.

    Args:
        sample: Stays as it is.
        window: In pixels of the sample.
        size: Height and width of the result in pixels.
    """
    height, width = sample.label_map.shape
    rows = _nearest(window.top, window.height, size[0])
    columns = _nearest(window.left, window.width, size[1])
    outside = _Outside((rows < 0) | (rows >= height), (columns < 0) | (columns >= width))
    rows, columns = rows.clip(0, height - 1), columns.clip(0, width - 1)
    label_map = sample.label_map.take(rows, 0).take(columns, 1)
    instance_map = None
    if sample.instance_map is not None:
        instance_map = outside.filled(sample.instance_map.take(rows, 0).take(columns, 1), 0)
    image = _smooth_part(sample.image, window, size)
    return Sample(
        outside.filled(image, GREY),
        outside.filled(label_map, IGNORED),
        instance_map,
        sample.name,
    )


def resize(sample: Sample, size: tuple[int, int]) -> Sample:
    """The whole sample at another height and width."""
    height, width = sample.label_map.shape
    return resized_part(sample, Window(0, 0, height, width), size)


def center_crop(sample: Sample, size: int | tuple[int, int]) -> Sample:
    """The middle of a sample, padded where the sample is smaller."""
    height, width = (size, size) if isinstance(size, int) else size
    rows, columns = sample.label_map.shape
    window = Window((rows - height) // 2, (columns - width) // 2, height, width)
    return resized_part(sample, window, (height, width))


def mirrored(sample: Sample) -> Sample:
    """Left and right exchanged."""
    image, label_map, instance_map, name = sample
    return Sample(
        np.ascontiguousarray(image[:, ::-1]),
        np.ascontiguousarray(label_map[:, ::-1]),
        None if instance_map is None else np.ascontiguousarray(instance_map[:, ::-1]),
        name,
    )


def recolored(image: Image, rng: np.random.Generator, strength: Number) -> Image:
    """Another brightness, contrast, saturation, hue and white balance.

    Each of the first three is multiplied by a factor from 1 - strength to 1 + strength; the hue
    turns by up to a tenth of strength of the colour circle. For the white balance, in which
    cameras and hours of the day differ, red, green and blue are each multiplied by a factor
    from 1 - strength / 2 to 1 + strength / 2. All are one product of each pixel with a matrix,
    and one sum.
    """
    brightness, contrast, saturation = 1 + strength * rng.uniform(-1, 1, 3)
    turn = 2 * math.pi * 0.1 * strength * rng.uniform(-1, 1)
    grey = np.tile(_LUMINANCE, (3, 1))
    saturate = saturation * np.eye(3) + (1 - saturation) * grey
    matrix = brightness * contrast * (_hue_rotation(turn) @ saturate)
    balance = 1 + strength / 2 * rng.uniform(-1, 1, 3)
    matrix = balance[:, None] * matrix
    middle = float(_LUMINANCE @ image[::8, ::8].reshape(-1, 3).mean(axis=0))
    offset = brightness * (1 - contrast) * middle * balance
    pixels = image.reshape(-1, 3).astype(np.float32) @ matrix.T.astype(np.float32)
    pixels += (offset + 0.5).astype(np.float32)  # rounds when cut off
    return np.clip(pixels, 0, 255, out=pixels).astype(np.uint8).reshape(image.shape)


def elastic_displacements(
    size: tuple[int, int], deviation: Number, rng: np.random.Generator
) -> Float32[np.ndarray, "2 h w"]:
    """Smooth random displacements in rows and columns, in pixels.

    Source: Ronneberger et al. 2015, section 3.1: normal, on a 3 x 3 grid, bicubic between;
    differs: the grid's outer points lie half a cell inside the picture.
    """
    grid = rng.normal(0, deviation, (2, ELASTIC_GRID, ELASTIC_GRID)).astype(np.float32)
    planes = [
        PIL.Image.fromarray(plane).resize(size[::-1], PIL.Image.Resampling.BICUBIC)
        for plane in grid
    ]
    return np.stack([np.asarray(plane) for plane in planes])


def warped(sample: Sample, displacements: Float32[np.ndarray, "2 h w"]) -> Sample:
    """Each pixel takes what lies at its place plus its displacement."""
    height, width = sample.label_map.shape
    y = displacements[0] + np.arange(height, dtype=np.float32)[:, None]
    x = displacements[1] + np.arange(width, dtype=np.float32)[None]
    rows, columns = np.rint(y).astype(np.intp), np.rint(x).astype(np.intp)
    outside = (rows < 0) | (rows >= height) | (columns < 0) | (columns >= width)
    nearest = rows.clip(0, height - 1) * width + columns.clip(0, width - 1)
    label_map = sample.label_map.ravel()[nearest]
    label_map[outside] = IGNORED
    instance_map = None
    if sample.instance_map is not None:
        instance_map = sample.instance_map.ravel()[nearest]
        instance_map[outside] = 0
    image = _sampled_at(sample.image, y, x)
    image[outside] = GREY
    return Sample(image, label_map, instance_map, sample.name)


class _Outside(NamedTuple):
    """Which rows and columns of a result lie outside of the picture."""

    rows: Bool[np.ndarray, " h"]
    columns: Bool[np.ndarray, " w"]

    def filled(self, plane: np.ndarray, value: int) -> np.ndarray:
        """The plane, its own array, with the value outside."""
        if self.rows.any():
            plane[self.rows] = value
        if self.columns.any():
            plane[:, self.columns] = value
        return plane


def _nearest(start: Number, length: Number, count: int) -> Integer[np.ndarray, " n"]:
    """The pixel in which the centre of each of `count` equal parts of a span lies."""
    centers = start + (np.arange(count) + 0.5) * (length / count)
    return np.floor(centers).astype(np.intp)


def _smooth_part(
    image: Image, window: Window, size: tuple[int, int]
) -> UInt8[np.ndarray, "rows columns 3"]:
    """The window resized with a triangle filter; beyond the picture its edge goes on."""
    rows, top = _region(window.top, window.height, size[0], image.shape[0])
    columns, left = _region(window.left, window.width, size[1], image.shape[1])
    height, width = image.shape[:2]
    if rows.start >= 0 <= columns.start and rows.stop <= height and columns.stop <= width:
        part = image[rows, columns]
    else:
        y, x = np.arange(rows.start, rows.stop), np.arange(columns.start, columns.stop)
        part = image.take(y.clip(0, height - 1), 0).take(x.clip(0, width - 1), 1)
    if part.shape[:2] == size and (window.height, window.width) == (
        1.0 * size[0],
        1.0 * size[1],
    ):
        return part.copy()
    box = left, top, left + window.width, top + window.height
    smooth = PIL.Image.fromarray(part).resize(
        size[::-1], PIL.Image.Resampling.BILINEAR, box=box
    )
    return np.array(smooth)


def _region(start: Number, length: Number, count: int, whole: int) -> tuple[slice, Number]:
    """The pixels that a span needs, and where it starts in them.

    They are those it covers and, as far as the picture has them, those the filter reaches.
    """
    first, last = math.floor(start), math.ceil(start + length)
    if start == first and length == count:
        return slice(first, last), 0
    reach = math.ceil(max(1, length / count))
    first = min(first, max(first - reach, 0))
    last = max(last, min(last + reach, whole))
    return slice(first, last), start - first


def _hue_rotation(angle: float) -> Float[np.ndarray, "3 3"]:
    """Turns colours about the axis of greys."""
    third, root = (1 - math.cos(angle)) / 3, math.sin(angle) / math.sqrt(3)
    across = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]])
    return math.cos(angle) * np.eye(3) + third + root * across


def _sampled_at(
    image: Image, y: Float32[np.ndarray, "h w"], x: Float32[np.ndarray, "h w"]
) -> Image:
    """The image at these rows and columns, interpolated between four pixels."""
    height, width = y.shape
    grid = np.stack([(2 * x + 1) / width - 1, (2 * y + 1) / height - 1], axis=-1)
    planes = torch.from_numpy(image.transpose(2, 0, 1).astype(np.float32))[None]
    sampled = functional.grid_sample(
        planes, torch.from_numpy(grid)[None], padding_mode="border", align_corners=False
    )
    return np.ascontiguousarray((sampled[0] + 0.5).to(torch.uint8).numpy().transpose(1, 2, 0))

"""From a picture to its segmentation: read, standardise, run the network, refine, colour."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import PIL.Image
import torch
import torch.nn.functional as F
from torch import nn

from deconvnet import crf as dense_crf
from deconvnet import draw
from deconvnet.checkpoint import Config, load_checkpoint
from deconvnet.data.image_files import read_image, write_mask
from deconvnet.engines import accelerate
from deconvnet.errors import DeviceError, ShapeError
from deconvnet.instances import Aggregate, Protocol, instance_scores
from deconvnet.kernels.allocator import tune_allocator
from deconvnet.labels import Classes
from deconvnet.shapes import Float32, Image, LabelMap, Probabilities, Tensor

WHOLE_PIXELS = 4_000_000
"""Pictures above so many pixels, at the network's scale, are segmented in tiles."""

DEFAULT_TILE = 1024
"""Side in pixels of the tiles of such pictures."""

AnyImage = str | Path | PIL.Image.Image | np.ndarray


@dataclass(frozen=True)
class Segmentation:
    """What a predictor says about one picture."""

    image: Image = field(repr=False)
    label_map: LabelMap = field(repr=False)
    classes: Classes = field(repr=False)
    probabilities: Probabilities | None = field(default=None, repr=False)
    """Of each class at each pixel; none after prediction in tiles, unless asked for."""

    @property
    def share(self) -> dict[str, float]:
        """Share of the picture that each class covers, 0 to 1."""
        counts = np.bincount(self.label_map.ravel(), minlength=len(self.classes))
        return {
            name: float(counts[index] / self.label_map.size)
            for index, name in enumerate(self.classes.names)
        }

    def overlay(self, opacity: float = 0.55) -> PIL.Image.Image:
        """The picture with the classes in their colours over it."""
        drawn = draw.overlay(self.image, self.label_map, self.classes, opacity=opacity)
        return PIL.Image.fromarray(drawn)

    def save_mask(self, path: str | Path) -> None:
        """Write the label map as a palette PNG: the values are class indices."""
        write_mask(path, self.label_map, self.classes)


@dataclass(frozen=True)
class Predictor:
    """A trained network that segments pictures. Calls leave no trace in it.

    >>> import deconvnet
    >>> predictor = deconvnet.load("runs/mine/best")              # doctest: +SKIP
    >>> predictor("street.jpg").share["ball"]                     # doctest: +SKIP
    0.25
    """

    network: nn.Module = field(repr=False)
    """(N, C, H, W) -> logits (N, K, H, W), in eval mode."""
    config: Config
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def classes(self) -> Classes:
        """The classes it tells apart."""
        return self.config.classes

    def __call__(  # noqa: PLR0913 - the options of a prediction, by keyword
        self,
        image: AnyImage,
        *,
        proposals: int = 0,
        aggregate: Aggregate = "max",
        ensemble: "Predictor | None" = None,
        combine: Literal["mean", "product"] | None = None,
        crf: bool = False,
        protocol: Protocol = "paper",
        tile: int | None = None,
        tta: bool = False,
    ) -> Segmentation:
        """Segment one picture.

        Args:
            image: A path, a PIL image, or uint8 (H, W, 3) RGB.
            proposals: Segment so many object proposals and join them (section 4.3 of the
                paper); 0 segments the picture as a whole.
            aggregate: How the maps of the proposals are joined.
            ensemble: A second network, whose maps are combined with these (section 4.4).
            combine: mean of probabilities, or product of scores; none: as the protocol has it.
            crf: Refine with the dense CRF.
            protocol: Follow the paper, or the authors' released code where it differs.
            tile: Side in pixels of overlapping tiles, for pictures larger than that; none takes
                the picture whole up to WHOLE_PIXELS. Tiles keep no probabilities.
            tta: Average over the picture and its mirror image.

        Raises:
            ImageFileError: If the picture cannot be read.
            ShapeError: If an array is no picture.
        """
        pixels = as_image(image)
        scaled = pixels.shape[0] * pixels.shape[1] * self.config.input_scale**2
        if not (proposals or crf or ensemble) and (tile or scaled > WHOLE_PIXELS):
            label_map = self._in_tiles(pixels, tile or DEFAULT_TILE, tta=tta)
            return Segmentation(pixels, label_map, self.classes)
        scores = (
            torch.from_numpy(
                instance_scores(self, pixels, proposals, aggregate=aggregate, protocol=protocol)
            )
            if proposals
            else self.scores(pixels, tta=tta)
        )
        if ensemble is None:
            probabilities = scores.softmax(0)
        else:
            combine = combine or ("product" if protocol == "release" else "mean")
            probabilities = combined(scores, ensemble.scores(pixels, tta=tta), combine)
        refined = probabilities.cpu().numpy()
        if crf:
            refined = dense_crf.refine(pixels, refined)
        label_map = refined.argmax(0).astype(np.uint8)
        return Segmentation(pixels, label_map, self.classes, refined)

    def probabilities(self, image: Image, *, tta: bool = False) -> Probabilities:
        """Class probabilities of the picture as a whole."""
        return self.scores(image, tta=tta).softmax(0).cpu().numpy()

    def scores(self, image: Image, *, tta: bool = False) -> Float32[Tensor, "k h w"]:
        """Class scores of the picture as a whole; with tta the mean with its mirror image's."""
        scores = self.logits(image)
        if tta:
            scores = (scores + self.logits(np.ascontiguousarray(image[:, ::-1])).flip(-1)) / 2
        return scores

    def logits(self, image: Image) -> Float32[Tensor, "k h w"]:
        """Class scores before softmax, at the picture's own size."""
        height, width = image.shape[:2]
        with torch.inference_mode():
            logits = self.network(self.standardised(image)[None])
            if logits.shape[-2:] != (height, width):
                logits = F.interpolate(logits, (height, width), mode="bilinear")
        return logits[0].float()

    def standardised(self, image: Image) -> Float32[Tensor, "c h w"]:
        """The picture as the network takes it, at the network's scale."""
        scale = self.config.input_scale
        return self.normalised(image if scale == 1 else _rescaled(image, scale))

    def normalised(self, image: Image) -> Float32[Tensor, "c h w"]:
        """(RGB / 255 - mean) / std; the mean of the channels where the network takes one."""
        config = self.config
        tensor = (
            torch.from_numpy(np.array(image)).to(self.device).permute(2, 0, 1).float() / 255
        )
        if config.in_channels == 1:
            tensor = tensor.mean(0, keepdim=True)
        mean = torch.tensor(config.mean, device=self.device)[:, None, None]
        std = torch.tensor(config.std, device=self.device)[:, None, None]
        return (tensor - mean) / std

    def _in_tiles(self, image: Image, tile: int, *, tta: bool) -> LabelMap:
        """Segment overlapping tiles and keep the middle of each, so that no seam shows."""
        height, width = image.shape[:2]
        label_map = np.empty((height, width), np.uint8)
        side = round(tile / self.config.input_scale)
        for row, rows in _tile_spans(height, side):
            for column, columns in _tile_spans(width, side):
                part = np.ascontiguousarray(image[row, column])
                labels = self.probabilities(part, tta=tta).argmax(0).astype(np.uint8)
                inner_rows = slice(rows.start - row.start, rows.stop - row.start)
                inner_columns = slice(columns.start - column.start, columns.stop - column.start)
                label_map[rows, columns] = labels[inner_rows, inner_columns]
        return label_map


def load(
    checkpoint: str | Path,
    *,
    engine: Literal["torch", "native", "openvino", "plain"] = "torch",
    precision: Literal["fp32", "int8"] = "fp32",
    device: str = "auto",
) -> Predictor:
    """A predictor from a bundled name, a folder, or a Hugging Face Hub id.

    Args:
        checkpoint: Which network.
        engine: What runs it (deconvnet.accelerate); plain is the network as it was trained.
        precision: Number format of the engine.
        device: auto, cpu, cuda or mps.

    Raises:
        CheckpointError: If there is no such checkpoint or it is damaged.
    """
    tune_allocator()
    loaded = load_checkpoint(checkpoint)
    place = find_device(device)
    network = loaded.network.to(place)
    if engine != "plain":
        network = accelerate(network, engine=engine, precision=precision)
    return Predictor(network, loaded.config, place)


def find_device(name: str = "auto") -> torch.device:
    """The device of that name; auto is the GPU where there is one.

    Raises:
        DeviceError: If the machine has no such device.
    """
    has = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if name == "auto":
        return torch.device(next(device for device in ("cuda", "mps", "cpu") if has[device]))
    if not has.get(name, False):
        there = ", ".join(device for device, present in has.items() if present)
        raise DeviceError(f"This machine has no device '{name}'; it has {there}.")
    return torch.device(name)


def as_image(image: AnyImage) -> Image:
    """Any picture as uint8 (H, W, 3) RGB.

    Raises:
        ImageFileError: If a file cannot be read.
        ShapeError: If an array is no picture.
    """
    if isinstance(image, str | Path):
        return read_image(image)
    if isinstance(image, PIL.Image.Image):
        return np.array(image.convert("RGB"))
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise ShapeError(
            f"The picture is an array of {image.dtype} with shape {image.shape}; "
            "give uint8 with shape (height, width, 3), RGB from 0 to 255."
        )
    return image


def combined(
    first: Float32[Tensor, "k h w"],
    second: Float32[Tensor, "k2 h2 w2"],
    how: Literal["mean", "product"],
) -> Float32[Tensor, "k h w"]:
    """The probabilities two networks' scores make together.

    Args:
        first: Scores before softmax.
        second: Those of the other network, for the same classes.
        how: The mean of both softmax maps (paper), or the softmax of the product of what is
            above zero in the scores (release).

    Raises:
        ShapeError: If they do not tell apart the same number of classes.

    Source: Noh, Hong & Han 2015, section 4.4, and the released inference code.
    """
    if first.shape[0] != second.shape[0]:
        raise ShapeError(
            f"The networks of an ensemble tell apart {first.shape[0]} and {second.shape[0]} "
            "classes; give two that were trained on the same classes."
        )
    if how == "mean":
        return (first.softmax(0) + second.softmax(0)) / 2
    return (first.relu() * second.relu()).softmax(0)


def _rescaled(image: Image, factor: float) -> Image:
    height, width = image.shape[:2]
    size = max(1, round(width * factor)), max(1, round(height * factor))
    return np.array(PIL.Image.fromarray(image).resize(size, PIL.Image.Resampling.BILINEAR))


def _tile_spans(length: int, side: int) -> Iterator[tuple[slice, slice]]:
    """Spans of tiles along one side, and of what each decides: all of it, once.

    >>> [(tile.stop, inner.stop) for tile, inner in _tile_spans(20, 12)]
    [(12, 10), (20, 20)]
    """
    if length <= side:
        yield slice(0, length), slice(0, length)
        return
    margin = max(1, side // 8)
    count = -(-(length - 2 * margin) // (side - 2 * margin))
    starts = [round(index * (length - side) / max(count - 1, 1)) for index in range(count)]
    middles = [
        (start + side + following) // 2 for start, following in itertools.pairwise(starts)
    ]
    for start, inner in zip(starts, itertools.pairwise([0, *middles, length]), strict=True):
        yield slice(start, start + side), slice(*inner)

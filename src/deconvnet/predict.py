"""From a picture to its segmentation: read, standardise, run the network, refine, colour."""

import itertools
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import PIL.Image
import PIL.ImageOps
import torch
import torch.nn.functional as F
from torch import nn

from deconvnet import crf as dense_crf
from deconvnet import draw, familiarity
from deconvnet.checkpoint import Config, check_pictures, find_checkpoint, load_checkpoint
from deconvnet.crf import CrfSettings
from deconvnet.data import open_dataset
from deconvnet.data.image_files import as_rgb, read_image, write_mask
from deconvnet.engines import accelerate
from deconvnet.errors import DeviceError, RecipeError, ShapeError, UserError
from deconvnet.hub import push_to_hub, save_pretrained
from deconvnet.instances import Aggregate, Protocol, instance_scores
from deconvnet.int8 import MOST_PICTURES, check_int8
from deconvnet.kernels.allocator import tune_allocator
from deconvnet.labels import Classes
from deconvnet.layers.dropout import sample_dropout
from deconvnet.shapes import Float, Float32, Image, LabelMap, Probabilities, Tensor, UInt8
from deconvnet.standalone import as_fraction, scaled_side
from deconvnet.uncertainty import deviation, entropy

WHOLE_PIXELS = 4_000_000
"""Pictures above so many pixels, at the network's scale, are segmented in tiles."""

WHOLE_BYTES = 2**29
"""So are those whose probabilities would take more memory."""

DEFAULT_TILE = 1024
"""Side in pixels of the tiles of such pictures."""

LEAST_TILE = 16
"""The smallest that can be asked for; a network sees little in one."""

_BAND = 1024
"""Rows of an overlay that are painted together."""

Uncertainty = Literal["entropy", "flips", "dropout"]
"""How doubt is measured: by how the probabilities are spread over the classes, or by how far
the answers lie apart that the picture and its mirror image, or samples of dropout, get."""

SAMPLES = 8
"""Samples of dropout; the authors of Bayesian SegNet took 4, and 8 of SegNet-Basic."""

AnyImage = str | Path | PIL.Image.Image | np.ndarray


@dataclass(frozen=True)
class Segmentation:
    """What a predictor says about one picture."""

    image: Image = field(repr=False)
    label_map: LabelMap = field(repr=False)
    classes: Classes = field(repr=False)
    probabilities: Probabilities | None = field(default=None, repr=False)
    """Of each class at each pixel; none after prediction in tiles, unless asked for."""
    doubt_map: Float32[np.ndarray, "h w"] | None = field(default=None, repr=False)
    """How unsure the network is at each pixel, 0 to 1, if that was asked for."""
    strangeness: Mapping[str, float] | None = field(default=None, repr=False)
    """How far what the picture is like lies from the training data, in parts of what is usual;
    above 1 is unlike (deconvnet.familiarity). None where the checkpoint does not know it."""

    @property
    def share(self) -> dict[str, float]:
        """Share of the picture that each class covers, 0 to 1."""
        counts = np.bincount(self.label_map.ravel(), minlength=len(self.classes))
        return {
            name: float(counts[index] / self.label_map.size)
            for index, name in enumerate(self.classes.names)
        }

    @property
    def doubt(self) -> float | None:
        """Mean of the doubt map, 0 to 1."""
        return None if self.doubt_map is None else float(self.doubt_map.mean(dtype=np.float64))

    @property
    def unlike(self) -> str:
        """In what ways the picture is unlike the training data; empty if it is not."""
        return familiarity.in_words(self.strangeness or {})

    def overlay(self, opacity: float = 0.55) -> PIL.Image.Image:
        """The picture with the classes in their colours over it."""
        drawn = np.empty_like(self.image)
        height = len(drawn)
        for start in range(0, height, _BAND):  # a large picture needs no second and third copy
            top, bottom = max(start - 1, 0), min(start + _BAND + 1, height)
            band = draw.overlay(
                self.image[top:bottom],
                self.label_map[top:bottom],
                self.classes,
                opacity=opacity,
            )
            drawn[start : start + _BAND] = band[start - top :][:_BAND]
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
    origin: Mapping[str, str] = field(default_factory=dict, repr=False)
    """What was loaded and how: the checkpoint's folder, engine, precision."""

    @property
    def classes(self) -> Classes:
        """The classes it tells apart."""
        return self.config.classes

    @classmethod
    def from_pretrained(cls, checkpoint: str | Path, **options: Any) -> "Predictor":
        """`deconvnet.load` by the name that it has in Hugging Face's libraries."""
        return load(checkpoint, **options)

    def save_pretrained(self, folder: str | Path) -> Path:
        """Write the network as a checkpoint: weights, config.json and model card.

        Raises:
            CheckpointError: For an accelerated network that was not loaded from a checkpoint.
            OutputError: If the place cannot be written.
        """
        origin = self.origin.get("checkpoint")
        return save_pretrained(folder, self.network, self.config, origin=origin)

    def push_to_hub(self, name: str, *, private: bool = False, token: str | None = None) -> str:
        """Upload the network as owner/name, from where `deconvnet.load` takes it again.

        Returns:
            The address of the commit.

        Raises:
            MissingExtraError: When huggingface_hub is not installed.
            UserError: If the name is none, or the Hub refuses or cannot be reached.
        """
        with tempfile.TemporaryDirectory() as folder:
            saved = self.save_pretrained(folder)
            return push_to_hub(saved, name, private=private, token=token)

    def __call__(  # noqa: PLR0913 - the options of a prediction, by keyword
        self,
        image: AnyImage,
        *,
        proposals: int = 0,
        aggregate: Aggregate = "max",
        ensemble: "Predictor | None" = None,
        combine: Literal["mean", "product"] | None = None,
        crf: bool | CrfSettings = False,
        protocol: Protocol = "paper",
        tile: int | None = None,
        tta: bool = False,
        uncertainty: Uncertainty | None = None,
        samples: int = SAMPLES,
        seed: int = 0,
    ) -> Segmentation:
        """Segment one picture.

        Args:
            image: A path, a PIL image, or uint8 (H, W, 3) RGB.
            proposals: Segment so many object proposals and join them (section 4.3 of the
                paper); 0 segments the picture as a whole.
            aggregate: How the maps of the proposals are joined.
            ensemble: A second network, whose maps are combined with these (section 4.4).
            combine: mean of probabilities, or product of scores; none: as the protocol has it.
            crf: Refine with the dense CRF, with the published settings or these.
            protocol: Follow the paper, or the authors' released code where it differs.
            tile: Side in pixels of overlapping tiles, for pictures larger than that; none takes
                the picture whole up to WHOLE_PIXELS. Tiles keep no probabilities.
            tta: Average over the picture and its mirror image.
            uncertainty: Also say where the network is unsure. flips and dropout give the mean
                of the answers they compare as the result.
            samples: Of dropout.
            seed: Of dropout.

        Raises:
            ImageFileError: If the picture cannot be read.
            ShapeError: If an array is no picture.
            RecipeError: If doubt, tiles or a mirror image are asked for that cannot be had.
                Also if the ensemble's classes are others, or in another order.
        """
        pixels = as_image(image)
        _refuse_unknown("combine", combine, (None, "mean", "product"))
        _refuse_unknown("protocol", protocol, ("paper", "release"))
        _refuse_unknown("uncertainty", uncertainty, (None, "entropy", "flips", "dropout"))
        if proposals < 0 or not isinstance(crf, bool | CrfSettings):
            raise RecipeError(
                f"proposals is {proposals!r} and crf {crf!r}; give a number from 0 on, and "
                "True, False or CrfSettings."
            )
        asked = Asked(tta, uncertainty, samples, seed)
        self.check(asked, whole=not (proposals or crf or ensemble), windows=proposals > 0)
        self.check_tile(tile, whole=not (proposals or crf or ensemble))
        if ensemble is not None:
            check_same_classes(self.classes, ensemble.classes)
        if not (proposals or crf or ensemble) and (tile or self._too_large(pixels)):
            labels, doubt = self._in_tiles(pixels, tile or DEFAULT_TILE, asked)
            strange = self._strangeness(pixels, None)
            return Segmentation(pixels, labels, self.classes, None, doubt, strange)
        if uncertainty in ("flips", "dropout"):
            mean, doubt = deviation(self._answers(pixels, asked))
            labels, strange = mean.argmax(0).astype(np.uint8), self._strangeness(pixels, mean)
            return Segmentation(pixels, labels, self.classes, mean, doubt, strange)
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
            settings = crf if isinstance(crf, CrfSettings) else CrfSettings()
            refined = dense_crf.refine(pixels, refined, **settings._asdict())
        plain = not (proposals or crf or ensemble)
        return Segmentation(
            pixels,
            refined.argmax(0).astype(np.uint8),
            self.classes,
            refined,
            entropy(refined) if uncertainty else None,
            self._strangeness(pixels, refined if plain else None),
        )

    def check(self, asked: "Asked", *, whole: bool = True, windows: bool = False) -> None:
        """Refuse a mirror image or a way to measure doubt that this network or path lacks.

        Raises:
            RecipeError: If so.
        """
        if asked.tta and windows:
            raise RecipeError(
                "The mirror image (tta) is of the picture as a whole, and proposals are "
                "segmented window by window; give one of the two."
            )
        if asked.uncertainty in ("flips", "dropout") and not whole:
            raise RecipeError(
                f"Doubt by {asked.uncertainty} is measured on pictures as a whole, not with "
                "proposals, an ensemble or the CRF; take entropy, or leave those out."
            )
        if asked.uncertainty != "dropout":
            return
        if asked.samples < 2:
            raise RecipeError(
                f"Doubt by dropout was asked for with {asked.samples} samples; give 2 or more."
            )
        dropouts = (nn.Dropout, nn.Dropout2d)
        if not any(isinstance(m, dropouts) and m.p > 0 for m in self.network.modules()):
            raise RecipeError(
                "Doubt by dropout needs a network with dropout, run by the engine torch or "
                "native; this one has none. Take flips or entropy, or train with --dropout 0.5."
            )

    def check_tile(self, tile: int | None, *, whole: bool = True) -> None:
        """Refuse tiles where there are none, or that are too small to overlap.

        Raises:
            RecipeError: If so.
        """
        if not tile:
            return
        if not whole:
            raise RecipeError(
                "Tiles are of pictures as a whole, not with proposals, an ensemble or the CRF; "
                "leave out one of them."
            )
        if tile < LEAST_TILE:
            raise RecipeError(
                f"A tile of {tile} pixels a side was asked for; the least is {LEAST_TILE}, and "
                f"{DEFAULT_TILE} is usual."
            )

    def probabilities(self, image: Image, *, tta: bool = False) -> Probabilities:
        """Class probabilities of the picture as a whole."""
        return self.scores(image, tta=tta).softmax(0).cpu().numpy()

    def scores(self, image: Image, *, tta: bool = False) -> Float32[Tensor, "k h w"]:
        """Class scores of the picture as a whole; with tta the mean with its mirror image's."""
        scores = self.logits(image)
        if tta:
            scores = (scores + self.logits(_mirrored(image)).flip(-1)) / 2
        return scores

    def logits(self, image: Image) -> Float32[Tensor, "k h w"]:
        """Class scores before softmax, at the picture's own size."""
        logits = self._small_logits(image)
        if logits.shape[-2:] != image.shape[:2]:
            with torch.inference_mode():
                logits = F.interpolate(logits[None], image.shape[:2], mode="bilinear")[0]
        return logits.float()

    def standardised(self, image: Image) -> Float32[Tensor, "c scaled_h scaled_w"]:
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

    def _small_logits(self, image: Image) -> Float[Tensor, "k small_h small_w"]:
        """Class scores at the network's scale."""
        with torch.inference_mode():
            logits: Tensor = self.network(self.standardised(image)[None])
        return logits[0]

    def _too_large(self, image: Image) -> bool:
        """Whether a picture is segmented in tiles without being told."""
        pixels = image.shape[0] * image.shape[1]
        scaled = pixels * self.config.input_scale**2
        return scaled > WHOLE_PIXELS or 4 * pixels * len(self.classes) > WHOLE_BYTES

    def _in_tiles(
        self, image: Image, tile: int, asked: "Asked"
    ) -> tuple[LabelMap, Float32[np.ndarray, "h w"] | None]:
        """Segment overlapping tiles and keep the middle of each, so that no seam shows."""
        height, width = image.shape[:2]
        label_map = np.empty((height, width), np.uint8)
        doubt_map = np.empty((height, width), np.float32) if asked.uncertainty else None
        side = round(tile / self.config.input_scale)
        for row, rows in _tile_spans(height, side):
            for column, columns in _tile_spans(width, side):
                labels, doubt = self._tile(np.ascontiguousarray(image[row, column]), asked)
                inner_rows = slice(rows.start - row.start, rows.stop - row.start)
                inner_columns = slice(columns.start - column.start, columns.stop - column.start)
                label_map[rows, columns] = labels[inner_rows, inner_columns]
                if doubt_map is not None and doubt is not None:
                    doubt_map[rows, columns] = doubt[inner_rows, inner_columns]
        return label_map, doubt_map

    def _tile(
        self, part: Image, asked: "Asked"
    ) -> tuple[LabelMap, Float32[np.ndarray, "h w"] | None]:
        """Segment one tile; the doubt is measured at the network's scale."""
        size, doubt = part.shape[:2], None
        if asked.uncertainty in ("flips", "dropout"):
            mean, doubt = deviation(self._answers(part, asked, small=True))
            scores = torch.from_numpy(mean)
        else:
            scores = self._small_logits(part)
            if asked.tta:
                scores = (scores + self._small_logits(_mirrored(part)).flip(-1)) / 2
            if asked.uncertainty == "entropy":
                doubt = entropy(scores.float().softmax(0).cpu().numpy())
        if doubt is not None and doubt.shape != size:
            enlarged = F.interpolate(torch.from_numpy(doubt)[None, None], size, mode="bilinear")
            doubt = enlarged[0, 0].numpy()
        return _best_class(scores, size), doubt

    def _answers(
        self, image: Image, asked: "Asked", *, small: bool = False
    ) -> Iterator[Probabilities]:
        """The probabilities whose differences are the doubt."""
        score = self._small_logits if small else self.logits
        if asked.uncertainty == "flips":
            yield score(image).float().softmax(0).cpu().numpy()
            mirrored = score(_mirrored(image)).flip(-1)
            yield mirrored.float().softmax(0).cpu().numpy()
            return
        with torch.random.fork_rng(), sample_dropout(self.network):
            torch.manual_seed(asked.seed)  # every picture alike, in whatever order they come
            for _ in range(asked.samples):
                scores = score(image)
                if asked.tta:
                    scores = (scores + score(_mirrored(image)).flip(-1)) / 2
                yield scores.float().softmax(0).cpu().numpy()

    def _strangeness(
        self, image: Image, probabilities: Probabilities | None
    ) -> dict[str, float] | None:
        known = self.config.familiarity
        if known is None:
            return None
        return known.strangeness(familiarity.traits(image, probabilities))


class Asked(NamedTuple):
    """How the picture as a whole is to be segmented."""

    tta: bool = False
    uncertainty: Uncertainty | None = None
    samples: int = SAMPLES
    seed: int = 0


def load(
    checkpoint: str | Path,
    *,
    engine: Literal["torch", "native", "openvino", "plain"] = "torch",
    precision: Literal["fp32", "int8"] = "fp32",
    calibration: str | Path | Sequence[AnyImage] | None = None,
    device: str = "auto",
) -> Predictor:
    """A predictor from a bundled name, a folder, or a Hugging Face Hub id.

    Args:
        checkpoint: Which network.
        engine: What runs it (deconvnet.accelerate); plain is the network as it was trained.
        precision: Number format of the engine.
        calibration: For int8: a data set, whose training pictures are taken, or pictures. The
            data set in the network's recipe if not given.
        device: auto, cpu, cuda or mps.

    Raises:
        CheckpointError: If there is no such checkpoint, it is damaged, or it takes neither grey
            nor RGB pictures.
        DataError: If the pictures for int8 cannot be read.
        RecipeError: If the engine does not compute in this precision.
    """
    _refuse_unknown("precision", precision, ("fp32", "int8"))
    if precision == "int8":
        check_int8(engine)
    elif calibration is not None:
        raise RecipeError(
            "calibration is for the precision int8; leave it out, or ask for that."
        )
    tune_allocator()
    loaded = load_checkpoint(checkpoint)
    check_pictures(loaded.config, str(checkpoint))
    place = find_device(device)
    network = loaded.network.to(place)
    folder = find_checkpoint(checkpoint).resolve()
    origin = {"checkpoint": str(folder), "engine": engine, "precision": precision}
    if isinstance(calibration, str | Path):
        origin["calibration"] = str(calibration)
    if engine != "plain":
        pictures = None
        if precision == "int8":
            pictures = calibration_pictures(
                Predictor(network, loaded.config, place), calibration
            )
        network = accelerate(network, engine=engine, precision=precision, calibration=pictures)
    return Predictor(network, loaded.config, place, origin)


def calibration_pictures(
    predictor: Predictor, given: str | Path | Sequence[AnyImage] | None
) -> list[Float32[Tensor, "1 c h w"]]:
    """Pictures as the network takes them, for `accelerate` to measure ranges on.

    Args:
        predictor: Knows how to standardise them.
        given: A data set, whose training pictures are taken, evenly spread, or pictures, or
            none for the data set that the network was trained on.

    Raises:
        DataError: If the data set cannot be read.
        RecipeError: If none is given, and the network's own is not there.
    """
    if given is None or isinstance(given, str | Path):
        recipe = predictor.config.recipe
        where = given or recipe.get("data")
        values = recipe.get("mask_values") if given is None else None
        try:
            dataset = open_dataset(
                where or "",
                "train",
                format=None if given else recipe.get("format"),
                mask_values=[int(value) for value in values.split(",")] if values else None,
            )
        except UserError:
            if given is not None:
                raise
            raise RecipeError(
                "The precision 'int8' needs some dozens of pictures to measure the range of "
                f"each layer on, and those this network was trained on ({where or 'unknown'}) "
                "are not here; name a data set with --calibrate DATA (in Python: calibration)."
            ) from None
        step = -(-len(dataset) // MOST_PICTURES)
        given = [dataset[index].image for index in range(0, len(dataset), step)]
    return [predictor.standardised(as_image(image))[None].cpu() for image in given]


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
        return as_rgb(PIL.ImageOps.exif_transpose(image))
    if not isinstance(image, np.ndarray):
        raise ShapeError(
            f"The picture is a {type(image).__name__}; give a path, a PIL image, or an array "
            "of uint8 with shape (height, width, 3)."
        )
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise ShapeError(
            f"The picture is an array of {image.dtype} with shape {image.shape}; "
            "give uint8 with shape (height, width, 3), RGB from 0 to 255."
        )
    return image


def _refuse_unknown(name: str, value: object, known: Sequence[str | None]) -> None:
    """Refuse a word that is not among those known, in place of taking another.

    Raises:
        RecipeError: If so.
    """
    if value not in known:
        raise RecipeError(f"{name} is {value!r}; it can be {', '.join(map(repr, known))}.")


def check_same_classes(first: Classes, second: Classes) -> None:
    """Refuse to join two networks whose maps do not mean the same.

    Raises:
        RecipeError: If their classes, or the order of them, differ.
    """
    pairs = itertools.zip_longest(first.names, second.names, fillvalue="not there")
    for index, (one, other) in enumerate(pairs):
        if one != other:
            raise RecipeError(
                f"Class {index} is {one} for one network of the ensemble and {other} for the "
                "other; give two that were trained on the same classes in the same order."
            )


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


def _best_class(scores: Float[Tensor, "k small_h small_w"], size: tuple[int, int]) -> LabelMap:
    """The class of the largest score at each pixel of a picture of (height, width) pixels.

    Scores of another size are enlarged class by class, so that they never take the memory of
    all classes at the picture's size.
    """
    if scores.shape[-2:] == size:
        return scores.argmax(0).to(torch.uint8).cpu().numpy()
    best = labels = None
    for index, plane in enumerate(scores.float()):
        enlarged = F.interpolate(plane[None, None], size, mode="bilinear")[0, 0]
        if best is None or labels is None:
            best, labels = enlarged, torch.zeros(size, dtype=torch.uint8, device=plane.device)
            continue
        labels[enlarged > best] = index
        best = torch.maximum(best, enlarged)
    if labels is None:
        raise ShapeError("The network has no class, so it can give none to a pixel.")
    return labels.cpu().numpy()


def _mirrored(image: Image) -> Image:
    return np.ascontiguousarray(image[:, ::-1])


def _rescaled(image: Image, factor: float) -> UInt8[np.ndarray, "scaled_h scaled_w 3"]:
    """By Pillow, columns first; by itself its newer versions take what costs less first."""
    height, width = image.shape[:2]
    scale = as_fraction(factor)
    picture = PIL.Image.fromarray(image)
    small_width = scaled_side(width, scale)
    for size in ((small_width, height), (small_width, scaled_side(height, scale))):
        picture = picture.resize(size, PIL.Image.Resampling.BILINEAR)
    return np.array(picture)


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

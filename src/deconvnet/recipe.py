"""Everything that decides a training run: one flat, frozen value, in YAML or as options.

The docstring under each setting is its help text (`deconvnet train --help`).
"""

import ast
import inspect
import itertools
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml

from deconvnet.errors import RecipeError, did_you_mean

_COUNT = (1, float("inf"), "be at least 1")
_POSITIVE = (5e-324, 1e308, "be above 0")
_NOT_NEGATIVE = (0, 1e308, "not be negative")
_SHARE = (0, 1, "lie in 0 to 1")

LARGEST_SEED = 2**63 - 1
"""The largest that torch and NumPy both take."""

_RANGES: dict[str, tuple[float, float, str]] = {
    **dict.fromkeys(
        ("steps", "batch_size", "accumulate", "crop_size", "evaluate_every"), _COUNT
    ),
    **dict.fromkeys(
        ("save_every", "log_every", "step_every", "val_pictures", "patience"), _COUNT
    ),
    **dict.fromkeys(("width", "input_scale", "learning_rate", "clip"), _POSITIVE),
    **dict.fromkeys(
        ("workers", "weight_decay", "elastic", "dice", "lovasz", "distill"), _NOT_NEGATIVE
    ),
    **dict.fromkeys(("auxiliary", "border_weight", "warmup"), _NOT_NEGATIVE),
    "seed": (0, LARGEST_SEED, f"lie in 0 to {LARGEST_SEED}"),
    **dict.fromkeys(("stage1_steps", "stage1_step_every"), _COUNT),
    **dict.fromkeys(("flip", "color", "ema", "momentum", "overlap"), _SHARE),
}
"""Least and largest value of the settings that are numbers, and the rule in words."""


@dataclass(frozen=True)
class Recipe:
    """The settings of one training run.

    >>> Recipe.from_mapping({"model": "unet", "learning-rate": 0.002}).learning_rate
    0.002
    """

    # the network
    model: str = "deconvnet"
    """Network to train: deconvnet, fcn32s, fcn16s, fcn8s, fcn8s-at-once, segnet, segnet-basic,
    segnet-bayesian, unet or unet-valid."""
    width: float = 1.0
    """Scale of every channel count; 1 is the published network, 0.25 suits a laptop."""
    fc_channels: int | None = None
    """Channels of fc6 and fc7 (deconvnet and the FCNs); none means 4096 x width."""
    unpooling: str | None = None
    """How the decoder unpools (deconvnet, segnet): switches, nails, nearest, average, bilinear,
    subpixel or transposed; none means as published, by switches."""
    batch_norm: bool | None = None
    """Batch normalisation in U-Net and the FCNs; they were published without it, as is none."""
    dropout: float | None = None
    """Share of activations dropped, for networks that have dropout; none means as published."""
    depth: int | None = None
    """Levels of the U-Net; none means 5, as published. One more sees about twice as far."""
    bn_eps: float | None = None
    """Added to each variance in batch normalisation; none means as published."""
    init: Literal["published", "he"] | None = None
    """Random start of DeconvNet's decoder: N(0, 0.01) as published, or He et al. 2015."""
    start_from: str | None = None
    """Weights to start from: a checkpoint or torchvision's VGG-16 file; none: from scratch.
    Several are joined by a plus between spaces, and the later wins."""
    freeze: str | None = None
    """Parts that are left as they are, by the beginnings of their names, such as encoder or
    encoder.0,encoder.1; their batch norm keeps its statistics too."""

    # the data
    data: str = "scenes"
    """Folder of the data set, or `scenes` for pictures drawn by the program; or several of the
    same classes with a plus between spaces, `VOC2012 + mine`."""
    format: str | None = None
    """Layout of that folder (folder, camvid, voc, isbi, scenes); none: recognised."""
    mask_values: str | None = None
    """For plain folders: the number in the masks that stands for each class, such as 0,255."""
    input_scale: float = 1.0
    """Pictures are resized by this factor before the network and the logits back after it;
    below 1 trades fine detail for speed and context."""
    crop_size: int = 224
    """Side of the training crops in pixels, after input_scale."""
    scale_range: tuple[float, float] = (0.6, 1.6)
    """Training pictures are resized by a random factor between these two."""
    flip: float = 0.5
    """Chance of mirroring a training picture left to right."""
    color: float = 0.2
    """Strength of random changes of brightness, contrast, saturation, hue and white balance, 0
    to 1; 0.4 for pictures of other cameras and hours."""
    elastic: float = 0.0
    """Standard deviation in pixels of random elastic warps; U-Net used 10."""
    workers: int = 0
    """Processes that prepare batches beside the training; 0 prepares them in it."""

    # the stages
    stages: Literal["one", "two"] = "one"
    """one: whole pictures; two: as DeconvNet's authors, first crops around single objects, then
    windows around object proposals, started from the first."""
    stage1_steps: int = 1000
    """For stages two: optimiser steps of the first stage; `steps` is the second's."""
    stage1_step_every: int | None = None
    """For stages two and schedule step: step_every of the first stage; none: the same."""
    overlap: float = 0.5
    """For stages two: least overlap, intersection over union, of a proposal with the box of an
    object for its window to be trained on."""

    # the loss
    class_weights: Literal["none", "median", "root_median"] = "none"
    """Weight of each class in the loss: none, median frequency (SegNet), or its square root."""
    dice: float = 0.0
    """Weight of a soft Dice loss added to the cross entropy."""
    lovasz: float = 0.0
    """Weight of a Lovasz-softmax loss added to the cross entropy."""
    auxiliary: float = 0.0
    """Weight of the loss of extra classifiers on the decoder's stages (deep supervision), which
    are thrown away after training; for deconvnet, segnet and unet."""
    teacher: str | None = None
    """A better network of the same classes that is imitated beside the labels (distillation):
    a checkpoint; none: the labels alone."""
    distill: float = 1.0
    """Weight of the difference from the teacher's probabilities, where there is a teacher."""
    border_weight: float = 0.0
    """Extra weight of pixels between two close objects (w0 of U-Net, published 10)."""

    # the optimiser
    steps: int = 2000
    """Optimiser steps to train."""
    batch_size: int = 8
    """Pictures a pass, on each device."""
    accumulate: int = 1
    """Passes whose gradients are averaged for one optimiser step."""
    optimizer: Literal["sgd", "adamw"] = "adamw"
    """sgd: momentum, biases at twice the rate and without decay, as in Caffe; adamw."""
    learning_rate: float = 0.001
    """Highest learning rate."""
    momentum: float = 0.9
    """Momentum of sgd."""
    weight_decay: float = 0.0005
    """Weight decay on the averaged gradient (sgd) or decoupled (adamw)."""
    schedule: Literal["constant", "step", "cosine", "poly"] = "cosine"
    """How the learning rate falls over the steps."""
    step_every: int = 9000
    """For schedule step: divide the rate by 10 every so many steps."""
    warmup: int = 0
    """Steps over which the learning rate rises from zero."""
    clip: float | None = None
    """Largest norm of the gradient; larger ones are scaled down."""
    ema: float = 0.0
    """Decay of the exponential moving average of the weights that is evaluated and saved;
    0 means the weights themselves."""
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    """Number format of the training, in Lightning Fabric's words."""
    engine: Literal["torch", "native"] = "torch"
    """What computes the steps: torch, or our own kernels for the CPU (native), which are faster
    there; without a C++ compiler, on a GPU or in another precision native is torch."""
    recompute: bool = False
    """Keep only the input of each stage and compute the rest again for the gradients (gradient
    checkpointing): the same result from less memory, in about a third more time."""

    # the run
    seed: int = 0
    """Seed of everything random."""
    evaluate_every: int = 500
    """Steps between evaluations on val."""
    patience: int | None = None
    """Stop early after so many evaluations without a better mIoU; none never does."""
    val_pictures: int | None = None
    """Pictures of val used while training, evenly spread; the end always uses all."""
    save_every: int = 200
    """Steps between saved states; a killed run loses at most so many."""
    log_every: int = 10
    """Steps between lines of log.csv."""
    tensorboard: bool = False
    """Also write TensorBoard events (extra `tensorboard`)."""

    def __post_init__(self) -> None:
        for name, (low, high, words) in _RANGES.items():
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise RecipeError(f"{name} is {value}; it must {words}.")
        small, large = self.scale_range
        if not 0 < small <= large:
            raise RecipeError(
                f"scale_range is {small}, {large}; give two factors above 0, the smaller first."
            )

    @classmethod
    def from_mapping(cls, settings: Mapping[str, Any]) -> "Recipe":
        """A recipe with these settings over the defaults; `-` and `_` in names are alike.

        Raises:
            RecipeError: If a setting does not exist or cannot hold its value.
        """
        return cls().with_settings(settings)

    @classmethod
    def from_file(cls, path: str | Path) -> "Recipe":
        """The recipe in a YAML file.

        Raises:
            RecipeError: If the file is missing, is no YAML table, or holds a wrong setting.
        """
        path = Path(path)
        try:
            settings = yaml.safe_load(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise RecipeError(
                f"There is no recipe {path}; give a YAML file, such as one of recipes/."
            ) from None
        except (OSError, UnicodeDecodeError) as error:
            raise RecipeError(f"{path} cannot be read as text: {error}.") from None
        except Exception as error:  # of a damaged file: `!!int ''` is an IndexError, for one
            reason = " ".join((str(error) or type(error).__name__).split())
            raise RecipeError(f"{path} is not valid YAML: {reason}.") from None
        if not isinstance(settings, dict):
            raise RecipeError(f"{path} holds no settings; write lines such as `model: unet`.")
        try:
            return cls.from_mapping({str(name): value for name, value in settings.items()})
        except RecipeError as error:
            raise RecipeError(f"{path}: {error}") from None

    def with_settings(self, settings: Mapping[str, Any]) -> "Recipe":
        """This recipe with some settings changed."""
        changes = {}
        for key, value in settings.items():
            name = setting_named(key)
            changes[name] = _from_yaml(name, value)
            _check_type(name, changes[name])
        return replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """The settings as plain values, in their order."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
        }

    def to_yaml(self) -> str:
        """The recipe as YAML; reading it gives an equal recipe."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False)


def setting_named(key: str) -> str:
    """The name of a setting, spelled with `-` or `_`.

    >>> setting_named("batch-size")
    'batch_size'

    Raises:
        RecipeError: If there is no such setting; the message proposes the nearest.
    """
    name = key.replace("-", "_")
    known = [field.name for field in fields(Recipe)]
    if name in known:
        return name
    advice = did_you_mean(name, known).strip() or "`deconvnet train --help` lists them all."
    raise RecipeError(f"There is no setting '{key}'. {advice}")


@cache
def setting_docs() -> dict[str, str]:
    """The help text of each setting: the docstring below it in the source."""
    body = ast.parse(inspect.getsource(Recipe)).body[0]
    docs = {}
    members = typing.cast("ast.ClassDef", body).body
    for member, following in itertools.pairwise(members):
        if isinstance(member, ast.AnnAssign) and isinstance(following, ast.Expr):
            text = ast.literal_eval(following.value)
            docs[typing.cast("ast.Name", member.target).id] = " ".join(text.split())
    return docs


@cache
def setting_types() -> dict[str, Any]:
    """The type of each setting."""
    return typing.get_type_hints(Recipe)


def _from_yaml(name: str, value: Any) -> Any:
    """What YAML gave for a setting, in the setting's own type where nothing is lost by it."""
    kind = setting_types()[name]
    options = _alternatives(kind)
    if isinstance(value, str) and type(None) in options and value.lower() in {"none", ""}:
        return None
    if isinstance(value, str) and str not in options:
        if value.lower() == "none" and typing.get_origin(kind) is Literal:
            return "none"
        try:  # YAML 1.1 reads 1e-3 as text; so does the command line
            value = tuple(map(float, value.split(","))) if _is_pair(kind) else _number(value)
        except ValueError:
            return value
    if _is_pair(kind) and isinstance(value, list):
        return tuple(_float(item) if _is_number(item) else item for item in value)
    if float in options and _is_number(value):
        return _float(value)
    if value is None and typing.get_origin(kind) is Literal and "none" in typing.get_args(kind):
        return "none"
    return value


def _check_type(name: str, value: Any) -> None:
    """Refuse a value that is not of the setting's type, saying what is allowed."""
    kind = setting_types()[name]
    options = _alternatives(kind)
    if any(_fits(value, option) for option in options):
        return
    allowed = " or ".join(_in_words(option) for option in options)
    raise RecipeError(f"{name} is {value!r}; it must be {allowed}.")


def _alternatives(kind: Any) -> tuple[Any, ...]:
    """The types a setting may have, one by one."""
    is_union = typing.get_origin(kind) in {typing.Union, types.UnionType}
    return typing.get_args(kind) if is_union else (kind,)


def _fits(value: Any, kind: Any) -> bool:
    if typing.get_origin(kind) is Literal:
        return value in typing.get_args(kind)
    if _is_pair(kind):
        return isinstance(value, tuple) and len(value) == 2 and all(map(_is_number, value))
    if kind is float:
        return isinstance(value, float) or (
            isinstance(value, int) and not isinstance(value, bool)
        )
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, kind)


def _in_words(kind: Any) -> str:
    if typing.get_origin(kind) is Literal:
        return "one of " + ", ".join(map(str, typing.get_args(kind)))
    if _is_pair(kind):
        return "two numbers such as 0.6,1.6"
    return {
        int: "a whole number", float: "a number", bool: "true or false", str: "text"
    }.get(kind, "none")  # fmt: skip


def _is_pair(kind: Any) -> bool:
    return typing.get_origin(kind) is tuple


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _float(value: int | float) -> float:
    try:
        return float(value)
    except OverflowError:  # a whole number of hundreds of digits
        return math.inf if value > 0 else -math.inf


def _number(text: str) -> Any:
    lowered = text.lower()
    if lowered in {"true", "false"}:
        return lowered == "true"
    return int(text) if text.lstrip("+-").isdigit() else float(text)

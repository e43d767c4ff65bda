"""The networks, by name."""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn

from deconvnet.errors import RecipeError, did_you_mean
from deconvnet.layers.dropout import sample_dropout
from deconvnet.models.deconvnet import DeconvNet
from deconvnet.models.fcn import FCN8s, FCN16s, FCN32s, load_coarser
from deconvnet.models.segnet import SegNet, SegNetBasic
from deconvnet.models.unet import UNet
from deconvnet.models.vgg import IMAGENET_MEAN, IMAGENET_STD, load_vgg16

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "MODELS",
    "build_model",
    "load_coarser",
    "load_vgg16",
    "model_options",
    "sample_dropout",
]

MODELS: dict[str, Callable[..., nn.Module]] = {
    "deconvnet": DeconvNet,
    "fcn32s": FCN32s,
    "fcn16s": FCN16s,
    "fcn8s": FCN8s,
    "fcn8s-at-once": partial(FCN8s, at_once=True),
    "segnet": SegNet,
    "segnet-basic": SegNetBasic,
    "segnet-bayesian": partial(SegNet, dropout=0.5),
    "unet": UNet,
    "unet-valid": partial(UNet, padded=False),
}
"""Every network by its name on the command line. To add one, add a line."""

FIXED_BY_NAME = {"at_once", "padded"}
"""Options that are spelled by the network's name instead."""


def build_model(
    name: str, num_classes: int, in_channels: int = 3, width: float | int = 1.0, **options: Any
) -> nn.Module:
    """Build a network: (N, C, H, W) to logits (N, K, H, W), for any H and W.

    Args:
        name: One of MODELS.
        num_classes: K, at least 1.
        in_channels: C, at least 1.
        width: Scales every channel count; 1 is the published network.
        **options: The keyword-only arguments of the network's class, see `model_options`.

    Raises:
        RecipeError: For an unknown name or option, or a value out of range.

    >>> network = build_model("deconvnet", num_classes=3, width=1 / 64)
    """
    if name not in MODELS:
        raise RecipeError(
            f"there is no network '{name}'; the networks are {', '.join(MODELS)}."
            + did_you_mean(name, MODELS)
        )
    allowed = model_options(name)
    for option in options:
        if option not in allowed:
            raise RecipeError(
                f"{name} has no option '{option}'; its options are {', '.join(allowed)}."
                + did_you_mean(option, allowed)
            )
    _check_counts({"num_classes": num_classes, "in_channels": in_channels})
    _check_options(width, options)
    numbers = {  # 0 is as good as 0.0
        option: float(value) if isinstance(allowed[option], float) else value
        for option, value in options.items()
    }
    return MODELS[name](num_classes, in_channels, width=float(width), **numbers)


def model_options(name: str) -> dict[str, Any]:
    """The options of a network besides its width, with their defaults.

    >>> model_options("unet-valid")
    {'batch_norm': False, 'dropout': 0.5, 'depth': 5}
    """
    return {
        option: parameter.default
        for option, parameter in inspect.signature(MODELS[name]).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY and option not in FIXED_BY_NAME | {"width"}
    }


def _check_counts(counts: dict[str, Any]) -> None:
    for option, value in counts.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise RecipeError(f"{option} is {value!r}; it must be a whole number from 1 up.")


def _check_options(width: Any, options: dict[str, Any]) -> None:
    if not isinstance(width, int | float) or isinstance(width, bool) or not 0 < width <= 16:
        raise RecipeError(
            f"width is {width!r}; it must be a number above 0 and up to 16 (1 is as published)."
        )
    if options.get("fc_channels") is not None:
        _check_counts({"fc_channels": options["fc_channels"]})
    depth = options.get("depth", 5)
    if not isinstance(depth, int) or isinstance(depth, bool) or not 2 <= depth <= 8:
        raise RecipeError(f"depth is {depth!r}; it must be a whole number from 2 to 8.")
    dropout = options.get("dropout", 0)
    if not isinstance(dropout, int | float) or not 0 <= dropout < 1:
        raise RecipeError(f"dropout is {dropout!r}; it must be a number from 0 to under 1.")
    eps = options.get("bn_eps", 1)
    if not isinstance(eps, int | float) or not 0 < eps <= 1:
        raise RecipeError(f"bn_eps is {eps!r}; it must be a number above 0 and up to 1.")
    if options.get("init", "he") not in ("published", "he"):
        raise RecipeError(f"init is {options['init']!r}; it must be 'published' or 'he'.")
    for option in ("batch_norm", "learned_upsampling"):
        if not isinstance(options.get(option, False), bool):
            raise RecipeError(f"{option} is {options[option]!r}; it must be true or false.")

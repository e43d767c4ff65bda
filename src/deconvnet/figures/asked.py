"""What the command line asks for: words told apart, checked before any work, then drawn."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from matplotlib.figure import Figure

from deconvnet.checkpoint import load_checkpoint
from deconvnet.data import Dataset, open_dataset
from deconvnet.data.image_files import IMAGE_SUFFIXES, read_image
from deconvnet.data.scenes import SCENES, Scenes, is_scenes, open_scenes
from deconvnet.errors import CheckpointError, DataError, RecipeError, did_you_mean
from deconvnet.figures.comparison_sheet import AMONG as COMPARED
from deconvnet.figures.comparison_sheet import comparison
from deconvnet.figures.doubt_maps import doubt
from deconvnet.figures.failure_pictures import AMONG as LOOKED_THROUGH
from deconvnet.figures.failure_pictures import failures
from deconvnet.figures.growing_proposals import proposals
from deconvnet.figures.network_drawing import architecture
from deconvnet.figures.number_planes import deconvolution, plane_of, unpooling
from deconvnet.figures.picture_parts import TITLES, Networks
from deconvnet.figures.probability_maps import class_index, probabilities
from deconvnet.figures.size_curves import sizes
from deconvnet.models import MODELS, build_model
from deconvnet.predict import Predictor, load
from deconvnet.shapes import Image, LabelMap


class Need(NamedTuple):
    """What a figure is drawn from."""

    least: int
    most: int
    networks: str
    """In words, for the message when they are missing."""


NEEDS = {
    "failures": Need(1, 2, "the network that is looked at, an FCN, and perhaps a second"),
    "architecture": Need(1, 1, f"a network: one of {', '.join(MODELS)}, or a checkpoint"),
    "unpooling": Need(0, 1, "no network, or one whose numbers are drawn"),
    "deconvolution": Need(0, 0, "no network"),
    "layers": Need(1, 1, "the network that is looked into"),
    "probabilities": Need(2, 6, "two networks or more"),
    "proposals": Need(1, 1, "the network that segments the proposals"),
    "comparison": Need(2, 2, "the network to beat, an FCN, and the one that is to beat it"),
    "doubt": Need(1, 1, "the network whose doubt is measured"),
    "sizes": Need(1, 30, "FCNs and DeconvNets, of one seed or several"),
}
"""Every figure by its name on the command line."""

LEAST_SIDE = {"failures": 640, "proposals": 384, "sizes": 512}
"""Pixels of drawn pictures, if none are given: these figures are about size."""


@dataclasses.dataclass(frozen=True)
class Wishes:
    """The options of the command line; a figure uses those that concern it."""

    split: str = "val"
    picture: int = 0
    """Of a data set, for the figures of one picture."""
    pictures: int = 4
    among: int | None = None
    class_name: str | None = None
    proposals: int | None = None
    num_classes: int = 21
    in_channels: int = 3
    width: float = 1.0
    size: int = 224
    device: str = "auto"
    quiet: bool = False


@dataclasses.dataclass(frozen=True)
class Asked:
    """The words of the command line, told apart."""

    name: str
    networks: tuple[str, ...]
    image: str | None
    data: str | None


def asked(name: str, words: Sequence[str]) -> Asked:
    """Tell apart networks, picture and data set, and refuse what the figure cannot use.

    Raises:
        RecipeError: If there is no such figure.
        CheckpointError: If a network is missing, or one too many is given.
        DataError: If more than one picture or data set is given.
    """
    if name not in NEEDS:
        raise RecipeError(
            f"There is no figure '{name}'; the figures are {', '.join(NEEDS)}."
            + did_you_mean(name, NEEDS)
        )
    images = [word for word in words if Path(word).suffix.lower() in IMAGE_SUFFIXES]
    sets = [word for word in words if word not in images and _is_data(word)]
    networks = tuple(word for word in words if word not in images and word not in sets)
    need = NEEDS[name]
    if not need.least <= len(networks) <= need.most:
        given = ", ".join(networks) or "none"
        raise CheckpointError(
            f"The figure '{name}' takes {need.networks}; the networks given: {given}. "
            f"Write such as: deconvnet figure {name}{' runs/mine/best' * max(1, need.least)}."
        )
    if name == "architecture":
        nearest = did_you_mean(networks[0], MODELS)
        if nearest and networks[0] not in MODELS and not Path(networks[0]).exists():
            raise CheckpointError(
                f"There is no network '{networks[0]}'; give {need.networks}.{nearest}"
            )
    if len(images) + len(sets) > 1:
        raise DataError(
            f"One picture or one data set is enough for a figure; given were "
            f"{', '.join(images + sets)}."
        )
    if (images or sets) and (name in ("architecture", "deconvolution") or not networks):
        also = ", or name a network that is to see it" if name == "unpooling" else ""
        raise DataError(
            f"The figure '{name}' is drawn without a picture; leave out "
            f"{(images + sets)[0]}{also}."
        )
    return Asked(name, networks, images[0] if images else None, sets[0] if sets else None)


def draw(asked_for: Asked, wishes: Wishes) -> Figure:
    """Draw the figure; `layers` is not among them, it is what `deconvnet explain` draws.

    Raises:
        UserError: If a checkpoint, picture, data set, class or option is not what it must be.
    """
    on_their_own = {"architecture": _architecture, "sizes": _sizes}
    if asked_for.name in on_their_own:
        return on_their_own[asked_for.name](asked_for, wishes)
    if asked_for.name == "deconvolution":
        return deconvolution()
    if not asked_for.networks:
        return unpooling()
    networks = titled(asked_for.networks, wishes.device)
    first = next(iter(networks.values()))
    if wishes.class_name is not None:
        class_index(first.classes, wishes.class_name)  # before the work, not after it
    if asked_for.name in ("failures", "comparison"):
        if asked_for.image is not None:
            raise DataError(
                f"The figure '{asked_for.name}' compares with the truth, and {asked_for.image} "
                "is a picture alone; give a data set, or none for drawn pictures."
            )
        dataset = _dataset(asked_for, first, wishes)
        if asked_for.name == "failures":
            return failures(
                networks,
                dataset,
                among=LOOKED_THROUGH if wishes.among is None else wishes.among,
                proposals=20 if wishes.proposals is None else wishes.proposals,
                quiet=wishes.quiet,
            )
        return comparison(
            networks,
            dataset,
            pictures=wishes.pictures,
            among=COMPARED if wishes.among is None else wishes.among,
            quiet=wishes.quiet,
        )
    return _of_one_picture(asked_for, networks, wishes)


def _of_one_picture(asked_for: Asked, networks: Networks, wishes: Wishes) -> Figure:
    first = next(iter(networks.values()))
    image, truth = picture_of(asked_for, first, wishes)
    if asked_for.name == "unpooling":
        return unpooling(plane_of(first, image))
    if asked_for.name == "doubt":
        return doubt(first, image, truth=truth)
    if asked_for.name == "proposals":
        count = 50 if wishes.proposals is None else wishes.proposals
        return proposals(first, image, count=count, truth=truth)
    return probabilities(networks, image, class_name=wishes.class_name, truth=truth)


def _sizes(asked_for: Asked, wishes: Wishes) -> Figure:
    """Networks of one model are seeds of it here, so they need no titles of their own."""
    if asked_for.image is not None:
        raise DataError(
            f"The figure 'sizes' compares with the truth, and {asked_for.image} is a picture "
            "alone; give a data set, or none for drawn pictures."
        )
    loaded = [load(w, engine="plain", device=wishes.device) for w in asked_for.networks]
    return sizes(
        loaded,
        _dataset(asked_for, loaded[0], wishes),
        among=wishes.among,
        proposals=50 if wishes.proposals is None else wishes.proposals,
        quiet=wishes.quiet,
    )


def titled(checkpoints: Sequence[str], device: str = "auto") -> dict[str, Predictor]:
    """Load networks, each under the name of its model; two of one model get their folder too.

    Raises:
        CheckpointError: If there is no such checkpoint, or one is given twice.
    """
    loaded = [load(where, engine="plain", device=device) for where in checkpoints]
    names = [TITLES.get(network.config.model, network.config.model) for network in loaded]
    titles = [
        name if names.count(name) == 1 else f"{name}, {_folder(where)}"
        for name, where in zip(names, checkpoints, strict=True)
    ]
    if len(set(titles)) < len(titles):
        raise CheckpointError(
            f"The same network was given twice: {', '.join(checkpoints)}; give different ones."
        )
    return dict(zip(titles, loaded, strict=True))


def picture_of(
    asked_for: Asked, network: Predictor, wishes: Wishes
) -> tuple[Image, LabelMap | None]:
    """The picture that is given, or one of the data set with its truth.

    Raises:
        DataError: If the data set has no such picture, or other classes.
        ImageFileError: If the picture cannot be read.
    """
    if asked_for.image is not None:
        return read_image(asked_for.image), None
    dataset = _dataset(asked_for, network, wishes)
    if not 0 <= wishes.picture < len(dataset):
        raise DataError(
            f"Picture {wishes.picture} was asked for; {dataset.split} has {len(dataset)}, "
            f"0 to {len(dataset) - 1}."
        )
    sample = dataset[wishes.picture]
    return sample.image, sample.label_map


def _dataset(asked_for: Asked, network: Predictor, wishes: Wishes) -> Dataset:
    """The data set that is given, or drawn pictures like those of the training."""
    if asked_for.data is not None:
        return open_dataset(asked_for.data, wishes.split)
    trained_on = str(network.config.recipe.get("data", "scenes"))
    if network.classes.names != SCENES.names or not is_scenes(trained_on):
        raise DataError(
            f"The figure '{asked_for.name}' needs pictures of the classes this network knows "
            f"({', '.join(network.classes.names[:4])}, ...); name the folder of a data set."
        )
    drawn: Scenes = open_scenes(trained_on, wishes.split)
    least = LEAST_SIDE.get(asked_for.name, 0)
    size = max(least, drawn.shape[0]), max(least, drawn.shape[1])
    return dataclasses.replace(drawn, size=size, count=0)


def _architecture(asked_for: Asked, wishes: Wishes) -> Figure:
    (name,) = asked_for.networks
    if name in MODELS:
        with torch.device("meta"):  # no values: full width takes a moment
            network = build_model(
                name, wishes.num_classes, wishes.in_channels, width=wishes.width
            )
        title, in_channels = TITLES.get(name, name), wishes.in_channels
        if wishes.width != 1:
            title += f" of width {wishes.width:g}"
    else:
        loaded = load_checkpoint(name)
        network, in_channels = loaded.network, loaded.config.in_channels
        title = TITLES.get(loaded.config.model, loaded.config.model)
        if "width" in loaded.config.options:
            title += f" of width {float(loaded.config.options['width']):g}"
    return architecture(network, title, wishes.size, in_channels)


def _is_data(word: str) -> bool:
    """Whether a word names a data set: drawn pictures, or a folder that is no checkpoint."""
    place = Path(word)
    return is_scenes(word) or (place.is_dir() and not (place / "config.json").exists())


def _folder(where: str) -> str:
    """The part of a checkpoint's place that tells it from another: RUN of RUN/best.

    >>> _folder("runs/street/best"), _folder("someone/network")
    ('street', 'network')
    """
    parts = [part for part in Path(where).parts if part not in ("best", "last")]
    return parts[-1] if parts else where

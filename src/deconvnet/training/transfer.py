"""Starting from weights that were trained for something else, as far as they fit."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from deconvnet.checkpoint import MEAN, STD, Checkpoint, load_checkpoint, read_weights
from deconvnet.data.joined import JOINS
from deconvnet.errors import CheckpointError
from deconvnet.labels import Classes
from deconvnet.models import segnet
from deconvnet.models.vgg import load_vgg16

SEGNETS = {"segnet", "segnet-bayesian"}

CLASSIFIERS = ("classifier.", "score_")
"""How the names of layers with one channel a class begin."""


def start_from(source: str, network: nn.Module, model: str, classes: Classes) -> str:
    """Take over the weights that fit from a checkpoint or a VGG-16 file; says what was kept.

    Of a network trained on other classes, the classifier keeps the classes of the same name.
    A DeconvNet takes over a SegNet's decoder too: the same layers but for names, for the
    kernels' being written as convolutions, and for the last stage. A U-Net takes over the
    layers of the same name from one of another depth. Where a checkpoint takes pictures
    otherwise standardised than training does, as the converted ones do, its first convolution
    is rewritten for that.

    Args:
        source: A checkpoint, or torchvision's VGG-16 as a file; or several, joined by a plus
            between spaces, of which the later wins: `segnet + fcn8s` is that SegNet with the
            encoder of that FCN-8s.
        network: The network to start; its weights are changed.
        model: Its name in MODELS.
        classes: The classes it is to tell apart.

    Raises:
        CheckpointError: If there is no such file, nothing in it fits, or it cannot be rewritten
            for the pictures of the training.
    """
    first, *later = source.split(JOINS)
    said = [_start_from_one(first, network, model, classes, others="new")]
    for one in later:
        said.append(_start_from_one(one, network, model, classes, others="as before"))
    return " ".join(said)


def _start_from_one(
    source: str, network: nn.Module, model: str, classes: Classes, *, others: str
) -> str:
    """As start_from, from one checkpoint or file; `others` says what the other weights are."""
    if Path(source).is_file():
        load_vgg16(network, read_weights(source))
        return f"Encoder started from the VGG-16 weights in {source}."
    loaded = load_checkpoint(source)
    given: dict[str, Tensor] = _for_training_pictures(loaded, source)
    if model == "deconvnet" and loaded.config.model in SEGNETS:
        given |= _decoder_of_segnet(given)
    own = network.state_dict()
    if model == "unet" and loaded.config.model == "unet":
        given = _by_layer(given, own)
    fitting = {
        name: value
        for name, value in given.items()
        if name in own and own[name].shape == value.shape
    }
    common = [name for name in classes.names if name in loaded.config.classes.names]
    known = loaded.config.classes.names == classes.names
    if not known:
        by_class = _rows_of_classes(own, given, classes.names, loaded.config.classes.names)
        fitting = {k: v for k, v in fitting.items() if not k.startswith(CLASSIFIERS)}
        fitting |= by_class
    if not any(value.ndim > 1 for value in fitting.values()):
        raise CheckpointError(
            f"Nothing in {source} fits this network; start from one of the same model "
            "and width, or without start_from."
        )
    network.load_state_dict({**own, **fitting})
    fresh = [name for name in own if name not in fitting]
    said = f"Started from {source}: {len(fitting)} tensors kept, {len(fresh)} {others}" + (
        f" ({', '.join(fresh[:4])}{', ...' if fresh[4:] else ''})." if fresh else "."
    )
    if known:
        return said
    return said + (
        f" Its classes are others: {', '.join(common)} kept."
        if common and by_class
        else f" Its classes are others; the classifier is {others}."
    )


def _for_training_pictures(loaded: Checkpoint, source: str) -> dict[str, Tensor]:
    """A network's weights, for pictures standardised as training does it.

    What it was given is a linear function of what it will be given, and its first convolution
    takes that up. Around a picture it then sees the training's mean colour, not its own.

    Raises:
        CheckpointError: If something other than a convolution comes first.
    """
    weights: dict[str, Tensor] = loaded.network.state_dict()
    config = loaded.config
    if (config.mean, config.std) == (MEAN, STD) or config.in_channels != len(MEAN):
        return weights
    layers = [(n, m) for n, m in loaded.network.named_modules() if not list(m.children())]
    name, first = layers[0]
    if not isinstance(first, nn.Conv2d) or first.bias is None:
        raise CheckpointError(
            f"{source} takes pictures with mean {config.mean} and deviation {config.std}, and "
            f"training gives them with {MEAN} and {STD}; its first layer is no convolution "
            "that could make up for that, so start from one that this program trained."
        )
    own_mean, own_std = torch.tensor(config.mean), torch.tensor(config.std)
    mean, std = torch.tensor(MEAN), torch.tensor(STD)
    kernel = first.weight.detach()
    shift = (kernel.sum((2, 3)) * (mean - own_mean) / own_std).sum(1)
    return weights | {
        f"{name}.weight": kernel * (std / own_std)[:, None, None],
        f"{name}.bias": first.bias.detach() + shift,
    }


def _rows_of_classes(
    own: Mapping[str, Tensor],
    given: Mapping[str, Tensor],
    names: Sequence[str],
    given_names: Sequence[str],
) -> dict[str, Tensor]:
    """The classifier of `own` with the rows of classes that both know taken from `given`."""
    rows = {}
    for name, value in own.items():
        old = given.get(name)
        if not name.startswith(CLASSIFIERS) or old is None or value.ndim != old.ndim:
            continue
        if old.shape[1:] == value.shape[1:] and old.shape[0] == len(given_names):
            mixed = value.clone()
            for index, label in enumerate(names):
                if label in given_names:
                    mixed[index] = old[given_names.index(label)]
            rows[name] = mixed
    return rows


def _by_layer(given: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights under the names of `own`, where the name of the layer and its weight is alike."""
    places = {_layer(name): name for name in own}
    return {places.get(_layer(name), name): value for name, value in given.items()}


def _layer(name: str) -> str:
    """A weight's name without the part of the network: encoder.3.conv4_1.conv.weight."""
    parts = [part for part in name.split(".") if not part.isdigit()]
    return ".".join(parts[1:] if parts[0] in {"encoder", "bottleneck", "decoder"} else parts)


def _decoder_of_segnet(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A SegNet's decoder under the names of DeconvNet's, as transposed convolutions.

    A convolution of stride 1 is the transposed convolution with in and out channels exchanged
    and the kernel turned by half a turn.
    """
    renamed = {}
    for stage, number in enumerate((5, 4, 3, 2, 1)):
        steps = len(segnet.DECODER[stage])
        first = steps if number > 1 else steps + 1  # SegNet counts down to its classifier, 1_1
        for step in range(steps):
            old = f"decoder.{stage}.conv{number}_{first - step}_D."
            new = f"decoder.{stage}.deconv{number}_{step + 1}."
            for name, value in weights.items():
                if name.startswith(old):
                    rest = name.removeprefix(old).replace("conv.", "deconv.", 1)
                    is_kernel = value.ndim == 4
                    renamed[new + rest] = (
                        value.transpose(0, 1).flip(2, 3) if is_kernel else value
                    )
    return renamed

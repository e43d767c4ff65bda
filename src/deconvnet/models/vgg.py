"""VGG-16, the encoder that DeconvNet, FCN and SegNet share, and its ImageNet weights."""

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import Tensor, nn

from deconvnet.errors import CheckpointError
from deconvnet.layers.blocks import BN_EPS, conv_block, scaled

VGG16 = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
"""Channels of the thirteen 3 x 3 convolutions; each row ends in a 2 x 2 pooling."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
"""RGB, 0 to 1: what torchvision's weights expect to be subtracted."""
IMAGENET_STD = (0.229, 0.224, 0.225)
"""RGB, 0 to 1: what torchvision's weights expect to be divided by."""

TORCHVISION_BN_EPS = 1e-5


def encoder(
    in_channels: int,
    *,
    width: float = 1.0,
    batch_norm: bool = True,
    bn_eps: float = BN_EPS,
    first_padding: int = 1,
) -> nn.ModuleList:
    """The five stages of VGG-16, conv1_1 to conv5_3, without their poolings.

    Args:
        in_channels: Channels of the pictures.
        width: Scales every channel count.
        batch_norm: Between convolution and ReLU.
        bn_eps: Added to each variance.
        first_padding: Padding of conv1_1 in pixels; FCN takes 100.
    """
    stages = nn.ModuleList()
    for number, stage_channels in enumerate(VGG16, start=1):
        blocks: OrderedDict[str, nn.Module] = OrderedDict()
        for index, channels in enumerate(stage_channels, start=1):
            blocks[f"conv{number}_{index}"] = conv_block(
                in_channels,
                out_channels=scaled(channels, width),
                padding=first_padding if (number, index) == (1, 1) else 1,
                batch_norm=batch_norm,
                bn_eps=bn_eps,
            )
            in_channels = scaled(channels, width)
        stages.append(nn.Sequential(blocks))
    return stages


def load_vgg16(
    network: nn.Module, state_dict: Mapping[str, Tensor], *, fully_connected: bool = True
) -> list[str]:
    """Start a network's encoder, and its fc6 and fc7, from ImageNet weights.

    Batch norm in the file goes into the network's, or is folded into the convolutions of a
    network that has none; a network with batch norm takes a plain file too (so did DeconvNet).

    Args:
        network: One with `encoder`, and `bottleneck.fc6`, `bottleneck.fc7` where it has them:
            DeconvNet, an FCN or SegNet. Changed in place, and only if everything fits.
        state_dict: By torchvision's names, vgg16 or vgg16_bn: features.0.weight, ...,
            classifier.3.bias.
        fully_connected: False leaves fc6 and fc7 as they are, for an fc_channels other than
            4096.

    Returns:
        The names of the layers loaded: "conv1_1", ..., "fc7".

    Raises:
        CheckpointError: When a weight is missing or of another shape.
    """
    stages = getattr(network, "encoder", ())
    if [len(stage) for stage in stages] != [len(stage) for stage in VGG16]:
        raise CheckpointError(
            f"{type(network).__name__} has no VGG-16 encoder; ImageNet weights of VGG-16 fit "
            "deconvnet, segnet and the FCNs."
        )
    planned = dict(_convolutions(stages, state_dict))
    bottleneck = getattr(network, "bottleneck", None)
    if fully_connected and bottleneck is not None:
        planned |= dict(_fully_connected(bottleneck, state_dict))
    for name, (block, found) in planned.items():
        _check(name, block, found)
    with torch.no_grad():
        for block, found in planned.values():
            target = dict(block.named_parameters()) | dict(block.named_buffers())
            for key, value in found.items():
                target[key].copy_(value)
    return list(planned)


_Plan = Iterator[tuple[str, tuple[nn.Module, dict[str, Tensor]]]]


def _convolutions(stages: Iterable[nn.Sequential], state_dict: Mapping[str, Tensor]) -> _Plan:
    """The thirteen blocks of the encoder, each with what the file holds for it."""
    with_norm = "features.1.weight" in state_dict  # there plain VGG has its first ReLU
    index = 0
    for stage in stages:
        for name, block in stage.named_children():
            found = _named(state_dict, f"features.{index}", "conv", ("weight", "bias"))
            if with_norm:
                norm = _named(
                    state_dict,
                    f"features.{index + 1}",
                    "norm",
                    ("weight", "bias", "running_mean", "running_var"),
                )
                found = _with_norm(found, norm, block)
            yield name, (block, found)
            index += 3 if with_norm else 2
        index += 1  # the pooling


def _fully_connected(bottleneck: nn.Module, state_dict: Mapping[str, Tensor]) -> _Plan:
    """fc6 and fc7, as the convolutions they are: one window of 7 x 7, one of 1 x 1."""
    for name, key, kernel in (("fc6", "classifier.0", 7), ("fc7", "classifier.3", 1)):
        found = _named(state_dict, key, "conv", ("weight", "bias"))
        rows = found["conv.weight"]
        if rows.ndim == 2 and rows.shape[1] % kernel**2 == 0:
            found["conv.weight"] = rows.view(len(rows), -1, kernel, kernel)
        yield name, (getattr(bottleneck, name), found)


def _named(
    state_dict: Mapping[str, Tensor], prefix: str, step: str, suffixes: tuple[str, ...]
) -> dict[str, Tensor]:
    missing = [
        key for key in (f"{prefix}.{suffix}" for suffix in suffixes) if key not in state_dict
    ]
    if missing:
        raise CheckpointError(
            f"these weights have no '{missing[0]}'; take a file of torchvision's vgg16 or "
            "vgg16_bn (features.0.weight, ..., classifier.3.bias)."
        )
    return {f"{step}.{suffix}": state_dict[f"{prefix}.{suffix}"] for suffix in suffixes}


def _with_norm(
    conv: dict[str, Tensor], norm: dict[str, Tensor], block: nn.Module
) -> dict[str, Tensor]:
    """Give a block the file's batch norm: in its own, or folded into its convolution."""
    variance = norm["norm.running_var"] + TORCHVISION_BN_EPS
    own = getattr(block, "norm", None)
    if own is not None:
        same_sum = {"norm.running_var": variance - own.eps}  # under the root, for another eps
        return conv | norm | same_sum
    factor = norm["norm.weight"] / variance.sqrt()
    shifted = (conv["conv.bias"] - norm["norm.running_mean"]) * factor + norm["norm.bias"]
    return {
        "conv.weight": conv["conv.weight"] * factor[:, None, None, None],
        "conv.bias": shifted,
    }


def _check(name: str, block: nn.Module, found: dict[str, Tensor]) -> None:
    own = block.state_dict()
    for key, value in found.items():
        if own[key].shape != value.shape:
            remedy = (
                f"set fc_channels to {value.shape[0]}, or load with fully_connected=False"
                if name.startswith("fc")
                else "VGG-16 fits networks of width 1 with 3 input channels"
            )
            raise CheckpointError(
                f"{name} of these weights has the shape {tuple(value.shape)}, and this "
                f"network's has {tuple(own[key].shape)}; {remedy}."
            )

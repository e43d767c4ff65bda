"""Weights of Caffe and of torchvision into checkpoints of ours."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from deconvnet.caffe import CaffeModel, read_caffemodel
from deconvnet.caffe_networks import (
    CAFFE_MODELS,
    BatchNorm,
    as_tensor,
    fits,
    listed,
    network_from_caffe,
    published_classes,
)
from deconvnet.checkpoint import Config, library_versions, read_weights, save_checkpoint
from deconvnet.errors import CheckpointError, did_you_mean
from deconvnet.files import written_whole
from deconvnet.labels import VOC
from deconvnet.models import build_model, load_vgg16
from deconvnet.models.vgg import IMAGENET_MEAN, IMAGENET_STD, VGG16

TORCH_SUFFIXES = (".pth", ".pt", ".safetensors")


def convert(
    source: str | Path,
    model: str,
    out: str | Path,
    *,
    batch_norm: BatchNorm = "auto",
    num_classes: int | None = None,
) -> Path:
    """Turn a .caffemodel, or a VGG-16 file of torchvision, into a checkpoint.

    - A .caffemodel of DeconvNet, an FCN or a SegNet becomes that network, whole.
    - A .caffemodel of VGG-16 with model "vgg16" becomes OUT/vgg16.safetensors, which training
      takes as `start_from`.
    - A .pth or .safetensors file of torchvision's VGG-16 becomes a network whose encoder is
      trained and whose rest is not: a start for training.

    Args:
        source: The file.
        model: One of CAFFE_MODELS, or "vgg16".
        out: The folder to write.
        batch_norm: See `BatchNorm`.
        num_classes: Of the network that starts from torchvision's file, 21 if not given; a
            .caffemodel has its own.

    Returns:
        The checkpoint's folder, or the file of VGG-16 weights.

    Raises:
        CheckpointError: When the file is damaged, or belongs to another network: all that is
            missing, left over or of another shape is listed.
        OutputError: When the place cannot be written.
    """
    source, out = Path(source), Path(out)
    if model not in (*CAFFE_MODELS, "vgg16"):
        raise CheckpointError(
            f"'{model}' is not a network that weights are converted to; "
            f"there are {', '.join(CAFFE_MODELS)} and vgg16."
            + did_you_mean(model, (*CAFFE_MODELS, "vgg16"))
        )
    if source.suffix in TORCH_SUFFIXES:
        network, config = network_from_torchvision(source, model, num_classes or len(VOC))
        card = _card(source, config, "Only the encoder is trained: a start for training.")
        return save_checkpoint(out, network, config, card=card)
    read = read_caffemodel(source)
    if model == "vgg16":
        return _save_vgg16(vgg16_from_caffe(read, str(source)), out)
    network, config = network_from_caffe(read, model, batch_norm=batch_norm, source=str(source))
    _check_classes(num_classes, len(config.classes), source)
    remark = "The terms of those weights' authors hold for it, too."
    if batch_norm == "learn":
        remark += " Batch norm has no statistics yet: a start for training."
    return save_checkpoint(out, network, config, card=_card(source, config, remark))


def _check_classes(wanted: int | None, held: int, source: Path) -> None:
    if wanted is not None and wanted != held:
        raise CheckpointError(
            f"{source} has {held} classes, not the {wanted} asked for; leave num_classes out."
        )


def _card(source: Path, config: Config, remark: str) -> str:
    return (
        "---\nlibrary_name: deconvnet\npipeline_tag: image-segmentation\n---\n"
        f"# {config.model}, {len(config.classes)} classes\n\n"
        f"Converted from `{source.name}`. {remark} Not evaluated.\n\n"
        f"Classes: {', '.join(config.classes.names)}.\n"
    )


# VGG-16


def vgg16_from_caffe(read: CaffeModel, source: str = "the file") -> dict[str, Tensor]:
    """The weights of Caffe's VGG-16 under torchvision's names, for `load_vgg16`.

    Networks that start from torchvision's file see (RGB - IMAGENET_MEAN) / IMAGENET_STD; so the
    input channels of conv1_1 are scaled by 255 x IMAGENET_STD. That leaves a mean which differs
    by at most one grey level of 255 from the authors', a trifle to training.

    Raises:
        CheckpointError: When a layer is missing or of another shape.
    """
    layers = read.blobs()
    weights: dict[str, Tensor] = {}
    problems: list[str] = []
    channels = 3
    for name, (place, kernel) in _vgg16_places().items():
        blobs = layers.get(name, ())
        outputs = blobs[-1].size if blobs else 0  # of its bias
        shape = (outputs, channels, kernel, kernel)
        if len(blobs) == 2 and fits(blobs[0].shape, shape):
            weights[f"{place}.weight"] = as_tensor(blobs[0], shape)
            weights[f"{place}.bias"] = as_tensor(blobs[1], (outputs,))
        else:
            problems.append(name)
        channels = outputs
    if problems:
        raise CheckpointError(
            f"{source} is not VGG-16: there is no such layer, or not of its shape: "
            f"{listed(problems)}. Give a file such as VGG_ILSVRC_16_layers.caffemodel, or name "
            "its network with --model."
        )
    for place in ("classifier.0", "classifier.3"):
        weights[f"{place}.weight"] = weights[f"{place}.weight"].flatten(1)
    first = "features.0.weight"
    to_caffe_scale = 255 * torch.tensor(IMAGENET_STD)
    weights[first] = weights[first].flip(1) * to_caffe_scale[:, None, None]  # RGB
    return weights


def _vgg16_places() -> dict[str, tuple[str, int]]:
    """Caffe's name to torchvision's, and the side of the kernel.

    >>> _vgg16_places()["conv2_1"]
    ('features.5', 3)
    """
    places = {}
    index = 0
    for stage, row in enumerate(VGG16, start=1):
        for number in range(1, len(row) + 1):
            places[f"conv{stage}_{number}"] = (f"features.{index}", 3)
            index += 2  # a ReLU after each
        index += 1  # the pooling
    return places | {"fc6": ("classifier.0", 7), "fc7": ("classifier.3", 1)}


def _save_vgg16(weights: Mapping[str, Tensor], out: Path) -> Path:
    path = out / "vgg16.safetensors"
    with written_whole(path) as temporary:
        save_file(
            {name: weight.contiguous() for name, weight in weights.items()},
            temporary,
            metadata={"format": "pt"},
        )
    return path


def network_from_torchvision(
    source: str | Path, model: str, num_classes: int
) -> tuple[nn.Module, Config]:
    """Build a network whose encoder has torchvision's VGG-16 weights, the rest fresh.

    Raises:
        CheckpointError: When the file does not fit, or the network has no such encoder.
    """
    if model in ("segnet-basic", "vgg16"):
        raise CheckpointError(
            f"A VGG-16 file of torchvision starts deconvnet, segnet or an FCN, not {model}"
            + ("; training takes it as init as it is." if model == "vgg16" else ".")
        )
    weights = read_weights(source)
    network = build_model(model, num_classes)
    load_vgg16(network, weights)
    config = Config(
        model,
        published_classes(num_classes, model),
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        versions=library_versions(),
    )
    return network.eval(), config

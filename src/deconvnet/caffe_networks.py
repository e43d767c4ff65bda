"""Networks of ours from Caffe's layers, and back: which weights belong where.

What the authors' networks saw stays as it was: values of 0 to 255 minus their mean. The config
says so (mean = theirs / 255, std = 1 / 255), and the weights change in one place only: conv1_1
reads RGB where it read BGR. The mean is never folded into a bias, which would be wrong at
zero-padded borders.

Batch norm in the authors' files is a scale and a shift, without the mean and variance it
normalises by. After their statistics pass the two are folded into it (mode INFERENCE): that is
taken over exactly. Before it (mode LEARN) the file cannot be used alone; see `BatchNorm`.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from deconvnet.caffe import CaffeLayer, CaffeModel, Setting
from deconvnet.checkpoint import Config, library_versions
from deconvnet.errors import CheckpointError, ShapeError
from deconvnet.labels import CAMVID, VOC, Classes
from deconvnet.layers.bilinear import bilinear_kernel
from deconvnet.layers.blocks import scaled
from deconvnet.models import build_model
from deconvnet.models.deconvnet import LEAST_SIDE
from deconvnet.models.vgg import VGG16

BatchNorm = Literal["auto", "inference", "learn"]
"""What the scale and shift of batch-norm layers are taken for.

"auto" believes the file: INFERENCE where it says so, or where the layer also gives its mean and
variance, as in the networks that the authors' statistics scripts save (these say LEARN, yet
hold the result); all else is LEARN, Caffe's default, and refused. "inference" takes any file as
it is. "learn" takes scale and shift for gamma and beta, with statistics still to be found.
"""

AUTHORS_MEAN = (122.67891434, 116.66876762, 104.00698793)
"""RGB, 0 to 255; of the DeconvNet and FCN releases. SegNet subtracts nothing."""

CAFFE_MODELS = (
    "deconvnet",
    "fcn32s",
    "fcn16s",
    "fcn8s",
    "fcn8s-at-once",
    "segnet",
    "segnet-bayesian",
    "segnet-basic",
)
"""The networks that a .caffemodel can become."""

_SEGNETS = ("segnet", "segnet-bayesian", "segnet-basic")

_OLDER_FCN_NAMES = {
    "score-fr": "score_fr",
    "score2": "upscore2",
    "score-pool4": "score_pool4",
    "score4": "upscore_pool4",
    "score-pool3": "score_pool3",
}
"""Of the first FCN release, which DeconvNet's ensemble uses; "upsample" is its last layer."""

# The names


def _places(model: str) -> dict[str, str]:
    """Where each layer's weights belong: Caffe's name to the path of our module.

    >>> _places("deconvnet")["debn5_1"]
    'decoder.0.deconv5_1.norm'
    """
    if model == "deconvnet":
        return _deconvnet_places()
    if model == "segnet-basic":
        return _segnet_basic_places()
    if model in _SEGNETS:
        return _segnet_places()
    places = dict(_encoder_places())
    places |= {f"fc{number}": f"bottleneck.fc{number}.conv" for number in (6, 7)}
    scores = {"fcn32s": ("score_fr",), "fcn16s": ("score_fr", "score_pool4")}
    names = scores.get(model, ("score_fr", "score_pool4", "score_pool3"))
    return places | {name: name for name in names}


def _encoder_places(norm: str | None = None) -> Iterator[tuple[str, str]]:
    """VGG's thirteen convolutions; `norm` names their batch norm, with {} for "1_1"."""
    for stage, channels in enumerate(VGG16):
        for index in range(1, len(channels) + 1):
            number = f"{stage + 1}_{index}"
            yield f"conv{number}", f"encoder.{stage}.conv{number}.conv"
            if norm:
                yield norm.format(number), f"encoder.{stage}.conv{number}.norm"


def _deconvnet_places() -> dict[str, str]:
    places = dict(_encoder_places("bn{}"))
    for name in ("fc6", "fc7"):
        places |= {name: f"bottleneck.{name}.conv", f"bn{name}": f"bottleneck.{name}.norm"}
    places["fc6-deconv"] = "bottleneck.fc6_deconv.deconv"
    places["fc6-deconv-bn"] = "bottleneck.fc6_deconv.norm"
    for stage, channels in enumerate(reversed(VGG16)):
        for index in range(1, len(channels) + 1):
            number = f"{5 - stage}_{index}"
            places[f"deconv{number}"] = f"decoder.{stage}.deconv{number}.deconv"
            places[f"debn{number}"] = f"decoder.{stage}.deconv{number}.norm"
    return places | {"seg-score-voc": "classifier"}


def _segnet_places() -> dict[str, str]:
    places = dict(_encoder_places("conv{}_bn"))
    for stage, channels in enumerate(reversed(VGG16)):
        for index in range(len(channels), 0, -1):
            name = f"conv{5 - stage}_{index}_D"
            places[name] = f"decoder.{stage}.{name}.conv"
            places[f"{name}_bn"] = f"decoder.{stage}.{name}.norm"
    del places["conv1_1_D_bn"]
    return places | {"conv1_1_D": "classifier"}


def _segnet_basic_places() -> dict[str, str]:
    places = {}
    for stage in range(4):
        for name, part in (
            (f"conv{stage + 1}", "encoder"),
            (f"conv_decode{4 - stage}", "decoder"),
        ):
            places[name] = f"{part}.{stage}.{name}.conv"
            places[f"{name}_bn"] = f"{part}.{stage}.{name}.norm"
    return places | {"conv_classifier": "classifier"}


def _upsamplings(model: str) -> dict[str, int]:
    """The upsamplings of an FCN, the last first, and their factors."""
    return {
        "fcn32s": {"upscore": 32},
        "fcn16s": {"upscore16": 16, "upscore2": 2},
        "fcn8s": {"upscore8": 8, "upscore2": 2, "upscore_pool4": 2},
        "fcn8s-at-once": {"upscore8": 8, "upscore2": 2, "upscore_pool4": 2},
    }.get(model, {})


def _scales(model: str) -> dict[str, float]:
    """The layers that shrink a pooling's output before it is scored (FCN-8s at once)."""
    return {"scale_pool4": 0.01, "scale_pool3": 0.0001} if model == "fcn8s-at-once" else {}


# From Caffe


def network_from_caffe(
    read: CaffeModel,
    model: str,
    *,
    batch_norm: BatchNorm = "auto",
    source: str = "the file",
) -> tuple[nn.Module, Config]:
    """Build the network that a .caffemodel's weights belong to, and put them in.

    Width, fc_channels, the number of classes and of input channels are read off the blobs.

    Args:
        read: From `caffe.read_caffemodel`.
        model: One of CAFFE_MODELS.
        batch_norm: See `BatchNorm`.
        source: Names the file in an error.

    Returns:
        The network in eval mode, and the config to save or predict with.

    Raises:
        CheckpointError: When layers are missing, left over or of another shape, or batch norm
            lacks its statistics.
    """
    layers = _layers_with_weights(read, model)
    _check_names(layers, model, source)
    _check_batch_norm(layers, batch_norm, source)
    config = _config(layers, model, source)
    with torch.device("meta"):  # only the shapes: 252 million weights need not be drawn first
        network = build_model(
            model, len(config.classes), in_channels=config.in_channels, **config.options
        )
    weights = _weights(layers, network, model, batch_norm, source)
    network.load_state_dict(weights, assign=True)
    return network.eval(), config


def _layers_with_weights(read: CaffeModel, model: str) -> dict[str, CaffeLayer]:
    """By the names in `_places`, where a file of the same network has others."""
    layers = [layer for layer in read.layers if layer.blobs]
    renamed: dict[str, str] = {}
    if model.startswith("fcn"):
        renamed = {**_OLDER_FCN_NAMES, "upsample": next(iter(_upsamplings(model)))}
    elif model == "deconvnet":  # seg-score-voc was trained on VOC, another's on something else
        scores = [layer.name for layer in layers if layer.name.startswith("seg-score")]
        renamed = dict.fromkeys(scores[-1:], "seg-score-voc")
    return {renamed.get(layer.name, layer.name): layer for layer in layers}


def _check_names(layers: Mapping[str, CaffeLayer], model: str, source: str) -> None:
    needed = [*_places(model), *_scales(model)]
    missing = [name for name in needed if name not in layers]
    known = {*needed, *_upsamplings(model)}
    extra = [layer.name for name, layer in layers.items() if name not in known]
    if not missing and not extra:
        return
    problems = [
        f"{what} {listed(names)}"
        for what, names in (("it lacks", missing), ("it has besides", extra))
        if names
    ]
    raise CheckpointError(
        f"{source} is not of the network {model}: {'; '.join(problems)}. "
        + _guess(set(layers), model)
    )


def _guess(names: set[str], model: str) -> str:
    """What to do about a file of another network."""
    for other in ("segnet-basic", "segnet", "deconvnet", "fcn8s-at-once", "fcn8s", "fcn16s"):
        if other != model and {*_places(other), *_scales(other)} <= names:
            return f"Its layers are those of {other}: give --model {other}."
    if {"conv1_1", "conv5_3", "fc6", "fc7"} <= names <= {*_places("fcn32s"), "fc8"}:
        return "It looks like VGG-16: give --model vgg16, and train with the result as init."
    return f"The names must be those of the release of one of {', '.join(CAFFE_MODELS)}."


def _check_batch_norm(
    layers: Mapping[str, CaffeLayer], batch_norm: BatchNorm, source: str
) -> None:
    learning = [
        layer.name
        for layer in layers.values()
        if layer.type == "BN" and layer.bn_mode != "inference" and len(layer.tops) < 3
    ]
    if batch_norm == "auto" and learning:
        raise CheckpointError(
            f"{source} holds batch norm in mode LEARN ({listed(learning, 2)}): a scale and a "
            "shift, without the mean and variance that belong to them. Re-estimate these: "
            "convert with --batch-norm learn, and train from the result (init). If they are "
            "already folded in, convert with --batch-norm inference."
        )


def listed(names: list[str], most: int = 8) -> str:
    """The first few names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _config(layers: Mapping[str, CaffeLayer], model: str, source: str) -> Config:
    places = _places(model)
    first, score = next(iter(places)), list(places)[-1]
    score = "score_fr" if model.startswith("fcn") else score
    deepest, published = ("conv1", 64) if model == "segnet-basic" else ("conv5_3", 512)
    sizes = {name: _weight_shape(layers[name], source) for name in {first, score, deepest}}
    options: dict[str, Any] = {}
    width = sizes[deepest][0] / published
    if width != 1:
        options["width"] = width
    if "fc6" in places:
        fc_channels = _weight_shape(layers["fc6"], source)[0]
        if fc_channels != scaled(4096, width):
            options["fc_channels"] = fc_channels
    if model.startswith("fcn8s") and not _all_bilinear(layers, ("upscore2", "upscore_pool4")):
        options["learned_upsampling"] = True
    count = sizes[score][0]
    mean = (0.0,) * 3 if model in _SEGNETS else tuple(value / 255 for value in AUTHORS_MEAN)
    in_channels = sizes[first][1]
    if in_channels != 3:
        mean = (sum(mean) / 3,) * in_channels
    return Config(
        model,
        published_classes(count, model),
        options,
        in_channels=in_channels,
        mean=mean,
        std=(1 / 255,) * in_channels,
        versions=library_versions(),
    )


def _weight_shape(layer: CaffeLayer, source: str) -> tuple[int, ...]:
    """(out, in, height, width), or (out, in) where the layer is fully connected."""
    shape = layer.blobs[0].shape
    if len(shape) == 4 and shape[:2] == (1, 1) and layer.type == "InnerProduct":
        shape = shape[2:]
    if len(shape) not in (2, 4):
        raise CheckpointError(
            f"{source}: {layer.name} has weights of shape {shape}, not those of a convolution."
        )
    return shape


def published_classes(count: int, model: str) -> Classes:
    """VOC's or CamVid's, where the network has as many as its release; numbered otherwise."""
    published = CAMVID if model in _SEGNETS else VOC
    return published if count == len(published) else Classes.numbered(count)


def _weights(
    layers: Mapping[str, CaffeLayer],
    network: nn.Module,
    model: str,
    batch_norm: BatchNorm,
    source: str,
) -> dict[str, Tensor]:
    """The state dict the network needs, or an error that lists every shape that is wrong."""
    expected = network.state_dict()
    problems: list[str] = []
    weights: dict[str, Tensor] = {}
    places = _places(model) | _learned_upsamplings(network)
    for name, place in places.items():
        keys = [key for key in (f"{place}.weight", f"{place}.bias") if key in expected]
        blobs = layers[name].blobs if name in layers else ()
        if name == "upscore2" and len(blobs) == 1:  # the newer release has no bias there
            blobs = (*blobs, np.zeros(blobs[0].shape[:1], np.float32))
        if len(blobs) != len(keys):
            problems.append(f"{name} has {len(blobs)} blobs where {len(keys)} belong")
            continue
        for key, blob in zip(keys, blobs, strict=True):
            shape = tuple(expected[key].shape)
            if fits(blob.shape, shape):
                weights[key] = as_tensor(blob, shape)
            else:
                problems.append(f"{name} is {blob.shape}, not {shape}")
    problems += _check_fixed_upsamplings(layers, network, model)
    if problems:
        raise CheckpointError(
            f"{source} does not fit {model}: {listed(problems)}. Width, fc_channels and the "
            "number of classes were read off the file; the rest must be as published."
        )
    _read_rgb(weights)
    _fold_scales(weights, layers, model)
    weights |= _statistics(network, batch_norm)
    return weights


def fits(held: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    """Whether a blob is the wanted array, but for axes of 1 and a fully connected layer's."""
    if math.prod(held) != math.prod(wanted):
        return False
    trimmed = tuple(size for size in held if size != 1)
    flat = (wanted[0], math.prod(wanted[1:]))
    return trimmed in (
        tuple(size for size in wanted if size != 1),
        tuple(size for size in flat if size != 1),
    )


def as_tensor(blob: np.ndarray, shape: tuple[int, ...]) -> Tensor:
    """A copy of a blob in the shape that is wanted."""
    return torch.from_numpy(np.array(blob, np.float32).reshape(shape))


def _read_rgb(weights: dict[str, Tensor]) -> None:
    """Make the first convolution read RGB where Caffe's reads BGR."""
    first = next(iter(weights))
    if weights[first].shape[1] == 3:
        weights[first] = weights[first].flip(1)


def _statistics(network: nn.Module, batch_norm: BatchNorm) -> dict[str, Tensor]:
    """Running statistics by which batch norm only scales and shifts, exactly.

    For "learn" they are those of a fresh network, mean 0 and variance 1.
    """
    statistics = {}
    for name, module in network.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            spread = 1.0 if batch_norm == "learn" else 1.0 - module.eps
            statistics[f"{name}.running_mean"] = torch.zeros(module.num_features)
            statistics[f"{name}.running_var"] = torch.full((module.num_features,), spread)
            statistics[f"{name}.num_batches_tracked"] = torch.tensor(0)
    return statistics


def _learned_upsamplings(network: nn.Module) -> dict[str, str]:
    return {
        caffe_name: place
        for caffe_name, place in (("upscore2", "upscore2"), ("upscore_pool4", "upscore4"))
        if isinstance(getattr(network, place, None), nn.ConvTranspose2d)
    }


def _all_bilinear(layers: Mapping[str, CaffeLayer], names: Iterable[str]) -> bool:
    return all(_is_bilinear(layers[name]) for name in names if name in layers)


def _is_bilinear(layer: CaffeLayer) -> bool:
    """Whether it enlarges each channel alone by the bilinear kernel, and adds nothing."""
    weight = layer.blobs[0]
    if weight.ndim != 4 or weight.shape[0] != weight.shape[1]:
        return False
    expected = _bilinear_weight(len(weight), weight.shape[-1])
    return weight.shape == expected.shape and bool(
        np.allclose(weight, expected, atol=1e-6) and not any(b.any() for b in layer.blobs[1:])
    )


def _check_fixed_upsamplings(
    layers: Mapping[str, CaffeLayer], network: nn.Module, model: str
) -> list[str]:
    learned = _learned_upsamplings(network)
    return [
        f"{name} is not the bilinear enlargement x{factor} of {model}"
        for name, factor in _upsamplings(model).items()
        if name in layers
        and name not in learned
        and not (layers[name].blobs[0].shape[-1] == 2 * factor and _is_bilinear(layers[name]))
    ]


def _fold_scales(
    weights: dict[str, Tensor], layers: Mapping[str, CaffeLayer], model: str
) -> None:
    """Ours scale by constants; what a file's scales differ by goes into its score weights."""
    for name, constant in _scales(model).items():
        factor = layers[name].blobs[0].reshape(-1) / np.float32(constant)
        score = f"score_{name.removeprefix('scale_')}.weight"
        weights[score] = weights[score] * torch.from_numpy(factor)[:, None, None]


# To Caffe

NO_SETTINGS: Mapping[str, Setting] = {}
POOLING: Mapping[str, Setting] = {"pool": "MAX", "kernel_size": 2, "stride": 2}


class _Tape:
    """Caffe's layers in the order they run; each is fed by the one before, unless told."""

    def __init__(self, network: nn.Module, model: str) -> None:
        self.layers: list[CaffeLayer] = []
        self.top = "data"
        self.network = network
        self.names = {place: name for name, place in _places(model).items()}

    def add(
        self,
        name: str,
        kind: str,
        *,
        blobs: tuple[np.ndarray, ...] = (),
        bottoms: tuple[str, ...] = (),
        tops: tuple[str, ...] = (),
        settings: Mapping[str, Setting] = NO_SETTINGS,
    ) -> None:
        bottoms, tops = bottoms or (self.top,), tops or (name,)
        self.layers.append(CaffeLayer(name, kind, bottoms, tops, blobs, settings=settings))
        self.top = tops[0]

    def channels(self, place: str) -> tuple[int, int]:
        """Those that go into a convolution, and those that come out."""
        module = self._convolution_at(place)
        return module.in_channels, module.out_channels

    def _convolution_at(self, place: str) -> nn.Conv2d | nn.ConvTranspose2d:
        module = self.network.get_submodule(place)
        if not isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            raise CheckpointError(f"This network is not as published: {place} is {module}.")
        return module

    def convolution(self, place: str, *, name: str = "") -> None:
        """Its weights as they are; the first one is made to read BGR."""
        module = self._convolution_at(place)
        blobs = [_array(module.weight)]
        if place == next(iter(self.names)) and module.in_channels == 3:
            blobs[0] = np.ascontiguousarray(blobs[0][:, ::-1])
        settings: dict[str, Setting] = {"num_output": module.out_channels}
        settings |= {"kernel_size": module.kernel_size[0], "pad": int(module.padding[0])}
        if module.stride[0] != 1:
            settings["stride"] = module.stride[0]
        if module.bias is None:
            settings["bias_term"] = False
        else:
            blobs.append(_array(module.bias))
        kind = "Deconvolution" if isinstance(module, nn.ConvTranspose2d) else "Convolution"
        name = name or self.names[place]
        tops = ("seg-score",) if name == "seg-score-voc" else ()  # the release's one odd name
        self.add(name, kind, blobs=tuple(blobs), tops=tops, settings=settings)

    def blocks(self, place: str) -> None:
        """All the blocks of one stage: convolution, batch norm, ReLU."""
        for name, block in self.network.get_submodule(place).named_children():
            for step, module in block.named_children():  # none in a dropout
                if step in ("conv", "deconv"):
                    self.convolution(f"{place}.{name}.{step}")
                elif isinstance(module, nn.BatchNorm2d):
                    self.batch_norm(f"{place}.{name}.{step}", module)
                elif isinstance(module, nn.ReLU):
                    self.add(f"{self.top}-relu", "ReLU", tops=(self.top,))

    def batch_norm(self, place: str, module: nn.BatchNorm2d) -> None:
        """Its statistics folded into scale and shift, as the authors' scripts do."""
        name = self.names.get(place)
        if name is None:
            raise CheckpointError(
                f"This network has batch norm ({place}) where the published one has none; "
                "only networks as published are written for Caffe."
            )
        mean, variance = module.running_mean, module.running_var
        if mean is None or variance is None:
            raise CheckpointError(f"{place} keeps no statistics, so it cannot be written.")
        scale = module.weight.double() / (variance.double() + module.eps).sqrt()
        shift = module.bias.double() - mean.double() * scale
        blobs = tuple(_array(values).reshape(1, -1, 1, 1) for values in (scale, shift))
        self.layers.append(
            CaffeLayer(name, "BN", (self.top,), (self.top,), blobs, bn_mode="inference")
        )


def _array(values: Tensor) -> np.ndarray:
    return values.detach().cpu().float().numpy()


def network_to_caffe(network: nn.Module, model: str, size: tuple[int, int]) -> list[CaffeLayer]:
    """The layers of a network, with the authors' names, for `write_caffemodel` and a prototxt.

    The input "data" is BGR, otherwise standardised as the network's config says.

    Args:
        network: One of CAFFE_MODELS, as published but for its width.
        model: Its name.
        size: (height, width) in pixels of the pictures it will see.

    Raises:
        CheckpointError: When the network is not as published.
        ShapeError: When the size is below DeconvNet's least side.
    """
    if model not in CAFFE_MODELS:
        raise CheckpointError(
            f"'{model}' has no Caffe release; {', '.join(CAFFE_MODELS)} have."
        )
    kinds = {getattr(unpooling, "kind", "") for unpooling in _unpoolings(network)}
    if kinds - {"switches"}:
        raise CheckpointError(
            f"This network unpools by {', '.join(sorted(kinds))}; Caffe only knows switches."
        )
    if model == "deconvnet" and min(size) < LEAST_SIDE:
        raise ShapeError(
            f"{size} is too small for DeconvNet; take {LEAST_SIDE} pixels or more."
        )
    tape = _Tape(network, model)
    if model == "segnet-basic":
        settings = {"local_size": 5, "alpha": 0.0001, "beta": 0.75}
        tape.add("norm", "LRN", settings=settings)
    planes = []
    for stage in range(len(VGG16) if model != "segnet-basic" else 4):
        tape.blocks(f"encoder.{stage}")
        planes.append(size)
        size = (math.ceil(size[0] / 2), math.ceil(size[1] / 2))
        name = f"pool{stage + 1}"
        tops = (name,) if model.startswith("fcn") else (name, f"{name}_mask")
        tape.add(name, "Pooling", tops=tops, settings=POOLING)
    if hasattr(network, "bottleneck"):
        tape.blocks("bottleneck")
    if model.startswith("fcn"):
        _add_fcn_scores(tape, model)
        return tape.layers
    for stage, (height, width) in enumerate(reversed(planes)):
        number = len(planes) - stage
        tape.add(
            f"unpool{number}",
            "Unpooling",
            bottoms=(tape.top, f"pool{number}_mask"),
            settings={"height": height, "width": width},
        )
        tape.blocks(f"decoder.{stage}")
    tape.convolution("classifier")
    return tape.layers


def _unpoolings(network: nn.Module) -> Iterable[nn.Module]:
    unpoolings = getattr(network, "unpoolings", None)
    return unpoolings.values() if isinstance(unpoolings, nn.ModuleDict) else ()


def _add_fcn_scores(tape: _Tape, model: str) -> None:
    """Score, enlarge, crop and add, as often as this FCN does."""
    crops = {"fcn32s": 19, "fcn16s": 27}.get(model, 31)
    scales = _scales(model)
    last, *doublings = _upsamplings(model).items()
    tape.convolution("score_fr")
    for (name, _), pooled, offset in zip(doublings, ("pool4", "pool3"), (5, 9), strict=False):
        _add_upsampling(tape, name, 2)
        enlarged = tape.top
        tape.top = pooled
        if scale := scales.get(f"scale_{pooled}"):
            factors = np.full(tape.channels(f"score_{pooled}")[0], scale, np.float32)
            tape.add(f"scale_{pooled}", "Scale", blobs=(factors,))
        tape.convolution(f"score_{pooled}")
        bottoms = (tape.top, enlarged)
        tape.add(
            f"score_{pooled}c", "Crop", bottoms=bottoms, settings={"axis": 2, "offset": offset}
        )
        tape.add(
            f"fuse_{pooled}",
            "Eltwise",
            bottoms=(enlarged, tape.top),
            settings={"operation": "SUM"},
        )
    _add_upsampling(tape, *last)
    tape.add("score", "Crop", bottoms=(tape.top, "data"), settings={"axis": 2, "offset": crops})


def _add_upsampling(tape: _Tape, name: str, factor: int) -> None:
    """A learned one as it is; a fixed one as the matrix that Caffe keeps for it."""
    place = {"upscore_pool4": "upscore4"}.get(name, name)
    if isinstance(getattr(tape.network, place, None), nn.ConvTranspose2d):
        tape.convolution(place, name=name)
        return
    num_classes = tape.channels("score_fr")[1]
    weight = _bilinear_weight(num_classes, 2 * factor)
    settings = {"num_output": num_classes, "kernel_size": 2 * factor, "stride": factor}
    settings["bias_term"] = False
    tape.add(name, "Deconvolution", blobs=(weight,), settings=settings)


def _bilinear_weight(channels: int, size: int) -> np.ndarray:
    """Enlarging each channel from itself alone, as the full matrix that Caffe keeps."""
    diagonal = np.eye(channels, dtype=np.float32)[:, :, None, None]
    weight: np.ndarray = diagonal * bilinear_kernel(size).numpy()
    return weight

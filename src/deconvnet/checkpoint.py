"""Weights in and out: a checkpoint is a folder in the convention of the Hugging Face Hub.

    model.safetensors   the weights, float32 or float16
    config.json         what is needed to use them: network, classes, colours, standardisation
    README.md           the model card

Only this module calls torch.load, and only with weights_only, so that no file can run code.
"""

import json
import math
import pickle
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from deconvnet.errors import CheckpointError, MissingExtraError, UserError
from deconvnet.familiarity import Familiarity
from deconvnet.files import is_dir, is_file, write_text, written_whole
from deconvnet.labels import IGNORED, Classes
from deconvnet.models import build_model

BUNDLED = Path(__file__).parent / "weights"
"""The networks that come with the package."""

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
"""Of RGB in 0 to 1, as torchvision's VGG-16 expects; used for every network trained here."""


@dataclass(frozen=True)
class Config:
    """What is needed, beside the weights, to use a network."""

    model: str
    """Its name in MODELS."""
    classes: Classes
    options: Mapping[str, Any] = field(default_factory=dict)
    """Further arguments of build_model, such as width."""
    in_channels: int = 3
    mean: tuple[float, ...] = MEAN
    """Subtracted from RGB in 0 to 1."""
    std: tuple[float, ...] = STD
    """Divides what is left."""
    input_scale: float = 1.0
    """Pictures are resized by this before the network, the logits back after it."""
    recipe: Mapping[str, Any] = field(default_factory=dict)
    """The recipe it was trained with."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Of the libraries it was trained with."""
    familiarity: Familiarity | None = None
    """What the pictures are like that it was trained for, if that was measured."""

    def to_json(self) -> str:
        """The text of config.json."""
        values = asdict(self)
        values["classes"] = list(self.classes.names)
        values["colors"] = [list(color) for color in self.classes.colors]
        values["background"] = self.classes.background
        values["ignored_label"] = IGNORED
        values["familiarity"] = self.familiarity and self.familiarity.to_json()
        return json.dumps(values, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str, source: str) -> "Config":
        """Read config.json, refusing in words what is not one.

        Args:
            text: The content of the file.
            source: Where it came from, for the message.

        Raises:
            CheckpointError: If something is missing or of the wrong kind.
        """
        try:
            values = json.loads(text)
            return cls(
                model=_is(values["model"], str),
                classes=Classes(
                    tuple(_is(name, str) for name in values["classes"]),
                    tuple(_color(color) for color in values["colors"]),
                    _background(values),
                ),
                options=_is(values.get("options", {}), dict),
                in_channels=_is(values.get("in_channels", 3), int),
                mean=tuple(_finite(value) for value in values.get("mean", MEAN)),
                std=tuple(_positive(value) for value in values.get("std", STD)),
                input_scale=_positive(values.get("input_scale", 1.0)),
                recipe=_is(values.get("recipe", {}), dict),
                versions=_is(values.get("versions", {}), dict),
                familiarity=_familiarity(values.get("familiarity")),
            )
        except (LookupError, TypeError, ValueError, OverflowError, RecursionError) as error:
            raise CheckpointError(
                f"{source} is no description of a network of ours ({error!r}); "
                "give a folder written by `deconvnet train` or `deconvnet convert`."
            ) from None


@dataclass(frozen=True)
class Checkpoint:
    """A network with its weights, in eval mode, and what is needed to use it."""

    network: nn.Module
    config: Config
    source: str
    """The name or folder it was loaded from."""


def build_network(config: Config) -> nn.Module:
    """The network a config describes, with fresh weights."""
    return build_model(
        config.model, len(config.classes), in_channels=config.in_channels, **config.options
    )


def save_checkpoint(
    folder: str | Path,
    weights: nn.Module | Mapping[str, Tensor],
    config: Config,
    *,
    card: str = "",
    dtype: torch.dtype = torch.float32,
) -> Path:
    """Write a checkpoint; each file is written whole or not at all.

    Args:
        folder: Made if it is missing.
        weights: A network or its state dict.
        config: What describes the network.
        card: Text of README.md; empty for a short one made from the config.
        dtype: Floating-point type of the stored weights.

    Returns:
        The folder.

    Raises:
        OutputError: If the place cannot be written.
        CheckpointError: If a weight is not finite in `dtype`.
    """
    folder = Path(folder)
    state = weights.state_dict() if isinstance(weights, nn.Module) else weights
    stored = {name: _stored(name, value, dtype) for name, value in state.items()}
    write_text(folder / "README.md", card or _short_card(config))
    write_text(folder / "config.json", config.to_json())
    with written_whole(folder / "model.safetensors") as temporary:  # last: it makes it one
        try:
            save_file(stored, temporary, metadata={"format": "pt"})
        except SafetensorError as error:  # a full disk, for which it has no other name
            raise OSError(str(error)) from error
    return folder


def load_checkpoint(where: str | Path) -> Checkpoint:
    """Load a network from a bundled name, a folder, or a Hugging Face Hub id.

    Raises:
        CheckpointError: If there is none, or its files are damaged or do not fit together.
    """
    folder = find_checkpoint(where)
    config_file, weights_file = folder / "config.json", folder / "model.safetensors"
    for file in (config_file, weights_file):
        if not file.is_file():
            raise CheckpointError(
                f"{folder} has no {file.name}; a checkpoint is a folder with model.safetensors "
                "and config.json, such as best/ in the folder of a training run."
            )
    try:
        text = config_file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{config_file} cannot be read as text: {error}.") from None
    config = Config.from_json(text, str(config_file))
    weights = read_weights(weights_file)
    try:
        with torch.device("meta"):  # takes no memory, whatever the description says
            described = build_network(config)
        _refuse_misfits(described, weights, str(weights_file))
        network = build_network(config)
    except CheckpointError:
        raise
    except (UserError, TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise CheckpointError(f"{config_file}: {error}") from None
    load_weights(network, weights, str(weights_file))
    return Checkpoint(network.eval(), config, str(where))


def check_pictures(config: Config, source: str) -> None:
    """Refuse a network that takes something else than pictures as they are read here.

    Raises:
        CheckpointError: If it takes neither grey nor RGB, or standardises another number of
            channels than it takes.
    """
    channels, means, stds = config.in_channels, len(config.mean), len(config.std)
    if channels not in (1, 3):
        raise CheckpointError(
            f"{source} takes pictures of {channels} channels, and pictures are read as RGB or "
            "grey (what is transparent lies over white); give a network for 3 channels or 1."
        )
    if not {means, stds} <= {1, channels}:
        raise CheckpointError(
            f"{source} standardises pictures by {means} and {stds} values where they have "
            f"{channels} to a pixel; give {channels} in mean and std of its config.json."
        )


def find_checkpoint(where: str | Path) -> Path:
    """The folder that a bundled name, a folder or a Hub id stands for.

    Raises:
        CheckpointError: If nothing is there.
    """
    folder = Path(where)
    if is_dir(folder):
        return folder
    if is_file(BUNDLED / str(where) / "config.json"):
        return BUNDLED / str(where)
    if re.fullmatch(r"[\w-]+/[\w.-]+", str(where)):
        return _download_from_hub(str(where))
    names = bundled_names()
    raise CheckpointError(
        f"There is no checkpoint '{where}'; give the folder of one, such as RUN/best, "
        + (f"or a bundled name: {', '.join(names)}." if names else "written by a training run.")
    )


def bundled_names() -> list[str]:
    """The names of the networks that come with the package."""
    return sorted(path.parent.name for path in BUNDLED.glob("*/config.json"))


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """The tensors in a .safetensors file, or in a .pth or .pt file of torch.

    Raises:
        CheckpointError: If the file is missing, damaged, or holds more than tensors.
    """
    path = Path(path)
    if not is_file(path):
        raise CheckpointError(f"There is no file {path}; give a file of weights.")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        values = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL (\S+)", str(error))
        named = f" ({found[1]})" if found else ""
        raise CheckpointError(
            f"{path} holds more than tensors{named}, so reading it could run code; it is "
            "refused. Save only the state dict, best as .safetensors."
        ) from None
    except Exception as error:  # the decoder of a damaged file may raise anything
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(
            f"{path} is damaged or no file of weights ({reason}); copy or train it again."
        ) from None
    values = values.get("state_dict", values) if isinstance(values, dict) else values
    if not isinstance(values, dict) or not all(isinstance(v, Tensor) for v in values.values()):
        raise CheckpointError(f"{path} holds no state dict: a table from names to tensors.")
    return values


def load_weights(network: nn.Module, weights: Mapping[str, Tensor], source: str) -> None:
    """Put weights into a network, refusing in words what does not fit.

    Raises:
        CheckpointError: If a weight is missing, left over, or of another shape.
    """
    _refuse_misfits(network, weights, source)
    network.load_state_dict({name: value.float() if value.is_floating_point() else value
                             for name, value in weights.items()})  # fmt: skip


def _refuse_misfits(network: nn.Module, weights: Mapping[str, Tensor], source: str) -> None:
    """Refuse weights that are not exactly those of the network.

    Raises:
        CheckpointError: If a weight is missing, left over, or of another shape.
    """
    expected = network.state_dict()
    missing = [name for name in expected if name not in weights]
    extra = [name for name in weights if name not in expected]
    reshaped = [
        f"{name} is {tuple(weights[name].shape)}, not {tuple(value.shape)}"
        for name, value in expected.items()
        if name in weights and weights[name].shape != value.shape
    ]
    problems = [
        f"{what}: {', '.join(names[:3])}{f' and {len(names) - 3} more' if names[3:] else ''}"
        for what, names in (("missing", missing), ("left over", extra), ("shape", reshaped))
        if names
    ]
    if problems:
        raise CheckpointError(
            f"{source} belongs to another network than its description says "
            f"({'; '.join(problems)}); use the config.json it was saved with."
        )


def save_state(path: str | Path, state: Mapping[str, Any]) -> None:
    """Write the state of a training run, whole or not at all."""
    with written_whole(path) as temporary, temporary.open("wb") as file:
        try:
            torch.save(dict(state), file)
        except RuntimeError as error:  # of a full disk torch says: an unexpected position
            if isinstance(error.__context__, OSError):
                raise error.__context__ from error
            raise


def load_state(path: str | Path) -> dict[str, Any]:
    """Read the state of a training run.

    Raises:
        CheckpointError: If the file is missing, damaged, or could run code.
    """
    path = Path(path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(
            f"There is no saved state {path}; start the run without --resume."
        ) from None
    except Exception as error:  # the decoder of a damaged file may raise anything
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(
            f"{path} is no state of a training run ({reason}); start the run again."
        ) from None
    if not isinstance(state, dict):
        raise CheckpointError(f"{path} is no state of a training run; start the run again.")
    return state


def library_versions() -> dict[str, str]:
    """Versions that decide what a network computes."""
    return {name: version(name) for name in ("deconvnet", "torch", "numpy")}


def _stored(name: str, value: Tensor, dtype: torch.dtype) -> Tensor:
    value = value.detach().cpu()
    if not value.is_floating_point():
        return value.contiguous()
    narrowed = value.to(dtype).contiguous()
    if not bool(torch.isfinite(narrowed).all()):
        raise CheckpointError(
            f"The weight {name} is not finite as {dtype}, so it was not saved; "
            "its largest finite size there is " + f"{torch.finfo(dtype).max:g}."
        )
    return narrowed


def _short_card(config: Config) -> str:
    return (
        f"---\nlibrary_name: deconvnet\npipeline_tag: image-segmentation\n---\n"
        f"# {config.model}, {len(config.classes)} classes\n\n"
        f"Classes: {', '.join(config.classes.names)}.\n"
    )


def _download_from_hub(name: str) -> Path:
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    except ImportError:
        raise MissingExtraError(
            f"'{name}' is neither a folder nor a bundled name; reading it from the Hub", "hub"
        ) from None
    try:
        patterns = ["model.safetensors", "config.json", "README.md"]
        return Path(snapshot_download(name, allow_patterns=patterns))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(
            f"There is no folder '{name}' here, and the Hub did not give one ({reason})."
        ) from None


def _familiarity(value: Any) -> Familiarity | None:
    return None if value is None else Familiarity.from_json(value)


def _is(value: Any, kind: type) -> Any:
    if not isinstance(value, kind):
        raise TypeError(f"{value!r} is not of type {kind.__name__}")
    return value


def _finite(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{value!r} is no finite number")
    return number


def _positive(value: Any) -> float:
    number = _finite(value)
    if number <= 0:
        raise ValueError(f"{value!r} is not above 0")
    return number


def _background(values: Mapping[str, Any]) -> int | None:
    index = values.get("background")
    if index is not None and _is(index, int) not in range(len(values["classes"])):
        raise ValueError(f"the background is class {index!r}, which there is not")
    return index


def _color(value: Any) -> tuple[int, int, int]:
    red, green, blue = (_is(channel, int) for channel in value)
    if not all(0 <= channel <= 255 for channel in (red, green, blue)):
        raise ValueError(f"{value!r} is no colour: red, green, blue from 0 to 255")
    return red, green, blue

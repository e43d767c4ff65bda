"""What a training run is: its job, fixed before it starts, and its state, which changes."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies import DDPStrategy
from lightning_fabric.utilities.rank_zero import rank_zero_only
from torch import Tensor, nn

from deconvnet.checkpoint import (
    Config,
    build_network,
    library_versions,
    load_checkpoint,
    load_weights,
)
from deconvnet.data import Dataset, open_dataset
from deconvnet.data.doctor import class_statistics, median_frequency_weights, quick_check
from deconvnet.errors import (
    CheckpointError,
    DataError,
    DeviceError,
    MissingExtraError,
    OutputError,
    RecipeError,
    UserError,
)
from deconvnet.kernels import winograd
from deconvnet.kernels.allocator import tune_allocator
from deconvnet.predict import find_device
from deconvnet.progress import say
from deconvnet.recipe import Recipe

PATIENCE = timedelta(days=2)
"""How long processes wait for the first one, which alone scores and writes."""


@dataclass(frozen=True)
class Job:
    """What a run trains, on what, and where it writes."""

    recipe: Recipe
    config: Config
    training: Dataset
    validation: Dataset | None
    out: Path
    fabric: Fabric
    class_weights: Tensor | None
    quiet: bool
    native: bool = False
    """Whether our own kernels compute the steps."""
    teacher: nn.Module | None = None
    """What the network learns to imitate, in eval mode, on the run's device."""

    @property
    def pictures_per_step(self) -> int:
        """Pictures behind one optimiser step, over all passes and devices."""
        return self.recipe.batch_size * self.recipe.accumulate * int(self.fabric.world_size)

    def agreed(self, asked: bool) -> bool:
        """Whether any process was asked; all get the same answer, at the same step."""
        if self.fabric.world_size == 1:
            return asked
        return float(self.mean_over_processes(torch.tensor(float(asked)))) > 0

    def mean_over_processes(self, value: Tensor) -> Tensor:
        """The mean of what every process gives; the value itself where there is one process."""
        if self.fabric.world_size == 1:
            return value
        total: Tensor = self.fabric.all_reduce(
            value.to(self.fabric.device, copy=True), reduce_op="sum"
        )
        return total / self.fabric.world_size

    def by_first(self, work: Callable[[], object]) -> None:
        """Let the first process do a piece of work, and the others wait, or fail with it.

        Raises:
            UserError: As the work does in the first process; in the others, that it failed.
        """
        failure: UserError | None = None
        if self.fabric.is_global_zero:
            try:
                work()
            except UserError as error:
                failure = error
        failed = self.agreed(failure is not None)
        if failure is not None:
            raise failure
        if failed:
            raise OutputError("The first process failed, so this one stops too.")


@dataclass
class Run:
    """A training run as it stands; what state.pt keeps."""

    network: nn.Module
    trained: nn.Module
    """What is trained: the network itself, or with classifiers beside it (`Supervised`)."""
    optimizer: torch.optim.Optimizer
    average: nn.Module
    """The moving average of the network; the network itself where there is none."""
    step: int = 0
    best: float = -1.0
    """Best mean IoU on val so far."""
    log: list[dict[str, float]] = field(default_factory=list)
    recent: list[tuple[float, float]] = field(default_factory=list)
    """Loss and seconds of each step since the last line of the log."""

    def state(self, recipe: Recipe, fabric: Fabric) -> dict[str, Any]:
        """Everything needed to go on bit for bit."""
        return {
            "step": self.step,
            "best": self.best,
            "network": self.network.state_dict(),
            "beside": {k: v for k, v in self.trained.state_dict().items() if k[:6] == "heads."},
            "average": self.average.state_dict() if self.average is not self.network else None,
            "optimizer": self.optimizer.state_dict(),
            "precision": fabric.strategy.precision.state_dict(),  # 16-mixed: the loss's scale
            "log": self.log,
            "recent": self.recent,
            "recipe": recipe.to_dict(),
        }

    def restore(self, state: Mapping[str, Any], source: Path, fabric: Fabric) -> None:
        """Go on from a saved state.

        Raises:
            CheckpointError: If the state is of another network.
        """
        load_weights(self.network, state["network"], str(source))
        self.trained.load_state_dict(state.get("beside", {}), strict=False)
        if state["average"] is not None:
            load_weights(self.average, state["average"], str(source))
        self.optimizer.load_state_dict(state["optimizer"])
        fabric.strategy.precision.load_state_dict(state.get("precision", {}))
        self.step, self.best = state["step"], state["best"]
        self.log, self.recent = list(state["log"]), list(state["recent"])


def prepare(
    recipe: Recipe, out: Path, *, device: str = "auto", devices: int = 1, quiet: bool = False
) -> Job:
    """Open the data and check all that can be checked before training.

    Raises:
        UserError: If something does not do.
    """
    tune_allocator()
    check_devices(find_device(device), devices)
    _check_tensorboard(recipe)
    quiet = quiet or rank_zero_only.rank != 0
    training = _open(recipe, "train")
    validation = _validation(recipe, quiet=quiet)
    _check_data(training, validation)
    config = Config(
        model=recipe.model,
        classes=training.classes,
        options=model_options(recipe),
        input_scale=recipe.input_scale,
        recipe=recipe.to_dict(),
        versions=library_versions(),
    )
    with torch.device("meta"):
        build_network(config)  # a wrong model or option is found before the data is counted
    fabric = _fabric(recipe, device, devices)
    fabric.launch()
    weights = _class_weights(recipe, training)
    teacher = _teacher(recipe.teacher, config)
    return Job(
        recipe,
        config,
        training,
        validation,
        out,
        fabric,
        None if weights is None else weights.to(fabric.device),
        quiet,
        recipe.engine == "native" and _native_works(recipe, fabric, quiet=quiet),
        None if teacher is None else teacher.to(fabric.device),
    )


def check_devices(device: torch.device, devices: int) -> None:
    """Refuse to train on more devices than there are; CPU processes there are as many as asked.

    Raises:
        DeviceError: If so.
    """
    if devices < 1:
        raise DeviceError(f"devices is {devices}; it must be at least 1.")
    there = {"cuda": torch.cuda.device_count(), "mps": 1}.get(device.type, devices)
    if devices > there:
        raise DeviceError(f"devices is {devices}; this machine has {there} ({device.type}).")


def _fabric(recipe: Recipe, device: str, devices: int) -> Fabric:
    """Fabric for one process, for several that it starts, or for those of torchrun."""
    nodes = 1
    if "TORCHELASTIC_RUN_ID" in os.environ:
        devices = int(os.environ["LOCAL_WORLD_SIZE"])
        nodes = int(os.environ["WORLD_SIZE"]) // devices
    alone = devices * nodes == 1
    return Fabric(
        accelerator=device,
        devices=devices,
        num_nodes=nodes,
        strategy="auto" if alone else DDPStrategy(timeout=PATIENCE),
        precision=recipe.precision,
    )


def _native_works(recipe: Recipe, fabric: Fabric, *, quiet: bool) -> bool:
    """Whether our own kernels can train here; says so where they cannot."""
    if fabric.device.type != "cpu" or recipe.precision != "32-true":
        reason = "they compute in 32-true on the CPU"
    elif not winograd.is_available():  # which has said why, in one line of the log
        reason = "they could not be compiled"
    else:
        return True
    say(f"The native kernels are not used, for {reason}; torch is.", quiet=quiet)
    return False


def model_options(recipe: Recipe) -> dict[str, Any]:
    """The options of build_model that a recipe sets."""
    options: dict[str, Any] = {"width": recipe.width}
    for name in (
        "fc_channels",
        "unpooling",
        "batch_norm",
        "dropout",
        "depth",
        "bn_eps",
        "init",
    ):
        if getattr(recipe, name) is not None:
            options[name] = getattr(recipe, name)
    return options


def _teacher(source: str | None, config: Config) -> nn.Module | None:
    """The network to imitate, if one is named.

    Raises:
        CheckpointError: If there is none, or it sees other pictures or says other classes.
    """
    if source is None:
        return None
    loaded = load_checkpoint(source)
    if loaded.config.classes.names != config.classes.names:
        raise CheckpointError(
            f"The teacher {source} knows the classes {_few(loaded.config.classes.names)}, and "
            f"the data has {_few(config.classes.names)}; name a teacher of the data's classes."
        )
    own, other = (
        f"{c.in_channels} channels, mean {c.mean}, std {c.std}" for c in (config, loaded.config)
    )
    if own != other:
        raise CheckpointError(
            f"The teacher {source} takes pictures otherwise ({other}) than the network that is "
            f"trained ({own}); name a teacher that this program trained."
        )
    return channels_last(loaded.network.eval().requires_grad_(False))


def channels_last(network: nn.Module) -> nn.Module:
    """The network with its weights laid out as CPUs and GPUs read them fastest."""
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in torch's stubs


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (", ..." if names[4:] else "")


def _open(recipe: Recipe, split: str) -> Dataset:
    """A split of the recipe's data set.

    Raises:
        RecipeError: If mask_values are no numbers.
    """
    given = recipe.mask_values
    if given is not None and not all(value.strip().isdecimal() for value in given.split(",")):
        raise RecipeError(
            f"mask_values is '{given}'; give the number of each class, such as 0,255."
        )
    values = None if given is None else [int(value) for value in given.split(",")]
    return open_dataset(recipe.data, split, format=recipe.format, mask_values=values)


def _validation(recipe: Recipe, *, quiet: bool) -> Dataset | None:
    """The val split, or none where the data set has none."""
    try:
        return _open(recipe, "val")
    except DataError as error:
        say(f"Training goes on without scores on val: {error}", quiet=quiet)
        return None


def _check_data(training: Dataset, validation: Dataset | None) -> None:
    """Refuse data that would fail hours later.

    Raises:
        DataError: With the first problem found, and how many more there are.
    """
    for dataset in (training, validation):
        problems = [p for p in quick_check(dataset) if p.severity == "error"] if dataset else []
        if problems:
            more = f" ({len(problems) - 1} more: deconvnet check-data)" if problems[1:] else ""
            raise DataError(f"{problems[0].sentence}{more}")


def _class_weights(recipe: Recipe, training: Dataset) -> Tensor | None:
    if recipe.class_weights == "none":
        return None
    weights = torch.from_numpy(median_frequency_weights(class_statistics(training))).float()
    return weights.sqrt() if recipe.class_weights == "root_median" else weights


def _check_tensorboard(recipe: Recipe) -> None:
    """Refuse a recipe that wants TensorBoard where it is not installed.

    Raises:
        MissingExtraError: If so.
    """
    if recipe.tensorboard and find_spec("tensorboard") is None:
        raise MissingExtraError("The setting tensorboard", "tensorboard")

"""Training by a recipe, in one stage or in two; and what can be tried before it."""

from contextlib import nullcontext
from pathlib import Path

from deconvnet.checkpoint import build_network
from deconvnet.errors import OutputError
from deconvnet.evaluate import Evaluation
from deconvnet.files import kept_for_itself
from deconvnet.predict import find_device
from deconvnet.recipe import Recipe
from deconvnet.stages import (
    carry_out_two_stages,
    check_two_stages,
    first_stage,
    plan_two_stages,
)
from deconvnet.training.job import Job, check_devices, prepare
from deconvnet.training.loop import carry_out
from deconvnet.training.rate_finder import RateTest, try_rates
from deconvnet.training.transfer import start_from
from deconvnet.training.trials import fitted, plan_job


def train(
    recipe: Recipe,
    *,
    out: str | Path,
    resume: bool = False,
    device: str = "auto",
    devices: int = 1,
    fit_memory: int | None = None,
    quiet: bool = False,
) -> Evaluation | None:
    """Train a network as a recipe says; writes best/, last/, log.csv and curve.png into `out`.

    Args:
        recipe: What to train, on what, and how. In two stages `steps` are those of the second,
            and each stage writes a folder of its own besides.
        out: Folder of the run; must not hold another.
        resume: Go on with the run in that folder.
        device: auto, cpu, cuda or mps.
        devices: Devices or processes that train side by side (DDP); torchrun sets it too.
        fit_memory: Bytes; the pictures of a step go through the network in as many passes as
            it takes to stay under them.
        quiet: Show no progress.

    Returns:
        The scores of best/ on the whole of val; none where the data set has no val.

    Raises:
        UserError: If a setting, the data or the folder does not do, before any training.
        DivergedError: If the loss, a gradient or a weight became infinite or no number.
        KeyboardInterrupt: On Ctrl-C, after the state was saved.
    """
    job = _prepare(recipe, out, device=device, devices=devices, quiet=quiet)
    if fit_memory is not None:
        job = fitted(job, fit_memory, resume=resume)
    carry = carry_out_two_stages if recipe.stages == "two" else carry_out
    first = job.fabric.is_global_zero
    with kept_for_itself(job.out) if first else nullcontext(True) as ours:
        if job.agreed(not ours):
            raise OutputError(
                f"Another process is training in {job.out}; wait for its end or stop it, or "
                "name another folder with --out."
            )
        return carry(job, resume=resume)


def plan(
    recipe: Recipe,
    out: str | Path,
    *,
    device: str = "auto",
    devices: int = 1,
    fit_memory: int | None = None,
) -> str:
    """What training by a recipe would do and take, from three steps that are thrown away.

    They run on one device, however many train.

    Raises:
        UserError: As train would.
    """
    check_devices(find_device(device), devices)
    job = _prepare(recipe, out, device=device, quiet=True)
    if recipe.start_from:
        start_from(
            recipe.start_from, build_network(job.config), recipe.model, job.config.classes
        )
    if fit_memory is not None:
        job = fitted(job, fit_memory)
    return plan_two_stages(job) if recipe.stages == "two" else plan_job(job)


def find_learning_rate(
    recipe: Recipe, out: str | Path, *, device: str = "auto", quiet: bool = False
) -> RateTest:
    """How the loss takes higher and higher learning rates; of two stages, in the first.

    Raises:
        UserError: As train would.
    """
    job = _prepare(recipe, out, device=device, quiet=quiet)
    return try_rates(first_stage(job) if recipe.stages == "two" else job)


def _prepare(
    recipe: Recipe, out: str | Path, *, device: str, devices: int = 1, quiet: bool
) -> Job:
    if recipe.stages == "two":
        check_two_stages(recipe)
    return prepare(recipe, Path(out), device=device, devices=devices, quiet=quiet)

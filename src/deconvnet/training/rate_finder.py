"""Which learning rate to take: how the loss answers to ever higher ones."""

import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from deconvnet.checkpoint import build_network
from deconvnet.errors import DivergedError, RecipeError
from deconvnet.files import written_whole
from deconvnet.progress import ProgressBar
from deconvnet.training.job import Job, channels_last
from deconvnet.training.pictures import TrainingPictures, batches_from
from deconvnet.training.solver import build_optimizer, freeze
from deconvnet.training.step import take_step, trained_module
from deconvnet.training.transfer import start_from

LOWEST, HIGHEST, STEPS = 1e-6, 10.0, 100
"""Learning rates tried, evenly on a logarithmic scale."""

SMOOTHING = 0.9
"""Of the moving average over the losses."""

TOO_HIGH = 4.0
"""The test ends when the loss is so many times its lowest."""


@dataclass(frozen=True)
class RateTest:
    """Losses at rising learning rates."""

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    """Smoothed; a step each."""

    @property
    def rate(self) -> float:
        """The learning rate to use: a tenth of that with the lowest loss, to two digits."""
        return float(f"{self.rates[int(np.argmin(self.losses))] / 10:.1e}")

    def to_text(self) -> str:
        """Every fifth step as a table, and the rate to use."""
        rows = [
            f"  {rate:>10.1e}   {loss:.4f}"
            for rate, loss in list(zip(self.rates, self.losses, strict=True))[::5]
        ]
        lowest = int(np.argmin(self.losses))
        doubt = ""
        if lowest == 0:
            doubt = " It never fell, though: look at the data and the start of the weights."
        elif lowest == len(self.rates) - 1:
            doubt = " It was still falling at the highest one."
        return "\n".join(
            [
                "  learning rate   loss",
                *rows,
                "",
                f"The loss is lowest at {self.rates[lowest]:.1e}.{doubt}",
                f"learning_rate: {self.rate:g}",
            ]
        )

    def draw(self, path: str | Path) -> None:
        """Write the curve as a PNG.

        Raises:
            OutputError: If the place cannot be written.
        """
        from matplotlib.figure import Figure

        figure = Figure(figsize=(8, 4), dpi=110, layout="constrained")
        axes = figure.subplots()
        axes.semilogx(self.rates, self.losses, color="#0072b2")
        axes.axvline(self.rate, color="#d55e00", linestyle="--")
        axes.set_title(f"learning_rate: {self.rate:g}", loc="right", fontsize=10)
        axes.set(xlabel="learning rate", ylabel="loss, smoothed")
        axes.grid(visible=True, alpha=0.3)
        with written_whole(path) as temporary:
            figure.savefig(temporary)


def try_rates(job: Job) -> RateTest:
    """Train with a higher learning rate at each step, and throw the network away.

    Everything else is as the recipe says. The test ends early when the loss explodes.

    Raises:
        RecipeError: If it explodes at once.

    Source: Smith 2017, "Cyclical learning rates for training neural networks", section 3.3;
    differs: the rates rise exponentially, and a tenth of the best is advised as the highest.
    """
    recipe = replace(job.recipe, schedule="constant", warmup=0, steps=STEPS)
    torch.manual_seed(recipe.seed)
    network = channels_last(build_network(job.config))
    if recipe.start_from:
        start_from(recipe.start_from, network, recipe.model, job.config.classes)
    freeze(network, recipe.freeze)
    module = trained_module(network, job)
    trained, optimizer = job.fabric.setup(module, build_optimizer(module, recipe))
    batches = batches_from(TrainingPictures(job.training, recipe, job.config), 0)
    losses: list[float] = []
    rates = [float(rate) for rate in np.geomspace(LOWEST, HIGHEST, STEPS)]
    mean = 0.0
    with ProgressBar("learning rates", STEPS, quiet=job.quiet) as bar:
        for step, rate in enumerate(rates):
            tried = replace(job, recipe=replace(recipe, learning_rate=rate))
            try:
                loss = take_step(tried, step, trained, optimizer, batches)
            except DivergedError:
                break
            mean = SMOOTHING * mean + (1 - SMOOTHING) * loss
            losses.append(mean / (1 - SMOOTHING ** (step + 1)))  # as if it had no beginning
            bar.advance(1, f"{rate:.1e}  loss {losses[-1]:.3f}")
            if not math.isfinite(losses[-1]) or losses[-1] > TOO_HIGH * min(losses):
                break
    if len(losses) < 2:
        raise RecipeError(
            f"The loss is no number at a learning rate of {LOWEST:g} already; look at the data "
            "with `deconvnet check-data`, and at the start of the weights."
        )
    return RateTest(tuple(rates[: len(losses)]), tuple(losses))

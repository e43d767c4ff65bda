"""One optimiser step, and what is said when its numbers are no numbers any more."""

import math
from collections.abc import Iterator
from contextlib import nullcontext

import numpy as np
import torch
from torch import Tensor, nn

from deconvnet import losses
from deconvnet.errors import DivergedError
from deconvnet.kernels.training import native_operations
from deconvnet.labels import IGNORED
from deconvnet.training.job import Job
from deconvnet.training.pictures import TrainingPictures, numbers_of
from deconvnet.training.recompute import recompute_stages
from deconvnet.training.solver import hold_frozen, rate_factor
from deconvnet.training.supervision import Supervised, thinned
from deconvnet.training.synchronise import synchronise_batch_norm


def trained_module(network: nn.Module, job: Job) -> nn.Module:
    """The network as the recipe trains it: with recomputed stages, classifiers beside it."""
    module = network
    if job.recipe.auxiliary:
        side = job.recipe.crop_size
        example = torch.zeros(1, job.config.in_channels, side, side)
        module = Supervised(network, len(job.config.classes), example)
    if job.fabric.world_size > 1:
        synchronise_batch_norm(network)
    if job.recipe.recompute:
        recompute_stages(network, native=job.native)
    return module


def take_step(
    job: Job,
    step: int,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Iterator[list[Tensor]],
) -> float:
    """One optimiser step, over as many passes as are accumulated; gives the mean loss.

    Raises:
        DivergedError: If the loss or a gradient is not finite; the weights stay as they are.
    """
    recipe, fabric = job.recipe, job.fabric
    torch.manual_seed(_seed_of(recipe.seed, step, fabric.global_rank))  # dropout
    network.train()
    hold_frozen(network)
    for group in optimizer.param_groups:
        group["lr"] = recipe.learning_rate * rate_factor(step, recipe) * group["multiplier"]
    optimizer.zero_grad()
    total, suspect = 0.0, 0
    for turn in range(recipe.accumulate):
        batch = [fabric.to_device(part) for part in next(batches)]
        with fabric.no_backward_sync(network, enabled=turn < recipe.accumulate - 1):
            output, taught = _output(network, batch[0], job), _taught(batch[0], job)
            loss = _loss(output, batch[1:], taught, job) / recipe.accumulate
            fabric.backward(loss)
        if math.isfinite(total):
            suspect, suspected = turn, batch
        total += loss.item()
    total = float(job.mean_over_processes(torch.tensor(total, dtype=torch.float64)))
    if not math.isfinite(total):
        fault = _where_it_began(job, step * recipe.accumulate + suspect, network, suspected)
        raise DivergedError(_stopped(job, f"The loss became {total} at step {step + 1}", fault))
    scaled = recipe.precision == "16-mixed"  # whose scaler leaves such steps out
    if not scaled and (broken := _gradient_at_fault(network)) is not None:
        what = f"A gradient became infinite or no number at step {step + 1}"
        raise DivergedError(_stopped(job, what, broken))
    if recipe.clip is not None:
        fabric.clip_gradients(
            network, optimizer, max_norm=recipe.clip, error_if_nonfinite=False
        )
    optimizer.step()
    return total


def refuse_broken_weights(job: Job, step: int, *networks: nn.Module) -> None:
    """Refuse to write weights that are not finite over those that are.

    Raises:
        DivergedError: With the first such weight.
    """
    for network in networks:
        for name, value in network.state_dict().items():
            if value.is_floating_point() and not _is_finite(value):
                what = f"The weights became infinite or no numbers at step {step}"
                raise DivergedError(_stopped(job, what, f"the first is {name}"))


Output = Tensor | tuple[Tensor, list[Tensor]]
"""Logits, or what `Supervised` gives."""


def _output(network: nn.Module, images: Tensor, job: Job) -> Output:
    with native_operations() if job.native else nullcontext():
        output: Output = network(images.contiguous(memory_format=torch.channels_last))
    return output


@torch.no_grad()
def _taught(images: Tensor, job: Job) -> Tensor | None:
    """What the teacher says to a batch, if there is one."""
    if job.teacher is None:
        return None
    with native_operations() if job.native else nullcontext():
        logits: Tensor = job.teacher(images.contiguous(memory_format=torch.channels_last))
    return logits


def _loss(output: Output, truth: list[Tensor], taught: Tensor | None, job: Job) -> Tensor:
    """The recipe's sum of losses on one batch: labels, and weights of pixels if it has them."""
    logits, stages = output if isinstance(output, tuple) else (output, [])
    labels, *pixel_weights = truth
    loss = losses.cross_entropy(
        logits,
        labels,
        class_weights=job.class_weights,
        pixel_weights=pixel_weights[0] if pixel_weights else None,
        labelled=_labelled(job, labels),
    )
    if job.recipe.dice:
        loss = loss + job.recipe.dice * losses.dice_loss(logits, labels)
    if job.recipe.lovasz:
        loss = loss + job.recipe.lovasz * losses.lovasz_loss(logits, labels)
    if taught is not None:
        loss = loss + job.recipe.distill * losses.distillation_loss(
            logits, taught, labels, labelled=_labelled(job, labels)
        )
    for stage_logits in stages:
        stage_labels = thinned(labels, (stage_logits.shape[2], stage_logits.shape[3]))
        loss = loss + job.recipe.auxiliary / len(stages) * losses.cross_entropy(
            stage_logits,
            stage_labels,
            class_weights=job.class_weights,
            labelled=_labelled(job, stage_labels),
        )
    return loss


def _labelled(job: Job, labels: Tensor) -> Tensor:
    """Labelled pixels of a process on average, so that all pixels weigh the same everywhere."""
    return job.mean_over_processes((labels != IGNORED).sum().float())


def _stopped(job: Job, what: str, fault: str) -> str:
    """What happened, where, what is left, and what to do."""
    state = job.out / "state.pt"
    kept = f"the last good state is {state}" if state.exists() else "no state was saved yet"
    return (
        f"{what}, so training stopped: {fault}; {kept}. Lower learning_rate (now "
        f"{job.recipe.learning_rate:g}), add warmup or clip, and look at the data with "
        "`deconvnet check-data`."
    )


def _where_it_began(job: Job, one_pass: int, network: nn.Module, batch: list[Tensor]) -> str:
    """The first place of a pass at which something is not finite, and the pictures in it."""
    pictures = TrainingPictures(job.training, job.recipe, job.config)
    fabric = job.fabric
    numbers = numbers_of(
        job.recipe, one_pass, rank=fabric.global_rank, world_size=fabric.world_size
    )
    names = [pictures.name_of(number) for number in numbers]
    layer = _layer_at_fault(job, network, batch[0])  # in every process, as batch norm needs all
    weights = [n for n, value in network.named_parameters() if not _is_finite(value)]
    for name, *parts in zip(names, batch[0], *batch[2:], strict=True):
        if not all(_is_finite(part) for part in parts):
            return f"the picture {name}, as it went in, holds values that are no finite numbers"
    if weights:
        return f"the weights {_plain(weights[0])} were no finite numbers before"
    what = f"the first layer to give it was {layer}" if layer else "it arose in the loss itself"
    shown = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if names[4:] else "")
    return f"{what}, on {shown}"


@torch.no_grad()
def _layer_at_fault(job: Job, network: nn.Module, images: Tensor) -> str | None:
    """The first layer, in a pass made once more, that gives a value that is not finite."""
    found: list[str] = []
    hooks = []
    for name, module in network.named_modules():
        if next(module.children(), None) is None:

            def look(
                _module: nn.Module, _inputs: object, output: object, name: str = name
            ) -> None:
                if isinstance(output, Tensor) and not _is_finite(output):
                    found.append(_plain(name))

            hooks.append(module.register_forward_hook(look))
    try:
        _output(network, images, job)
    finally:
        for hook in hooks:
            hook.remove()
    return found[0] if found else None


def _gradient_at_fault(network: nn.Module) -> str | None:
    """The parameter nearest to the loss whose gradient is not finite, and how many are so.

    Sums are looked at first: they read every gradient once and allocate nothing.
    """
    given = [(n, p.grad) for n, p in network.named_parameters() if p.grad is not None]
    if not given or _is_finite(torch.stack([grad.sum() for _, grad in given])):
        return None
    broken = [name for name, gradient in given if not _is_finite(gradient)]
    if not broken:  # finite ones, whose sum is too large
        return None
    return (
        f"the gradient of {_plain(broken[-1])}, the nearest to the loss, and of "
        f"{len(broken) - 1} more of {len(given)} parameters"
    )


def _is_finite(value: Tensor) -> bool:
    return bool(torch.isfinite(value).all())


WRAPPERS = {"_forward_module", "_original_module", "module", "network"}
"""What Fabric, DDP and `Supervised` put before the names of what they hold."""


def _plain(name: str) -> str:
    """The name of a layer or parameter without those of what it is wrapped in."""
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)


def _seed_of(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])

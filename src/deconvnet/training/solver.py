"""How the weights move: optimisers, learning rates, moving averages."""

import math

import torch
from torch import nn

from deconvnet.errors import RecipeError
from deconvnet.recipe import Recipe


def rate_factor(step: int, recipe: Recipe) -> float:
    """Share of the highest learning rate at a step, counted from 0.

    >>> rate_factor(9000, Recipe(schedule="step", step_every=9000, steps=20000))
    0.1
    """
    warm = min(1.0, (step + 1) / recipe.warmup) if recipe.warmup else 1.0
    done = step / recipe.steps
    if recipe.schedule == "step":
        return warm * 0.1 ** (step // recipe.step_every)
    if recipe.schedule == "cosine":
        return warm * (1 + math.cos(math.pi * done)) / 2
    if recipe.schedule == "poly":
        return warm * (1 - done) ** 0.9
    return warm


def build_optimizer(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """The optimiser of a recipe, with Caffe's multipliers for sgd.

    Biases of convolutions learn at twice the rate and without decay; batch norm's scale and
    shift are treated as weights. AdamW decays matrices and kernels only.

    Source: the solvers and prototxts of DeconvNet and FCN (SPEC of this project, 1.2).
    """
    norm = {
        id(p)
        for m in network.modules()
        if isinstance(m, nn.BatchNorm2d)
        for p in m.parameters()
    }
    trainable = [(n, p) for n, p in network.named_parameters() if p.requires_grad]
    biases = [p for n, p in trainable if n.endswith("bias") and id(p) not in norm]
    fused = recipe.precision != "16-mixed"  # there it cannot be clipped
    if recipe.optimizer == "sgd":
        rest = [p for n, p in trainable if not n.endswith("bias") or id(p) in norm]
        return torch.optim.SGD(
            [
                {"params": rest, "multiplier": 1.0, "weight_decay": recipe.weight_decay},
                {"params": biases, "multiplier": 2.0, "weight_decay": 0.0},
            ],
            lr=recipe.learning_rate,
            momentum=recipe.momentum,
            fused=fused,
        )
    kernels = [p for _, p in trainable if p.ndim > 1]
    vectors = [p for _, p in trainable if p.ndim <= 1]
    return torch.optim.AdamW(
        [
            {"params": kernels, "multiplier": 1.0, "weight_decay": recipe.weight_decay},
            {"params": vectors, "multiplier": 1.0, "weight_decay": 0.0},
        ],
        lr=recipe.learning_rate,
        fused=fused,
    )


def freeze(network: nn.Module, parts: str | None) -> None:
    """Leave parts of a network as they are, named by the beginnings of their names.

    Raises:
        RecipeError: If there is no such part, or nothing would be left to train.
    """
    if parts is None:
        return
    for part in (word.strip() for word in parts.split(",")):
        found = [
            p for n, p in network.named_parameters() if n == part or n.startswith(f"{part}.")
        ]
        if not found:
            names = ", ".join(name for name, _ in network.named_children())
            raise RecipeError(
                f"There is no part '{part}' to freeze in this network; its parts are {names}."
            )
        for parameter in found:
            parameter.requires_grad_(False)
    if not any(p.requires_grad for p in network.parameters()):
        raise RecipeError(f"freeze is '{parts}', which leaves nothing to train.")


def hold_frozen(network: nn.Module) -> None:
    """Let batch norm that is not trained use and keep the statistics it has."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d) and not module.weight.requires_grad:
            module.eval()


@torch.no_grad()
def update_average(average: nn.Module, network: nn.Module, decay: float, step: int) -> None:
    """Move the average of the weights a little towards the network.

    Early on it moves faster, so that the random start is forgotten.
    """
    keep = min(decay, (1 + step) / (10 + step))
    current = network.state_dict()
    for name, value in average.state_dict().items():
        if value.is_floating_point():
            value.lerp_(current[name], 1 - keep)
        else:
            value.copy_(current[name])

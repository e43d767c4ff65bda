"""How the weights move: optimisers, learning rates, moving averages."""

import math

import torch
from torch import nn

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
    if recipe.optimizer == "sgd":
        rest = [p for n, p in trainable if not n.endswith("bias") or id(p) in norm]
        return torch.optim.SGD(
            [
                {"params": rest, "multiplier": 1.0, "weight_decay": recipe.weight_decay},
                {"params": biases, "multiplier": 2.0, "weight_decay": 0.0},
            ],
            lr=recipe.learning_rate,
            momentum=recipe.momentum,
        )
    kernels = [p for _, p in trainable if p.ndim > 1]
    vectors = [p for _, p in trainable if p.ndim <= 1]
    return torch.optim.AdamW(
        [
            {"params": kernels, "multiplier": 1.0, "weight_decay": recipe.weight_decay},
            {"params": vectors, "multiplier": 1.0, "weight_decay": 0.0},
        ],
        lr=recipe.learning_rate,
    )


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

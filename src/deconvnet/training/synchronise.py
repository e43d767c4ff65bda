"""Batch normalisation over the batches of all processes that train side by side."""

from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from deconvnet.shapes import Features


def synchronise_batch_norm(network: nn.Module) -> None:
    """Let batch norm take its statistics over every process's part of the batch.

    So two processes learn what one would from twice the batch. torch's SyncBatchNorm does so on
    GPUs alone, and is no BatchNorm2d; this is one rule for every device.

    Source: Ioffe & Szegedy 2015, algorithm 1, its mini-batch spread over processes.
    """
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.forward = partial(_normalised, module)  # type: ignore[method-assign]


def _normalised(norm: nn.BatchNorm2d, features: Features) -> Features:
    if not norm.training:
        return type(norm).forward(norm, features)
    count = features.numel() // features.shape[1] * dist.get_world_size()
    wide = features.float()  # as BatchNorm2d, which takes its sums in float32 at any precision
    mean = _sum_of_all(wide.sum((0, 2, 3))) / count
    centred = wide - mean[:, None, None]
    variance = _sum_of_all(centred.square().sum((0, 2, 3))) / count
    _count_batch(norm, mean.detach(), variance.detach(), count)
    scale = norm.weight * torch.rsqrt(variance + norm.eps)
    return (centred * scale[:, None, None] + norm.bias[:, None, None]).to(features.dtype)


@torch.no_grad()
def _count_batch(norm: nn.BatchNorm2d, mean: Tensor, variance: Tensor, count: int) -> None:
    """Move the running statistics, as BatchNorm2d does."""
    if norm.running_mean is None or norm.running_var is None or norm.momentum is None:
        return
    norm.running_mean.lerp_(mean, norm.momentum)
    norm.running_var.lerp_(variance * count / max(count - 1, 1), norm.momentum)
    if norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)


def _sum_of_all(values: Tensor) -> Tensor:
    result: Tensor = _Sum.apply(values)  # type: ignore[no-untyped-call]
    return result


class _Sum(torch.autograd.Function):
    """The sum over all processes; each has its share in what the others make of it."""

    @staticmethod
    def forward(_ctx: Any, values: Tensor) -> Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    @once_differentiable
    def backward(_ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

"""One face for everything that runs a trained network fast: `accelerate`.

The engine `torch` rewrites a copy of the network and stays plain PyTorch:

    conv, batch norm         become one convolution
    transposed 3 x 3         becomes the convolution that it is, by its weights turned
    fc6 and its way back     become matrix products where there are few windows
    everything               runs in channels_last, without autograd, in bounded batches

`deconvnet bench` measures what that wins; docs/performance.md discusses it.
"""

import copy
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deconvnet.errors import RecipeError, UserError, did_you_mean
from deconvnet.kernels.allocator import tune_allocator
from deconvnet.layers.unpooling import Switches, Unpooling
from deconvnet.shapes import Features, Float, ImageBatch, LogitsBatch

BATCH_PIXELS = 2**19
"""Pictures run together as long as they have no more pixels: 10 crops of 224 x 224.

That bounds the memory of a batch, whatever its size; larger batches are not faster.
"""

FEW_WINDOWS = 64
"""Up to so many windows in a batch, a 7 x 7 kernel is faster as a matrix product."""

LARGE_KERNEL = 5
"""Pixels; unpadded kernels from here on are fully connected layers in disguise."""


def accelerate(
    network: nn.Module, engine: str = "torch", *, precision: str = "fp32"
) -> nn.Module:
    """Give a faster twin of a network: same call, same output, inference only.

    The network stays as it is. Its twin shares nothing with it, is in eval mode for good, and
    gives no gradients. Dropout is kept, so that `sample_dropout` works on the twin too. On the
    way the C library's allocator is tuned (`kernels.allocator` says how, and how to opt out).

    Args:
        network: (N, C, H, W) to logits (N, K, H, W): any of MODELS, or another of convolutions.
        engine: "torch"; or "openvino", which needs the extra of that name and runs on the CPU.
        precision: "fp32".

    Raises:
        RecipeError: For an engine or precision that there is not.
        MissingExtraError: When the engine's library is not installed.

    >>> network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
    >>> accelerate(network)(torch.zeros(2, 3, 5, 7)).shape
    torch.Size([2, 4, 5, 7])
    """
    if engine not in _ENGINES:
        raise RecipeError(
            f"there is no engine '{engine}'; the engines are {', '.join(_ENGINES)}."
            + did_you_mean(engine, _ENGINES)
        )
    if precision != "fp32":
        raise RecipeError(
            f"the engine '{engine}' cannot compute in precision '{precision}'; it takes 'fp32'."
        )
    if isinstance(network, Accelerated):
        raise RecipeError(
            "this network is accelerated already; give the one that it was made from."
        )
    tune_allocator()
    return Accelerated(_ENGINES[engine](_folded(network)))


class Accelerated(nn.Module):
    """What `accelerate` gives: a network that can only be called.

    Args:
        network: Gives logits for a batch of bounded size.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        super().train(mode=False)

    def forward(self, images: ImageBatch) -> LogitsBatch:
        """Give the logits that the network it was made from gives in eval mode.

        Raises:
            UserError: When gradients are asked for.
        """
        if images.requires_grad and torch.is_grad_enabled():
            raise UserError(
                "an accelerated network gives no gradients, and this batch of pictures asks for "
                "them; use the network that it was made from."
            )
        at_once = max(1, BATCH_PIXELS // max(1, images[:1, 0].numel()))
        with torch.no_grad():
            parts = [self.network(part) for part in images.split(at_once)]
            logits = parts[0] if len(parts) == 1 else torch.cat(parts)
            return logits.contiguous()

    def train(self, mode: bool = True) -> Self:  # noqa: ARG002, FBT001, FBT002  # torch's own
        """Stay in eval mode: there is nothing here to train."""
        return self


def _folded(network: nn.Module) -> nn.Module:
    """A copy of the network in fewer and cheaper steps, for the engine `torch`."""
    twin = nn.Sequential(copy.deepcopy(network)).eval().requires_grad_(requires_grad=False)
    places = Counter(id(module) for _, module in twin.named_modules(remove_duplicate=False))
    for sequence in [module for module in twin.modules() if type(module) is nn.Sequential]:
        if all(places[id(step)] == 1 for step in sequence):
            _fold_batch_norm(sequence)
            _work_in_place(sequence)
    for parent in list(twin.modules()):
        for name, module in parent.named_children():
            setattr(parent, name, _faster(module))
    return twin.to(memory_format=torch.channels_last)


def _fold_batch_norm(sequence: nn.Sequential) -> None:
    """Let each convolution do the scaling and shifting of the batch norm that follows it."""
    for index in range(len(sequence) - 1):
        conv, norm = sequence[index], sequence[index + 1]
        if type(conv) not in (nn.Conv2d, nn.ConvTranspose2d):
            continue
        if isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None:
            _scale_and_shift(conv, norm)
            sequence[index + 1] = nn.Identity()


def _scale_and_shift(conv: nn.Conv2d | nn.ConvTranspose2d, norm: nn.BatchNorm2d) -> None:
    """Computed in float64: a variance of 1e-9 is a factor of 30,000."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    weight = conv.weight.double()
    bias = torch.zeros(conv.out_channels) if conv.bias is None else conv.bias
    gamma = torch.ones_like(norm.running_var) if norm.weight is None else norm.weight
    beta = torch.zeros_like(norm.running_var) if norm.bias is None else norm.bias
    factor = gamma.double() / (norm.running_var.double() + norm.eps).sqrt()
    if isinstance(conv, nn.ConvTranspose2d):  # in, out of the group, height, width
        grouped = weight.view(conv.groups, -1, *weight.shape[1:])
        weight = (grouped * factor.view(conv.groups, 1, -1, 1, 1)).view_as(weight)
    else:
        weight = weight * factor[:, None, None, None]
    bias = (bias.to(factor) - norm.running_mean.double()) * factor + beta.double()
    conv.weight = _constant(weight.to(conv.weight))
    conv.bias = _constant(bias.to(conv.weight))

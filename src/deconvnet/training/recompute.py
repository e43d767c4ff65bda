"""Less memory for more time: what a stage computed is thrown away, and computed again."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from deconvnet.kernels.training import native_operations

Passes = tuple[AbstractContextManager[object], AbstractContextManager[object]]


def recompute_stages(network: nn.Module, *, native: bool = False) -> None:
    """Let the stages of a network keep only their input on the way to the loss.

    What lies between is computed again when gradients are asked for. They are the same to the
    bit: the same random numbers are drawn again, and batch norm counts a batch once. Poolings
    lie between the stages, so switches are kept as values and never computed twice.

    Args:
        network: Its `encoder`, `bottleneck` and `decoder` change how they are called; weights
            and their names stay.
        native: Compute again by the native kernels, where the first pass is by them.

    Source: Chen, Xu, Zhang & Guestrin 2016, "Training deep nets with sublinear memory cost",
    section 4, with a segment for each stage.
    """
    for stage in _stages(network):
        stage.forward = partial(_kept_by_input, stage, stage.forward, native)


def _stages(network: nn.Module) -> Iterator[nn.Module]:
    for name in ("encoder", "bottleneck", "decoder"):
        part = getattr(network, name, None)
        if isinstance(part, nn.ModuleList):
            yield from part
        elif part is not None:
            yield part


def _kept_by_input(
    stage: nn.Module,
    forward: Callable[[Tensor], Tensor],
    native: bool,
    features: Tensor,
) -> Tensor:
    def passes() -> Passes:
        return nullcontext(), _again(stage, native=native)

    return checkpoint(forward, features, use_reentrant=False, context_fn=passes)


@contextmanager
def _again(stage: nn.Module, *, native: bool) -> Iterator[None]:
    """The second pass: batch norm normalises by its batch and counts it no second time."""
    norms = [module for module in stage.modules() if isinstance(module, nn.BatchNorm2d)]
    before = [(norm.momentum, _count(norm)) for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        with native_operations() if native else nullcontext():
            yield
    finally:
        for norm, (momentum, count) in zip(norms, before, strict=True):
            norm.momentum = momentum
            if norm.num_batches_tracked is not None and count is not None:
                norm.num_batches_tracked.fill_(count)


def _count(norm: nn.BatchNorm2d) -> int | None:
    counted = norm.num_batches_tracked
    return None if counted is None else int(counted)

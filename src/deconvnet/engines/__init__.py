"""One face for everything that runs a trained network fast: `accelerate`.

`deconvnet bench` measures what that wins; docs/performance.md discusses it.
"""

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from deconvnet.engines.native import native_engine
from deconvnet.engines.openvino import openvino_engine
from deconvnet.engines.rewriting import torch_engine
from deconvnet.errors import RecipeError, UserError, did_you_mean
from deconvnet.int8 import check_int8, quantised
from deconvnet.kernels.allocator import tune_allocator
from deconvnet.shapes import Float, ImageBatch

BATCH_PIXELS = 2**19
"""Pictures run together as long as they have no more pixels: 10 crops of 224 x 224.

That bounds the memory of a batch, whatever its size; larger batches are not faster.
"""

ENGINES: dict[str, Callable[[nn.Module], nn.Module]] = {
    "torch": torch_engine,
    "native": native_engine,
    "openvino": openvino_engine,
}
"""What can run a network, by name."""


def accelerate(
    network: nn.Module,
    engine: str = "torch",
    *,
    precision: str = "fp32",
    calibration: Iterable[Tensor] | None = None,
) -> nn.Module:
    """Give a faster twin of a network: same call, same output, inference only.

    The network stays as it is. Its twin shares nothing with it, is in eval mode for good, and
    gives no gradients. Dropout is kept, so that `sample_dropout` works on the twin too. On the
    way the C library's allocator is tuned (`kernels.allocator` says how, and how to opt out).

    Args:
        network: (N, C, H, W) to logits (N, K, H, W): any of MODELS, or another of convolutions.
        engine: "torch"; "native": our own kernels for the CPU, compiled when first wanted, or
            "torch" where there is no compiler; "openvino", which needs the extra of that name,
            takes seconds to compile, runs on the CPU, and cannot sample dropout.
        precision: "fp32"; or "int8" with the engine "openvino": convolutions in whole numbers
            of 8 bits, faster, and a little off (docs/performance.md).
        calibration: For "int8", batches of pictures as the network takes them, some dozens of
            those it was trained on, on which the range of each layer is measured.

    Raises:
        RecipeError: For an engine or precision that there is not, and for "int8" without
            pictures.
        MissingExtraError: When the engine's library is not installed.

    >>> network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
    >>> accelerate(network)(torch.zeros(2, 3, 5, 7)).shape
    torch.Size([2, 4, 5, 7])
    """
    if engine not in ENGINES:
        raise RecipeError(
            f"there is no engine '{engine}'; the engines are {', '.join(ENGINES)}."
            + did_you_mean(engine, ENGINES)
        )
    if precision == "int8":
        check_int8(engine)
    elif precision != "fp32":
        raise RecipeError(
            f"the engine '{engine}' does not compute in precision '{precision}'; take 'fp32'."
        )
    if isinstance(network, Accelerated):
        raise RecipeError(
            "this network is accelerated already; give the one that it was made from."
        )
    tune_allocator()
    if precision == "int8":
        return Accelerated(
            openvino_engine(network, lambda model: quantised(model, calibration))
        )
    return Accelerated(ENGINES[engine](network))


class Accelerated(nn.Module):
    """What `accelerate` gives: a network that can only be called.

    Args:
        network: Gives logits for a batch of bounded size.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        super().train(mode=False)

    def forward(self, images: ImageBatch) -> Float[Tensor, "n k logits_h logits_w"]:
        """Give the logits that the network it was made from gives in eval mode.

        Raises:
            UserError: When gradients are asked for.
        """
        if images.requires_grad and torch.is_grad_enabled():
            raise UserError(
                "an accelerated network gives no gradients, and these pictures ask for them; "
                "use the network that it was made from."
            )
        at_once = max(1, BATCH_PIXELS // math.prod(images.shape[2:]))
        with torch.no_grad():
            parts = [self.network(part) for part in torch.split(images, at_once)]
            return (parts[0] if len(parts) == 1 else torch.cat(parts)).contiguous()

    def train(self, mode: bool = True) -> "Accelerated":
        """Stay in eval mode: there is nothing to train here."""
        return self

"""The engine `openvino`, and networks in a form that other engines take over."""

import math
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deconvnet.engines.rewriting import (
    MAX_POOL,
    Instead,
    as_convolution,
    is_padded_convolution,
    pools_in_halves,
    rewritten,
)
from deconvnet.errors import MissingExtraError, RecipeError
from deconvnet.layers.bilinear import BilinearUpsampling, bilinear_kernel
from deconvnet.layers.unpooling import Switches, Unpooling
from deconvnet.shapes import Features, Float, ImageBatch


class Convertible(nn.Module):
    """A twin of a network that other engines can take over: no pooling with indices.

    They compare the corners of each window instead, for OpenVINO's pooling is slow where it
    gives indices, and ONNX's unpooling is known to few. To be traced; sizes stay free.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = rewritten(network, _convertible)

    def forward(self, images: ImageBatch) -> Float[Tensor, "n k logits_h logits_w"]:
        """Give the same logits."""
        instead: dict[Callable[..., Any], Callable[..., Any]] = {
            MAX_POOL: _pool_by_corners,
            F.max_pool2d: _pool_padded,
        }
        if torch.jit.is_tracing():  # type: ignore[attr-defined,no-untyped-call]  # torch's
            instead[torch.sym_max] = _traced_max
        with Instead(instead):
            logits: Tensor = self.network(images)
            return logits


def _convertible(module: nn.Module) -> nn.Module:
    """A module that others run well; no branch on a size, for tracing takes but one."""
    if type(module) is nn.ConvTranspose2d and is_padded_convolution(module):
        return as_convolution(module)
    if isinstance(module, Unpooling) and module.kind == "switches":
        return _SelectUnpooling()
    if isinstance(module, BilinearUpsampling):
        return _BilinearUpsampling(module.factor)
    return module


def openvino_engine(
    network: nn.Module, change: Callable[[Any], Any] = lambda model: model
) -> nn.Module:
    """The network compiled by OpenVINO.

    Args:
        network: Any of ours.
        change: What is done with OpenVINO's model before it is compiled.

    Raises:
        MissingExtraError: OpenVINO is not installed.
        RecipeError: It cannot convert the network.
    """
    try:
        import openvino
    except ImportError:
        raise MissingExtraError("the engine 'openvino'", "openvino") from None
    return _OpenVino(Convertible(network).float(), openvino, change)


class _BilinearUpsampling(nn.Module):
    """The layer of that name by a kernel whose shape does not depend on the features."""

    def __init__(self, factor: int) -> None:
        super().__init__()
        self.factor = factor
        self.kernel = nn.Buffer(bilinear_kernel(2 * factor)[None, None])

    def forward(self, features: Features) -> Float[Tensor, "n c big_h big_w"]:
        planes = features.flatten(0, 1)[:, None]
        grown = F.conv_transpose2d(planes, self.kernel, stride=self.factor)
        return grown.view(*features.shape[:2], *grown.shape[2:])


class _OpenVino(nn.Module):
    """A network compiled by OpenVINO for this processor, for pictures of any size."""

    def __init__(self, network: nn.Module, openvino: Any, change: Callable[[Any], Any]) -> None:
        super().__init__()
        convolutions = [step for step in network.modules() if isinstance(step, nn.Conv2d)]
        dropouts = [step for step in network.modules() if isinstance(step, nn.Dropout)]
        self.dropouts = nn.ModuleList(dropouts)
        example = torch.zeros(1, convolutions[0].in_channels, 224, 256)
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # of tracing, about the checks of sizes
            try:
                model = openvino.convert_model(network, example_input=example)
            except Exception as error:  # of many kinds, none of them our own
                raise RecipeError(
                    "OpenVINO cannot convert this network "
                    f"({' '.join(str(error).split())[:200]}); use the engine 'torch'."
                ) from error
        settings = {
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "INFERENCE_PRECISION_HINT": "f32",
        }
        self.compiled = openvino.Core().compile_model(change(model), "CPU", settings)

    def forward(self, images: ImageBatch) -> Float[Tensor, "n k logits_h logits_w"]:
        if any(dropout.training and dropout.p for dropout in self.dropouts):
            raise RecipeError(
                "the engine 'openvino' cannot sample dropout; use the engine 'torch' for that."
            )
        logits = self.compiled(images.float().contiguous().cpu().numpy())[0]
        return torch.from_numpy(logits.copy()).to(images)


def _traced_max(side: Tensor, least: int) -> Tensor:
    """While a graph is traced, sizes are tensors; OpenVINO does not know sym_max."""
    return torch.as_tensor(side).clamp(min=least)


def _pool_padded(features: Tensor, kernel_size: Any, **options: Any) -> Tensor:
    """2 x 2 pooling that keeps edges, by a padding; any other pooling as it is.

    Where `ceil_mode` pools a single row or column, OpenVINO (2026.4) computes nothing, and
    answers with what it had computed for the picture before.
    """
    if pools_in_halves(kernel_size, options):
        return F.max_pool2d(F.pad(features, (0, 1, 0, 1), value=-math.inf), 2)
    return F.max_pool2d(features, kernel_size, **options)


def _pool_by_corners(features: Tensor, *_: int, **_options: Any) -> tuple[Tensor, Tensor]:
    """The maximum of each 2 x 2 window and its corner; the first wins, edges are kept."""
    corners = (
        F.pad(features, (left, 1 - left, above, 1 - above), value=-math.inf)[:, :, 1::2, 1::2]
        for above in (1, 0)
        for left in (1, 0)
    )
    best = next(corners)
    winner = torch.zeros_like(best)
    for number, corner in enumerate(corners, start=1):
        winner = torch.where(corner > best, float(number), winner)
        best = torch.maximum(best, corner)
    return best, winner


class _SelectUnpooling(nn.Module):
    """`unpool` by the corners that `_pool_by_corners` gives."""

    def forward(
        self, features: Features, switches: Switches
    ) -> Float[Tensor, "n c plane_h plane_w"]:
        corners = [
            torch.where(switches.positions == corner, features, 0) for corner in range(4)
        ]
        plane = F.pixel_shuffle(torch.stack(corners, dim=2).flatten(1, 2), 2)
        height, width = switches.size
        return plane[:, :, :height, :width]

"""What is trained beside the network: a classifier on each stage of its decoder."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deconvnet.errors import RecipeError
from deconvnet.models.deconvnet import LEAST_SIDE, DeconvNet
from deconvnet.shapes import Features, ImageBatch, LogitsBatch


class Supervised(nn.Module):
    """A network and, for the training alone, a 1 x 1 classifier on each decoder stage.

    The loss then reaches the deep stages directly, which otherwise learn only through all
    that follows. The classifiers are thrown away at the end.

    Args:
        network: A network with `decoder`, a list of stages.
        num_classes: Channels of the logits.
        example: A picture of the size trained on, to count each stage's channels.

    Raises:
        RecipeError: If the network has no decoder stages, or they show more than the picture.

    Source: Lee, Xie, Gallagher, Zhang & Tu 2015, "Deeply-supervised nets", section 2; the
    classifiers here are convolutions and their labels the full ones, thinned out.
    """

    def __init__(self, network: nn.Module, num_classes: int, example: ImageBatch) -> None:
        super().__init__()
        self.network = network
        if not isinstance(getattr(network, "decoder", None), nn.ModuleList):
            raise RecipeError(
                "auxiliary needs a network with a decoder: deconvnet, segnet or unet; "
                "leave it at 0 for this one."
            )
        if not getattr(network, "padded", True):
            raise RecipeError(
                "auxiliary needs maps that show the picture and no more, and those of "
                "unet-valid show its margin too; leave it at 0, or take unet."
            )
        was_training = network.training
        with torch.no_grad():
            _, maps = self._stages(example, network.eval())
        network.train(was_training)
        self.heads = nn.ModuleList(nn.Conv2d(m.shape[1], num_classes, 1) for m in maps)

    def forward(self, images: ImageBatch) -> tuple[LogitsBatch, list[Tensor]]:
        """Logits, and those of each decoder stage but the last, at its own size."""
        logits, maps = self._stages(images, self.network)
        if isinstance(self.network, DeconvNet):
            maps = [_of_picture(map_, images.shape[2:]) for map_ in maps]
        return logits, [head(map_) for head, map_ in zip(self.heads, maps, strict=True)]

    @staticmethod
    def _stages(images: ImageBatch, network: nn.Module) -> tuple[LogitsBatch, list[Tensor]]:
        """What the network gives, and what each decoder stage but the last gave on the way."""
        maps: list[Tensor] = []

        def keep(_stage: nn.Module, _inputs: object, output: Tensor) -> None:
            maps.append(output)

        hooks = [stage.register_forward_hook(keep) for stage in list(network.decoder)[:-1]]  # type: ignore[arg-type]  # checked in __init__
        try:
            return network(images), maps
        finally:
            for hook in hooks:
                hook.remove()


def _of_picture(map_: Features, size: torch.Size) -> Tensor:
    """The part of a DeconvNet's map that shows the picture; the rest is of its padding."""
    height, width = (
        math.ceil(length * side / max(side, LEAST_SIDE))
        for length, side in zip(map_.shape[2:], size, strict=True)
    )
    return map_[:, :, :height, :width]


def thinned(labels: Tensor, size: tuple[int, int]) -> Tensor:
    """The labels at the middles of a smaller map's places: every n-th, so that none is mixed.

    >>> thinned(torch.arange(16).view(1, 4, 4), (2, 2))
    tensor([[[ 5,  7],
             [13, 15]]])
    """
    smaller = F.interpolate(labels[:, None].float(), size, mode="nearest-exact")
    return smaller[:, 0].to(labels.dtype)

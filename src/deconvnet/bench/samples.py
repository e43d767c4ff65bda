"""The networks and pictures that are timed."""

import numpy as np
import torch
from torch import Tensor, nn

from deconvnet.data.scenes import Scenes
from deconvnet.models import build_model


def network_of(name: str, width: float) -> nn.Module:
    """A network whose random weights keep the size of activations through every layer."""
    torch.manual_seed(0)
    network = build_model(name, 21, width=width).eval().requires_grad_(requires_grad=False)
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_normal_(
                module.weight,
                mode="fan_out" if isinstance(module, nn.ConvTranspose2d) else "fan_in",
            )
    return network


def pictures(count: int, size: int) -> Tensor:
    """Drawn pictures, standardised."""
    scenes = Scenes("val", count=count, size=size)
    images = np.stack([scenes[index].image for index in range(count)]).transpose(0, 3, 1, 2)
    return torch.from_numpy(images.astype(np.float32) / 255 - 0.5) * 4

"""Predictors of tiny untrained networks, and pictures for them."""

import numpy as np
import torch
from torch import nn

from deconvnet.checkpoint import Config, build_network
from deconvnet.labels import Classes
from deconvnet.predict import Predictor

COLOURS = Classes.named(["background", "red", "green"], background=0)


def predictor(model="segnet", width=1 / 32, seed=0, **options):
    """A predictor whose weights, biases and batch norm are all random."""
    torch.manual_seed(seed)
    config = Config(model, COLOURS, {"width": width, **options})
    network = build_network(config).eval()
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                for value in (module.weight, module.running_var):
                    nn.init.uniform_(value, 0.5, 1.5)
                for value in (module.bias, module.running_mean):
                    nn.init.normal_(value, std=0.1)
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d) and not module.weight.any():
                nn.init.normal_(module.weight, std=0.3)  # FCN's scores start at zero
    return Predictor(network, config)


def picture(height=64, width=48, seed=0):
    """Noise: every window has its own maximum."""
    generator = np.random.default_rng(seed)
    return generator.integers(0, 256, (height, width, 3), dtype=np.uint8)

import numpy as np
import pytest
import torch

from deconvnet.checkpoint import Config
from deconvnet.data.scenes import SCENES
from deconvnet.instances import grow
from deconvnet.predict import Predictor


class Watched(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.sides = []

    def forward(self, images):
        self.sides.append(tuple(images.shape[2:]))
        return torch.zeros(len(images), len(SCENES), *images.shape[2:])


@pytest.mark.parametrize("input_scale", [1.0, 0.5])
def test_windows_reach_the_network_at_its_crop_size_whatever_its_scale(input_scale):
    network = Watched()
    config = Config("deconvnet", SCENES, {}, input_scale=input_scale, recipe={"crop_size": 48})
    windows = np.array([[0, 0, 90, 90], [10, 10, 30, 30]], np.float32)
    image = np.zeros((80, 90, 3), np.uint8)
    (grown,) = grow(Predictor(network, config), image, windows)
    assert network.sides == [(48, 48)]
    assert grown.scores.shape == (len(SCENES), 80, 90)

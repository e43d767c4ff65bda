import json

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from deconvnet.describe import (
    MeasuredField,
    describe,
    field_of,
    measured_receptive_field,
)
from deconvnet.errors import RecipeError
from deconvnet.models import MODELS, build_model


def full_width(name, num_classes=21, in_channels=3):
    with torch.device("meta"):
        return build_model(name, num_classes, in_channels)


@pytest.fixture(scope="module")
def published():
    """DeconvNet as published."""
    return describe(full_width("deconvnet"))


def test_deconvnet_has_the_published_figures(published):
    assert published.parameters == 251_805_653
    assert round(published.multiply_adds / 1e9, 2) == 32.75
    assert published.receptive_field == 404
    assert round(published.weights_mib, 1) == 960.6
    assert round(published.maps_mib) == 102


@pytest.mark.parametrize(
    ("name", "side"),
    [("fcn8s", 404), ("fcn32s", 404), ("segnet", 212), ("segnet-basic", 106), ("unet", 140)],
)
def test_the_receptive_field_is_that_of_the_deepest_encoder_layer(name, side):
    assert describe(full_width(name)).receptive_field == side


@pytest.mark.parametrize("name", MODELS)
def test_multiply_adds_agree_with_torchs_own_count(name):
    network = build_model(name, 3, width=1 / 32).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(1, 3, 64, 48))
    assert describe(network, (64, 48)).multiply_adds == counter.get_total_flops() / 2


def test_the_theoretical_field_is_what_gradients_reach():
    network = nn.Sequential(
        nn.Conv2d(3, 4, 5, padding=2),
        nn.Conv2d(4, 4, 3, stride=2, padding=1),
        nn.Conv2d(4, 4, 3, padding=1),
    )
    strength = measured_receptive_field(network, "2", size=40, samples=2)
    rows = np.flatnonzero(strength.sum(axis=1))
    assert rows[-1] - rows[0] + 1 == describe(network, 40).receptive_field == 11


def test_through_max_pooling_gradients_stay_within_the_theoretical_field():
    network = build_model("segnet", 3, width=1 / 16)
    strength = measured_receptive_field(network, "encoder.2", size=96, samples=4)
    columns = np.flatnonzero(strength.sum(axis=0))
    theory = 40  # conv3_3 of VGG-16
    assert theory / 2 < columns[-1] - columns[0] + 1 <= theory


def test_the_measured_field_stands_beside_the_theoretical_one():
    network = build_model("segnet-basic", 3, width=1 / 16)
    description = describe(network, 128, measure=True)
    measured = description.measured_receptive_field
    assert 0 < measured.effective < measured.reached <= description.receptive_field == 106
    assert f"measured         {measured.effective} pixels" in str(description)
    assert description.to_json()["measured_receptive_field"] == {
        "reached": measured.reached,
        "effective": measured.effective,
    }
    assert describe(network, 128).to_json()["measured_receptive_field"] is None


def test_the_effective_field_counts_what_is_strong():
    strength = np.zeros((9, 9), np.float32)
    strength[1:8, 2:6] = 0.04
    strength[3:6, 3:6] = 1
    assert field_of(strength) == MeasuredField(reached=7, effective=3)
    assert field_of(np.zeros((4, 4), np.float32)) == MeasuredField(0, 0)


def test_the_network_is_given_back_as_it_was():
    network = build_model("segnet-bayesian", 3, width=1 / 64).train()
    network.encoder.eval()
    modes = [module.training for module in network.modules()]
    state = {name: value.clone() for name, value in network.state_dict().items()}
    describe(network, 40)
    measured_receptive_field(network, "encoder.0", size=20)
    assert [module.training for module in network.modules()] == modes
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    assert not any(module._forward_hooks for module in network.modules())


def test_json_has_the_keys_of_the_contract():
    found = json.loads(json.dumps(describe(full_width("unet", 2, 1), 64, 1).to_json()))
    assert {"parameters", "multiply_adds", "receptive_field", "layers"} <= set(found)
    assert found["layers"][0] == {
        "name": "conv1_1",
        "kind": "convolution",
        "kernel": [3, 3],
        "stride": [1, 1],
        "pad": [1, 1],
        "out_channels": 64,
        "out_size": [64, 64],
        "parameters": 640,
        "multiply_adds": 9 * 64 * 64 * 64,
    }


def test_the_table_reads_like_the_papers(published):
    lines = str(published).splitlines()
    assert [line.split() for line in (lines[0], lines[3], lines[19])] == [
        ["layer", "kind", "kernel", "stride", "pad", "output", "parameters"],
        "pool1 max pooling 2 x 2 2 x 2 0 x 0 112 x 112 x 64 -".split(),
        "fc6 convolution 7 x 7 1 x 1 0 x 0 1 x 1 x 4096 102,764,544".split(),
    ]
    assert "and batch norm: 29 layers, 33,408 parameters" in lines
    assert "parameters       251,805,653" in lines
    assert max(map(len, lines)) <= 100


def test_no_size_and_no_layer_are_answered_in_words():
    network = build_model("unet", 2, width=1 / 64)
    with pytest.raises(RecipeError) as caught:
        describe(network, 0)
    assert str(caught.value) == "a picture of 0 x 0 pixels was asked for; take 1 or more."
    with pytest.raises(RecipeError) as caught:
        measured_receptive_field(network, "fc6")
    assert str(caught.value) == "the network has no layer 'fc6'; see network.named_modules()."

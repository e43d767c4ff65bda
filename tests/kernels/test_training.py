"""Networks trained by our kernels learn what torch teaches them."""

import copy
from contextlib import nullcontext

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from deconvnet.kernels import training, winograd
from deconvnet.kernels.training import native_operations
from deconvnet.models import build_model
from deconvnet.recipe import Recipe
from deconvnet.training.solver import build_optimizer

pytestmark = pytest.mark.skipif(
    not winograd.is_available(), reason="there is no C++ compiler for the native kernels"
)

OPTIONS = {
    "deconvnet": {"fc_channels": 16, "bn_eps": 1e-3, "init": "he"},
    "segnet": {"bn_eps": 1e-3},
    "segnet-basic": {"unpooling": "subpixel"},
    "unet": {"batch_norm": True, "dropout": 0.0},
    "unet-valid": {"dropout": 0.0},
    "fcn8s": {"fc_channels": 16, "dropout": 0.0},
}


def gradients(network, images, labels, *, native):
    with native_operations() if native else nullcontext():
        logits = network(images)
    F.cross_entropy(logits, labels).backward()
    return [weight.grad for weight in network.parameters()]


def distance(found, exact):
    """Of all gradients of a network, as one vector, relative."""
    lost = sum((a - b).square().sum() for a, b in zip(found, exact, strict=True))
    return float((lost / sum(b.square().sum() for b in exact)).sqrt())


def operations_used(network, images):
    """The names of the autograd steps of our own behind a network's logits."""
    with native_operations():
        logits = network(images)
    found, todo = set(), [logits.grad_fn]
    seen = set(todo)
    while todo:
        step = todo.pop()
        found.add(type(step).__name__)
        following = {after for after, _ in step.next_functions if after is not None} - seen
        seen |= following
        todo += following
    return found & {"_ConvolutionBackward", "_PoolingBackward", "_UnpoolingBackward"}


@pytest.mark.parametrize("name", OPTIONS)
def test_gradients_of_whole_networks_are_near_those_in_float64(name, monkeypatch):
    """In one of a few draws, and then closely: rounding flips switches in some, as torch does.

    Biases that are not zero and pictures without padding keep clear of exact ties, which our
    rounding breaks where torch takes the first.
    """
    monkeypatch.setattr(training, "LEAST_KERNELS", 1)
    distances = []
    for _ in range(8):
        network = build_model(name, 5, width=1 / 16, **OPTIONS[name])
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d) and module.bias is not None:
                nn.init.normal_(module.bias, std=0.1)
        if name == "fcn8s":
            nn.init.normal_(network.score_fr.weight, std=0.1)
        size = (4, 193, 193) if name == "deconvnet" else (2, 61, 70)
        images, labels = torch.randn(size[0], 3, *size[1:]), torch.randint(0, 5, size)
        twin, exact = copy.deepcopy(network), copy.deepcopy(network).double()
        expected = gradients(exact, images.double(), labels, native=False)
        by_torch = distance(gradients(network, images, labels, native=False), expected)
        ours = gradients(twin, images, labels, native=True)
        assert all(
            weight.stride() == gradient.stride()
            for weight, gradient in zip(twin.parameters(), ours, strict=True)
        )
        distances.append(distance(ours, expected))
        if distances[-1] < max(10 * by_torch, 1e-3):
            return
    pytest.fail(f"the gradients lie {distances} from those in float64, relative")


def test_the_kernels_do_the_work_of_deconvnet_and_unet():
    images = torch.randn(1, 3, 64, 64)
    network = build_model("deconvnet", 3, width=1 / 4, fc_channels=8)
    everything = {"_ConvolutionBackward", "_PoolingBackward", "_UnpoolingBackward"}
    assert operations_used(network, images) == everything
    unet = build_model("unet", 3, width=1 / 4)
    assert operations_used(unet, images) == {"_ConvolutionBackward", "_PoolingBackward"}


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(16, 16, 3, stride=2, padding=1),
        nn.Conv2d(16, 16, 3, padding=2, dilation=2),
        nn.Conv2d(16, 16, 3, padding=3),
        nn.Conv2d(16, 16, 3, padding=(0, 1)),
        nn.Conv2d(16, 16, 3, padding="same"),
        nn.Conv2d(16, 16, 3, groups=2),
        nn.Conv2d(16, 16, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(16, 16, 5),
        nn.ConvTranspose2d(16, 16, 3, stride=2, output_padding=1),
        nn.ConvTranspose2d(16, 16, 3, padding=1),
        nn.ConvTranspose2d(16, 16, 3, bias=False),
        nn.MaxPool2d(2),
        nn.MaxPool2d(3, 2, padding=1),
        nn.MaxPool2d(2, ceil_mode=True),
    ],
    ids=repr,
)
def test_any_layer_computes_and_learns_as_with_torch(layer):
    images = torch.randn(2, 16, 9, 12)
    results = []
    for native in (False, True):
        features = images.clone().requires_grad_()
        layer.zero_grad()
        with native_operations() if native else nullcontext():
            result = layer(features)
        result.square().sum().backward()
        results.append(
            [result.detach(), features.grad, *(w.grad.clone() for w in layer.parameters())]
        )
    for by_torch, ours in zip(*results, strict=True):
        assert ours.shape == by_torch.shape
        assert (ours - by_torch).abs().max() <= 1e-4 * by_torch.abs().max()


def test_other_number_formats_go_the_usual_way():
    layer = nn.Conv2d(16, 16, 3, padding=1).double()
    images = torch.randn(1, 16, 8, 8, dtype=torch.float64)
    with native_operations():
        assert torch.equal(layer(images), F.conv2d(images, layer.weight, layer.bias, padding=1))


def test_frozen_weights_get_no_gradient():
    layers = nn.Sequential(nn.Conv2d(16, 16, 3), nn.Conv2d(16, 16, 3))
    layers[0].requires_grad_(False)
    with native_operations():
        layers(torch.randn(1, 16, 9, 9)).sum().backward()
    assert layers[0].weight.grad is None
    assert layers[1].weight.grad is not None


def learning_curve(native, steps=8):
    torch.manual_seed(0)
    network = build_model("unet", 3, width=1 / 4, batch_norm=True, dropout=0.0)
    optimizer = build_optimizer(network, Recipe(learning_rate=0.002))
    images = torch.randn(4, 3, 32, 32)
    labels = (images[:, 0] > 0).long() + (images[:, 1] > 1).long()
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        with native_operations() if native else nullcontext():
            loss = F.cross_entropy(network(images), labels)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


@pytest.mark.slow
def test_the_learning_curve_is_that_of_torch():
    ours, by_torch = learning_curve(native=True), learning_curve(native=False)
    assert ours[-1] < 0.8 * ours[0]
    assert ours == pytest.approx(by_torch, rel=0.05)
    assert ours == learning_curve(native=True)  # to the bit


def test_small_layers_stay_with_torch(monkeypatch):
    network = build_model("unet", 3, width=1 / 32)
    assert "_ConvolutionBackward" in operations_used(network, torch.randn(1, 3, 16, 16))
    monkeypatch.setattr(training, "LEAST_KERNELS", 10**6)
    assert operations_used(network, torch.randn(1, 3, 16, 16)) == {"_PoolingBackward"}

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from deconvnet.errors import RecipeError, ShapeError
from deconvnet.inside import PoolingMode, look_inside, recording
from deconvnet.layers import unpool
from deconvnet.models import MODELS
from deconvnet.tracing import project, strongest_path, switch_counts, trace_back, trace_forward
from small_networks import picture, predictor

SIDE = 160
"""Pixels: more than SegNet-Basic's tracing reaches from a corner."""


@pytest.fixture(scope="module")
def basic():
    """A network without a ReLU on the way up, in which every weight is positive."""
    given = predictor("segnet-basic", width=1 / 16)
    with torch.no_grad():
        for parameter in given.network.parameters():
            parameter.abs_().add_(0.01)
        for module in given.network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.zero_()
    bright = picture(SIDE, SIDE) // 4 + 190  # above the mean that is subtracted
    return look_inside(given, bright)


def held(inside, image):
    """The logits with the switches as they were in the pass."""
    positions = iter(inside.switches.values())

    def gather(features, pooled, _):
        switches = next(positions).positions
        return features.flatten(2).gather(2, switches.flatten(2)).view_as(pooled), switches

    with torch.no_grad(), PoolingMode(gather):
        return inside.network(image[None])[0]


def test_pixels_outside_the_trace_change_nothing_and_those_inside_do(basic):
    trace = trace_back(basic, 3, 150)
    inside_it = torch.from_numpy(trace["image"].weight > 0)
    assert 0.1 < inside_it.double().mean() < 0.9
    before = held(basic, basic.standardised)[:, 150, 3]
    torch.manual_seed(0)
    noise = 0.1 * torch.rand_like(basic.standardised)
    outside = held(basic, basic.standardised + noise * ~inside_it)[:, 150, 3]
    within = held(basic, basic.standardised + noise * inside_it)[:, 150, 3]
    assert torch.equal(outside, before)
    assert not torch.equal(within, before)


def test_with_positive_weights_the_trace_is_just_where_the_gradient_is(basic):
    image = basic.standardised[None].double().requires_grad_()
    network = basic.network.double()
    try:
        with recording(network) as record:
            score = network(image)[0, 1, 20, 120]
        tensors = {made.name: made.tensor for made in record.made} | {"image": image}
        del tensors["unpool1"], tensors["unpool2"], tensors["unpool3"], tensors["unpool4"]
        gradients = torch.autograd.grad(score, list(tensors.values()))
    finally:
        network.float()
    trace = trace_back(basic, 120, 20)
    for name, gradient in zip(tensors, gradients, strict=True):
        np.testing.assert_array_equal(trace[name].weight > 0, gradient[0].any(0).numpy(), name)


@pytest.mark.parametrize("model", MODELS)
def test_no_gradient_lies_outside_the_trace(model):
    inside = look_inside(predictor(model), picture(70, 90))
    image = inside.standardised[None].clone().requires_grad_()
    with recording(inside.network) as record:
        score = inside.network(image)[0, :, 30, 40].sum()
    tensors = {made.name: made.tensor for made in record.made} | {"image": image}
    gradients = torch.autograd.grad(score, list(tensors.values()), allow_unused=True)
    trace = trace_back(inside, 40, 30)
    for (name, tensor), gradient in zip(tensors.items(), gradients, strict=True):
        felt = (tensor * gradient)[0].detach().any(0).numpy()  # the zeros of an unpooling
        assert not (felt & (trace[name].weight == 0)).any(), name
    assert trace["scores"].places.tolist() == [[40, 30]]


@settings(max_examples=8, deadline=None)
@given(
    out=st.tuples(*[st.integers(0, SIDE - 1)] * 2),
    into=st.tuples(*[st.integers(0, SIDE - 1)] * 2),
)
def test_forward_and_back_tell_the_same(basic, out, into):
    back = trace_back(basic, *out)["image"].weight[into[1], into[0]]
    forward = trace_forward(basic, *into)["scores"].weight[out[1], out[0]]
    assert (back > 0) == (forward > 0)


def test_the_window_of_the_first_unpooling_holds_its_switches():
    inside = look_inside(predictor("segnet", width=1 / 8), picture())
    traced = trace_back(inside, 20, 30)["unpool1"]
    counts = switch_counts(inside.switches["pool1"])
    expected = np.zeros_like(counts)
    expected[28:33, 18:23] = counts[28:33, 18:23]  # two windows of 3 x 3
    np.testing.assert_array_equal(traced.switches, expected)
    assert {tuple(place) for place in traced.places} <= {
        (x, y) for x in range(18, 23) for y in range(28, 33)
    }


def test_each_window_has_one_switch_a_channel():
    inside = look_inside(predictor("segnet", width=1 / 8), picture(64, 48))
    counts = switch_counts(inside.switches["pool1"])
    channels = inside["pool1"].values.shape[0]
    assert (counts.reshape(32, 2, 24, 2).sum((1, 3)) == channels).all()


def test_the_strongest_path_follows_switches():
    inside = look_inside(predictor("segnet", width=1 / 8), picture())
    path = strongest_path(inside, 20, 30)
    assert [step.layer for step in path] == (
        [f"unpool{n}" for n in (1, 2, 3, 4, 5)]
        + [f"pool{n}" for n in (5, 4, 3, 2, 1)]
        + ["image"]
    )
    for step in path[:5]:
        positions, (_, width) = inside.switches[step.layer.removeprefix("un")]
        cell = positions[0, step.channel, step.y // 2, step.x // 2]
        assert int(cell) == step.y * width + step.x
    first = path[0]
    assert abs(first.x - 20) <= 2
    assert abs(first.y - 30) <= 2


def by_hand(inside, signal):
    """A value of conv2_1 taken back through pool1 to the picture, step by step."""
    encoder = inside.network.encoder
    signal = back_through(encoder[1].conv2_1, signal)
    signal = unpool(signal, inside.switches["pool1"])
    return back_through(encoder[0].conv1_1, back_through(encoder[0].conv1_2, signal))


def back_through(block, signal):
    scale = block.norm.weight / torch.sqrt(block.norm.running_var + block.norm.eps)
    signal = signal.clamp(min=0) * scale[:, None, None]
    return F.conv_transpose2d(signal, block.conv.weight, padding=1)


def test_a_projection_is_transposed_filters_switches_and_relu():
    inside = look_inside(predictor("segnet", width=1 / 8), picture())
    values = inside["conv2_1"].values
    signal = torch.zeros(1, *values.shape)
    row, column = np.unravel_index(values[5].argmax(), values[5].shape)
    signal[0, 5, row, column] = float(values[5].max())
    with torch.no_grad():
        expected = by_hand(inside, signal)[0].permute(1, 2, 0)
    found = project(inside, "conv2_1", 5)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert np.abs(found).max() > 1e-3
    np.testing.assert_array_equal(
        found, project(inside, "conv2_1", 5, place=(int(column), int(row)))
    )

    signal[0, 5] = torch.from_numpy(values[5])
    with torch.no_grad():
        expected = by_hand(inside, signal)[0].permute(1, 2, 0)
    np.testing.assert_allclose(project(inside, "conv2_1", 5, place="all"), expected, atol=1e-5)


def test_the_rule_gradient_is_the_gradient_of_half_the_square():
    inside = look_inside(predictor("deconvnet"), picture())
    image = inside.standardised[None].clone().requires_grad_()
    with recording(inside.network) as record:
        inside.network(image)
    value = next(made.tensor for made in record.made if made.name == "conv3_2")[0, 1].max()
    (gradient,) = torch.autograd.grad(value**2 / 2, image)
    found = project(inside, "conv3_2", 1, rule="gradient")
    np.testing.assert_allclose(found, gradient[0].permute(1, 2, 0), atol=1e-6)


def test_the_guided_rule_also_keeps_to_what_was_positive_on_the_way_forward():
    inside = look_inside(predictor("segnet", width=1 / 8), picture())
    values = inside["conv1_2"].values
    channel = int(values.max((1, 2)).argmax())
    signal = torch.zeros(1, *values.shape)
    signal[0, channel] = torch.from_numpy(values[channel])
    first, second = inside.network.encoder[0]
    with torch.no_grad():
        between = back_through(second, signal) * torch.from_numpy(inside["conv1_1"].values > 0)
        expected = back_through(first, between)[0].permute(1, 2, 0)
    found = project(inside, "conv1_2", channel, place="all", rule="guided")
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    assert found.any()
    assert not any(module._backward_hooks for module in inside.network.modules())


def test_mistakes_are_answered_in_words():
    inside = look_inside(predictor(), picture())
    for trace in (trace_back, trace_forward, strongest_path):
        with pytest.raises(
            ShapeError, match=r"pixel 48,3 lies outside the picture, .* 48 x 64"
        ):
            trace(inside, 48, 3)
    with pytest.raises(RecipeError, match="no layer 'convv'"):
        project(inside, "convv", 0)
    with pytest.raises(
        RecipeError, match="conv1_1 has the channels 0 to 1, and 7 was asked for"
    ):
        project(inside, "conv1_1", 7)
    with pytest.raises(
        RecipeError, match="maps of pool1 are 24 x 32, and place 24,0 lies outs"
    ):
        project(inside, "pool1", 0, place=(24, 0))

import dataclasses

import numpy as np
import pytest
import torch

from deconvnet.engines import accelerate
from deconvnet.errors import LabelError, RecipeError, ShapeError
from deconvnet.inside import (
    LARGEST,
    channel_numbers,
    contributions,
    look_inside,
    places_of,
    representative_channel,
)
from deconvnet.layers import pool, unpool
from deconvnet.models import MODELS
from small_networks import picture, predictor


@pytest.mark.parametrize("model", MODELS)
def test_the_last_layer_is_what_the_network_gives(model):
    given = predictor(model)
    inside = look_inside(given, picture())
    logits = given.logits(picture()).numpy()
    assert inside.layers[0].name == "image"
    assert inside.layers[-1].name == "scores"
    np.testing.assert_allclose(inside["scores"].values, logits, atol=1e-5)
    np.testing.assert_array_equal(inside.label_map, logits.argmax(0))
    names = [layer.name for layer in inside.layers]
    assert len(set(names)) == len(names)
    assert not any(module._forward_hooks for module in given.network.modules())


def test_the_layers_of_deconvnet_have_the_papers_names_in_its_order():
    names = [layer.name for layer in look_inside(predictor("deconvnet"), picture()).layers]
    assert (
        len(names) == 2 + 13 + 5 + 3 + 5 + 13
    )  # image and scores, conv, pool, fc, unpool, deconv
    assert names[:4] == ["image", "conv1_1", "conv1_2", "pool1"]
    assert names[17:26] == (
        "conv5_3 pool5 fc6 fc7 fc6_deconv unpool5 deconv5_1 deconv5_2 deconv5_3".split()
    )


def test_switches_and_maps_are_those_of_pool_and_unpool():
    inside = look_inside(predictor("segnet"), picture(50, 37))
    for pooled_from, number in (("conv1_2", 1), ("conv3_3", 3), ("conv5_3", 5)):
        pooled, switches = pool(torch.from_numpy(inside[pooled_from].values)[None])
        np.testing.assert_array_equal(inside[f"pool{number}"].values, pooled[0])
        assert torch.equal(inside.switches[f"pool{number}"].positions, switches.positions)
    below = torch.from_numpy(inside["conv3_1_D"].values)[None]
    up = unpool(below, inside.switches["pool2"])
    np.testing.assert_array_equal(inside["unpool2"].values, up[0])


@pytest.mark.parametrize(
    ("model", "layer", "offset"),
    [("fcn32s", "upscore32", 19), ("fcn16s", "upscore16", 27), ("fcn8s", "upscore8", 31)],
)
def test_places_of_an_fcn_begin_before_the_picture_by_the_published_crop(model, layer, offset):
    last = look_inside(predictor(model), picture())[layer]
    assert (last.step, last.start) == (1, -offset)


@pytest.mark.parametrize("model", ["deconvnet", "segnet", "segnet-basic", "unet", "unet-valid"])
def test_the_last_maps_of_the_others_lie_on_the_picture(model):
    inside = look_inside(predictor(model), picture())
    assert (inside.layers[-2].step, inside.layers[-2].start) == (1, 0)


def test_a_map_of_the_picture_is_averaged_over_each_place():
    inside = look_inside(predictor("segnet"), picture(64, 48))
    plane = picture()[..., 0].astype(float)
    np.testing.assert_allclose(
        places_of(inside["pool2"], plane), plane.reshape(16, 4, 12, 4).mean((1, 3))
    )
    np.testing.assert_allclose(places_of(inside["conv1_1"], plane), plane)


def test_contributions_of_the_last_layer_are_the_logit_without_its_bias():
    given = predictor("deconvnet")
    inside = look_inside(given, picture())
    added = contributions(inside, ["deconv1_2", "image"], lambda logits: logits[2, 10, 20])
    bias = given.network.classifier.bias[2].item()
    logit = inside["scores"].values[2, 10, 20]
    assert float(added["deconv1_2"].sum()) == pytest.approx(logit - bias, abs=1e-6)
    assert added["image"].shape == inside["image"].values.shape


def test_a_channels_contribution_is_what_the_logit_loses_without_it():
    given = predictor("segnet")
    inside = look_inside(given, picture())
    label = inside.label()
    numbers = channel_numbers(inside, ["conv1_2_D"], by="contribution", label=label)[
        "conv1_2_D"
    ]
    channel, number = representative_channel(inside, "conv1_2_D", label=label)
    assert number == numbers[channel] == numbers.max()

    values = torch.from_numpy(inside["conv1_2_D"].values)[None]
    without = values.clone()
    without[:, channel] = 0
    with torch.no_grad():
        lost = given.network.classifier(values) - given.network.classifier(without)
    chosen = torch.from_numpy(inside.label_map == label)
    assert number == pytest.approx(float(lost[0, label][chosen].mean()), abs=1e-5)


def test_correlation_is_pearsons_with_the_mask():
    inside = look_inside(predictor("unet"), picture())
    label = int(inside.label_map[5, 5])
    numbers = channel_numbers(inside, ["up1_2"], by="correlation", label=label)["up1_2"]
    mask = (inside.label_map == label).ravel()
    for channel, plane in enumerate(inside["up1_2"].values):
        expected = np.corrcoef(plane.ravel(), mask)[0, 1] if plane.any() else 0
        assert numbers[channel] == pytest.approx(expected, abs=1e-6)


def test_energy_is_the_mean_square():
    inside = look_inside(predictor("unet"), picture())
    values = inside["conv2_1"].values.astype(float)
    channel, energy = representative_channel(inside, "conv2_1", "energy")
    assert energy == pytest.approx((values[channel] ** 2).mean())
    assert channel == (values**2).mean((1, 2)).argmax()


def test_the_picture_is_what_the_network_saw():
    given = predictor("segnet")
    image = picture(40, 60)
    np.testing.assert_array_equal(look_inside(given, image).picture, image)
    part = look_inside(given, image, box=(10, 5, 50, 37))
    np.testing.assert_array_equal(part.picture, image[5:37, 10:50])
    half = dataclasses.replace(given, config=dataclasses.replace(given.config, input_scale=0.5))
    inside = look_inside(half, image)
    assert inside.picture.shape == (20, 30, 3)
    assert inside.seen_at(59, 39) == (29, 19)


def test_the_class_meant_is_the_one_predicted_most_but_for_the_background():
    inside = look_inside(predictor(), picture(8, 8))
    label_map = np.zeros((8, 8), np.uint8)
    label_map[0, :3], label_map[1, :2] = 2, 1
    assert dataclasses.replace(inside, label_map=label_map).label() == 2
    assert dataclasses.replace(inside, label_map=label_map * 0).label() != 0
    assert inside.label("red") == 1


def test_mistakes_are_answered_in_words():
    given = predictor()
    inside = look_inside(given, picture())
    with pytest.raises(RecipeError, match=r"no layer 'conv9_3'; .* Did you mean 'conv\d_3'"):
        inside["conv9_3"]
    with pytest.raises(LabelError, match=r"no class 'rde'.*Did you mean 'red'"):
        inside.label("rde")
    with pytest.raises(RecipeError, match="chosen by 'size'; take contribution, correlation"):
        channel_numbers(inside, ["conv1_1"], by="size")
    with pytest.raises(ShapeError, match="box 40,0,50,10 is no part of a picture of 48 x 64"):
        look_inside(given, picture(), box=(40, 0, 50, 10))
    with pytest.raises(
        ShapeError, match="pixel 48,0 lies outside the picture, which is 48 x 64"
    ):
        inside.seen_at(48, 0)
    with pytest.raises(ShapeError, match="keeps every map of up to 1,000,000"):
        look_inside(given, np.zeros((1001, LARGEST // 1000, 3), np.uint8))
    fast = dataclasses.replace(given, network=accelerate(given.network))
    with pytest.raises(RecipeError, match="load it with engine='plain'"):
        look_inside(fast, picture())

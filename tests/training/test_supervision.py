import pytest
import torch

from deconvnet.errors import RecipeError
from deconvnet.models import build_model
from deconvnet.training.supervision import Supervised, thinned


@pytest.mark.parametrize(("model", "stages"), [("deconvnet", 4), ("segnet", 4), ("unet", 3)])
def test_each_decoder_stage_but_the_last_has_its_own_classifier(model, stages):
    network = build_model(model, 3, width=1 / 32)
    example = torch.rand(2, 3, 193, 193)
    supervised = Supervised(network, 3, example[:1])
    logits, others = supervised.eval()(example)
    torch.testing.assert_close(logits, network.eval()(example))
    assert len(others) == stages
    sides = [map_.shape[2] for map_ in others]
    assert sides == sorted(sides)
    assert sides[0] < logits.shape[2] / 2
    assert all(map_.shape[1] == 3 for map_ in others)


def test_a_loss_on_the_stages_alone_reaches_the_encoder():
    network = build_model("segnet", 3, width=1 / 32)
    images = torch.rand(1, 3, 64, 64)
    _, others = Supervised(network, 3, images)(images)
    others[0].square().sum().backward()
    first = next(network.encoder.parameters())
    assert first.grad is not None
    assert first.grad.abs().sum() > 0


def test_a_network_without_decoder_stages_is_refused():
    with pytest.raises(RecipeError, match="auxiliary needs a network with a decoder"):
        Supervised(build_model("fcn8s", 3, width=1 / 32), 3, torch.rand(1, 3, 64, 64))


@pytest.mark.parametrize("side", [96, 128, 224])
def test_deconvnet_is_taught_the_place_it_looks_at_though_it_pads_small_pictures(side):
    torch.manual_seed(0)
    network = build_model("deconvnet", 2, width=1 / 16)
    images = torch.zeros(2, 3, side, side)
    middle, half = round(0.8 * side), side // 12
    spot = (..., slice(middle - half, middle + half), slice(middle - half, middle + half))
    images[1][spot] = 3.0
    labels = torch.zeros(1, side, side, dtype=torch.int64)
    labels[spot] = 1
    supervised = Supervised(network, 2, images[:1]).eval()
    supervised.heads = torch.nn.ModuleList(torch.nn.Identity() for _ in supervised.heads)
    _, maps = supervised(images)
    seen = (maps[-1][1] - maps[-1][0]).square().sum(0)
    seen = seen * (seen > 0.3 * seen.max())
    taught = thinned(labels, tuple(seen.shape))[0].float()
    places = torch.arange(seen.shape[0], dtype=torch.float32) + 0.5
    centres = [(map_.sum(1) * places).sum() / map_.sum() for map_ in (seen, taught)]
    assert abs(centres[0] - centres[1]) < 0.05 * seen.shape[0]


def test_maps_that_show_more_than_the_picture_are_refused():
    network = build_model("unet-valid", 2, width=1 / 32)
    with pytest.raises(RecipeError, match="leave it at 0, or take unet"):
        Supervised(network, 2, torch.zeros(1, 3, 188, 188))


def test_thinned_labels_are_labels_of_the_picture():
    labels = torch.randint(0, 256, (2, 37, 53))
    smaller = thinned(labels, (10, 14))
    assert smaller.shape == (2, 10, 14)
    assert set(smaller.unique().tolist()) <= set(labels.unique().tolist())

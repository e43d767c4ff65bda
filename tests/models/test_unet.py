import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deconvnet.errors import ShapeError
from deconvnet.models import build_model
from deconvnet.models.unet import MARGIN, mirrored

TINY = {"num_classes": 2, "in_channels": 1, "width": 1 / 64}


@pytest.mark.parametrize("side", [188, 204, 572])
def test_unpadded_convolutions_eat_the_published_margin(side):
    network = build_model("unet-valid", **TINY).eval()
    with torch.inference_mode():
        logits = network.forward_tile(torch.rand(1, 1, side, 188))
    assert logits.shape == (1, 2, side - 184, 4)


@pytest.mark.parametrize("side", [187, 189, 200, 172])
def test_a_tile_that_does_not_fit_is_refused_in_words(side):
    network = build_model("unet-valid", **TINY)
    with pytest.raises(ShapeError) as caught:
        network.forward_tile(torch.rand(1, 1, side, 188))
    assert str(caught.value) == (
        f"a tile of ({side}, 188) pixels was given; without padding each side must be 12 more "
        "than a multiple of 16, and at least 188."
    )


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 30), st.integers(0, 30))
@settings(deadline=None, max_examples=50)
def test_mirroring_agrees_with_numpys_reflection(height, width, margin, beyond):
    images = np.random.default_rng(0).random((1, 2, height, width), np.float32)
    size = (height + margin + beyond, width + margin + beyond)
    expected = np.pad(images, ((0, 0), (0, 0), (margin, beyond), (margin, beyond)), "reflect")
    np.testing.assert_array_equal(mirrored(torch.from_numpy(images), size, margin), expected)


def test_the_whole_picture_is_what_its_tiles_are():
    network = build_model("unet-valid", **TINY).eval()
    image = torch.rand(1, 1, 52, 36)
    padded = mirrored(image, (52 + 2 * MARGIN, 36 + 2 * MARGIN))
    with torch.inference_mode():
        whole = network(image)
        for y in range(0, 52 - 4 + 1, 16):
            for x in range(0, 36 - 4 + 1, 16):
                tile = network.forward_tile(padded[:, :, y : y + 204, x : x + 188])
                visible = whole[:, :, y : y + 20, x : x + 4]
                torch.testing.assert_close(tile[:, :, : visible.shape[2]], visible)


def test_the_deepest_features_are_not_lost_at_an_odd_side():
    network = build_model("unet", **TINY).eval()
    image = torch.zeros(1, 1, 33, 33)
    dotted = image.clone()
    dotted[0, 0, 32, 32] = 5.0
    deepest = []
    network.bottleneck.register_forward_pre_hook(
        lambda _module, given: deepest.append(given[0])
    )
    with torch.inference_mode():
        network(image)
        network(dotted)
    assert deepest[0].shape[2:] == (3, 3)
    assert not torch.equal(deepest[0][..., 2, 2], deepest[1][..., 2, 2])


def test_dropout_ends_the_contracting_path():
    network = build_model("unet", **TINY)
    dropping = [name for name, _ in network.named_modules() if name.endswith("dropout")]
    assert dropping == ["encoder.3.conv4_2.dropout", "bottleneck.conv5_2.dropout"]


def test_the_padded_network_computes_what_monais_unet_does():
    """MONAI's last upsampling keeps all channels where ours, as published, halves them."""
    nets = pytest.importorskip("monai.networks.nets", reason="MONAI is not installed")
    ours = build_model("unet", 2, width=1 / 16, dropout=0.0).eval()
    features = (4, 8, 16, 32, 64, 4)
    theirs = nets.BasicUNet(2, 3, 2, features, act="relu", norm=None, dropout=0.0).eval()

    def order(name):  # theirs: each upsampling before the convolutions behind it
        stages = ["encoder", "bottleneck"]
        for number in (4, 3, 2, 1):
            stages += [f"upconvolutions.upconv{number}", f"decoder.{4 - number}"]
        return next(
            place for place, stage in enumerate([*stages, "classifier"]) if stage in name
        )

    mine = ours.state_dict()
    names = sorted(mine, key=order)
    copied = {}
    for name, (their_name, value) in zip(names, theirs.state_dict().items(), strict=True):
        copied[their_name] = torch.zeros_like(value)
        copied[their_name][tuple(slice(side) for side in mine[name].shape)] = mine[name]
    theirs.load_state_dict(copied)
    images = torch.randn(2, 3, 48, 64)
    with torch.no_grad():
        torch.testing.assert_close(ours(images), theirs(images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("depth", "side"), [(2, 35), (4, 9), (5, 5), (6, 3)])
def test_each_level_halves_the_map_once_more(depth, side):
    network = build_model("unet", 2, width=1 / 64, depth=depth)
    deepest = []
    network.bottleneck.register_forward_hook(lambda *given: deepest.append(given[2].shape))
    assert network(torch.zeros(1, 3, 69, 70)).shape == (1, 2, 69, 70)
    assert deepest == [(1, network.bottleneck[0].conv.out_channels, side, side)]

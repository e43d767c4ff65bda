import numpy as np
import pytest
import torch

from deconvnet.checkpoint import Config, save_checkpoint
from deconvnet.errors import CheckpointError
from deconvnet.labels import Classes
from deconvnet.models import build_model
from deconvnet.predict import Predictor
from deconvnet.training.transfer import start_from

COLORS = ((0, 0, 0), (200, 60, 60), (60, 200, 60))
PETS = Classes(("background", "cat", "dog"), COLORS, 0)
FARM = Classes(("background", "dog", "cow"), COLORS, 0)


def saved(folder, model, classes, **options):
    options = {"width": 1 / 32, **options}
    network = build_model(model, len(classes), **options)
    with torch.no_grad():
        for value in network.state_dict().values():
            if value.is_floating_point():
                value.uniform_(0.1, 1.0)
    save_checkpoint(folder, network, Config(model, classes, options))
    return network


def test_other_classes_keep_everything_but_the_classes_that_are_new(tmp_path):
    old = saved(tmp_path / "old", "unet", PETS)
    new = build_model("unet", 3, width=1 / 32)
    fresh_cow = new.classifier.weight[2].clone()
    said = start_from(str(tmp_path / "old"), new, "unet", FARM)
    assert "background, dog kept" in said
    torch.testing.assert_close(new.encoder.state_dict(), old.encoder.state_dict())
    torch.testing.assert_close(new.classifier.weight[0], old.classifier.weight[0])
    torch.testing.assert_close(new.classifier.weight[1], old.classifier.weight[2])
    torch.testing.assert_close(new.classifier.weight[2], fresh_cow)


def test_classes_that_are_all_new_leave_the_classifier_new(tmp_path):
    saved(tmp_path / "old", "fcn8s", PETS, fc_channels=8)
    new = build_model("fcn8s", 3, width=1 / 32, fc_channels=8)
    before = new.score_fr.bias.clone()
    others = Classes(("sky", "road", "car"), COLORS)
    said = start_from(str(tmp_path / "old"), new, "fcn8s", others)
    assert said.endswith("Its classes are others; the classifier is new.")
    torch.testing.assert_close(new.score_fr.bias, before)


def test_a_deconvnet_takes_over_the_decoder_of_a_segnet(tmp_path):
    segnet = saved(tmp_path / "segnet", "segnet", PETS).eval()
    deconvnet = build_model("deconvnet", 3, width=1 / 32, fc_channels=8, bn_eps=1e-9).eval()
    start_from(str(tmp_path / "segnet"), deconvnet, "deconvnet", PETS)
    for stage in range(4):
        features = torch.rand(1, next(segnet.decoder[stage].parameters()).shape[1], 9, 7)
        expected = segnet.decoder[stage](features)
        given = deconvnet.decoder[stage](features)
        torch.testing.assert_close(given, expected, rtol=1e-4, atol=1e-4)


def test_of_several_checkpoints_the_later_wins_and_the_rest_stays(tmp_path):
    segnet = saved(tmp_path / "segnet", "segnet", PETS)
    fcn = saved(tmp_path / "fcn", "fcn8s", PETS, fc_channels=8, batch_norm=True)
    new = build_model("segnet", 3, width=1 / 32)
    said = start_from(f"{tmp_path / 'segnet'} + {tmp_path / 'fcn'}", new, "segnet", PETS)
    torch.testing.assert_close(new.encoder.state_dict(), fcn.encoder.state_dict())
    torch.testing.assert_close(new.decoder.state_dict(), segnet.decoder.state_dict())
    kept, stayed = len(fcn.encoder.state_dict()), len(segnet.state_dict())
    assert f"segnet: {stayed} tensors kept, 0 new." in said
    assert f"fcn: {kept} tensors kept, {stayed - kept} as before" in said


AUTHORS_SCALE = {"mean": (0.48, 0.46, 0.41), "std": (1 / 255,) * 3}


@pytest.mark.parametrize("model", ["unet", "fcn8s"])
def test_a_start_that_takes_pictures_otherwise_standardised_sees_the_same(model, tmp_path):
    torch.manual_seed(0)
    options = {"width": 1 / 32, "fc_channels": 8} if model != "unet" else {"width": 1 / 32}
    old = build_model(model, 3, **options).eval()
    with torch.no_grad():
        old.get_parameter("encoder.0.conv1_1.conv.weight").div_(255)
        for name, value in old.named_parameters():
            if name.startswith("score_"):
                value.normal_()  # zero at the start, as published
    save_checkpoint(tmp_path / "old", old, Config(model, PETS, options, **AUTHORS_SCALE))
    new = build_model(model, 3, **options).eval()
    start_from(str(tmp_path / "old"), new, model, PETS)
    picture = np.random.default_rng(0).integers(0, 256, (224, 224, 3), np.uint8)
    before, after = (
        Predictor(network, Config(model, PETS, options, **scale)).logits(picture)
        for network, scale in ((old, AUTHORS_SCALE), (new, {}))
    )
    assert before.std() > 1e-6
    inner = (slice(None), slice(60, -60), slice(60, -60)) if model == "unet" else slice(None)
    difference = (after - before)[inner].abs().max()
    assert difference < 0.05 * (before.max() - before.min())


def test_a_start_that_cannot_be_rewritten_for_other_pictures_is_refused(tmp_path):
    network = build_model("segnet-basic", 3, width=1 / 32)
    config = Config("segnet-basic", PETS, {"width": 1 / 32}, **AUTHORS_SCALE)
    save_checkpoint(tmp_path / "old", network, config)
    with pytest.raises(CheckpointError, match="its first layer is no convolution"):
        start_from(str(tmp_path / "old"), network, "segnet-basic", PETS)


@pytest.mark.parametrize("depth", [4, 6])
def test_a_unet_takes_over_the_layers_of_one_of_another_depth(depth, tmp_path):
    old = saved(tmp_path / "old", "unet", PETS, depth=5)
    new = build_model("unet", 3, width=1 / 32, depth=depth)
    start_from(str(tmp_path / "old"), new, "unet", PETS)
    layers = dict(new.encoder.named_modules())
    for level, name in ((2, "conv3_1"), (3, "conv4_2")):
        kept = old.encoder[level].get_submodule(name).conv.weight
        found = new.bottleneck if depth == 4 and level == 3 else new.encoder[level]
        assert torch.equal(found.get_submodule(name).conv.weight, kept)
    if depth == 6:
        assert torch.equal(
            layers["4.conv5_2"].conv.weight, old.bottleneck.get_submodule("conv5_2").conv.weight
        )
    last = new.decoder[-1].get_submodule("up1_2").conv.weight
    assert torch.equal(last, old.decoder[-1].get_submodule("up1_2").conv.weight)
    assert torch.equal(new.upconvolutions.upconv2.weight, old.upconvolutions.upconv2.weight)


def test_a_checkpoint_of_which_nothing_fits_is_refused(tmp_path):
    saved(tmp_path / "old", "unet", PETS)
    with pytest.raises(CheckpointError, match=r"Nothing in .* fits this network"):
        start_from(
            str(tmp_path / "old"), build_model("segnet", 3, width=1 / 16), "segnet", FARM
        )

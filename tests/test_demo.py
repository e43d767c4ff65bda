import PIL.Image
import pytest
import torch

from deconvnet import demo as module
from deconvnet.demo import RECIPES, demo
from deconvnet.predict import load


@pytest.fixture
def quick(monkeypatch):
    """The demo with two steps of two pictures, slim networks, and few pictures to look at."""
    settings = {
        "steps": 2,
        "batch_size": 2,
        "evaluate_every": 2,
        "val_pictures": 1,
        "width": 1 / 32,
        "fc_channels": 16,
    }
    recipes = {name: recipe.with_settings(settings) for name, recipe in RECIPES.items()}
    monkeypatch.setattr(module, "RECIPES", recipes)
    monkeypatch.setattr(module, "SCORED", 3)
    monkeypatch.setattr(module, "COLUMNS", 3)
    monkeypatch.setattr(module, "SHOWN", 2)


def test_the_demo_writes_one_page_that_needs_nothing_else(quick, tmp_path, monkeypatch):
    index = demo(tmp_path / "demo", quiet=True)
    text = index.read_text()
    assert text.count("<img ") == 2 * 4 + 2  # picture, truth and two networks; two curves
    assert text.count('src="data:image/png;base64,') == text.count("<img ")
    assert "http" not in text
    assert "IoU, small objects" in text
    assert PIL.Image.open(tmp_path / "demo" / "comparison.png").size[0] > 3 * module.SIDE

    def no_training(*_arguments, **_settings):
        pytest.fail("what is trained was trained again")

    monkeypatch.setattr(module, "carry_out", no_training)
    assert demo(tmp_path / "demo", quiet=True).read_text().count("<img ") == text.count("<img ")


def test_deconvnet_keeps_the_encoder_of_the_demos_fcn(quick, tmp_path):
    demo(tmp_path, quiet=True)
    fcn, deconvnet = (
        load(tmp_path / "runs" / name / "best", engine="plain").network.encoder.state_dict()
        for name in ("fcn8s", "deconvnet")
    )
    weights = [name for name in fcn if name.endswith("conv.weight")]
    assert len(weights) == 13
    for name in weights:
        assert torch.equal(fcn[name], deconvnet[name]), name


def test_the_two_networks_of_the_demo_see_the_same_pictures():
    differing = {
        name
        for name, value in RECIPES["fcn8s"].to_dict().items()
        if RECIPES["deconvnet"].to_dict()[name] != value
    }
    assert differing <= {"model", "steps", "batch_norm", "init", "freeze", "learning_rate"}

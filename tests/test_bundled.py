"""The networks that come with the package are whole, small, and as good as their cards say."""

import json

import pytest
import torch
from safetensors.torch import load_file

from deconvnet.checkpoint import BUNDLED, bundled_names
from deconvnet.data import open_dataset
from deconvnet.data.scenes import Scenes
from deconvnet.evaluate import evaluate
from deconvnet.predict import load
from programs import load_program

NAMES = bundled_names()
PICTURE = Scenes(count=1, size=96)[0].image


def test_the_four_families_the_best_the_membranes_and_the_two_stages_are_there():
    families = {"deconvnet-camvid", "segnet-camvid", "fcn8s-camvid", "unet-camvid"}
    others = {"unet-camvid-best", "unet-em", "deconvnet-voc-small", "fcn8s-voc-small"}
    assert families | others <= set(NAMES)


def test_together_they_take_less_than_60_megabytes():
    assert sum(file.stat().st_size for file in BUNDLED.rglob("*")) < 60e6


@pytest.mark.parametrize("name", NAMES)
def test_each_answers_with_nothing_but_the_package(name):
    predictor = load(name)
    segmentation = predictor(PICTURE)
    assert segmentation.label_map.shape == (96, 96)
    assert set(segmentation.share) == set(predictor.classes.names)


@pytest.mark.parametrize("name", NAMES)
def test_each_is_stored_in_float16_with_a_card_that_names_terms_and_limits(name):
    weights = load_file(BUNDLED / name / "model.safetensors")
    assert {v.dtype for v in weights.values() if v.is_floating_point()} == {torch.float16}
    card = (BUNDLED / name / "README.md").read_text(encoding="utf-8")
    for part in (
        "## Data and its terms",
        "## Intended use",
        "## What it gets wrong",
        "## Scores",
    ):
        assert part in card
    config = json.loads((BUNDLED / name / "config.json").read_text(encoding="utf-8"))
    assert "/" not in config["recipe"]["data"]  # no folder of the machine it was trained on


def test_weights_are_shortened_to_the_nearest_with_six_digits_behind_the_first():
    ship = load_program("ship")
    torch.manual_seed(0)
    weights = torch.randn(2000).half().float()
    steps = 2.0 ** (weights.abs().log2().floor() - ship.KEPT_BITS)
    nearest = (weights.double() / steps).abs()
    expected = torch.sign(weights) * torch.floor(nearest + 0.5) * steps
    torch.testing.assert_close(ship.shortened(weights), expected.float(), rtol=0, atol=0)
    again = ship.shortened(ship.shortened(weights))
    torch.testing.assert_close(again, expected.float(), rtol=0, atol=0)
    counts = torch.arange(3)
    assert torch.equal(ship.shortened(counts), counts)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_each_reaches_the_scores_of_its_card(name, shared_data):
    promised = json.loads((BUNDLED / name / "scores.json").read_text(encoding="utf-8"))
    reached = evaluate(
        load(name), open_dataset(shared_data / promised["data"], promised["split"]), quiet=True
    ).to_json()
    assert reached["mean_iou"] == pytest.approx(promised["mean_iou"], abs=1e-4)
    assert reached["boundary_f1"] == pytest.approx(promised["boundary_f1"], abs=1e-4)

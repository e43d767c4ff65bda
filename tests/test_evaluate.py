import json

import numpy as np
import PIL.Image
import pytest
import torch

from deconvnet.checkpoint import Config, build_network, load_checkpoint, save_checkpoint
from deconvnet.cli import main
from deconvnet.data import open_dataset
from deconvnet.data.light import LIGHTS, in_light
from deconvnet.data.scenes import SCENES
from deconvnet.errors import DataError
from deconvnet.evaluate import calibration_of, check_classes, evaluate, remember
from deconvnet.labels import Classes
from deconvnet.metrics import Calibration, Scores
from deconvnet.predict import Predictor, load


@pytest.fixture
def checkpoint(tmp_path):
    torch.manual_seed(0)
    config = Config("unet", SCENES, {"width": 1 / 32, "batch_norm": True})
    return str(save_checkpoint(tmp_path / "net", build_network(config), config))


def test_calibration_is_measured_over_all_pictures(checkpoint):
    predictor = load(checkpoint)
    dataset = open_dataset("scenes:size=40,count=4", "val")
    evaluation = evaluate(predictor, dataset, quiet=True)
    expected = Calibration.empty()
    for sample in dataset:
        expected = expected.add(predictor(sample.image).probabilities, sample.label_map)
    error = evaluation.to_json()["expected_calibration_error"]
    assert error == pytest.approx(expected.expected_calibration_error)
    assert f"calibration error  {100 * error:5.1f}" in evaluation.to_text()


def test_tiles_leave_no_calibration(checkpoint):
    predictor = load(checkpoint)
    dataset = open_dataset("scenes:size=40,count=2", "val")
    evaluation = evaluate(
        predictor, dataset, quiet=True, segment=lambda image: predictor(image, tile=16)
    )
    assert evaluation.to_json()["expected_calibration_error"] is None
    with pytest.raises(DataError, match="leave out --tile"):
        calibration_of(evaluation)


def test_the_training_split_is_refused_without_yes_and_named_in_the_json(checkpoint, capsys):
    words = ["evaluate", checkpoint, "scenes:size=40,count=2", "--split", "train", "--quiet"]
    assert main(words) == 2
    error = capsys.readouterr().err
    assert "holds the pictures that networks are trained on" in error
    assert "--yes" in error
    assert main([*words, "--yes", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["split"] == "train"


@pytest.mark.parametrize("light", LIGHTS)
def test_in_another_light_the_score_is_that_of_pictures_changed_so(light, checkpoint, capsys):
    words = ["evaluate", checkpoint, "scenes:size=40,count=3", "--quiet", "--light", light]
    assert main([*words, "--json"]) == 0
    reached = json.loads(capsys.readouterr().out)
    network, dataset = load(checkpoint), open_dataset("scenes:size=40,count=3", "val")
    expected = Scores.empty(len(dataset.classes), background=dataset.classes.background)
    for sample in dataset:
        found = network(in_light(sample.image, LIGHTS[light])).label_map
        expected = expected.add(found, sample.label_map, sample.instance_map)
    assert reached["mean_iou"] == pytest.approx(
        expected.to_json(dataset.classes.names)["mean_iou"]
    )
    assert reached["light"] == light
    assert main(words) == 0
    assert f"3 pictures of split val, made {light}" in capsys.readouterr().out


@pytest.mark.parametrize(
    "asked",
    [["--light", "warmer"], ["--crf"], ["--proposals", "5"], ["--ensemble", "unet-camvid"]],
)
def test_only_what_the_network_alone_says_of_pictures_as_they_are_is_remembered(
    asked, checkpoint, capsys
):
    words = ["evaluate", checkpoint, "scenes:size=40,count=3", "--remember", *asked]
    with pytest.raises(SystemExit, match="2"):
        main(words)
    assert f"leave out {asked[0]}" in capsys.readouterr().err


def test_data_with_the_classes_in_another_order_is_refused(checkpoint):
    predictor = load(checkpoint)
    names = list(predictor.classes.names)
    with pytest.raises(DataError, match="in the order that the network learned"):
        check_classes(predictor.classes, Classes.named(names[::-1]))
    moved = [names[1], "something else", *names[2:]]
    with pytest.raises(DataError, match="in the order that the network learned"):
        check_classes(predictor.classes, Classes.named(moved))
    check_classes(predictor.classes, Classes.named([f"a {name}" for name in names]))
    check_classes(predictor.classes, Classes.named(["something else", *names[1:]]))


def test_a_light_that_does_not_exist_is_told_with_those_that_do(checkpoint):
    dataset = open_dataset("scenes:size=40,count=1", "val")
    with pytest.raises(DataError, match="no light 'purple'; take one of warmer, colder"):
        evaluate(load(checkpoint), dataset, quiet=True, light="purple")


def test_the_reliability_diagram_is_drawn(checkpoint, tmp_path):
    place = tmp_path / "reliability.png"
    words = ["evaluate", checkpoint, "scenes:size=40,count=2", "--quiet"]
    assert main([*words, "--reliability", str(place)]) == 0
    drawn = np.array(PIL.Image.open(place).convert("RGB")).reshape(-1, 3)
    assert len(np.unique(drawn, axis=0)) > 20


def test_what_the_pictures_are_like_is_remembered_in_the_checkpoint(checkpoint, capsys):
    before = load_checkpoint(checkpoint)
    words = ["evaluate", checkpoint, "scenes:size=40,count=10", "--quiet", "--remember"]
    assert main(words) == 0
    after = load_checkpoint(checkpoint)
    assert before.config.familiarity is None
    assert after.config.familiarity.pictures == 20  # 10 of val, 10 of train
    assert "confidence" in after.config.familiarity.usual
    assert {**vars(after.config), "familiarity": None} == vars(before.config)
    segment = Predictor(after.network, after.config)
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    assert "rougher" in segment(noise).unlike
    assert segment(open_dataset("scenes:size=40,count=3", "val")[2].image).unlike == ""


def test_too_few_pictures_are_not_remembered(checkpoint):
    evaluation = evaluate(
        load(checkpoint), open_dataset("scenes:size=40,count=3", "val"), quiet=True
    )
    with pytest.raises(DataError, match="needs 8 of them or more, and there are 3"):
        remember(checkpoint, evaluation)

"""Eight bits from the command line, from the pictures to the masks and scores."""

import json

import numpy as np
import PIL.Image
import pytest

from deconvnet.checkpoint import Config, build_network, save_checkpoint
from deconvnet.cli import main
from deconvnet.data.image_files import write_mask
from deconvnet.data.scenes import SCENES, Scenes

EIGHT_BITS = ("--engine", "openvino", "--precision", "int8")


@pytest.fixture
def place(tmp_path):
    """A data set of drawn pictures, and an untrained network for it."""
    for index, sample in enumerate(Scenes("train", count=6, size=48)):
        (tmp_path / "data" / "images").mkdir(parents=True, exist_ok=True)
        PIL.Image.fromarray(sample.image).save(tmp_path / "data" / "images" / f"{index}.png")
        write_mask(tmp_path / "data" / "masks" / f"{index}.png", sample.label_map, SCENES)
    (tmp_path / "data" / "classes.txt").write_text("\n".join(SCENES.names))
    config = Config("segnet-basic", SCENES, {"width": 1 / 8})
    save_checkpoint(tmp_path / "net", build_network(config), config)
    return tmp_path


def masks(folder):
    return np.stack([np.array(PIL.Image.open(p)) for p in sorted(folder.glob("*.mask.png"))])


@pytest.mark.slow
def test_eight_bits_predict_and_score_nearly_as_float_does(place, monkeypatch, capsys):
    pytest.importorskip("nncf")
    monkeypatch.chdir(place)
    calibrated = (*EIGHT_BITS, "--calibrate", "data", "--quiet")
    assert main(["predict", "net", "data/images", "--out", "exact", "--quiet"]) == 0
    assert main(["predict", "net", "data/images", "--out", "quick", *calibrated]) == 0
    assert 0.5 < (masks(place / "exact") == masks(place / "quick")).mean() < 1
    capsys.readouterr()
    scores = []
    for options in (("--quiet",), calibrated):
        assert main(["evaluate", "net", "data", "--json", *options]) == 0
        scores.append(json.loads(capsys.readouterr().out))  # and NNCF's progress is not there
    exact, quick = scores
    assert quick["pixel_accuracy"] == pytest.approx(exact["pixel_accuracy"], abs=0.1)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--precision", "int8"), "does not compute in precision 'int8'; take the engine"),
        (("--calibrate", "data"), "--calibrate is for --precision int8"),
        (EIGHT_BITS, "--calibrate DATA"),
        ((*EIGHT_BITS, "--calibrate", "absent"), "There is no data set absent; give a folder"),
    ],
)
def test_what_eight_bits_lack_is_told_before_any_work(
    place, options, said, monkeypatch, capsys
):
    pytest.importorskip("openvino")
    monkeypatch.chdir(place)
    try:
        status = main(["predict", "net", "data/images", "--out", "out", *options])
    except SystemExit as end:  # of argparse
        status = end.code
    assert status == 2
    assert said in capsys.readouterr().err
    assert not (place / "out").exists()

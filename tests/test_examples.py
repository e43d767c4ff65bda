"""Every example runs, offline and quickly."""

import ast
import runpy
from pathlib import Path

import jaxtyping
import PIL.Image
import pytest

from deconvnet.checkpoint import Config, build_network, save_checkpoint
from deconvnet.data.scenes import SCENES, Scenes
from deconvnet.export import export

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


@pytest.fixture
def example(tmp_path, monkeypatch, capsys):
    """Runs an example's main in an empty folder and gives what it printed."""
    monkeypatch.chdir(tmp_path)

    def run(name, *arguments):
        runpy.run_path(str(EXAMPLES / name))["main"](*arguments)
        return capsys.readouterr().out

    return run


def test_every_example_has_its_test_and_is_short():
    written = {path.name for path in EXAMPLES.glob("*.py")}
    tested = {
        node.value
        for node in ast.walk(ast.parse(Path(__file__).read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and str(node.value).endswith(".py")
    }
    assert written == tested & written != set()
    for name in written:
        assert len((EXAMPLES / name).read_text(encoding="utf-8").splitlines()) <= 45


def test_a_picture_is_segmented(example, tmp_path):
    config = Config("unet", SCENES, {"width": 1 / 32, "batch_norm": True})
    save_checkpoint(tmp_path / "best", build_network(config), config)
    shown = example("01_segment_a_picture.py", "best")
    assert "label map (256, 256) uint8" in shown
    assert "probabilities (8, 256, 256) float32" in shown
    assert (tmp_path / "segmented.png").is_file()


def test_a_network_is_trained_and_scored(example, tmp_path):
    shown = example("02_train_on_drawn_pictures.py", "2", "run")
    assert "24 pictures of split val" in shown
    assert (tmp_path / "run" / "best" / "model.safetensors").is_file()


def test_unpooling_is_shown_by_hand(example):
    shown = example("03_unpooling_by_hand.py")
    assert "[4., 0., 0., 0.]" in shown
    assert "what the switches point at is what was pooled: True" in shown


def test_a_transposed_convolution_is_a_transposed_matrix(example):
    shown = example("04_convolution_and_its_transpose.py")
    assert "convolution = M x: True" in shown
    assert "transposed convolution = M.T y: True" in shown
    assert "is it the picture again? False" in shown


def test_any_networks_label_maps_are_scored(example):
    shown = example("05_metrics_for_any_network.py")
    assert "mean_iou" in shown
    assert "IoU, small objects" in shown


def test_an_exported_network_is_used_without_us(example, tmp_path):
    pytest.importorskip("onnxruntime")
    config = Config("unet", SCENES, {"width": 1 / 32, "batch_norm": True})
    save_checkpoint(tmp_path / "trained", build_network(config), config)
    jaxtyping.config.update("jaxtyping_disable", True)  # sizes are tensors while it is traced
    export(tmp_path / "trained", "onnx", tmp_path / "out", quiet=True)
    jaxtyping.config.update("jaxtyping_disable", False)
    picture = Scenes("test", count=1, size=50)[0].image
    PIL.Image.fromarray(picture).save(tmp_path / "picture.png")
    shown = example(
        "06_use_an_exported_network.py",
        tmp_path / "picture.png",
        tmp_path / "out" / "model.onnx",
    )
    assert [line.split()[0] for line in shown.splitlines()] == list(SCENES.names)
    assert PIL.Image.open(tmp_path / "mask.png").size == (50, 50)

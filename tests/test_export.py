"""A network that leaves the house: the same answers, from a file that says what it is."""

import json
import shutil
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import jaxtyping
import numpy as np
import PIL.Image
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deconvnet import export as module
from deconvnet.checkpoint import Config, save_checkpoint
from deconvnet.data.scenes import Scenes
from deconvnet.errors import (
    CheckpointError,
    DataError,
    MissingExtraError,
    OutputError,
    RecipeError,
    UserError,
)
from deconvnet.export import export
from deconvnet.export_formats import FORMATS
from deconvnet.labels import Classes
from deconvnet.models import MODELS
from deconvnet.predict import Predictor
from deconvnet.standalone import Standalone, scaled_side, shrunk
from test_engines import small_network

CLASSES = Classes(("a", "b", "c", "d", "e"), tuple((n, 2 * n, 40 * n) for n in range(5)), 0)

WITHOUT_US = """
import runpy, sys
sys.modules["deconvnet"] = None
runpy.run_path("use.py")["main"](*sys.argv[1:])
assert not any(name.startswith("deconvnet.") for name in sys.modules)
"""


def checkpoint(folder, name="segnet-basic", **changes):
    options = {"width": 1 / 16}
    if name == "deconvnet" or name.startswith("fcn"):
        options["fc_channels"] = 24
    config = Config(name, CLASSES, options, **changes)
    return save_checkpoint(folder, small_network(name), config)


@pytest.fixture(scope="module")
def in_onnx(tmp_path_factory):
    """The folder of a small SegNet-Basic, and what its export to ONNX with pictures gave."""
    pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    place = tmp_path_factory.mktemp("onnx")
    folder = checkpoint(place / "in")
    (place / "photos").mkdir()
    for number, sample in enumerate(Scenes("val", count=3, size=40)):
        PIL.Image.fromarray(sample.image).save(place / "photos" / f"{number}.png")
    jaxtyping.config.update("jaxtyping_disable", True)
    exported = export(folder, "onnx", place / "out", check=place / "photos", quiet=True)
    jaxtyping.config.update("jaxtyping_disable", False)
    return folder, exported


def assert_answers_as_the_network(exported, folder):
    """At sizes that the check of the export itself did not see, and several at once."""
    loaded = module.load_checkpoint(folder)
    run = FORMATS[suffix_to_format(exported.path)].open(exported.path)
    predictor = Predictor(loaded.network, loaded.config)
    scenes = Scenes("val", count=2, size=(75, 110))
    batch = torch.cat([module.as_batch(scene.image) for scene in scenes])
    for logits, scene in zip(run(batch)[0], scenes, strict=True):
        expected = predictor.logits(scene.image)
        assert logits.shape == expected.shape
        assert (logits.argmax(0) == expected.argmax(0)).float().mean() > 0.999
    assert run(torch.rand(1, 3, 1, 1))[0].shape == (1, 5, 1, 1)


def suffix_to_format(path):
    return {".onnx": "onnx", ".xml": "openvino", ".pt2": "torch"}[path.suffix]


def slow_but(quick):
    return [
        pytest.param(name, marks=[] if name in quick else pytest.mark.slow) for name in MODELS
    ]


@pytest.mark.usefixtures("_unchecked_shapes")
@pytest.mark.parametrize("name", slow_but({"segnet-basic"}))
def test_every_network_answers_as_before_in_onnx_runtime(name, tmp_path, in_onnx):
    folder, exported = in_onnx
    if name != "segnet-basic":
        folder = checkpoint(tmp_path / "in", name)
        exported = export(folder, "onnx", tmp_path / "out", quiet=True)
    assert exported.check.agreement > 0.9999
    assert (exported.check.flipped is None) == (name.startswith(("fcn", "unet")))
    assert_answers_as_the_network(exported, folder)


@pytest.mark.slow
@pytest.mark.usefixtures("_unchecked_shapes")
@pytest.mark.parametrize("to", ["openvino", "torch"])
@pytest.mark.parametrize("name", MODELS)
def test_every_network_answers_as_before_elsewhere(name, to, tmp_path):
    if to == "openvino":
        pytest.importorskip("openvino")
    folder = checkpoint(tmp_path / "in", name)
    exported = export(folder, to, tmp_path / "out", quiet=True)
    assert exported.check.agreement > 0.9999
    assert_answers_as_the_network(exported, folder)


@pytest.mark.usefixtures("_unchecked_shapes")
@pytest.mark.parametrize("to", ["onnx", pytest.param("openvino", marks=pytest.mark.slow)])
@pytest.mark.parametrize("changes", [{"input_scale": 0.45}, {"in_channels": 1}])
def test_preprocessing_is_inside(to, changes, tmp_path):
    pytest.importorskip({"onnx": "onnxruntime"}.get(to, to))
    if "in_channels" in changes:
        changes = changes | {"mean": (0.4,), "std": (0.2,)}
    config = Config("unet", CLASSES, {"width": 1 / 32}, **changes)
    network = build(config)
    folder = save_checkpoint(tmp_path / "in", network, config)
    exported = export(folder, to, tmp_path / "out", quiet=True)
    assert exported.check.agreement > 0.9999
    assert_answers_as_the_network(exported, folder)


def build(config):
    from deconvnet.checkpoint import build_network

    return build_network(config)


@pytest.mark.usefixtures("_unchecked_shapes")
@pytest.mark.parametrize(
    "to",
    ["onnx", pytest.param("openvino", marks=pytest.mark.slow),
     pytest.param("torch", marks=pytest.mark.slow)],
)  # fmt: skip
def test_the_script_beside_it_runs_where_deconvnet_is_not(to, tmp_path, request):
    if to == "onnx":
        folder, exported = request.getfixturevalue("in_onnx")
        out = shutil.copytree(exported.path.parent, tmp_path / "out")
    else:
        pytest.importorskip(to)
        folder = checkpoint(tmp_path / "in")
        out = export(folder, to, tmp_path / "out", quiet=True).path.parent
    image = Scenes("val", count=1, size=(45, 70))[0].image
    PIL.Image.fromarray(image).save(out / "picture.png")
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_US, "picture.png"],
        cwd=out, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == list(CLASSES.names)
    mask = PIL.Image.open(out / "mask.png")
    loaded = module.load_checkpoint(folder)
    expected = Predictor(loaded.network, loaded.config)
    assert (np.array(mask) == expected(image).label_map).mean() > 0.999
    assert tuple(mask.getpalette()[3:6]) == CLASSES.colors[1]


def test_the_example_is_the_script_beside_an_onnx_file():
    example = Path(__file__).parent.parent / "examples" / "06_use_an_exported_network.py"
    assert example.read_text(encoding="utf-8") == FORMATS["onnx"].use


def test_the_file_says_what_it_is(in_onnx):
    onnx = pytest.importorskip("onnx")
    _, exported = in_onnx
    model = onnx.load(exported.path)
    about = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(about["classes"]) == list(CLASSES.names)
    assert json.loads(about["colors"])[4] == [4, 8, 160]
    assert "standardisation" in about["preprocessing"]
    assert [value.name for value in model.graph.input] == ["image"]
    assert [value.name for value in model.graph.output] == ["logits"]
    axes = model.graph.input[0].type.tensor_type.shape.dim
    assert [axis.dim_param or axis.dim_value for axis in axes] == ["N", 3, "H", "W"]
    assert model.opset_import[0].version == 17
    assert sorted(path.name for path in exported.path.parent.iterdir()) == [
        "model.onnx", "use.py",
    ]  # fmt: skip


@pytest.mark.usefixtures("_unchecked_shapes")
def test_a_file_that_answers_otherwise_is_refused_and_removed(tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime")

    class Other(Standalone):
        def forward(self, image):
            return super().forward(image.flip(3))

    monkeypatch.setattr(module, "Standalone", Other)
    with pytest.raises(UserError, match=r"model\.onnx gives only .* and 99\.9 % are needed"):
        export(checkpoint(tmp_path / "in"), "onnx", tmp_path / "out", quiet=True)
    assert list((tmp_path / "out").iterdir()) == []


def test_ones_own_pictures_are_compared(in_onnx):
    _, exported = in_onnx
    assert exported.check.pictures == 3
    assert "On 3 pictures" in exported.to_text()


def test_large_pictures_are_compared_smaller():
    image = module._shrunk_to(np.zeros((2000, 1000, 3), np.uint8), 500_000)
    assert image.shape == (1000, 500, 3)


def test_mistakes_are_said_before_the_work(tmp_path, monkeypatch):
    folder = checkpoint(tmp_path / "in")
    with pytest.raises(RecipeError, match=r"not exported to 'onxx'.* Did you mean 'onnx'\?"):
        export(folder, "onxx", tmp_path / "out")
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="is a file; name a folder"):
        export(folder, "torch", tmp_path / "file")
    with pytest.raises(DataError, match="There is no picture at"):
        export(folder, "torch", tmp_path / "out", check=tmp_path / "none")
    four = Config("unet", CLASSES, {"width": 1 / 64}, in_channels=4)
    save_checkpoint(tmp_path / "four", build(four), four)
    with pytest.raises(CheckpointError, match="takes pictures of 4 channels"):
        export(tmp_path / "four", "torch", tmp_path / "out")
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'deconvnet\[export\]'"):
        export(folder, "onnx", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@settings(deadline=None, max_examples=30)
@given(
    height=st.integers(1, 90),
    width=st.integers(1, 90),
    scale=st.fractions(Fraction(1, 12), Fraction(2), max_denominator=40),
    seed=st.integers(0, 99),
)
def test_pictures_are_shrunk_to_the_level_as_pillow_does_it(height, width, scale, seed):
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    expected = PIL.Image.fromarray(image)
    for size in (
        (scaled_side(width, scale), height),
        (scaled_side(width, scale), scaled_side(height, scale)),
    ):
        expected = expected.resize(size, PIL.Image.Resampling.BILINEAR)
    levels = torch.from_numpy(image.transpose(2, 0, 1)[None]).float()
    found = shrunk(levels, scale)[0].permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(found, np.array(expected))


def test_standalone_is_the_predictor_for_one_picture():
    config = Config("segnet-basic", CLASSES, {"width": 1 / 16}, input_scale=0.37)
    network = small_network("segnet-basic").eval()
    image = Scenes("val", count=1, size=(61, 83))[0].image
    with torch.no_grad():
        logits = Standalone(network, config)(module.as_batch(image))[0]
    torch.testing.assert_close(logits, Predictor(network, config).logits(image))

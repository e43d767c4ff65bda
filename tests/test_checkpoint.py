import json
import pickle

import pytest
import torch

from deconvnet.checkpoint import (
    Config,
    build_network,
    load_checkpoint,
    load_state,
    read_weights,
    save_checkpoint,
    save_state,
)
from deconvnet.errors import CheckpointError
from deconvnet.labels import CAMVID, Classes

CONFIG = Config(
    model="unet",
    classes=Classes.named(["Sky Blue", "road", "car"], background=0),
    options={"width": 1 / 32, "batch_norm": True},
    input_scale=0.5,
    recipe={"steps": 3},
)


@pytest.fixture
def folder(tmp_path):
    torch.manual_seed(0)
    return save_checkpoint(tmp_path / "best", build_network(CONFIG), CONFIG)


def test_a_checkpoint_gives_back_the_same_network_and_config(folder):
    torch.manual_seed(0)
    network = build_network(CONFIG).eval()
    loaded = load_checkpoint(folder)
    image = torch.randn(1, 3, 40, 30)
    assert torch.equal(loaded.network(image), network(image))
    assert loaded.config == CONFIG
    assert not loaded.network.training


def test_config_json_names_classes_colours_and_the_ignored_label(folder):
    values = json.loads((folder / "config.json").read_text())
    assert values["classes"] == ["sky_blue", "road", "car"]
    assert values["colors"][1] == [128, 0, 0]
    assert values["ignored_label"] == 255
    assert values["model"] == "unet"


def test_half_precision_is_stored_and_read_as_float32(tmp_path):
    network = build_network(CONFIG)
    folder = save_checkpoint(tmp_path / "half", network, CONFIG, dtype=torch.float16)
    loaded = load_checkpoint(folder).network.state_dict()
    for name, value in network.state_dict().items():
        assert loaded[name].dtype == value.dtype
        torch.testing.assert_close(loaded[name], value, rtol=1e-3, atol=1e-4)


def test_weights_too_large_for_half_precision_are_not_saved(tmp_path):
    network = build_network(CONFIG)
    with torch.no_grad():
        next(network.parameters()).fill_(1e6)
    with pytest.raises(CheckpointError, match=r"is not finite as torch\.float16"):
        save_checkpoint(tmp_path / "half", network, CONFIG, dtype=torch.float16)
    assert not (tmp_path / "half" / "model.safetensors").exists()


def test_a_checkpoint_of_another_network_is_refused_in_one_sentence(folder):
    values = json.loads((folder / "config.json").read_text())
    values["options"]["width"] = 1 / 16
    (folder / "config.json").write_text(json.dumps(values))
    with pytest.raises(CheckpointError, match="belongs to another network") as error:
        load_checkpoint(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"model": 3}', "{" * 100_000, "\0", "null"]
)
def test_a_damaged_config_is_refused_in_one_sentence(folder, content):
    (folder / "config.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"config\.json"):
        load_checkpoint(folder)


@pytest.mark.parametrize("keep", [0, 7, 100, 2000])
def test_truncated_weights_are_refused_in_one_sentence(folder, keep):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match="is damaged or no file of weights"):
        load_checkpoint(folder)


def test_a_pickle_that_would_run_code_is_refused_by_name(tmp_path):
    class Evil:
        def __reduce__(self):
            return (pytest.fail, ("code was run",))

    path = tmp_path / "evil.pth"
    path.write_bytes(pickle.dumps({"state_dict": Evil()}))
    with pytest.raises(CheckpointError, match=r"evil\.pth"):
        read_weights(path)
    torch.save({"state_dict": Evil()}, path)
    with pytest.raises(CheckpointError, match=r"evil\.pth holds more than tensors"):
        read_weights(path)


def test_an_unknown_checkpoint_is_refused_and_told_what_to_give(tmp_path):
    with pytest.raises(
        CheckpointError, match="There is no checkpoint 'nothing-here'; give the"
    ):
        load_checkpoint("nothing-here")
    with pytest.raises(CheckpointError, match=r"has no config\.json; a checkpoint is a folder"):
        load_checkpoint(tmp_path)


def test_a_state_survives_and_a_damaged_one_is_refused(tmp_path):
    path = tmp_path / "state.pt"
    save_state(path, {"step": 3, "tensor": torch.arange(4), "log": [{"loss": 1.5}]})
    state = load_state(path)
    assert state["step"] == 3
    assert torch.equal(state["tensor"], torch.arange(4))
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(CheckpointError, match="is no state of a training run"):
        load_state(path)


def test_camvid_classes_survive_config_json():
    config = Config(model="unet", classes=CAMVID)
    assert Config.from_json(config.to_json(), "x").classes == CAMVID


def test_loading_draws_no_start_for_weights_that_take_no_memory(folder, monkeypatch):
    """There, torch would import its compiler for it, which takes two seconds."""
    real, without_memory = torch.nn.init.normal_, []

    def noted(tensor, **values):
        without_memory.append(tensor.is_meta)
        return real(tensor, **values)

    monkeypatch.setattr(torch.nn.init, "normal_", noted)
    load_checkpoint(folder)
    assert without_memory
    assert not any(without_memory)

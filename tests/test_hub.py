"""The habits of the Hugging Face Hub, without the Hub."""

import sys

import pytest
import torch
from torch import nn

import deconvnet
from deconvnet import checkpoint, hub
from deconvnet.checkpoint import Config, build_network, save_checkpoint
from deconvnet.errors import CheckpointError, MissingExtraError, OutputError, UserError
from deconvnet.labels import Classes
from deconvnet.predict import Predictor

CLASSES = Classes(("a", "b"), ((0, 0, 0), (9, 9, 9)))


@pytest.fixture
def saved(tmp_path):
    config = Config("unet", CLASSES, {"width": 1 / 64})
    return save_checkpoint(tmp_path / "saved", build_network(config), config, card="# Mine\n")


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("engine", ["torch", "plain"])
def test_what_is_loaded_can_be_saved_again(engine, saved, tmp_path):
    predictor = Predictor.from_pretrained(saved, engine=engine, device="cpu")
    again = predictor.save_pretrained(tmp_path / "again")
    assert contents(again) == contents(saved)
    assert predictor.save_pretrained(saved) == saved  # onto itself
    assert contents(again) == contents(saved)


def test_a_network_of_ones_own_is_saved_with_a_card(tmp_path):
    config = Config("unet", CLASSES, {"width": 1 / 64})
    predictor = Predictor(build_network(config), config)
    folder = predictor.save_pretrained(tmp_path / "mine")
    assert (folder / "README.md").read_text().startswith("---\nlibrary_name: deconvnet")
    assert deconvnet.load(folder, device="cpu").classes == CLASSES


def test_a_twin_alone_is_not_saved(tmp_path):
    config = Config("unet", CLASSES, {"width": 1 / 64})
    predictor = Predictor(deconvnet.accelerate(build_network(config)), config)
    with pytest.raises(CheckpointError, match="save the one that it was made from"):
        predictor.save_pretrained(tmp_path / "twin")


class FakeHub:
    """Keeps what is uploaded in a folder; refuses what the real one would."""

    def __init__(self, place):
        self.place, self.made = place, []

    def __call__(self, token=None):
        self.token = token
        return self

    def create_repo(self, name, *, private, exist_ok):
        assert exist_ok
        self.made.append((name, private))

    def upload_folder(self, *, repo_id, folder_path, allow_patterns, commit_message):
        (self.place / repo_id).mkdir(parents=True)
        for name in allow_patterns:
            (self.place / repo_id / name).write_bytes((folder_path / name).read_bytes())
        return type("Commit", (), {"commit_url": f"https://hub/{repo_id}/commit/1"})


@pytest.fixture
def fake(tmp_path, monkeypatch):
    pytest.importorskip("huggingface_hub")
    fake = FakeHub(tmp_path / "hub")
    monkeypatch.setattr("huggingface_hub.HfApi", fake)
    return fake


def test_a_network_goes_to_the_hub_and_comes_back(saved, fake, monkeypatch):
    predictor = deconvnet.load(saved, device="cpu")
    address = predictor.push_to_hub("me/streets", private=True, token="word")  # noqa: S106
    assert address == "https://hub/me/streets/commit/1"
    assert fake.made == [("me/streets", True)]
    assert fake.token == "word"  # noqa: S105

    def snapshot(name, *, allow_patterns):
        assert set(allow_patterns) == set(hub.FILES)
        return fake.place / name

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    back = Predictor.from_pretrained("me/streets", device="cpu")
    images = torch.rand(1, 3, 20, 20)
    assert torch.equal(back.network(images), predictor.network(images))
    assert checkpoint.find_checkpoint("me/streets") == fake.place / "me/streets"


def test_a_refusal_is_said_in_words(saved, fake, monkeypatch):
    predictor = deconvnet.load(saved, device="cpu")

    def refuse(*_, **__):
        raise ConnectionError("no route to host\nmore")

    monkeypatch.setattr(fake, "create_repo", refuse)
    with pytest.raises(OutputError, match=r"me/streets could not be .* \(no route to host\)"):
        predictor.push_to_hub("me/streets")


def test_mistakes_are_said_before_the_hub_is_asked(saved, fake, tmp_path):
    with pytest.raises(UserError, match="'streets' is no name on the Hub; give owner/name"):
        hub.push_to_hub(saved, "streets")
    with pytest.raises(CheckpointError, match=r"has no model\.safetensors"):
        hub.push_to_hub(tmp_path, "me/streets")
    assert fake.made == []


def test_without_its_library_the_extra_is_named(saved, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'deconvnet\[hub\]'"):
        hub.push_to_hub(saved, "me/streets")


def test_a_network_serves_in_a_loop_that_knows_nothing_of_us(saved):
    def foreign_loop(model: nn.Module, batches) -> list[float]:
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
        losses = []
        for images, labels in batches:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(images), labels, ignore_index=255)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        return losses

    images = torch.rand(2, 3, 24, 24)
    batches = [(images, (images[:, 0] > 0.5).long())] * 12

    network = deconvnet.load_checkpoint(saved).network.train()
    losses = foreign_loop(network, batches)

    assert losses[-1] < losses[0]

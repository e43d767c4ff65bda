"""Training in several processes (DDP) is training in one, with as many times the batch."""

import os
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from deconvnet.checkpoint import load_checkpoint, load_state
from deconvnet.errors import DeviceError
from deconvnet.recipe import Recipe
from deconvnet.train import train
from processes import side_by_side

RECIPE = Recipe(
    model="unet",
    width=1 / 16,
    batch_norm=True,
    dropout=0.0,
    data="scenes:size=48,count=6",
    crop_size=32,
    scale_range=(0.5, 1.0),  # leaves void around the pictures: other shares in each part
    batch_size=1,
    accumulate=2,
    steps=4,
    optimizer="sgd",
    learning_rate=0.05,
    ema=0.9,
    auxiliary=0.5,
    class_weights="root_median",
    evaluate_every=2,
    val_pictures=1,
    save_every=2,
    log_every=1,
)


def assert_close(first, second, *, bits=False):
    for name in ("best", "last"):
        one, other = (
            load_checkpoint(run / name).network.state_dict() for run in (first, second)
        )
        for key, value in one.items():
            if bits:
                assert torch.equal(value, other[key]), key
            else:
                torch.testing.assert_close(value, other[key], rtol=1e-3, atol=1e-5)


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    out = tmp_path_factory.mktemp("two") / "run"
    assert side_by_side(RECIPE, out) == [0, 0], told(out)
    return out


def told(out):
    trouble = out.with_name(f"{out.name}.trouble")
    return trouble.read_text() if trouble.exists() else ""


def test_two_processes_learn_what_one_does_from_twice_the_batch(tmp_path, two):
    train(replace(RECIPE, batch_size=2), out=tmp_path / "one", device="cpu", quiet=True)
    assert_close(tmp_path / "one", two)
    steps = [line.split(",")[0] for line in (two / "log.csv").read_text().splitlines()]
    assert steps == ["step", "1", "2", "3", "4"]
    assert len(load_state(two / "state.pt")["beside"]) == 6


def test_two_processes_train_in_bfloat16_too(tmp_path):
    settings = replace(RECIPE, precision="bf16-mixed", auxiliary=0.0, steps=1)
    assert side_by_side(settings, tmp_path / "run") == [0, 0], told(tmp_path / "run")


@pytest.mark.slow
def test_ctrl_c_in_one_process_stops_both_and_the_run_goes_on_bit_for_bit(tmp_path, two):
    out = tmp_path / "run"
    assert side_by_side(RECIPE, out, signalled=1, signal_at_step=3) == [130, 130], told(out)
    assert load_state(out / "state.pt")["step"] == 3
    assert side_by_side(RECIPE, out, resume=True) == [0, 0], told(out)
    assert_close(two, out, bits=True)


def test_more_devices_than_there_are_is_refused(tmp_path):
    with pytest.raises(DeviceError, match="devices is 0; it must be at least 1"):
        train(RECIPE, out=tmp_path, device="cpu", devices=0)


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["torchrun", "devices"])
def test_the_documented_commands_train_in_two_processes(tmp_path, launcher):
    settings = replace(RECIPE, accumulate=1, auxiliary=0.0)
    recipe, out = tmp_path / "recipe.yaml", tmp_path / "run"
    recipe.write_text(settings.to_yaml())
    words = ["-m", "deconvnet", "train", str(recipe), "--out", str(out), "--device", "cpu"]
    run = ["-m", "torch.distributed.run", "--nproc_per_node", "2"]
    command = [*run, *words] if launcher == "torchrun" else [*words, "--devices", "2"]
    ended = subprocess.run(
        [sys.executable, *command],
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("The trained network is in") == 1
    assert "Traceback" not in ended.stderr
    train(replace(settings, batch_size=2), out=tmp_path / "one", device="cpu", quiet=True)
    assert_close(tmp_path / "one", out)
    shutil.rmtree(out)

"""Trainings that are killed, or run out of disk, end as those that are not."""

import csv
import errno
import os
import random
import shutil
import subprocess
import time
from dataclasses import replace

import pytest
import torch

from deconvnet.checkpoint import load_checkpoint, load_state
from deconvnet.errors import OutputError
from deconvnet.recipe import Recipe
from deconvnet.train import train
from processes import start
from reliability import record

RECIPE = Recipe(
    model="unet",
    width=1 / 32,
    batch_norm=True,
    data="scenes:size=48,count=4",
    crop_size=32,
    batch_size=1,
    steps=12,
    ema=0.9,
    dropout=0.3,
    evaluate_every=5,
    val_pictures=1,
    save_every=2,
    log_every=1,
)

SYNCS = 80
"""About as many as a run of it makes."""

KILLS = int(os.environ.get("DECONVNET_KILLS", "50"))
"""At least so many in the long test."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The run that nothing happened to, and the seconds it took in a process of its own."""
    out = tmp_path_factory.mktemp("whole") / "run"
    start(replace(RECIPE, steps=1), out).join()  # the first process imports torch
    shutil.rmtree(out)
    began = time.monotonic()
    process = start(RECIPE, out)
    process.join()
    assert process.exitcode == 0, trouble(out)
    return out, time.monotonic() - began


def trouble(out):
    told = out.with_name(f"{out.name}.trouble")
    return told.read_text() if told.exists() else "no exception"


def assert_nothing_is_damaged(out):
    """Every file that is there is whole, and no more is lost than the interval of saving."""
    for name in ("best", "last"):
        if (out / name / "model.safetensors").exists():
            load_checkpoint(out / name)
    logged = 0
    if (out / "log.csv").exists():
        rows = list(csv.DictReader((out / "log.csv").open()))
        assert all(row["loss"] and None not in row.values() for row in rows)
        logged = int(rows[-1]["step"])
    saved = load_state(out / "state.pt")["step"] if (out / "state.pt").exists() else 0
    assert logged - saved <= RECIPE.save_every


def assert_same_run(whole, out):
    """Weights bit for bit, the log but for its speeds, and no file too many."""
    for name in ("best", "last"):
        first, second = (
            load_checkpoint(run / name).network.state_dict() for run in (whole, out)
        )
        assert all(torch.equal(value, second[key]) for key, value in first.items())
    logs = []
    for run in (whole, out):
        rows = list(csv.DictReader((run / "log.csv").open()))
        logs.append([{k: v for k, v in r.items() if k != "images_per_second"} for r in rows])
    assert logs[0] == logs[1]
    files = [sorted(p.relative_to(r) for p in r.rglob("*")) for r in (whole, out)]
    assert files[0] == files[1]


def finish(recipe, out):
    process = start(recipe, out, resume=(out / "recipe.yaml").exists())
    process.join()
    assert process.exitcode == 0, trouble(out)


@pytest.mark.parametrize("number", [24, 41])
def test_a_run_killed_while_it_writes_goes_on_bit_for_bit(tmp_path, whole, number):
    out = tmp_path / "run"
    process = start(RECIPE, out, kill_at_sync=number)
    process.join()
    assert process.exitcode == -9
    assert_nothing_is_damaged(out)
    finish(RECIPE, out)
    assert_same_run(whole[0], out)


@pytest.mark.slow
def test_a_run_killed_at_random_instants_goes_on_bit_for_bit(tmp_path, whole):
    out, chance = tmp_path / "run", random.Random(1)
    for _ in range(2):
        process = start(RECIPE, out, resume=(out / "recipe.yaml").exists())
        process.join(timeout=chance.uniform(0.3, 1) * whole[1])
        process.kill()
        process.join()
        assert_nothing_is_damaged(out)
    finish(RECIPE, out)
    assert_same_run(whole[0], out)


@pytest.mark.slow
def test_many_kills_lose_nothing(tmp_path, whole):
    chance = random.Random(time.time_ns())
    kills = dict.fromkeys(("while writing", "at a random instant"), 0)
    runs = 0
    while sum(kills.values()) < KILLS or min(kills.values()) < 0.4 * KILLS:
        out = tmp_path / f"run{runs}"
        for turn in range(5):
            resume, writing = (out / "recipe.yaml").exists(), turn % 2 == 0
            number = chance.randrange(1, SYNCS // 2) if writing else 0
            process = start(RECIPE, out, resume=resume, kill_at_sync=number)
            process.join(None if writing else chance.uniform(0, whole[1]))
            process.kill()
            process.join()
            kills["while writing" if writing else "at a random instant"] += (
                process.exitcode == -9
            )
            assert process.exitcode in {0, -9}, trouble(out)
            assert_nothing_is_damaged(out)
        finish(RECIPE, out)
        assert_same_run(whole[0], out)
        runs += 1
    for when, count in kills.items():
        result = f"{runs} runs resumed, weights and logs bit for bit, no file damaged"
        record(f"Training killed (SIGKILL) {when}", count, result)


@pytest.mark.parametrize("number", [20])
def test_a_run_whose_disk_is_full_stops_in_words_and_goes_on_bit_for_bit(
    tmp_path, whole, monkeypatch, number
):
    out, real, calls = tmp_path / "run", os.fsync, []

    def full(handle):
        calls.append(1)
        if len(calls) == number:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OutputError, match="could not be written: No space left on device"):
            train(RECIPE, out=out, device="cpu", quiet=True)
    assert_nothing_is_damaged(out)
    train(RECIPE, out=out, resume=(out / "recipe.yaml").exists(), device="cpu", quiet=True)
    assert_same_run(whole[0], out)


@pytest.fixture
def small_disk(tmp_path):
    """A folder of 8 MB, where this user may mount one."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(place)]
    if os.name != "posix" or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk needs root, on Linux")
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.fixture(scope="module")
def filled():
    """How much was left on the disks that were filled."""
    return []


@pytest.mark.parametrize("free", [2_000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_a_disk_that_fills_up_damages_nothing(small_disk, whole, filled, monkeypatch, free):
    """The checkpoint, or the state, is the first that no longer fits."""
    import deconvnet.training.loop as module

    out, real = small_disk / "run", module.take_step
    filler = small_disk / "filler"

    def fill(job, step, *rest):
        if step == 6:
            left = shutil.disk_usage(small_disk).free
            filler.write_bytes(bytes(max(left - free, 0)))
        return real(job, step, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(module, "take_step", fill)
        with pytest.raises(OutputError, match=r"could not be written: .*No space left"):
            train(RECIPE, out=out, device="cpu", quiet=True)
    assert_nothing_is_damaged(out)
    assert load_state(out / "state.pt")["step"] >= 4
    filler.unlink()
    train(RECIPE, out=out, resume=True, device="cpu", quiet=True)
    assert_same_run(whole[0], out)
    filled.append(free)
    result = "stopped in words, resumed bit for bit"
    record("Training on a disk (tmpfs) that fills up", len(filled), result)

import ctypes
import mmap
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import PIL.Image
import pytest

from deconvnet import memory
from deconvnet.cli import main
from deconvnet.errors import RecipeError, UserError
from deconvnet.memory import bytes_in, forget_peak, peak_memory
from deconvnet.recipe import Recipe
from deconvnet.train import find_learning_rate
from deconvnet.training import trials as module
from deconvnet.training.job import prepare
from deconvnet.training.rate_finder import HIGHEST, LOWEST, RateTest
from deconvnet.training.trials import Trial, fitted, plan_job

TINY = Recipe(
    model="unet",
    width=1 / 32,
    batch_norm=True,
    data="scenes:size=48,count=4",
    crop_size=32,
    batch_size=12,
    steps=2,
)


@pytest.fixture
def job(tmp_path):
    return prepare(TINY, tmp_path / "run", device="cpu", quiet=True)


@pytest.fixture
def trials(monkeypatch):
    """Trials are not made: each picture of a batch takes 100 MB, all else 300."""
    tried = []

    def pretend(job, _steps):
        tried.append(job.recipe.batch_size)
        return Trial(1.0, (300 + 100 * job.recipe.batch_size) * 10**6, 1)

    monkeypatch.setattr(module, "try_steps", pretend)
    return tried


@pytest.mark.parametrize(
    ("limit", "batch", "tried"),
    [("9GB", 12, [1, 2, 3, 4, 6, 12]), ("950 MB", 6, [1, 2, 3, 4, 6]), ("420MB", 1, [1, 2])],
)
def test_the_largest_batch_that_fits_is_found_and_a_step_keeps_its_pictures(
    job, trials, limit, batch, tried
):
    found = fitted(job, bytes_in(limit))
    assert (found.recipe.batch_size, found.recipe.accumulate) == (batch, 12 // batch)
    assert found.config.recipe["batch_size"] == batch
    assert found.pictures_per_step == 12
    assert trials == tried  # what will not fit is foreseen from the third on, not tried


def test_a_limit_under_one_picture_is_refused_with_what_to_do(job, trials):
    with pytest.raises(RecipeError, match=r"takes 0\.40 GB, more than the limit of 0\.10 GB"):
        fitted(job, 10**8)
    assert trials == [1]


def test_a_run_that_goes_on_keeps_its_batch(job, trials):
    job.out.mkdir()
    begun = replace(TINY, batch_size=3, accumulate=4)
    (job.out / "recipe.yaml").write_text(begun.to_yaml())
    found = fitted(job, 1, resume=True)
    assert (found.recipe.batch_size, found.recipe.accumulate) == (3, 4)
    assert trials == []


def test_a_plan_is_measured_and_warns_of_slow_bf16(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "bf16_speed", lambda: 0.25)
    recipe = replace(TINY, precision="bf16-mixed", batch_size=2, accumulate=3, ema=0.9)
    said = plan_job(prepare(recipe, tmp_path / "run", device="cpu", quiet=True))
    assert "2 of 6 crops of 32 pixels: 3.0 epochs, 3 passes each" in said
    assert "bf16 convolves at 0.25 x the speed of 32, so 32-true is faster here" in said
    assert "memory     about 0." in said or "memory     about 1." in said
    assert not (tmp_path / "run").exists()


def test_bf16_is_measured():
    assert 0.001 < module.bf16_speed() < 100


def test_the_finder_says_a_rate_draws_a_curve_and_leaves_no_run(tmp_path, monkeypatch, capsys):
    from deconvnet.training import rate_finder

    monkeypatch.setattr(rate_finder, "STEPS", 16)
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(replace(TINY, batch_size=1).to_yaml())
    out = tmp_path / "run"
    command = ["train", str(recipe), "--find-learning-rate", "--out", str(out), "--quiet"]
    assert main([*command, "--device", "cpu"]) == 0
    said = capsys.readouterr().out
    rate = float(said.partition("learning_rate: ")[2].split()[0])
    assert LOWEST / 10 <= rate <= HIGHEST / 10
    assert {path.name for path in tmp_path.iterdir()} == {"mine.yaml", "run-learning-rate.png"}
    assert np.asarray(PIL.Image.open(tmp_path / "run-learning-rate.png")).std() > 5


def test_the_finder_knows_stages(tmp_path):
    from deconvnet.training import rate_finder

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rate_finder, "STEPS", 3)
        recipe = replace(TINY, batch_size=1, stages="two")
        found = find_learning_rate(recipe, tmp_path / "run", device="cpu", quiet=True)
    assert len(found.rates) >= 2
    assert not (tmp_path / "run").exists()


def test_a_tenth_of_the_rate_with_the_lowest_loss_is_advised():
    found = RateTest((1e-4, 1e-3, 1e-2, 1e-1), (2.0, 1.5, 1.0, 3.0))
    assert found.rate == 1e-3
    assert found.to_text().endswith("The loss is lowest at 1.0e-02.\nlearning_rate: 0.001")
    assert "never fell" in RateTest((1e-4, 1e-3), (1.0, 2.0)).to_text()


@pytest.mark.parametrize("text", ["", "4 apples", "-1GB", "0GB", "GB", "1.2.3GB", "nan"])
def test_what_is_no_memory_is_refused(text):
    with pytest.raises(UserError, match="is no amount of memory; give one such as 4GB"):
        bytes_in(text)


def test_the_peak_of_memory_is_seen_and_forgotten():
    begun_anew = forget_peak()
    before = peak_memory()
    with mmap.mmap(-1, 200 * 10**6) as held:  # not of the allocator, which may keep it
        for _ in range(200):
            held.write(bytes(10**6))
        assert peak_memory() > before + 150 * 10**6
    after = 10**8 if begun_anew and forget_peak() else 10**15
    assert peak_memory() < before + after


def test_windows_is_asked_in_its_own_way(monkeypatch):
    def answer(_process, counters, size):
        assert size == ctypes.sizeof(memory._Counters) == 8 + 8 * ctypes.sizeof(ctypes.c_size_t)
        ctypes.cast(counters, ctypes.POINTER(memory._Counters))[0].PeakWorkingSetSize = 12345
        return 1

    class Function:
        def __init__(self, function):
            self.function = function

        def __call__(self, *arguments):
            return self.function(*arguments)

    kernel = SimpleNamespace(
        GetCurrentProcess=Function(lambda: -1), K32GetProcessMemoryInfo=Function(answer)
    )
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(ctypes, "windll", SimpleNamespace(kernel32=kernel), raising=False)
    assert peak_memory() == 12345

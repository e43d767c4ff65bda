import csv
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import PIL.Image
import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.precision import MixedPrecision

from deconvnet.checkpoint import load_checkpoint, load_state
from deconvnet.cli import main
from deconvnet.errors import DataError, DivergedError, OutputError, RecipeError, UserError
from deconvnet.kernels import winograd
from deconvnet.recipe import Recipe
from deconvnet.train import plan, train
from deconvnet.training import job as job_module
from deconvnet.training import loop
from deconvnet.training.records import write_log
from deconvnet.training.solver import build_optimizer, rate_factor, update_average

TINY = Recipe(
    model="unet",
    width=1 / 32,
    batch_norm=True,
    data="scenes:size=48,count=6",
    crop_size=32,
    batch_size=2,
    steps=6,
    ema=0.9,
    dropout=0.3,
    clip=1.0,
    evaluate_every=3,
    val_pictures=2,
    save_every=2,
    log_every=1,
    class_weights="root_median",
)


def weights_of(run):
    return load_checkpoint(run / "last").network.state_dict()


def assert_same_weights(first, second):
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of TINY that nothing happened to, which no test changes, and its evaluation."""
    out = tmp_path_factory.mktemp("whole") / "run"
    return out, train(TINY, out=out, quiet=True, device="cpu")


def test_a_run_leaves_checkpoints_log_curve_and_recipe(whole):
    run, evaluation = whole
    files = {path.name for path in run.iterdir()}
    assert files == {"best", "last", "state.pt", "log.csv", "recipe.yaml", "curve.png"}
    assert Recipe.from_file(run / "recipe.yaml") == TINY
    rows = list(csv.DictReader((run / "log.csv").open()))
    assert [int(row["step"]) for row in rows] == [1, 2, 3, 4, 5, 6]
    assert [bool(row["mean_iou"]) for row in rows] == [False, False, True, False, False, True]
    assert evaluation.to_json()["images"] == 6
    config = json.loads((run / "best" / "config.json").read_text())
    assert config["recipe"]["steps"] == 6
    assert "mIoU" in (run / "best" / "README.md").read_text()


def test_a_stopped_run_goes_on_bit_for_bit(tmp_path, monkeypatch, whole):

    real, calls = loop.take_step, []

    def power_cut(*arguments):
        calls.append(1)
        if len(calls) == 6:  # after the state of step 4 was saved, and step 5 was done
            raise SystemExit
        return real(*arguments)

    monkeypatch.setattr(loop, "take_step", power_cut)
    with pytest.raises(SystemExit):
        train(TINY, out=tmp_path / "cut", quiet=True, device="cpu")
    assert load_state(tmp_path / "cut" / "state.pt")["step"] == 4
    monkeypatch.setattr(loop, "take_step", real)
    torch.randn(17)  # the random state of another process is another one
    train(TINY, out=tmp_path / "cut", resume=True, quiet=True, device="cpu")

    assert_same_weights(weights_of(whole[0]), weights_of(tmp_path / "cut"))
    logs = [
        [
            {k: v for k, v in row.items() if k != "images_per_second"}
            for row in csv.DictReader(f)
        ]
        for f in ((run / "log.csv").open() for run in (whole[0], tmp_path / "cut"))
    ]
    assert logs[0] == logs[1]


@pytest.mark.slow
def test_data_workers_do_not_change_a_byte(tmp_path):
    short, files = replace(TINY, steps=2), []
    for workers in (0, 1, 2):
        out = tmp_path / str(workers)
        train(replace(short, workers=workers), out=out, quiet=True, device="cpu")
        files.append((out / "last" / "model.safetensors").read_bytes())
    assert files[0] == files[1] == files[2]


def words_of(recipe, out):
    """The command line that trains by a recipe."""
    words = ["train", "--out", str(out)]
    for name, value in recipe.to_dict().items():
        if value not in (None, "none"):
            text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
            words += [f"--{name}", text]
    return words


def test_ctrl_c_saves_the_state_and_ends_with_130(tmp_path, monkeypatch, capsys):

    real, calls = loop.take_step, []

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) == 3:
            signal.raise_signal(signal.SIGINT)
        return real(*arguments)

    monkeypatch.setattr(loop, "take_step", interrupted)
    words = words_of(replace(TINY, save_every=100_000), tmp_path / "run")
    assert main([*words, "--device", "cpu"]) == 130
    assert "go on with --resume" in capsys.readouterr().err
    assert load_state(tmp_path / "run" / "state.pt")["step"] == 3


@pytest.mark.slow
def test_ctrl_c_ends_the_program_as_it_ends_the_command(tmp_path):
    endless = replace(TINY, steps=100_000, save_every=100_000)
    process = subprocess.Popen(
        [sys.executable, "-m", "deconvnet", *words_of(endless, tmp_path / "run")],
        stderr=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    log = tmp_path / "run" / "log.csv"
    for _ in range(600):
        if log.exists() or process.poll() is not None:
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, complaint = process.communicate(timeout=60)
    assert process.returncode == 130, complaint
    assert b"go on with --resume" in complaint
    assert b"Traceback" not in complaint
    assert load_state(tmp_path / "run" / "state.pt")["step"] > 0


def test_a_run_in_float16_goes_on_with_the_scale_its_loss_had(tmp_path, monkeypatch):
    """On the CPU, by the plugin that Fabric takes on a GPU; its first scale overflows."""

    def in_float16(_recipe, _device, _devices):
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**30)
        plugin = MixedPrecision("16-mixed", "cpu", scaler)
        return Fabric(accelerator="cpu", devices=1, plugins=[plugin])

    monkeypatch.setattr(job_module, "_fabric", in_float16)
    recipe = replace(TINY, precision="16-mixed", learning_rate=0.01, dropout=0.0)
    train(recipe, out=tmp_path / "whole", quiet=True, device="cpu")
    real = loop.take_step

    def power_cut(job, step, *rest):
        if step == 4:
            raise SystemExit
        return real(job, step, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "take_step", power_cut)
        with pytest.raises(SystemExit):
            train(recipe, out=tmp_path / "cut", quiet=True, device="cpu")
    train(recipe, out=tmp_path / "cut", resume=True, quiet=True, device="cpu")
    scales = [load_state(tmp_path / n / "state.pt")["precision"] for n in ("whole", "cut")]
    assert scales[0] == scales[1]
    assert scales[0]["scale"] < 2**30
    assert_same_weights(weights_of(tmp_path / "whole"), weights_of(tmp_path / "cut"))


def test_a_val_that_scores_nothing_still_leaves_a_best(tmp_path):
    data, rng = tmp_path / "data", np.random.default_rng(0)
    for folder in ("images", "masks"):
        (data / folder).mkdir(parents=True)
    for name in ("a", "b", "c", "void"):
        mask = np.full((40, 40), 255 if name == "void" else 1, np.uint8)
        if name != "void":
            mask[:20] = 0
        picture = rng.integers(0, 256, (40, 40, 3), np.uint8)
        PIL.Image.fromarray(picture).save(data / "images" / f"{name}.png")
        PIL.Image.fromarray(mask).save(data / "masks" / f"{name}.png")
    (data / "train.txt").write_text("a\nb\n")
    (data / "val.txt").write_text("void\nc\n")  # val_pictures: 1 takes the first
    recipe = replace(TINY, data=str(data), val_pictures=1, class_weights="none")
    evaluation = train(recipe, out=tmp_path / "run", quiet=True, device="cpu")
    assert evaluation.to_json()["images"] == 2
    rows = csv.DictReader((tmp_path / "run" / "log.csv").open())
    assert not any(row["mean_iou"] for row in rows)


def test_a_folder_that_holds_a_run_is_refused_without_resume(whole):
    with pytest.raises(OutputError, match="holds a run already; go on with it by --resume"):
        train(TINY, out=whole[0], quiet=True, device="cpu")


@pytest.mark.skipif(os.name == "nt", reason="Windows cannot lock a folder")
def test_a_run_that_another_process_trains_is_not_resumed_beside_it(tmp_path):
    run = tmp_path / "run"
    short = replace(TINY, steps=1)
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, run], stdout=subprocess.PIPE, stdin=subprocess.PIPE
    )
    assert holder.stdout.readline() == b"True\n"
    with pytest.raises(OutputError, match="Another process is training"):
        train(short, out=run, resume=True, quiet=True, device="cpu")
    assert list(run.iterdir()) == []
    holder.kill()  # the folder is free however its holder ends
    holder.communicate()
    train(short, out=run, quiet=True, device="cpu")
    assert (run / "best").is_dir()


HOLD = """
import sys
from deconvnet.files import kept_for_itself
with kept_for_itself(sys.argv[1]) as ours:
    print(ours, flush=True)
    sys.stdin.read()
"""


def test_a_run_that_is_refused_leaves_the_folders_as_they_were(tmp_path):
    recipe = replace(TINY, start_from=str(tmp_path / "missing"))
    (tmp_path / "empty").mkdir()
    for name in ("new", "empty"):
        with pytest.raises(UserError):
            train(recipe, out=tmp_path / name, quiet=True, device="cpu")
    assert [folder.name for folder in tmp_path.iterdir()] == ["empty"]


def test_a_run_stopped_before_its_first_state_begins_anew_on_resume(tmp_path, monkeypatch):

    def power_cut(*_arguments):
        raise SystemExit

    short = replace(TINY, steps=1)
    with monkeypatch.context() as patch:
        patch.setattr(loop, "take_step", power_cut)
        with pytest.raises(SystemExit):
            train(short, out=tmp_path / "run", quiet=True, device="cpu")
    train(short, out=tmp_path / "run", resume=True, quiet=True, device="cpu")
    assert (tmp_path / "run" / "best").is_dir()


def test_tensorboard_shows_the_lines_of_the_log(tmp_path):
    reader = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator",
        reason="the extra tensorboard is not installed",
    )
    recipe = replace(TINY, steps=2, tensorboard=True)
    train(recipe, out=tmp_path / "run", quiet=True, device="cpu")
    rows = list(csv.DictReader((tmp_path / "run" / "log.csv").open()))
    events = reader.EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    shown = [(event.step, event.value) for event in events.Scalars("loss")]
    assert shown == [(int(r["step"]), pytest.approx(float(r["loss"]), rel=1e-4)) for r in rows]
    assert [event.step for event in events.Scalars("mean_iou")] == [2]


@pytest.mark.slow
def test_a_terminal_shows_the_course_of_the_loss_and_a_file_does_not(
    tmp_path, monkeypatch, capsys
):
    from deconvnet import progress

    drawn = []
    real = progress.sparkline
    monkeypatch.setattr(
        "deconvnet.training.loop.sparkline",
        lambda values, width: drawn.append(list(values)) or real(values, width),
    )
    short = replace(TINY, steps=4)
    train(short, out=tmp_path / "file", device="cpu")
    assert drawn == []
    monkeypatch.setattr(progress.Console, "is_terminal", True)
    monkeypatch.setattr(progress.Console, "encoding", "utf-8")
    capsys.readouterr()
    train(short, out=tmp_path / "terminal", device="cpu")
    assert [len(course) for course in drawn] == [2, 3]
    shown = capsys.readouterr().err
    assert any(sign in shown for sign in progress.BLOCKS[1:])


def test_a_run_is_not_resumed_with_other_settings(whole):
    other = replace(TINY, learning_rate=0.5)
    with pytest.raises(RecipeError, match=r"learning_rate was 0\.001 and is 0\.5"):
        train(other, out=whole[0], resume=True, quiet=True, device="cpu")


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"model": "unett"}, RecipeError, "Did you mean 'unet'"),
        ({"data": "nowhere"}, DataError, "There is no data set nowhere"),
        ({"model": "unet", "fc_channels": 3}, RecipeError, "unet has no option 'fc_channels'"),
    ],
)
def test_what_is_wrong_is_found_before_anything_is_written(tmp_path, settings, error, message):
    with pytest.raises(error, match=message):
        train(TINY.with_settings(settings), out=tmp_path / "run", quiet=True, device="cpu")
    assert not (tmp_path / "run").exists()


def test_a_loss_that_is_no_number_stops_the_run_in_words(tmp_path):
    recipe = replace(TINY, optimizer="sgd", learning_rate=1e30, clip=None, steps=50)
    with pytest.raises(DivergedError, match=r" became .* at step \d+, so training"):
        train(recipe, out=tmp_path / "run", quiet=True, device="cpu")


def test_deconvnet_trains_with_one_picture_a_batch(tmp_path):
    recipe = Recipe(
        model="deconvnet",
        width=1 / 32,
        data="scenes:size=64,count=3",
        crop_size=193,  # fc6 and fc7 see a single place
        batch_size=1,
        steps=2,
        evaluate_every=2,
        val_pictures=1,
    )
    train(recipe, out=tmp_path / "run", quiet=True, device="cpu")
    assert all(torch.isfinite(v).all() for v in weights_of(tmp_path / "run").values())


def test_a_network_starts_from_the_weights_that_fit(tmp_path, capsys, whole):
    recipe = TINY.with_settings({"start_from": str(whole[0] / "best"), "steps": 1})
    train(recipe, out=tmp_path / "second", device="cpu")
    assert "tensors kept, 0 new." in capsys.readouterr().err


def test_frozen_parts_stay_as_they_are_and_the_rest_learns(tmp_path, whole):
    settings = {"start_from": str(whole[0] / "last"), "freeze": "encoder", "ema": 0.0}
    train(TINY.with_settings(settings), out=tmp_path / "run", quiet=True, device="cpu")
    before = load_checkpoint(whole[0] / "last").network.state_dict()
    for name, value in load_checkpoint(tmp_path / "run" / "last").network.state_dict().items():
        same = torch.equal(value, before[name])
        assert same == name.startswith("encoder.") or not value.is_floating_point(), name


def test_a_part_to_freeze_that_does_not_exist_is_refused_with_those_that_do(tmp_path):
    recipe = TINY.with_settings({"freeze": "encodr"})
    with pytest.raises(RecipeError, match=r"no part 'encodr' to freeze .* encoder, bottleneck"):
        train(recipe, out=tmp_path / "run", quiet=True, device="cpu")


def test_classifiers_on_the_stages_teach_the_network_and_are_not_saved(tmp_path):
    recipe = TINY.with_settings({"auxiliary": 0.5, "ema": 0.0, "steps": 2})
    train(recipe, out=tmp_path / "with", quiet=True, device="cpu")
    train(recipe.with_settings({"auxiliary": 0.0}), out=tmp_path / "without", quiet=True)
    with_them, without = weights_of(tmp_path / "with"), weights_of(tmp_path / "without")
    assert with_them.keys() == without.keys()
    assert any(not torch.equal(with_them[name], without[name]) for name in without)


def assert_goes_on_bit_for_bit(recipe, folder, monkeypatch, *, cut_at):
    """A run, and one whose power is cut at a step and that goes on, end alike."""
    train(recipe, out=folder / "whole", quiet=True, device="cpu")
    real, calls = loop.take_step, []

    def power_cut(*arguments):
        calls.append(1)
        if len(calls) == cut_at:
            raise SystemExit
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "take_step", power_cut)
        with pytest.raises(SystemExit):
            train(recipe, out=folder / "cut", quiet=True, device="cpu")
    train(recipe, out=folder / "cut", resume=True, quiet=True, device="cpu")
    assert_same_weights(weights_of(folder / "whole"), weights_of(folder / "cut"))


@pytest.mark.slow
def test_classifiers_on_the_stages_go_on_bit_for_bit(tmp_path, monkeypatch):
    recipe = TINY.with_settings({"auxiliary": 0.5, "save_every": 2, "steps": 4})
    assert_goes_on_bit_for_bit(recipe, tmp_path, monkeypatch, cut_at=4)
    beside = [load_state(tmp_path / run / "state.pt")["beside"] for run in ("whole", "cut")]
    assert len(beside[0]) == 6  # weight and bias of three
    assert_same_weights(*beside)


def test_training_stops_early_when_patience_is_out(tmp_path, monkeypatch):
    scores = iter([0.5, 0.4, 0.3, 0.9, 0.9, 0.9])

    def scored(job, run, _bar):
        write_log(job, run, next(scores))

    monkeypatch.setattr(loop, "score_and_keep", scored)
    monkeypatch.setattr(loop, "finish", lambda _job, run: ended.append(run.step))
    ended = []
    recipe = TINY.with_settings({"steps": 6, "evaluate_every": 1, "patience": 2})
    train(recipe, out=tmp_path / "run", quiet=True, device="cpu")
    assert ended == [3]


def test_accumulating_gives_the_gradient_of_the_larger_batch(tmp_path):
    """Without batch norm two passes of one picture are one pass of two."""
    recipe = replace(
        TINY,
        batch_norm=False,
        dropout=0.0,
        class_weights="none",
        ema=0.0,
        steps=1,
        optimizer="sgd",
        color=0.0,
        scale_range=(1.0, 1.0),
    )
    one, two = tmp_path / "one", tmp_path / "two"
    train(replace(recipe, batch_size=2, accumulate=1), out=one, quiet=True, device="cpu")
    train(replace(recipe, batch_size=1, accumulate=2), out=two, quiet=True, device="cpu")
    for name, value in weights_of(one).items():
        torch.testing.assert_close(value, weights_of(two)[name], rtol=0, atol=1e-6)


def test_plan_says_steps_time_and_memory_and_writes_nothing(tmp_path):
    text = plan(TINY, tmp_path / "run", device="cpu")
    assert "6 of 2 crops of 32 pixels: 2.0 epochs" in text
    assert "GB" in text
    assert not (tmp_path / "run").exists()


def test_schedules_start_high_and_fall_as_named():
    steps = np.arange(100)
    for name, end in (("constant", 1.0), ("cosine", 0.0), ("poly", 0.0)):
        recipe = Recipe(schedule=name, steps=100)
        factors = [rate_factor(int(step), recipe) for step in steps]
        assert factors[0] == pytest.approx(1, abs=0.02)
        assert factors[-1] == pytest.approx(end, abs=0.02)
        assert all(a >= b for a, b in itertools.pairwise(factors))
    assert rate_factor(0, Recipe(warmup=10)) == pytest.approx(0.1)


def test_sgd_treats_biases_as_caffe_does():
    from deconvnet.models import build_model

    network = build_model("deconvnet", 3, width=1 / 64)
    groups = build_optimizer(network, Recipe(optimizer="sgd")).param_groups
    assert [group["multiplier"] for group in groups] == [1.0, 2.0]
    assert groups[1]["weight_decay"] == 0
    biases = {id(p) for p in groups[1]["params"]}
    norms = [m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert not biases & {id(norm.bias) for norm in norms}
    everything = sum(len(group["params"]) for group in groups)
    assert everything == sum(p.requires_grad for p in network.parameters())


def test_the_moving_average_of_a_still_network_is_the_network():
    network = torch.nn.BatchNorm2d(3)
    average = torch.nn.BatchNorm2d(3)
    torch.nn.init.constant_(network.weight, 5.0)
    for step in range(1, 400):
        update_average(average, network, 0.9, step)
    torch.testing.assert_close(average.weight, network.weight)


needs_kernels = pytest.mark.skipif(
    not winograd.is_available(), reason="there is no C++ compiler for the native kernels"
)


@pytest.mark.slow
@needs_kernels
def test_native_kernels_train_as_torch_does(tmp_path):
    recipe = replace(TINY, width=1 / 8, dropout=0.0, steps=4)
    curves = []
    for engine in ("torch", "native"):
        run = tmp_path / engine
        train(replace(recipe, engine=engine), out=run, quiet=True, device="cpu")
        rows = csv.DictReader((run / "log.csv").open())
        curves.append([float(row["loss"]) for row in rows])
    assert curves[0] != curves[1]  # other kernels round otherwise
    assert curves[0] == pytest.approx(curves[1], rel=0.01)


@pytest.mark.slow
@needs_kernels
def test_a_stopped_run_of_native_kernels_goes_on_bit_for_bit(tmp_path, monkeypatch):
    recipe = replace(TINY, width=1 / 8, engine="native", steps=3, save_every=1)
    assert_goes_on_bit_for_bit(recipe, tmp_path, monkeypatch, cut_at=3)


@pytest.mark.slow
@needs_kernels
@pytest.mark.parametrize("threads", [1, 2])
def test_native_kernels_give_the_same_bytes_twice(tmp_path, threads):
    recipe, files = replace(TINY, width=1 / 8, engine="native", steps=2), []
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for name in ("first", "second"):
            train(recipe, out=tmp_path / name, quiet=True, device="cpu")
            files.append((tmp_path / name / "last" / "model.safetensors").read_bytes())
    finally:
        torch.set_num_threads(before)
    assert files[0] == files[1]


def test_native_without_a_compiler_is_torch_and_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(winograd, "is_available", lambda: False)
    recipe = replace(TINY, steps=2)
    train(replace(recipe, engine="native"), out=tmp_path / "native", device="cpu")
    notice = "The native kernels are not used, for they could not be compiled; torch is."
    assert capsys.readouterr().err.count(notice) == 1
    train(recipe, out=tmp_path / "torch", quiet=True, device="cpu")
    assert_same_weights(weights_of(tmp_path / "native"), weights_of(tmp_path / "torch"))

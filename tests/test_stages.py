import contextlib
import io
import pickle
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import deconvnet.training.loop as train_module
from deconvnet import proposals, stages
from deconvnet.checkpoint import load_checkpoint, load_state
from deconvnet.cli import main
from deconvnet.data import Sample, open_dataset
from deconvnet.errors import CheckpointError, DataError, OutputError, RecipeError
from deconvnet.labels import Classes
from deconvnet.layers.blocks import BatchNorm
from deconvnet.recipe import Recipe
from deconvnet.stages import (
    Crops,
    Windows,
    crop_sheet,
    find_objects,
    instances_of,
    list_objects,
    list_windows,
    reestimate_batch_norm,
    repeats,
    stored_side,
)
from deconvnet.train import plan, train
from deconvnet.training.job import prepare

TINY = Recipe(
    stages="two",
    model="unet",
    width=1 / 32,
    batch_norm=True,
    data="scenes:size=48,count=3",
    crop_size=32,
    scale_range=(1.0, 1.0),
    batch_size=2,
    stage1_steps=3,
    steps=4,
    evaluate_every=4,
    val_pictures=2,
    save_every=1,
    log_every=1,
)


@pytest.fixture(scope="module", autouse=True)
def _short_passes():
    """Few pictures score a stage and give batch norm its statistics."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stages, "VAL_EXAMPLES", 2)
        patch.setattr(stages, "BN_BATCHES", 2)
        patch.setattr(stages, "BN_BATCH", 3)
        yield


SHAPES = Classes.named(["background", "ball", "brick"], background=0)


@dataclass(frozen=True)
class Drawn:
    """A data set of given samples."""

    samples: tuple[Sample, ...]
    classes: Classes = SHAPES
    split: str = "train"

    @property
    def names(self):
        return tuple(sample.name for sample in self.samples)

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        return self.samples[index]


def sample_of(label_map, instance_map=None, seed=0):
    image = np.random.default_rng(seed).integers(1, 256, (*label_map.shape, 3), np.uint8)
    return Sample(image, label_map, instance_map, "one")


def two_balls_and_a_brick():
    """Two balls that touch at a corner, a brick at the border, and a void column."""
    label_map = np.zeros((60, 80), np.uint8)
    instance_map = np.zeros((60, 80), np.int32)
    for number, label, rows, columns in (
        (3, 1, slice(10, 20), slice(20, 30)),
        (5, 1, slice(20, 32), slice(30, 40)),
        (9, 2, slice(0, 30), slice(68, 80)),
    ):
        label_map[rows, columns] = label
        instance_map[rows, columns] = number
    label_map[:, 70] = 255
    return sample_of(label_map, instance_map)


def crops_of(dataset, side, *, alone=True):
    return Crops(dataset, list_objects(dataset, quiet=True), side, alone)


def labels_by_definition(sample, number, side):
    """Every pixel of the crop by itself, from the sentence in the paper's note."""
    rows, columns = np.nonzero(sample.instance_map == number)
    x0, x1, y0, y1 = columns.min(), columns.max() + 1, rows.min(), rows.max() + 1
    half = 1.2 * max(x1 - x0, y1 - y0) / 2
    left, right = round((x0 + x1) / 2 - half), round((x0 + x1) / 2 + half)
    top, bottom = round((y0 + y1) / 2 - half), round((y0 + y1) / 2 + half)
    own = np.bincount(sample.label_map[rows, columns], minlength=256)[:255].argmax()
    crop = np.empty((side, side), np.uint8)
    outside = np.zeros((side, side), bool)
    for row in range(side):
        for column in range(side):
            y = top + int((row + 0.5) * (bottom - top) / side)
            x = left + int((column + 0.5) * (right - left) / side)
            if not (0 <= y < sample.label_map.shape[0] and 0 <= x < sample.label_map.shape[1]):
                crop[row, column], outside[row, column] = 255, True
            elif sample.label_map[y, x] == 255:
                crop[row, column] = 255
            else:
                crop[row, column] = own if sample.instance_map[y, x] == number else 0
    return crop, outside


@pytest.mark.parametrize("number", [3, 5, 9])
def test_a_crop_of_stage_1_is_what_its_definition_says(number):
    sample = two_balls_and_a_brick()
    crops = crops_of(Drawn((sample,)), 29)
    row = crops.windows.objects.tolist().index(number)
    expected, _ = labels_by_definition(sample, number, 29)
    np.testing.assert_array_equal(crops[row].label_map, expected)


@settings(deadline=None, max_examples=8)
@given(st.integers(0, 1000), st.integers(5, 40))
def test_crops_of_drawn_pictures_agree_with_the_definition(picture, side):
    drawn = open_dataset("scenes:size=64,count=1001", "train")[picture]
    dataset = Drawn((drawn,), open_dataset("scenes:count=1").classes)
    try:
        crops = crops_of(dataset, side)
    except DataError:
        return  # a picture without objects
    for row, number in enumerate(crops.windows.objects):
        expected, _ = labels_by_definition(drawn, int(number), side)
        agreeing = (crops[row].label_map == expected).mean()
        assert agreeing > 0.9, (number, agreeing)  # float32 boxes may round to the next pixel


def test_only_the_centred_object_keeps_its_class_and_void_stays():
    crops = crops_of(Drawn((two_balls_and_a_brick(),)), 50)
    assert crops.windows.labels.tolist() == [1, 1, 2]
    for row, label in enumerate(crops.windows.labels):
        found = set(np.unique(crops[row].label_map).tolist())
        assert found - {255} == {0, label}
    first_ball = crops[0].label_map == 1
    assert 0.6 < first_ball.mean() < 0.8  # 1 / 1.2^2, the other ball's corner taken away
    brick = crops[2]
    assert (brick.label_map[:, 19:21] == 255).any(axis=1).all()  # the void column
    assert (brick.instance_map[brick.label_map == 2] == 1).all()


def test_what_lies_past_the_border_is_black_and_void():
    sample = two_balls_and_a_brick()  # no pixel of the image is 0
    crops = crops_of(Drawn((sample,)), 36)  # the brick's window: 36 x 36 pixels
    brick = crops[2]
    _, outside = labels_by_definition(sample, 9, 36)
    assert outside.any()
    assert (brick.image[outside] == 0).all()
    assert (brick.image[~outside] > 0).all()
    assert (brick.label_map[outside] == 255).all()
    assert (brick.instance_map[outside] == 0).all()


def test_the_crops_are_a_data_set_that_can_be_sent_to_other_processes():
    crops = crops_of(Drawn((two_balls_and_a_brick(),)), 20)
    again = pickle.loads(pickle.dumps(crops))  # noqa: S301 - our own
    assert crops.names == ("one@0", "one@1", "one@2")
    assert (len(again), again.classes, again.split) == (3, SHAPES, "train")
    for first, second in zip(crops[1], again[-2], strict=True):
        np.testing.assert_array_equal(first, second)
    with pytest.raises(IndexError):
        crops[3]


def test_without_an_instance_map_connected_components_are_the_objects(capsys):
    sample = two_balls_and_a_brick()._replace(instance_map=None)
    numbered = instances_of(sample, 0)
    assert numbered.max() == 3  # the balls, touching at a corner; the brick, cut in two by void
    objects = find_objects(sample, 0)
    assert sorted(objects.labels.tolist()) == [1, 2]  # 60 pixels of the brick are too few
    assert [20, 10, 40, 32] in objects.boxes.tolist()
    list_objects(Drawn((sample,)))
    assert "does not tell objects of one class apart" in capsys.readouterr().err


def test_rare_classes_are_repeated_by_the_root_of_how_rare_they_are():
    labels = np.array([1] * 90 + [2] * 10 + [3], np.uint8)
    repeated = repeats(labels)
    assert set(repeated[:90]) == {1}
    assert set(repeated[90:100]) == {3}  # nine times rarer
    assert repeated[100] == 9  # root of 90
    windows = Windows(
        np.arange(101, dtype=np.int32),
        np.zeros((101, 4), np.float32),
        np.ones(101, np.int32),
        labels,
    )
    assert np.bincount(windows.balanced().labels).tolist() == [0, 90, 30, 9]
    assert windows.spread(3).pictures.tolist() == [0, 50, 100]
    assert len(windows.spread(1000)) == 101


def test_windows_of_stage_2_are_the_proposals_that_overlap_an_object_well(monkeypatch):
    sample = two_balls_and_a_brick()
    proposed = np.array(
        [
            [20, 10, 30, 20],
            [20, 10, 30, 26],
            [20, 10, 30, 32],
            [0, 40, 20, 60],
            [66, 0, 80, 30],
        ],
        np.float32,
    )
    monkeypatch.setattr(proposals, "propose", lambda *_: (proposed, np.ones(5, np.float32)))
    found = list_windows(Drawn((sample,)), 0.5, quiet=True)
    # overlaps: 1; 0.625; 0.45, too little; 0; 0.86
    assert found.objects.tolist() == [3, 3, 9]
    assert found.labels.tolist() == [1, 1, 2]
    np.testing.assert_allclose(found.boxes[1], [15.4, 8.4, 34.6, 27.6], rtol=1e-6)
    window = Crops(Drawn((sample,)), found, 40, alone=False)[1]
    assert set(np.unique(window.label_map)) == {0, 1}
    assert set(np.unique(window.instance_map)) == {0, 3, 5}  # the other ball is labelled too


def test_the_lists_are_the_same_however_many_threads_make_them(monkeypatch):
    dataset = open_dataset("scenes:size=64,count=3", "train")
    lists = []
    for threads in (1, 3):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        lists.append(list_windows(dataset, 0.5, quiet=True))
    for name, values in vars(lists[0]).items():
        np.testing.assert_array_equal(values, getattr(lists[1], name))
    assert len(lists[0]) > 0


def test_batch_norm_statistics_are_plain_means_over_the_batches():
    torch.manual_seed(1)
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3), BatchNorm(4), nn.ReLU(), nn.Dropout(0.5), nn.Conv2d(4, 2, 1),
        BatchNorm(2, eps=1e-9),
    )  # fmt: skip
    network.train()
    batches = [torch.randn(5, 3, 9, 9) * scale for scale in (1.0, 2.0, 5.0)]
    expected = {1: [], 5: []}
    for batch in batches:  # slowly, layer by layer
        features = batch
        for place, layer in enumerate(network):
            if place in expected:
                values = features.detach().double().transpose(0, 1).flatten(1)
                mean = values.sum(1) / values.shape[1]
                variance = ((values - mean[:, None]) ** 2).sum(1) / values.shape[1]
                expected[place].append((mean, variance))
                shape = (1, -1, 1, 1)
                features = (features - mean.view(shape)) / (
                    variance.view(shape) + layer.eps
                ).sqrt()
                features = (
                    features * layer.weight.view(shape) + layer.bias.view(shape)
                ).float()
            elif not isinstance(layer, nn.Dropout):
                features = layer(features)
    assert reestimate_batch_norm(network, iter(batches)) == 3
    for place, found in expected.items():
        mean = torch.stack([mean for mean, _ in found]).mean(0).float()
        variance = torch.stack([variance for _, variance in found]).mean(0).float()
        torch.testing.assert_close(network[place].running_mean, mean, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(network[place].running_var, variance, rtol=1e-4, atol=1e-6)
    assert all(module.training for module in network.modules())
    assert not any(module._forward_hooks for module in network.modules())
    assert {network[place].momentum for place in expected} == {BatchNorm(1).momentum}


def test_statistics_of_a_pass_that_failed_are_those_from_before():
    network = nn.Sequential(BatchNorm(2)).eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}

    def batches():
        yield torch.randn(3, 2, 4, 4) * 9
        raise OSError("no more")

    with pytest.raises(OSError, match="no more"):
        reestimate_batch_norm(network, batches())
    for name in ("0.running_mean", "0.running_var"):
        torch.testing.assert_close(network.state_dict()[name], before[name], rtol=0, atol=0)
    assert not network[0].training


@dataclass(frozen=True)
class WholeRun:
    """A run of both stages, what it said, and the weights each stage began with."""

    out: Path
    said: str
    scores: dict
    begun: list


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory):
    out, begun, real = tmp_path_factory.mktemp("two") / "run", [], train_module.take_step

    def watched(job, step, network, *rest):
        if step == 0:
            begun.append({k: v.clone() for k, v in network.module.state_dict().items()})
        return real(job, step, network, *rest)

    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stderr(io.StringIO()) as said,
    ):
        patch.setattr(train_module, "take_step", watched)
        evaluation = train(TINY, out=out, device="cpu")
    return WholeRun(out, said.getvalue(), evaluation.to_json(), begun)


def test_both_stages_run_and_leave_a_run_like_any_other(whole_run):
    run = whole_run.out
    names = {path.name for path in run.iterdir()}
    assert names == {"stage1", "stage2", "best", "last", "recipe.yaml", "log.csv", "curve.png"}
    assert Recipe.from_file(run / "recipe.yaml") == TINY
    for stage in ("stage1", "stage2"):
        assert (run / stage / "crops.png").stat().st_size > 1000
    steps = [line.split(",")[0] for line in (run / "log.csv").read_text().splitlines()]
    assert steps == ["step", "1", "2", "3", "4", "5", "6", "7"]
    assert "Stage 1 trains on" in whole_run.said
    assert "Stage 2 trains on" in whole_run.said
    assert whole_run.scores["images"] == 3
    assert "In two stages" in (run / "best" / "README.md").read_text()


def test_the_pictures_of_both_stages_are_remembered_as_those_of_one_are(tmp_path):
    recipe = replace(TINY, data="scenes:size=64,count=8")
    train(recipe, out=tmp_path / "run", device="cpu", quiet=True)
    known = load_checkpoint(tmp_path / "run" / "best").config.familiarity
    assert known.pictures == 16  # 8 of val, 8 of train


def test_stage_2_begins_with_the_last_weights_of_stage_1(whole_run):
    last = load_checkpoint(whole_run.out / "stage1" / "last").network.state_dict()
    assert all(torch.equal(value, whole_run.begun[1][name]) for name, value in last.items())
    assert f"Started from {whole_run.out / 'stage1' / 'last'}" in whole_run.said
    assert ", 0 new." in whole_run.said


def test_the_last_step_changes_the_statistics_of_batch_norm_alone(whole_run):
    before = load_checkpoint(whole_run.out / "stage2" / "last").network.state_dict()
    after = load_checkpoint(whole_run.out / "last")
    assert after.config.recipe["stages"] == "two"
    changed = {
        name
        for name, value in after.network.state_dict().items()
        if not torch.equal(value, before[name])
    }
    assert changed
    assert {name.rpartition(".")[2] for name in changed} <= {
        "running_mean",
        "running_var",
        "num_batches_tracked",
    }


def test_the_last_step_leaves_frozen_parts_the_statistics_they_were_trained_with(tmp_path):
    frozen = replace(TINY, freeze="encoder", stage1_steps=1, steps=1, evaluate_every=1)
    train(frozen, out=tmp_path / "run", device="cpu", quiet=True)
    before = load_checkpoint(tmp_path / "run" / "stage2" / "last").network.state_dict()
    after = load_checkpoint(tmp_path / "run" / "last").network.state_dict()
    changed = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert changed
    assert not any(name.startswith("encoder.") for name in changed)


@pytest.mark.slow
def test_each_stage_goes_on_bit_for_bit(tmp_path, monkeypatch, whole_run):
    """Power cuts before the first state and in the middle of either stage."""
    real, calls = train_module.take_step, []

    def cut_off(*arguments):
        calls.append(1)
        if len(calls) in {1, 3, 6, 9}:
            raise SystemExit
        return real(*arguments)

    monkeypatch.setattr(train_module, "take_step", cut_off)
    out = tmp_path / "cut"
    for turn, done in enumerate([None, ("stage1", 1), ("stage1", 3), ("stage2", 2)]):
        with pytest.raises(SystemExit):
            train(TINY, out=out, resume=turn > 0, device="cpu", quiet=True)
        if done:
            assert load_state(out / done[0] / "state.pt")["step"] == done[1]
        torch.randn(7)  # another process has another random state
    train(TINY, out=out, resume=True, device="cpu", quiet=True)
    assert len(calls) == 4 + TINY.stage1_steps + TINY.steps
    for name in ("best", "last"):
        whole = load_checkpoint(whole_run.out / name).network.state_dict()
        cut = load_checkpoint(out / name).network.state_dict()
        assert all(torch.equal(value, cut[name]) for name, value in whole.items())


def test_the_lists_of_windows_are_remembered_for_the_same_data_only(tmp_path, monkeypatch):
    job = prepare(TINY, tmp_path, device="cpu", quiet=True)
    made = stages._listed(job, job.training, 2)

    def refuse(*_arguments, **_options):
        raise AssertionError

    monkeypatch.setattr(stages, "list_windows", refuse)
    known = stages._listed(job, job.training, 2)
    np.testing.assert_array_equal(made.boxes, known.boxes)
    with pytest.raises(AssertionError):  # another overlap, another list
        stages._listed(replace(job, recipe=replace(TINY, overlap=0.7)), job.training, 2)
    (tmp_path / "stage2" / "train_windows.npz").write_bytes(b"PK damaged")
    with pytest.raises(AssertionError):
        stages._listed(job, job.training, 2)


def test_a_mask_edited_in_its_place_makes_another_list(tmp_path):
    tree = tmp_path / "data"
    for folder in ("images", "masks"):
        (tree / folder).mkdir(parents=True)
    label_map = np.zeros((60, 80), np.uint8)
    label_map[10:30, 20:40] = 1
    (tree / "classes.txt").write_text("background\nball\n")
    for split in ("train", "val"):
        (tree / f"{split}.txt").write_text(f"{split}\n")
        PIL.Image.new("RGB", (80, 60)).save(tree / "images" / f"{split}.png")
        PIL.Image.fromarray(label_map).save(tree / "masks" / f"{split}.png")
    recipe = replace(TINY, data=str(tree))
    job = prepare(recipe, tmp_path / "run", device="cpu", quiet=True)
    assert len(stages._listed(job, job.training, 1)) == 1
    label_map[40:56, 50:70] = 1
    PIL.Image.fromarray(label_map).save(tree / "masks" / "train.png")
    assert len(stages._listed(job, job.training, 1)) == 2


def test_a_sheet_shows_evenly_spread_examples():
    crops = crops_of(Drawn((two_balls_and_a_brick(),)), 30)
    sheet = crop_sheet(crops, count=2)
    assert sheet.shape[1] >= 2 * 2 * 144
    assert sheet.dtype == np.uint8


def test_the_command_line_trains_both_stages(tmp_path, capsys):
    recipe = tmp_path / "two.yaml"
    recipe.write_text(replace(TINY, stage1_steps=1, steps=1).to_yaml())
    assert main(["train", str(recipe), "--dry-run", "--out", str(tmp_path / "run")]) == 0
    said = capsys.readouterr().out
    assert "stage 1    crops around" in said
    assert "stage 2    windows around proposals: 1 steps" in said
    assert not (tmp_path / "run").exists()
    assert main(["train", str(recipe), "--out", str(tmp_path / "run"), "--quiet"]) == 0
    assert (tmp_path / "run" / "best" / "model.safetensors").exists()


def test_the_crops_keep_the_published_ratio():
    assert (stored_side(224), stored_side(193), stored_side(32)) == (250, 215, 36)


def test_what_does_not_do_is_refused_in_one_sentence(tmp_path):
    empty = Drawn((sample_of(np.zeros((40, 40), np.uint8), np.zeros((40, 40), np.int32)),))
    with pytest.raises(DataError, match=r"^No object was found in the 1 pictures of train: "):
        list_objects(empty, quiet=True)
    with pytest.raises(DataError, match=r"^No proposal \(\w+\) overlaps an object of train by"):
        list_windows(Drawn((two_balls_and_a_brick(),)), 1.0, quiet=True)
    with pytest.raises(RecipeError, match=r"overlap is 1\.5; it must lie in 0 to 1"):
        list_windows(empty, 1.5, quiet=True)
    with pytest.raises(RecipeError, match=r"^overlap is 1\.5; it must lie in 0 to 1\.$"):
        replace(TINY, overlap=1.5)
    with pytest.raises(DataError, match="name one class background, or set stages to one"):
        list_objects(Drawn(empty.samples, Classes.numbered(3)), quiet=True)
    with pytest.raises(RecipeError, match=r"input_scale is 0\.5; in two stages"):
        plan(replace(TINY, input_scale=0.5), tmp_path)


def test_a_folder_is_neither_overwritten_nor_resumed_wrongly(tmp_path, whole_run):
    with pytest.raises(OutputError, match="holds a run already; go on with it by --resume"):
        train(TINY, out=whole_run.out, device="cpu", quiet=True)
    with pytest.raises(CheckpointError, match="start it without --resume"):
        train(TINY, out=tmp_path / "no", resume=True, device="cpu", quiet=True)
    other = replace(TINY, overlap=0.6)
    with pytest.raises(RecipeError, match=r"overlap was 0\.5 and is 0\.6"):
        train(other, out=whole_run.out, resume=True, device="cpu", quiet=True)
    assert load_state(whole_run.out / "stage2" / "state.pt")["step"] == 4


def test_missing_weights_of_stage_1_are_named_on_resume(tmp_path, whole_run):
    run = shutil.copytree(whole_run.out, tmp_path / "run")
    (run / "stage2" / "state.pt").unlink()
    (run / "stage1" / "last" / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"^Stage 1 is done, but .*last, from which"):
        train(TINY, out=run, resume=True, device="cpu", quiet=True)


def test_real_objects_of_coco_become_crops(shared_data):
    dataset = open_dataset(shared_data / "coco200", "train")
    few = Drawn(tuple(dataset[index] for index in range(2, 7)), dataset.classes)
    crops = crops_of(few, 64)
    assert len(crops) >= 6
    for row in range(len(crops)):
        kept = set(np.unique(crops[row].label_map)) - {255}
        assert kept == {0, crops.windows.labels[row]}

"""What stops a training, and what does not."""

import itertools
from dataclasses import replace

import pytest
import torch
from torch import nn

from deconvnet.checkpoint import build_network, load_state, save_checkpoint
from deconvnet.data.class_statistics import median_frequency_weights, statistics_of
from deconvnet.errors import CheckpointError, DivergedError
from deconvnet.recipe import Recipe
from deconvnet.train import train
from deconvnet.training.job import prepare
from deconvnet.training.pictures import TrainingPictures
from deconvnet.training.solver import build_optimizer
from deconvnet.training.step import take_step, trained_module

TINY = Recipe(
    model="unet",
    width=1 / 32,
    batch_norm=True,
    dropout=0.0,
    data="scenes:size=48,count=4",
    crop_size=32,
    batch_size=2,
    steps=4,
    optimizer="sgd",
    val_pictures=1,
    save_every=1,
)


def begun(recipe, out):
    """A job and all that take_step needs: network, optimiser."""
    job = prepare(recipe, out, device="cpu", quiet=True)
    torch.manual_seed(0)
    network = build_network(job.config)
    module = trained_module(network, job)
    return job, network, *job.fabric.setup(module, build_optimizer(module, recipe))


def batches(count=2, side=32, labels=None):
    """Endless batches of random pictures, with these labels or random ones."""
    torch.manual_seed(1)
    images = torch.rand(count, 3, side, side)
    labels = torch.randint(0, 3, (count, side, side)) if labels is None else labels
    return itertools.repeat([images, labels])


def test_a_picture_that_is_no_numbers_is_named_and_the_last_state_is_kept(
    tmp_path, monkeypatch
):
    real = TrainingPictures.__getitem__

    def spoilt(self, number):
        image, labels = real(self, number)
        return (image * torch.nan if number == 5 else image), labels

    monkeypatch.setattr(TrainingPictures, "__getitem__", spoilt)
    with pytest.raises(DivergedError) as error:
        train(TINY, out=tmp_path / "run", device="cpu", quiet=True)
    job = prepare(TINY, tmp_path / "run", device="cpu", quiet=True)
    name = TrainingPictures(job.training, TINY, job.config).name_of(5)
    said = str(error.value)
    assert "The loss became nan at step 3, so training stopped: the picture " in said
    assert f"the picture {name}, as it went in, holds values that are no finite" in said
    assert f"the last good state is {tmp_path / 'run' / 'state.pt'}" in said
    assert load_state(tmp_path / "run" / "state.pt")["step"] == 2


def test_the_layer_at_which_numbers_overflow_is_named(tmp_path):
    job, network, trained, optimizer = begun(replace(TINY, auxiliary=0.5), tmp_path)
    norm = network.encoder[1][0].norm
    norm.train()
    nn.init.constant_(norm.weight, 3e38)
    with pytest.raises(DivergedError, match=r"first layer to give it was encoder\.1\.conv2_1"):
        take_step(job, 0, trained, optimizer, batches())


def test_weights_that_were_broken_before_are_named(tmp_path):
    job, network, trained, optimizer = begun(TINY, tmp_path)
    nn.init.constant_(network.classifier.bias, torch.inf)
    with pytest.raises(
        DivergedError, match=r"weights classifier\.bias were no finite .* no st"
    ):
        take_step(job, 0, trained, optimizer, batches())


@pytest.mark.parametrize("clip", [None, 1.0])
def test_a_gradient_that_is_no_number_stops_before_the_weights_move(tmp_path, clip):
    job, network, trained, optimizer = begun(replace(TINY, clip=clip), tmp_path)
    network.encoder[2][0].conv.weight.register_hook(lambda gradient: gradient * torch.nan)
    before = {name: value.clone() for name, value in network.named_parameters()}
    said = r"gradient became .* at step 1, .*the gradient of encoder\.2\.conv3_1\.conv\.weight"
    with pytest.raises(DivergedError, match=said):
        take_step(job, 0, trained, optimizer, batches())
    assert all(torch.equal(value, before[n]) for n, value in network.named_parameters())


def test_weights_that_overflow_are_not_saved_over_good_ones(tmp_path, monkeypatch):
    import deconvnet.training.loop as module

    real = module.take_step

    def overflow(job, step, network, *rest):
        loss = real(job, step, network, *rest)
        if step == 2:
            next(network.parameters()).data.fill_(torch.inf)
        return loss

    monkeypatch.setattr(module, "take_step", overflow)
    with pytest.raises(
        DivergedError, match=r"infinite or no numbers at step 3, .*the first is"
    ):
        train(TINY, out=tmp_path / "run", device="cpu", quiet=True)
    assert load_state(tmp_path / "run" / "state.pt")["step"] == 2


@pytest.mark.parametrize("native", [False, True])
def test_batches_without_a_labelled_pixel_cost_nothing_and_move_nothing(tmp_path, native):
    recipe = replace(
        TINY,
        dice=1.0,
        lovasz=1.0,
        auxiliary=0.5,
        class_weights="median",
        accumulate=2,
        weight_decay=0.0,
        engine="native" if native else "torch",
    )
    job, network, trained, optimizer = begun(recipe, tmp_path)
    before = {name: value.clone() for name, value in network.named_parameters()}
    void = torch.full((2, 32, 32), 255)
    assert take_step(job, 0, trained, optimizer, batches(labels=void)) == 0.0
    assert all(torch.equal(value, before[n]) for n, value in network.named_parameters())


@pytest.mark.parametrize("native", [False, True])
def test_a_network_learns_from_its_teacher_what_the_labels_do_not_say(tmp_path, native):
    taught = train(TINY, out=tmp_path / "teacher", device="cpu", quiet=True)
    assert taught is not None
    recipe = replace(
        TINY,
        teacher=str(tmp_path / "teacher" / "best"),
        distill=50.0,
        learning_rate=0.01,
        engine="native" if native else "torch",
    )
    job, network, trained, optimizer = begun(recipe, tmp_path)
    held = {name: value.clone() for name, value in job.teacher.state_dict().items()}
    stream = batches()
    said = job.teacher(next(stream)[0]).softmax(1)

    @torch.no_grad()
    def apart():
        return float((network.train()(next(stream)[0]).softmax(1) - said).abs().mean())

    before = apart()
    for step in range(40):
        take_step(job, step, trained, optimizer, stream)
    assert apart() < 0.5 * before
    assert all(torch.equal(value, held[n]) for n, value in job.teacher.state_dict().items())


def test_a_teacher_of_other_classes_or_other_pictures_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"knows the classes sky, building, .*data has"):
        prepare(replace(TINY, teacher="unet-camvid"), tmp_path, device="cpu", quiet=True)
    with pytest.raises(CheckpointError, match="no checkpoint"):
        prepare(replace(TINY, teacher="nobody"), tmp_path, device="cpu", quiet=True)
    config = replace(
        prepare(TINY, tmp_path, device="cpu", quiet=True).config, mean=(0.0, 0.0, 0.0)
    )
    save_checkpoint(tmp_path / "caffe", build_network(config), config)
    recipe = replace(TINY, teacher=str(tmp_path / "caffe"))
    with pytest.raises(CheckpointError, match=r"takes pictures otherwise \(3 channels, mean"):
        prepare(recipe, tmp_path, device="cpu", quiet=True)


def test_half_void_batches_train_as_their_labelled_pixels_say(tmp_path):
    labels = torch.full((2, 32, 32), 255)
    labels[0, :16] = 1
    job, _, trained, optimizer = begun(replace(TINY, dice=1.0, lovasz=1.0), tmp_path)
    losses = [
        take_step(job, step, trained, optimizer, batches(labels=labels)) for step in (0, 1)
    ]
    assert 0 < losses[1] < losses[0]


def test_a_class_that_never_occurs_weighs_one_and_breaks_no_mean(tmp_path):
    counts = torch.zeros(2, 256, dtype=torch.int64).numpy()
    counts[:, 0], counts[:, 2] = 90, 10
    assert median_frequency_weights(statistics_of(list(counts), 4)).tolist()[1::2] == [1, 1]
    scores = train(
        replace(TINY, class_weights="median", steps=1), out=tmp_path, device="cpu", quiet=True
    ).to_json()
    assert 0 <= scores["mean_iou"] <= 1

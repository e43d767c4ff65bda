"""What holds for every data set, over small trees drawn in the true layouts."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from deconvnet.data import READERS, Dataset, Sample, open_dataset
from deconvnet.data.doctor import check_dataset, class_statistics
from deconvnet.labels import IGNORED
from trees import TREES

NAMES = [*TREES, "scenes"]
DRAWS_ANEW = True


@pytest.fixture(scope="module")
def roots(tmp_path_factory) -> dict[str, Path | str]:
    folders = {name: tmp_path_factory.mktemp("data") for name in TREES}
    for name, tree in TREES.items():
        tree.draw(folders[name])
    return folders | {"scenes": "scenes:count=5,size=32x48"}


@pytest.fixture(scope="module", params=NAMES)
def dataset(request, roots) -> Dataset:
    return open_dataset(roots[request.param])


def assert_same(first: Sample, second: Sample) -> None:
    assert first.name == second.name
    for one, other in zip(first[:3], second[:3], strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            np.testing.assert_array_equal(one, other)


def test_there_is_a_drawn_tree_for_every_reader():
    assert {tree.format for tree in TREES.values()} == set(READERS)


@pytest.mark.parametrize("name", TREES)
def test_the_layout_is_recognised_and_gives_its_classes(name, roots):
    by_itself = open_dataset(roots[name])
    given = open_dataset(roots[name], format=TREES[name].format)
    assert by_itself == given
    assert len(by_itself.classes) == TREES[name].num_classes
    assert (by_itself[0].instance_map is not None) == TREES[name].instances


def test_samples_are_pictures_with_labels_that_fit(dataset):
    for sample in dataset:
        height, width, channels = sample.image.shape
        assert channels == 3
        assert sample.image.dtype == sample.label_map.dtype == np.uint8
        assert sample.label_map.shape == (height, width)
        labels = sample.label_map[sample.label_map != IGNORED]
        assert labels.max(initial=0) < len(dataset.classes)
        if sample.instance_map is not None:
            assert sample.instance_map.dtype == np.int32
            assert sample.instance_map.shape == (height, width)
            assert sample.instance_map.min() >= 0


def test_names_are_known_without_reading_and_differ(dataset):
    assert [sample.name for sample in dataset] == list(dataset.names)
    assert len(set(dataset.names)) == len(dataset.names) == len(dataset) > 0
    assert not any("\\" in name or name.endswith((".png", ".jpg")) for name in dataset.names)


def test_access_is_random_and_leaves_no_trace(dataset):
    last = dataset[len(dataset) - 1]
    first = dataset[0]
    dataset[0].image[:] = 0
    dataset[0].label_map[:] = 0
    assert_same(dataset[0], first)
    assert_same(dataset[len(dataset) - 1], last)


def test_there_is_an_end(dataset):
    with pytest.raises(IndexError):
        dataset[len(dataset)]


def test_other_processes_can_be_sent_a_dataset(dataset):
    copy = pickle.loads(pickle.dumps(dataset))  # noqa: S301 - made on the line itself
    assert copy == dataset
    assert_same(copy[0], dataset[0])


@pytest.mark.parametrize("name", NAMES)
def test_train_and_val_share_classes_but_no_picture(name, roots):
    train, val = open_dataset(roots[name], "train"), open_dataset(roots[name], "val")
    assert (train.split, val.split) == ("train", "val")
    assert train.classes == val.classes
    assert not set(train.names) & set(val.names)


def test_the_doctor_finds_no_error(dataset):
    assert [problem for problem in check_dataset(dataset) if problem.severity == "error"] == []


def test_statistics_count_every_pixel(dataset):
    statistics = class_statistics(dataset)
    samples = list(dataset)
    for label in range(len(dataset.classes)):
        inside = [sample.label_map == label for sample in samples]
        assert statistics.pixels[label] == sum(mask.sum() for mask in inside)
        assert statistics.pictures[label] == sum(mask.any() for mask in inside)
    assert statistics.ignored == sum((s.label_map == IGNORED).sum() for s in samples)

import numpy as np
import PIL.Image
import pytest

from deconvnet.checkpoint import Config, build_network, save_checkpoint
from deconvnet.cli import main
from deconvnet.data import Sample
from deconvnet.data.scenes import SCENES
from deconvnet.errors import DataError
from deconvnet.figures.size_curves import EDGES, ExtentCounts, size_curves, sizes
from deconvnet.predict import load

DATA = "scenes:count=2,size=64"


def sample(label_map, instance_map=None):
    label_map = np.array(label_map, np.uint8)
    return Sample(np.zeros((*label_map.shape, 3), np.uint8), label_map, instance_map, "a")


def test_pixels_count_in_the_band_of_the_longer_side_of_their_object():
    truth = np.zeros((8, 20), np.uint8)
    truth[0, :12] = 1  # 12 wide
    truth[4:6, :2] = 1  # 2 by 2
    predicted = truth.copy()
    predicted[0, :3] = 0
    predicted[7, 10:16] = 1  # made up, 6 wide
    counts = ExtentCounts.empty(2, (4.0, 8.0)).add(predicted, sample(truth), 0)
    assert counts.hits[1].tolist() == [4, 0, 9]
    assert counts.misses[1].tolist() == [0, 0, 3]
    assert counts.wrong[1].tolist() == [0, 6, 0]
    assert counts.objects.tolist() == [1, 0, 1]
    np.testing.assert_allclose(counts.iou, [1, np.nan, 0.75])


def test_touching_objects_are_told_apart_by_the_instance_map_and_void_counts_nowhere():
    truth = np.ones((2, 10), np.uint8)
    truth[1] = 255
    numbers = np.array([[1] * 5 + [2] * 5] * 2, np.int32)
    predicted = np.ones((2, 10), np.uint8)
    counts = ExtentCounts.empty(2, (6.0,)).add(predicted, sample(truth, numbers), 0)
    assert counts.objects.tolist() == [2, 0]
    assert counts.hits[1].tolist() == [10, 0]
    assert not counts.wrong.any()


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    place = tmp_path_factory.mktemp("networks")
    made = []
    for name, model, seed in (
        ("one", "fcn32s", 0),
        ("two", "fcn32s", 1),
        ("finer", "fcn8s", 0),
        ("three", "deconvnet", 0),
    ):
        options = {"width": 1 / 32, "fc_channels": 8}
        recipe = {"crop_size": 64, "data": DATA, "seed": seed}
        config = Config(model, SCENES, options, recipe=recipe)
        made.append(str(save_checkpoint(place / name / "best", build_network(config), config)))
    return made


def test_seeds_make_one_curve_and_deconvnet_makes_three(networks):
    from deconvnet.data import open_dataset

    dataset = open_dataset(DATA, "val")
    loaded = [load(place) for place in networks]
    curves = size_curves(loaded, dataset, proposals=2)
    assert {curve.name: len(curve.counts) for curve in curves} == {
        "FCN-32s, whole picture": 2,
        "FCN-8s, whole picture": 1,
        "DeconvNet, whole picture": 1,
        "DeconvNet, 2 proposals": 1,
        "both: 2 proposals and FCN-8s": 1,
    }
    shapes = {counts.objects.shape for curve in curves for counts in curve.counts}
    assert shapes == {(len(EDGES) + 1,)}
    there = {tuple(counts.objects) for curve in curves for counts in curve.counts}
    assert len(there) == 1  # the truth is the same for all
    first = dataset[0]
    blank = first._replace(label_map=np.zeros_like(first.label_map), instance_map=None)
    with pytest.raises(DataError, match="no object"):
        sizes(loaded[:1], _Pictures(dataset, blank))


class _Pictures:
    def __init__(self, dataset, one):
        self.classes, self.split, self._one = dataset.classes, dataset.split, one

    @property
    def names(self):
        return ("one",)

    def __len__(self):
        return 1

    def __getitem__(self, index):
        return self._one


def test_the_command_draws_it(networks, tmp_path, capsys):
    out = tmp_path / "sizes.png"
    main(["figure", "sizes", *networks[:2], DATA, "--out", str(out), "--quiet"])
    assert PIL.Image.open(out).size[0] > 1000
    assert str(out) in capsys.readouterr().out
    main(["figure", "sizes", networks[0], "picture.png", "--out", str(out)])
    assert "a picture alone" in capsys.readouterr().err.replace("\n", " ")

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deconvnet.data import open_dataset
from deconvnet.data.scenes import SCENES, Scenes
from deconvnet.errors import DataError

DRAWS_ANEW = True


def shares(scenes: list) -> np.ndarray:
    """The share of the picture of every object."""
    return np.concatenate(
        [np.bincount(s.instance_map.ravel())[1:] / s.label_map.size for s in scenes]
    )


@pytest.fixture(scope="module")
def hundred() -> list:
    """A hundred small pictures as they are by default."""
    return list(Scenes("train", count=100, size=48))


def test_pictures_are_the_same_whenever_they_are_asked_for():
    first, second = Scenes("train", count=9, size=48)[7], Scenes("train", count=99, size=48)[7]
    np.testing.assert_array_equal(first.image, second.image)
    np.testing.assert_array_equal(first.label_map, second.label_map)


def test_other_places_splits_and_seeds_give_other_pictures():
    scenes = [
        Scenes("train", count=2, size=32)[0],
        Scenes("train", count=2, size=32)[1],
        Scenes("val", count=2, size=32)[0],
        Scenes("test", count=2, size=32)[0],
        Scenes("train", count=2, size=32, seed=1)[0],
    ]
    assert len({scene.image.tobytes() for scene in scenes}) == len(scenes)


@settings(deadline=None, max_examples=20)
@given(index=st.integers(0, 999), height=st.integers(16, 150), width=st.integers(16, 150))
def test_an_object_is_one_class_and_background_is_no_object(index, height, width):
    sample = Scenes("val", count=1000, size=(height, width))[index]
    assert sample.image.shape == (height, width, 3)
    np.testing.assert_array_equal(sample.label_map == 0, sample.instance_map == 0)
    numbers = np.unique(sample.instance_map)
    assert numbers.tolist()[-1] <= len(numbers)
    for number in numbers:
        labels = np.unique(sample.label_map[sample.instance_map == number])
        assert len(labels) == 1
        assert labels[0] < len(SCENES)


def test_objects_are_of_all_sizes_and_classes(hundred):
    sizes = shares(hundred)
    assert (sizes < 0.01).mean() > 0.1
    assert (sizes > 0.25).mean() > 0.02
    assert sizes.max() > 0.55
    seen = {label for scene in hundred for label in np.unique(scene.label_map).tolist()}
    assert seen == set(range(len(SCENES)))


def test_extents_bound_the_objects():
    scenes = Scenes("train", count=20, size=96, min_extent=0.25, max_extent=0.5)
    for scene in scenes:
        for number in range(1, scene.instance_map.max() + 1):
            rows, columns = np.nonzero(scene.instance_map == number)
            if len(rows):
                assert max(np.ptp(rows), np.ptp(columns)) <= 0.5 * 96 + 3


def test_colour_does_not_give_the_class_away(hundred):
    """Mean colour alone, by nearest neighbour, finds the class hardly better than chance."""
    colors, labels = [], []
    for scene in hundred:
        for number in range(1, scene.instance_map.max() + 1):
            inside = scene.instance_map == number
            if inside.sum() > 20:
                colors.append(scene.image[inside].mean(axis=0))
                labels.append(scene.label_map[inside][0])
    colors, labels = np.array(colors), np.array(labels)
    distances = np.linalg.norm(colors[:, None] - colors[None], axis=-1)
    np.fill_diagonal(distances, np.inf)
    right = (labels[distances.argmin(axis=1)] == labels).mean()
    assert right < 0.3  # chance is 1 in 7


def test_only_the_kinds_asked_for_occur():
    scenes = Scenes("train", count=12, size=48, kinds="leaf+ring")
    found = set(np.unique(np.concatenate([sample.label_map.ravel() for sample in scenes])))
    assert found == {0, SCENES.names.index("leaf"), SCENES.names.index("ring")}


def test_hinted_objects_wear_the_colour_of_their_class():
    plain = Scenes("train", count=25, size=48, max_objects=1, min_extent=0.5)
    hinted = dataclasses.replace(plain, color_hint=1.0)

    def distance(scenes):
        """Mean over pictures of how far the objects' pixels are from their class's colour."""
        found = [
            np.abs(
                image[label_map > 0] - np.array(SCENES.colors[label_map.max()], float)
            ).mean()
            for image, label_map, *_ in scenes
            if label_map.any()
        ]
        return np.mean(found)

    assert distance(hinted) < 0.8 * distance(plain)


def test_settings_may_be_written_behind_the_word():
    assert open_dataset("scenes:count=3,size=32x48,min-extent=0.2", "val") == Scenes(
        "val", count=3, size=(32, 48), min_extent=0.2
    )
    assert open_dataset("anything", format="scenes", size=32) == Scenes("train", size=32)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (
            "scenes:cuont=3",
            "Drawn pictures have no setting 'cuont'; they have count, size, seed, min_extent, "
            "max_extent, max_objects, kinds, color_hint. Did you mean 'count'?",
        ),
        ("scenes:count=many", "count of drawn pictures is 'many'; give a whole number."),
        (
            "scenes:count",
            "'count' in scenes:count is no setting; write such as scenes:size=128.",
        ),
        ("scenes:size=8", "Drawn pictures of 8 x 8: give 16 to 8192 pixels a side."),
        (
            "scenes:min_extent=0",
            "Objects are to have 0.0 to 1.05 of the picture's side; give two numbers above 0 "
            "and up to 2, the smaller first.",
        ),
        (
            "scenes:seed=-1",
            "Drawn pictures with count=0, seed=-1 and max_objects=9: the first two must not be "
            "negative, the last must be at least 1.",
        ),
    ],
)
def test_wrong_settings_are_told_in_full(path, message):
    with pytest.raises(DataError) as caught:
        open_dataset(path)
    assert str(caught.value) == message


def test_unknown_kinds_and_shares_out_of_range_are_told():
    with pytest.raises(DataError, match="no objects of kind 'cat'; choose from ball, cookie"):
        Scenes(kinds="ball+cat")
    with pytest.raises(DataError, match=r"color_hint of drawn pictures is 2\.0; give 0 to 1"):
        Scenes(color_hint=2.0)


def test_an_unknown_split_is_told():
    with pytest.raises(DataError, match="have no split 'night'; choose train, val, test"):
        open_dataset("scenes", "night")

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deconvnet.data import Sample
from deconvnet.data.augment import (
    GREY,
    Window,
    augment,
    center_crop,
    elastic_displacements,
    mirrored,
    random_window,
    recolored,
    resize,
    resized_part,
    warped,
)
from deconvnet.data.scenes import Scenes
from deconvnet.errors import ShapeError
from oracles.resampling import nearest

SAMPLE = Scenes("train", count=1, size=(60, 80))[0]
seeds = st.integers(0, 2**32 - 1)
sides = st.integers(1, 90)
some = settings(deadline=None, max_examples=40)


def coded(height: int, width: int) -> Sample:
    """A sample whose image says the place of each pixel, and so does its instance map."""
    y, x = np.mgrid[:height, :width]
    image = np.stack([y, x, y * 0 + 7], axis=-1).astype(np.uint8)
    return Sample(
        image, ((y + x) % 5).astype(np.uint8), (y * 256 + x).astype(np.int32), "coded"
    )


def assert_same(first: Sample, second: Sample) -> None:
    for one, other in zip(first[:3], second[:3], strict=True):
        np.testing.assert_array_equal(one, other)
    assert first.name == second.name


@some
@given(seed=seeds, height=sides, width=sides, elastic=st.sampled_from([0.0, 4.0]))
def test_any_size_comes_out_and_labels_are_never_made_up(seed, height, width, elastic):
    before = SAMPLE.image.copy(), SAMPLE.label_map.copy(), SAMPLE.instance_map.copy()
    result = augment(
        SAMPLE, np.random.default_rng(seed), crop_size=(height, width), elastic=elastic
    )
    assert result.image.shape == (height, width, 3)
    assert result.label_map.shape == result.instance_map.shape == (height, width)
    assert result.image.dtype == result.label_map.dtype == np.uint8
    assert result.instance_map.dtype == np.int32
    assert set(np.unique(result.label_map)) <= {*np.unique(SAMPLE.label_map), 255}
    assert set(np.unique(result.instance_map)) <= {*np.unique(SAMPLE.instance_map)}
    for now, then in zip(SAMPLE[:3], before, strict=True):
        np.testing.assert_array_equal(now, then)


@some
@given(seed=seeds, elastic=st.sampled_from([0.0, 5.0]))
def test_labels_and_instances_stay_on_one_another(seed, elastic):
    """The label of an object is one number, before and after."""
    label_of = {
        number: SAMPLE.label_map[SAMPLE.instance_map == number][0]
        for number in np.unique(SAMPLE.instance_map)
    }
    result = augment(SAMPLE, np.random.default_rng(seed), crop_size=48, elastic=elastic)
    for number in np.unique(result.instance_map):
        labels = set(np.unique(result.label_map[result.instance_map == number]))
        assert labels <= {label_of[number], 255}


def test_the_same_seed_gives_the_same_bytes():
    results = [
        augment(SAMPLE, np.random.default_rng(4), crop_size=50, elastic=3) for _ in range(2)
    ]
    assert_same(*results)
    assert (
        augment(SAMPLE, np.random.default_rng(5), crop_size=50).image.tobytes()
        != augment(SAMPLE, np.random.default_rng(6), crop_size=50).image.tobytes()
    )


def test_settings_that_change_nothing_give_the_sample_back():
    result = augment(
        SAMPLE, np.random.default_rng(0), crop_size=(60, 80), scale=(1, 1), flip=0, color=0
    )
    assert_same(result, SAMPLE)


def test_at_scale_1_pixels_are_copied_and_the_rest_is_padding():
    sample = coded(20, 30)
    result = augment(
        sample, np.random.default_rng(1), crop_size=40, scale=(1, 1), flip=0, color=0
    )
    inside = result.label_map != 255
    assert inside.sum() == 20 * 30
    assert (result.image[~inside] == GREY).all()
    assert (result.instance_map[~inside] == 0).all()
    places = result.instance_map[inside]
    np.testing.assert_array_equal(result.image[inside][:, 0], places // 256)
    np.testing.assert_array_equal(result.image[inside][:, 1], places % 256)


@some
@given(
    top=st.floats(-30, 70),
    left=st.floats(-30, 90),
    height=st.floats(1, 120),
    width=st.floats(1, 120),
    size=st.tuples(st.integers(1, 24), st.integers(1, 24)),
)
def test_labels_are_those_of_the_nearest_pixels(top, left, height, width, size):
    window = Window(top, left, height, width)
    result = resized_part(SAMPLE, window, size)
    np.testing.assert_array_equal(
        result.label_map, nearest(SAMPLE.label_map, window, size, 255)
    )
    np.testing.assert_array_equal(
        result.instance_map, nearest(SAMPLE.instance_map, window, size, 0)
    )


@some
@given(seed=seeds, factor=st.floats(0.5, 3))
def test_the_image_lies_where_its_labels_lie(seed, factor):
    """A picture whose red is its row and green its column tells where each pixel came from."""
    sample = coded(90, 110)
    size = (48, 48)
    window = random_window((90, 110), (48 / factor, 48 / factor), np.random.default_rng(seed))
    result = resized_part(sample, window, size)
    inside = result.label_map != 255
    margin = 2 + 2 / factor  # where the filter meets the picture's edge
    rows, columns = result.instance_map // 256, result.instance_map % 256
    inside &= (rows > margin) & (rows < 89 - margin)
    inside &= (columns > margin) & (columns < 109 - margin)
    assert np.abs(result.image[..., 0].astype(int) - rows)[inside].max(initial=0) <= 1
    assert np.abs(result.image[..., 1].astype(int) - columns)[inside].max(initial=0) <= 1


def test_a_part_is_resized_as_the_whole_would_be():
    whole = resize(SAMPLE, (120, 160))
    part = resized_part(SAMPLE, Window(10, 20, 30, 40), (60, 80))
    np.testing.assert_array_equal(part.label_map, whole.label_map[20:80, 40:120])
    difference = part.image.astype(int) - whole.image[20:80, 40:120]
    assert np.abs(difference).max() <= 1


def test_mirroring_twice_gives_the_sample_back():
    assert_same(mirrored(mirrored(SAMPLE)), SAMPLE)
    np.testing.assert_array_equal(mirrored(SAMPLE).label_map, SAMPLE.label_map[:, ::-1])
    np.testing.assert_array_equal(mirrored(SAMPLE).image, SAMPLE.image[:, ::-1])


def test_a_centre_crop_is_the_middle_or_is_padded():
    sample = coded(20, 30)
    np.testing.assert_array_equal(center_crop(sample, 10).image, sample.image[5:15, 10:20])
    padded = center_crop(sample, (24, 30))
    np.testing.assert_array_equal(padded.image[2:22], sample.image)
    assert (padded.label_map[[0, 1, -1, -2]] == 255).all()


def test_no_displacement_changes_nothing():
    assert_same(warped(SAMPLE, np.zeros((2, 60, 80), np.float32)), SAMPLE)


def test_a_whole_displacement_moves_by_whole_pixels():
    shift = np.zeros((2, 60, 80), np.float32)
    shift[0], shift[1] = 3, -2
    result = warped(SAMPLE, shift)
    np.testing.assert_array_equal(result.label_map[:57, 2:], SAMPLE.label_map[3:, :78])
    np.testing.assert_array_equal(result.image[:57, 2:], SAMPLE.image[3:, :78])
    assert (result.label_map[57:] == 255).all()
    assert (result.label_map[:, :2] == 255).all()
    assert (result.instance_map[57:] == 0).all()


def test_displacements_are_smooth_and_as_large_as_asked():
    drawn = [elastic_displacements((64, 64), 10, np.random.default_rng(i)) for i in range(60)]
    assert 7 < np.std(drawn) < 11
    assert np.abs(np.diff(drawn[0], axis=-1)).max() < 3


def test_no_strength_leaves_colours_alone():
    rng = np.random.default_rng(0)
    np.testing.assert_array_equal(recolored(SAMPLE.image, rng, 0), SAMPLE.image)


def test_changes_of_colour_stay_light():
    grey = np.repeat(np.arange(256, dtype=np.uint8)[:, None, None], 3, axis=2)
    for seed in range(20):
        result = recolored(grey, np.random.default_rng(seed), 0.2).astype(int)
        assert (np.diff(result[:, 0], axis=0) >= 0).all()
        assert 0.7 < result.mean() / grey.mean() < 1.3


def test_the_white_balance_of_grey_changes_by_up_to_half_of_the_strength():
    grey = np.full((8, 8, 3), 100, np.uint8)
    drawn = [recolored(grey, np.random.default_rng(i), 0.4)[0, 0] for i in range(200)]
    red, _, blue = np.array(drawn, float).T
    assert (red / blue > 0.8 / 1.2 - 0.02).all()
    assert (red / blue < 1.2 / 0.8 + 0.02).all()
    assert (red / blue).min() < 0.75
    assert (red / blue).max() > 1.35


@pytest.mark.parametrize(
    "wrong",
    [{"crop_size": 0}, {"crop_size": 8, "scale": (0, 1)}, {"crop_size": 8, "scale": (2, 1)}],
)
def test_settings_out_of_range_are_told(wrong):
    with pytest.raises(ShapeError, match=r"give sizes of at least 1 and two factors above 0"):
        augment(SAMPLE, np.random.default_rng(0), **wrong)

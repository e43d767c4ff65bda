import numpy as np
import pytest

from deconvnet.data.light import LIGHTS, Light, in_light


@pytest.mark.parametrize("light", LIGHTS.values(), ids=LIGHTS)
def test_each_pixel_becomes_what_the_factors_say(light):
    image = np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)
    result = in_light(image, light)
    for row, column in np.ndindex(9, 7):
        for channel, factor in enumerate((light.red, light.green, light.blue)):
            value = (int(image[row, column, channel]) * factor - 128) * light.contrast + 128
            expected = min(max(value, 0), 255)
            assert abs(int(result[row, column, channel]) - expected) <= 0.501


def test_the_light_it_was_taken_in_changes_nothing():
    image = np.random.default_rng(0).integers(0, 256, (5, 4, 3), np.uint8)
    np.testing.assert_array_equal(in_light(image, Light()), image)


def test_each_light_is_what_its_name_says():
    grey = np.full((1, 1, 3), 100, np.uint8)
    mean = {name: in_light(grey, light).mean(axis=(0, 1)) for name, light in LIGHTS.items()}
    assert mean["warmer"][0] > 100 > mean["warmer"][2]
    assert mean["colder"][0] < 100 < mean["colder"][2]
    assert mean["darker"].mean() < 100 < mean["brighter"].mean()
    ramp = np.arange(256, dtype=np.uint8)[:, None, None].repeat(3, axis=2)
    assert in_light(ramp, LIGHTS["flatter"]).std() < 0.7 * ramp.std()

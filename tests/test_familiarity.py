import numpy as np
import pytest

from deconvnet.data.scenes import Scenes
from deconvnet.errors import CheckpointError
from deconvnet.familiarity import LARGEST_LIMIT, LEAST_LIMIT, Familiarity, in_words, traits


@pytest.fixture(scope="module")
def scenes():
    return [traits(sample.image) for sample in Scenes("train", count=60, size=64)]


@pytest.fixture(scope="module")
def known(scenes):
    return Familiarity.of(scenes)


def unlike(known, image):
    return in_words(known.strangeness(traits(image)))


def test_pictures_of_the_same_kind_are_familiar(known):
    new = Scenes("val", count=60, size=64)
    assert sum(bool(unlike(known, sample.image)) for sample in new) <= 3


def test_none_of_the_pictures_the_ranges_come_from_is_unlike_them(known, scenes):
    assert not any(in_words(known.strangeness(picture)) for picture in scenes)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda image: (image * 0.1).astype(np.uint8), "darker"),
        (lambda image: 255 - (255 - image) // 10, "brighter"),
        (
            lambda image: np.random.default_rng(0).integers(0, 256, image.shape, np.uint8),
            "rougher",
        ),
    ],
)
def test_pictures_of_another_kind_are_told_and_in_what_way(known, change, word):
    pictures = Scenes("val", count=10, size=64)
    found = [unlike(known, np.ascontiguousarray(change(s.image))) for s in pictures]
    assert sum(word in words for words in found) >= 8


def test_being_less_sure_is_told_where_probabilities_are_known():
    image = Scenes("val", count=1, size=64)[0].image
    sure = np.zeros((3, 64, 64), np.float32)
    sure[0] = 1
    pictures = [
        {**traits(image, sure), "confidence": 3 + 0.01 * number} for number in range(10)
    ]
    known = Familiarity.of(pictures)
    even = np.full((3, 64, 64), 1 / 3, np.float32)
    assert in_words(known.strangeness(traits(image, even))) == "the network is less sure"
    assert "confidence" not in known.strangeness(traits(image))


def test_too_few_pictures_say_nothing(scenes):
    assert Familiarity.of(scenes[:7]) is None
    assert Familiarity.of(scenes[:8]) is not None


def test_the_limit_lies_beyond_all_pictures_within_bounds(scenes):
    alike = [{"brightness": 0.5 + 0.1 * (-1) ** number} for number in range(20)]
    assert Familiarity.of(alike).limit == LEAST_LIMIT
    one_apart = [{"brightness": float(number == 0)} for number in range(100)]
    assert Familiarity.of(one_apart).limit == LARGEST_LIMIT
    known = Familiarity.of(scenes)
    farthest = max(abs(v) for picture in scenes for v in known.strangeness(picture).values())
    assert farthest == pytest.approx(0.8) or known.limit == LEAST_LIMIT


def test_it_is_the_same_after_a_round_trip_through_json(known):
    assert Familiarity.from_json(known.to_json()) == known


@pytest.mark.parametrize(
    "broken",
    [
        {},
        {"usual": {"brightness": [1]}, "limit": 3, "pictures": 9},
        {"usual": {"brightness": [0, 1]}, "limit": "wide", "pictures": 9},
        {"usual": {"smell": [0, 1]}, "limit": 3, "pictures": 9},
        {"usual": {"brightness": [0, 1]}, "limit": 0, "pictures": 9},
        {"usual": {"brightness": [0, 0]}, "limit": 3, "pictures": 9},
    ],
)
def test_what_is_broken_is_refused_in_words(broken):
    with pytest.raises(CheckpointError, match=r"config\.json says about the training"):
        Familiarity.from_json(broken)


def test_pictures_of_one_pixel_and_of_one_colour_have_traits():
    for image in (np.zeros((1, 1, 3), np.uint8), np.full((9, 2, 3), 255, np.uint8)):
        assert all(np.isfinite(value) for value in traits(image).values())

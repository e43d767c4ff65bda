from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from deconvnet import crf
from deconvnet.crf import refine
from deconvnet.errors import RecipeError, ShapeError
from deconvnet.kernels import load_kernel
from oracles.dense_crf import drawn_case, exact_filter, exact_refine, pydensecrf_refine

PUBLISHED = {"iterations": 10, "gaussian": (3, 3), "bilateral": (20, 3, 5)}
GOLDEN = Path(__file__).parent / "golden" / "dense_crf.npz"
KINDS = pytest.mark.parametrize("normalization", ["none", "symmetric"])


def random_case(seed, num_classes=3, height=5, width=7):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    scores = rng.gamma(1, size=(num_classes, height, width))
    return image, (scores / scores.sum(axis=0)).astype(np.float32)


@pytest.fixture
def _plain(monkeypatch):
    monkeypatch.setattr(crf, "load_kernel", lambda name: None)


@pytest.fixture
def native():
    kernel = load_kernel("crf")
    if kernel is None:
        pytest.skip("no C++ compiler, so no native kernel")
    return kernel


@KINDS
@pytest.mark.usefixtures("_plain")
def test_the_plain_code_refines_a_drawn_picture_as_pydensecrf_does(normalization):
    assert_refined_as_stored(normalization)


@KINDS
@pytest.mark.usefixtures("native")
def test_the_native_kernel_refines_a_drawn_picture_as_pydensecrf_does(normalization):
    assert_refined_as_stored(normalization)


def assert_refined_as_stored(normalization):
    image, probabilities = drawn_case()
    refined = refine(image, probabilities, normalization=normalization)
    golden = np.load(GOLDEN)[normalization]
    assert np.mean(refined.argmax(axis=0) != probabilities.argmax(axis=0)) > 0.05
    assert np.mean(refined.argmax(axis=0) == golden.argmax(axis=0)) >= 0.995
    assert np.mean(np.abs(refined - golden / 255) < 0.01) >= 0.995


@KINDS
def test_the_stored_reference_is_what_pydensecrf_gives_today(normalization):
    pytest.importorskip("pydensecrf", reason="the extra 'oracles' is not installed")
    refined = pydensecrf_refine(*drawn_case(), **PUBLISHED, normalization=normalization)
    stored = np.load(GOLDEN)[normalization]
    assert np.abs(refined - stored / 255).max() < 0.01


@KINDS
def test_real_pictures_get_the_labels_of_pydensecrf(normalization, shared_data):
    pytest.importorskip("pydensecrf", reason="the extra 'oracles' is not installed")
    folder = shared_data / "voc2012"
    for label_file in sorted((folder / "SegmentationClass").glob("*.png"))[:2]:
        corner = (0, 0, 250, 200)
        photo = Image.open(folder / "JPEGImages" / f"{label_file.stem}.jpg").crop(corner)
        image = np.asarray(photo)
        labels = np.asarray(
            Image.open(label_file).crop(corner).resize((12, 9)).resize(photo.size)
        )
        _, probabilities = drawn_case(*image.shape[:2], num_classes=21)
        probabilities = probabilities + 0.4 * (labels == np.arange(21).reshape(-1, 1, 1))
        probabilities = (probabilities / probabilities.sum(axis=0)).astype(np.float32)
        ours = refine(image, probabilities, normalization=normalization).argmax(axis=0)
        theirs = pydensecrf_refine(
            image, probabilities, **PUBLISHED, normalization=normalization
        ).argmax(axis=0)
        assert np.mean(ours == theirs) >= 0.995


@KINDS
def test_labels_agree_with_the_exact_filter_for_smooth_settings(normalization):
    image, probabilities = drawn_case(24, 32)
    settings_ = {"iterations": 5, "gaussian": (2, 0.1), "bilateral": (8, 30, 0.2)}
    ours = refine(image, probabilities, **settings_, normalization=normalization)
    exact = exact_refine(image, probabilities, **settings_, normalization=normalization)
    assert np.mean(ours.argmax(axis=0) == exact.argmax(axis=0)) > 0.95


@pytest.mark.parametrize(
    ("dimensions", "gain", "error"), [(1, 0.94, 0.02), (2, 0.9, 0.03), (5, 0.6, 0.1)]
)
def test_the_lattice_filters_as_the_exact_gaussian_does(dimensions, gain, error):
    rng = np.random.default_rng(0)
    features = rng.uniform(0, 4, (1500, dimensions)).astype(np.float32)
    values = np.stack([np.ones(1500), features.sum(axis=1) > 2 * dimensions], axis=1)
    exact = exact_filter(features, values)
    ours = crf._lattice_filter(features, 1.0, "none")(values.astype(np.float32))
    assert np.mean(ours[:, 0] / exact[:, 0]) == pytest.approx(gain, rel=0.2)
    share = np.abs(ours[:, 1] / ours[:, 0] - exact[:, 1] / exact[:, 0])
    assert share.mean() < error


@given(points=st.integers(1, 30), dimensions=st.integers(1, 6), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=30)
def test_each_point_lies_within_its_simplex(points, dimensions, seed):
    features = np.random.default_rng(seed).normal(0, 5, (points, dimensions)).astype(np.float32)
    keys, barycentric, steps = crf._enclosing_simplices(features)
    assert keys.shape == barycentric.shape == (points, dimensions + 1)
    assert barycentric.min() >= -1e-5
    np.testing.assert_allclose(barycentric.sum(axis=1), 1, atol=1e-5)
    assert len(steps) == dimensions + 1
    assert sum(steps) == 0  # a step along every axis leads back


@given(seed=st.integers(0, 99), num_classes=st.integers(1, 4), side=st.integers(1, 9))
@settings(deadline=None, max_examples=20)
def test_the_result_is_a_probability_whatever_comes_in(seed, num_classes, side):
    image, probabilities = random_case(seed, num_classes, side, 4)
    refined = refine(image, probabilities, iterations=3)
    assert refined.dtype == np.float32
    assert refined.shape == probabilities.shape
    assert refined.min() >= 0
    np.testing.assert_allclose(refined.sum(axis=0), 1, atol=1e-5)


def test_the_same_input_gives_the_same_bits():
    image, probabilities = random_case(1)
    assert np.array_equal(refine(image, probabilities), refine(image, probabilities))


@pytest.mark.parametrize("num_classes", [1, 2, 7, 8, 9, 21, 33, 40])
@pytest.mark.usefixtures("native")
def test_the_native_kernel_agrees_with_the_plain_code(num_classes, monkeypatch):
    image, probabilities = random_case(num_classes, num_classes, 20, 30)
    features = crf._features(image, (3, 3), (20, 40, 5))[1][0]
    values = np.ascontiguousarray(probabilities.reshape(num_classes, -1).T)
    native_sums = crf._lattice_filter(features, 1.0, "none")(values)
    native_refined = refine(image, probabilities, iterations=5, bilateral=(20, 40, 5))
    monkeypatch.setattr(crf, "load_kernel", lambda name: None)
    plain_sums = crf._lattice_filter(features, 1.0, "none")(values)
    plain_refined = refine(image, probabilities, iterations=5, bilateral=(20, 40, 5))
    assert np.array_equal(native_sums, plain_sums)  # to the bit
    np.testing.assert_allclose(native_refined, plain_refined, atol=1e-3)
    assert np.array_equal(native_refined.argmax(axis=0), plain_refined.argmax(axis=0))


@pytest.mark.usefixtures("native")
def test_any_number_of_threads_gives_the_same_bits(monkeypatch):
    image, probabilities = random_case(4, 5, 7, 9)
    refined = []
    for threads in 1, 2, 3:
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        refined.append(refine(image, probabilities))
    assert all(np.array_equal(one, refined[0]) for one in refined)


def test_the_native_softmax_stands_extreme_numbers(native, monkeypatch):
    logits = np.float32([[-1e30, 0, 5, 80, 3e4] * 5, [-200, -100, -88, -87, 0] * 5])
    ours = crf._softmax(logits.copy())
    monkeypatch.setattr(crf, "load_kernel", lambda name: None)
    np.testing.assert_allclose(ours, crf._softmax(logits.copy()), rtol=1e-5, atol=1e-37)


def test_the_order_of_the_classes_does_not_matter():
    image, probabilities = random_case(2)
    backwards = refine(image, probabilities[::-1])[::-1]
    np.testing.assert_allclose(refine(image, probabilities), backwards, atol=1e-5)


def test_no_iterations_give_the_probabilities_back():
    image, probabilities = random_case(3)
    refined = refine(image, probabilities, iterations=0)
    np.testing.assert_allclose(refined, probabilities, atol=1e-6)


def test_kernels_of_weight_0_change_nothing():
    image, probabilities = random_case(4)
    refined = refine(image, probabilities, gaussian=(3, 0), bilateral=(20, 3, 0))
    np.testing.assert_allclose(refined, probabilities, atol=1e-6)


def test_one_stray_pixel_follows_its_even_surroundings():
    image = np.full((9, 9, 3), 120, np.uint8)
    probabilities = np.full((2, 9, 9), 0.3, np.float32)
    probabilities[0] = 0.7
    probabilities[:, 4, 4] = 0.2, 0.8
    assert (refine(image, probabilities).argmax(axis=0) == 0).all()


def test_a_pixel_across_an_edge_does_not_follow():
    image = np.zeros((9, 18, 3), np.uint8)
    image[:, 9:] = 255
    probabilities = np.full((2, 9, 18), 0.4, np.float32)
    probabilities[0, :, :10] = 0.6  # one column too far
    probabilities[1] = 1 - probabilities[0]
    refined = refine(image, probabilities, gaussian=(1, 0.1), bilateral=(20, 3, 5))
    assert (refined.argmax(axis=0) == (np.arange(18) >= 9)).all()


def test_certain_pixels_and_zeros_stay_finite():
    image, _ = random_case(5, height=6, width=6)
    probabilities = np.zeros((3, 6, 6), np.float32)
    probabilities[1] = 1
    refined = refine(image, probabilities)
    assert np.isfinite(refined).all()
    assert (refined.argmax(axis=0) == 1).all()


def test_the_callers_arrays_are_left_as_they_are():
    image, probabilities = random_case(6)
    before = image.copy(), probabilities.copy()
    refine(image, probabilities)
    assert np.array_equal(image, before[0])
    assert np.array_equal(probabilities, before[1])


@pytest.mark.parametrize(
    ("image_shape", "shape", "dtype", "message"),
    [
        ((4, 5), (2, 4, 5), np.float32, "RGB of shape"),
        ((4, 5, 3), (4, 5), np.float32, r"floats of shape \(classes, height, width\)"),
        ((4, 5, 3), (2, 4, 5), np.uint8, r"floats of shape \(classes, height, width\)"),
        ((4, 5, 3), (2, 5, 4), np.float32, "for an image of 4 x 5 pixels"),
        ((4, 5, 3), (0, 4, 5), np.float32, "at least one pixel and one class"),
    ],
)
def test_arrays_that_do_not_fit_are_refused_in_words(image_shape, shape, dtype, message):
    with pytest.raises(ShapeError, match=message):
        refine(np.zeros(image_shape, np.uint8), np.ones(shape, dtype))


@pytest.mark.parametrize("value", [np.nan, np.inf, -0.1])
def test_logits_and_broken_numbers_are_refused_in_words(value):
    image, probabilities = random_case(7)
    probabilities[0, 0, 0] = value
    with pytest.raises(ShapeError, match="negative or not finite"):
        refine(image, probabilities)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"iterations": -1}, "-1 iterations; it takes 0 or more"),
        ({"gaussian": (0, 3)}, "sigmas must be 0.001 or above"),
        ({"bilateral": (20, 3, -5)}, "weights 0 .* or above"),
        ({"bilateral": (20, float("nan"), 5)}, "sigmas must be 0.001 or above"),
        ({"bilateral": (1e-3, 1e-3, 5)}, "use larger sigmas"),
        ({"normalization": "after"}, "no normalization 'after'; use 'none' or 'symmetric'"),
    ],
)
def test_settings_out_of_range_are_refused_in_words(setting, message, request):
    image, probabilities = random_case(8)
    with pytest.raises(RecipeError, match=message):
        refine(image, probabilities, **setting)

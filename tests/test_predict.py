import numpy as np
import PIL.Image
import pytest
import torch
from torch import nn

from deconvnet import predict
from deconvnet.checkpoint import Config, build_network, load_checkpoint, save_checkpoint
from deconvnet.data.scenes import SCENES, Scenes
from deconvnet.errors import RecipeError, ShapeError
from deconvnet.familiarity import Familiarity, traits
from deconvnet.labels import Classes
from deconvnet.predict import Predictor, as_image, load
from deconvnet.predict_files import check_options
from deconvnet.uncertainty import entropy


class Colours(nn.Module):
    """Says of each pixel which channel is largest; sees nothing but the pixel."""

    def forward(self, images):
        return images * 4.0


RGB = Classes.named(["red", "green", "blue"])


def by_colour(**options):
    return Predictor(
        Colours(), Config("unet", RGB, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), **options)
    )


def by_network(dropout=0.0, model="unet"):
    torch.manual_seed(3)
    options = {"width": 1 / 32, "dropout": dropout}
    if model == "unet":
        options["batch_norm"] = True
    config = Config(model, SCENES, options)
    return Predictor(build_network(config).eval(), config)


@pytest.fixture(scope="module")
def picture():
    return Scenes("val", count=1, size=(70, 90))[0].image


@pytest.mark.parametrize("tile", [16, 33, 64, 200])
@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_tiles_of_a_network_that_sees_one_pixel_give_what_the_whole_gives(picture, tile, scale):
    segment = by_colour(input_scale=scale)
    whole, tiled = segment(picture), segment(picture, tile=tile)
    assert tiled.probabilities is None
    if scale == 1:
        np.testing.assert_array_equal(tiled.label_map, whole.label_map)
    else:  # shrunk tiles begin at other pixels than the shrunk picture
        assert (tiled.label_map == whole.label_map).mean() > 0.93


@pytest.mark.parametrize("tile", [1, 2, 15])
def test_tiles_too_small_to_overlap_are_refused(picture, tile):
    with pytest.raises(RecipeError, match=f"A tile of {tile} pixels a side was asked for"):
        by_colour()(picture, tile=tile)


@pytest.mark.parametrize("tile", [16, 17, 31])
def test_the_smallest_tiles_cover_a_picture_taken_at_any_scale(picture, tile):
    for scale in (0.3, 2.0, 4.0):
        assert by_colour(input_scale=scale)(picture, tile=tile).label_map.shape == (70, 90)


@pytest.mark.parametrize(
    ("first", "second"), [("tile", "crf"), ("tile", "proposals"), ("tta", "proposals")]
)
def test_what_would_be_ignored_is_refused_before_the_first_picture(picture, first, second):
    values = {"tile": 64, "tta": True, "crf": True, "proposals": 3}
    asked = {name: values[name] for name in (first, second)}
    for attempt in (lambda s: s(picture, **asked), lambda s: check_options(s, asked)):
        with pytest.raises(RecipeError, match=r"leave out one of them|give one of the two"):
            attempt(by_colour())


def test_an_ensemble_whose_classes_stand_in_another_order_is_refused(picture):
    config = Config("unet", Classes.named(["blue", "green", "red"]))
    other = Predictor(Colours(), config)
    for attempt in (
        lambda s: s(picture, ensemble=other),
        lambda s: check_options(s, {"ensemble": other}),
    ):
        with pytest.raises(RecipeError, match=r"Class 0 is red for one .* and blue for the"):
            attempt(by_colour())


@pytest.mark.parametrize("uncertainty", ["entropy", "flips", "dropout"])
def test_a_single_tile_is_the_whole_picture(picture, uncertainty):
    segment = by_network(dropout=0.5)
    asked = {"uncertainty": uncertainty, "samples": 3}
    whole, tiled = segment(picture, **asked), segment(picture, tile=500, **asked)
    np.testing.assert_array_equal(tiled.label_map, whole.label_map)
    np.testing.assert_allclose(tiled.doubt_map, whole.doubt_map, atol=1e-5)


def test_large_pictures_and_many_classes_are_tiled_without_being_told(picture, monkeypatch):
    segment = by_colour()
    assert segment(picture).probabilities is not None
    monkeypatch.setattr(predict, "WHOLE_BYTES", 4 * 3 * 70 * 90 - 1)
    monkeypatch.setattr(predict, "DEFAULT_TILE", 32)
    assert segment(picture).probabilities is None


def test_enlarging_class_by_class_is_enlarging_and_choosing():
    scores = torch.randn(5, 9, 11)
    grown = torch.nn.functional.interpolate(scores[None], (31, 26), mode="bilinear")[0]
    np.testing.assert_array_equal(
        predict._best_class(scores, (31, 26)), grown.argmax(0).numpy().astype(np.uint8)
    )


def test_entropy_is_that_of_the_probabilities(picture):
    segmentation = by_network()(picture, uncertainty="entropy")
    np.testing.assert_array_equal(segmentation.doubt_map, entropy(segmentation.probabilities))
    assert segmentation.doubt == pytest.approx(float(segmentation.doubt_map.mean()), rel=1e-5)


def test_doubt_by_dropout_is_the_deviation_of_bayesian_segnet(picture):
    segment = by_network(dropout=0.5, model="segnet")
    found = segment(picture, uncertainty="dropout", samples=6, seed=5)
    with torch.random.fork_rng(), predict.sample_dropout(segment.network):
        torch.manual_seed(5)
        samples = [segment.logits(picture).softmax(0).numpy() for _ in range(6)]
    variance = np.var(np.array(samples, np.float64), axis=0)
    np.testing.assert_allclose(found.doubt_map, np.sqrt(variance.sum(0)), atol=1e-5)
    np.testing.assert_allclose(found.probabilities, np.mean(samples, axis=0), atol=1e-6)
    assert found.doubt_map.max() > 0.01


def test_doubt_by_dropout_repeats_and_leaves_no_trace(picture):
    segment = by_network(dropout=0.5)
    before = torch.random.get_rng_state()
    first = segment(picture, uncertainty="dropout", samples=2)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not any(module.training for module in segment.network.modules())
    second = segment(picture, uncertainty="dropout", samples=2)
    np.testing.assert_array_equal(first.doubt_map, second.doubt_map)
    other = segment(picture, uncertainty="dropout", samples=2, seed=1)
    assert (first.doubt_map != other.doubt_map).any()


def test_a_network_that_is_symmetric_has_no_doubt_by_flips(picture):
    found = by_colour()(picture, uncertainty="flips")
    assert found.doubt_map.max() < 1e-3
    assert by_network()(picture, uncertainty="flips").doubt > 0


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"uncertainty": "dropout"}, "needs a network with dropout"),
        ({"uncertainty": "dropout", "samples": 1}, "with 1 samples; give 2 or more"),
        ({"uncertainty": "flips", "crf": True}, "on pictures as a whole"),
    ],
)
def test_doubt_that_cannot_be_had_is_refused_in_words(picture, options, sentence):
    with pytest.raises(RecipeError, match=sentence):
        by_network()(picture, **options)


def test_an_overlay_painted_in_bands_is_that_painted_at_once(picture, monkeypatch):
    segmentation = by_network()(picture)
    whole = np.array(segmentation.overlay())
    for band in (1, 7, 69, 70):
        monkeypatch.setattr(predict, "_BAND", band)
        np.testing.assert_array_equal(np.array(segmentation.overlay()), whole)


def test_predict_says_when_a_picture_is_unlike_the_training_data(picture, tmp_path):
    known = Familiarity.of([traits(s.image) for s in Scenes("train", count=30, size=64)])
    segment = by_network()
    folder = save_checkpoint(
        tmp_path,
        segment.network,
        Config("unet", SCENES, dict(segment.config.options), familiarity=known),
    )
    loaded = load_checkpoint(folder)
    assert loaded.config.familiarity == known
    segment = Predictor(loaded.network, loaded.config)
    assert segment(picture).unlike == ""
    assert "darker" in segment(picture // 20).unlike
    assert "darker" in segment(picture // 20, tile=48).unlike
    assert by_network()(picture // 20).strangeness is None


def test_a_pil_image_is_read_as_its_file_is(tmp_path):
    rng, segment = np.random.default_rng(0), by_colour()
    pixels = rng.integers(0, 256, (20, 30, 3), np.uint8)
    turned = PIL.Image.Exif()
    turned[0x0112] = 6
    PIL.Image.fromarray(pixels).save(tmp_path / "turned.png", exif=turned)
    wide = PIL.Image.fromarray(rng.integers(0, 65536, (20, 30), np.uint16))
    wide.save(tmp_path / "wide.png")
    alpha = rng.integers(0, 256, (20, 30, 4), np.uint8)
    PIL.Image.fromarray(alpha).save(tmp_path / "alpha.png")
    for name in ("turned", "wide", "alpha"):
        place = tmp_path / f"{name}.png"
        with PIL.Image.open(place) as opened:
            from_image = segment(opened)
        np.testing.assert_array_equal(from_image.image, segment(place).image)


@pytest.mark.usefixtures("_unchecked_shapes")
@pytest.mark.parametrize("wrong", [None, [[1]], b"x"])
def test_what_is_no_picture_is_refused_in_words(wrong):
    with pytest.raises(ShapeError, match="give a path, a PIL image, or an array"):
        as_image(wrong)


@pytest.mark.usefixtures("_unchecked_shapes")
@pytest.mark.parametrize(
    "asked",
    [
        {"combine": "foo", "ensemble": by_colour()},
        {"uncertainty": "foo"},
        {"crf": {"iterations": 1}},
        {"crf": "yes"},
        {"protocol": "foo"},
        {"proposals": -1},
    ],
    ids=lambda asked: next(iter(asked)),
)
def test_a_misspelt_option_is_refused_and_not_taken_for_another(picture, asked):
    with pytest.raises(RecipeError):
        by_colour()(picture, **asked)


@pytest.mark.usefixtures("_unchecked_shapes")
@pytest.mark.parametrize(
    "asked",
    [{"precision": "foo"}, {"engine": "plain", "precision": "int8"}, {"calibration": "x"}],
)
def test_a_precision_that_cannot_be_had_is_refused_before_loading(asked):
    with pytest.raises(RecipeError):
        load("unet-camvid", **asked)

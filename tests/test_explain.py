from dataclasses import replace

import numpy as np
import pytest

from deconvnet import cli
from deconvnet.checkpoint import save_checkpoint
from deconvnet.data.image_files import write_png
from deconvnet.errors import LabelError
from deconvnet.explain import explain, seen_places
from deconvnet.inside import look_inside
from small_networks import picture, predictor

FIGURE_4 = (
    "deconv5_3 unpool4 deconv4_3 unpool3 deconv3_3 unpool2 deconv2_2 unpool1 deconv1_2".split()
)


def test_deconvnets_panels_are_those_of_the_papers_figure_4():
    found = explain(look_inside(predictor("deconvnet"), picture()), class_name="red")
    assert [panel.layer for panel in found.panels] == FIGURE_4
    assert "".join(panel.letter for panel in found.panels) == "bcdefghij"
    for below, above in zip(found.panels[0:-1:2], found.panels[1:-1:2], strict=True):
        assert below.channel == above.channel
        size, unpooled = (
            found.inside[panel.layer].values[panel.channel].size for panel in (below, above)
        )
        assert below.nonzero * size == pytest.approx(above.nonzero * unpooled)


@pytest.mark.parametrize(
    ("model", "layers"),
    [
        ("segnet", "conv5_1_D unpool4 conv4_1_D unpool3 conv3_1_D unpool2 conv2_1_D unpool1"),
        ("segnet-basic", "conv_decode4 unpool3 conv_decode3 unpool2 conv_decode2 unpool1"),
        ("fcn16s", "fc6 fc7 score_fr upscore2 score_pool4 upscore16"),
        ("unet-valid", "conv5_2 conv4_2 up4_2 conv3_2 up3_2 conv2_2 up2_2 conv1_2"),
    ],
)
def test_the_others_show_their_own_layers(model, layers):
    found = explain(look_inside(predictor(model), picture()), by="energy")
    assert [panel.layer for panel in found.panels][:-1] == layers.split()
    assert found.figure().axes


def test_the_table_has_every_layer_from_sparse_to_dense():
    inside = look_inside(predictor("deconvnet"), picture())
    found = explain(inside, class_name="green", by="correlation")
    lines = str(found).splitlines()
    assert lines[0] == "class: green"
    assert [line.split()[0] for line in lines[2:5]] == ["(b)", "(c)", "deconv4_1"]
    shares = {density.layer: density.nonzero for density in found.densities}
    assert shares["unpool1"] == pytest.approx(np.mean(inside["unpool1"].values != 0))
    unpooled, after = (
        [shares[layer] for layer in layers]
        for layers in (
            [f"unpool{n}" for n in (1, 2, 3, 4)],
            [f"deconv{n}_1" for n in (1, 2, 3, 4)],
        )
    )
    assert max(unpooled) <= 0.27  # a quarter, and what odd edges add
    assert np.mean(after) > np.mean(unpooled)


def test_score_maps_show_the_channel_of_the_class():
    found = explain(look_inside(predictor("fcn8s"), picture()), class_name="green")
    channels = {panel.layer: panel.channel for panel in found.panels}
    assert {channels[name] for name in ("score_fr", "score_pool3", "upscore8", "scores")} == {2}
    assert "the class" in str(found)


def test_only_what_lies_over_the_picture_sets_the_colours():
    inside = look_inside(predictor("fcn8s"), picture(64, 48))
    rows, columns = seen_places(inside["pool3"], (64, 48))
    assert (rows, columns) == (slice(12, 21), slice(12, 19))  # padded by 100 pixels
    rows, columns = seen_places(
        look_inside(predictor("deconvnet"), picture())["pool5"], (64, 48)
    )
    assert (rows, columns) == (slice(0, 2), slice(0, 2))


def test_an_unknown_class_is_refused():
    inside = look_inside(predictor(), picture())
    with pytest.raises(LabelError, match=r"no class 'gren'.*Did you mean 'green'"):
        explain(inside, class_name="gren")


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """A folder with a checkpoint and a picture of 48 x 64."""
    folder = tmp_path_factory.mktemp("explain")
    given = predictor("segnet")
    save_checkpoint(folder / "net", given.network, given.config)
    write_png(folder / "street.png", picture())
    return folder


def run(here, *words):
    return cli.main(["explain", str(here / "net"), str(here / "street.png"), *words])


@pytest.mark.parametrize("size", [(1, 40), (40, 1)])
def test_pictures_one_pixel_wide_or_high_are_drawn(here, capsys, size):
    thin, out = here / "thin.png", here / "thin-drawing.png"
    write_png(thin, np.full((*size, 3), 90, np.uint8))
    assert cli.main(["explain", str(here / "net"), str(thin), "--out", str(out)]) == 0
    assert out.read_bytes().startswith(b"\x89PNG")


def test_a_pixel_at_the_networks_scale_is_told_with_that_scale(here, capsys):
    given = predictor("segnet")
    half = replace(given.config, input_scale=0.5)
    save_checkpoint(here / "half", given.network, half)
    words = ["explain", str(here / "half"), str(here / "street.png"), "--trace", "20,40"]
    assert cli.main([*words, "--out", str(here / "half.png")]) == 0
    assert "pixel 10,20 of the 24 x 32 that the network sees, pred" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "suffix", "told"),
    [
        ([], "png", "(j)  conv1_2_D"),
        (["--class", "red", "--channel", "correlation"], "svg", "class: red"),
        (["--trace", "10,20"], "pdf", "pixel 10,20, predicted as"),
        (
            ["--trace", "10,20", "--forward", "--box", "0,0,32,32"],
            "png",
            "where its value can go",
        ),
        (["--project", "conv2_1:3"], "png", "channel    3"),
        pytest.param(["--project", "conv3_1"], "png", "conv3_1, class", marks=pytest.mark.slow),
    ],
)
def test_the_command_draws_and_tells(here, capsys, words, suffix, told):
    out = here / f"drawing.{suffix}"
    out.unlink(missing_ok=True)
    assert run(here, "--out", str(out), *words) == 0
    printed = capsys.readouterr().out
    assert told in printed
    assert printed.endswith(f"The drawing is {out}.\n")
    start = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}[suffix]
    assert out.read_bytes().startswith(start)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--out", "a.gif"], "must end in .png, .svg or .pdf"),
        (["--out", "a.png", "--class", "gren"], "Did you mean 'green'?"),
        (["--out", "a.png", "--trace", "48,0"], "outside the picture, which is 48 x 64"),
        (["--out", "a.png", "--project", "conv2_9"], "no layer 'conv2_9'"),
        (["--out", "a.png", "--project", "conv2_1:99"], "channels 0 to 3, and 99"),
        (["--out", "a.png", "--box", "0,0,99,9"], "is no part of a picture of 48 x 64"),
    ],
)
def test_mistakes_end_with_2_and_a_sentence(here, capsys, monkeypatch, words, told):
    monkeypatch.chdir(here)
    assert run(here, *words) == 2
    assert told in capsys.readouterr().err
    assert not (here / "a.png").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--trace", "48"], "--trace takes 2 numbers, such as 120,80"),
        (["--forward"], "--forward needs --trace"),
        (["--project", "conv2_1:x"], "no number behind the colon"),
        (["--project", "conv2_1", "--trace", "1,2"], "not allowed with argument"),
    ],
)
def test_words_that_make_no_sense_are_refused_before_anything_is_loaded(
    here, capsys, words, told
):
    with pytest.raises(SystemExit) as stopped:
        run(here, "--out", str(here / "a.png"), *words)
    assert stopped.value.code == 2
    assert told in capsys.readouterr().err

import dataclasses
import functools

import numpy as np
import pytest
import torch
from matplotlib.image import AxesImage
from torch import nn
from torch.nn import functional as F

from deconvnet import figures
from deconvnet.checkpoint import Config
from deconvnet.cli import main
from deconvnet.data.sample import Sample
from deconvnet.describe import describe
from deconvnet.errors import (
    CheckpointError,
    DataError,
    LabelError,
    OutputError,
    RecipeError,
    ShapeError,
)
from deconvnet.figures import (
    asked,
    comparison_sheet,
    failure_pictures,
    growing_proposals,
    network_drawing,
    number_planes,
    probability_maps,
    style,
)
from deconvnet.instances import choose_windows, instance_scores
from deconvnet.labels import Classes
from deconvnet.models import MODELS, build_model
from deconvnet.predict import Predictor

PETS = Classes.named(["background", "cat"], [(0, 0, 0), (200, 10, 20)], 0)


class Red(nn.Module):
    """Calls a pixel a cat as far as it is redder than a threshold; sees 3 pixels a side."""

    def __init__(self, threshold):
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 3, padding=1)
        with torch.no_grad():
            self.conv.weight.zero_()
            self.conv.weight[1, 0, 1, 1] = 20.0
            self.conv.bias.copy_(torch.tensor([0.0, -20.0 * threshold]))

    def forward(self, images):
        return self.conv(images)


def red_predictor(threshold):
    config = Config("red", PETS, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0),
                    recipe={"crop_size": 16})  # fmt: skip
    return Predictor(Red(threshold).eval(), config)


@dataclasses.dataclass(frozen=True)
class Pictures:
    """Pictures with cats, each made of a label map and how red its pixels are."""

    made: tuple
    classes: Classes = PETS
    split: str = "val"

    @property
    def names(self):
        return [f"pets/{index}" for index in range(len(self))]

    def __len__(self):
        return len(self.made)

    def __getitem__(self, index):
        label_map, red = self.made[index]
        image = np.zeros((*label_map.shape, 3), np.uint8)
        image[..., 0] = np.rint(255 * red)
        return Sample(image, label_map, None, self.names[index])


def striped_cat(redness=0.9):
    """A large cat whose middle row is dark, and a small dark cat."""
    label_map = np.zeros((48, 48), np.uint8)
    label_map[4:40, 4:30] = 1
    red = redness * label_map
    red[20:22] = 0.0
    label_map[41:47, 40:47] = 1  # 42 pixels: 1.8 percent of 48 x 48
    return label_map, red


def words_of(figure):
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def artists(figure, gid):
    return figure.findobj(lambda artist: (artist.get_gid() or "").startswith(gid))


# Unpooling and deconvolution


def test_every_kind_of_unpooling_shows_the_numbers_of_the_golden_example():
    plane = np.array(number_planes.GOLDEN)
    expected = {
        "switches": [[0, 0, 5, 0], [4, 0, 0, 0], [7, 0, 0, 0], [0, 0, 9, 0]],
        "nails": [[4, 0, 5, 0], [0, 0, 0, 0], [7, 0, 9, 0], [0, 0, 0, 0]],
        "nearest": [[4, 4, 5, 5], [4, 4, 5, 5], [7, 7, 9, 9], [7, 7, 9, 9]],
        "bilinear": [
            [4, 4.25, 4.75, 5],
            [4.75, 5.0625, 5.6875, 6],
            [6.25, 6.6875, 7.5625, 8],
            [7, 7.5, 8.5, 9],
        ],
    }
    for kind, values in expected.items():
        np.testing.assert_allclose(number_planes.unpooled(plane, kind), values)
    assert number_planes.unpooled(plane, "average").sum() == 4 + 5 + 7 + 9


def test_switch_arrows_end_at_the_places_of_the_maxima():
    figure = figures.unpooling()
    arrows = {artist.get_gid(): artist for artist in artists(figure, "switch:")}
    assert sorted(arrows) == ["switch:14", "switch:2", "switch:4", "switch:8"]
    ends = {gid: arrow._posA_posB[1] for gid, arrow in arrows.items()}
    cell = ends["switch:4"][1] - ends["switch:2"][1]  # one row further down
    assert cell > 0
    assert ends["switch:14"][1] - ends["switch:2"][1] == pytest.approx(3 * cell)
    assert ends["switch:2"][0] - ends["switch:4"][0] == pytest.approx(2 * cell)
    assert ends["switch:8"][0] == pytest.approx(ends["switch:4"][0])


def test_unpooling_draws_the_real_numbers_of_a_network():
    torch.manual_seed(3)
    network = build_model("segnet-basic", 2, width=1 / 16).eval()
    predictor = Predictor(network, Config("segnet-basic", PETS))
    image = np.random.default_rng(0).integers(0, 256, (48, 48, 3)).astype(np.uint8)
    plane = number_planes.plane_of(predictor, image)
    assert plane.shape == (4, 4)
    pooled = F.max_pool2d(torch.from_numpy(plane)[None, None], 2)[0, 0]
    assert pooled.sum() > 0
    shown = words_of(figures.unpooling(plane))
    assert all(number_planes.short(float(value)) in shown for value in pooled.flatten())


@pytest.mark.parametrize("shape", [(1, 4), (9, 9), (4,)])
def test_a_plane_that_cannot_be_drawn_is_refused_in_words(shape):
    with pytest.raises(ShapeError, match="the figure takes 2 x 2 to 8 x 8 numbers"):
        figures.unpooling(np.zeros(shape))


def test_deconvolution_shows_what_torch_computes_both_ways():
    kernel = np.array([[2.0, 0.0, 5.0], [0.0, 7.0, 0.0], [11.0, 0.0, 13.0]])
    weight = torch.from_numpy(kernel)[None, None]
    shown = words_of(figures.deconvolution(kernel, size=(4, 4)))
    plane = torch.arange(1.0, 17.0, dtype=torch.float64).view(1, 1, 4, 4)
    small = torch.arange(1.0, 5.0, dtype=torch.float64).view(1, 1, 2, 2)
    for values in (F.conv2d(plane, weight), F.conv_transpose2d(small, weight)):
        for value in values.flatten().tolist():
            assert shown.count(number_planes.short(value)) >= 2  # as a plane and as a vector
    assert shown.count("20 of 64 are not zero") == 2


# Architecture


@functools.cache
def diagram_of(name):
    """A slim network, the size of a picture, and the diagram of both."""
    network = build_model(name, 5, width=1 / 32)
    size = (100, 80) if name != "unet-valid" else (64, 64)
    return network, size, network_drawing.diagram(network, size)


@pytest.mark.parametrize("name", MODELS)
def test_blocks_are_the_layers_that_describe_counts(name):
    network, size, drawn = diagram_of(name)
    rows = [row for row in describe(network, size).layers if row.kind in network_drawing.COLORS]
    aside = {link.through for link in drawn.links} - {""}
    assert list(drawn.blocks) == [row for row in rows if row.name not in aside]
    assert drawn.parameters == sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(
    ("name", "count"),
    [("deconvnet", 5), ("segnet", 5), ("segnet-bayesian", 5), ("segnet-basic", 4)],
)
def test_switches_join_each_pooling_to_the_unpooling_of_its_size(name, count):
    _, _, drawn = diagram_of(name)
    assert len(drawn.links) == count
    for link in drawn.links:
        pooling, unpooling = drawn.blocks[link.start], drawn.blocks[link.end]
        assert link.kind == "switches"
        assert (pooling.kind, unpooling.kind) == ("max_pooling", "unpooling")
        assert drawn.blocks[link.end - 1].out_size == pooling.out_size
        assert drawn.blocks[link.start - 1].out_size == unpooling.out_size
        assert pooling.name[-1] == unpooling.name[-1]


def test_an_unpooling_without_switches_gets_no_arrow():
    network = build_model("segnet-basic", 3, width=1 / 32, unpooling="transposed")
    drawn = network_drawing.diagram(network, 64)
    assert drawn.links == ()
    assert [block.kind for block in drawn.blocks].count("unpooling") == 4


def test_skips_of_fcn_are_scored_and_added_and_those_of_unet_set_beside():
    fcn = network_drawing.diagram(build_model("fcn8s", 3, width=1 / 32), 64)
    named = [
        (fcn.blocks[link.start].name, link.through, fcn.blocks[link.end].name, link.kind)
        for link in fcn.links
    ]
    assert named == [
        ("pool4", "score_pool4", "upscore4", "sum"),
        ("pool3", "score_pool3", "upscore8", "sum"),
    ]
    unet = network_drawing.diagram(build_model("unet", 3, width=1 / 32), 64)
    ends = {(unet.blocks[link.start].name, unet.blocks[link.end].name) for link in unet.links}
    assert ends == {(f"conv{n}_2", f"up{n}_1") for n in (1, 2, 3, 4)}
    assert {link.kind for link in unet.links} == {"concatenation"}


def test_drawn_blocks_are_as_high_as_the_root_of_their_maps_and_arrows_reach_them():
    network = build_model("deconvnet", 3, width=1 / 16)
    drawn = network_drawing.diagram(network, 224)
    figure = figures.architecture(network, "DeconvNet", 224)
    boxes = {
        artist.get_gid().removeprefix("block:"): artist for artist in artists(figure, "block:")
    }
    assert set(boxes) == {block.name for block in drawn.blocks}
    for block in drawn.blocks:
        ratio = boxes[block.name].get_height() / boxes["conv1_1"].get_height()
        assert ratio == pytest.approx(np.sqrt(block.out_size[0] / 224))
    wide = boxes["conv5_1"].get_width() / boxes["conv4_1"].get_width()
    assert wide == pytest.approx(1)  # 512 channels each
    arrows = {artist.get_gid(): artist for artist in artists(figure, "link:")}
    assert set(arrows) == {f"link:pool{n}:unpool{n}" for n in (1, 2, 3, 4, 5)}
    for number in (1, 2, 3, 4, 5):
        x, y = arrows[f"link:pool{number}:unpool{number}"]._posA_posB[1]
        box = boxes[f"unpool{number}"]
        assert box.get_x() <= x <= box.get_x() + box.get_width()
        assert y == pytest.approx(box.get_y(), abs=0.05)
    left = [boxes[block.name].get_x() for block in drawn.blocks]
    assert left == sorted(left)


# Probability maps


def test_the_default_class_is_the_largest_predicted_background_apart():
    sure = np.zeros((3, 4, 4), np.float32)
    sure[0], sure[2, :1] = 0.5, 0.9
    assert probability_maps.largest_class([sure], background=0) == 2
    assert probability_maps.largest_class([sure], background=None) == 0
    sure[2] = 0.0
    assert probability_maps.largest_class([sure], background=0) == 0  # there is nothing else


def test_probability_maps_are_those_of_the_networks_on_one_scale():
    sample = Pictures((striped_cat(),))[0]
    networks = {"low": red_predictor(0.2), "high": red_predictor(0.8)}
    figure = figures.probabilities(networks, sample.image, truth=sample.label_map)
    shown = [
        image for image in figure.findobj(AxesImage) if image.get_array().shape == (48, 48)
    ]
    assert len(shown) == 2
    for image, network in zip(shown, networks.values(), strict=True):
        np.testing.assert_array_equal(image.get_array(), network.probabilities(sample.image)[1])
        assert image.get_clim() == (0, 1)
    assert "How sure is each network of “cat”?" in words_of(figure)


def test_an_unknown_class_is_named_with_the_nearest_known_one():
    with pytest.raises(LabelError, match=r"no class 'cats'; .* Did you mean 'cat'\?"):
        probability_maps.class_index(PETS, "cats")


# Doubt


def maps_of_doubt(figure):
    """The numbers behind the maps of a figure of doubt, as they are drawn."""
    drawn = [
        image for image in figure.findobj(AxesImage) if image.get_cmap().name == style.HEAT
    ]
    return [np.asarray(image.get_array()) for image in drawn]


def test_the_figure_of_doubt_shows_each_way_that_the_network_has():
    sample = Pictures((striped_cat(),))[0]
    sure = red_predictor(0.5)
    figure = figures.doubt(sure, sample.image)
    expected = [sure(sample.image, uncertainty=way).doubt_map for way in ("entropy", "flips")]
    np.testing.assert_array_equal(maps_of_doubt(figure), expected)
    noisy = dataclasses.replace(
        sure, network=nn.Sequential(nn.Dropout(0.3), sure.network).eval()
    )
    figure = figures.doubt(noisy, sample.image)
    assert len(maps_of_doubt(figure)) == 3
    assert "dropout: its samples apart" in words_of(figure)
    assert not noisy.network.training


def test_the_figure_of_doubt_tells_right_pixels_from_wrong_ones_and_leaves_void_out():
    label_map, red = striped_cat(0.55)
    label_map[:, 40:] = 255
    sample = Pictures(((label_map, red),))[0]
    predictor = red_predictor(0.5)
    figure = figures.doubt(predictor, sample.image, truth=label_map)
    answer = predictor(sample.image, uncertainty="entropy")
    wrong = (answer.label_map != label_map) & (label_map != 255)
    right = (answer.label_map == label_map) & (label_map != 255)
    assert wrong.sum() == 2 * 26  # the dark stripe of the cat
    means = answer.doubt_map[right].mean(), answer.doubt_map[wrong].mean()
    words = words_of(figure)
    assert "doubt {:.3f} where right, {:.3f} where wrong".format(*means) in words
    share = wrong.sum() / (label_map != 255).sum()
    assert f"{100 * share:.1f} % of the labelled pixels" in words


# Proposals


def test_counts_of_proposals_grow_from_one_to_all():
    for total in (1, 2, 5, 17, 51):
        counts = growing_proposals.growing_counts(total)
        assert counts[0] == 1
        assert counts[-1] == total
        assert counts == sorted(set(counts))


def test_the_last_stage_is_the_prediction_and_windows_come_largest_first():
    sample = Pictures((striped_cat(),))[0]
    predictor = red_predictor(0.5)
    windows = choose_windows(sample.image, 6)
    counts = growing_proposals.growing_counts(len(windows))
    stages = list(growing_proposals.stages(predictor, sample.image, windows, counts))
    assert [len(stage.windows) for stage in stages] == counts
    assert sum(stage.new for stage in stages) == len(windows)
    expected = instance_scores(predictor, sample.image, 6).argmax(0)
    np.testing.assert_array_equal(stages[-1].label_map, expected)
    sides = stages[-1].windows[:, 2] - stages[-1].windows[:, 0]
    assert (np.diff(sides) <= 0).all()
    figure = figures.proposals(predictor, sample.image, count=6, truth=sample.label_map)
    assert len(artists(figure, "window")) == sum(counts)


# Comparison


def shaded_cats():
    """Pictures whose cats are redder and redder, on ground that is redder and redder."""
    label_map = np.zeros((24, 24), np.uint8)
    label_map[6:18, 6:18] = 1
    return Pictures(
        tuple(
            (label_map, np.where(label_map == 1, cat, ground))
            for cat, ground in ((0.5, 0.0), (0.9, 0.35), (0.9, 0.0), (0.2, 0.0))
        )
    )


def test_pictures_are_sorted_from_the_largest_win_to_the_largest_loss():
    networks = {"first": red_predictor(0.7), "second": red_predictor(0.3)}
    ranked = comparison_sheet.matches(networks, shaded_cats())
    margins = [match.margin for match in ranked]
    assert margins == sorted(margins, reverse=True)
    assert margins[0] > 0 > margins[-1]
    assert ranked[0].picture == 0  # a pale cat, which the second finds alone
    assert ranked[-1].picture == 1  # a pale ground, which it takes for cat
    for match in ranked:
        sample = shaded_cats()[match.picture]
        found = networks["second"](sample.image).label_map
        ious = [
            ((found == k) & (sample.label_map == k)).sum()
            / ((found == k) | (sample.label_map == k)).sum()
            for k in (0, 1)
        ]
        assert match.second == pytest.approx(np.mean(ious))


def test_the_comparison_prints_every_score_and_says_who_won():
    networks = {"FCN": red_predictor(0.7), "DeconvNet": red_predictor(0.3)}
    figure = figures.comparison(networks, shaded_cats(), pictures=2)
    shown = words_of(figure)
    assert "DeconvNet\nwins most" in shown
    assert "DeconvNet\nloses most" in shown
    ranked = comparison_sheet.matches(networks, shaded_cats())
    for match in (ranked[0], ranked[-1]):
        assert style.percent(match.first) in shown
        assert style.percent(match.second) in shown
    assert [word for word in shown if word.startswith("pets/")] == ["pets/0", "pets/1"]
    assert any("DeconvNet is better in 1;" in word for word in shown)


def test_both_ends_of_a_ranking_never_share_a_picture():
    ranked = [comparison_sheet.Match(i, 0.0, -float(i)) for i in range(5)]
    for pictures in range(1, 9):
        first, last = comparison_sheet.both_ends(ranked, pictures)
        assert len(first) + len(last) == min(pictures, 5)
        assert not {m.picture for m in first} & {m.picture for m in last}


# Failures


def test_the_object_larger_than_the_field_is_found_broken_and_the_small_one_missed():
    big = np.zeros((96, 96), np.uint8)
    striped = striped_cat()
    big[:48, :48] = striped[0]  # now the small cat is under 1 percent
    red = np.zeros((96, 96))
    red[:48, :48] = striped[1]
    found = failure_pictures.find_failures(red_predictor(0.5), Pictures(((big, red),)))
    assert found.field == 3
    assert found.large.box == (4, 4, 30, 40)
    assert found.large.parts == 2
    assert found.large.iou == pytest.approx(34 / 36)  # two of its rows are missing
    assert not found.large.failed
    assert found.small.box == (40, 41, 47, 47)
    assert found.small.iou == 0
    assert found.small.failed
    assert found.small.taken_for == 0


def test_iou_of_an_object_counts_what_touches_it_and_no_other_object():
    truth = np.zeros((10, 20), np.uint8)
    truth[2:6, 2:6] = truth[2:6, 12:16] = 1
    predicted = np.zeros_like(truth)
    predicted[2:6, 4:14] = 1  # half of both, and what lies between
    mask = np.zeros(truth.shape, bool)
    mask[2:6, 2:6] = True
    iou, parts = failure_pictures.object_score(mask, 1, predicted, truth)
    assert iou == pytest.approx(8 / (16 + 24))
    assert parts == 1


def test_no_failure_is_called_one():
    label_map, _ = striped_cat()
    networks = {"FCN-8s": red_predictor(0.5)}
    figure = figures.failures(networks, Pictures(((label_map, 1.0 * label_map),)))
    assert "FCN-8s makes no such failure here" in words_of(figure)
    assert artists(figure, "field")


def test_a_second_network_stands_beside_the_first():
    networks = {"FCN-8s": red_predictor(0.95), "DeconvNet": red_predictor(0.5)}
    figure = figures.failures(networks, Pictures((striped_cat(),)), proposals=3)
    shown = words_of(figure)
    assert "FCN-8s loses an object larger than its receptive field" in shown
    assert "in 3 proposals" in shown
    assert "IoU 0.0" in shown


# What the command line asks


def test_words_are_told_apart(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text("{}")
    (tmp_path / "data").mkdir()
    run, data = str(tmp_path / "run"), str(tmp_path / "data")
    found = asked.asked("probabilities", [run, "bundled-name", "street.JPG"])
    assert found == asked.Asked("probabilities", (run, "bundled-name"), "street.JPG", None)
    assert asked.asked("comparison", [run, "other", data]).data == data
    assert asked.asked("proposals", [run, "scenes:size=64"]).data == "scenes:size=64"


@pytest.mark.parametrize(
    ("name", "words", "error", "message"),
    [
        ("architcture", ["unet"], RecipeError, "no figure 'architcture'.*'architecture'"),
        ("failures", [], CheckpointError, "'failures' takes the network .* given: none"),
        ("comparison", ["one"], CheckpointError, "the network to beat.* given: one"),
        ("deconvolution", ["one"], CheckpointError, "takes no network"),
        ("architecture", ["segnt"], CheckpointError, "Did you mean 'segnet'?"),
        ("proposals", ["one", "a.png", "b.png"], DataError, "One picture or one data set"),
        ("unpooling", ["a.png"], DataError, "leave out a.png, or name a network"),
        ("architecture", ["unet", "a.png"], DataError, "without a picture; leave out a.png"),
        ("deconvolution", ["a.png"], DataError, "without a picture; leave out a.png"),
    ],
)
def test_what_a_figure_cannot_use_is_refused_before_any_work(name, words, error, message):
    with pytest.raises(error, match=message):
        asked.asked(name, words)


def test_every_figure_of_the_command_line_is_known_to_both_sides():
    from deconvnet.cli.inside import FIGURES

    assert set(FIGURES) == set(asked.NEEDS)


@pytest.mark.parametrize("suffix", style.SUFFIXES)
def test_the_same_figure_gives_the_same_bytes(tmp_path, suffix):
    paths = [tmp_path / f"{number}{suffix}" for number in (1, 2)]
    for path in paths:
        sheet = style.board("Title")
        sheet.arrow((1.0, 1.0), (2.0, 3.0))
        sheet.picture(np.eye(3), 1, 2, 3)
        style.save(sheet.figure, path, dpi=40)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert [path.name for path in sorted(tmp_path.iterdir())] == [f"1{suffix}", f"2{suffix}"]


def test_a_file_of_no_known_format_is_refused():
    with pytest.raises(OutputError, match=r"must end in .png, .svg or .pdf"):
        style.check_suffix("figure.gif")


def test_the_command_draws_a_network_of_any_width(tmp_path, capsys):
    out = tmp_path / "unet.svg"
    words = ["figure", "architecture", "unet", "--width", "0.125", "--size", "64"]
    assert main([*words, "--out", str(out)]) == 0
    parameters = sum(p.numel() for p in build_model("unet", 21, width=0.125).parameters())
    assert out.read_text(encoding="utf-8").startswith("<?xml")
    assert capsys.readouterr().out.strip() == str(out)
    with torch.device("meta"):
        network = build_model("unet", 21, width=0.125)
    title = words_of(figures.architecture(network, "U-Net of width 0.125", 64))[0]
    assert title == f"U-Net of width 0.125: {parameters:,} parameters"


def test_the_command_says_what_is_wrong_in_one_sentence(tmp_path, capsys):
    assert main(["figure", "unpoolng", "--out", str(tmp_path / "a.png")]) == 2
    assert "Did you mean 'unpooling'?" in capsys.readouterr().err
    assert main(["figure", "unpooling", "--out", str(tmp_path / "a.tif")]) == 2
    assert "must end in .png, .svg or .pdf" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []

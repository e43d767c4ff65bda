import json
import math
import re

import numpy as np
import PIL.Image
import pytest

from deconvnet.checkpoint import Config, build_network, save_checkpoint
from deconvnet.cli import main
from deconvnet.compare import (
    Picture,
    compare,
    open_contenders,
    open_source,
    short_names,
    told_apart,
)
from deconvnet.compare_page import (
    FIRST,
    NEITHER,
    SECOND,
    check_out,
    difference_map,
    verdict,
    write_comparison,
)
from deconvnet.data import open_dataset
from deconvnet.data.scenes import SCENES
from deconvnet.errors import CheckpointError, DataError, OutputError
from deconvnet.evaluate import evaluate
from deconvnet.labels import Classes
from deconvnet.metrics.bootstrap import SUMMARIES
from deconvnet.predict import load

DATA = "scenes:count=5,size=64"
HEIGHT, WIDTH = 64, 64


def network(folder, model="unet", classes=SCENES):
    options = {"width": 1 / 32, "batch_norm": True}
    config = Config(model, classes, options, recipe={"crop_size": 64})
    return str(save_checkpoint(folder, build_network(config), config))


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    place = tmp_path_factory.mktemp("networks")
    return [network(place / name / "best") for name in ("one", "other", "third")]


@pytest.fixture(scope="module")
def comparison(networks):
    source = open_source([DATA])
    return compare(open_contenders(networks[:2], load), source, seed=3, quiet=True)


def test_the_scores_are_those_of_evaluate_and_lie_in_their_intervals(comparison, networks):
    for index, checkpoint in enumerate(networks[:2]):
        expected = evaluate(load(checkpoint), open_dataset(DATA, "val"), quiet=True).to_json()
        found = comparison.scores[index]
        for name in SUMMARIES:
            assert found[name].value == pytest.approx(expected[name])
            assert found[name].low <= found[name].value + 1e-9
            assert found[name].high >= found[name].value - 1e-9
        for name, iou in expected["iou"].items():
            assert found[f"iou.{name}"].value == pytest.approx(
                np.nan if iou is None else iou, nan_ok=True
            )


def test_the_difference_is_that_of_the_scores_and_none_to_itself(networks):
    same = [networks[0], networks[0]]
    result = compare(open_contenders(same, load), open_source([DATA]), quiet=True)
    assert result.differences[0]["mean_iou"] == (0, 0, 0)
    assert result.disagreements[0].share == 0
    assert result.disagreements[0].top(SCENES.names) == []
    assert [one.name for one in result.contenders] == ["one", "one 2"]
    assert "these pictures cannot tell which is better" in verdict(result)


def test_disagreement_counts_every_pixel_and_says_who_is_right(comparison, networks):
    predictors = [load(checkpoint) for checkpoint in networks[:2]]
    apart, verdicts, pixels = 0, np.zeros(4, int), 0
    for sample in open_dataset(DATA, "val"):
        one, other = (predictor(sample.image).label_map for predictor in predictors)
        right, also = one == sample.label_map, other == sample.label_map
        verdicts += [
            (right & also).sum(),
            (right & ~also).sum(),
            (~right & also).sum(),
            (~right & ~also).sum(),
        ]
        apart += int((one != other).sum())
        pixels += one.size
    (found,) = comparison.disagreements
    assert found.share == pytest.approx(apart / pixels)
    assert found.verdicts.tolist() == verdicts.tolist()
    assert found.pairs.sum() == pixels
    shares = [share for _, _, share in found.top(SCENES.names)]
    assert shares == sorted(shares, reverse=True)
    assert sum(share for _, _, share in found.top(SCENES.names, 100)) == pytest.approx(
        found.share
    )


def test_pictures_are_ordered_by_what_the_second_network_gains(comparison):
    gains = comparison.gains()[comparison.order()]
    assert (np.diff(gains) <= 0).all()
    assert sorted(comparison.order()) == list(range(5))


def test_the_page_needs_nothing_else_and_the_json_holds_every_number(comparison, tmp_path):
    index = write_comparison(comparison, tmp_path / "out", shown=1)
    text = index.read_text()
    assert text.count('src="data:image/jpeg;base64,') == text.count("<img ") == 2 * 5
    assert re.search(r"(https?:)?//\w", re.sub(r'base64,[^"]*', "", text)) is None
    assert "one against other" in text
    values = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert values["images"] == len(values["pictures"]) == 5
    first, second = values["networks"]
    assert first["less_the_first"] is None
    low, high = second["less_the_first"]["mean_iou"][1:]
    assert low <= high
    assert first["parameters"] == sum(
        p.numel() for p in build_network(comparison.contenders[0].config).parameters()
    )
    sheet = PIL.Image.open(tmp_path / "out" / "sheet.png")
    assert sheet.size[0] > 5 * WIDTH
    write_comparison(comparison, tmp_path / "out", shown=1)  # its own pages are written over


def test_the_short_table_gives_every_network_a_column(comparison):
    lines = comparison.to_text().splitlines()
    header = next(line for line in lines if "other less one" in line)
    assert header.split()[:2] == ["one", "other"]
    assert any(line.startswith("mIoU") and line.count(" to ") == 3 for line in lines)
    assert any(line.startswith("parameters") for line in lines)


def test_three_networks_on_pictures_without_truth(networks, tmp_path):
    image = open_dataset(DATA, "val")[0].image
    PIL.Image.fromarray(image[:40]).save(tmp_path / "a <b>.png")
    source = open_source([str(tmp_path / "a <b>.png")])
    result = compare(open_contenders(networks, load), source, quiet=True)
    assert result.scores == []
    assert result.apart.shape == (1, 2)
    index = write_comparison(result, tmp_path / "out")
    text = index.read_text()
    assert "a &lt;b&gt;" in text
    assert "<b>" not in text
    assert "mIoU" not in text
    assert text.count("<img ") == 1 + 3 + 1
    assert (
        json.loads((tmp_path / "out" / "scores.json").read_text())["networks"][0]["scores"]
        is None
    )
    assert "mIoU" not in result.to_text()


def test_colours_say_who_is_right_where_two_networks_differ():
    truth = np.array([[0, 0, 0, 255, 0]], np.uint8)
    one = np.array([[0, 0, 1, 1, 1]], np.uint8)
    other = np.array([[0, 1, 0, 0, 2]], np.uint8)
    image = np.zeros((1, 5, 3), np.uint8)
    drawn = difference_map(Picture(image, "p", truth), one, other)[0]
    grey = np.full(3, 150)

    def painted(color):
        return np.rint(0.25 * grey + 0.75 * np.array(color))

    expected = [grey, painted(FIRST), painted(SECOND), painted(NEITHER), painted(NEITHER)]
    np.testing.assert_allclose(drawn, expected, atol=1)
    without = difference_map(Picture(image, "p"), one, other)[0]
    np.testing.assert_allclose(without[1], painted(NEITHER), atol=1)


@pytest.mark.parametrize(
    ("checkpoints", "names"),
    [
        (("runs/a/best", "runs/b/best"), ["a", "b"]),
        (("runs/a/best", "runs/a/last"), ["best", "last"]),
        (("x/net/best", "y/net/best"), ["x/net", "y/net"]),
        (("deconvnet-scenes", "hub/name"), ["deconvnet-scenes", "name"]),
        (("a/best", "a/best"), ["a", "a 2"]),
    ],
)
def test_names_are_as_short_as_they_may_be(checkpoints, names):
    assert short_names(checkpoints) == names


def test_a_network_named_by_a_dot_has_the_name_of_its_folder(tmp_path, monkeypatch):
    (tmp_path / "tree" / "best").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "tree" / "best")
    assert short_names([".", "."]) == ["tree", "tree 2"]
    assert short_names([".", "../../shrub/best"]) == ["tree", "shrub"]


def test_one_picture_says_nothing_of_others(networks, tmp_path):
    found = compare(
        open_contenders(networks[:2], load), open_source(["scenes:size=64,count=1"]), quiet=True
    )
    assert not math.isnan(found.scores[0]["mean_iou"].value)
    assert all(math.isnan(s.low) and not s.is_beside_zero for s in found.scores[0].values())
    assert "to" not in found.to_text().split("mIoU")[1].splitlines()[0]
    assert "there are intervals from 2 pictures on" in found.to_text()
    page = write_comparison(found, tmp_path / "out").read_text()
    assert "on this one picture, which says nothing of others" in page
    assert "nan" not in re.sub(r"data:[^\"]*", "", page).lower()


def test_pictures_whose_truth_counts_nowhere_are_compared_without_a_score(networks, tmp_path):
    data = tmp_path / "data"
    for kind, pixels in (("images", np.zeros((64, 64, 3))), ("masks", np.full((64, 64), 255))):
        (data / kind).mkdir(parents=True)
        for name in "ab":
            PIL.Image.fromarray(pixels.astype(np.uint8)).save(data / kind / f"{name}.png")
    (data / "classes.txt").write_text("\n".join(SCENES.names))
    (data / "val.txt").write_text("a\nb\n")
    found = compare(open_contenders(networks[:2], load), open_source([str(data)]), quiet=True)
    page = write_comparison(found, tmp_path / "out").read_text()
    assert "the truth ignores them all" in page
    assert "nan" not in re.sub(r"data:[^\"]*", "", page).lower()


def test_words_are_told_apart(networks, tmp_path):
    assert told_apart([*networks, DATA]) == (networks, [DATA])
    one, other, _ = networks
    with pytest.raises(
        DataError, match=r"takes two networks or more, and .*best alone is given"
    ):
        told_apart([one, DATA])
    with pytest.raises(DataError, match="and none is given"):
        told_apart([DATA])
    with pytest.raises(DataError, match="There is nothing to compare the networks on"):
        told_apart([one, other])
    with pytest.raises(DataError, match="data/missing is not here, so it was taken for one on"):
        told_apart([one, other, "data/missing"])
    with pytest.raises(DataError, match="name all networks first"):
        told_apart([one, DATA, other])
    with pytest.raises(CheckpointError, match=r"There is no checkpoint '.*/missing'"):
        told_apart([one, str(tmp_path / "missing"), DATA])
    run = one.removesuffix("/best")
    with pytest.raises(DataError, match="is the folder of a training run; name the network"):
        told_apart([run, other, DATA])


def test_what_cannot_be_compared_is_refused_before_the_work(networks, tmp_path):
    pets = network(tmp_path / "pets" / "best", classes=Classes.named(["background", "cat"]))
    with pytest.raises(DataError, match=r"tell apart different classes \(8 and 2; cat, "):
        open_contenders([networks[0], pets], load)
    with pytest.raises(DataError, match="have no split 'vall'"):
        open_source([DATA], "vall")
    with pytest.raises(DataError, match=r"is a data set, and x\.png came after it"):
        open_source([DATA, "x.png"])
    with pytest.raises(DataError, match="There is no picture at"):
        open_source([str(tmp_path / "nothing.png")])
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="is a file; name a folder"):
        check_out(tmp_path / "file")
    (tmp_path / "index.html").write_text("mine")
    with pytest.raises(OutputError, match=r"holds an index\.html that no comparison wrote"):
        check_out(tmp_path)


def test_the_command_prints_the_table_and_refuses_in_one_sentence(networks, tmp_path, capsys):
    out = tmp_path / "out"
    words = ["compare", *networks[:2], "scenes:count=2,size=48", "--out", str(out), "--quiet"]
    assert main([*words, "--crf-settings", "iterations=1"]) == 0
    shown = capsys.readouterr().out
    assert "other less one" in shown
    assert (out / "sheet.png").is_file()
    assert main(["compare", networks[0], DATA, "--out", str(out)]) == 2
    assert "takes two networks or more" in capsys.readouterr().err
    assert main([*words, "--crf-settings", "iterations=many"]) == 2
    assert "is no setting of the CRF" in capsys.readouterr().err

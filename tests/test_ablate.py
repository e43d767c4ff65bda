import json

import numpy as np
import PIL.Image
import pytest

from deconvnet import ablate as module
from deconvnet.ablate import (
    Grid,
    ablate,
    measure,
    plan,
    read_rows,
    values_of,
    variants_of,
    write_rows,
)
from deconvnet.ablation_table import lines_of, markdown, write_tables
from deconvnet.checkpoint import Config, build_network, save_checkpoint
from deconvnet.cli import main
from deconvnet.crf import CrfSettings
from deconvnet.crf_search import search_crf, write_search
from deconvnet.data import open_dataset
from deconvnet.data.scenes import SCENES
from deconvnet.errors import CheckpointError, DataError, OutputError, RecipeError
from deconvnet.evaluate import evaluate
from deconvnet.labels import Classes
from deconvnet.predict import load
from deconvnet.recipe import Recipe

DATA = "scenes:count=3,size=64"
TINY = {
    "model": "segnet",
    "width": 1 / 32,
    "data": DATA,
    "crop_size": 32,
    "steps": 1,
    "batch_size": 1,
}


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(Recipe.from_mapping(TINY).to_yaml())
    return str(path)


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    place = tmp_path_factory.mktemp("networks")
    made = []
    for name in ("one", "other"):
        options = {"width": 1 / 32, "batch_norm": True}
        config = Config("unet", SCENES, options, recipe={"crop_size": 64, "data": DATA})
        made.append(str(save_checkpoint(place / name / "best", build_network(config), config)))
    return made


def row(**changes):
    plain = {
        "base": "net",
        "changes": {},
        "seed": 0,
        "data": "d",
        "split": "val",
        "images": 3,
        "proposals": 0,
        "aggregate": "max",
        "ensemble": None,
        "crf": False,
        "weights": ["a"],
        "mean_iou": 0.4,
        "boundary_f1": 0.3,
        "pixel_accuracy": 0.8,
        "small": None,
        "medium": 0.2,
        "large": 0.6,
        "milliseconds": 20.0,
    }
    return {**plain, **changes}


@pytest.mark.parametrize("aggregate", ["max", "mean"])
def test_one_pass_gives_what_the_predictor_gives_in_each_way(networks, aggregate):
    predictor, partner = (load(place) for place in networks)
    dataset = open_dataset(DATA, "val")
    ways = [(None, False), (None, True), (partner, False), (partner, True)]
    found = measure(predictor, dataset, ways, windows=(2, aggregate), quiet=True)
    for (ensemble, crf), scores in zip(ways, found, strict=True):
        expected = evaluate(
            predictor,
            dataset,
            quiet=True,
            segment=lambda image, e=ensemble, c=crf: predictor(
                image, proposals=2, aggregate=aggregate, ensemble=e, crf=c
            ),
        ).to_json()
        assert scores["mean_iou"] == pytest.approx(expected["mean_iou"])
        assert scores["large"] == pytest.approx(expected["iou_by_size"]["large"])
    assert found[3]["milliseconds"] > found[0]["milliseconds"]


def test_an_ablation_trains_measures_and_does_neither_twice(recipe, tmp_path, monkeypatch):
    grid = Grid(crossed={"unpooling": ["nearest"]}, seeds=(0, 1))
    out = tmp_path / "out"
    made = plan([recipe], grid, out)
    assert "train      2 networks" in made.to_text()
    assert "measure    2 rows" in made.to_text()
    assert not out.exists()
    rows = ablate(made, quiet=True)
    assert [(r["changes"], r["seed"]) for r in rows] == [
        ({"unpooling": "nearest"}, 0),
        ({"unpooling": "nearest"}, 1),
    ]
    assert read_rows(out) == rows
    text = write_tables(out, rows)
    assert text.count("tiny: unpooling=") == 1
    assert " ± " in text
    assert PIL.Image.open(out / "plot.png").size[0] > 500

    def nothing(*_arguments, **_settings):
        pytest.fail("what is there was made again")

    monkeypatch.setattr(module, "train", nothing)
    monkeypatch.setattr(module, "measure", nothing)
    again = plan([recipe], grid, out)
    assert "train      0 networks" in again.to_text()
    assert "reuse      2 trained before" in again.to_text()
    assert ablate(again, quiet=True) == rows


def test_an_unknown_way_to_join_proposals_is_told_by_the_command(recipe, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["ablate", recipe, "--out", str(out), "--aggregate", "sum,max"]) == 2
    assert "--aggregate is sum; it can be max, mean or max,mean." in capsys.readouterr().err
    assert not out.exists()


def test_the_picture_as_a_whole_is_measured_once_however_proposals_are_joined(
    networks, tmp_path
):
    made = plan([networks[0]], Grid(proposals=(0, 2), aggregate=("max", "mean")), tmp_path)
    assert made.windows == [(0, "max"), (2, "max"), (2, "mean")]
    rows = ablate(made, quiet=True)
    assert [(row["proposals"], row["aggregate"]) for row in rows] == made.windows
    table = markdown(rows)
    assert [line.split(" | ")[1] for line in table.splitlines()[4:]] == ["0", "2", "2, mean"]
    write_tables(tmp_path, rows)


def test_a_table_from_before_aggregation_was_varied_is_gone_on_with(networks, tmp_path):
    made = plan([networks[0]], Grid(), tmp_path)
    rows = ablate(made, quiet=True)
    write_rows(tmp_path, [{k: v for k, v in row.items() if k != "aggregate"} for row in rows])
    assert ablate(made, quiet=True) == read_rows(tmp_path) == rows


def test_rows_of_other_weights_are_measured_anew_and_take_the_old_ones_place(
    networks, tmp_path
):
    made = plan([networks[0]], Grid(), tmp_path)
    (first,) = ablate(made, quiet=True)
    stale = {**first, "weights": ["other"], "mean_iou": 0.99}
    other = row()
    module.write_rows(tmp_path, [stale, other])
    assert ablate(made, quiet=True) == [
        other,
        {**first, "milliseconds": pytest.approx(0, abs=1e5)},
    ]


def test_settings_are_varied_one_at_a_time_against_the_recipe_or_crossed(recipe, tmp_path):
    name, values = values_of("ema=0,0.9")
    alone = variants_of(recipe, Grid(varied={name: values, "flip": [0.0]}), tmp_path)
    assert [variant.changes for variant in alone] == [{}, {"ema": 0.9}, {"flip": 0.0}]
    crossed = variants_of(recipe, Grid(crossed={name: values, "flip": [0.0, 1.0]}), tmp_path)
    assert [variant.changes for variant in crossed] == [
        {"flip": 0.0},
        {"flip": 1.0},
        {"ema": 0.9, "flip": 0.0},
        {"ema": 0.9, "flip": 1.0},
    ]
    assert len({variant.run for variant in alone + crossed}) == 6


def test_a_recipe_that_was_changed_since_its_run_is_refused(recipe, tmp_path):
    made = plan([recipe], Grid(), tmp_path / "out")
    run = made.variants[0].run
    run.mkdir(parents=True)
    (run / "recipe.yaml").write_text(Recipe.from_mapping({**TINY, "steps": 9}).to_yaml())
    with pytest.raises(RecipeError, match=r"begun with other settings .steps was 9 and is 1"):
        plan([recipe], Grid(), tmp_path / "out")


def test_mistakes_are_told_before_the_work(recipe, networks, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(RecipeError, match=r"no setting 'unpoling'\. Did you mean 'unpooling'"):
        values_of("unpoling=nails")
    with pytest.raises(RecipeError, match="varies nothing"):
        values_of("unpooling")
    with pytest.raises(RecipeError, match="trained networks have no settings to vary"):
        plan([networks[0]], Grid(seeds=(1,)), out)
    pets = Config("unet", Classes.named(["cat", "dog"]), {"width": 1 / 32})
    save_checkpoint(tmp_path / "pets", build_network(pets), pets)
    with pytest.raises(DataError, match="The network tells apart 2 classes"):
        plan([networks[0]], Grid(ensemble=str(tmp_path / "pets")), out)
    with pytest.raises(CheckpointError, match="There is no checkpoint 'nothing'"):
        plan(["nothing"], Grid(), out)
    with pytest.raises(DataError, match="would both be named tiny, seed 0 in the table"):
        plan([recipe, recipe], Grid(), out)
    with pytest.raises(DataError, match="There is no data set"):
        plan([recipe], Grid(), out, data="missing")
    with pytest.raises(RecipeError, match="must not be negative"):
        plan([recipe], Grid(proposals=(-1,)), out)
    out.mkdir()
    (out / "table.json").write_text("[]")
    with pytest.raises(OutputError, match="is no table of an ablation"):
        plan([recipe], Grid(), out)


def test_the_table_gives_mean_and_spread_and_the_difference_seed_by_seed():
    rows = [
        row(seed=0, mean_iou=0.40),
        row(seed=1, mean_iou=0.50),
        row(seed=0, mean_iou=0.43, changes={"ema": 0.9}),
        row(seed=1, mean_iou=0.53, changes={"ema": 0.9}),
        row(seed=0, proposals=10, crf=True, mean_iou=None),
    ]
    base, varied, other = lines_of(rows)
    assert (base.seeds, varied.network) == ([0, 1], "net: ema=0.9")
    lines = markdown(rows).splitlines()
    assert "| net | 0 | – | – | 45.0 ± 7.1 |" in lines[4]
    assert "| +3.0 ± 0.0 |" in lines[5]  # the seeds differ by 10 points, their difference not
    assert "| 10 | – | yes | – |" in lines[6]
    assert np.isnan(other.scores["mean_iou"][0])


def test_crf_settings_are_read_as_they_are_written():
    settings = CrfSettings(5, (1.5, 0.25), (40.0, 6.0, 2.5), "symmetric")
    assert CrfSettings.from_text(str(settings)) == settings
    assert CrfSettings.from_text("") == CrfSettings()
    for wrong in ("iterations=x", "gaussian", "sigma=3", "bilateral=1:b:3"):
        with pytest.raises(RecipeError, match="is no setting of the CRF; write such as"):
            CrfSettings.from_text(wrong)
    with pytest.raises(RecipeError, match="the CRF was given gaussian"):
        CrfSettings.from_text("gaussian=1:2:3")


def test_the_predictor_takes_the_settings_of_the_crf(networks):
    predictor, image = load(networks[0]), open_dataset(DATA, "val")[0].image
    none = predictor(image, crf=CrfSettings(iterations=0)).probabilities
    np.testing.assert_allclose(none, predictor(image).probabilities, atol=1e-5)
    published = predictor(image, crf=True).probabilities
    np.testing.assert_array_equal(predictor(image, crf=CrfSettings()).probabilities, published)


def test_a_search_reports_on_pictures_that_it_did_not_search_on(networks, tmp_path):
    predictor, dataset = load(networks[0]), open_dataset("scenes:count=4,size=48", "val")
    found = search_crf(predictor, dataset, pictures=4, rounds=1, quiet=True)
    assert found.pictures == (2, 2)
    best = max(found.searched.values())
    key = "none" if found.best is None else str(found.best)
    assert found.searched[key] == best
    expected = evaluate(
        predictor, Half(dataset), quiet=True, segment=lambda image: predictor(image, crf=True)
    )
    reported = found.reported["published"]["mean_iou"]
    assert reported == pytest.approx(expected.scores.confusion.mean_iou, abs=0.01)  # float16
    assert json.loads(write_search(found, tmp_path).read_text())["tried"] == found.tried
    told = found.to_text()
    assert ("--crf-settings" in told) == (found.best is not None)
    with pytest.raises(RecipeError, match="needs 2"):
        search_crf(predictor, dataset, pictures=1)


def test_the_command_plans_measures_and_searches(recipe, networks, tmp_path, capsys):
    out = tmp_path / "out"
    words = ["ablate", recipe, "--out", str(out), "--vary", "ema=0,0.9", "--seeds", "0,1"]
    assert main([*words, "--vary", "flip=0,1", "--dry-run"]) == 0
    assert "train      8 networks" in capsys.readouterr().out  # the recipe, ema 0.9, flip 0, 1
    assert main([*words, "--vary", "flip=0,1", "--grid", "--dry-run"]) == 0
    assert "measure    8 rows" in capsys.readouterr().out
    assert not out.exists()
    data = ["--data", "scenes:count=2,size=48", "--out", str(out), "--quiet"]
    assert main(["ablate", networks[0], "--proposals", "0,1", *data]) == 0
    assert "| one | 1 | – | – |" in capsys.readouterr().out
    assert (out / "plot.png").is_file()
    assert main(["ablate", networks[0], "--search", "crf", "--dry-run", *data]) == 0
    assert "search     on 1 pictures" in capsys.readouterr().out
    few = ["--search", "crf", "--dry-run", "--pictures", "1"]
    assert main(["ablate", networks[0], *few, *data]) == 2
    assert "pictures is 1; a search needs 2" in capsys.readouterr().err
    assert main(["ablate", recipe, "--unpooling", "nals", *data]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


class Half:
    """The second half of a data set of four."""

    def __init__(self, dataset):
        self.classes, self.split, self.names = dataset.classes, "val", dataset.names[2:]
        self.dataset = dataset

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return self.dataset[index + 2]


def test_a_recipe_starts_from_the_run_of_another_with_its_seed(recipe, tmp_path):
    later = tmp_path / "later.yaml"
    later.write_text(Recipe.from_mapping({**TINY, "start_from": "tiny.yaml"}).to_yaml())
    out = tmp_path / "out"
    made = plan([str(later)], Grid(seeds=(0, 1), ensemble=recipe), out)
    assert [variant.run.name for variant in made.to_train] == [
        "tiny.seed-0",
        "later.seed-0",
        "tiny.seed-1",
        "later.seed-1",
    ]
    for variant in made.variants:
        assert variant.recipe.start_from == str(out / f"runs/tiny.seed-{variant.seed}/best")
        assert variant.changes == {}
        assert made.partner_of(variant).seed == variant.seed
    round_about = {**TINY, "start_from": "later.yaml"}
    (tmp_path / "tiny.yaml").write_text(Recipe.from_mapping(round_about).to_yaml())
    with pytest.raises(RecipeError, match="again in the end"):
        plan([str(later)], Grid(), out)


def test_rows_of_an_ensemble_of_seeds_are_one_line_of_the_table(recipe, tmp_path):
    made = plan([recipe], Grid(seeds=(0, 1), ensemble=recipe), tmp_path / "out")
    rows = ablate(made, quiet=True)
    together = [line for line in lines_of(rows) if line.ensemble is not None]
    assert [line.seeds for line in together] == [[0, 1]]
    assert together[0].ensemble == "tiny"

"""What `deconvnet bench` measures, on the smallest of everything."""

import json

import numpy as np
import PIL.Image
import pytest
import torch

from deconvnet import cli
from deconvnet.bench import Report, Settings, Table, Timing, interleaved, machine, pipeline, run
from deconvnet.bench import proposals as bench_of_proposals
from deconvnet.bench.inference import flipped_switches
from deconvnet.bench.machine import eight_bit_product
from deconvnet.bench.pipeline import PARTS, Segmented, Variant
from deconvnet.bench.plot import plot
from deconvnet.bench.samples import network_of, pictures
from deconvnet.data.scenes import Scenes
from deconvnet.engines import accelerate
from deconvnet.errors import DataError, OutputError, RecipeError

TINY = Settings(
    width=1 / 16, size=32, data="scenes:count=2,size=64", networks=("segnet-basic",)
)


def test_things_are_timed_turn_by_turn_after_one_to_warm_up():
    called = []
    timing = interleaved(
        {"first": lambda: called.append(1), "second": lambda: called.append(2)}, rounds=2
    )
    assert called == [1, 2, 1, 2, 1, 2]
    assert all(found.low <= found.median <= found.high for found in timing.values())


def test_milliseconds_are_those_of_one_picture():
    assert Timing(0.008, 0.004, 0.016).milliseconds(8) == (1.0, 0.5, 2.0)


def test_a_report_is_read_by_people_and_by_programs():
    table = Table("Speed", ("by", "ms"), (("us", 1.5), ("others", None)), "A note.")
    report = Report({"threads": 2}, (table,))
    assert report.to_text().splitlines() == [
        "threads  2",
        "",
        "Speed",
        "by       ms",
        "us      1.5",
        "others    -",
        "A note.",
    ]
    read = json.loads(json.dumps(report.to_json()))
    assert read["machine"] == {"threads": 2}
    assert read["tables"][0]["rows"] == [{"by": "us", "ms": 1.5}, {"by": "others", "ms": None}]


def test_an_unknown_measurement_is_refused_in_words():
    with pytest.raises(RecipeError, match=r"no measurement 'inferense'.*mean 'inference'"):
        run("inferense")


@pytest.mark.parametrize("what", ["machine", "crf", "proposals", "loading"])
def test_a_measurement_gives_numbers_for_everything(what, monkeypatch):
    monkeypatch.setattr(machine, "SIDE", 128)
    report = run(what, TINY, quiet=True)
    for table in report.tables:
        assert table.rows
        for row in table.rows:
            assert len(row) == len(table.columns)
            assert all(cell >= 0 for cell in row if not isinstance(cell, str))
    assert report.machine["threads"] == torch.get_num_threads()


def test_an_unknown_network_or_size_is_refused_before_the_work():
    with pytest.raises(RecipeError, match="there is no network 'unett'"):
        run("training", TINY._replace(networks=("unett",)), quiet=True)
    with pytest.raises(DataError, match="Drawn pictures of 4 x 4"):
        run("training", TINY._replace(size=4), quiet=True)


def test_proposals_cannot_be_judged_without_instances(tmp_path, monkeypatch):
    sample = Scenes("val", count=1, size=32)[0]._replace(instance_map=None)
    monkeypatch.setattr(bench_of_proposals, "open_dataset", lambda *_: [sample])
    with pytest.raises(RecipeError, match="has no instance maps"):
        run("proposals", TINY, quiet=True)


def test_flipped_switches_are_counted_against_float64():
    network = network_of("segnet-basic", 1 / 16)
    images = pictures(1, 32)
    wrong = network_of("segnet-basic", 1 / 16)
    torch.nn.init.normal_(wrong.encoder[0][0][0].weight)
    flips = flipped_switches(
        network,
        {
            "plain": network,
            "native": accelerate(network, "native"),
            "wrong": wrong,
            "silent": torch.abs,
        },
        images,
    )
    assert max(flips["plain"], flips["native"]) < 1000 < flips["wrong"]
    assert "silent" not in flips


def test_the_8_bit_product_is_the_product_to_within_its_steps():
    matrix = torch.randn(64, 64, generator=torch.Generator().manual_seed(0)).clamp(-3.9, 3.9)
    product = eight_bit_product(matrix)
    if product is None:
        pytest.skip("this torch has no 8-bit product")
    assert (product().dequantize() - matrix @ matrix).abs().max() < 2


def test_the_pipeline_is_what_a_predictor_does_whatever_the_engine(tmp_path):
    picture = tmp_path / "picture.png"
    image = Scenes("val", count=1, size=48)[0].image
    PIL.Image.fromarray(image).save(picture)
    labels = []
    for engine in ("naive", "native"):
        first, second = (
            pipeline._predictor(name, engine, 1 / 32) for name in ("deconvnet", "fcn8s")
        )
        found = pipeline.segment(first, second, picture, 1)
        expected = first(image, proposals=1, ensemble=second, crf=True).label_map
        np.testing.assert_array_equal(found.label_map, expected)
        assert set(found.seconds) == set(PARTS)
        assert found.windows in (1, 2)
        assert found.peak > 10**7
        labels.append(found.label_map)
    assert (labels[0] == labels[1]).mean() > 0.95


def in_turns(variant, *_):
    """A run that takes so long by variant, and of which ours errs at one pixel in four."""
    seconds = {"naive": 8.0, "torch": 4.0, "native": 2.0}[variant.engine]
    seconds /= 2 if variant.allocator == "tuned" else 1
    label_map = np.full((2, 2), 1, np.uint8)
    label_map[0, 0] = variant.engine != "naive"
    parts = {part: seconds / len(PARTS) for part in PARTS}
    return Segmented(label_map, parts, 3, 5_000_000)


@pytest.fixture
def quick_pipeline(monkeypatch):
    """The pipeline's table without its processes."""
    called = []
    monkeypatch.setattr(
        pipeline, "_in_own_process", lambda *given: called.append(given[0]) or in_turns(*given)
    )
    monkeypatch.setattr(pipeline, "tune_allocator", lambda: True)
    return called


def test_the_pipelines_variants_take_turns_and_are_measured_by_naive(quick_pipeline):
    (table,) = pipeline.bench_pipeline(TINY._replace(data="scenes:count=1,size=64"))
    assert quick_pipeline[:2] == [Variant("naive", "default"), Variant("naive", "tuned")]
    assert quick_pipeline == pipeline.TURNS * quick_pipeline[:6]
    rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    assert [row["seconds"] for row in rows] == [8, 4, 4, 2, 2, 1]
    assert [row["x naive, default"] for row in rows] == [1, 2, 2, 4, 4, 8]
    assert [row["x naive, tuned"] for row in rows] == [0.5, 1, 1, 2, 2, 4]
    assert [row["argmax %"] for row in rows] == [100, 100, 75, 75, 75, 75]
    assert {row["peak MB"] for row in rows} == {5}


def test_any_picture_is_brought_to_the_size_of_vocs(tmp_path):
    place = tmp_path / "picture.png"
    pipeline._write_picture("scenes:count=1,size=64", place)
    with PIL.Image.open(place) as picture:
        assert picture.size == pipeline.PICTURE


def test_what_the_pipeline_cannot_do_is_refused_before_the_work():
    with pytest.raises(RecipeError, match=r"no engine 'nativ'.*mean 'native'"):
        run("pipeline", TINY._replace(engines=("nativ",)), quiet=True)
    with pytest.raises(RecipeError, match="0 proposals were asked for"):
        run("pipeline", TINY._replace(proposals=0), quiet=True)


INFERENCE = Table(
    "Inference: ms a picture of 32 pixels, width 1",
    ("network", "by", "one", "low", "high", "of 8", "low 8", "high 8", "x plain"),
    (
        ("unet", "plain", 2, 1.5, 3, 1.5, 1, 2, 1),
        ("unet", "native", 1, 0.5, 2, 0.5, 0.4, 0.6, 3),
    ),
    kind="inference",
)


def test_inference_and_pipeline_are_drawn_as_one_picture(quick_pipeline, tmp_path):
    tables = (INFERENCE, *pipeline.bench_pipeline(TINY))
    described = {"processor": "a fine one", "threads": 1, "load": None}
    plot(Report(described, tables), tmp_path / "both.png")
    plot(Report(described, tables[:1]), tmp_path / "one.png")
    sizes = [PIL.Image.open(tmp_path / name).size for name in ("both.png", "one.png")]
    assert sizes[0][0] == sizes[1][0]
    assert sizes[0][1] > sizes[1][1]
    plot(Report(described, tables), tmp_path / "both.svg")
    drawn = (tmp_path / "both.svg").read_text(encoding="utf-8")
    for words in ("unet, ms", "native, tuned", "in batches of 8", "FCN-8s", "a fine one"):
        assert f"<!-- {words}" in drawn


def test_a_plot_that_cannot_be_made_is_refused_before_the_work(tmp_path, capsys):
    assert cli.main(["bench", "machine", "--plot", str(tmp_path / "a.png")]) == 2
    assert "--plot draws inference and pipeline" in capsys.readouterr().err
    assert cli.main(["bench", "inference", "--plot", str(tmp_path / "a.bmp")]) == 2
    assert "must end in .png" in capsys.readouterr().err
    with pytest.raises(RecipeError, match="nothing to draw"):
        plot(Report({}, ()), tmp_path / "a.png")
    with pytest.raises(OutputError, match="must end in"):
        plot(Report({"processor": "", "threads": 1, "load": 0}, (INFERENCE,)), "a.bmp")


@pytest.mark.slow
def test_the_pipeline_is_measured_in_processes_of_its_own(monkeypatch):
    monkeypatch.setattr(pipeline, "TURNS", 1)
    settings = TINY._replace(width=1 / 32, engines=("native",), proposals=1)
    (table,) = run("pipeline", settings, quiet=True).tables
    rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    assert {row["by"] for row in rows} == {"naive", "native"}
    assert min(row["argmax %"] for row in rows) > 90
    assert min(row["CRF"] for row in rows) > 0


@pytest.mark.slow
@pytest.mark.parametrize("what", ["inference", "training", "startup"])
def test_a_long_measurement_gives_numbers_too(what):
    for table in run(what, TINY, quiet=True).tables:
        assert table.rows


@pytest.mark.slow
def test_every_engine_and_peer_agrees_with_the_plain_network():
    (table,) = run("inference", TINY, quiet=True).tables
    agreement = {row[1]: row[table.columns.index("argmax %")] for row in table.rows}
    assert {"plain", "torch"} <= set(agreement)
    assert min(agreement.values()) > 99.9

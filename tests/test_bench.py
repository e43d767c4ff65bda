"""What `deconvnet bench` measures, on the smallest of everything."""

import json

import pytest
import torch

from deconvnet import bench
from deconvnet.bench import Report, Settings, Table, Timing, interleaved, run
from deconvnet.engines import accelerate
from deconvnet.errors import DataError, RecipeError

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
def test_a_measurement_gives_numbers_for_everything(what):
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
    sample = bench.Scenes("val", count=1, size=32)[0]._replace(instance_map=None)
    monkeypatch.setattr(bench, "open_dataset", lambda *_: [sample])
    with pytest.raises(RecipeError, match="has no instance maps"):
        run("proposals", TINY, quiet=True)


def test_flipped_switches_are_counted_against_float64():
    network = bench._network("segnet-basic", 1 / 16)
    images = bench._pictures(1, 32)
    wrong = bench._network("segnet-basic", 1 / 16)
    torch.nn.init.normal_(wrong.encoder[0][0][0].weight)
    flips = bench._flipped_switches(
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

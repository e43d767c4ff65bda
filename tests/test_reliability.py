import json
from pathlib import Path

import pytest

from programs import load_program
from reliability import COUNTS, record

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def script():
    return load_program("reliability")


def test_the_page_is_made_from_the_counts(script):
    assert script.PAGE.read_text(encoding="utf-8") == script.page()
    assert script.COUNTS == COUNTS


def test_every_count_says_what_how_often_when_and_where():
    for row in json.loads(COUNTS.read_text(encoding="utf-8")):
        assert set(row) - {"parts"} == {"name", "count", "result", "date", "machine"}
        assert row["count"] > 0
        parts = row.get("parts", {"all": row}).values()
        assert row["count"] == sum(part["count"] for part in parts)


def test_a_count_takes_the_place_of_the_one_before_and_only_when_asked(tmp_path, monkeypatch):
    path = tmp_path / "counts.json"
    monkeypatch.delenv("DECONVNET_RECORD", raising=False)
    record("b", 1, "fine", path)
    assert not path.exists()
    monkeypatch.setenv("DECONVNET_RECORD", "1")
    for name, count in (("b", 1), ("a", 2), ("b", 3)):
        record(name, count, "fine", path)
    rows = json.loads(path.read_text(encoding="utf-8"))
    assert [(row["name"], row["count"]) for row in rows] == [("a", 2), ("b", 3)]


def test_a_count_made_bit_by_bit_is_the_sum_of_its_parts_the_last_of_each(
    script, tmp_path, monkeypatch
):
    path = tmp_path / "counts.json"
    monkeypatch.setenv("DECONVNET_RECORD", "1")
    monkeypatch.setattr(script, "COUNTS", path)
    for part, count, result in (
        ("seed 1", 100, "fine"),
        ("seed 2", 20, "2 findings"),
        ("seed 1", 70, "fine"),
        ("seed 3", 5, "fine"),
    ):
        record("read", count, result, path, part=part)
    (row,) = json.loads(path.read_text(encoding="utf-8"))
    assert (row["count"], row["result"]) == (95, "fine; 2 findings")
    told = "fine; 2 findings (in 3 parts: seed 1, seed 2, seed 3)"
    assert f"| read | 95 | {told} |" in script.page()
    record("read", 20, "fine", path, part="seed 2")  # the same again, once it is mended
    (row,) = json.loads(path.read_text(encoding="utf-8"))
    assert (row["count"], row["result"]) == (95, "fine")

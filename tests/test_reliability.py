import importlib.util
import json
from pathlib import Path

import pytest

from reliability import COUNTS, record

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("made", ROOT / "scripts" / "reliability.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_made_from_the_counts(script):
    assert script.PAGE.read_text(encoding="utf-8") == script.page()
    assert script.COUNTS == COUNTS


def test_every_count_says_what_how_often_when_and_where():
    for row in json.loads(COUNTS.read_text(encoding="utf-8")):
        assert set(row) == {"name", "count", "result", "date", "machine"}
        assert row["count"] > 0


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

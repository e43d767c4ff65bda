"""The script that asks a server by many clients at once."""

import json
import sys

import pytest

from programs import load_program


@pytest.fixture(scope="module")
def script():
    return load_program("load_server")


@pytest.mark.slow
@pytest.mark.parametrize("wrong", [False, True])
def test_masks_are_compared_with_those_of_the_command_line(
    wrong, script, checkpoints, tmp_path, monkeypatch
):
    pictures, masks = script.asked_of_the_command_line(checkpoints[1])
    assert len(pictures) == len(masks) == 4
    told = pictures, [mask ^ 1 for mask in masks] if wrong else masks
    monkeypatch.setattr(script, "asked_of_the_command_line", lambda _: told)
    options = ["--clients", "3", "--seconds", "5", "--json", str(tmp_path / "report.json")]
    monkeypatch.setattr(sys, "argv", ["load_server.py", checkpoints[1], *options])
    with pytest.raises(SystemExit) as ended:
        script.main()
    assert ended.value.code == (1 if wrong else 0)
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert report["masks_compared"] > 0
    assert report["wrong_masks"] == (report["masks_compared"] if wrong else 0)
    count, words = script.in_words(report)
    assert count == sum(report["answers"].values())
    assert f"{report['wrong_masks']} unequal" in words

import re

from deconvnet.cli import main
from deconvnet.data.doctor import examine
from deconvnet.data_sheet import data_sheet
from trees import draw_folder, draw_stack


def test_a_sheet_shows_the_suspects_and_fetches_nothing(tmp_path):
    draw_folder(tmp_path, count=10)
    pictures = sorted((tmp_path / "images").rglob("*.jpg"))
    pictures[0].write_bytes(pictures[0].read_bytes()[:900])
    pictures[2].write_bytes(pictures[1].read_bytes())
    report = examine(tmp_path)
    text = data_sheet(report)
    assert report.verdict in text
    for problem in report.problems:
        assert problem.severity.capitalize() in text
    assert text.count("<img") >= 3  # the damaged one, and both of the duplicate
    assert "its labels cannot be shown" in text
    assert re.findall(r'(?:src|href)="(?!data:)', text) == []


def test_a_sheet_of_data_without_problems_says_so(tmp_path):
    draw_stack(tmp_path)
    assert "Nothing looks wrong." in data_sheet(examine(tmp_path))


def test_the_command_writes_the_sheet(tmp_path, capsys):
    draw_stack(tmp_path / "data")
    sheet = tmp_path / "sheet.html"
    assert main(["check-data", str(tmp_path / "data"), "--sheet", str(sheet), "--quiet"]) == 0
    assert "can be trained on: 6 pictures in train, 1 in val." in capsys.readouterr().out
    assert sheet.read_text().startswith("<!doctype html>")
    assert main(["check-data", str(tmp_path / "data"), "--sheet", str(tmp_path)]) == 2


def test_a_download_needs_a_yes(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    assert main(["download", "voc2012", "--out", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert said.index("pictures from Flickr") < said.index(
        "its terms were not agreed to; --yes"
    )
    assert list(tmp_path.iterdir()) == []

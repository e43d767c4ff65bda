import re

import pytest

from deconvnet import progress


@pytest.mark.parametrize("columns", [80, 120])
def test_the_live_line_of_a_training_fits_into_the_terminal(columns, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr(progress.Console, "is_terminal", True)
    monkeypatch.setattr(progress.Console, "encoding", "utf-8")
    with progress.ProgressBar("train", 12000) as bar:
        course = progress.sparkline([1.0, 2.0] * 25, bar.course_width)
        figures = f"loss 2.090 {course}  12.3 images/s  best mIoU 45.7"
        bar.advance(12000, figures)
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", capsys.readouterr().err)
    last = shown.strip().splitlines()[-1].rpartition("\r")[2]
    assert figures in last
    assert "left" in last
    assert "…" not in last
    assert len(last.rstrip()) <= columns
    assert len(course) == (6 if columns == 80 else 20)


def test_a_bar_without_figures_is_drawn_in_a_narrow_terminal_too(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(progress.Console, "is_terminal", True)
    assert list(progress.tracked("abc", "check", 3)) == ["a", "b", "c"]
    assert "\u2501" * 10 in capsys.readouterr().err


def test_where_no_terminal_is_there_is_no_course(capsys):
    with progress.ProgressBar("train", 2) as bar:
        assert bar.course_width == 0
        bar.advance(2, "loss 1.0")
    assert capsys.readouterr().err.startswith("train 2/2")

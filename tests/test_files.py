from pathlib import Path

import pytest

from deconvnet.errors import OutputError
from deconvnet.files import write_text, written_whole


def test_a_file_is_replaced_only_when_the_block_ends(tmp_path):
    path = tmp_path / "a" / "b.txt"
    write_text(path, "old")
    with written_whole(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert [p.name for p in path.parent.iterdir()] == ["b.txt"]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "b.txt"
    write_text(path, "old")
    with pytest.raises(ZeroDivisionError), written_whole(path) as temporary:
        temporary.write_text(f"half {1 / 0}")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["b.txt"]


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"file.b\.txt could not be written: "):
        write_text(tmp_path / "file" / "b.txt", "x")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_is_said_in_words(tmp_path):
    with (
        pytest.raises(OutputError, match="No space left on device"),
        written_whole(tmp_path / "b.txt"),
        Path("/dev/full").open("w") as full,
    ):
        full.write("x" * 100_000)

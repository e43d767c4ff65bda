import os
from pathlib import Path

import numpy as np
import pytest

from deconvnet.errors import OutputError
from deconvnet.files import (
    refuse_unwritable_folder,
    remove_partial_files,
    write_text,
    written_whole,
)


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


def test_what_a_killed_writer_left_is_removed_and_nothing_else(tmp_path):
    names = [
        ".state.pt.0a1b2c3d.partial.pt",
        ".log.csv.00ff00ff.partial.csv",
        ".x.1234abcd.partial",
    ]
    kept = ["state.pt", ".hidden.partial", ".mine.zzzzzzzz.partial.pt", "a.0a1b2c3d.partial.pt"]
    for name in names + kept:
        (tmp_path / name).write_text("")
    remove_partial_files(tmp_path)
    remove_partial_files(tmp_path / "nowhere")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(kept)


@pytest.mark.skipif(os.name != "posix", reason="Windows syncs folders by itself")
def test_data_is_synced_before_the_rename_and_every_new_folder_after_it(tmp_path, monkeypatch):
    done, sync, rename = [], os.fsync, Path.replace

    def synced(handle):
        place = Path(f"/proc/self/fd/{handle}")
        done.append(place.resolve().name.split(".")[0] if place.exists() else "?")
        sync(handle)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(
        Path, "replace", lambda old, new: done.append("rename") or rename(old, new)
    )
    with written_whole(tmp_path / "run" / "best" / "file.txt") as temporary:
        temporary.write_text("x")
    if done[0] != "?":
        assert sorted(done[:2]) == sorted(["run", tmp_path.name.split(".")[0]])
        assert done[3:] == ["rename", "best"]
    assert len(done) == 5


@pytest.mark.skipif(os.name == "nt", reason="Windows keeps no such modes")
def test_others_may_read_what_they_may_read_by_the_umask(tmp_path):
    from safetensors.numpy import save_file

    with written_whole(tmp_path / "weights.safetensors") as temporary:
        save_file({"a": np.zeros(3)}, temporary)
    write_text(tmp_path / "text", "as other files")
    modes = {path.stat().st_mode for path in tmp_path.iterdir()}
    assert len(modes) == 1


def test_a_folder_that_could_not_be_written_is_refused_before_the_work(tmp_path):
    (tmp_path / "file").write_text("x")
    refuse_unwritable_folder(tmp_path / "new" / "deep", "the results")
    refuse_unwritable_folder(tmp_path, "the results")
    for place in ("file", "file/below/it"):
        with pytest.raises(OutputError, match=r"file is a file; name a folder for the results"):
            refuse_unwritable_folder(tmp_path / place, "the results")


def test_a_folder_without_the_right_to_write_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda _place, _mode: False)  # root may write anywhere
    with pytest.raises(OutputError, match="may not be written into; name another place"):
        refuse_unwritable_folder(tmp_path / "new", "the results")

"""No file, however damaged or hostile, makes more of a reader than an error in words."""

import contextlib
import math
import os
import random
import subprocess
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deconvnet.checkpoint import read_weights
from deconvnet.errors import UserError
from fuzz.commands import COMMANDS, try_command, words_of, wrong_with
from fuzz.loop import MAX_PIXELS, hostile, try_one
from fuzz.targets import RAN, TARGETS, malicious, read_state
from programs import load_program
from reliability import COUNTS, record

FEW = 3
"""Inputs of a target in the fast tier."""


@pytest.fixture(autouse=True)
def _few_pixels(monkeypatch):
    monkeypatch.setenv("DECONVNET_MAX_PIXELS", str(MAX_PIXELS))


@pytest.mark.parametrize("target", TARGETS)
def test_hostile_files_are_refused_in_words(target, tmp_path):
    troubles = [try_one(target, 1, number, tmp_path) for number in range(FEW)]
    assert [str(trouble) for trouble in troubles if trouble] == []


def test_an_input_that_failed_can_be_made_again():
    for target in ("recipes", "class tables", "archives", "files of torch"):
        assert hostile(target, 3, 14) == hostile(target, 3, 14)
        assert len({hostile(target, 3, number) for number in range(20)}) > 10


def test_the_shares_of_the_targets_are_the_whole():
    assert sum(target.share for target in TARGETS.values()) == 100


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(content=st.binary(max_size=300), target=st.sampled_from(sorted(TARGETS)))
def test_any_bytes_are_read_or_refused_in_words(content, target, tmp_path):
    named = {"class tables": b"classes.csv\n", "lists of pictures": b"voc\n"}
    with contextlib.suppress(UserError):
        TARGETS[target].read(tmp_path, named.get(target, b"") + content)


def test_the_loop_sees_what_goes_wrong(tmp_path, monkeypatch):
    def reads(how):
        broken = TARGETS["recipes"]._replace(read=how)
        monkeypatch.setitem(TARGETS, "recipes", broken)
        return str(try_one("recipes", 0, 0, tmp_path))

    def hangs(*_):
        while True:
            pass

    def refuses_without_words(*_):
        raise UserError("")

    monkeypatch.setattr("fuzz.loop.MOST_SECONDS", 0.1)
    assert "ZeroDivisionError" in reads(lambda *_: 1 / 0)
    assert "processor time" in reads(hangs)
    assert "without words" in reads(refuses_without_words)


@pytest.fixture
def script():
    return load_program("fuzz_readers")


needs_fork = pytest.mark.skipif(sys.platform != "linux", reason="other processes see no patch")


@needs_fork
def test_a_run_tells_of_each_process_that_dies_and_goes_on_behind_it(
    script, monkeypatch, capfd
):
    def dies(folder, content):
        number = (folder / "count").stat().st_size if (folder / "count").exists() else 0
        with (folder / "count").open("ab") as file:
            file.write(b"x")
        if number == 3:
            os._exit(7)
        if number == 1:
            raise ZeroDivisionError

    monkeypatch.setitem(TARGETS, "recipes", TARGETS["recipes"]._replace(read=dies))
    run = script.Run(0, script.parts(11, ["recipes"]))
    run.go(math.inf)
    assert (sum(run.tried), sum(run.found)) == (11, 5)  # of processes that read 4, 4 and 3
    said = capfd.readouterr().out
    assert "recipes, seed 0, input 1: ZeroDivisionError" in said
    assert "recipes, seed 0, input 3: died (7)" in said
    assert "recipes, seed 0, input 7: died (7)" in said


@needs_fork
def test_a_run_ends_when_it_is_stopped_or_its_time_is_over(script):
    for stopped, ends in ((True, math.inf), (False, 0.0)):
        run = script.Run(0, script.parts(100))
        if stopped:
            run.stop()
        run.go(ends)
        assert sum(run.tried) == 0


def test_every_input_is_tried_once_and_every_target_in_each_turn(script):
    parts = script.parts(3000)
    for name, target in TARGETS.items():
        numbers = [number for part, of in parts if part == name for number in of]
        assert numbers == list(range(30 * target.share))
    assert {name for name, of in parts[: len(TARGETS)] if of} > {"pictures", "masks"}


@pytest.mark.parametrize("seed", range(12))
def test_a_malicious_pickle_is_refused_and_never_run(seed, tmp_path):
    content = malicious(random.Random(seed))
    (tmp_path / "a.pth").write_bytes(content)
    with pytest.raises(UserError, match=r"could run code|is damaged"):
        read_weights(tmp_path / "a.pth")
    read_state(tmp_path, content)
    assert RAN == []


@pytest.mark.parametrize("name", ["check-data of lists", "convert a pickle", "train"])
def test_commands_refuse_hostile_files_in_a_sentence(name, tmp_path):
    assert str(try_command(name, 1, 0, tmp_path)) == "None"


# The long tier


@pytest.mark.slow
def test_three_hundred_commands_refuse_hostile_files_in_a_sentence(tmp_path):
    troubles, each = [], 300 // len(COMMANDS)
    for name in COMMANDS:
        folder = tmp_path / name.replace(" ", "_")
        folder.mkdir()
        troubles += [try_command(name, 0, number, folder) for number in range(each)]
    assert [str(trouble) for trouble in troubles if trouble] == []
    record(
        "Hostile files given to the command line, in process",
        each * len(COMMANDS),
        "exit code 0 or 2 (check-data also 1) and one sentence, no traceback",
    )


@pytest.mark.slow
def test_a_process_of_its_own_ends_the_same_way(tmp_path):
    for number, name in enumerate(COMMANDS):
        words = words_of(name, 2, number, tmp_path)
        ended = subprocess.run(
            [sys.executable, "-m", "deconvnet", *words],
            capture_output=True, text=True, timeout=600, check=False,
        )  # fmt: skip
        assert wrong_with(name, ended.returncode, ended.stderr) == ""
    record(
        "Hostile files given to the command line, each in a process of its own",
        len(COMMANDS),
        "exit code 0 or 2 (check-data also 1) and one sentence, no traceback",
    )


@pytest.mark.slow
def test_a_few_thousand_hostile_files_are_refused_in_words(tmp_path):
    script = str(COUNTS.parent.parent / "scripts" / "fuzz_readers.py")
    ended = subprocess.run(
        [sys.executable, script, "--count", "3000", "--seed", "9"],
        capture_output=True, text=True, timeout=3000, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-1000:]

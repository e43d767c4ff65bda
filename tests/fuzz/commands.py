"""The command line under fire: hostile files given to whole commands."""

import contextlib
import io
import random
import shutil
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from deconvnet.cli import main
from fuzz.loop import Trouble
from fuzz.targets import (
    TARGETS,
    checkpoint_files,
    draw_list_folders,
    make_mask,
    read_coco,
    read_labelme,
    read_list,
)

MOST_SECONDS = 20.0
"""Of processor time for one command: it may have to make a network, and its pictures."""

MOST_LINES = 3
"""On stderr, when a command is refused: one sentence, and what a C library says of its own."""


class Command(NamedTuple):
    """A command, and whose hostile files it is given."""

    target: str
    words: Callable[[Path, bytes], list[str]]
    """Puts the file where it belongs, and gives the words of the command line."""
    codes: tuple[int, ...] = (0, 2)
    """How it may end."""


def _predict(folder: Path, content: bytes) -> list[str]:
    (folder / "picture.png").write_bytes(content)
    places = [_checkpoint(folder), folder / "picture.png", "--out", folder / "out"]
    return ["predict", *map(str, places)]


def _checkpoint(folder: Path, **files: bytes) -> Path:
    place = folder / "checkpoint"
    place.mkdir(exist_ok=True)
    config, weights = checkpoint_files()
    (place / "config.json").write_bytes(files.get("config", config))
    (place / "model.safetensors").write_bytes(files.get("weights", weights))
    return place


def _described(name: str) -> Callable[[Path, bytes], list[str]]:
    def words(folder: Path, content: bytes) -> list[str]:
        place = _checkpoint(folder, **{name: content})
        return ["describe", str(place), "--size", "32"]

    return words


def _checked(read: Callable[[Path, bytes], object]) -> Callable[[Path, bytes], list[str]]:
    def words(folder: Path, content: bytes) -> list[str]:
        with contextlib.suppress(Exception):  # it has put the file in its place by then
            read(folder, content)
        newest = max(folder.iterdir(), key=lambda path: max(_times(path)))
        return ["check-data", str(newest)]

    return words


def _times(path: Path) -> list[float]:
    return [inner.stat().st_mtime for inner in (path, *path.rglob("*"))]


def _evaluate(folder: Path, content: bytes) -> list[str]:
    place = draw_list_folders(folder)
    mask = sorted((place / "labels").glob("*.png"))[0]
    mask.write_bytes(content)
    return ["evaluate", str(_checkpoint(folder)), str(place), "--split", "train", "--yes"]


def _train(folder: Path, content: bytes) -> list[str]:
    (folder / "recipe.yaml").write_bytes(content)
    settings = "--steps 1 --width 0.02 --model unet --data scenes:count=2,size=32 --dry-run"
    return ["train", str(folder / "recipe.yaml"), *settings.split()]


def _convert(suffix: str) -> Callable[[Path, bytes], list[str]]:
    def words(folder: Path, content: bytes) -> list[str]:
        (folder / f"file{suffix}").write_bytes(content)
        model = ["--model", "deconvnet", "--out", str(folder / "out")]
        return ["convert", str(folder / f"file{suffix}"), *model]

    return words


COMMANDS: dict[str, Command] = {
    "predict": Command("pictures", _predict),
    "describe a config": Command("config.json", _described("config")),
    "describe weights": Command("safetensors", _described("weights")),
    "check-data of COCO": Command("COCO JSON", _checked(read_coco), (0, 1, 2)),
    "check-data of Labelme": Command("Labelme JSON", _checked(read_labelme), (0, 1, 2)),
    "check-data of lists": Command("lists of pictures", _checked(read_list), (0, 1, 2)),
    "evaluate": Command("masks", _evaluate),
    "train": Command("recipes", _train),
    "convert a caffemodel": Command("caffemodels", _convert(".caffemodel"), (2,)),
    "convert a pickle": Command("files of torch", _convert(".pth"), (2,)),
}
"""Every command that reads what others wrote. To add one, add a line."""


def words_of(name: str, seed: int, number: int, folder: Path) -> list[str]:
    """Make a hostile file, put it in its place, and give the words of the command line."""
    command = COMMANDS[name]
    choose = random.Random(f"{name} {seed} {number}")
    make = make_mask if command.target == "masks" else TARGETS[command.target].make
    shutil.rmtree(folder / "out", ignore_errors=True)
    return [*command.words(folder, make(choose)), "--device", "cpu", "--quiet"]


def try_command(name: str, seed: int, number: int, folder: Path) -> Trouble | None:
    """Run one command in this process; gives what went wrong, if anything did."""
    words = words_of(name, seed, number, folder)
    said, printed = io.StringIO(), io.StringIO()
    began = time.process_time()
    what = where = ""
    code = None
    with (
        contextlib.redirect_stderr(said),
        contextlib.redirect_stdout(printed),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("default")
        try:
            code = main(words)
        except SystemExit as ended:
            code = ended.code
        except Exception as error:  # that is the question
            what = f"{type(error).__name__}: {str(error)[:300]}"
            where = "".join(traceback.format_tb(error.__traceback__)[-4:])
    took = time.process_time() - began
    what = what or wrong_with(name, code, said.getvalue())
    if not what and took > MOST_SECONDS:
        what = f"took {took:.1f} s of processor time"
    return Trouble(name, seed, number, what, where) if what else None


def wrong_with(name: str, code: object, said: str) -> str:
    """What is wrong with how a command ended, and what it said on stderr."""
    lines = [line for line in said.splitlines() if line.strip()]
    if code not in COMMANDS[name].codes:
        return f"ended with {code}: {said[-300:]}"
    if "Traceback" in said:
        return f"showed a traceback: {said[-300:]}"
    if code == 2 and not any(line.startswith("deconvnet") for line in lines):
        return f"ended with 2 and said {said[:300]!r}"
    if len(lines) > MOST_LINES:
        return f"said {len(lines)} lines: {said[:300]!r}"
    return ""

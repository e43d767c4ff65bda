"""Which pictures are done: a line each, so that an interrupted prediction can go on."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, TextIO

from deconvnet.errors import OutputError, RecipeError
from deconvnet.files import write_text


class Finished(NamedTuple):
    """What is kept about a picture whose results are written."""

    name: str
    """As PictureFile has it; the results are named after it."""
    source: str
    """The picture's file."""
    stamp: tuple[int, int]
    """Bytes and time of change (ns) of that file: another picture under its name is new."""
    share: Mapping[str, float]
    """Of each class, 0 to 1."""
    doubt: float | None = None
    unlike: str = ""

    def to_line(self) -> str:
        """The record as JSON, on one line."""
        return json.dumps(self._asdict())

    @classmethod
    def from_line(cls, line: str) -> "Finished":
        """Read it back.

        Raises:
            ValueError: If it is cut short; TypeError or KeyError if it is something else.
        """
        values = json.loads(line)
        size, changed = values.pop("stamp")
        found = cls(**values, stamp=(size, changed))
        if not isinstance(found.name, str) or not isinstance(found.share, dict):
            raise TypeError(f"{line} is no record of a picture")
        return found


class Journal:
    """The finished pictures below one folder, also those of other shards with equal settings.

    The first line of the file holds the settings. A line is added after the results of a
    picture are on the disk, so a process that is killed leaves neither gap nor half result:
    what has no line is done again. Use as a context; it closes the file.

    Args:
        path: The file, finished.jsonl or that of a shard.
        settings: What decides the results.
        resume: Keep what is finished; else all is begun anew.

    Raises:
        RecipeError: If results are there that were made with other settings.
        OutputError: If the file cannot be written.
    """

    def __init__(
        self, path: Path, settings: Mapping[str, Any], *, resume: bool = False
    ) -> None:
        settings = json.loads(json.dumps(settings))
        self._lines: dict[str, str] = {}
        own: list[str] = []
        if resume:
            for other in sorted(path.parent.glob("finished*.jsonl")):
                lines = _entries(other, settings)
                self._lines |= {json.loads(line)["name"]: line for line in lines}
                own = lines if other == path else own
        head = json.dumps({"settings": settings})
        write_text(path, "\n".join([head, *own]) + "\n")
        try:
            self._file: TextIO = path.open("a", encoding="utf-8")
        except OSError as error:
            raise OutputError(f"{path} could not be written: {error.strerror}.") from error

    def __enter__(self) -> "Journal":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def __len__(self) -> int:
        return len(self._lines)

    def find(self, name: str, stamp: tuple[int, int]) -> Finished | None:
        """What is known of a picture; none if it is not finished, or has changed since."""
        line = self._lines.get(name)
        found = None if line is None else Finished.from_line(line)
        return found if found and found.stamp == stamp else None

    def add(self, finished: Finished) -> None:
        """Note a picture whose results are written."""
        line = finished.to_line()
        try:
            self._file.write(line + "\n")
            self._file.flush()
        except OSError as error:
            raise OutputError(
                f"{self._file.name} could not be written: {error.strerror}; free space there."
            ) from error
        self._lines[finished.name] = line

    def entries(self, names: list[str]) -> Iterator[Finished]:
        """The finished pictures of these names, in this order."""
        return (Finished.from_line(self._lines[name]) for name in names if name in self._lines)


def stamp_of(path: Path) -> tuple[int, int]:
    """Bytes and time of change of a file; zeros for what is no file, such as a camera."""
    try:
        about = path.stat()
    except OSError:
        return 0, 0
    return about.st_size, about.st_mtime_ns


def _entries(path: Path, settings: Mapping[str, Any]) -> list[str]:
    """The whole lines of a journal; a last one that was cut short is left out.

    Raises:
        RecipeError: If it was begun with other settings.
    """
    try:
        head, *lines = path.read_text(encoding="utf-8").splitlines()
        before = json.loads(head)["settings"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return []  # nothing that could be gone on with
    if not isinstance(before, dict):
        return []
    differing = [
        f"{name} was {before.get(name)!r} and is {settings.get(name)!r}"
        for name in dict.fromkeys([*settings, *before])
        if before.get(name) != settings.get(name)
    ]
    if differing:
        raise RecipeError(
            f"The results in {path.parent} were begun with other settings "
            f"({'; '.join(differing)}); give the same ones, or do all anew without --resume."
        )
    return [line for line in lines if _is_whole(line)]


def _is_whole(line: str) -> bool:
    try:
        Finished.from_line(line)
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return False
    return True

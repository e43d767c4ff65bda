"""Reading JSON files of annotations, whatever they hold."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deconvnet.data.outlines import FURTHEST
from deconvnet.errors import DataError
from deconvnet.files import is_file

_UPLOADED = re.compile(r"^[0-9a-f]{8}-")
_CONTROL = {chr(code) for code in (*range(32), 127)}


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        DataError: If it cannot be read, is no JSON, or holds something else.
    """
    content = _content(path)
    if not isinstance(content, dict):
        raise DataError(f"{path} holds no JSON object; export the annotations again.")
    return content


def read_json_list(path: Path) -> list[dict[str, Any]]:
    """The objects of the list in a JSON file.

    Raises:
        DataError: If it cannot be read, is no JSON, or holds something else.
    """
    content = _content(path)
    if not isinstance(content, list) or not all(isinstance(each, dict) for each in content):
        raise DataError(f"{path} holds no list of JSON objects; export it again.")
    return content


def _content(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError, MemoryError) as error:
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(
            f"{path} cannot be read as JSON ({said}); export the annotations again."
        ) from None


def coordinates(values: object, what: str, *, least: int) -> list[float]:
    """Numbers x, y, x, y, ... from a flat list, or from a list of pairs.

    Args:
        values: What the file has there.
        what: The file and the object, the beginning of a sentence.
        least: The fewest points that will do.

    Raises:
        DataError: If these are no coordinates in pixels.
    """
    flat: list[object] = []
    for value in values if isinstance(values, list) else []:
        flat += value if isinstance(value, list) and len(value) == 2 else [value]
    numbers = [_number(value) for value in flat]
    known = [number for number in numbers if number is not None]
    if len(known) < len(flat) or len(flat) % 2 or len(flat) < 2 * least:
        raise DataError(
            f"{what} needs at least {least} points x, y in pixels, and has "
            f"{_shown(values)}; draw it again."
        )
    return known


def whole_number(value: object) -> int | None:
    """The value if it is a whole number from 0 to a thousand million, else None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if not 0 <= value < 10**9 or value != int(value):  # NaN is not <= anything
        return None
    return int(value)


def picture_name(value: object, what: str) -> str:
    """The path of a picture as a file of annotations gives it, with forward slashes.

    Paths of the machine on which they were made, and those that lead out of the data set,
    become the name of the file alone.

    Raises:
        DataError: If it is no name of a file.
    """
    if not isinstance(value, str) or not value.strip() or _CONTROL & set(value):
        raise DataError(f"{what} has no file name but {_shown(value)}; export it again.")
    parts = [part for part in value.replace("\\", "/").split("/") if part != "."]
    if parts[0] == "" or parts[0].endswith(":") or ".." in parts:
        parts = parts[-1:]
    parts = [part for part in parts if part]
    if not parts or max(len(part.encode(errors="replace")) for part in parts) > 255:
        raise DataError(f"{what} has no file name but {_shown(value)}; export it again.")
    try:
        value.encode()
    except UnicodeEncodeError:  # half of a surrogate pair, which JSON can write
        raise DataError(f"{what} has no file name but {value!a}; export it again.") from None
    return "/".join(parts)


def first_there(folders: Sequence[Path], name: str) -> Path:
    """The picture in the first folder that has it, by its path or by its last part alone.

    Label Studio puts eight hexadecimal digits before the names of files that are uploaded; a
    picture without them is the one, too. Where none has it, its place in the first folder,
    which is then reported as missing.
    """
    last = name.rpartition("/")[2]
    for folder in folders:
        for candidate in dict.fromkeys((name, last, _UPLOADED.sub("", last))):
            if is_file(folder / candidate):
                return folder / candidate
    return folders[0] / name


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) <= FURTHEST else None  # NaN is not <= anything


def _shown(value: object) -> str:
    text = ascii(value)
    return text if len(text) <= 60 else f"{text[:57]}..."

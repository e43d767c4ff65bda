"""MATLAB's files (version 5), as far as SBD's masks need: a structure with a map inside.

scipy reads all that such files can hold, and dies (a segmentation fault) of some that are
damaged; here every length and type is looked at before it is believed.

Source: MathWorks, MAT-File Format, version 5.
"""

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

_HEADER = 128
_MATRIX, _COMPRESSED = 14, 15
_STRUCTURE = 2
_MOST_UNPACKED = 2**28

_STORED = {
    1: "i1",
    2: "u1",
    3: "i2",
    4: "u2",
    5: "i4",
    6: "u4",
    7: "f4",
    9: "f8",
    12: "i8",
    13: "u8",
}
"""How numbers lie in the file, by the type of the element."""
_MEANT = dict(zip(range(6, 16), "f8 f4 i1 u1 i2 u2 i4 u4 i8 u8".split(), strict=True))
"""What they are in MATLAB, by the class of the array."""


class _Element(NamedTuple):
    type: int
    content: bytes


def read_structure_field(path: Path, structures: tuple[str, ...], field: str) -> np.ndarray:
    """The numbers in one field of a structure of one by one.

    Args:
        path: The file.
        structures: Names of the structure; the first that is there is taken.
        field: The field's name.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it is damaged, or holds no such field.
    """
    content = path.read_bytes()
    order = {b"IM": "<", b"MI": ">"}.get(content[126:_HEADER])
    if order is None:
        raise ValueError("no file of MATLAB 5")
    found: dict[str, list[_Element]] = {}
    for element in _elements(content[_HEADER:], order, packed=True):
        if element.type == _MATRIX:
            parts = list(_elements(element.content, order))
            found.setdefault(_text(_at(parts, 2)), parts)
    for name in structures:
        if name in found:
            return _numbers(_field(found[name], field, order), order)
    raise ValueError(f"no {' or '.join(structures)}")


def _elements(content: bytes, order: str, *, packed: bool = False) -> Iterator[_Element]:
    """The elements that lie one after the other.

    Args:
        content: Their bytes.
        order: That of the bytes in a number, as struct has it.
        packed: Unpack compressed ones, in which none may be packed again.

    Raises:
        ValueError: If one is cut short or packed where it may not be.
    """
    at = 0
    while at + 8 <= len(content):
        kind, length = struct.unpack_from(f"{order}II", content, at)
        start = at + 8
        if kind >> 16:  # a small one: its length and its content lie in the tag
            kind, length, start = kind & 0xFFFF, kind >> 16, at + 4
            at += 8
        elif kind == _COMPRESSED:
            at = start + length
        else:
            at = start + length + -length % 8
        part = content[start : start + length]
        if len(part) < length or (start == at - 4 and length > 4):
            raise ValueError("an element is cut short")
        if kind == _COMPRESSED and not packed:
            raise ValueError("an element is packed twice")
        if kind == _COMPRESSED:
            yield from _elements(_unpacked(part), order)
        else:
            yield _Element(kind, part)


def _unpacked(part: bytes) -> bytes:
    stream = zlib.decompressobj()
    try:
        content = stream.decompress(part, _MOST_UNPACKED)
    except zlib.error as error:
        raise ValueError(str(error)) from None
    if not stream.eof:
        raise ValueError("a compressed element is cut short, or too large")
    return content


def _field(parts: list[_Element], field: str, order: str) -> list[_Element]:
    """The parts of the matrix in a field of a structure of one by one."""
    kind, shape = _kind_and_shape(parts, order)
    if kind != _STRUCTURE or shape != (1, 1):
        raise ValueError("no structure of one by one")
    (length,) = struct.unpack(f"{order}i", _at(parts, 3).content)
    names = _at(parts, 4).content
    if length < 1:
        raise ValueError("no names of fields")
    listed = [
        names[at : at + length].split(b"\0")[0].decode("latin-1")
        for at in range(0, len(names), length)
    ]
    if field not in listed:
        raise ValueError(f"no field {field}")
    matrix = _at(parts, 5 + listed.index(field))
    if matrix.type != _MATRIX:
        raise ValueError(f"{field} is no matrix")
    return list(_elements(matrix.content, order))


def _numbers(parts: list[_Element], order: str) -> np.ndarray:
    kind, shape = _kind_and_shape(parts, order)
    stored = _at(parts, 3)
    if kind not in _MEANT or stored.type not in _STORED:
        raise ValueError("no numbers")
    values = np.frombuffer(stored.content, f"{order}{_STORED[stored.type]}")
    return values.astype(_MEANT[kind]).reshape(shape, order="F")


def _kind_and_shape(parts: list[_Element], order: str) -> tuple[int, tuple[int, ...]]:
    flags, sizes = _at(parts, 0).content, _at(parts, 1).content
    if len(flags) != 8 or len(sizes) % 4:
        raise ValueError("no matrix")
    shape = struct.unpack(f"{order}{len(sizes) // 4}i", sizes)
    if any(size < 0 for size in shape):
        raise ValueError("a negative size")
    return struct.unpack_from(f"{order}I", flags)[0] & 0xFF, shape


def _at(parts: list[_Element], place: int) -> _Element:
    if place >= len(parts):
        raise ValueError("a part is missing")
    return parts[place]


def _text(element: _Element) -> str:
    return element.content.decode("latin-1")

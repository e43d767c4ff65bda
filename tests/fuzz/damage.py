"""Ways to damage a file: bytes, JSON trees, lines of text, PNG chunks, ZIP members."""

import copy
import io
import json
import random
import struct
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any

NUMBERS = (0, 1, 2, 7, 127, 128, 255, 256, 30_000, 65_535, 2**24, 2**31 - 1, 2**31, 2**32 - 1)

VALUES = (
    None, True, False, 0, -1, 1, 1.5, -0.0, 255, 256, 65_536, 2**31, 2**63, -(2**63), 10**30,
    10**400, 1e308, -1e308, 5e-324, float("nan"), float("inf"), float("-inf"), "", " ", "\0",
    "a\nb", "\ud800", "\u202e", "../../../etc/passwd", "/dev/zero", "/dev/stdin",
    "C:\\con", ".",
    "..", "x" * 300, "x" * 5000, "1e9", "é" * 200, [], {}, [[]], [None], [[], {}], {"a": []},
    [0] * 7, [1e9, 1e9, -1e9, -1e9, 0, 0], [[0, 0], [1]], "none", "true",
    "!!python/name:os.system",
)  # fmt: skip
"""What a careless or hostile writer might put where something else belongs."""

LINES = (
    "", " ", "\0", "\ufeff", "#", ":", ",", ";", "\t", '"', "a b c d e", "x" * 300, "é" * 300,
    "ignored 999", "ignored 11", "void 4", "name 256 0 0", "name -1 0 0", "name 1 2 3",
    "١ ٢ ٣ a",
    "² ² ² a", "a:1,2", "a:1,2,3::", ":1,2,3", "a,1,2,3", '"a,1', "../../etc/passwd", "/", "//",
    ".", "..", "a/../b", "images/", "a\0b a\0b", "9" * 5000, "9" * 5000 + " 0 0 a",
    "ignored " + "9" * 5000,
    "a: &a [*a, *a]", "? [", "- - - -", "{a: b",
    "!!python/object/apply:os.system [exit]", "a: *b",
    "%YAML 9.9", "--- ", "...", "a: 1e999", "a: .nan", "a: 0x" + "f" * 300, "a: 1:" + "9" * 300,
    "a: 2001-99-99", "? {}", "? []", "[1]: 2", "<<: 3", "<<: [a]", "a: !!binary '='",
    "a: !!set",
    "a: !!timestamp x", "a: !!float x", "a: !!int ''",
)  # fmt: skip
"""What might stand in a line of a list, a table or a recipe."""


def damaged(choose: random.Random, content: bytes) -> bytes:
    """One to eight changes of the kinds that copying, cutting and lying leave behind."""
    changed = bytearray(content)
    for _ in range(choose.choice((1, 1, 1, 2, 3, 8))):
        choose.choice(_BYTE_CHANGES)(choose, changed)
    return bytes(changed)


def _flip_a_bit(choose: random.Random, content: bytearray) -> None:
    if content:
        content[choose.randrange(len(content))] ^= 1 << choose.randrange(8)


def _set_a_byte(choose: random.Random, content: bytearray) -> None:
    if content:
        content[choose.randrange(len(content))] = choose.choice((0, 1, 127, 128, 254, 255))


def _set_a_byte_near_the_head(choose: random.Random, content: bytearray) -> None:
    if content:
        content[choose.randrange(min(64, len(content)))] = choose.randrange(256)


def _write_a_number(choose: random.Random, content: bytearray) -> None:
    at = choose.randrange(len(content) + 1)
    kind = choose.choice(("<H", ">H", "<I", ">I", "<Q", ">Q"))
    number = choose.choice(NUMBERS) % 2 ** (8 * struct.calcsize(kind))
    content[at : at + struct.calcsize(kind)] = struct.pack(kind, number)


def _cut_the_end(choose: random.Random, content: bytearray) -> None:
    del content[choose.randrange(len(content) + 1) :]


def _take_a_part_out(choose: random.Random, content: bytearray) -> None:
    at = choose.randrange(len(content) + 1)
    del content[at : at + choose.choice((1, 2, 4, 16, 100))]


def _double_a_part(choose: random.Random, content: bytearray) -> None:
    at = choose.randrange(len(content) + 1)
    part = content[at : at + choose.choice((1, 4, 16, 100))]
    content[at:at] = part * choose.choice((1, 2, 40))


def _put_noise_in(choose: random.Random, content: bytearray) -> None:
    at = choose.randrange(len(content) + 1)
    content[at:at] = choose.randbytes(choose.choice((1, 2, 8, 64)))


def _zero_a_part(choose: random.Random, content: bytearray) -> None:
    at = choose.randrange(len(content) + 1)
    length = min(choose.choice((4, 64, 512)), len(content) - at)
    content[at : at + length] = bytes(length)


_BYTE_CHANGES = (
    _flip_a_bit,
    _flip_a_bit,
    _set_a_byte,
    _set_a_byte_near_the_head,
    _write_a_number,
    _write_a_number,
    _cut_the_end,
    _take_a_part_out,
    _double_a_part,
    _put_noise_in,
    _zero_a_part,
)


def damaged_json(choose: random.Random, tree: object) -> bytes:
    """A JSON file with some values changed, taken out or doubled; or its bytes damaged."""
    kind = choose.random()
    if kind < 0.02:
        return choose.choice((b"[" * 100_000, b'{"a":' * 50_000, b'{"images": ' + b"[" * 9000))
    tree = json.loads(json.dumps(tree))
    if kind < 0.25:
        return damaged(choose, json.dumps(tree).encode())
    for _ in range(choose.choice((1, 1, 2, 4))):
        tree = _changed_tree(choose, tree)
    return json.dumps(tree).encode()


def _changed_tree(choose: random.Random, tree: object) -> object:
    places = list(_places(tree))
    if not places or choose.random() < 0.01:
        return copy.deepcopy(choose.choice(VALUES))
    holder, key = choose.choice(places)
    action = choose.random()
    if action < 0.75:
        holder[key] = copy.deepcopy(choose.choice(VALUES))
    elif action < 0.9:
        del holder[key]
    elif isinstance(holder, list):
        holder.insert(key, holder[choose.randrange(len(holder))])
    else:
        holder[choose.choice((key + "_", "", "id", "__class__"))] = holder.pop(key)
    return tree


def _places(tree: object) -> Iterator[tuple[Any, Any]]:
    """Where a value can be put: the dictionary or list that holds it, and its key."""
    if not isinstance(tree, dict | list):
        return
    items = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for key, value in list(items):
        yield tree, key
        if isinstance(value, dict | list) and value:
            yield from _places(value)


def damaged_lines(choose: random.Random, text: str) -> bytes:
    """A text file with lines changed, taken out, doubled or put in; or its bytes damaged."""
    if choose.random() < 0.3:
        return damaged(choose, text.encode())
    lines = text.splitlines()
    for _ in range(choose.choice((1, 1, 2, 5))):
        at = choose.randrange(len(lines) + 1)
        action = choose.random()
        if action < 0.5:
            lines.insert(at, choose.choice(LINES))
        elif action < 0.7 and at < len(lines):
            head, _, tail = lines[at].rpartition(choose.choice(" :,/"))
            lines[at] = f"{head}{choose.choice((' ', ': ', ','))}{choose.choice(LINES) or tail}"
        elif action < 0.85 and at < len(lines):
            lines.insert(at, lines[at])
        else:
            del lines[at : at + 1]
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def damaged_png(choose: random.Random, content: bytes) -> bytes:
    """A PNG with one chunk damaged, doubled, moved or made up, and every checksum right."""
    chunks, at = [], 8
    while at + 12 <= len(content):
        (length,) = struct.unpack_from(">I", content, at)
        chunks.append((content[at + 4 : at + 8], content[at + 8 : at + 8 + length]))
        at += 12 + length
    place = choose.randrange(len(chunks))
    name, body = chunks[place]
    action = choose.random()
    if action < 0.5:
        chunks[place] = name, damaged(choose, body)
    elif action < 0.6:
        chunks.insert(choose.randrange(len(chunks) + 1), chunks[place])
    elif action < 0.7:
        chunks.pop(place)
    else:
        chunks.insert(choose.randrange(1, len(chunks) + 1), choose.choice(_CHUNKS))
    return content[:8] + b"".join(map(_chunk, chunks))


def _chunk(chunk: tuple[bytes, bytes]) -> bytes:
    name, body = chunk
    checksum = zlib.crc32(name + body)
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", checksum)


_CHUNKS = (
    (b"zTXt", b"a\0\0" + zlib.compress(bytes(20_000_000))),
    (b"iTXt", b"a\0\1\0\0\0" + zlib.compress(bytes(20_000_000))),
    (b"iCCP", b"a\0\0" + zlib.compress(bytes(20_000_000))),
    (b"iCCP", b"a\0\0x"),
    (b"tRNS", b""),
    (b"tRNS", bytes(300)),
    (b"PLTE", b"\1\2"),
    (b"PLTE", bytes(900)),
    (b"gAMA", b""),
    (b"pHYs", b""),
    (b"cHRM", b"\0"),
    (b"eXIf", b"MM\0*\0\0\0\x08\xff\xff"),
    (b"eXIf", b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"),
    (b"acTL", b"\xff\xff\xff\xff\0\0\0\0"),
    (b"fcTL", bytes(26)),
    (b"fdAT", bytes(4)),
    (b"IDAT", b""),
    (b"IHDR", struct.pack(">II", 60_000, 60_000) + b"\x08\2\0\0\0"),
    (b"IHDR", struct.pack(">II", 0, 0) + b"\x08\2\0\0\0"),
)


def damaged_zip(choose: random.Random, content: bytes) -> bytes:
    """A ZIP with one member damaged, renamed or taken out, and every checksum right."""
    members = []
    with zipfile.ZipFile(io.BytesIO(content)) as read:
        members = [(name, read.read(name)) for name in read.namelist()]
    place = choose.randrange(len(members))
    name, body = members[place]
    action = choose.random()
    if action < 0.7:
        members[place] = name, damaged(choose, body)
    elif action < 0.8:
        members.pop(place)
    else:
        members[place] = choose.choice(("../" + name, "/" + name, name[1:], name + "x")), body
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as written:
        for member, data in members:
            written.writestr(member, data)
    return packed.getvalue()


def damaged_safetensors(choose: random.Random, content: bytes) -> bytes:
    """A .safetensors whose header lies, with a length that is right."""
    (length,) = struct.unpack_from("<Q", content)
    header = damaged_json(choose, json.loads(content[8 : 8 + length]))
    return struct.pack("<Q", len(header)) + header + content[8 + length :]

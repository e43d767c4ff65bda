"""Pictures that are in a data set twice, as the same file or looking nearly the same."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Literal, NamedTuple

import numpy as np
import PIL.Image

from deconvnet.shapes import Float32

MOST_BITS = 6
"""Of the 64 bits of two near-duplicates' hashes, so many may differ."""

MOST_GREY = 6.0
"""Mean difference of two near-duplicates' thumbnails, 0 to 255, each less its own mean."""

_LEAST_CONTRAST = 4.0
"""Standard deviation of a thumbnail under which a picture is too flat to be compared."""

_THUMBNAIL = 16
_CHUNK = 2048


class Print(NamedTuple):
    """What tells one picture from another, in 300 bytes."""

    content: bytes
    """Hash of the file, or the pixels of a slice."""
    bits: int
    """64: whether the grey rises from each of 8 x 9 places to the next on the right."""
    thumbnail: bytes
    """16 x 16 greys."""


class Duplicate(NamedTuple):
    """Two pictures that are one."""

    kind: Literal["same", "near"]
    split: str
    name: str
    other_split: str
    other_name: str


class Named(NamedTuple):
    """A picture of a split."""

    name: str
    path: str
    """File and slice; a file that two splits list is a mistake of the lists, no duplicate."""
    fingerprint: Print


def print_of(content: bytes, grey: PIL.Image.Image) -> Print:
    """The print of a picture, from its content and from a grey picture, shrunken or not.

    Source: the difference hash of Krawetz 2013.
    """
    small = np.array(grey.resize((9, 8), PIL.Image.Resampling.BOX), np.int16)
    rises = small[:, 1:] > small[:, :-1]
    bits = int.from_bytes(np.packbits(rises).tobytes(), "big")
    thumbnail = grey.resize((_THUMBNAIL, _THUMBNAIL), PIL.Image.Resampling.BOX)
    return Print(content, bits, thumbnail.tobytes())


def find_duplicates(splits: Mapping[str, Sequence[Named]]) -> list[Duplicate]:
    """The same picture twice in one split or in two, and near-duplicates in two splits.

    Near-duplicates in one split are left alone: they cost time and spoil no score.
    """
    found: list[Duplicate] = []
    for split, pictures in splits.items():
        home: dict[bytes, Named] = {}
        for picture in pictures:
            first = home.setdefault(picture.fingerprint.content, picture)
            if first.path != picture.path:
                found.append(Duplicate("same", split, first.name, split, picture.name))
    for (split, pictures), (other, others) in combinations(splits.items(), 2):
        found += _across(split, pictures, other, others)
    return found


def _across(
    split: str, pictures: Sequence[Named], other: str, others: Sequence[Named]
) -> Iterator[Duplicate]:
    """Each picture of the second split that is in the first, once."""
    home = {picture.fingerprint.content: picture for picture in pictures}
    rest = []
    for picture in others:
        first = home.get(picture.fingerprint.content)
        if first is None:
            rest.append(picture)
        elif first.path != picture.path:
            yield Duplicate("same", split, first.name, other, picture.name)
    if not pictures:
        return
    known, thumbnails = _signs(pictures), _thumbnails(pictures)
    for start in range(0, len(rest), _CHUNK):
        chunk = rest[start : start + _CHUNK]
        mine = _thumbnails(chunk)
        agreeing = _signs(chunk) @ known.T  # 64 less twice the bits that differ
        for place, row in enumerate(agreeing):
            near = np.flatnonzero(row >= 64 - 2 * MOST_BITS)
            if not len(near) or mine[place].std() < _LEAST_CONTRAST:
                continue
            apart = np.abs(thumbnails[near] - mine[place]).mean(axis=1)
            best = int(apart.argmin())
            if apart[best] <= MOST_GREY:
                first = pictures[int(near[best])]
                yield Duplicate("near", split, first.name, other, chunk[place].name)


def _signs(pictures: Sequence[Named]) -> Float32[np.ndarray, "n 64"]:
    """The bits as 1 and -1, so that one matrix product compares all with all."""
    words = b"".join(picture.fingerprint.bits.to_bytes(8, "big") for picture in pictures)
    bits = np.unpackbits(np.frombuffer(words, np.uint8).reshape(-1, 8), axis=1)
    return bits.astype(np.float32) * 2 - 1


def _thumbnails(pictures: Sequence[Named]) -> Float32[np.ndarray, "n 256"]:
    """The thumbnails, each less its mean: exposure does not make another picture."""
    grey = np.frombuffer(b"".join(p.fingerprint.thumbnail for p in pictures), np.uint8)
    values = grey.reshape(len(pictures), -1).astype(np.float32)
    return values - values.mean(axis=1, keepdims=True)

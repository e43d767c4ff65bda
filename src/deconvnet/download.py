"""Fetch published weights; what arrives is checked before it gets its name."""

import hashlib
import urllib.error
import urllib.request
from pathlib import Path
from typing import NamedTuple

from deconvnet.errors import DataError, did_you_mean
from deconvnet.files import written_whole
from deconvnet.progress import ProgressBar, say

CHUNK = 2**20


class Published(NamedTuple):
    """A file somebody else publishes."""

    address: str
    sha256: str
    """The published beginning of its SHA-256, in hexadecimal."""
    terms: str


PUBLISHED = {
    "vgg16": Published(
        "https://download.pytorch.org/models/vgg16-397923af.pth",
        "397923af",
        "torchvision's VGG-16, BSD-3-Clause; trained on ImageNet, whose pictures are for "
        "non-commercial research.",
    ),
    "vgg16-bn": Published(
        "https://download.pytorch.org/models/vgg16_bn-6c64b313.pth",
        "6c64b313",
        "torchvision's VGG-16 with batch norm, BSD-3-Clause; trained on ImageNet, whose "
        "pictures are for non-commercial research.",
    ),
}
"""What can be fetched; torchvision writes the first eight digits of the hash into the name."""


def download(
    name: str,
    out: str | Path = ".",
    *,
    quiet: bool = False,
    published: dict[str, Published] = PUBLISHED,
) -> Path:
    """Fetch a published file into a folder; one that is there and right is kept.

    Args:
        name: One of PUBLISHED.
        out: Folder, made if it is missing.
        quiet: Show no progress.
        published: Where things are.

    Returns:
        The file.

    Raises:
        DataError: If there is no such name, the address gives nothing, or the content is not
            what was published; then nothing is written.
    """
    if name not in published:
        raise DataError(
            f"There is nothing to download by the name '{name}'; there are "
            f"{', '.join(published)}.{did_you_mean(name, published)}"
        )
    source = published[name]
    path = Path(out) / source.address.rpartition("/")[2]
    say(f"{name}: {source.terms}", quiet=quiet)
    if path.is_file() and _digest(path).startswith(source.sha256):
        return path
    with written_whole(path) as temporary:
        _fetch(source.address, temporary, quiet=quiet)
        digest = _digest(temporary)
        if not digest.startswith(source.sha256):
            raise DataError(
                f"What {source.address} gave has the SHA-256 {digest[:16]}..., not "
                f"{source.sha256}... as published, so it was thrown away; try again, or fetch "
                "the file another way and give its path."
            )
    return path


def _fetch(address: str, path: Path, *, quiet: bool) -> None:
    try:
        answer = urllib.request.urlopen(address, timeout=60)  # noqa: S310 - from our own table
        with answer, path.open("wb") as file:
            size = int(answer.headers.get("Content-Length", 0))
            with ProgressBar("megabytes", max(1, size // CHUNK), quiet=quiet) as bar:
                while chunk := answer.read(CHUNK):
                    file.write(chunk)
                    bar.advance()
    except (urllib.error.URLError, TimeoutError, ConnectionError, ValueError) as error:
        raise DataError(
            f"{address} could not be fetched ({error}); look at the network connection, or "
            "fetch the file another way and give its path."
        ) from None


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

"""Unpacking archives that somebody else made, without trusting them."""

import secrets
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

from deconvnet.errors import DataError, OutputError

MOST_BYTES = 16 * 2**30
"""An archive that holds more is refused; VOC 2012 holds 2 GiB."""

MOST_FILES = 500_000

_CHUNK = 2**20
_JUNK = ("__MACOSX", ".DS_Store")
_SYMLINK = 0o120000
_FILE_TYPE = 0o170000


class Member(NamedTuple):
    """A file in an archive."""

    name: str
    content: IO[bytes]


def unpack(
    archive: Path,
    destination: Path,
    *,
    part: str = "",
    most_bytes: int = MOST_BYTES,
    most_files: int = MOST_FILES,
) -> Path:
    """Unpack a zip or tar file into a new folder, whole or not at all.

    A single folder that holds all the rest is left out. Only plain files are taken, with plain
    permissions; whatever else there is, or leads out of the folder, refuses the archive.

    Args:
        archive: The file.
        destination: The folder to make; it must not be there.
        part: Only this folder of the archive, by its path inside.
        most_bytes: Refuse more, counted as it is unpacked and not as the archive says.
        most_files: Refuse more files.

    Returns:
        The destination.

    Raises:
        DataError: If it is no archive, damaged, or not to be trusted; nothing is left behind.
        OutputError: If the folder is there, or cannot be written, as on a full disk.
    """
    if destination.exists():
        raise OutputError(f"{destination} is there already; remove it, or name another place.")
    scratch = destination.with_name(f".{destination.name}.{secrets.token_hex(4)}.unpacking")
    try:
        scratch.mkdir(parents=True)
        _write_members(archive, scratch, most_bytes, most_files)
        inside = _root(scratch, archive, part)
        inside.replace(destination)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, RuntimeError) as error:
        raise DataError(
            f"{archive} is damaged or cannot be unpacked ({error}); remove it and download it "
            "again."
        ) from None
    except OSError as error:
        raise OutputError(
            f"{destination} could not be unpacked: {error.strerror or error}; free space "
            "there, or name another place."
        ) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return destination


def _write_members(archive: Path, scratch: Path, most_bytes: int, most_files: int) -> None:
    """Write the files of the archive.

    Raises:
        DataError: If there are too many or too large ones.
    """
    written = 0
    for count, member in enumerate(_members(archive), 1):
        if count > most_files:
            raise DataError(
                f"{archive} holds more than {most_files:,} files, so it was not unpacked; "
                "unpack it yourself if you trust it."
            )
        path = scratch / _safe_name(archive, member.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        with member.content, path.open("wb") as file:
            while chunk := member.content.read(_CHUNK):
                written += len(chunk)
                if written > most_bytes:
                    raise DataError(
                        f"{archive} holds more than {most_bytes:,} bytes, so it was not "
                        "unpacked; unpack it yourself if you trust it."
                    )
                file.write(chunk)


def _members(archive: Path) -> Iterator[Member]:
    """The plain files of an archive.

    Raises:
        DataError: If it holds links or devices, or is no archive.
    """
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as opened:
            for entry in opened.infolist():
                _refuse_special(
                    archive,
                    entry.filename,
                    special=(entry.external_attr >> 16) & _FILE_TYPE == _SYMLINK,
                )
                folder = entry.filename.endswith("/")  # is_dir() fails where there is no name
                if not folder and not _junk(entry.filename):
                    yield Member(entry.filename, opened.open(entry))
        return
    try:
        opened_tar = tarfile.open(archive, "r|*")  # noqa: SIM115 - closed just below
    except tarfile.ReadError:
        raise DataError(
            f"{archive} is neither a zip nor a tar file; remove it and download it again."
        ) from None
    with opened_tar:
        for info in opened_tar:
            _refuse_special(archive, info.name, special=not (info.isfile() or info.isdir()))
            content = opened_tar.extractfile(info)
            if content is not None and not _junk(info.name):
                yield Member(info.name, content)


def _junk(name: str) -> bool:
    return any(part in _JUNK for part in PurePosixPath(name).parts)


def _refuse_special(archive: Path, name: str, *, special: bool) -> None:
    if special:
        raise DataError(
            f"{archive} holds {name!a}, which is a link or a device, so it was not unpacked; "
            "unpack it yourself if you trust it."
        )


def _safe_name(archive: Path, name: str) -> PurePosixPath:
    """The path of a member below the folder it is unpacked into.

    Raises:
        DataError: If it would lie elsewhere.
    """
    path = PurePosixPath(name)
    parts = path.parts
    outside = path.is_absolute() or ".." in parts or not parts
    if outside or any(set(part) & set("\\:\0") for part in parts):
        raise DataError(
            f"{archive} holds {name!a}, which would be written outside its folder, so it was "
            "not unpacked; it is not what it should be."
        )
    return path


def _root(scratch: Path, archive: Path, part: str) -> Path:
    """The folder that is wanted.

    Raises:
        DataError: If the archive does not have it.
    """
    entries = list(scratch.iterdir())
    root = entries[0] if len(entries) == 1 and entries[0].is_dir() else scratch
    wanted = root / part if part else root
    if not wanted.is_dir() or not entries:
        raise DataError(
            f"{archive} has no folder {part or 'at all'}; its publisher has changed it. "
            "Unpack it yourself."
        )
    return wanted

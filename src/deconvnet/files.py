"""Writing files whole or not at all."""

import errno
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from deconvnet.errors import OutputError


@contextmanager
def written_whole(path: str | Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; what is written there takes the place of `path`.

    The data and the rename are on the disk when the block ends. If the block fails or the power
    does, `path` is what it was before.

    Raises:
        OutputError: If the place cannot be written or the disk is full.
    """
    path = Path(path)
    # not made from the process number: two machines may share the folder
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial{path.suffix}")
    try:
        _make_folder(path.parent)
        temporary.touch()
        mode = temporary.stat().st_mode
        yield temporary
        temporary.chmod(mode)  # writers that make the file anew may let nobody else read it
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise OutputError(
            f"{path} could not be written: {error.strerror or error}; "
            "free space there, or name another place."
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def is_file(path: Path) -> bool:
    """Whether there is such a file; no, for names longer than any file can have."""
    try:
        return path.is_file()
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return False
        raise


def is_dir(path: Path) -> bool:
    """Whether there is such a folder; no, for names longer than any folder can have."""
    try:
        return path.is_dir()
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return False
        raise


def write_text(path: str | Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with written_whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def remove_partial_files(folder: str | Path) -> None:
    """Remove the temporary files of writers that were killed; none may be at work there."""
    for left in Path(folder).glob(".*.partial*"):
        if re.fullmatch(r"\..+\.[0-9a-f]{8}\.partial(\.\w+)?", left.name):
            with suppress(OSError):
                left.unlink()


@contextmanager
def kept_for_itself(folder: str | Path) -> Iterator[bool]:
    """Keep a folder from other processes that ask the same; gives whether none has it.

    It leaves no file, and ends with the process however that ends. Where the system or the disk
    knows no such thing (Windows, some network disks) nothing is kept, and the answer is yes.

    Raises:
        OutputError: If the folder is not there and cannot be made.
    """
    folder = Path(folder)
    missing = not folder.exists()
    try:
        _make_folder(folder)
    except OSError as error:
        raise OutputError(
            f"{folder} could not be made: {error.strerror or error}; name another place."
        ) from error
    try:
        import fcntl

        held = os.open(folder, os.O_RDONLY)
    except (ImportError, OSError):
        yield True
        return
    ours = True
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        ours = False
    except OSError:
        pass  # a disk without locks
    try:
        yield ours
    finally:
        if ours and missing:
            with suppress(OSError):
                folder.rmdir()  # if nothing was written
        os.close(held)


def _make_folder(folder: Path) -> None:
    """Make a folder, and those around it, so that they outlast a power cut too."""
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for made in missing:
        _sync_folder(made.parent)


def _sync_folder(folder: Path) -> None:
    """Make a rename in this folder outlast a power cut; Windows does so by itself."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

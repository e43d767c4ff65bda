"""Writing files whole or not at all."""

import errno
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from deconvnet.errors import DataError, OutputError


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


def walk_files(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """Every file with one of the suffixes in a folder and those in it, sorted.

    Links to folders elsewhere are followed, each once.

    Raises:
        DataError: If a name is no text.
    """
    root = Path(folder).resolve()
    found: list[Path] = []
    entered = {root}
    for place, folders, names in os.walk(folder, followlinks=True):
        for name in [name for name in folders if Path(place, name).is_symlink()]:
            target = Path(place, name).resolve()
            inside = target.is_relative_to(root) or root.is_relative_to(target)
            if inside or target in entered:
                folders.remove(name)
            entered.add(target)
        found += [Path(place, n) for n in names if Path(n).suffix.lower() in suffixes]
    for path in found:
        refuse_odd_name(path)
    return sorted(found)


def refuse_odd_name(path: Path) -> None:
    """Refuse a file whose name is of another encoding than the system's, as from an old zip.

    Raises:
        DataError: If so.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise DataError(
            f"The file {os.fsencode(path)!r} has a name that is not UTF-8; rename it, or "
            "unpack the archive it came from anew with its encoding."
        ) from None


def refuse_unwritable_folder(out: Path, what: str) -> None:
    """Refuse a folder that could not be made or written into, before the work and not after it.

    Raises:
        OutputError: If it is a file or below one, or may not be written into.
    """
    nearest = next(place for place in (out, *out.absolute().parents) if place.exists())
    if not nearest.is_dir():
        raise OutputError(f"{nearest} is a file; name a folder for {what}.")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise OutputError(f"{nearest} may not be written into; name another place for {what}.")


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

import io
import tarfile
import zipfile

import pytest

from deconvnet.archives import unpack
from deconvnet.errors import DataError, OutputError


def tar_of(path, *members, mode="w:gz"):
    """A tar file of (name, content) or of TarInfo."""
    with tarfile.open(path, mode) as archive:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member)
                continue
            info = tarfile.TarInfo(member[0])
            info.size = len(member[1])
            archive.addfile(info, io.BytesIO(member[1]))
    return path


def zip_of(path, *members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


def special(name, kind, target=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def assert_refused(archive, tmp_path, message, **limits):
    with pytest.raises(DataError, match=message):
        unpack(archive, tmp_path / "out", **limits)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {archive.name}, "something was left behind"


@pytest.mark.parametrize("make", [tar_of, zip_of])
def test_a_single_outer_folder_is_left_out(tmp_path, make):
    archive = make(tmp_path / "a", ("top/x/1.txt", b"one"), ("top/2.txt", b"two"))
    out = unpack(archive, tmp_path / "out")
    assert (out / "x" / "1.txt").read_bytes() == b"one"
    assert (out / "2.txt").read_bytes() == b"two"


def test_a_part_can_be_asked_for_and_junk_is_left_out(tmp_path):
    members = [("top/Data/1.txt", b"one"), ("top/code.py", b""), ("__MACOSX/x", b"")]
    archive = zip_of(tmp_path / "a", *members)
    out = unpack(archive, tmp_path / "out", part="Data")
    assert [path.name for path in out.iterdir()] == ["1.txt"]
    with pytest.raises(DataError, match="has no folder Dota; its publisher has changed it"):
        unpack(archive, tmp_path / "other", part="Dota")


OUTSIDE = ["../evil.txt", "/tmp/evil.txt", "a/../../evil.txt", "..\\evil.txt", "C:evil.txt"]  # noqa: S108


@pytest.mark.parametrize("name", OUTSIDE)
@pytest.mark.parametrize("make", [tar_of, zip_of])
def test_no_member_is_written_outside(tmp_path, make, name):
    archive = make(tmp_path / "a", ("fine.txt", b"1"), (name, b"evil"))
    assert_refused(archive, tmp_path, "would be written outside its folder")
    assert not (tmp_path.parent / "evil.txt").exists()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE])
def test_links_and_devices_are_refused(tmp_path, kind):
    archive = tar_of(tmp_path / "a", special("link", kind, "/etc/passwd"), mode="w")
    assert_refused(archive, tmp_path, "'link', which is a link or a device")


def test_links_in_zip_files_are_refused(tmp_path):
    info = zipfile.ZipInfo("link")
    info.external_attr = 0o120777 << 16
    assert_refused(zip_of(tmp_path / "a", (info, "/etc/passwd")), tmp_path, "is a link or a d")


@pytest.mark.parametrize("make", [tar_of, zip_of])
def test_bombs_are_refused(tmp_path, make):
    archive = make(tmp_path / "a", ("zeros", bytes(10**6)))
    assert_refused(archive, tmp_path, "holds more than 1,000 bytes", most_bytes=1000)
    archive = make(tmp_path / "a", *[(str(number), b"") for number in range(9)])
    assert_refused(archive, tmp_path, "holds more than 5 files", most_files=5)


def test_a_truncated_archive_leaves_nothing(tmp_path):
    archive = tar_of(tmp_path / "a", ("x", bytes(range(256)) * 999))
    archive.write_bytes(archive.read_bytes()[:-900])
    assert_refused(archive, tmp_path, "is damaged or cannot be unpacked")


def test_a_place_that_is_taken_is_refused(tmp_path):
    archive = zip_of(tmp_path / "a", ("x", b"1"))
    (tmp_path / "out").mkdir()
    with pytest.raises(OutputError, match="out is there already; remove it"):
        unpack(archive, tmp_path / "out")

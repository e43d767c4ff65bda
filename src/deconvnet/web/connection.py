"""Connections that say nothing, say it slowly, or are too many."""

import asyncio
import json
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from deconvnet.web.guard import HEADERS, too_large_headers
from deconvnet.web.limits import Limits
from deconvnet.web.logs import log
from deconvnet.web.problems import MEDIA_TYPE, WebError, problem_of


class PatientConnection(H11Protocol):
    """A connection of uvicorn, which closes when headers do not come in time."""

    limits = Limits()
    waiting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request, unless there are too many."""
        super().connection_made(transport)
        self._wait()
        if len(self.connections) > self.limits.connections:
            error = WebError(
                503,
                f"{self.limits.connections} connections are open, as many as this server "
                "takes; come back later.",
                retry_after=5,
            )
            self._refuse(error)

    def data_received(self, data: bytes) -> None:
        """Take bytes; when the headers are whole, the guard watches on."""
        if self.transport.is_closing():
            return
        before = self.cycle
        super().data_received(data)
        if self.cycle is not before:
            self._cease()  # the headers are whole; the guard watches what follows
        elif self.cycle is None or self.cycle.response_complete:
            self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._cease()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no request, or has too large headers."""
        if self.transport.is_closing():
            return
        if "too long" in msg or len(self.conn.trailing_data[0]) >= self.limits.header_bytes:
            error = too_large_headers(self.limits)
        else:
            error = WebError(400, "This is no HTTP request that can be read; send another.")
        self._refuse(error)

    def _wait(self) -> None:
        if self.waiting is None:
            self.waiting = self.loop.call_later(self.limits.patience, self._give_up)

    def _cease(self) -> None:
        if self.waiting is not None:
            self.waiting.cancel()
            self.waiting = None

    def _give_up(self) -> None:
        if not self.transport.is_closing():
            log("gave up a silent connection")
            self.transport.close()

    def _refuse(self, error: WebError) -> None:
        self._cease()
        self.transport.write(_answer(error))
        self.transport.close()
        log("refused a connection", status=error.status)


def patient_connection(limits: Limits) -> type[asyncio.Protocol]:
    """The connections of a server with these limits."""
    return type("Connection", (PatientConnection,), {"limits": limits})


def _answer(error: WebError) -> bytes:
    """An answer in the bytes of HTTP/1.1, for what never became a request."""
    problem, own = problem_of(error)
    body = json.dumps(problem.model_dump()).encode()
    headers: dict[str, Any] = {
        **HEADERS,
        **own,
        "Content-Type": MEDIA_TYPE,
        "Content-Length": len(body),
        "Connection": "close",
    }
    lines = [f"HTTP/1.1 {error.status} {problem.title}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("ascii") + body

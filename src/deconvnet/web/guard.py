"""What every request passes on its way in, and every answer on its way out."""

import asyncio
import hmac
import time
from collections.abc import Sequence
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deconvnet.web.limits import Limits
from deconvnet.web.logs import log
from deconvnet.web.problems import WebError, response_of

LEAST_RATE = 20_000
"""Bytes a second; bodies that come more slowly are given up after `patience`."""

CONTENT_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob: data:",
        "connect-src 'self'",
        "manifest-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
"""Nothing runs, is shown or is called but what this server gave; nothing inline."""

HEADERS = {
    "Content-Security-Policy": CONTENT_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), geolocation=(), microphone=()",
}
"""Of every answer."""


class Guard:
    """Wraps the application.

    Args:
        app: What is guarded.
        limits: Of the server.
        token: What /api must be asked with, as `Authorization: Bearer TOKEN`; none: nothing.
        hosts: Names the server is called by; other Host headers are refused, so that no foreign
            site can have its name lead here (DNS rebinding). None: any.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        limits: Limits,
        token: str | None = None,
        hosts: Sequence[str] | None = None,
    ) -> None:
        self.app, self.limits, self.token, self.hosts = app, limits, token, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        exchange = _Exchange(scope, receive, send, self.limits)
        try:
            refusal = self._refusal(Headers(scope=scope), scope)
            if refusal is not None:
                await exchange.drain()
                await response_of(refusal)(scope, exchange.receive, exchange.send)
            else:
                await self.app(scope, exchange.receive, exchange.send)
        except TimeoutError:  # the client does not take its answer
            exchange.status = 499
        finally:
            exchange.write_down()

    def _refusal(self, headers: Headers, scope: Scope) -> WebError | None:
        sizes = [len(name) + len(value) + 4 for name, value in scope["headers"]]
        if sum(sizes) > self.limits.header_bytes:  # those that came in one piece
            return too_large_headers(self.limits)
        host = headers.get("host", "").rpartition("@")[2]
        name = host.rpartition(":")[0] if not host.endswith("]") and ":" in host else host
        if self.hosts is not None and name.strip("[]").lower() not in self.hosts:
            return WebError(
                421,
                f"This server is not called '{name[:80]}'; it answers to "
                f"{', '.join(self.hosts)}.",
            )
        if scope["method"] == "POST" and headers.get("sec-fetch-site") in (
            "cross-site",
            "same-site",
        ):
            return WebError(403, "Only this server's own page may ask from a browser.")
        asked = scope["path"].startswith("/api/") or scope["path"] == "/openapi.json"
        if self.token is not None and asked:
            scheme, _, given = headers.get("authorization", "").partition(" ")
            same = hmac.compare_digest(given.strip().encode(), self.token.encode())
            if scheme.lower() != "bearer" or not same:
                return WebError(
                    401,
                    "This server asks for its token; send it as 'Authorization: Bearer TOKEN'.",
                    code="token",
                    headers={"WWW-Authenticate": "Bearer"},
                )
        length = headers.get("content-length", "0")
        if length.isdecimal() and int(length) > self.limits.upload_bytes:
            return too_many_bytes(self.limits)
        return None


class _Exchange:
    """One request and its answer, watched."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, limits: Limits) -> None:
        self.scope, self._receive, self._send, self.limits = scope, receive, send, limits
        self.began = time.monotonic()
        self.bytes_in = 0
        self.bytes_out = 0
        self.status = 0
        headers = Headers(scope=scope)
        self.whole = (
            headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers
        )
        """Whether the body has come in full."""
        self._drain: float | None = None

    async def receive(self) -> Message:
        """Take a piece of the body, unless there is too much of it or it comes too slowly."""
        if self.whole:
            return await self._receive()
        left = self.limits.patience + self.bytes_in / LEAST_RATE
        left -= time.monotonic() - self.began
        try:
            message = await asyncio.wait_for(self._receive(), max(left, 0.01))
        except TimeoutError:
            self.whole = True
            raise WebError(
                408,
                f"The picture came too slowly: {self.bytes_in:,} bytes in "
                f"{time.monotonic() - self.began:.0f} s; send it again over a better line.",
                headers={"Connection": "close"},
            ) from None
        self.whole = message["type"] != "http.request" or not message.get("more_body", False)
        self.bytes_in += len(message.get("body", b""))
        if self.bytes_in > self.limits.upload_bytes and self._drain is None:
            await self.drain()
            raise too_many_bytes(self.limits)
        return message

    async def drain(self) -> None:
        """Read on for a while and keep nothing, so that the client hears why it is refused.

        A connection closed on a client that still sends would end in a reset, not an answer.
        """
        self._drain = time.monotonic()
        while not self.whole and self.bytes_in < 4 * self.limits.upload_bytes:
            if time.monotonic() - self._drain > min(5.0, self.limits.patience):
                break
            try:
                message = await asyncio.wait_for(self._receive(), 1.0)
            except TimeoutError:
                break
            self.bytes_in += len(message.get("body", b""))
            self.whole = message["type"] != "http.request" or not message.get("more_body")

    async def send(self, message: Message) -> None:
        """Send a piece of the answer, to a client that takes it."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
            headers.setdefault("Cache-Control", "no-store")
            if not self.whole:
                headers["Connection"] = "close"
        self.bytes_out += len(message.get("body", b""))
        await asyncio.wait_for(self._send(message), self.limits.patience)

    def write_down(self) -> None:
        """Log the request: what was asked, how it ended, how long it took."""
        about: dict[str, Any] = {
            "method": self.scope["method"],
            "path": self.scope["path"][:200],
            "status": self.status,
            "seconds": round(time.monotonic() - self.began, 4),
            "bytes_in": self.bytes_in,
            "bytes_out": self.bytes_out,
        }
        if self.scope.get("client"):
            about["client"] = self.scope["client"][0]
        log("request", **about)


def too_large_headers(limits: Limits) -> WebError:
    """The refusal of a request line and headers that are too large."""
    return WebError(
        431,
        f"The headers are larger than {limits.header_bytes:,} bytes, the most this server "
        "reads; send fewer.",
    )


def too_many_bytes(limits: Limits) -> WebError:
    """The refusal of a body that is too large."""
    return WebError(
        413,
        f"The request is larger than {limits.upload_bytes:,} bytes, the most this server "
        "takes; send a smaller picture.",
        headers={"Connection": "close"},
    )

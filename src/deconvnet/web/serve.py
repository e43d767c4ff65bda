"""From checkpoints to a running server, and to its end."""

import ipaddress
import math
import signal
import socket
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import uvicorn
from safetensors import safe_open

from deconvnet.checkpoint import find_checkpoint
from deconvnet.errors import OutputError
from deconvnet.predict import Predictor, load
from deconvnet.web.app import create_app
from deconvnet.web.connection import patient_connection
from deconvnet.web.limits import LimitError, Limits
from deconvnet.web.logs import log, write_to_stderr
from deconvnet.web.service import Served

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")


def serve(
    checkpoints: Sequence[str],
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    token: str | None = None,
    limits: Limits | None = None,
    quiet: bool = False,
    say: Callable[[str], object] = lambda _line: None,
    **how: Any,
) -> None:
    """Serve the page and the API until the process is asked to end.

    SIGTERM and Ctrl-C end it: waiting requests are sent away with 503, those at work have
    `limits.grace` seconds to finish.

    Args:
        checkpoints: Networks; the first answers where none is named.
        host: Address to listen on; beyond loopback anyone who reaches it may use the server.
        port: Port to listen on; 0 for a free one.
        token: What the API must be asked with; none: nothing.
        limits: How much of anything is allowed.
        quiet: Log warnings only.
        say: Takes lines for people: the address, warnings.
        how: How the networks are run, as for `deconvnet.load`: engine, precision, device.

    Raises:
        CheckpointError: If a network cannot be loaded.
        OutputError: If the address cannot be listened on.
    """
    limits = limits or Limits()
    if token is not None and not (token.isascii() and token.isprintable() and token.strip()):
        raise LimitError(
            "The token holds characters that a request's header cannot carry; take letters, "
            "digits and signs of ASCII."
        )
    listening = _listen(host, port)
    try:
        write_to_stderr(quiet=quiet)
        served = load_served(checkpoints, **how)
        local = is_loopback(host)
        app = create_app(
            served, limits, token=token, hosts=(*LOOPBACK_NAMES, host) if local else None
        )
        address = f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}"
        key = f"/#token={quote(token, safe='')}" if token else ""
        say(f"Open {address}{key} in a browser; Ctrl-C ends.")
        if not local:
            say(
                f"Warning: {host} is not this machine alone: whoever reaches the port may use "
                "the server"
                + (" with the token" if token else "; --token asks for one")
                + ". The connection is not encrypted."
            )
        # uvicorn raises the signal that ended it once more, after a clean end
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, lambda _number, _frame: None)
        log("start", address=address, models=[model.name for model in served])
        _Server(app, limits).run(sockets=[listening])
        log("end")
    finally:
        listening.close()


def load_served(checkpoints: Sequence[str], **how: Any) -> list[Served]:
    """Load networks, and give each a name of its own.

    Raises:
        CheckpointError: If one cannot be loaded.
    """
    plain = {**how, "engine": "plain", "precision": "fp32"}

    def later(checkpoint: str) -> Callable[[], Predictor]:
        return lambda: load(checkpoint, **plain)

    return [
        Served(name, load(checkpoint, **how), later(checkpoint), count_parameters(checkpoint))
        for name, checkpoint in zip(model_names(checkpoints), checkpoints, strict=True)
    ]


def count_parameters(checkpoint: str) -> int:
    """Parameters of a network as it was trained, from the header of its weights."""
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    with safe_open(find_checkpoint(checkpoint) / "model.safetensors", "pt") as weights:
        return sum(
            math.prod(weights.get_slice(name).get_shape())
            for name in weights.keys()  # noqa: SIM118 - no dict
            if not name.endswith(statistics)
        )


def model_names(checkpoints: Sequence[str]) -> list[str]:
    """Short names for checkpoints, all different.

    >>> model_names(["runs/fcn/best", "deconvnet-camvid", "old/fcn/last"])
    ['fcn', 'deconvnet-camvid', 'fcn-2']
    """
    names: list[str] = []
    for checkpoint in checkpoints:
        path = Path(checkpoint)
        parts = path.resolve().parts if path.is_dir() else path.parts
        named = [part for part in parts if part not in ("best", "last", "/")] or ["network"]
        name, number = named[-1].replace(",", "-"), 2  # commas part names in a request
        while name in names:
            name, number = f"{named[-1]}-{number}", number + 1
        names.append(name)
    return names


def is_loopback(host: str) -> bool:
    """Whether an address is reached from this machine alone.

    >>> [is_loopback(host) for host in ("127.0.0.1", "localhost", "::1", "0.0.0.0", "example")]
    [True, True, True, False, False]
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _listen(host: str, port: int) -> socket.socket:
    """A socket that listens; an address that is taken is found before networks are loaded."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listening = socket.socket(family, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
    except (OSError, OverflowError) as error:
        listening.close()
        raise OutputError(
            f"The server cannot listen on {host}, port {port} "
            f"({getattr(error, 'strerror', None) or error}); choose others with --host and "
            "--port."
        ) from None
    return listening


class _Server(uvicorn.Server):
    """uvicorn, which sends waiting requests away when it is to end."""

    def __init__(self, app: Any, limits: Limits) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=patient_connection(limits),
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=5,
                timeout_graceful_shutdown=max(1, round(limits.grace)),
                h11_max_incomplete_event_size=limits.header_bytes,
                backlog=128,
            )
        )
        self.room = app.state.service.room

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take nothing new; let what is at work finish."""
        self.room.close()
        await super().shutdown(sockets)

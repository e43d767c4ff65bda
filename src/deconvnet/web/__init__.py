"""The web page and its API: `deconvnet serve`. Needs the extra `serve`.

- `serve.py`: from checkpoints to a running server, and to its end
- `app.py`: the routes, the files of the page, errors
- `service.py`: networks, pictures and proposals behind the routes
- `inside.py`: layers, channels and switches of a picture, kept for a while
- `work.py`: the room where requests are worked on: places, queue, time, stopping
- `guard.py`: what every request passes: size, patience, token; headers of the answer; the log
- `connection.py`: slow, half-open and far too many connections
- `requests.py`, `answers.py`, `problems.py`: forms in, JSON and PNG out, errors (RFC 9457)
- `limits.py`, `logs.py`: how much of anything is allowed; lines of JSON
- `static/`: the page: plain HTML, CSS and JavaScript, nothing fetched from elsewhere
"""

from importlib.util import find_spec

from deconvnet.errors import MissingExtraError


def require_extra() -> None:
    """Refuse in words where the libraries of the extra are not installed.

    Raises:
        MissingExtraError: If one is missing.
    """
    if any(find_spec(name) is None for name in ("fastapi", "uvicorn", "python_multipart")):
        raise MissingExtraError("Serving the web page", "serve")

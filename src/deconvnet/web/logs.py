"""The log: a line of JSON for each event, on stderr. No picture, no field, no query gets in."""

import json
import logging
from datetime import UTC, datetime
from typing import Any

LOG = logging.getLogger("deconvnet.web")


class JsonLines(logging.Formatter):
    """Writes a record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Time, level and event, what the event is about, and where the program failed."""
        when = datetime.fromtimestamp(record.created, UTC)
        line: dict[str, Any] = {
            "time": when.isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, "about", {}),
        }
        if record.exc_info and record.exc_info[0]:
            line["error"] = record.exc_info[0].__name__
            line["trace"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def log(event: str, level: int = logging.INFO, *, failed: bool = False, **about: Any) -> None:
    """Write an event down; `failed` adds the exception being handled."""
    LOG.log(level, event, extra={"about": about}, exc_info=failed)


def write_to_stderr(*, quiet: bool) -> None:
    """Send our events and uvicorn's to stderr; quiet leaves warnings and worse.

    Not by logging.config.dictConfig: it closes every handler of the process, and those of absl
    close their streams with themselves.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines())
    for name in ("deconvnet.web", "uvicorn"):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(logging.WARNING if quiet else logging.INFO)
        logger.propagate = False

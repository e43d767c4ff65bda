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


def configuration(*, quiet: bool) -> dict[str, Any]:
    """What logging.config.dictConfig is to set up; quiet leaves warnings and worse."""
    level = "WARNING" if quiet else "INFO"
    to_stderr = {"handlers": ["stderr"], "level": level, "propagate": False}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"json": {"()": "deconvnet.web.logs.JsonLines"}},
        "handlers": {
            "stderr": {
                "class": "logging.StreamHandler",
                "formatter": "json",
                "stream": "ext://sys.stderr",
            }
        },
        "loggers": dict.fromkeys(("deconvnet.web", "uvicorn"), to_stderr),
    }

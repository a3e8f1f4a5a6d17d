"""Logging as JSON on standard output, with one object per line."""

import logging
import sys
from datetime import UTC, datetime
from typing import Any

import msgspec
import structlog

from projects.redaction import redact_bytes

JSON = msgspec.json.Encoder(enc_hook=str)
SERVER_ERROR = 500


def encode(event: structlog.typing.EventDict, **_: Any) -> bytes:
    """Render one line. Redact API keys, which clients sometimes put into URLs or model names."""
    return redact_bytes(JSON.encode(event))


def order_fields(_logger: Any, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Put time, level, message and event first.

    `event` is the first argument of the log call: a stable name in snake_case, for which operators can
    search. `message` is a sentence for people. If the call has no message, the name is used.
    """
    name = event.pop("event")
    return {
        "timestamp": event.pop("timestamp"),
        "level": event.pop("level"),
        "message": event.pop("message", name),
        "event": name,
        **event,
    }


def add_timestamp(
    _logger: Any, _method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """Add the time in UTC with milliseconds."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    event["timestamp"] = now.replace("+00:00", "Z")
    return event


def configure(level: str) -> None:
    """Send structlog's events to standard output."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            add_timestamp,
            structlog.processors.format_exc_info,
            order_fields,
            structlog.processors.JSONRenderer(encode),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.BytesLoggerFactory(sys.stdout.buffer),
        cache_logger_on_first_use=True,
    )


def django_logging(level: str) -> dict[str, object]:
    """Return Django's LOGGING setting, with which libraries log in the same format."""
    configure(level)
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"json": {"()": JsonFormatter}},
        "handlers": {
            "stdout": {"class": "logging.StreamHandler", "stream": "ext://sys.stdout", "formatter": "json"}
        },
        "root": {"handlers": ["stdout"], "level": level.upper()},
        "loggers": {
            "django": {"handlers": []},  # In debug mode, Django's own handler would repeat each line.
            "uvicorn.access": {"propagate": False, "handlers": []},
            "uvicorn.error": {"level": "WARNING"},
            "celery": {"level": "WARNING"},
            "httpx": {"level": "WARNING"},
        },
    }


class JsonFormatter(logging.Formatter):
    """Formats log records of libraries, which log with the standard library and have no `event`."""

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            **add_timestamp(None, "", {}),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            "logger": record.name,
        }
        # Tracebacks of responses below 500 are omitted, because any client can cause them.
        if record.exc_info and getattr(record, "status_code", SERVER_ERROR) >= SERVER_ERROR:
            entry["exception"] = self.formatException(record.exc_info)
        return encode(entry).decode()

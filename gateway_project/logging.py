"""JSON log lines on standard output: one object a line, fields named as operators of AI gateways know them."""

import logging
import sys
from typing import Any

import msgspec
import structlog

from projects.redaction import redact_bytes

JSON = msgspec.json.Encoder(enc_hook=str)
SERVER_ERROR = 500


def encode(event: structlog.typing.EventDict, **_: Any) -> bytes:
    """One line. Keys that clients put where they do not belong, as in an address or a model's name, do not reach it."""
    return redact_bytes(JSON.encode(event))


def rename_message(
    _logger: Any, _method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    return {
        "timestamp": event.pop("timestamp"),
        "level": event.pop("level"),
        "message": event.pop("event"),
        **event,
    }


ADD_TIMESTAMP = structlog.processors.TimeStamper(fmt="iso", utc=True)


def configure(level: str) -> None:
    """Sends structlog's events to standard output; the request log's hot path goes through here."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            ADD_TIMESTAMP,
            structlog.processors.format_exc_info,
            rename_message,
            structlog.processors.JSONRenderer(encode),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.BytesLoggerFactory(sys.stdout.buffer),
        cache_logger_on_first_use=True,
    )


def django_logging(level: str) -> dict[str, object]:
    """The LOGGING setting: what libraries log through the standard library comes out in the same shape."""
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
            "uvicorn.access": {"propagate": False, "handlers": []},
            "uvicorn.error": {"level": "WARNING"},
            "celery": {"level": "WARNING"},
            "httpx": {"level": "WARNING"},
        },
    }


class JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        event: dict[str, Any] = {
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            "logger": record.name,
        }
        # Django adds the traceback of what it answers with 400 or 403 as well: anybody can cause those.
        if record.exc_info and getattr(record, "status_code", SERVER_ERROR) >= SERVER_ERROR:
            event["exception"] = self.formatException(record.exc_info)
        return encode(rename_message(None, "", ADD_TIMESTAMP(None, "", event))).decode()

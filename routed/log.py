"""Logs: one event a line to standard output, for people (console) or machines (json)."""

from __future__ import annotations

import contextlib
import logging
import sys
from typing import Any, Literal

import structlog

Format = Literal["auto", "console", "json"]

#: Calico's names for levels (`logSeverityScreen`, `BGP_LOGSEVERITYSCREEN`) beside the usual ones; lower case.
LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "notice": logging.INFO,
    "warning": logging.WARNING,
    "warn": logging.WARNING,
    "error": logging.ERROR,
    "err": logging.ERROR,
    "fatal": logging.CRITICAL,
    "critical": logging.CRITICAL,
    "none": logging.CRITICAL + 10,
    "panic": logging.CRITICAL,
}

#: The level in force. structlog binds a logger to its level once, so a level that can change while
#: running is asked here, event by event.
_threshold = logging.INFO


def _below_threshold(
    _logger: object, method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    if LEVELS.get(method, logging.INFO) < _threshold:
        raise structlog.DropEvent
    return event


def _one_line(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Keep what peers and records say from breaking the line or reaching the terminal as an escape."""
    for key, value in event.items():
        if isinstance(value, str) and not value.isprintable():
            event[key] = value.encode("unicode_escape").decode("ascii")
    return event


class _StandardOutput:
    """Prints lines. A reader that has gone away costs the lines, not the process."""

    def msg(self, message: str) -> None:
        with contextlib.suppress(OSError):
            print(message, flush=True)

    log = debug = info = warning = error = critical = fatal = exception = msg


def set_level(name: str) -> None:
    """Put a level in force, by any of the names in LEVELS, in any case. Raises ValueError for another
    name."""
    global _threshold
    try:
        _threshold = LEVELS[name.lower()]
    except KeyError:
        raise ValueError(f"unknown log level {name!r}: use one of {', '.join(sorted(LEVELS))}") from None


def configure(level: str = "info", output: Format = "auto") -> None:
    """Set up logging for the process. `auto` is console on a terminal, and json where standard output is
    not one.

    Raises ValueError for an unknown level."""
    set_level(level)
    terminal = sys.stdout.isatty()
    as_json = output == "json" or (output == "auto" and not terminal)
    processors: list[structlog.typing.Processor] = [
        _below_threshold,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True)
        if as_json
        else structlog.processors.TimeStamper("%H:%M:%S.%f", utc=False),
    ]
    if as_json:
        processors.append(structlog.processors.JSONRenderer(default=str))
    else:
        processors += [_one_line, structlog.dev.ConsoleRenderer(colors=terminal, pad_event_to=32)]
    structlog.configure(
        processors=processors,
        logger_factory=lambda *_args: _StandardOutput(),
        cache_logger_on_first_use=False,
    )


def get(room: str) -> Any:
    """The logger of one room (`bgp`, `kernel`, `datastore`, ...)."""
    return structlog.get_logger().bind(room=room)

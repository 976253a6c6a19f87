"""Logs: one event a line to standard output, for people (console) or machines (json). By structlog.

A peer and a record can put any text into a field: it stays within its line and its value, and reaches no
terminal as an escape.
"""

from __future__ import annotations

import contextlib
import json
import logging
import sys
from collections.abc import Callable, Iterator, MutableMapping
from typing import Any, Final, Literal

from routed.text import escaped


@contextlib.contextmanager
def _hidden(*names: str) -> Iterator[None]:
    """Modules that an import inside finds missing, though they may be installed."""
    before = {name: sys.modules.get(name) for name in names}
    sys.modules.update(dict.fromkeys(names))  # type: ignore[arg-type]  # None: the import fails
    try:
        yield
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


# structlog shows tracebacks by rich where that is installed, and the command line brings it. Daemons show
# none, and rich would be most of what they import here (decision 1).
with _hidden("rich", "better_exceptions", "greenlet"):
    import structlog

Format = Literal["auto", "console", "json"]

#: Calico's names for levels (`logSeverityScreen`, `BGP_LOGSEVERITYSCREEN`) beside the usual ones; lower case.
LEVELS: Final = {
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

_EVENT_WIDTH: Final = 32
_Fields = MutableMapping[str, Any]


class Logger(structlog.BoundLoggerBase):
    """Says events. Every one has the fields of the logger beside its own.

    A field is a short name and any value: JSON has it as it is where it can, else its text. Which levels are
    said is looked up at each event, so that a record can change it for loggers that there are already."""

    def debug(self, event: str, **fields: object) -> None:
        """For those who look for a fault."""
        if _threshold <= logging.DEBUG:
            self._proxy_to_logger("debug", event, **fields)

    def info(self, event: str, **fields: object) -> None:
        """What is as it should be, and worth a line."""
        if _threshold <= logging.INFO:
            self._proxy_to_logger("info", event, **fields)

    def warning(self, event: str, **fields: object) -> None:
        """What somebody may have to look at."""
        if _threshold <= logging.WARNING:
            self._proxy_to_logger("warning", event, **fields)

    def error(self, event: str, **fields: object) -> None:
        """What somebody has to look at."""
        if _threshold <= logging.ERROR:
            self._proxy_to_logger("error", event, **fields)


class _Output:
    """Where lines go: what standard output is at the time."""

    def say(self, line: str) -> None:
        # A reader that has gone away costs the lines, not the process.
        with contextlib.suppress(OSError):
            try:
                print(line, flush=True)
            except UnicodeEncodeError:  # a locale without UTF-8, and a peer or record that has heard of it
                print(line.encode("ascii", "backslashreplace").decode(), flush=True)

    debug = info = warning = error = say


def _for_people(_logger: object, _method: str, fields: _Fields) -> _Fields:
    """Values as texts that can be printed."""
    for name, value in fields.items():
        if isinstance(value, list | tuple):
            fields[name] = escaped(",".join(map(str, value)))
        elif value is not None and not isinstance(value, bool | int | float):
            fields[name] = escaped(str(value))
    return fields


def _processors(output: Format) -> list[Callable[[Any, str, _Fields], Any]]:
    """From an event's fields to its line."""
    terminal = sys.stdout.isatty()
    if output == "json" or (output == "auto" and not terminal):
        return [
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(serializer=json.dumps, default=str),
        ]
    return [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="%H:%M:%S.%f", utc=False),
        _for_people,
        structlog.dev.ConsoleRenderer(
            colors=terminal,
            pad_event_to=_EVENT_WIDTH,
            exception_formatter=structlog.dev.plain_traceback,
        ),
    ]


_threshold = logging.INFO


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
    structlog.configure(
        processors=_processors(output),
        wrapper_class=Logger,
        logger_factory=_Output,
        cache_logger_on_first_use=False,
    )


def get(room: str) -> Logger:
    """The logger of one room (`bgp`, `kernel`, `datastore`, ...)."""
    logger: Logger = structlog.get_logger(room=room)
    return logger


configure(output="console")

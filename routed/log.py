"""Logs: one event a line to standard output, for people (console) or machines (json).

Not a library's: the daemons say some dozen events, and the logging library we had first brought 11 MB
with it, a quarter of a reflector with a thousand clients (`docs/decisions/0001-dependencies.md`).
"""

from __future__ import annotations

import contextlib
import json
import logging
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, Literal

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

Level = Literal["debug", "info", "warning", "error"]
"""The levels that events have."""

Render = Callable[[Level, str, dict[str, object]], str]
"""Level, event and fields in; a line without its end out."""

#: ANSI SGR parameters: levels, and the names of fields.
_COLORS: Final[dict[Level, int]] = {"debug": 32, "info": 32, "warning": 33, "error": 31}
_FIELD_COLOR: Final = 36
#: In the console's lines a value with one of these is put into quotation marks.
_QUOTED: Final = frozenset(" =\"'")
_EVENT_WIDTH: Final = 32


class Logger:
    """Says events. Every one has the fields of the logger beside its own.

    A field is a short name and any value: JSON has it as it is where it can, else its text."""

    __slots__ = ("_fields",)

    def __init__(self, **fields: object) -> None:
        self._fields = fields

    def bind(self, **fields: object) -> Logger:
        """A logger with these fields too, or instead."""
        return Logger(**self._fields | fields)

    def debug(self, event: str, **fields: object) -> None:
        """For those who look for a fault."""
        _say("debug", event, self._fields, fields)

    def info(self, event: str, **fields: object) -> None:
        """What is as it should be, and worth a line."""
        _say("info", event, self._fields, fields)

    def warning(self, event: str, **fields: object) -> None:
        """What somebody may have to look at."""
        _say("warning", event, self._fields, fields)

    def error(self, event: str, **fields: object) -> None:
        """What somebody has to look at."""
        _say("error", event, self._fields, fields)


def _say(level: Level, event: str, bound: dict[str, object], fields: dict[str, object]) -> None:
    if LEVELS[level] < _threshold:
        return
    line = _render(level, event, bound | fields)
    # A reader that has gone away costs the lines, not the process.
    with contextlib.suppress(OSError):
        print(line, flush=True)


def _as_json(level: Level, event: str, fields: dict[str, object]) -> str:
    now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    return json.dumps({**fields, "event": event, "level": level, "timestamp": now}, default=str)


def _as_text(level: Level, event: str, fields: dict[str, object], *, colors: bool = False) -> str:
    def colored(color: int, text: str) -> str:
        return f"\x1b[{color}m{text}\x1b[0m" if colors else text

    pairs = (f"{colored(_FIELD_COLOR, name)}={_value(fields[name])}" for name in sorted(fields))
    shown = event if event.isprintable() else repr(event)
    head = f"{datetime.now():%H:%M:%S.%f} [{colored(_COLORS[level], f'{level:<8}')}]"
    return f"{head} {shown:<{_EVENT_WIDTH}} {' '.join(pairs)}"


def _as_colored_text(level: Level, event: str, fields: dict[str, object]) -> str:
    return _as_text(level, event, fields, colors=True)


def _value(value: object) -> str:
    """A value for people. What peers and records say neither breaks the line nor reaches the terminal as an
    escape: `repr` leaves only what can be printed."""
    text = str(value)
    if isinstance(value, str):
        return text if text.isprintable() and text and _QUOTED.isdisjoint(text) else repr(text)
    return text if text.isprintable() else repr(text)


_threshold = logging.INFO
_render: Render = _as_text


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
    global _render
    set_level(level)
    terminal = sys.stdout.isatty()
    if output == "json" or (output == "auto" and not terminal):
        _render = _as_json
    else:
        _render = _as_colored_text if terminal else _as_text


def get(room: str) -> Logger:
    """The logger of one room (`bgp`, `kernel`, `datastore`, ...)."""
    return Logger(room=room)

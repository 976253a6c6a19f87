"""What the output goes to: how wide it is, whether it has colours, and how it is drawn anew."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Final, NoReturn

from routed.cli.text import cut

#: ANSI SGR parameters (ECMA-48 section 8.3.117).
_COLOURS: Final = {"bold": 1, "dim": 2, "red": 31, "green": 32, "yellow": 33}
# Of xterm, and of all that is like it.
_ALTERNATE_SCREEN, _ORDINARY_SCREEN = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
_HOME, _TO_END_OF_LINE, _TO_END_OF_SCREEN = "\x1b[H", "\x1b[K", "\x1b[J"


@dataclass(frozen=True, slots=True)
class Screen:
    """Where lines go."""

    columns: int | None = None
    """None: as wide as the lines are."""
    colours: bool = False
    headers: bool = True

    def paint(self, text: str, colour: str) -> str:
        """A safe text in a colour, where there are any."""
        return f"\x1b[{_COLOURS[colour]}m{text}\x1b[0m" if self.colours and colour else text


def screen(headers: bool = True) -> Screen:
    """What standard output is. COLUMNS wins over what the terminal says, and is heeded in a pipe too;
    NO_COLOR (no-color.org) and TERM=dumb mean no colours."""
    terminal = sys.stdout.isatty()
    return Screen(
        columns=_columns(terminal),
        colours=terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb",
        headers=headers,
    )


def _columns(terminal: bool) -> int | None:
    given = os.environ.get("COLUMNS", "")
    if given.isdecimal() and int(given):
        return int(given)
    return _size()[0] if terminal else None


def _size() -> tuple[int, int]:
    """Columns and lines of the terminal; what terminals have that do not say."""
    try:
        size = os.get_terminal_size(sys.stdout.fileno())
    except OSError:
        return 80, 24
    return size.columns or 80, size.lines or 24


def write(lines: Iterable[str], at_once: int = 1000) -> None:
    """To standard output, so many lines at a time."""
    some: list[str] = []
    for line in lines:
        some.append(line)
        if len(some) == at_once:
            sys.stdout.write("\n".join(some) + "\n")
            some.clear()
    if some:
        sys.stdout.write("\n".join(some) + "\n")


def redraw(title: str, draw: Callable[[], Iterator[str]], interval: float) -> NoReturn:
    """Show what `draw` yields, again and again in the same place, until the user ends it."""
    with _alternate_screen():
        while True:
            lines = list(draw())  # before the clock: the time is when it was so
            columns, height = _size()
            heading = f"{time.strftime('%H:%M:%S')}  every {interval:g} s: {title}"
            room = height - 2
            if len(lines) > room:
                lines = [*lines[: room - 1], f"{len(lines) - room + 1} more lines"]
            shown = [cut(heading, columns), "", *lines]
            # In one go: what is half drawn flickers.
            picture = "\n".join(line + _TO_END_OF_LINE for line in shown)
            sys.stdout.write(_HOME + picture + _TO_END_OF_SCREEN)
            sys.stdout.flush()
            time.sleep(interval)


@contextmanager
def _alternate_screen() -> Iterator[None]:
    """What was on the terminal comes back at the end, by SIGTERM too."""

    def end(number: int, _: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    sys.stdout.write(_ALTERNATE_SCREEN)
    try:
        yield
    finally:
        sys.stdout.write(_ORDINARY_SCREEN)
        sys.stdout.flush()
        signal.signal(signal.SIGTERM, before)

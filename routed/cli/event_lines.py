"""Events, a line each, for people."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final

from routed.cli.screen import Screen
from routed.cli.text import pad, safe, width, wrap
from routed.cli.wording import moment

if TYPE_CHECKING:
    from routed.observe.documents import Event

#: Widths of time, kind and peer.
_TIME, _KIND, _PEER = 20, 15, 18
#: A terminal that leaves less than this to the text is as wide as it takes.
_LEAST: Final = 30
_COLOURS: Final = {
    "session-up": "green",
    "session-down": "red",
    "bad-update": "yellow",
    "peer-shut-down": "yellow",
    "datastore-lost": "red",
    "datastore-back": "green",
    "problem": "red",
    "kernel-error": "red",
    "missed": "red",
}


def event_lines(events: Iterable[Event], screen: Screen, *, of_one_peer: bool = False) -> Iterator[str]:
    """All of them, below their titles."""
    if screen.headers:
        yield header(screen, of_one_peer=of_one_peer)
    for event in events:
        yield from lines(event, screen, of_one_peer=of_one_peer)


def header(screen: Screen, *, of_one_peer: bool = False) -> str:
    """The titles."""
    peer = "" if of_one_peer else f"{'PEER':{_PEER}}  "
    return screen.paint(f"{'TIME':{_TIME}}  {'KIND':{_KIND}}  {peer}TEXT", "bold")


def lines(event: Event, screen: Screen, *, of_one_peer: bool = False) -> Iterator[str]:
    """One event. Names that are longer than their column move the rest; a long text goes on below itself."""
    kind = screen.paint(pad(safe(event.kind), _KIND), _COLOURS.get(event.kind, ""))
    peer = "" if of_one_peer else pad(safe(event.peer or ""), _PEER) + "  "
    head = f"{pad(safe(moment(event.time)), _TIME)}  {kind}  {peer}"
    below = " " * (_TIME + 2 + _KIND + 2 + (0 if of_one_peer else _PEER + 2))
    first = width(peer) + _TIME + 2 + max(_KIND, width(safe(event.kind))) + 2
    text = safe(event.text)
    room = None if screen.columns is None else max(_LEAST, screen.columns - max(first, len(below)))
    for at, line in enumerate([text] if room is None else wrap(text, room)):
        yield ((head if at == 0 else below) + line).rstrip()

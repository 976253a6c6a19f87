"""`routed events [-f]`: what happened, and what happens."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Final

import typer

from routed.cli import options, servers
from routed.cli.answer import Shown, as_json, as_yaml, decode, show
from routed.cli.client import Parameters
from routed.cli.event_lines import event_lines, header
from routed.cli.event_lines import lines as one_event
from routed.cli.failure import CommandError, ends_well
from routed.cli.screen import Screen, screen, write

if TYPE_CHECKING:
    from routed.observe.documents import Event, Events

#: So many of those before, with -f, as tail(1).
WITH_FOLLOW: Final = 10
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def _complete_kinds(incomplete: str) -> list[str]:
    """The kinds of events that begin so."""
    from routed.observe.events import EventKind

    return [kind.value for kind in EventKind if kind.value.startswith(incomplete)]


@ends_well
def events(
    follow: Annotated[
        bool, typer.Option("-f", "--follow", help="Go on with what happens, until Ctrl-C.")
    ] = False,
    number: Annotated[
        int | None,
        typer.Option(
            "-n",
            "--number",
            min=0,
            metavar="N",
            help=f"The latest N; without it all that are kept, with -f {WITH_FOLLOW}.",
        ),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            "--since",
            metavar="TIME",
            help="From then on: 90s, 15m, 2h or 1d ago; or a time, 2026-01-31T12:00:00Z.",
        ),
    ] = None,
    kinds: Annotated[
        list[str] | None,
        typer.Option(
            "--kind",
            metavar="KIND",
            autocompletion=_complete_kinds,
            help="Of this kind alone, such as session-down; may be repeated.",
        ),
    ] = None,
    peer: Annotated[str | None, typer.Option("--peer", help="About this peer alone.", **options.PEER)] = None,
    socket: options.Socket = None,
    node: options.Node = None,
    http: options.Http = None,
    output: options.Output = "table",
    no_headers: options.NoHeaders = False,
) -> None:
    """Show what happened, and what happens (-f).

    Sessions, routes, records, the datastore: the latest events since routed was started.

    With -f, -o json is a document a line."""
    from routed.cli.event_stream import follow as following
    from routed.cli.event_stream import started_at
    from routed.observe.documents import Events, encode

    how = options.shown(output, None, no_headers)
    query: Parameters = {"kind": _checked(kinds), "peer": peer}
    selected = Selection(None if since is None else since_when(since, time.time()), number)
    client = servers.client(servers.Asked(socket, node, http))
    if not follow:
        show(lambda: selected.of(client.get("/events", query)), Events, lines, how)
        return
    if number is None and since is None:
        selected = Selection(None, WITH_FOLLOW)
    process = started_at(client)
    document = decode(client.get("/events", query), Events)
    if how.output == "table" and how.headers:
        write([header(screen())])
    for event in selected.events(document):
        _write(encode(event), event, how)
    for event, raw in following(client, query, process, document.last, _say):
        _write(raw, event, how)


@dataclass(frozen=True, slots=True)
class Selection:
    """Which of the events that are kept: those since a time, in seconds since 1970; the latest so many."""

    since: float | None
    number: int | None

    def events(self, document: Events) -> list[Event]:
        """Those that are meant, in order."""
        found = [one for one in document.events if self.since is None or _seconds(one.time) >= self.since]
        return found if self.number is None else found[max(0, len(found) - self.number) :]

    def of(self, document: bytes) -> bytes:
        """The same, as a document; the whole one as it is."""
        from routed.observe.documents import Events, encode

        if self.since is None and self.number is None:
            return document
        decoded = decode(document, Events)
        return encode(Events(events=self.events(decoded), last=decoded.last))


def since_when(text: str, now: float) -> float:
    """Seconds since 1970: of a time so long ago, or of an RFC 3339 time, UTC where it does not say. Raises
    `CommandError` where it is neither."""
    if text[:-1].isdecimal() and text[-1:] in _UNITS:
        return now - int(text[:-1]) * _UNITS[text[-1]]
    try:
        return _seconds(text)
    except ValueError:
        raise CommandError(
            f"--since {text!r}: write 90s, 15m, 2h or 1d, or a time such as 2026-01-31T12:00:00Z"
        ) from None


def _seconds(text: str) -> float:
    when = datetime.fromisoformat(text)
    return (when if when.tzinfo is not None else when.replace(tzinfo=UTC)).timestamp()


def _checked(kinds: Sequence[str] | None) -> Sequence[str] | None:
    """The kinds, which there are. Raises `CommandError` for others."""
    known = _complete_kinds("") if kinds else []
    for kind in kinds or ():
        if kind not in known:
            raise CommandError(f"--kind {kind!r}: use one of {', '.join(known)}")
    return kinds or None


def _write(document: bytes, event: Event, how: Shown) -> None:
    """One event, at once."""
    match how.output:
        case "json":
            write([as_json(document, one_line=True)])
        case "yaml":
            write(["---", as_yaml(document)])
        case _:
            write(one_event(event, screen()))
    sys.stdout.flush()


def _say(text: str) -> None:
    sys.stdout.flush()
    print(f"routed: {text}", file=sys.stderr)


def lines(document: Events, where: Screen) -> Iterator[str]:
    """All events of a document."""
    return event_lines(document.events, where)

"""Answers that are sent as they are made: routes in portions, events as they come."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Iterable
from typing import TYPE_CHECKING, Final

import msgspec

from routed.observe.events import Event, EventKind, EventLog, Subscription
from routed.observe.views.events import event_document

if TYPE_CHECKING:
    from routed.observe.views.routes import Walk

#: A comment is sent where there was no event for so long, seconds: proxies and clients that are gone are
#: found out by it.
KEEPALIVE_TIME: Final = 15.0
#: Events that wait for one listener; more are counted, and told of as missed.
WAITING: Final = 1024

_COMMENT: Final = b":\n\n"


async def routes_document(walk: Walk, *, lines: bool) -> AsyncGenerator[bytes, None]:
    """`documents.Routes` as JSON, a portion of routes at a time. `lines`: a route on each line, for
    people."""
    between, end = (b",\n", b"\n") if lines else (b",", b"")
    yield b'{"routes":[' + end
    first = True
    for portion in walk.rows():
        if portion:
            head = b"" if first else between
            first = False
            yield head + between.join([row.encode() for row in portion])
        else:
            await asyncio.sleep(0)
    yield end + b'],"total":%d,"next":%s}\n' % (walk.total, msgspec.json.encode(walk.next))


async def one_by_one(pieces: Iterable[bytes]) -> AsyncGenerator[bytes, None]:
    """Pieces that are made as they are sent."""
    for piece in pieces:
        yield piece


async def event_stream(
    log: EventLog,
    *,
    after: int | None,
    kinds: Collection[EventKind] | None,
    peer: str | None,
    keepalive: float = KEEPALIVE_TIME,
    waiting: int = WAITING,
) -> AsyncGenerator[bytes, None]:
    """Server-sent events: those after a number that are still kept, then as they come, until the log is
    closed. A number of an earlier process, higher than any of this one, gets all that is kept."""
    heard = log.subscribe(kinds, waiting=waiting)
    # What has happened and what will are told apart in one turn of the event loop.
    kept = [] if after is None else log.latest(after=_known(log, after), kinds=kinds, peer=peer)
    lost = 0 if after is None else _lost(log, after)
    try:
        yield b": routed\n\n"  # so that a client knows at once that it is heard
        if lost:
            yield _message(
                Event(0, time.time(), EventKind.MISSED, f"{lost} events missed", fields={"events": lost})
            )
        for event in kept:
            yield _message(event)
        async for message in _live(heard, peer, keepalive):
            yield message
    finally:
        heard.close()


async def _live(heard: Subscription, peer: str | None, keepalive: float) -> AsyncGenerator[bytes, None]:
    """Events as they come; a comment where there is none for long."""
    events = aiter(heard)
    following: asyncio.Task[Event | None] | None = None
    try:
        while True:
            if following is None:
                following = asyncio.create_task(_next(events))
            done, _ = await asyncio.wait((following,), timeout=keepalive)
            if not done:
                yield _COMMENT
                continue
            event, following = following.result(), None
            if event is None:
                return
            if peer is None or event.peer == peer or event.kind is EventKind.MISSED:
                yield _message(event)
    finally:
        if following is not None:
            following.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await following


async def _next(events: AsyncIterator[Event]) -> Event | None:
    return await anext(events, None)


def _known(log: EventLog, after: int) -> int:
    """The number as one of this process."""
    return after if after <= log.last_number else 0


def _lost(log: EventLog, after: int) -> int:
    """How many events after a number are not kept any more."""
    kept = log.latest()
    first = kept[0].number if kept else log.last_number + 1
    return max(0, first - 1 - _known(log, after))


def _message(event: Event) -> bytes:
    """One event as its lines. JSON has no line ends of its own."""
    data = msgspec.json.encode(event_document(event))
    number = b"id: %d\n" % event.number if event.number else b""
    return b"%sevent: %s\ndata: %s\n\n" % (number, event.kind.value.encode(), data)

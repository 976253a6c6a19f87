"""Events as they come: server-sent events (the HTML standard, section 9.2), through restarts of routed."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from routed.cli.answer import decode
from routed.cli.client import Client, Parameters, UnreachableError
from routed.cli.failure import CommandError, Status

if TYPE_CHECKING:
    from routed.observe.documents import Event

#: Between two attempts to reach a routed that is gone, seconds.
AGAIN: Final = 1.0
#: The server says something at least so often, if only a comment; else the connection is dead, seconds.
SILENCE: Final = 60.0
#: A line of the stream that is longer is none.
_LONGEST_LINE: Final = 16 * 1024 * 1024


@dataclass(slots=True)
class ServerSentEvent:
    """One of a stream."""

    id: str | None = None
    kind: str = "message"
    data: list[str] = field(default_factory=list)


def parse(pieces: Iterable[bytes]) -> Iterator[ServerSentEvent]:
    """The events of a stream that comes in pieces; one that is not whole at the end is none."""
    event = ServerSentEvent()
    for line in _lines(pieces):
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match name:
            case "" if not line:
                if event.data:
                    yield event
                event = ServerSentEvent()
            case "id":
                event.id = value
            case "event":
                event.kind = value
            case "data":
                event.data.append(value)


def _lines(pieces: Iterable[bytes]) -> Iterator[str]:
    rest = b""
    for piece in pieces:
        *whole, rest = (rest + piece).split(b"\n")
        for line in whole:
            yield line.removesuffix(b"\r").decode(errors="replace")
        if len(rest) > _LONGEST_LINE:
            raise UnreachableError("an answer that is no stream of events")


def follow(
    client: Client,
    parameters: Parameters,
    process: str,
    after: int,
    say: Callable[[str], None],
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[tuple[Event, bytes]]:
    """Events with a number above `after` of the process that was started at `process`, each with its JSON,
    for ever. Where routed goes away this waits for it, says so, and goes on where it was: with the events
    that are still kept, or with the first ones of a process that has begun anew. Raises `RefusedError` where
    routed says that the question is wrong.
    """
    from routed.observe.documents import Event

    lost = False
    while True:
        try:
            now = started_at(client)
            if now != process:
                process, after = now, 0
                say("routed was started anew")
            elif lost:
                say("connected again")
            lost = False
            headers = {"Accept": "text/event-stream", "Last-Event-ID": str(after)}
            for one in parse(client.stream("/events/stream", parameters, headers, timeout=SILENCE)):
                document = "\n".join(one.data).encode()
                event = decode(document, Event)
                after = event.number or after  # one that says what was missed has no number
                yield event, document
            raise UnreachableError("routed has ended the stream")
        except CommandError as failure:
            if failure.status is not Status.UNREACHABLE:
                raise
            if not lost:
                say(f"{failure}; waiting for it")
            lost = True
            sleep(AGAIN)


def started_at(client: Client) -> str:
    """Which process it is: since when it runs."""
    try:
        return str(json.loads(client.get("/status"))["started_at"])
    except (ValueError, KeyError, TypeError):
        raise UnreachableError("an answer that is not understood") from None

"""Server-sent events: from now on, from before, of a kind, of a peer; slow listeners, and the end."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass

import h11
import msgspec

from routed.observe import documents
from routed.observe.events import EventKind, EventLog
from routed.observe.http.streams import KEEPALIVE_TIME, WAITING, event_stream
from tests.bgp.test_speaker import Router
from tests.observe.http.client import Client, Here, api_of
from tests.observe.views.scene import observed
from tests.virtual import Wire, run, virtual


@dataclass
class Stream:
    """What a listener has heard."""

    client: Client
    text: str = ""

    async def hear(self, until: str) -> None:
        """Read on, until this was said."""
        while until not in self.text:
            event = await self.client.event()
            assert isinstance(event, h11.Data), event
            self.text += event.data.decode()

    async def end(self) -> None:
        """Read on until the server ends it."""
        while isinstance(event := await self.client.event(), h11.Data):
            self.text += event.data.decode()
        assert isinstance(event, h11.EndOfMessage)

    @property
    def messages(self) -> list[tuple[str, str, documents.Event]]:
        """Identifier, kind, document."""
        found = []
        for block in self.text.split("\n\n")[:-1]:
            lines = dict(line.split(": ", 1) for line in block.split("\n") if not line.startswith(":"))
            if lines:
                document = msgspec.json.decode(lines["data"], type=documents.Event)
                found.append((lines.get("id", ""), lines["event"], document))
        return found

    @property
    def numbers(self) -> list[int]:
        return [document.number for *_, document in self.messages]


async def listen(here: Here, query: str = "", **headers: str) -> Stream:
    client = await here.connect()
    client.begin(
        "GET", f"/api/v1/events/stream{query}", headers={k.replace("_", "-"): v for k, v in headers.items()}
    )
    head = await client.head()
    assert head.status_code == 200
    assert (b"content-type", b"text/event-stream") in list(head.headers)
    stream = Stream(client)
    await stream.hear(": routed\n\n")
    return stream


def publish(log: EventLog, *texts: str, kind: EventKind = EventKind.PROBLEM, peer: str | None = None) -> None:
    for text in texts:
        log.publish(kind, text, peer)


@virtual
async def test_events_come_as_they_happen(wire: Wire) -> None:
    one = observed(Router(wire, 1))
    publish(one.events, "before")
    async with api_of(one) as here:
        stream = await listen(here)
        publish(one.events, "first\nevent: started\n\n", "second")
        await stream.hear('"second"')
        assert [(number, kind) for number, kind, _ in stream.messages] == [("2", "problem"), ("3", "problem")]
        assert stream.messages[0][2].text == "first\nevent: started\n\n"


@virtual
async def test_what_was_missed_comes_first(wire: Wire) -> None:
    one = observed(Router(wire, 1))
    publish(one.events, "a", "b", "c")
    async with api_of(one) as here:
        for stream in (await listen(here, "?after=1"), await listen(here, Last_Event_ID="1")):
            publish(one.events, "d")
            await stream.hear('"d"')
            assert stream.numbers[:2] == [2, 3]
        assert (await listen(here, "?after=0", Last_Event_ID="4")).numbers == []
        nonsense = await listen(here, Last_Event_ID="x\x1b")
        publish(one.events, "e")
        await nonsense.hear('"e"')
        assert nonsense.numbers == [6]


@virtual
async def test_each_event_comes_once_however_fast_they_follow(wire: Wire) -> None:
    one = observed(Router(wire, 1))
    async with api_of(one) as here:

        async def many() -> None:
            for _ in range(500):
                publish(one.events, "x")
                await asyncio.sleep(0)

        task = asyncio.create_task(many())
        stream = await listen(here, "?after=0")
        assert not task.done()
        await task
        publish(one.events, "last")
        await stream.hear('"last"')
        assert stream.numbers == list(range(1, one.events.last_number + 1))


@virtual
async def test_a_number_of_an_earlier_process_gets_all_there_is(wire: Wire) -> None:
    one = observed(Router(wire, 1))
    publish(one.events, "a", "b")
    async with api_of(one) as here:
        stream = await listen(here, Last_Event_ID="5000")
        await stream.hear('"b"')
        assert stream.numbers == [1, 2]


@virtual
async def test_what_is_not_kept_any_more_is_said_to_be_missed(wire: Wire) -> None:
    one = observed(Router(wire, 1))
    one.events = EventLog(kept=3)
    publish(one.events, *"abcdefgh")
    async with api_of(one) as here:
        stream = await listen(here, "?after=2")
        await stream.hear('"h"')
        kinds = [(number, kind) for number, kind, _ in stream.messages]
        assert kinds == [("", "missed"), ("6", "problem"), ("7", "problem"), ("8", "problem")]
        assert stream.messages[0][2].fields == {"events": 3}


@virtual
async def test_kinds_and_peers_are_chosen(wire: Wire) -> None:
    one = observed(Router(wire, 1))
    async with api_of(one) as here:
        stream = await listen(here, "?after=0&kind=session-up,session-down&kind=drain-ended&peer=a")
        for kind in EventKind:
            publish(one.events, f"{kind} a", kind=kind, peer="a")
            publish(one.events, f"{kind} b", kind=kind, peer="b")
        publish(one.events, "end", kind=EventKind.SESSION_UP, peer="a")
        await stream.hear('"end"')
        texts = [document.text for *_, document in stream.messages]
        assert texts == ["drain-ended a", "session-up a", "session-down a", "end"]
        document = await here.good("/api/v1/events?kind=session-up&peer=a&limit=1")
        assert [event["text"] for event in document["events"]] == ["end"]
        assert document["last"] == one.events.last_number


@virtual
async def test_where_nothing_happens_a_comment_says_that_it_lives(wire: Wire) -> None:
    one = observed(Router(wire, 1))
    loop = asyncio.get_running_loop()
    async with api_of(one) as here:
        stream = await listen(here)
        begun = loop.time()
        await stream.hear(":\n\n")
        assert abs(loop.time() - begun - KEEPALIVE_TIME) < 0.1
        stream.text = ""
        publish(one.events, "a")
        await stream.hear('"a"')
        assert stream.numbers == [1]


@virtual
async def test_a_listener_that_does_not_read_is_bounded_and_told(wire: Wire) -> None:
    one = observed(Router(wire, 1))
    async with api_of(one) as here:
        client = await here.connect(buffer=2048)
        client.begin("GET", "/api/v1/events/stream")
        await client.head()
        stream = Stream(client)
        await stream.hear(": routed")
        for _ in range(10):
            publish(one.events, *("x" * 1000 for _ in range(500)))
            await asyncio.sleep(0.1)
        (subscription,) = one.events._listeners
        assert len(subscription._queue) == WAITING
        publish(one.events, "still there")
        await stream.hear("missed")
        publish(one.events, "at last")
        await stream.hear('"at last"')
        missed = sum(document.fields["events"] for _, kind, document in stream.messages if kind == "missed")
        heard = len([number for number in stream.numbers if number])
        assert missed + heard == one.events.last_number
        assert missed > 3000


@virtual
async def test_who_goes_is_not_kept(wire: Wire) -> None:
    one = observed(Router(wire, 1))
    async with api_of(one) as here:
        streams = [await listen(here) for _ in range(5)]
        assert len(one.events._listeners) == 5
        for stream in streams:
            stream.client.close()
        await asyncio.sleep(0.1)
        assert one.events._listeners == []


@virtual
async def test_the_end_of_the_process_ends_the_stream_after_its_last_event(wire: Wire) -> None:
    one = observed(Router(wire, 1))
    async with api_of(one) as here:
        stream = await listen(here)
        one.events.publish(EventKind.STOPPING, "routed stops")
        one.events.close()
        await here.server.close()
        await stream.end()
        assert [kind for _, kind, _ in stream.messages] == ["stopping"]


def test_a_stream_that_is_not_begun_leaves_nothing() -> None:
    async def body() -> None:
        log = EventLog()
        stream = event_stream(log, after=None, kinds=None, peer=None)
        await stream.aclose()
        assert log._listeners == []

    run(body())


def test_the_documented_kinds_are_all_there_are() -> None:
    text = msgspec.json.encode([kind.value for kind in EventKind]).decode()
    assert re.fullmatch(r'\["[a-z-]+"(,"[a-z-]+")*\]', text)

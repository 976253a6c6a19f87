"""`routed events -f`: no event that is still kept is lost, none comes twice, whatever routed does."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routed.cli.client import Client, RefusedError, Server, UnreachableError
from routed.cli.event_stream import follow, parse
from routed.observe import documents
from tests.cli.server import STATUS, ApiServer, Asked, event, serving
from tests.cli.terminal import TIMEOUT, command


def message(one: documents.Event) -> bytes:
    """As the server sends it."""
    number = b"id: %d\n" % one.number if one.number else b""
    return b"%sevent: %s\ndata: %s\n\n" % (number, one.kind.encode(), msgspec.json.encode(one))


class Process:
    """A routed that has lived through some events, and may end its streams."""

    def __init__(self, started_at: str, numbers: Iterable[int], at_once: int) -> None:
        self.status = msgspec.structs.replace(STATUS, started_at=started_at)
        self.events = [event(number, "routes", f"{started_at} {number}") for number in numbers]
        self.at_once = at_once

    def stream(self, request: Asked) -> Iterator[bytes]:
        """So many events after the one the client knows, and then the connection ends."""
        after = int(request.headers["Last-Event-ID"])
        yield b": routed\n\n"
        for one in [one for one in self.events if one.number > after][: self.at_once]:
            yield message(one)


def test_events_are_followed_through_lost_connections_and_restarts(api: ApiServer) -> None:
    first, second = Process("first", range(1, 8), 2), Process("second", range(1, 5), 3)
    serve(api, first)
    said: list[str] = []
    waits = 0

    def sleep(_: float) -> None:
        nonlocal waits
        waits += 1
        if waits == 5:
            serve(api, second)

    following = follow(Client(Server(api.path)), {}, "first", 2, said.append, sleep)
    found = [next(following)[0].text for _ in range(9)]
    assert found == [
        *(f"first {number}" for number in range(3, 8)),
        *(f"second {one}" for one in range(1, 5)),
    ]
    assert said.count("routed was started anew") == 1
    assert "connected again" in said
    assert any("ended the stream" in text for text in said)


def serve(api: ApiServer, process: Process) -> None:
    api.answers["/api/v1/status"] = process.status
    api.answers["/api/v1/events/stream"] = process.stream


def test_a_routed_that_was_started_anew_in_between_is_noticed_at_once(api: ApiServer) -> None:
    serve(api, Process("second", range(1, 4), 9))
    said: list[str] = []
    following = follow(Client(Server(api.path)), {}, "first", 900, said.append)
    assert [next(following)[0].number for _ in range(3)] == [1, 2, 3]
    assert said == ["routed was started anew"]


def test_a_routed_that_is_away_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    said: list[str] = []
    waits: list[float] = []

    class EnoughError(Exception):
        pass

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 50:
            raise EnoughError

    following = follow(Client(Server(path)), {}, "first", 0, said.append, sleep)
    with pytest.raises(EnoughError):
        next(following)
    assert len(said) == 1, "said once, not with every attempt"
    assert all(seconds > 0 for seconds in waits)
    with serving(path) as api:
        serve(api, Process("first", [7], 1))
        following = follow(Client(Server(path)), {}, "first", 0, said.append, sleep)
        assert next(following)[0].number == 7


def test_what_is_missed_is_shown_and_does_not_move_the_place(api: ApiServer) -> None:
    process = Process("first", [5, 6], 9)
    missed = event(0, "missed", "4 events missed")

    def stream(request: Asked) -> Iterator[bytes]:
        yield message(missed)
        yield from process.stream(request)

    serve(api, process)
    api.answers["/api/v1/events/stream"] = stream
    following = follow(Client(Server(api.path)), {}, "first", 4, lambda _: None, lambda _: None)
    assert [next(following)[0].number for _ in range(3)] == [0, 5, 6]
    assert next(following)[0].number == 0
    assert api.asked[-1].headers["Last-Event-ID"] == "6"


def test_a_routed_that_cannot_answer_now_is_waited_for(api: ApiServer) -> None:
    serve(api, Process("first", [7], 1))
    answers = iter([(503, b'{"error":"stopping"}'), (500, b"")])
    whole = api.answers["/api/v1/status"]
    api.answers["/api/v1/status"] = lambda _: next(answers, whole)
    said: list[str] = []
    following = follow(Client(Server(api.path)), {}, "first", 0, said.append, lambda _: None)
    assert next(following)[0].number == 7
    assert said == ["stopping; waiting for it", "connected again"]


def test_a_refusal_ends_it(api: ApiServer) -> None:
    api.answers["/api/v1/events/stream"] = lambda _: (400, b'{"error":"peer: no"}')
    with pytest.raises(RefusedError, match="peer: no"):
        next(follow(Client(Server(api.path)), {}, STATUS.started_at, 0, lambda _: None))


@given(
    st.lists(st.tuples(st.integers(1, 99), st.text(max_size=20)), max_size=5),
    st.lists(st.integers(0, 400), max_size=20),
    st.sampled_from([b"\n", b"\r\n"]),
)
def test_streams_may_be_cut_anywhere(events: list[tuple[int, str]], cuts: list[int], line_end: bytes) -> None:
    whole = b"".join(
        b": comment\n\n" + message(event(number, "routes", text.encode("utf-8", "replace").decode()))
        for number, text in events
    ).replace(b"\n", line_end)
    edges = sorted({0, len(whole), *(cut for cut in cuts if cut < len(whole))})
    pieces = [whole[start:end] for start, end in pairwise(edges)]
    found = list(parse(pieces))
    assert [one.id for one in found] == [str(number) for number, _ in events]
    texts = [json.loads("\n".join(one.data))["text"] for one in found]
    assert texts == [text.encode("utf-8", "replace").decode() for _, text in events]


def test_a_stream_that_is_none_is_given_up() -> None:
    with pytest.raises(UnreachableError):
        list(parse([b"x" * 1_000_000] * 20))


def test_the_command_shows_what_was_and_what_comes(api: ApiServer) -> None:
    """Each once, in order, a document a line."""
    process = Process(STATUS.started_at, [], 9)
    process.events = [event(4, "problem", "four\x1b[2J"), event(5, "session-up", "five", "x")]
    serve(api, process)
    arguments = command("events", "-f", "-n", "2", "-o", "json", "--kind", "problem", "--peer", "x")
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        found = [json.loads(running.stdout.readline()) for _ in range(4)]
        running.terminate()
        running.wait(TIMEOUT)
    assert [one["number"] for one in found] == [2, 3, 4, 5]
    streamed = next(one for one in api.asked if one.path.endswith("/stream"))
    assert streamed.query == {"kind": "problem", "peer": "x"}
    assert streamed.headers["Last-Event-ID"] == "3"

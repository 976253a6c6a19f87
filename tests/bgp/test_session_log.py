"""A session's life in the log reads as a story, in which nothing is told a thousand times."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

import pytest

from routed import log
from tests.bgp.test_speaker import Router
from tests.virtual import Wire, run, until


def told(capsys: pytest.CaptureFixture[str], of: Callable[[dict[str, str]], bool]) -> list[tuple[str, str]]:
    """The lines about some of the peers, as level and event."""
    lines = map(json.loads, capsys.readouterr().out.splitlines())
    return [(line["level"], line["event"]) for line in lines if of(line)]


def test_a_peer_that_is_not_there_comes_and_goes(capsys: pytest.CaptureFixture[str]) -> None:
    """An hour without the peer is one line; so is each step after it."""

    async def body() -> None:
        wire = Wire()
        log.configure("info", "json")
        a, b = Router(wire, 1), Router(wire, 2)
        a.set_peers(a.peer(b))
        await asyncio.sleep(3600)
        b.set_peers(b.peer(a))
        await until(lambda: a.established() == 1)
        b.speaker.remove_peer("to_10.0.0.1")
        await asyncio.sleep(3600)
        wire.close()

    run(body())
    assert told(capsys, lambda line: line.get("peer") == "to_10.0.0.2") == [
        ("warning", "no session yet, trying on"),
        ("info", "session established"),
        ("warning", "session down"),
        ("warning", "no session yet, trying on"),
    ]


def test_a_client_of_a_range_that_never_comes_to_a_session_is_for_those_who_look_for_a_fault(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def body() -> None:
        wire = Wire()
        log.configure("debug", "json")
        a, b = Router(wire, 1), Router(wire, 2)
        a.set_peers(a.peer(b, dynamic=True))
        await asyncio.sleep(60)
        wire.close()

    run(body())
    levels = {level for level, _ in told(capsys, lambda line: line.get("peer") == "to_10.0.0.2")}
    assert levels <= {"debug"}

"""Whatever texts a document has, what is drawn of it is lines that a terminal only shows."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routed.cli import blocks, events, explain, peers, routes, status
from routed.cli.screen import Screen
from routed.cli.text import width
from routed.observe import documents
from tests.cli import server
from tests.cli.test_commands import poisoned
from tests.cli.test_text import SPEAKABLE, harmless

Draw = Callable[[Any, Screen], Iterator[str]]
DRAWN: dict[str, tuple[msgspec.Struct, Draw]] = {
    "status": (server.STATUS, status.lines),
    "peers": (documents.Peers(peers=[server.peer_summary(), server.peer_summary(state="idle")]), peers.lines),
    "peer": (server.peer(), peers.peer_lines),
    "routes": (
        server.routes(server.route(), server.route(best=False)),
        lambda one, to: routes.lines(one.routes, to),
    ),
    "route": (server.routes(server.route(), server.route(reachable=False)), routes.detailed),
    "blocks": (server.BLOCKS, blocks.lines),
    "all blocks": (server.BLOCKS, blocks.all_lines),
    "events": (server.DOCUMENTS["/api/v1/events"], events.lines),  # type: ignore[dict-item]
    "explanation": (server.EXPLANATION, explain.lines),
}


@pytest.mark.parametrize("what", DRAWN)
@given(text=SPEAKABLE, columns=st.none() | st.integers(20, 200), colours=st.booleans())
def test_drawn_lines_are_harmless(what: str, text: str, columns: int | None, colours: bool) -> None:
    document, draw = DRAWN[what]
    hostile = poisoned(json.loads(msgspec.json.encode(document)), text, what)
    decoded = msgspec.convert(hostile, type=type(document))
    plain = list(draw(decoded, Screen(columns)))
    assert all(harmless(line) for line in plain)
    if colours:
        coloured = list(draw(decoded, Screen(columns, colours=True)))
        assert [_without_colours(line) for line in coloured] == plain
    if columns is not None and columns >= 80 and what in ("status", "peer"):
        assert all(width(line) <= columns for line in plain)


def _without_colours(line: str) -> str:
    for colour in (0, 1, 2, 31, 32, 33):
        line = line.replace(f"\x1b[{colour}m", "")
    return line.rstrip()

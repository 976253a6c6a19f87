"""The state table as data."""

from __future__ import annotations

from pathlib import Path

from routed.bgp.fsm import TABLE, Event, State, mermaid
from routed.bgp.session import Session

UNCONNECTED = {State.IDLE, State.CONNECT, State.ACTIVE}
MESSAGES = {Event.OPEN, Event.KEEPALIVE, Event.UPDATE, Event.ROUTE_REFRESH, Event.NOTIFICATION, Event.CEASE}


def test_every_handler_exists_and_every_handler_is_in_the_table() -> None:
    named = {f"_on_{row.handler}" for row in TABLE.values()}
    assert named == {name for name in dir(Session) if name.startswith("_on_")}


def test_every_event_is_in_the_table() -> None:
    assert {event for _, event in TABLE} == set(Event)


def test_every_message_has_an_answer_in_every_connected_state() -> None:
    connected = set(State) - UNCONNECTED
    for state in connected:
        for event in MESSAGES | {Event.HEADER_ERROR, Event.HOLD_EXPIRES, Event.TCP_FAILS, Event.STOP}:
            assert (state, event) in TABLE


def test_a_session_without_connections_moves_among_its_own_states() -> None:
    for (state, _), row in TABLE.items():
        if state in UNCONNECTED:
            assert row.next in UNCONNECTED


def test_a_connection_goes_forward_or_ends() -> None:
    for (state, event), row in TABLE.items():
        if state in UNCONNECTED or row.next is None:
            continue
        if row.handler in ("fail", "shut"):
            assert row.next in (State.IDLE, State.ACTIVE)
        else:
            assert row.next == state + 1, event


def test_only_what_the_peer_or_the_handler_words_lacks_a_notification() -> None:
    """Where an event brings no NOTIFICATION of its own, the row has it."""
    for (_, event), row in TABLE.items():
        if row.handler == "fail":
            silent = event in (Event.NOTIFICATION, Event.CEASE, Event.TCP_FAILS, Event.PEER_RESTARTED)
            brings = event.name.endswith("_ERROR") and event is not Event.INTERNAL_ERROR
            assert (row.notification is None) == (silent or brings), event
        if row.handler == "dump":
            assert row.notification is not None


def test_the_diagram_in_the_documentation_is_this_one() -> None:
    page = Path(__file__).parents[2] / "docs" / "session-states.md"
    diagram = page.read_text().partition("```mermaid\n")[2].partition("```")[0]
    assert diagram.splitlines() == list(mermaid())


def test_the_diagram_has_a_line_a_row() -> None:
    lines = list(mermaid())
    assert lines[0] == "stateDiagram-v2"
    assert len(lines) == 1 + len(TABLE)
    assert "    OPENCONFIRM --> ESTABLISHED : keepalive / establish" in lines

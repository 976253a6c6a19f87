"""The BGP finite state machine as data (RFC 4271 section 8).

One table: in which state which event leads to which handler of `SessionStates` and to which state. A session
without a connection is in IDLE, CONNECT or ACTIVE; each of its connections is in OPENSENT, OPENCONFIRM or
ESTABLISHED, because two of them can live side by side while a collision is judged (section 6.8). An event
that has no row in a state means nothing there and is ignored.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from routed.bgp.errors import Cease, ErrorCode, FsmError, Notification


class State(enum.IntEnum):
    """RFC 4271 section 8.2.2, in the order in which a session passes through them."""

    IDLE = 0
    CONNECT = 1
    ACTIVE = 2
    OPENSENT = 3
    OPENCONFIRM = 4
    ESTABLISHED = 5


#: As the RFC writes them; so do BIRD (bgp_state_names) and Calico.
STATE_NAMES: Final = {
    State.IDLE: "Idle",
    State.CONNECT: "Connect",
    State.ACTIVE: "Active",
    State.OPENSENT: "OpenSent",
    State.OPENCONFIRM: "OpenConfirm",
    State.ESTABLISHED: "Established",
}


class Event(enum.Enum):
    """RFC 4271 section 8.1, under its names where it has one; the number is the RFC's."""

    START = "ManualStart (1)"
    STOP = "ManualStop (2)"
    AUTOMATIC_STOP = "AutomaticStop (8): too many prefixes"
    CONNECT_RETRY_EXPIRES = "ConnectRetryTimer_Expires (9)"
    HOLD_EXPIRES = "HoldTimer_Expires (10)"
    KEEPALIVE_EXPIRES = "KeepaliveTimer_Expires (11)"
    SEND_HOLD_EXPIRES = "SendHoldTimer_Expires (29, RFC 9687)"
    IDLE_HOLD_EXPIRES = "IdleHoldTimer_Expires (13)"
    TCP_ACCEPTED = "a connection was accepted (17)"
    TCP_CONNECTED = "Tcp_CR_Acked (16)"
    TCP_FAILS = "TcpConnectionFails (18)"
    OPEN = "BGPOpen (19)"
    HEADER_ERROR = "BGPHeaderErr (21)"
    OPEN_ERROR = "BGPOpenMsgErr (22)"
    COLLISION_DUMP = "OpenCollisionDump (23)"
    NOTIFICATION = "NotifMsg (25), NotifMsgVerErr (24)"
    CEASE = "NotifMsg (25) with the code Cease"
    KEEPALIVE = "KeepAliveMsg (26)"
    UPDATE = "UpdateMsg (27)"
    UPDATE_ERROR = "UpdateMsgErr (28)"
    ROUTE_REFRESH = "ROUTE-REFRESH (RFC 2918)"
    ROUTE_REFRESH_ERROR = "ROUTE-REFRESH Message Error (RFC 7313)"
    PEER_RESTARTED = "the OPEN of a peer that restarted (RFC 4724 section 5)"
    CONFIGURATION_CHANGE = "what OPEN said is no longer true"
    INTERNAL_ERROR = "a fault of ours while the peer's octets were read"


@dataclass(frozen=True, slots=True)
class Transition:
    """`handler` is the method `_on_<handler>` of `SessionStates`.

    `next` is the new state of what the event happened to. Where the handler ends a connection it is the state
    the session falls back to when no other connection is left. None: it stays.
    `notification` is sent to the peer before the connection is closed, where the event brings none itself."""

    handler: str
    next: State | None = None
    notification: Notification | None = None


def _unexpected(subcode: FsmError) -> Transition:
    """RFC 6608: a message that has no place in this state."""
    return Transition("fail", State.IDLE, Notification(ErrorCode.FSM, subcode))


_HOLD_EXPIRED = Transition("fail", State.ACTIVE, Notification(ErrorCode.HOLD_TIMER_EXPIRED))
_SEND_HOLD_EXPIRED = Transition("fail", State.ACTIVE, Notification(ErrorCode.SEND_HOLD_TIMER_EXPIRED))
_LIMIT = Transition("fail", State.IDLE, Notification(ErrorCode.CEASE, Cease.MAX_PREFIXES))
_COLLISION = Transition("dump", None, Notification(ErrorCode.CEASE, Cease.COLLISION))
_RECONFIGURED = Transition("fail", State.ACTIVE, Notification(ErrorCode.CEASE, Cease.CONFIGURATION_CHANGE))
_OUR_FAULT = Transition("fail", State.IDLE, Notification(ErrorCode.CEASE, Cease.OUT_OF_RESOURCES))
_HALTED = Transition("halt", State.IDLE)
_SHUT = Transition("shut", State.IDLE)
# After an error the session waits in IDLE and refuses connections (DampPeerOscillations, section 8.1.1).
# After a lost connection, an expired timer or a Cease it goes to ACTIVE: the peer may be back at once.
_ERROR = Transition("fail", State.IDLE)
_LOST = Transition("fail", State.ACTIVE)

TABLE: Final[dict[tuple[State, Event], Transition]] = {
    # The session. A connection that comes or succeeds sends OPEN and starts in OPENSENT.
    (State.IDLE, Event.START): Transition("begin", State.ACTIVE),
    (State.IDLE, Event.IDLE_HOLD_EXPIRES): Transition("begin", State.ACTIVE),
    (State.IDLE, Event.STOP): _HALTED,
    (State.ACTIVE, Event.CONNECT_RETRY_EXPIRES): Transition("dial", State.CONNECT),
    (State.ACTIVE, Event.TCP_ACCEPTED): Transition("wait", State.ACTIVE),
    (State.ACTIVE, Event.STOP): _HALTED,
    (State.CONNECT, Event.TCP_CONNECTED): Transition("wait", State.ACTIVE),
    (State.CONNECT, Event.TCP_ACCEPTED): Transition("wait", State.CONNECT),
    (State.CONNECT, Event.TCP_FAILS): Transition("wait", State.ACTIVE),
    (State.CONNECT, Event.STOP): _HALTED,
    # Its connections.
    (State.OPENSENT, Event.OPEN): Transition("peer_open", State.OPENCONFIRM),
    (State.OPENSENT, Event.OPEN_ERROR): _ERROR,
    (State.OPENSENT, Event.HEADER_ERROR): _ERROR,
    (State.OPENSENT, Event.NOTIFICATION): _ERROR,
    (State.OPENSENT, Event.CEASE): _LOST,
    (State.OPENSENT, Event.KEEPALIVE): _unexpected(FsmError.UNEXPECTED_IN_OPENSENT),
    (State.OPENSENT, Event.UPDATE): _unexpected(FsmError.UNEXPECTED_IN_OPENSENT),
    (State.OPENSENT, Event.ROUTE_REFRESH): _unexpected(FsmError.UNEXPECTED_IN_OPENSENT),
    (State.OPENSENT, Event.HOLD_EXPIRES): _HOLD_EXPIRED,
    (State.OPENSENT, Event.TCP_FAILS): _LOST,
    (State.OPENSENT, Event.COLLISION_DUMP): _COLLISION,
    (State.OPENSENT, Event.CONFIGURATION_CHANGE): _RECONFIGURED,
    (State.OPENSENT, Event.INTERNAL_ERROR): _OUR_FAULT,
    (State.OPENSENT, Event.STOP): _SHUT,
    (State.OPENSENT, Event.AUTOMATIC_STOP): _LIMIT,
    (State.OPENCONFIRM, Event.KEEPALIVE): Transition("establish", State.ESTABLISHED),
    (State.OPENCONFIRM, Event.OPEN): _unexpected(FsmError.UNEXPECTED_IN_OPENCONFIRM),
    (State.OPENCONFIRM, Event.HEADER_ERROR): _ERROR,
    (State.OPENCONFIRM, Event.NOTIFICATION): _ERROR,
    (State.OPENCONFIRM, Event.CEASE): _LOST,
    (State.OPENCONFIRM, Event.UPDATE): _unexpected(FsmError.UNEXPECTED_IN_OPENCONFIRM),
    (State.OPENCONFIRM, Event.ROUTE_REFRESH): _unexpected(FsmError.UNEXPECTED_IN_OPENCONFIRM),
    (State.OPENCONFIRM, Event.HOLD_EXPIRES): _HOLD_EXPIRED,
    (State.OPENCONFIRM, Event.KEEPALIVE_EXPIRES): Transition("keepalive_due"),
    (State.OPENCONFIRM, Event.TCP_FAILS): _LOST,
    (State.OPENCONFIRM, Event.COLLISION_DUMP): _COLLISION,
    (State.OPENCONFIRM, Event.CONFIGURATION_CHANGE): _RECONFIGURED,
    (State.OPENCONFIRM, Event.INTERNAL_ERROR): _OUR_FAULT,
    (State.OPENCONFIRM, Event.STOP): _SHUT,
    (State.OPENCONFIRM, Event.AUTOMATIC_STOP): _LIMIT,
    (State.ESTABLISHED, Event.KEEPALIVE): Transition("alive"),
    (State.ESTABLISHED, Event.UPDATE): Transition("alive"),
    (State.ESTABLISHED, Event.ROUTE_REFRESH): Transition("route_refresh"),
    (State.ESTABLISHED, Event.OPEN): _unexpected(FsmError.UNEXPECTED_IN_ESTABLISHED),
    (State.ESTABLISHED, Event.HEADER_ERROR): _ERROR,
    (State.ESTABLISHED, Event.UPDATE_ERROR): _ERROR,
    (State.ESTABLISHED, Event.ROUTE_REFRESH_ERROR): _ERROR,
    (State.ESTABLISHED, Event.NOTIFICATION): _ERROR,
    (State.ESTABLISHED, Event.CEASE): _LOST,
    (State.ESTABLISHED, Event.HOLD_EXPIRES): _HOLD_EXPIRED,
    (State.ESTABLISHED, Event.KEEPALIVE_EXPIRES): Transition("keepalive_due"),
    (State.ESTABLISHED, Event.TCP_FAILS): _LOST,
    (State.ESTABLISHED, Event.PEER_RESTARTED): _LOST,
    (State.ESTABLISHED, Event.CONFIGURATION_CHANGE): _RECONFIGURED,
    (State.ESTABLISHED, Event.INTERNAL_ERROR): _OUR_FAULT,
    (State.ESTABLISHED, Event.STOP): _SHUT,
    (State.ESTABLISHED, Event.AUTOMATIC_STOP): _LIMIT,
    (State.ESTABLISHED, Event.SEND_HOLD_EXPIRES): _SEND_HOLD_EXPIRED,
}


def mermaid() -> Iterator[str]:
    """The table as the lines of a Mermaid state diagram, for the documentation."""
    yield "stateDiagram-v2"
    for (state, event), row in TABLE.items():
        target = state if row.next is None else row.next
        yield f"    {state.name} --> {target.name} : {event.name.lower()} / {row.handler}"

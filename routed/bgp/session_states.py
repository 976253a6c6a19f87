"""What each event does to a session: the handlers that the table of `fsm` names, and what they share."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

from routed.bgp.collision import loss_of_other
from routed.bgp.connection import Connection, Detail
from routed.bgp.errors import Notification
from routed.bgp.fsm import TABLE, Event, State, Transition
from routed.bgp.message import (
    KEEPALIVE,
    MAX_MESSAGE_OCTETS,
    MessageType,
    RefreshSubtype,
    decode_open,
    decode_route_refresh,
    encode_notification,
)
from routed.bgp.negotiation import negotiate, open_message
from routed.bgp.session_types import (
    Action,
    Close,
    ConnectionId,
    Counters,
    Dial,
    Down,
    Established,
    RefreshRequested,
    Send,
    SessionConfig,
)
from routed.bgp.timers import RetryTimers
from routed.bgp.update import update_parser

_NOTHING: Final = Detail()
_COLLISION_DETAILS: Final = {
    Event.COLLISION_DUMP: _NOTHING,
    Event.PEER_RESTARTED: Detail(text="the peer has restarted"),
}
_SessionHandler = Callable[[float], None]
_ConnectionHandler = Callable[[Connection, Transition, float, Detail], None]


class SessionStates:
    """A session as its states see it; its owner sees a `Session`.

    counters        messages in and out, by type
    established_at  since when it is Established, else None
    flaps           how often it was Established and lost
    last_error      why the last connection or attempt ended, one line; None if none did
    """

    def __init__(self, config: SessionConfig, rng: random.Random) -> None:
        self.config = config
        self.counters = Counters()
        self.established_at: float | None = None
        self.flaps = 0
        self.last_error: str | None = None
        self._rng = rng
        self._base = State.IDLE
        self._connections: dict[ConnectionId, Connection] = {}
        self._next_id = 1
        self._actions: list[Action] = []
        self._dialing = False
        self._retry = RetryTimers()

    def _session_event(self, event: Event, now: float) -> None:
        """What happens to the session, not to one of its connections: IDLE, CONNECT, ACTIVE."""
        row = TABLE.get((self._base, event))
        if row is not None:
            assert row.next is not None
            self._base = row.next
            handler: _SessionHandler = getattr(self, f"_on_{row.handler}")
            handler(now)

    def _connection_event(
        self, event: Event, conn: Connection, now: float, detail: Detail = _NOTHING
    ) -> None:
        """What happens to a connection: OPENSENT, OPENCONFIRM, ESTABLISHED."""
        row = TABLE.get((conn.state, event))
        if row is None or conn.closed:
            return
        handler: _ConnectionHandler = getattr(self, f"_on_{row.handler}")
        handler(conn, row, now, detail)
        if row.next is not None and not conn.closed:
            conn.state = row.next

    def _on_begin(self, now: float) -> None:
        self._retry.idle_until = None
        self._schedule_dial(now)

    def _on_halt(self, now: float) -> None:
        self._retry.idle_until = self._retry.dial_at = None

    def _on_dial(self, now: float) -> None:
        self._retry.dial_at = None
        self._retry.attempts += 1
        if not self._dialing:
            self._dialing = True
            self._actions.append(Dial())

    def _on_wait(self, now: float) -> None:
        """A connection came, or none did: the next dial is a whole wait away, if there is to be one."""
        self._retry.dial_at = None
        self._schedule_dial(now)

    def _on_peer_open(self, conn: Connection, row: Transition, now: float, detail: Detail) -> None:
        """RFC 4271 section 8.2.2, event 19. Raises `SessionError` where the OPEN is not acceptable."""
        conn.negotiated = negotiate(self.config, decode_open(detail.body))
        if not self._survives_collision(conn, now):
            self._connection_event(Event.COLLISION_DUMP, conn, now)
            return
        if conn.negotiated.max_message_size > MAX_MESSAGE_OCTETS:
            conn.reader.max_size = conn.negotiated.max_message_size
        self._retry.dial_at = None
        self._send(conn, MessageType.KEEPALIVE, KEEPALIVE)
        conn.hold_deadline = now + (conn.negotiated.hold_time or self.config.open_time)
        conn.restart_keepalive(now, self._rng)

    def _on_establish(self, conn: Connection, row: Transition, now: float, detail: Detail) -> None:
        for other in list(self._connections.values()):
            if other is not conn:
                self._connection_event(Event.COLLISION_DUMP, other, now)
        negotiated = conn.negotiated
        assert negotiated is not None
        conn.reader.parser = update_parser(
            four_octet_as=negotiated.four_octet_as,
            families=negotiated.families,
            ibgp=negotiated.ibgp,
            add_path=negotiated.add_path_receive,
        )
        self._retry.dial_at = None
        self.established_at = now
        conn.restart_hold(now)
        if negotiated.hold_time:
            conn.set_send_hold(self.config, now)
        self._actions.append(Established(conn.id, negotiated))

    def _on_alive(self, conn: Connection, row: Transition, now: float, detail: Detail) -> None:
        conn.restart_hold(now)

    def _on_keepalive_due(self, conn: Connection, row: Transition, now: float, detail: Detail) -> None:
        self._send(conn, MessageType.KEEPALIVE, KEEPALIVE)
        conn.restart_keepalive(now, self._rng)

    def _on_route_refresh(self, conn: Connection, row: Transition, now: float, detail: Detail) -> None:
        """RFC 2918 section 4: for a family that is not carried it is ignored. So are subtypes that nobody
        knows, and the marks of RFC 7313 where both ends did not say that they know them."""
        conn.restart_hold(now)
        refresh = decode_route_refresh(detail.body)
        family = refresh.family
        assert conn.negotiated is not None
        known = tuple(RefreshSubtype) if conn.negotiated.enhanced_route_refresh else (RefreshSubtype.REQUEST,)
        if family in conn.negotiated.families and refresh.subtype in known:
            self._actions.append(RefreshRequested(family, refresh.subtype))

    def _on_dump(self, conn: Connection, row: Transition, now: float, detail: Detail) -> None:
        """End the losing half of a collision. The session goes on with the other."""
        assert row.notification is not None
        self._send_notification(conn, row.notification)
        self._close(conn)
        self._schedule_dial(now)

    def _on_shut(self, conn: Connection, row: Transition, now: float, detail: Detail) -> None:
        self._end(conn, row, now, detail)

    def _on_fail(self, conn: Connection, row: Transition, now: float, detail: Detail) -> None:
        """End a connection; without another the session falls back to `row.next`, IDLE or ACTIVE."""
        self._end(conn, row, now, detail)
        if self._connections:
            self._schedule_dial(now)
        elif row.next is State.IDLE:
            self._base = State.IDLE
            self._retry.set_idle(self.config, now, self._rng)
        else:
            self._base = State.CONNECT if self._dialing else State.ACTIVE
            self._schedule_dial(now)

    # ---- what the handlers share

    def _survives_collision(self, conn: Connection, now: float) -> bool:
        """Judge `conn`, whose OPEN has just come, against the other connections of this peering, and end
        those that lose."""
        for other in list(self._connections.values()):
            if other is conn:
                continue
            event = loss_of_other(self.config, conn, other, self.established_at, now)
            if event is None:
                return False
            self._connection_event(event, other, now, _COLLISION_DETAILS[event])
        return True

    def _add_connection(self, now: float, *, dialed: bool) -> Connection:
        conn = Connection(self._next_id, dialed, now, now + self.config.open_time)
        self._next_id += 1
        self._connections[conn.id] = conn
        return conn

    def _close(self, conn: Connection) -> None:
        conn.closed = True
        del self._connections[conn.id]
        self._actions.append(Close(conn.id))

    def _end(self, conn: Connection, row: Transition, now: float, detail: Detail) -> None:
        """Close a connection for a reason; tell where the session, or the attempt at one, ends with it."""
        was_established = conn.state is State.ESTABLISHED
        notification = detail.sent or row.notification
        if notification is not None:
            if conn.negotiated is not None and conn.negotiated.restart_on_notification:
                notification = notification.as_hard_reset()
            self._send_notification(conn, notification)
        self._close(conn)
        text = detail.describe(notification)
        self.last_error = text
        if was_established:
            assert self.established_at is not None
            if now - self.established_at >= self.config.connect_retry_time:
                self._retry.attempts = 0
            self.flaps += 1
            self.established_at = None
        goes_on = bool(self._connections) or (self._dialing and row.next is State.ACTIVE)
        if was_established or not goes_on:
            self._actions.append(
                Down(conn.id, was_established, text, notification, detail.received, detail.cause)
            )

    def _send_open(self, conn: Connection) -> None:
        self._send(conn, MessageType.OPEN, open_message(self.config).encode())

    def _send_notification(self, conn: Connection, notification: Notification) -> None:
        self._send(conn, MessageType.NOTIFICATION, encode_notification(notification))

    def _send(self, conn: Connection, kind: MessageType, message: bytes) -> None:
        self.counters.sent[kind] += 1
        self._actions.append(Send(conn.id, message))

    def _schedule_dial(self, now: float) -> None:
        """Set the ConnectRetryTimer, unless it runs, or there is nothing to dial for. A connection of the
        peer on which no OPEN came yet is no reason not to dial: it may be dead."""
        if self.config.passive or self._base is not State.ACTIVE or self._retry.dial_at is not None:
            return
        if any(conn.dialed or conn.state > State.OPENSENT for conn in self._connections.values()):
            return
        self._retry.set_dial(self.config, now, self._rng, alone=not self._connections)

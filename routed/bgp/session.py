"""A BGP session without I/O: bytes and `now` in; actions and one deadline out.

A `Session` is one configured peering. It holds the connections of that peering, usually one, two while a
collision is judged, and decides when to dial, what to send and when to give up. It opens no socket, reads no
clock and sleeps never: its owner calls it with what happened, then carries out what `pull` returns, and calls
`tick` at `deadline`. Time is monotonic, in seconds.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from routed.bgp.collision import may_restart
from routed.bgp.connection import Connection, Detail
from routed.bgp.errors import (
    Cease,
    ErrorCode,
    Notification,
    SessionError,
    encode_shutdown_communication,
)
from routed.bgp.fsm import TABLE, Event, State
from routed.bgp.message import MessageType, decode_notification, encode_route_refresh
from routed.bgp.nlri import Family
from routed.bgp.session_states import SessionStates
from routed.bgp.session_types import (
    OPEN_FIELDS,
    Action,
    ConnectionId,
    Negotiated,
    SessionConfig,
    Updates,
)
from routed.text import printable

_ERROR_EVENTS: Final[dict[int, Event]] = {
    ErrorCode.MESSAGE_HEADER: Event.HEADER_ERROR,
    ErrorCode.OPEN_MESSAGE: Event.OPEN_ERROR,
    ErrorCode.UPDATE_MESSAGE: Event.UPDATE_ERROR,
    ErrorCode.ROUTE_REFRESH: Event.ROUTE_REFRESH_ERROR,
}
_MESSAGE_EVENTS: Final = {
    MessageType.OPEN: Event.OPEN,
    MessageType.UPDATE: Event.UPDATE,
    MessageType.KEEPALIVE: Event.KEEPALIVE,
    MessageType.ROUTE_REFRESH: Event.ROUTE_REFRESH,
}


class Session(SessionStates):
    """One configured peering. Every method takes `now`, and none raises because of what the peer did."""

    @property
    def state(self) -> State:
        """The state of the connection that is furthest; without one IDLE, CONNECT or ACTIVE."""
        return max((conn.state for conn in self._connections.values()), default=self._base)

    @property
    def negotiated(self) -> Negotiated | None:
        """What was agreed with the peer, while Established."""
        for conn in self._connections.values():
            if conn.state is State.ESTABLISHED:
                return conn.negotiated
        return None

    @property
    def deadline(self) -> float | None:
        """When `tick` is to be called; None while nothing is waited for but the peer."""
        retry = self._retry
        due = retry.idle_until if retry.dial_at is None else retry.dial_at
        for conn in self._connections.values():
            for timer in (conn.hold_deadline, conn.keepalive_deadline, conn.send_hold_deadline):
                if timer is not None and (due is None or timer < due):
                    due = timer
        return due

    @property
    def hold_deadline(self) -> float | None:
        """When the Established connection ends unless the peer is heard before; None: never, or there is
        none."""
        return next(
            (c.hold_deadline for c in self._connections.values() if c.state is State.ESTABLISHED), None
        )

    @property
    def keepalive_deadline(self) -> float | None:
        """When the next KEEPALIVE is due on it."""
        return next(
            (c.keepalive_deadline for c in self._connections.values() if c.state is State.ESTABLISHED), None
        )

    def pull(self) -> list[Action]:
        """What is to be done now, in order. Each action is given out once."""
        actions, self._actions = self._actions, []
        return actions

    def silent(self, now: float) -> list[ConnectionId]:
        """The connections that `tick` would end because their hold timer has expired."""
        return [
            conn.id
            for conn in self._connections.values()
            if conn.hold_deadline is not None and conn.hold_deadline <= now
        ]

    # ---- what the owner wants

    def start(self, now: float) -> None:
        """Begin; or cut a wait after an error short."""
        self._retry.attempts = 0
        self._session_event(Event.START, now)

    def stop(self, now: float, subcode: int = Cease.ADMIN_SHUTDOWN, message: str = "") -> None:
        """End with a Cease of this subcode. `message` is the shutdown communication (RFC 9003)."""
        data = b""
        if subcode in (Cease.ADMIN_SHUTDOWN, Cease.ADMIN_RESET):
            data = encode_shutdown_communication(message)
        detail = Detail(sent=Notification(ErrorCode.CEASE, subcode, data))
        for conn in list(self._connections.values()):
            self._connection_event(Event.STOP, conn, now, detail)
        self._session_event(Event.STOP, now)

    def observed(self, conn: ConnectionId, blocked_since: float | None, remark: str = "") -> None:
        """What the owner sees of a connection, to be told before each `tick`: since when the peer has taken
        nothing of what there is to send (None: it takes it), and why it may not be heard, for people."""
        found = self._connections.get(conn)
        if found is not None:
            found.blocked_since = blocked_since
            found.remark = remark

    def pause(self, now: float, notification: Notification, seconds: float | None) -> None:
        """End the connections there are (AutomaticStop, RFC 4271 section 8.1.2, event 8), and stay in IDLE
        for so long; None: until `start`. Does nothing without a connection."""
        connections = list(self._connections.values())
        for conn in connections:
            self._connection_event(Event.AUTOMATIC_STOP, conn, now, Detail(sent=notification))
        if connections:
            self._retry.idle_until = None if seconds is None else now + seconds

    def keepalive(self, now: float) -> None:
        """Send a KEEPALIVE on the Established connection, though it is not due."""
        for conn in self._connections.values():
            if conn.state is State.ESTABLISHED:
                self._connection_event(Event.KEEPALIVE_EXPIRES, conn, now)

    def refresh(self, families: Iterable[Family]) -> None:
        """Ask the peer for all its routes of these families again (RFC 2918), on the Established connection;
        only where that was negotiated."""
        for conn in self._connections.values():
            if conn.state is State.ESTABLISHED and conn.negotiated is not None:
                assert conn.negotiated.route_refresh
                for family in sorted(conn.negotiated.families.intersection(families)):
                    self._send(conn, MessageType.ROUTE_REFRESH, encode_route_refresh(family))

    def hurry(self, now: float) -> None:
        """Dial soon: what made attempts fail may be mended."""
        self._retry.attempts = 0
        self._retry.dial_at = None
        self._schedule_dial(now)

    def reconfigure(self, config: SessionConfig, now: float) -> None:
        """Take a new configuration. Only where one of `OPEN_FIELDS` changed the session is reset, and starts
        again; all else takes effect in place."""
        old, self.config = self.config, config
        if any(getattr(old, name) != getattr(config, name) for name in OPEN_FIELDS):
            self._retry.errors = self._retry.attempts = 0
            for conn in list(self._connections.values()):
                self._connection_event(Event.CONFIGURATION_CHANGE, conn, now)
            if self._retry.idle_until is not None:  # what was wrong may be mended
                self._session_event(Event.IDLE_HOLD_EXPIRES, now)
            return
        for conn in self._connections.values():
            if conn.negotiated is not None:
                keepalive = config.keepalive_interval(conn.negotiated.hold_time)
                if keepalive != conn.negotiated.keepalive:
                    conn.negotiated = replace(conn.negotiated, keepalive=keepalive)
                    conn.restart_keepalive(now, self._rng)
        if config.passive:
            self._retry.dial_at = None
        elif old.passive:
            self._schedule_dial(now)

    # ---- what happens

    def tick(self, now: float) -> None:
        """Do what is due."""
        for conn in list(self._connections.values()):
            if conn.hold_deadline is not None and conn.hold_deadline <= now:
                self._connection_event(Event.HOLD_EXPIRES, conn, now, Detail(text=conn.remark))
                continue
            if conn.keepalive_deadline is not None and conn.keepalive_deadline <= now:
                self._connection_event(Event.KEEPALIVE_EXPIRES, conn, now)
            if conn.send_hold_deadline is not None and conn.send_hold_deadline <= now:
                self._check_send_hold(conn, now)
        if self._retry.dial_at is not None and self._retry.dial_at <= now:
            self._session_event(Event.CONNECT_RETRY_EXPIRES, now)
        if self._retry.idle_until is not None and self._retry.idle_until <= now:
            self._session_event(Event.IDLE_HOLD_EXPIRES, now)

    def accepted(self, now: float) -> ConnectionId | None:
        """The peer has connected to us. None: not now; close that connection.

        A connection that collides with one that is Established, or with another of the peer's that is past
        its OPEN, gets a NOTIFICATION and is closed by the actions that follow (RFC 4271 section 6.8). But
        where graceful restart was agreed, the OPEN on a new connection ends the Established one (RFC 4724
        section 5): the peer has restarted, and nothing told us."""
        if (self._base, Event.TCP_ACCEPTED) not in TABLE:
            return None
        others = list(self._connections.values())
        conn = self._add_connection(now, dialed=False)
        if any(
            (o.state is State.ESTABLISHED and not may_restart(self.config, o, self.established_at, now))
            or (not o.dialed and o.state is State.OPENCONFIRM)
            for o in others
        ):
            self._connection_event(Event.COLLISION_DUMP, conn, now)
            return conn.id
        for other in others:
            if not other.dialed and other.state is State.OPENSENT:
                # The peer opens one connection at a time: an older one without an OPEN is dead, or was not
                # its.
                self._connection_event(Event.COLLISION_DUMP, other, now)
        self._session_event(Event.TCP_ACCEPTED, now)
        self._send_open(conn)
        return conn.id

    def connected(self, now: float) -> ConnectionId:
        """A `Dial` has succeeded. Where it is not wanted any more the actions that follow close it.

        Nor is it wanted where another connection is in OPENCONFIRM: our KEEPALIVE is on its way there, and
        the peer may be Established on it before an OPEN on this one could make both ends judge it."""
        self._dialing = False
        wanted = (self._base, Event.TCP_CONNECTED) in TABLE and self.state < State.OPENCONFIRM
        conn = self._add_connection(now, dialed=True)
        self._session_event(Event.TCP_CONNECTED, now)
        if wanted:
            self._send_open(conn)
        else:
            self._close(conn)
        return conn.id

    def connect_failed(self, now: float, reason: str) -> None:
        """A `Dial` has failed."""
        self._dialing = False
        self.last_error = f"connect: {printable(reason)}"
        self._session_event(Event.TCP_FAILS, now)

    def lost(self, conn: ConnectionId, now: float, reason: str) -> None:
        """The connection is gone: end of file, or a socket error."""
        found = self._connections.get(conn)
        if found is not None:
            self._connection_event(Event.TCP_FAILS, found, now, Detail(text=f"connection lost: {reason}"))

    def sent(self, conn: ConnectionId, now: float, updates: int = 0) -> None:
        """The owner has sent so many UPDATEs by itself: the next KEEPALIVE can wait (RFC 4271 section 4.4).
        To call this saves messages and counts them; the session lives without it."""
        self.counters.sent[MessageType.UPDATE] += updates
        found = self._connections.get(conn)
        if found is not None and found.state is State.ESTABLISHED:
            found.restart_keepalive(now, self._rng)

    def received(self, conn: ConnectionId, data: bytes | bytearray | memoryview, now: float) -> None:
        """Octets from the peer, as many as there are; `data` is not kept. Never raises, whatever they are."""
        found = self._connections.get(conn)
        if found is None or not found.reader.completes(data):
            return
        try:
            self._read(found, data, now)
        except SessionError as error:
            detail = Detail(sent=error.notification, text=error.reason)
            self._connection_event(_ERROR_EVENTS[ErrorCode(error.code)], found, now, detail)
        except Exception as error:  # a fault of ours costs this session, not the process
            detail = Detail(text=f"internal error: {type(error).__name__}", cause=error)
            self._connection_event(Event.INTERNAL_ERROR, found, now, detail)

    # ---- reading

    def _read(self, conn: Connection, data: bytes | bytearray | memoryview, now: float) -> None:
        """Raises `SessionError`."""
        for read in conn.reader.read(data):
            if isinstance(read, list):
                self.counters.received[MessageType.UPDATE] += len(read)
                self._connection_event(Event.UPDATE, conn, now)
                self._actions.append(Updates(conn.id, read))
            else:
                self._message(conn, *read, now)
            if conn.closed:
                return

    def _message(self, conn: Connection, kind: MessageType, body: bytes, now: float) -> None:
        self.counters.received[kind] += 1
        if kind is MessageType.NOTIFICATION:
            notification = decode_notification(body)
            event = Event.CEASE if notification.code == ErrorCode.CEASE else Event.NOTIFICATION
            self._connection_event(event, conn, now, Detail(received=notification))
        else:
            self._connection_event(_MESSAGE_EVENTS[kind], conn, now, Detail(body=body))

    def _check_send_hold(self, conn: Connection, now: float) -> None:
        """The SendHoldTimer (RFC 9687) is not restarted with each message sent: when it is due it is looked
        since when nothing could be sent."""
        conn.set_send_hold(self.config, now if conn.blocked_since is None else conn.blocked_since)
        if conn.send_hold_deadline is not None and conn.send_hold_deadline <= now:
            detail = Detail(text="the peer takes nothing of what is sent")
            self._connection_event(Event.SEND_HOLD_EXPIRES, conn, now, detail)

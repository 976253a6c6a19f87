"""A BGP session without I/O: bytes and `now` in; actions and one deadline out.

A `Session` is one configured peering. It holds the connections of that peering, usually one, two while a
collision is judged, and decides when to dial, what to send and when to give up. It opens no socket, reads no
clock and sleeps never: its owner calls it with what happened, then carries out what `pull` returns, and calls
`tick` at `deadline`. Time is monotonic, in seconds.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Final

from routed.bgp.capabilities import AddPathMode, Capabilities
from routed.bgp.errors import (
    Cease,
    ErrorCode,
    Notification,
    OpenError,
    SessionError,
    encode_shutdown_communication,
    printable,
)
from routed.bgp.fsm import TABLE, Event, State, Transition
from routed.bgp.message import (
    HEADER_OCTETS,
    KEEPALIVE,
    MARKER,
    MAX_EXTENDED_MESSAGE_OCTETS,
    MAX_MESSAGE_OCTETS,
    MessageType,
    Open,
    RefreshSubtype,
    check_header,
    decode_notification,
    decode_open,
    decode_route_refresh,
    encode_notification,
    encode_route_refresh,
    not_synchronized,
)
from routed.bgp.nlri import NO_FAMILIES, Family
from routed.bgp.session_types import (
    OPEN_FIELDS,
    OPEN_TIME,
    Action,
    Close,
    ConnectionId,
    Counters,
    Dial,
    Down,
    Established,
    Negotiated,
    RefreshRequested,
    Send,
    SessionConfig,
    Updates,
)
from routed.bgp.update import Update, UpdateParser, update_parser

__all__ = [
    "OPEN_FIELDS",
    "OPEN_TIME",
    "Action",
    "Close",
    "ConnectionId",
    "Counters",
    "Dial",
    "Down",
    "Established",
    "Negotiated",
    "RefreshRequested",
    "Send",
    "Session",
    "SessionConfig",
    "State",
    "Updates",
]

# RFC 4271 section 10: every timer but the hold timer is shortened by a random factor from 0.75 to 1.
_JITTER: Final = (0.75, 1.0)
# An error is forgotten, and the wait after the next one short again, when none followed for so long
# (seconds).
_ERROR_FORGET_TIME: Final = 300.0
# A connection on which no OPEN came for so long (seconds) is not taken for the other half of a collision.
_COLLISION_PATIENCE: Final = 5.0

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


@dataclass(slots=True)
class _Connection:
    """One TCP connection of the peering. `need` is how many octets make the next step possible."""

    id: ConnectionId
    dialed: bool
    opened_at: float
    hold_deadline: float | None
    state: State = State.OPENSENT
    keepalive_deadline: float | None = None
    send_hold_deadline: float | None = None
    blocked_since: float | None = None
    remark: str = ""
    negotiated: Negotiated | None = None
    parser: UpdateParser | None = None
    pending: bytearray = field(default_factory=bytearray)
    need: int = HEADER_OCTETS
    max_size: int = MAX_MESSAGE_OCTETS
    closed: bool = False


@dataclass(frozen=True, slots=True)
class _Detail:
    """What an event on a connection brings along."""

    body: bytes = b""
    text: str = ""
    sent: Notification | None = None
    received: Notification | None = None
    cause: Exception | None = None


_NOTHING: Final = _Detail()
_SessionHandler = Callable[[float], None]
_ConnectionHandler = Callable[[_Connection, Transition, float, _Detail], None]


class Session:
    """One configured peering. Every method takes `now`, and none raises because of what the peer did.

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
        self._connections: dict[ConnectionId, _Connection] = {}
        self._next_id = 1
        self._actions: list[Action] = []
        self._dialing = False
        self._dial_at: float | None = None
        self._idle_until: float | None = None
        self._attempts = 0
        self._errors = 0
        self._last_error_at = float("-inf")

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
        due = self._idle_until if self._dial_at is None else self._dial_at
        for conn in self._connections.values():
            for timer in (conn.hold_deadline, conn.keepalive_deadline, conn.send_hold_deadline):
                if timer is not None and (due is None or timer < due):
                    due = timer
        return due

    @property
    def hold_deadline(self) -> float | None:
        """When the Established connection ends unless the peer is heard before; None: never, or there is
        none."""
        return next((c.hold_deadline for c in self._connections.values() if c.state is State.ESTABLISHED), None)

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
        self._attempts = 0
        self._session_event(Event.START, now)

    def stop(self, now: float, subcode: int = Cease.ADMIN_SHUTDOWN, message: str = "") -> None:
        """End with a Cease of this subcode. `message` is the shutdown communication (RFC 9003)."""
        data = b""
        if subcode in (Cease.ADMIN_SHUTDOWN, Cease.ADMIN_RESET):
            data = encode_shutdown_communication(message)
        detail = _Detail(sent=Notification(ErrorCode.CEASE, subcode, data))
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
            self._connection_event(Event.AUTOMATIC_STOP, conn, now, _Detail(sent=notification))
        if connections:
            self._idle_until = None if seconds is None else now + seconds

    def keepalive(self, now: float) -> None:
        """Send a KEEPALIVE on the Established connection, though it is not due."""
        for conn in self._connections.values():
            if conn.state is State.ESTABLISHED:
                self._on_keepalive_due(conn, TABLE[conn.state, Event.KEEPALIVE_EXPIRES], now, _NOTHING)

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
        self._attempts = 0
        self._dial_at = None
        self._schedule_dial(now)

    def reconfigure(self, config: SessionConfig, now: float) -> None:
        """Take a new configuration. Only where one of `OPEN_FIELDS` changed the session is reset, and starts
        again; all else takes effect in place."""
        old, self.config = self.config, config
        if any(getattr(old, name) != getattr(config, name) for name in OPEN_FIELDS):
            self._errors = self._attempts = 0
            for conn in list(self._connections.values()):
                self._connection_event(Event.CONFIGURATION_CHANGE, conn, now)
            if self._idle_until is not None:  # what was wrong may be mended
                self._session_event(Event.IDLE_HOLD_EXPIRES, now)
            return
        for conn in self._connections.values():
            if conn.negotiated is not None:
                keepalive = config.keepalive_interval(conn.negotiated.hold_time)
                if keepalive != conn.negotiated.keepalive:
                    conn.negotiated = replace(conn.negotiated, keepalive=keepalive)
                    self._restart_keepalive(conn, now)
        if config.passive:
            self._dial_at = None
        elif old.passive:
            self._schedule_dial(now)

    # ---- what happens

    def tick(self, now: float) -> None:
        """Do what is due."""
        for conn in list(self._connections.values()):
            if conn.hold_deadline is not None and conn.hold_deadline <= now:
                self._connection_event(Event.HOLD_EXPIRES, conn, now, _Detail(text=conn.remark))
                continue
            if conn.keepalive_deadline is not None and conn.keepalive_deadline <= now:
                self._connection_event(Event.KEEPALIVE_EXPIRES, conn, now)
            if conn.send_hold_deadline is not None and conn.send_hold_deadline <= now:
                self._check_send_hold(conn, now)
        if self._dial_at is not None and self._dial_at <= now:
            self._session_event(Event.CONNECT_RETRY_EXPIRES, now)
        if self._idle_until is not None and self._idle_until <= now:
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
            (o.state is State.ESTABLISHED and not self._may_restart(o, now))
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
            self._connection_event(Event.TCP_FAILS, found, now, _Detail(text=f"connection lost: {reason}"))

    def sent(self, conn: ConnectionId, now: float, updates: int = 0) -> None:
        """The owner has sent so many UPDATEs by itself: the next KEEPALIVE can wait (RFC 4271 section 4.4).
        To call this saves messages and counts them; the session lives without it."""
        self.counters.sent[MessageType.UPDATE] += updates
        found = self._connections.get(conn)
        if found is not None and found.state is State.ESTABLISHED:
            self._restart_keepalive(found, now)

    def received(self, conn: ConnectionId, data: bytes | bytearray | memoryview, now: float) -> None:
        """Octets from the peer, as many as there are; `data` is not kept. Never raises, whatever they are."""
        found = self._connections.get(conn)
        if found is None:
            return
        if len(found.pending) + len(data) < found.need:
            found.pending += data
            return
        try:
            self._read(found, data, now)
        except SessionError as error:
            detail = _Detail(sent=error.notification, text=error.reason)
            self._connection_event(_ERROR_EVENTS[ErrorCode(error.code)], found, now, detail)
        except Exception as error:  # a fault of ours costs this session, not the process
            detail = _Detail(text=f"internal error: {type(error).__name__}", cause=error)
            self._connection_event(Event.INTERNAL_ERROR, found, now, detail)

    # ---- reading

    def _read(self, conn: _Connection, data: bytes | bytearray | memoryview, now: float) -> None:
        """Take whole messages off the front and keep the rest. Raises `SessionError`."""
        buffer = b"".join((conn.pending, data))
        conn.pending.clear()
        conn.need = HEADER_OCTETS
        updates: list[Update] = []
        at, end = 0, len(buffer)
        try:
            while end - at >= HEADER_OCTETS:
                if not buffer.startswith(MARKER, at):
                    raise not_synchronized()
                length = buffer[at + 16] << 8 | buffer[at + 17]
                kind = buffer[at + 18]
                if kind != MessageType.UPDATE or not 23 <= length <= conn.max_size:
                    check_header(length, kind, conn.max_size)  # the test before it saves a call an UPDATE
                if end - at < length:
                    conn.need = length
                    break
                body = buffer[at + HEADER_OCTETS : at + length]
                at += length
                if kind == MessageType.UPDATE and conn.parser is not None:
                    updates.append(conn.parser.parse(body))
                    continue
                self._deliver(conn, updates, now)
                updates = []
                self._message(conn, MessageType(kind), body, now)
                if conn.closed:
                    return
        finally:
            self._deliver(conn, updates, now)
        conn.pending += buffer[at:]

    def _deliver(self, conn: _Connection, updates: list[Update], now: float) -> None:
        if updates:
            self.counters.received[MessageType.UPDATE] += len(updates)
            self._connection_event(Event.UPDATE, conn, now)
            self._actions.append(Updates(conn.id, updates))

    def _message(self, conn: _Connection, kind: MessageType, body: bytes, now: float) -> None:
        self.counters.received[kind] += 1
        if kind is MessageType.NOTIFICATION:
            notification = decode_notification(body)
            event = Event.CEASE if notification.code == ErrorCode.CEASE else Event.NOTIFICATION
            self._connection_event(event, conn, now, _Detail(received=notification))
        else:
            self._connection_event(_MESSAGE_EVENTS[kind], conn, now, _Detail(body=body))

    # ---- the machine

    def _session_event(self, event: Event, now: float) -> None:
        """What happens to the session, not to one of its connections: IDLE, CONNECT, ACTIVE."""
        row = TABLE.get((self._base, event))
        if row is not None:
            assert row.next is not None
            self._base = row.next
            handler: _SessionHandler = getattr(self, f"_on_{row.handler}")
            handler(now)

    def _connection_event(
        self, event: Event, conn: _Connection, now: float, detail: _Detail = _NOTHING
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
        self._idle_until = None
        self._schedule_dial(now)

    def _on_halt(self, now: float) -> None:
        self._idle_until = self._dial_at = None

    def _on_dial(self, now: float) -> None:
        self._dial_at = None
        self._attempts += 1
        if not self._dialing:
            self._dialing = True
            self._actions.append(Dial())

    def _on_wait(self, now: float) -> None:
        """A connection came, or none did: the next dial is a whole wait away, if there is to be one."""
        self._dial_at = None
        self._schedule_dial(now)

    def _on_peer_open(self, conn: _Connection, row: Transition, now: float, detail: _Detail) -> None:
        """RFC 4271 section 8.2.2, event 19. Raises `SessionError` where the OPEN is not acceptable."""
        conn.negotiated = self._negotiate(decode_open(detail.body))
        if not self._survives_collision(conn, now):
            self._connection_event(Event.COLLISION_DUMP, conn, now)
            return
        if conn.negotiated.max_message_size > MAX_MESSAGE_OCTETS:
            conn.max_size = conn.negotiated.max_message_size
        self._dial_at = None
        self._send(conn, MessageType.KEEPALIVE, KEEPALIVE)
        conn.hold_deadline = now + (conn.negotiated.hold_time or self.config.open_time)
        self._restart_keepalive(conn, now)

    def _on_establish(self, conn: _Connection, row: Transition, now: float, detail: _Detail) -> None:
        for other in list(self._connections.values()):
            if other is not conn:
                self._connection_event(Event.COLLISION_DUMP, other, now)
        negotiated = conn.negotiated
        assert negotiated is not None
        conn.parser = update_parser(
            four_octet_as=negotiated.four_octet_as,
            families=negotiated.families,
            ibgp=negotiated.ibgp,
            add_path=negotiated.add_path_receive,
        )
        self._dial_at = None
        self.established_at = now
        self._restart_hold(conn, now)
        if negotiated.hold_time:
            conn.send_hold_deadline = now + self._send_hold_time(conn)
        self._actions.append(Established(conn.id, negotiated))

    def _on_alive(self, conn: _Connection, row: Transition, now: float, detail: _Detail) -> None:
        self._restart_hold(conn, now)

    def _on_keepalive_due(self, conn: _Connection, row: Transition, now: float, detail: _Detail) -> None:
        self._send(conn, MessageType.KEEPALIVE, KEEPALIVE)
        self._restart_keepalive(conn, now)

    def _on_route_refresh(self, conn: _Connection, row: Transition, now: float, detail: _Detail) -> None:
        """RFC 2918 section 4: for a family that is not carried it is ignored. So are subtypes that nobody
        knows, and the marks of RFC 7313 where both ends did not say that they know them."""
        self._restart_hold(conn, now)
        refresh = decode_route_refresh(detail.body)
        family = refresh.family
        assert conn.negotiated is not None
        known = tuple(RefreshSubtype) if conn.negotiated.enhanced_route_refresh else (RefreshSubtype.REQUEST,)
        if family in conn.negotiated.families and refresh.subtype in known:
            self._actions.append(RefreshRequested(family, refresh.subtype))

    def _on_dump(self, conn: _Connection, row: Transition, now: float, detail: _Detail) -> None:
        """End the losing half of a collision. The session goes on with the other."""
        assert row.notification is not None
        self._send_notification(conn, row.notification)
        self._close(conn)
        self._schedule_dial(now)

    def _on_shut(self, conn: _Connection, row: Transition, now: float, detail: _Detail) -> None:
        self._end(conn, row, now, detail)

    def _on_fail(self, conn: _Connection, row: Transition, now: float, detail: _Detail) -> None:
        """End a connection; without another the session falls back to `row.next`, IDLE or ACTIVE."""
        self._end(conn, row, now, detail)
        if self._connections:
            self._schedule_dial(now)
        elif row.next is State.IDLE:
            self._base = State.IDLE
            self._dial_at = None
            self._idle_until = now + self._error_wait(now)
        else:
            self._base = State.CONNECT if self._dialing else State.ACTIVE
            self._schedule_dial(now)

    # ---- what the handlers share

    def _negotiate(self, peer: Open) -> Negotiated:
        """What our OPEN and the peer's have in common. Raises `SessionError` (RFC 4271 section 6.2)."""
        config = self.config
        if config.remote_as is not None and peer.asn != config.remote_as:
            reason = f"the peer is in AS {peer.asn}, configured is AS {config.remote_as}"
            raise SessionError(ErrorCode.OPEN_MESSAGE, OpenError.BAD_PEER_AS, b"", reason)
        if peer.asn == config.local_as and peer.router_id == config.local_router_id:  # RFC 6286 section 2.2
            reason = "the peer is in our AS and has our router ID"
            raise SessionError(ErrorCode.OPEN_MESSAGE, OpenError.BAD_BGP_IDENTIFIER, b"", reason)
        ours, theirs = config.capabilities(), peer.capabilities
        families = _in_all(config.families, theirs.families)
        if not families:  # RFC 5492 section 5: the data are the capabilities that are missing
            names = ", ".join(family.name for family in sorted(config.families))
            raise SessionError(
                ErrorCode.OPEN_MESSAGE,
                OpenError.UNSUPPORTED_CAPABILITY,
                Capabilities(multiprotocol=ours.multiprotocol).encode(),
                f"the peer carries none of {names}",
            )
        extended = ours.extended_message and theirs.extended_message
        hold_time = min(config.hold_time, peer.hold_time)
        refresh = ours.route_refresh and theirs.route_refresh
        return Negotiated(
            hold_time=hold_time,
            keepalive=config.keepalive_interval(hold_time),
            families=families,
            four_octet_as=config.four_octet_as and theirs.four_octet_as is not None,
            local_as=config.local_as,
            remote_as=peer.asn,
            remote_router_id=peer.router_id,
            route_refresh=refresh,
            capabilities=theirs,
            max_message_size=MAX_EXTENDED_MESSAGE_OCTETS if extended else MAX_MESSAGE_OCTETS,
            enhanced_route_refresh=refresh and ours.enhanced_route_refresh and theirs.enhanced_route_refresh,
            add_path_receive=_in_all(
                families,
                ours.add_path_families(AddPathMode.RECEIVE),
                theirs.add_path_families(AddPathMode.SEND),
            ),
            add_path_send=_in_all(
                families,
                ours.add_path_families(AddPathMode.SEND),
                theirs.add_path_families(AddPathMode.RECEIVE),
            ),
            restart_on_notification=all(
                one.graceful_restart is not None and one.graceful_restart.notification
                for one in (ours, theirs)
            ),
            long_lived=bool(config.long_lived_time)
            and theirs.graceful_restart is not None
            and theirs.long_lived_graceful_restart is not None,
        )

    def _survives_collision(self, conn: _Connection, now: float) -> bool:
        """Judge `conn`, whose OPEN has just come, against the other connection of this peering, and end that
        one if it loses (RFC 4271 section 6.8, RFC 6286 section 2.3).

        The other is judged in OPENSENT too, as the RFC allows where the peer is known without its OPEN: here
        both are of one configured peering. Else one end could go to ESTABLISHED on this connection just when
        the other end ends it in favour of that one, and both would be lost."""
        for other in list(self._connections.values()):
            if other is conn:
                continue
            if other.state is State.ESTABLISHED:
                if not self._may_restart(other, now):
                    return False
                detail = _Detail(text="the peer has restarted")
                self._connection_event(Event.PEER_RESTARTED, other, now, detail)
                continue
            silent = other.state is State.OPENSENT and now - other.opened_at > _COLLISION_PATIENCE
            if not silent and conn.dialed is not self._keeps_dialed(conn):
                return False
            self._connection_event(Event.COLLISION_DUMP, other, now)
        return True

    def _may_restart(self, conn: _Connection, now: float) -> bool:
        """Whether a new connection of the peer beside this Established one can mean that it has restarted.
        Not in the first seconds: then it is the other half of a collision, come late."""
        return (
            self.config.restart_time > 0
            and conn.negotiated is not None
            and conn.negotiated.capabilities.graceful_restart is not None
            and self.established_at is not None
            and now - self.established_at > _COLLISION_PATIENCE
        )

    def _keeps_dialed(self, conn: _Connection) -> bool:
        """Of two connections the one is kept that the speaker with the higher identifier opened; with the
        same identifier, the one with the higher AS."""
        negotiated = conn.negotiated
        assert negotiated is not None
        ours = (self.config.local_router_id, self.config.local_as)
        return ours > (negotiated.remote_router_id, negotiated.remote_as)

    def _add_connection(self, now: float, *, dialed: bool) -> _Connection:
        conn = _Connection(self._next_id, dialed, now, now + self.config.open_time)
        self._next_id += 1
        self._connections[conn.id] = conn
        return conn

    def _close(self, conn: _Connection) -> None:
        conn.closed = True
        del self._connections[conn.id]
        self._actions.append(Close(conn.id))

    def _end(self, conn: _Connection, row: Transition, now: float, detail: _Detail) -> None:
        """Close a connection for a reason; tell where the session, or the attempt at one, ends with it."""
        was_established = conn.state is State.ESTABLISHED
        notification = detail.sent or row.notification
        if notification is not None:
            if conn.negotiated is not None and conn.negotiated.restart_on_notification:
                notification = notification.as_hard_reset()
            self._send_notification(conn, notification)
        self._close(conn)
        text = _down_text(detail, notification)
        self.last_error = text
        if was_established:
            assert self.established_at is not None
            if now - self.established_at >= self.config.connect_retry_time:
                self._attempts = 0
            self.flaps += 1
            self.established_at = None
        goes_on = bool(self._connections) or (self._dialing and row.next is State.ACTIVE)
        if was_established or not goes_on:
            self._actions.append(
                Down(conn.id, was_established, text, notification, detail.received, detail.cause)
            )

    def _send_open(self, conn: _Connection) -> None:
        config = self.config
        message = Open(config.local_as, config.hold_time, config.local_router_id, config.capabilities())
        self._send(conn, MessageType.OPEN, message.encode())

    def _send_notification(self, conn: _Connection, notification: Notification) -> None:
        self._send(conn, MessageType.NOTIFICATION, encode_notification(notification))

    def _send(self, conn: _Connection, kind: MessageType, message: bytes) -> None:
        self.counters.sent[kind] += 1
        self._actions.append(Send(conn.id, message))

    def _send_hold_time(self, conn: _Connection) -> float:
        """RFC 9687 section 3.2: the greater of eight minutes and twice the hold time."""
        assert conn.negotiated is not None
        return max(self.config.send_hold_time, 2.0 * conn.negotiated.hold_time)

    def _check_send_hold(self, conn: _Connection, now: float) -> None:
        """The SendHoldTimer (RFC 9687) is not restarted with each message sent: when it is due it is looked
        since when nothing could be sent."""
        since = now if conn.blocked_since is None else conn.blocked_since
        conn.send_hold_deadline = since + self._send_hold_time(conn)
        if conn.send_hold_deadline <= now:
            detail = _Detail(text="the peer takes nothing of what is sent")
            self._connection_event(Event.SEND_HOLD_EXPIRES, conn, now, detail)

    def _restart_hold(self, conn: _Connection, now: float) -> None:
        assert conn.negotiated is not None
        conn.hold_deadline = now + conn.negotiated.hold_time if conn.negotiated.hold_time else None

    def _restart_keepalive(self, conn: _Connection, now: float) -> None:
        assert conn.negotiated is not None
        interval = conn.negotiated.keepalive
        conn.keepalive_deadline = now + interval * self._rng.uniform(*_JITTER) if interval else None

    def _schedule_dial(self, now: float) -> None:
        """Set the ConnectRetryTimer, unless it runs, or there is nothing to dial for. A connection of the
        peer on which no OPEN came yet is no reason not to dial: it may be dead."""
        if self.config.passive or self._base is not State.ACTIVE or self._dial_at is not None:
            return
        if any(conn.dialed or conn.state > State.OPENSENT for conn in self._connections.values()):
            return
        wait = self.config.connect_retry_time
        if not self._connections:
            wait = min(wait, self.config.connect_delay * (1 << min(self._attempts, 16)))
        # The very first wait is random as a whole, so that a cluster that starts does not dial in one moment.
        jitter = self._rng.uniform(*_JITTER) if self._attempts else self._rng.random()
        self._dial_at = now + wait * jitter

    def _error_wait(self, now: float) -> float:
        """How long to stay in IDLE: longer with each error that follows another."""
        if now - self._last_error_at > _ERROR_FORGET_TIME:
            self._errors = 0
        self._last_error_at = now
        wait = min(self.config.idle_hold_max, self.config.idle_hold_min * (1 << min(self._errors, 16)))
        self._errors += 1
        return wait * self._rng.uniform(*_JITTER)


@lru_cache
def _in_all(first: frozenset[Family], *others: frozenset[Family]) -> frozenset[Family]:
    """What is in all of them. Remembered, because a set has 216 octets, and most of a reflector's clients
    have the same."""
    return first.intersection(*others) or NO_FAMILIES


def _down_text(detail: _Detail, sent: Notification | None) -> str:
    if detail.received is not None:
        return f"received NOTIFICATION {detail.received.describe()}"
    parts = [f"sent NOTIFICATION {sent.describe()}"] if sent is not None else []
    if detail.text and (sent is None or detail.text != sent.text):
        parts.append(printable(detail.text))
    return ": ".join(parts)

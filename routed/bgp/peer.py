"""One peering at work: a sans-IO session, its connections, its timer.

The session decides; this carries out: it dials, hands bytes over, sends, closes
and wakes the session at its deadline. What a session brings forth, UPDATEs and
the news that it is up or down, goes to the `PeerOwner`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from typing import Final
from weakref import proxy

from routed.bgp import session_types as sans_io
from routed.bgp.config import PeerConfig, SpeakerConfig, session_config
from routed.bgp.errors import Cease, Notification
from routed.bgp.fsm import State
from routed.bgp.network import Closable
from routed.bgp.nlri import Family
from routed.bgp.peer_owner import PeerOwner
from routed.bgp.prefix_limit import PrefixLimit
from routed.bgp.protection import Protection
from routed.bgp.seldom import Seldom
from routed.bgp.session import Session
from routed.bgp.session_types import ConnectionId, Negotiated
from routed.bgp.transport import Connection, Link, reset
from routed.log import Logger

#: Of what a peer does again and again so many lines are logged, then one each so many seconds.
FLAPS_SAID: Final = 3
FINDINGS_SAID: Final = 5
#: So many different reasons why there is no session yet are logged; a peer chooses some of the words.
ATTEMPTS_SAID: Final = 8
#: One for all: each `frozenset()` would have 200 octets.
_NOTHING_SAID: Final[frozenset[str]] = frozenset()
FLAP_TIME: Final = 60.0


class Peer:
    """One configured (or accepted) peering and its connections."""

    def __init__(
        self, config: PeerConfig, speaker: SpeakerConfig, owner: PeerOwner, *, restarting: bool
    ) -> None:
        self.config = config
        self.connection: Connection | None = None
        """The Established one."""
        self.last_negotiated: Negotiated | None = None
        """What was agreed when the session was up last."""
        self.shut_down: str | None = None
        """The message with which an operator shut it down, perhaps empty; None: it is not."""
        self.findings = 0
        """Errors in UPDATEs that were handled without a reset (RFC 7606)."""
        self.session = Session(session_config(config, speaker, restarting=restarting), owner.random)
        self.loop = owner.loop
        self.random = owner.random
        self._owner = owner
        # What a peer has refers to it weakly: one that is forgotten is freed at once, not when the garbage
        # collector comes to look at a million routes.
        self.protection = Protection(config, proxy(self))
        """TCP-MD5 and GTSM."""
        self.prefix_limit: PrefixLimit | None = None if config.max_prefixes is None else PrefixLimit()
        # Made when there is something to say: a reflector has thousands of peers that never need them.
        self._flaps: Seldom[str, str] | None = None
        self._findings: Seldom[str] | None = None
        self._attempts_said = _NOTHING_SAID
        self._connections: dict[ConnectionId, Connection] = {}
        self._dial: Closable | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._state = self.session.state
        self._paused = False

    @property
    def log(self) -> Logger:
        """Says which peer it is. Made for each line: few peers have something to say."""
        return self._owner.log.bind(peer=self.name)

    @property
    def name(self) -> str:
        """The peering's name, `Mesh_10_0_0_1`."""
        return self.config.name

    @property
    def established(self) -> bool:
        """True while the session is up."""
        return self.connection is not None

    @property
    def idle(self) -> bool:
        """True while no session is wanted, or none before the time after an error is over."""
        return self.session.state is State.IDLE

    @property
    def has_connections(self) -> bool:
        """True while there is any connection, Established or not."""
        return bool(self._connections)

    def start(self) -> None:
        """Begin to dial and to take connections; unless an operator or the configuration says that there must
        be none."""
        if self.shut_down is not None:
            return
        if self.config.held is not None:
            self.session.last_error = self.config.held
            self.log.error("no session", reason=self.config.held)
            return
        self.session.start(self._now())
        self._act()

    def take_down(self, message: str) -> None:
        """Have no session until `bring_up`, whatever is configured meanwhile. The peer gets the message
        (RFC 9003)."""
        self.shut_down = message
        if self._dial is not None:
            self._cancel_dial()
            self.session.connect_failed(self._now(), "given up: shut down by an operator")
        self.stop(Cease.ADMIN_SHUTDOWN, message)

    def bring_up(self) -> None:
        """As configured again."""
        self.shut_down = None
        self.start()

    def refresh(self) -> None:
        """Ask the peer for all its routes again (RFC 2918)."""
        self.session.refresh(Family)
        self._act()

    def pause(self, notification: Notification, seconds: float | None) -> None:
        """End the session, and have none for so long; None: until the configuration changes."""
        self.session.pause(self._now(), notification, seconds)
        self._paused = True
        self._act()

    def stop(self, subcode: Cease, message: str = "") -> None:
        """Cease: a NOTIFICATION to the peer where there is a connection; then Idle until `start`."""
        self.session.stop(self._now(), subcode, message)
        self._act()

    def abandon(self) -> None:
        """End without a NOTIFICATION, which asks a peer that agreed to graceful restart to keep our routes
        (RFC 4724 section 4.2)."""
        self._cancel_dial()
        self._cancel_timer()
        self.protection.close()
        for seldom in (self._flaps, self._findings):
            if seldom is not None:
                seldom.close()
        self._flaps = self._findings = None
        for connection in list(self._connections.values()):
            connection.close()
        self._connections.clear()

    def reconfigure(self, config: PeerConfig, speaker: SpeakerConfig, *, restarting: bool) -> None:
        """Take another configuration; the session is only reset where the OPEN would be another one."""
        old, self.config = self.config, config
        if config.max_prefixes != old.max_prefixes:
            self.prefix_limit = None if config.max_prefixes is None else PrefixLimit()
        dials_with_old_key = self.protection.configure(config)
        self.session.reconfigure(session_config(config, speaker, restarting=restarting), self._now())
        if config.held != old.held:
            if config.held is not None:
                self.stop(Cease.CONFIGURATION_CHANGE)
            self.start()
        elif self._paused and config != old:
            self.start()
        elif dials_with_old_key:
            if self._dial is not None:
                self._cancel_dial()
                self.session.connect_failed(self._now(), "given up: the password has changed")
            self.session.hurry(self._now())
        self._act()

    def rename(self, name: str) -> None:
        """Be known by another name; nothing else changes."""
        self.config = replace(self.config, name=name)

    def accept(self, link: Link) -> bool:
        """Take a connection that the peer made. False where the session wants none now; then it is reset."""
        connection_id = self.session.accepted(self._now())
        if connection_id is None:
            reset(link.sock)
            self._act()
            return False
        self._attach(connection_id, link, dialed=False)
        self._act()
        return True

    def wake_writer(self) -> None:
        """There is something new to send."""
        if self.connection is not None:
            self.connection.pump()

    # ConnectionHandler

    def on_bytes(self, connection: Connection, data: memoryview) -> None:
        """Octets from the peer."""
        connection_id = self._id_of(connection)
        if connection_id is not None:
            self.session.received(connection_id, data, self._now())
            self._act()

    def on_lost(self, connection: Connection, reason: str) -> None:
        """The TCP connection is gone."""
        connection_id = self._id_of(connection)
        if connection_id is not None:
            del self._connections[connection_id]
            self.protection.detach(connection)
            self.session.lost(connection_id, self._now(), reason)
            self._act()

    # Its log

    @property
    def flaps(self) -> bool:
        """True while its session comes and goes so fast that this is only counted."""
        return self._flaps is not None and self._flaps.holding

    def log_down(self, reason: str, routes: str) -> None:
        """Its session is down."""
        if self._flaps is None:
            self._flaps = Seldom(self.loop, self._say_down, burst=FLAPS_SAID, seconds=FLAP_TIME)
        self._flaps(reason, routes)

    def log_attempt(self, reason: str) -> None:
        """An attempt at a session has failed. Each reason is said once until there is a session; and of a
        client of a range, whom nobody waits for, none."""
        said = self._attempts_said
        if self.config.dynamic or reason in said or len(said) >= ATTEMPTS_SAID:
            self.log.debug("attempt failed", reason=reason)
            return
        self._attempts_said = said | {reason}
        self.log.warning("no session yet, trying on", reason=reason)

    def log_finding(self, finding: str) -> None:
        """An error in an UPDATE was handled."""
        self.findings += 1
        if self._findings is None:
            self._findings = Seldom(self.loop, self._say_finding, burst=FINDINGS_SAID, seconds=FLAP_TIME)
        self._findings(finding)

    def _say_down(self, count: int, reason: str, routes: str) -> None:
        if count == 1:
            self.log.warning("session down", reason=reason, routes=routes)
        else:
            state = self.session.state.name.lower()
            self.log.warning("session flaps", times=count, seconds=FLAP_TIME, state=state, last_reason=reason)
        self._owner.sessions.on_session_down(self, count, reason, routes)

    def _say_finding(self, count: int, finding: str) -> None:
        self.log.warning("bad UPDATE handled", finding=finding, times=count, count=self.findings)
        self._owner.sessions.on_bad_update(self, count, finding)

    # ProtectionOwner

    @property
    def connections(self) -> Iterable[Connection]:
        """All there are, Established or not."""
        return self._connections.values()

    def accept_waiting(self) -> None:
        """Accept connections that wait, before a key changes."""
        self._owner.accept_waiting()

    def send_keepalive(self) -> None:
        """Send a KEEPALIVE on the Established connection, though it is not due."""
        self.session.keepalive(self._now())
        self._act()

    def listen_key_changed(self) -> None:
        """The peer's connections are to be signed with another key."""
        self._owner.on_listen_key(self)

    def _id_of(self, connection: Connection) -> ConnectionId | None:
        """None where it is not the session's any more. There is one, or two: no need of a dictionary."""
        for connection_id, one in self._connections.items():
            if one is connection:
                return connection_id
        return None

    def _now(self) -> float:
        return self.loop.time()

    def _attach(self, connection_id: ConnectionId, link: Link, *, dialed: bool) -> None:
        connection = Connection(self.loop, link, self, self._owner.read_buffer, self._owner.traffic)
        self._connections[connection_id] = connection
        self.protection.attach(connection, dialed=dialed)

    def _act(self) -> None:
        """Carry out what the session wants, then look when it must be woken."""
        while actions := self.session.pull():
            for action in actions:
                self._carry_out(action)
        if self.session.state is not self._state:
            self._state = self.session.state
            self._owner.on_state(self)
        self._arm()

    def _carry_out(self, action: sans_io.Action) -> None:
        match action:
            case sans_io.Send():
                if connection := self._connections.get(action.conn):
                    connection.send(action.data)
            case sans_io.Updates():
                self._owner.on_updates(self, action.updates)
            case sans_io.Dial():
                self._start_dial()
            case sans_io.Close():
                if connection := self._connections.pop(action.conn, None):
                    self.protection.detach(connection)
                    connection.close()
            case sans_io.Established():
                self.connection = self._connections[action.conn]
                self.last_negotiated = action.negotiated
                self._attempts_said = _NOTHING_SAID
                self._paused = False
                self.protection.established(self.connection, action.negotiated.hold_time)
                self._owner.on_established(self, action.negotiated)
            case sans_io.RefreshRequested():
                self._owner.on_refresh(self, action.family, action.subtype)
            case sans_io.Down():
                self.connection = None
                self._owner.on_down(self, action)

    def _start_dial(self) -> None:
        self._cancel_dial()
        config = self.config
        options = self.protection.dial_options()
        self._dial = self._owner.network.dial(config.remote, config.source, self._dialed, options)

    def _dialed(self, link: Link | None, reason: str) -> None:
        self._dial = None
        if link is None:
            self.session.connect_failed(self._now(), reason)
            self.log_attempt(reason)
        else:
            self._attach(self.session.connected(self._now()), link, dialed=True)
        self._act()

    def _cancel_dial(self) -> None:
        if self._dial is not None:
            self._dial.close()
            self._dial = None

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        """Have the session woken at its deadline. A timer that is early is left alone: a hold timer that
        every message moves would otherwise cost a new one a message."""
        deadline = self.session.deadline
        if deadline is None:
            self._cancel_timer()
        elif self._timer is None or self._timer.when() > deadline:
            self._cancel_timer()
            self._timer = self._owner.loop.call_at(deadline, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        deadline = self.session.deadline
        if deadline is not None and deadline <= self._now():
            for connection_id in self.session.silent(self._now()):
                # A peer is only silent where nothing of it waits to be read.
                if connection := self._connections.get(connection_id):
                    connection.read()
            for connection_id, connection in self._connections.items():
                remark = self.protection.remark(connection)
                self.session.observed(connection_id, connection.stalled_since(), remark)
            self.session.tick(self._now())
            self._act()
        else:
            self._arm()

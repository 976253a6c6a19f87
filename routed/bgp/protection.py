"""TCP-MD5 and GTSM of one peering at work: on its connections, on its dials, and on what is listened for.

`keys` decides which key is due; this carries it out on sockets and keeps the timers.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable
from typing import Final, Protocol

from routed.bgp.config import PeerConfig
from routed.bgp.keys import TRIAL_TIME, Key, KeyRing, Rollover
from routed.bgp.tcp_options import TcpOptions
from routed.bgp.transport import Connection
from routed.log import Logger

#: How often an Established connection that is to get another key is looked at, seconds.
STEP_TIME: Final = 0.25
#: How long one of two keys is listened for before the other's turn, seconds. A SYN that is dropped is sent
#: again after 1, 3 and 7 s.
TURN_TIME: Final = 2.0
#: How long an attempt to connect may take, seconds; less while there is another key to try.
CONNECT_TIME: Final = 10.0
OVERLAP_CONNECT_TIME: Final = 3.0


class ProtectionOwner(Protocol):
    """Who listens, and sends."""

    loop: asyncio.AbstractEventLoop
    random: random.Random
    log: Logger

    @property
    def connections(self) -> Iterable[Connection]:
        """All there are."""

    def accept_waiting(self) -> None:
        """Accept connections that wait: they have the key that is listened for until now."""

    def send_keepalive(self) -> None:
        """Send a KEEPALIVE on the Established connection."""

    def listen_key_changed(self) -> None:
        """`Protection.listening` is another one now."""


class Protection:
    """The keys and TTLs of one peering."""

    __slots__ = (
        "_config",
        "_dialed",
        "_established",
        "_owner",
        "_ring",
        "_rollover",
        "_step_timer",
        "_trial_time",
        "_turn_timer",
    )

    def __init__(self, config: PeerConfig, owner: ProtectionOwner) -> None:
        self._config = config
        self._owner = owner
        self._ring = KeyRing(config.password)
        self._dialed: Key = None
        self._established: Connection | None = None
        self._rollover: Rollover | None = None
        self._trial_time = TRIAL_TIME
        self._step_timer: asyncio.TimerHandle | None = None
        self._turn_timer: asyncio.TimerHandle | None = None

    @property
    def listening(self) -> Key:
        """The key that connections of the peer are to have now."""
        return self._ring.listening

    @property
    def old_key_in_use(self) -> bool:
        """True while the session goes on with a key that is not the configured one."""
        return self._rollover is not None

    @property
    def dropped(self) -> int:
        """Segments of the peer that were dropped on its connections: signed with another key, or with none,
        or from too far away."""
        return (
            sum(one.control.progress().dropped for one in self._owner.connections) if self._protected else 0
        )

    @property
    def _protected(self) -> bool:
        config = self._config
        return self._ring.overlapping or bool(config.password is not None or config.ttl_security_hops)

    def remark(self, connection: Connection) -> str:
        """Why the peer may not be heard on a connection; empty where nothing speaks for it."""
        dropped = connection.control.progress().dropped if self._protected else 0
        if not dropped:
            return ""
        return f"{dropped} segments of the peer dropped: its password, or its TTL security, is another one"

    def dial_options(self) -> TcpOptions:
        """The options of the next attempt to connect."""
        self._dialed = self._ring.next_dial()
        time = OVERLAP_CONNECT_TIME if self._ring.overlapping else CONNECT_TIME
        return TcpOptions(self._dialed, self._config.ttl_security_hops, time)

    def attach(self, connection: Connection, *, dialed: bool) -> None:
        """A connection came to be: by the last dial, or accepted just now."""
        connection.key = self._dialed if dialed else self._ring.listening
        if not dialed:
            self._set_hops(connection)

    def detach(self, connection: Connection) -> None:
        """A connection is over."""
        if connection is self._established:
            self._established = None
            self._end_rollover()
            self._ring.session_over(self._now())

    def established(self, connection: Connection, hold_time: int) -> None:
        """The session is up on this connection: its key works. `hold_time` is the negotiated one, seconds."""
        self._established = connection
        # A trial must be over, and what it held up sent again, well within the hold time.
        self._trial_time = min(TRIAL_TIME, hold_time / 6) if hold_time else TRIAL_TIME
        was = self._ring.listening
        self._ring.proven(connection.key)
        if self._ring.listening != was:
            self._owner.listen_key_changed()
        self._roll_over()

    def configure(self, config: PeerConfig) -> bool:
        """Take another configuration. True where the key changed and no session is up: what is dialed now has
        the wrong one."""
        old, self._config = self._config, config
        if old.ttl_security_hops != config.ttl_security_hops:
            for connection in self._owner.connections:
                self._set_hops(connection)
        if old.password == config.password:
            return False
        self._owner.accept_waiting()
        self._ring.change(config.password, self._now())
        self._owner.listen_key_changed()
        self._owner.log.info(
            "password " + ("removed" if config.password is None else "changed" if old.password else "set"),
            old="goes on until the other end has the new one" if self._ring.overlapping else "is back",
        )
        if self._turn_timer is None:
            self._turn_timer = self._owner.loop.call_later(TURN_TIME, self._turn)
        self._roll_over()
        return self._established is None

    def close(self) -> None:
        """End; no timer is left."""
        self._end_rollover()
        if self._turn_timer is not None:
            self._turn_timer.cancel()
            self._turn_timer = None

    def _now(self) -> float:
        return self._owner.loop.time()

    def _set_hops(self, connection: Connection) -> None:
        try:
            connection.control.set_hops(self._config.ttl_security_hops)
        except OSError as error:
            self._owner.log.error("TTL security not in force", error=error.strerror)

    # What is listened for

    def _turn(self) -> None:
        """While two keys may be right they are listened for by turns."""
        self._turn_timer = None
        if self._established is None and self._ring.expire(self._now()):
            self._owner.log.warning("the old password is void: no session came up with the new one in time")
            self._owner.listen_key_changed()
        if self._ring.overlapping:
            self._owner.accept_waiting()
            self._ring.turn()
            self._owner.listen_key_changed()
            self._turn_timer = self._owner.loop.call_later(TURN_TIME, self._turn)

    # The Established connection

    def _roll_over(self) -> None:
        """Bring the Established connection to the wanted key, if it has another one."""
        self._end_rollover()
        connection = self._established
        if connection is None or connection.key == self._ring.wanted:
            return
        progress = connection.control.progress()
        self._rollover = Rollover(
            connection.key, self._ring.wanted, self._now(), progress, self._owner.random
        )
        self._step_timer = self._owner.loop.call_later(STEP_TIME, self._step)

    def _end_rollover(self) -> None:
        rollover, self._rollover = self._rollover, None
        connection = self._established
        if rollover is not None and rollover.trial and connection is not None and not connection.closed:
            self._put_key(connection, connection.key)
        if self._step_timer is not None:
            self._step_timer.cancel()
            self._step_timer = None

    def _step(self) -> None:
        self._step_timer = None
        connection, rollover = self._established, self._rollover
        if connection is None or rollover is None or connection.closed:
            return
        if rollover.step(self._now(), connection.control.progress(), self._trial_time):
            if not self._put_key(connection, rollover.key):
                self._rollover = None
                return
            rollover.swapped(connection.control.progress())
            if rollover.trial:
                self._owner.send_keepalive()
        if rollover.done:
            self._rollover = None
            connection.key = rollover.key
            self._ring.proven(rollover.key)
            self._owner.log.info("the other end has the new password, too: the session goes on with it")
            self._owner.listen_key_changed()
        else:
            self._step_timer = self._owner.loop.call_later(STEP_TIME, self._step)

    def _put_key(self, connection: Connection, key: Key) -> bool:
        try:
            connection.control.set_key(key)
        except OSError as error:
            self._owner.log.error("the session goes on with its old password", error=error.strerror)
            return False
        return True

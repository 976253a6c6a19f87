"""A network in memory, on virtual time, for sessions that know no sockets.

`Network.connect(a, b)` makes two endpoints each other's peer. What a session dials, sends and closes then
reaches the other after `delay()` seconds, in order on each connection, in the pieces that `cut` makes of it.
`Network.run` moves the clock from event to event; nothing sleeps.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar

from routed.bgp.fsm import State
from routed.bgp.nlri import Family
from routed.bgp.session import Session
from routed.bgp.session_types import (
    Action,
    Close,
    ConnectionId,
    Dial,
    Down,
    Established,
    Send,
    SessionConfig,
    Updates,
)
from routed.bgp.update import Update

T = TypeVar("T")
Cut = Callable[[bytes], list[bytes]]


def whole(data: bytes) -> list[bytes]:
    """One piece."""
    return [data]


def byte_by_byte(data: bytes) -> list[bytes]:
    """As many pieces as octets."""
    return [data[at : at + 1] for at in range(len(data))]


def session_config(number: int, peer: int = 0, **changes: object) -> SessionConfig:
    """A plain iBGP configuration for test router `number`, whose router ID is 10.0.0.`number`."""
    config = SessionConfig(
        name=f"r{number}-r{peer}",
        local_as=64512,
        remote_as=64512,
        local_router_id=bytes((10, 0, 0, number)),
        families=frozenset((Family.IPV4,)),
    )
    return with_changes(config, changes)


def with_changes(config: SessionConfig, changes: dict[str, object]) -> SessionConfig:
    """The configuration with some fields changed."""
    return replace(config, **changes)  # type: ignore[arg-type]


class Wire:
    """One TCP connection between two endpoints; a side's id is None until its session knows it, and once it
    has closed."""

    def __init__(self, dialer: Endpoint, acceptor: Endpoint) -> None:
        self.ends = (dialer, acceptor)
        self.ids: list[ConnectionId | None] = [None, None]
        self.last_arrival = [0.0, 0.0]

    def side(self, endpoint: Endpoint, conn: ConnectionId) -> int:
        """0 where `endpoint` dialed this connection, 1 where it accepted it."""
        return 0 if self.ends[0] is endpoint and self.ids[0] == conn else 1


@dataclass(eq=False)
class Endpoint:
    """A session on the network, and the record of what it did."""

    name: str
    session: Session
    network: Network
    peer: Endpoint | None = None
    listening: bool = True
    muted: bool = False
    """Octets sent are lost: the peer hears nothing, as over a link that is cut."""
    wires: dict[ConnectionId, Wire] = field(default_factory=dict)
    actions: list[Action] = field(default_factory=list)
    sent: list[tuple[float, ConnectionId, bytes]] = field(default_factory=list)
    dials: list[float] = field(default_factory=list)

    def of(self, kind: type[T]) -> list[T]:
        """The actions of one kind so far."""
        return [action for action in self.actions if isinstance(action, kind)]

    @property
    def updates(self) -> list[Update]:
        """Every UPDATE received so far."""
        return [update for batch in self.of(Updates) for update in batch.updates]

    @property
    def downs(self) -> list[Down]:
        """Every session and attempt that ended."""
        return self.of(Down)

    @property
    def up(self) -> bool:
        """True while Established."""
        return self.session.state is State.ESTABLISHED

    def send(self, data: bytes) -> None:
        """Send octets on the Established connection, as the owner of a session does with UPDATEs."""
        conn = self.of(Established)[-1].conn
        self.network.transmit(self, conn, data)

    def call(self, what: Callable[[], object]) -> None:
        """Do something with the session, then carry out what it wants."""
        what()
        self.network.carry_out(self)


class Network:
    """Virtual time and the endpoints. `now` begins at 1000 s, so that 0 is nobody's special case."""

    def __init__(self, seed: int = 0, *, delay: Callable[[], float] | None = None, cut: Cut = whole) -> None:
        self.now = 1000.0
        self.rng = random.Random(seed)
        self.delay = delay or (lambda: 0.001)
        self.cut = cut
        self.endpoints: list[Endpoint] = []
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0

    def add(self, name: str, config: SessionConfig) -> Endpoint:
        """A new endpoint with a session of this configuration, not started."""
        endpoint = Endpoint(name, Session(config, random.Random(self.rng.random())), self)
        self.endpoints.append(endpoint)
        return endpoint

    def connect(self, a: Endpoint, b: Endpoint) -> None:
        """Make the two each other's peer."""
        a.peer, b.peer = b, a

    def pair(self, a: SessionConfig, b: SessionConfig, *, start: bool = True) -> tuple[Endpoint, Endpoint]:
        """Two connected endpoints, started unless told otherwise."""
        left, right = self.add(a.name, a), self.add(b.name, b)
        self.connect(left, right)
        if start:
            self.start(left, right)
        return left, right

    def start(self, *endpoints: Endpoint) -> None:
        """Start these sessions now."""
        for endpoint in endpoints:
            endpoint.session.start(self.now)
            self.carry_out(endpoint)

    def run(self, seconds: float) -> None:
        """Let time pass."""
        self._run(self.now + seconds, lambda: False)

    def run_until(self, condition: Callable[[], bool], seconds: float = 300.0) -> None:
        """Let time pass until the condition holds; AssertionError where it does not within `seconds`."""
        end = self.now + seconds
        self._run(end, condition)
        assert condition(), f"not reached within {seconds} s of virtual time"

    def _run(self, end: float, condition: Callable[[], bool]) -> None:
        while not condition():
            due = min(
                (e.session.deadline for e in self.endpoints if e.session.deadline is not None), default=end
            )
            event_at = self._queue[0][0] if self._queue else end
            if min(due, event_at) >= end:
                self.now = end
                return
            if event_at <= due:
                self.now = max(self.now, event_at)
                heapq.heappop(self._queue)[2]()
                continue
            self.now = max(self.now, due)
            for endpoint in self.endpoints:
                deadline = endpoint.session.deadline
                if deadline is not None and deadline <= self.now:
                    endpoint.session.tick(self.now)
                    self.carry_out(endpoint)

    def at(self, when: float, what: Callable[[], None]) -> None:
        """Do something at a time."""
        self._count += 1
        heapq.heappush(self._queue, (when, self._count, what))

    def carry_out(self, endpoint: Endpoint) -> None:
        """Do what the session wants, until it wants no more."""
        while actions := endpoint.session.pull():
            for action in actions:
                endpoint.actions.append(action)
                if isinstance(action, Dial):
                    endpoint.dials.append(self.now)
                    self._dial(endpoint)
                elif isinstance(action, Send):
                    self.transmit(endpoint, action.conn, action.data)
                elif isinstance(action, Close):
                    self.cut_off(endpoint, action.conn, reset=False)

    def transmit(self, endpoint: Endpoint, conn: ConnectionId, data: bytes) -> None:
        """Send octets to the other end of a connection."""
        endpoint.sent.append((self.now, conn, data))
        wire = endpoint.wires.get(conn)
        if wire is None or endpoint.muted:
            return
        other = 1 - wire.side(endpoint, conn)
        for piece in self.cut(data):
            self._arrive(wire, other, partial(self._received, wire, other, piece))

    def cut_off(self, endpoint: Endpoint, conn: ConnectionId, *, reset: bool = True) -> None:
        """End a connection from one side; with `reset` that side's session is told it is lost, too."""
        wire = endpoint.wires.pop(conn, None)
        if wire is None:
            return
        side = wire.side(endpoint, conn)
        wire.ids[side] = None
        if not endpoint.muted:
            self._arrive(wire, 1 - side, lambda: self._eof(wire, 1 - side))
        if reset:
            endpoint.session.lost(conn, self.now, "connection reset")
            self.carry_out(endpoint)

    def _arrive(self, wire: Wire, side: int, what: Callable[[], None]) -> None:
        when = max(wire.last_arrival[side], self.now + self.delay())
        wire.last_arrival[side] = when
        self.at(when, what)

    def _dial(self, endpoint: Endpoint) -> None:
        assert endpoint.peer is not None
        wire = Wire(endpoint, endpoint.peer)
        self._arrive(wire, 1, lambda: self._accept(wire))

    def _accept(self, wire: Wire) -> None:
        dialer, acceptor = wire.ends
        conn = acceptor.session.accepted(self.now) if acceptor.listening else None
        if conn is None:
            self._arrive(wire, 0, lambda: self._refused(dialer))
            return
        wire.ids[1] = conn
        acceptor.wires[conn] = wire
        self._arrive(wire, 0, lambda: self._connected(wire))
        self.carry_out(acceptor)

    def _refused(self, dialer: Endpoint) -> None:
        dialer.session.connect_failed(self.now, "connection refused")
        self.carry_out(dialer)

    def _connected(self, wire: Wire) -> None:
        dialer = wire.ends[0]
        conn = dialer.session.connected(self.now)
        wire.ids[0] = conn
        dialer.wires[conn] = wire
        self.carry_out(dialer)

    def _received(self, wire: Wire, side: int, data: bytes) -> None:
        conn = wire.ids[side]
        if conn is not None:
            wire.ends[side].session.received(conn, memoryview(data), self.now)
            self.carry_out(wire.ends[side])

    def _eof(self, wire: Wire, side: int) -> None:
        conn, wire.ids[side] = wire.ids[side], None
        if conn is not None:
            wire.ends[side].wires.pop(conn, None)
            wire.ends[side].session.lost(conn, self.now, "closed by the peer")
            self.carry_out(wire.ends[side])

"""A peer on virtual time that says what a test tells it to, and keeps what it hears."""

from __future__ import annotations

import asyncio
import random
import socket
from ipaddress import ip_address
from typing import Any

from routed.bgp.nlri import Family
from routed.bgp.session import Session
from routed.bgp.session_types import (
    Close,
    Down,
    Established,
    Negotiated,
    RefreshRequested,
    Send,
    SessionConfig,
    Updates,
)
from routed.bgp.tcp_options import TcpOptions
from routed.bgp.transport import Endpoint, Link
from routed.bgp.update import Update
from tests.virtual import Wire, until


class Scripted:
    """One session with a speaker, IPv4 only unless told otherwise. It dials; the speaker must have it as a
    peer.

    updates    what was heard, in order: `Update` and `RefreshRequested`
    """

    def __init__(self, wire: Wire, number: int, remote: str, *, asn: int = 64512, **changes: Any) -> None:
        """`changes`: fields of `SessionConfig`."""
        self.address = f"10.0.0.{number}"
        self._packed = ip_address(self.address)
        self.asn = asn
        self.heard: list[Update | RefreshRequested] = []
        self.negotiated: Negotiated | None = None
        self.down: Down | None = None
        self._wire = wire
        self._remote = Endpoint(ip_address(remote), 179)
        self._loop = asyncio.get_running_loop()
        self._sock: socket.socket | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._conn = -1
        self._options: dict[str, Any] = {"families": frozenset({Family.IPV4}), **changes}
        wire.at_end.append(self.vanish)

    @property
    def updates(self) -> list[Update]:
        """The UPDATEs among what was heard."""
        return [one for one in self.heard if isinstance(one, Update)]

    async def connect(self) -> Negotiated:
        """Dial until the session is Established."""
        config = SessionConfig(
            name="scripted",
            local_as=self.asn,
            remote_as=None,
            local_router_id=self._packed.packed,
            passive=True,
            **self._options,
        )
        self.session = Session(config, random.Random(1))
        self.session.start(self._loop.time())
        self.negotiated = self.down = None
        self._wire.connect(self._packed, self._remote, self._dialed, TcpOptions())
        await until(lambda: self.negotiated is not None)
        assert self.negotiated is not None
        return self.negotiated

    def send(self, *messages: bytes) -> None:
        """Say this."""
        assert self._sock is not None
        self._sock.sendall(b"".join(messages))

    def vanish(self) -> None:
        """Close the connection without a word, as a process does that is killed."""
        if self._sock is not None:
            self._loop.remove_reader(self._sock)
            self._sock.close()
            self._sock = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _dialed(self, link: Link | None, reason: str) -> None:
        assert link is not None, reason
        self._sock = link.sock
        conn = self.session.accepted(self._loop.time())
        assert conn is not None
        self._conn = conn
        self._loop.add_reader(link.sock, self._read)
        self._act()

    def _read(self) -> None:
        assert self._sock is not None
        try:
            data = self._sock.recv(1 << 20)
        except ConnectionError:
            data = b""
        if data:
            self.session.received(self._conn, data, self._loop.time())
        else:
            self.session.lost(self._conn, self._loop.time(), "closed")
            self.vanish()
        self._act()

    def _act(self) -> None:
        for action in self.session.pull():
            match action:
                case Send() if self._sock is not None:
                    self._sock.sendall(action.data)
                case Updates():
                    self.heard += action.updates
                case RefreshRequested():
                    self.heard.append(action)
                case Established():
                    self.negotiated = action.negotiated
                case Down():
                    self.down = action
                case Close():
                    self.vanish()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.session.deadline is not None and self._sock is not None:
            self._timer = self._loop.call_at(self.session.deadline, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self.session.tick(self._loop.time())
        self._act()

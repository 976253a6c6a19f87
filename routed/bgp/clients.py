"""Clients that nobody has named: any address in a range may connect. They are bounded until they have a
session."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

from routed.bgp.config import ClientRange, PeerConfig
from routed.bgp.route import Address
from routed.bgp.seldom import Seldom
from routed.bgp.transport import Endpoint
from routed.log import Logger

if TYPE_CHECKING:
    from routed.bgp.peer import Peer

#: At most so many clients may have no session (yet).
HALF_OPEN_CLIENTS: Final = 4096
#: Where file descriptors run out those go that have had no session for so long, seconds.
HALF_OPEN_TIME: Final = 1.0


class Clients:
    """The ranges, and those of their clients that have no session; the oldest of them go first."""

    def __init__(self, loop: asyncio.AbstractEventLoop, give_up: Callable[[Peer], None], log: Logger) -> None:
        self.ranges: tuple[ClientRange, ...] = ()
        self._loop = loop
        self._give_up = give_up
        self._log = log
        self._half_open: dict[Peer, float] = {}
        """Since when; the oldest first."""
        self._crowded = Seldom(loop, self._say_crowded, burst=1, seconds=60.0)

    def set(self, ranges: Iterable[ClientRange]) -> None:
        """Take clients from these ranges, the first that has an address counting for it."""
        self.ranges = tuple(ranges)

    def config(self, address: Address, local_as: int) -> PeerConfig | None:
        """How to peer with a client at this address; None: it is in no range."""
        origin = next((one for one in self.ranges if address in one.network), None)
        if origin is None:
            return None
        return PeerConfig(
            name="Client_" + str(address).replace(".", "_").replace(":", "_"),
            remote=Endpoint(address, 179),
            families=origin.families,
            local_as=local_as,
            remote_as=local_as,
            passive=True,
            route_reflector_client=True,
            password=origin.password,
            max_prefixes=origin.max_prefixes,
            max_prefixes_time=origin.max_prefixes_time,
            dynamic=True,
        )

    def came(self, peer: Peer) -> None:
        """A client connected that has no session yet. Where there are too many the oldest goes."""
        self._half_open[peer] = self._loop.time()
        if len(self._half_open) > HALF_OPEN_CLIENTS:
            self._let_go(next(iter(self._half_open)))

    def settled(self, peer: Peer) -> None:
        """It has a session, or is gone."""
        self._half_open.pop(peer, None)

    def make_room(self) -> None:
        """File descriptors run out: those go that had the time to say something, and did not."""
        before = self._loop.time() - HALF_OPEN_TIME
        for peer, since in list(self._half_open.items()):
            if since > before:
                return
            if peer.has_connections:
                self._let_go(peer)

    def close(self) -> None:
        """No timer is left."""
        self._half_open.clear()
        self._crowded.close()

    def _let_go(self, peer: Peer) -> None:
        self._crowded(peer.config.remote.address)
        del self._half_open[peer]
        self._give_up(peer)

    def _say_crowded(self, count: int, address: Address) -> None:
        self._log.warning(
            "too many clients without a session: the oldest are given up",
            limit=HALF_OPEN_CLIENTS,
            given_up=count,
            last=str(address),
        )

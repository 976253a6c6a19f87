"""Who may connect: where connections are accepted and with which keys, and which peer a connection is of."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from ipaddress import ip_network

from routed.bgp.clients import Clients
from routed.bgp.config import ClientRange
from routed.bgp.incidents import Incidents
from routed.bgp.listening import Listeners
from routed.bgp.network import Network, descriptors_for_connections
from routed.bgp.peer import Peer
from routed.bgp.route import Address
from routed.bgp.transport import Endpoint, Link, reset
from routed.log import Logger


class Admission:
    """The peers by their addresses, and the sockets that listen for them."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        network: Network,
        log: Logger,
        incidents: Incidents,
        *,
        add_client: Callable[[Address], Peer | None],
        give_up: Callable[[Peer], None],
        on_status: Callable[[], None],
    ) -> None:
        """`add_client` makes a peer of who connects from an address that no peer has, where that is in a
        range of clients; `give_up` ends a client that has no session, to make room for others; `on_status`
        is called where `incidents` changed."""
        self.clients = Clients(loop, give_up, log)
        """The ranges, and those of their clients that have no session yet."""
        self._log = log
        self._incidents = incidents
        self._add_client = add_client
        self._on_status = on_status
        self._by_address: dict[Address, list[Peer]] = {}
        self._descriptors_said = 0
        self._listeners = Listeners(loop, network, self._on_accept, self.clients.make_room, log)

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """Where connections are accepted now."""
        return self._listeners.endpoints

    def listen(self, endpoints: Iterable[Endpoint]) -> None:
        """Accept connections on these endpoints and no others."""
        self._listeners.want(endpoints)

    def set_client_ranges(self, ranges: Iterable[ClientRange]) -> None:
        """Accept sessions from any address in these ranges."""
        for one in self.clients.ranges:
            self._listeners.set_key(one.network, None)
        self.clients.set(ranges)
        for one in self.clients.ranges:
            self._listeners.set_key(one.network, one.password)

    def add(self, peer: Peer, peers: int) -> None:
        """Accept connections of a new peer; with it there are so many."""
        self._check_descriptors(peers)
        self._by_address.setdefault(peer.config.remote.address, []).append(peer)
        self.renew_key(peer)

    def remove(self, peer: Peer) -> None:
        """A peer is no more."""
        address = peer.config.remote.address
        same_address = self._by_address[address]
        same_address.remove(peer)
        if not same_address:
            del self._by_address[address]
        self.clients.settled(peer)
        self.renew_key(peer)

    def renew_key(self, peer: Peer) -> None:
        """The peer's connections are, or are not any more, to be signed with a key, or with another one. A
        client has the key of its range."""
        if not peer.config.dynamic:
            self._set_listen_key(peer.config.remote.address)

    def accept_waiting(self) -> None:
        """Accept connections that wait, before a key changes."""
        self._listeners.accept_waiting()

    def close_listeners(self) -> None:
        """Accept no more."""
        self._listeners.close()

    def _on_accept(self, link: Link) -> None:
        """A connection from somewhere: give it to the peer it belongs to."""
        peer = self._peer_for(link.remote.address)
        if peer is None:
            self._incidents.refused += 1
            self._on_status()
            self._log.debug(
                "connection refused: no peer has this address", remote=str(link.remote), local=str(link.local)
            )
            reset(link.sock)
            return
        if peer.config.password is not None and self._listeners.unprotected(link.remote.address):
            peer.session.last_error = "connection refused: no listening socket has room for the password"
            reset(link.sock)
            return
        if peer.established:
            self._incidents.second_connections += 1
            self._on_status()
        peer.accept(link)

    def _peer_for(self, address: Address) -> Peer | None:
        peers = self._by_address.get(address)
        if peers:
            # Several peers with one address differ in the port we dial; an accepted connection may be any's.
            return min(peers, key=lambda peer: (peer.established, peer.has_connections))
        return self._add_client(address)

    def _set_listen_key(self, address: Address) -> None:
        """Listen with the key of the peers at an address. A socket has one key for it."""
        peers = [peer for peer in self._by_address.get(address, ()) if not peer.config.dynamic]
        keys = dict.fromkeys(peer.protection.listening for peer in peers)
        key = next((key for key in keys if key is not None), None)
        self._listeners.set_key(ip_network(address), key)
        if len({peer.config.password for peer in peers}) > 1:
            names = ", ".join(sorted(peer.name for peer in peers))
            self._log.warning(
                "peerings with one address have different passwords: one of them counts for what they dial",
                peers=names,
            )

    def _check_descriptors(self, peers: int) -> None:
        """A session needs a file descriptor, and another one while a collision is judged."""
        needed, limit = 2 * peers, descriptors_for_connections()
        if needed > limit > self._descriptors_said:
            self._descriptors_said = limit
            self._log.warning(
                "the limit of open files is low for so many peers",
                peers=peers,
                sessions_possible=limit,
                hint=f"raise it (LimitNOFILE, ulimit -n) by {needed - limit} or more",
            )

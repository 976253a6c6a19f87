"""The standalone route reflector: what an operator asks for.

Two kinds. One has no record: it is told its identity, and its clients come from address ranges, or from the
`BGPPeer`s that name its address. The other has a `Node` record, with a `routeReflectorClusterID`, as Calico's
documentation makes a reflector: identity, clients, other reflectors and external peers are as the records
say for that node, selected by label or named by address. Neither programs a kernel route, and both pass on
every route.

The first kind without records runs as a `process`, all else as an agent (`from_records`).
"""

from __future__ import annotations

import resource
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

from routed.bgp.config import DEFAULT_LIMIT_TIME, ClientRange, PeerConfig, SpeakerConfig
from routed.bgp.nlri import Family, Network
from routed.bgp.transport import Endpoint
from routed.observe.options import NOTHING, ObserveOptions
from routed.secret import SecretValue

#: Descriptors that are no session's: listeners, the datastore, logs.
_OTHER_DESCRIPTORS: Final = 64
#: As many clients as one reflector may be expected to have at once: a larger range is not meant to be full.
_MOST_CLIENTS: Final = 10_000


@dataclass(frozen=True, slots=True)
class Running:
    """How a reflector of either kind runs."""

    graceful_stop: bool = False
    """At the stop clients are to keep our routes for the restart time; else they are told to drop them."""
    drain_time: float = 0.0
    """Before it stops, announce all routes with the least preference for so long, seconds (RFC 8326)."""
    status_file: Path | None = None
    log_level: str | None = None
    observe: ObserveOptions = NOTHING


@dataclass(frozen=True, slots=True)
class Reflector:
    """A reflector without a record.

    Raises ValueError where it could never have a client, or not be found by the records."""

    listen: tuple[Endpoint, ...]
    local_as: int
    router_id: IPv4Address
    cluster_id: IPv4Address
    clients: tuple[Network, ...] = ()
    """Any session from these ranges is a client's."""
    password: SecretValue | None = None
    """The TCP-MD5 password of all those clients."""
    max_prefixes: int | None = None
    """The most prefixes of a family that each of them may send; and how long one that sends more stays down,
    seconds."""
    max_prefixes_time: float = DEFAULT_LIMIT_TIME
    peers: tuple[Endpoint, ...] = ()
    """Other reflectors, which are no clients of this one: it dials them."""
    from_records: bool = False
    """Nodes whose BGPPeer names the first address of `listen` are clients."""
    name: str = ""
    """In logs and status; empty: the router ID."""

    def __post_init__(self) -> None:
        if not self.clients and not self.from_records:
            raise ValueError(
                "no clients: give --clients CIDR, or --datastore URL to take them from a cluster's records"
            )
        if self.from_records and self.own_address is None:
            raise ValueError(
                "--listen: with --datastore name the address that the BGPPeers' peerIP has, not the wildcard"
            )

    @property
    def own_address(self) -> IPv4Address | None:
        """The address by which records know it; None where only wildcards are listened on."""
        known = (one.address for one in self.listen if not one.address.is_unspecified)
        return next(known, None)  # type: ignore[return-value]  # either family; the compiler takes both

    @property
    def own_name(self) -> str:
        """In logs and status."""
        return self.name or str(self.router_id)

    @property
    def identity(self) -> SpeakerConfig:
        """What the speaker is told of itself."""
        return SpeakerConfig(self.router_id.packed, self.local_as, self.cluster_id.packed, self.listen)

    @property
    def client_ranges(self) -> tuple[ClientRange, ...]:
        """Where clients may come from."""
        return tuple(
            ClientRange(
                network,
                password=self.password,
                max_prefixes=self.max_prefixes,
                max_prefixes_time=self.max_prefixes_time,
            )
            for network in self.clients
        )

    def peer_configs(self) -> tuple[PeerConfig, ...]:
        """Sessions with the other reflectors."""
        return tuple(self._peer(endpoint) for endpoint in self.peers)

    def _peer(self, remote: Endpoint) -> PeerConfig:
        """A session with another reflector: a non-client peer (RFC 4456 section 5), both families over one
        session."""
        same_family = (one.address for one in self.listen if one.address.version == remote.address.version)
        source = next((address for address in same_family if not address.is_unspecified), None)
        return PeerConfig(
            name="Reflector_" + str(remote.address).replace(".", "_").replace(":", "_"),
            remote=remote,
            families=frozenset(Family),
            local_as=self.local_as,
            remote_as=self.local_as,
            # So that the other end knows us by the address that it was told.
            source=source,
        )


def raise_descriptor_limit(clients: Sequence[Network] = ()) -> str:
    """Allow this process as many descriptors as it may have: every session is one.

    Returns what is wrong, for people, where that is too few for the clients that may come; empty where it
    is not."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return missing_descriptors(hard, clients)


def missing_descriptors(limit: int, clients: Sequence[Network]) -> str:
    """How many descriptors are missing for so many clients, and what to do; empty where none is.

    `limit`: RLIMIT_NOFILE, RLIM_INFINITY included."""
    if limit == resource.RLIM_INFINITY:
        return ""
    possible = min(sum(network.num_addresses for network in clients), _MOST_CLIENTS)
    missing = possible + _OTHER_DESCRIPTORS - limit
    if missing <= 0:
        return ""
    return (
        f"{missing} descriptors are missing for {possible} clients: the limit is {limit}; "
        f"start with `ulimit -n {possible + _OTHER_DESCRIPTORS}` (systemd: LimitNOFILE)"
    )

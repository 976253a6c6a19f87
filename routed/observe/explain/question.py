"""What is asked: a prefix, or a peering, with what the process knows of it."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_network

from routed.bgp.nlri import Family, Network, from_network
from routed.bgp.path import Path, SourceKind
from routed.bgp.peer import Peer
from routed.bgp.route import Address
from routed.intent.tables import Tables
from routed.intent.types import OriginatedRoute, SessionIntent
from routed.observe.observed import Observed
from routed.resources import IPPool


@dataclass(frozen=True, slots=True)
class PrefixQuestion:
    """A prefix."""

    observed: Observed
    network: Network
    family: Family
    nlri: bytes
    tables: Tables | None
    """None: the process works without records."""
    paths: tuple[Path, ...]
    """Loc-RIB: the eligible ones, best first."""
    origin: OriginatedRoute | None
    """What this node makes of it itself."""
    pools: tuple[IPPool, ...]
    """The IP pools that hold it, the one that counts first: that whose range sorts first as text."""
    block: Network | None
    """The smallest block that holds it, of any node; or a pod CIDR."""
    pod_cidr_of: str | None
    """The node whose pod CIDR that is."""

    @property
    def best(self) -> Path | None:
        """The best path."""
        return self.paths[0] if self.paths else None

    @property
    def known(self) -> bool:
        """Whether there is a route: in Loc-RIB, or static by way of a gateway."""
        return bool(self.paths) or (self.origin is not None and self.origin.gateway is not None)

    @property
    def made_here(self) -> bool:
        """Whether this node makes a route of it, and not just a blackhole."""
        return self.origin is not None and (self.origin.advertise or self.origin.gateway is not None)

    @property
    def single(self) -> bool:
        """True for a prefix of full length."""
        return self.network.prefixlen == self.network.max_prefixlen


@dataclass(frozen=True, slots=True)
class AddressQuestion:
    """An address: itself as a prefix, and its longest match."""

    observed: Observed
    address: Address
    host: PrefixQuestion
    match: PrefixQuestion | None


@dataclass(frozen=True, slots=True)
class PeerQuestion:
    """One peering, or a name or address that has none.

    asked    what was asked for
    session  what the records want
    peer     what runs
    node     the Calico node that was asked for, or that the peer is
    address  the address that was asked for
    """

    observed: Observed
    asked: str
    tables: Tables | None
    session: SessionIntent | None = None
    peer: Peer | None = None
    node: str | None = None
    address: Address | None = None

    @property
    def up(self) -> bool:
        """True while its session is Established."""
        return self.peer is not None and self.peer.established

    @property
    def name(self) -> str | None:
        """The peering's name."""
        return self.peer.name if self.peer is not None else self.session.name if self.session else None


def prefix_question(observed: Observed, network: Network) -> PrefixQuestion:
    """Look a prefix up."""
    family, nlri = Family.of(network), from_network(network)
    tables = None if observed.compiler is None else observed.compiler.tables
    block, node = (None, None) if tables is None else _block_with(tables, network)
    return PrefixQuestion(
        observed=observed,
        network=network,
        family=family,
        nlri=nlri,
        tables=tables,
        paths=observed.speaker.ribs[family].ranked(nlri),
        origin=None if tables is None else tables.originated.get(network),
        pools=() if tables is None else _pools_with(tables, network),
        block=block,
        pod_cidr_of=node,
    )


def _block_with(tables: Tables, network: Network) -> tuple[Network | None, str | None]:
    """The smallest block or pod CIDR that holds a network, and the node whose pod CIDR it is."""
    pod_cidrs = tables.pod_cidrs
    found = [*tables.blocks.around(network)[:1], *(one for one in pod_cidrs if holds(one, network))]
    smallest = max(found, key=lambda one: one.prefixlen, default=None)
    return smallest, None if smallest is None else pod_cidrs.get(smallest)


def _pools_with(tables: Tables, network: Network) -> tuple[IPPool, ...]:
    found = [pool for pool in tables.pools.values() if holds(pool.cidr, network)]
    return tuple(sorted(found, key=lambda pool: (str(pool.cidr), pool.name)))


def address_question(observed: Observed, address: Address) -> AddressQuestion:
    """Look an address up: its longest match is among Loc-RIB and what this node makes of its own."""
    host = prefix_question(observed, ip_network(address))
    match = next((one for one in _around(host) if one.known or one.origin is not None), None)
    return AddressQuestion(observed, address, host, match)


def _around(host: PrefixQuestion) -> list[PrefixQuestion]:
    """The prefixes that hold it, itself first, that are routes; no object is made for the others."""
    routes = host.observed.speaker.ribs[host.family].routes
    originated = {} if host.tables is None else host.tables.originated
    supernets = (host.network.supernet(new_prefix=n) for n in range(host.network.prefixlen, -1, -1))
    return [
        prefix_question(host.observed, one)
        for one in supernets
        if from_network(one) in routes or one in originated
    ]


def holds(outer: Network, inner: Network) -> bool:
    """Whether a network holds another one, or is it."""
    return (
        outer.version == inner.version
        and outer.prefixlen <= inner.prefixlen
        and inner.network_address in outer
    )


def own(path: Path) -> bool:
    """True for a route that this node makes itself."""
    return path.source.kind in (SourceKind.STATIC, SourceKind.ALLOCATED)

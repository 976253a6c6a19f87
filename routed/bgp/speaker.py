"""The speaker: peers, their sessions, the RIBs and the export groups, on one event loop.

It is told its configuration piece by piece and applies just that piece: a peer that
did not change is not touched. What it finds out goes to a `SpeakerListener`.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import ip_address
from typing import Final, Protocol

from routed import log
from routed.bgp import session as sans_io
from routed.bgp.attributes import originate
from routed.bgp.config import ClientRange, PeerConfig, SpeakerConfig
from routed.bgp.errors import Cease
from routed.bgp.export import Exporter, ExportTarget
from routed.bgp.filters import FilterFunction, compile_filter_function, compile_import
from routed.bgp.groups import ExportGroups, GroupKey, Member
from routed.bgp.handover import Handover
from routed.bgp.listening import Listeners
from routed.bgp.nlri import Family
from routed.bgp.path import NextHopTracker, Router, Source, SourceKind
from routed.bgp.peer import Peer
from routed.bgp.policy import compile_export
from routed.bgp.restart import Convergence, keeps_routes, preserved_families
from routed.bgp.rib import LocRib
from routed.bgp.route import Address
from routed.bgp.session import Negotiated
from routed.bgp.transport import READ_OCTETS, Endpoint, Link, Network, TcpNetwork, reset
from routed.bgp.update import Update
from routed.intent.filters import CompiledFilter, Direction
from routed.intent.types import NORMAL_ROUTE_PRIORITY, ExportPolicy

#: Changed prefixes worked off before the sockets are looked at again.
PREFIXES_A_TURN: Final = 20_000
#: How often what was kept for joining peers is let go, seconds.
SNAPSHOT_TIME: Final = 5.0
#: How long a peer that came back may take for its End-of-RIB before its stale routes go, seconds.
END_OF_RIB_TIME: Final = 120.0

_NO_NEXT_HOP: Final = {Family.IPV4: bytes(4), Family.IPV6: bytes(16)}


class SpeakerListener(Protocol):
    """Who hears of what the speaker finds out."""

    def on_routes(self, family: Family, nlri: Sequence[bytes]) -> None:
        """Loc-RIB may have changed for these prefixes."""

    def on_converged(self, reason: str) -> None:
        """After the start: every peer that can be waited for has sent its table."""

    def on_status(self) -> None:
        """Something that `status` shows has changed."""


class _Attached:
    """What a peer has in the tables: a source and, while its session is up, a member, a family."""

    __slots__ = ("import_filters", "members", "sources", "stale_timer")

    def __init__(self) -> None:
        self.import_filters: dict[Family, tuple[tuple[str, CompiledFilter | None], ...]] = {}
        self.sources: dict[Family, Source] = {}
        self.members: dict[Family, Member] = {}
        self.stale_timer: asyncio.TimerHandle | None = None


class Speaker:
    """All of BGP on this node. Must be made, used and closed on one running event loop."""

    def __init__(
        self,
        config: SpeakerConfig,
        listener: SpeakerListener,
        *,
        network: Network | None = None,
        rng: random.Random | None = None,
        next_hops: NextHopTracker | None = None,
    ) -> None:
        """`next_hops` knows which next hops can be reached; None: all are taken to be."""
        self.loop = asyncio.get_running_loop()
        self.network: Network = network or TcpNetwork(self.loop)
        self.read_buffer = memoryview(bytearray(READ_OCTETS))
        self.log = log.get("bgp")
        self.random = rng or random.Random()  # noqa: S311 (jitter, not cryptography)
        self.config = config
        self.peers: dict[str, Peer] = {}
        self.ribs = {family: LocRib(family) for family in Family}
        self.groups = {family: ExportGroups(rib, self._exporter) for family, rib in self.ribs.items()}
        self.refused_connections = 0
        self._listener = listener
        self._next_hops = next_hops
        self._attached: dict[Peer, _Attached] = {}
        self._by_address: dict[Address, list[Peer]] = {}
        self._ranges: tuple[ClientRange, ...] = ()
        self._filters: dict[str, CompiledFilter] = {}
        self._policies: dict[Family, ExportPolicy | None] = dict.fromkeys(Family)
        self._normal_priority: dict[Family, int] = dict.fromkeys(Family, NORMAL_ROUTE_PRIORITY)
        self._router = {family: self._make_router(family) for family in Family}
        self._local: dict[tuple[Family, SourceKind], Source] = {}
        self._flush_due = False
        self._closed = False
        self._listeners = Listeners(self.loop, self.network, self._on_accept, self.log)
        self._convergence = Convergence(self.loop, self._on_converged)
        self._handover = Handover(self.loop, self._covered, self._let_go)
        self._housekeeping = self.loop.call_later(SNAPSHOT_TIME, self._release_snapshots)
        for family, rib in self.ribs.items():
            rib.subscribe(lambda nlri, family=family: listener.on_routes(family, nlri))  # type: ignore[misc]

    # What it is told

    def start(self) -> None:
        """Listen, and begin to count the time that peers have until the speaker is taken to be converged."""
        self._listeners.want(self.config.listen)
        self._convergence.start(unknown_peers=bool(self._ranges))

    def configure(self, config: SpeakerConfig) -> None:
        """Take another identity or other listening addresses. Sessions are reset only where their OPEN
        changes."""
        old, self.config = self.config, config
        self._listeners.want(config.listen)
        if old == config:
            return
        self._renew_routers()
        for peer in list(self.peers.values()):
            peer.reconfigure(peer.config, config, restarting=self._convergence.pending)
            self._regroup(peer)
        self._schedule_flush()

    def set_client_ranges(self, ranges: Iterable[ClientRange]) -> None:
        """Accept sessions from any address in these ranges."""
        self._ranges = tuple(ranges)

    def set_peer(self, config: PeerConfig) -> None:
        """Add a peer, or give one another configuration."""
        peer = self.peers.get(config.name)
        if peer is None:
            self._add(config)
            return
        old = peer.config
        self._handover.keep(peer)
        if old == config:
            return
        if (old.remote.address, old.source) != (config.remote.address, config.source):
            # Another address is another peering; so is another end of the TCP connection.
            self.remove_peer(config.name)
            self._add(config)
            return
        peer.reconfigure(config, self.config, restarting=self._convergence.pending)
        self._regroup(peer)
        self._schedule_flush()

    def rename_peer(self, name: str, config: PeerConfig) -> None:
        """The same peering under another name, such as a mesh peer that has become a reflector: its session
        goes on where its OPEN would be the same."""
        peer = self.peers.pop(name)
        self.peers[config.name] = peer
        self._convergence.rename(name, config.name)
        peer.rename(config.name)
        self.set_peer(config)

    def remove_peer(self, name: str) -> None:
        """End a peering: a NOTIFICATION to the peer, and all its routes are gone."""
        peer = self.peers.get(name)
        if peer is not None:
            peer.stop(Cease.PEER_DECONFIGURED)
            self._forget(peer)

    def retire_peer(self, name: str) -> None:
        """End a peering as soon as all its routes are known from others; see `handover`."""
        peer = self.peers.get(name)
        if peer is not None and peer.established:
            peer.log.info("session retires: it ends when others give its routes")
            self._handover.retire(peer)
        else:
            self.remove_peer(name)

    def set_export_policy(self, family: Family, policy: ExportPolicy | None) -> None:
        """Put an export policy in force for every peer; None lets all routes pass. Only what it changes is
        sent."""
        if self._policies[family] == policy:
            return
        self._policies[family] = policy
        priority = policy.normal_priority if policy is not None else NORMAL_ROUTE_PRIORITY
        if priority != self._normal_priority[family]:
            self._normal_priority[family] = priority
            self._renew_routers()
            for peer in self.peers.values():
                self._regroup(peer)
        self.groups[family].refresh()
        self._schedule_flush()

    def set_filters(self, changed: Mapping[str, CompiledFilter | None]) -> None:
        """Put BGPFilters in force, or out of it. Only what they change for a peer is sent, or decided
        anew."""
        for name, one in changed.items():
            if one is None:
                self._filters.pop(name, None)
            else:
                self._filters[name] = one
        for peer in self.peers.values():
            if peer.established and not changed.keys().isdisjoint(peer.config.filters):
                for family, source in self._attached[peer].sources.items():
                    self._set_import_policy(peer, family, source)
        for groups in self.groups.values():
            if any(not changed.keys().isdisjoint(key.filters) for key in groups.groups):
                groups.refresh()
        self._schedule_flush()

    def originate(self, family: Family, nlri: bytes, kind: SourceKind = SourceKind.STATIC) -> None:
        """Have a route of our own in Loc-RIB: its next hop is ourselves."""
        source = self._local_source(family, kind)
        self.ribs[family].insert(source.path(originate(next_hop=_NO_NEXT_HOP[family])), (nlri,))
        self._schedule_flush()

    def learn(
        self,
        family: Family,
        nlri: bytes,
        *,
        interface: str | None,
        gateway: Address | None,
        metric: int | None,
        kind: SourceKind = SourceKind.KERNEL,
    ) -> None:
        """Have a route in Loc-RIB that somebody else put into the kernel: a workload's, as a rule; or a
        network of an interface of ours (DIRECT)."""
        next_hop = _NO_NEXT_HOP[family] if gateway is None else gateway.packed
        source = self._local_source(family, kind)
        path = source.path(originate(next_hop=next_hop), interface=interface, metric=metric)
        self.ribs[family].insert(path, (nlri,))
        self._schedule_flush()

    def withdraw(self, family: Family, nlri: bytes, kind: SourceKind) -> None:
        """Take back what `originate` (STATIC, ALLOCATED) or `learn` (KERNEL, DIRECT) put into Loc-RIB."""
        self.ribs[family].withdraw(self._local_source(family, kind), (nlri,))
        self._schedule_flush()

    def rerank(self, family: Family, nlri: Iterable[bytes]) -> None:
        """Rank the paths of these prefixes again: the way to a next hop of theirs has changed."""
        self.ribs[family].rerank(nlri)
        self._schedule_flush()

    def close(self, *, graceful: bool, message: str = "") -> None:
        """End. `graceful`: peers that agreed to graceful restart keep our routes for the restart time; the
        others,
        and all where it is not, get a Cease (RFC 4724 section 4, RFC 9003)."""
        self._closed = True
        self._listeners.close()
        self._convergence.cancel()
        self._handover.cancel()
        self._housekeeping.cancel()
        for peer in list(self.peers.values()):
            negotiated = peer.session.negotiated
            if graceful and negotiated is not None and negotiated.capabilities.graceful_restart is not None:
                peer.abandon()
            else:
                peer.stop(Cease.ADMIN_SHUTDOWN, message)
                peer.abandon()
            attached = self._attached.pop(peer)
            if attached.stale_timer is not None:
                attached.stale_timer.cancel()
        self.peers.clear()

    # What there is to see

    @property
    def listening(self) -> tuple[Endpoint, ...]:
        """Where connections are accepted now."""
        return self._listeners.endpoints

    @property
    def converged(self) -> bool:
        """False after the start until every peer that can be waited for has sent its table."""
        return not self._convergence.pending

    def received(self, peer: Peer) -> Mapping[Family, int]:
        """The number of routes in the peer's Adj-RIB-In, by family."""
        attached = self._attached[peer]
        tables = {
            family: self.ribs[family].sources.get(source) for family, source in attached.sources.items()
        }
        return {family: len(table.routes) for family, table in tables.items() if table is not None}

    def advertised(self, peer: Peer) -> Mapping[Family, int]:
        """The number of routes the peer is told of, by family. Counts its own among them where its group
        has any."""
        return {family: len(member.group.adj_out) for family, member in self._attached[peer].members.items()}

    # What happens: PeerOwner

    def on_established(self, peer: Peer, negotiated: Negotiated) -> None:
        """Routes may flow: join the export groups."""
        attached = self._attached[peer]
        assert peer.connection is not None
        preserved = preserved_families(negotiated)
        for family in negotiated.families:
            source = self._source(peer, family, negotiated)
            old = attached.sources.get(family)
            if old is not None and _same_peer(old, source):
                source = old
                if family not in preserved:
                    # RFC 4724 section 4.2: the peer lost its forwarding state, so its
                    # old routes lead nowhere.
                    self.ribs[family].sweep_stale(source)
            elif old is not None:
                self.ribs[family].drop(old)
            if attached.sources.get(family) is not source:
                attached.import_filters.pop(family, None)
            attached.sources[family] = source
            self._set_import_policy(peer, family, source)
            self._join(peer, family, source, negotiated)
        for family in attached.sources.keys() - negotiated.families:
            self.ribs[family].drop(attached.sources.pop(family))
        if attached.stale_timer is not None:
            attached.stale_timer.cancel()
            attached.stale_timer = self.loop.call_later(END_OF_RIB_TIME, self._stale_expired, peer)
        self._convergence.established(peer.name, negotiated)
        peer.log.info(
            "session established",
            remote_as=negotiated.remote_as,
            router_id=str(ip_address(negotiated.remote_router_id)),
            families=_names(negotiated.families),
            hold_time=negotiated.hold_time,
        )
        peer.wake_writer()

    def on_updates(self, peer: Peer, updates: list[Update]) -> None:
        """Routes from a peer."""
        sources = self._attached[peer].sources
        for update in updates:
            for family, nlri in update.withdrawn:
                self.ribs[family].withdraw(sources[family], nlri)
            for family, attributes, nlri in update.announced:
                self.ribs[family].insert(sources[family].path(attributes), nlri)
            if update.end_of_rib is not None:
                self._on_end_of_rib(peer, update.end_of_rib)
            for finding in update.errors:
                peer.findings += 1
                peer.log.warning("bad UPDATE handled", finding=str(finding), count=peer.findings)
        self._schedule_flush()

    def on_refresh(self, peer: Peer, family: Family) -> None:
        """RFC 2918: the peer asks for everything again."""
        member = self._attached[peer].members.get(family)
        if member is not None:
            member.resend()
            peer.wake_writer()

    def on_down(self, peer: Peer, down: sans_io.Down) -> None:
        """A session, or an attempt, has ended."""
        if not down.was_established:
            peer.log.debug("attempt failed", reason=down.text)
            if peer.config.dynamic and peer.name in self.peers:
                self.loop.call_soon(self._forget_if_idle, peer)
            return
        attached = self._attached[peer]
        for family, member in attached.members.items():
            self.groups[family].leave(member)
        attached.members.clear()
        negotiated = peer.last_negotiated
        keep: frozenset[Family] = frozenset()
        if peer in self._handover:  # the other end let go first; what it told us is as good as before
            keep = frozenset(attached.sources)
        elif negotiated is not None and peer.name in self.peers:
            keep = keeps_routes(negotiated, down)
        for family in list(attached.sources):
            if family in keep:
                self.ribs[family].sweep_stale(attached.sources[family])
                self.ribs[family].mark_stale(attached.sources[family])
            else:
                self.ribs[family].drop(attached.sources.pop(family))
        peer.log.warning(
            "session down", reason=down.text, routes="kept while it restarts" if keep else "dropped"
        )
        if attached.stale_timer is not None:
            attached.stale_timer.cancel()
            attached.stale_timer = None
        if (
            keep
            and negotiated is not None
            and (restart := negotiated.capabilities.graceful_restart) is not None
        ):
            attached.stale_timer = self.loop.call_later(restart.restart_time, self._stale_expired, peer)
        elif peer.config.dynamic:
            self.loop.call_soon(self._forget_if_idle, peer)
        self._convergence.lost(peer.name)
        self._schedule_flush()

    def on_state(self, peer: Peer) -> None:
        """A session's state changed."""
        self._listener.on_status()

    # Peers

    def _add(self, config: PeerConfig) -> Peer:
        peer = Peer(config, self.config, self, restarting=self._convergence.pending)
        self.peers[config.name] = peer
        self._attached[peer] = _Attached()
        self._by_address.setdefault(config.remote.address, []).append(peer)
        if not config.dynamic:
            self._convergence.expect(config.name, config.families)
        peer.start()
        return peer

    def _forget(self, peer: Peer) -> None:
        """Remove a peer whose session is over."""
        del self.peers[peer.name]
        same_address = self._by_address[peer.config.remote.address]
        same_address.remove(peer)
        if not same_address:
            del self._by_address[peer.config.remote.address]
        peer.abandon()
        self._handover.keep(peer)
        attached = self._attached.pop(peer)
        if attached.stale_timer is not None:
            attached.stale_timer.cancel()
        for family, member in attached.members.items():
            self.groups[family].leave(member)
        for family, source in attached.sources.items():
            self.ribs[family].drop(source)
        self._convergence.forget(peer.name)
        self._listener.on_status()
        self._schedule_flush()

    def _forget_if_idle(self, peer: Peer) -> None:
        """Remove a client that came from a range and has gone, unless it is back already."""
        attached = self._attached.get(peer)
        if attached is not None and not peer.has_connections and attached.stale_timer is None:
            peer.stop(Cease.PEER_DECONFIGURED)
            self._forget(peer)

    def _on_accept(self, link: Link) -> None:
        """A connection from somewhere: give it to the peer it belongs to."""
        peer = self._peer_for(link.remote)
        if peer is None:
            self.refused_connections += 1
            self.log.debug(
                "connection refused: no peer has this address", remote=str(link.remote), local=str(link.local)
            )
            reset(link.sock)
            return
        peer.accept(link)

    def _peer_for(self, remote: Endpoint) -> Peer | None:
        peers = self._by_address.get(remote.address)
        if peers:
            # Several peers with one address differ in the port we dial; an accepted connection may be any's.
            return min(peers, key=lambda peer: (peer.established, peer.has_connections))
        for one in self._ranges:
            if remote.address in one.network:
                return self._add(self._client(one, remote.address))
        return None

    def _client(self, origin: ClientRange, address: Address) -> PeerConfig:
        return PeerConfig(
            name="Client_" + str(address).replace(".", "_").replace(":", "_"),
            remote=Endpoint(address, 179),
            families=origin.families,
            local_as=self.config.local_as,
            remote_as=self.config.local_as,
            passive=True,
            route_reflector_client=True,
            dynamic=True,
        )

    # Handover

    def _covered(self, peer: Peer) -> bool:
        """Whether each route of a retiring peer is also known from somebody who stays."""
        retiring = {
            source
            for other, attached in self._attached.items()
            if other is peer or other in self._handover
            for source in attached.sources.values()
        }
        for family, source in self._attached[peer].sources.items():
            rib = self.ribs[family]
            table = rib.sources.get(source)
            for nlri in table.routes if table is not None else ():
                paths = rib.ranked(nlri)
                if paths and all(path.source in retiring for path in paths):
                    return False
        return True

    def _let_go(self, peer: Peer, reason: str) -> None:
        peer.log.info("session retired", reason=reason)
        self.remove_peer(peer.name)

    # Export groups

    def _exporter(self, key: GroupKey) -> Exporter:
        family, ibgp = key.target.family, not key.target.ebgp
        policy = self._policies[family]
        rule = None if policy is None else compile_export(policy, family, ibgp=ibgp)
        return Exporter(key.target, rule, self._filter_functions(key.filters, family, Direction.EXPORT, ibgp))

    def _filter_functions(
        self, names: Iterable[str], family: Family, direction: Direction, ibgp: bool
    ) -> list[FilterFunction]:
        """A peer's filters, in order; one that is not there (yet) is gone without."""
        known = (self._filters[name] for name in names if name in self._filters)
        functions = (compile_filter_function(one, family, direction, ibgp=ibgp) for one in known)
        return [function for function in functions if function is not None]

    def _set_import_policy(self, peer: Peer, family: Family, source: Source) -> None:
        """Judge what the peer sent, and what it sends from now on, by its filters."""
        ibgp = source.kind is SourceKind.IBGP
        names = peer.config.filters
        key = tuple((name, self._filters.get(name)) for name in names)
        attached = self._attached[peer]
        if attached.import_filters.get(family, ()) != key:
            attached.import_filters[family] = key
            functions = self._filter_functions(names, family, Direction.IMPORT, ibgp)
            self.ribs[family].set_policy(source, compile_import(functions))

    def _group_key(self, peer: Peer, family: Family, negotiated: Negotiated) -> GroupKey:
        config = peer.config
        target = ExportTarget(
            family=family,
            kind=SourceKind.IBGP if negotiated.ibgp else SourceKind.EBGP,
            local_as=negotiated.local_as,
            local_address=self._local_address(peer, family),
            router=self._router[family],
            client=config.route_reflector_client,
            next_hop_mode=config.next_hop_mode,
        )
        return GroupKey(target, negotiated.four_octet_as, negotiated.max_message_size, config.filters)

    def _local_address(self, peer: Peer, family: Family) -> bytes:
        """Our address as next hop in a family: the node's own, else that end of the connection."""
        for known, address in self.config.local_addresses:
            if known is family:
                return address.packed
        assert peer.connection is not None
        address = peer.connection.local.address
        if address.version == 4 and family is Family.IPV6:
            return (
                b"\0" * 10 + b"\xff\xff" + address.packed
            )  # RFC 4291 section 2.5.5.2: IPv4-mapped, for lack of another
        return address.packed

    def _join(self, peer: Peer, family: Family, source: Source, negotiated: Negotiated) -> None:
        assert peer.connection is not None
        key = self._group_key(peer, family, negotiated)
        member = self.groups[family].join(
            key, source, peer.wake_writer, end_of_rib=not self._convergence.pending
        )
        self._attached[peer].members[family] = member
        peer.connection.outlets.append(member)

    def _regroup(self, peer: Peer) -> None:
        """Move an established peer to the groups that its configuration now calls for; only differences are
        sent."""
        negotiated = peer.session.negotiated
        if peer.connection is None or negotiated is None:
            return
        attached = self._attached[peer]
        for family, member in list(attached.members.items()):
            self._update_source(peer, family, attached.sources[family])
            self._set_import_policy(peer, family, attached.sources[family])
            key = self._group_key(peer, family, negotiated)
            if key != member.group.key:
                attached.members[family] = self.groups[family].move(member, key)
        peer.connection.outlets = list(attached.members.values())
        peer.wake_writer()

    # Sources

    def _source(self, peer: Peer, family: Family, negotiated: Negotiated) -> Source:
        config = peer.config
        return Source(
            peer.name,
            SourceKind.IBGP if negotiated.ibgp else SourceKind.EBGP,
            self._router[family],
            address=config.remote.address.packed,
            router_id=negotiated.remote_router_id,
            remote_as=negotiated.remote_as,
            local_as=negotiated.local_as,
            client=config.route_reflector_client,
            allowed_local_as=config.allowed_local_as,
        )

    def _update_source(self, peer: Peer, family: Family, source: Source) -> None:
        """Values of the configuration that do not need another session."""
        config = peer.config
        new = (config.route_reflector_client, config.allowed_local_as)
        if (source.client, source.allowed_local_as) != new:
            source.client, source.allowed_local_as = new
            self.ribs[family].recheck(source)

    def _local_source(self, family: Family, kind: SourceKind) -> Source:
        source = self._local.get((family, kind))
        if source is None:
            source = self._local[family, kind] = Source(kind.value, kind, self._router[family])
        return source

    def _make_router(self, family: Family) -> Router:
        config = self.config
        return Router(
            router_id=config.router_id,
            cluster_id=config.cluster_id,
            addresses=frozenset(
                address.packed for known, address in config.local_addresses if known is family
            ),
            normal_priority=self._normal_priority[family],
            next_hops=self._next_hops,
        )

    def _renew_routers(self) -> None:
        for family, rib in self.ribs.items():
            router = self._make_router(family)
            if router != self._router[family]:
                self._router[family] = router
                for source in list(rib.sources):
                    rib.set_router(source, router)
                for (known, _kind), source in self._local.items():
                    if known is family:
                        rib.set_router(source, router)

    # Graceful restart

    def _on_end_of_rib(self, peer: Peer, family: Family) -> None:
        attached = self._attached[peer]
        self.ribs[family].sweep_stale(attached.sources[family])
        if attached.stale_timer is not None and not self._has_stale(attached):
            attached.stale_timer.cancel()
            attached.stale_timer = None
        self._convergence.end_of_rib(peer.name, family)

    def _has_stale(self, attached: _Attached) -> bool:
        tables = (self.ribs[family].sources.get(source) for family, source in attached.sources.items())
        return any(table is not None and table.stale for table in tables)

    def _stale_expired(self, peer: Peer) -> None:
        """The restart time, or the time for End-of-RIB, is over."""
        attached = self._attached[peer]
        attached.stale_timer = None
        for family, source in list(attached.sources.items()):
            if peer.established:
                self.ribs[family].sweep_stale(source)
            else:
                self.ribs[family].drop(attached.sources.pop(family))
        peer.log.warning("stale routes dropped: the peer did not send them again in time")
        if peer.config.dynamic:
            self._forget_if_idle(peer)
        self._schedule_flush()

    def _on_converged(self, reason: str) -> None:
        """Tell the peers that held our old routes that this is all (RFC 4724 section 4.1)."""
        self.flush()
        for peer in self.peers.values():
            peer.reconfigure(peer.config, self.config, restarting=False)
            for member in self._attached[peer].members.values():
                member.send_end_of_rib()
            peer.wake_writer()
        self._listener.on_converged(reason)

    # The turn of the loop

    def flush(self) -> None:
        """Hand all changed prefixes to the export groups and the listener, now."""
        for rib in self.ribs.values():
            while rib.flush(PREFIXES_A_TURN):
                pass

    def _schedule_flush(self) -> None:
        """Changes of one turn of the event loop go out together in the next."""
        if not self._flush_due and not self._closed:
            self._flush_due = True
            self.loop.call_soon(self._flush_turn)

    def _flush_turn(self) -> None:
        self._flush_due = False
        if self._closed:
            return
        waiting = sum(rib.flush(PREFIXES_A_TURN) for rib in self.ribs.values())
        self._listener.on_status()
        if waiting:
            self._schedule_flush()

    def _release_snapshots(self) -> None:
        for groups in self.groups.values():
            groups.release_snapshots()
        self._housekeeping = self.loop.call_later(SNAPSHOT_TIME, self._release_snapshots)


def _same_peer(old: Source, new: Source) -> bool:
    """Whether a session that came back is with the same router, so that its routes may have been kept."""
    names = ("router_id", "remote_as", "local_as", "client", "allowed_local_as", "router")
    return all(getattr(old, name) == getattr(new, name) for name in names)


def _names(families: Iterable[Family]) -> list[str]:
    return [family.name.lower() for family in sorted(families)]

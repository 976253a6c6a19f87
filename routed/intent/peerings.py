"""Who peers with whom (calico-semantics section 2), kept up to date by what changed.

Each session follows from one source: the mesh with one node, or a BGPPeer with one node, one address or one
workload, or a BGPPeer of other nodes that makes this one peer back (a reverse peering). A change marks the
sources that read it; only these are worked out again. Sources that say the same slot, an address and a
port, are ranked: global peers, peers for nodes, reverse peerings; then by the name of the BGPPeer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from routed.bgp.nlri import Family
from routed.intent.cluster import GLOBAL_CONFIGURATION, Cluster, Neighbor
from routed.intent.ledger import Ledger, Source, SourcedProblems
from routed.intent.types import NextHopMode, PeeringKind, SessionIntent
from routed.resources import (
    DEFAULT_LISTEN_PORT,
    Address,
    BGPConfiguration,
    BGPPeer,
    Key,
    Problem,
    ReversePeering,
    SecretKeyRef,
    SecretValue,
    Severity,
    SourceAddress,
)

GLOBAL_RANK, NODE_RANK, REVERSE_RANK, MESH_RANK = range(4)
DEFAULT_RESTART_TIME = 120

Slot = tuple[bool, Address, int]
"""Mesh or not, peer address, peer port: of the sessions that say one slot only the first by rank is made."""

_MESH_KEY = Key(BGPConfiguration.kind, GLOBAL_CONFIGURATION)


@dataclass(frozen=True, slots=True)
class Role:
    """What a BGPPeer means to this node."""

    rank: int | None
    """GLOBAL_RANK or NODE_RANK where this node is a local end of it."""
    reverse: bool
    """True where this node is the remote end of it, and peers back."""

    @property
    def active(self) -> bool:
        """True where it makes sessions of this node."""
        return self.rank is not None or self.reverse


class Peerings:
    """The sessions of one node. `mark_*` say what changed, `take` works it out."""

    def __init__(self, cluster: Cluster, problems: SourcedProblems[Problem]) -> None:
        self._cluster = cluster
        self._options = cluster.options
        self._problems = problems
        self._ledger: Ledger[Slot, SessionIntent] = Ledger()
        self._sessions: dict[str, SessionIntent] = {}
        self._places: dict[tuple[Address, int], set[str]] = {}
        """Session names by the address and port of the peer."""
        self._roles: dict[str, Role] = {}
        self._sources: dict[str, set[Source]] = {}
        """By BGPPeer name; the mesh is the empty name."""
        self._all = True
        self._roles_stale = True
        self._stale_peers: set[str] = set()
        self._stale: set[Source] = set()
        self._mesh = False

    # --- what changed ---------------------------------------------------------------------------------------

    def mark_all(self) -> None:
        """The global configuration, or this node's address, AS or cluster ID changed."""
        self._all = True

    def mark_roles(self) -> None:
        """This node's labels changed."""
        self._roles_stale = True

    def mark_peer(self, name: str) -> None:
        """A BGPPeer, or a Secret, filter or workload that it names, changed."""
        self._stale_peers.add(name)

    def mark_node(self, name: str, addresses: Iterable[Address]) -> None:
        """Another node changed in what peerings see of it; it has, or had, these addresses."""
        if self._all:
            return
        self._stale.add((MESH_RANK, "", name))
        moved = set(addresses)
        for peer_name, role in self._roles.items():
            peer = self._cluster.peers.get(peer_name)
            if peer is None or not role.active:
                continue
            if role.rank is not None:
                if peer.peer_selector is not None:
                    self._stale.add((role.rank, peer_name, name))
                elif peer.peer_ip is not None and peer.peer_ip.address in moved:
                    self._stale.add((role.rank, peer_name, ""))
            if role.reverse:
                self._stale.add((REVERSE_RANK, peer_name, name))

    def mark_secret(self, name: str) -> None:
        """A Secret of the agent's namespace changed."""
        for peer in self._cluster.peers.values():
            if peer.password is not None and peer.password.name == name:
                self.mark_peer(peer.name)
        mesh_password = self._cluster.configuration.node_mesh_password
        if mesh_password is not None and mesh_password.name == name:
            self._mesh = True

    def mark_filter(self, name: str) -> None:
        """A BGPFilter came or went."""
        for peer in self._cluster.peers.values():
            if name in peer.filters:
                self.mark_peer(peer.name)

    # --- the outcome ----------------------------------------------------------------------------------------

    @property
    def sessions(self) -> dict[str, SessionIntent]:
        """By name, as of the last `take`."""
        return self._sessions

    def take(self) -> dict[str, SessionIntent | None]:
        """Works out what was marked; the sessions that are new, differ, or (None) are gone, by name."""
        self._refresh_mesh()
        self._refresh_peers()
        local = self._cluster.local()
        for source in self._stale:
            self._evaluate(source, local)
        self._all = self._roles_stale = self._mesh = False
        self._stale_peers.clear()
        self._stale.clear()
        changed: dict[str, SessionIntent | None] = {}
        for before, after in self._ledger.take().values():
            # The new session of one slot may have the name that another slot's old one had.
            if before is not None and (after is None or after.name != before.name):
                changed.setdefault(before.name, None)
            if after is not None:
                changed[after.name] = after
        doubtful: set[tuple[Address, int]] = set()
        for name, session in changed.items():
            before = self._sessions.pop(name, None)
            if before is not None:
                place = before.peer_address, before.port
                self._places[place].discard(name)
                doubtful.add(place)
            if session is not None:
                self._sessions[name] = session
                place = session.peer_address, session.port
                self._places.setdefault(place, set()).add(name)
                doubtful.add(place)
        for place in doubtful:
            self._report_twice(place)
        return changed

    def _report_twice(self, place: tuple[Address, int]) -> None:
        """Calico makes a mesh peering and an explicit one to the same node; the two then get in each other's
        way."""
        names = sorted(self._places[place])
        findings: tuple[Problem, ...] = ()
        if not names:
            del self._places[place]
        elif len(names) > 1:
            explicit = next(
                self._sessions[n] for n in names if self._sessions[n].kind is not PeeringKind.MESH
            )
            reason = (
                f"{' and '.join(names)} are two peerings with one address and port: "
                "turn off the mesh, or take out the BGPPeer"
            )
            findings = (_problem(explicit.record, "spec", reason),)
        self._problems.put(("twice", place), findings)

    def _refresh_mesh(self) -> None:
        if not (self._all or self._mesh):
            return
        reference = self._cluster.configuration.node_mesh_password
        self._problems.put("mesh", tuple(self._password_problems(_MESH_KEY, "nodeMeshPassword", reference)))
        sources = {(MESH_RANK, "", name) for name in self._cluster.nodes}
        for source in self._sources.get("", set()) - sources:
            self._ledger.put(source, {})
        self._sources[""] = sources
        self._stale |= sources

    def _refresh_peers(self) -> None:
        peers = self._cluster.peers
        if self._all or self._roles_stale:
            names = {*peers, *self._roles}
        else:
            names = self._stale_peers
        for name in names:
            before = self._roles.pop(name, None)
            peer = peers.get(name)
            role = Role(None, False) if peer is None else self._role(peer)
            if peer is not None:
                self._roles[name] = role
            if role == before and not self._all and name not in self._stale_peers:
                continue
            sources = set() if peer is None else set(self._peer_sources(peer, role))
            for source in self._sources.pop(name, set()) - sources:
                self._ledger.put(source, {})
                self._stale.discard(source)
            if sources:
                self._sources[name] = sources
                self._stale |= sources
            findings = self._peer_problems(peer, role) if peer is not None and role.active else ()
            self._problems.put(("peer", name), tuple(findings))

    # --- roles ----------------------------------------------------------------------------------------------

    def _role(self, peer: BGPPeer) -> Role:
        if self._options.reflector_address is not None:
            named = peer.peer_ip is not None and peer.peer_ip.address == self._options.reflector_address
            return Role(None, named)
        local = self._cluster.local()
        if local is None:
            return Role(None, False)
        rank = None
        if is_local_end(peer, self._cluster, local.name):
            rank = GLOBAL_RANK if is_global(peer) else NODE_RANK
        reverse = peer.reverse_peering is ReversePeering.AUTO and self._is_remote_end(peer, local)
        return Role(rank, reverse)

    def _is_remote_end(self, peer: BGPPeer, local: Neighbor) -> bool:
        if peer.peer_selector is not None:
            node = self._cluster.nodes.get(local.name)
            return node is not None and peer.peer_selector.matches(node.labels)
        if peer.local_workload_selector is not None or peer.peer_ip is None:
            return False
        address, port = peer.peer_ip
        return (
            address in local.addresses
            and self._peer_as(peer) == local.as_number
            and (port is None or port == local.effective_port)
        )

    def _peer_sources(self, peer: BGPPeer, role: Role) -> Iterator[Source]:
        if role.rank is not None:
            if peer.peer_selector is not None:
                for name, node in self._cluster.nodes.items():
                    if peer.peer_selector.matches(node.labels):
                        yield role.rank, peer.name, name
            elif peer.local_workload_selector is not None:
                for file_name in self._cluster.workloads.get(peer.name, ()):
                    yield role.rank, peer.name, file_name
            else:
                yield role.rank, peer.name, ""
        if role.reverse:
            for name in local_ends(peer, self._cluster):
                yield REVERSE_RANK, peer.name, name

    # --- sessions -------------------------------------------------------------------------------------------

    def _evaluate(self, source: Source, local: Neighbor | None) -> None:
        """Works out what one source says."""
        rank, peer_name, other = source
        sessions: Iterable[tuple[Slot, SessionIntent]] = ()
        peer = self._cluster.peers.get(peer_name)
        if local is None:
            pass
        elif rank == MESH_RANK:
            sessions = self._mesh_with(other, local)
        elif peer is None or not self._still_asks(peer, rank):
            pass
        elif rank == REVERSE_RANK:
            sessions = self._reverse(peer, other, local)
        elif peer.peer_selector is not None:
            sessions = self._selected(peer, rank, other, local)
        elif peer.local_workload_selector is not None:
            sessions = self._workload(peer, other, local)
        elif not other:
            sessions = self._addressed(peer, rank, local)
        said = dict(sessions)
        self._ledger.put(source, said)
        if said:
            self._sources.setdefault(peer_name, set()).add(source)
        elif peer_name in self._sources:
            self._sources[peer_name].discard(source)

    def _still_asks(self, peer: BGPPeer, rank: int) -> bool:
        """False for a source that was marked before its BGPPeer changed in the same step."""
        role = self._roles.get(peer.name)
        return role is not None and (role.reverse if rank == REVERSE_RANK else role.rank == rank)

    def _mesh_with(self, name: str, local: Neighbor) -> Iterator[tuple[Slot, SessionIntent]]:
        configuration = self._cluster.configuration
        other = self._cluster.neighbor(name)
        if (
            not configuration.node_to_node_mesh_enabled
            or self._options.reflector_address is not None
            or local.cluster_id is not None
            or other is None
            or name == local.name
            or other.cluster_id is not None
        ):
            return
        restart_time = configuration.node_mesh_max_restart_time
        for family, ours, theirs in common_addresses(local, other):
            explicit = {"port": other.port, "restart_time": restart_time}
            yield (
                (True, theirs, 0),
                SessionIntent(
                    name=peering_name(PeeringKind.MESH, theirs, None),
                    kind=PeeringKind.MESH,
                    family=family,
                    peer_address=theirs,
                    port=other.effective_port,
                    peer_as=other.as_number,
                    local_as=local.as_number,
                    source_address=ours,
                    passive=dials_us(ours, theirs),
                    record=_MESH_KEY,
                    peer_node=other.name,
                    restart_time=_restart_time(restart_time),
                    password=self._password(configuration.node_mesh_password),
                    explicit=frozenset(name for name, value in explicit.items() if value is not None),
                ),
            )

    def _selected(
        self, peer: BGPPeer, rank: int, name: str, local: Neighbor
    ) -> Iterator[tuple[Slot, SessionIntent]]:
        """`peerSelector`: this node, a local end, with one selected node."""
        node, other = self._cluster.nodes.get(name), self._cluster.neighbor(name)
        if node is None or other is None or name == local.name or peer.peer_selector is None:
            return
        if not peer.peer_selector.matches(node.labels):
            return
        kind = _KINDS[rank]
        for family, ours, theirs in common_addresses(local, other):
            yield self._session(peer, kind, family, ours, theirs, other.port, other.as_number, local, other)

    def _addressed(self, peer: BGPPeer, rank: int, local: Neighbor) -> Iterator[tuple[Slot, SessionIntent]]:
        """`peerIP`: this node, a local end, with one address."""
        if peer.peer_ip is None:
            return
        theirs, port = peer.peer_ip
        family = family_of(theirs)
        ours = local.address(family)
        if ours is None or theirs in local.addresses or not reachable(peer, theirs):
            return
        others = [n for name in self._cluster.nodes_with(theirs) if (n := self._cluster.neighbor(name))]
        other = others[0] if others else None
        peer_as = self._peer_as(peer)
        if port is None:
            # Only a node of the same AS is taken to be the peer meant; another router may have its address.
            port = next((n.port for n in others if n.as_number == peer_as), None)
        yield self._session(
            peer,
            _KINDS[rank],
            family,
            ours,
            theirs,
            port,
            peer_as,
            local,
            other,
            passive=rank == GLOBAL_RANK and other is not None and dials_us(ours, theirs),
        )

    def _workload(self, peer: BGPPeer, name: str, local: Neighbor) -> Iterator[tuple[Slot, SessionIntent]]:
        """`localWorkloadSelector`: this node with one workload on it."""
        status = self._cluster.workloads.get(peer.name, {}).get(name)
        if status is None or peer.as_number is None:
            return
        firsts = (
            (Family.IPV4, status.ipv4_addresses[:1]),
            (Family.IPV6, status.ipv6_addresses[:1]),
        )
        for family, addresses in firsts:
            ours = local.address(family)
            for theirs in addresses:
                if ours is not None and theirs not in local.addresses and reachable(peer, theirs):
                    yield self._session(
                        peer,
                        PeeringKind.LOCAL_WORKLOAD,
                        family,
                        None,
                        theirs,
                        None,
                        peer.as_number,
                        local,
                        None,
                        passive=True,
                    )

    def _reverse(self, peer: BGPPeer, name: str, local: Neighbor) -> Iterator[tuple[Slot, SessionIntent]]:
        """This node, a remote end, back to one of the local ends."""
        other = self._cluster.neighbor(name)
        if other is None or name == local.name or not is_local_end(peer, self._cluster, name):
            return
        # The local end may speak as another AS than its own towards us.
        peer_as = other.as_number if peer.local_as_number is None else peer.local_as_number
        for family, ours, theirs in common_addresses(local, other):
            if peer.peer_selector is None and peer.peer_ip and peer.peer_ip.address.version != ours.version:
                continue
            yield self._session(
                peer, PeeringKind.NODE, family, ours, theirs, other.port, peer_as, local, other, reverse=True
            )

    def _session(
        self,
        peer: BGPPeer,
        kind: PeeringKind,
        family: Family,
        ours: Address | None,
        theirs: Address,
        port: int | None,
        peer_as: int,
        local: Neighbor,
        other: Neighbor | None,
        *,
        passive: bool = False,
        reverse: bool = False,
    ) -> tuple[Slot, SessionIntent]:
        """The session that a BGPPeer asks for with one address."""
        reflector = self._options.reflector_address is not None
        local_as = local.as_number
        if reflector and self._options.reflector_as is None:
            local_as = self._peer_as(peer)
        if not reverse and peer.local_as_number is not None:
            local_as = peer.local_as_number
        ibgp = peer_as == local_as
        explicit = {
            "port": port,
            "local_as": None if reverse else peer.local_as_number,
            "restart_time": peer.max_restart_time,
        }
        session = SessionIntent(
            name=peering_name(kind, theirs, port),
            kind=kind,
            family=family,
            peer_address=theirs,
            port=DEFAULT_LISTEN_PORT if port is None else port,
            peer_as=peer_as,
            local_as=local_as,
            source_address=ours if peer.source_address is SourceAddress.USE_NODE_IP else None,
            # Calico nodes always dial a peer that is no node of their cluster.
            passive=passive or reflector,
            record=peer.key,
            reverse=reverse,
            peer_node=None if other is None else other.name,
            route_reflector_client=ibgp and self._is_client(local, other),
            next_hop_mode=_next_hop_mode(peer, ibgp),
            restart_time=_restart_time(peer.max_restart_time),
            keepalive_time=None if peer.keepalive_time is None else _rounded(peer.keepalive_time),
            allowed_local_as=peer.num_allowed_local_as_numbers or 0,
            ttl_security_hops=peer.ttl_security,
            # The gateway is one of the local ends', not ours.
            reachable_by=None if reverse or not reachable(peer, theirs) else peer.reachable_by,
            # A reflector without a record has no part in what the nodes filter.
            filters=() if reflector else peer.filters,
            password=self._password(peer.password),
            explicit=frozenset(name for name, value in explicit.items() if value is not None),
        )
        return (False, theirs, session.port), session

    def _is_client(self, local: Neighbor, other: Neighbor | None) -> bool:
        if self._options.reflector_address is not None:
            return True
        return local.cluster_id is not None and (other is None or other.cluster_id != local.cluster_id)

    def _peer_as(self, peer: BGPPeer) -> int:
        return self._cluster.configuration.as_number if peer.as_number is None else peer.as_number

    def _password(self, reference: SecretKeyRef | None) -> SecretValue | None:
        return None if reference is None else self._cluster.password(reference)

    # --- findings -------------------------------------------------------------------------------------------

    def _peer_problems(self, peer: BGPPeer, role: Role) -> Iterator[Problem]:
        """What is missing for a BGPPeer that concerns this node."""
        yield from self._password_problems(peer.key, "password", peer.password)
        for index, name in enumerate(peer.filters):
            if name not in self._cluster.filters:
                yield _problem(
                    peer.key,
                    f"spec.filters[{index}]",
                    f"there is no BGPFilter {name}: the peering does without",
                )
        if role.rank is None:
            return
        if peer.peer_selector is None and peer.local_workload_selector is not None and peer.as_number is None:
            yield _problem(
                peer.key, "spec.asNumber", "must be given for local workloads: no peering is made", "error"
            )
        if peer.peer_selector is None and peer.peer_ip is not None:
            address = peer.peer_ip.address
            local = self._cluster.local()
            if local is not None and local.address(family_of(address)) is None:
                yield _problem(
                    peer.key,
                    "spec.peerIP",
                    f"node {local.name} has no IPv{address.version} address: no peering with {address}",
                )
            if not reachable(peer, address):
                yield _problem(
                    peer.key,
                    "spec.reachableBy",
                    f"{peer.reachable_by} is not of the family of {address}: no peering is made",
                    "error",
                )

    def _password_problems(self, key: Key, field: str, reference: SecretKeyRef | None) -> Iterator[Problem]:
        if reference is None or self._cluster.password(reference) is not None:
            return
        namespace = self._options.secret_namespace
        secret = self._cluster.secrets.get(reference.name)
        if secret is None:
            reason = f"there is no Secret {namespace}/{reference.name}"
        elif reference.key not in secret.data:
            reason = f"Secret {namespace}/{reference.name} has no key {reference.key!r}"
        else:
            reason = f"the key {reference.key!r} of Secret {namespace}/{reference.name} is empty"
        yield _problem(key, f"spec.{field}.secretKeyRef", f"{reason}: the peering goes without a password")


_KINDS = {GLOBAL_RANK: PeeringKind.GLOBAL, NODE_RANK: PeeringKind.NODE}


def is_global(peer: BGPPeer) -> bool:
    """True where the BGPPeer is for all nodes."""
    return peer.node is None and peer.node_selector is None


def is_local_end(peer: BGPPeer, cluster: Cluster, name: str) -> bool:
    """Whether the BGPPeer is one of the node `name`'s."""
    if peer.node_selector is not None:
        node = cluster.nodes.get(name)
        return node is not None and peer.node_selector.matches(node.labels)
    return peer.node is None or peer.node == name


def local_ends(peer: BGPPeer, cluster: Cluster) -> Iterator[str]:
    """The names of the nodes that have this BGPPeer."""
    if peer.node_selector is not None:
        selector = peer.node_selector
        yield from (name for name, node in cluster.nodes.items() if selector.matches(node.labels))
    elif peer.node is not None:
        yield peer.node
    else:
        yield from cluster.nodes


def common_addresses(local: Neighbor, other: Neighbor) -> Iterator[tuple[Family, Address, Address]]:
    """Each family that both nodes have an address of, with ours and theirs; never one address with itself."""
    for family in Family:
        ours, theirs = local.address(family), other.address(family)
        if ours is not None and theirs is not None and ours != theirs:
            yield family, ours, theirs


def family_of(address: Address) -> Family:
    """The family of an address."""
    return Family.IPV4 if address.version == 4 else Family.IPV6


def dials_us(ours: Address, theirs: Address) -> bool:
    """Which of two nodes waits to be dialled: the one whose address sorts first *as a string*, as in Calico's
    confd; any other order makes both ends wait where routed and BIRD nodes are mixed."""
    return str(theirs) > str(ours)


def reachable(peer: BGPPeer, theirs: Address) -> bool:
    """False where `reachableBy` is of another family than the peer."""
    return peer.reachable_by is None or peer.reachable_by.version == theirs.version


def peering_name(kind: PeeringKind, address: Address, port: int | None) -> str:
    """`Mesh_10_0_0_1`, `Node_fd00__1_port_1790`; `port` where a record sets one."""
    name = f"{kind.value}_{str(address).replace('.', '_').replace(':', '_')}"
    return name if port is None else f"{name}_port_{port}"


def _next_hop_mode(peer: BGPPeer, ibgp: bool) -> NextHopMode:
    if peer.next_hop_mode is not None:
        return NextHopMode(peer.next_hop_mode.value)
    return NextHopMode.KEEP if peer.keep_original_next_hop and not ibgp else NextHopMode.AUTO


def _rounded(seconds: float) -> int:
    """To whole seconds, halves up (as Go's math.Round; Python's round goes to even)."""
    return int(seconds + 0.5)


def _restart_time(seconds: float | None) -> int:
    return DEFAULT_RESTART_TIME if seconds is None else _rounded(seconds)


def _problem(key: Key, field: str, reason: str, severity: Severity = "warning") -> Problem:
    return Problem(key, field, reason, severity=severity)

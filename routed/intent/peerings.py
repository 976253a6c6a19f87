"""Who peers with whom, kept up to date by what changed.

Each session follows from one source: the mesh with one node, or a BGPPeer with one node, one address or one
workload, or a BGPPeer of other nodes that makes this one peer back (a reverse peering). A change marks the
sources that read it; only these are worked out again. Sources that say the same slot, an address and a
port, are ranked: global peers, peers for nodes, reverse peerings; then by the name of the BGPPeer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from routed.intent.cluster import Cluster, Neighbor
from routed.intent.ledger import Ledger, Source, SourcedProblems
from routed.intent.peering_ends import MESH_RANK, REVERSE_RANK, Role, local_ends, role_of
from routed.intent.peering_problems import password_problems, peer_problems, shared_slot_problem
from routed.intent.peering_sessions import MESH_KEY, Slot, mesh_sessions, peer_sessions
from routed.intent.types import SessionIntent
from routed.resources import Address, BGPPeer, Problem


class Peerings:
    """The sessions of one node. `mark_*` say what changed, `take` works it out."""

    def __init__(self, cluster: Cluster, problems: SourcedProblems[Problem]) -> None:
        self._cluster = cluster
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
        self._keep(changed)
        return changed

    def _keep(self, changed: Mapping[str, SessionIntent | None]) -> None:
        """Takes in what changed, and reports where several sessions now share an address and port."""
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

    def _report_twice(self, place: tuple[Address, int]) -> None:
        names = sorted(self._places[place])
        findings: tuple[Problem, ...] = ()
        if not names:
            del self._places[place]
        elif len(names) > 1:
            findings = (shared_slot_problem([self._sessions[name] for name in names]),)
        self._problems.put(("twice", place), findings)

    def _refresh_mesh(self) -> None:
        if not (self._all or self._mesh):
            return
        reference = self._cluster.configuration.node_mesh_password
        self._problems.put(
            "mesh", tuple(password_problems(self._cluster, MESH_KEY, "nodeMeshPassword", reference))
        )
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
            role = Role(None, False) if peer is None else role_of(self._cluster, peer)
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
            findings = peer_problems(self._cluster, peer, role) if peer is not None and role.active else ()
            self._problems.put(("peer", name), tuple(findings))

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
            for name in local_ends(self._cluster, peer):
                yield REVERSE_RANK, peer.name, name

    def _evaluate(self, source: Source, local: Neighbor | None) -> None:
        """Works out what one source says."""
        rank, peer_name, other = source
        sessions: Iterable[tuple[Slot, SessionIntent]] = ()
        peer = self._cluster.peers.get(peer_name)
        if local is None:
            pass
        elif rank == MESH_RANK:
            sessions = mesh_sessions(self._cluster, other, local)
        elif peer is not None and self._still_asks(peer, rank):
            sessions = peer_sessions(self._cluster, peer, rank, other, local)
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

"""From a node's intent to the speaker's configuration, field by field, and which peerings a change
touches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from routed.bgp.config import PeerConfig, SpeakerConfig
from routed.bgp.nlri import Family
from routed.bgp.path import SourceKind
from routed.bgp.route import Address
from routed.bgp.tcp_options import key_problem
from routed.bgp.transport import Endpoint
from routed.intent.types import NodeIntent, OriginatedRoute, OriginKind, PeeringKind, SessionIntent
from routed.resources import Problem

_ANY_ADDRESS = (IPv4Address("0.0.0.0"), IPv6Address("::"))


def speaker_config(
    intent: NodeIntent, *, port: int | None = None, listen: tuple[Endpoint, ...] | None = None
) -> SpeakerConfig | None:
    """The speaker's identity; None while the node has no router ID, so that no session can start.

    `port` is used in place of the records' listenPort, `listen` in place of every address and port."""
    if intent.router_id is None:
        return None
    if listen is None:
        addresses = intent.bind_address or _ANY_ADDRESS
        if intent.bind_address:  # local workloads know us by an address of its own
            workloads = (one.local_workload_address for one in intent.families.values())
            addresses = (*addresses, *(address for address in workloads if address is not None))
        listen = tuple(Endpoint(address, port or intent.listen_port) for address in addresses)
    return SpeakerConfig(
        router_id=intent.router_id.packed,
        local_as=intent.local_as,
        cluster_id=None if intent.cluster_id is None else intent.cluster_id.packed,
        listen=listen,
        local_addresses=tuple(
            (family, one.node_address.ip)
            for family, one in sorted(intent.families.items())
            if one.node_address is not None
        ),
    )


def peer_config(session: SessionIntent, *, both_families: bool = False) -> PeerConfig:
    """One peer. `both_families`: offer IPv4 and IPv6 on the one session, whatever its own family."""
    return PeerConfig(
        name=session.name,
        remote=Endpoint(session.peer_address, session.port),
        families=frozenset(Family) if both_families else frozenset({session.family}),
        local_as=session.local_as,
        remote_as=session.peer_as,
        source=session.source_address,
        passive=session.passive or session.kind is PeeringKind.LOCAL_WORKLOAD,
        route_reflector_client=session.route_reflector_client,
        next_hop_mode=session.next_hop_mode,
        keepalive_time=session.keepalive_time,
        restart_time=session.restart_time,
        allowed_local_as=session.allowed_local_as,
        filters=session.filters,
        password=session.password,
        ttl_security_hops=session.ttl_security_hops or None,
        held=_held(session),
    )


def _held(session: SessionIntent) -> str | None:
    """Why there must be no session: one without its password would be worse than none."""
    reason = None if session.password is None else key_problem(session.password)
    if reason is None:
        return None
    field = "nodeMeshPassword" if session.kind is PeeringKind.MESH else "password"
    return str(
        Problem(session.record, f"spec.{field}.secretKeyRef", f"the password cannot be used: {reason}")
    )


def source_kind(route: OriginatedRoute) -> SourceKind | None:
    """Which local source an originated route is of in Loc-RIB; None: it is not for BGP."""
    if not route.advertise or route.gateway is not None:
        return None
    return SourceKind.ALLOCATED if route.kind is OriginKind.BORROWED else SourceKind.STATIC


@dataclass(frozen=True, slots=True)
class PeerChanges:
    """What the speaker is to do: in this order."""

    renamed: tuple[tuple[str, PeerConfig], ...] = ()
    """The old name, and the same peering under another one."""
    wanted: tuple[PeerConfig, ...] = ()
    """New, or with another configuration."""
    removed: tuple[SessionIntent, ...] = ()
    """What ran, and is wanted no longer."""
    mesh_came: bool = False
    """True where mesh sessions are among the new ones."""


class PeerTable:
    """The sessions that the records want, and the peerings that run for them.

    Two sessions to one address and port would be one TCP connection too many: where a BGPPeer names a node
    that the mesh reaches too, the BGPPeer counts. And a session that only changes its name, as when a mesh
    peer becomes a reflector, stays up."""

    def __init__(self, *, both_families: bool = False) -> None:
        """`both_families`: as for `peer_config`."""
        self._both_families = both_families
        self._sessions: dict[str, SessionIntent] = {}
        self._by_address: dict[Address, set[str]] = {}
        self._running: dict[str, tuple[PeerConfig, SessionIntent]] = {}

    def apply(self, changed: Mapping[str, SessionIntent | None]) -> PeerChanges:
        """Take changed sessions, None for those that are gone. The work is in proportion to the change."""
        touched: set[Address] = set()
        names: set[str] = set()
        for name, session in changed.items():
            old = self._sessions.pop(name, None)
            if old is not None:
                touched.add(old.peer_address)
                self._by_address[old.peer_address].discard(name)
            if session is not None:
                touched.add(session.peer_address)
                self._sessions[name] = session
                self._by_address.setdefault(session.peer_address, set()).add(name)
            names.add(name)
        wanted: dict[str, tuple[PeerConfig, SessionIntent]] = {}
        for address in touched:
            at_address = self._by_address[address]
            if not at_address:
                del self._by_address[address]
            names |= at_address
            for session in _without_doubles(self._sessions[name] for name in sorted(at_address)):
                config = peer_config(session, both_families=self._both_families)
                wanted[session.name] = config, session
        return self._difference(names, wanted)

    @property
    def problems(self) -> tuple[str, ...]:
        """Why sessions that the records want must not be, each reason once."""
        return tuple(dict.fromkeys(one.held for one, _ in self._running.values() if one.held is not None))

    def wants(self, config: PeerConfig) -> bool:
        """Whether this configuration is the one that the records want now."""
        found = self._running.get(config.name)
        return found is not None and found[0] == config

    def _difference(
        self, names: Iterable[str], wanted: dict[str, tuple[PeerConfig, SessionIntent]]
    ) -> PeerChanges:
        """From what runs under these names to what is wanted under them."""
        running = {name: self._running.pop(name) for name in sorted(names) if name in self._running}
        gone = {name: one for name, one in running.items() if name not in wanted}
        renamed: list[tuple[str, PeerConfig]] = []
        changed: list[PeerConfig] = []
        mesh_came = False
        for name, (config, session) in wanted.items():
            if name in running:
                if running[name][0] != config:
                    changed.append(config)
                continue
            mesh_came = mesh_came or session.kind is PeeringKind.MESH
            old = next((old for old, (before, _) in gone.items() if _same_session(before, config)), None)
            if old is None:
                changed.append(config)
            else:
                renamed.append((old, config))
                del gone[old]
        self._running.update(wanted)
        removed = tuple(session for _config, session in gone.values())
        return PeerChanges(tuple(renamed), tuple(changed), removed, mesh_came)


def _without_doubles(sessions: Iterable[SessionIntent]) -> list[SessionIntent]:
    """One session for each port of an address: a BGPPeer's before the mesh's, then the first by name."""
    chosen: dict[int, SessionIntent] = {}
    for session in sorted(sessions, key=lambda one: (one.kind is PeeringKind.MESH, one.name)):
        chosen.setdefault(session.port, session)
    return list(chosen.values())


def _same_session(old: PeerConfig, new: PeerConfig) -> bool:
    """Whether one TCP connection and one OPEN serve both."""
    fields = ("source", "families", "local_as", "remote_as", "hold_time")
    return old.remote.address == new.remote.address and all(
        getattr(old, field) == getattr(new, field) for field in fields
    )

"""From a node's intent to the speaker's configuration: pure functions, field by field."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

from routed.bgp.config import PeerConfig, SpeakerConfig
from routed.bgp.nlri import Family
from routed.bgp.transport import Endpoint
from routed.intent.types import NodeIntent, PeeringKind, SessionIntent

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
    )

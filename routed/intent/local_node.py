"""What records say of this node as a whole: its router ID, AS, listen port and the like."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address

from routed.intent.cluster import Cluster
from routed.intent.options import hashed_router_id
from routed.intent.types import NodeIntent
from routed.resources import DEFAULT_LISTEN_PORT, Address, BindMode, Key, LogSeverity, Node, Problem


def node_header(cluster: Cluster) -> NodeIntent:
    """The intent without sessions, routes, filters, families and problems."""
    configuration = cluster.configuration
    own = cluster.node_configurations.get(cluster.options.node)
    local = cluster.local()
    port = own.listen_port if own is not None and own.listen_port is not None else configuration.listen_port
    severity = (
        cluster.options.log_severity
        or (own and own.log_severity_screen)
        or configuration.log_severity_screen
        or LogSeverity.INFO
    )
    router = router_id(cluster)
    cluster_id = local.cluster_id if local is not None else None
    if cluster.options.reflector_address is not None:
        cluster_id = cluster.options.reflector_cluster_id or router
    return NodeIntent(
        node=cluster.options.node,
        router_id=router,
        local_as=local.as_number if local else configuration.as_number,
        listen_port=DEFAULT_LISTEN_PORT if port is None else port,
        cluster_id=cluster_id,
        bind_address=local.addresses if local and configuration.bind_mode is BindMode.NODE_IP else (),
        ignored_interfaces=configuration.ignored_interfaces,
        explicit=frozenset() if port is None else frozenset(("listen_port",)),
        log_severity=severity.value,
    )


def router_id(cluster: Cluster) -> IPv4Address | None:
    """The router ID that options or records give; None: there is none yet."""
    if cluster.options.router_id == "hash":
        return hashed_router_id(cluster.options.node)
    if cluster.options.router_id is not None:
        return cluster.options.router_id
    reflector = cluster.options.reflector_address
    if isinstance(reflector, IPv4Address):
        return reflector
    node = cluster.nodes.get(cluster.options.node)
    return node.ipv4_address.ip if node is not None and node.ipv4_address is not None else None


def node_problems(cluster: Cluster) -> Iterator[Problem]:
    """What keeps this node from having sessions."""
    key = Key(Node.kind, cluster.options.node)
    if cluster.options.reflector_address is not None:
        return
    local = cluster.neighbor(cluster.options.node)
    if local is None:
        yield Problem(key, "", "there is no record of this node: it has no sessions", severity="warning")
    elif not local.addresses:
        reason = "neither ipv4Address nor ipv6Address is given: this node has no sessions"
        yield Problem(key, "spec.bgp", reason, severity="warning")
    elif router_id(cluster) is None:
        reason = (
            "the node has no IPv4 address, so no router ID: no session can start; "
            "set CALICO_ROUTER_ID to an IPv4 address or to 'hash'"
        )
        yield Problem(key, "spec.bgp.ipv4Address", reason, severity="warning")


def shared_address_problems(cluster: Cluster, address: Address) -> Iterator[Problem]:
    """A BGP address that several nodes have, on each node but the first."""
    names = cluster.nodes_with(address)
    if len(names) > 1:
        field = "spec.bgp.ipv4Address" if address.version == 4 else "spec.bgp.ipv6Address"
        reason = f"{address} is the address of {names[0]} too: give each node its own"
        for name in names[1:]:
            yield Problem(Key(Node.kind, name), field, reason, severity="warning")

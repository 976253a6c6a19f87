"""Records to a NodeIntent, and a change of records to the difference it makes.

One compiler serves the speaker, the renderer and every what-if. It holds the records it was given, and a
table a concern (peerings, blocks, services, policy) that knows what depends on what: a change costs in
proportion to what it touches. `compile_intent` is the same thing on all records at once.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Mapping
from ipaddress import IPv4Address, ip_network
from typing import Any

from routed.bgp.nlri import Family, Network
from routed.intent.blocks import BlockTable, block_route, borrowed_route
from routed.intent.cluster import (
    GLOBAL_CONFIGURATION,
    NO_CONFIGURATION,
    NODE_CONFIGURATION_PREFIX,
    Cluster,
)
from routed.intent.filters import CompiledFilter, compile_filter
from routed.intent.ledger import Ledger, SourcedProblems
from routed.intent.local_workloads import EndpointStatus
from routed.intent.options import Options, hashed_router_id
from routed.intent.peerings import Peerings
from routed.intent.policy import (
    community_rules,
    export_policy,
    kernel_policy,
    outside_problems,
    pool_problems,
)
from routed.intent.services import (
    EXCLUDE_LABEL,
    ServiceRanges,
    ServiceTable,
    range_routes,
    service_ranges,
    service_routes,
)
from routed.intent.tables import Tables
from routed.intent.types import (
    CommunityRule,
    FamilyIntent,
    IntentDelta,
    NodeIntent,
    OriginatedRoute,
    OriginKind,
    SessionIntent,
)
from routed.resources import (
    DEFAULT_LISTEN_PORT,
    Address,
    BGPConfiguration,
    BGPFilter,
    BGPPeer,
    BindMode,
    BlockAffinity,
    EndpointSlice,
    IPAMBlock,
    IPPool,
    Key,
    LogSeverity,
    Node,
    Problem,
    Record,
    Secret,
    Service,
)

# Which route counts where several have one prefix.
_BLOCK_RANK, _BORROWED_RANK, _RANGE_RANK, _SERVICE_RANK, _GATEWAY_RANK = range(5)
_STATIC_KINDS = (OriginKind.SERVICE, OriginKind.SERVICE_RANGE)


class TextOrdered:
    """A set of networks in the order of their text; a change costs no sort of the others."""

    def __init__(self) -> None:
        self._items: list[tuple[str, Network]] = []

    def set(self, network: Network, member: bool) -> bool:
        """Puts a network in or takes it out; True where that changed anything."""
        item = (str(network), network)
        position = bisect_left(self._items, item[0], key=lambda known: known[0])
        present = position < len(self._items) and self._items[position][0] == item[0]
        if present == member:
            return False
        if member:
            insort(self._items, item, key=lambda known: known[0])
        else:
            del self._items[position]
        return True

    def networks(self) -> tuple[Network, ...]:
        """All of them."""
        return tuple(network for _, network in self._items)


class Compiler:
    """The intent of one node, or of a reflector without a record, as records come, change and go."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self._records: dict[Key, Record] = {}
        self._problems: SourcedProblems[Problem] = SourcedProblems()
        self._cluster = Cluster(options)
        self._peerings = Peerings(self._cluster, self._problems)
        self._blocks = BlockTable(options.node)
        self._services = ServiceTable()
        self._pools: dict[str, IPPool] = {}
        self._owned: dict[Network, Key] = {}
        """Blocks of this node, with the record that says so."""
        self._wireguard: dict[Family, dict[str, Address]] = {family: {} for family in Family}
        self._originated: Ledger[Network, OriginatedRoute] = Ledger()
        self._aggregates = {family: TextOrdered() for family in Family}
        self._statics = {family: TextOrdered() for family in Family}
        self._filters: dict[str, CompiledFilter] = {}
        self._filters_changed: dict[str, CompiledFilter | None] = {}
        self._ranges = ServiceRanges()
        self._communities: tuple[CommunityRule, ...] = ()
        self._families: dict[Family, FamilyIntent] = {}
        self._header = NodeIntent(options.node, None, 0, 0, None)
        self._stale_services: set[str] = set()
        self._stale_families: set[Family] = set(Family)
        self._stale_header = self._stale_ranges = self._stale_communities = True
        self._stale_pools = False
        self._handlers: dict[str, Callable[[Any, Any], None]] = {
            BGPConfiguration.kind: self._on_configuration,
            BGPPeer.kind: self._on_peer,
            BGPFilter.kind: self._on_filter,
            IPPool.kind: self._on_pool,
            BlockAffinity.kind: self._blocks.set_affinity,
            IPAMBlock.kind: self._blocks.set_block,
            Node.kind: self._on_node,
            Service.kind: self._on_service,
            EndpointSlice.kind: self._on_slice,
            Secret.kind: self._on_secret,
            EndpointStatus.kind: self._on_workload,
        }
        self._settle()

    @property
    def records(self) -> Mapping[Key, Record]:
        """All records as they are in force now. Not to be changed."""
        return self._records

    @property
    def tables(self) -> Tables:
        """What was worked out, to be looked at without a copy of it."""
        return Tables(
            options=self.options,
            header=self._header,
            cluster=self._cluster,
            sessions=self._peerings.sessions,
            blocks=self._blocks,
            services=self._services,
            ranges=self._ranges,
            pools=self._pools,
            originated=self._originated.values,
            families=self._families,
        )

    def has_node(self, name: str) -> bool:
        """Whether there is a Node record of this name."""
        return name in self._cluster.nodes

    def session(self, name: str) -> SessionIntent | None:
        """The session of this name."""
        return self._peerings.sessions.get(name)

    @property
    def originated(self) -> Mapping[Network, OriginatedRoute]:
        """The routes that the node makes itself, in no order. Not to be changed."""
        return self._originated.values

    @property
    def owned_blocks(self) -> Mapping[Network, Key]:
        """The blocks of this node, each with the record that says so. Not to be changed."""
        return self._owned

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Findings that span records, as in the intent."""
        return tuple(sorted(self._problems, key=_problem_order))

    @property
    def intent(self) -> NodeIntent:
        """The whole intent as it is now; it does not change with later records."""
        header = self._header
        return NodeIntent(
            node=header.node,
            router_id=header.router_id,
            local_as=header.local_as,
            listen_port=header.listen_port,
            cluster_id=header.cluster_id,
            bind_address=header.bind_address,
            families=dict(self._families),
            sessions=dict(sorted(self._peerings.sessions.items())),
            originated=dict(sorted(self._originated.values.items(), key=_network_order)),
            filters=dict(sorted(self._filters.items())),
            ignored_interfaces=header.ignored_interfaces,
            explicit=header.explicit,
            log_severity=header.log_severity,
            problems=self.problems,
        )

    def apply(self, upserts: Iterable[Record], deletes: Iterable[Key] = ()) -> IntentDelta:
        """Takes in records that are new or changed, and the keys of those that are gone (unknown ones too).

        Returns what that changed. Records of other kinds are taken in and mean nothing."""
        for key in deletes:
            before = self._records.pop(key, None)
            if before is not None:
                self._change(key.kind, before, None)
        for record in upserts:
            key = record.key
            before = self._records.get(key)
            if before != record:
                self._records[key] = record
                self._change(key.kind, before, record)
        return self._settle()

    def _change(self, kind: str, before: Record | None, after: Record | None) -> None:
        handler = self._handlers.get(kind)
        if handler is not None:
            handler(before, after)

    # --- one record changed ---------------------------------------------------------------------------------

    def _on_configuration(self, before: BGPConfiguration | None, after: BGPConfiguration | None) -> None:
        record = after or before
        assert record is not None
        if record.name == GLOBAL_CONFIGURATION:
            self._cluster.configuration = after or NO_CONFIGURATION
            if _peering_fields(before or NO_CONFIGURATION) != _peering_fields(after or NO_CONFIGURATION):
                self._peerings.mark_all()
            self._stale_families.update(Family)
            self._stale_header = self._stale_ranges = self._stale_communities = True
        elif record.name.startswith(NODE_CONFIGURATION_PREFIX):
            self._on_node_configuration(record.name.removeprefix(NODE_CONFIGURATION_PREFIX), before, after)

    def _on_node_configuration(
        self, node: str, before: BGPConfiguration | None, after: BGPConfiguration | None
    ) -> None:
        if after is None:
            self._cluster.node_configurations.pop(node, None)
        else:
            self._cluster.node_configurations[node] = after
        moved = (before and before.listen_port) != (after and after.listen_port)
        if node == self.options.node:
            self._stale_header = self._stale_communities = True
            if moved:
                self._peerings.mark_all()
        elif moved:
            neighbor = self._cluster.neighbor(node)
            self._peerings.mark_node(node, neighbor.addresses if neighbor else ())

    def _on_node(self, before: Node | None, after: Node | None) -> None:
        record = after or before
        assert record is not None
        name = record.name
        old = self._cluster.neighbor(name)
        self._cluster.set_node(name, after)
        new = self._cluster.neighbor(name)
        for address in {*(old.addresses if old else ()), *(new.addresses if new else ())}:
            self._report_shared_address(address)
        self._set_wireguard(name, after)
        if name != self.options.node:
            self._peerings.mark_node(name, (*(old.addresses if old else ()), *(new.addresses if new else ())))
            return
        if old != new:
            self._peerings.mark_all()
        self._peerings.mark_roles()
        self._blocks.set_pod_cidrs(after.pod_cidrs if after and self.options.use_pod_cidr else ())
        self._stale_header = True
        self._stale_families.update(Family)
        if _label(before, EXCLUDE_LABEL) != _label(after, EXCLUDE_LABEL):
            self._stale_ranges = True

    def _set_wireguard(self, name: str, node: Node | None) -> None:
        """Notes who runs WireGuard, by family: the BGP address is the next hop that the agent routes to."""
        facts: tuple[tuple[Family, Address | None, bool], ...] = ()
        if node is not None:
            v4, v6 = node.ipv4_address, node.ipv6_address
            facts = (
                (Family.IPV4, v4 and v4.ip, node.wireguard_interface_ipv4_address is not None),
                (Family.IPV6, v6 and v6.ip, node.wireguard_interface_ipv6_address is not None),
            )
        for family, running in self._wireguard.items():
            address = next((a for f, a, runs in facts if f is family and runs), None)
            if running.get(name) != address:
                self._stale_families.add(family)
                if address is None:
                    running.pop(name, None)
                else:
                    running[name] = address

    def _report_shared_address(self, address: Address) -> None:
        names = self._cluster.nodes_with(address)
        findings: tuple[Problem, ...] = ()
        if len(names) > 1:
            field = "spec.bgp.ipv4Address" if address.version == 4 else "spec.bgp.ipv6Address"
            reason = f"{address} is the address of {names[0]} too: give each node its own"
            findings = tuple(
                Problem(Key(Node.kind, name), field, reason, severity="warning") for name in names[1:]
            )
        self._problems.put(("address", address), findings)

    def _on_peer(self, before: BGPPeer | None, after: BGPPeer | None) -> None:
        record = after or before
        assert record is not None
        if after is None:
            self._cluster.peers.pop(record.name, None)
        else:
            self._cluster.peers[record.name] = after
        self._peerings.mark_peer(record.name)

    def _on_filter(self, before: BGPFilter | None, after: BGPFilter | None) -> None:
        record = after or before
        assert record is not None
        name = record.name
        if after is None:
            self._cluster.filters.pop(name, None)
            self._filters.pop(name, None)
            self._filters_changed[name] = None
        else:
            self._cluster.filters[name] = after
            compiled = compile_filter(after)
            if compiled != self._filters.get(name) or name in self._filters_changed:
                self._filters[name] = self._filters_changed[name] = compiled
        if before is None or after is None:
            self._peerings.mark_filter(name)

    def _on_secret(self, before: Secret | None, after: Secret | None) -> None:
        record = after or before
        assert record is not None
        if record.namespace != self.options.secret_namespace:
            return
        if after is None:
            self._cluster.secrets.pop(record.name, None)
        else:
            self._cluster.secrets[record.name] = after
        self._peerings.mark_secret(record.name)

    def _on_workload(self, before: EndpointStatus | None, after: EndpointStatus | None) -> None:
        self._cluster.set_workload(before, after)
        for status in (before, after):
            if status is not None and status.bgp_peer_name:
                self._peerings.mark_peer(status.bgp_peer_name)

    def _on_pool(self, before: IPPool | None, after: IPPool | None) -> None:
        record = after or before
        assert record is not None
        if after is None:
            self._pools.pop(record.name, None)
        else:
            self._pools[record.name] = after
        self._stale_pools = True
        self._stale_families.update(Family.of(pool.cidr) for pool in (before, after) if pool is not None)

    def _on_service(self, before: Service | None, after: Service | None) -> None:
        self._stale_services.add(self._services.set_service(before, after))

    def _on_slice(self, before: EndpointSlice | None, after: EndpointSlice | None) -> None:
        self._stale_services |= self._services.set_slice(before, after)

    # --- what follows ---------------------------------------------------------------------------------------

    def _settle(self) -> IntentDelta:
        """Works out everything that was marked, in the order of dependence; what differs."""
        self._settle_communities()
        self._settle_services()
        self._settle_blocks()
        self._settle_pools()
        sessions = self._peerings.take()
        for name, session in sessions.items():
            self._settle_gateway(name, session is not None)
        originated = {}
        for network, (before, after) in self._originated.take().items():
            originated[network] = after
            self._sort_in(network, before, after)
        node_changed = self._settle_header()
        families = self._settle_families()
        filters, self._filters_changed = self._filters_changed, {}
        new, gone = self._problems.take()
        return IntentDelta(
            sessions_changed=sessions,
            originated_changed=originated,
            filters_changed=filters,
            families_changed=families,
            node_changed=node_changed,
            problems=tuple(sorted(new, key=_problem_order)),
            problems_solved=tuple(sorted(gone, key=_problem_order)),
        )

    def _settle_communities(self) -> None:
        if not self._stale_communities:
            return
        self._stale_communities = False
        own = self._cluster.node_configurations.get(self.options.node)
        rules, problems = community_rules(self._cluster.configuration, own)
        self._problems.put("communities", problems)
        if rules != self._communities:
            self._communities = rules
            self._stale_families.update(Family)

    def _settle_services(self) -> None:
        if self._stale_ranges:
            self._stale_ranges = False
            node = self._cluster.nodes.get(self.options.node)
            ranges = service_ranges(self._cluster.configuration, self.options, node)
            if self.options.reflector_address is not None:
                ranges = ServiceRanges()
            if ranges != self._ranges:
                self._ranges = ranges
                self._stale_families.update(Family)
                self._stale_services.update(self._services.services)
                self._originated.put((_RANGE_RANK, "", ""), range_routes(ranges))
        for name in self._stale_services:
            service = self._services.services.get(name)
            routes: dict[Network, OriginatedRoute] = {}
            if service is not None:
                slices = self._services.slices(name).values()
                routes = service_routes(service, slices, self._ranges, self.options.kubernetes_node)
            self._originated.put((_SERVICE_RANK, name, ""), routes)
        self._stale_services.clear()

    def _settle_blocks(self) -> None:
        for network, verdict in self._blocks.take().items():
            name = str(network)
            owned = verdict.owned
            routes = {} if owned is None else {network: block_route(owned)}
            if owned is None:
                self._owned.pop(network, None)
            else:
                self._owned[network] = owned.record
            self._stale_pools = True
            self._originated.put((_BLOCK_RANK, name, ""), routes)
            borrowed = {address.network: borrowed_route(address) for address in verdict.borrowed}
            self._originated.put((_BORROWED_RANK, name, ""), borrowed)
            self._problems.put(("block", network), verdict.problems)

    def _settle_pools(self) -> None:
        """Faults of pools among each other and with the node's blocks; there are few of both."""
        if self._stale_pools:
            self._stale_pools = False
            pools = self._pools.values()
            self._problems.put("pools", (*pool_problems(pools), *outside_problems(self._owned, pools)))

    def _settle_gateway(self, name: str, present: bool) -> None:
        """The static route to a peer that is `reachableBy` a gateway."""
        session = self._peerings.sessions.get(name) if present else None
        routes: dict[Network, OriginatedRoute] = {}
        if session is not None and session.reachable_by is not None:
            network = ip_network(session.peer_address)
            routes[network] = OriginatedRoute(
                network,
                OriginKind.REACHABLE_BY,
                session.record,
                f"the peer of {name}",
                advertise=False,
                blackhole=False,
                gateway=session.reachable_by,
            )
        self._originated.put((_GATEWAY_RANK, name, ""), routes)

    def _sort_in(
        self, network: Network, before: OriginatedRoute | None, after: OriginatedRoute | None
    ) -> None:
        """Keeps the networks that the export policy lists."""
        family = Family.of(network)
        aggregate = after is not None and after.kind is OriginKind.BLOCK and after.advertise
        static = after is not None and after.kind in _STATIC_KINDS
        if self._aggregates[family].set(network, aggregate) | self._statics[family].set(network, static):
            self._stale_families.add(family)

    def _settle_header(self) -> bool:
        if not self._stale_header:
            return False
        self._stale_header = False
        configuration = self._cluster.configuration
        own = self._cluster.node_configurations.get(self.options.node)
        local = self._cluster.local()
        port = (
            own.listen_port if own is not None and own.listen_port is not None else configuration.listen_port
        )
        severity = (
            self.options.log_severity
            or (own and own.log_severity_screen)
            or configuration.log_severity_screen
            or LogSeverity.INFO
        )
        router_id = self._router_id()
        cluster_id = local.cluster_id if local is not None else None
        if self.options.reflector_address is not None:
            cluster_id = self.options.reflector_cluster_id or router_id
        header = NodeIntent(
            node=self.options.node,
            router_id=router_id,
            local_as=local.as_number if local else configuration.as_number,
            listen_port=DEFAULT_LISTEN_PORT if port is None else port,
            cluster_id=cluster_id,
            bind_address=local.addresses if local and configuration.bind_mode is BindMode.NODE_IP else (),
            ignored_interfaces=configuration.ignored_interfaces,
            explicit=frozenset() if port is None else frozenset(("listen_port",)),
            log_severity=severity.value,
        )
        self._problems.put("node", tuple(self._node_problems(router_id)))
        changed = header != self._header
        if header.cluster_id != self._header.cluster_id:
            self._stale_families.update(Family)
        self._header = header
        return changed

    def _router_id(self) -> IPv4Address | None:
        if self.options.router_id == "hash":
            return hashed_router_id(self.options.node)
        if self.options.router_id is not None:
            return self.options.router_id
        reflector = self.options.reflector_address
        if isinstance(reflector, IPv4Address):
            return reflector
        node = self._cluster.nodes.get(self.options.node)
        return node.ipv4_address.ip if node is not None and node.ipv4_address is not None else None

    def _node_problems(self, router_id: IPv4Address | None) -> Iterable[Problem]:
        key = Key(Node.kind, self.options.node)
        if self.options.reflector_address is not None:
            return
        local = self._cluster.neighbor(self.options.node)
        if local is None:
            yield Problem(key, "", "there is no record of this node: it has no sessions", severity="warning")
        elif not local.addresses:
            reason = "neither ipv4Address nor ipv6Address is given: this node has no sessions"
            yield Problem(key, "spec.bgp", reason, severity="warning")
        elif router_id is None:
            reason = (
                "the node has no IPv4 address, so no router ID: no session can start; "
                "set CALICO_ROUTER_ID to an IPv4 address or to 'hash'"
            )
            yield Problem(key, "spec.bgp.ipv4Address", reason, severity="warning")

    def _settle_families(self) -> frozenset[Family]:
        changed = set()
        local = self._cluster.local()
        configuration = self._cluster.configuration
        for family in self._stale_families:
            running = self._wireguard[family]
            others: frozenset[Address] = frozenset()
            if self.options.node in running:
                others = frozenset(a for name, a in running.items() if name != self.options.node)
            pools = list(self._pools.values())
            intent = FamilyIntent(
                family=family,
                node_address=None if local is None else local.interface(family),
                export_policy=export_policy(
                    family,
                    configuration,
                    pools,
                    self._communities,
                    self._ranges,
                    self._header.cluster_id,
                    self._aggregates[family].networks(),
                    self._statics[family].networks(),
                ),
                kernel_policy=kernel_policy(family, configuration, pools, self._ranges, others),
                local_workload_address=configuration.local_workload_peering_ip_v4
                if family is Family.IPV4
                else configuration.local_workload_peering_ip_v6,
            )
            if intent != self._families.get(family):
                self._families[family] = intent
                changed.add(family)
        self._stale_families.clear()
        return frozenset(changed)


def compile_intent(records: Iterable[Record], options: Options) -> NodeIntent:
    """The intent that follows from all records at once."""
    compiler = Compiler(options)
    compiler.apply(records)
    return compiler.intent


def _peering_fields(configuration: BGPConfiguration) -> tuple[object, ...]:
    """What peerings depend on."""
    return (
        configuration.as_number,
        configuration.node_to_node_mesh_enabled,
        configuration.listen_port,
        configuration.node_mesh_password,
        configuration.node_mesh_max_restart_time,
    )


def _label(node: Node | None, name: str) -> str | None:
    return None if node is None else node.labels.get(name)


def _network_order(item: tuple[Network, OriginatedRoute]) -> tuple[int, bytes, int]:
    network = item[0]
    return network.version, network.network_address.packed, network.prefixlen


def _problem_order(problem: Problem) -> tuple[str, str, str]:
    return (str(problem.key), problem.field, problem.reason)

"""Records to a NodeIntent, and a change of records to the difference it makes.

One compiler serves the speaker, the renderer and every what-if. It holds the records it was given, and a
table a concern (peerings, blocks, services, policy) that knows what depends on what: a change costs in
proportion to what it touches. `compile_intent` is the same thing on all records at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from routed.bgp.nlri import Family, Network
from routed.intent.blocks import BlockTable
from routed.intent.cluster import (
    GLOBAL_CONFIGURATION,
    NO_CONFIGURATION,
    NODE_CONFIGURATION_PREFIX,
    Cluster,
)
from routed.intent.families import Families
from routed.intent.filters import CompiledFilter, compile_filter
from routed.intent.ledger import SourcedProblems
from routed.intent.local_node import node_header, node_problems, shared_address_problems
from routed.intent.local_workloads import EndpointStatus
from routed.intent.options import Options
from routed.intent.originated import Originated
from routed.intent.peerings import Peerings
from routed.intent.policy import community_rules, outside_problems, pool_problems
from routed.intent.services import EXCLUDE_LABEL, ServiceRanges, ServiceTable, service_ranges, service_routes
from routed.intent.tables import Tables
from routed.intent.types import IntentDelta, NodeIntent, OriginatedRoute, SessionIntent
from routed.resources import (
    BGPConfiguration,
    BGPFilter,
    BGPPeer,
    BlockAffinity,
    EndpointSlice,
    IPAMBlock,
    IPPool,
    Key,
    Node,
    Problem,
    Record,
    Secret,
    Service,
)

R = TypeVar("R", bound=Record)


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
        self._owned: dict[Network, Key] = {}
        """Blocks of this node, with the record that says so."""
        self._originated = Originated()
        self._families = Families(self._cluster, self._originated)
        self._filters: dict[str, CompiledFilter] = {}
        self._filters_changed: dict[str, CompiledFilter | None] = {}
        self._header = NodeIntent(options.node, None, 0, 0, None)
        self._stale_services: set[str] = set()
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
            ranges=self._families.ranges,
            pools=self._families.pools,
            originated=self._originated.routes,
            families=self._families.intents,
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
        return self._originated.routes

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
            families=dict(self._families.intents),
            sessions=dict(sorted(self._peerings.sessions.items())),
            originated=dict(sorted(self._originated.routes.items(), key=_network_order)),
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
        record = _one_of(before, after)
        if record.name == GLOBAL_CONFIGURATION:
            self._cluster.configuration = after or NO_CONFIGURATION
            if _peering_fields(before or NO_CONFIGURATION) != _peering_fields(after or NO_CONFIGURATION):
                self._peerings.mark_all()
            self._families.mark()
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
        name = _one_of(before, after).name
        old = self._cluster.neighbor(name)
        self._cluster.set_node(name, after)
        new = self._cluster.neighbor(name)
        for address in {*(old.addresses if old else ()), *(new.addresses if new else ())}:
            findings = tuple(shared_address_problems(self._cluster, address))
            self._problems.put(("address", address), findings)
        self._families.set_node(name, after)
        if name != self.options.node:
            self._peerings.mark_node(name, (*(old.addresses if old else ()), *(new.addresses if new else ())))
            return
        if old != new:
            self._peerings.mark_all()
        self._peerings.mark_roles()
        self._blocks.set_pod_cidrs(after.pod_cidrs if after and self.options.use_pod_cidr else ())
        self._stale_header = True
        self._families.mark()
        if _label(before, EXCLUDE_LABEL) != _label(after, EXCLUDE_LABEL):
            self._stale_ranges = True

    def _on_peer(self, before: BGPPeer | None, after: BGPPeer | None) -> None:
        self._peerings.mark_peer(_put(self._cluster.peers, before, after))

    def _on_filter(self, before: BGPFilter | None, after: BGPFilter | None) -> None:
        name = _put(self._cluster.filters, before, after)
        if after is None:
            self._filters.pop(name, None)
            self._filters_changed[name] = None
        else:
            compiled = compile_filter(after)
            if compiled != self._filters.get(name) or name in self._filters_changed:
                self._filters[name] = self._filters_changed[name] = compiled
        if before is None or after is None:
            self._peerings.mark_filter(name)

    def _on_secret(self, before: Secret | None, after: Secret | None) -> None:
        if _one_of(before, after).namespace == self.options.secret_namespace:
            self._peerings.mark_secret(_put(self._cluster.secrets, before, after))

    def _on_workload(self, before: EndpointStatus | None, after: EndpointStatus | None) -> None:
        self._cluster.set_workload(before, after)
        for status in (before, after):
            if status is not None and status.bgp_peer_name:
                self._peerings.mark_peer(status.bgp_peer_name)

    def _on_pool(self, before: IPPool | None, after: IPPool | None) -> None:
        _put(self._families.pools, before, after)
        self._stale_pools = True
        self._families.mark(Family.of(pool.cidr) for pool in (before, after) if pool is not None)

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
            self._originated.set_gateway(name, session)
        originated, listed = self._originated.take()
        self._families.mark(listed)
        node_changed = self._settle_header()
        families = self._families.take()
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
        self._families.set_communities(rules)

    def _settle_services(self) -> None:
        if self._stale_ranges:
            self._stale_ranges = False
            node = self._cluster.nodes.get(self.options.node)
            ranges = service_ranges(self._cluster.configuration, self.options, node)
            if self.options.reflector_address is not None:
                ranges = ServiceRanges()
            if self._families.set_ranges(ranges):
                self._stale_services.update(self._services.services)
                self._originated.set_ranges(ranges)
        for name in self._stale_services:
            service = self._services.services.get(name)
            routes: dict[Network, OriginatedRoute] = {}
            if service is not None:
                slices = self._services.slices(name).values()
                routes = service_routes(service, slices, self._families.ranges, self.options.kubernetes_node)
            self._originated.set_service(name, routes)
        self._stale_services.clear()

    def _settle_blocks(self) -> None:
        for network, verdict in self._blocks.take().items():
            if verdict.owned is None:
                self._owned.pop(network, None)
            else:
                self._owned[network] = verdict.owned.record
            self._stale_pools = True
            self._originated.set_block(network, verdict)
            self._problems.put(("block", network), verdict.problems)

    def _settle_pools(self) -> None:
        """Faults of pools among each other and with the node's blocks; there are few of both."""
        if self._stale_pools:
            self._stale_pools = False
            pools = self._families.pools.values()
            self._problems.put("pools", (*pool_problems(pools), *outside_problems(self._owned, pools)))

    def _settle_header(self) -> bool:
        if not self._stale_header:
            return False
        self._stale_header = False
        after = node_header(self._cluster)
        self._problems.put("node", tuple(node_problems(self._cluster)))
        changed = after != self._header
        self._families.set_cluster_id(after.cluster_id)
        self._header = after
        return changed


def compile_intent(records: Iterable[Record], options: Options) -> NodeIntent:
    """The intent that follows from all records at once."""
    compiler = Compiler(options)
    compiler.apply(records)
    return compiler.intent


def _one_of(before: R | None, after: R | None) -> R:
    """The record, whichever there is: its key is the same before and after."""
    record = after or before
    assert record is not None
    return record


def _put(table: dict[str, R], before: R | None, after: R | None) -> str:
    """Replaces a record in a table, or takes it out; returns its name."""
    name = _one_of(before, after).name
    if after is None:
        table.pop(name, None)
    else:
        table[name] = after
    return name


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

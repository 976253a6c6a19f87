"""Gates of the records: in which pool and block a prefix is, whose it is, and whether this node makes it."""

from __future__ import annotations

from collections.abc import Iterator

from routed.bgp.nlri import Network
from routed.intent.types import OriginKind
from routed.intent.why_service import (
    configured_ranges,
    field_of,
    services_with,
    why_no_range,
    why_not_announced,
)
from routed.ipam_blocks import Verdict, is_tunnel, judge, pod_of
from routed.observe.explain.gates import Finding, notes, passes, stops, stops_by
from routed.observe.explain.question import PeerQuestion, PrefixQuestion
from routed.observe.explain.rules import FAMILY_TEXT
from routed.resources import (
    BGPConfiguration,
    BlockAttribute,
    EncapsulationMode,
    IPAMBlock,
    IPPool,
    Key,
    Node,
    Service,
)
from routed.resources import Network as AnyNetwork

_CONFIGURATION = Key(BGPConfiguration.kind, "default")


def datastore(question: PrefixQuestion | PeerQuestion) -> Iterator[Finding]:
    """Whether the records are known, and of now."""
    state = question.observed.datastore
    if state is None:
        return
    since = "" if state.lost_since is None else f" since {state.lost_since.isoformat(timespec='seconds')}"
    reason = f": {state.lost_reason}" if since and state.lost_reason else ""
    if not state.synced:
        yield stops(f"the records are not known yet: the datastore has not been read{reason}")
    elif since:
        yield notes(f"the datastore is away{since}{reason}; the records are as they were before")


def pool(question: PrefixQuestion) -> Iterator[Finding]:
    """Which IPPool holds it."""
    tables = question.tables
    if tables is None:
        yield notes("this process works without records: routes come from peers alone")
        return
    holding = question.pools
    if not holding:
        known = question.origin is not None or bool(configured_ranges(tables.ranges, question.network))
        if known or _services(question) or question.block is not None:
            yield notes("in no IPPool")
        else:
            inside = [one for one in tables.pools.values() if _inside(one.cidr, question.network)]
            if inside:
                yield stops(
                    f"holds the whole of {inside[0].cidr}, but is no pool itself", inside[0].key, "spec.cidr"
                )
            else:
                yield stops(
                    "in no IPPool and in no range of services: no record says that there should be a route"
                )
        return
    first = holding[0]
    yield passes(
        f"in {first.cidr}, {encapsulation_text(first)}, blocks of /{first.block_size}", first.key, "spec.cidr"
    )
    if first.disabled:
        yield notes(
            "disabled: no block is cut from it any more, and single addresses in it are not advertised",
            first.key,
            "spec.disabled",
        )
    if first.disable_bgp_export:
        yield notes("nothing in it is advertised to any peer", first.key, "spec.disableBGPExport")
    for other in holding[1:]:
        yield notes(f"in {other.cidr} too: pools overlap, and {first.name} counts", other.key, "spec.cidr")


def service(question: PrefixQuestion) -> Iterator[Finding]:
    """Whether it is an address, or a range, of services, and is announced."""
    tables = question.tables
    if tables is None:
        return
    ranges = configured_ranges(tables.ranges, question.network)
    for network, field in ranges:
        yield notes(f"in the service range {network}", _CONFIGURATION, field)
    problem = why_no_range(tables, question.network)
    if problem is not None:
        yield stops_by(problem)
    elif any(network == question.network for network, _ in ranges):
        return
    found = _services(question)
    announced = question.origin is not None and question.origin.kind is OriginKind.SERVICE
    for one, what in found:
        yield passes(f"the {what} of a service", one.key, field_of(what))
        if not announced:
            yield stops_by(why_not_announced(tables, one, what, question.network.network_address))
    if ranges and not found and not any(network == question.network for network, _ in ranges):
        if question.single:
            yield stops("no Service has this address", _CONFIGURATION, ranges[0][1])
        else:
            yield stops(
                f"part of the service range {ranges[0][0]}: announced with it, not by itself",
                _CONFIGURATION,
                ranges[0][1],
            )


def block(question: PrefixQuestion) -> Iterator[Finding]:
    """Which block it is, or is in."""
    tables = question.tables
    if tables is None:
        return
    found = question.block
    inside = [] if found == question.network else tables.blocks.inside(question.network)
    if found is None and inside:
        some = ", ".join(str(one) for one in inside[:3]) + (", ..." if len(inside) > 3 else "")
        yield stops(f"no block: it holds {len(inside)} of them ({some}), each announced by itself")
    elif found is None and question.pools:
        first = question.pools[0]
        yield stops("no node has a block here: no address of it is in use", first.key, "spec.cidr")
    elif found is not None:
        record = tables.blocks.ipam_block(found)
        what = f"pod CIDR {found}" if question.pod_cidr_of is not None else _use(found, record)
        yield passes(what, None if record is None else record.key, prefix=str(found))
        if found != question.network and question.origin is None and not question.known:
            yield stops(
                f"part of block {found}: announced with it, not by itself",
                None if record is None else record.key,
                "spec.cidr",
                prefix=str(found),
            )


def _use(network: Network, record: IPAMBlock | None) -> str:
    if record is None:
        return f"block {network}, of which no IPAMBlock says more"
    used = len(record.allocations) - record.allocations.count(None)
    return f"block {network}, {used} of {network.num_addresses} addresses in use"


def allocation(question: PrefixQuestion) -> Iterator[Finding]:
    """Who has the address, by IPAM. Nothing for a prefix that is shorter than an address."""
    network = question.block
    tables = question.tables
    if not question.single or tables is None or network is None:
        return
    record = tables.blocks.ipam_block(network)
    if record is None:
        return
    address = question.network.network_address
    offset = int(address) - int(network.network_address)
    index = record.allocations[offset] if offset < len(record.allocations) else None
    field = f"spec.allocations[{offset}]"
    if index is None:
        yield stops("the address is free: no workload has it", record.key, field)
        return
    attribute = dict(record.allocated()).get(address)
    assert attribute is not None
    where = f" on node {attribute.node}" if attribute.node else ""
    yield passes(f"allocated to {_holder(attribute)}{where}", record.key, field)
    if attribute.node is not None and attribute.node != record.host:
        whose = f"node {record.host}" if record.host else "nobody"
        yield notes(f"borrowed: the block belongs to {whose}", record.key, "spec.affinity")


def _holder(attribute: BlockAttribute) -> str:
    """Who has an address, by what IPAM says of it."""
    if is_tunnel(attribute):
        return "the tunnel of a node"
    pod = pod_of(attribute)
    return f"pod {pod}" if pod else "somebody"


def affinity(question: PrefixQuestion) -> Iterator[Finding]:
    """Whose block it is, by affinities and by IPAM, and whether that node announces it."""
    tables, network = question.tables, question.block
    if tables is None or network is None:
        return
    if question.origin is not None and question.origin.kind is OriginKind.BORROWED:
        yield notes("allocated here, in a block that is not this node's", question.origin.record)
        return
    table, own = tables.blocks, tables.options.node
    if (node := question.pod_cidr_of) is not None:
        whose = "this node" if node == own else f"node {node}"
        yield passes(f"a pod CIDR of {whose} (host-local IPAM)", Key(Node.kind, node), "spec.podCIDRs")
        return
    claims = table.affinities(network)
    for claim in claims:
        state = "deleted" if claim.deleted else claim.state.value
        yield notes(f"node {claim.node} has an affinity, {state}", claim.key, "spec.state")
    record = table.ipam_block(network)
    holders = dict.fromkeys(claim.node for claim in claims if not claim.deleted)
    if record is not None:
        yield notes(
            f"the IPAM block says {record.affinity or 'nobody'}",
            record.key,
            "spec.affinity",
            prefix=str(network),
        )
        if record.host is not None:
            holders.setdefault(record.host)
    verdicts = {
        node: table.verdict(network)
        if node == own
        else judge(node, network, claims, _some(record), table.known)
        for node in holders
    }
    yield from _owner(question, network, verdicts)


def _owner(question: PrefixQuestion, network: AnyNetwork, verdicts: dict[str, Verdict]) -> Iterator[Finding]:
    """What each node makes of the block, and so whose it is."""
    tables = question.tables
    assert tables is not None
    for node, verdict in verdicts.items():
        whose = "this node" if node == tables.options.node else f"node {node}"
        owned = verdict.owned
        if owned is not None and owned.advertise:
            yield passes(f"{whose} holds it: {owned.reason}", owned.record, "spec.node")
            for problem in (problem for one in verdicts.values() for problem in one.problems):
                yield notes(problem.reason, problem.key, problem.field)
            return
    claimants = {claim.node for claim in tables.blocks.affinities(network)}
    for node, verdict in verdicts.items():
        whose = "" if node == tables.options.node else f"for node {node}: "
        if node not in claimants and (record := tables.blocks.ipam_block(network)) is not None:
            reason = f"the IPAM block names node {node}, which has no BlockAffinity: nobody advertises it"
            yield stops(reason, record.key, "spec.affinity")
            continue
        for problem in verdict.problems:
            yield stops(f"{whose}{problem.reason}", problem.key, problem.field)
    if not any(verdict.problems for verdict in verdicts.values()):
        record = tables.blocks.ipam_block(network)
        claims = tables.blocks.affinities(network)
        if claims:
            yield stops(f"{network} is deleted: it counts as absent", claims[0].key, "spec.deleted")
        else:
            yield stops("the block has no owner", None if record is None else record.key, "spec.affinity")


def owner_of(question: PrefixQuestion) -> str | None:
    """The node whose block it is and that advertises it; None: there is none, or not one alone."""
    tables, network = question.tables, question.block
    if tables is None or network is None:
        return None
    if question.pod_cidr_of is not None:
        return question.pod_cidr_of
    claims, record = tables.blocks.affinities(network), tables.blocks.ipam_block(network)
    for claim in claims:
        owned = judge(claim.node, network, claims, _some(record), tables.blocks.known).owned
        if owned is not None and owned.advertise:
            return claim.node
    return None


def origin(question: PrefixQuestion) -> Iterator[Finding]:
    """Whether this node makes the route itself, and why."""
    route = question.origin
    if route is None:
        return
    does = [
        "advertised" if route.advertise else "not advertised",
        "a blackhole for what no workload has" if route.blackhole else "",
        f"by way of {route.gateway}" if route.gateway is not None else "",
    ]
    text = f"this node makes it ({route.kind.value}: {route.reason}); {', '.join(filter(None, does))}"
    yield passes(text, route.record)


def owner(question: PrefixQuestion) -> Iterator[Finding]:
    """Whether the node that holds the block is there."""
    tables, node = question.tables, owner_of(question)
    if tables is None or node is None or node == tables.options.node or question.known:
        return
    neighbor = tables.cluster.neighbor(node)
    key = Key(Node.kind, node)
    if neighbor is None:
        yield stops(f"node {node} holds the block, and has no record", key)
    elif neighbor.address(question.family) is None:
        yield stops(
            f"node {node} has no {FAMILY_TEXT[question.family]} address: no session of it carries the block",
            key,
            "spec.bgp." + ("ipv4Address" if question.network.version == 4 else "ipv6Address"),
        )
    else:
        yield passes(f"node {node} is there, {neighbor.address(question.family)}", key)


def encapsulation_text(pool: IPPool) -> str:
    """`no encapsulation`, `IPIP`, `VXLAN across subnets`."""
    for name, mode in (("VXLAN", pool.vxlan_mode), ("IPIP", pool.ipip_mode)):
        if mode is EncapsulationMode.ALWAYS:
            return name
        if mode is EncapsulationMode.CROSS_SUBNET:
            return f"{name} across subnets"
    return "no encapsulation"


def _services(question: PrefixQuestion) -> list[tuple[Service, str]]:
    if question.tables is None or not question.single:
        return []
    return list(services_with(question.tables, question.network.network_address))


def _inside(inner: AnyNetwork, outer: AnyNetwork) -> bool:
    return inner.version == outer.version and inner.subnet_of(outer)  # type: ignore[arg-type]


def _some(record: IPAMBlock | None) -> tuple[IPAMBlock, ...]:
    return () if record is None else (record,)

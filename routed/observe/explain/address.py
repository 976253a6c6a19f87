"""Gates of an address: who has it, which route it takes, and where the kernel would send it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_network

from routed.bgp.nlri import Network, from_network
from routed.bgp.path import SourceKind
from routed.ipam_blocks import is_tunnel
from routed.observe.explain import records
from routed.observe.explain.gates import Finding, notes, passes, stops
from routed.observe.explain.kernel import route_text
from routed.observe.explain.question import AddressQuestion
from routed.observe.explain.rules import source_text
from routed.resources import IPAMBlock


@dataclass(frozen=True, slots=True)
class _Carrier:
    """The kernel route that an address would take, as far as is known."""

    network: Network
    text: str
    blackhole: bool


def allocation(question: AddressQuestion) -> Iterator[Finding]:
    """Whether IPAM has given it to anybody."""
    return records.allocation(question.host)


def workload(question: AddressQuestion) -> Iterator[Finding]:
    """Whether the workload's own route is there, where it is on this node."""
    tables, host, writer = question.observed.compiler, question.host, question.observed.writer
    record = _allocated_by(question)
    if tables is None or record is None or writer is None or not writer.fib.port:
        return
    attribute = dict(record.allocated())[question.address]
    if attribute.node != tables.options.node or is_tunnel(attribute):
        return
    local = next((path for path in host.paths if path.source.kind is SourceKind.KERNEL), None)
    if local is None:
        yield stops("the workload is on this node, and the kernel has no route of its own to it", record.key)
    else:
        where = f", dev {local.interface}" if local.interface else ""
        yield passes(f"the workload's own route is in the kernel{where}")


def _allocated_by(question: AddressQuestion) -> IPAMBlock | None:
    """The IPAM block that gives the address to somebody."""
    tables, network = question.host.tables, question.host.block
    if tables is None or network is None:
        return None
    record = tables.blocks.ipam_block(network)
    offset = int(question.address) - int(network.network_address)
    if record is None or offset >= len(record.allocations) or record.allocations[offset] is None:
        return None
    return record


def match(question: AddressQuestion) -> Iterator[Finding]:
    """Which route is its longest match."""
    found = question.match
    if found is None:
        yield stops(f"no route of BGP, or of this node, holds {question.address}")
    elif found.best is None:
        yield notes(
            f"the longest match is {found.network}, which is not in Loc-RIB", prefix=str(found.network)
        )
    else:
        source = source_text(found.best.source)
        yield passes(f"the longest match is {found.network}, by {source}", prefix=str(found.network))


def lookup(question: AddressQuestion) -> Iterator[Finding]:
    """Which route in the kernel would carry it, by what is known of the kernel's."""
    writer = question.observed.writer
    if writer is None or not writer.fib.port:
        return
    carrier = _carrier(question)
    if carrier is None:
        yield stops(f"the kernel has no route that is known and holds {question.address}")
    elif carrier.blackhole and (record := _allocated_by(question)) is not None:
        yield stops(
            f"packets to it are dropped here: {carrier.network} is a {carrier.text}, and nobody has told of "
            f"a route to the address, which is in use",
            record.key,
            prefix=str(carrier.network),
        )
    else:
        yield passes(f"the kernel takes {carrier.network}: {carrier.text}", prefix=str(carrier.network))


def _carrier(question: AddressQuestion) -> _Carrier | None:
    """The longest match among our routes in the kernel, and those of others that are known."""
    host, writer = question.host, question.observed.writer
    assert writer is not None
    installed = writer.fib.installed[host.family]
    rib = question.observed.speaker.ribs[host.family]
    for length in range(host.network.prefixlen, -1, -1):
        network = ip_network((question.address, length), strict=False)
        nlri = from_network(network)
        others = [path for path in rib.ranked(nlri) if path.source.kind in _OTHERS]
        metrics = [path.metric or 0 for path in others]
        ours = installed.get(nlri)
        if ours is not None and not any(metric < ours.metric for metric in metrics):
            return _Carrier(network, f"{route_text(ours)}, ours", ours.blackhole)
        if others:
            where = others[0].interface
            return _Carrier(network, f"somebody else's{f', dev {where}' if where else ''}", blackhole=False)
    return None


_OTHERS = (SourceKind.KERNEL, SourceKind.DIRECT)

"""Pools, blocks and borrowed addresses as the status API shows them."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from ipaddress import IPv4Network, ip_network
from typing import Any, cast

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routed.intent.compiler import Compiler
from routed.intent.options import Options
from routed.ipam_blocks import block_usage
from routed.observe import documents
from routed.observe.observed import Observed
from routed.observe.views import blocks as view
from routed.observe.views.blocks import MOST, PORTION, blocks, blocks_in_turns, portions
from routed.resources import BlockAttribute, EncapsulationMode, IPAMBlock, Node, Record
from tests.intent import clusters
from tests.intent.test_peerings import node
from tests.observe.explain.scene import affinity, block, ipam, pool

A, B = node("a", 1), node("b", 2)
OURS, THEIRS = "10.1.1.0/26", "10.1.2.0/26"


@dataclass
class Process:
    """As much of `Observed` as the view looks at."""

    compiler: Compiler | None
    node: str = "a"


def observed(*records: Record, **options: Any) -> Observed:
    compiler = Compiler(Options("a", **options))
    compiler.apply(records)
    return cast(Observed, Process(compiler))


def by_cidr(found: documents.Blocks) -> dict[str, documents.Block]:
    return {one.cidr: one for one in found.blocks}


def test_whose_blocks_are_and_how_full() -> None:
    used = {"10.1.1.5": ("here", "a"), "10.1.1.6": ("there", "b"), "10.1.1.7": ("there2", "b")}
    found = blocks(observed(A, B, pool(), *block("a", OURS, used), *block("b", THEIRS)))
    assert found.node == "a"
    ours, theirs = found.blocks
    assert ours == documents.Block(
        cidr=OURS,
        family="ipv4",
        pool="pool",
        owner="a",
        state="confirmed",
        ours=True,
        advertised=True,
        blackholed=True,
        size=64,
        allocated=3,
        lent=[documents.Lent(node="b", addresses=2)],
        problem=None,
        record=f"IPAMBlock {OURS}",
    )
    assert (theirs.owner, theirs.ours, theirs.advertised, theirs.allocated) == ("b", False, False, 0)
    (of_all,) = found.pools
    assert (of_all.name, of_all.size, of_all.blocks, of_all.allocated, of_all.borrowed) == (
        "pool",
        65536,
        2,
        3,
        2,
    )
    assert [(one.address, one.node, one.owner, one.pod) for one in found.borrowed_out] == [
        ("10.1.1.6", "b", "a", "default/there"),
        ("10.1.1.7", "b", "a", "default/there2"),
    ]
    assert found.borrowed_in == []


def test_what_this_node_borrows() -> None:
    found = blocks(observed(A, B, pool(), *block("b", THEIRS, {"10.1.2.9": ("web", "a")})))
    assert found.borrowed_in == [
        documents.Borrowed(address="10.1.2.9", block=THEIRS, owner="b", node="a", pod="default/web")
    ]
    assert found.borrowed_out == []


def test_a_tunnel_address_that_another_node_has() -> None:
    tunnel = BlockAttribute("t", {"node": "b", "type": "ipipTunnelAddress"})
    record = IPAMBlock(
        name=OURS, cidr=ip_network(OURS), affinity="host:a", allocations=(0,), attributes=(tunnel,)
    )
    (one,) = blocks(observed(A, affinity("a", OURS), record)).borrowed_out
    assert (one.address, one.pod) == ("10.1.1.0", "tunnel")


@pytest.mark.parametrize(
    ("records", "problem"),
    [
        ((pool(), affinity("a", OURS, "pending"), ipam("a", OURS)), "is pending"),
        ((pool(), affinity("a", OURS, "pendingDeletion"), ipam("a", OURS)), "is being deleted"),
        ((pool(), affinity("a", OURS), ipam("b", OURS)), "belongs to host:b"),
        ((pool(), affinity("b", OURS), ipam("c", OURS)), "node b: 10.1.1.0/26 belongs to host:c"),
        ((pool(), affinity("b", OURS), *block("c", THEIRS)), "node b: 10.1.1.0/26 has no IPAMBlock"),
        ((pool(), ipam("b", OURS)), "belongs to node b, which has no affinity"),
        ((pool(), ipam("a", OURS)), "names this node, but no BlockAffinity does"),
        ((pool("elsewhere", "10.9.0.0/16"), *block("a", OURS)), "is in no IPPool"),
        ((pool(), *block("a", OURS), *block("b", "10.1.1.32/28")), "contains 10.1.1.32/28"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_wrong_with_a_block(records: tuple[Record, ...], problem: str) -> None:
    found = by_cidr(blocks(observed(A, B, *records)))[OURS]
    assert problem in (found.problem or "")


def test_a_block_without_pools_at_all_is_not_wrong() -> None:
    (found,) = blocks(observed(A, *block("a", OURS))).blocks
    assert (found.pool, found.problem) == (None, None)


def test_host_local_pod_cidrs() -> None:
    pods = Node(name="a", pod_cidrs=(ip_network("10.65.0.0/24"), ip_network("fd00:65::/80")))
    others = Node(name="b", pod_cidrs=(ip_network("10.65.1.0/24"),))
    found = by_cidr(blocks(observed(pods, others, use_pod_cidr=True)))
    assert list(found) == ["10.65.0.0/24", "10.65.1.0/24", "fd00:65::/80"]
    one, other = found["10.65.0.0/24"], found["10.65.1.0/24"]
    assert (one.owner, one.ours, one.advertised, one.state, one.allocated, one.record) == (
        "a",
        True,
        True,
        None,
        None,
        "Node a",
    )
    assert (other.owner, other.ours, other.problem, other.record) == ("b", False, None, "Node b")
    assert blocks(observed(pods, others)).blocks == []


def test_ipv6_and_sizes_that_json_can_hold() -> None:
    found = blocks(
        observed(A, pool("six", "fd01::/48"), *block("a", "fd01::/122"), affinity("a", "fd01:0:0:1::/64"))
    )
    small, large = found.blocks
    assert (small.family, small.size, small.allocated) == ("ipv6", 64, 0)
    assert (large.size, large.allocated) == (MOST, None)
    assert found.pools[0].size == MOST
    assert msgspec.json.decode(msgspec.json.encode(found), type=documents.Blocks) == found


def test_the_smallest_of_overlapping_pools_has_a_block() -> None:
    found = blocks(observed(A, pool("wide", "10.0.0.0/8"), pool("narrow", "10.1.0.0/16"), *block("a", OURS)))
    assert found.blocks[0].pool == "narrow"
    assert [(one.name, one.blocks) for one in found.pools] == [("wide", 0), ("narrow", 1)]


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({}, "none"),
        ({"ipip_mode": EncapsulationMode.ALWAYS}, "ipip"),
        ({"ipip_mode": EncapsulationMode.CROSS_SUBNET}, "ipip-cross-subnet"),
        ({"vxlan_mode": EncapsulationMode.ALWAYS}, "vxlan"),
        ({"vxlan_mode": EncapsulationMode.CROSS_SUBNET}, "vxlan-cross-subnet"),
    ],
)
def test_encapsulation(fields: dict[str, EncapsulationMode], text: str) -> None:
    record = pool(disabled=True, disable_bgp_export=True, **fields)
    (found,) = blocks(observed(A, record)).pools
    assert (found.encapsulation, found.disabled, found.bgp_export) == (text, True, False)


def test_without_records_there_are_none() -> None:
    found = blocks(cast(Observed, Process(None, node="rr")))
    assert found == documents.Blocks(node="rr", pools=[], blocks=[], borrowed_in=[], borrowed_out=[])


def test_blocks_are_in_the_order_of_their_addresses() -> None:
    records = [affinity("a", f"10.1.{number}.0/26") for number in (9, 10, 100, 2)]
    found = blocks(observed(A, affinity("a", "fd00::/122"), *records))
    assert [one.cidr for one in found.blocks] == [
        *(f"10.1.{number}.0/26" for number in (2, 9, 10, 100)),
        "fd00::/122",
    ]


# Many blocks


def many(count: int) -> list[Record]:
    networks = list(IPv4Network("10.0.0.0/11").subnets(new_prefix=26))[:count]
    return [
        record
        for number, network in enumerate(networks)
        for record in block(f"n{number % 50}", str(network), {str(network[1]): ("p", f"n{number % 7}")})
    ]


def test_many_blocks_come_in_portions() -> None:
    seen = observed(A, *many(4 * PORTION + 3))
    *before, last = portions(seen)
    assert len(before) >= 5
    assert set(before) == {None}
    assert last is not None
    assert len(last.blocks) == 4 * PORTION + 3
    assert last == blocks(seen)


def test_other_tasks_run_between_portions() -> None:
    seen = observed(A, *many(3 * PORTION))
    turns = Counter[str]()

    async def other() -> None:
        while True:
            turns["other"] += 1
            await asyncio.sleep(0)

    async def main() -> documents.Blocks:
        task = asyncio.ensure_future(other())
        try:
            return await blocks_in_turns(seen)
        finally:
            task.cancel()

    assert asyncio.run(main()) == blocks(seen)
    assert turns["other"] >= 3


def test_records_that_change_between_portions_do_no_harm() -> None:
    used = {f"10.31.0.{n}": (f"p{n}", "a") for n in range(1, 200)}
    records = [*many(PORTION), *block("b", "10.31.0.0/24", used)]
    full = [pool(cidr="10.0.0.0/11"), *records]
    steps = len(list(portions(observed(A, *full))))
    for at in range(1, steps):
        seen = observed(A, *full)
        assert seen.compiler is not None
        work = portions(seen)
        for _ in range(at):
            next(work)
        seen.compiler.apply([pool("new", "10.9.0.0/16")], [record.key for record in (*records, pool())])
        assert list(work)[-1] is not None
        assert blocks(seen).blocks == []


def test_usage_is_counted_once_for_each_version_of_a_record(monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[IPAMBlock] = []

    def count(record: IPAMBlock) -> Any:
        counted.append(record)
        return block_usage(record)

    monkeypatch.setattr(view, "block_usage", count)
    seen = observed(A, *block("a", OURS), *block("b", THEIRS))
    assert seen.compiler is not None
    blocks(seen)
    blocks(seen)
    assert len(counted) == 2
    seen.compiler.apply([ipam("a", OURS, {"10.1.1.1": ("p", "a")})])
    assert by_cidr(blocks(seen))[OURS].allocated == 1
    assert len(counted) == 3
    seen.compiler.apply([], [ipam("a", OURS).key, affinity("a", OURS).key])
    blocks(seen)
    assert list(view._usages[seen.compiler]) == [ip_network(THEIRS)]


def test_hostile_names_are_data() -> None:
    name = "n\x1b[31m\ud800<script>"
    found = blocks(observed(A, pool(name), *block(name, OURS, {"10.1.1.1": (name, "other" + name)})))
    (one,) = found.blocks
    assert one.owner == "n\x1b[31m�<script>"
    assert msgspec.json.decode(msgspec.json.encode(found), type=documents.Blocks) == found


# Against a plain count


@settings(max_examples=60, deadline=None)
@given(
    records=st.lists(
        st.one_of(clusters.affinities, clusters.blocks, clusters.pools, clusters.nodes), max_size=12
    ).map(lambda some: tuple({record.key: record for record in some}.values())),
    use_pod_cidr=st.booleans(),
)
def test_what_is_shown_agrees_with_the_intent(records: tuple[Record, ...], use_pod_cidr: bool) -> None:
    seen = observed(*records, use_pod_cidr=use_pod_cidr)
    assert seen.compiler is not None
    found = blocks(seen)
    intent = seen.compiler.intent
    ours = {one.cidr for one in found.blocks if one.ours}
    assert ours == {str(n) for n, route in intent.originated.items() if route.kind.value == "block"}
    for one in found.blocks:
        if one.ours:
            route = intent.originated[ip_network(one.cidr)]
            assert (one.advertised, one.blackholed) == (route.advertise, route.blackhole)
    borrowed = {one.address for one in found.borrowed_in}
    routes = [r for r in intent.originated.values() if r.kind.value == "borrowed"]
    # An address may be a block of its own, too, whose route counts.
    assert {str(r.network.network_address) for r in routes} <= borrowed
    known = {record.cidr: record for record in reversed(records) if isinstance(record, IPAMBlock)}
    for one in found.blocks:
        assert (one.allocated is None) or ip_network(one.cidr) in known
    assert sum(one.blocks for one in found.pools) <= len(found.blocks)


@given(record=clusters.blocks)
def test_block_usage_is_a_count_of_addresses(record: IPAMBlock) -> None:
    usage = block_usage(record)
    allocated = list(record.allocated())
    lent = Counter(a.node for _, a in allocated if a.node is not None and a.node != record.host)
    assert (usage.allocated, usage.lent) == (len(allocated), dict(sorted(lent.items())))

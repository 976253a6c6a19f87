"""Affinities and IPAM blocks to owned blocks, blackholes and borrowed addresses."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routed.ipam_blocks import NetworkIndex, NodeBlocks, block_usage, node_blocks
from routed.resources import AffinityState, BlockAffinity, BlockAttribute, IPAMBlock, Network

BLOCK = ip_network("10.1.0.0/26")
OTHER = ip_network("10.1.0.64/26")


def affinity(
    node: str,
    cidr: Network = BLOCK,
    state: AffinityState = AffinityState.CONFIRMED,
    deleted: bool = False,
) -> BlockAffinity:
    return BlockAffinity(name=f"{node}-{cidr}", node=node, cidr=cidr, state=state, deleted=deleted)


def block(
    owner: str | None, cidr: Network = BLOCK, deleted: bool = False, **pods: tuple[int, str]
) -> IPAMBlock:
    """`pods` gives each pod's offset in the block and its node."""
    allocations: list[int | None] = [None] * 8
    for index, (offset, _) in enumerate(pods.values()):
        allocations[offset] = index
    return IPAMBlock(
        name=str(cidr),
        cidr=cidr,
        affinity=None if owner is None else f"host:{owner}",
        allocations=tuple(allocations),
        attributes=tuple(
            BlockAttribute(f"h-{pod}", {"node": node, "namespace": "default", "pod": pod})
            for pod, (_, node) in pods.items()
        ),
        deleted=deleted,
    )


def said(blocks: NodeBlocks) -> list[str]:
    return [f"{problem.severity} {problem.key} {problem.reason}" for problem in blocks.problems]


@pytest.mark.parametrize("cidr", [BLOCK, ip_network("fd00::/122")])
def test_a_confirmed_block_is_blackholed_and_advertised(cidr: Network) -> None:
    found = node_blocks("a", [affinity("a", cidr)], [block("a", cidr)])
    assert found.owned[cidr].blackhole
    assert found.owned[cidr].advertise
    assert not found.problems
    assert not node_blocks("b", [affinity("a", cidr)], [block("a", cidr)]).owned


def test_affinities_stand_by_themselves_where_there_is_no_ipam_block_at_all() -> None:
    found = node_blocks("a", [affinity("a")], [])
    assert found.owned[BLOCK].blackhole
    assert not found.problems


@pytest.mark.parametrize("elsewhere", [block("b", OTHER), block(None, OTHER)])
def test_a_confirmed_affinity_without_its_block_is_not_ours(elsewhere: IPAMBlock) -> None:
    found = node_blocks("a", [affinity("a")], [elsewhere])
    assert not found.owned
    assert said(found) == [
        f"error BlockAffinity a-{BLOCK} {BLOCK} has no IPAMBlock: it is not ours, neither blackholed nor "
        "advertised; remove the affinity, or restore the block"
    ]


def test_a_block_marked_deleted_is_absent() -> None:
    assert node_blocks("a", [affinity("a")], [block("b", deleted=True)]).owned
    assert not node_blocks("a", [affinity("a")], [block("a", deleted=True), block("a", OTHER)]).owned


@pytest.mark.parametrize(
    ("owner", "words"),
    [("host:b", "belongs to host:b"), ("virtual:x", "belongs to virtual:x"), (None, "has no owner")],
)
def test_a_block_of_another_owner_is_not_ours(owner: str | None, words: str) -> None:
    found = node_blocks("a", [affinity("a")], [IPAMBlock(name="x", cidr=BLOCK, affinity=owner)])
    assert not found.owned
    assert found.problems[0].severity == "error"
    assert words in found.problems[0].reason


def test_pending_is_nothing_yet() -> None:
    found = node_blocks("a", [affinity("a", state=AffinityState.PENDING)], [block("a")])
    assert not found.owned
    assert "pending" in found.problems[0].reason


@pytest.mark.parametrize("blocks", [[], [block("a")], [block(None)], [block("b", OTHER)]])
def test_pending_deletion_is_blackholed_but_not_advertised(blocks: list[IPAMBlock]) -> None:
    found = node_blocks("a", [affinity("a", state=AffinityState.PENDING_DELETION)], blocks)
    assert found.owned[BLOCK].blackhole
    assert not found.owned[BLOCK].advertise
    assert [problem.severity for problem in found.problems] == ["warning"]


def test_pending_deletion_of_a_block_that_has_a_new_owner_is_not_ours() -> None:
    found = node_blocks("a", [affinity("a", state=AffinityState.PENDING_DELETION)], [block("b")])
    assert not found.owned


def test_a_deleted_affinity_counts_as_absent() -> None:
    found = node_blocks("a", [affinity("a", deleted=True), affinity("b")], [block("b")])
    assert not found.owned
    assert "counts as absent" in found.problems[0].reason
    assert node_blocks("b", [affinity("a", deleted=True), affinity("b")], [block("b")]).problems == ()


def test_the_furthest_of_two_claims_of_one_node_counts() -> None:
    second = BlockAffinity(name="0", node="a", cidr=BLOCK, state=AffinityState.PENDING)
    assert node_blocks("a", [second, affinity("a")], [block("a")]).owned[BLOCK].advertise


def test_of_conflicting_affinities_the_block_decides() -> None:
    claims = [affinity("a"), affinity("b")]
    ours = node_blocks("a", claims, [block("a")])
    assert ours.owned
    assert said(ours)[0].startswith("warning")
    assert not node_blocks("b", claims, [block("a")]).owned


def test_conflicting_affinities_without_a_block_are_nobodys() -> None:
    claims = [affinity("a"), affinity("b")]
    for node in ("a", "b"):
        found = node_blocks(node, claims, [])
        assert not found.owned
        assert said(found)[0].startswith("error")
    pending = affinity("b", state=AffinityState.PENDING)
    assert node_blocks("a", [affinity("a"), pending], []).owned


@pytest.mark.parametrize("cidr", [ip_network("10.1.0.1/32"), ip_network("fd00::1/128")])
def test_a_single_address_has_no_blackhole(cidr: Network) -> None:
    found = node_blocks("a", [affinity("a", cidr)], [])
    assert found.owned[cidr].advertise
    assert not found.owned[cidr].blackhole


@pytest.mark.parametrize("cidr", [BLOCK, ip_network("fd00::/122")])
def test_borrowed_addresses(cidr: Network) -> None:
    blocks = [block("a", cidr, own=(1, "a"), lent=(3, "b"))]
    borrowed = node_blocks("b", [affinity("a", cidr)], blocks).borrowed
    address = cidr.network_address + 3
    assert list(borrowed) == [address]
    assert borrowed[address].owner == "a"
    assert borrowed[address].pod == "default/lent"
    assert borrowed[address].network == ip_network(address)
    assert borrowed[address].reason == f"allocated here to default/lent from {cidr}, a block of a"
    assert not node_blocks("a", [affinity("a", cidr)], blocks).borrowed
    assert not node_blocks("c", [affinity("a", cidr)], blocks).borrowed


def test_addresses_of_a_block_without_owner_are_borrowed() -> None:
    borrowed = node_blocks("a", [], [block(None, p=(2, "a"))]).borrowed
    assert borrowed[ip_address("10.1.0.2")].owner is None
    assert borrowed[ip_address("10.1.0.2")].reason.endswith("a block without owner")


def test_tunnel_addresses_are_not_borrowed() -> None:
    record = IPAMBlock(
        name="x",
        cidr=BLOCK,
        affinity="host:b",
        allocations=(0,),
        attributes=(BlockAttribute("ipip-tunnel-addr-a", {"node": "a", "type": "ipipTunnelAddress"}),),
    )
    assert not node_blocks("a", [], [record]).borrowed


def test_a_block_that_names_us_without_affinity_is_reported() -> None:
    found = node_blocks("a", [], [block("a")])
    assert not found.owned
    assert "no BlockAffinity does" in found.problems[0].reason


def test_nested_blocks_are_reported_by_the_owner_of_either() -> None:
    outer = ip_network("10.1.0.0/24")
    claims = [affinity("a", outer), affinity("b")]
    assert said(node_blocks("a", claims, []))[0].startswith(
        f"warning BlockAffinity a-{outer} {outer} contains {BLOCK}"
    )
    assert f"{BLOCK} lies within {outer}" in said(node_blocks("b", claims, []))[0]
    assert not node_blocks("b", [affinity("a", outer, deleted=True), affinity("b")], []).problems


def test_pod_cidrs_are_blocks() -> None:
    found = node_blocks("a", [], [], [BLOCK])
    assert found.owned[BLOCK].advertise
    assert str(found.owned[BLOCK].record) == "Node a"


def test_usage() -> None:
    usage = block_usage(block("a", own=(0, "a"), lent=(1, "b"), more=(2, "b")))
    assert (usage.size, usage.allocated, usage.free, usage.borrowed) == (64, 3, 61, 2)
    assert usage.lent == {"b": 2}
    assert block_usage(block("a", ip_network("fd00::/64"))).free == 2**64


NETWORKS = st.sampled_from(
    [
        ip_network((base, length), strict=False)
        for base in ("10.0.0.0", "10.0.0.32", "10.0.0.64")
        for length in (24, 26, 27, 32)
    ]
    + [
        ip_network((base, length), strict=False)
        for base in ("::", "fd00::", "fd00::20")
        for length in (0, 64, 128)
    ]
)


@given(st.lists(st.tuples(NETWORKS, st.booleans())), NETWORKS)
def test_the_index_finds_what_a_scan_finds(steps: list[tuple[Network, bool]], asked: Network) -> None:
    index = NetworkIndex()
    plain: set[Network] = set()
    for network, adds in steps:
        (index.add if adds else index.discard)(network)
        (plain.add if adds else plain.discard)(network)
        expected = {n for n in plain if n.version == asked.version and n != asked and n.overlaps(asked)}
        assert set(index.overlapping(asked)) == expected
        assert len(index.overlapping(asked)) == len(expected)

"""Pools, blocks and borrowed addresses: whose each is and how full, as `calicoctl ipam show --show-blocks
--show-borrowed` has it.

Clusters have tens of thousands of blocks. How full one is, is counted once for each version of its record;
and `portions` gives the event loop its turns in between.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from heapq import merge
from itertools import islice
from typing import Final, TypeVar
from weakref import WeakKeyDictionary

from routed.bgp.nlri import Family, Network
from routed.intent.compiler import Compiler
from routed.intent.tables import Tables
from routed.ipam_blocks import BlockUsage, Verdict, block_usage, is_tunnel, judge, pod_of
from routed.observe import documents
from routed.observe.observed import Observed
from routed.observe.views.text import FAMILY_NAMES
from routed.resources import BlockAffinity, EncapsulationMode, IPAMBlock, IPPool, Key, Node
from routed.text import clean, clean_or_none

T = TypeVar("T")

#: Blocks that are looked at before the event loop may turn: some milliseconds.
PORTION: Final = 500
#: The greatest number that every reader of JSON has.
MOST: Final = 1 << 53

_Usages = dict[Network, tuple[IPAMBlock, BlockUsage]]
#: How full each block is, with the version of the record that says so; begins with the first question.
_usages: WeakKeyDictionary[Compiler, _Usages] = WeakKeyDictionary()

_ENCAPSULATION: Final = {
    EncapsulationMode.NEVER: "none",
    EncapsulationMode.ALWAYS: "{}",
    EncapsulationMode.CROSS_SUBNET: "{}-cross-subnet",
}


def blocks(observed: Observed) -> documents.Blocks:
    """All of it at once: for 20,000 blocks a part of a second. See `blocks_in_turns`."""
    for found in portions(observed):
        if found is not None:
            return found
    raise AssertionError("the last portion is the document")


async def blocks_in_turns(observed: Observed) -> documents.Blocks:
    """The same, with the event loop turning in between. Records may change meanwhile: each block is as it was
    when it had its turn."""
    for found in portions(observed):
        if found is not None:
            return found
        await asyncio.sleep(0)
    raise AssertionError("the last portion is the document")


def portions(observed: Observed) -> Iterator[documents.Blocks | None]:
    """None after each portion, and the document at last."""
    compiler = observed.compiler
    if compiler is None:
        yield documents.Blocks(
            node=clean(observed.node), pools=[], blocks=[], borrowed_in=[], borrowed_out=[]
        )
        return
    tables = compiler.tables
    table, pools = tables.blocks, _Pools(tables)
    usages = _usages.setdefault(compiler, {})
    pod_cidrs = tables.pod_cidrs
    networks = {*table.networks(), *pod_cidrs}
    yield None
    runs: list[list[tuple[tuple[int, int, int], Network]]] = []
    for some in _batched(networks):
        runs.append(sorted((_order(network), network) for network in some))
        yield None
    found: list[documents.Block] = []
    for some in _batched(network for _, network in merge(*runs)):
        found += [
            _block(tables, network, pools, usages, pod_cidrs.get(network))
            for network in some
            if network in table or network in pod_cidrs
        ]
        yield None
    for network in usages.keys() - networks:
        del usages[network]
    borrowed_in: list[documents.Borrowed] = []
    for into in _batched(_borrowed_in(tables)):
        borrowed_in += into
        yield None
    borrowed_out: list[documents.Borrowed] = []
    for out in _batched(_borrowed_out(tables)):
        borrowed_out += out
        yield None
    yield documents.Blocks(
        node=clean(observed.node),
        pools=pools.as_documents(),
        blocks=found,
        borrowed_in=borrowed_in,
        borrowed_out=borrowed_out,
    )


def _batched(items: Iterable[T]) -> Iterator[list[T]]:
    """Lists of `PORTION` items, the last one shorter."""
    rest = iter(items)
    while some := list(islice(rest, PORTION)):
        yield some


def _order(network: Network) -> tuple[int, int, int]:
    return network.version, int(network.network_address), network.prefixlen


@dataclass(slots=True)
class _Sums:
    blocks: int = 0
    allocated: int = 0
    borrowed: int = 0


class _Pools:
    """Which pool holds a block, the smallest that does, and what all blocks of each come to."""

    def __init__(self, tables: Tables) -> None:
        self._pools = sorted(tables.pools.values(), key=lambda pool: (*_order(pool.cidr), pool.name))
        self._by_cidr: dict[Network, IPPool] = {}
        for pool in self._pools:
            self._by_cidr.setdefault(pool.cidr, pool)
        lengths = Counter((cidr.version, cidr.prefixlen) for cidr in self._by_cidr)
        self._lengths = {
            version: sorted((length for known, length in lengths if known == version), reverse=True)
            for version in (4, 6)
        }
        self._heads = {
            (
                cidr.version,
                cidr.prefixlen,
                int(cidr.network_address) >> (cidr.max_prefixlen - cidr.prefixlen),
            ): pool
            for cidr, pool in self._by_cidr.items()
        }
        self._sums: dict[str, _Sums] = {pool.name: _Sums() for pool in self._pools}

    def of(self, network: Network) -> IPPool | None:
        """The smallest that holds a block."""
        version, bits, address = network.version, network.max_prefixlen, int(network.network_address)
        for length in self._lengths[version]:
            if length <= network.prefixlen:
                pool = self._heads.get((version, length, address >> (bits - length)))
                if pool is not None:
                    return pool
        return None

    def any_of(self, version: int) -> bool:
        """Whether there are pools of a family."""
        return bool(self._lengths[version])

    def add(self, pool: IPPool, usage: BlockUsage | None) -> None:
        """Count a block of it."""
        sums = self._sums[pool.name]
        sums.blocks += 1
        if usage is not None:
            sums.allocated += usage.allocated
            sums.borrowed += usage.borrowed

    def as_documents(self) -> list[documents.Pool]:
        """All, in the order of their ranges."""
        return [self._document(pool) for pool in self._pools]

    def _document(self, pool: IPPool) -> documents.Pool:
        sums = self._sums[pool.name]
        modes = (("vxlan", pool.vxlan_mode), ("ipip", pool.ipip_mode))
        name, mode = next((one for one in modes if one[1] is not EncapsulationMode.NEVER), modes[0])
        return documents.Pool(
            name=clean(pool.name),
            cidr=str(pool.cidr),
            family=FAMILY_NAMES[Family.of(pool.cidr)],
            disabled=pool.disabled,
            bgp_export=not pool.disable_bgp_export,
            encapsulation=_ENCAPSULATION[mode].format(name),
            size=min(pool.cidr.num_addresses, MOST),
            blocks=sums.blocks,
            allocated=sums.allocated,
            borrowed=sums.borrowed,
        )


def _usage(record: IPAMBlock, usages: _Usages) -> BlockUsage:
    """How full a block is, counted once for each version of its record."""
    known = usages.get(record.cidr)
    if known is not None and known[0] is record:
        return known[1]
    usage = block_usage(record)
    usages[record.cidr] = record, usage
    return usage


def _block(
    tables: Tables, network: Network, pools: _Pools, usages: _Usages, host_local: str | None
) -> documents.Block:
    """One block; `host_local` is the node whose pod CIDR it is."""
    table = tables.blocks
    claims, record = table.affinities(network), table.ipam_block(network)
    verdict, pool = table.verdict(network), pools.of(network)
    usage = None if record is None else _usage(record, usages)
    if pool is not None:
        pools.add(pool, usage)
    claim = _claim_that_counts(claims, record)
    owned = verdict.owned
    if host_local is not None:
        key, problem = Key(Node.kind, host_local), None
    else:
        key = record.key if record is not None else claims[0].key
        problem = _problem(tables, network, claims, record, verdict)
    if problem is None and pool is None and pools.any_of(network.version):
        problem = "is in no IPPool"
    return documents.Block(
        cidr=str(network),
        family=FAMILY_NAMES[Family.of(network)],
        pool=None if pool is None else clean(pool.name),
        owner=clean_or_none(_owner(record, claim, host_local)),
        state=None if claim is None else claim.state.value,
        ours=owned is not None,
        advertised=owned is not None and owned.advertise,
        blackholed=owned is not None and owned.blackhole,
        size=min(network.num_addresses, MOST),
        allocated=None if usage is None else usage.allocated,
        lent=[]
        if usage is None
        else [documents.Lent(node=clean(node), addresses=count) for node, count in usage.lent.items()],
        problem=clean_or_none(problem),
        record=clean(str(key)),
    )


def _owner(record: IPAMBlock | None, claim: BlockAffinity | None, host_local: str | None) -> str | None:
    """Whose it is: IPAM's word counts most, a node's or whatever else has an affinity."""
    if record is not None and record.affinity is not None:
        return record.host or record.affinity
    if host_local is not None:
        return host_local
    return None if claim is None else claim.node


def _claim_that_counts(claims: Sequence[BlockAffinity], record: IPAMBlock | None) -> BlockAffinity | None:
    """The affinity of the block's owner; else the first that is not deleted."""
    host = None if record is None else record.host
    there = [claim for claim in claims if not claim.deleted]
    return next((claim for claim in there if claim.node == host), there[0] if there else None)


def _problem(
    tables: Tables,
    network: Network,
    claims: Sequence[BlockAffinity],
    record: IPAMBlock | None,
    verdict: Verdict,
) -> str | None:
    """What is wrong with a block, of whatever node."""
    if verdict.problems:
        return verdict.problems[0].reason
    if len(claims) == 1 and record is not None and claims[0].node == record.host and _plain(claims[0]):
        return None  # as nearly all
    known = tables.blocks.known
    for node in dict.fromkeys(claim.node for claim in claims):
        if node != tables.options.node:
            found = judge(node, network, claims, () if record is None else (record,), known).problems
            if found:
                return f"node {node}: {found[0].reason}"
    if record is not None and record.host is not None and not any(c.node == record.host for c in claims):
        return f"belongs to node {record.host}, which has no affinity for it: nobody advertises it"
    return None


def _plain(claim: BlockAffinity) -> bool:
    return claim.state.value == "confirmed" and not claim.deleted


def _borrowed_in(tables: Tables) -> Iterator[documents.Borrowed]:
    """What workloads of this node have of others' blocks."""
    found = [(network, one.borrowed) for network, one in tables.blocks.verdicts.items() if one.borrowed]
    for network, borrowed in sorted(found, key=lambda item: _order(item[0])):
        for one in borrowed:
            yield documents.Borrowed(
                address=str(one.address),
                block=str(network),
                owner=clean_or_none(one.owner),
                node=clean(tables.options.node),
                pod=clean_or_none(one.pod),
            )


def _borrowed_out(tables: Tables) -> Iterator[documents.Borrowed]:
    """What others have of this node's blocks; a tunnel's address too."""
    table, node = tables.blocks, tables.options.node
    owned = [network for network, one in table.verdicts.items() if one.owned is not None]
    for network in sorted(owned, key=_order):
        record = table.ipam_block(network)
        for address, attribute in () if record is None else record.allocated():
            if attribute.node is not None and attribute.node != node:
                yield documents.Borrowed(
                    address=str(address),
                    block=str(network),
                    owner=clean(node),
                    node=clean(attribute.node),
                    pod="tunnel" if is_tunnel(attribute) else clean_or_none(pod_of(attribute)),
                )


__all__ = ["MOST", "PORTION", "blocks", "blocks_in_turns", "portions"]

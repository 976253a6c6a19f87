"""`IPPool`, `BlockAffinity` and `IPAMBlock`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import ClassVar

import msgspec

from routed.resources import readers
from routed.resources.fields import Fields, InvalidValueError, show
from routed.resources.record import NO_LABELS, Header, Record
from routed.resources.selector import Selector
from routed.resources.values import Address, Network


class EncapsulationMode(StrEnum):
    """`ipipMode` and `vxlanMode`."""

    NEVER = "Never"
    ALWAYS = "Always"
    CROSS_SUBNET = "CrossSubnet"


class AffinityState(StrEnum):
    """`BlockAffinity.spec.state`; an empty text is CONFIRMED."""

    CONFIRMED = "confirmed"
    PENDING = "pending"
    PENDING_DELETION = "pendingDeletion"


class IPPool(Record, frozen=True, kw_only=True, gc=False):
    """A range that blocks are cut from. `block_size` is the prefix length of a block."""

    kind: ClassVar[str] = "IPPool"

    cidr: Network
    ipip_mode: EncapsulationMode = EncapsulationMode.NEVER
    vxlan_mode: EncapsulationMode = EncapsulationMode.NEVER
    disable_bgp_export: bool = False
    disabled: bool = False
    node_selector: Selector | None = None
    block_size: int
    nat_outgoing: bool = False


class BlockAffinity(Record, frozen=True, kw_only=True, gc=False):
    """A node's claim on a block. Where `deleted`, it counts as absent."""

    kind: ClassVar[str] = "BlockAffinity"

    node: str
    cidr: Network
    state: AffinityState = AffinityState.CONFIRMED
    deleted: bool = False


class BlockAttribute(msgspec.Struct, frozen=True, gc=False):
    """Whose an allocated address is: `attributes[]`. `secondary` has `node`, `namespace`, `pod`."""

    handle_id: str | None = None
    secondary: Mapping[str, str] = NO_LABELS

    @property
    def node(self) -> str | None:
        """The node whose workload or tunnel has the address."""
        return self.secondary.get("node")


class IPAMBlock(Record, frozen=True, kw_only=True, gc=False):
    """A block and who has its addresses. `affinity` is `host:<node>`, another owner's text, or None.

    `allocations` has an entry for each address from the first on: an index into `attributes`, or None where
    the address is free. Where `deleted`, the block counts as absent."""

    kind: ClassVar[str] = "IPAMBlock"

    cidr: Network
    affinity: str | None = None
    allocations: tuple[int | None, ...] = ()
    attributes: tuple[BlockAttribute, ...] = ()
    strict_affinity: bool = False
    deleted: bool = False

    @property
    def host(self) -> str | None:
        """The node that the block's affinity names, None where it names none."""
        if self.affinity is not None and self.affinity.startswith("host:"):
            return self.affinity.removeprefix("host:") or None
        return None

    def allocated(self) -> Iterator[tuple[Address, BlockAttribute]]:
        """Each address in use with its attribute (an empty one where the record's index points nowhere)."""
        first = self.cidr.network_address
        for offset, index in enumerate(self.allocations):
            if index is not None:
                known = 0 <= index < len(self.attributes)
                yield first + offset, self.attributes[index] if known else BlockAttribute()


# By IP version: the block size where a pool gives none, and the bounds of what it may give.
_BLOCK_SIZES = {4: (26, 20, 32), 6: (122, 116, 128)}


def read_ip_pool(header: Header, document: Fields) -> IPPool:
    """An IPPool from a document; faults go to the document's `faults`."""
    spec = document.section("spec")
    cidr = spec.required("cidr", readers.network)
    default, least, most = _BLOCK_SIZES[6 if cidr is not None and cidr.version == 6 else 4]
    pool = IPPool(
        name=header.name,
        labels=header.labels,
        cidr=cidr,
        ipip_mode=spec.read_or("ipipMode", readers.one_of(EncapsulationMode), EncapsulationMode.NEVER),
        vxlan_mode=spec.read_or("vxlanMode", readers.one_of(EncapsulationMode), EncapsulationMode.NEVER),
        disable_bgp_export=spec.read_or("disableBGPExport", readers.boolean, False),
        disabled=spec.read_or("disabled", readers.boolean, False),
        node_selector=spec.read("nodeSelector", readers.selector),
        block_size=spec.read_or("blockSize", readers.integer(least, most), default),
        nat_outgoing=spec.read_or("natOutgoing", readers.boolean, False),
    )
    if not spec.faults.rejected:
        _check_pool(pool, spec)
    return pool


def _check_pool(pool: IPPool, spec: Fields) -> None:
    """What Calico's API would refuse, but its BGP would go on with."""
    if pool.ipip_mode is not EncapsulationMode.NEVER and pool.cidr.version == 6:
        spec.warn("ipipMode", "IPIP carries IPv4 only: write Never for an IPv6 pool")
    if EncapsulationMode.NEVER not in (pool.ipip_mode, pool.vxlan_mode):
        spec.warn("vxlanMode", "a pool is either IPIP or VXLAN: write Never for one of them")
    if spec.get("blockSize") is not None and pool.block_size < pool.cidr.prefixlen:
        spec.warn("blockSize", f"a /{pool.block_size} is larger than the whole pool {pool.cidr}")


def read_block_affinity(header: Header, document: Fields) -> BlockAffinity:
    """A BlockAffinity from a document; faults go to the document's `faults`."""
    spec = document.section("spec")
    return BlockAffinity(
        name=header.name,
        labels=header.labels,
        node=spec.required("node", readers.name),
        cidr=spec.required("cidr", readers.network),
        state=spec.read_or("state", readers.one_of(AffinityState), AffinityState.CONFIRMED),
        deleted=spec.read_or("deleted", readers.boolean_or_text, False),
    )


def read_ipam_block(header: Header, document: Fields) -> IPAMBlock:
    """An IPAMBlock from a document; faults go to the document's `faults`."""
    spec = document.section("spec")
    block = IPAMBlock(
        name=header.name,
        labels=header.labels,
        cidr=spec.required("cidr", readers.network),
        affinity=spec.read("affinity", readers.text),
        allocations=_read_allocations(spec),
        attributes=tuple(
            BlockAttribute(entry.read("handle_id", readers.text), entry.read_texts("secondary"))
            for entry in spec.sections("attributes")
        ),
        strict_affinity=spec.read_or("strictAffinity", readers.boolean, False),
        deleted=spec.read_or("deleted", readers.boolean_or_text, False),
    )
    if not spec.faults.rejected:
        _check_block(block, spec)
    return block


def _index_or_none(value: object) -> int | None:
    if value is None or (type(value) is int and value >= 0):
        return value
    raise InvalidValueError(f"must be an index into attributes or null, but is {show(value)}")


def _read_allocations(spec: Fields) -> tuple[int | None, ...]:
    return spec.read_list("allocations", _index_or_none)


def _check_block(block: IPAMBlock, spec: Fields) -> None:
    if len(block.allocations) > block.cidr.num_addresses:
        spec.error(
            "allocations",
            f"has {len(block.allocations)} entries: {block.cidr} has {block.cidr.num_addresses} addresses",
        )
    for index, attribute in enumerate(block.allocations):
        if attribute is not None and attribute >= len(block.attributes):
            spec.warn_at(
                "allocations", index, f"{show(attribute)} points past the end of attributes: owner unknown"
            )

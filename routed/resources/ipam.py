"""`IPPool`, `BlockAffinity` and `IPAMBlock`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import ClassVar

import msgspec

from routed.resources.record import NO_LABELS, Record
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
    """Whose an allocated address is: `attributes[]`. `secondary` holds `node`, `namespace`, `pod` and more."""

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

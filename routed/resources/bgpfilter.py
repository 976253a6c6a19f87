"""`BGPFilter`: ordered rules for import and export, a list for each family."""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar

import msgspec

from routed.resources.record import Record
from routed.resources.values import CommunityValue, Network


class Action(StrEnum):
    """What a rule that matches decides."""

    ACCEPT = "Accept"
    REJECT = "Reject"


class MatchOperator(StrEnum):
    """How a rule's `cidr` is compared with the route's prefix."""

    EQUAL = "Equal"
    NOT_EQUAL = "NotEqual"
    IN = "In"
    NOT_IN = "NotIn"


class Source(StrEnum):
    """`source`: only routes that were learned by BGP."""

    REMOTE_PEERS = "RemotePeers"


class PeerType(StrEnum):
    """`peerType`: only peers of this type."""

    EBGP = "eBGP"
    IBGP = "iBGP"


class PrefixLength(msgspec.Struct, frozen=True, gc=False):
    """`prefixLength`: bounds, both included; None is the default of that end."""

    min: int | None = None
    max: int | None = None


class AddCommunity(msgspec.Struct, frozen=True, gc=False):
    """`addCommunity.value`."""

    value: CommunityValue


class PrependASPath(msgspec.Struct, frozen=True, gc=False):
    """`prependASPath.prefix`: the path begins with these afterwards, in this order."""

    prefix: tuple[int, ...]


class SetPriority(msgspec.Struct, frozen=True, gc=False):
    """`setPriority.value`: a kernel metric; LOCAL_PREF is 2147483647 less it."""

    value: int


Operation = AddCommunity | PrependASPath | SetPriority


class FilterRule(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One rule: it matches where everything that is given does. `operations` come with Accept only.

    `match_operator` is there exactly where `cidr` is, `prefix_length` only where `cidr` is; `cidr` is of the
    family of the rule's list."""

    action: Action
    match_operator: MatchOperator | None = None
    cidr: Network | None = None
    prefix_length: PrefixLength | None = None
    source: Source | None = None
    interface: str | None = None
    peer_type: PeerType | None = None
    communities: tuple[CommunityValue, ...] = ()
    as_path_prefix: tuple[int, ...] = ()
    priority: int | None = None
    operations: tuple[Operation, ...] = ()


class BGPFilter(Record, frozen=True, kw_only=True, gc=False):
    """Rules that BGPPeers refer to by name."""

    kind: ClassVar[str] = "BGPFilter"

    export_v4: tuple[FilterRule, ...] = ()
    import_v4: tuple[FilterRule, ...] = ()
    export_v6: tuple[FilterRule, ...] = ()
    import_v6: tuple[FilterRule, ...] = ()

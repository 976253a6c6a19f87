"""`BGPFilter`: ordered rules for import and export, a list for each family."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import ClassVar

import msgspec

from routed.resources import readers
from routed.resources.fields import Fields
from routed.resources.record import Header, Record
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
    family of the rule's list, `cidr_text` is how it was written."""

    action: Action
    match_operator: MatchOperator | None = None
    cidr: Network | None = None
    cidr_text: str | None = None
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


_LISTS = {"exportV4": 4, "importV4": 4, "exportV6": 6, "importV6": 6}


def read_bgp_filter(header: Header, document: Fields) -> BGPFilter:
    """A BGPFilter from a document; faults go to the document's `faults`."""
    spec = document.section("spec")
    rules = {
        name: tuple(_read_rule(rule, version) for rule in spec.sections(name))
        for name, version in _LISTS.items()
    }
    return BGPFilter(
        name=header.name,
        labels=header.labels,
        export_v4=rules["exportV4"],
        import_v4=rules["importV4"],
        export_v6=rules["exportV6"],
        import_v6=rules["importV6"],
    )


def _read_rule(rule: Fields, version: int) -> FilterRule:
    """One rule of a list whose routes are of IP `version`."""
    cidr = rule.read("cidr", readers.network)
    operator = rule.read("matchOperator", readers.one_of(MatchOperator))
    if cidr is not None and cidr.version != version:
        rule.error("cidr", f"{cidr} is IPv{cidr.version}: an IPv{version} prefix belongs in this list")
    if rule.get("cidr") is not None and rule.get("matchOperator") is None:
        rule.error("matchOperator", "is missing: give one with cidr, such as In")
    for name in ("matchOperator", "prefixLength"):
        if rule.get(name) is not None and rule.get("cidr") is None:
            rule.error(name, "needs a cidr beside it")
    action = rule.required("action", readers.one_of(Action))
    operations = _read_operations(rule)
    if operations and action is Action.REJECT:
        rule.error("operations", "need action Accept: a rejected route is not changed")
    return FilterRule(
        action=action,
        match_operator=operator,
        cidr=cidr,
        cidr_text=rule.read("cidr", readers.text) if cidr is not None else None,
        prefix_length=_read_prefix_length(rule, version),
        source=rule.read("source", readers.one_of(Source)),
        interface=rule.read("interface", readers.interface_pattern),
        peer_type=rule.read("peerType", readers.one_of(PeerType)),
        communities=rule.section("communities").read_list("values", readers.community),
        as_path_prefix=rule.read_list("asPathPrefix", readers.as_number),
        priority=rule.read("priority", readers.integer(1, readers.MAX_METRIC)),
        operations=operations,
    )


def _read_prefix_length(rule: Fields, version: int) -> PrefixLength | None:
    if rule.get("prefixLength") is None:
        return None
    bounds = rule.section("prefixLength")
    in_range = readers.integer(0, 32 if version == 4 else 128)
    least, most = bounds.read("min", in_range), bounds.read("max", in_range)
    if least is not None and most is not None and least > most:
        bounds.error("min", f"{least} is over max, {most}: no prefix is in between")
    return PrefixLength(least, most)


def _read_add_community(operation: Fields) -> AddCommunity:
    return AddCommunity(operation.required("value", readers.community))


def _read_prepend_as_path(operation: Fields) -> PrependASPath:
    if not operation.items("prefix"):
        operation.error("prefix", "is missing: give the AS numbers to prepend")
    return PrependASPath(operation.read_list("prefix", readers.as_number))


def _read_set_priority(operation: Fields) -> SetPriority:
    return SetPriority(operation.required("value", readers.integer(1, readers.MAX_METRIC)))


_OPERATIONS: dict[str, Callable[[Fields], Operation]] = {
    "addCommunity": _read_add_community,
    "prependASPath": _read_prepend_as_path,
    "setPriority": _read_set_priority,
}


def _read_operations(rule: Fields) -> tuple[Operation, ...]:
    operations = []
    for index, entry in enumerate(rule.sections("operations")):
        given = [name for name in _OPERATIONS if entry.get(name) is not None]
        if len(given) != 1:
            rule.error_at("operations", index, f"must hold exactly one of {', '.join(_OPERATIONS)}")
            continue
        operations.append(_OPERATIONS[given[0]](entry.section(given[0])))
    return tuple(operations)

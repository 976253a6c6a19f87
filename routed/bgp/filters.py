"""BGPFilters at work: compiled rules to functions on a route.

A filter's first rule that matches ends it: accept, perhaps with other attributes, or reject. Where none does,
the next filter is asked, and after the last the policy. Rules see a route as BIRD's filters do: towards an
external peer the AS path begins with our own AS already, and LOCAL_PREF is still there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase

from routed.bgp.as_path import AsPath, SegmentType, prepend
from routed.bgp.attributes import AttributeSet
from routed.bgp.nlri import Family
from routed.bgp.path import Path, PathFilter
from routed.intent.filters import CompiledFilter, CompiledRule, Direction, PrefixMatch, local_pref
from routed.resources import (
    AddCommunity,
    LargeCommunity,
    MatchOperator,
    Operation,
    PrependASPath,
    SetPriority,
    StandardCommunity,
)

FilterFunction = Callable[[bytes, Path, AttributeSet], AttributeSet | str | None]
"""NLRI, path and attributes in. Out come the attributes of an accepted route, the rule that rejects it, for
people, or None: no rule matches."""

_Test = Callable[[bytes, Path, AttributeSet], bool]


def compile_filter_function(
    compiled: CompiledFilter, family: Family, direction: Direction, *, ibgp: bool
) -> FilterFunction | None:
    """One filter for one family, direction and type of peer; None where it has no rule for these."""
    rules = [
        (_tests(rule, family), rule, f"{compiled.record}, rule {number} of {direction.value}V{version}")
        for version in (6 if family is Family.IPV6 else 4,)
        for number, rule in enumerate(compiled.of(family, direction), 1)
        if rule.ibgp is None or rule.ibgp is ibgp
    ]
    if not rules:
        return None

    def function(nlri: bytes, path: Path, attributes: AttributeSet) -> AttributeSet | str | None:
        for tests, rule, name in rules:
            if all(test(nlri, path, attributes) for test in tests):
                return apply_operations(attributes, rule.operations) if rule.accept else f"rejected by {name}"
        return None

    return function


def export_functions(
    filters: Iterable[CompiledFilter], family: Family, *, ibgp: bool
) -> list[FilterFunction]:
    """What a peer's filters, in order, do with what it is to be told."""
    return _functions(filters, family, Direction.EXPORT, ibgp)


def import_policy(filters: Iterable[CompiledFilter], family: Family, *, ibgp: bool) -> PathFilter | None:
    """What a peer's filters, in order, do with what it sends; None: nothing, accept all."""
    return compile_import(_functions(filters, family, Direction.IMPORT, ibgp))


def _functions(
    filters: Iterable[CompiledFilter], family: Family, direction: Direction, ibgp: bool
) -> list[FilterFunction]:
    functions = (compile_filter_function(one, family, direction, ibgp=ibgp) for one in filters)
    return [function for function in functions if function is not None]


def compile_import(filters: Sequence[FilterFunction]) -> PathFilter | None:
    """The import policy of a peer with these filters, in order; None where there are none: accept all."""
    if not filters:
        return None

    def policy(nlri: bytes, path: Path) -> Path:
        if path.ineligible is not None:
            return path
        for function in filters:
            outcome = function(nlri, path, path.attributes)
            if isinstance(outcome, str):
                return path.source.rejected_path(path, outcome)
            if outcome is not None:
                # A rule's accept ends the import filter before the line that would give a better than normal
                # LOCAL_PREF its preference over local routes.
                return path.source.accepted_path(path, outcome)
        return path

    return policy


def apply_operations(attributes: AttributeSet, operations: Sequence[Operation]) -> AttributeSet:
    """The attributes after a rule's operations, in order."""
    for operation in operations:
        match operation:
            case AddCommunity(value=StandardCommunity() as value):
                number = value.asn << 16 | value.value
                if number not in attributes.communities:
                    attributes = attributes.replace(communities=(*attributes.communities, number))
            case AddCommunity(value=LargeCommunity() as value):
                triple = (value.global_administrator, value.local_data_1, value.local_data_2)
                if triple not in attributes.large_communities:
                    large = (*attributes.large_communities, triple)
                    attributes = attributes.replace(large_communities=large)
            case PrependASPath(prefix=prefix):
                path = attributes.as_path
                for asn in reversed(prefix):
                    path = prepend(path, asn)
                attributes = attributes.replace(as_path=path)
            case SetPriority(value=priority):
                attributes = attributes.replace(local_pref=local_pref(priority))
    return attributes


def _tests(rule: CompiledRule, family: Family) -> list[_Test]:
    """What a rule asks for, the cheap and the selective first."""
    tests: list[_Test] = []
    if rule.prefix is not None:
        inside = prefix_test(rule.prefix, family)
        tests.append(lambda nlri, path, attributes: inside(nlri))
    if rule.learned_by_bgp:
        tests.append(lambda nlri, path, attributes: path.source.kind.bgp)
    if (pattern := rule.interface) is not None:
        tests.append(
            lambda nlri, path, attributes: path.interface is not None and fnmatchcase(path.interface, pattern)
        )
    if (wanted := rule.local_pref) is not None:
        tests.append(lambda nlri, path, attributes: attributes.local_pref == wanted)
    match rule.community:
        case StandardCommunity(asn=asn, value=value):
            number = asn << 16 | value
            tests.append(lambda nlri, path, attributes: number in attributes.communities)
        case LargeCommunity() as large:
            triple = tuple(large)
            tests.append(lambda nlri, path, attributes: triple in attributes.large_communities)
    if beginning := rule.as_path_prefix:
        tests.append(lambda nlri, path, attributes: begins_with(attributes.as_path, beginning))
    return tests


def begins_with(path: AsPath, asns: Sequence[int]) -> bool:
    """Whether an AS path begins with these ASes; one in a set counts for its place (BIRD's path mask)."""
    at = 0
    for segment in path:
        if at == len(asns):
            break
        if segment.type != SegmentType.AS_SEQUENCE:
            if asns[at] not in segment.asns:
                return False
            at += 1
            continue
        for asn in segment.asns:
            if at == len(asns):
                break
            if asn != asns[at]:
                return False
            at += 1
    return at == len(asns)


def prefix_test(match: PrefixMatch, family: Family) -> Callable[[bytes], bool]:
    """`PrefixMatch.matches` on NLRI, without making an object of the prefix."""
    bits = family.max_prefix_length
    octets = family.address_octets
    length = match.network.prefixlen
    shift = bits - length
    wanted = int(match.network.network_address) >> shift
    equal = match.operator in (MatchOperator.EQUAL, MatchOperator.NOT_EQUAL)
    positive = match.operator in (MatchOperator.EQUAL, MatchOperator.IN)
    low = max(match.minimum, length)
    high = min(match.maximum, length) if equal else match.maximum

    def test(nlri: bytes) -> bool:
        inside = low <= nlri[0] <= high and int.from_bytes(nlri[1:].ljust(octets, b"\0")) >> shift == wanted
        return inside is positive

    return test

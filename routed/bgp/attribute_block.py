"""The path attributes of an UPDATE: from the octets a peer sent to a checked `AttributeBlock` (RFC 7606).

MP_REACH_NLRI and MP_UNREACH_NLRI are cut out first, because they hold NLRI and differ in each message; what
is left is the same for many messages, and is decoded once and remembered.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from routed.bgp.attributes import AttributeSet, intern_attributes
from routed.bgp.errors import Action, ErrorCode, Finding, SessionError, UpdateError
from routed.bgp.four_octet_as import Values, merge_as4
from routed.bgp.path_attributes import (
    EXTENDED_LENGTH,
    OPTIONAL,
    PARTIAL,
    REGISTRY,
    TRANSITIVE,
    Code,
    Malformed,
    attribute_name,
    encode_attribute,
)

_MANDATORY: Final = (Code.ORIGIN, Code.AS_PATH)  # NEXT_HOP too, but only for NLRI outside of MP_REACH


@dataclass(frozen=True, slots=True)
class AttributeBlock:
    """The attributes of an UPDATE but MP_REACH and MP_UNREACH, checked.

    `wire` is in the form of `AttributeSet.wire`; `next_hop` is NEXT_HOP's value. `missing` names the
    mandatory attributes that are not there. `empty`: there was no attribute at all. `ipv4` is the set for
    the NLRI field where nothing is missing and nothing was found: the rule, made ready for the shortest
    way."""

    wire: bytes
    next_hop: bytes | None
    findings: tuple[Finding, ...]
    missing: tuple[Code, ...]
    empty: bool
    ipv4: AttributeSet | None


@dataclass(frozen=True, slots=True)
class MpSplit:
    """An attribute block with MP_REACH_NLRI's and MP_UNREACH_NLRI's values cut out of it; `rest` is what is
    left."""

    rest: bytes
    reach: bytes | None
    unreach: bytes | None
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class _Overrun:
    """The block ends in the middle of an attribute; `code` where so much can be read."""

    code: int | None
    at: int


def _walk(raw: bytes) -> Iterator[tuple[int, int, int, int, int] | _Overrun]:
    """As `path_attributes.split_attributes`, but for octets from a peer: ends with an `_Overrun` where the
    last attribute does not fit (RFC 7606 section 4)."""
    at, end = 0, len(raw)
    while at < end:
        flags = raw[at]
        value = at + (4 if flags & EXTENDED_LENGTH else 3)
        if value > end:
            yield _Overrun(raw[at + 1] if at + 1 < end else None, at)
            return
        length = raw[value - 1] | (raw[value - 2] << 8 if flags & EXTENDED_LENGTH else 0)
        stop = value + length
        if stop > end:
            yield _Overrun(raw[at + 1], at)
            return
        yield flags, raw[at + 1], at, value, stop
        at = stop


def split_mp(raw: bytes) -> MpSplit:
    """Cut the multiprotocol attributes out of a block.

    Raises `SessionError` where one is there twice (RFC 7606 section 3 g) or is cut short, since its NLRI then
    cannot be found (section 3 j)."""
    found: dict[int, bytes] = {}
    findings = []
    rest = []
    kept_to = 0
    for item in _walk(raw):
        if isinstance(item, _Overrun):
            if item.code in (Code.MP_REACH, Code.MP_UNREACH):
                raise _list_error(f"{attribute_name(item.code)} is longer than the attributes")
            break
        flags, code, at, start, end = item
        if code in (Code.MP_REACH, Code.MP_UNREACH):
            if code in found:
                raise _list_error(f"{attribute_name(code)} is there twice")
            found[code] = raw[start:end]
            if wrong := _flags_finding(flags, code):
                findings.append(wrong)
            rest.append(raw[kept_to:at])
            kept_to = end
    rest.append(raw[kept_to:])
    return MpSplit(b"".join(rest), found.get(Code.MP_REACH), found.get(Code.MP_UNREACH), tuple(findings))


def decode_block(raw: bytes, *, four_octet_as: bool, ibgp: bool) -> AttributeBlock:
    """Check the attributes in `raw`, which holds no multiprotocol attribute.

    Raises `SessionError` for a well-known attribute that nobody knows (RFC 4271 section 6.3)."""
    values: Values = {}
    seen: set[int] = set()
    findings: list[Finding] = []
    for item in _walk(raw):
        if isinstance(item, _Overrun):
            text = f"the attributes end inside {attribute_name(item.code) if item.code else 'an attribute'}"
            findings.append(
                Finding(Action.TREAT_AS_WITHDRAW, UpdateError.MALFORMED_ATTRIBUTE_LIST, text, item.code)
            )
            break
        flags, code, at, start, end = item
        if code in seen:  # RFC 7606 section 3 g: the first counts
            text = f"{attribute_name(code)} is there more than once"
            findings.append(
                Finding(Action.ATTRIBUTE_DISCARD, UpdateError.MALFORMED_ATTRIBUTE_LIST, text, code)
            )
            continue
        seen.add(code)
        value = raw[start:end]
        if code not in REGISTRY:
            if not flags & OPTIONAL:
                raise SessionError(
                    ErrorCode.UPDATE_MESSAGE,
                    UpdateError.UNRECOGNIZED_WELL_KNOWN,
                    raw[at:end],
                    f"attribute {code} is said to be well-known and is not",
                )
            if flags & TRANSITIVE:  # RFC 4271 section 5: passed on, and marked
                values[code] = (OPTIONAL | TRANSITIVE | PARTIAL, value)
            continue
        finding = _check_known(flags, code, value, values, four_octet_as=four_octet_as, ibgp=ibgp)
        if finding:
            findings.append(finding)
    return _finish(values, tuple(findings), empty=not raw, merge=not four_octet_as)


def _check_known(
    flags: int, code: int, value: bytes, values: Values, *, four_octet_as: bool, ibgp: bool
) -> Finding | None:
    """Put one registered attribute into `values`, or say why not."""
    row = REGISTRY[code]
    if not (ibgp or row.from_ebgp):
        text = f"{attribute_name(code)} from an external peer"
        return Finding(Action.ATTRIBUTE_DISCARD, UpdateError.OPTIONAL_ATTRIBUTE, text, code)
    if four_octet_as and code in (Code.AS4_PATH, Code.AS4_AGGREGATOR):  # RFC 6793 section 4.1
        text = f"{attribute_name(code)} from a peer that writes AS numbers in 4 octets"
        return Finding(Action.ATTRIBUTE_DISCARD, UpdateError.OPTIONAL_ATTRIBUTE, text, code)
    if wrong := _flags_finding(flags, code):
        return wrong
    try:
        kept = row.check(value, four_octet_as)
    except Malformed as error:
        return Finding(row.on_malformed, error.subcode, f"{attribute_name(code)} {error}", code)
    partial = flags & PARTIAL if row.flags == OPTIONAL | TRANSITIVE else 0
    values[code] = (row.flags | partial, kept)
    return None


def _flags_finding(flags: int, code: int) -> Finding | None:
    """RFC 7606 section 3 c."""
    if (flags ^ REGISTRY[code].flags) & (OPTIONAL | TRANSITIVE) == 0:
        return None
    text = f"{attribute_name(code)} has the flags {flags:#04x}"
    return Finding(Action.TREAT_AS_WITHDRAW, UpdateError.ATTRIBUTE_FLAGS, text, code)


def _finish(values: Values, findings: tuple[Finding, ...], *, empty: bool, merge: bool) -> AttributeBlock:
    if merge:
        merge_as4(values)
    next_hop = values.pop(Code.NEXT_HOP, (0, None))[1]
    wire = b"".join(encode_attribute(values[code][0], code, values[code][1]) for code in sorted(values))
    missing = tuple(code for code in _MANDATORY if code not in values)
    ipv4 = None
    if next_hop is not None and not missing and not findings:
        ipv4 = intern_attributes(wire, next_hop)
    return AttributeBlock(wire, next_hop, findings, missing, empty, ipv4)


def _list_error(reason: str) -> SessionError:
    return SessionError(ErrorCode.UPDATE_MESSAGE, UpdateError.MALFORMED_ATTRIBUTE_LIST, b"", reason)


class BlockCache:
    """Blocks by the octets they came in, for one way to read them. Bounded: when `recent` is full it becomes
    the old generation, and what nobody asked for since is forgotten."""

    MAX_BLOCKS: Final = 2048
    MAX_OCTETS: Final = 1 << 20

    def __init__(self, *, four_octet_as: bool, ibgp: bool) -> None:
        self.four_octet_as = four_octet_as
        self.ibgp = ibgp
        self.recent: dict[bytes, AttributeBlock] = {}
        self._old: dict[bytes, AttributeBlock] = {}
        self._octets = 0

    def block(self, raw: bytes) -> AttributeBlock:
        """The block in `raw`, which holds no multiprotocol attribute. Raises as `decode_block`."""
        block = self.recent.get(raw)
        if block is not None:
            return block
        block = self._old.pop(raw, None)
        if block is None:
            block = decode_block(raw, four_octet_as=self.four_octet_as, ibgp=self.ibgp)
        if len(self.recent) >= self.MAX_BLOCKS or self._octets >= self.MAX_OCTETS:
            self._old, self.recent, self._octets = self.recent, {}, 0
        self.recent[raw] = block
        self._octets += len(raw)
        return block

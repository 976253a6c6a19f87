"""UPDATE messages: parse what a peer sent, encode what we send (RFC 4271, RFC 4760, RFC 7606).

Parsing is written for speed, because a full table is a million NLRI behind some thousands of attribute
blocks, and most blocks are repeated: the octets of a block are looked up, and only what was never seen is
decoded.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import accumulate
from typing import Final

from routed.bgp.attribute_block import AttributeBlock, BlockCache, split_mp
from routed.bgp.attributes import AttributeSet, intern_attributes
from routed.bgp.errors import Action, ErrorCode, Finding, SessionError, UpdateError
from routed.bgp.four_octet_as import to_two_octet_as
from routed.bgp.nlri import Family
from routed.bgp.nlri_codec import BadNlri, parse_nlri
from routed.bgp.path_attributes import (
    OPTIONAL,
    Code,
    attribute_name,
    encode_attribute,
    split_attributes,
    valid_next_hop,
)

MAX_MESSAGE_OCTETS: Final = 4096
_MARKER: Final = b"\xff" * 16
_HEADER_OCTETS: Final = 19
_UPDATE_TYPE: Final = 2
_SAFI_UNICAST: Final = 1
_FAMILIES: Final = {int(family): family for family in Family}
_NEXT_HOP_OCTETS: Final = {Family.IPV4: (4,), Family.IPV6: (16, 32)}  # RFC 4760 section 3, RFC 2545 section 3

Prefixes = list[bytes]


class Update:
    """What one UPDATE says. Apply `withdrawn` first, then `announced`: a prefix in both is announced (RFC
    4271 section 4.3).

    announced    family, attributes, and the NLRI that have them
    withdrawn    family and NLRI; those of routes in error too (RFC 7606, treat-as-withdraw)
    end_of_rib   the family whose initial update is complete (RFC 4724 section 2)
    errors       what was wrong and handled; for logs and counters
    """

    __slots__ = ("announced", "end_of_rib", "errors", "withdrawn")

    def __init__(
        self,
        announced: list[tuple[Family, AttributeSet, Prefixes]],
        withdrawn: list[tuple[Family, Prefixes]],
        end_of_rib: Family | None,
        errors: list[Finding],
    ) -> None:
        self.announced = announced
        self.withdrawn = withdrawn
        self.end_of_rib = end_of_rib
        self.errors = errors

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Update):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in self.__slots__)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Update({', '.join(f'{name}={getattr(self, name)!r}' for name in self.__slots__)})"


class UpdateParser:
    """Reads the UPDATEs of one session; what was negotiated is fixed in it."""

    __slots__ = ("_cache", "_families", "_ipv4")

    def __init__(self, *, four_octet_as: bool, families: frozenset[Family], ibgp: bool) -> None:
        self._cache = _block_cache(four_octet_as, ibgp)
        self._families = families
        self._ipv4 = Family.IPV4 in families

    def parse(self, body: bytes) -> Update:
        """The content of an UPDATE; `body` is the message without its header.

        Raises `SessionError` only where the session must be reset."""
        end = len(body)
        if end < 4:
            raise SessionError(
                ErrorCode.MESSAGE_HEADER, 2, (end + _HEADER_OCTETS).to_bytes(2), "UPDATE is too short"
            )
        if not (body[0] or body[1]):
            # IPv4 NLRI with attributes seen before: a slice, a look-up, and the prefixes. This path is the
            # bulk of a table transfer; all else goes the thorough way below, which gives the same for these.
            attributes_end = 4 + (body[2] << 8 | body[3])
            if attributes_end < end and self._ipv4:
                block = self._cache.recent.get(body[4:attributes_end])
                if block is not None and block.ipv4 is not None:
                    try:
                        return Update(
                            [(Family.IPV4, block.ipv4, parse_nlri(body[attributes_end:], 32))], [], None, []
                        )
                    except BadNlri as error:
                        raise _network_error(error) from None
        return self._parse_any(body)

    def _parse_any(self, body: bytes) -> Update:
        withdrawn_end = 2 + int.from_bytes(body[:2])
        attributes_at = withdrawn_end + 2
        attributes_end = attributes_at + int.from_bytes(body[withdrawn_end:attributes_at])
        if max(attributes_at, attributes_end) > len(body):  # RFC 4271 section 6.3
            raise SessionError(
                ErrorCode.UPDATE_MESSAGE,
                UpdateError.MALFORMED_ATTRIBUTE_LIST,
                b"",
                "the lengths of withdrawn routes and attributes exceed the message",
            )
        if len(body) == 4:  # RFC 4724 section 2
            return Update([], [], Family.IPV4 if self._ipv4 else None, [])
        mp = split_mp(body[attributes_at:attributes_end])
        block = self._cache.block(mp.rest)
        reading = _Reading(self._families, block, [*mp.findings, *block.findings])
        reading.withdrawn_field(body[2:withdrawn_end])
        if mp.unreach is not None:
            reading.mp_unreach(mp.unreach)
        if mp.reach is not None:
            reading.mp_reach(mp.reach)
        reading.nlri_field(body[attributes_end:])
        only_unreach = mp.reach is None and block.empty
        if not only_unreach:
            reading.check_reachable()
        is_end_of_rib = only_unreach and withdrawn_end == 2 and attributes_end == len(body)
        return Update(
            reading.announced,
            reading.withdrawn,
            reading.empty_unreach if is_end_of_rib else None,
            reading.findings,
        )


class _Reading:
    """One UPDATE being read the thorough way."""

    def __init__(self, families: frozenset[Family], block: AttributeBlock, findings: list[Finding]) -> None:
        self._families = families
        self._block = block
        self._reachable = False
        self._withdraw = any(finding.action >= Action.TREAT_AS_WITHDRAW for finding in findings)
        self.findings = findings
        self.announced: list[tuple[Family, AttributeSet, Prefixes]] = []
        self.withdrawn: list[tuple[Family, Prefixes]] = []
        self.empty_unreach: Family | None = None

    def withdrawn_field(self, data: bytes) -> None:
        """RFC 7606 section 3 i."""
        if data and self._negotiated(Family.IPV4, _SAFI_UNICAST, "withdrawn routes"):
            self.withdrawn.append((Family.IPV4, _prefixes(data, Family.IPV4, _network_error)))

    def nlri_field(self, data: bytes) -> None:
        if not data:
            return
        self._reachable = True
        if self._negotiated(Family.IPV4, _SAFI_UNICAST, "NLRI"):
            prefixes = _prefixes(data, Family.IPV4, _network_error)
            missing = self._block.missing
            if self._block.next_hop is None:
                missing = (*missing, Code.NEXT_HOP)
            self._route(Family.IPV4, self._block.next_hop or b"", prefixes, missing)

    def mp_unreach(self, value: bytes) -> None:
        """RFC 4760 section 4."""
        if len(value) < 3:
            raise _mp_error("MP_UNREACH_NLRI is shorter than 3 octets")
        family = self._negotiated(value[0] << 8 | value[1], value[2], "MP_UNREACH_NLRI")
        if family is None:
            return
        prefixes = _prefixes(value[3:], family, _mp_error)
        if prefixes:
            self.withdrawn.append((family, prefixes))
        else:
            self.empty_unreach = family

    def mp_reach(self, value: bytes) -> None:
        """RFC 4760 section 3; the octet behind the next hop is ignored."""
        if len(value) < 5:
            raise _mp_error("MP_REACH_NLRI is shorter than 5 octets")
        family = self._negotiated(value[0] << 8 | value[1], value[2], "MP_REACH_NLRI")
        if family is None:
            self._reachable = True
            return
        hop_octets = value[3]
        if hop_octets not in _NEXT_HOP_OCTETS[family] or 5 + hop_octets > len(value):
            raise _mp_error(f"MP_REACH_NLRI has a next hop of {hop_octets} octets")  # RFC 7606 section 7.11
        prefixes = _prefixes(value[5 + hop_octets :], family, _mp_error)
        if prefixes:
            self._reachable = True
            self._route(family, _usable_next_hop(value[4 : 4 + hop_octets]), prefixes, self._block.missing)

    def check_reachable(self) -> None:
        """RFC 7606 section 5.2: attributes without NLRI, and an error in them: the NLRI may be lost in it."""
        if self._reachable:
            return
        for finding in self.findings:
            if finding.action >= Action.TREAT_AS_WITHDRAW:
                reason = f"{finding.text}, and no NLRI to withdraw"
                raise SessionError(ErrorCode.UPDATE_MESSAGE, finding.subcode, b"", reason)

    def _route(self, family: Family, next_hop: bytes, prefixes: Prefixes, missing: tuple[Code, ...]) -> None:
        """Announce, or withdraw for the errors there are (RFC 7606 sections 2 and 3 d)."""
        before = len(self.findings)
        if missing:
            names = ", ".join(attribute_name(code) for code in missing)
            self._withdraw_finding(UpdateError.MISSING_WELL_KNOWN, f"{names} missing", missing[0])
        elif not valid_next_hop(next_hop):
            self._withdraw_finding(
                UpdateError.INVALID_NEXT_HOP,
                f"the next hop {next_hop.hex()} is no host address",
                Code.MP_REACH,
            )
        if self._withdraw or len(self.findings) > before:
            self.withdrawn.append((family, prefixes))
        else:
            self.announced.append((family, intern_attributes(self._block.wire, next_hop), prefixes))

    def _withdraw_finding(self, subcode: UpdateError, text: str, code: Code) -> None:
        self.findings.append(Finding(Action.TREAT_AS_WITHDRAW, subcode, text, code))

    def _negotiated(self, afi: int, safi: int, where: str) -> Family | None:
        """The family, or None and a finding where the session does not carry it (RFC 4760 section 7)."""
        family = _FAMILIES.get(afi) if safi == _SAFI_UNICAST else None
        if family in self._families:
            return family
        text = f"{where} of AFI {afi}, SAFI {safi}, which was not negotiated"
        self.findings.append(Finding(Action.IGNORE, UpdateError.OPTIONAL_ATTRIBUTE, text))
        return None


def _usable_next_hop(next_hop: bytes) -> bytes:
    """Of 32 octets only what is an address of its kind: some speakers fill the other half with zeros."""
    if len(next_hop) != 32:
        return next_hop
    link_local = next_hop[16] == 0xFE and next_hop[17] & 0xC0 == 0x80
    if not any(next_hop[:16]):
        return next_hop[16:]
    return next_hop if link_local else next_hop[:16]


def _network_error(error: BadNlri | str) -> SessionError:
    """RFC 7606 section 5.3."""
    return SessionError(ErrorCode.UPDATE_MESSAGE, UpdateError.INVALID_NETWORK_FIELD, b"", str(error))


def _mp_error(error: BadNlri | str) -> SessionError:
    """RFC 7606 section 5.3, RFC 4760 section 7."""
    return SessionError(ErrorCode.UPDATE_MESSAGE, UpdateError.OPTIONAL_ATTRIBUTE, b"", str(error))


def _prefixes(data: bytes, family: Family, make_error: Callable[[BadNlri | str], SessionError]) -> Prefixes:
    try:
        return parse_nlri(data, family.max_prefix_length)
    except BadNlri as error:
        raise make_error(error) from None


@lru_cache
def _block_cache(four_octet_as: bool, ibgp: bool) -> BlockCache:
    """Shared by all sessions that read attributes the same way: peers of a reflector send the same blocks."""
    return BlockCache(four_octet_as=four_octet_as, ibgp=ibgp)


@lru_cache
def _parser(four_octet_as: bool, families: frozenset[Family], ibgp: bool) -> UpdateParser:
    return UpdateParser(four_octet_as=four_octet_as, families=families, ibgp=ibgp)


def parse_update(
    body: bytes | memoryview, *, four_octet_as: bool, families: frozenset[Family], ibgp: bool
) -> Update:
    """The content of an UPDATE; `body` is the message without its header. `families` are those negotiated.

    Raises `SessionError` only where RFC 4271 and RFC 7606 demand that the session is reset."""
    return _parser(four_octet_as, families, ibgp).parse(bytes(body))


def _message(withdrawn: bytes, attributes: bytes, nlri: bytes) -> bytes:
    octets = _HEADER_OCTETS + 4 + len(withdrawn) + len(attributes) + len(nlri)
    head = struct.pack("!16sHBH", _MARKER, octets, _UPDATE_TYPE, len(withdrawn))
    return b"".join((head, withdrawn, len(attributes).to_bytes(2), attributes, nlri))


def _packed(nlri: Sequence[bytes], room: int) -> Iterator[bytes]:
    """`nlri` in order, joined into pieces of at most `room` octets, each as full as it can be."""
    together = b"".join(nlri)
    if len(together) <= room:
        if together:
            yield together
        return
    ends = list(accumulate(map(len, nlri)))  # one bisection a message, not one addition and test an NLRI
    first = start = 0
    while first < len(ends):
        last = bisect_right(ends, start + room, lo=first)
        yield together[start : ends[last - 1]]
        first, start = last, ends[last - 1]


def encode_announcements(
    family: Family,
    attributes: AttributeSet,
    nlri: Sequence[bytes],
    *,
    four_octet_as: bool = True,
    max_size: int = MAX_MESSAGE_OCTETS,
) -> list[bytes]:
    """Whole UPDATE messages, header included, that announce `nlri` with `attributes`, as few as will hold
    them.

    IPv4 with a next hop of 4 octets goes as NEXT_HOP and NLRI; everything else in MP_REACH_NLRI, which is the
    first attribute (RFC 7606 section 5.1). `four_octet_as` and `max_size` are what was negotiated.

    Where the attributes leave no room for a prefix, the messages withdraw the NLRI instead: the peer must not
    keep what we advertised before (RFC 8654 section 4)."""
    wire = attributes.wire if four_octet_as else to_two_octet_as(attributes.wire)
    next_hop = attributes.next_hop
    room = max_size - _HEADER_OCTETS - 4 - len(wire)
    if family is Family.IPV4 and len(next_hop) == 4:
        wire = _with_next_hop(wire, next_hop)
        room -= 7
        if room < 33 and not _fits(nlri, room):
            return encode_withdrawals(family, nlri, max_size=max_size)
        return [_message(b"", wire, piece) for piece in _packed(nlri, room)]
    head = struct.pack("!HBB", family, _SAFI_UNICAST, len(next_hop)) + next_hop + b"\0"
    room -= 4 + len(head)
    if room < 33 and not _fits(nlri, room):
        return encode_withdrawals(family, nlri, max_size=max_size)
    return [
        _message(b"", encode_attribute(OPTIONAL, Code.MP_REACH, head + piece) + wire, b"")
        for piece in _packed(nlri, room)
    ]


def _fits(nlri: Sequence[bytes], room: int) -> bool:
    return all(len(one) <= room for one in nlri)


def _with_next_hop(wire: bytes, next_hop: bytes) -> bytes:
    """NEXT_HOP in its place by type: attributes are in ascending order (RFC 4271 section 5)."""
    at = 0
    for _flags, code, start, _value, end in split_attributes(wire):
        if code > Code.NEXT_HOP:
            at = start
            break
        at = end
    return b"".join((wire[:at], b"\x40\x03\x04", next_hop, wire[at:]))


def encode_withdrawals(
    family: Family, nlri: Sequence[bytes], *, max_size: int = MAX_MESSAGE_OCTETS
) -> list[bytes]:
    """Whole UPDATE messages, header included, that withdraw `nlri`: IPv4 in the Withdrawn Routes field, IPv6
    in MP_UNREACH_NLRI."""
    room = max_size - _HEADER_OCTETS - 4
    if family is Family.IPV4:
        return [_message(piece, b"", b"") for piece in _packed(nlri, room)]
    head = struct.pack("!HB", family, _SAFI_UNICAST)
    return [
        _message(b"", encode_attribute(OPTIONAL, Code.MP_UNREACH, head + piece), b"")
        for piece in _packed(nlri, room - 4 - len(head))
    ]


def encode_end_of_rib(family: Family) -> bytes:
    """The End-of-RIB marker (RFC 4724 section 2)."""
    if family is Family.IPV4:
        return _message(b"", b"", b"")
    unreach = struct.pack("!HB", family, _SAFI_UNICAST)
    return _message(b"", encode_attribute(OPTIONAL, Code.MP_UNREACH, unreach), b"")

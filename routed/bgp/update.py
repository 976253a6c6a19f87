"""UPDATE messages: parse what a peer sent, encode what we send (RFC 4271, RFC 4760, RFC 7606).

Parsing is written for speed, because a full table is a million NLRI behind some thousands of attribute
blocks, and most blocks are repeated: the octets of a block are looked up, and only what was never seen is
decoded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Final

from routed.bgp.attribute_block import AttributeBlock, BlockCache, split_mp
from routed.bgp.attributes import AttributeSet, intern_attributes
from routed.bgp.capabilities import SAFI_UNICAST
from routed.bgp.errors import Action, ErrorCode, Finding, HeaderError, SessionError, UpdateError
from routed.bgp.message import HEADER_OCTETS, MAX_MESSAGE_OCTETS
from routed.bgp.nlri import Family
from routed.bgp.nlri_codec import BadNlri, parse_add_path_nlri, parse_nlri
from routed.bgp.path_attributes import EXTENDED_LENGTH, OPTIONAL, Code, attribute_name, valid_next_hop
from routed.bgp.update_encode import encode_announcements, encode_end_of_rib, encode_withdrawals

__all__ = [
    "MAX_MESSAGE_OCTETS",
    "Prefixes",
    "Update",
    "UpdateParser",
    "encode_announcements",
    "encode_end_of_rib",
    "encode_withdrawals",
    "parse_update",
    "update_parser",
]

_FAMILIES: Final = {int(family): family for family in Family}
# How the value of MP_REACH_NLRI begins: AFI 2, SAFI 1, 16 octets of next hop.
_IPV6_UNICAST_GLOBAL_HOP: Final = b"\x00\x02\x01\x10"
_NEXT_HOP_OCTETS: Final = {Family.IPV4: (4,), Family.IPV6: (16, 32)}  # RFC 4760 section 3, RFC 2545 section 3

Prefixes = list[bytes]
"""NLRI; route keys, each a path identifier and an NLRI, in a family with ADD-PATH (RFC 7911)."""

NlriReader = Callable[[bytes, int], Prefixes]
"""`parse_nlri` or `parse_add_path_nlri`."""


class Update:
    """What one UPDATE says. Apply `withdrawn` first, then `announced`: a prefix in both is announced (RFC
    4271 section 4.3).

    announced    family, attributes, and the NLRI that have them (with ADD-PATH: the route keys)
    withdrawn    family and NLRI (or route keys); those of routes in error too (RFC 7606, treat-as-withdraw)
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
    """Reads the UPDATEs of sessions that negotiated the same; it has no state but what it saw before."""

    __slots__ = ("_cache", "_ipv4", "_ipv6", "_readers")

    def __init__(
        self,
        *,
        four_octet_as: bool,
        families: frozenset[Family],
        ibgp: bool,
        add_path: frozenset[Family] = frozenset(),
    ) -> None:
        """`add_path`: the families in which the peer sends path identifiers."""
        self._cache = _block_cache(four_octet_as, ibgp)
        self._readers = {
            family: parse_add_path_nlri if family in add_path else parse_nlri for family in families
        }
        self._ipv4 = self._readers.get(Family.IPV4)
        self._ipv6 = self._readers.get(Family.IPV6)

    def parse(self, body: bytes) -> Update:
        """The content of an UPDATE; `body` is the message without its header.

        Raises `SessionError` only where the session must be reset."""
        size = len(body)
        if size < 4:
            length = (size + HEADER_OCTETS).to_bytes(2)
            raise SessionError(ErrorCode.MESSAGE_HEADER, HeaderError.BAD_LENGTH, length, "a short UPDATE")
        if not (body[0] or body[1]):
            # NLRI of one family behind attributes that were seen before: a slice, a look-up, and the
            # prefixes. This is the bulk of a table transfer, 1 us for an UPDATE of 4 routes where the
            # thorough way below takes 5; it says the same of them.
            end = 4 + (body[2] << 8 | body[3])
            if end < size:
                block = self._cache.recent.get(body[4:end])
                if block is not None and block.ipv4 is not None and self._ipv4 is not None:
                    prefixes = _prefixes(self._ipv4, body[end:], Family.IPV4, _network_error)
                    return Update([(Family.IPV4, block.ipv4, prefixes)], [], None, [])
            elif end == size and end > 4 and body[5] == Code.MP_REACH and self._ipv6 is not None:
                update = self._parse_seen_ipv6(body, self._ipv6)
                if update is not None:
                    return update
        return self._parse_any(body)

    def _parse_seen_ipv6(self, body: bytes, reader: NlriReader) -> Update | None:
        """An UPDATE whose first attribute is MP_REACH_NLRI, as RFC 7606 section 5.1 wants it; None where it
        is not just IPv6 prefixes with a global next hop and attributes that were seen before."""
        extended = body[4] == OPTIONAL | EXTENDED_LENGTH
        at = 8 if extended else 7
        if (not extended and body[4] != OPTIONAL) or not body.startswith(_IPV6_UNICAST_GLOBAL_HOP, at):
            return None
        end = at + (body[6] << 8 | body[7] if extended else body[6])
        nlri_at = at + 21
        if not nlri_at < end <= len(body):
            return None
        block = self._cache.recent.get(body[end:])
        next_hop = body[at + 4 : at + 20]
        if block is None or block.missing or block.findings or not valid_next_hop(next_hop):
            return None
        prefixes = _prefixes(reader, body[nlri_at:end], Family.IPV6, _mp_error)
        return Update([(Family.IPV6, intern_attributes(block.wire, next_hop), prefixes)], [], None, [])

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
            return Update([], [], Family.IPV4 if self._ipv4 is not None else None, [])
        mp = split_mp(body[attributes_at:attributes_end])
        block = self._cache.block(mp.rest)
        reading = _Reading(self._readers, block, [*mp.findings, *block.findings])
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

    def __init__(
        self, readers: Mapping[Family, NlriReader], block: AttributeBlock, findings: list[Finding]
    ) -> None:
        self._readers = readers
        self._block = block
        self._reachable = False
        self._withdraw = any(finding.action >= Action.TREAT_AS_WITHDRAW for finding in findings)
        self.findings = findings
        self.announced: list[tuple[Family, AttributeSet, Prefixes]] = []
        self.withdrawn: list[tuple[Family, Prefixes]] = []
        self.empty_unreach: Family | None = None

    def withdrawn_field(self, data: bytes) -> None:
        """RFC 7606 section 3 i."""
        if data and self._negotiated(Family.IPV4, SAFI_UNICAST, "withdrawn routes"):
            self.withdrawn.append((Family.IPV4, self._prefixes(data, Family.IPV4, _network_error)))

    def nlri_field(self, data: bytes) -> None:
        if not data:
            return
        self._reachable = True
        if self._negotiated(Family.IPV4, SAFI_UNICAST, "NLRI"):
            prefixes = self._prefixes(data, Family.IPV4, _network_error)
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
        prefixes = self._prefixes(value[3:], family, _mp_error)
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
        prefixes = self._prefixes(value[5 + hop_octets :], family, _mp_error)
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

    def _prefixes(
        self, data: bytes, family: Family, make_error: Callable[[BadNlri | str], SessionError]
    ) -> Prefixes:
        return _prefixes(self._readers[family], data, family, make_error)

    def _withdraw_finding(self, subcode: UpdateError, text: str, code: Code) -> None:
        self.findings.append(Finding(Action.TREAT_AS_WITHDRAW, subcode, text, code))

    def _negotiated(self, afi: int, safi: int, where: str) -> Family | None:
        """The family, or None and a finding where the session does not carry it (RFC 4760 section 7)."""
        family = _FAMILIES.get(afi) if safi == SAFI_UNICAST else None
        if family in self._readers:
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


def _prefixes(
    reader: NlriReader,
    data: bytes,
    family: Family,
    make_error: Callable[[BadNlri | str], SessionError],
) -> Prefixes:
    try:
        return reader(data, family.max_prefix_length)
    except BadNlri as error:
        raise make_error(error) from None


@lru_cache
def _block_cache(four_octet_as: bool, ibgp: bool) -> BlockCache:
    """Shared by all sessions that read attributes the same way: peers of a reflector send the same blocks."""
    return BlockCache(four_octet_as=four_octet_as, ibgp=ibgp)


@lru_cache
def update_parser(
    *, four_octet_as: bool, families: frozenset[Family], ibgp: bool, add_path: frozenset[Family]
) -> UpdateParser:
    """The one parser of all sessions that negotiated this; the arguments are those of `UpdateParser`."""
    return UpdateParser(four_octet_as=four_octet_as, families=families, ibgp=ibgp, add_path=add_path)


def parse_update(
    body: bytes | memoryview,
    *,
    four_octet_as: bool,
    families: frozenset[Family],
    ibgp: bool,
    add_path: frozenset[Family] = frozenset(),
) -> Update:
    """The content of an UPDATE; `body` is the message without its header. `families` are those negotiated,
    `add_path` those among them in which the peer sends path identifiers.

    Raises `SessionError` only where RFC 4271 and RFC 7606 demand that the session is reset."""
    parser = update_parser(four_octet_as=four_octet_as, families=families, ibgp=ibgp, add_path=add_path)
    return parser.parse(bytes(body))

"""Malformed UPDATEs, and what RFC 7606 says is to come of each: a table of data.

Every row is about one prefix that its sender has announced soundly before, so that a withdrawal shows."""

from __future__ import annotations

import enum
import ipaddress
import struct
from collections.abc import Iterable
from dataclasses import dataclass

from tests.raw_peer import (
    AGGREGATOR,
    AS_PATH,
    ATOMIC_AGGREGATE,
    CLUSTER_LIST,
    COMMUNITIES,
    EXTENDED,
    EXTENDED_COMMUNITIES,
    LARGE_COMMUNITIES,
    LOCAL_PREF,
    MED,
    MP_REACH,
    MP_UNREACH,
    NEXT_HOP,
    OPTIONAL,
    ORIGIN,
    ORIGINATOR_ID,
    TRANSITIVE,
    Attribute,
    encode_as_path,
    encode_prefix,
    family,
)

#: The senders by name: AS, and the prefix that rows are about.
OUTSIDE, INSIDE, IPV6 = "outside", "inside", "ipv6"
ASNS = {OUTSIDE: 65001, INSIDE: 64512, IPV6: 65002}
TARGETS = {OUTSIDE: "198.18.2.0/24", INSIDE: "198.19.2.0/24", IPV6: "2001:db8:f2::/48"}
WELL_KNOWN, BOTH = TRANSITIVE, OPTIONAL | TRANSITIVE
AS4_PATH, AS4_AGGREGATOR = 17, 18
PLACEHOLDER = "next hop"


class Outcome(enum.Enum):
    """What becomes of the UPDATE."""

    WITHDRAW = "treat-as-withdraw"
    DISCARD = "attribute discard"
    ACCEPT = "accept"
    RESET = "session reset"


@dataclass(frozen=True, slots=True)
class Row:
    """One UPDATE: who sends it, what it is, and what must come of it."""

    name: str
    section: str
    """Of RFC 7606 unless it says another."""
    sender: str
    body: bytes
    outcome: Outcome
    passed_on: frozenset[int] = frozenset()
    """Attributes that the watcher is told besides the usual ones."""
    subcode: int | None = None
    """Of the NOTIFICATION (code 3) where the session is reset."""

    @property
    def id(self) -> str:
        """For pytest."""
        return f"{self.sender}: {self.name}".replace(" ", "-")


def raw(code: int, value: bytes, flags: int) -> bytes:
    """One attribute."""
    return Attribute(flags, code, value).encode()


def good(sender: str) -> dict[int, bytes]:
    """The attributes of a sound announcement by code, but for the routes of an IPv6 one."""
    path = encode_as_path(() if sender == INSIDE else (ASNS[sender],))
    found = {ORIGIN: raw(ORIGIN, b"\0", WELL_KNOWN), AS_PATH: raw(AS_PATH, path, WELL_KNOWN)}
    if sender != IPV6:
        found[NEXT_HOP] = raw(NEXT_HOP, next_hop(sender), WELL_KNOWN)
    if sender == INSIDE:
        found[LOCAL_PREF] = raw(LOCAL_PREF, (2147482623).to_bytes(4, "big"), WELL_KNOWN)
    return found


ADDRESSES = {OUTSIDE: "192.0.2.1", INSIDE: "192.0.2.2", IPV6: "2001:db8::1"}


def next_hop(sender: str) -> bytes:
    """The sender's own address."""
    return ipaddress.ip_address(ADDRESSES[sender]).packed


def reach(nlri: bytes | None = None, hop: bytes | None = None, afi: int = 2, flags: int = OPTIONAL) -> bytes:
    """MP_REACH_NLRI of the IPv6 sender."""
    hop = next_hop(IPV6) if hop is None else hop
    nlri = encode_prefix(TARGETS[IPV6]) if nlri is None else nlri
    return raw(MP_REACH, struct.pack("!HBB", afi, 1, len(hop)) + hop + b"\0" + nlri, flags)


def body(attributes: Iterable[bytes], nlri: bytes = b"", withdrawn: bytes = b"") -> bytes:
    """An UPDATE with sound lengths around whatever is given."""
    joined = b"".join(attributes)
    return struct.pack("!H", len(withdrawn)) + withdrawn + struct.pack("!H", len(joined)) + joined + nlri


def changed(sender: str, *, drop: Iterable[int] = (), more: bytes = b"") -> bytes:
    """A sound announcement without some attributes and with some octets behind the rest."""
    parts = [value for code, value in good(sender).items() if code not in set(drop)]
    if sender == IPV6:
        return body([reach(), *parts, more])
    return body([*parts, more], encode_prefix(TARGETS[sender]))


def instead(sender: str, code: int, value: bytes, flags: int) -> bytes:
    """A sound announcement with one attribute replaced, or added."""
    return changed(sender, drop=[code], more=raw(code, value, flags))


def _withdraws() -> Iterable[Row]:
    by_any = [
        ("ORIGIN of 2 octets", "7.1", ORIGIN, b"\0\0", WELL_KNOWN),
        ("ORIGIN of no octet", "7.1", ORIGIN, b"", WELL_KNOWN),
        ("ORIGIN 3", "7.1", ORIGIN, b"\3", WELL_KNOWN),
        ("ORIGIN with the optional flag", "3 c", ORIGIN, b"\0", BOTH),
        ("AS_PATH of 1 octet", "7.2", AS_PATH, b"\2", WELL_KNOWN),
        ("AS_PATH whose segment overruns", "7.2", AS_PATH, b"\2\2\0\0\0\1", WELL_KNOWN),
        ("AS_PATH whose segment underruns", "7.2", AS_PATH, b"\2\1\0\0\0\1\2", WELL_KNOWN),
        ("AS_PATH with an empty segment", "7.2", AS_PATH, b"\2\0", WELL_KNOWN),
        ("AS_PATH with segment type 9", "7.2", AS_PATH, b"\x09\1\0\0\0\1", WELL_KNOWN),
        ("AS_PATH not transitive", "3 c", AS_PATH, b"", 0),
        ("MULTI_EXIT_DISC of 3 octets", "7.4", MED, bytes(3), OPTIONAL),
        ("MULTI_EXIT_DISC transitive", "3 c", MED, bytes(4), BOTH),
        ("COMMUNITIES of no octet", "7.8", COMMUNITIES, b"", BOTH),
        ("COMMUNITIES of 7 octets", "7.8", COMMUNITIES, bytes(7), BOTH),
        ("COMMUNITIES not transitive", "3 c", COMMUNITIES, bytes(4), OPTIONAL),
        ("EXTENDED COMMUNITIES of 12 octets", "7.14", EXTENDED_COMMUNITIES, bytes(12), BOTH),
        ("LARGE_COMMUNITY of 8 octets", "RFC 8092 6", LARGE_COMMUNITIES, bytes(8), BOTH),
        ("LARGE_COMMUNITY of no octet", "RFC 8092 6", LARGE_COMMUNITIES, b"", BOTH),
        ("ATOMIC_AGGREGATE optional", "3 c", ATOMIC_AGGREGATE, b"", BOTH),
    ]
    for sender in (OUTSIDE, INSIDE, IPV6):
        for name, section, code, value, flags in by_any:
            yield Row(name, section, sender, instead(sender, code, value, flags), Outcome.WITHDRAW)
        for code, name in ((ORIGIN, "ORIGIN"), (AS_PATH, "AS_PATH")):
            yield Row(f"no {name}", "3 d", sender, changed(sender, drop=[code]), Outcome.WITHDRAW)
        for name, octets in (
            ("the last attribute overruns", b"\x80\x04\x05\0\0"),
            ("half an attribute header", b"\x80\x04"),
            ("an extended length cut short", b"\x90\x04\0"),
        ):
            yield Row(name, "4", sender, changed(sender, more=octets), Outcome.WITHDRAW)
    for sender in (OUTSIDE, INSIDE):
        for name, section, value, flags in (
            ("NEXT_HOP of 3 octets", "7.3", bytes((192, 0, 2)), WELL_KNOWN),
            ("NEXT_HOP of 16 octets", "7.3", bytes(15) + b"\1", WELL_KNOWN),
            ("NEXT_HOP 0.0.0.0", "RFC 4271 6.3", bytes(4), WELL_KNOWN),
            ("NEXT_HOP multicast", "RFC 4271 6.3", bytes((224, 0, 0, 1)), WELL_KNOWN),
            ("NEXT_HOP optional", "3 c", bytes((192, 0, 2, 1)), BOTH),
        ):
            yield Row(name, section, sender, instead(sender, NEXT_HOP, value, flags), Outcome.WITHDRAW)
        yield Row("no NEXT_HOP", "3 d", sender, changed(sender, drop=[NEXT_HOP]), Outcome.WITHDRAW)
        nothing = body([], encode_prefix(TARGETS[sender]))
        yield Row("no attribute at all", "3 d", sender, nothing, Outcome.WITHDRAW)
    for name, section, code, value, flags in (
        ("LOCAL_PREF of 5 octets", "7.5", LOCAL_PREF, bytes(5), WELL_KNOWN),
        ("ORIGINATOR_ID of 5 octets", "7.9", ORIGINATOR_ID, bytes(5), OPTIONAL),
        ("CLUSTER_LIST of no octet", "7.10", CLUSTER_LIST, b"", OPTIONAL),
        ("CLUSTER_LIST of 7 octets", "7.10", CLUSTER_LIST, bytes(7), OPTIONAL),
    ):
        yield Row(name, section, INSIDE, instead(INSIDE, code, value, flags), Outcome.WITHDRAW)
    both = raw(ATOMIC_AGGREGATE, b"\0", WELL_KNOWN) + raw(MED, bytes(3), OPTIONAL)
    yield Row("a discard and a withdraw", "3 h", OUTSIDE, changed(OUTSIDE, more=both), Outcome.WITHDRAW)
    wrong_flags = body([reach(flags=BOTH), *good(IPV6).values()])
    yield Row("MP_REACH_NLRI transitive", "3 c", IPV6, wrong_flags, Outcome.WITHDRAW)


def _discards() -> Iterable[Row]:
    for sender in (OUTSIDE, INSIDE, IPV6):
        for name, section, code, value, flags in (
            ("ATOMIC_AGGREGATE of 1 octet", "7.6", ATOMIC_AGGREGATE, b"\0", WELL_KNOWN),
            ("AGGREGATOR of 6 octets", "7.7", AGGREGATOR, bytes(6), BOTH),
            ("AS4_PATH from a 4-octet speaker", "RFC 6793 4.1", AS4_PATH, b"\2\1\0\1\0\0", BOTH),
            ("AS4_AGGREGATOR from a 4-octet speaker", "RFC 6793 4.1", AS4_AGGREGATOR, bytes(8), BOTH),
        ):
            made = instead(sender, code, value, flags)
            yield Row(name, section, sender, made, Outcome.DISCARD)
    for name, section, code, value, flags in (
        ("LOCAL_PREF from outside", "7.5", LOCAL_PREF, (2147483647).to_bytes(4, "big"), WELL_KNOWN),
        ("LOCAL_PREF of 9 octets from outside", "7.5", LOCAL_PREF, bytes(9), WELL_KNOWN),
        ("ORIGINATOR_ID from outside", "7.9", ORIGINATOR_ID, bytes(4), OPTIONAL),
        ("CLUSTER_LIST from outside", "7.10", CLUSTER_LIST, b"", OPTIONAL),
    ):
        # What an internal peer is told has a LOCAL_PREF of our own: its value shows that this one is gone.
        made = instead(OUTSIDE, code, value, flags)
        yield Row(name, section, OUTSIDE, made, Outcome.DISCARD)
    twice = raw(MED, b"\0\0\0\1", OPTIONAL) + raw(MED, b"\0\0\0\2", OPTIONAL)
    # The first of them counts; to the watcher, who is external, no MED goes anyway.
    yield Row("MULTI_EXIT_DISC twice", "3 g", INSIDE, changed(INSIDE, more=twice), Outcome.ACCEPT)
    unknown = raw(99, b"abc", BOTH) + raw(99, b"other", BOTH)
    octets = changed(OUTSIDE, more=unknown)
    yield Row("an unknown attribute twice", "3 g", OUTSIDE, octets, Outcome.ACCEPT, frozenset({99}))
    yield Row(
        "an unknown attribute, not transitive",
        "RFC 4271 5",
        OUTSIDE,
        instead(OUTSIDE, 98, b"abc", OPTIONAL),
        Outcome.DISCARD,
    )
    yield Row(
        "an extended length that need not be",
        "4",
        OUTSIDE,
        instead(OUTSIDE, MED, bytes(4), OPTIONAL | EXTENDED),
        Outcome.ACCEPT,
        frozenset({MED}),
    )


def _resets() -> Iterable[Row]:
    target = encode_prefix(TARGETS[OUTSIDE])
    sound = list(good(OUTSIDE).values())
    for name, section, octets, subcode in (
        ("withdrawn routes longer than the message", "RFC 4271 6.3", b"\0\5\0\0\0\0", 1),
        ("attributes longer than the message", "RFC 4271 6.3", b"\0\0\0\5\0\0", 1),
        (
            "an unknown well-known attribute",
            "RFC 4271 6.3",
            body([*sound, raw(99, b"", WELL_KNOWN)], target),
            2,
        ),
        ("NLRI of 33 bits", "5.3", body(sound, b"\x21\1\2\3\4\5"), 10),
        ("NLRI cut short", "5.3", body(sound, target + b"\x18\x0a"), 10),
        ("a withdrawn route of 33 bits", "5.3", body([], b"", b"\x21\1\2\3\4\5"), 10),
        ("an error and no NLRI", "5.2", body([*sound, raw(MED, b"", OPTIONAL)]), 5),
    ):
        yield Row(name, section, OUTSIDE, octets, Outcome.RESET, subcode=subcode)
    sound = list(good(IPV6).values())
    hop = next_hop(IPV6)
    for name, section, octets, subcode in (
        ("MP_REACH_NLRI twice", "3 g", body([reach(), reach(), *sound]), 1),
        ("MP_REACH_NLRI with a next hop of 4 octets", "7.11", body([reach(hop=hop[:4]), *sound]), 9),
        ("MP_REACH_NLRI with a next hop of 24 octets", "7.11", body([reach(hop=hop + hop[:8]), *sound]), 9),
        ("MP_REACH_NLRI of 3 octets", "5.3", body([raw(MP_REACH, b"\0\2\1", OPTIONAL), *sound]), 9),
        ("MP_REACH_NLRI with 129 bits", "5.3", body([reach(b"\x81" + bytes(17)), *sound]), 9),
        ("MP_REACH_NLRI cut short", "5.3", body([reach(b"\x30\xfd\0"), *sound]), 9),
        ("MP_UNREACH_NLRI of 2 octets", "5.3", body([raw(MP_UNREACH, b"\0\2", OPTIONAL)]), 9),
        (
            "MP_UNREACH_NLRI cut short",
            "5.3",
            body([raw(MP_UNREACH, family(6) + b"\x30\xfd", OPTIONAL)]),
            9,
        ),
    ):
        yield Row(name, section, IPV6, octets, Outcome.RESET, subcode=subcode)


ROWS = (*_withdraws(), *_discards(), *_resets())

"""Error handling of UPDATE as RFC 7606 says: a table of faults with what each must lead to."""

from __future__ import annotations

import struct

import pytest

from routed.bgp.errors import Action, ErrorCode, SessionError, UpdateError
from routed.bgp.nlri import Family
from routed.bgp.update import Update, parse_update

V4, V6 = Family.IPV4, Family.IPV6
BOTH = frozenset(Family)

ORIGIN = b"\x40\x01\x01\x00"
AS_PATH = b"\x40\x02\x06\x02\x01\x00\x00\xfd\xe8"
AS_PATH_2 = b"\x40\x02\x04\x02\x01\xfd\xe8"
NEXT_HOP = b"\x40\x03\x04\x0a\x00\x00\x01"
LOCAL_PREF = b"\x40\x05\x04\x00\x00\x00\x64"
GOOD = ORIGIN + AS_PATH + NEXT_HOP + LOCAL_PREF
PREFIX = b"\x18\x0a\x01\x02"
PREFIX6 = b"\x20\xfd\x00\x00\x01"
HOP6 = b"\xfd" + bytes(14) + b"\x01"
LINK_LOCAL = b"\xfe\x80" + bytes(13) + b"\x02"


def attribute(flags: int, code: int, value: bytes) -> bytes:
    return bytes((flags, code, len(value))) + value


def reach(
    nlri: bytes = PREFIX6, *, afi: int = 2, safi: int = 1, hop: bytes = HOP6, flags: int = 0x80
) -> bytes:
    return attribute(flags, 14, struct.pack("!HBB", afi, safi, len(hop)) + hop + b"\0" + nlri)


def unreach(nlri: bytes = PREFIX6, *, afi: int = 2, safi: int = 1, flags: int = 0x80) -> bytes:
    return attribute(flags, 15, struct.pack("!HB", afi, safi) + nlri)


def body(attributes: bytes = b"", nlri: bytes = PREFIX, withdrawn: bytes = b"") -> bytes:
    return (
        struct.pack("!H", len(withdrawn)) + withdrawn + struct.pack("!H", len(attributes)) + attributes + nlri
    )


def parse(
    octets: bytes, *, ibgp: bool = True, four: bool = True, families: frozenset[Family] = BOTH
) -> Update:
    return parse_update(octets, four_octet_as=four, families=families, ibgp=ibgp)


def without(*codes: int) -> bytes:
    parts = {1: ORIGIN, 2: AS_PATH, 3: NEXT_HOP, 5: LOCAL_PREF}
    return b"".join(part for code, part in parts.items() if code not in codes)


WITHDRAW = [
    # RFC 7606 section 7.1
    ("ORIGIN of 2 octets", without(1) + attribute(0x40, 1, b"\0\0"), UpdateError.ATTRIBUTE_LENGTH),
    ("ORIGIN of 0 octets", without(1) + attribute(0x40, 1, b""), UpdateError.ATTRIBUTE_LENGTH),
    ("ORIGIN 3", without(1) + attribute(0x40, 1, b"\3"), UpdateError.INVALID_ORIGIN),
    # 7.2
    ("AS_PATH of 1 octet", without(2) + attribute(0x40, 2, b"\2"), UpdateError.MALFORMED_AS_PATH),
    (
        "AS_PATH segment overrun",
        without(2) + attribute(0x40, 2, b"\2\2\0\0\0\1"),
        UpdateError.MALFORMED_AS_PATH,
    ),
    (
        "AS_PATH segment underrun",
        without(2) + attribute(0x40, 2, b"\2\1\0\0\0\1\2"),
        UpdateError.MALFORMED_AS_PATH,
    ),
    ("AS_PATH segment empty", without(2) + attribute(0x40, 2, b"\2\0"), UpdateError.MALFORMED_AS_PATH),
    (
        "AS_PATH segment type 5",
        without(2) + attribute(0x40, 2, b"\5\1\0\0\0\1"),
        UpdateError.MALFORMED_AS_PATH,
    ),
    (
        "AS_PATH segment type 0",
        without(2) + attribute(0x40, 2, b"\0\1\0\0\0\1"),
        UpdateError.MALFORMED_AS_PATH,
    ),
    ("AS_CONFED_SEQUENCE", without(2) + attribute(0x40, 2, b"\3\1\0\0\0\1"), UpdateError.MALFORMED_AS_PATH),
    ("AS 0 (RFC 7607)", without(2) + attribute(0x40, 2, b"\2\1\0\0\0\0"), UpdateError.MALFORMED_AS_PATH),
    # 7.3
    ("NEXT_HOP of 3 octets", without(3) + attribute(0x40, 3, b"\x0a\0\0"), UpdateError.ATTRIBUTE_LENGTH),
    ("NEXT_HOP of 16 octets", without(3) + attribute(0x40, 3, HOP6), UpdateError.ATTRIBUTE_LENGTH),
    ("NEXT_HOP 0.0.0.0", without(3) + attribute(0x40, 3, bytes(4)), UpdateError.INVALID_NEXT_HOP),
    ("NEXT_HOP multicast", without(3) + attribute(0x40, 3, b"\xe0\0\0\1"), UpdateError.INVALID_NEXT_HOP),
    # 7.4, 7.5
    ("MED of 3 octets", GOOD + attribute(0x80, 4, bytes(3)), UpdateError.ATTRIBUTE_LENGTH),
    ("LOCAL_PREF of 5 octets", without(5) + attribute(0x40, 5, bytes(5)), UpdateError.ATTRIBUTE_LENGTH),
    # 7.8
    ("COMMUNITIES of 0 octets", GOOD + attribute(0xC0, 8, b""), UpdateError.OPTIONAL_ATTRIBUTE),
    ("COMMUNITIES of 6 octets", GOOD + attribute(0xC0, 8, bytes(6)), UpdateError.OPTIONAL_ATTRIBUTE),
    # 7.9, 7.10
    ("ORIGINATOR_ID of 5 octets", GOOD + attribute(0x80, 9, bytes(5)), UpdateError.ATTRIBUTE_LENGTH),
    ("CLUSTER_LIST of 0 octets", GOOD + attribute(0x80, 10, b""), UpdateError.OPTIONAL_ATTRIBUTE),
    ("CLUSTER_LIST of 7 octets", GOOD + attribute(0x80, 10, bytes(7)), UpdateError.OPTIONAL_ATTRIBUTE),
    # 7.14, RFC 8092 section 6
    ("EXTENDED_COMMUNITIES of 0 octets", GOOD + attribute(0xC0, 16, b""), UpdateError.OPTIONAL_ATTRIBUTE),
    (
        "EXTENDED_COMMUNITIES of 9 octets",
        GOOD + attribute(0xC0, 16, bytes(9)),
        UpdateError.OPTIONAL_ATTRIBUTE,
    ),
    ("LARGE_COMMUNITIES of 0 octets", GOOD + attribute(0xC0, 32, b""), UpdateError.OPTIONAL_ATTRIBUTE),
    ("LARGE_COMMUNITIES of 13 octets", GOOD + attribute(0xC0, 32, bytes(13)), UpdateError.OPTIONAL_ATTRIBUTE),
    # section 3 c
    ("ORIGIN optional", without(1) + attribute(0xC0, 1, b"\0"), UpdateError.ATTRIBUTE_FLAGS),
    ("NEXT_HOP not transitive", without(3) + attribute(0, 3, b"\x0a\0\0\1"), UpdateError.ATTRIBUTE_FLAGS),
    ("MED transitive", GOOD + attribute(0xC0, 4, bytes(4)), UpdateError.ATTRIBUTE_FLAGS),
    ("COMMUNITIES not transitive", GOOD + attribute(0x80, 8, bytes(4)), UpdateError.ATTRIBUTE_FLAGS),
    ("ATOMIC_AGGREGATE optional", GOOD + attribute(0xC0, 6, b""), UpdateError.ATTRIBUTE_FLAGS),
    # section 3 d
    ("no ORIGIN", without(1), UpdateError.MISSING_WELL_KNOWN),
    ("no AS_PATH", without(2), UpdateError.MISSING_WELL_KNOWN),
    ("no NEXT_HOP", without(3), UpdateError.MISSING_WELL_KNOWN),
    ("no attribute at all", b"", UpdateError.MISSING_WELL_KNOWN),
    # section 4
    ("the last attribute overruns", GOOD + b"\x80\x04\x05\0\0\0\0", UpdateError.MALFORMED_ATTRIBUTE_LIST),
    ("2 octets are left over", GOOD + b"\x80\x04", UpdateError.MALFORMED_ATTRIBUTE_LIST),
    ("3 octets, extended length", GOOD + b"\x90\x04\0", UpdateError.MALFORMED_ATTRIBUTE_LIST),
    ("an unknown attribute overruns", GOOD + b"\xc0\x63\x01", UpdateError.MALFORMED_ATTRIBUTE_LIST),
    # section 3 h: the strongest action counts
    (
        "a discard and a withdraw",
        GOOD + attribute(0x40, 6, b"\0") + attribute(0x80, 4, bytes(3)),
        UpdateError.ATTRIBUTE_LENGTH,
    ),
]


@pytest.mark.parametrize(
    ("attributes", "subcode"), [row[1:] for row in WITHDRAW], ids=[row[0] for row in WITHDRAW]
)
def test_treat_as_withdraw(attributes: bytes, subcode: UpdateError) -> None:
    for _ in range(2):  # as new, and from the cache
        update = parse(body(attributes))
        assert update.announced == []
        assert update.withdrawn == [(V4, [PREFIX])]
        assert update.end_of_rib is None
        strongest = max(update.errors, key=lambda finding: finding.action)
        assert strongest.action is Action.TREAT_AS_WITHDRAW
        assert strongest.subcode == subcode
        assert strongest.text


DISCARD = [
    ("ATOMIC_AGGREGATE of 1 octet", attribute(0x40, 6, b"\0"), "atomic_aggregate"),  # 7.6
    ("AGGREGATOR of 6 octets", attribute(0xC0, 7, bytes(6)), "aggregator"),  # 7.7
    ("AGGREGATOR with AS 0", attribute(0xC0, 7, bytes(8)), "aggregator"),  # RFC 7607
    (
        "AS4_PATH from a 4-octet peer",
        attribute(0xC0, 17, b"\2\1\0\1\0\0"),
        "as4_path",
    ),  # RFC 6793 section 4.1
    ("AS4_AGGREGATOR from a 4-octet peer", attribute(0xC0, 18, bytes(8)), "as4_aggregator"),
]


@pytest.mark.parametrize(("extra", "name"), [row[1:] for row in DISCARD], ids=[row[0] for row in DISCARD])
def test_attribute_discard(extra: bytes, name: str) -> None:
    for _ in range(2):  # as new, and from the cache
        update = parse(body(GOOD + extra))
        ((family, attributes, prefixes),) = update.announced
        assert (family, prefixes) == (V4, [PREFIX])
        assert name not in attributes.describe()
        assert attributes is parse(body(GOOD)).announced[0][1]
        (finding,) = update.errors
        assert finding.action is Action.ATTRIBUTE_DISCARD


@pytest.mark.parametrize(
    ("extra", "name"),
    [
        (LOCAL_PREF, "local_pref"),
        (attribute(0x40, 5, bytes(9)), "local_pref"),
        (attribute(0x80, 9, b"\1\2\3\4"), "originator_id"),
        (attribute(0x80, 9, bytes(3)), "originator_id"),
        (attribute(0x80, 10, b"\1\2\3\4"), "cluster_list"),
        (attribute(0x80, 10, b""), "cluster_list"),
    ],
)
def test_what_an_external_peer_has_no_say_in(extra: bytes, name: str) -> None:
    """RFC 7606 sections 7.5, 7.9 and 7.10: discarded, malformed or not."""
    update = parse(body(ORIGIN + AS_PATH + NEXT_HOP + extra), ibgp=False)
    ((_, attributes, _),) = update.announced
    assert name not in attributes.describe()
    assert [finding.action for finding in update.errors] == [Action.ATTRIBUTE_DISCARD]


def test_of_a_repeated_attribute_the_first_counts() -> None:
    """RFC 7606 section 3 g."""
    med = attribute(0x80, 4, b"\0\0\0\1") + attribute(0x80, 4, b"\0\0\0\2") + attribute(0x80, 4, b"\0")
    unknown = attribute(0xC0, 99, b"a") + attribute(0xC0, 99, b"b")
    update = parse(body(GOOD + med + unknown))
    ((_, attributes, _),) = update.announced
    assert attributes.med == 1
    assert attributes.describe()["attribute_99"] == "61"
    assert [finding.action for finding in update.errors] == [Action.ATTRIBUTE_DISCARD] * 3


SESSION_RESET = [
    # RFC 4271 section 6.3 and RFC 7606 section 3 b
    ("withdrawn routes length", b"\0\5\0\0\0\0", UpdateError.MALFORMED_ATTRIBUTE_LIST),
    ("total attribute length", b"\0\0\0\5\0\0", UpdateError.MALFORMED_ATTRIBUTE_LIST),
    ("no room for the second length", b"\0\2\0\0", UpdateError.MALFORMED_ATTRIBUTE_LIST),
    ("unrecognized well-known", body(GOOD + attribute(0x40, 99, b"")), UpdateError.UNRECOGNIZED_WELL_KNOWN),
    # section 3 g
    ("MP_REACH twice", body(GOOD + reach() + reach()), UpdateError.MALFORMED_ATTRIBUTE_LIST),
    ("MP_UNREACH twice", body(GOOD + unreach() + unreach()), UpdateError.MALFORMED_ATTRIBUTE_LIST),
    # section 5.3
    ("NLRI of 33 bits", body(GOOD, b"\x21\1\2\3\4\5"), UpdateError.INVALID_NETWORK_FIELD),
    ("NLRI cut short", body(GOOD, PREFIX + b"\x18\x0a\1"), UpdateError.INVALID_NETWORK_FIELD),
    ("withdrawn route of 33 bits", body(b"", b"", b"\x21\1\2\3\4\5"), UpdateError.INVALID_NETWORK_FIELD),
    ("withdrawn route cut short", body(b"", b"", b"\x18"), UpdateError.INVALID_NETWORK_FIELD),
    (
        "MP_REACH NLRI of 129 bits",
        body(GOOD + reach(b"\x81" + bytes(17)), b""),
        UpdateError.OPTIONAL_ATTRIBUTE,
    ),
    ("MP_REACH NLRI cut short", body(GOOD + reach(b"\x20\xfd"), b""), UpdateError.OPTIONAL_ATTRIBUTE),
    ("MP_UNREACH NLRI cut short", body(unreach(b"\x20\xfd"), b""), UpdateError.OPTIONAL_ATTRIBUTE),
    (
        "MP_REACH of 4 octets",
        body(GOOD + attribute(0x80, 14, b"\0\2\1\0"), b""),
        UpdateError.OPTIONAL_ATTRIBUTE,
    ),
    ("MP_UNREACH of 2 octets", body(attribute(0x80, 15, b"\0\2"), b""), UpdateError.OPTIONAL_ATTRIBUTE),
    ("MP_REACH longer than the attributes", body(GOOD + reach()[:-1]), UpdateError.MALFORMED_ATTRIBUTE_LIST),
    # section 7.11
    ("IPv6 next hop of 4 octets", body(GOOD + reach(hop=b"\x0a\0\0\1"), b""), UpdateError.OPTIONAL_ATTRIBUTE),
    (
        "IPv6 next hop of 24 octets",
        body(GOOD + reach(hop=HOP6 + bytes(8)), b""),
        UpdateError.OPTIONAL_ATTRIBUTE,
    ),
    ("IPv4 next hop of 16 octets", body(GOOD + reach(PREFIX, afi=1), b""), UpdateError.OPTIONAL_ATTRIBUTE),
    (
        "next hop longer than MP_REACH",
        body(GOOD + attribute(0x80, 14, b"\0\2\1\x10" + bytes(8)), b""),
        UpdateError.OPTIONAL_ATTRIBUTE,
    ),
    # section 5.2
    ("an error and no NLRI", body(GOOD + attribute(0x80, 4, b""), b""), UpdateError.ATTRIBUTE_LENGTH),
    (
        "an error, withdrawn routes, no NLRI",
        body(GOOD + attribute(0x80, 4, b""), b"", PREFIX),
        UpdateError.ATTRIBUTE_LENGTH,
    ),
    ("an overrun and no NLRI", body(GOOD + b"\x80", b""), UpdateError.MALFORMED_ATTRIBUTE_LIST),
    ("MP_REACH with bad flags and no NLRI", body(reach(b"", flags=0x40), b""), UpdateError.ATTRIBUTE_FLAGS),
]


@pytest.mark.parametrize(
    ("octets", "subcode"), [r[1:] for r in SESSION_RESET], ids=[r[0] for r in SESSION_RESET]
)
def test_session_reset(octets: bytes, subcode: UpdateError) -> None:
    for _ in range(2):
        with pytest.raises(SessionError) as error:
            parse(octets)
        assert (error.value.code, error.value.subcode) == (ErrorCode.UPDATE_MESSAGE, subcode)
        assert error.value.reason


@pytest.mark.parametrize("octets", [b"", b"\0", b"\0\0\0"])
def test_a_body_too_short_for_its_lengths(octets: bytes) -> None:
    """The framing refuses it before; a direct call says the same."""
    with pytest.raises(SessionError) as error:
        parse(octets)
    assert (error.value.code, error.value.subcode) == (ErrorCode.MESSAGE_HEADER, 2)
    assert error.value.data == (19 + len(octets)).to_bytes(2)


def test_the_unrecognized_attribute_is_in_the_notification() -> None:
    with pytest.raises(SessionError) as error:
        parse(body(GOOD + attribute(0x40, 99, b"abc")))
    assert error.value.data == attribute(0x40, 99, b"abc")


def test_an_error_withdraws_every_family_of_the_update() -> None:
    update = parse(body(ORIGIN + NEXT_HOP + reach() + unreach(b"\x20\xfd\0\0\2"), PREFIX, b"\x10\x0a\2"))
    assert update.announced == []
    assert update.withdrawn == [
        (V4, [b"\x10\x0a\2"]),
        (V6, [b"\x20\xfd\0\0\2"]),
        (V6, [PREFIX6]),
        (V4, [PREFIX]),
    ]


@pytest.mark.parametrize("flags", [0xC0, 0x40, 0x00])
def test_multiprotocol_attributes_with_wrong_flags_withdraw(flags: int) -> None:
    update = parse(body(ORIGIN + AS_PATH + reach(flags=flags), b""))
    assert update.withdrawn == [(V6, [PREFIX6])]
    assert not update.announced
    update = parse(body(unreach(flags=flags), b""))
    assert update.withdrawn == [(V6, [PREFIX6])]
    assert update.errors[0].action is Action.TREAT_AS_WITHDRAW


def test_next_hop_is_not_missed_beside_mp_reach() -> None:
    update = parse(body(reach() + ORIGIN + AS_PATH, b""))
    ((family, attributes, prefixes),) = update.announced
    assert (family, attributes.next_hop, prefixes) == (V6, HOP6, [PREFIX6])
    assert update.errors == []


def test_one_update_with_both_families() -> None:
    update = parse(body(GOOD + reach()))
    assert [(family, a.next_hop, nlri) for family, a, nlri in update.announced] == [
        (V6, HOP6, [PREFIX6]),
        (V4, b"\x0a\0\0\1", [PREFIX]),
    ]
    assert update.announced[0][1].wire == update.announced[1][1].wire


@pytest.mark.parametrize(
    ("hop", "kept"),
    [
        (HOP6, HOP6),
        (LINK_LOCAL, LINK_LOCAL),
        (HOP6 + LINK_LOCAL, HOP6 + LINK_LOCAL),
        (HOP6 + bytes(16), HOP6),
        (bytes(16) + LINK_LOCAL, LINK_LOCAL),
        (HOP6 + HOP6, HOP6),
    ],
)
def test_ipv6_next_hops(hop: bytes, kept: bytes) -> None:
    """RFC 2545 section 3, and what speakers make of it."""
    update = parse(body(ORIGIN + AS_PATH + reach(hop=hop), b""))
    assert update.announced[0][1].next_hop == kept


@pytest.mark.parametrize("hop", [bytes(16), b"\xff\2" + bytes(14), bytes(32)])
def test_an_ipv6_next_hop_that_is_no_host_withdraws(hop: bytes) -> None:
    update = parse(body(ORIGIN + AS_PATH + reach(hop=hop), b""))
    assert update.withdrawn == [(V6, [PREFIX6])]
    assert update.errors[0].subcode == UpdateError.INVALID_NEXT_HOP


@pytest.mark.parametrize(
    ("octets", "families"),
    [
        (body(GOOD), frozenset({V6})),
        (body(b"", b"", PREFIX), frozenset({V6})),
        (body(GOOD + reach(), b""), frozenset({V4})),
        (body(unreach(), b""), frozenset({V4})),
        (body(GOOD + reach(b"\xff\xff", safi=128), b""), BOTH),
        (body(GOOD + reach(b"\xff\xff", afi=25, safi=65, hop=b""), b""), BOTH),
        (body(unreach(b"\xff", afi=16388, safi=71), b""), BOTH),
        (body(ORIGIN + reach(afi=3), b""), BOTH),
    ],
)
def test_what_was_not_negotiated_is_ignored(octets: bytes, families: frozenset[Family]) -> None:
    """RFC 4760 section 7. Its NLRI are not even looked at."""
    update = parse(octets, families=families)
    assert update.announced == []
    assert update.withdrawn == []
    assert update.end_of_rib is None
    assert [finding.action for finding in update.errors] == [Action.IGNORE]


def test_unknown_attributes() -> None:
    extra = attribute(0xC0, 99, b"abc") + attribute(0x80, 98, b"dropped") + attribute(0xE0, 97, b"")
    update = parse(body(GOOD + extra))
    ((_, attributes, _),) = update.announced
    shown = attributes.describe()
    assert shown["attribute_99"] == "616263"
    assert "attribute_98" not in shown
    assert shown["partial"] == ["attribute_97", "attribute_99"]
    assert attribute(0xE0, 99, b"abc") in attributes.wire
    assert update.errors == []


def test_the_partial_bit_is_kept_only_where_it_means_something() -> None:
    extra = (
        attribute(0xE0, 8, b"\0\1\0\2")
        + attribute(0xA0, 4, bytes(4))
        + attribute(0xC0, 7, b"\0\0\0\1" + bytes(4))
    )
    ((_, attributes, _),) = parse(body(GOOD + extra)).announced
    assert attributes.describe()["partial"] == ["communities"]


def test_repeated_large_communities_are_removed_silently() -> None:
    """RFC 8092 section 3."""
    one, two = struct.pack("!III", 1, 2, 3), struct.pack("!III", 4, 5, 6)
    update = parse(body(GOOD + attribute(0xC0, 32, one + two + one)))
    assert update.announced[0][1].large_communities == ((1, 2, 3), (4, 5, 6))
    assert update.errors == []


def test_the_order_and_the_length_form_of_attributes_do_not_matter() -> None:
    shuffled = LOCAL_PREF + NEXT_HOP + AS_PATH + ORIGIN
    extended = b"".join(
        bytes((a[0] | 0x10, a[1], 0)) + a[2:] for a in (ORIGIN, AS_PATH, NEXT_HOP, LOCAL_PREF)
    )
    sets = {id(parse(body(attributes)).announced[0][1]) for attributes in (GOOD, shuffled, extended)}
    assert len(sets) == 1


def test_local_pref_may_be_missing_from_an_internal_peer() -> None:
    """It is not one of the well-known mandatory attributes; best path takes the default."""
    assert parse(body(without(5))).announced[0][1].local_pref is None


@pytest.mark.parametrize("family", list(Family))
def test_end_of_rib(family: Family) -> None:
    octets = body(b"", b"") if family is V4 else body(unreach(b""), b"")
    update = parse(octets)
    assert (update.announced, update.withdrawn, update.end_of_rib) == ([], [], family)
    assert update.errors == []
    other = frozenset(Family) - {family}
    assert parse(octets, families=other).end_of_rib is None


@pytest.mark.parametrize(
    "octets",
    [
        body(GOOD, b""),
        body(GOOD + unreach(b""), b""),
        body(unreach(b""), b"", PREFIX),
        body(GOOD + reach(b""), b""),
    ],
)
def test_what_only_looks_like_end_of_rib(octets: bytes) -> None:
    assert parse(octets).end_of_rib is None


def test_the_ipv4_end_of_rib_may_come_in_mp_unreach() -> None:
    assert parse(body(unreach(b"", afi=1), b"")).end_of_rib is V4


# Peers with 2-octet AS numbers (RFC 6793)

AS_TRANS_2 = attribute(0x40, 2, b"\2\3\xfd\xe8\x5b\xa0\x5b\xa0")
AS4 = attribute(0xC0, 17, b"\2\2\0\1\0\1\0\1\0\2")


def two_octet(*extra: bytes, path: bytes = AS_TRANS_2) -> Update:
    return parse(body(ORIGIN + path + NEXT_HOP + LOCAL_PREF + b"".join(extra)), four=False)


def path_of(update: Update) -> list[tuple[int, tuple[int, ...]]]:
    return [(kind, asns) for kind, asns in update.announced[0][1].as_path]


def test_as4_path_is_merged() -> None:
    update = two_octet(AS4)
    assert path_of(update) == [(2, (65000, 65537, 65538))]
    assert update.errors == []
    assert "as4_path" not in update.announced[0][1].describe()


def test_as4_path_that_is_longer_is_ignored() -> None:
    long = attribute(0xC0, 17, b"\2\4" + bytes((0, 1, 0, 1)) * 4)
    assert path_of(two_octet(long)) == [(2, (65000, 23456, 23456))]


@pytest.mark.parametrize(
    "value", [b"", b"\2\0", b"\2\1\0\0", b"\7\1\0\0\0\1", b"\2\1\0\0\0\0"], ids=bytes.hex
)
def test_a_malformed_as4_path_is_discarded(value: bytes) -> None:
    update = two_octet(attribute(0xC0, 17, value))
    assert path_of(update) == [(2, (65000, 23456, 23456))]
    assert [finding.action for finding in update.errors] == [Action.ATTRIBUTE_DISCARD]


def test_confederation_segments_in_as4_path_are_left_out() -> None:
    value = b"\3\1\0\0\0\x09" + b"\2\2\0\1\0\1\0\1\0\2"
    assert path_of(two_octet(attribute(0xC0, 17, value))) == [(2, (65000, 65537, 65538))]


def test_as4_aggregator_is_merged_where_the_aggregator_is_as_trans() -> None:
    aggregator = attribute(0xC0, 7, b"\x5b\xa0\x0a\0\0\1")
    as4_aggregator = attribute(0xC0, 18, b"\0\1\0\1\x0a\0\0\1")
    shown = two_octet(aggregator, AS4, as4_aggregator).announced[0][1].describe()
    assert shown["aggregator"] == "65537 10.0.0.1"
    assert shown["as_path"] == "65000 65537 65538"


def test_as4_attributes_are_stale_where_a_2_octet_speaker_aggregated() -> None:
    aggregator = attribute(0xC0, 7, b"\xfd\xe8\x0a\0\0\1")
    as4_aggregator = attribute(0xC0, 18, b"\0\1\0\1\x0a\0\0\1")
    shown = two_octet(aggregator, AS4, as4_aggregator).announced[0][1].describe()
    assert shown["aggregator"] == "65000 10.0.0.1"
    assert shown["as_path"] == "65000 23456 23456"


def test_a_set_counts_as_one_in_the_merge() -> None:
    path = attribute(0x40, 2, b"\1\3\0\1\0\2\0\3" + b"\2\2\x5b\xa0\x5b\xa0")
    as4_path = attribute(0xC0, 17, b"\2\1\0\1\0\1")
    assert path_of(two_octet(as4_path, path=path)) == [(1, (1, 2, 3)), (2, (23456, 65537))]


def test_a_2_octet_path_is_not_read_as_a_4_octet_one() -> None:
    assert path_of(two_octet(path=AS_PATH_2)) == [(2, (65000,))]
    assert parse(body(ORIGIN + AS_PATH_2 + NEXT_HOP)).withdrawn == [(V4, [PREFIX])]

"""Encoding UPDATEs: what we send can be read back, fits, and is packed as full as it can be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routed.bgp.attributes import AttributeSet, originate
from routed.bgp.message import HEADER_OCTETS, MARKER, MessageType, check_header
from routed.bgp.nlri import Family
from routed.bgp.path_attributes import Code, split_attributes
from routed.bgp.update import (
    Update,
    encode_announcements,
    encode_end_of_rib,
    encode_withdrawals,
    parse_update,
)
from tests.bgp import strategies

V4, V6 = Family.IPV4, Family.IPV6
HOP = bytes((10, 0, 0, 1))


def read(message: bytes, *, four_octet_as: bool = True, ibgp: bool = True, max_size: int = 4096) -> Update:
    """Check the frame, then parse."""
    assert message.startswith(MARKER)
    assert int.from_bytes(message[16:18]) == len(message)
    check_header(len(message), message[18], max_size)
    assert message[18] == MessageType.UPDATE
    return parse_update(
        memoryview(message)[HEADER_OCTETS:],
        four_octet_as=four_octet_as,
        families=frozenset(Family),
        ibgp=ibgp,
    )


@pytest.mark.parametrize("family", list(Family))
@given(st.data(), st.booleans(), st.sampled_from([600, 4096, 65535]))
def test_announcements_can_be_read_back(
    family: Family, data: st.DataObject, four_octet_as: bool, max_size: int
) -> None:
    attributes = data.draw(strategies.attribute_sets(family))
    nlri = data.draw(strategies.nlri_lists(family)) * 20
    seen: list[bytes] = []
    for message in encode_announcements(
        family, attributes, nlri, four_octet_as=four_octet_as, max_size=max_size
    ):
        update = read(message, four_octet_as=four_octet_as, max_size=max_size)
        assert update.withdrawn == []
        assert update.errors == []
        ((read_family, read_attributes, prefixes),) = update.announced
        assert read_family is family
        assert read_attributes.describe() == attributes.describe()
        if four_octet_as:
            assert read_attributes is attributes
        seen += prefixes
    assert seen == nlri


@pytest.mark.parametrize("family", list(Family))
@given(st.data())
def test_withdrawals_can_be_read_back(family: Family, data: st.DataObject) -> None:
    nlri = data.draw(strategies.nlri_lists(family)) * 50
    seen: list[bytes] = []
    for message in encode_withdrawals(family, nlri):
        update = read(message)
        assert (update.announced, update.errors) == ([], [])
        ((read_family, prefixes),) = update.withdrawn
        assert read_family is family
        seen += prefixes
    assert seen == nlri


@pytest.mark.parametrize("family", list(Family))
@given(st.data())
def test_messages_are_as_full_as_they_can_be(family: Family, data: st.DataObject) -> None:
    attributes = originate(next_hop=HOP if family is V4 else HOP * 4, local_pref=100)
    nlri = data.draw(st.lists(strategies.nlri(family), min_size=1)) * 40
    for messages in (
        encode_announcements(family, attributes, nlri, max_size=500),
        encode_withdrawals(family, nlri, max_size=500),
    ):
        firsts = [prefixes_of(message)[0] for message in messages]
        slack = 1 if family is V6 else 0  # the extended length of MP_REACH is an octet more
        for message, following in zip(messages, firsts[1:], strict=False):
            assert len(message) <= 500 < len(message) + len(following) + slack


def prefixes_of(message: bytes) -> list[bytes]:
    update = read(message)
    return update.announced[0][2] if update.announced else update.withdrawn[0][1]


def test_nothing_to_say_is_no_message() -> None:
    attributes = originate(next_hop=HOP)
    assert encode_announcements(V4, attributes, []) == []
    assert encode_withdrawals(V4, []) == []
    assert encode_withdrawals(V6, []) == []


@pytest.mark.parametrize("family", list(Family))
def test_end_of_rib(family: Family) -> None:
    message = encode_end_of_rib(family)
    assert len(message) == (23 if family is V4 else 29)
    assert read(message).end_of_rib is family


def codes(message: bytes) -> list[int]:
    body = message[HEADER_OCTETS:]
    return [code for _, code, *_ in split_attributes(body[4 : 4 + int.from_bytes(body[2:4])])]


def test_attributes_are_in_the_order_of_their_types_and_mp_reach_is_first() -> None:
    """RFC 4271 section 5 and RFC 7606 section 5.1."""
    attributes = originate(next_hop=HOP, local_pref=1, med=2, communities=[3], large_communities=[(1, 2, 3)])
    (message,) = encode_announcements(V4, attributes, [b"\0"])
    assert codes(message) == [1, 2, 3, 4, 5, 8, 32]
    (message,) = encode_announcements(V6, attributes.replace(next_hop=HOP * 4), [b"\0"])
    assert codes(message) == [Code.MP_REACH, 1, 2, 4, 5, 8, 32]


def test_ipv4_with_an_ipv6_next_hop_goes_in_mp_reach() -> None:
    """RFC 8950: to be sent where it was negotiated."""
    attributes = originate(next_hop=HOP * 4)
    (message,) = encode_announcements(V4, attributes, [b"\x08\x0a"])
    assert codes(message) == [Code.MP_REACH, 1, 2]


def big(octets: int) -> AttributeSet:
    """Attributes whose communities alone have about so many octets."""
    return originate(next_hop=HOP, local_pref=100, communities=range(octets // 4))


@pytest.mark.parametrize("family", list(Family))
@pytest.mark.parametrize("octets", [3900, 3960, 4000, 4020, 4040, 4060, 4080, 4200, 60000])
def test_attributes_that_leave_no_room_withdraw(family: Family, octets: int) -> None:
    """RFC 8654 section 4: what cannot be announced must not stay as it was announced before."""
    attributes = big(octets).replace(next_hop=HOP if family is V4 else HOP * 4)
    short, long = b"\x08\x0a", bytes((family.max_prefix_length,)) + bytes(family.address_octets)
    messages = encode_announcements(family, attributes, [short, long])
    assert sorted(prefix for message in messages for prefix in prefixes_of(message)) == [short, long]
    announced = {bool(read(message).announced) for message in messages}
    assert len(announced) == 1
    if octets <= 3900:
        assert announced == {True}
    if octets >= 4080:
        assert announced == {False}
    assert encode_announcements(family, attributes, [short, long], max_size=65535)


def test_large_as_numbers_to_a_2_octet_peer() -> None:
    attributes = originate(next_hop=HOP).prepend_as(70000).prepend_as(64512)
    (message,) = encode_announcements(V4, attributes, [b"\0"], four_octet_as=False)
    assert codes(message) == [1, 2, 3, Code.AS4_PATH]
    assert b"\x40\x02\x06\x02\x02\xfc\x00\x5b\xa0" in message
    small = originate(next_hop=HOP).prepend_as(64512)
    assert codes(encode_announcements(V4, small, [b"\0"], four_octet_as=False)[0]) == [1, 2, 3]


@pytest.mark.parametrize(("asn", "as4"), [(64512, []), (70000, [Code.AS4_AGGREGATOR])])
def test_the_aggregator_to_a_2_octet_peer(asn: int, as4: list[int]) -> None:
    raw = originate(next_hop=HOP).wire + b"\xc0\x07\x08" + asn.to_bytes(4) + HOP
    from routed.bgp.attributes import intern_attributes

    (message,) = encode_announcements(V4, intern_attributes(raw, HOP), [b"\0"], four_octet_as=False)
    assert codes(message) == [1, 2, 3, 7, *as4]
    ((_, attributes, _),) = read(message, four_octet_as=False).announced
    assert attributes.describe()["aggregator"] == f"{asn} 10.0.0.1"

"""The fast UPDATE parser against the plain one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routed.bgp.attributes import AttributeSet, originate
from routed.bgp.errors import ErrorCode, SessionError
from routed.bgp.nlri import Family
from routed.bgp.nlri_codec import BadNlri, parse_nlri
from routed.bgp.update import encode_announcements, parse_update
from tests.bgp import strategies
from tests.bgp.reference import Reset, Result, joined, reference_update, result_of

options = st.fixed_dictionaries(
    {
        "four_octet_as": st.booleans(),
        "ibgp": st.booleans(),
        "families": st.sampled_from([frozenset(Family), frozenset({Family.IPV4}), frozenset({Family.IPV6})]),
    }
)


def plain(body: bytes, **option: bool | frozenset[Family]) -> Result | str:
    try:
        return reference_update(body, **option)  # type: ignore[arg-type]
    except Reset:
        return "reset"


def fast(body: bytes, **option: bool | frozenset[Family]) -> Result | str:
    try:
        return result_of(parse_update(body, **option))  # type: ignore[arg-type]
    except SessionError as error:
        return "reset" if error.code == ErrorCode.UPDATE_MESSAGE else f"code {error.code}"


def normalised(result: Result | str) -> Result | str:
    """Cut AS paths into segments in one way: a merge of AS4_PATH may join two sequences, or not."""
    if isinstance(result, Result):
        for route in result.announced.values():
            route.as_path = joined(route.as_path)
    return result


@given(st.data(), options)
def test_both_parsers_say_the_same(data: st.DataObject, option: dict[str, bool]) -> None:
    body = data.draw(strategies.update_bodies(four_octet_as=option["four_octet_as"]))
    expected = normalised(plain(body, **option))
    assert normalised(fast(body, **option)) == expected
    assert normalised(fast(body, **option)) == expected  # now from the cache


@given(st.data(), options)
def test_both_parsers_say_the_same_of_damaged_updates(data: st.DataObject, option: dict[str, bool]) -> None:
    bodies = strategies.update_bodies(four_octet_as=option["four_octet_as"])
    body = data.draw(strategies.mutated(bodies).filter(lambda body: len(body) >= 4))
    assert normalised(fast(body, **option)) == normalised(plain(body, **option))


@given(strategies.attribute_sets(), st.lists(strategies.nlri(Family.IPV4), min_size=1, max_size=2000))
def test_a_full_update_is_read_alike(attributes: AttributeSet, prefixes: list[bytes]) -> None:
    for message in encode_announcements(Family.IPV4, attributes, prefixes):
        body = message[19:]
        option = {"four_octet_as": True, "ibgp": True, "families": frozenset(Family)}
        assert fast(body, **option) == plain(body, **option)  # type: ignore[arg-type]


@given(st.data(), options, st.binary(min_size=16, max_size=16) | strategies.ipv6_hops)
def test_ipv6_behind_known_attributes_is_read_alike(
    data: st.DataObject, option: dict[str, bool], hop: bytes
) -> None:
    """The short way for IPv6, its edges, and octets damaged on it."""
    known = originate(next_hop=b"", med=data.draw(st.integers(0, 3))).wire
    nlri = b"".join(data.draw(strategies.nlri_lists(Family.IPV6, clean=False)))
    value = b"\0\2\1" + bytes((len(hop),)) + hop + b"\0" + nlri
    extended = data.draw(st.booleans()) or len(value) > 255
    head = b"\x90\x0e" + len(value).to_bytes(2) if extended else b"\x80\x0e" + bytes((len(value),))
    rest = known + data.draw(
        st.sampled_from([b"", b"\xc0\x08\x00", b"\x40\x06\x01\x00", b"\x80\x0f\x03\0\2\1"])
    )
    attributes = head + value + rest
    good = b"\0\0" + len(attributes).to_bytes(2) + attributes
    for body in (
        good,
        good,
        data.draw(strategies.mutated(st.just(good)).filter(lambda body: len(body) >= 4)),
    ):
        assert normalised(fast(body, **option)) == normalised(plain(body, **option))


def parse_nlri_plainly(data: bytes, max_length: int) -> list[bytes]:
    found = []
    while data:
        length = data[0]
        octets = -(-length // 8)
        if length > max_length or len(data) < 1 + octets:
            raise BadNlri("bad")
        address = int.from_bytes(data[1 : 1 + octets]) >> (octets * 8 - length) << (octets * 8 - length)
        found.append(bytes((length,)) + address.to_bytes(octets))
        data = data[1 + octets :]
    return found


@pytest.mark.parametrize("family", list(Family))
@given(st.data())
def test_nlri_runs_and_mixtures_are_read_alike(family: Family, data: st.DataObject) -> None:
    raw = b"".join(data.draw(strategies.nlri_lists(family, clean=data.draw(st.booleans()), max_size=60)))
    if data.draw(st.booleans()):
        raw = raw[: data.draw(st.integers(0, len(raw)))]
    try:
        expected = parse_nlri_plainly(raw, family.max_prefix_length)
    except BadNlri:
        with pytest.raises(BadNlri):
            parse_nlri(raw, family.max_prefix_length)
    else:
        assert parse_nlri(raw, family.max_prefix_length) == expected


def test_a_run_with_host_bits_is_masked() -> None:
    clean = [bytes((26, 10, 0, i, 0x40)) for i in range(100)]
    assert parse_nlri(b"".join(n[:-1] + b"\x7f" for n in clean), 32) == clean
    assert parse_nlri(b"".join(clean), 32) == clean


def test_a_run_of_impossible_prefixes_is_refused() -> None:
    with pytest.raises(BadNlri, match="33 bits"):
        parse_nlri(bytes((33, 1, 2, 3, 4, 0x80)) * 50, 32)

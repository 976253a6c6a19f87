"""The fast UPDATE parser against the plain one."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routed.bgp.attributes import AttributeSet, originate
from routed.bgp.errors import ErrorCode, SessionError
from routed.bgp.nlri import Family
from routed.bgp.nlri_codec import BadNlri, parse_add_path_nlri, parse_nlri
from routed.bgp.update import encode_announcements, encode_withdrawals, parse_update
from tests.bgp import strategies
from tests.bgp.reference import Reset, Result, joined, reference_update, result_of

options = st.fixed_dictionaries(
    {
        "four_octet_as": st.booleans(),
        "ibgp": st.booleans(),
        "families": st.sampled_from([frozenset(Family), frozenset({Family.IPV4}), frozenset({Family.IPV6})]),
        "add_path": st.sampled_from([frozenset[Family](), frozenset(Family), frozenset({Family.IPV4})]),
    }
)


def plain(body: bytes, **option: bool | frozenset[Family]) -> Result | str:
    try:
        return reference_update(body, **option)  # type: ignore[arg-type]
    except Reset:
        return "reset"


def fast(
    body: bytes, *, add_path: frozenset[Family] = frozenset(), **option: bool | frozenset[Family]
) -> Result | str:
    try:
        return result_of(parse_update(body, add_path=add_path, **option), add_path)  # type: ignore[arg-type]
    except SessionError as error:
        return "reset" if error.code == ErrorCode.UPDATE_MESSAGE else f"code {error.code}"


def normalised(result: Result | str) -> Result | str:
    """Cut AS paths into segments in one way: a merge of AS4_PATH may join two sequences, or not."""
    if isinstance(result, Result):
        for route in result.announced.values():
            route.as_path = joined(route.as_path)
    return result


def bodies(option: dict[str, Any]) -> st.SearchStrategy[bytes]:
    return strategies.update_bodies(four_octet_as=option["four_octet_as"], add_path=option["add_path"])


@given(st.data(), options)
def test_both_parsers_say_the_same(data: st.DataObject, option: dict[str, Any]) -> None:
    body = data.draw(bodies(option))
    expected = normalised(plain(body, **option))
    assert normalised(fast(body, **option)) == expected
    assert normalised(fast(body, **option)) == expected  # now from the cache


@given(st.data(), options)
def test_both_parsers_say_the_same_of_damaged_updates(data: st.DataObject, option: dict[str, Any]) -> None:
    body = data.draw(strategies.mutated(bodies(option)).filter(lambda body: len(body) >= 4))
    assert normalised(fast(body, **option)) == normalised(plain(body, **option))


@given(strategies.attribute_sets(), st.lists(strategies.nlri(Family.IPV4), min_size=1, max_size=2000))
def test_a_full_update_is_read_alike(attributes: AttributeSet, prefixes: list[bytes]) -> None:
    for message in encode_announcements(Family.IPV4, attributes, prefixes):
        body = message[19:]
        option = {"four_octet_as": True, "ibgp": True, "families": frozenset(Family)}
        assert fast(body, **option) == plain(body, **option)  # type: ignore[arg-type]


@pytest.mark.parametrize("family", list(Family))
@given(st.data())
def test_route_keys_that_were_encoded_are_read_alike(family: Family, data: st.DataObject) -> None:
    attributes = data.draw(strategies.attribute_sets(family))
    keys = data.draw(strategies.route_keys(family, min_size=1, max_size=300))
    option = {"four_octet_as": True, "ibgp": True, "families": frozenset(Family)}
    everything = frozenset(Family)
    for encoded in (
        encode_announcements(family, attributes, keys, max_size=600),
        encode_withdrawals(family, keys, max_size=600),
    ):
        heard: list[bytes] = []
        for message in encoded:
            assert len(message) <= 600
            for _ in range(2):
                update = parse_update(message[19:], add_path=everything, **option)  # type: ignore[arg-type]
                read = plain(message[19:], add_path=everything, **option)  # type: ignore[arg-type]
                assert result_of(update, everything) == read
            heard += [key for _, _, some in update.announced for key in some]
            heard += [key for _, some in update.withdrawn for key in some]
        assert heard == keys


IPV6_HOP = b"\xfd" + bytes(15)
KNOWN = originate(next_hop=b"", med=1).wire


@pytest.mark.parametrize(
    "hop",
    [
        IPV6_HOP,
        bytes(16),
        b"\xff\2" + bytes(14),
        b"\xfe\x80" + bytes(14),
        IPV6_HOP * 2,
        bytes(32),
        b"\x0a\0\0\1",
    ],
    ids=bytes.hex,
)
@pytest.mark.parametrize("families", [frozenset(Family), frozenset({Family.IPV4})], ids=len)
def test_every_edge_of_the_short_way_for_ipv6_is_read_alike(hop: bytes, families: frozenset[Family]) -> None:
    option = {"four_octet_as": True, "ibgp": True, "families": families}
    for flags, nlri, known, extra, more in product(
        (0x80, 0x90, 0xC0, 0xD0, 0x40, 0x00),
        (b"", b"\x40" + bytes(8), b"\x41" + b"\xff" * 9, b"\x81" + bytes(17), b"\x40" + bytes(7)),
        (KNOWN, KNOWN[4:], KNOWN[7:]),  # without ORIGIN, without AS_PATH too
        (b"", b"\xc0\x08\x00", b"\x40\x06\x01\x00", b"\x80\x0f\x03\0\2\1", b"\x80"),
        (0, -1, 1, 8),
    ):
        value = b"\0\2\1" + bytes((len(hop),)) + hop + b"\0" + nlri
        head = bytes((flags, 14)) + len(value).to_bytes(2 if flags & 0x10 else 1)
        attributes = head + value + known + extra
        body = b"\0\0" + (len(attributes) + more).to_bytes(2) + attributes
        expected = plain(body, **option)  # type: ignore[arg-type]
        for _ in range(2):
            assert fast(body, **option) == expected, body.hex()  # type: ignore[arg-type]


@given(st.data(), options)
def test_damaged_ipv6_behind_known_attributes_is_read_alike(
    data: st.DataObject, option: dict[str, Any]
) -> None:
    nlri = data.draw(strategies.nlri_field(Family.IPV6, option["add_path"], max_size=40))
    value = b"\0\2\1\x10" + IPV6_HOP + b"\0" + nlri
    attributes = b"\x90\x0e" + len(value).to_bytes(2) + value + KNOWN
    body = b"\0\0" + len(attributes).to_bytes(2) + attributes
    damaged = data.draw(strategies.mutated(st.just(body)).filter(lambda body: len(body) >= 4))
    for octets in (body, damaged, damaged):
        assert normalised(fast(octets, **option)) == normalised(plain(octets, **option))


def parse_nlri_plainly(data: bytes, max_length: int, id_octets: int = 0) -> list[bytes]:
    found = []
    while data:
        if len(data) <= id_octets:
            raise BadNlri("bad")
        path_id, data = data[:id_octets], data[id_octets:]
        length = data[0]
        octets = -(-length // 8)
        if length > max_length or len(data) < 1 + octets:
            raise BadNlri("bad")
        address = int.from_bytes(data[1 : 1 + octets]) >> (octets * 8 - length) << (octets * 8 - length)
        found.append(path_id + bytes((length,)) + address.to_bytes(octets))
        data = data[1 + octets :]
    return found


@pytest.mark.parametrize("add_path", [False, True])
@pytest.mark.parametrize("family", list(Family))
@given(st.data())
def test_nlri_runs_and_mixtures_are_read_alike(family: Family, add_path: bool, data: st.DataObject) -> None:
    lists = strategies.route_keys if add_path else strategies.nlri_lists
    reader, id_octets = (parse_add_path_nlri, 4) if add_path else (parse_nlri, 0)
    raw = b"".join(data.draw(lists(family, clean=data.draw(st.booleans()), max_size=60)))
    if data.draw(st.booleans()):
        raw = raw[: data.draw(st.integers(0, len(raw)))]
    try:
        expected = parse_nlri_plainly(raw, family.max_prefix_length, id_octets)
    except BadNlri:
        with pytest.raises(BadNlri):
            reader(raw, family.max_prefix_length)
    else:
        assert reader(raw, family.max_prefix_length) == expected


def test_a_run_with_host_bits_is_masked() -> None:
    clean = [bytes((26, 10, 0, i, 0x40)) for i in range(100)]
    assert parse_nlri(b"".join(n[:-1] + b"\x7f" for n in clean), 32) == clean
    assert parse_nlri(b"".join(clean), 32) == clean
    keys = [bytes(4) + n for n in clean]
    assert parse_add_path_nlri(b"".join(n[:-1] + b"\x7f" for n in keys), 32) == keys
    assert parse_add_path_nlri(b"".join(keys), 32) == keys


def test_a_run_of_impossible_prefixes_is_refused() -> None:
    with pytest.raises(BadNlri, match="33 bits"):
        parse_nlri(bytes((33, 1, 2, 3, 4, 0x80)) * 50, 32)
    with pytest.raises(BadNlri, match="33 bits"):
        parse_add_path_nlri(bytes((0, 0, 0, 1, 33, 1, 2, 3, 4, 0x80)) * 50, 32)

"""`AttributeSet` and the registry."""

from __future__ import annotations

import copy
import gc
import json
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routed.bgp import attributes as module
from routed.bgp.attribute_block import BlockCache
from routed.bgp.attributes import (
    EGP,
    IGP,
    INCOMPLETE,
    AttributeSet,
    Segment,
    SegmentType,
    intern_attributes,
    next_hop_text,
    originate,
)
from routed.bgp.nlri import Family
from routed.bgp.path_attributes import REGISTRY, Code, attribute_name, community_text, split_attributes
from tests.bgp import strategies

HOP = bytes((10, 0, 0, 1))


def test_equal_content_is_the_same_object() -> None:
    one = originate(next_hop=HOP, local_pref=100, communities=[1, 2])
    two = originate(next_hop=bytes(bytearray(HOP)), local_pref=100, communities=[1, 2])
    assert one is two
    assert one is not originate(next_hop=HOP, local_pref=101, communities=[1, 2])
    assert one is not originate(next_hop=bytes((10, 0, 0, 2)), local_pref=100, communities=[1, 2])
    assert one is intern_attributes(one.wire, one.next_hop)


def test_sets_that_nobody_holds_are_forgotten() -> None:
    gc.collect()
    before = len(module._interned)
    held = [originate(next_hop=HOP, med=n) for n in range(10_000)]
    assert len(module._interned) >= before + 9_000
    del held
    gc.collect()
    assert len(module._interned) <= before


def test_a_set_is_immutable() -> None:
    attributes = originate(next_hop=HOP)
    for name in ("wire", "next_hop", "med", "anything"):
        with pytest.raises(AttributeError):
            setattr(attributes, name, 1)
    with pytest.raises(AttributeError, match="no attribute 'anything'"):
        _ = attributes.anything  # type: ignore[attr-defined]


@given(strategies.attribute_sets())
def test_copies_and_pickles_are_the_same_object(attributes: AttributeSet) -> None:
    assert copy.copy(attributes) is attributes
    assert copy.deepcopy(attributes) is attributes
    assert pickle.loads(pickle.dumps(attributes)) is attributes


def test_a_route_of_our_own() -> None:
    attributes = originate(next_hop=HOP, local_pref=100, med=5, communities=[64512 << 16 | 7])
    assert attributes.origin == IGP
    assert attributes.as_path == ()
    assert attributes.as_path_length == 0
    assert attributes.neighbor_as is None
    assert attributes.local_pref == 100
    assert attributes.med == 5
    assert attributes.communities == (64512 << 16 | 7,)
    assert attributes.originator_id is None
    assert attributes.cluster_list == ()
    assert attributes.large_communities == ()
    # RFC 4271 section 5: ORIGIN and AS_PATH are there even where the path is empty.
    assert attributes.wire[:7] == b"\x40\x01\x01\x00\x40\x02\x00"
    assert originate(next_hop=HOP, origin=INCOMPLETE).origin == INCOMPLETE
    assert originate(next_hop=HOP, origin=EGP).describe()["origin"] == "EGP"


@given(strategies.attribute_sets(), st.data())
def test_replace_changes_what_it_names_and_nothing_else(
    attributes: AttributeSet, data: st.DataObject
) -> None:
    names: dict[str, Any] = {
        "next_hop": strategies.ipv4_hops,
        "origin": st.integers(0, 2),
        "as_path": strategies.as_paths,
        "med": st.none() | strategies.numbers,
        "local_pref": st.none() | strategies.numbers,
        "originator_id": st.none() | strategies.router_ids,
        "cluster_list": st.lists(strategies.router_ids, max_size=3).map(tuple),
        "communities": st.lists(strategies.numbers, max_size=5).map(tuple),
        "large_communities": strategies.large_communities.map(tuple),
    }
    changed = data.draw(st.lists(st.sampled_from(sorted(names)), unique=True))
    changes: dict[str, Any] = {name: data.draw(names[name]) for name in changed}
    result = attributes.replace(**changes)
    for name in names:
        assert getattr(result, name) == changes.get(name, getattr(attributes, name))
    codes = [code for _, code, *_ in split_attributes(result.wire)]
    assert codes == sorted(set(codes))
    assert result.replace(**{name: getattr(attributes, name) for name in changed}) is attributes


def test_replace_removes_what_is_none_or_empty() -> None:
    full = originate(next_hop=HOP, local_pref=1, med=1, communities=[1], large_communities=[(1, 2, 3)])
    bare = full.replace(local_pref=None, med=None, communities=(), large_communities=None)
    assert bare is originate(next_hop=HOP)


def test_what_replace_does_not_know_is_kept() -> None:
    aggregate = b"\x40\x06\x00" + b"\xc0\x07\x08\x00\x00\xfd\xe8\x0a\x00\x00\x01"
    extended = b"\xc0\x10\x08\x00\x02\xfd\xe8\x00\x00\x00\x64"
    unknown = b"\xe0\x63\x02hi"
    base = originate(next_hop=HOP)
    whole = intern_attributes(base.wire + aggregate + extended + unknown, HOP)
    changed = whole.replace(local_pref=5, communities=[1], large_communities=[(1, 2, 3)])
    shown = changed.describe()
    assert shown["atomic_aggregate"] is True
    assert shown["aggregator"] == "65000 10.0.0.1"
    assert shown["extended_communities"] == ["0002fde800000064"]
    assert shown["attribute_99"] == "6869"
    assert changed.replace(local_pref=None, communities=None, large_communities=None) is whole


def test_many_communities_take_the_extended_length() -> None:
    attributes = originate(next_hop=HOP, communities=range(64))
    assert b"\xd0\x08\x01\x00" in attributes.wire
    assert attributes.communities == tuple(range(64))


@pytest.mark.parametrize(
    ("path", "length", "neighbor"),
    [
        ((), 0, None),
        ((Segment(2, (1, 2, 3)),), 3, 1),
        ((Segment(2, (1, 2)), Segment(1, (3, 4, 5))), 3, 1),
        ((Segment(1, (3, 4, 5)),), 1, None),
        ((Segment(1, (3,)), Segment(2, (4,))), 2, None),
    ],
)
def test_path_length_and_neighbor_as(path: tuple[Segment, ...], length: int, neighbor: int | None) -> None:
    attributes = originate(next_hop=HOP).replace(as_path=path)
    assert attributes.as_path_length == length
    assert attributes.neighbor_as == neighbor


@given(strategies.as_paths, strategies.asns, st.integers(0, 600))
def test_prepending(path: tuple[Segment, ...], asn: int, count: int) -> None:
    result = originate(next_hop=HOP).replace(as_path=path).prepend_as(asn, count)
    assert all(1 <= len(segment.asns) <= 255 for segment in result.as_path)
    assert result.as_path_length == count + originate(next_hop=HOP).replace(as_path=path).as_path_length
    flat = [n for segment in result.as_path for n in segment.asns]
    assert flat == [asn] * count + [n for segment in path for n in segment.asns]
    sets = [segment for segment in result.as_path if segment.type == SegmentType.AS_SET]
    assert sets == [segment for segment in path if segment.type == SegmentType.AS_SET]
    if count:
        assert result.neighbor_as == asn


def test_what_stays_in_our_as() -> None:
    inner = originate(next_hop=HOP, local_pref=100, med=3, communities=[1]).replace(
        originator_id=HOP, cluster_list=[HOP]
    )
    assert inner.without_internal() is originate(next_hop=HOP, communities=[1])


@given(strategies.attribute_sets(Family.IPV6))
def test_descriptions_are_plain_json(attributes: AttributeSet) -> None:
    shown = attributes.describe()
    assert json.loads(json.dumps(shown)) == shown
    assert shown["next_hop"] == next_hop_text(attributes.next_hop)
    assert repr(attributes).startswith("AttributeSet(next_hop='fd")


def test_a_description_in_full() -> None:
    attributes = originate(
        next_hop=HOP,
        local_pref=100,
        med=7,
        communities=[0xFFFFFF01, 5 << 16 | 6],
        large_communities=[(1, 2, 3)],
    ).replace(
        as_path=(Segment(2, (64512, 4200000000)), Segment(1, (1, 2))),
        originator_id=bytes((1, 1, 1, 1)),
        cluster_list=[bytes((2, 2, 2, 2)), bytes((3, 3, 3, 3))],
    )
    assert attributes.describe() == {
        "next_hop": "10.0.0.1",
        "origin": "IGP",
        "as_path": "64512 4200000000 {1 2}",
        "med": 7,
        "local_pref": 100,
        "communities": ["no-export", "5:6"],
        "originator_id": "1.1.1.1",
        "cluster_list": ["2.2.2.2", "3.3.3.3"],
        "large_communities": ["1:2:3"],
    }


def test_the_registry_is_whole() -> None:
    assert set(REGISTRY) == set(Code)
    assert [row.name for row in REGISTRY.values()] == [code.name.lower() for code in Code]
    assert attribute_name(3) == "NEXT_HOP"
    assert attribute_name(99) == "attribute 99"
    assert {code for code, row in REGISTRY.items() if not row.from_ebgp} == {5, 9, 10}
    assert {code for code, row in REGISTRY.items() if not row.to_ebgp} == {4, 5, 9, 10}


def test_well_known_communities_have_names() -> None:
    assert community_text(0xFFFF029A) == "blackhole"
    assert community_text(0xFFFF0000) == "graceful-shutdown"
    assert community_text(0xFFFFFF02) == "no-advertise"
    assert community_text(0) == "0:0"


def test_the_block_cache_is_bounded_and_keeps_what_is_used() -> None:
    cache = BlockCache(four_octet_as=True, ibgp=True)
    raw = originate(next_hop=HOP).wire + b"\x40\x03\x04" + HOP
    often = cache.block(raw)
    for med in range(3 * BlockCache.MAX_BLOCKS):
        cache.block(raw + b"\x80\x04\x04" + med.to_bytes(4))
        if med % 1000 == 0:
            assert cache.block(raw) is often
        assert len(cache.recent) <= BlockCache.MAX_BLOCKS
    assert len(cache._old) <= BlockCache.MAX_BLOCKS
    big = b"".join(b"\xd0\x63\x0f\xa0" + bytes(4000) for _ in range(1))
    for n in range(2000):
        cache.block(raw + big + b"\x80\x04\x04" + n.to_bytes(4))
        assert sum(map(len, cache.recent)) <= BlockCache.MAX_OCTETS + 8192

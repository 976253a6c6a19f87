"""Hypothesis strategies for BGP: prefixes, attribute sets, and UPDATE bodies that are right, nearly right, or
neither."""

from __future__ import annotations

import struct

from hypothesis import strategies as st

from routed.bgp.attributes import AttributeSet, Segment, SegmentType, intern_attributes
from routed.bgp.nlri import Family

asns = st.one_of(st.integers(1, 65535), st.integers(1, 2**32 - 1), st.just(23456))
numbers = st.integers(0, 2**32 - 1)
router_ids = st.binary(min_size=4, max_size=4).filter(any)
ipv4_hops = st.tuples(st.integers(1, 223), st.binary(min_size=3, max_size=3)).map(
    lambda p: bytes((p[0],)) + p[1]
)
ipv6_hops = st.binary(min_size=15, max_size=15).map(lambda rest: b"\xfd" + rest)
link_locals = st.binary(min_size=8, max_size=8).map(lambda rest: b"\xfe\x80" + bytes(6) + rest)


@st.composite
def nlri(
    draw: st.DrawFn, family: Family, *, clean: bool = True, lengths: st.SearchStrategy[int] | None = None
) -> bytes:
    """One prefix; with `clean` its trailing bits are zero."""
    length = draw(st.integers(0, family.max_prefix_length) if lengths is None else lengths)
    octets = (length + 7) // 8
    address = int.from_bytes(draw(st.binary(min_size=octets, max_size=octets)))
    if clean:
        address &= -1 << (octets * 8 - length)
    return bytes((length,)) + address.to_bytes(octets)


@st.composite
def nlri_lists(
    draw: st.DrawFn, family: Family, *, clean: bool = True, min_size: int = 0, max_size: int = 40
) -> list[bytes]:
    """Prefixes of many lengths, or of one, as a full UPDATE has them."""
    lengths = draw(st.sampled_from([None, *map(st.just, (0, 8, 24, 26, 29, 32))]))
    return draw(st.lists(nlri(family, clean=clean, lengths=lengths), min_size=min_size, max_size=max_size))


@st.composite
def route_keys(
    draw: st.DrawFn, family: Family, *, clean: bool = True, min_size: int = 0, max_size: int = 40
) -> list[bytes]:
    """Prefixes behind path identifiers (RFC 7911): all the same, small ones, or any."""
    prefixes = draw(nlri_lists(family, clean=clean, min_size=min_size, max_size=max_size))
    path_ids = draw(st.sampled_from([st.just(1), st.integers(0, 3), numbers]))
    return [draw(path_ids).to_bytes(4) + prefix for prefix in prefixes]


segments = st.builds(
    Segment,
    st.sampled_from([int(SegmentType.AS_SEQUENCE), int(SegmentType.AS_SET)]),
    st.lists(asns, min_size=1, max_size=5).map(tuple),
)
as_paths = st.lists(segments, max_size=4).map(tuple)
communities = st.lists(numbers, max_size=6)
large_communities = st.lists(st.tuples(numbers, numbers, numbers), max_size=3, unique=True)


@st.composite
def attribute_sets(draw: st.DrawFn, family: Family = Family.IPV4, *, ibgp: bool = True) -> AttributeSet:
    """Valid attributes for a route of this family."""
    hops = ipv4_hops
    if family is Family.IPV6:
        hops = st.one_of(ipv6_hops, st.tuples(ipv6_hops, link_locals).map(b"".join))
    maybe = st.none() | numbers
    return intern_attributes(b"", draw(hops)).replace(
        origin=draw(st.integers(0, 2)),
        as_path=draw(as_paths),
        med=draw(maybe),
        local_pref=draw(maybe) if ibgp else None,
        communities=draw(communities),
        originator_id=draw(st.none() | router_ids) if ibgp else None,
        cluster_list=draw(st.lists(router_ids, max_size=3)) if ibgp else None,
        large_communities=draw(large_communities),
    )


def _path_value(octets: int) -> st.SearchStrategy[bytes]:
    top = 2 ** (8 * octets) - 1
    asn = st.integers(1, top) | st.just(min(top, 23456))
    segment = st.tuples(st.sampled_from([1, 2, 2, 2]), st.lists(asn, min_size=1, max_size=4))
    return st.lists(segment, max_size=3).map(
        lambda path: b"".join(bytes((k, len(a))) + b"".join(n.to_bytes(octets) for n in a) for k, a in path)
    )


def _values(
    four_octet_as: bool, add_path: frozenset[Family]
) -> dict[int, tuple[int, st.SearchStrategy[bytes]]]:
    def binary(*sizes: int) -> st.SearchStrategy[bytes]:
        return st.sampled_from(sizes).flatmap(lambda size: st.binary(min_size=size, max_size=size))

    prefix_bytes = {f: nlri_field(f, add_path, max_size=4) for f in Family}
    reach6 = st.tuples(st.one_of(ipv6_hops, binary(32)), prefix_bytes[Family.IPV6]).map(
        lambda p: struct.pack("!HBB", 2, 1, len(p[0])) + p[0] + b"\0" + p[1]
    )
    reach4 = st.tuples(ipv4_hops, prefix_bytes[Family.IPV4]).map(
        lambda p: struct.pack("!HBB", 1, 1, 4) + p[0] + b"\0" + p[1]
    )
    unreach = st.sampled_from(list(Family)).flatmap(
        lambda f: prefix_bytes[f].map(lambda data: struct.pack("!HB", f, 1) + data)
    )
    as_octets = 4 if four_octet_as else 2
    aggregator_as = st.sampled_from([0, 23456, 65000]).map(lambda n: n.to_bytes(as_octets))
    return {
        1: (0x40, st.integers(0, 2).map(lambda n: bytes((n,)))),
        2: (0x40, _path_value(as_octets)),
        3: (0x40, ipv4_hops),
        4: (0x80, binary(4)),
        5: (0x40, binary(4)),
        6: (0x40, st.just(b"")),
        7: (0xC0, st.tuples(aggregator_as, binary(4)).map(b"".join)),
        8: (0xC0, binary(4, 8, 400)),
        9: (0x80, binary(4)),
        10: (0x80, binary(4, 12)),
        14: (0x80, reach6 | reach4),
        15: (0x80, unreach),
        16: (0xC0, binary(8, 16)),
        17: (0xC0, _path_value(4)),
        18: (0xC0, st.tuples(st.sampled_from([bytes(4), b"\0\1\2\3"]), binary(4)).map(b"".join)),
        32: (0xC0, binary(12, 24) | st.binary(min_size=12, max_size=12).map(lambda v: v + v)),
        25: (0xC0, binary(0, 20)),
        99: (0x80, binary(0, 3)),
        128: (0xE0, binary(5)),
    }


def nlri_field(
    family: Family, add_path: frozenset[Family], *, min_size: int = 0, max_size: int
) -> st.SearchStrategy[bytes]:
    """The octets of prefixes, with path identifiers in the families of `add_path`."""
    lists = route_keys if family in add_path else nlri_lists
    return lists(family, clean=False, min_size=min_size, max_size=max_size).map(b"".join)


_often = st.sampled_from([True] * 4 + [False])
_mostly = st.sampled_from([True] * 19 + [False])
_faults = st.sampled_from([None] * 36 + [0, 1, 2, 3])


@st.composite
def update_bodies(
    draw: st.DrawFn, *, four_octet_as: bool, add_path: frozenset[Family] = frozenset()
) -> bytes:
    """UPDATE bodies: mostly attributes that belong there, with some of the faults that RFC 7606 speaks of."""
    table = _values(four_octet_as, add_path)
    codes = draw(st.lists(st.sampled_from(sorted(table)), max_size=8))
    if draw(_often):
        codes = [1, 2, 3, *(code for code in codes if code > 3)]
    if draw(_often):
        codes = list(dict.fromkeys(codes))
    if draw(st.booleans()):
        codes.sort(key=lambda code: code != 14)  # MP_REACH_NLRI first (RFC 7606 section 5.1)
    parts = []
    for code in codes:
        flags, values = table[code]
        value = draw(values)
        fault = draw(_faults)
        if fault == 0:
            value = value[:-1]
        elif fault == 1:
            value += b"\0"
        elif fault == 2:
            flags ^= draw(st.sampled_from([0x80, 0x40, 0x20]))
        elif fault == 3:
            value = draw(st.binary(max_size=8))
        if len(value) > 255 or not draw(_often):
            parts.append(struct.pack("!BBH", flags | 0x10, code, len(value)) + value)
        else:
            parts.append(bytes((flags & ~0x10, code, len(value))) + value)
    attributes = b"".join(parts)
    if not draw(_mostly):
        attributes = attributes[: draw(st.integers(0, len(attributes)))]
    some = nlri_field(Family.IPV4, add_path, min_size=1, max_size=12)
    withdrawn = b"" if draw(_often) else draw(some)
    announced = draw(some) if draw(_often) and codes[:1] != [14] else b""
    if not draw(_mostly):
        announced += draw(st.binary(max_size=3))
    return (
        struct.pack("!H", len(withdrawn))
        + withdrawn
        + struct.pack("!H", len(attributes))
        + attributes
        + announced
    )


@st.composite
def mutated(draw: st.DrawFn, source: st.SearchStrategy[bytes]) -> bytes:
    """Something valid with octets changed, cut out, put in, or repeated."""
    data = bytearray(draw(source))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        kind = draw(st.integers(0, 3))
        if kind == 0 and data:
            data[min(at, len(data) - 1)] = draw(st.integers(0, 255))
        elif kind == 1:
            del data[at : at + draw(st.integers(1, 4))]
        elif kind == 2:
            data[at:at] = draw(st.binary(max_size=4))
        else:
            data[at:at] = data[at : at + 8]
    return bytes(data)

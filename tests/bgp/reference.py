"""A second UPDATE parser: slow, plain, and written from the RFCs without a look at the fast one.

No cache, no registry, no interning, one pass of small steps. Tests compare it with `routed.bgp.update`.
"""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass, field

from routed.bgp.nlri import Family
from routed.bgp.update import Update

Prefix = tuple[Family, str]
"""Family and prefix; with ADD-PATH the text begins with the path identifier: `7 10.0.0.0/8`."""
Path = list[tuple[int, list[int]]]


class Reset(Exception):  # noqa: N818 - it is what happens
    """The session has to be reset."""


@dataclass
class Route:
    """The attributes of one announced prefix."""

    next_hop: bytes
    origin: int
    as_path: Path
    med: int | None = None
    local_pref: int | None = None
    atomic: bool = False
    aggregator: tuple[int, bytes] | None = None
    communities: list[int] = field(default_factory=list)
    originator_id: bytes | None = None
    cluster_list: list[bytes] = field(default_factory=list)
    extended: bytes = b""
    large: list[tuple[int, int, int]] = field(default_factory=list)
    unknown: dict[int, bytes] = field(default_factory=dict)


@dataclass
class Result:
    """What an UPDATE does to the peer's routes."""

    announced: dict[Prefix, Route] = field(default_factory=dict)
    withdrawn: set[Prefix] = field(default_factory=set)
    end_of_rib: Family | None = None


@dataclass
class _Attributes:
    values: dict[int, bytes] = field(default_factory=dict)
    unknown: dict[int, bytes] = field(default_factory=dict)
    present: set[int] = field(default_factory=set)
    withdraw: bool = False


def reference_update(
    body: bytes,
    *,
    four_octet_as: bool,
    families: frozenset[Family],
    ibgp: bool,
    add_path: frozenset[Family] = frozenset(),
) -> Result:
    """The effect of an UPDATE's body; raises `Reset`."""
    withdrawn_length = struct.unpack_from("!H", body)[0]
    if withdrawn_length + 4 > len(body):
        raise Reset("withdrawn routes length")
    withdrawn = body[2 : 2 + withdrawn_length]
    attributes_length = struct.unpack_from("!H", body, 2 + withdrawn_length)[0]
    if withdrawn_length + attributes_length + 4 > len(body):
        raise Reset("total attribute length")
    raw = body[4 + withdrawn_length :][:attributes_length]
    nlri = body[4 + withdrawn_length + attributes_length :]

    result = Result()
    if not raw and not withdrawn and not nlri:
        result.end_of_rib = Family.IPV4 if Family.IPV4 in families else None
        return result

    attributes = _attributes(raw, four_octet_as=four_octet_as, ibgp=ibgp)
    if Family.IPV4 in families:
        result.withdrawn.update(_prefixes(withdrawn, Family.IPV4, add_path))

    reachable_is_there = bool(nlri)
    announcements: list[tuple[Family, bytes | None, list[Prefix]]] = []
    if 15 in attributes.values:
        value = attributes.values[15]
        if len(value) < 3:
            raise Reset("MP_UNREACH length")
        family = _family(value, families)
        if family is not None:
            gone = _prefixes(value[3:], family, add_path)
            result.withdrawn.update(gone)
            if not gone and attributes.present == {15} and not withdrawn and not nlri:
                result.end_of_rib = family
    if 14 in attributes.values:
        value = attributes.values[14]
        if len(value) < 5:
            raise Reset("MP_REACH length")
        family = _family(value, families)
        if family is None:
            reachable_is_there = True
        else:
            size = value[3]
            if size not in ((4,) if family is Family.IPV4 else (16, 32)) or len(value) < 5 + size:
                raise Reset("next hop length")
            prefixes = _prefixes(value[5 + size :], family, add_path)
            if prefixes:
                reachable_is_there = True
                announcements.append((family, _one_next_hop(value[4 : 4 + size]), prefixes))
    if nlri and Family.IPV4 in families:
        announcements.append((Family.IPV4, attributes.values.get(3), _prefixes(nlri, Family.IPV4, add_path)))

    if attributes.withdraw and not reachable_is_there and attributes.present != {15}:
        raise Reset("an error, and no NLRI")
    for _, next_hop, prefixes in announcements:
        route = None if attributes.withdraw else _route(attributes, next_hop, four_octet_as=four_octet_as)
        if route is None:
            result.withdrawn.update(prefixes)
        else:
            result.announced.update(dict.fromkeys(prefixes, route))
    return result


def _family(value: bytes, families: frozenset[Family]) -> Family | None:
    afi, safi = struct.unpack_from("!HB", value)
    for family in families:
        if (afi, safi) == (int(family), 1):
            return family
    return None


def _one_next_hop(value: bytes) -> bytes:
    if len(value) < 32:
        return value
    glob, local = value[:16], value[16:]
    if glob == bytes(16):
        return local
    return value if ipaddress.IPv6Address(local).is_link_local else glob


def _prefixes(data: bytes, family: Family, add_path: frozenset[Family]) -> list[Prefix]:
    found = []
    size = 4 if family is Family.IPV4 else 16
    while data:
        path_id = ""
        if family in add_path:
            if len(data) < 5:
                raise Reset("path identifier")
            path_id, data = f"{int.from_bytes(data[:4])} ", data[4:]
        length, data = data[0], data[1:]
        octets = -(-length // 8)
        if length > size * 8 or octets > len(data):
            raise Reset("NLRI")
        address = int.from_bytes(data[:octets].ljust(size, b"\0"))
        mask = ((1 << length) - 1) << (size * 8 - length)
        packed = (address & mask).to_bytes(size)
        found.append((family, f"{path_id}{ipaddress.ip_address(packed)}/{length}"))
        data = data[octets:]
    return found


def _attributes(raw: bytes, *, four_octet_as: bool, ibgp: bool) -> _Attributes:
    found = _Attributes()
    while raw:
        if len(raw) < 3 or (raw[0] & 0x10 and len(raw) < 4):
            if len(raw) > 1 and raw[1] in (14, 15):
                raise Reset("a multiprotocol attribute is cut short")
            found.withdraw = True
            found.present.add(raw[1] if len(raw) > 1 else -1)
            break
        flags, code = raw[0], raw[1]
        header = 4 if flags & 0x10 else 3
        length = int.from_bytes(raw[2:header])
        value = raw[header : header + length]
        if len(value) < length:
            if code in (14, 15):
                raise Reset("a multiprotocol attribute is cut short")
            found.withdraw = True
            found.present.add(code)
            break
        raw = raw[header + length :]
        if code in found.present:
            if code in (14, 15):
                raise Reset("a multiprotocol attribute is there twice")
            continue
        found.present.add(code)
        _one_attribute(found, flags, code, value, four_octet_as=four_octet_as, ibgp=ibgp)
    return found


_FLAGS = {1: 0x40, 2: 0x40, 3: 0x40, 4: 0x80, 5: 0x40, 6: 0x40, 7: 0xC0, 8: 0xC0, 9: 0x80, 10: 0x80}
_FLAGS |= {14: 0x80, 15: 0x80, 16: 0xC0, 17: 0xC0, 18: 0xC0, 32: 0xC0}


def _one_attribute(
    found: _Attributes, flags: int, code: int, value: bytes, *, four_octet_as: bool, ibgp: bool
) -> None:
    if code not in _FLAGS:
        if not flags & 0x80:
            raise Reset("an unrecognized well-known attribute")
        if flags & 0x40:
            found.unknown[code] = value
        return
    if code in (5, 9, 10) and not ibgp:
        return
    if code in (17, 18) and four_octet_as:
        return
    size = len(value)
    if flags & 0xC0 != _FLAGS[code]:
        found.withdraw = True
        if code not in (14, 15):
            return
    bad = {
        1: size != 1 or value[0] > 2,
        2: _path(value, 4 if four_octet_as else 2) is None,
        3: size != 4 or value == bytes(4) or value[0] >= 224,
        4: size != 4,
        5: size != 4,
        8: size == 0 or size % 4 != 0,
        9: size != 4,
        10: size == 0 or size % 4 != 0,
        16: size == 0 or size % 8 != 0,
        32: size == 0 or size % 12 != 0,
    }
    if bad.get(code):
        found.withdraw = True
        return
    aggregator_as = value[:-4]
    discarded = {
        6: size != 0,
        7: size != (8 if four_octet_as else 6) or not any(aggregator_as),
        17: not value or _path(value, 4, confederations=True) is None,
        18: size != 8 or not any(aggregator_as),
    }
    if not discarded.get(code):
        found.values[code] = value


def _path(value: bytes, octets: int, *, confederations: bool = False) -> Path | None:
    path: Path = []
    while value:
        if len(value) < 2:
            return None
        kind, count = value[0], value[1]
        body = value[2 : 2 + count * octets]
        if count == 0 or len(body) < count * octets:
            return None
        asns = [int.from_bytes(body[at : at + octets]) for at in range(0, len(body), octets)]
        if 0 in asns or kind not in ((1, 2, 3, 4) if confederations else (1, 2)):
            return None
        path.append((kind, asns))
        value = value[2 + count * octets :]
    return path


def _length(path: Path) -> int:
    return sum({1: 1, 2: len(asns)}.get(kind, 0) for kind, asns in path)


def _route(attributes: _Attributes, next_hop: bytes | None, *, four_octet_as: bool) -> Route | None:
    values = attributes.values
    if 1 not in values or 2 not in values or next_hop is None:
        return None
    if not any(next_hop) or next_hop[0] >= (224 if len(next_hop) == 4 else 255):
        return None
    path = _path(values[2], 4 if four_octet_as else 2)
    assert path is not None
    aggregator = values.get(7)
    as4 = True
    if aggregator is not None and not four_octet_as:
        if aggregator[:2] == struct.pack("!H", 23456):
            aggregator = values.get(18, aggregator)
        else:
            as4 = False
    if as4 and 17 in values:
        path = _merged(path, _path(values[17], 4, confederations=True) or [])
    communities, clusters, large = values.get(8, b""), values.get(10, b""), values.get(32, b"")
    triples = [struct.unpack_from("!III", large, at) for at in range(0, len(large), 12)]
    return Route(
        next_hop=next_hop,
        origin=values[1][0],
        as_path=path,
        med=int.from_bytes(values[4]) if 4 in values else None,
        local_pref=int.from_bytes(values[5]) if 5 in values else None,
        atomic=6 in values,
        aggregator=None if aggregator is None else (int.from_bytes(aggregator[:-4]), aggregator[-4:]),
        communities=[int.from_bytes(communities[at : at + 4]) for at in range(0, len(communities), 4)],
        originator_id=values.get(9),
        cluster_list=[clusters[at : at + 4] for at in range(0, len(clusters), 4)],
        extended=values.get(16, b""),
        large=[(a, b, c) for at, (a, b, c) in enumerate(triples) if (a, b, c) not in triples[:at]],
        unknown=attributes.unknown,
    )


def _merged(path: Path, as4_path: Path) -> Path:
    """RFC 6793 section 4.2.3, AS by AS."""
    as4_path = [(kind, asns) for kind, asns in as4_path if kind in (1, 2)]
    lead = _length(path) - _length(as4_path)
    if lead < 0 or not as4_path:
        return path
    front: Path = []
    for kind, asns in path:
        if lead == 0:
            break
        if kind == 1:
            front.append((kind, asns))
            lead -= 1
        else:
            front.append((kind, asns[:lead]))
            lead -= len(asns[:lead])
    return front + as4_path


def joined(path: Path) -> Path:
    """A path with neighbouring sequences joined, to compare paths that were cut into segments differently."""
    out: Path = []
    for kind, asns in path:
        if out and kind == out[-1][0] == 2:
            out[-1] = (2, out[-1][1] + list(asns))
        else:
            out.append((kind, list(asns)))
    return out


def result_of(update: Update, add_path: frozenset[Family] = frozenset()) -> Result:
    """The fast parser's `Update` in the reference's terms."""
    from routed.bgp import nlri

    def to_text(key: bytes, family: Family) -> str:
        if family not in add_path:
            return nlri.to_text(key, family)
        return f"{int.from_bytes(key[:4])} {nlri.to_text(key[4:], family)}"

    result = Result(end_of_rib=update.end_of_rib)
    for family, prefixes in update.withdrawn:
        result.withdrawn.update((family, to_text(n, family)) for n in prefixes)
    assert all(prefixes for *_, prefixes in (*update.announced, *update.withdrawn))
    for family, attributes, prefixes in update.announced:
        extra = {
            code: value
            for code, value in _wire_values(attributes.wire).items()
            if code in (6, 7, 16) or code not in _FLAGS
        }
        aggregator = extra.pop(7, None)
        route = Route(
            next_hop=attributes.next_hop,
            origin=attributes.origin,
            as_path=[(kind, list(asns)) for kind, asns in attributes.as_path],
            med=attributes.med,
            local_pref=attributes.local_pref,
            atomic=extra.pop(6, None) is not None,
            aggregator=None if aggregator is None else (int.from_bytes(aggregator[:-4]), aggregator[-4:]),
            communities=list(attributes.communities),
            originator_id=attributes.originator_id,
            cluster_list=list(attributes.cluster_list),
            extended=extra.pop(16, b""),
            large=list(attributes.large_communities),
            unknown=extra,
        )
        result.announced.update(dict.fromkeys(((family, to_text(n, family)) for n in prefixes), route))
    return result


def _wire_values(wire: bytes) -> dict[int, bytes]:
    values = {}
    while wire:
        header = 4 if wire[0] & 0x10 else 3
        length = int.from_bytes(wire[2:header])
        values[wire[1]] = wire[header : header + length]
        wire = wire[header + length :]
    return values

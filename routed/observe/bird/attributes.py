"""Path attributes as BIRD's `show route all` writes them (proto/bgp/attrs.c, nest/a-set.c)."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from ipaddress import IPv4Address
from typing import Final

from routed.bgp.as_path import SegmentType, decode_as_path
from routed.bgp.attributes import AttributeSet, next_hop_text
from routed.bgp.path_attributes import TRANSITIVE, Code, split_attributes

#: BIRD's buffer for a line (CLI_MSG_SIZE): longer lists go on in the next one.
LINE_OCTETS: Final = 500
#: Origins as BIRD names them, and as the end of a route's line does.
_ORIGINS: Final = ("IGP", "EGP", "Incomplete")
ORIGIN_LETTERS: Final = "ie?"


def attribute_lines(attributes: AttributeSet, local_pref: int | None = None) -> Iterator[str]:
    """Each attribute, in the order of their codes. `local_pref` is what counts where there is none: BIRD
    gives every route that it receives one."""
    shown: dict[int, list[str]] = {Code.NEXT_HOP: [next_hop_text(attributes.next_hop)]}
    if local_pref is not None:
        shown[Code.LOCAL_PREF] = [str(local_pref)]
    names: dict[int, str] = {}
    for flags, code, _at, start, end in split_attributes(attributes.wire):
        value = attributes.wire[start:end]
        row = _ROWS.get(code)
        if row is None:
            names[code] = f"{code:02x}{' [t]' if flags & TRANSITIVE else ''}"
            shown[code] = list(lines((f"{octet:02x}" for octet in value), len(names[code]) + 7))
        else:
            shown[code] = list(lines(row[1](value), len(row[0]) + 7))
    for code in sorted(shown):
        name = names.get(code) or _ROWS[code][0]
        first, *more = shown[code] or [""]
        yield f"\tBGP.{name}: {first}"
        for text in more:
            yield f"\t\t{text}"


def origin_as(attributes: AttributeSet) -> int | None:
    """The AS where a route began: the last one of AS_PATH; None: our own, or a set of them."""
    path = attributes.as_path
    if not path or path[-1].type != SegmentType.AS_SEQUENCE or not path[-1].asns:
        return None
    return path[-1].asns[-1]


def lines(words: Iterable[str], used: int) -> Iterator[str]:
    """Words in lines of at most `LINE_OCTETS`, of which the first has `used` already."""
    line: list[str] = []
    for word in words:
        if line and used + len(word) + 1 > LINE_OCTETS:
            yield " ".join(line)
            line, used = [], 2
        line.append(word)
        used += len(word) + 1
    yield " ".join(line)


def _as_path(value: bytes) -> Iterator[str]:
    for segment in decode_as_path(value):
        words = map(str, segment.asns)
        yield from ("{", *words, "}") if segment.is_set else words


def _number(value: bytes) -> Iterator[str]:
    yield str(int.from_bytes(value))


def _addresses(value: bytes) -> Iterator[str]:
    for at in range(0, len(value), 4):
        yield str(IPv4Address(value[at : at + 4]))


def _aggregator(value: bytes) -> Iterator[str]:
    yield f"{IPv4Address(value[4:])} AS{int.from_bytes(value[:4])}"


def _communities(value: bytes) -> Iterator[str]:
    for high, low in struct.iter_unpack("!HH", value):
        yield f"({high},{low})"


def _large(value: bytes) -> Iterator[str]:
    for three in struct.iter_unpack("!III", value):
        yield "({}, {}, {})".format(*three)


def _extended(value: bytes) -> Iterator[str]:
    """RFC 4360: route targets and site origins by name, with an AS, an address or a 4-octet AS; others in
    numbers."""
    for kind, high, low in struct.iter_unpack("!HHI", value):
        name = _EXTENDED.get(kind & 0xF0FF, f"unknown {kind:#x}")
        form = kind >> 8 & 0xBF  # without the bit that says whether it is transitive
        if form == 0:
            yield f"({name}, {high}, {low})"
        elif form in (1, 2):
            first = high << 16 | low >> 16
            yield f"({name}, {IPv4Address(first) if form == 1 else first}, {low & 0xFFFF})"
        else:
            yield f"(generic, {kind << 16 | high:#x}, {low:#x})"


_EXTENDED: Final = {0x0002: "rt", 0x0003: "ro"}
_ROWS: Final[dict[int, tuple[str, Callable[[bytes], Iterable[str]]]]] = {
    Code.ORIGIN: ("origin", lambda value: (_ORIGINS[value[0]],)),
    Code.AS_PATH: ("as_path", _as_path),
    Code.NEXT_HOP: ("next_hop", _addresses),
    Code.MED: ("med", _number),
    Code.LOCAL_PREF: ("local_pref", _number),
    Code.ATOMIC_AGGREGATE: ("atomic_aggr", lambda value: ()),
    Code.AGGREGATOR: ("aggregator", _aggregator),
    Code.COMMUNITIES: ("community", _communities),
    Code.ORIGINATOR_ID: ("originator_id", _addresses),
    Code.CLUSTER_LIST: ("cluster_list", _addresses),
    Code.EXTENDED_COMMUNITIES: ("ext_community", _extended),
    Code.LARGE_COMMUNITIES: ("large_community", _large),
}

"""AS_PATH segments: decode, check, encode, in 2 and in 4 octets an AS (RFC 4271 section 5.1.2, RFC 6793)."""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

AS_TRANS: Final = 23456
MAX_SEGMENT_ASNS: Final = 255


class SegmentType(enum.IntEnum):
    """Path segment types (RFC 4271 section 4.3, RFC 5065 section 3)."""

    AS_SET = 1
    AS_SEQUENCE = 2
    AS_CONFED_SEQUENCE = 3
    AS_CONFED_SET = 4


class Segment(NamedTuple):
    """One path segment: its type (`SegmentType`) and its ASes in wire order."""

    type: int
    asns: tuple[int, ...]

    @property
    def is_set(self) -> bool:
        """True where the order of the ASes says nothing: AS_SET and AS_CONFED_SET."""
        return self.type in (SegmentType.AS_SET, SegmentType.AS_CONFED_SET)


AsPath = tuple[Segment, ...]


class BadAsPath(ValueError):  # noqa: N818 - it is the attribute that is bad
    """The octets are no AS_PATH; the text says why."""


def decode_as_path(value: bytes, *, octets: int = 4) -> AsPath:
    """The segments in `value`, with `octets` (2 or 4) octets an AS. Every segment type is accepted here.

    Raises `BadAsPath` where a segment is cut short, overruns the attribute or holds no AS (RFC 7606
    section 7.2)."""
    segments = []
    at, end = 0, len(value)
    while at < end:
        if end - at < 2:
            raise BadAsPath("a path segment is cut short")
        count = value[at + 1]
        if not count:
            raise BadAsPath("a path segment holds no AS")
        stop = at + 2 + count * octets
        if stop > end:
            raise BadAsPath("a path segment is longer than the attribute")
        asns = struct.unpack_from(f"!{count}{'I' if octets == 4 else 'H'}", value, at + 2)
        segments.append(Segment(value[at], asns))
        at = stop
    return tuple(segments)


def check_as_path(path: AsPath) -> None:
    """Raise `BadAsPath` for what a peer outside of any confederation must not send: a segment type other than
    AS_SET and AS_SEQUENCE (RFC 7606 section 7.2, RFC 5065 section 4), or AS 0 (RFC 7607 section 2)."""
    for segment in path:
        if segment.type not in (SegmentType.AS_SET, SegmentType.AS_SEQUENCE):
            raise BadAsPath(f"path segment type {segment.type} is not accepted here")
        if 0 in segment.asns:
            raise BadAsPath("AS 0 in the path")


def encode_as_path(path: Iterable[tuple[int, Sequence[int]]], *, octets: int = 4) -> bytes:
    """The attribute's value with `octets` (2 or 4) octets an AS; in 2 octets a larger AS becomes AS_TRANS.

    An AS_SEQUENCE of more than 255 ASes is written as several segments (RFC 4271 section 5.1.2)."""
    parts = []
    for kind, asns in path:
        for at in range(0, len(asns), MAX_SEGMENT_ASNS):
            some = asns[at : at + MAX_SEGMENT_ASNS]
            if octets == 2:
                some = [asn if asn < 65536 else AS_TRANS for asn in some]
            parts.append(struct.pack(f"!BB{len(some)}{'I' if octets == 4 else 'H'}", kind, len(some), *some))
    return b"".join(parts)


def path_length(path: AsPath) -> int:
    """The number of ASes as route selection counts them: a set is one (RFC 4271 section 9.1.2.2 a), a
    confederation segment none (RFC 5065 section 5.3)."""
    length = 0
    for kind, asns in path:
        if kind == SegmentType.AS_SEQUENCE:
            length += len(asns)
        elif kind == SegmentType.AS_SET:
            length += 1
    return length


def neighbor_as(path: AsPath) -> int | None:
    """The AS the route was received from: the first of the path's leading AS_SEQUENCE; None where there is no
    such AS, as in a route of our own AS (RFC 4271 section 9.1.2.2 c)."""
    for kind, asns in path:
        if kind == SegmentType.AS_SEQUENCE:
            return asns[0]
        if kind == SegmentType.AS_SET:
            return None
    return None


def prepend(path: AsPath, asn: int, count: int = 1) -> AsPath:
    """`path` with `asn` in front `count` times: in the leading AS_SEQUENCE while it has room, else in a new
    one (RFC 4271 section 5.1.2)."""
    new: tuple[int, ...] = (asn,) * count
    if path and path[0].type == SegmentType.AS_SEQUENCE:
        room = max(0, MAX_SEGMENT_ASNS - len(path[0].asns))
        joined = new[len(new) - min(room, count) :] + path[0].asns
        new, path = new[: len(new) - min(room, count)], (Segment(SegmentType.AS_SEQUENCE, joined), *path[1:])
    while new:
        cut = max(0, len(new) - MAX_SEGMENT_ASNS)
        path = (Segment(SegmentType.AS_SEQUENCE, new[cut:]), *path)
        new = new[:cut]
    return path


def merge_as4_path(as_path: AsPath, as4_path: AsPath) -> AsPath:
    """The whole path from a 2-octet AS_PATH and the AS4_PATH beside it (RFC 6793 section 4.2.3).

    An AS4_PATH that is longer than the AS_PATH is ignored; else it replaces the path's tail and the leading
    ASes of AS_PATH stay in front of it."""
    as4_path = tuple(s for s in as4_path if s.type in (SegmentType.AS_SET, SegmentType.AS_SEQUENCE))
    keep = path_length(as_path) - path_length(as4_path)
    if keep < 0 or not as4_path:
        return as_path
    front: list[Segment] = []
    for segment in as_path:
        if keep <= 0:
            break
        if segment.type == SegmentType.AS_SEQUENCE:
            front.append(Segment(segment.type, segment.asns[:keep]))
            keep -= len(segment.asns)
        else:
            front.append(segment)
            keep -= segment.type == SegmentType.AS_SET
    if (
        front
        and front[-1].type == as4_path[0].type == SegmentType.AS_SEQUENCE
        and len(front[-1].asns) + len(as4_path[0].asns) <= MAX_SEGMENT_ASNS
    ):
        joined = Segment(SegmentType.AS_SEQUENCE, front[-1].asns + as4_path[0].asns)
        return (*front[:-1], joined, *as4_path[1:])
    return (*front, *as4_path)


def path_text(path: AsPath) -> str:
    """`64512 64513 {64514 64515}`: sequences plain, sets in braces, confederation segments in parentheses."""
    marks = {
        SegmentType.AS_SEQUENCE: "%s",
        SegmentType.AS_SET: "{%s}",
        SegmentType.AS_CONFED_SEQUENCE: "(%s)",
        SegmentType.AS_CONFED_SET: "({%s})",
    }
    return " ".join(marks[SegmentType(kind)] % " ".join(map(str, asns)) for kind, asns in path)

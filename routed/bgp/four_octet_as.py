"""Between us, who write AS numbers in 4 octets, and a peer that writes 2 (RFC 6793)."""

from __future__ import annotations

from routed.bgp.as_path import AS_TRANS, SegmentType, decode_as_path, encode_as_path, merge_as4_path
from routed.bgp.path_attributes import REGISTRY, Code, encode_attribute, split_attributes

Values = dict[int, tuple[int, bytes]]  # type code -> flags, value


def merge_as4(values: Values) -> None:
    """Take AS4_PATH and AS4_AGGREGATOR of a 2-octet peer out of `values` and into AS_PATH and AGGREGATOR.

    AS_PATH and AGGREGATOR are there in 4-octet form already (RFC 6793 section 4.2.3)."""
    _, as4_path = values.pop(Code.AS4_PATH, (0, b""))
    as4_aggregator = values.pop(Code.AS4_AGGREGATOR, None)
    aggregator = values.get(Code.AGGREGATOR)
    if aggregator is not None:
        if int.from_bytes(aggregator[1][:4]) != AS_TRANS:
            return  # aggregated by a 2-octet speaker after the AS4 attributes were written: they are stale
        if as4_aggregator is not None:
            values[Code.AGGREGATOR] = (aggregator[0], as4_aggregator[1])
    if as4_path and Code.AS_PATH in values:
        flags, path = values[Code.AS_PATH]
        merged = merge_as4_path(decode_as_path(path), decode_as_path(as4_path))
        values[Code.AS_PATH] = (flags, encode_as_path(merged))


def to_two_octet_as(wire: bytes) -> bytes:
    """An `AttributeSet.wire` as a 2-octet peer reads it: AS_TRANS for what does not fit, with the true
    numbers in AS4_PATH and AS4_AGGREGATOR (RFC 6793 section 4.2.2)."""
    parts: dict[int, bytes] = {}
    for flags, code, at, start, end in split_attributes(wire):
        if code == Code.AS_PATH:
            path = decode_as_path(wire[start:end])
            parts[code] = encode_attribute(flags, code, encode_as_path(path, octets=2))
            if any(asn > 65535 for segment in path for asn in segment.asns):
                plain = [s for s in path if s.type in (SegmentType.AS_SET, SegmentType.AS_SEQUENCE)]
                parts[Code.AS4_PATH] = _as4(Code.AS4_PATH, encode_as_path(plain))
        elif code == Code.AGGREGATOR:
            number, address = int.from_bytes(wire[start : start + 4]), wire[start + 4 : end]
            short = number if number < 65536 else AS_TRANS
            parts[code] = encode_attribute(flags, code, short.to_bytes(2) + address)
            if number > 65535:
                parts[Code.AS4_AGGREGATOR] = _as4(Code.AS4_AGGREGATOR, wire[start:end])
        else:
            parts[code] = wire[at:end]
    return b"".join(parts[code] for code in sorted(parts))


def _as4(code: Code, value: bytes) -> bytes:
    return encode_attribute(REGISTRY[code].flags, code, value)

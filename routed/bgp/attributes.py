"""`AttributeSet`: the path attributes of a route, immutable and interned.

A set is its bytes: what best path or a policy asks for is decoded when it is first asked for, and what nobody
asks for goes out as it came in. Equal content is the same object, so that `is` compares two sets, an identity
hash groups routes by them, and a million routes with one set of attributes hold one set.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Callable, Iterable
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Any, Final, NoReturn
from weakref import WeakValueDictionary

from routed.bgp.as_path import (
    AsPath,
    Segment,
    SegmentType,
    decode_as_path,
    encode_as_path,
    neighbor_as,
    path_length,
    prepend,
)
from routed.bgp.path_attributes import PARTIAL, REGISTRY, Code, Json, encode_attribute, split_attributes

__all__ = [
    "EGP",
    "IGP",
    "INCOMPLETE",
    "UNSET",
    "AsPath",
    "AttributeSet",
    "Segment",
    "SegmentType",
    "intern_attributes",
    "next_hop_text",
    "originate",
]

IGP: Final = 0
EGP: Final = 1
INCOMPLETE: Final = 2


class _Unset(enum.Enum):
    UNSET = enum.auto()


UNSET: Final = _Unset.UNSET

_DECODED = (
    "origin",
    "as_path",
    "as_path_length",
    "neighbor_as",
    "med",
    "local_pref",
    "originator_id",
    "cluster_list",
    "communities",
    "large_communities",
)


class AttributeSet:
    """The path attributes of a route. Made by `intern_attributes` and `originate` only, never changed.

    wire            the attributes in wire form, in ascending order of type, AS numbers in 4 octets, without
                    NEXT_HOP, MP_REACH_NLRI and MP_UNREACH_NLRI
    next_hop        4 octets, 16, or 32 (global and link-local address, RFC 2545 section 3)
    origin          0 IGP, 1 EGP, 2 INCOMPLETE
    as_path         its segments; as_path_length counts them as best path does (RFC 4271 section 9.1.2.2 a)
    neighbor_as     the AS the route came from (RFC 4271 section 9.1.2.2 c); None: a route of our own AS
    med, local_pref None where absent
    originator_id   4 octets or None; cluster_list: 4 octets each (RFC 4456)
    communities     32-bit numbers (RFC 1997); large_communities: triples (RFC 8092)
    """

    __slots__ = ("__weakref__", "next_hop", "wire", *_DECODED)

    wire: bytes
    next_hop: bytes
    origin: int
    as_path: AsPath
    as_path_length: int
    neighbor_as: int | None
    med: int | None
    local_pref: int | None
    originator_id: bytes | None
    cluster_list: tuple[bytes, ...]
    communities: tuple[int, ...]
    large_communities: tuple[tuple[int, int, int], ...]

    def __init__(self, wire: bytes, next_hop: bytes) -> None:
        object.__setattr__(self, "wire", wire)
        object.__setattr__(self, "next_hop", next_hop)

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            # Reached only while a slot is empty. The first question decodes all of them, and from then on
            # each is a plain slot: best path reads them without a call.
            if name not in _DECODED:
                raise AttributeError(f"AttributeSet has no attribute {name!r}")
            self._decode()
            return object.__getattribute__(self, name)

        def __setattr__(self, name: str, value: object) -> NoReturn:
            raise AttributeError(f"AttributeSet is immutable: cannot set {name!r}, use replace()")

    def _decode(self) -> None:
        wire = self.wire
        values: dict[int, bytes] = {
            code: wire[start:end] for _flags, code, _at, start, end in split_attributes(wire)
        }
        put = object.__setattr__
        path = decode_as_path(values.get(Code.AS_PATH, b""))
        put(self, "as_path", path)
        put(self, "as_path_length", path_length(path))
        put(self, "neighbor_as", neighbor_as(path))
        put(self, "origin", values.get(Code.ORIGIN, b"\2")[0])
        for name, code in (("med", Code.MED), ("local_pref", Code.LOCAL_PREF)):
            put(self, name, int.from_bytes(values[code]) if code in values else None)
        put(self, "originator_id", values.get(Code.ORIGINATOR_ID))
        clusters = values.get(Code.CLUSTER_LIST, b"")
        put(self, "cluster_list", tuple(clusters[at : at + 4] for at in range(0, len(clusters), 4)))
        communities = values.get(Code.COMMUNITIES, b"")
        put(self, "communities", struct.unpack(f"!{len(communities) // 4}I", communities))
        large = values.get(Code.LARGE_COMMUNITIES, b"")
        put(self, "large_communities", tuple(struct.iter_unpack("!III", large)))

    def replace(
        self,
        *,
        next_hop: bytes | _Unset = UNSET,
        origin: int | _Unset = UNSET,
        as_path: AsPath | _Unset = UNSET,
        med: int | _Unset | None = UNSET,
        local_pref: int | _Unset | None = UNSET,
        originator_id: bytes | _Unset | None = UNSET,
        cluster_list: Iterable[bytes] | _Unset | None = UNSET,
        communities: Iterable[int] | _Unset | None = UNSET,
        large_communities: Iterable[tuple[int, int, int]] | _Unset | None = UNSET,
    ) -> AttributeSet:
        """The set with these attributes instead. None, or nothing in a list, removes the attribute; what is
        not named stays. An attribute that is changed loses its Partial bit: the value is ours now."""
        new_hop = self.next_hop if next_hop is UNSET else next_hop
        changes: dict[int, bytes | None] = {}
        for code, value in (
            (Code.ORIGIN, origin),
            (Code.AS_PATH, as_path),
            (Code.MED, med),
            (Code.LOCAL_PREF, local_pref),
            (Code.COMMUNITIES, communities),
            (Code.ORIGINATOR_ID, originator_id),
            (Code.CLUSTER_LIST, cluster_list),
            (Code.LARGE_COMMUNITIES, large_communities),
        ):
            if value is not UNSET:
                encoded = None if value is None else _ENCODE[code](value)
                changes[code] = encoded or (b"" if code == Code.AS_PATH else None)
        return intern_attributes(_changed(self.wire, changes) if changes else self.wire, new_hop)

    def splice(self, octets: bytes, first: int, last: int) -> AttributeSet:
        """The set with `octets`, encoded attributes in ascending order of type, in place of all those of the
        types `first` to `last`. What `replace` does, for one who has the octets: neither set is decoded."""
        wire = self.wire
        start = end = 0
        for _flags, code, _at, _value, stop in split_attributes(wire):
            if code > last:
                break
            if code < first:
                start = stop
            end = stop
        return intern_attributes(b"".join((wire[:start], octets, wire[end:])), self.next_hop)

    def prepend_as(self, asn: int, count: int = 1) -> AttributeSet:
        """The set with `asn` in front of AS_PATH, `count` times (RFC 4271 section 5.1.2 b)."""
        return self.replace(as_path=prepend(self.as_path, asn, count))

    def without_internal(self) -> AttributeSet:
        """The set without what must not leave our AS as received: MED, LOCAL_PREF, ORIGINATOR_ID and
        CLUSTER_LIST (RFC 4271 sections 5.1.4 and 5.1.5, RFC 4456 section 8; the registry's `to_ebgp`)."""
        return intern_attributes(_changed(self.wire, _NOT_TO_EBGP), self.next_hop)

    def describe(self) -> dict[str, Json]:
        """Every attribute by its name in the registry, plain enough for JSON. An unknown one is
        `attribute_<code>`, in hexadecimal; names of attributes with the Partial bit are in `partial`."""
        shown: dict[str, Json] = {"next_hop": next_hop_text(self.next_hop)}
        partial: list[str] = []
        for flags, code, _at, start, end in split_attributes(self.wire):
            row = REGISTRY.get(code)
            name = row.name if row else f"attribute_{code}"
            shown[name] = row.show(self.wire[start:end]) if row else self.wire[start:end].hex()
            if flags & PARTIAL:
                partial.append(name)
        if partial:
            shown["partial"] = partial
        return shown

    def __repr__(self) -> str:
        return f"AttributeSet({', '.join(f'{name}={value!r}' for name, value in self.describe().items())})"

    def __copy__(self) -> AttributeSet:
        return self

    def __deepcopy__(self, memo: object) -> AttributeSet:
        return self

    def __reduce__(self) -> tuple[Callable[[bytes, bytes], AttributeSet], tuple[bytes, bytes]]:
        return intern_attributes, (self.wire, self.next_hop)


_NOT_TO_EBGP: Final[dict[int, bytes | None]] = {
    code: None for code, row in REGISTRY.items() if not row.to_ebgp
}

_ENCODE: Final[dict[int, Callable[[Any], bytes]]] = {
    Code.ORIGIN: lambda origin: bytes((origin,)),
    Code.AS_PATH: encode_as_path,
    Code.MED: lambda med: struct.pack("!I", med),
    Code.LOCAL_PREF: lambda preference: struct.pack("!I", preference),
    Code.COMMUNITIES: lambda numbers: b"".join(struct.pack("!I", number) for number in numbers),
    Code.ORIGINATOR_ID: bytes,
    Code.CLUSTER_LIST: b"".join,
    Code.LARGE_COMMUNITIES: lambda triples: b"".join(struct.pack("!III", *triple) for triple in triples),
}


def _changed(wire: bytes, changes: dict[int, bytes | None]) -> bytes:
    """`wire` with the attributes of `changes` (type code to value, None to remove) put in their places."""
    parts = {
        code: wire[at:end] for _flags, code, at, _start, end in split_attributes(wire) if code not in changes
    }
    for code, value in changes.items():
        if value is not None:
            parts[code] = encode_attribute(REGISTRY[code].flags, code, value)
    return b"".join(parts[code] for code in sorted(parts))


# Weak: a set that no route, log or cache holds any more is forgotten with its last holder.
_interned: WeakValueDictionary[tuple[bytes, bytes], AttributeSet] = WeakValueDictionary()


def intern_attributes(wire: bytes, next_hop: bytes) -> AttributeSet:
    """The one `AttributeSet` with this content. Both arguments must be in the form that `AttributeSet` says,
    and valid: bytes from a peer go through `update.parse_update`."""
    key = (wire, next_hop)
    found = _interned.get(key)
    if found is None:
        found = _interned[key] = AttributeSet(wire, next_hop)
    return found


def originate(
    *,
    origin: int = IGP,
    next_hop: bytes,
    local_pref: int | None = None,
    med: int | None = None,
    communities: Iterable[int] = (),
    large_communities: Iterable[tuple[int, int, int]] = (),
) -> AttributeSet:
    """The attributes of a route of our own: an empty AS_PATH (RFC 4271 section 5.1.2)."""
    return intern_attributes(b"", next_hop).replace(
        origin=origin,
        as_path=(),
        local_pref=local_pref,
        med=med,
        communities=communities,
        large_communities=large_communities,
    )


def next_hop_text(next_hop: bytes) -> str:
    """`10.0.0.1`, `fd00::1`, or `fd00::1 fe80::1` for 32 octets."""
    if len(next_hop) == 4:
        return str(IPv4Address(next_hop))
    return " ".join(str(IPv6Address(next_hop[at : at + 16])) for at in range(0, len(next_hop), 16))

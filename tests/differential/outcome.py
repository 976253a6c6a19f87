"""What can be seen of a node from outside, as one flat table of texts, and how two such tables differ."""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from tests.raw_peer import (
    ADD_PATH,
    AGGREGATOR,
    AS_PATH,
    ATOMIC_AGGREGATE,
    CLUSTER_LIST,
    COMMUNITIES,
    ENHANCED_REFRESH,
    EXTENDED_MESSAGE,
    FOUR_OCTET_AS,
    GRACEFUL_RESTART,
    LARGE_COMMUNITIES,
    LOCAL_PREF,
    LONG_LIVED,
    MED,
    MP_REACH,
    MULTIPROTOCOL,
    NEXT_HOP,
    ORIGIN,
    ORIGINATOR_ID,
    ROUTE_REFRESH,
    Attribute,
    Attributes,
    Open,
    RawPeer,
)

#: `(peer, worker02, 10.244.1.0/26, LOCAL_PREF)`, `(kernel, 10.244.2.0/26, metric)`,
#: `(open, worker02, hold time)`.
Path = tuple[str, ...]
Outcome = dict[Path, str]

_ATTRIBUTE_NAMES = {
    ORIGIN: "ORIGIN",
    AS_PATH: "AS_PATH",
    NEXT_HOP: "NEXT_HOP",
    MED: "MULTI_EXIT_DISC",
    LOCAL_PREF: "LOCAL_PREF",
    ATOMIC_AGGREGATE: "ATOMIC_AGGREGATE",
    AGGREGATOR: "AGGREGATOR",
    COMMUNITIES: "COMMUNITIES",
    ORIGINATOR_ID: "ORIGINATOR_ID",
    CLUSTER_LIST: "CLUSTER_LIST",
    MP_REACH: "NEXT_HOP",
    LARGE_COMMUNITIES: "LARGE_COMMUNITY",
}
_CAPABILITY_NAMES = {
    MULTIPROTOCOL: "multiprotocol",
    ROUTE_REFRESH: "route refresh",
    EXTENDED_MESSAGE: "extended messages",
    GRACEFUL_RESTART: "graceful restart",
    FOUR_OCTET_AS: "4-octet AS",
    ADD_PATH: "ADD-PATH",
    ENHANCED_REFRESH: "enhanced route refresh",
    LONG_LIVED: "long-lived graceful restart",
}


@dataclass(frozen=True, slots=True)
class Difference:
    """One value that is not the same; None: it is not there at all.

    Where a whole route is on one side only, that is one difference, with the path of the route."""

    path: Path
    bird: str | None
    routed: str | None

    def __str__(self) -> str:
        return f"{' / '.join(self.path)}: BIRD {self.bird or '(none)'}, routed {self.routed or '(none)'}"


def differences(bird: Mapping[Path, str], routed: Mapping[Path, str]) -> list[Difference]:
    """All differences, in order of their paths."""
    found: list[Difference] = []
    for path in sorted(bird.keys() | routed.keys()):
        one, other = bird.get(path), routed.get(path)
        # A route that is not there has no attributes that could differ.
        absent = any(path[:-1] in side for side in (bird, routed)) and not all(
            path[:-1] in side for side in (bird, routed)
        )
        if one != other and not absent:
            found.append(Difference(path, one, other))
    return found


def attribute_texts(attributes: Attributes) -> Iterator[tuple[str, str]]:
    """Name and value of each path attribute, as a person reads them; flags included where they are not the
    usual ones of its type."""
    for code, attribute in attributes.items():
        name = _ATTRIBUTE_NAMES.get(code, f"attribute {code}")
        usual = _USUAL_FLAGS.get(code)
        flags = "" if attribute.flags == usual else f" [flags {attribute.flags:#04x}]"
        yield name, _value_text(attribute) + flags


_USUAL_FLAGS = {
    ORIGIN: 0x40,
    AS_PATH: 0x40,
    NEXT_HOP: 0x40,
    MED: 0x80,
    LOCAL_PREF: 0x40,
    ATOMIC_AGGREGATE: 0x40,
    AGGREGATOR: 0xC0,
    COMMUNITIES: 0xC0,
    ORIGINATOR_ID: 0x80,
    CLUSTER_LIST: 0x80,
    MP_REACH: 0x80,
    LARGE_COMMUNITIES: 0xC0,
}


def _value_text(attribute: Attribute) -> str:
    value = attribute.value
    match attribute.code:
        case 1:
            return ("igp", "egp", "incomplete")[value[0]]
        case 2:
            return " ".join(_segments(value)) or "(empty)"
        case 3:
            return str(ipaddress.ip_address(value))
        case 4 | 5:
            return str(int.from_bytes(value, "big"))
        case 9:
            return str(ipaddress.IPv4Address(value))
        case 10:
            return " ".join(str(ipaddress.IPv4Address(value[i : i + 4])) for i in range(0, len(value), 4))
        case 8:
            # A set: its order means nothing.
            return " ".join(sorted(f"{high}:{low}" for high, low in struct.iter_unpack("!HH", value)))
        case 14:
            hops = value[4 : 4 + value[3]]
            return " and ".join(str(ipaddress.ip_address(hops[i : i + 16])) for i in range(0, len(hops), 16))
        case 32:
            return " ".join(sorted(":".join(map(str, one)) for one in struct.iter_unpack("!III", value)))
        case _:
            return value.hex() or "(empty)"


def _segments(value: bytes) -> Iterator[str]:
    while value:
        kind, count = value[:2]
        numbers = " ".join(map(str, struct.unpack_from(f"!{count}I", value, 2)))
        yield {1: f"{{{numbers}}}", 2: numbers}.get(kind, f"segment {kind} {numbers}")
        value = value[2 + 4 * count :]


def open_texts(heard: Open) -> Iterator[tuple[str, str]]:
    """What an OPEN says, but for the hostname and the like."""
    yield "AS", str(heard.asn)
    yield "hold time", str(heard.hold_time)
    yield "router ID", heard.router_id
    for code in sorted({code for code, _ in heard.capabilities}):
        name = _CAPABILITY_NAMES.get(code, f"capability {code}")
        yield name, " ".join(sorted(value.hex() or "yes" for value in heard.values(code)))


def peer_outcome(name: str, peer: RawPeer) -> Outcome:
    """What one peer saw of the node: the OPEN, and the routes it has been told of."""
    outcome: Outcome = {("session", name): "established" if peer.established else "down"}
    if not peer.established:
        return outcome
    for field, text in open_texts(peer.open()):
        outcome["open", name, field] = text
    by_prefix: dict[str, list[tuple[tuple[str, str], ...]]] = {}
    add_path = False
    for route, attributes in peer.table().items():
        add_path |= route.path_id != 0
        by_prefix.setdefault(route.prefix, []).append(tuple(sorted(attribute_texts(attributes))))
    for prefix, paths in by_prefix.items():
        # A path identifier means nothing but that it is another (RFC 7911 section 3): paths are told apart
        # by what they say.
        for number, path in enumerate(sorted(paths), 1):
            key = f"{prefix} path {number}" if add_path else prefix
            outcome["peer", name, key] = "told"
            for field, text in path:
                outcome["peer", name, key, field] = text
    return outcome


def kernel_outcome(
    routes: list[dict[str, Any]], protocol: int, tunnelled: Mapping[str, str] = MappingProxyType({})
) -> Outcome:
    """The kernel's routes of one protocol number: `ip -j -d -N route show`'s objects. Routes of others are
    told as `alien`, so that it shows where a daemon touched one.

    `tunnelled`: next hops by prefix of routes that stand for ones through tunl0."""
    outcome: Outcome = {}
    for route in routes:
        own = str(route.get("protocol")) == str(protocol)
        if not own and str(route.get("protocol")) == "2":
            continue  # the kernel's own: connected routes, multicast
        destination = str(route["dst"])
        if destination == "default":
            destination = "0.0.0.0/0" if "." in str(route.get("gateway", ".")) else "::/0"
        if "/" not in destination:
            destination += "/128" if ":" in destination else "/32"
        kind = "kernel" if own else "alien"
        metric = str(route.get("metric", 0))
        if not own:
            outcome[kind, f"{destination} metric {metric} protocol {route.get('protocol')}"] = _hops_text(
                route
            )
            continue
        key = destination
        if (kind, key) in outcome:  # two of the daemon's own, told apart by their metric
            key = f"{destination} metric {metric}"
        outcome[kind, key] = "present"
        outcome[kind, key, "metric"] = metric
        outcome[kind, key, "type"] = {"1": "unicast", "6": "blackhole"}.get(
            str(route.get("type")), str(route.get("type"))
        )
        hops = f"via {tunnelled[key]} dev tunl0 onlink" if key in tunnelled else _hops_text(route)
        if hops:
            outcome[kind, key, "next hops"] = hops
    return outcome


def _hops_text(route: dict[str, Any]) -> str:
    texts = []
    for hop in route.get("nexthops", [route]):
        if ("gateway" not in hop and "dev" not in hop) or str(route.get("type")) == "6":
            continue
        weight = hop.get("weight", 1)
        texts.append(
            (f"via {hop['gateway']} " if "gateway" in hop else "")
            + f"dev {hop.get('dev')}"
            + (" onlink" if "onlink" in hop.get("flags", ()) else "")
            + (f" weight {weight}" if weight != 1 else "")
        )
    return ", ".join(sorted(texts))

"""The differences that are known: a row of the table in docs/differences.md and a rule here for each, under
one id, so that neither can say what the other does not."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.differential.outcome import Difference

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "differences.md"
EVERYWHERE = "all"
_ROW = re.compile(r"^\| `(?P<id>[a-z0-9-]+)` \|(?P<cells>.*)\| (?P<clusters>[^|]*) \|$")


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the table: what BIRD does, what routed does, why, and in which clusters it shows."""

    id: str
    bird: str
    routed: str
    why: str
    clusters: tuple[str, ...]


def documented(text: str) -> dict[str, Row]:
    """The rows of the table by id. ValueError for a row that is not whole, or an id that is there twice."""
    rows: dict[str, Row] = {}
    for line in text.splitlines():
        if not line.startswith("| `"):
            continue
        found = _ROW.match(line)
        cells = [cell.strip() for cell in found["cells"].split("|")] if found else []
        if found is None or len(cells) != 3 or not all(cells):
            raise ValueError(f"not a whole row: {line}")
        if found["id"] in rows:
            raise ValueError(f"twice in the table: {found['id']}")
        clusters = tuple(one.strip() for one in found["clusters"].split(","))
        bird, routed, why = cells
        rows[found["id"]] = Row(found["id"], bird, routed, why, clusters)
    return rows


@dataclass(frozen=True, slots=True)
class Rule:
    """Which differences an id stands for. As narrow as can be said: the values count, not only the place."""

    id: str
    holds: Callable[[str, Difference], bool]
    """Name of the cluster and the difference in."""


def _values(bird: str | None, routed: str | None) -> Callable[[Difference], bool]:
    return lambda one: (one.bird, one.routed) == (bird, routed)


def _open(field: str, bird: str | None, routed: str | None) -> Callable[[str, Difference], bool]:
    same = _values(bird, routed)
    return lambda _, one: one.path[0] == "open" and one.path[-1] == field and same(one)


def _notification_bit(_: str, one: Difference) -> bool:
    """The capability's first octet has the restart flags: R is 0x80, N 0x40 (RFC 8538 section 2)."""
    return (
        one.path[0] == "open"
        and one.path[-1] == "graceful restart"
        and one.bird is not None
        and one.routed == f"{int(one.bird[:2], 16) | 0x40:02x}{one.bird[2:]}"
    )


def _restart_wait(cluster: str, one: Difference) -> bool:
    """BIRD comes late to the peer behind a gateway: its time to restart is over."""
    path = ("open", "far", "graceful restart")
    return cluster == "sessions" and one.path == path and one.bird == "007800010100"


#: The node's own blocks in all clusters, and a peer behind a gateway.
_STATIC = re.compile(r"10\.\d+\.1\.0/26|fd00:10:244:1::/122|198\.51\.100\.5/32")
_NORMAL_PRIORITY = {"priorities": "512", "ipv6-outside": "2048"}


def _static_metric(cluster: str, one: Difference) -> bool:
    """0 in IPv4; in IPv6 the kernel makes 1024 of it."""
    return (
        (one.path[0], one.path[-1]) == ("kernel", "metric")
        and _STATIC.fullmatch(one.path[1]) is not None
        and one.bird == ("1024" if ":" in one.path[1] else "0")
        and one.routed == _NORMAL_PRIORITY.get(cluster, "1024")
    )


def _partial_not_set(_: str, one: Difference) -> bool:
    return (
        one.path[-1].startswith("attribute ")
        and one.bird is not None
        and one.routed == one.bird.replace("[flags 0xc0]", "[flags 0xe0]")
    )


def _partial_set(_: str, one: Difference) -> bool:
    return (
        one.path[-1] in ("COMMUNITIES", "LARGE_COMMUNITY")
        and one.routed is not None
        and one.bird == one.routed + " [flags 0xe0]"
    )


def _static_wins(cluster: str, one: Difference) -> bool:
    """A route of ours that BIRD prefers to an equally preferred one of a peer's: it tells all of them its
    own, routed none of them the other."""
    routes = {"priorities": "10.244.1.0/26", "services": "203.0.113.130/32"}
    if one.path[0] == "peer":
        return one.path[2:] == (routes.get(cluster),) and (one.bird, one.routed) == ("told", None)
    values = {
        "metric": ("0", "100"),
        "type": ("blackhole", "unicast"),
        "next hops": (None, "via 192.0.2.2 dev eth0"),
    }
    kernel = ("kernel", "10.244.1.0/26", one.path[-1])
    return (
        cluster == "priorities" and one.path == kernel and values.get(one.path[-1]) == (one.bird, one.routed)
    )


def _borrowed_by_ipam(cluster: str, one: Difference) -> bool:
    """Two addresses of another node's block that IPAM gave to pods of ours, and no other."""
    return (
        cluster == "borrowed"
        and one.path[-1] in ("10.244.2.9/32", "10.244.2.10/32")
        and one.bird is None
        and one.routed == {"kernel": "present", "peer": "told"}.get(one.path[0])
    )


def _unreachable(cluster: str, one: Difference) -> bool:
    """BIRD's kernel route to a prefix whose next hop is on no network of the node (any more)."""
    prefixes = ("10.244.3.0/26", "10.244.4.0/26")
    return (
        cluster == "connected"
        and one.path in [("kernel", prefix) for prefix in prefixes]
        and (one.bird, one.routed) == ("present", None)
    )


def _own_next_hop(cluster: str, one: Difference) -> bool:
    """A route whose next hop is the node itself: BIRD tells it, and has it as unreachable."""
    return (cluster, one.path[-1], one.routed) == ("connected", "10.244.6.0/26", None) and one.bird == {
        "kernel": "present",
        "peer": "told",
    }.get(one.path[0])


RULES = (
    Rule("hold-time", _open("hold time", "240", "90")),
    Rule("extended-messages", _open("extended messages", None, "yes")),
    Rule("restart-wait", _restart_wait),
    Rule("notification-bit", _notification_bit),
    Rule("static-tie", _static_wins),
    Rule("static-metric", _static_metric),
    Rule("partial-unknown", _partial_not_set),
    Rule("partial-own", _partial_set),
    Rule("med-outside", lambda _, one: one.path[-1] == "MULTI_EXIT_DISC" and _values("0", None)(one)),
    Rule(
        "add-path-equal",
        lambda cluster, one: (
            cluster == "add-path"
            and one.path[:2] == ("peer", "router")
            and one.path[-1] in ("10.244.2.0/26 path 3", "10.244.3.0/26 path 2")
            and _values("told", None)(one)
        ),
    ),
    Rule("borrowed-by-ipam", _borrowed_by_ipam),
    Rule("unreachable", _unreachable),
    Rule("own-next-hop", _own_next_hop),
    Rule(
        "cluster-loop",
        lambda cluster, one: (
            cluster == "reflector"
            and one.path == ("kernel", "10.244.5.0/26")
            and _values("present", None)(one)
        ),
    ),
    Rule(
        "next-hop-of-peer",
        lambda cluster, one: (
            cluster == "reflector"
            and one.path == ("peer", "worker04", "10.244.7.0/26")
            and _values(None, "told")(one)
        ),
    ),
)


def explain(
    cluster: str, found: Iterable[Difference]
) -> tuple[dict[str, list[Difference]], list[Difference]]:
    """The differences by the id of the first rule that holds, and those that no rule is for."""
    by_id: dict[str, list[Difference]] = {}
    rest: list[Difference] = []
    for one in found:
        rule = next((rule for rule in RULES if rule.holds(cluster, one)), None)
        if rule is None:
            rest.append(one)
        else:
            by_id.setdefault(rule.id, []).append(one)
    return by_id, rest


def expected(cluster: str, rows: Mapping[str, Row]) -> set[str]:
    """The ids that the table says show in a cluster."""
    return {row.id for row in rows.values() if cluster in row.clusters or EVERYWHERE in row.clusters}

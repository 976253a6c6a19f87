"""An intent as plain data for scripts, and as lines for people. No secret is in either."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network

import msgspec

from routed.bgp.nlri import Family
from routed.intent.filters import CompiledFilter
from routed.intent.types import FamilyIntent, KernelAction, NodeIntent, OriginatedRoute, SessionIntent
from routed.resources import Key, LargeCommunity, Problem, SecretValue, StandardCommunity

Plain = None | bool | int | float | str | list["Plain"] | dict[str, "Plain"]
_AS_TEXT = (
    IPv4Address,
    IPv6Address,
    IPv4Network,
    IPv6Network,
    IPv4Interface,
    IPv6Interface,
    Key,
    StandardCommunity,
    LargeCommunity,
)


def as_data(intent: NodeIntent, problems: Iterable[Problem] = ()) -> dict[str, Plain]:
    """The intent in mappings, lists, texts and numbers. `problems` are those of the datastore, such as
    records that were rejected; the intent's own follow."""
    data = plain(intent)
    assert isinstance(data, dict)
    data["sessions"] = [plain(session) for session in intent.sessions.values()]
    data["originated"] = [plain(route) for route in intent.originated.values()]
    data["families"] = {family.name.lower(): plain(facts) for family, facts in intent.families.items()}
    data["filters"] = {name: _filter(compiled) for name, compiled in intent.filters.items()}
    data["problems"] = [plain(problem) for problem in (*problems, *intent.problems)]
    return data


def plain(value: object) -> Plain:
    """One value: addresses, prefixes, record keys and communities as texts, secrets as their being there."""
    match value:
        case Family():
            return value.name.lower()
        case enum.Enum():
            return str(value.value)
        case None | bool() | int() | float() | str():
            return value
        case SecretValue():
            return "********"
        case Mapping():
            return {str(plain(key)): plain(item) for key, item in value.items()}
        case frozenset() | set():
            return sorted((plain(item) for item in value), key=str)
    if isinstance(value, _AS_TEXT):
        return str(value)
    if is_dataclass(value):
        return {f.name: plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, msgspec.Struct):
        return {f: plain(getattr(value, f)) for f in value.__struct_fields__}
    if isinstance(value, Iterable):
        return [plain(item) for item in value]
    raise TypeError(f"{type(value).__name__} has no plain form")


def _filter(compiled: CompiledFilter) -> Plain:
    rules: dict[str, Plain] = {
        f"{direction}_{family.name.lower()}": plain(listed)
        for (family, direction), listed in compiled.rules.items()
    }
    return {"record": str(compiled.record), **rules}


def as_text(intent: NodeIntent, problems: Iterable[Problem] = ()) -> str:
    """The intent as a person reads it: what the node is, its sessions, its routes, its policies, and what is
    wrong. Each line says which record it comes from."""
    found = (*problems, *intent.problems)
    parts = [
        _table(_node(intent)),
        _section(
            "Sessions", [("name", "peer", "AS", "how", "from"), *map(_session, intent.sessions.values())]
        ),
        _section(
            "Originated routes",
            [("prefix", "does", "why", "from"), *map(_route, intent.originated.values())],
        ),
        *(_section(f"{family.name} policy", _policy(facts)) for family, facts in intent.families.items()),
        _section(
            "Problems",
            [
                (problem.severity, str(problem.key or problem.source), problem.field, problem.reason)
                for problem in found
            ],
        ),
    ]
    return "\n".join(part for part in parts if part)


def _node(intent: NodeIntent) -> list[tuple[str, ...]]:
    return [
        ("node", intent.node),
        ("router ID", str(intent.router_id or "not known yet")),
        ("AS", str(intent.local_as)),
        (
            "listens",
            f"{' and '.join(map(str, intent.bind_address)) or 'all addresses'}, port {intent.listen_port}",
        ),
        *([("cluster ID", str(intent.cluster_id))] if intent.cluster_id else []),
    ]


def _session(session: SessionIntent) -> tuple[str, ...]:
    how = [
        "iBGP" if session.ibgp else f"eBGP as {session.local_as}",
        "client" if session.route_reflector_client else "",
        "passive" if session.passive else "",
        f"next hop {session.next_hop_mode.lower()}" if session.next_hop_mode != "Auto" else "",
        f"GTSM {session.ttl_security_hops}" if session.ttl_security_hops else "",
        "password" if session.password else "",
        f"via {session.reachable_by}" if session.reachable_by else "",
        f"filters {'+'.join(session.filters)}" if session.filters else "",
    ]
    address = f"[{session.peer_address}]" if session.peer_address.version == 6 else str(session.peer_address)
    node = f" {session.peer_node}" if session.peer_node else ""
    origin = f"{session.record}{' (the way back)' if session.reverse else ''}"
    return (
        session.name,
        f"{address}:{session.port}{node}",
        str(session.peer_as),
        ", ".join(filter(None, how)),
        origin,
    )


def _route(route: OriginatedRoute) -> tuple[str, ...]:
    does = [
        "advertise" if route.advertise else "",
        "blackhole" if route.blackhole else "",
        f"via {route.gateway}" if route.gateway else "",
    ]
    return str(route.network), ", ".join(filter(None, does)) or "nothing", route.reason, str(route.record)


def _policy(facts: FamilyIntent) -> list[tuple[str, ...]]:
    export, kernel = facts.export_policy, facts.kernel_policy
    lines: list[tuple[str, ...]] = [("node address", str(facts.node_address or "none: no sessions"))]
    lines += [("export", "reject", str(network), "disableBGPExport") for network in export.rejected]
    lines += [
        ("export", "hide inside", str(network), "a block of this node") for network in export.aggregates
    ]
    lines += [("export", "accept", str(network), "service") for network in export.statics]
    lines += [("export", "accept", str(network), "service range, reflected") for network in export.reflected]
    lines += [("export", "accept", str(network), "pool") for network in export.accepted]
    for rule in export.communities:
        values = [
            *(f"{v >> 16}:{v & 0xFFFF}" for v in rule.standard),
            *(":".join(map(str, v)) for v in rule.large),
        ]
        lines.append(("export", "add", str(rule.network), " ".join(values)))
    lines += [
        ("kernel", KernelAction.REJECT.value, f"via {address}", "WireGuard: the node agent routes there")
        for address in sorted(kernel.rejected_next_hops, key=str)
    ]
    lines += [("kernel", rule.action.value, str(rule.network), rule.reason) for rule in kernel.rules]
    return lines


def _section(title: str, rows: Sequence[tuple[str, ...]]) -> str:
    """A heading and a table; nothing where there are no rows, but perhaps column titles."""
    titled = bool(rows) and rows[0][0] in ("name", "prefix")
    count = len(rows) - titled
    return f"\n{title} ({count})\n{_table(rows)}" if count else ""


def _table(rows: Sequence[tuple[str, ...]]) -> str:
    widths: dict[int, int] = {}
    for row in rows:
        for column, text in enumerate(row[:-1]):
            widths[column] = max(widths.get(column, 0), len(text))
    return "\n".join(
        "  "
        + "  ".join(
            text.ljust(widths[column]) if column < len(row) - 1 else text for column, text in enumerate(row)
        ).rstrip()
        for row in rows
    )

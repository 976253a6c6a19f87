"""BIRD 1.6 configuration from a NodeIntent: what Calico's confd writes for the same records.

The policies are the intent's own; this module only says them in BIRD's words. Where BIRD cannot say
something (a password with a quote in it) the peering is written without it, and a problem says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from ipaddress import ip_network
from typing import Any

import jinja2

from routed.bgp.nlri import Family, Network
from routed.intent.filters import (
    PRIORITY_SUM,
    AddCommunity,
    CompiledRule,
    Direction,
    Operation,
    PrefixMatch,
    PrependASPath,
    SetPriority,
    local_pref,
)
from routed.intent.services import in_text_order
from routed.intent.types import (
    CommunityRule,
    FamilyIntent,
    KernelAction,
    KernelRule,
    NodeIntent,
    OriginKind,
    PeeringKind,
    SessionIntent,
)
from routed.resources import (
    Address,
    CommunityValue,
    LargeCommunity,
    MatchOperator,
    Problem,
    StandardCommunity,
)

MAX_SYMBOL = 64
"""Longest name BIRD takes."""
_HASH_DIGITS = 16

_OPERATORS = {
    MatchOperator.EQUAL: "=",
    MatchOperator.NOT_EQUAL: "!=",
    MatchOperator.IN: "~",
    MatchOperator.NOT_IN: "!~",
}


@dataclass(frozen=True, slots=True)
class FileNames:
    """The files of one family; the main file includes the other two."""

    main: str
    aggregates: str
    ipam: str


FILES = {
    Family.IPV4: FileNames("bird.cfg", "bird_aggr.cfg", "bird_ipam.cfg"),
    Family.IPV6: FileNames("bird6.cfg", "bird6_aggr.cfg", "bird6_ipam.cfg"),
}


@dataclass(frozen=True, slots=True)
class Rendered:
    """File contents by name, and what could not be said in BIRD's words."""

    files: Mapping[str, str]
    problems: tuple[Problem, ...] = ()


def render(intent: NodeIntent) -> Rendered:
    """The six files of a node. The same intent gives the same bytes."""
    files: dict[str, str] = {}
    problems: list[Problem] = []
    for family, names in FILES.items():
        context = _context(intent, family, names)
        writer = _Writer(intent, family)
        environment = writer.environment()
        for name, template in (
            (names.main, "bird.cfg.j2"),
            (names.aggregates, "bird_aggr.cfg.j2"),
            (names.ipam, "bird_ipam.cfg.j2"),
        ):
            files[name] = environment.get_template(template).render(context)
        problems += writer.problems
    return Rendered(files, tuple(dict.fromkeys(problems)))


def _context(intent: NodeIntent, family: Family, names: FileNames) -> dict[str, Any]:
    """What the templates of one family read."""
    facts = intent.families.get(family) or FamilyIntent(family, None)
    address = facts.node_address.ip if facts.node_address is not None else None
    priority = facts.export_policy.normal_priority
    severity = intent.log_severity.lower()
    own = [route for network, route in intent.originated.items() if Family.of(network) is family]
    # BIRD has no tunnels for IPv6, and an accept says nothing that the end of the filter does not.
    rules = [
        rule
        for rule in facts.kernel_policy.rules
        if not rule.service and (family is Family.IPV4 or rule.action is KernelAction.REJECT)
    ]
    return {
        "node": intent.node,
        "version": 4 if family is Family.IPV4 else 6,
        "family": facts,
        "names": names,
        "router_id": intent.router_id,
        "cluster_id": intent.cluster_id,
        "local_as": intent.local_as,
        "listen": _listen(intent, address),
        "priority": priority,
        "normal_local_pref": local_pref(priority),
        "debug_all": severity in ("debug", "trace"),
        "debug_none": severity == "none",
        "ignored_interfaces": intent.ignored_interfaces,
        "directions": (Direction.IMPORT, Direction.EXPORT),
        "filters": [
            (name, compiled)
            for name, compiled in sorted(intent.filters.items())
            if any(compiled.of(family, direction) for direction in Direction)
        ],
        "sessions": _sessions(intent, family),
        "blackholes": in_text_order(
            route.network for route in own if route.kind is OriginKind.BLOCK and route.blackhole
        ),
        "gateways": _gateways(intent, family),
        "wireguard": sorted(facts.kernel_policy.rejected_next_hops, key=str),
        "pool_rules": rules,
    }


def _listen(intent: NodeIntent, address: Address | None) -> dict[str, object] | None:
    """What `listen bgp` says; None where BIRD's own defaults are meant."""
    bound = address if address in intent.bind_address else None
    port = intent.listen_port if "listen_port" in intent.explicit else None
    return {"address": bound, "port": port} if bound or port else None


def _sessions(intent: NodeIntent, family: Family) -> list[SessionIntent]:
    """By name, as confd orders them."""
    sessions = (session for session in intent.sessions.values() if session.family is family)
    return sorted(sessions, key=lambda session: session.name)


def _gateways(intent: NodeIntent, family: Family) -> list[tuple[Network, Address]]:
    """Static routes to peers: those of global peerings, then the others, each in the order of their names."""
    ways: dict[Network, Address] = {}
    sessions = _sessions(intent, family)
    for session in sorted(sessions, key=lambda session: session.kind is not PeeringKind.GLOBAL):
        if session.reachable_by is not None:
            ways.setdefault(ip_network(session.peer_address), session.reachable_by)
    return list(ways.items())


class _Writer:
    """The words for parts of an intent, as filters of the templates; collects what has none."""

    def __init__(self, intent: NodeIntent, family: Family) -> None:
        self.intent = intent
        self.family = family
        self.version = 4 if family is Family.IPV4 else 6
        self.problems: list[Problem] = []

    def environment(self) -> jinja2.Environment:
        """Templates come from the package; an unknown name is an error, not an empty text."""
        environment = jinja2.Environment(
            loader=jinja2.PackageLoader("routed", "templates"),
            undefined=jinja2.StrictUndefined,
            autoescape=False,  # noqa: S701  # the outcome is no HTML; the records' readers admit no quotes
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
        )
        environment.filters |= {
            "add_community": add_community,
            "communities": sorted_communities,
            "filter_calls": self.filter_calls,
            "function_name": function_name,
            "kernel_action": self.kernel_action,
            "parameters": parameters,
            "password": self.password,
            "statement": statement,
        }
        return environment

    def filter_calls(self, session: SessionIntent, direction: Direction) -> Iterator[str]:
        """Calls of a session's filters; those that have no rules of this kind, or are not there, have no
        function to call."""
        for name in session.filters:
            compiled = self.intent.filters.get(name)
            rules = compiled.of(self.family, direction) if compiled is not None else ()
            if rules:
                argument = ("true" if session.ibgp else "false") if parameters(rules) else ""
                yield f"{function_name(name, direction, self.version)}({argument})"

    def password(self, session: SessionIntent) -> str | None:
        """The password of a session as BIRD's quoted text; None where it has no such form."""
        if session.password is None:
            return None
        try:
            text = session.password.reveal().decode()
        except UnicodeDecodeError:
            text = '"'
        if '"' in text or not text.isprintable():
            reason = (
                f"the password of {session.name} holds a quote, a line break or another character that BIRD "
                "cannot be given: the peering is written without it; choose one of plain letters and digits"
            )
            self.problems.append(Problem(session.record, "spec.password", reason))
            return None
        return text

    def kernel_action(self, rule: KernelRule) -> str:
        """What a pool's rule does."""
        device = self.intent.families[self.family].kernel_policy.tunnel_device
        if rule.action is KernelAction.TUNNEL:
            return f'krt_tunnel="{device}"; accept;'
        if rule.action is KernelAction.TUNNEL_CROSS_SUBNET:
            address = self.intent.families[self.family].node_address
            if address is None:
                return f'krt_tunnel="{device}"; accept;'
            same_subnet = f"(defined(bgp_next_hop)&&(bgp_next_hop ~ {address.network}))"
            return f'if {same_subnet} then krt_tunnel=""; else krt_tunnel="{device}"; accept;'
        return "accept;" if rule.action is KernelAction.ACCEPT else "reject;"


def function_name(name: str, direction: Direction, version: int) -> str:
    """The quoted name of a BGPFilter's function. Of a name that is too long for BIRD the first part stays,
    and the first 16 hex digits, upper case, of its SHA-256 tell it from others."""
    suffix = f"_{direction}FilterV{version}"
    room = MAX_SYMBOL - len("bgp_") - len("_importFilterV4")
    if len(name) > room:
        digest = sha256(name.encode()).hexdigest().upper()[:_HASH_DIGITS]
        name = f"{name[: room - _HASH_DIGITS - 1]}_{digest}"
    return f"'bgp_{name}{suffix}'"


def parameters(rules: Iterable[CompiledRule]) -> str:
    """A function whose rules ask for the type of the peer is told it by its caller."""
    return "bool internal_peer" if any(rule.ibgp is not None for rule in rules) else ""


def statement(rule: CompiledRule) -> str:
    """One rule as a statement."""
    done = "".join(f"{words}; " for operation in rule.operations for words in _operation(operation))
    action = "accept" if rule.accept else "reject"
    conditions = "&&".join(_conditions(rule))
    if conditions:
        return f"if ({conditions}) then {{ {done}{action}; }}"
    return f"{done}{action};"


def _conditions(rule: CompiledRule) -> Iterator[str]:
    if rule.prefix is not None:
        yield _prefix(rule.prefix)
    if rule.learned_by_bgp:
        yield "((defined(source))&&(source ~ [ RTS_BGP ]))"
    if rule.interface is not None:
        yield f'((defined(ifname))&&(ifname ~ "{rule.interface}"))'
    if rule.ibgp is not None:
        yield "(internal_peer)" if rule.ibgp else "(!internal_peer)"
    if rule.community is not None:
        yield f"({_pair(rule.community)} ~ {_attribute(rule.community)})"
    if rule.as_path_prefix:
        yield f"(bgp_path ~ [= {' '.join(map(str, rule.as_path_prefix))} * =])"
    if rule.local_pref is not None:
        yield f"(defined(bgp_local_pref)&&(bgp_local_pref = {rule.local_pref}))"


def _prefix(match: PrefixMatch) -> str:
    operator = _OPERATORS[match.operator]
    if not match.bounded:
        return f"(net {operator} {match.text})"
    pattern = f"[ {match.text}{{{match.minimum},{match.maximum}}} ]"
    if match.operator is MatchOperator.EQUAL:
        return f"((net = {match.text})&&(net ~ {pattern}))"
    if match.operator is MatchOperator.NOT_EQUAL:
        return f"((net != {match.text})||(net !~ {pattern}))"
    return f"(net {operator} {pattern})"


def _operation(operation: Operation) -> list[str]:
    match operation:
        case AddCommunity(value):
            return [add_community(value)]
        case PrependASPath(prefix):
            # Each goes before the last one: the path begins with them in the order given.
            return [f"bgp_path.prepend({number})" for number in reversed(prefix)]
        case SetPriority(value):
            return [f"bgp_local_pref = {local_pref(value)}"]


def add_community(value: CommunityValue) -> str:
    """A call that adds a community to a route."""
    return f"{_attribute(value)}.add({_pair(value)})"


def _attribute(value: CommunityValue) -> str:
    return "bgp_large_community" if isinstance(value, LargeCommunity) else "bgp_community"


def _pair(value: CommunityValue) -> str:
    return f"({', '.join(map(str, value))})"


def sorted_communities(rule: CommunityRule) -> list[CommunityValue]:
    """The communities of a prefixAdvertisements entry in the order of their texts, as confd has them."""
    standard = [StandardCommunity(value >> 16, value & 0xFFFF) for value in rule.standard]
    return sorted([*standard, *(LargeCommunity(*value) for value in rule.large)], key=str)


_PASSWORD = re.compile(r'^(\s*password ")[^"]*(";)$', re.MULTILINE)


def without_passwords(rendered: Rendered) -> dict[str, str]:
    """The files for people to look at."""
    return {name: _PASSWORD.sub(r"\1********\2", text) for name, text in rendered.files.items()}


__all__ = [
    "FILES",
    "PRIORITY_SUM",
    "FileNames",
    "Rendered",
    "function_name",
    "render",
    "statement",
    "without_passwords",
]

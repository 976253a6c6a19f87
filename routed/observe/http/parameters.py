"""The parameters of queries: what they are called, and how their texts are read."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address, ip_network
from typing import Any, Final

from routed.bgp.nlri import Family, Network
from routed.observe.events import EventKind
from routed.observe.http.routing import Parameter
from routed.observe.views.route_queries import LIMIT, Match

#: Routes of one answer, at most: they are sent in portions, as the client takes them.
MOST_ROUTES: Final = 1_000_000


def _one_of(values: list[str]) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in values:
            raise ValueError(f"use one of {', '.join(values)}")
        return text

    return parse


def _whole_number(least: int, most: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not (text.isascii() and text.isdecimal() and len(text) < 20) or not least <= int(text) <= most:
            raise ValueError(f"is no whole number from {least} to {most}")
        return int(text)

    return parse


def _prefix(text: str) -> tuple[Network, Match]:
    """A prefix is meant exactly, an address stands for the longest prefix that holds it."""
    try:
        if "/" not in text:
            return ip_network(ip_address(text)), Match.LONGEST
        network = ip_network(text, strict=False)
    except ValueError:
        raise ValueError("is neither a prefix, such as 10.1.0.0/26, nor an address") from None
    return network, Match.EXACT


def _cursor(text: str) -> str:
    try:
        ip_network(text)
    except ValueError:
        raise ValueError("is no `next` of an earlier page") from None
    return text


def _choice(name: str, description: str, values: list[str], default: str | None = None) -> Parameter:
    schema: dict[str, Any] = {"type": "string", "enum": values}
    if default is not None:
        schema["default"] = default
    return Parameter(name, description, schema, _one_of(values), default)


_NUMBER_SCHEMA: Final = {"type": "integer", "minimum": 0}
_TEXT_SCHEMA: Final = {"type": "string"}

ROUTES: Final = (
    Parameter(
        "prefix",
        "Only this prefix; or, for an address, the longest prefix that holds it",
        {"type": "string", "examples": ["10.1.0.0/26", "10.1.0.7"]},
        _prefix,
    ),
    _choice(
        "match",
        "Which prefixes `prefix` is about: itself (exact), the longest that holds it, all that hold it "
        "(covering), all inside it (subnets)",
        [one.value for one in Match],
    ),
    _choice("family", "Only this family", [one.name.lower() for one in Family]),
    _choice(
        "scope",
        "Every path, the best path of each prefix, what is or could be in the kernel, or what is kept out "
        "and why",
        ["all", "best", "kernel", "rejected"],
        "all",
    ),
    Parameter(
        "received_from",
        "Only what this peer sent, as it is after the import filters; or static, direct, kernel, allocated",
        _TEXT_SCHEMA,
    ),
    Parameter("advertised_to", "What this peer is told, with the attributes as they are sent", _TEXT_SCHEMA),
    Parameter("after", "The `next` of the page before", _TEXT_SCHEMA, _cursor),
    Parameter(
        "limit",
        "Routes of the answer, at most; a prefix is not torn apart",
        {"type": "integer", "minimum": 1, "maximum": MOST_ROUTES, "default": LIMIT},
        _whole_number(1, MOST_ROUTES),
        LIMIT,
    ),
)

TARGET: Final = Parameter("target", "A prefix, an address, or a peer's name", _TEXT_SCHEMA, required=True)

_KIND: Final = Parameter(
    "kind",
    "Only events of these kinds; with commas, or more than once",
    {"type": "array", "items": {"type": "string", "enum": [one.value for one in EventKind]}},
    lambda text: EventKind(_one_of([one.value for one in EventKind])(text)),
    many=True,
)
_PEER: Final = Parameter("peer", "Only events about this peer", _TEXT_SCHEMA)

EVENTS: Final = (
    Parameter("after", "Only events with a higher number", _NUMBER_SCHEMA, _whole_number(0, 2**63), 0),
    _KIND,
    _PEER,
    Parameter("limit", "The latest so many", _NUMBER_SCHEMA, _whole_number(0, 2**31)),
)
STREAM: Final = (
    Parameter(
        "after",
        "Begin with the events after this number that are still kept; without it, or the header "
        "Last-Event-ID, with what happens next",
        _NUMBER_SCHEMA,
        _whole_number(0, 2**63),
    ),
    _KIND,
    _PEER,
)

"""The table of commands, and those that are a few lines."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from resource import getpagesize
from typing import Final

from routed.observe.bird.control import configure, disable, down, enable, reload, restart
from routed.observe.bird.interfaces import show_interfaces
from routed.observe.bird.protocols import protocols, show_protocols
from routed.observe.bird.replies import (
    ACCESS_DENIED,
    GRACEFUL_RESTART,
    MEMORY,
    OK,
    PARSE_ERROR,
    RESTRICTED,
    STATIC_ROUTE,
    STATUS_REPORT,
    SYMBOL,
    UPTIME,
    VERSION,
    CommandError,
    Line,
    Reply,
    syntax_error,
)
from routed.observe.bird.routes import show_route
from routed.observe.bird.statics import static_way, statics
from routed.observe.bird.view import View, long_time, version
from routed.observe.bird.words import Word, none_left, split
from routed.observe.views.text import prefix_text

#: Routes, or names, between two turns of the event loop.
PORTION: Final = 512


@dataclass(slots=True)
class Client:
    """What a client has asked for that lasts."""

    restricted: bool = False
    """It may only look."""
    echo: bool = False
    """It is told of events as they happen."""


def show_status(view: View, words: list[Word]) -> Reply:
    """`show status`. After a start, until the peers' tables are there, that is BIRD's graceful restart
    recovery, which calico-node's readiness looks for."""
    none_left(words)
    observed, speaker = view.observed, view.observed.speaker
    changed = observed.started_at
    if observed.datastore is not None and observed.datastore.changed_at is not None:
        changed = observed.datastore.changed_at
    yield Line(VERSION, f"BIRD {version(observed.version)}")
    yield Line(UPTIME, f"Router ID is {ip_address(speaker.config.router_id)}")
    yield Line(UPTIME, f"Current server time is {long_time(time.time())}")
    yield Line(UPTIME, f"Last reboot on {long_time(observed.started_at)}")
    yield Line(UPTIME, f"Last reconfiguration on {long_time(changed)}")
    if not speaker.converged:
        waiting = sum(view.family in families for families in speaker.awaited.values())
        yield Line(GRACEFUL_RESTART, "Graceful restart recovery in progress")
        yield Line(GRACEFUL_RESTART, f"  Waiting for {waiting} protocols to recover")
        if speaker.awaited_until is not None and speaker.started_at is not None:
            left = max(0, int(speaker.awaited_until - speaker.loop.time()))
            whole = int(speaker.awaited_until - speaker.started_at)
            yield Line(GRACEFUL_RESTART, f"  Wait timer is {left}/{whole}")
    yield Line(STATUS_REPORT, "Daemon is up and running", last=True)


def show_memory(view: View, words: list[Word]) -> Reply:
    """`show memory`: of the whole process, as the kernel counts it."""
    none_left(words)
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * getpagesize()
    yield Line(MEMORY, "BIRD memory usage")
    yield Line(MEMORY, f"{'Total:':<17} {resident // 1024:>4} kB")


def show_static(view: View, words: list[Word]) -> Reply:
    """`show static [static1]`."""
    if words not in ([], [Word("static1")]):
        raise syntax_error()
    for at, (nlri, route) in enumerate(statics(view).items()):
        if at % PORTION == PORTION - 1:
            yield None
        yield Line(STATIC_ROUTE, f"{prefix_text(nlri, view.family)} {static_way(route)}")


def show_symbols(view: View, words: list[Word]) -> Reply:
    """`show symbols [table|filter|function|protocol|template|roa|NAME]`: there are protocols and a table."""
    names = [(one.name, "protocol") for one in protocols(view)] + [("master", "routing table")]
    if words:
        none_left(words[1:])
        asked = words[0]
        kind = {"table": "routing table", "protocol": "protocol"}.get(asked.text)
        if kind is not None:
            names = [one for one in names if one[1] == kind]
        elif asked.text in ("filter", "function", "template", "roa"):
            names = []
        else:
            names = [one for one in names if one[0] == asked.text]
            if not names:
                raise CommandError(PARSE_ERROR, f"{asked} is not known")
            yield Line(SYMBOL, f"{names[0][0]:<8}\t{names[0][1]}", last=True)
    for name, kind in names:
        yield Line(SYMBOL, f"{name:<8}\t{kind}")


def help_text(view: View, words: list[Word]) -> Reply:
    """`help` and `?`: clients have their own; this is for those who talk to the socket by hand."""
    for text in HELP:
        yield Line(OK, text)


def _refuse(code: int, text: str) -> Callable[[View, list[Word]], Reply]:
    def refuse(view: View, words: list[Word]) -> Reply:
        raise CommandError(code, text)

    return refuse


def _none(kind: str) -> Callable[[View, list[Word]], Reply]:
    return _refuse(PARSE_ERROR, f"There is no {kind} protocol running")


COMMANDS: Final[dict[tuple[str, ...], Callable[[View, list[Word]], Reply]]] = {
    ("show", "status"): show_status,
    ("show", "protocols"): show_protocols,
    ("show", "route"): show_route,
    ("show", "interfaces"): show_interfaces,
    ("show", "memory"): show_memory,
    ("show", "symbols"): show_symbols,
    ("show", "static"): show_static,
    ("show", "roa"): _refuse(PARSE_ERROR, "No ROA table defined"),
    ("show", "bfd"): _none("BFD"),
    ("show", "ospf"): _none("OSPF"),
    ("show", "rip"): _none("RIP"),
    ("show", "babel"): _none("BABEL"),
    ("configure",): configure,
    ("disable",): disable,
    ("enable",): enable,
    ("restart",): restart,
    ("reload",): reload,
    ("down",): down,
    ("help",): help_text,
    ("?",): help_text,
    ("debug",): _refuse(
        ACCESS_DENIED, "Access denied: logSeverityScreen of the BGPConfiguration says what is logged"
    ),
    ("dump",): _refuse(ACCESS_DENIED, "Access denied: routed dumps nothing; its status API has documents"),
    ("mrtdump",): _refuse(ACCESS_DENIED, "Access denied: routed writes no MRT files"),
    ("eval",): _refuse(PARSE_ERROR, "routed has no filter language"),
}
#: What a restricted client may not do.
CHANGES: Final = frozenset(
    {"configure", "disable", "enable", "restart", "reload", "down", "debug", "dump", "mrtdump"}
)
HELP: Final = (
    "show status                                      Show router status",
    'show protocols [all] [<protocol> | "<pattern>"]  Show routing protocols',
    "show route [for] [<prefix> | <address>] [protocol <p>] [export|preexport|noexport <p>]",
    "           [primary] [filtered] [all] [stats | count] [table master]   Show routing table",
    "show interfaces [summary]                        Show network interfaces",
    "show static | show symbols | show memory",
    'disable | enable | restart <protocol> | "<pattern>" | all',
    'reload [in | out] <protocol> | "<pattern>" | all  Ask for routes again, send them again',
    "configure                                        Answered; records need no reading again",
    "echo all | off                                   Tell of events as they happen",
    "restrict                                         Allow no changes on this connection",
)


def answer(view: View, client: Client, line: str) -> Reply:
    """The reply to one command."""
    words = split(line)
    if not words or words[0].quoted:
        raise syntax_error()
    first = words[0].text
    if first == "restrict":
        none_left(words[1:])
        client.restricted = True
        yield Line(RESTRICTED, "Access restricted", last=True)
        return
    if first == "echo":
        _echo(client, words[1:])
        return
    if client.restricted and first in CHANGES:
        raise CommandError(ACCESS_DENIED, "Access denied")
    for length in (2, 1):
        keys = tuple(one.text for one in words[:length] if not one.quoted)
        command = COMMANDS.get(keys)
        if command is not None and len(keys) == length:
            yield from command(view, words[length:])
            return
    raise syntax_error()


def _echo(client: Client, words: list[Word]) -> None:
    """`echo all|off|{ classes } [size]`: classes of BIRD's log are not told apart."""
    texts = [one.text for one in words]
    if not texts:
        raise syntax_error()
    if texts[-1].isdecimal() and len(texts) > 1:
        texts.pop()
    joined = " ".join(texts)
    if joined not in ("all", "off") and not (joined.startswith("{") and joined.endswith("}")):
        raise syntax_error()
    client.echo = joined != "off"

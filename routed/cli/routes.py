"""`routed routes [PREFIX|ADDRESS]`: the routing table, by whatever one asks of it."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import TYPE_CHECKING, Annotated, Final

import typer

from routed.cli import options, servers
from routed.cli.answer import Shown, show
from routed.cli.client import Client, Parameters
from routed.cli.failure import CommandError, Status, ends_well
from routed.cli.route_stream import RouteRow, RouteRows, RouteStream
from routed.cli.screen import Screen, screen, write
from routed.cli.table import Column, Layout, facts, safe_rows
from routed.cli.text import safe

if TYPE_CHECKING:
    from routed.observe.documents import Route, Routes

#: The server streams an answer; it has so many routes at most.
PAGE: Final = 1_000_000
#: The widths of the columns are worked out from so many routes.
_SAMPLE: Final = 10_000
COLUMNS: Final = (
    Column(""),
    Column("PREFIX"),
    Column("NEXT HOP"),
    Column("SOURCE", name=10),
    Column("PREF", right=True, drop=4),
    Column("MED", right=True, drop=5),
    Column("AS PATH", text=12, drop=3),
    Column("STATUS", text=20, drop=1),
)


@ends_well
def routes(
    target: Annotated[
        str | None,
        typer.Argument(
            metavar="[PREFIX|ADDRESS]",
            help="One prefix; or, of an address, the longest prefix that holds it. With all that is known "
            "of it.",
        ),
    ] = None,
    best: Annotated[bool, typer.Option("--best", help="The best path of each prefix alone.")] = False,
    kernel: Annotated[
        bool, typer.Option("--kernel", help="What is in the kernel, or should be, and what became of it.")
    ] = False,
    rejected: Annotated[
        bool,
        typer.Option(
            "--rejected", help="What cannot be used, and what the kernel does not have; with reasons."
        ),
    ] = False,
    received_from: Annotated[
        str | None,
        typer.Option(
            "--received-from",
            help="What this peer sent, after its import filters; or static, direct, kernel, allocated.",
            **options.PEER,
        ),
    ] = None,
    advertised_to: Annotated[
        str | None, typer.Option("--advertised-to", help="What this peer is told.", **options.PEER)
    ] = None,
    ipv4: Annotated[bool, typer.Option("--ipv4", "-4", help="IPv4 alone.")] = False,
    ipv6: Annotated[bool, typer.Option("--ipv6", "-6", help="IPv6 alone.")] = False,
    longer: Annotated[bool, typer.Option("--longer", help="The prefix, and all inside of it.")] = False,
    counted: Annotated[bool, typer.Option("--count", help="How many there are, alone.")] = False,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, metavar="N", help="The first N, whole prefixes.")
    ] = None,
    socket: options.Socket = None,
    node: options.Node = None,
    http: options.Http = None,
    output: options.Output = "table",
    watch: options.Watch = None,
    no_headers: options.NoHeaders = False,
) -> None:
    """Show routes, all or those that are asked for.

    In the first column: > the best path, = one that shares the load with it, x one that cannot be used."""
    client = servers.client(servers.Asked(socket, node, http))
    how = options.shown(output, watch, no_headers)
    scope = _one_of({"best": best, "kernel": kernel, "rejected": rejected}) or "all"
    if longer and target is None:
        raise CommandError("--longer: inside of what? Give a prefix too")
    query: Parameters = {
        "prefix": target,
        "match": "subnets" if longer else None,
        "scope": scope,
        "family": _one_of({"ipv4": ipv4, "ipv6": ipv6}),
        "received_from": received_from,
        "advertised_to": advertised_to,
        "limit": min(limit or PAGE, PAGE),
    }
    details = target is not None and not longer
    if counted:
        found = _count(client, query)
        write([str(found)])
    elif how.watch is not None or (details and how.output == "table"):
        found = _whole(client, query, how, details=details)
    else:
        found = _stream(client, query, how)
    if target is not None and not found:
        raise CommandError(
            f"no route to {target}" + (" that is asked for" if scope != "all" else ""), Status.NO
        )


def _one_of(flags: dict[str, bool]) -> str | None:
    """The name of the flag that is given. Raises `CommandError` where several are."""
    given = [name for name, so in flags.items() if so]
    if len(given) > 1:
        raise CommandError(f"--{given[0]} and --{given[1]}: give one of them")
    return given[0] if given else None


def _count(client: Client, query: Parameters) -> int:
    """How many routes there are; as many as `limit` lets through where that is less."""
    first = RouteStream(client, {**query, "limit": 1})
    found = sum(map(len, first.rows()))
    if first.next is None:
        return found
    if first.total >= 0 and query["limit"] == PAGE:
        return first.total
    # The server does not know without looking at each.
    return sum(map(len, RouteStream(client, query).rows()))


def _whole(client: Client, query: Parameters, how: Shown, *, details: bool) -> int:
    """All in one document."""
    from routed.observe.documents import Routes

    def ask() -> bytes:
        return client.get("/routes", query)

    if details:
        return len(show(ask, Routes, detailed, how).routes)
    return len(show(ask, RouteRows, lambda rows, where: lines(rows.routes, where), how).routes)


def _stream(client: Client, query: Parameters, how: Shown) -> int:
    """As they come. Returns how many."""
    stream = RouteStream(client, query)
    match how.output:
        case "json":
            write(stream.json(), at_once=1)
        case "yaml":
            write(stream.yaml(), at_once=1)
        case _:
            write(lines(chain.from_iterable(stream.rows()), screen(how.headers)))
    if stream.next is not None:
        sys.stdout.flush()
        print("routed: there are more routes than --limit shows", file=sys.stderr)
    return stream.found


def lines(rows: Iterable[RouteRow | Route], where: Screen) -> Iterator[str]:
    """A line for each route."""
    cells = map(_cells, rows)
    first = list(islice(cells, _SAMPLE))
    more = len(first) == _SAMPLE
    layout = Layout(COLUMNS, safe_rows(first), where, more=more)
    if not first:
        return
    if where.headers:
        yield layout.header()
    yield from map(layout.line, chain(first, cells))


def _cells(route: RouteRow | Route) -> tuple[str, ...]:
    return (
        mark(route),
        route.prefix,
        "self" if route.next_hop is None else route.next_hop.partition(" ")[0],
        route.source,
        "" if route.local_pref is None else str(route.local_pref),
        "" if route.med is None else str(route.med),
        route.as_path,
        _status(route),
    )


def _status(route: RouteRow | Route) -> str:
    """Of the best path, what the kernel has; of others why they are not."""
    if route.best:
        return route.kernel or ""
    return route.ineligible or route.unreachable_reason or route.not_best or ""


def mark(route: RouteRow | Route) -> str:
    """The first column."""
    if route.best:
        return ">"
    if route.ineligible is not None:
        return "x"
    return "=" if route.multipath else ""


def detailed(document: Routes, where: Screen) -> Iterator[str]:
    """Each path with all there is to know."""
    for at, route in enumerate(document.routes):
        if at:
            yield ""
        yield where.paint(f"{safe(route.prefix)}  {_standing(route)}", "bold")
        yield from ("  " + line for line in facts(_facts(route), _narrower(where)))


def _narrower(where: Screen) -> Screen:
    columns = None if where.columns is None else where.columns - 2
    return Screen(columns, where.colours, where.headers)


def _standing(route: Route) -> str:
    if route.best:
        return "best path"
    if route.ineligible is not None:
        return "cannot be used"
    return "shares the load with the best path" if route.multipath else "not the best path"


def _facts(route: Route) -> Iterator[tuple[str, str]]:
    address = f" ({route.peer_address})" if route.peer_address else ""
    yield "source", f"{route.source}{address}, {route.source_kind}"
    yield "why not", route.ineligible or ("" if route.best else route.not_best or "")
    yield "next hop", _next_hop(route)
    yield "AS path", route.as_path or "empty"
    yield "origin", route.origin
    numbers = {"local pref": route.local_pref, "MED": route.med, "preference": route.preference}
    yield from ((name, str(number)) for name, number in numbers.items() if number is not None)
    yield "communities", " ".join(route.communities)
    yield "large", " ".join(route.large_communities)
    yield "originator", route.originator_id or ""
    yield "cluster list", " ".join(route.cluster_list)
    yield "path ID", "" if route.path_id is None else str(route.path_id)
    yield "kernel", route.kernel or ""
    yield "record", route.origin_record or ""
    yield "reason", route.origin_reason or ""


def _next_hop(route: Route) -> str:
    if route.next_hop is None:
        return "ourselves"
    if not route.reachable:
        return f"{route.next_hop}, unreachable: {route.unreachable_reason or 'no way there'}"
    interface = f" by way of {route.interface}" if route.interface else ""
    cost = "" if route.igp_cost is None else f", cost {route.igp_cost}"
    return f"{route.next_hop}{interface}{cost}"

"""Pages and portions of routes: the same routes however they are cut, also while tables change."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address, ip_network
from itertools import groupby
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from routed.bgp.attributes import originate
from routed.bgp.communities import LLGR_STALE
from routed.bgp.nlri import Family, to_text
from routed.bgp.path import Path, Source, SourceKind
from routed.bgp.route import NextHop
from routed.observe.documents import Route
from routed.observe.views import route_fields
from routed.observe.views import routes as views
from routed.observe.views.decision import losses
from routed.observe.views.route_queries import Match, RouteQuery, Scope
from routed.observe.views.routes import Walk, iterate, routes
from tests.observe.views.reference import reference_routes
from tests.observe.views.tables import ROUTER, Tables, nlri, rejecting, source

#: Examples of each property.
MOST = 80
PREFIXES = (
    *("0.0.0.0/0", "10.0.0.0/8", "10.0.0.0/9", "10.0.0.0/26", "10.0.0.64/26", "10.0.1.0/24", "10.128.0.0/9"),
    *("::/0", "::/1", "::ffff:10.0.0.0/104", "::a00:1/128", "fd00::/64", "fd00::/128", "fd00:0:0:1::/64"),
)
#: 0 to 3 are peers, one external, one with path identifiers, and one with an import policy; then a local one.
SOURCES = range(5)
UPDATES = st.tuples(
    st.sampled_from(SOURCES), st.sampled_from(PREFIXES), st.integers(0, 7), st.booleans(), st.integers(1, 3)
)


class Random(Tables):
    """Tables that are filled by numbers."""

    def __init__(self) -> None:
        super().__init__()
        rejected = {nlri(one)[1] for one in PREFIXES[::3]}
        self.sources = {
            family: [
                source(2),
                source(3, SourceKind.EBGP),
                source(4, add_path=True),
                source(5),
                source(6, SourceKind.STATIC),
            ]
            for family in Family
        }
        for family, rib in self.ribs.items():
            rib.set_policy(self.sources[family][3], rejecting(rejected))

    def change(self, who: int, prefix: str, kind: int, there: bool, path_id: int) -> None:
        """One announcement, or one withdrawal. Odd kinds have a MED, every fourth is a loop."""
        family, one = nlri(prefix)
        rib, by = self.ribs[family], self.sources[family][who]
        key = path_id.to_bytes(4) + one if by.add_path else one
        if not there:
            rib.withdraw(by, (key,))
            return
        octets = (10, 0, 0, 1 if kind == 4 else 2 + kind)
        address = bytes(octets) if family is Family.IPV4 else bytes(12) + bytes(octets)
        attributes = originate(
            next_hop=address,
            local_pref=100 + kind // 4,
            med=kind if kind & 1 else None,
            communities=(LLGR_STALE, 64512 << 16 | kind) if kind == 3 else (),
            large_communities=((64512, kind, 1),) if kind > 5 else (),
        )
        if kind > 2:
            attributes = attributes.prepend_as(64512 if kind == 7 else 65001, kind)
        rib.announce(by, attributes, (key,))


def filled(changes: list[tuple[int, str, int, bool, int]]) -> Random:
    tables = Random()
    for change in changes:
        tables.change(*change)
    return tables


def pages(tables: Tables, limit: int, **query: Any) -> Iterator[list[Route]]:
    after = None
    while True:
        page = routes(tables.observed, RouteQuery(limit=limit, after=after, **query))
        yield page.routes
        after = page.next
        if after is None:
            return


def plain(route: Route) -> dict[str, Any]:
    result: dict[str, Any] = msgspec.to_builtins(route)
    return result


@settings(max_examples=MOST, deadline=None)
@given(st.lists(UPDATES, max_size=40), st.sampled_from(("all", "best", "rejected")))
def test_the_routes_are_those_of_the_plain_walk(changes: list[Any], scope: Scope) -> None:
    tables = filled(changes)
    expected = reference_routes(tables.observed, scope)
    page = routes(tables.observed, RouteQuery(scope=scope, limit=1000))
    assert page.next is None
    assert page.total in (len(expected), -1)
    for route, wanted in zip(page.routes, expected, strict=True):
        lost = wanted.pop("lost", None)
        shown = plain(route)
        assert {name: shown[name] for name in wanted} == wanted
        assert (route.not_best is None) == (lost is None)
        if lost is not None:
            assert f"from {lost[0]}" in str(route.not_best)


@settings(max_examples=MOST, deadline=None)
@given(st.lists(UPDATES, max_size=40))
def test_a_path_lost_to_whom_the_decision_process_says(changes: list[Any]) -> None:
    """`losses` is one walk for all paths of a prefix; MED makes that delicate."""
    from routed.bgp.bestpath import why_not_best

    for rib in filled(changes).ribs.values():
        for one in rib.routes:
            ranked = rib.ranked(one)
            first, *others = losses(ranked)
            assert first is None
            for path, found in zip(ranked[1:], others, strict=True):
                winner, step = why_not_best(ranked, path)
                assert found is not None
                assert found.step is step
                assert (found.winner.med, found.winner.attributes.neighbor_as) == (
                    winner.med,
                    winner.attributes.neighbor_as,
                )
                assert found.text(path)


@settings(max_examples=MOST, deadline=None)
@given(st.lists(UPDATES, max_size=40), st.sampled_from(get_args(Scope)), st.integers(1, 5))
def test_pages_of_any_size_are_the_one_page(changes: list[Any], scope: Scope, limit: int) -> None:
    tables = filled(changes)
    whole = routes(tables.observed, RouteQuery(scope=scope, limit=10_000)).routes
    cut = list(pages(tables, limit, scope=scope))
    assert [route for page in cut for route in page] == whole
    for page, following in zip(cut, [*cut[1:], []], strict=True):
        assert len(page) <= limit or len({route.prefix for route in page}) == 1
        first = [route for route in following if route.prefix == following[0].prefix]
        assert not first or len(page) + len(first) > limit, "no page is shorter than it has to be"


@settings(max_examples=MOST, deadline=None)
@given(st.lists(UPDATES, max_size=40), st.sampled_from(get_args(Scope)))
def test_rows_are_the_json_of_the_documents(changes: list[Any], scope: Scope) -> None:
    """Rows share most of their JSON; each is what msgspec writes of the whole document."""
    observed = filled(changes).observed
    query = RouteQuery(scope=scope, limit=10_000)
    rows = [row for portion in iterate(observed, query).rows() for row in portion]
    assert [row.encode() for row in rows] == [
        msgspec.json.encode(route) for route in routes(observed, query).routes
    ]


GATEWAY = ip_address("10.0.0.2")


class Way:
    """To all next hops, as a tracker."""

    def __init__(self) -> None:
        self.cost: int | None = 7
        self.ways: tuple[NextHop, ...] = (NextHop(GATEWAY, "eth0"),)
        self.reason = ""

    def follow(self, path: Path) -> Way:
        return self


def test_a_way_that_changes_is_seen_by_the_rest_of_the_routes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "PORTION", 1)
    tables, way = Tables(), Way()
    router = replace(ROUTER, next_hops=way)
    by = Source("peer2", SourceKind.IBGP, router, address=bytes((10, 0, 0, 2)))
    many = [bytes((24, 10, 0, number)) for number in range(4)]
    tables.ribs[Family.IPV4].announce(by, originate(next_hop=bytes((10, 0, 0, 2))), many)
    found = []
    for portion in iterate(tables.observed, RouteQuery()).rows():
        if not portion:
            continue
        route = msgspec.json.decode(portion[0].encode(), type=Route)
        found.append(
            (route.source, route.reachable, route.unreachable_reason, route.igp_cost, route.interface)
        )
        if len(found) == 1:
            way.cost, way.ways = 8, (NextHop(GATEWAY, "eth1"),)
        elif len(found) == 2:
            way.cost, way.ways, way.reason = None, (), "no route"
        elif len(found) == 3:
            by.name = "other"
    assert found == [
        ("peer2", True, None, 7, "eth0"),
        ("peer2", True, None, 8, "eth1"),
        ("peer2", False, "no route", None, None),
        ("other", False, "no route", None, None),
    ]


@settings(max_examples=MOST, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(UPDATES, max_size=30),
    st.lists(st.lists(UPDATES, max_size=3), max_size=12),
    st.sampled_from(get_args(Scope)),
    st.sampled_from(("pages", "portions")),
)
def test_what_changes_in_between_harms_nothing_else(
    monkeypatch: pytest.MonkeyPatch, changes: list[Any], later: list[list[Any]], scope: Scope, how: str
) -> None:
    """Each prefix once and in order; those that do not change are all there, as they are."""
    monkeypatch.setattr(views, "PORTION", 1)
    monkeypatch.setattr(views, "SORTED_AT_ONCE", 2)
    monkeypatch.setattr(route_fields, "BODIES", 2)
    tables = filled(changes)
    before = routes(tables.observed, RouteQuery(scope=scope, limit=10_000)).routes
    changed = {to_text(one, family) for some in later for family, one in (nlri(step[1]) for step in some)}
    found: list[Route] = []
    waiting = iter(later)
    parts = (
        pages(tables, 1, scope=scope)
        if how == "pages"
        else iter(iterate(tables.observed, RouteQuery(scope=scope, limit=10_000)))
    )
    for part in parts:
        found += part
        for change in next(waiting, ()):
            tables.change(*change)
    places = [
        (network.version, int(network.network_address), network.prefixlen)
        for network in (ip_network(prefix) for prefix, _ in groupby(found, lambda route: route.prefix))
    ]
    assert places == sorted(set(places))
    assert [route for route in found if route.prefix not in changed] == [
        route for route in before if route.prefix not in changed
    ]


@settings(max_examples=MOST, deadline=None)
@given(st.lists(UPDATES, max_size=40), st.sampled_from(PREFIXES), st.sampled_from(Match), st.integers(1, 3))
def test_a_prefix_picks_out_of_all_routes(changes: list[Any], prefix: str, match: Match, limit: int) -> None:
    tables = filled(changes)
    asked = ip_network(prefix)
    whole = routes(tables.observed, RouteQuery(limit=10_000)).routes

    def holds(route: Route) -> bool:
        network = ip_network(route.prefix)
        if network.version != asked.version:
            return False
        if match is Match.EXACT:
            return network == asked
        if match is Match.SUBNETS:
            return network.subnet_of(asked)  # type: ignore[arg-type]
        return network.supernet_of(asked)  # type: ignore[arg-type]

    expected = [route for route in whole if holds(route)]
    if match is Match.LONGEST:
        usable = [ip_network(route.prefix).prefixlen for route in expected if route.ineligible is None]
        expected = [r for r in expected if usable and ip_network(r.prefix).prefixlen == max(usable)]
    query = RouteQuery(prefix=asked, match=match, limit=10_000)
    page = routes(tables.observed, query)
    assert page.routes == expected
    assert page.total == len(expected)
    assert [r for part in pages(tables, limit, prefix=asked, match=match) for r in part] == expected


def test_a_query_that_cannot_be_answered_says_why() -> None:
    tables = Tables()
    with pytest.raises(ValueError, match="at least one"):
        RouteQuery(limit=0)
    with pytest.raises(ValueError, match="two questions"):
        RouteQuery(received_from="a", advertised_to="b")
    for after in ("nonsense", "10.0.0.1/8", ""):
        with pytest.raises(ValueError, match="after"):
            Walk(tables.observed, RouteQuery(after=after))
    for query in (RouteQuery(received_from="x"), RouteQuery(advertised_to="x")):
        with pytest.raises(LookupError, match="no peer x"):
            iterate(tables.observed, query)
    assert routes(tables.observed, RouteQuery(received_from="static")).routes == []


def test_a_cursor_of_the_first_family_leads_on_to_the_second() -> None:
    tables = filled([(0, "10.0.0.0/8", 1, True, 1), (0, "fd00::/64", 1, True, 1)])
    page = routes(tables.observed, RouteQuery(limit=1))
    assert page.next == "10.0.0.0/8"
    assert [r.prefix for r in routes(tables.observed, RouteQuery(after=page.next)).routes] == ["fd00::/64"]
    of_ipv4 = RouteQuery(after="fd00::/64", family=Family.IPV4)
    assert routes(tables.observed, of_ipv4).routes == []


def test_a_large_table_comes_in_portions_and_not_in_one_turn() -> None:
    tables = Tables()
    by = source(2)
    many = [bytes((32,)) + number.to_bytes(4) for number in range(0, 50_000 * 7, 7)]
    tables.ribs[Family.IPV4].announce(by, originate(next_hop=bytes((10, 0, 0, 2))), many)
    walk = iterate(tables.observed, RouteQuery(limit=10**9))
    sizes = [len(portion) for portion in walk]
    assert sum(sizes) == walk.total == len(many)
    assert max(sizes) <= views.PORTION
    assert sizes.count(0) >= len(many) // views.SORTED_AT_ONCE, "where prefixes are put in order it turns too"

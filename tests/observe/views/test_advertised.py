"""What an export group's member is told, as the octets that it gets say it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routed.bgp.attributes import AttributeSet
from routed.bgp.export import Exporter, ExportTarget
from routed.bgp.groups import ExportGroups, GroupKey
from routed.bgp.nlri import Family, to_text
from routed.bgp.path import SourceKind
from routed.bgp.speaker import Speaker
from routed.observe.views.route_queries import RouteQuery
from routed.observe.views.routes import routes
from tests.bgp.routes import Receiver
from tests.bgp.test_groups import send
from tests.observe.views.tables import OUR_AS, ROUTER
from tests.observe.views.test_pages import UPDATES, Random


def shown(attributes: AttributeSet) -> dict[str, Any]:
    """Attributes by the names of the document."""
    found = attributes.describe()
    return {
        "next_hop": found["next_hop"],
        "as_path": found["as_path"],
        "origin": found["origin"],
        "local_pref": found.get("local_pref"),
        "med": found.get("med"),
        "communities": found.get("communities", []),
        "large_communities": found.get("large_communities", []),
        "originator_id": found.get("originator_id"),
        "cluster_list": found.get("cluster_list", []),
    }


@pytest.mark.parametrize("kind", [SourceKind.IBGP, SourceKind.EBGP])
@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(UPDATES, max_size=10), max_size=4), st.sampled_from((0, 1, 3)), st.booleans())
def test_the_view_says_what_the_octets_say(
    kind: SourceKind, turns: list[list[Any]], paths: int, reads_own: bool
) -> None:
    """In groups with and without path identifiers, for a member that announces routes itself and for one that
    does not, turn after turn."""
    tables = Random()
    ends: dict[Family, Receiver] = {}
    members = {}
    groups = {}
    for family, rib in tables.ribs.items():
        address = bytes((10, 0, 0, 1)).rjust(family.address_octets, b"\0")
        target = ExportTarget(family, kind, OUR_AS, address, ROUTER, client=kind is SourceKind.IBGP)
        groups[family] = ExportGroups(rib, lambda key: Exporter(key.target))
        # Peer 2 of each family, and one of no route.
        reader = tables.sources[family][0 if reads_own else 3]
        if not reads_own:
            rib.drop(reader)
        members[family] = groups[family].join(GroupKey(target, add_path=paths), reader)
        ends[family] = Receiver(family, ibgp=kind is SourceKind.IBGP, add_path=bool(paths))
    peer = object()
    tables.observed.speaker = cast(
        Speaker,
        SimpleNamespace(
            ribs=tables.ribs,
            peers={"reader": peer},
            attachment=lambda _peer: SimpleNamespace(members=members, sources={}),
        ),
    )
    for turn in turns:
        for who, *rest in turn:
            if reads_own or who != 3:
                tables.change(who, *rest)
        expected: dict[tuple[str, str, int | None], dict[str, Any]] = {}
        for family, rib in tables.ribs.items():
            rib.flush()
            send(members[family], ends[family])
            for key, attributes in ends[family].table.items():
                one = key[4:] if paths else key
                path_id = int.from_bytes(key[:4]) if paths else None
                expected[family.name.lower(), to_text(one, family), path_id] = shown(attributes)
        page = routes(tables.observed, RouteQuery(advertised_to="reader", limit=10_000))
        found = {(route.family, route.prefix, route.path_id): route for route in page.routes}
        assert len(found) == len(page.routes) == page.total
        assert {
            key: {name: msgspec.to_builtins(route)[name] for name in expected[key]}
            for key, route in found.items()
            if key in expected
        } == expected
        assert found.keys() == expected.keys()
        for route in page.routes:
            best = [
                one
                for one in page.routes
                if (one.family, one.prefix, one.best) == (route.family, route.prefix, True)
            ]
            assert len(best) <= 1

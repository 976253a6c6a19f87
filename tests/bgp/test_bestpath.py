"""The decision process: each step, every order of arrival, and the explanations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import permutations
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routed.bgp.as_path import Segment, SegmentType
from routed.bgp.attributes import EGP, IGP, INCOMPLETE, AttributeSet, originate
from routed.bgp.bestpath import Step, decide, multipath, rank, why_not_best, with_path
from routed.bgp.nlri import Family
from routed.bgp.path import Path, SourceKind
from routed.bgp.rib import LocRib
from tests.bgp.routes import ROUTER, address, local, nlri, peer

P = nlri("10.1.0.0/26")


def sequence(*asns: int) -> tuple[Segment, ...]:
    return (Segment(SegmentType.AS_SEQUENCE, asns),) if asns else ()


def attributes(
    number: int,
    *asns: int,
    origin: int = IGP,
    local_pref: int | None = 100,
    med: int | None = None,
    originator: int | None = None,
    clusters: int = 0,
) -> AttributeSet:
    return originate(origin=origin, next_hop=address(number), local_pref=local_pref, med=med).replace(
        as_path=sequence(*asns),
        originator_id=None if originator is None else address(originator),
        cluster_list=[b"\x09\0\0\0"] * clusters,
    )


def ibgp(number: int, *asns: int, client: bool = False, **values: Any) -> Path:
    return peer(number, client=client).path(attributes(number, *asns, **values))


def ebgp(number: int, *asns: int, **values: Any) -> Path:
    values = {"local_pref": None, **values}
    return peer(number, SourceKind.EBGP).path(attributes(number, *asns, **values))


class Costs:
    """The ways to next hops, by the number of the peer whose address the next hop is; others are near."""

    def __init__(self, **costs: int | None) -> None:
        self.costs = {address(int(name[1:])): cost for name, cost in costs.items()}
        self.paths: list[Path] = []

    class State:
        ways = ()
        reason = ""

        def __init__(self, costs: Costs, next_hop: bytes) -> None:
            self._costs, self._next_hop = costs, next_hop

        @property
        def cost(self) -> int | None:
            return self._costs.costs.get(self._next_hop, 0)

    def follow(self, path: Path) -> State:
        self.paths.append(path)
        return self.State(self, path.attributes.next_hop)


def by_way(costs: Costs, number: int, *asns: int, **values: Any) -> Path:
    source = peer(number, SourceKind.EBGP, router=replace(ROUTER, next_hops=costs))
    return source.path(attributes(number, *asns, **{"local_pref": None, **values}))


# The better path first; everything before the step is equal, and all that comes after speaks for the other.
STEPS = [
    pytest.param(
        local().path(attributes(0, local_pref=None, origin=INCOMPLETE)),
        ibgp(2, local_pref=2147483000 - 1024),
        Step.PREFERENCE,
        id="static before BGP",
    ),
    pytest.param(
        ebgp(9, 1, 2, 3, origin=INCOMPLETE),
        local(SourceKind.KERNEL).path(attributes(0, local_pref=None), interface="cali1", metric=1),
        Step.PREFERENCE,
        id="BGP before learned from the kernel",
    ),
    pytest.param(
        ibgp(9, 1, 2, 3, local_pref=2147483647 - 1023),
        local().path(attributes(0, local_pref=None)),
        Step.PREFERENCE,
        id="LOCAL_PREF better than normal before static",
    ),
    pytest.param(ibgp(9, 1, 2, local_pref=101), ebgp(2, 1), Step.LOCAL_PREF, id="missing LOCAL_PREF is 100"),
    pytest.param(
        ibgp(9, 1, 2, origin=INCOMPLETE), ebgp(2, 1, 2, 3), Step.AS_PATH_LENGTH, id="shorter AS_PATH"
    ),
    pytest.param(
        ibgp(9, 1, 2, origin=EGP, med=9), ebgp(2, 1, 2, origin=INCOMPLETE), Step.ORIGIN, id="ORIGIN"
    ),
    pytest.param(ibgp(9, 1, 2, med=1), ebgp(2, 1, 3, med=2), Step.MED, id="MED of one neighbouring AS"),
    pytest.param(ibgp(9, 1, 2), ebgp(2, 1, 3, med=2), Step.MED, id="missing MED is 0"),
    pytest.param(
        ebgp(9, 1, 2, med=9), ibgp(2, 3, 4, med=1), Step.EBGP_OVER_IBGP, id="MED of two ASes is not compared"
    ),
    pytest.param(
        local(SourceKind.KERNEL).path(attributes(0), interface="cali1", metric=10),
        local(SourceKind.KERNEL).path(attributes(0), interface="cali0", metric=1024),
        Step.IGP_METRIC,
        id="kernel metric",
    ),
    pytest.param(
        by_way(Costs(n9=5), 9, 1), by_way(Costs(n2=6), 2, 1), Step.IGP_METRIC, id="cost to the next hop"
    ),
    pytest.param(
        by_way(Costs(n9=5), 9, 1, 2, 3), by_way(Costs(n2=None), 2, 1), Step.NEXT_HOP, id="unreachable"
    ),
    pytest.param(
        local().path(attributes(0, local_pref=None)),
        by_way(Costs(n2=None), 2, local_pref=2147483647 - 1023),
        Step.NEXT_HOP,
        id="static before an unreachable one that would override it",
    ),
    pytest.param(
        by_way(Costs(n9=None), 9, 1),
        local(SourceKind.KERNEL).path(attributes(0, local_pref=None), interface="cali1", metric=1),
        Step.PREFERENCE,
        id="BGP before learned from the kernel, also where it is unreachable",
    ),
    pytest.param(
        local(SourceKind.DIRECT).path(attributes(0, local_pref=None), interface="eth0"),
        local().path(attributes(0, local_pref=None)),
        Step.PREFERENCE,
        id="a network of an interface before static",
    ),
    pytest.param(ibgp(3, 1, clusters=3), ibgp(9, 1), Step.ROUTER_ID, id="router ID"),
    pytest.param(
        ibgp(9, 1, originator=2, clusters=3), ibgp(3, 1), Step.ROUTER_ID, id="ORIGINATOR_ID for the router ID"
    ),
    pytest.param(
        ibgp(9, 1, originator=2, clusters=1), ibgp(3, 1, originator=2, clusters=2), Step.CLUSTER_LIST_LENGTH
    ),
    pytest.param(
        ibgp(3, 1, originator=2, clusters=2), ibgp(9, 1, originator=2, clusters=2), Step.PEER_ADDRESS
    ),
]


@pytest.mark.parametrize(("better", "worse", "step"), STEPS)
def test_each_step_decides(better: Path, worse: Path, step: Step) -> None:
    assert decide(better, worse) == (better, step)
    assert decide(worse, better) == (better, step)
    assert rank((worse, better)) == rank((better, worse)) == (better, worse)
    assert why_not_best((better, worse), worse) == (better, step)


def test_path_identifier_is_the_last_step() -> None:
    source = peer(2)
    one, two = (source.path(attributes(2, 1), path_id=number) for number in (1, 2))
    assert decide(two, one) == (one, Step.PATH_ID)


def test_a_path_cannot_be_compared_with_itself() -> None:
    path = ibgp(2, 1)
    with pytest.raises(ValueError, match="same in every step"):
        decide(path, path)


def test_local_pref_of_the_normal_priority_does_not_override() -> None:
    assert ibgp(2, local_pref=2147483647 - 1024).preference == 100
    assert ibgp(2, local_pref=2147483647 - 1023).preference == 200


def test_med_is_deterministic_where_pairs_go_round() -> None:
    """The textbook case: by pairs, each of the three beats another."""
    a = ebgp(2, 100, med=10)
    b = ebgp(3, 200, med=1)
    c = ebgp(4, 100, med=5)
    for order in permutations((a, b, c)):
        assert rank(order) == (b, c, a)
    assert why_not_best((b, c, a), a) == (c, Step.MED)
    assert why_not_best((b, c, a), c) == (b, Step.ROUTER_ID)
    assert multipath((b, c, a)) == (b, c)


def test_multipath_ends_before_the_router_id() -> None:
    equal = [ibgp(number, 1) for number in (2, 3, 4)]
    for worse in (ibgp(5, 1, 2), ibgp(6, 1, local_pref=99), ibgp(7, 1, origin=EGP), ibgp(8, 1, med=1)):
        for order in permutations((*equal, worse)):
            assert multipath(rank(order)) == tuple(equal)
    external = ebgp(9, 1)
    assert multipath(rank((*equal, external))) == (external,)


def test_an_unreachable_path_eliminates_none_by_its_med_and_shares_no_load() -> None:
    costs = Costs(n2=None, n3=7, n4=7, n5=8)
    unreachable = by_way(costs, 2, 1, med=1)
    near = [by_way(costs, number, 1, med=2) for number in (3, 4)]
    far = by_way(costs, 5, 1, med=2)
    for order in permutations((unreachable, *near, far)):
        assert rank(order) == (*near, far, unreachable)
        assert multipath(rank(order)) == tuple(near)


def test_prefixes_are_ranked_again_when_the_way_to_a_next_hop_changes() -> None:
    costs = Costs(n2=0, n3=0)
    rib = LocRib(Family.IPV4)
    first, second = by_way(costs, 2, 1), by_way(costs, 3, 1)
    other = nlri("10.2.0.0/26")
    rib.insert(first, [P, other])
    rib.insert(second, [P])
    told: list[bytes] = []
    rib.subscribe(told.extend)
    rib.flush()
    told.clear()

    def change(cost: int | None) -> None:
        costs.costs[address(2)] = cost
        for path in costs.paths:
            path.renew_key()
        rib.rerank([P, other, nlri("10.3.0.0/26")])
        rib.flush()

    assert rib.multipath(P) == (first, second)
    change(None)
    assert (rib.ranked(P), rib.multipath(P), told) == ((second, first), (second,), [P])
    assert not first.reachable
    assert rib.best(other) is first  # kept where there is no other, as in BIRD
    change(None)
    assert told == [P]
    change(1)
    assert (rib.ranked(P), rib.multipath(P), told) == ((second, first), (second,), [P])
    change(0)
    assert (rib.multipath(P), told) == ((first, second), [P, P])


# The reference: RFC 4271 section 9.1.2.2 as it is written, by elimination, on plain values.


def reference_candidates(paths: list[Path]) -> list[Path]:
    """What is left at step 8."""

    def least(of: list[Path], *keys: str) -> list[Path]:
        for key in keys:
            lowest = min(VALUES[key](path) for path in of)
            of = [path for path in of if VALUES[key](path) == lowest]
        return of

    left = least(paths, "preference", "local_pref", "length", "origin")
    left = [
        path
        for path in left
        if not any(
            other.attributes.neighbor_as == path.attributes.neighbor_as
            and (other.attributes.med or 0) < (path.attributes.med or 0)
            for other in left
        )
    ]
    return least(left, "ibgp", "metric")


def reference_best(paths: list[Path]) -> Path:
    return min(
        reference_candidates(paths),
        key=lambda path: (
            path.attributes.originator_id or path.source.router_id,
            len(path.attributes.cluster_list),
            path.source.address,
        ),
    )


VALUES: dict[str, Callable[[Path], Any]] = {
    "preference": lambda path: (-path.preference, not path.source.kind.bgp),
    "local_pref": lambda path: (
        -(path.attributes.local_pref if path.attributes.local_pref is not None else 100)
    ),
    "length": lambda path: sum(len(segment.asns) for segment in path.attributes.as_path),
    "origin": lambda path: path.attributes.origin,
    "ibgp": lambda path: path.source.kind is SourceKind.IBGP,
    "metric": lambda path: path.metric or 0,
}

Row = tuple[SourceKind, list[int], dict[str, Any]]

small_paths: st.SearchStrategy[list[Row]] = st.lists(
    st.builds(
        lambda kind, asns, origin, local_pref, med, originator, clusters: (
            kind,
            asns,
            {
                "origin": origin,
                "local_pref": local_pref,
                "med": med,
                "originator": originator,
                "clusters": clusters,
            },
        ),
        st.sampled_from([SourceKind.IBGP, SourceKind.EBGP]),
        st.lists(st.sampled_from([65001, 65002]), max_size=2),
        st.sampled_from([IGP, IGP, EGP]),
        st.sampled_from([None, 100, 200, 2147483640]),
        st.sampled_from([None, 0, 5, 10]),
        st.sampled_from([None, 2, 3]),
        st.integers(0, 2),
    ),
    min_size=1,
    max_size=5,
)


@given(small_paths, st.randoms(use_true_random=False), st.booleans())
def test_order_of_arrival_does_not_matter(rows: list[Row], random: Random, static: bool) -> None:
    paths = [
        peer(number, kind).path(attributes(number, *asns, **values))
        for number, (kind, asns, values) in enumerate(rows, 2)
    ]
    if static:
        paths.append(local().path(attributes(0, local_pref=None)))
    ranked = rank(paths)
    assert ranked[0] is reference_best(paths)
    assert set(multipath(ranked)) == set(reference_candidates(paths))
    assert multipath(ranked) == ranked[: len(multipath(ranked))]
    orders = (
        list(permutations(paths))
        if len(paths) <= 4
        else [random.sample(paths, len(paths)) for _ in range(24)]
    )
    for order in orders:
        assert rank(order) == ranked
        assert with_path(rank(order[:-1]), order[-1]) == ranked
        rib = LocRib(Family.IPV4)
        for path in order:
            rib.insert(path, [P])
        assert rib.ranked(P) == ranked
        assert rib.multipath(P) == multipath(ranked)
    for place, path in enumerate(ranked[1:], 1):
        winner, step = why_not_best(ranked, path)
        assert winner in ranked[:place]
        assert decide(winner, path) == (winner, step)


@given(small_paths, st.data())
def test_what_is_left_after_removals_is_as_if_never_there(rows: list[Row], data: st.DataObject) -> None:
    paths = [
        peer(number, kind).path(attributes(number, *asns, **values))
        for number, (kind, asns, values) in enumerate(rows, 2)
    ]
    removed = data.draw(st.sets(st.sampled_from(paths)))
    rib = LocRib(Family.IPV4)
    for path in paths:
        rib.insert(path, [P])
    for path in data.draw(st.permutations(sorted(removed, key=lambda path: path.source.name))):
        rib.withdraw(path.source, [P])
    left = [path for path in paths if path not in removed]
    assert rib.ranked(P) == (rank(left) if left else ())

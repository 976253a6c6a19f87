"""Adj-RIB-In and Loc-RIB against plain dictionaries, and what the listeners are told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routed.bgp.adj_rib_in import AdjRibIn, paths_of
from routed.bgp.as_path import Segment, SegmentType
from routed.bgp.attributes import AttributeSet, originate
from routed.bgp.bestpath import multipath, rank
from routed.bgp.communities import LLGR_STALE, NO_LLGR
from routed.bgp.nlri import Family
from routed.bgp.path import Path, Source, SourceKind
from routed.bgp.path import _paths as all_paths
from routed.bgp.rib import LocRib, Run
from tests.bgp.routes import LOCAL_AS, OUR_ADDRESS, ROUTER, address, local, nlri, peer

PREFIXES = [nlri(f"10.1.{number}.0/24") for number in range(5)]
A, B, C = PREFIXES[:3]


def attributes(number: int, local_pref: int = 100) -> AttributeSet:
    return originate(next_hop=address(number), local_pref=local_pref)


class Listener:
    """Remembers what it was told."""

    def __init__(self, rib: LocRib) -> None:
        self.calls: list[list[bytes]] = []
        rib.subscribe(lambda changed: self.calls.append(list(changed)))


class Follower:
    """Knows Loc-RIB by what it is told alone, as an export group does."""

    def __init__(self, rib: LocRib) -> None:
        self.rib = rib
        self.routes: dict[bytes, tuple[Path, ...]] = {}
        rib.subscribe(self.on_changes, self.on_new)

    def on_changes(self, changed: Sequence[bytes]) -> None:
        assert len(set(changed)) == len(changed)
        for one in changed:
            self.routes.pop(one, None)
            if one in self.rib.routes:
                self.routes[one] = self.rib.ranked(one)

    def on_new(self, runs: Sequence[Run]) -> None:
        for path, prefixes in runs:
            for one in prefixes:
                assert one not in self.routes, "it is not new"
                self.routes[one] = (path,)

    def check(self) -> None:
        assert self.routes == {one: self.rib.ranked(one) for one in self.rib.routes}


@dataclass(frozen=True)
class Step:
    """One thing that happens. `path_id` counts for sources with path identifiers only."""

    name: str
    number: int
    prefixes: list[bytes]
    local_pref: int
    path_id: int
    communities: tuple[int, ...]


NAMES = {
    "flush": 1,
    "announce": 5,
    "withdraw": 2,
    "drop": 1,
    "stale": 1,
    "sweep": 1,
    "long-lived": 1,
    "filter": 1,
}

steps = st.builds(
    Step,
    st.sampled_from([name for name, weight in NAMES.items() for _ in range(weight)] + ["check"]),
    st.sampled_from([4, 5, 2, 3]),
    st.lists(st.sampled_from([A, B, C]), min_size=1, max_size=3),
    st.sampled_from([100, 100, 90, 200]),
    st.integers(0, 2),
    st.sampled_from([(), (), (), (), (NO_LLGR,), (LLGR_STALE,)]),
)
Key = tuple[int, bytes]
WITH_PATH_IDS = (4, 5)


def refuse_b(one: bytes, path: Path) -> Path:
    """An import filter that refuses one prefix, and changes the metric of the others."""
    if one == B:
        return path.source.rejected_path(path, "filter, rule 1")
    return path.source.accepted_path(path, path.attributes.replace(med=7))


class Model:
    """What a rib is to hold: a dict a source, looked at from scratch."""

    def __init__(self) -> None:
        self.sources = {number: peer(number, add_path=number in WITH_PATH_IDS) for number in range(2, 6)}
        self.tables: dict[int, dict[Key, AttributeSet]] = {number: {} for number in self.sources}
        self.stale: dict[int, set[Key]] = {number: set() for number in self.sources}
        self.filtered: set[int] = set()

    def apply(self, step: Step) -> None:
        table, stale = self.tables[step.number], self.stale[step.number]
        keys = [(step.path_id if step.number in WITH_PATH_IDS else 0, one) for one in step.prefixes]
        if step.name == "announce":
            table.update(dict.fromkeys(keys, received(step)))
            stale.difference_update(keys)
        elif step.name == "withdraw":
            for key in keys:
                table.pop(key, None)
                stale.discard(key)
        elif step.name == "drop":
            table.clear()
            stale.clear()
            self.filtered.discard(step.number)
        elif step.name == "stale":
            stale.clear()
            stale.update(table)
        elif step.name == "sweep":
            for key in stale:
                del table[key]
            stale.clear()
        elif step.name == "long-lived":
            for key in list(stale):
                present = table[key].communities
                if NO_LLGR in present:
                    del table[key]
                    stale.discard(key)
                elif LLGR_STALE not in present:
                    table[key] = table[key].replace(communities=(*present, LLGR_STALE))
        elif step.name == "filter":
            self.filtered ^= {step.number}

    def paths(self, one: bytes) -> tuple[Path, ...]:
        """The eligible paths of a prefix, best first."""
        found = []
        for number, table in self.tables.items():
            for (path_id, prefix), attributes in table.items():
                if prefix == one:
                    path = self.sources[number].path(attributes, path_id=path_id)
                    path = refuse_b(one, path) if number in self.filtered else path
                    found += [path] if path.ineligible is None else []
        return rank(found)


def received(step: Step) -> AttributeSet:
    return attributes(step.number, step.local_pref).replace(communities=step.communities)


def apply(rib: LocRib, source: Source, step: Step, *, filtered: bool) -> None:
    keys = step.prefixes
    if source.add_path:
        keys = [step.path_id.to_bytes(4) + one for one in keys]
    if step.name == "announce":
        rib.update(source, [(received(step), keys)])
    elif step.name == "withdraw":
        rib.update(source, withdrawn=keys)
    elif step.name == "drop":
        rib.drop(source)
    elif step.name == "stale":
        rib.mark_stale(source)
    elif step.name == "sweep":
        rib.sweep_stale(source)
    elif step.name == "long-lived":
        rib.make_long_lived(source)
    elif step.name == "filter":
        rib.set_policy(source, refuse_b if filtered else None)
    elif step.name == "check":
        rib.recheck(source)


@given(st.lists(steps, min_size=20, max_size=60))
def test_every_sequence_of_updates_gives_what_is_left(some: list[Step]) -> None:
    rib = LocRib(Family.IPV4)
    told: dict[bytes, object] = {}
    rib.subscribe(lambda changed: told.update({one: rib.ranked(one) for one in changed}))
    follower = Follower(rib)
    model = Model()
    for step in some:
        model.apply(step)
        apply(rib, model.sources[step.number], step, filtered=step.number in model.filtered)
        if step.name == "flush":
            rib.flush()
            assert told == {one: rib.ranked(one) for one in told}
            assert set(rib.routes) <= set(told)
            follower.check()
    for one in PREFIXES:
        expected = model.paths(one)
        assert rib.ranked(one) == expected
        assert rib.best(one) is (expected[0] if expected else None)
        assert rib.multipath(one) == (multipath(expected) if expected else ())
    assert set(rib.routes) == {one for one in PREFIXES if model.paths(one)}
    for number, source in model.sources.items():
        adj_rib_in = rib.sources.get(source) or AdjRibIn(source)
        table = model.tables[number]
        assert len(adj_rib_in) == len(table)
        keys = {key[0].to_bytes(4) + key[1] if source.add_path else key[1]: key for key in table}
        assert set(adj_rib_in.keys()) == set(keys)
        for name, key in keys.items():
            path = adj_rib_in.path(name)
            assert path is not None
            assert (path.attributes, path.path_id) == (table[key], key[0])
        assert {keys[name] for name in adj_rib_in.stale} == model.stale[number]
    rib.flush()
    assert told == {one: rib.ranked(one) for one in told}
    assert set(rib.routes) <= set(told)
    follower.check()


def test_routes_with_equal_attributes_share_one_path() -> None:
    rib = LocRib(Family.IPV4)
    source = peer(2)
    for one in PREFIXES:
        rib.update(source, [(attributes(2), [one])])
    assert len({id(rib.routes[one]) for one in PREFIXES}) == 1
    assert isinstance(rib.routes[A], Path)
    rib.update(peer(3), [(attributes(3), [A])])
    assert isinstance(rib.routes[A], tuple)
    assert isinstance(rib.routes[B], Path)


def test_withdrawn_prefixes_of_an_update_go_first() -> None:
    rib = LocRib(Family.IPV4)
    source = peer(2)
    rib.update(source, [(attributes(2), [A])])
    rib.update(source, [(attributes(2, 200), [A])], [A])
    best = rib.best(A)
    assert best is not None
    assert best.attributes is attributes(2, 200)


def test_changes_of_a_turn_are_told_once() -> None:
    rib = LocRib(Family.IPV4)
    listener = Listener(rib)
    source = peer(2)
    rib.update(source, [(attributes(2), [A, B])])
    rib.update(source, [(attributes(2, 200), [B])], [A])
    rib.update(source, [(attributes(2), [C])])
    assert rib.changes_pending == 3
    assert rib.flush() == 0
    assert listener.calls == [[A, B, C]]
    assert rib.flush() == 0
    rib.update(source, [(attributes(2), [C])])
    rib.withdraw(source, [nlri("192.0.2.0/24")])
    rib.withdraw(peer(9), [A])
    rib.drop(peer(9))
    assert rib.flush() == 0
    assert listener.calls == [[A, B, C]], "what changes nothing is not told"


def test_a_flush_can_be_cut_into_portions() -> None:
    rib = LocRib(Family.IPV4)
    listener = Listener(rib)
    rib.update(peer(2), [(attributes(2), PREFIXES)])
    assert [rib.flush(2), rib.flush(2), rib.flush(2)] == [3, 1, 0]
    assert listener.calls == [PREFIXES[:2], PREFIXES[2:4], PREFIXES[4:]]


def test_new_prefixes_are_handed_on_as_they_came_until_anything_else_happens() -> None:
    rib = LocRib(Family.IPV4)
    source = peer(2)
    runs: list[Run] = []
    changed: list[bytes] = []
    rib.subscribe(changed.extend, runs.extend)
    rib.update(source, [(attributes(2), [A, B, A])])
    rib.update(source, [(attributes(2, 200), [C])])
    assert rib.changes_pending == 3
    assert [rib.flush(1), rib.flush(1), rib.flush()] == [2, 1, 0]
    first, second = source.path(attributes(2)), source.path(attributes(2, 200))
    assert (runs, changed) == ([(first, [A]), (first, [B]), (second, [C])], [])
    runs.clear()
    rib.update(source, [(attributes(2), PREFIXES[3:])])
    rib.withdraw(source, [A])
    assert rib.changes_pending == 3
    assert rib.flush() == 0
    assert (runs, changed) == ([], [*PREFIXES[3:], A])
    rib.withdraw(source, [B])
    rib.update(source, [(attributes(2), [B])])
    rib.flush()
    assert (runs, changed[3:]) == ([], [B]), (
        "it was withdrawn since the last flush: not new to those who listen"
    )


def test_a_second_path_that_shares_the_load_is_a_change() -> None:
    rib = LocRib(Family.IPV4)
    listener = Listener(rib)
    rib.update(peer(2), [(attributes(2), [A])])
    rib.flush()
    rib.update(peer(3), [(attributes(3), [A])])
    rib.flush()
    assert listener.calls == [[A], [A]]
    assert [path.source.name for path in rib.multipath(A)] == ["peer2", "peer3"]


def own_as(times: int) -> AttributeSet:
    path = (Segment(SegmentType.AS_SEQUENCE, (65009, *[LOCAL_AS] * times)),)
    return originate(next_hop=address(9)).replace(as_path=path)


INELIGIBLE = [
    pytest.param(peer(9, SourceKind.EBGP), own_as(1), "AS_PATH holds our AS 64512 (1 times, allowed: 0)"),
    pytest.param(
        peer(9, SourceKind.EBGP, allowed_local_as=1),
        own_as(2),
        "AS_PATH holds our AS 64512 (2 times, allowed: 1)",
    ),
    pytest.param(peer(9, SourceKind.EBGP, allowed_local_as=2), own_as(2), None),
    pytest.param(peer(9), attributes(9).replace(next_hop=OUR_ADDRESS), "NEXT_HOP is an address of ours"),
    pytest.param(
        peer(9), attributes(9).replace(originator_id=ROUTER.router_id), "ORIGINATOR_ID is our own router ID"
    ),
    pytest.param(
        peer(9),
        attributes(9).replace(cluster_list=[b"\1\1\1\1", ROUTER.cluster_id or b""]),
        "CLUSTER_LIST holds our own cluster ID",
    ),
    pytest.param(
        peer(9, router=replace(ROUTER, cluster_id=None)),
        attributes(9).replace(cluster_list=[b"\1\1\1\1"]),
        None,
    ),
]


@pytest.mark.parametrize(("source", "received", "reason"), INELIGIBLE)
def test_ineligible_paths_are_kept_with_the_reason(
    source: Source, received: AttributeSet, reason: str | None
) -> None:
    rib = LocRib(Family.IPV4)
    rib.update(peer(2), [(attributes(2), [A])])
    rib.update(source, [(received, [A, B])])
    (kept,) = paths_of(rib.sources[source].routes[B])
    assert kept.ineligible == reason
    assert [path.ineligible for path in rib.ineligible(A)] == ([reason] if reason else [])
    assert len(rib.ranked(A)) == (1 if reason else 2)
    assert (B in rib.routes) is (reason is None)


def test_a_path_that_becomes_ineligible_takes_the_place_of_the_one_before() -> None:
    rib = LocRib(Family.IPV4)
    source = peer(2)
    rib.update(source, [(attributes(2), [A])])
    rib.update(source, [(attributes(2).replace(next_hop=OUR_ADDRESS), [A])])
    assert rib.best(A) is None
    rib.update(source, [(attributes(2), [A])])
    assert rib.best(A) is not None


def test_local_routes_carry_interface_and_metric() -> None:
    rib = LocRib(Family.IPV4)
    kernel = local(SourceKind.KERNEL)
    path = kernel.path(originate(next_hop=bytes(4)), interface="cali1", metric=1024)
    rib.insert(path, [A])
    rib.insert(local().path(originate(next_hop=bytes(4))), [A])
    rib.update(peer(2), [(attributes(2), [A])])
    assert [path.source.kind for path in rib.ranked(A)] == [
        SourceKind.STATIC,
        SourceKind.IBGP,
        SourceKind.KERNEL,
    ]
    assert rib.ranked(A)[2] is path
    assert (path.interface, path.metric) == ("cali1", 1024)


def test_import_policy_applies_to_what_was_received_before() -> None:
    rib = LocRib(Family.IPV4)
    source = peer(2)
    rib.update(source, [(attributes(2), [A, B])])
    rib.flush()
    listener = Listener(rib)

    def policy(one: bytes, path: Path) -> Path:
        if one == A:
            return path.source.accepted_path(path, path.attributes.replace(local_pref=200))
        return path.source.rejected_path(path, "filter deny-b, rule 1")

    rib.set_policy(source, policy)
    rib.flush()
    assert listener.calls == [[A, B]]
    assert rib.ranked(A)[0].local_pref == 200
    assert rib.best(B) is None
    assert [path.ineligible for path in rib.ineligible(B)] == ["filter deny-b, rule 1"]
    (path,) = paths_of(rib.sources[source].routes[A])
    assert path.attributes is attributes(2), "Adj-RIB-In is as received"
    rib.update(source, [(attributes(2, 150), [A, C])])
    assert rib.ranked(A)[0].local_pref == 200
    rib.set_policy(source, None)
    assert rib.ranked(A)[0].local_pref == 150
    assert rib.ranked(B)[0].local_pref == 100


def test_a_policy_can_be_there_before_the_first_route() -> None:
    rib = LocRib(Family.IPV4)
    source = peer(2)
    rib.set_policy(source, lambda one, path: path.source.path(path.attributes.replace(local_pref=7)))
    rib.update(source, [(attributes(2), PREFIXES)])
    assert {rib.ranked(one)[0].local_pref for one in PREFIXES} == {7}


def test_another_identity_of_ours_is_checked_against_what_was_received_before() -> None:
    rib = LocRib(Family.IPV4)
    source = peer(2)
    rib.update(source, [(attributes(2), [A]), (attributes(2).replace(cluster_list=[b"\1\1\1\1"]), [B])])
    rib.flush()
    listener = Listener(rib)
    rib.set_router(source, ROUTER)
    rib.flush()
    assert listener.calls == []
    rib.set_router(source, replace(ROUTER, cluster_id=b"\1\1\1\1"))
    assert (rib.best(A) is not None, rib.best(B)) == (True, None)
    rib.set_router(source, ROUTER)
    assert rib.best(B) is not None


def test_recheck_makes_listeners_look_again() -> None:
    rib = LocRib(Family.IPV4)
    source = peer(2)
    rib.update(source, [(attributes(2), [A, B])])
    rib.flush()
    listener = Listener(rib)
    source.client = True
    rib.recheck(source)
    rib.flush()
    assert listener.calls == [[A, B]]


def paths_held(source: Source) -> int:
    return sum(path.source is source for path in all_paths.values())


def test_paths_that_nobody_holds_are_forgotten() -> None:
    rib = LocRib(Family.IPV4)
    source = peer(2)
    for local_pref in range(100):
        rib.update(source, [(attributes(2, local_pref), [A])])
        rib.flush()
    assert paths_held(source) == 1
    rib.drop(source)
    rib.flush()
    assert paths_held(source) == 0


def test_bulk_and_single_announcements_agree() -> None:
    """The way for prefixes that are new everywhere and the way for all others."""
    one_by_one, at_once = LocRib(Family.IPV4), LocRib(Family.IPV4)
    source, other = peer(2), peer(3)

    def fill(rib: LocRib, portions: Sequence[Sequence[bytes]]) -> None:
        rib.update(other, [(attributes(3), [C])])
        for portion in portions:
            rib.update(source, [(attributes(2), portion)])

    fill(one_by_one, [[one] for one in PREFIXES])
    fill(at_once, [PREFIXES[:2], [*PREFIXES, *PREFIXES]])
    assert one_by_one.routes == at_once.routes
    assert one_by_one.sources[source].routes == at_once.sources[source].routes


def test_paths_after_a_filter() -> None:
    source = peer(2)
    path = source.path(attributes(2))
    override = path.attributes.replace(local_pref=2147483647)
    accepted = source.accepted_path(path, override)
    assert accepted is source.accepted_path(path, override)
    assert accepted is not source.path(override)
    assert (accepted.preference, source.path(override).preference) == (100, 200)
    own = path.attributes.replace(as_path=(Segment(SegmentType.AS_SEQUENCE, (LOCAL_AS,)),))
    assert source.path(own).ineligible is not None
    assert source.accepted_path(path, own).ineligible is None, "a filter may prepend our AS"
    rejected = source.rejected_path(path, "no")
    assert rejected is source.rejected_path(path, "no")
    assert (rejected.ineligible, rejected.attributes) == ("no", path.attributes)
    looped = source.path(own)
    assert source.rejected_path(looped, "no") is source.accepted_path(looped, override) is looped

"""The store: last good versions, keys from several places, and the difference of what is in force."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from routed.datastore import Changes
from routed.datastore.store import Found, Store
from routed.resources import BlockAffinity, Key, Problem, Record, parse_record

BAD_CIDR = "10.0.0.0/99"


def affinity(name: object, cidr: object = "10.0.0.0/26") -> dict[str, Any]:
    return {
        "apiVersion": "projectcalico.org/v3",
        "kind": "BlockAffinity",
        "metadata": {"name": name},
        "spec": {"node": "node-1", "cidr": cidr},
    }


def found(*documents: object, origin: str = "a") -> list[Found]:
    return [Found(parse_record(document), f"{origin}:{line}") for line, document in enumerate(documents, 1)]


def key(name: str) -> Key:
    return Key("BlockAffinity", name)


def names(records: Iterable[Record]) -> list[str]:
    return [record.name for record in records]


def taken(store: Store) -> Changes:
    changes = store.take_changes()
    assert changes is not None
    return changes


def cidr_of(record: Record) -> str:
    assert isinstance(record, BlockAffinity)
    return str(record.cidr)


def test_a_snapshot_then_only_differences() -> None:
    store = Store()
    store.replace("b", found(affinity("y"), affinity("x")))
    store.replace("a", found(affinity("z")))
    snapshot = store.take_snapshot()
    assert names(snapshot.upserts) == ["x", "y", "z"]
    assert snapshot.deletes == ()
    assert store.take_changes() is None
    store.replace("a", found(affinity("z"), affinity("w")))
    assert store.take_changes() == Changes(upserts=(snapshot_record("w"),))
    store.replace("b", found(affinity("x", "10.0.0.64/26")))
    changes = taken(store)
    assert [cidr_of(record) for record in changes.upserts] == ["10.0.0.64/26"]
    assert changes.deletes == (key("y"),)
    store.remove("b")
    assert taken(store).deletes == (key("x"),)
    store.remove("b")
    store.remove("never there")
    assert store.take_changes() is None


def snapshot_record(name: str) -> Record:
    record = parse_record(affinity(name)).record
    assert record is not None
    return record


def test_what_is_said_again_is_no_change() -> None:
    store = Store()
    store.replace("a", found(affinity("x")))
    store.take_snapshot()
    store.replace("a", found({"kind": "ClusterInformation"}, affinity("x", "10.0.0.9/26")))
    assert store.take_changes() is None


def test_a_rejected_record_leaves_its_last_good_version_in_force() -> None:
    store = Store()
    store.replace("a", found(affinity("x"), affinity("y")))
    store.take_snapshot()
    store.replace("a", found(affinity("x", BAD_CIDR), affinity("y", "10.0.0.64/26")))
    changes = taken(store)
    assert names(changes.upserts) == ["y"]
    assert changes.deletes == ()
    assert [(problem.key, problem.field, problem.source) for problem in changes.problems] == [
        (key("x"), "spec.cidr", "a:1")
    ]
    store.replace("a", found(affinity("y", "10.0.0.64/26")))
    changes = taken(store)
    assert changes.deletes == (key("x"),)
    assert changes.problems == ()


def test_a_record_that_never_was_good_is_not_in_force() -> None:
    store = Store()
    store.replace("a", found(affinity("x", BAD_CIDR)))
    snapshot = store.take_snapshot()
    assert snapshot.upserts == ()
    assert len(snapshot.problems) == 1


def test_a_record_that_moves_and_breaks_stays_in_force() -> None:
    store = Store()
    store.replace("a", found(affinity("x")))
    store.take_snapshot()
    store.replace("b", found(affinity("x", BAD_CIDR), origin="b"))
    store.remove("a")
    changes = taken(store)
    assert changes.deletes == ()
    store.remove("b")
    assert taken(store).deletes == (key("x"),)


def test_an_incomplete_origin_deletes_nothing() -> None:
    store = Store()
    store.replace("a", found(affinity("x"), affinity("y"), affinity("z", BAD_CIDR)))
    store.take_snapshot()
    fault = Problem(None, "", "is not YAML", source="a:4")
    store.replace("a", found(affinity("w"), affinity("y", "10.0.0.64/26")), [fault], complete=False)
    changes = taken(store)
    assert names(changes.upserts) == ["w", "y"]
    assert changes.deletes == ()
    assert changes.problems == (fault,)
    store.replace("a", found(affinity("y", "10.0.0.64/26")))
    assert taken(store).deletes == (key("w"), key("x"))


def test_a_document_that_cannot_be_told_may_be_any_that_is_missing() -> None:
    store = Store()
    store.replace("a", found(affinity("x"), affinity("y")))
    store.take_snapshot()
    unreadable: list[object] = [affinity(None), affinity(5), {"kind": "BlockAffinity"}, [], {"spec": {}}]
    for unknown in unreadable:
        store.replace("a", found(affinity("y"), unknown))
        assert taken(store).deletes == ()
        store.replace("a", found(affinity("x"), affinity("y")))
        store.take_changes()


def test_a_document_of_another_kind_hides_nothing() -> None:
    store = Store()
    store.replace("a", found(affinity("x"), affinity("y")))
    store.take_snapshot()
    store.replace("a", found(affinity("y"), {"kind": "Deployment"}))
    assert taken(store).deletes == (key("x"),)


def test_the_first_of_two_places_wins_and_both_are_named() -> None:
    store = Store()
    store.replace("b", found(affinity("x", "10.2.0.0/26"), origin="b"))
    store.replace("c", found(affinity("y"), affinity("x", "10.3.0.0/26"), origin="c"))
    snapshot = store.take_snapshot()
    assert [cidr_of(record) for record in snapshot.upserts] == ["10.2.0.0/26", "10.0.0.0/26"]
    (problem,) = snapshot.problems
    assert problem.key == key("x")
    assert problem.source == "c:2"
    assert "b:1" in problem.reason
    store.replace("a", found(affinity("x", "10.1.0.0/26"), origin="a"))
    changes = taken(store)
    assert [cidr_of(record) for record in changes.upserts] == ["10.1.0.0/26"]
    assert [problem.source for problem in changes.problems] == ["b:1", "c:2"]
    store.remove("a")
    store.remove("b")
    changes = taken(store)
    assert [cidr_of(record) for record in changes.upserts] == ["10.3.0.0/26"]
    assert changes.problems == ()


def test_twice_in_one_place() -> None:
    store = Store()
    store.replace("a", found(affinity("x", "10.1.0.0/26"), affinity("x", "10.2.0.0/26")))
    snapshot = store.take_snapshot()
    assert [cidr_of(record) for record in snapshot.upserts] == ["10.1.0.0/26"]
    (problem,) = snapshot.problems
    assert (problem.source, "a:1" in problem.reason) == ("a:2", True)


def test_an_unknown_kind_is_told_once() -> None:
    store = Store()
    store.replace("b", found(*[{"kind": "Deployment"}] * 3, {"kind": "Pod"}, origin="b"))
    store.replace("a", found({"kind": "Deployment"}, origin="a"))
    assert [(p.source, p.severity) for p in store.take_snapshot().problems] == [
        ("a:1", "warning"),
        ("b:4", "warning"),
    ]


def test_problems_come_in_the_order_of_the_files_and_lines() -> None:
    store = Store()
    store.replace("b", found(*[affinity(f"x{n}", BAD_CIDR) for n in range(11)], origin="b"))
    store.replace("a", found(affinity("y", BAD_CIDR), origin="a"))
    store.set_common_problems([Problem(None, "", "cannot be listed", source="c")])
    sources = [problem.source for problem in store.take_snapshot().problems]
    assert sources == ["a:1", *(f"b:{line}" for line in range(1, 12)), "c"]


def test_a_change_of_problems_alone_is_told() -> None:
    store = Store()
    store.take_snapshot()
    problem = Problem(None, "", "cannot be listed", source="c")
    store.set_common_problems([problem])
    assert store.take_changes() == Changes(problems=(problem,))
    assert store.take_changes() is None
    store.set_common_problems([])
    assert store.take_changes() == Changes()


# What a document says: (name, variant); the variant None is a record that is rejected.
_documents = st.lists(st.tuples(st.sampled_from("xyz"), st.one_of(st.none(), st.integers(0, 2))), max_size=4)
_origins = st.sampled_from(["a", "b", "c"])


def _found(origin: str, documents: list[tuple[str, int | None]]) -> list[Found]:
    return found(
        *(affinity(name, BAD_CIDR if n is None else f"10.0.{n}.0/26") for name, n in documents), origin=origin
    )


class StoreAgainstModel(RuleBasedStateMachine):
    """Any sequence of replacements: the records in force are those of a model that works it all out each
    time, and the changes, put one after the other, make up what is in force."""

    @initialize()
    def start(self) -> None:
        self.store = Store()
        self.store.take_snapshot()
        self.origins: dict[str, dict[str, int | None]] = {}
        self.expected: dict[str, int] = {}
        self.followed: dict[Key, Record] = {}

    @rule(origin=_origins, documents=_documents)
    def replace(self, origin: str, documents: list[tuple[str, int | None]]) -> None:
        self.store.replace(origin, _found(origin, documents))
        self._model(origin, documents, {})

    @rule(origin=_origins, documents=_documents)
    def replace_in_part(self, origin: str, documents: list[tuple[str, int | None]]) -> None:
        self.store.replace(origin, _found(origin, documents), complete=False)
        self._model(origin, documents, self.origins.get(origin, {}))

    @rule(origin=_origins)
    def remove(self, origin: str) -> None:
        self.store.remove(origin)
        self.origins.pop(origin, None)
        self._work_out()

    def _model(
        self, origin: str, documents: list[tuple[str, int | None]], kept: dict[str, int | None]
    ) -> None:
        holds: dict[str, int | None] = {}
        for name, variant in documents:
            if holds.get(name) is None:
                holds[name] = variant
        self.origins[origin] = {**kept, **holds}
        self._work_out()

    def _work_out(self) -> None:
        wanted: dict[str, int] = {}
        for name in "xyz":
            said = [holds[name] for _, holds in sorted(self.origins.items()) if name in holds]
            good = [variant for variant in said if variant is not None]
            if good:
                wanted[name] = good[0]
            elif said and name in self.expected:
                wanted[name] = self.expected[name]
        self.expected = wanted
        changes = self.store.take_changes()
        if changes is not None:
            assert not {record.key for record in changes.upserts} & set(changes.deletes)
            for record in changes.upserts:
                assert self.followed.get(record.key) != record
                self.followed[record.key] = record
            for gone in changes.deletes:
                del self.followed[gone]

    @invariant()
    def in_force(self) -> None:
        assert {name: f"10.0.{n}.0/26" for name, n in self.expected.items()} == {
            record.name: cidr_of(record) for record in self.followed.values()
        }


TestStoreAgainstModel = StoreAgainstModel.TestCase


@given(st.permutations(["a", "b", "c"]))
def test_the_order_of_loading_does_not_matter(order: list[str]) -> None:
    store = Store()
    for origin in order:
        store.replace(origin, found(affinity("x", f"10.0.{ord(origin)}.0/26"), origin=origin))
    snapshot = store.take_snapshot()
    assert [cidr_of(record) for record in snapshot.upserts] == ["10.0.97.0/26"]
    assert [problem.source for problem in snapshot.problems] == ["b:1", "c:1"]

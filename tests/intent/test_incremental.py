"""Any sequence of changes ends where a compile of what is left would, and its differences add up to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from ipaddress import IPv4Address
from typing import TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routed.bgp.nlri import Family
from routed.intent.compiler import Compiler, compile_intent
from routed.intent.options import Options
from routed.intent.types import IntentDelta, NodeIntent
from routed.resources import Key, Record

from .clusters import BLOCKS, EVERYTHING, V4, V6, records, single_changes

K = TypeVar("K")
V = TypeVar("V")

OPTIONS = {
    "node": Options("a"),
    "pod-cidrs": Options("a", use_pod_cidr=True, router_id="hash", advertise_cluster_ips=BLOCKS[:1]),
    "reflector": Options("rr", reflector_address=V4[3], router_id=IPv4Address("10.0.0.9")),
    "reflector-v6": Options("rr", reflector_address=V6[3], reflector_as=64512),
}


def merged(before: Mapping[K, V], changed: Mapping[K, V | None]) -> dict[K, V]:
    """A mapping after a difference: None is what is gone."""
    both: dict[K, V | None] = {**before, **changed}
    return {name: value for name, value in both.items() if value is not None}


def add(intent: NodeIntent, delta: IntentDelta, compiler: Compiler) -> NodeIntent:
    """What a holder of the intent has after it took a difference in."""

    now = compiler.intent
    header = now if delta.node_changed else intent
    families = {
        family: (now if family in delta.families_changed else intent).families[family] for family in Family
    }
    problems = (set(intent.problems) | set(delta.problems)) - set(delta.problems_solved)
    return replace(
        header,
        sessions=merged(intent.sessions, delta.sessions_changed),
        originated=merged(intent.originated, delta.originated_changed),
        filters=merged(intent.filters, delta.filters_changed),
        families=families,
        problems=tuple(sorted(problems, key=lambda p: (str(p.key), p.field, p.reason))),
    )


Step = list[tuple[Record, str]]


def follow(options: Options, steps: list[Step]) -> None:
    """Applies the steps, and holds each outcome against a compile of all that is in force."""
    compiler = Compiler(options)
    held = compiler.intent
    in_force: dict[Key, Record] = {}
    for step in steps:
        upserts = {record.key: record for record, what in step if what == "upsert"}
        deletes = {record.key for record, what in step if what == "delete"} - upserts.keys()
        in_force |= upserts
        for key in deletes:
            in_force.pop(key, None)
        delta = compiler.apply(upserts.values(), deletes)
        now = compiler.intent
        whole = compile_intent(reversed(in_force.values()), options)
        assert now == whole
        assert list(now.originated) == list(whole.originated)
        assert list(now.sessions) == list(whole.sessions)
        held = add(held, delta, compiler)
        assert held == now
        assert bool(delta) is (delta != IntentDelta())
        assert not compiler.apply(upserts.values(), deletes)


anything: st.SearchStrategy[list[Step]] = st.lists(
    st.lists(st.tuples(records, st.sampled_from(("upsert", "upsert", "upsert", "delete"))), max_size=6),
    max_size=6,
)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
@settings(max_examples=60, deadline=None)
@given(steps=anything)
def test_any_changes_add_up(options: Options, steps: list[Step]) -> None:
    follow(options, steps)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
@settings(max_examples=150, deadline=None)
@given(changes=st.lists(st.lists(single_changes, min_size=1, max_size=2), max_size=6))
def test_single_changes_of_a_full_cluster_add_up(options: Options, changes: list[Step]) -> None:
    follow(options, [[(record, "upsert") for record in EVERYTHING], *changes])


@pytest.mark.parametrize("record", EVERYTHING, ids=lambda record: str(record.key))
def test_every_record_of_the_full_cluster_has_an_effect(record: Record) -> None:
    """Else the changes above would show nothing."""
    compiler = Compiler(OPTIONS["node"])
    compiler.apply(EVERYTHING)
    assert compiler.apply((), [record.key])
    assert compiler.apply([record])

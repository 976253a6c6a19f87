"""The reflector's benchmarks run, at sizes that say nothing of speed."""

from __future__ import annotations

import pytest

from benchmarks import bad_clients, memory, turns


def test_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "QUIET", 0.05)
    rows = turns.measure(routes=2000, clients=3, a_set=20)
    assert len(rows) == len({what for what, _, _ in rows}) > 8
    assert all(longest > 0 for _, _, longest in rows)
    assert len(turns.table(rows).splitlines()) == 2 + len(rows)


@pytest.mark.parametrize("a_set", [0, 20])
def test_memory(a_set: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "QUIET", 0.2)
    row = memory.measure(routes=20_000, clients=12, a_set=a_set)
    assert row.clients == 12
    assert row.most >= row.quiet > row.sessions_only > 1e6
    assert 100 < row.a_route < 1000  # octets, not time
    assert len(memory.table([row]).splitlines()) == 3


def test_bad_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bad_clients, "SETTLE", 0.5)
    first, beside, last = bad_clients.measure(clients=5, seconds=0.2, names=["loops"])
    assert (first.incidents, last.incidents) == ({}, {})
    assert beside.incidents["announcements_ignored"] > 0
    assert (first.lost, beside.lost, last.lost) == (0, 0, 0)
    assert "announcements_ignored" in bad_clients.table([first, beside, last])

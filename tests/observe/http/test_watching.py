"""The benchmark of what watching costs, small: it asks what it says it asks."""

from __future__ import annotations

import pytest

from benchmarks import watching


def test_every_question_is_asked_and_a_watcher_hears(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "QUIET", 0.05)
    monkeypatch.setattr(watching, "TIMES", 1)
    monkeypatch.setattr(watching, "SPANS", 1)
    result = watching.measure(sessions=3, routes=30, seconds=1.5)
    assert [one.path for one in result.questions] == watching.questions("Client_127_1_0_1")
    sizes = {one.path: one.octets for one in result.questions}
    assert sizes["/api/v1/routes"] > 30 * 100
    assert sizes["/metrics"] > 1000
    assert result.watching.events > 0, "an event of changed routes was heard"
    assert len(watching.table(result).splitlines()) == 4 + len(result.questions)

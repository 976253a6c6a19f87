"""The soak of the benchmarks at a small size: timers of 1 s and 3 s, churn, flaps and joins, and the same
table everywhere at the end."""

from __future__ import annotations

import pytest

from benchmarks.soak import Plan, Result, Sample, report, soak


def test_no_session_is_lost_and_all_hold_the_same() -> None:
    plan = Plan(4.0, clients=60, routes=100, hold_time=3, changes=3000, flaps=5, joins=3)
    result = soak(plan)
    assert not result.lost, result.reasons
    assert (result.differing, result.foreign) == (0, 0)
    assert result.changes > 0
    assert result.flaps > 0
    assert result.joins > 0
    assert result.delays
    assert "sessions lost   0" in report(result)


def samples(*megabytes: int) -> list[Sample]:
    return [Sample(float(at), one * 1_000_000, 0.0, 0) for at, one in enumerate(megabytes)]


@pytest.mark.parametrize(
    ("result", "problem"),
    [
        (Result(Plan(8.0), samples(10, 20, 30, 30, 30, 30, 30, 30, 30)), None),
        (Result(Plan(8.0), samples(10, 20, 30, 30, 30, 30, 40, 40, 40)), "memory grew by 33.3%"),
        (Result(Plan(8.0), samples(1, 2, 3, 3, 3, 3, 4, 4, 4)), None),  # too little to be told from noise
        (Result(Plan(8.0), samples(1, 1, 1), lost=2, reasons={"x": 2}), "2 sessions lost"),
        (Result(Plan(8.0), samples(1, 1, 1), differing=3), "3 clients do not hold"),
        (Result(Plan(8.0), samples(1, 1, 1), foreign=1), "1 routes told"),
    ],
)
def test_what_counts_as_a_problem(result: Result, problem: str | None) -> None:
    assert len(result.problems) == (problem is not None)
    assert problem is None or result.problems[0].startswith(problem)

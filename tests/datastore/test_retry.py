"""Trying again, on a clock of the test's own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from routed.datastore import retry
from routed.datastore.retry import UnavailableError, keep_trying


class Clock:
    """Time that passes only where something waits for it."""

    def __init__(self) -> None:
        self.now = 0.0
        self.pauses: list[float] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


class Server:
    """Fails so often, each attempt taking so long; then the session ends."""

    def __init__(self, clock: Clock, failures: int, lasting: float = 0.0, wants: float | None = None) -> None:
        self.clock = clock
        self.failures = failures
        self.lasting = lasting
        self.wants = wants
        self.attempts = 0

    async def session(self) -> None:
        self.attempts += 1
        self.clock.now += self.lasting
        if self.attempts <= self.failures:
            raise UnavailableError(f"failure {self.attempts}", self.wants)


def pauses(failures: int, lasting: float = 0.0, wants: float | None = None) -> list[float]:
    clock, said = Clock(), list[str]()
    server = Server(clock, failures, lasting, wants)
    asyncio.run(keep_trying(server.session, said.append, clock.sleep, clock))
    assert server.attempts == failures + 1
    assert said == [f"failure {number}" for number in range(1, failures + 1)]
    assert len(clock.pauses) == failures
    return clock.pauses


def test_pauses_grow_to_a_cap_and_are_never_none() -> None:
    runs = [pauses(40) for _ in range(50)]
    for attempt in range(40):
        bound = min(retry.FIRST_PAUSE * 2**attempt, retry.LONGEST_PAUSE) + retry.LEAST_PAUSE
        for run in runs:
            assert retry.LEAST_PAUSE <= run[attempt] <= min(bound, retry.LONGEST_PAUSE)
    # Jitter: nobody is in step with another.
    assert len({run[30] for run in runs}) > 45
    assert max(run[30] for run in runs) > retry.LONGEST_PAUSE / 2


def test_a_steady_session_begins_anew() -> None:
    assert max(pauses(200, lasting=2 * retry.STEADY)) <= retry.FIRST_PAUSE + retry.LEAST_PAUSE


def test_a_session_that_is_cut_at_once_again_and_again_counts_as_failing() -> None:
    assert sum(pauses(60, lasting=retry.STEADY / 100)) > 10 * retry.LONGEST_PAUSE


def test_what_the_server_asks_for_is_a_floor() -> None:
    assert min(pauses(20, wants=45.0)) == 45.0
    assert min(pauses(20, wants=0.0)) >= retry.LEAST_PAUSE


@pytest.mark.parametrize("fault", [KeyError, OSError, asyncio.CancelledError])
def test_faults_of_ours_are_not_tried_again(fault: Callable[[], BaseException]) -> None:
    async def session() -> None:
        raise fault()

    clock = Clock()
    with pytest.raises(BaseException) as caught:  # noqa: PT011 - the type is checked below
        asyncio.run(keep_trying(session, lambda reason: None, clock.sleep, clock))
    assert isinstance(caught.value, type(fault()))
    assert clock.pauses == []

"""A key that changes: which one is used when, and how an established session gets to the new one."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from routed.bgp.keys import (
    FIRST_TRIAL,
    OVERLAP_TIME,
    SELDOM_TRIAL,
    TRIAL_TIME,
    Key,
    KeyRing,
    Rollover,
)
from routed.bgp.tcp_options import Progress
from routed.resources import SecretValue

OLD, NEW, THIRD = SecretValue(b"old"), SecretValue(b"new"), SecretValue(b"third")


# KeyRing


def test_one_key_is_used_for_everything() -> None:
    ring = KeyRing(OLD)
    assert [ring.next_dial() for _ in range(3)] == [OLD] * 3
    ring.turn()
    assert ring.listening == OLD
    assert not ring.overlapping


def test_after_a_change_both_keys_are_used_by_turns_the_new_one_first() -> None:
    ring = KeyRing(OLD)
    ring.change(NEW, 0.0)
    assert [ring.next_dial() for _ in range(4)] == [NEW, OLD, NEW, OLD]
    seen = []
    for _ in range(4):
        seen.append(ring.listening)
        ring.turn()
    assert seen == [NEW, OLD, NEW, OLD]


def test_a_session_with_the_new_key_voids_the_old_one() -> None:
    ring = KeyRing(OLD)
    ring.change(NEW, 0.0)
    ring.turn()
    ring.proven(NEW)
    assert list(ring.candidates) == [NEW]
    assert ring.listening == NEW


def test_a_session_with_the_old_key_does_not() -> None:
    ring = KeyRing(OLD)
    ring.change(NEW, 0.0)
    ring.proven(OLD)
    assert list(ring.candidates) == [NEW, OLD]


def test_the_old_key_is_void_some_time_after_the_last_session_with_it() -> None:
    ring = KeyRing(OLD)
    ring.change(NEW, 0.0)
    assert not ring.expire(OVERLAP_TIME - 1)
    ring.session_over(1000.0)
    assert not ring.expire(1000 + OVERLAP_TIME - 1)
    assert ring.expire(1000 + OVERLAP_TIME)
    assert list(ring.candidates) == [NEW]
    assert not ring.expire(1e9)


def test_of_several_changes_the_key_that_worked_last_counts_beside_the_newest() -> None:
    ring = KeyRing(OLD)
    ring.proven(OLD)
    ring.change(NEW, 0.0)
    ring.change(THIRD, 1.0)
    assert list(ring.candidates) == [THIRD, OLD]
    ring.change(OLD, 2.0)
    assert list(ring.candidates) == [OLD]


def test_no_key_is_a_key_like_the_others() -> None:
    ring = KeyRing(None)
    ring.proven(None)
    ring.change(NEW, 0.0)
    assert list(ring.candidates) == [NEW, None]
    ring.proven(NEW)
    ring.change(None, 1.0)
    assert list(ring.candidates) == [None, NEW]


# Rollover: two ends, and a TCP connection between them that carries what is signed with the same key


@dataclass
class End:
    """One end of a connection: its socket's key and counters, and its rollover once it has learned of the new
    key."""

    learns_at: float
    rng: random.Random
    trial_time: float = TRIAL_TIME
    key: Key = OLD
    rollover: Rollover | None = None
    queued: int = 0
    acknowledged: int = 0
    received: int = 0
    dropped: int = 0
    backoff: float = 0.2
    send_at: float = 0.0
    silent_since: float = 0.0
    longest_silence: float = 0.0
    swaps: list[float] = field(default_factory=list)

    @property
    def progress(self) -> Progress:
        return Progress(self.queued, self.acknowledged, self.received, self.dropped)

    def step(self, now: float) -> None:
        if self.rollover is None:
            if now < self.learns_at:
                return
            self.rollover = Rollover(OLD, NEW, now, self.progress, self.rng)
        if not self.rollover.done and self.rollover.step(now, self.progress, self.trial_time):
            self.key = self.rollover.key
            self.rollover.swapped(self.progress)
            self.swaps.append(now)
            if self.rollover.trial:
                self.queued += 19


def transmit(sender: End, receiver: End, now: float) -> None:
    """Send what is queued, again and again with TCP's growing patience, until it is acknowledged."""
    if not sender.queued or now < sender.send_at:
        return
    if sender.key == receiver.key:
        receiver.received += sender.queued
        sender.acknowledged += sender.queued
        sender.queued, sender.backoff, sender.send_at = 0, 0.2, 0.0
        receiver.longest_silence = max(receiver.longest_silence, now - receiver.silent_since)
        receiver.silent_since = now
    else:
        receiver.dropped += 1
        sender.send_at = now + sender.backoff
        sender.backoff = min(sender.backoff * 2, 120.0)


def converse(a: End, b: End, keepalive: float, until: float) -> float:
    """Run both ends in steps of 50 ms; returns when both had the new key."""
    now, next_keepalive = 0.0, 0.0
    ticks = 0
    while now < until:
        if now >= next_keepalive:
            next_keepalive = now + keepalive
            a.queued += 19
            b.queued += 19
        transmit(a, b, now)
        transmit(b, a, now)
        if ticks % 5 == 0:
            a.step(now)
        if ticks % 5 == 2:
            b.step(now)
        if all(end.rollover is not None and end.rollover.done for end in (a, b)):
            return now
        ticks += 1
        now = ticks * 0.05
    raise AssertionError("the two ends do not agree on the new key")


@given(st.integers(0, 2**32), st.floats(0, 100), st.sampled_from([1.0, 10.0, 30.0]))
def test_two_ends_agree_on_the_new_key_soon_after_the_later_one_learned_of_it(
    seed: int, later: float, keepalive: float
) -> None:
    rng = random.Random(seed)
    trial_time = min(TRIAL_TIME, keepalive / 2)  # a sixth of the hold time
    a, b = End(0.0, rng, trial_time), End(later, rng, trial_time)
    done = converse(a, b, keepalive, later + 120)
    assert done <= later + keepalive + 60
    assert a.key == b.key == NEW
    for end in (a, b):  # what was held up came through in time for a hold timer of three keepalives
        assert end.longest_silence < max(3 * keepalive, 3.0)


def test_an_end_that_never_learns_of_it_keeps_its_session() -> None:
    rng = random.Random(3)
    a, b = End(0.0, rng), End(1e9, rng)
    try:
        converse(a, b, 10.0, 3600.0)
    except AssertionError:
        pass
    else:
        raise AssertionError("the other end had the old key all the time")
    trials = len(a.swaps) // 2
    assert 3600 / SELDOM_TRIAL <= trials <= 3600 / SELDOM_TRIAL / 0.75 + 6
    assert b.longest_silence < 10 + 2 * TRIAL_TIME


def test_a_peer_that_changes_its_key_on_the_living_session_is_followed_at_once() -> None:
    """As a router does; it never tries by itself."""
    rng = random.Random(4)
    a, b = End(0.0, rng), End(1e9, rng)
    rollover = a.rollover = Rollover(OLD, NEW, 0.0, a.progress, rng)
    rollover.step(0.25, a.progress)
    b.key = NEW
    b.queued = 19
    now = 0.3
    while not rollover.done:
        transmit(b, a, now)
        transmit(a, b, now)
        a.step(now)
        now += 0.05
        assert now < FIRST_TRIAL * 0.75  # not by a trial of its own
    assert a.key == NEW


def test_segments_that_are_dropped_beside_others_that_arrive_are_no_sign() -> None:
    rollover = Rollover(OLD, NEW, 0.0, Progress(0, 0, 0, 0), random.Random(5))
    for tick in range(1, 8):
        assert not rollover.step(tick * 0.25, Progress(0, 0, tick, tick))
    assert rollover.key == OLD


def test_a_trial_that_fails_puts_the_old_key_back() -> None:
    rollover = Rollover(OLD, NEW, 0.0, Progress(0, 0, 0, 0), random.Random(6))
    nothing = Progress(19, 0, 0, 0)
    assert rollover.step(4.0, nothing)
    assert rollover.key == NEW
    assert rollover.trial
    rollover.swapped(nothing)
    assert not rollover.step(5.5, nothing)
    assert rollover.step(6.0, nothing)
    assert rollover.key == OLD
    assert not rollover.done
    # what the other end sends again right after that is no sign of a new key
    assert not rollover.step(6.25, Progress(19, 0, 0, 3))
    assert rollover.step(6.75, Progress(19, 0, 0, 4))

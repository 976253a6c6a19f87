"""Short turns of the event loop: the selector in its place, and what it does with many ready sockets."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from selectors import EVENT_READ, EVENT_WRITE

import pytest

from routed.event_loop import (
    LEAST_EVENTS,
    LONG_TURN,
    MOST_EVENTS,
    SHORT_TURN,
    FairSelector,
    new_event_loop,
)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def selector(clock: Clock) -> Iterator[FairSelector]:
    with contextlib.closing(FairSelector(clock)) as made:
        yield made


@pytest.fixture
def pairs() -> Iterator[list[tuple[socket.socket, socket.socket]]]:
    with contextlib.ExitStack() as stack:
        made = [socket.socketpair() for _ in range(3 * MOST_EVENTS)]
        for pair in made:
            for one in pair:
                one.setblocking(False)
                stack.enter_context(one)
        yield made


Pairs = list[tuple[socket.socket, socket.socket]]


def test_it_does_what_a_selector_does(selector: FairSelector, pairs: Pairs) -> None:
    near, far = pairs[0]
    key = selector.register(near, EVENT_READ, "data")
    assert (key.fileobj, key.fd, key.events, key.data) == (near, near.fileno(), EVENT_READ, "data")
    assert selector.get_key(near) is key
    assert selector.get_map()[near.fileno()] is key
    assert selector.select(0) == []
    far.send(b"x")
    assert selector.select(None) == [(key, EVENT_READ)]
    key = selector.modify(near, EVENT_READ | EVENT_WRITE, "more")
    assert selector.select(0) == [(key, EVENT_READ | EVENT_WRITE)]
    key = selector.modify(near, EVENT_WRITE, "more")
    assert selector.select(0) == [(key, EVENT_WRITE)]
    assert selector.unregister(near) is key
    assert selector.select(0) == []
    for call in (selector.unregister, selector.get_key):
        with pytest.raises(KeyError):
            call(near)


def test_mistakes_are_refused(selector: FairSelector, pairs: Pairs) -> None:
    near, _ = pairs[0]
    selector.register(near, EVENT_READ)
    with pytest.raises(KeyError, match="already"):
        selector.register(near.fileno(), EVENT_READ)
    with pytest.raises(ValueError, match="no descriptor"):
        selector.register(-1, EVENT_READ)


def test_what_was_closed_can_be_unregistered(selector: FairSelector, pairs: Pairs) -> None:
    near, _ = pairs[0]
    key = selector.register(near, EVENT_READ)
    near.close()
    assert selector.unregister(near) is key
    with pytest.raises(ValueError, match="no descriptor"):
        selector.unregister(near)


def test_the_other_end_is_gone(selector: FairSelector, pairs: Pairs) -> None:
    """EPOLLHUP: the reader is to read the end of the file, the writer to get its error."""
    (near, far), (other, gone) = pairs[:2]
    reads, writes = selector.register(near, EVENT_READ), selector.register(other, EVENT_WRITE)
    far.close()
    gone.close()
    assert {key.fd: events for key, events in selector.select(0)} == {
        reads.fd: EVENT_READ,
        writes.fd: EVENT_WRITE,
    }


def test_nobody_is_left_out(selector: FairSelector, pairs: Pairs) -> None:
    """More are ready than a turn gets: each has its turn before any has two."""
    for near, far in pairs:
        selector.register(near, EVENT_READ)
        far.send(b"x")
    first = [{key.fd for key, _ in selector.select(0)} for _ in range(3)]
    assert [len(some) for some in first] == [MOST_EVENTS] * 3
    assert set.union(*first) == {near.fileno() for near, _ in pairs}
    assert {key.fd for key, _ in selector.select(0)} == first[0]


def test_long_turns_get_fewer_sockets(selector: FairSelector, clock: Clock, pairs: Pairs) -> None:
    for near, far in pairs:
        selector.register(near, EVENT_READ)
        far.send(b"x")
    limits = []
    for turn in (LONG_TURN * 2, LONG_TURN * 2, LONG_TURN, SHORT_TURN / 2, SHORT_TURN, 0.0, 0.0):
        limits.append(len(selector.select(0)))
        clock.now += turn
    most = MOST_EVENTS
    assert limits == [most, most // 2, most // 4, most // 4, most // 2, most // 2, most]


def test_never_none(selector: FairSelector, clock: Clock) -> None:
    for _ in range(20):
        selector.select(0)
        clock.now += 10 * LONG_TURN
    assert selector.limit == LEAST_EVENTS


def test_the_loop_works(pairs: Pairs) -> None:
    """asyncio's own streams on it: more peers than a turn has room for, while a timer runs."""
    late: list[float] = []

    async def main() -> int:
        loop = asyncio.get_running_loop()

        async def tick() -> None:
            while True:
                before = loop.time()
                await asyncio.sleep(0.001)
                late.append(loop.time() - before)

        async def echo(near: socket.socket, far: socket.socket) -> int:
            heard = 0
            for number in range(20):
                reading = asyncio.create_task(loop.sock_recv(near, 100))
                await asyncio.sleep(0)  # so that it has to wait
                await loop.sock_sendall(far, bytes(number + 1))
                heard += len(await reading)
            return heard

        ticking = asyncio.create_task(tick())
        total = sum(await asyncio.gather(*(echo(near, far) for near, far in pairs)))
        ticking.cancel()
        return total

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        assert runner.run(main()) == len(pairs) * sum(range(21))
    assert late

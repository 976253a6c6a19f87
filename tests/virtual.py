"""Virtual time and a network in memory: whole speakers against each other, without waiting and without TCP.

`run` runs a coroutine on an event loop whose clock jumps to the next timer whenever nothing else is to be
done, so that a hold timer of 90 seconds costs nothing, and the order of events does not depend on the
machine.
"""

from __future__ import annotations

import asyncio
import selectors
import socket
from collections.abc import Callable, Coroutine
from ipaddress import ip_address
from typing import Any, TypeVar

from routed.bgp.route import Address
from routed.bgp.transport import AcceptCallback, Closable, DialDone, Endpoint, Link

T = TypeVar("T")


class _JumpingSelector(selectors.EpollSelector):
    """Never waits: where no socket is ready the clock is set to the end of the wait."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and timeout is None:
            raise RuntimeError("every task waits for something that will never happen")
        if not ready and timeout:
            self.now += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop on virtual time."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        """Virtual seconds."""
        return self._jumping.now


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run to the end on virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)


def virtual(test: Callable[[Wire], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """Make a test of a coroutine function that gets a `Wire`; all hosts are closed at its end."""

    async def body() -> None:
        wire = Wire()
        try:
            await test(wire)
        finally:
            for close in wire.at_end:
                close()
            wire.close()

    def wrapper() -> None:
        run(body())

    wrapper.__name__ = getattr(test, "__name__", "test")
    wrapper.__doc__ = test.__doc__
    return wrapper


async def until(condition: Callable[[], bool], *, within: float = 60.0) -> float:
    """Wait (virtual seconds) until the condition holds; returns when it did. Fails after `within`."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within
    while not condition():
        assert loop.time() < deadline, "the condition did not come true in time"
        await asyncio.sleep(0.01)
    return loop.time()


class Wire:
    """All hosts of a test, and what connects them."""

    def __init__(self) -> None:
        self.listeners: dict[Endpoint, AcceptCallback] = {}
        self.links: list[tuple[Link, Link]] = []
        self.refuse: set[Address] = set()
        self.at_end: list[Callable[[], None]] = []
        """What closes the hosts when the test is over."""
        self._port = 40000

    def host(self, *addresses: str) -> MemoryNetwork:
        """A host with these addresses; the first of a family is the default source."""
        return MemoryNetwork(self, tuple(ip_address(text) for text in addresses))

    def close(self) -> None:
        """Close what nobody else has closed: connections that no host took."""
        for pair in self.links:
            for link in pair:
                link.sock.close()

    def connect(self, source: Address, remote: Endpoint, done: DialDone) -> None:
        """A TCP handshake."""
        accept = self.listeners.get(remote)
        if accept is None or remote.address in self.refuse:
            done(None, "Connection refused")
            return
        self._port += 1
        near, far = socket.socketpair()
        near.setblocking(False)
        far.setblocking(False)
        local = Endpoint(source, self._port)
        ours, theirs = Link(near, local, remote), Link(far, remote, local)
        self.links.append((ours, theirs))
        done(ours, "")
        accept(theirs)


class _Registered:
    def __init__(self, end: Callable[[], object]) -> None:
        self._end = end

    def close(self) -> None:
        """Undo it."""
        self._end()


class MemoryNetwork:
    """The `Network` of one host."""

    def __init__(self, wire: Wire, addresses: tuple[Address, ...]) -> None:
        self._wire = wire
        self._addresses = addresses

    def listen(self, endpoint: Endpoint, on_accept: AcceptCallback) -> Closable:
        """On one address, or on all of the family where it is the wildcard."""
        if endpoint.address.is_unspecified:
            version = endpoint.address.version
            addresses = [one for one in self._addresses if one.version == version]
        else:
            addresses = [endpoint.address]
        endpoints = [Endpoint(address, endpoint.port) for address in addresses]
        for one in endpoints:
            self._wire.listeners[one] = on_accept
        return _Registered(lambda: [self._wire.listeners.pop(one, None) for one in endpoints])

    def dial(self, remote: Endpoint, source: Address | None, done: DialDone) -> Closable:
        """Connect in the next turn of the loop."""
        if source is None:
            source = next(one for one in self._addresses if one.version == remote.address.version)
        handle = asyncio.get_running_loop().call_soon(self._wire.connect, source, remote, done)
        return _Registered(handle.cancel)

"""Virtual time and a network in memory: whole speakers against each other, without waiting and without TCP.

`run` runs a coroutine on an event loop whose clock jumps to the next timer whenever nothing else is to be
done, so that a hold timer of 90 seconds costs nothing, and the order of events does not depend on the
machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import selectors
import socket
from collections.abc import Callable, Coroutine, Mapping
from ipaddress import ip_address
from typing import Any, TypeVar

from routed.bgp.network import AcceptCallback, Closable, DialDone, ExhaustedCallback
from routed.bgp.nlri import Network as Prefix
from routed.bgp.route import Address
from routed.bgp.tcp_options import TcpOptions
from routed.bgp.transport import Endpoint, Link
from routed.resources import SecretValue

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


def run_on_a_wire(test: Callable[[Wire], Coroutine[Any, Any, None]]) -> None:
    """Run on virtual time with a `Wire`; all its hosts are closed at the end."""

    async def body() -> None:
        with contextlib.closing(Wire()) as wire:
            await test(wire)

    run(body())


def virtual(test: Callable[[Wire], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """Make a test of a coroutine function that gets a `Wire`."""

    def wrapper() -> None:
        run_on_a_wire(test)

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
        self.listeners: dict[Endpoint, MemoryListener] = {}
        self.links: list[tuple[Link, Link]] = []
        self.refuse: set[Address] = set()
        self.at_end: list[Callable[[], None]] = []
        """What closes the hosts."""
        self._port = 40000

    def host(self, *addresses: str) -> MemoryNetwork:
        """A host with these addresses; the first of a family is the default source."""
        return MemoryNetwork(self, tuple(ip_address(text) for text in addresses))

    def close(self) -> None:
        """Close the hosts, and what nobody else has closed: connections that no host took."""
        for close in self.at_end:
            close()
        for pair in self.links:
            for link in pair:
                link.sock.close()

    def connect(self, source: Address, remote: Endpoint, done: DialDone, options: TcpOptions) -> None:
        """A TCP handshake. One that is signed with another key is not answered."""
        listener = self.listeners.get(remote)
        if listener is None or remote.address in self.refuse:
            done(None, "Connection refused")
            return
        if listener.key(source) != options.key:
            asyncio.get_running_loop().call_later(options.connect_time, done, None, "timed out")
            return
        self._port += 1
        near, far = socket.socketpair()
        near.setblocking(False)
        far.setblocking(False)
        local = Endpoint(source, self._port)
        ours, theirs = Link(near, local, remote), Link(far, remote, local)
        self.links.append((ours, theirs))
        done(ours, "")
        listener.on_accept(theirs)


class MemoryListener:
    """What accepts on some endpoints of one host."""

    def __init__(
        self,
        wire: Wire,
        endpoints: list[Endpoint],
        on_accept: AcceptCallback,
        on_exhausted: ExhaustedCallback,
        keys: Mapping[Prefix, SecretValue],
    ) -> None:
        self.on_accept = on_accept
        self.on_exhausted = on_exhausted
        self.refused: dict[Prefix, OSError] = {}
        self._wire = wire
        self._endpoints = endpoints
        self._keys = dict(keys)
        for one in endpoints:
            wire.listeners[one] = self

    def key(self, remote: Address) -> SecretValue | None:
        """The key for an address: that of the longest prefix."""
        found = [one for one in self._keys if remote in one]
        return self._keys[max(found, key=lambda one: one.prefixlen)] if found else None

    def set_key(self, remote: Prefix, key: SecretValue | None) -> None:
        """See `Listening`."""
        if key is None:
            self._keys.pop(remote, None)
        else:
            self._keys[remote] = key

    def accept_waiting(self) -> None:
        """Nothing ever waits."""

    def close(self) -> None:
        """Accept no more."""
        for one in self._endpoints:
            self._wire.listeners.pop(one, None)


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

    def listen(
        self,
        endpoint: Endpoint,
        on_accept: AcceptCallback,
        on_exhausted: ExhaustedCallback,
        keys: Mapping[Prefix, SecretValue],
    ) -> MemoryListener:
        """On one address, or on all of the family where it is the wildcard."""
        if endpoint.address.is_unspecified:
            version = endpoint.address.version
            addresses = [one for one in self._addresses if one.version == version]
        else:
            addresses = [endpoint.address]
        endpoints = [Endpoint(address, endpoint.port) for address in addresses]
        taken = [one for one in endpoints if one in self._wire.listeners]
        if taken:
            raise OSError(errno.EADDRINUSE, "Address already in use")
        return MemoryListener(self._wire, endpoints, on_accept, on_exhausted, keys)

    def dial(self, remote: Endpoint, source: Address | None, done: DialDone, options: TcpOptions) -> Closable:
        """Connect in the next turn of the loop."""
        if source is None:
            source = next(one for one in self._addresses if one.version == remote.address.version)
        loop = asyncio.get_running_loop()
        handle = loop.call_soon(self._wire.connect, source, remote, done, options)
        return _Registered(handle.cancel)

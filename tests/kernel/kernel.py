"""A namespace of one's own to try routes in, and short names for what these tests say often."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import subprocess
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from ipaddress import ip_address, ip_network
from typing import Any, TypeVar

from routed import log
from routed.bgp.nlri import Family, from_network
from routed.bgp.route import FibRoute, NextHop
from routed.kernel.base import Event, Prefix
from routed.kernel.fib import Fib
from routed.kernel.monitor import Monitor

T = TypeVar("T")

LOG = log.get("kernel")
_counter = itertools.count(1)

#: The networks on v0 of every namespace here: gateways in them are reachable.
SETUP = """\
link add v0 type veth peer name v1
link add w0 type veth peer name w1
link set lo up
link set v0 up
link set v1 up
link set w0 up
link set w1 up
address add 10.9.0.1/24 dev v0
address add 10.8.0.1/24 dev w0
address add fd09::1/64 dev v0 nodad
address add fd08::1/64 dev w0 nodad
"""


class Namespace:
    """A network namespace with two veths up, v0 (10.9.0.1/24, fd09::1/64) and w0 (10.8.0.1/24,
    fd08::1/64)."""

    def __init__(self, name: str) -> None:
        self.name = name

    def ip(self, *words: str) -> str:
        """Run `ip` in the namespace; what it prints. An argument with spaces is several."""
        arguments = [part for word in words for part in word.split()]
        command = ["ip", "-n", self.name, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
        return done.stdout

    def batch(self, lines: str) -> None:
        """Run many `ip` commands in one process."""
        command = ["ip", "-n", self.name, "-batch", "-"]
        done = subprocess.run(command, input=lines, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"ip -batch: {done.stderr}"

    def sysctl(self, *settings: str) -> None:
        """`sysctl -w` in the namespace."""
        command = ["ip", "netns", "exec", self.name, "sysctl", "-qw", *settings]
        subprocess.run(command, check=True, capture_output=True)

    def routes(self, family: int = 4, *words: str) -> list[dict[str, Any]]:
        """The main table as `ip -json -details route` shows it."""
        shown = self.ip(f"-{family} -json -details route show", *words)
        found: list[dict[str, Any]] = json.loads(shown or "[]")
        return found

    def ours(self, family: int = 4, protocol: str = "171") -> dict[str, str]:
        """Our routes: prefix (with the metric) to `blackhole`, or its gateways in order."""
        return {
            f"{route['dst']} {route.get('metric', 0)}": _ways(route)
            for route in self.routes(family)
            if route.get("protocol") == protocol
        }


def _ways(route: dict[str, Any]) -> str:
    if route.get("type") != "unicast":
        return str(route["type"])
    hops = route.get("nexthops") or [route]
    return " ".join(sorted(str(hop.get("gateway") or hop.get("via", {}).get("host")) for hop in hops))


@contextmanager
def temporary_namespace(setup: str = SETUP) -> Iterator[Namespace]:
    """A fresh namespace, deleted at the end whatever happens."""
    name = f"rtk{os.getpid()}-{next(_counter)}"
    subprocess.run(["ip", "netns", "add", name], check=True, capture_output=True)
    try:
        namespace = Namespace(name)
        # Without duplicate address detection: the kernel tells of its own link-local addresses only when that
        # is over, seconds later, but shows them in dumps at once.
        namespace.sysctl("net.ipv6.conf.all.accept_dad=0", "net.ipv6.conf.default.accept_dad=0")
        namespace.batch(setup)
        yield namespace
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True, capture_output=True)


@asynccontextmanager
async def opened_fib(namespace: Namespace, **options: Any) -> AsyncIterator[Fib]:
    fib = await Fib.open(log=LOG, netns=namespace.name, **options)
    try:
        yield fib
    finally:
        fib.close()


class Watch:
    """A monitor, its snapshot, and the events since."""

    def __init__(self, monitor: Monitor) -> None:
        self.monitor = monitor
        self.events: list[Event] = []
        self._changes = monitor.changes()

    async def until(self, condition: Callable[[Event], bool], what: str = "event") -> Event:
        """The first event from now on, or waiting already, that is as wanted. Those before it are put into
        `events`."""
        for event in self.events:
            if condition(event):
                return event
        try:
            async with asyncio.timeout(10):
                async for events in self._changes:
                    self.events += events
                    for event in events:
                        if condition(event):
                            return event
        except TimeoutError:
            raise AssertionError(f"no {what} among {self.events}") from None
        raise AssertionError("the monitor ended")

    async def see(self, event: Event) -> None:
        """Wait for just this event."""
        await self.until(lambda seen: seen == event, str(event))

    def forget(self) -> None:
        """Take no notice of what was seen up to now."""
        self.events.clear()


@asynccontextmanager
async def opened_monitor(namespace: Namespace, **options: Any) -> AsyncIterator[Watch]:
    monitor = await Monitor.open(log=LOG, netns=namespace.name, **options)
    try:
        yield Watch(monitor)
    finally:
        monitor.close()


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """asyncio.run, bounded."""

    async def bounded() -> T:
        async with asyncio.timeout(60):
            return await coroutine

    return asyncio.run(bounded())


def prefix(text: str) -> Prefix:
    """`10.0.0.0/26` as (family, NLRI)."""
    network = ip_network(text)
    return Family.of(network), from_network(network)


def hop(text: str) -> NextHop:
    """`10.9.0.2`, `fe80::1%v0`, `10.9.0.2%tunl0 onlink`."""
    address, _, flag = text.partition(" ")
    gateway, _, interface = address.partition("%")
    return NextHop(ip_address(gateway), interface or None, flag == "onlink")


def route(*hops: str, metric: int = 1024) -> FibRoute:
    """A FibRoute through these next hops; a blackhole without any."""
    return FibRoute(tuple(hop(text) for text in hops), metric)

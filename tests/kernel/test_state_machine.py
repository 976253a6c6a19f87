"""Random histories against the kernel: wishes, third parties, restarts, links. After a flush the kernel has
what is wished, and nothing of others has changed; the monitor knows what a fresh dump says."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from routed.bgp.nlri import Family
from routed.bgp.route import FibRoute
from routed.kernel.base import Event, RouteDown
from routed.kernel.fib import Fib
from routed.kernel.monitor import Monitor
from tests.kernel.kernel import LOG, Namespace, prefix, route, temporary_namespace
from tests.kernel.test_monitor import alien, as_sets

pytestmark = pytest.mark.netns

PREFIXES = {
    Family.IPV4: ("10.1.0.0/26", "10.1.0.0/24", "10.2.0.1/32", "0.0.0.0/0"),
    Family.IPV6: ("fd51::/64", "fd51::/62", "fd52::1/128", "::/0"),
}
GATEWAYS = {
    Family.IPV4: ("10.9.0.2", "10.9.0.3", "10.8.0.2"),
    Family.IPV6: ("fd09::2", "fd09::3", "fd08::2"),
}
METRICS = (100, 1024)

families = st.sampled_from(Family)
which = st.integers(0, 3)
metrics = st.sampled_from(METRICS)
hop_sets = st.lists(st.integers(0, 2), max_size=3, unique=True)


class Programming(RuleBasedStateMachine):
    """Wishes and what others do to our routes and beside them."""

    many_gateways = 64

    def __init__(self) -> None:
        super().__init__()
        self.fib: Fib
        self.runner = asyncio.Runner()
        self.manager = temporary_namespace()
        self.ns: Namespace = self.manager.__enter__()
        self.wished: dict[tuple[Family, str], FibRoute] = {}
        self.foreign: set[tuple[Family, str, int]] = set()

    def open_fib(self) -> Fib:
        return self.runner.run(Fib.open(log=LOG, netns=self.ns.name, many_gateways=self.many_gateways))

    def gateway(self, family: Family, number: int) -> str:
        """As it is wished."""
        return GATEWAYS[family][number]

    @initialize()
    def start(self) -> None:
        self.fib = self.open_fib()
        self.monitor: Monitor | None = None
        self.watch()

    def watch(self) -> None:
        if self.monitor is not None:
            self.monitor.close()
        self.monitor = self.runner.run(Monitor.open(log=LOG, netns=self.ns.name, fib_port=self.fib.port))
        self.runner.run(self.monitor.snapshot())

    def teardown(self) -> None:
        try:
            if hasattr(self, "fib"):
                self.fib.close()
                assert self.monitor is not None
                self.monitor.close()
            self.runner.close()
        finally:
            self.manager.__exit__(None, None, None)

    @rule(family=families, n=which, hops=hop_sets, metric=metrics)
    def wish(self, family: Family, n: int, hops: list[int], metric: int) -> None:
        text = PREFIXES[family][n]
        self.wished[family, text] = route(*(self.gateway(family, h) for h in hops), metric=metric)
        self.fib.replace(*prefix(text), self.wished[family, text])

    @rule(family=families, n=which)
    def unwish(self, family: Family, n: int) -> None:
        text = PREFIXES[family][n]
        self.wished.pop((family, text), None)
        self.fib.replace(*prefix(text), None)

    @rule(family=families, n=which, metric=metrics)
    def somebody_deletes_ours(self, family: Family, n: int, metric: int) -> None:
        self.try_ip(family, f"route del {PREFIXES[family][n]} metric {metric} proto 171")

    @rule(family=families, n=which, metric=metrics, hop=st.integers(0, 2))
    def somebody_changes_ours(self, family: Family, n: int, metric: int, hop: int) -> None:
        text = PREFIXES[family][n]
        if f"{'default' if text.endswith('/0') else text} {metric}".replace("/32", "").replace(
            "/128", ""
        ) in self.ns.ours(4 if family is Family.IPV4 else 6):
            self.try_ip(family, f"route replace {text} via {GATEWAYS[family][hop]} metric {metric} proto 171")

    @rule(family=families, n=which, metric=metrics, hop=st.integers(0, 2))
    def somebody_adds(self, family: Family, n: int, metric: int, hop: int) -> None:
        text = PREFIXES[family][n]
        if self.try_ip(family, f"route add {text} via {GATEWAYS[family][hop]} metric {metric} proto static"):
            self.foreign.add((family, text, metric))

    @rule(family=families, n=which, metric=metrics, hop=st.integers(0, 2))
    def somebody_takes_our_place(self, family: Family, n: int, metric: int, hop: int) -> None:
        text = PREFIXES[family][n]
        if self.try_ip(
            family, f"route replace {text} via {GATEWAYS[family][hop]} metric {metric} proto static"
        ):
            self.foreign.add((family, text, metric))

    @precondition(lambda self: self.foreign)
    @rule(data=st.data())
    def somebody_removes_theirs(self, data: st.DataObject) -> None:
        family, text, metric = data.draw(st.sampled_from(sorted(self.foreign)))
        assert self.try_ip(family, f"route del {text} metric {metric} proto static")
        self.foreign.discard((family, text, metric))

    @rule()
    def flush_without_a_word_from_the_monitor(self) -> None:
        """Others' routes are safe as long as nobody took our place unseen; `settle` then finds out all."""
        if not self.foreign:
            self.runner.run(self.fib.flush())

    @rule(swept=st.booleans())
    def restart(self, swept: bool) -> None:
        self.settle()
        self.fib.close()
        self.fib = self.open_fib()
        self.runner.run(self.fib.adopt())
        self.watch()
        for (_, text), wish in self.wished.items():
            self.fib.replace(*prefix(text), wish)
        if swept:
            self.runner.run(self.fib.flush())
            self.runner.run(self.fib.sweep())
        self.settle()

    @rule()
    def settle(self) -> None:
        """Hear the monitor out, as the agent does; then the kernel must be as wished."""
        assert self.monitor is not None
        self.runner.run(self.hear())
        errors = {(error.family, error.nlri) for error in self.fib.failed.values()}
        for family in Family:
            number = 4 if family is Family.IPV4 else 6
            expected = {}
            for (of, text), wish in self.wished.items():
                if of is family:
                    conflict = (family, text, wish.metric) in self.foreign
                    assert (prefix(text) in errors) == conflict
                    if not conflict:
                        expected[shown(text), wish.metric] = ways(wish)
            found = {}
            for key, value in self.ns.ours(number).items():
                dst, _, metric = key.rpartition(" ")
                found[dst, int(metric)] = value
            # With a conflict the route that was there before, at another metric, stays.
            conflicting = {shown(text) for of, text, _ in self.foreign if of is family}
            assert {k: v for k, v in found.items() if k in expected or k[0] not in conflicting} == expected
            static = {(family, *key.rpartition(" ")[::2]) for key in self.ns.ours(number, "static")}
            assert static == {
                (of, shown(text), str(metric)) for of, text, metric in self.foreign if of is family
            }

    async def hear(self) -> None:
        assert self.monitor is not None
        mark = RouteDown(alien("10.250.0.1/32", "lo", scope=253))
        self.ns.batch(
            "route add 10.250.0.1/32 dev lo proto static\nroute del 10.250.0.1/32 dev lo proto static\n"
        )
        async with asyncio.timeout(20):
            seen: list[Event] = []
            async for events in self.monitor.changes():
                seen += events
                for event in events:
                    self.fib.note(event)
                await self.fib.reconcile()
                if mark in seen:
                    break
        await self.fib.sweep()
        while self.monitor._refreshing is not None:
            await self.monitor._refreshing
        fresh = await Monitor.open(log=LOG, netns=self.ns.name)
        try:
            read = as_sets(await fresh.snapshot())
        finally:
            fresh.close()
        assert as_sets(self.monitor._mirror.snapshot())[2] == read[2]

    def try_ip(self, family: Family, command: str) -> bool:
        try:
            self.ns.ip(f"-{4 if family is Family.IPV4 else 6} {command}")
        except AssertionError:
            return False
        return True


def shown(text: str) -> str:
    """As `ip route` shows it."""
    if text.endswith("/0"):
        return "default"
    return text.removesuffix("/32").removesuffix("/128")


def ways(wish: FibRoute) -> str:
    return " ".join(sorted(str(hop.gateway) for hop in wish.next_hops)) or "blackhole"


class ProgrammingByObjects(Programming):
    """The same with nexthop objects from the first gateway on, which others remove."""

    many_gateways = 0

    def gateway(self, family: Family, number: int) -> str:
        return f"{GATEWAYS[family][number]}%{'w0' if number == 2 else 'v0'}"

    @rule()
    def somebody_flushes_objects(self) -> None:
        self.ns.ip("nexthop flush protocol 171")

    @rule()
    def resync(self) -> None:
        self.settle()
        self.runner.run(self.fib.resync())
        self.settle()


SETTINGS = settings(
    max_examples=10, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
)
TestProgramming: Any = Programming.TestCase
TestProgramming.settings = SETTINGS
TestProgrammingByObjects: Any = ProgrammingByObjects.TestCase
TestProgrammingByObjects.settings = SETTINGS

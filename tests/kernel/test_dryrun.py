"""`--no-kernel`: the agent's code path, with nothing behind it."""

from __future__ import annotations

import asyncio
import inspect

import pytest

from routed.bgp.nlri import Family
from routed.kernel.base import FibProtocol, MonitorProtocol, Overflow, Snapshot
from routed.kernel.dryrun import NullFib, NullMonitor
from routed.kernel.fib import Fib
from routed.kernel.monitor import Monitor
from tests.kernel.kernel import prefix, route, run


def test_wishes_are_remembered_and_nothing_happens() -> None:
    async def scenario() -> None:
        fib: FibProtocol = NullFib()
        fib.replace(*prefix("10.1.0.0/26"), route("10.9.0.2"))
        fib.replace(*prefix("fd51::/64"), route())
        fib.replace(*prefix("fd51::/64"), None)
        fib.replace(*prefix("fd52::/64"), None)
        assert await fib.adopt() == {}
        for doing in (fib.flush, fib.reconcile, fib.resync, fib.sweep, fib.retry_failed):
            assert await doing() == []
        assert fib.wanted == {
            Family.IPV4: {prefix("10.1.0.0/26")[1]: route("10.9.0.2")},
            Family.IPV6: {},
        }
        assert fib.installed == {Family.IPV4: {}, Family.IPV6: {}}
        assert (fib.failed, fib.stale(), fib.port, fib.note(Overflow())) == ({}, [], 0, False)
        fib.close()

    run(scenario())


def test_monitor_sees_nothing_and_ends() -> None:
    async def scenario() -> None:
        monitor: MonitorProtocol = NullMonitor()
        assert await monitor.snapshot() == Snapshot((), (), ())

        async def consume() -> int:
            return len([events async for events in monitor.changes()])

        task = asyncio.create_task(consume())
        await asyncio.sleep(0)
        assert not task.done()
        monitor.close()
        assert await task == 0

    run(scenario())


@pytest.mark.parametrize(
    ("protocol", "implementations"),
    [(FibProtocol, (Fib, NullFib)), (MonitorProtocol, (Monitor, NullMonitor))],
)
def test_both_have_all_that_the_agent_uses(protocol: type, implementations: tuple[type, ...]) -> None:
    members = {name for name, value in vars(protocol).items() if not name.startswith("_") and callable(value)}
    assert members
    for implementation in implementations:
        for name in members:
            assert inspect.signature(getattr(implementation, name)) == inspect.signature(
                getattr(protocol, name)
            )

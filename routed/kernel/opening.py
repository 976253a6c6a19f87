"""Opens the kernel's two sides for the agent."""

from __future__ import annotations

import contextlib

from routed import log
from routed.kernel.base import FibProtocol, MonitorProtocol, Snapshot
from routed.kernel.fib import Fib
from routed.kernel.monitor import Monitor


async def open_kernel(takeover: frozenset[int]) -> tuple[FibProtocol, MonitorProtocol, Snapshot]:
    """The FIB, with what an earlier run left adopted; the monitor; and what is there now. `takeover`: as for
    `Fib.open`.

    Raises KernelUnavailable or OSError, with nothing left open."""
    async with contextlib.AsyncExitStack() as opened:
        fib = await Fib.open(log=log.get("kernel"), takeover=takeover)
        opened.callback(fib.close)
        monitor = await Monitor.open(log=log.get("kernel"), fib_port=fib.port)
        opened.callback(monitor.close)
        if adopted := await fib.adopt():
            log.get("agent").info("kernel routes of an earlier run adopted", routes=len(adopted))
        snapshot = await monitor.snapshot()
        opened.pop_all()
    return fib, monitor, snapshot

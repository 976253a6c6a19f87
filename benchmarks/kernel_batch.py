"""Kernel routes a second: pyroute2's route("add"), `ip -batch`, and the FIB's batches, side by side.

    python -m benchmarks.kernel_batch [--routes 20000] [--runs 3]

Makes a network namespace of its own and removes it; needs root and iproute2. Take the ratios, not the times.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address

from pyroute2 import AsyncIPRoute

from routed import log
from routed.bgp.nlri import Family, to_text
from routed.bgp.route import FibRoute, NextHop
from routed.kernel.fib import Fib

GATEWAYS = IPv4Address("192.0.2.2"), IPv4Address("192.0.2.3")
SETUP = """\
link add v0 type veth peer name v1
link set v0 up
link set v1 up
address add 192.0.2.1/24 dev v0
"""
#: pyroute2's way is measured with fewer: a route takes as long whatever their number.
SINGLE_ROUTES = 1000


@contextmanager
def namespace() -> Iterator[str]:
    """A fresh network namespace with a veth, for one measurement."""
    name = f"rtb{os.getpid()}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        subprocess.run(["ip", "-n", name, "-batch", "-"], input=SETUP, text=True, check=True)
        yield name
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


def prefixes(count: int) -> list[bytes]:
    """`count` NLRI of /24."""
    return [b"\x18" + (0x140000 + n).to_bytes(3, "big") for n in range(count)]


def installed(netns: str) -> int:
    """How many routes of any protocol but the kernel's are there."""
    shown = subprocess.run(["ip", "-n", netns, "route"], capture_output=True, text=True, check=True).stdout
    return sum("proto kernel" not in line for line in shown.splitlines())


async def one_by_one(netns: str, count: int) -> dict[str, float]:
    """pyroute2's documented way: one awaited request a route."""
    routes = [to_text(nlri, Family.IPV4) for nlri in prefixes(count)]
    async with AsyncIPRoute(netns=netns) as ipr:
        start = time.perf_counter()
        for dst in routes:
            await ipr.route("add", dst=dst, gateway=str(GATEWAYS[0]), priority=1024, proto=171)
        return {'pyroute2 route("add")': time.perf_counter() - start}


async def iproute2(netns: str, count: int) -> dict[str, float]:
    """iproute2, in C: one process, one request at a time, the parsing of its input included."""
    lines = (
        f"route add {to_text(nlri, Family.IPV4)} via {GATEWAYS[0]} metric 1024 proto 171\n"
        for nlri in prefixes(count)
    )
    commands = "".join(lines)
    start = time.perf_counter()
    subprocess.run(["ip", "-n", netns, "-batch", "-"], input=commands, text=True, check=True)
    return {"ip -batch": time.perf_counter() - start}


async def batched(netns: str, count: int) -> dict[str, float]:
    """The FIB: install, adopt, change the next hop in place, change the metric, remove."""
    fib = await Fib.open(log=log.get("kernel"), netns=netns)
    nlri = prefixes(count)
    first = FibRoute((NextHop(GATEWAYS[0]),), 1024)
    second = FibRoute((NextHop(GATEWAYS[1]),), 1024)
    third = FibRoute((NextHop(GATEWAYS[1]),), 512)
    steps: list[tuple[str, FibRoute | None]] = [
        ("routed: install", first),
        ("routed: new next hop", second),
        ("routed: new metric", third),
        ("routed: remove", None),
    ]
    times: dict[str, float] = {}
    for name, wish in steps:
        start = time.perf_counter()
        for each in nlri:
            fib.replace(Family.IPV4, each, wish)
        errors = await fib.flush()
        times[name] = time.perf_counter() - start
        if errors:
            raise RuntimeError(f"{len(errors)} routes refused, the first: {errors[0].text}")
        if installed(netns) != (0 if wish is None else count):
            raise RuntimeError(f"{name}: {installed(netns)} routes in the kernel, not {count}")
        if wish is first:
            again = await Fib.open(log=log.get("kernel"), netns=netns)
            start = time.perf_counter()
            await again.adopt()
            times["routed: adopt"] = time.perf_counter() - start
            again.close()
    fib.close()
    return times


def measure(
    what: Callable[[str, int], Awaitable[dict[str, float]]], count: int, runs: int
) -> dict[str, tuple[int, float]]:
    """Median over `runs`, each in a fresh namespace: (routes, µs a route) by name."""

    async def once() -> dict[str, float]:
        with namespace() as netns:
            return await what(netns, count)

    results = [asyncio.run(once()) for _ in range(runs)]
    return {
        name: (count, statistics.median(result[name] for result in results) / count * 1e6)
        for name in results[0]
    }


def main(arguments: list[str] | None = None) -> int:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(prog="benchmarks.kernel_batch", description=__doc__)
    parser.add_argument("--routes", type=int, default=20_000)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args(arguments)
    log.configure("warning")
    if os.geteuid() != 0:
        print("kernel_batch: needs root for a network namespace of its own", file=sys.stderr)
        return 1
    rows = measure(one_by_one, min(SINGLE_ROUTES, options.routes), options.runs)
    single = next(iter(rows.values()))[1]
    rows |= measure(iproute2, options.routes, options.runs)
    rows |= measure(batched, options.routes, options.runs)
    print(f"{'':24}{'routes':>10}{'µs a route':>14}{'times as fast':>16}")
    for name, (count, each) in rows.items():
        print(f"{name:24}{count:>10,}{each:>14.1f}{single / each:>16.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Taking over the routes that a BIRD has left: in place, never without a route, and nobody else's."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from routed import log
from routed.kernel.base import OwnRouteChanged, RouteDown
from routed.kernel.decode import KernelRoute, decode_route
from routed.kernel.netlink import NLM_F_REPLACE, RTM_DELROUTE, RTM_NEWROUTE, RouteSocket, messages
from tests.kernel.kernel import Namespace, opened_fib, prefix, route, run
from tests.kernel.test_monitor import alien

pytestmark = pytest.mark.netns

BIRD = frozenset({12})
#: For each family: its number for `ip`, prefixes, gateways on v0 and v0 and w0.
FAMILIES = [
    pytest.param(
        4, [f"10.{n}.0.0/26" for n in range(1, 10)], ("10.9.0.2", "10.9.0.3", "10.8.0.2"), id="ipv4"
    ),
    pytest.param(6, [f"fd5{n}::/64" for n in range(1, 10)], ("fd09::2", "fd09::3", "fd08::2"), id="ipv6"),
]
families = pytest.mark.parametrize(("number", "dst", "gateways"), FAMILIES)


class Watched:
    """What the kernel told of routes: each prefix with the routes that it has had at each moment."""

    def __init__(self, sock: RouteSocket) -> None:
        self._socket = sock
        self._there: dict[bytes, set[tuple[int, int]]] = {}
        self.without: list[bytes] = []
        """Prefixes that were without a route at some moment."""

    def start(self, routes: list[dict[str, object]], number: int) -> None:
        for one in routes:
            text = str(one["dst"])
            _, nlri = prefix(text if "/" in text else f"{text}/32")
            metric = one.get("metric", 0)
            assert isinstance(metric, int)
            protocols = {"bird": 12, "171": 171, "felix": 80, "kernel": 2, "static": 4, "80": 80}
            self._there.setdefault(nlri, set()).add((metric, protocols[str(one["protocol"])]))

    def read(self) -> None:
        """Take in all that was told up to now."""
        while True:
            try:
                datagram = self._socket.socket.recv(65536)
            except BlockingIOError:
                return
            for message in messages(datagram):
                found = decode_route(message.body)
                if found is not None and found.table == 254:
                    self._apply(message.type, message.flags, found)

    def _apply(self, kind: int, flags: int, found: KernelRoute) -> None:
        there = self._there.setdefault(found.nlri, set())
        one = (found.metric, found.protocol)
        if kind == RTM_NEWROUTE:
            if flags & NLM_F_REPLACE:
                there -= {other for other in there if other[0] == found.metric}
            there.add(one)
        elif kind == RTM_DELROUTE:
            there.discard(one)
            if not there:
                self.without.append(found.nlri)


@contextmanager
def watched(ns: Namespace, number: int) -> Iterator[Watched]:
    sock = RouteSocket.open(netns=ns.name, groups=0x40 if number == 4 else 0x400)
    try:
        watch = Watched(sock)
        watch.start([r for r in ns.routes(number) if r["dst"] != "fe80::/64"], number)
        yield watch
    finally:
        sock.close()


@families
def test_routes_are_replaced_in_place_and_the_stale_ones_go_with_the_sweep(
    ns: Namespace, number: int, dst: list[str], gateways: tuple[str, str, str]
) -> None:
    first, second, third = gateways
    same, moved, better, worse, hole, paths, gone, failing, late = dst
    ns.batch(
        f"""\
route add {same} via {first} metric 1024 proto bird
route add {moved} via {first} metric 1024 proto bird
route add {better} via {first} metric 32 proto bird
route add {worse} via {first} metric 2000 proto bird
route add blackhole {hole} metric 1024 proto bird
route add {paths} metric 1024 proto bird nexthop via {first} nexthop via {third}
route add {gone} via {first} metric 1024 proto bird
route add {failing} via {first} metric 1024 proto bird
route add unreachable {late} metric 77 proto bird
route add {gone} via {second} metric 99 proto 80
"""
    )
    before = ns.ours(number, "bird")
    assert len(before) == 9
    nowhere = "10.77.0.1" if number == 4 else "fd77::1"
    wishes = {
        same: route(first),
        moved: route(second),
        better: route(second),
        worse: route(first, second),
        hole: route(),
        paths: route(second, third),
        failing: route(nowhere),
    }

    async def scenario() -> None:
        with watched(ns, number) as watch:
            async with opened_fib(ns, takeover=BIRD) as fib:
                assert await fib.adopt() == {}
                assert ns.ours(number, "bird") == before
                for text, wish in wishes.items():
                    fib.replace(*prefix(text), wish)
                assert [e.nlri for e in await fib.flush()] == [prefix(failing)[1]]
                assert fib.counters.requests == len(wishes) + 2  # two removals: of another metric
                left = {gone: "1024", failing: "1024", late: "77"}
                assert ns.ours(number, "bird").keys() == {f"{text} {m}" for text, m in left.items()}
                shown = {
                    f"{text} {wish.metric}": " ".join(sorted(str(hop.gateway) for hop in wish.next_hops))
                    or "blackhole"
                    for text, wish in wishes.items()
                    if text != failing
                }
                assert ns.ours(number) == shown
                # What is wished, and not any more, before the sweep: theirs stays until then.
                fib.replace(*prefix(late), route(first))
                await fib.flush()
                assert f"{late} 77" not in ns.ours(number, "bird")
                fib.replace(*prefix(gone), None)
                assert await fib.flush() == []
                assert await fib.resync() != []  # the failing one again
                assert ns.ours(number, "bird").keys() == {f"{gone} 1024", f"{failing} 1024"}
                watch.read()
                assert watch.without == []
                assert fib.stale() == [prefix(gone)]
                await fib.sweep()
                # Theirs stays for as long as ours cannot go in.
                assert ns.ours(number, "bird").keys() == {f"{failing} 1024"}
                fib.replace(*prefix(failing), route(third))
                assert await fib.flush() == []
                assert ns.ours(number, "bird") == {}
                assert ns.ours(number) == shown | {f"{late} 1024": first, f"{failing} 1024": third}
                assert len(ns.routes(number, "proto", "80")) == 1
                watch.read()
                assert watch.without == []
                # From now on what a BIRD puts there is somebody else's.
                ns.ip(f"-{number} route add {gone} via {first} metric 1024 proto bird")
                assert await fib.resync() == []
                fib.replace(*prefix(gone), route(first))
                assert ["bird (12)" in e.text for e in await fib.flush()] == [True]

    run(scenario())


def test_bird_of_old_has_no_metrics(ns: Namespace) -> None:
    """IPv4 routes without a metric are better than any other: ours goes in, then theirs out."""
    ns.batch(
        "route add 10.1.0.0/26 via 10.9.0.2 proto bird\n"
        "route add blackhole 10.2.0.0/26 proto bird\n"
        "route add 10.2.0.0/26 via 10.9.0.2 metric 5 proto bird\n"
        "route add 10.3.0.0/26 via 10.9.0.2 proto bird\n"
    )

    async def scenario() -> None:
        with watched(ns, 4) as watch:
            async with opened_fib(ns, takeover=BIRD) as fib:
                await fib.adopt()
                fib.replace(*prefix("10.1.0.0/26"), route("10.9.0.3"))
                fib.replace(*prefix("10.2.0.0/26"), route())
                assert await fib.flush() == []
                assert ns.ours() == {"10.1.0.0/26 1024": "10.9.0.3", "10.2.0.0/26 1024": "blackhole"}
                assert ns.ours(protocol="bird") == {"10.3.0.0/26 0": "10.9.0.2"}
                watch.read()
                assert watch.without == []
                assert await fib.sweep() == []
                assert ns.ours(protocol="bird") == {}

    run(scenario())


def test_what_is_adopted_already_loses_the_other_beside_it(ns: Namespace) -> None:
    """A takeover that was cut short: ours is in, theirs was not removed yet."""
    ns.batch(
        "route add 10.1.0.0/26 via 10.9.0.2 proto bird\n"
        "route add 10.1.0.0/26 via 10.9.0.2 metric 1024 proto 171\n"
    )

    async def scenario() -> None:
        async with opened_fib(ns, takeover=BIRD) as fib:
            await fib.adopt()
            fib.replace(*prefix("10.1.0.0/26"), route("10.9.0.2"))
            assert await fib.flush() == []
            assert fib.counters.requests == 1
            assert ns.ours(protocol="bird") == {}

    run(scenario())


def test_a_bird_that_is_still_there_is_met_before_the_sweep_only(ns: Namespace) -> None:
    async def scenario() -> None:
        async with opened_fib(ns, takeover=BIRD) as fib:
            await fib.adopt()
            fib.replace(*prefix("10.1.0.0/26"), route("10.9.0.2"))
            await fib.flush()
            ns.ip("route replace 10.1.0.0/26 via 10.9.0.3 metric 1024 proto bird")
            assert fib.note(OwnRouteChanged(*prefix("10.1.0.0/26")))
            assert await fib.reconcile() == []
            assert ns.ours() == {"10.1.0.0/26 1024": "10.9.0.2"}
            await fib.sweep()
            ns.ip("route replace 10.1.0.0/26 via 10.9.0.3 metric 1024 proto bird")
            assert fib.note(OwnRouteChanged(*prefix("10.1.0.0/26")))
            assert ["bird (12)" in e.text for e in await fib.reconcile()] == [True]
            assert ns.ours(protocol="bird") == {"10.1.0.0/26 1024": "10.9.0.3"}
            # It gives up: ours goes in.
            ns.ip("route del 10.1.0.0/26 proto bird")
            assert fib.note(RouteDown(alien("10.1.0.0/26", "v0", "10.9.0.3", 1024, 12)))
            assert await fib.reconcile() == []
            assert ns.ours() == {"10.1.0.0/26 1024": "10.9.0.2"}

    run(scenario())


def test_a_route_to_take_over_that_has_gone_meanwhile(ns: Namespace) -> None:
    ns.batch(
        "route add 10.1.0.0/26 via 10.9.0.2 metric 1024 proto bird\n"
        "route add 10.2.0.0/26 via 10.9.0.2 metric 7 proto bird\n"
        "route add 10.3.0.0/26 via 10.9.0.2 metric 1024 proto bird\n"
    )

    async def scenario() -> None:
        async with opened_fib(ns, takeover=BIRD) as fib:
            await fib.adopt()
            ns.batch("".join(f"route del 10.{n}.0.0/26 proto bird\n" for n in (1, 2, 3)))
            ns.ip("route add 10.3.0.0/26 via 10.9.0.9 metric 1024 proto static")  # and another's is there now
            for n in (1, 2):
                fib.replace(*prefix(f"10.{n}.0.0/26"), route("10.9.0.3"))
            assert await fib.flush() == []
            assert await fib.sweep() == []
            assert ns.ours() == {"10.1.0.0/26 1024": "10.9.0.3", "10.2.0.0/26 1024": "10.9.0.3"}
            assert ns.ours(protocol="static") == {"10.3.0.0/26 1024": "10.9.0.9"}
            assert fib.stale() == []

    run(scenario())


@pytest.mark.parametrize("takeover", [frozenset(), BIRD])
def test_what_becomes_of_them_is_said(
    ns: Namespace, capsys: pytest.CaptureFixture[str], takeover: frozenset[int]
) -> None:
    ns.batch(
        "route add 10.1.0.0/26 via 10.9.0.2 metric 1024 proto bird\n"
        "route add blackhole fd51::/64 metric 1024 proto bird\n"
    )
    log.configure("info", "json")

    async def scenario() -> None:
        async with opened_fib(ns, takeover=takeover) as fib:
            await fib.adopt()
            fib.replace(*prefix("10.1.0.0/26"), route("10.9.0.3"))
            errors = await fib.flush()
            assert ["--takeover" in error.text for error in errors] == ([] if takeover else [True])
            await fib.sweep()

    run(scenario())
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    (line,) = [line for line in lines if "BIRD" in line["event"]]
    assert line["routes"] == 2
    assert ("--takeover bird" in line.get("hint", "")) is not bool(takeover)
    shown = subprocess.run(
        ["ip", "-n", ns.name, "route", "show", "proto", "bird"], capture_output=True, text=True, check=True
    ).stdout
    assert bool(shown) is not bool(takeover)

"""The monitor against the kernel: what it says is what happened, also where the kernel says nothing."""

from __future__ import annotations

import asyncio
import select
import socket
from collections.abc import Callable
from ipaddress import ip_address

import pytest

from routed.bgp.nlri import Family
from routed.kernel.base import (
    AddressAdded,
    AddressRemoved,
    AlienHop,
    AlienRoute,
    InterfaceAddress,
    Link,
    LinkDown,
    LinkUp,
    Overflow,
    OwnRouteChanged,
    OwnRoutesInDoubt,
    RouteDown,
    RouteUp,
    Snapshot,
    is_workload_interface,
)
from routed.kernel.fib import Fib
from routed.kernel.netlink import Message, messages
from tests.kernel.kernel import Namespace, Watch, hop, opened_fib, opened_monitor, prefix, route, run

pytestmark = pytest.mark.netns

KERNEL, STATIC, BIRD = 2, 4, 12


def alien(
    text: str,
    interface: str | None,
    gateway: str | None = None,
    metric: int | None = None,
    protocol: int = STATIC,
    scope: int = 0,
) -> AlienRoute:
    hops = (AlienHop(interface, None if gateway is None else ip_address(gateway)),)
    return AlienRoute(*prefix(text), hops, metric, protocol, scope)


def ecmp(text: str, *ways: str, protocol: int = STATIC) -> AlienRoute:
    """Several next hops, `10.9.0.2%v0`, in order of interfaces."""
    hops = tuple(AlienHop(hop(way).interface, hop(way).gateway) for way in ways)
    return AlienRoute(*prefix(text), hops, None, protocol)


def address(interface: str, text: str) -> InterfaceAddress:
    host, _, length = text.partition("/")
    return InterfaceAddress(interface, ip_address(host), int(length))


def as_sets(snapshot: Snapshot) -> tuple[set[Link], set[InterfaceAddress], set[AlienRoute]]:
    return set(snapshot.links), set(snapshot.addresses), set(snapshot.routes)


async def follows(watch: Watch, ns: Namespace) -> None:
    """What the monitor knows, once it has taken in all up to a mark, is what a fresh one reads."""
    mark = alien("10.250.0.1/32", "lo", scope=253)
    for _ in range(5):  # the kernel itself goes on: link-local addresses appear when they please
        watch.events = [event for event in watch.events if event != RouteDown(mark)]
        ns.batch("route add 10.250.0.1/32 dev lo proto static\nroute del 10.250.0.1/32 dev lo proto static\n")
        await watch.see(RouteDown(mark))
        while watch.monitor._refreshing is not None:
            await watch.monitor._refreshing
        async with opened_monitor(ns) as fresh:
            known, read = as_sets(watch.monitor._mirror.snapshot()), as_sets(await fresh.monitor.snapshot())
        if known == read:
            return
    assert known == read


async def keep_up(watch: Watch, fib: Fib, done: Callable[[], bool]) -> None:
    """What an agent does with the events."""
    if any([fib.note(event) for event in watch.events]):  # noqa: C419 - each is to be noted
        await fib.reconcile()
    async with asyncio.timeout(10):
        async for events in watch.monitor.changes():
            watch.events += events
            if any([fib.note(event) for event in events]):  # noqa: C419
                await fib.reconcile()
            if done():
                return


def test_workload_interfaces() -> None:
    assert is_workload_interface("cali0a1b2c3d4e5")
    assert not is_workload_interface("eth0")
    assert not is_workload_interface("vxlan.calico")
    assert not is_workload_interface(None)


def test_snapshot(ns: Namespace) -> None:
    ns.batch(
        "route add 10.1.0.0/26 via 10.9.0.2 proto static metric 50\n"
        "route add 10.2.0.0/26 proto bird nexthop via 10.9.0.2 nexthop via 10.8.0.2\n"
        "route add blackhole 10.3.0.0/26 proto bird\n"
        "route add 10.4.0.0/26 via 10.9.0.2 proto 171\n"
        "route add 10.5.0.0/26 via 10.9.0.2 proto static table 100\n"
        "link set v1 down\n"
    )

    async def scenario() -> None:
        async with opened_monitor(ns) as watch:
            links, addresses, routes = as_sets(await watch.monitor.snapshot())
            assert {(link.name, link.up) for link in links} == {
                ("lo", True),
                ("v0", True),
                ("v1", False),
                ("w0", True),
                ("w1", True),
            }
            assert {
                address("lo", "127.0.0.1/8"),
                address("lo", "::1/128"),
                address("v0", "10.9.0.1/24"),
                address("v0", "fd09::1/64"),
            } <= addresses
            assert {r for r in routes if r.family is Family.IPV4} == {
                alien("10.9.0.0/24", "v0", protocol=KERNEL, scope=253),
                alien("10.8.0.0/24", "w0", protocol=KERNEL, scope=253),
                alien("10.1.0.0/26", "v0", "10.9.0.2", 50),
                ecmp("10.2.0.0/26", "10.9.0.2%v0", "10.8.0.2%w0", protocol=BIRD),
            }
            assert alien("fd09::/64", "v0", metric=256, protocol=KERNEL) in routes

    run(scenario())


def test_workload_route_comes_and_goes(ns: Namespace) -> None:
    """What Felix does for a pod, and what the kernel does when the pod's veth goes."""

    async def scenario() -> None:
        async with opened_monitor(ns) as watch:
            await watch.monitor.snapshot()
            ns.batch(
                "link add cali1 type veth peer name p1\n"
                "link set cali1 up\n"
                "route add 10.1.0.5/32 dev cali1 scope link proto boot\n"
                "route add fd50::5/128 dev cali1 metric 1024 proto boot\n"
            )
            ipv4 = alien("10.1.0.5/32", "cali1", protocol=3, scope=253)
            ipv6 = alien("fd50::5/128", "cali1", metric=1024, protocol=3)
            await watch.see(RouteUp(ipv4))
            await watch.see(RouteUp(ipv6))
            assert any(isinstance(e, LinkUp) and e.link.name == "cali1" for e in watch.events)
            watch.forget()
            ns.ip("link del cali1")
            await watch.see(RouteDown(ipv4))
            await watch.see(RouteDown(ipv6))
            down = await watch.until(lambda e: isinstance(e, LinkDown) and e.link.name == "cali1")
            assert isinstance(down, LinkDown)
            assert not down.link.up
            doubt = await watch.until(lambda e: isinstance(e, OwnRoutesInDoubt) and e.interface == "cali1")
            assert isinstance(doubt, OwnRoutesInDoubt)
            assert {prefix("10.1.0.5/32"), prefix("fd50::5/128")} <= set(doubt.behind)
            await follows(watch, ns)
            assert watch.monitor.overflows == 0

    run(scenario())


def test_link_down_and_up(ns: Namespace) -> None:
    """IPv4 routes of a link that goes down are dropped by the kernel without a word."""
    connected = alien("10.9.0.0/24", "v0", protocol=KERNEL, scope=253)
    static = alien("10.1.0.0/26", "v0", "10.9.0.2")

    async def scenario() -> None:
        async with opened_monitor(ns) as watch:
            await watch.monitor.snapshot()
            ns.ip("route add 10.1.0.0/26 via 10.9.0.2 proto static")
            ns.ip("route add 10.2.0.0/26 proto static nexthop via 10.9.0.2 nexthop via 10.8.0.2")
            await watch.see(RouteUp(static))
            ns.ip("link set v0 down")
            await watch.see(RouteDown(static))
            await watch.see(RouteDown(connected))
            await follows(watch, ns)
            watch.forget()
            ns.ip("link set v0 up")
            await watch.see(RouteUp(connected))
            assert any(isinstance(e, LinkUp) and e.link.name == "v0" for e in watch.events)
            await follows(watch, ns)
            # The other way of the ECMP route: only a dump tells that it is gone with its last link.
            watch.forget()
            ns.batch("link set v0 down\nlink set w0 down\n")
            await watch.see(RouteDown(ecmp("10.2.0.0/26", "10.9.0.2%v0", "10.8.0.2%w0")))
            await follows(watch, ns)

    run(scenario())


def test_addresses(ns: Namespace) -> None:
    """The last IPv4 address of a link takes its IPv4 routes along, and a preferred source address the routes
    that prefer it."""

    async def scenario() -> None:
        async with opened_monitor(ns) as watch:
            await watch.monitor.snapshot()
            ns.batch("address add 10.7.0.1/24 dev w0\naddress add fd07::1/64 dev w0 nodad\n")
            await watch.see(AddressAdded(address("w0", "10.7.0.1/24")))
            await watch.see(AddressAdded(address("w0", "fd07::1/64")))
            await watch.see(RouteUp(alien("10.7.0.0/24", "w0", protocol=KERNEL, scope=253)))
            ns.ip("route add 10.1.0.0/26 via 10.9.0.2 src 10.7.0.1 proto static")
            await watch.see(RouteUp(alien("10.1.0.0/26", "v0", "10.9.0.2")))
            ns.ip("address del 10.7.0.1/24 dev w0")
            await watch.see(AddressRemoved(address("w0", "10.7.0.1/24")))
            await watch.see(RouteDown(alien("10.7.0.0/24", "w0", protocol=KERNEL, scope=253)))
            await watch.see(RouteDown(alien("10.1.0.0/26", "v0", "10.9.0.2")))
            ns.ip("route add 10.2.0.0/26 via 10.8.0.2 proto static")
            await watch.see(RouteUp(alien("10.2.0.0/26", "w0", "10.8.0.2")))
            watch.forget()
            ns.ip("address del 10.8.0.1/24 dev w0")
            await watch.see(RouteDown(alien("10.2.0.0/26", "w0", "10.8.0.2")))
            await watch.until(lambda e: isinstance(e, OwnRoutesInDoubt) and e.interface == "w0")
            assert not any(isinstance(e, RouteDown) and e.route.family is Family.IPV6 for e in watch.events)
            await follows(watch, ns)

    run(scenario())


def test_tentative_address_is_told_again(ns: Namespace) -> None:
    """Duplicate address detection: the address is added, and told again when it can be used."""

    ns.sysctl("net.ipv6.conf.all.accept_dad=1", "net.ipv6.conf.w0.accept_dad=1")

    async def scenario() -> None:
        async with opened_monitor(ns) as watch:
            await watch.monitor.snapshot()
            ns.ip("address add fd07::1/64 dev w0")
            event = AddressAdded(address("w0", "fd07::1/64"))
            await watch.until(lambda _: watch.events.count(event) == 2)

    run(scenario())


def test_rename(ns: Namespace) -> None:
    ns.batch("route add 10.1.0.0/26 via 10.9.0.2 proto static\n")

    async def scenario() -> None:
        async with opened_monitor(ns) as watch:
            await watch.monitor.snapshot()
            ns.batch("link set v0 down\nlink set v0 name uplink\nlink set uplink up\n")
            await watch.see(RouteUp(alien("10.9.0.0/24", "uplink", protocol=KERNEL, scope=253)))
            await watch.see(AddressRemoved(address("v0", "10.9.0.1/24")))
            await watch.see(AddressAdded(address("uplink", "10.9.0.1/24")))
            await follows(watch, ns)

    run(scenario())


def test_bridge_ports_are_no_links_gone(ns: Namespace) -> None:
    """A port that leaves its bridge is told with RTM_DELLINK of family AF_BRIDGE."""
    ns.batch("link add br0 type bridge\nlink set br0 up\nlink set w1 master br0\n")

    async def scenario() -> None:
        async with opened_monitor(ns) as watch:
            await watch.monitor.snapshot()
            ns.ip("link set w1 nomaster")
            await follows(watch, ns)
            assert not any(isinstance(e, LinkDown) and e.link.name == "w1" for e in watch.events)

    run(scenario())


@pytest.mark.parametrize(
    ("dst", "gateways"),
    [
        pytest.param("10.1.0.0/26", ("10.9.0.2", "10.8.0.2", "10.9.0.3"), id="ipv4"),
        pytest.param("fd51::/64", ("fd09::2", "fd08::2", "fd09::3"), id="ipv6"),
    ],
)
def test_replaced_and_changed_alien_routes(ns: Namespace, dst: str, gateways: tuple[str, str, str]) -> None:
    """In place, by several next hops, by a blackhole, one of two next hops less: always what a dump says."""
    first, second, third = gateways
    steps = [
        f"route add {dst} via {first} metric 9 proto static",
        f"route replace {dst} via {second} metric 9 proto static",
        f"route replace {dst} metric 9 proto static nexthop via {first} nexthop via {second}",
        f"route replace {dst} metric 9 proto static nexthop via {first} nexthop via {third}",
        f"route replace {dst} via {third} metric 9 proto bird",
        f"route append {dst} via {first} metric 9 proto bird",
        f"route del {dst} via {third} metric 9 proto bird",
        f"route replace blackhole {dst} metric 9 proto bird",
        f"route replace {dst} via {second} metric 9 proto static",
        f"route add {dst} via {second} metric 10 proto static",
        f"route replace {dst} via {first} metric 9 proto 171",
        f"route del {dst} metric 10 proto static",
        f"route replace {dst} via {first} metric 9 proto static",
        f"route del {dst} metric 9 proto static",
    ]

    async def scenario() -> None:
        async with opened_monitor(ns) as watch:
            await watch.monitor.snapshot()
            for step in steps:
                ns.batch(step + "\n")
                await follows(watch, ns)
            assert watch.monitor.overflows == 0

    run(scenario())


def test_own_changes_are_not_told_those_of_others_are(ns: Namespace) -> None:
    dst = {4: ("10.1.0.0/26", "10.9.0.2", "10.9.0.3"), 6: ("fd51::/64", "fd09::2", "fd09::3")}

    async def scenario() -> None:
        async with opened_fib(ns) as fib, opened_monitor(ns, fib_port=fib.port) as watch:
            await watch.monitor.snapshot()
            for number, (text, first, second) in dst.items():
                for wish in (route(first), route(second), route(first, second), route(), None, route(first)):
                    fib.replace(*prefix(text), wish)
                    assert await fib.flush() == []
                await follows(watch, ns)
                assert not [e for e in watch.events if isinstance(e, OwnRouteChanged)]
                changed = OwnRouteChanged(*prefix(text))
                for command in (
                    f"-{number} route del {text} proto 171",
                    f"-{number} route replace {text} via {second} metric 1024 proto 171",
                    f"-{number} route replace {text} via {second} metric 1024 proto static",
                    f"-{number} route add {text} via {second} metric 7 proto 171",
                ):
                    watch.forget()
                    ns.ip(command)
                    await watch.see(changed)
                    assert fib.note(changed)
                    errors = await fib.reconcile()
                    if "static" in command:
                        assert ["static (4)" in error.text for error in errors] == [True]
                        ns.ip(f"-{number} route del {text} metric 1024 proto static")
                        gone = await watch.until(lambda e: isinstance(e, RouteDown))
                        assert fib.note(gone)
                        errors = await fib.reconcile()
                    assert errors == []
                    assert ns.ours(number) == {f"{text} 1024": first}, command
                watch.forget()

    run(scenario())


def test_our_own_changes_do_not_even_wake_us(ns: Namespace) -> None:
    """The socket filter: 1,000 routes go in without a notification in the buffer; others' changes come
    through."""

    async def scenario() -> None:
        async with opened_fib(ns) as fib, opened_monitor(ns, fib_port=fib.port) as watch:
            sock = watch.monitor._events.socket
            for n in range(1000):
                fib.replace(Family.IPV4, bytes((24, 20, n >> 8, n & 255)), route("10.9.0.2"))
            assert await fib.flush() == []
            own = [message.port for message in pending(sock)]
            assert fib.port not in own
            ns.ip("route del 20.0.7.0/24 proto 171")
            assert [message.type for message in pending(sock) if message.port not in (0, fib.port)] == [25]

    run(scenario())


def pending(sock: socket.socket) -> list[Message]:
    """The notifications in the receive buffer."""
    found: list[Message] = []
    while select.select([sock], [], [], 0)[0]:
        found += messages(sock.recv(65536))
    return found


def test_multipath_put_in_place_of_ours_is_told(ns: Namespace) -> None:
    """`ip route replace` by another protocol tells only of the new route: it took the place of one of
    ours."""

    async def scenario() -> None:
        async with opened_fib(ns) as fib, opened_monitor(ns, fib_port=fib.port) as watch:
            await watch.monitor.snapshot()
            for text, first, second in (
                ("10.1.0.0/26", "10.9.0.2", "10.9.0.3"),
                ("fd51::/64", "fd09::2", "fd09::3"),
            ):
                fib.replace(*prefix(text), route(first, second))
                await fib.flush()
                number = 6 if ":" in text else 4
                hops = f"nexthop via {second} nexthop via {first}"
                ns.ip(f"-{number} route replace {text} metric 1024 proto static {hops}")
                await watch.see(OwnRouteChanged(*prefix(text)))

    run(scenario())


def test_our_routes_fall_with_their_link_and_come_back(ns: Namespace) -> None:
    """IPv4 silently, IPv6 by single deletions: one word of doubt for both, and a resync finds out. When the
    link is back what is wished is back."""
    texts = ("10.1.0.0/26", "fd51::/64", "10.2.0.0/26")

    async def scenario() -> None:
        async with opened_fib(ns) as fib, opened_monitor(ns, fib_port=fib.port) as watch:
            await watch.monitor.snapshot()
            fib.replace(*prefix(texts[0]), route("10.9.0.2"))
            fib.replace(*prefix(texts[1]), route("fe80::2%v0"))
            fib.replace(*prefix(texts[2]), route("10.9.0.2", "10.8.0.2"))
            fib.replace(*prefix("10.3.0.0/26"), route())
            assert await fib.flush() == []
            ns.ip("link set v0 down")
            doubt = await watch.until(lambda e: isinstance(e, OwnRoutesInDoubt))
            assert fib.note(doubt)
            errors = await fib.reconcile()
            assert {(e.family, e.nlri) for e in errors} == {prefix(texts[0]), prefix(texts[1])}
            assert ns.ours().keys() == {"10.2.0.0/26 1024", "10.3.0.0/26 1024"}
            await follows(watch, ns)
            assert not any(isinstance(e, OwnRouteChanged) for e in watch.events)
            watch.forget()
            ns.ip("link set v0 up")
            await keep_up(watch, fib, lambda: not fib.failed)
            assert ns.ours() == {
                "10.1.0.0/26 1024": "10.9.0.2",
                "10.2.0.0/26 1024": "10.8.0.2 10.9.0.2",
                "10.3.0.0/26 1024": "blackhole",
            }
            assert ns.ours(6) == {"fd51::/64 1024": "fe80::2"}

    run(scenario())


def test_unreachable_next_hop_goes_in_when_the_address_appears(ns: Namespace) -> None:
    async def scenario() -> None:
        async with opened_fib(ns) as fib, opened_monitor(ns, fib_port=fib.port) as watch:
            await watch.monitor.snapshot()
            fib.replace(*prefix("10.1.0.0/26"), route("10.77.0.2"))
            fib.replace(*prefix("fd51::/64"), route("fd77::2"))
            fib.replace(*prefix("10.2.0.0/26"), route("10.66.0.1%late onlink"))
            assert len(await fib.flush()) == 3
            # What has nothing to do with them is no reason to try.
            ns.batch("address add 10.55.0.1/24 dev w0\nroute add 10.4.0.0/24 via 10.9.0.2 proto static\n")
            last = RouteUp(alien("10.4.0.0/24", "v0", "10.9.0.2"))
            await watch.see(last)
            assert not any(fib.note(event) for event in watch.events)
            watch.forget()
            ns.batch("address add 10.77.0.1/24 dev w0\naddress add fd77::1/64 dev w0 nodad\n")
            await watch.see(AddressAdded(address("w0", "fd77::1/64")))
            await watch.see(RouteUp(alien("fd77::/64", "w0", metric=256, protocol=KERNEL)))
            assert any([fib.note(event) for event in watch.events])  # noqa: C419
            assert await fib.reconcile() == []
            assert ns.ours() == {"10.1.0.0/26 1024": "10.77.0.2"}
            assert ns.ours(6) == {"fd51::/64 1024": "fd77::2"}
            assert [e.name for e in fib.failed.values()] == ["ENODEV"]
            watch.forget()
            ns.batch("link add late type veth peer name later\nlink set later up\nlink set late up\n")
            await watch.until(lambda e: isinstance(e, LinkUp) and e.link.name == "late")
            assert any([fib.note(event) for event in watch.events])  # noqa: C419
            assert await fib.reconcile() == []
            assert ns.ours().keys() == {"10.1.0.0/26 1024", "10.2.0.0/26 1024"}

    run(scenario())


def test_doubt_about_a_pod_link_that_is_nobodys_next_hop(ns: Namespace) -> None:
    """Pods come and go all day: only where a route of ours leads through one is there something to check."""
    ns.batch("link add cali1 type veth peer name p1\nlink set cali1 up\nlink set p1 up\n")
    ns.ip("route add 10.1.0.5/32 dev cali1 scope link")
    behind = (prefix("10.1.0.5/32"),)

    async def scenario() -> None:
        async with opened_fib(ns) as fib:
            fib.replace(*prefix("10.3.0.0/26"), route("10.9.0.2"))
            await fib.flush()
            assert not fib.note(OwnRoutesInDoubt("cali1", behind))
            assert fib.note(OwnRoutesInDoubt("eth0", ()))
            await fib.reconcile()
            # A link-local network is behind every link; only the interface tells.
            fib.replace(*prefix("fd53::/64"), route("fe80::2%v0"))
            await fib.flush()
            assert not fib.note(OwnRoutesInDoubt("cali1", (prefix("fe80::/64"),)))
            fib.replace(*prefix("10.2.0.0/26"), route("10.1.0.5"))
            await fib.flush()
            assert fib.note(OwnRoutesInDoubt("cali1", behind))
            await fib.reconcile()
            fib.replace(*prefix("10.2.0.0/26"), route("fe80::5%cali1"))
            fib.replace(*prefix("fd52::/64"), route("fe80::5%cali1"))
            await fib.flush()
            assert fib.note(OwnRoutesInDoubt("cali1", ()))

    run(scenario())


def test_overflow(ns: Namespace) -> None:
    """Notifications that do not fit into the receive buffer are lost: everything is read again, the consumer
    is told."""
    count = 600

    async def scenario() -> None:
        async with opened_fib(ns) as fib, opened_monitor(ns, fib_port=fib.port, receive_buffer=4096) as watch:
            await watch.monitor.snapshot()
            fib.replace(*prefix("10.3.0.0/26"), route("10.9.0.2"))
            await fib.flush()
            lines = [
                f"route add 20.0.{n >> 8}.{n & 255}/32 via 10.9.0.2 proto static\n" for n in range(count)
            ]
            ns.batch("".join(lines) + "route del 10.3.0.0/26 proto 171\n")
            event = await watch.until(lambda e: isinstance(e, Overflow))
            assert watch.monitor.overflows >= 1
            assert fib.note(event)
            assert await fib.reconcile() == []
            assert ns.ours() == {"10.3.0.0/26 1024": "10.9.0.2"}
            await watch.until(lambda _: sum(isinstance(e, RouteUp) for e in watch.events) == count)
            assert as_sets(watch.monitor._mirror.snapshot())[2] >= {
                alien(f"20.0.{n >> 8}.{n & 255}/32", "v0", "10.9.0.2") for n in range(count)
            }

    run(scenario())


def test_a_consumer_that_does_not_read(ns: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Events do not pile up without bound: reading stops, and goes on when the consumer does."""
    monkeypatch.setattr("routed.kernel.monitor.MOST_WAITING", 50)

    async def scenario() -> None:
        async with opened_monitor(ns) as watch:
            await watch.monitor.snapshot()
            for n in range(20):
                ns.batch("".join(f"route add 20.0.{n}.{m}/32 via 10.9.0.2 proto static\n" for m in range(10)))
                await asyncio.sleep(0)
            waiting = len(watch.monitor._waiting)
            assert 50 < waiting <= 50 + 256
            await watch.until(lambda _: sum(isinstance(e, RouteUp) for e in watch.events) == 200)

    run(scenario())


def test_close_ends_changes(ns: Namespace) -> None:
    async def scenario() -> None:
        async with opened_monitor(ns) as watch:
            await watch.monitor.snapshot()

            async def consume() -> int:
                return len([events async for events in watch.monitor.changes()])

            task = asyncio.create_task(consume())
            await asyncio.sleep(0)
            watch.monitor.close()
            watch.monitor.close()
            assert await task == 0

    run(scenario())

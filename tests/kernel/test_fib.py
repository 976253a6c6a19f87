"""The FIB against the kernel: what is wished is what `ip route` shows, and nothing else is touched."""

from __future__ import annotations

import asyncio
import errno
import json

import pytest

from routed import log
from routed.bgp.nlri import Family
from routed.kernel.base import KernelUnavailable, OwnRouteChanged
from routed.kernel.fib import Fib
from tests.kernel.kernel import LOG, Namespace, opened_fib, prefix, route, run, temporary_namespace

pytestmark = pytest.mark.netns

#: For each family: its number for `ip`, a prefix, two gateways on v0 and one on w0, a gateway that is
#: nowhere.
FAMILIES = [
    pytest.param(4, "10.1.0.0/26", ("10.9.0.2", "10.9.0.3", "10.8.0.2"), "10.77.0.1", id="ipv4"),
    pytest.param(6, "fd50::/64", ("fd09::2", "fd09::3", "fd08::2"), "fd77::1", id="ipv6"),
]
families = pytest.mark.parametrize(("number", "dst", "gateways", "nowhere"), FAMILIES)


@families
def test_every_route_becomes_every_other(
    ns: Namespace, number: int, dst: str, gateways: tuple[str, str, str], nowhere: str
) -> None:
    """Single gateway, ECMP and blackhole, at two metrics, and none: each after each, the kernel has just the
    last."""
    first, second, third = gateways
    kinds = {
        first: route(first),
        third: route(third),
        f"{first} {second}": route(first, second),
        f"{first} {second} {third}": route(third, second, first),
        "blackhole": route(),
    }
    shapes = list(kinds.items())
    shapes += [
        (shown, route(*(str(h.gateway) for h in wish.next_hops), metric=2000)) for shown, wish in shapes
    ]

    async def scenario() -> None:
        async with opened_fib(ns) as fib:
            for before in [None, *shapes]:
                for after in [None, *shapes]:
                    for step in (before, after):
                        fib.replace(*prefix(dst), None if step is None else step[1])
                        assert await fib.flush() == []
                    shown = (
                        {}
                        if after is None
                        else {f"{dst} {after[1].metric}": " ".join(sorted(after[0].split()))}
                    )
                    assert ns.ours(number) == shown, (before, after)
            assert fib.counters.errors == 0
            assert fib.counters.resyncs == 0

    run(scenario())


def test_shapes_of_next_hops(ns: Namespace) -> None:
    """onlink, a named interface, a link-local gateway, an IPv4 prefix through an IPv6 gateway, a gateway
    given twice."""

    async def scenario() -> None:
        async with opened_fib(ns) as fib:
            fib.replace(*prefix("10.1.0.0/26"), route("10.77.0.1%w0 onlink"))
            fib.replace(*prefix("10.2.0.0/26"), route("10.9.0.2%v0"))
            fib.replace(*prefix("10.3.0.0/26"), route("fd09::2"))
            fib.replace(*prefix("10.4.0.0/26"), route("10.77.0.1%w0 onlink", "10.9.0.2"))
            fib.replace(*prefix("fd51::/64"), route("fe80::2%v0"))
            fib.replace(*prefix("fd52::/64"), route("fe80::2%v0", "fe80::2%w0"))
            fib.replace(*prefix("fd53::/64"), route("fd09::2", "fd09::2"))
            fib.replace(*prefix("fd54::/64"), route("fd77::1%w0 onlink"))
            fib.replace(*prefix("fd55::/64"), route(metric=0))
            fib.replace(*prefix("0.0.0.0/0"), route("10.9.0.2", metric=0))
            fib.replace(*prefix("::/0"), route("fd09::2"))
            assert await fib.flush() == []
            shown = ns.ip("route") + ns.ip("-6 route")
            for line in (
                "10.1.0.0/26 via 10.77.0.1 dev w0 proto 171 metric 1024 onlink",
                "10.2.0.0/26 via 10.9.0.2 dev v0 proto 171 metric 1024",
                "10.3.0.0/26 via inet6 fd09::2 dev v0 proto 171 metric 1024",
                "nexthop via 10.77.0.1 dev w0 weight 1 onlink",
                "fd51::/64 via fe80::2 dev v0 proto 171 metric 1024 pref medium",
                "nexthop via fe80::2 dev w0 weight 1",
                "fd53::/64 via fd09::2 dev v0 proto 171 metric 1024 pref medium",
                "fd54::/64 via fd77::1 dev w0 proto 171 metric 1024 onlink pref medium",
                "blackhole fd55::/64 dev lo proto 171 metric 1024 pref medium",
                "default via 10.9.0.2 dev v0 proto 171",
                "default via fd09::2 dev v0 proto 171 metric 1024 pref medium",
            ):
                assert line in shown
            # All of it reads back as what was wished.
            repaired = fib.counters.repaired
            assert await fib.resync() == []
            assert fib.counters.repaired == repaired
            async with opened_fib(ns) as again:
                assert len(await again.adopt()) == 11

    run(scenario())


def test_wishes_the_kernel_is_not_asked_for(ns: Namespace) -> None:
    """A wish that cannot be put to the kernel is an error of its own, the others go in."""
    wishes = {
        "10.1.0.0/26": (route("10.9.0.2", metric=-1), errno.EINVAL, "metric -1"),
        "10.2.0.0/26": (route("10.9.0.2", metric=1 << 32), errno.EINVAL, "metric 4294967296"),
        "10.3.0.0/26": (route("10.9.0.2 onlink"), errno.EINVAL, "names no interface"),
        "fd51::/64": (route("fe80::2"), errno.EINVAL, "link-local"),
        "fd52::/64": (route("10.9.0.2"), errno.EAFNOSUPPORT, "IPv4 gateway"),
        "fd53::/64": (route("fe80::2%nowhere"), errno.ENODEV, "'nowhere'"),
        "fd54::/64": (route("fe80::2%a-name-that-is-far-too-long"), errno.ENODEV, "far-too-long"),
    }

    async def scenario() -> None:
        async with opened_fib(ns) as fib:
            fib.replace(*prefix("10.9.9.0/26"), route())
            for text, (wish, _, _) in wishes.items():
                fib.replace(*prefix(text), wish)
            errors = {(e.family, e.nlri): e for e in await fib.flush()}
            assert errors.keys() == {prefix(text) for text in wishes}
            for text, (wish, number, words) in wishes.items():
                error = errors[prefix(text)]
                assert (error.route, error.errno, error.name) == (wish, number, errno.errorcode[number])
                assert words in error.text
            assert fib.failed == errors
            assert ns.ours() == {"10.9.9.0/26 1024": "blackhole"}
            assert ns.ours(6) == {}

    run(scenario())


def test_refusals_are_told_once_and_together(ns: Namespace, capsys: pytest.CaptureFixture[str]) -> None:
    """One line for all routes that fail alike; none for a retry that fails as before."""
    log.configure("info", "json")

    async def scenario() -> None:
        async with opened_fib(ns) as fib:
            for n in range(1500):
                fib.replace(Family.IPV4, bytes((24, 20, n >> 8, n & 255)), route("10.77.0.1"))
            fib.replace(*prefix("10.1.0.0/26"), route("10.9.0.2 onlink"))
            assert len(await fib.flush()) == 1501
            assert len(await fib.retry_failed()) == 1501
            fib.replace(*prefix("10.2.0.0/26"), route("10.77.0.1"))
            assert len(await fib.flush()) == 1

    run(scenario())
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    told = [(line["error"], line["routes"]) for line in lines if line["event"] == "kernel routes refused"]
    assert sorted(told) == [("EINVAL", 1), ("ENETUNREACH", 1), ("ENETUNREACH", 1500)]


def test_the_last_wish_counts_and_costs_one_request(ns: Namespace) -> None:
    async def scenario() -> None:
        async with opened_fib(ns) as fib:
            for gateway in ("10.9.0.2", "10.9.0.3", "10.9.0.4"):
                fib.replace(*prefix("10.1.0.0/26"), route(gateway))
            fib.replace(*prefix("10.2.0.0/26"), route())
            fib.replace(*prefix("10.2.0.0/26"), None)
            await fib.flush()
            assert (fib.counters.sends, fib.counters.requests) == (1, 1)
            assert ns.ours() == {"10.1.0.0/26 1024": "10.9.0.4"}
            # What is installed already is not sent again.
            fib.replace(*prefix("10.1.0.0/26"), route("10.9.0.4"))
            await fib.flush()
            assert fib.counters.requests == 1

    run(scenario())


def test_routes_stay_are_adopted_and_swept(ns: Namespace) -> None:
    """Closing leaves the routes; the next run counts them as installed, sends only what differs, and removes
    those that nobody wishes at the sweep and not before."""

    async def scenario() -> None:
        async with opened_fib(ns) as fib:
            fib.replace(*prefix("10.1.0.0/26"), route("10.9.0.2"))
            fib.replace(*prefix("10.2.0.0/26"), route("10.9.0.2", "10.9.0.3"))
            fib.replace(*prefix("10.3.0.0/26"), route())
            fib.replace(*prefix("fd51::/64"), route("fd09::2", "fd08::2"))
            fib.replace(*prefix("fd52::/64"), route(metric=0))
            fib.replace(*prefix("fd53::/64"), route("fe80::1%v0"))
            await fib.flush()
        before = (ns.ours(), ns.ours(6))
        assert [len(routes) for routes in before] == [3, 3]
        async with opened_fib(ns) as fib:
            adopted = await fib.adopt()
            assert adopted.keys() == {
                prefix(text)
                for text in (
                    "10.1.0.0/26",
                    "10.2.0.0/26",
                    "10.3.0.0/26",
                    "fd51::/64",
                    "fd52::/64",
                    "fd53::/64",
                )
            }
            assert adopted[prefix("10.1.0.0/26")] == route("10.9.0.2%v0")
            fib.replace(*prefix("10.1.0.0/26"), route("10.9.0.2"))
            fib.replace(*prefix("10.2.0.0/26"), route("10.9.0.3", "10.9.0.2"))  # the order does not matter
            fib.replace(*prefix("fd51::/64"), route("fd08::2", "fd09::2"))
            fib.replace(*prefix("fd52::/64"), route(metric=0))
            assert await fib.flush() == []
            assert fib.counters.requests == 0
            assert set(fib.stale()) == {prefix("10.3.0.0/26"), prefix("fd53::/64")}
            assert await fib.resync() == []
            assert (ns.ours(), ns.ours(6)) == before
            assert await fib.sweep() == []
            assert fib.stale() == []
            assert ns.ours().keys() == {"10.1.0.0/26 1024", "10.2.0.0/26 1024"}
            assert ns.ours(6).keys() == {"fd51::/64 1024", "fd52::/64 1024"}

    run(scenario())


def test_left_over_from_a_crash_between_new_and_old_metric(ns: Namespace) -> None:
    ns.batch(
        "route add 10.1.0.0/26 via 10.9.0.2 metric 100 proto 171\n"
        "route add 10.1.0.0/26 via 10.9.0.3 metric 200 proto 171\n"
        "route add 10.2.0.0/26 via 10.9.0.2 metric 100 proto 171\n"
        "route add blackhole 10.2.0.0/26 metric 200 proto 171\n"
        "route add 10.3.0.0/26 dev v0 metric 100 proto 171\n"  # not one that we would make
    )

    async def scenario() -> None:
        async with opened_fib(ns) as fib:
            adopted = await fib.adopt()
            assert adopted == {
                prefix("10.1.0.0/26"): route("10.9.0.2%v0", metric=100),
                prefix("10.2.0.0/26"): route("10.9.0.2%v0", metric=100),
            }
            fib.replace(*prefix("10.1.0.0/26"), route("10.9.0.3", metric=200))
            fib.replace(*prefix("10.3.0.0/26"), route(metric=100))
            assert await fib.flush() == []
            assert ns.ours() == {
                "10.1.0.0/26 200": "10.9.0.3",
                "10.2.0.0/26 100": "10.9.0.2",
                "10.2.0.0/26 200": "blackhole",
                "10.3.0.0/26 100": "blackhole",
            }
            assert await fib.sweep() == []
            assert ns.ours().keys() == {"10.1.0.0/26 200", "10.3.0.0/26 100"}

    run(scenario())


@families
def test_foreign_routes_are_left_alone(
    ns: Namespace, number: int, dst: str, gateways: tuple[str, str, str], nowhere: str
) -> None:
    """A route of another protocol at the same prefix and metric is neither replaced nor removed, and named in
    the error; with another metric both live side by side. Once it is gone, a retry installs."""
    first, second, _ = gateways
    ns.ip(f"-{number} route add {dst} via {first} metric 1024 proto static")

    async def scenario() -> None:
        async with opened_fib(ns) as fib:
            for wish in (route(second), route(), route(first, second), route(first)):
                fib.replace(*prefix(dst), wish)
                (error,) = await fib.flush()
                assert (error.errno, error.route) == (errno.EEXIST, wish)
                assert "static (4)" in error.text
            assert ns.ours(number) == {}
            fib.replace(*prefix(dst), None)
            assert await fib.flush() == []
            fib.replace(*prefix(dst), route(second, metric=100))
            assert await fib.flush() == []
            # From 100 to the metric that is taken: refused, and what was there stays.
            fib.replace(*prefix(dst), route(second))
            assert [e.name for e in await fib.flush()] == ["EEXIST"]
            assert ns.ours(number) == {f"{dst} 100": second}
            requests = fib.counters.requests
            assert [e.name for e in await fib.retry_failed()] == ["EEXIST"]
            assert fib.counters.requests == requests + 1  # known by now: asked once, not looked up again
            assert await fib.sweep() == []
            assert ns.ours(number, "static") == {f"{dst} 1024": first}
            ns.ip(f"-{number} route del {dst} via {first} metric 1024 proto static")
            assert await fib.retry_failed() == []
            assert ns.ours(number) == {f"{dst} 1024": second}
            assert fib.failed == {}

    run(scenario())


@families
def test_a_removal_never_hits_a_foreign_route(
    ns: Namespace, number: int, dst: str, gateways: tuple[str, str, str], nowhere: str
) -> None:
    """Somebody deleted ours and put theirs in its place: removing, sweeping and replacing leave theirs
    alone."""
    first, second, _ = gateways

    async def scenario() -> None:
        async with opened_fib(ns) as fib:
            fib.replace(*prefix(dst), route(first))
            await fib.flush()
            ns.ip(f"-{number} route del {dst} proto 171")
            ns.ip(f"-{number} route add {dst} via {second} metric 1024 proto bird")
            assert fib.note(OwnRouteChanged(*prefix(dst)))  # what the monitor says
            fib.replace(*prefix(dst), route(first, second))
            assert ["bird (12)" in error.text for error in await fib.reconcile()] == [True]
            fib.replace(*prefix(dst), None)
            assert await fib.flush() == []
            assert await fib.sweep() == []
            assert ns.ours(number, "bird") == {f"{dst} 1024": second}

    run(scenario())


@families
def test_a_removal_in_ignorance_never_hits_a_foreign_route(
    ns: Namespace, number: int, dst: str, gateways: tuple[str, str, str], nowhere: str
) -> None:
    """The same with no word from a monitor: the protocol in the request protects the other route."""
    first, second, _ = gateways

    async def scenario() -> None:
        async with opened_fib(ns) as fib:
            fib.replace(*prefix(dst), route(first))
            await fib.flush()
            ns.ip(f"-{number} route del {dst} proto 171")
            ns.ip(f"-{number} route add {dst} via {second} metric 1024 proto bird")
            fib.replace(*prefix(dst), None)
            assert await fib.flush() == []
            assert ns.ours(number, "bird") == {f"{dst} 1024": second}
            assert not fib.installed[prefix(dst)[0]]

    run(scenario())


@families
def test_ours_is_gone_when_it_is_to_be_replaced(
    ns: Namespace, number: int, dst: str, gateways: tuple[str, str, str], nowhere: str
) -> None:
    first, second, _ = gateways

    async def scenario() -> None:
        async with opened_fib(ns) as fib:
            fib.replace(*prefix(dst), route(first))
            await fib.flush()
            ns.ip(f"-{number} route del {dst} proto 171")
            fib.replace(*prefix(dst), route(second))
            assert await fib.flush() == []
            assert ns.ours(number) == {f"{dst} 1024": second}

    run(scenario())


@families
def test_unreachable_next_hop_is_kept_and_retried(
    ns: Namespace, number: int, dst: str, gateways: tuple[str, str, str], nowhere: str
) -> None:
    first, _, _ = gateways
    names = {4: "ENETUNREACH", 6: "EHOSTUNREACH"}

    async def scenario() -> None:
        async with opened_fib(ns) as fib:
            fib.replace(*prefix(dst), route(nowhere))
            (error,) = await fib.flush()
            assert error.name == names[number]
            assert nowhere in error.text
            assert await fib.flush() == []  # not tried again by itself
            requests = fib.counters.requests
            assert requests == 1
            assert [e.name for e in await fib.retry_failed()] == [names[number]]
            ns.ip(f"-{number} address add {'10.77.0.9/24' if number == 4 else 'fd77::9/64'} dev w0")
            assert await fib.retry_failed() == []
            assert ns.ours(number) == {f"{dst} 1024": nowhere}
            # In place of a good one: the good one stays.
            fib.replace(*prefix(dst), route("10.99.9.9" if number == 4 else "fd99::9"))
            assert [e.name for e in await fib.flush()] == [names[number]]
            assert ns.ours(number) == {f"{dst} 1024": nowhere}
            fib.replace(*prefix(dst), route(first))
            assert await fib.flush() == []
            assert fib.failed == {}

    run(scenario())


@families
def test_resync_repairs_what_others_did(
    ns: Namespace, number: int, dst: str, gateways: tuple[str, str, str], nowhere: str
) -> None:
    """Deleted, changed in place, joined by another metric, a stranger under our protocol."""
    first, second, third = gateways
    other, third_dst = ("10.2.0.0/26", "10.3.0.0/26") if number == 4 else ("fd52::/64", "fd53::/64")

    async def scenario() -> None:
        async with opened_fib(ns) as fib:
            for text in (dst, other, third_dst):
                fib.replace(*prefix(text), route(first, second))
            await fib.flush()
            ns.batch(
                f"route del {dst} proto 171\n"
                f"route replace {other} via {third} metric 1024 proto 171\n"
                f"route add {third_dst} via {third} metric 5 proto 171\n"
            )
            assert await fib.resync() == []
            assert fib.counters.repaired == 3
            want = {f"{text} 1024": f"{first} {second}" for text in (dst, other, third_dst)}
            assert ns.ours(number) == want
            stranger = "10.5.0.0/26" if number == 4 else "fd55::/64"
            ns.ip(f"-{number} route add {stranger} via {third} proto 171")
            assert await fib.resync() == []
            assert len(ns.ours(number)) == 4  # not swept yet: it may be an adopted one
            assert await fib.sweep() == []
            ns.ip(f"-{number} route add {stranger} via {third} proto 171")
            assert await fib.resync() == []
            assert ns.ours(number) == want

    run(scenario())


def test_batch_of_5000_in_few_sends(ns: Namespace) -> None:
    total = 5000
    nlri = [bytes((24, 20, n >> 8, n & 255)) for n in range(total)]

    async def scenario() -> None:
        async with opened_fib(ns) as fib:
            for metric, gateway in ((1024, "10.9.0.2"), (1024, "10.9.0.3"), (7, "10.9.0.3")):
                wish = route(gateway, metric=metric)
                for each in nlri:
                    fib.replace(Family.IPV4, each, wish)
                sends = fib.counters.sends
                assert await fib.flush() == []
                assert fib.counters.sends - sends <= (20 if metric == 1024 else 40)
                shown = ns.ours()
                assert len(shown) == total
                assert shown["20.7.8.0/24 " + str(metric)] == gateway
            for each in nlri:
                fib.replace(Family.IPV4, each, None)
            assert await fib.flush() == []
            assert ns.ours() == {}

    run(scenario())


def test_batch_in_which_each_request_fails(ns: Namespace) -> None:
    """The error replies fit into the receive buffer, each is matched to its prefix; with a buffer too small
    for them nothing is lost either."""
    nlri = [bytes((24, 20, n >> 8, n & 255)) for n in range(3000)]
    bad, good = route("10.77.0.1"), route("10.9.0.2")

    async def scenario(**options: int) -> int:
        async with opened_fib(ns, **options) as fib:
            for n, each in enumerate(nlri):
                fib.replace(Family.IPV4, each, good if n % 1000 == 7 else bad)
            errors = await fib.flush()
            assert {e.nlri for e in errors} == {each for n, each in enumerate(nlri) if n % 1000 != 7}
            assert {e.name for e in errors} == {"ENETUNREACH"}
            assert len(ns.ours()) == 3
            return fib.counters.sends

    assert run(scenario()) < 20
    run(scenario(receive_buffer=8192))


def test_lost_replies_lead_to_a_resync(ns: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    """A receive buffer that overflows (ENOBUFS): what became of the batch is read from the kernel."""
    nlri = [bytes((24, 20, n >> 8, n & 255)) for n in range(600)]

    async def scenario() -> None:
        async with opened_fib(ns, receive_buffer=4096) as fib:
            # More requests in a send than replies fit: it must not happen, and must not hurt.
            for sender in fib._writing.senders.values():
                monkeypatch.setattr(sender, "most", 512)
            for n, each in enumerate(nlri):
                fib.replace(Family.IPV4, each, route("10.9.0.2") if n % 2 else route("10.77.0.1"))
            errors = await fib.flush()
            assert {error.nlri for error in errors} == set(nlri[::2])
            assert {each for _, each in fib.failed} == set(nlri[::2])
            assert set(fib.installed[Family.IPV4]) == set(nlri[1::2])
            assert len(ns.ours()) == 300
            assert 1 <= fib.counters.resyncs <= 8

    run(scenario())


def test_cancelled_flush_is_finished_by_the_next(ns: Namespace) -> None:
    nlri = [bytes((24, 20, n >> 8, n & 255)) for n in range(3000)]

    async def scenario() -> None:
        async with opened_fib(ns) as fib:
            for each in nlri:
                fib.replace(Family.IPV4, each, route())
            task = asyncio.create_task(fib.flush())
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert 0 < len(ns.ours()) < 3000
            requests = fib.counters.requests
            assert await fib.flush() == []
            assert len(ns.ours()) == 3000
            assert fib.counters.requests == 3000
            assert fib.counters.requests > requests
            # The same while a conflict is looked up.
            ns.ip("route add blackhole 10.1.0.0/26 metric 1024 proto static")
            fib.replace(*prefix("10.1.0.0/26"), route("10.9.0.2"))
            task = asyncio.create_task(fib.flush())
            while fib.counters.requests == 3000:
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert [error.name for error in await fib.flush()] == ["EEXIST"]
            task = asyncio.create_task(fib.resync())  # a dump cut short does not spoil the next
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert [error.name for error in await fib.resync()] == ["EEXIST"]
            assert fib.counters.repaired == 0

    run(scenario())


def test_wishes_during_a_flush_are_for_the_next(ns: Namespace) -> None:
    nlri = [bytes((24, 20, n >> 8, n & 255)) for n in range(2000)]

    async def scenario() -> None:
        async with opened_fib(ns) as fib:
            for each in nlri:
                fib.replace(Family.IPV4, each, route())
            task = asyncio.create_task(fib.flush())
            await asyncio.sleep(0)
            for each in nlri[::2]:
                fib.replace(Family.IPV4, each, route("10.9.0.2"))
            for each in nlri[1::2]:
                fib.replace(Family.IPV4, each, None)
            await task
            assert await fib.flush() == []
            assert set(ns.ours().values()) == {"10.9.0.2"}
            assert len(ns.ours()) == 1000
            assert await fib.resync() == []
            assert fib.counters.repaired == 0

    run(scenario())


@families
def test_two_who_both_insist_do_not_go_on_for_ever(
    ns: Namespace, number: int, dst: str, gateways: tuple[str, str, str], nowhere: str
) -> None:
    """A route that somebody keeps taking away is put back some times, then left until the next retry."""
    first, second, _ = gateways

    async def scenario() -> None:
        async with opened_fib(ns) as fib:
            fib.replace(*prefix(dst), route(first))
            await fib.flush()
            repaired = 0
            while not fib.failed:
                assert ns.ours(number) == {f"{dst} 1024": first}
                ns.ip(f"-{number} route del {dst} proto 171")
                assert fib.note(OwnRouteChanged(*prefix(dst)))
                assert await fib.reconcile() == []
                repaired += 1
            assert repaired == 11
            (error,) = fib.failed.values()
            assert (error.name, error.route) == ("EBUSY", route(first))
            assert ns.ours(number) == {}
            fib.note(OwnRouteChanged(*prefix(dst)))
            assert await fib.reconcile() == []
            assert ns.ours(number) == {}
            assert await fib.retry_failed() == []
            assert (ns.ours(number), fib.failed) == ({f"{dst} 1024": first}, {})
            ns.ip(f"-{number} route del {dst} proto 171")
            assert await fib.resync() == []
            assert ns.ours(number) == {f"{dst} 1024": first}
            ns.ip(f"-{number} route del {dst} proto 171")
            assert fib.note(OwnRouteChanged(*prefix(dst)))
            # A new wish is carried out at once in any case.
            fib.replace(*prefix(dst), route(second))
            assert await fib.flush() == []
            assert ns.ours(number) == {f"{dst} 1024": second}

    run(scenario())


def test_loopback_down_and_ipv6_disabled() -> None:
    """IPv6 blackholes hang on lo, which may be down; with IPv6 disabled on all interfaces only what needs one
    fails."""

    async def scenario(namespace: Namespace, *, ipv6: bool) -> None:
        async with opened_fib(namespace) as fib:
            fib.replace(*prefix("10.1.0.0/26"), route())
            fib.replace(*prefix("fd51::/64"), route())
            fib.replace(*prefix("fd52::/64"), route("fe80::2%v0"))
            errors = await fib.flush()
            assert namespace.ours() == {"10.1.0.0/26 1024": "blackhole"}
            assert await fib.resync() == errors
            assert [error.nlri for error in errors] == ([] if ipv6 else [prefix("fd52::/64")[1]])
            assert namespace.ours(6)["fd51::/64 1024"] == "blackhole"
            assert len(namespace.ours(6)) == (2 if ipv6 else 1)

    with temporary_namespace("link add v0 type veth peer name v1\nlink set v0 up\n") as namespace:
        run(scenario(namespace, ipv6=True))
    with temporary_namespace("link set lo up\nlink add v0 type veth peer name v1\n") as namespace:
        namespace.sysctl("net.ipv6.conf.all.disable_ipv6=1")
        namespace.ip("link set v0 up")
        run(scenario(namespace, ipv6=False))


def test_another_table(ns: Namespace) -> None:
    """A table of its own beyond 255 (RTA_TABLE); the main one is not read, not changed."""
    ns.ip("route add blackhole 10.2.0.0/26 proto 171")

    async def scenario() -> None:
        async with opened_fib(ns, table=1000) as fib:
            assert await fib.adopt() == {}  # the table is not there yet
            fib.replace(*prefix("10.1.0.0/26"), route("10.9.0.2"))
            fib.replace(*prefix("fd51::/64"), route("fd09::2"))
            assert await fib.flush() == []
            assert await fib.resync() == []
            assert fib.counters.repaired == 0
            assert [r["dst"] for r in ns.routes(4, "table 1000")] == ["10.1.0.0/26"]
            assert [r["dst"] for r in ns.routes(6, "table 1000")] == ["fd51::/64"]
            fib.replace(*prefix("10.1.0.0/26"), None)
            assert await fib.flush() == []
            assert await fib.sweep() == []
            assert ns.routes(4, "table 1000") == []
            assert ns.ours() == {"10.2.0.0/26 0": "blackhole"}

    run(scenario())


def test_no_such_namespace() -> None:
    async def scenario() -> None:
        with pytest.raises(KernelUnavailable, match="no such namespace"):
            await Fib.open(log=LOG, netns="rtk-nowhere")

    run(scenario())

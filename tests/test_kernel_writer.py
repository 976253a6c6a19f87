"""Which kernel route each prefix gets, and what the kernel's refusals lead to."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

from routed.bgp.attributes import originate
from routed.bgp.nlri import Family, from_network
from routed.bgp.path import Router, Source, SourceKind
from routed.bgp.rib import LocRib
from routed.bgp.route import FibRoute, NextHop
from routed.intent.types import (
    FamilyIntent,
    KernelAction,
    KernelPolicy,
    KernelRule,
    OriginatedRoute,
    OriginKind,
)
from routed.kernel.base import Event, FibError, Link, LinkUp, Overflow
from routed.kernel.dryrun import NullFib
from routed.kernel_writer import FALLBACK_METRIC, PORTION, RESYNC_TIME, KernelWriter
from routed.resources import Key
from tests.virtual import run

V4 = Family.IPV4
NET = ip_network("10.1.0.0/26")
NLRI = from_network(NET)
ROUTER = Router(router_id=b"\x0a\0\0\1")
NORMAL = 1024


class Node:
    """A writer, its Loc-RIB and a FIB that only remembers."""

    def __init__(self, policy: KernelPolicy | None = None) -> None:
        self.rib = LocRib(V4)
        self.fib = NullFib()
        ribs = {V4: self.rib, Family.IPV6: LocRib(Family.IPV6)}
        self.writer = KernelWriter(self.fib, ribs, lambda: None)
        self.set_policy(policy or KernelPolicy())
        self.peers = 0

    def set_policy(self, policy: KernelPolicy) -> None:
        self.writer.set_family(V4, FamilyIntent(V4, ip_interface("10.0.0.1/24"), kernel_policy=policy))
        self.writer.work()

    def learn(self, next_hop: str, *, local_pref: int | None = 2147483647 - NORMAL) -> Source:
        self.peers += 1
        source = Source(
            f"peer{self.peers}",
            SourceKind.IBGP,
            ROUTER,
            address=ip_address(next_hop).packed,
            router_id=bytes((10, 0, 0, 100 + self.peers)),
            remote_as=64512,
            local_as=64512,
        )
        attributes = originate(next_hop=ip_address(next_hop).packed, local_pref=local_pref)
        self.rib.insert(source.path(attributes), (NLRI,))
        self.changed()
        return source

    def changed(self) -> None:
        self.writer.update(V4, (NLRI,))
        assert not self.writer.work()

    def originate(
        self, kind: OriginKind, *, blackhole: bool = True, source: SourceKind | None = None
    ) -> None:
        route = OriginatedRoute(
            NET, kind, Key("BlockAffinity", "x"), "confirmed affinity", advertise=True, blackhole=blackhole
        )
        self.writer.originate(V4, NLRI, route)
        if source is not None:
            local = Source(source.value, source, ROUTER)
            self.rib.insert(local.path(originate(next_hop=bytes(4))), (NLRI,))
        self.changed()

    @property
    def wish(self) -> FibRoute | None:
        return self.fib.wanted[V4].get(NLRI)


def hops(*gateways: str, metric: int = NORMAL) -> FibRoute:
    return FibRoute(tuple(NextHop(ip_address(one)) for one in gateways), metric)


def test_a_learned_route_goes_by_its_next_hop_with_the_metric_of_its_local_pref() -> None:
    for local_pref, metric in (
        (2147483647 - NORMAL, NORMAL),
        (2147483647 - 512, 512),
        (None, 2147483547),  # from outside the AS: as if LOCAL_PREF were 100
        (2147483647, 1),  # the kernel takes 0 for no metric
        (4294967295, 1),
        (0, 2147483647),
    ):
        node = Node()
        node.learn("10.0.0.2", local_pref=local_pref)
        assert node.wish == hops("10.0.0.2", metric=metric)


def test_equal_paths_are_merged_in_one_order() -> None:
    node = Node()
    node.learn("10.0.0.9")
    node.learn("10.0.0.2")
    assert node.wish == hops("10.0.0.2", "10.0.0.9")


def test_a_withdrawn_route_leaves_the_kernel() -> None:
    node = Node()
    source = node.learn("10.0.0.2")
    node.rib.drop(source)
    node.changed()
    assert node.wish is None


def test_an_owned_block_is_a_blackhole_whatever_peers_say_of_it() -> None:
    node = Node()
    node.originate(OriginKind.BLOCK, source=SourceKind.STATIC)
    assert node.wish == FibRoute((), NORMAL)
    node.learn("10.0.0.2")
    assert node.wish == FibRoute((), NORMAL)
    # A better than normal LOCAL_PREF overrides the local route.
    node.learn("10.0.0.3", local_pref=2147483647 - 512)
    assert node.wish == hops("10.0.0.3", metric=512)


def test_under_a_borrowed_address_lies_a_blackhole_that_any_route_beats() -> None:
    node = Node()
    node.originate(OriginKind.BORROWED, source=SourceKind.ALLOCATED)
    assert node.wish == FibRoute((), FALLBACK_METRIC)
    node.learn("10.0.0.2")  # the pod has moved, its IPAM block is behind
    assert node.wish == hops("10.0.0.2")


def test_what_bgp_does_not_program_gets_no_blackhole_either() -> None:
    vxlan = KernelPolicy(rules=(KernelRule(ip_network("10.1.0.0/16"), KernelAction.REJECT, "VXLAN"),))
    for kind in (OriginKind.BLOCK, OriginKind.BORROWED):
        node = Node(vxlan)
        node.originate(kind)
        assert node.wish is None
        assert node.writer.reasons[V4][NLRI] == "VXLAN"
        node.set_policy(KernelPolicy())  # the pool changes, what is originated does not
        assert node.wish is not None
        assert not node.wish.next_hops
        node.set_policy(vxlan)
        assert node.wish is None


def test_a_single_address_block_has_no_blackhole() -> None:
    node = Node()
    node.originate(OriginKind.BLOCK, blackhole=False, source=SourceKind.STATIC)
    assert node.wish is None


def test_a_rejected_route_is_kept_out_with_its_reason_and_comes_in_when_the_policy_does() -> None:
    pool = KernelRule(
        ip_network("10.1.0.0/16"), KernelAction.REJECT, "IPPool vxlan: the node agent routes it"
    )
    node = Node(KernelPolicy(rules=(pool,)))
    node.learn("10.0.0.2")
    assert node.wish is None
    assert node.writer.reasons[V4][NLRI] == "IPPool vxlan: the node agent routes it"
    node.set_policy(KernelPolicy())
    assert node.wish == hops("10.0.0.2")
    assert not node.writer.reasons[V4]


def test_tunnels_and_cross_subnet() -> None:
    def policy(action: KernelAction) -> KernelPolicy:
        return KernelPolicy(rules=(KernelRule(ip_network("10.1.0.0/16"), action, "IPPool"),))

    node = Node(policy(KernelAction.TUNNEL))
    node.learn("10.0.0.2")
    assert node.wish == FibRoute((NextHop(ip_address("10.0.0.2"), "tunl0", onlink=True),), NORMAL)
    node.set_policy(policy(KernelAction.TUNNEL_CROSS_SUBNET))
    assert node.wish == hops("10.0.0.2")
    node = Node(policy(KernelAction.TUNNEL_CROSS_SUBNET))
    node.learn("10.9.0.2")
    assert node.wish == FibRoute((NextHop(ip_address("10.9.0.2"), "tunl0", onlink=True),), NORMAL)


def test_a_wireguard_next_hop_is_left_to_the_agent() -> None:
    node = Node(KernelPolicy(rejected_next_hops=frozenset({ip_address("10.0.0.2")})))
    node.learn("10.0.0.2")
    assert node.wish is None
    assert "WireGuard" in node.writer.reasons[V4][NLRI]


class RefusingFib(NullFib):
    """A kernel that refuses everything until it is told otherwise."""

    def __init__(self) -> None:
        super().__init__()
        self.retries = 0
        self.error = FibError(V4, NLRI, None, 101, "ENETUNREACH", "no way to the next hop")

    @property
    def failed(self) -> Any:
        return {(V4, NLRI): self.error}

    async def flush(self) -> list[FibError]:
        return [self.error]

    async def retry_failed(self) -> list[FibError]:
        self.retries += 1
        return [self.error]


def test_refusals_are_said_once_and_tried_again_in_time(capsys: Any) -> None:
    from routed import log

    async def main() -> RefusingFib:
        fib = RefusingFib()
        writer = KernelWriter(fib, {family: LocRib(family) for family in Family}, lambda: None)
        task = asyncio.create_task(writer.run())
        await asyncio.sleep(100)
        task.cancel()
        return fib

    log.configure("debug", "json")
    fib = run(main())
    assert fib.retries >= 2
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 1
    assert "ENETUNREACH" in said[0]
    assert "10.1.0.0/26" in said[0]


class SlowFib(NullFib):
    """Notes what it is asked for, and when (virtual seconds)."""

    def __init__(self) -> None:
        super().__init__()
        self.at: list[tuple[float, str]] = []
        self.sizes: list[int] = []
        """Wishes between two flushes."""
        self.doubt = False
        self._wishes = 0

    def replace_all(self, family: Family, nlri: Sequence[bytes], route: FibRoute | None) -> None:
        super().replace_all(family, nlri, route)
        self._wishes += len(nlri)

    async def flush(self) -> list[FibError]:
        self.sizes.append(self._wishes)
        self._wishes = 0
        return []

    async def resync(self) -> list[FibError]:
        self._say("resync")
        return []

    def note(self, event: Event) -> bool:
        self.doubt = self.doubt or isinstance(event, Overflow)
        return self.doubt

    async def reconcile(self) -> list[FibError]:
        if self.doubt:
            self.doubt = False
            self._say("reconcile")
        return []

    async def sweep(self) -> list[FibError]:
        self._say(f"sweep of {len(self.wanted[V4])}")
        return []

    def _say(self, what: str) -> None:
        self.at.append((asyncio.get_running_loop().time(), what))


def test_all_is_read_back_in_time_and_after_lost_notifications_at_once() -> None:
    async def main() -> list[tuple[float, str]]:
        fib = SlowFib()
        writer = KernelWriter(fib, {family: LocRib(family) for family in Family}, lambda: None)
        task = asyncio.create_task(writer.run())
        await asyncio.sleep(100)
        writer.note(Overflow())
        writer.note(LinkUp(Link("eth0", 2, True)))
        await asyncio.sleep(1300)
        task.cancel()
        return fib.at

    assert run(main()) == [(100, "reconcile"), (RESYNC_TIME, "resync"), (2 * RESYNC_TIME, "resync")]


def test_a_full_table_goes_in_by_portions_between_which_the_loop_turns_and_the_sweep_is_last() -> None:
    async def main() -> None:
        fib = SlowFib()
        ribs = {family: LocRib(family) for family in Family}
        writer = KernelWriter(fib, ribs, lambda: None)
        writer.set_family(V4, FamilyIntent(V4, None))
        source = Source("peer", SourceKind.IBGP, ROUTER, address=bytes(4))
        table = [b"\x18" + number.to_bytes(3, "big") for number in range(10 * PORTION + 5)]
        ribs[V4].insert(source.path(originate(next_hop=bytes((10, 0, 0, 2)))), table)
        task = asyncio.create_task(writer.run())
        writer.update(V4, table)
        writer.sweep()
        turns = 0
        while not fib.at:
            await asyncio.sleep(0)
            turns += 1
        assert turns >= 10
        assert max(fib.sizes) == PORTION
        assert fib.at == [(0, f"sweep of {len(table)}")]
        task.cancel()

    run(main())

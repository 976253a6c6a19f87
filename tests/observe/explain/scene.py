"""A node of a cluster at work on virtual time: its records compiled, its speaker on a network in memory, its
kernel a FIB that only remembers, wired by the agent's own code."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from ipaddress import IPv4Interface, ip_address, ip_interface, ip_network
from typing import Any

from routed.agent import _NOBODY, Agent
from routed.agent_options import AgentOptions
from routed.bgp.attributes import originate
from routed.bgp.config import PeerConfig
from routed.bgp.nlri import Family, from_network
from routed.bgp.path import Source, SourceKind
from routed.bgp.route import FibRoute
from routed.bgp.speaker import Speaker
from routed.bgp.transport import Endpoint
from routed.datastore.base import Changes, Snapshot
from routed.intent.options import Options
from routed.kernel.base import (
    AlienHop,
    AlienRoute,
    FibError,
    InterfaceAddress,
    Link,
    LinkDown,
    Prefix,
    RouteDown,
    RouteUp,
)
from routed.kernel.base import Snapshot as KernelSnapshot
from routed.kernel.dryrun import NullFib, NullMonitor
from routed.next_hops import NextHops
from routed.observe.documents import Explanation
from routed.observe.explain import explain
from routed.observe.recorder import SessionEvents
from routed.resources import (
    AffinityState,
    BlockAffinity,
    BlockAttribute,
    EncapsulationMode,
    IPAMBlock,
    IPPool,
    Key,
    Record,
)
from tests.bgp.test_speaker import Router
from tests.virtual import Wire, run_on_a_wire, until

Prepare = Callable[["Scene"], Awaitable[None]]


class MemoryFib(NullFib):
    """Carries out all wishes at once, except those it is told to refuse."""

    def __init__(self) -> None:
        super().__init__()
        self.refuse: dict[str, FibError] = {}
        self.slow: set[str] = set()
        self._failed: dict[Prefix, FibError] = {}
        self._there: dict[Family, dict[bytes, FibRoute]] = {family: {} for family in Family}

    @property
    def port(self) -> int:
        return 1

    @property
    def installed(self) -> dict[Family, dict[bytes, FibRoute]]:
        return self._there

    @property
    def failed(self) -> dict[Prefix, FibError]:
        return self._failed

    def settle(self) -> None:
        self._failed.clear()
        for family, wanted in self.wanted.items():
            self._there[family] = {}
            for nlri, route in wanted.items():
                refusal = self.refuse.get(nlri.hex())
                if refusal is not None:
                    self._failed[family, nlri] = replace(refusal, family=family, nlri=nlri, route=route)
                elif nlri.hex() not in self.slow:
                    self._there[family][nlri] = route


class Scene:
    """Node `a`, 10.0.0.1, and others in one subnet on eth0."""

    def __init__(
        self, wire: Wire, records: Iterable[Record], *, kernel: bool = True, node: str = "a", **options: Any
    ) -> None:
        self.wire = wire
        agent = self.agent = Agent(AgentOptions(Options(node, **options)), None)  # type: ignore[arg-type]
        next_hops = NextHops() if kernel else None
        self.fib = MemoryFib() if kernel else NullFib()
        speaker = self.speaker = Speaker(
            _NOBODY,
            agent,
            network=wire.host("10.0.0.1", "fd00::1"),
            rng=random.Random(3),
            next_hops=next_hops,
            sessions=SessionEvents(agent._events),
        )
        wire.at_end.append(lambda: speaker.close(graceful=False))
        agent._wire(speaker, self.fib, NullMonitor(), next_hops)
        wire.at_end.append(agent._route_changes.close)
        self.writer, self.learner, self.observed = agent._writer, agent._learner, agent._watched
        if kernel:
            self.learner.learn(
                KernelSnapshot(
                    (Link("eth0", 2, True),),
                    (
                        InterfaceAddress("eth0", ip_address("10.0.0.1"), 24),
                        InterfaceAddress("eth0", ip_address("fd00::1"), 64),
                    ),
                    (),
                )
            )
        agent._follower.take(Snapshot(tuple(records)))
        self.settle()

    def change(self, *records: Record, gone: Iterable[Key] = ()) -> None:
        """Records change."""
        self.agent._follower.take(Changes(tuple(records), tuple(gone)))
        self.settle()

    def settle(self) -> None:
        """All that is to be handed on is handed on."""
        self.speaker.flush()
        while self.writer.work():
            pass
        self.speaker.flush()
        while self.writer.work():
            pass
        if isinstance(self.fib, MemoryFib):
            self.fib.settle()

    def explain(self, target: str) -> Explanation:
        """What is said of a target now."""
        self.settle()
        return explain(self.observed, target)

    async def peer(self, number: int, *, asn: int = 64512, wait: bool = True, **config: Any) -> Router:
        """A speaker at 10.0.0.<number> that peers with us."""
        router = Router(self.wire, number, asn=asn)
        router.set_peers(
            replace(
                PeerConfig(
                    name="to_a",
                    remote=Endpoint(ip_address("10.0.0.1"), 179),
                    families=frozenset({Family.IPV4}),
                    local_as=asn,
                    remote_as=64512,
                    source=ip_address(router.address),
                ),
                **config,
            )
        )
        if wait:
            await until(
                lambda: any(
                    one.established and str(one.config.remote.address) == router.address
                    for one in self.speaker.peers.values()
                )
            )
        return router

    async def announced(self, router: Router, prefix: str) -> None:
        """The other speaker announces a prefix; until it is here, eligible or not."""
        router.originate(prefix)
        nlri = from_network(ip_network(prefix))
        await until(
            lambda: any(
                source.kind.bgp
                and source.name.endswith(router.address.replace(".", "_"))
                and nlri in table.routes
                for source, table in self.speaker.ribs[Family.IPV4].sources.items()
            )
        )
        self.settle()

    def receive(self, peer: str, prefix: str, **attributes: Any) -> None:
        """An announcement with any attributes, as if an Established peer had sent it."""
        rib = self.speaker.ribs[Family.IPV4]
        source = self.speaker.attachment(self.speaker.peers[peer]).sources[Family.IPV4]
        attributes.setdefault("next_hop", source.address)
        base = originate(next_hop=attributes.pop("next_hop"))
        nlri = from_network(ip_network(prefix))
        key = bytes(4) + nlri if source.add_path else nlri
        rib.announce(source, base.replace(**attributes), (key,))
        self.settle()

    def source(self, number: int, kind: SourceKind = SourceKind.IBGP) -> Source:
        """A source of paths without a session."""
        return Source(
            f"Mesh_10_0_0_{number}",
            kind,
            self.speaker.tables.router[Family.IPV4],
            address=bytes((10, 0, 0, number)),
            router_id=bytes((10, 0, 0, number)),
            remote_as=64512,
            local_as=64512,
        )

    def alien(self, prefix: str, interface: str, *, up: bool = True) -> None:
        """Somebody else puts a route into the kernel, or takes it out."""
        route = AlienRoute(
            Family.of(ip_network(prefix)), from_network(ip_network(prefix)), (AlienHop(interface),), None, 3
        )
        self.learner._take(RouteUp(route) if up else RouteDown(route))
        self.settle()

    def link_down(self) -> None:
        """eth0 goes down."""
        self.learner._take(LinkDown(Link("eth0", 2, False)))
        self.settle()


def on(records: Iterable[Record], test: Callable[[Scene], Awaitable[None]], **options: Any) -> None:
    """Run a coroutine on a scene, on virtual time."""

    async def body(wire: Wire) -> None:
        await test(Scene(wire, records, **options))

    run_on_a_wire(body)


# Records


def pool(name: str = "pool", cidr: str = "10.1.0.0/16", **fields: Any) -> IPPool:
    """Not encapsulated."""
    size = 26 if ":" not in cidr else 122
    return IPPool(name=name, cidr=ip_network(cidr), **{"block_size": size, **fields})


def vxlan(**fields: Any) -> IPPool:
    """The same, with VXLAN."""
    return pool(vxlan_mode=EncapsulationMode.ALWAYS, **fields)


def affinity(node: str, cidr: str, state: str = "confirmed", *, deleted: bool = False) -> BlockAffinity:
    """Named after node and block."""
    return BlockAffinity(
        name=f"{node}-{cidr}", node=node, cidr=ip_network(cidr), state=AffinityState(state), deleted=deleted
    )


def ipam(owner: str | None, cidr: str, used: dict[str, tuple[str, str]] | None = None) -> IPAMBlock:
    """`used`: pod and node by address."""
    network = ip_network(cidr)
    allocations: list[int | None] = [None] * network.num_addresses
    attributes: list[BlockAttribute] = []
    for address, (pod, node) in (used or {}).items():
        allocations[int(ip_address(address)) - int(network[0])] = len(attributes)
        attributes.append(BlockAttribute(pod, {"node": node, "pod": pod, "namespace": "default"}))
    return IPAMBlock(
        name=cidr,
        cidr=network,
        affinity=f"host:{owner}" if owner else None,
        allocations=tuple(allocations),
        attributes=tuple(attributes),
    )


def block(owner: str, cidr: str, used: dict[str, tuple[str, str]] | None = None) -> list[Record]:
    """Affinity and IPAM block."""
    return [affinity(owner, cidr), ipam(owner, cidr, used)]


def interface(text: str) -> Any:
    """An IPv4 or IPv6 interface."""
    return ip_interface(text)


__all__ = ["IPv4Interface", "MemoryFib", "Scene", "affinity", "block", "ipam", "on", "pool", "vxlan"]

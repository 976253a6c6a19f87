"""What is said of each prefix, address and peering of random small clusters agrees with what Loc-RIB, the
export groups and the kernel's writer really hold."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from routed.bgp.attributes import originate
from routed.bgp.communities import NO_ADVERTISE
from routed.bgp.export import ExportTarget
from routed.bgp.groups import GroupKey
from routed.bgp.nlri import Family, Network, from_network, to_network
from routed.bgp.path import Source, SourceKind
from routed.intent.types import OriginKind
from routed.observe.documents import Explanation
from routed.resources import Record
from tests.intent import clusters
from tests.observe.explain.scene import MemoryFib, Scene, on
from tests.observe.explain.test_gates import consistent

PREFIXES: tuple[Network, ...] = (
    *clusters.BLOCKS,
    *clusters.RANGES,
    *map(
        ip_network, ("10.1.0.1/32", "10.1.0.0/16", "10.2.0.2/32", "fd02::1/128", "0.0.0.0/0", "192.0.2.0/24")
    ),
)
ADDRESSES = ("10.1.0.1", "10.1.0.5", "10.2.0.1", "10.3.0.9", "fd01::1", "192.0.2.1")
NAMES = (*clusters.NODES, *map(str, clusters.V4), *map(str, clusters.V6), "nobody")
#: Gates of what comes before Loc-RIB: they stop only what is not in it.
BEFORE = {
    "allocation",
    "pool",
    "service",
    "block",
    "affinity",
    "origin",
    "owner",
    "session",
    "received",
    "loop",
}
KEPT_OUT = {"kernel-policy", "wireguard", "kernel-way"}


@dataclass(frozen=True)
class Announcement:
    """One path of a peer."""

    peer: int
    prefix: Network
    attributes: dict[str, Any]
    next_hop: str


announcements = st.builds(
    Announcement,
    peer=st.integers(0, 3),
    prefix=st.sampled_from(PREFIXES),
    attributes=st.sampled_from(
        (
            {},
            {"local_pref": 2147482623},
            {"local_pref": 2147483000, "med": 5},
            {"communities": (NO_ADVERTISE,)},
            {"as_path": ((2, (65009, 64512, 65001)),)},
        )
    ),
    next_hop=st.sampled_from(("near", "far")),
)


@st.composite
def records(draw: st.DrawFn) -> tuple[Record, ...]:
    some = draw(st.lists(clusters.records, max_size=14))
    return tuple({record.key: record for record in (*clusters.EVERYTHING[:4], *some)}.values())


def join(scene: Scene, announced: list[Announcement], clients: bool) -> None:
    """Sessions without sessions: sources and members of groups in the name of the peerings that there are."""
    speaker = scene.speaker
    peers = [peer for _, peer in sorted(speaker.peers.items())]
    sources: dict[tuple[int, Family], Source] = {}
    for number, peer in enumerate(peers[:4]):
        config = peer.config
        for family in config.families:
            ibgp = config.remote_as == config.local_as
            kind = SourceKind.IBGP if ibgp else SourceKind.EBGP
            client = clients and ibgp and number % 2 == 0
            source = sources[number, family] = Source(
                peer.name,
                kind,
                speaker.tables.router[family],
                address=config.remote.address.packed,
                router_id=bytes((10, 0, 0, 100 + number)),
                remote_as=config.remote_as or 0,
                local_as=config.local_as,
                client=client,
            )
            policy = speaker.tables.import_policy(config.filters, family, ibgp=ibgp)
            speaker.ribs[family].set_policy(source, policy)
            target = ExportTarget(
                family,
                kind,
                config.local_as,
                bytes(family.address_octets - 1) + b"\1",
                speaker.tables.router[family],
                client,
            )
            speaker.groups[family].join(GroupKey(target, filters=config.filters), source)
    for one in announced:
        family = Family.of(one.prefix)
        found = sources.get((one.peer, family))
        if found is None:
            continue
        far = ip_address("192.0.2.99" if family is Family.IPV4 else "2001:db8::99").packed
        near = ip_address("10.0.0.77" if family is Family.IPV4 else "fd00::77").packed
        base = originate(next_hop=far if one.next_hop == "far" else near)
        attributes = base.replace(**one.attributes)
        speaker.ribs[family].announce(found, attributes, (from_network(one.prefix),))
    scene.settle()


def agrees(scene: Scene, network: Network, said: Explanation) -> None:
    consistent(said)
    family, nlri = Family.of(network), from_network(network)
    rib, writer = scene.speaker.ribs[family], scene.writer
    assert isinstance(scene.fib, MemoryFib)
    origin = scene.observed.compiler and scene.observed.compiler.tables.originated.get(network)
    best = rib.best(nlri)
    known = best is not None or bool(origin and origin.kind is OriginKind.REACHABLE_BY)
    passed = {step.gate for step in said.steps if step.outcome == "pass"}
    stopped = {step.gate for step in said.steps if step.outcome == "stop"}

    # Loc-RIB
    assert ("best-path" in passed) == (best is not None)
    winners = [step.peer for step in said.steps if step.gate == "best-path" and step.outcome == "pass"]
    assert winners == ([] if best is None else [best.source.name if best.source.kind.bgp else None])
    if known:
        assert not stopped & (BEFORE | {"import"})
    else:
        assert not said.ok
        assert said.stopped_by is not None
        assert said.stopped_by.gate in BEFORE | {"import"}
    for source, table in rib.sources.items():
        received = [s for s in said.steps if s.gate == "received" and s.peer == source.name]
        if source.kind.bgp:
            assert bool(received) == (nlri in table.routes)
    assert ("next-hop" in stopped) == (best is not None and not best.reachable)

    # Export
    told = sum(
        any(known_source is not source for _, known_source in group.adverts(nlri) for source in group.members)
        for group in scene.speaker.groups[family].groups.values()
    )
    exports = [step for step in said.steps if step.gate == "export"]
    assert sum(step.outcome == "pass" for step in exports) == told
    assert len(exports) == (0 if best is None else len(scene.speaker.groups[family].groups))
    if "export" in stopped:
        assert not told
    if said.ok and best is not None and best.source.kind in (SourceKind.STATIC, SourceKind.ALLOCATED):
        assert told or not scene.speaker.peers

    # Kernel
    ours = scene.fib.installed[family].get(nlri)
    assert ("kernel-route" in passed) >= (ours is not None)
    assert "kernel-route" not in stopped
    kept = {step.gate for step in said.steps if step.gate in KEPT_OUT}
    assert len(kept) == (nlri in writer.reasons[family])
    if best is not None and best.source.kind.bgp and said.ok:
        alien = any(path.source.kind is SourceKind.KERNEL for path in rib.ranked(nlri))
        assert ours is not None or alien


@settings(max_examples=60, deadline=None)
@given(
    given_records=records(),
    announced=st.lists(announcements, max_size=8),
    clients=st.booleans(),
    aliens=st.lists(st.sampled_from(PREFIXES), max_size=2, unique=True),
)
def test_explanations_agree_with_the_tables(
    given_records: tuple[Record, ...], announced: list[Announcement], clients: bool, aliens: list[Network]
) -> None:
    async def test(scene: Scene) -> None:
        for number, network in enumerate(aliens):
            scene.alien(str(network), f"cali{number}")
        join(scene, announced, clients)
        prefixes = {*PREFIXES}
        for family, rib in scene.speaker.ribs.items():
            prefixes |= {to_network(nlri, family) for nlri in rib.routes}
        for network in prefixes:
            said = scene.explain(str(network))
            assert said.kind == "prefix"
            agrees(scene, network, said)
        for target in (*ADDRESSES, *NAMES):
            said = scene.explain(target)
            consistent(said)
            assert said.kind in ("address", "peer")
            if said.kind == "peer":  # no session is up here
                assert not said.ok

    on(given_records, test)

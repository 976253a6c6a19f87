"""Export groups in memory: how fast routes reach all members when there are no sockets in the way.

Run: python -m benchmarks.groups [--members N] [--routes K] [--batch B] [--add-path PATHS]

Every member announces K routes of its own; B members' UPDATEs are taken in between two turns of the loop. A
delivery is one route at one member that did not announce it. The octets are those that sendmsg would be
given. With --add-path all of them send path identifiers and get them, at most so many paths of a prefix.
"""

from __future__ import annotations

import argparse
import gc
import resource
import time
from collections.abc import Callable

from routed.bgp.attributes import AttributeSet, originate
from routed.bgp.export import Exporter, ExportTarget
from routed.bgp.groups import ExportGroups, GroupKey, Member
from routed.bgp.nlri import Family
from routed.bgp.path import Router, Source, SourceKind
from routed.bgp.rib import LocRib

AS = 64512
ROUTER = Router(b"\x7f\0\0\1", b"\x7f\0\0\1", frozenset({b"\x7f\0\0\1"}))
TARGET = ExportTarget(Family.IPV4, SourceKind.IBGP, AS, b"\x7f\0\0\1", ROUTER, client=True)
WRITE_OCTETS = 256 * 1024


def client(number: int, *, add_path: bool = False) -> Source:
    """A route reflector client."""
    address = (0x7F010000 + number).to_bytes(4)
    return Source(
        f"client{number}",
        SourceKind.IBGP,
        ROUTER,
        address=address,
        router_id=(0xAC100000 + number).to_bytes(4),
        remote_as=AS,
        local_as=AS,
        client=True,
        add_path=add_path,
    )


def routes_of(number: int, routes: int, path_id: bytes) -> tuple[AttributeSet, list[bytes]]:
    """The UPDATE of one client: /26 networks of its own."""
    attributes = originate(next_hop=(0xAC100000 + number).to_bytes(4), local_pref=100)
    first = number * routes
    return attributes, [
        path_id + b"\x1a" + (0x0A000000 + (first + i << 6)).to_bytes(4) for i in range(routes)
    ]


def drain(members: list[Member]) -> int:
    """Read all that every member can read, as if its socket took everything. Returns octets."""
    octets = 0
    for member in members:
        while buffers := member.collect(WRITE_OCTETS):
            size = sum(map(len, buffers))
            member.advance(size)
            octets += size
    return octets


def timed(what: str, work: Callable[[], int], deliveries: int) -> None:
    """Print one line of results."""
    gc.collect()
    started = time.process_time()
    octets = work()
    took = time.process_time() - started
    rate = deliveries / took / 1e6
    print(f"{what:40} {took * 1000:9.1f} ms {octets / 1e6:9.1f} MB {rate:9.1f} M deliveries/s")


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--members", type=int, default=1000)
    parser.add_argument("--routes", type=int, default=20)
    parser.add_argument("--batch", type=int, default=50, help="members whose UPDATEs come in one turn")
    parser.add_argument("--feed", type=int, default=1_000_000, help="routes of the single feed")
    parser.add_argument("--add-path", type=int, default=0, metavar="PATHS")
    options = parser.parse_args()
    key = GroupKey(TARGET, add_path=options.add_path)
    path_id = b"\0\0\0\1" if options.add_path else b""
    count, routes, batch = options.members, options.routes, options.batch
    sources = [client(number, add_path=bool(path_id)) for number in range(count)]
    updates = [routes_of(number, routes, path_id) for number in range(count)]
    rib = LocRib(Family.IPV4)
    groups = ExportGroups(rib, lambda one: Exporter(one.target))
    members = [groups.join(key, source) for source in sources]
    drain(members)

    def converge() -> int:
        octets = 0
        for first in range(0, count, batch):
            for source, update in zip(sources[first : first + batch], updates[first:], strict=False):
                rib.update(source, [update])
            rib.flush()
            octets += drain(members)
        return octets

    timed("all to all, sessions up before", converge, count * (count - 1) * routes)

    changes = min(200, count)

    def churn() -> int:
        octets = 0
        for number in range(changes):
            rib.withdraw(sources[number], updates[number][1][:1])
            rib.flush()
            octets += drain(members)
            rib.update(sources[number], [(updates[number][0], updates[number][1][:1])])
            rib.flush()
            octets += drain(members)
        return octets

    timed(f"{2 * changes} single changes, each to all", churn, 2 * changes * (count - 1))

    def late() -> int:
        for member in members:
            groups.leave(member)
        again = [groups.join(key, source) for source in sources]
        return drain(again)

    timed("all leave, and join late in one turn", late, count * (count - 1) * routes)

    rib = LocRib(Family.IPV4)
    groups = ExportGroups(rib, lambda one: Exporter(one.target))
    members = []

    def storm() -> int:
        octets = 0
        for first in range(0, count, batch):
            for source, update in zip(sources[first : first + batch], updates[first:], strict=False):
                members.append(groups.join(key, source))
                rib.update(source, [update])
            rib.flush()
            octets += drain(members)
        return octets

    timed("all to all, joining in between", storm, count * (count - 1) * routes)
    del rib, groups, members
    gc.collect()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    rib = LocRib(Family.IPV4)
    groups = ExportGroups(rib, lambda one: Exporter(one.target))
    members = [groups.join(key, source) for source in sources[:10]]
    feeder = client(count + 1, add_path=bool(path_id))
    attributes = [
        originate(next_hop=b"\xac\x11\0\1", local_pref=100, communities=[number])
        for number in range(options.feed // 800 + 1)
    ]
    nlri = [path_id + b"\x18" + (number << 8).to_bytes(4)[:3] for number in range(options.feed)]

    def feed() -> int:
        octets = 0
        for first in range(0, options.feed, 16_000):
            for at in range(first, min(first + 16_000, options.feed), 800):
                rib.update(feeder, [(attributes[at // 800], nlri[at : at + 800])])
            rib.flush()
            octets += drain(members)
        return octets

    timed(f"one feed of {options.feed} to {len(members)}", feed, options.feed * len(members))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"peak memory {peak / 1024:.0f} MB, of it {before / 1024:.0f} MB before the feed")


if __name__ == "__main__":
    main()

"""How sessions, messages and memory grow from 100 to 100,000 nodes: mesh, flat reflectors, two levels of
them.

Run: python -m benchmarks.growth [--nodes N,N] [--routes N] [--share N] [--json FILE]

Prefixes do not depend on each other, so one prefix is followed through the whole cluster: announced by one
node, announced with other attributes, then its reflector dies, then it is withdrawn. Every router of every
topology is there, with the rules of RFC 4456 and a best path; each message is counted where it is sent, each
path where it is kept. By symmetry the counts of one prefix, times the prefixes, are those of all. What a
session, a path and a message cost was measured (see below); so memory and times are estimates, the counts
are not.

mesh      every node with every other
flat      two reflectors for each share of the nodes, all reflectors in a mesh among themselves
levels    two reflectors for each share of the nodes, all of them clients of two reflectors above
"""

from __future__ import annotations

import argparse
import json
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from routed.rr.reflection import may_reflect

#: Octets of a process without sessions, of a session, of a route, and of each further path of a route:
#: `python -m benchmarks.memory`, with 1,000 sessions, and with the same routes from several. Socket buffers
#: are the kernel's.
PROCESS_OCTETS = 22_000_000
SESSION_OCTETS = 7_300
ROUTE_OCTETS = 190
PATH_OCTETS = 160
#: Processor time for a session to come up, and for an UPDATE that goes to one peer (most of it the system
#: call) or comes from one; deliveries a second where a table goes to many (`python -m benchmarks
#: reflector`). Seconds.
SESSION_SECONDS = 200e-6
SEND_SECONDS = 5e-6
TAKE_SECONDS = 20e-6
DELIVERIES_A_SECOND = 50e6


@dataclass(frozen=True, slots=True)
class PathSent:
    """A path as it is sent: who brought it in, over which clusters, in which version."""

    version: int
    originator: int
    clusters: tuple[int, ...] = ()


@dataclass(slots=True)
class Router:
    """A node, or a reflector where it has a cluster. `peers`: by number, whether that one is its client."""

    number: int
    cluster: int = 0
    peers: dict[int, bool] = field(default_factory=dict)
    adj_rib_in: dict[int, PathSent] = field(default_factory=dict)
    own: PathSent | None = None
    told: dict[int, PathSent] = field(default_factory=dict)
    """Adj-RIB-Out: what each peer has been told."""
    sent: int = 0


class Network:
    """All routers, and the messages that are under way: the oldest arrives first."""

    def __init__(self) -> None:
        self.routers: list[Router] = []
        self._under_way: deque[tuple[int, int, PathSent | None]] = deque()
        self.messages = 0

    def router(self, cluster: int = 0) -> Router:
        """One more."""
        made = Router(len(self.routers), cluster)
        self.routers.append(made)
        return made

    def connect(self, one: Router, other: Router, *, client: bool = False) -> None:
        """A session; `client`: `other` is a client of `one`."""
        one.peers[other.number] = client
        other.peers[one.number] = False

    def sessions(self) -> int:
        """How many there are."""
        return sum(len(router.peers) for router in self.routers) // 2

    def originate(self, router: Router, version: int) -> None:
        """A node announces the prefix, in a version; 0: it withdraws it."""
        router.own = PathSent(version, router.number) if version else None
        self._tell(router)
        self._run()

    def fail(self, router: Router) -> None:
        """A router is gone: its peers notice, each by itself."""
        for number in router.peers:
            peer = self.routers[number]
            del peer.peers[router.number]
            peer.told.pop(router.number, None)
            if peer.adj_rib_in.pop(router.number, None) is not None:
                self._tell(peer)
        router.peers.clear()
        router.adj_rib_in.clear()
        self._run()

    def reset(self) -> None:
        """Count anew."""
        self.messages = 0
        for router in self.routers:
            router.sent = 0

    def _run(self) -> None:
        while self._under_way:
            source, target, path = self._under_way.popleft()
            router = self.routers[target]
            if source not in router.peers:
                continue
            if path is not None:
                router.adj_rib_in[source] = path
            elif router.adj_rib_in.pop(source, None) is None:
                continue
            self._tell(router)

    def _tell(self, router: Router) -> None:
        """Send what has changed, to those who may hear of it (RFC 4456 section 6)."""
        best, source = _best(router)
        from_client = source is None or router.peers[source]
        reflected = None
        if best is not None and source is not None and router.cluster:
            reflected = PathSent(best.version, best.originator, (router.cluster, *best.clusters))
        under_way, told = self._under_way, router.told
        number = router.number
        for peer, to_client in router.peers.items():
            path: PathSent | None
            if best is None or peer == source:
                path = None
            elif source is None:
                path = best
            else:
                path = reflected if may_reflect(from_client=from_client, to_client=to_client) else None
            if told.get(peer) == path:
                continue
            if path is None:
                del told[peer]
            else:
                told[peer] = path
            under_way.append((number, peer, path))
            router.sent += 1
            self.messages += 1


def _loops(router: Router, path: PathSent) -> bool:
    """RFC 4456 section 8."""
    return path.originator == router.number or (router.cluster != 0 and router.cluster in path.clusters)


def _best(router: Router) -> tuple[PathSent | None, int | None]:
    """The best path and whom it is from (None: our own): of those that are no loops the shorter
    CLUSTER_LIST, then the lower originator, then the lower address (RFC 4456 section 9)."""
    if router.own is not None:
        return router.own, None
    best: tuple[int, int, int] | None = None
    for source, path in router.adj_rib_in.items():
        rank = (len(path.clusters), path.originator, source)
        if (best is None or rank < best) and not _loops(router, path):
            best = rank
    return (None, None) if best is None else (router.adj_rib_in[best[2]], best[2])


# --- topologies: each returns the nodes and the reflectors


Built = tuple[list[Router], list[Router]]


def mesh(network: Network, nodes: int, share: int) -> Built:
    """Every node with every other."""
    made = [network.router() for _ in range(nodes)]
    for place, one in enumerate(made):
        for other in made[place + 1 :]:
            network.connect(one, other)
    return made, []


def _pairs(network: Network, nodes: int, share: int) -> Built:
    """Two reflectors with one cluster ID for each share of the nodes, which are clients of both."""
    reflectors: list[Router] = []
    made: list[Router] = []
    for first in range(0, nodes, share):
        pair = [network.router(cluster=1 + first // share) for _ in range(2)]
        some = [network.router() for _ in range(min(share, nodes - first))]
        for one in pair:
            for node in some:
                network.connect(one, node, client=True)
        reflectors += pair
        made += some
    return made, reflectors


def flat(network: Network, nodes: int, share: int) -> Built:
    """Two reflectors a share, all reflectors in a mesh."""
    made, reflectors = _pairs(network, nodes, share)
    for place, one in enumerate(reflectors):
        for other in reflectors[place + 1 :]:
            if one.cluster != other.cluster:  # they would not take each other's routes
                network.connect(one, other)
    return made, reflectors


def levels(network: Network, nodes: int, share: int) -> Built:
    """Two reflectors a share, clients of two above."""
    made, reflectors = _pairs(network, nodes, share)
    if len(reflectors) == 2:
        return made, reflectors
    above = [network.router(cluster=1_000_000) for _ in range(2)]
    for one in above:
        for reflector in reflectors:
            network.connect(one, reflector, client=True)
    return made, reflectors + above


TOPOLOGIES: dict[str, Callable[[Network, int, int], Built]] = {"mesh": mesh, "flat": flat, "levels": levels}
#: A mesh of more nodes has more sessions than fit into memory here; its counts are plain arithmetic.
MOST_MESH = 2000


@dataclass(frozen=True, slots=True)
class Row:
    """One topology at one size. Counts of one prefix but where it says otherwise."""

    topology: str
    nodes: int
    reflectors: int
    sessions: int
    node_sessions: int
    most_sessions: int
    """Of the router that has most."""
    messages: int
    """UPDATEs that one change causes, everywhere."""
    most_sent: int
    """Of them by the router that sends most."""
    node_paths: int
    """Paths of one prefix that a node keeps."""
    most_paths: int
    """Paths of one prefix that a reflector keeps, where that is most."""
    failure_messages: int
    """UPDATEs that the end of one of the origin's reflectors causes."""
    simulated: bool

    def node_octets(self, routes: int) -> float:
        """Memory of a node's routed, with so many routes a node."""
        return memory(self.node_sessions, self.nodes * routes, self.node_paths)

    def most_octets(self, routes: int) -> float:
        """Memory of the reflector that needs most."""
        return memory(self.most_sessions, self.nodes * routes, self.most_paths)

    def start_seconds(self, routes: int) -> float:
        """Processor time of the busiest router when all start at once: its sessions, an UPDATE from each
        node, and where it is a reflector the whole table to each peer."""
        sessions = self.most_sessions * SESSION_SECONDS
        taken = self.nodes * max(1, self.most_paths) * TAKE_SECONDS
        told = self.most_sessions * (self.nodes if self.reflectors else 1) * routes / DELIVERIES_A_SECOND
        return sessions + taken + told


def memory(sessions: int, routes: int, paths: int) -> float:
    """Octets of a process with so many sessions, and so many paths of each route."""
    return (
        PROCESS_OCTETS + sessions * SESSION_OCTETS + routes * (ROUTE_OCTETS + max(0, paths - 1) * PATH_OCTETS)
    )


def simulate(topology: str, nodes: int, share: int) -> Row:
    """Build it, follow one prefix, count."""
    network = Network()
    made, reflectors = TOPOLOGIES[topology](network, nodes, share)
    sessions = network.sessions()
    node_sessions = max(len(node.peers) for node in made)
    most_sessions = max(len(router.peers) for router in network.routers)
    origin = made[0]
    network.originate(origin, 1)
    _check(network, made, origin, 1)
    network.reset()
    network.originate(origin, 2)
    _check(network, made, origin, 2)
    messages, most_sent = network.messages, max(router.sent for router in network.routers)
    node_paths = max(len(node.adj_rib_in) for node in made)
    most_paths = max((len(one.adj_rib_in) for one in reflectors), default=0)
    network.reset()
    if reflectors:
        network.fail(reflectors[0])  # one that the origin is a client of
        _check(network, made, origin, 2)
    failure = network.messages
    network.originate(origin, 0)
    assert not any(router.adj_rib_in for router in network.routers), "withdrawn, and still there"
    return Row(
        topology,
        nodes,
        len(reflectors),
        sessions,
        node_sessions,
        most_sessions,
        messages,
        most_sent,
        node_paths,
        most_paths,
        failure,
        True,
    )


def _check(network: Network, nodes: list[Router], origin: Router, version: int) -> None:
    """Every node has the prefix, and nobody an old version."""
    for node in nodes:
        if node is not origin:
            best, _ = _best(node)
            assert best is not None, f"node {node.number} lacks the prefix"
            assert best.version == version, f"node {node.number} has version {best.version}"


def calculate_mesh(nodes: int) -> Row:
    """The counts of a mesh: no simulation can tell more."""
    others = nodes - 1
    return Row(
        "mesh", nodes, 0, nodes * others // 2, others, others, others, others, 1, 0, 0, simulated=False
    )


def row(topology: str, nodes: int, share: int) -> Row:
    """Simulated where that is possible."""
    if topology == "mesh" and nodes > MOST_MESH:
        return calculate_mesh(nodes)
    return simulate(topology, nodes, share)


COLUMNS: dict[str, Callable[[Row, int], str]] = {
    "nodes": lambda one, _: f"{one.nodes:,}",
    "topology": lambda one, _: one.topology,
    "reflectors": lambda one, _: f"{one.reflectors:,}" if one.reflectors else "",
    "sessions": lambda one, _: f"{one.sessions:,}",
    "of a node": lambda one, _: f"{one.node_sessions:,}",
    "of the busiest": lambda one, _: f"{one.most_sessions:,}",
    "a change: UPDATEs": lambda one, _: f"{one.messages:,}",
    "by the busiest": lambda one, _: f"{one.most_sent:,}, {one.most_sent * SEND_SECONDS * 1000:.1f} ms",
    "a reflector dies: UPDATEs a prefix": lambda one, _: (
        f"{one.failure_messages:,}" if one.reflectors else ""
    ),
    "paths of a prefix at a node": lambda one, _: str(one.node_paths),
    "at a reflector": lambda one, _: str(one.most_paths) if one.reflectors else "",
    "memory of a node": lambda one, routes: f"{one.node_octets(routes) / 1e6:,.0f} MB",
    "of a reflector": lambda one, routes: (
        f"{one.most_octets(routes) / 1e6:,.0f} MB" if one.reflectors else ""
    ),
    "all start: busiest": lambda one, routes: f"{one.start_seconds(routes):.1f} s",
}


def table(rows: list[Row], routes: int) -> str:
    """Markdown."""
    lines = [f"| {' | '.join(COLUMNS)} |", f"|{' ---: |' * len(COLUMNS)}"]
    lines += [f"| {' | '.join(show(one, routes) for show in COLUMNS.values())} |" for one in rows]
    return "\n".join(lines)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nodes", default="100,1000,5000,10000,50000,100000", metavar="N,N")
    parser.add_argument("--routes", type=int, default=4, help="that a node announces")
    parser.add_argument("--share", type=int, default=1000, help="nodes for each two reflectors")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    sizes = [int(number) for number in options.nodes.split(",")]
    rows = [row(topology, nodes, options.share) for nodes in sizes for topology in TOPOLOGIES]
    print(f"{options.routes} routes a node, {options.share:,} nodes for each two reflectors\n")
    print(table(rows, options.routes))
    if options.json:
        options.json.write_text(json.dumps([asdict(one) for one in rows], indent=1) + "\n")


if __name__ == "__main__":
    main()

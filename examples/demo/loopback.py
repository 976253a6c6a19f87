"""The demonstration without root and without namespaces: the same records over loopback, and no kernel
routes.

Each node speaks from an address of its own in 127.0.1.0/24, on a port that needs no privilege. Loopback has
one IPv6 address only, so the IPv6 sessions are left out; IPv6 blocks then stay with their nodes.
"""

from __future__ import annotations

import copy
import signal
import time
from ipaddress import ip_address, ip_network
from pathlib import Path

import yaml
from rich.text import Text

from examples.demo import cluster as records
from examples.demo import show
from examples.demo.machines import Speaker
from tests import daemons, netns
from tests.daemons import Bird2, Config, Neighbor

PORT = 1790
_OUTSIDE = "127.0.1.1"


class _Host(netns.Machine):
    """This machine itself, in the role of one of the cluster's."""

    def command(self, *arguments: str) -> list[str]:
        return list(arguments)


def transform(record: records.Record, addresses: dict[str, str]) -> records.Record | None:
    """A record with the loopback addresses in place of its own; None where it has no IPv4 form."""
    record = copy.deepcopy(record)
    spec = record["spec"]
    if record["kind"] == "Node":
        spec["bgp"]["ipv4Address"] = f"{addresses[record['metadata']['name']]}/24"
        spec["bgp"].pop("ipv6Address", None)
    elif record["kind"] == "BGPConfiguration":
        # All nodes share this machine's port, each on its own address.
        spec |= {"listenPort": PORT, "bindMode": "NodeIP"}
    elif record["kind"] == "BGPPeer" and "peerIP" in spec:
        if ip_address(spec["peerIP"]).version == 6:
            return None
        spec["peerIP"] = f"{_OUTSIDE}:{PORT}"
    return record


def write_records(cluster: records.Cluster, folder: Path) -> dict[str, str]:
    """Rewrites the copied records in place. Returns the loopback address of each node."""
    addresses = {node.name: f"127.0.1.{number}" for number, node in enumerate(cluster.nodes, start=10)}
    for path in sorted(folder.glob("*.yaml")):
        with path.open() as stream:
            changed = [transform(record, addresses) for record in yaml.safe_load_all(stream) if record]
        path.write_text(yaml.safe_dump_all([record for record in changed if record], sort_keys=False))
    return addresses


def run(cluster: records.Cluster, folder: Path, state: Path, reason: str, keep: bool) -> int:
    """The demonstration over loopback; `reason` is why it is not the whole one. With `keep` it goes on
    until it is interrupted. Returns the exit status."""
    show.console.print(Text("The records of examples/cluster/ over loopback", style="bold"))
    show.console.print(f"Not on network namespaces: {reason}.")
    show.console.print("Left out: kernel routes, blackholes, pods and probes, IPv6 sessions.\n")
    addresses = write_records(cluster, folder)
    lab = netns.Lab("unused", state)
    hosts: list[netns.Machine] = []
    speakers: dict[str, Speaker] = {}
    for node in cluster.nodes:
        directory = state / node.name
        directory.mkdir()
        host = _Host(lab, node.name, directory)
        host.addresses = (addresses[node.name],)
        hosts.append(host)
        speakers[node.name] = Speaker(node, host, folder)
    router = None if daemons.unavailable("bird2") else _router(cluster, lab, state, addresses)
    if router is None:
        show.console.print(f"Left out too: the router outside, for there is {daemons.unavailable('bird2')}.")
    else:
        hosts.append(router.machine)
    try:
        _demonstrate(cluster, folder, speakers, router, addresses)
        if keep:
            show.console.print(f"Running until Ctrl-C. Logs and status documents: {state}; records: {folder}")
            signal.pause()
        return 0
    finally:
        with show.step("everything removed"):
            for machine in hosts:
                for process in machine.processes:
                    process.stop()


def _router(cluster: records.Cluster, lab: netns.Lab, state: Path, addresses: dict[str, str]) -> Bird2:
    directory = state / "outside"
    directory.mkdir()
    host = _Host(lab, "outside", directory)
    host.addresses = (_OUTSIDE,)
    neighbors = tuple(Neighbor(address, cluster.asn, port=PORT) for address in addresses.values())
    announced = tuple(prefix for prefix in cluster.outside.announces if ":" not in prefix)
    config = Config(cluster.outside.asn, _OUTSIDE, neighbors, announced, port=PORT, multihop=True)
    return Bird2(host, config)


def _demonstrate(
    cluster: records.Cluster,
    folder: Path,
    speakers: dict[str, Speaker],
    router: Bird2 | None,
    addresses: dict[str, str],
) -> None:
    workers = [node for node in cluster.nodes if not node.reflector]
    wanted = 2 * len(workers) * (len(cluster.nodes) - len(workers)) + (len(cluster.nodes) if router else 0)

    def established() -> tuple[bool, str]:
        up = sum(speaker.established() for speaker in speakers.values())
        return up == wanted, f"{up} of {wanted} established"

    with show.step("routed on each node"):
        if router is not None:
            router.start()
        for speaker in speakers.values():
            speaker.start("--no-kernel")
    with show.step("BGP sessions") as step:
        step.until(established, 60)
    expected = {prefix for prefix in cluster.expected_outside() if ip_network(prefix).version == 4}
    if router is not None:
        with show.step("routes at the router outside"):
            router.wait_routes(have=expected)
    statuses = {name: speaker.status() for name, speaker in speakers.items()}
    names = {address: name for name, address in addresses.items()} | {_OUTSIDE: "outside"}
    show.sessions(names, statuses)
    show.announcements(statuses, router.routes(4) if router else {})
    if router is not None:
        _watch_new_block(folder, router)


def _watch_new_block(folder: Path, router: Bird2) -> None:
    node, cidr = records.NEW_BLOCK
    show.heading(f"A new block: {cidr} becomes {node}'s")
    unfinished, name = records.new_block(folder, node, cidr)
    written = time.monotonic()
    unfinished.rename(name)
    netns.wait_for(
        lambda: cidr in router.routes(4), f"{cidr} at the router outside", timeout=15, interval=0.001
    )
    milliseconds = (time.monotonic() - written) * 1000
    show.console.print(
        f"{milliseconds:.0f} ms from the file in the folder to the table of the router outside"
    )

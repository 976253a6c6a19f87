"""Route reflection (RFC 4456) with the other daemons: as clients of routed, and as the reflector that
routed is a client of."""

from __future__ import annotations

import pytest

from tests.daemons import DAEMONS, Config, Daemon, Neighbor
from tests.netns import Lab, Machine
from tests.routed_process import (
    Records,
    RoutedProcess,
    block,
    configuration,
    node,
    peer,
    pool,
    record,
    routed_rr,
    routed_run,
)

AS = 64512
NAMES = sorted(DAEMONS)
EACH = {name: (f"10.{number}.0.0/24", f"fd00:{number}::/64") for number, name in enumerate(NAMES, start=1)}
ALL = [prefix for prefixes in EACH.values() for prefix in prefixes]


def make_clients(lab: Lab, reflector: Machine) -> dict[str, Daemon]:
    """One client with each daemon, each with a prefix of each family of its own."""
    clients: dict[str, Daemon] = {}
    for number, name in enumerate(NAMES, start=11):
        machine = lab.machine(name, f"192.0.2.{number}/24", f"2001:db8::{number}/64")
        neighbors = tuple(Neighbor(reflector.address(version), AS) for version in (4, 6))
        clients[name] = DAEMONS[name](machine, Config(AS, machine.address(4), neighbors, EACH[name]))
    return clients


def check_reflected(clients: dict[str, Daemon], cluster_id: str) -> None:
    """Every client has every other's prefixes as the other sent them, with what a reflector adds (RFC 4456
    section 8)."""
    for client in clients.values():
        client.wait_established()
        client.wait_routes(have=ALL)
    for name, client in clients.items():
        for other in NAMES:
            if other == name:
                continue
            for prefix, version in zip(EACH[other], (4, 6), strict=True):
                (path,) = client.routes(version)[prefix]
                machine = clients[other].machine
                assert path.next_hop == machine.address(version), (
                    f"{name}: the next hop of {prefix} must not change"
                )
                assert path.originator_id == machine.address(4), f"{name}: ORIGINATOR_ID of {prefix}"
                assert path.cluster_list == (cluster_id,), f"{name}: CLUSTER_LIST of {prefix}"
                assert (path.as_path, path.local_pref, path.origin) == ((), 100, "igp")


@pytest.mark.netns
@pytest.mark.daemon(*NAMES)
def test_standalone_reflector_serves_all_daemons(lab: Lab) -> None:
    """`routed rr` with clients by address range: each daemon gets the routes of all others, and loses what
    is withdrawn."""
    machine = lab.machine("rr", "192.0.2.1/24", "2001:db8::1/64")
    clients = make_clients(lab, machine)
    reflector = routed_rr(machine, AS, ["192.0.2.0/24", "2001:db8::/64"])
    reflector.start()
    for client in clients.values():
        client.start()
    check_reflected(clients, machine.address(4))
    assert not [route for route in machine.routes(4).values() if route["protocol"] != "2"], "no kernel routes"

    gone = EACH["frr"]
    clients["frr"].withdraw(*gone)
    for client in clients.values():
        client.wait_routes(have=set(ALL) - set(gone), lack=gone)
    clients["frr"].announce(*gone)

    # A client that crashes, and comes back.
    clients["bird2"].kill()
    clients["bird2"].start()
    check_reflected(clients, machine.address(4))

    reflector.kill()
    reflector.start()
    check_reflected(clients, machine.address(4))
    assert "Traceback" not in reflector.output()


@pytest.mark.netns
@pytest.mark.daemon(*NAMES)
def test_node_as_reflector_of_a_mixed_cluster(lab: Lab) -> None:
    """A node with a cluster ID that runs routed, and nodes that still run another daemon: peerings by
    selector alone."""
    machine = lab.machine("control", "192.0.2.1/24", "2001:db8::1/64")
    clients = make_clients(lab, machine)
    records = Records(lab.directory / "records")
    records.put(
        "cluster",
        [
            configuration(AS),
            node(machine, labels={"reflector": "true"}, routeReflectorClusterID="244.0.0.1"),
            *(node(client.machine) for client in clients.values()),
            pool("10.0.0.0/8"),
            pool("fd00::/16"),
            record("BGPPeer", "reflectors", nodeSelector="!has(reflector)", peerSelector="has(reflector)"),
        ],
    )
    reflector = routed_run(machine, records)
    reflector.start()
    for client in clients.values():
        client.start()
    check_reflected(clients, "244.0.0.1")
    for name, prefixes in EACH.items():
        for prefix, version in zip(prefixes, (4, 6), strict=True):
            reflector.wait_kernel(prefix, {clients[name].machine.address(version)})


@pytest.mark.netns
@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.daemon(name)) for name in NAMES])
def test_client_of_another_reflector(lab: Lab, name: str) -> None:
    """Two nodes that run routed, clients of a reflector that does not: each gets the other's blocks into
    its kernel."""
    machine = lab.machine("rr", "192.0.2.1/24", "2001:db8::1/64")
    workers = [lab.machine(f"worker{n}", f"192.0.2.{n}/24", f"2001:db8::{n}/64") for n in (11, 12)]
    neighbors = tuple(
        Neighbor(worker.address(version), AS, route_reflector_client=True)
        for worker in workers
        for version in (4, 6)
    )
    reflector = DAEMONS[name](
        machine, Config(AS, machine.address(4), neighbors, cluster_id=machine.address(4))
    )
    reflector.start()
    blocks = {
        worker.name: (f"10.244.{index}.0/26", f"fd00:10:244:{index}::/122")
        for index, worker in enumerate(workers, start=1)
    }
    records = Records(lab.directory / "records")
    records.put(
        "cluster",
        [
            configuration(AS),
            *(node(worker) for worker in workers),
            pool("10.244.0.0/16"),
            pool("fd00:10:244::/48"),
            *(peer(f"rr-{version}", machine.address(version), AS) for version in (4, 6)),
            *(one for owner, cidrs in blocks.items() for cidr in cidrs for one in block(owner, cidr)),
        ],
    )
    speakers: dict[str, RoutedProcess] = {worker.name: routed_run(worker, records) for worker in workers}
    for speaker in speakers.values():
        speaker.start()
    reflector.wait_established()
    for one, other in (("worker11", "worker12"), ("worker12", "worker11")):
        for prefix, version in zip(blocks[other], (4, 6), strict=True):
            speakers[one].wait_kernel(prefix, {speakers[other].machine.address(version)})

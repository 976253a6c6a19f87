"""ADD-PATH (RFC 7911) with the other daemons: several paths of a prefix through a reflector, whichever of the
two is routed, down to a multipath route in the kernel; and route refresh between marks (RFC 7313)."""

from __future__ import annotations

import pytest

from tests.daemons import DAEMONS, Bird1, Bird2, Config, Daemon, Frr, Neighbor
from tests.netns import Lab, Machine, wait_for
from tests.routed_process import Records, configuration, node, peer, routed_rr, routed_run

AS = 64512
NAMES = sorted(DAEMONS)
ANYCAST = ("203.0.113.7/32", "2001:db8:f::7/128")


def wait_paths(daemon: Daemon, wanted: dict[str, set[str]]) -> None:
    """Until the daemon has these paths of the prefixes from others, by next hop, and no more of them."""

    def there() -> bool:
        for prefix, hops in wanted.items():
            table = daemon.routes(6 if ":" in prefix else 4)
            found = [path.next_hop for path in table.get(prefix, []) if not path.local]
            assert sorted(map(str, found)) == sorted(hops), f"{prefix}: {found}"
        return True

    wait_for(there, f"{daemon.machine.name}: all paths", timeout=60)


def others(clients: dict[str, Daemon], *but: str) -> dict[str, set[str]]:
    """The next hops of the anycast prefixes, those of all clients but some."""
    machines = [client.machine for name, client in clients.items() if name not in but]
    return {
        prefix: {machine.address(version) for machine in machines}
        for prefix, version in zip(ANYCAST, (4, 6), strict=True)
    }


@pytest.mark.netns
@pytest.mark.daemon(*NAMES)
def test_every_daemon_gets_all_paths_from_a_reflector_that_runs_routed(lab: Lab) -> None:
    """All announce the same two prefixes, and each has the paths of all others; one goes, and comes back."""
    machine = lab.machine("rr", "192.0.2.1/24", "2001:db8::1/64")
    clients: dict[str, Daemon] = {}
    for number, name in enumerate(NAMES, start=11):
        client = lab.machine(name, f"192.0.2.{number}/24", f"2001:db8::{number}/64")
        neighbors = tuple(
            Neighbor(machine.address(version), AS, add_path=True, extended_messages=True)
            for version in (4, 6)
        )
        clients[name] = DAEMONS[name](client, Config(AS, client.address(4), neighbors, ANYCAST))
    reflector = routed_rr(machine, AS, ["192.0.2.0/24", "2001:db8::/64"])
    reflector.start()
    for daemon in clients.values():
        daemon.start()
    for name, daemon in clients.items():
        daemon.wait_established()
        wait_paths(daemon, others(clients, name))
    for gone in NAMES:
        clients[gone].withdraw(*ANYCAST)
        for name, daemon in clients.items():
            wait_paths(daemon, others(clients, name, gone))
        clients[gone].announce(*ANYCAST)
    for name, daemon in clients.items():
        wait_paths(daemon, others(clients, name))
    assert "Traceback" not in reflector.output()
    gobgp_addresses = {clients["gobgp"].machine.address(version) for version in (4, 6)}
    for session in reflector.status()["sessions"]:
        assert session["flaps"] == 0
        agreed = session["agreed"]
        assert agreed["add_path_receive"] == agreed["add_path_send"] == session["families"]
        assert agreed["extended_messages"] is (session["peer"] not in gobgp_addresses)
        assert agreed["enhanced_route_refresh"] is (session["peer"] not in gobgp_addresses)


def make_announcers(lab: Lab, reflector: Machine) -> list[Daemon]:
    """Three routers that announce the same prefixes."""
    found: list[Daemon] = []
    for number in (21, 22, 23):
        machine = lab.machine(f"router{number}", f"192.0.2.{number}/24", f"2001:db8::{number}/64")
        neighbors = tuple(Neighbor(reflector.address(version), AS) for version in (4, 6))
        found.append(Bird2(machine, Config(AS, machine.address(4), neighbors, ANYCAST)))
    return found


@pytest.mark.netns
@pytest.mark.daemon("bird2")
@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.daemon(name)) for name in NAMES])
def test_paths_from_one_reflector_become_a_multipath_route(lab: Lab, name: str) -> None:
    """A node that runs routed, client of a reflector that does not."""
    machine = lab.machine("rr", "192.0.2.1/24", "2001:db8::1/64")
    worker = lab.machine("worker", "192.0.2.11/24", "2001:db8::11/64")
    announcers = make_announcers(lab, machine)
    clients = [worker, *(announcer.machine for announcer in announcers)]
    neighbors = tuple(
        Neighbor(client.address(version), AS, route_reflector_client=True, add_path=client is worker)
        for client in clients
        for version in (4, 6)
    )
    reflector = DAEMONS[name](
        machine, Config(AS, machine.address(4), neighbors, cluster_id=machine.address(4))
    )
    records = Records(lab.directory / "records")
    records.put(
        "cluster",
        [
            configuration(AS),
            node(worker),
            *(peer(f"rr-{version}", machine.address(version), AS) for version in (4, 6)),
        ],
    )
    speaker = routed_run(worker, records)
    reflector.start()
    speaker.start()
    for announcer in announcers:
        announcer.start()
    for prefix, version in zip(ANYCAST, (4, 6), strict=True):
        speaker.wait_kernel(prefix, {announcer.machine.address(version) for announcer in announcers})
    announcers[0].withdraw(*ANYCAST)
    for prefix, version in zip(ANYCAST, (4, 6), strict=True):
        speaker.wait_kernel(prefix, {announcer.machine.address(version) for announcer in announcers[1:]})
    assert "Traceback" not in speaker.output()
    assert {session["flaps"] for session in speaker.status()["sessions"]} == {0}


def refresh(daemon: Daemon, address: str) -> None:
    """Have the daemon ask for everything again, and send everything again."""
    if isinstance(daemon, Bird1 | Bird2):
        for instance in daemon._instances():
            for neighbor in daemon.config.neighbors:
                name = daemon._protocol_name(neighbor)
                if isinstance(daemon, Bird2) or (neighbor.version == 4) is (instance == "bird"):
                    daemon.ask(instance, "reload", name)
    elif isinstance(daemon, Frr):
        version = 6 if ":" in address else 4
        for direction in ("in", "out"):
            daemon.ask(f"clear bgp ipv{version} unicast {address} soft {direction}")


@pytest.mark.netns
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.daemon(name)) for name in ("bird1", "bird2", "frr")]
)
def test_route_refresh_loses_nothing(lab: Lab, name: str) -> None:
    """Enhanced where the daemon knows it (RFC 7313): both ends send all again, and keep all."""
    machine = lab.machine("rr", "192.0.2.1/24", "2001:db8::1/64")
    one = lab.machine("one", "192.0.2.11/24", "2001:db8::11/64")
    two = lab.machine("two", "192.0.2.12/24", "2001:db8::12/64")
    neighbors = tuple(Neighbor(machine.address(version), AS, add_path=True) for version in (4, 6))
    daemons = [
        DAEMONS[name](
            client, Config(AS, client.address(4), neighbors, (f"10.{index}.0.0/24", f"fd00:{index}::/64"))
        )
        for index, client in enumerate((one, two), start=1)
    ]
    reflector = routed_rr(machine, AS, ["192.0.2.0/24", "2001:db8::/64"])
    reflector.start()
    for daemon in daemons:
        daemon.start()
    everything = [prefix for daemon in daemons for prefix in daemon.config.announce]
    for daemon in daemons:
        daemon.wait_routes(have=everything)
    for version in (4, 6):
        refresh(daemons[0], machine.address(version))
    # What is announced after that has overtaken nothing: the refresh is over when it is there.
    daemons[0].announce("10.3.0.0/24", "fd00:3::/64")
    daemons[1].announce("10.4.0.0/24", "fd00:4::/64")
    everything += ["10.3.0.0/24", "fd00:3::/64", "10.4.0.0/24", "fd00:4::/64"]
    for daemon in daemons:
        daemon.wait_routes(have=everything)

    def counted() -> bool:
        sessions = reflector.status()["sessions"]
        assert {session["flaps"] for session in sessions} == {0}
        received = [count for session in sessions for count in session["received"].values()]
        assert received == [2, 2, 2, 2], received
        return True

    wait_for(counted, "two routes of each family from each")

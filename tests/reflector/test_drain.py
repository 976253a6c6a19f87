"""A reflector stops, or dies: its clients that have another one lose nothing, not even for a moment."""

from __future__ import annotations

import contextlib

import pytest

from tests.daemons import Bird2, Config, Neighbor
from tests.netns import Lab, Machine, wait_for
from tests.raw_peer import COMMUNITIES, LOCAL_PREF, RawPeer, Told
from tests.recorder import Kind
from tests.reflector.topology import AS, LAN, RouteMonitor, client, reflector
from tests.routed_process import Records, RoutedProcess, block, configuration, node, peer, pool, routed_run

CLUSTER = "244.0.0.1"
GRACEFUL_SHUTDOWN = b"\xff\xff\0\0"
CEASE_SHUTDOWN = b"\x06\x02"
BIRD_PREFIXES = ("10.2.0.0/24", "10.2.1.0/24")
RAW_PREFIXES = ("10.3.0.0/24", "10.3.1.0/24")
BLOCK = "10.1.0.0/26"
ALL = (BLOCK, *BIRD_PREFIXES, *RAW_PREFIXES)


def told_of(updates: list[Told]) -> list[tuple[int, bool]]:
    """LOCAL_PREF and whether GRACEFUL_SHUTDOWN is there, of each announcement."""
    found = []
    for told in updates:
        if told.announced:
            communities = told.attributes[COMMUNITIES].value if COMMUNITIES in told.attributes else b""
            preference = int.from_bytes(told.attributes[LOCAL_PREF].value)
            found.append((preference, GRACEFUL_SHUTDOWN in communities))
    return found


class Site:
    """Two reflectors, and clients of both: a node that runs routed, one with BIRD 2, both with kernel
    routes, and one that writes down what it is told."""

    def __init__(self, lab: Lab, stack: contextlib.ExitStack, *options: str) -> None:
        self.reflectors = [lab.machine(f"rr{n}", f"192.0.2.{n}/24") for n in (1, 2)]
        self.processes = [
            reflector(machine, CLUSTER, "--clients", LAN, *options) for machine in self.reflectors
        ]
        for process in self.processes:
            process.start()
        self.node = self._routed(lab)
        self.bird = self._bird(lab)
        raw = lab.machine("raw", "192.0.2.13/24")
        self.raw = [stack.enter_context(client(raw, remote)) for remote in self.reflectors]
        for one in self.raw:
            one.wait_established()
            one.announce(*RAW_PREFIXES, local_pref=100)
        self.bird.wait_established()
        addresses = [machine.address(4) for machine in self.reflectors]
        self.node.wait_established(*addresses)
        for one in self.raw:
            one.wait_prefixes(have=(BLOCK, *BIRD_PREFIXES))
        for prefix in (*BIRD_PREFIXES, *RAW_PREFIXES):
            self.node.wait_kernel(prefix, {"192.0.2.12" if prefix in BIRD_PREFIXES else "192.0.2.13"})
        self.bird.wait_routes(have=ALL)
        wait_for(lambda: {BLOCK, *RAW_PREFIXES} <= self.bird.machine.routes(4).keys(), "BIRD's kernel routes")
        # Two paths each, so that there is another when one reflector is gone.
        wait_for(lambda: all(len(self.bird.routes(4)[one]) == 2 for one in RAW_PREFIXES), "both paths")
        self.monitors = [RouteMonitor(machine) for machine in self.machines]

    @property
    def machines(self) -> tuple[Machine, Machine]:
        """Those with kernel routes."""
        return self.node.machine, self.bird.machine

    def _routed(self, lab: Lab) -> RoutedProcess:
        machine = lab.machine("node", "192.0.2.11/24")
        records = Records(lab.directory / "records")
        peers = [peer(one.name, one.address(4), AS) for one in self.reflectors]
        records.put(
            "cluster",
            [configuration(AS), pool("10.0.0.0/8"), node(machine), *peers, *block("node", BLOCK)],
        )
        process = routed_run(machine, records)
        process.start()
        return process

    def _bird(self, lab: Lab) -> Bird2:
        machine = lab.machine("bird", "192.0.2.12/24")
        neighbors = tuple(Neighbor(one.address(4), AS) for one in self.reflectors)
        daemon = Bird2(machine, Config(AS, "192.0.2.12", neighbors, BIRD_PREFIXES, kernel=True))
        daemon.start()
        return daemon

    def nobody_lost_anything(self, heard: list[int]) -> None:
        """Every client noticed that the first reflector is gone, no kernel route went even for a moment,
        and the second reflector withdrew nothing. `heard`: how many UPDATEs had come from each."""
        first = self.reflectors[0].address(4)
        wait_for(lambda: not self.raw[0].established, "the recording client noticed")
        wait_for(lambda: not self.bird.established(first), "BIRD noticed")
        wait_for(lambda: self.node.sessions()[first] != "established", "routed noticed")
        # Something after it, so that all that came of it is there too.
        self.raw[1].announce("10.4.0.0/24", local_pref=100)
        self.node.wait_kernel("10.4.0.0/24", {"192.0.2.13"})
        self.bird.wait_routes(have=[*ALL, "10.4.0.0/24"])
        for monitor in self.monitors:
            assert monitor.deleted(ALL) == []
        assert not [told for told in self.raw[1].updates()[heard[1] :] if told.withdrawn]
        assert self.raw[1].prefixes() >= {BLOCK, *BIRD_PREFIXES}


def before(peers: list[RawPeer]) -> list[int]:
    """How many UPDATEs each has heard."""
    return [len(one.updates()) for one in peers]


@pytest.mark.netns
@pytest.mark.daemon("bird2")
@pytest.mark.parametrize("ending", ["shutdown", "drain", "graceful-restart", "killed"])
def test_clients_of_two_reflectors_lose_nothing(lab: Lab, ending: str) -> None:
    options = {
        "shutdown": (),
        "drain": ("--drain-time", "0.5"),
        "graceful-restart": ("--on-stop", "graceful-restart"),
        "killed": (),
    }[ending]
    with contextlib.ExitStack() as stack:
        site = Site(lab, stack, *options)
        heard = before(site.raw)
        if ending == "killed":
            site.processes[0].kill()
        else:
            assert site.processes[0].stop() == 0
        site.nobody_lost_anything(heard)

        last = site.raw[0].messages
        notifications = [one.body[:2] for one in last if one.kind is Kind.NOTIFICATION]
        # The recording client did not agree to graceful restart, so it is always told; RFC 4724 section 4.
        assert notifications == ([] if ending == "killed" else [CEASE_SHUTDOWN])
        again = told_of(site.raw[0].updates()[heard[0] :])
        if ending == "drain":
            assert again
            assert set(again) == {(0, True)}
            assert {
                route.prefix for told in site.raw[0].updates()[heard[0] :] for route in told.announced
            } >= {BLOCK, *BIRD_PREFIXES}
        else:
            assert again == []
        if ending == "shutdown":
            # With the last reflector all is gone, and the monitors see it.
            site.processes[1].stop()
            for monitor in site.monitors:
                wait_for(lambda monitor=monitor: monitor.deleted(RAW_PREFIXES), "routes go")  # type: ignore[misc]
        for process in (*site.processes, site.node):
            assert "Traceback" not in process.output()


@pytest.mark.netns
def test_a_draining_reflector_takes_nobody_new_and_goes_on(lab: Lab) -> None:
    """While it drains, changes still go through; a second SIGTERM ends it at once."""
    rr, one, two, late = (
        lab.machine(n, f"192.0.2.{i}/24") for n, i in (("rr", 1), ("one", 11), ("two", 12), ("late", 13))
    )
    process = reflector(rr, CLUSTER, "--clients", LAN, "--drain-time", "60")
    process.start()
    with contextlib.ExitStack() as stack:
        first, second = (stack.enter_context(client(machine, rr)) for machine in (one, two))
        for peer_ in (first, second):
            peer_.wait_established()
        first.announce("10.1.0.0/24", local_pref=100)
        second.wait_prefixes(have=["10.1.0.0/24"])
        running = process.process
        assert running is not None
        running.popen.terminate()
        wait_for(lambda: (0, True) in told_of(second.updates()), "it drains")
        outside = stack.enter_context(client(late, rr))
        wait_for(lambda: outside.lost, "it takes nobody new")
        first.announce("10.2.0.0/24", local_pref=100)
        first.withdraw("10.1.0.0/24")
        second.wait_prefixes(have=["10.2.0.0/24"], lack=["10.1.0.0/24"])
        assert told_of(second.updates())[-1] == (0, True)
        assert not outside.messages
        assert running.running
        running.popen.terminate()
        wait_for(lambda: not running.running, "the second SIGTERM ends it", timeout=5)

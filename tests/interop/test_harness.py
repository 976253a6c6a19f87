"""The harness itself: the four daemons, peering with each other, show the same routes in the same plain
tables."""

from __future__ import annotations

import pytest

from tests.daemons import DAEMONS, Config, Daemon, Neighbor
from tests.netns import Lab

PREFIXES = {
    name: (f"10.{number}.0.0/24", f"fd00:{number}::/64")
    for number, name in enumerate(sorted(DAEMONS), start=1)
}


@pytest.mark.netns
@pytest.mark.daemon("bird1", "bird2", "frr", "gobgp")
def test_the_daemons_agree_about_each_other(lab: Lab) -> None:
    """A full iBGP mesh of the four; each originates one prefix of each family."""
    names = sorted(DAEMONS)
    machines = {
        name: lab.machine(name, f"192.0.2.{number}/24", f"2001:db8::{number}/64")
        for number, name in enumerate(names, start=1)
    }
    daemons: dict[str, Daemon] = {}
    for name, machine in machines.items():
        others = [machines[other] for other in names if other != name]
        # Of two, one dials, as in Calico's mesh.
        neighbors = tuple(
            Neighbor(other.address(version), 64512, passive=other.name > name)
            for other in others
            for version in (4, 6)
        )
        config = Config(64512, machine.address(4), neighbors, PREFIXES[name])
        daemons[name] = DAEMONS[name](machine, config)
        daemons[name].start()
    everything = {prefix for prefixes in PREFIXES.values() for prefix in prefixes}
    for daemon in daemons.values():
        daemon.wait_established()
        daemon.wait_routes(have=everything)
    for name, daemon in daemons.items():
        for index, version in enumerate((4, 6)):
            table = daemon.routes(version)
            assert set(table) == {prefixes[index] for prefixes in PREFIXES.values()}
            for other in names:
                (path,) = table[PREFIXES[other][index]]
                if other == name:
                    assert path.local
                else:
                    assert path.next_hop == machines[other].address(version)
                    assert (path.as_path, path.origin, path.local_pref) == ((), "igp", 100)
    gone = PREFIXES["frr"]
    daemons["frr"].withdraw(*gone)
    for daemon in daemons.values():
        daemon.wait_routes(have=everything - set(gone), lack=gone)

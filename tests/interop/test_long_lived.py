"""Long-lived graceful restart (RFC 9494) with BIRD and FRR: as the peer that is gone, and as those who are
told of its routes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.daemons import Bird1, Bird2, Config, Daemon, Frr, Neighbor
from tests.interop import long_lived_speaker
from tests.netns import Lab, wait_for

AS = 64512
PREFIX = "10.9.0.0/24"
_REPOSITORY = Path(__file__).resolve().parent.parent.parent


class LongLivedBird(Bird2):
    """BIRD 2 that wants its routes kept."""

    def _configuration(self) -> str:
        option = "hold time 90; graceful restart on; graceful restart time 2; "
        option += "long lived graceful restart on; long lived stale time 60;"
        text = super()._configuration()
        assert "hold time 90;" in text
        return text.replace("hold time 90;", option)


class LongLivedFrr(Frr):
    """FRR that wants its routes kept."""

    def _configuration(self) -> str:
        router = f"router bgp {self.config.asn}\n"
        options = " bgp graceful-restart\n bgp graceful-restart restart-time 2\n"
        options += " bgp long-lived-graceful-restart stale-time 60\n"
        text = super()._configuration()
        assert router in text
        return text.replace(router, router + options)


@pytest.mark.netns
@pytest.mark.daemon("bird1", "bird2", "frr")
@pytest.mark.parametrize("kind", [LongLivedBird, LongLivedFrr], ids=["bird2", "frr"])
def test_routes_of_a_peer_that_is_gone_are_a_last_resort(lab: Lab, kind: type[Daemon]) -> None:
    """BIRD and FRR say in any case that they know such routes, and so are told of them. When the peer is back
    all is as before."""
    machine = lab.machine("rr", "192.0.2.1/24")
    neighbors = (Neighbor(machine.address(4), AS),)
    kinds: dict[str, type[Daemon]] = {"gone": kind, "bird1": Bird1, "bird2": Bird2, "frr": Frr}
    daemons: dict[str, Daemon] = {}
    for number, (name, one) in enumerate(kinds.items(), start=11):
        client = lab.machine(name, f"192.0.2.{number}/24")
        prefixes = (PREFIX,) if name == "gone" else ()
        daemons[name] = one(client, Config(AS, client.address(4), neighbors, prefixes))
    gone = daemons.pop("gone")
    clients = [gone, *daemons.values()]
    command = [sys.executable, "-m", long_lived_speaker.__name__, machine.address(4), str(AS)]
    reflector = machine.start(
        "reflector", [*command, *(one.machine.address(4) for one in clients)], cwd=_REPOSITORY
    )
    for daemon in clients:
        daemon.start()
    for daemon in daemons.values():
        daemon.wait_routes(have=[PREFIX])
    gone.kill()
    for name, daemon in daemons.items():
        wait_for(lambda daemon=daemon: stale(daemon), f"{name}: long-lived stale")  # type: ignore[misc]
    gone.start()
    for name, daemon in daemons.items():
        daemon.wait_routes(have=[PREFIX])
        wait_for(lambda daemon=daemon: not stale(daemon), f"{name}: as before")  # type: ignore[misc]
    assert "Traceback" not in reflector.output()


def stale(daemon: Daemon) -> bool:
    """Whether the route has the community LLGR_STALE."""
    communities = daemon.path(PREFIX).communities
    return bool(communities & {"65535:6", "llgrStale", "llgr-stale"})

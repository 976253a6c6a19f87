"""What Calico's tools, and bird_exporter, read is what they read from a BIRD that runs the same node."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.observe.bird import calico, exporter
from tests.observe.bird.scene import EXT, MESH, Side

pytestmark = [pytest.mark.netns, pytest.mark.daemon("bird1")]


def _peers(side: Side, name: str, version: int) -> dict[str, calico.Peer]:
    """Without the time, and without what is chance of a peer that cannot be reached."""
    found = {}
    for one in calico.peers(side.machine.directory / name, version):
        trying = one.bgp_state in ("Connect", "Active", "Idle")
        found[one.address] = replace(one, since="", bgp_state="" if trying else one.bgp_state)
    return found


def test_calicoctl_node_status(sides: tuple[Side, Side]) -> None:
    bird, routed = sides
    for name, version in (("bird.ctl", 4), ("bird6.ctl", 6)):
        assert _peers(routed, name, version) == _peers(bird, name, version)
    seen = _peers(routed, "bird.ctl", 4)
    assert seen["192.0.2.9"] == calico.Peer("192.0.2.9", "node-to-node mesh", "up", "", "Established", "")
    assert seen["192.0.2.77"] == calico.Peer(
        "192.0.2.77", "global", "start", "", "", "Socket: No route to host"
    )


def test_readiness_and_status(sides: tuple[Side, Side]) -> None:
    """Neither is ready while it waits for its peers; nor later, where one is not there."""
    paths = [side.machine.directory / "bird.ctl" for side in sides]
    assert [side.not_ready_at_start for side in sides] == ["graceful restart in progress"] * 2
    down = "BGP not established with 192.0.2.77,198.18.0.1"
    assert calico.not_ready(paths[0], 4) == down
    assert calico.not_ready(paths[1], 4) in (down, "graceful restart in progress")
    theirs, ours = (calico.status(path) for path in paths)
    assert ours.ready
    assert ours.router_id == theirs.router_id == "192.0.2.8"
    assert ours.version.endswith("+birdv1.6.8")
    assert len(ours.last_boot) == len(theirs.last_boot) == len("2026-11-20 07:35:20")


@pytest.mark.parametrize("command", ["show route", "show route all"])
def test_routes(sides: tuple[Side, Side], command: str) -> None:
    for name, version in (("bird.ctl", 4), ("bird6.ctl", 6)):
        theirs, ours = (calico.show_routes(side.machine.directory / name, command, version) for side in sides)

        def in_order(found: list[calico.Route]) -> list[calico.Route]:
            return sorted(found, key=lambda one: one.destination)  # stable: paths of a prefix keep theirs

        assert in_order(ours) == in_order(theirs)


@pytest.mark.parametrize("name", [EXT, MESH])
def test_details(sides: tuple[Side, Side], name: str) -> None:
    theirs, ours = (calico.details(side.machine.directory / "bird.ctl", name) for side in sides)
    for key in (
        "Preference",
        "BGP state",
        "Neighbor address",
        "Neighbor AS",
        "Neighbor ID",
        "Source address",
    ):
        assert ours[key] == theirs[key]
    assert "imported" in ours["Routes"]
    assert ours.keys() - {"GR recovery"} == theirs.keys()


def test_bird_exporter(sides: tuple[Side, Side]) -> None:
    """Numbers of routes are those of BIRD; changes are not counted, but for what could not be used."""
    for name in ("bird.ctl", "bird6.ctl"):
        theirs, ours = (exporter.protocols(side.machine.directory / name) for side in sides)
        assert list(ours) == list(theirs)
        for protocol, seen in ours.items():
            known = theirs[protocol]
            assert (seen.kind, seen.up, seen.imported, seen.preferred) == (
                known.kind,
                known.up,
                known.imported,
                known.preferred,
            )
            if protocol != "kernel1":  # BIRD programs what cannot be reached as unreachable
                assert seen.exported == known.exported
            assert seen.changes.keys() == known.changes.keys()
    assert exporter.protocols(sides[1].machine.directory / "bird.ctl")[EXT].filtered == 2

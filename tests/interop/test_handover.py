"""A cluster that moves from the mesh to a reflector, and back, with packets on their way: none is lost."""

from __future__ import annotations

import pytest

from tests.netns import Lab, Machine, wait_for
from tests.routed_process import (
    Record,
    Records,
    RoutedProcess,
    configuration,
    node,
    pool,
    record,
    routed_run,
)

from .test_kept_routes import AS, PODS, Probe, blocks_of, wait_for_answers, wait_for_routes


def cluster(machines: dict[str, Machine], *, reflector: bool) -> list[Record]:
    """The records, with control01 as one node of the mesh, or as the reflector of the others."""
    control = machines["control01"]
    records = [configuration(AS, mesh=not reflector), pool("10.244.0.0/16"), pool("fd00:10:244::/48")]
    for owner in PODS:
        records += [node(machines[owner]), *blocks_of(owner)]
    if not reflector:
        return [*records, node(control)]
    return [
        *records,
        node(control, labels={"reflector": "true"}, routeReflectorClusterID="192.0.2.13"),
        record("BGPPeer", "reflectors", nodeSelector="!has(reflector)", peerSelector="has(reflector)"),
    ]


def wait_for_sessions(speaker: RoutedProcess, prefix: str, count: int) -> None:
    """Until its sessions are so many, all established, and all named so."""

    def settled() -> bool:
        sessions = speaker.status()["sessions"]
        return len(sessions) == count and all(
            one["name"].startswith(prefix) and one["state"] == "established" for one in sessions
        )

    wait_for(settled, f"{speaker.machine.name}: {count} sessions {prefix}...", timeout=60)


@pytest.mark.netns
def test_from_mesh_to_reflector_and_back_loses_no_packet(lab: Lab) -> None:
    """Each node hears of the change at another time, as in a real cluster: the next only when the one before
    has acted on it."""
    names = ["worker01", "worker02", "control01"]
    machines = {
        name: lab.machine(name, f"192.0.2.{number}/24", f"2001:db8::{number}/64")
        for number, name in enumerate(names, start=11)
    }
    folders = {name: Records(lab.directory / f"records-{name}") for name in names}
    pods = {
        owner: machines[owner].pod(f"pod-{owner}", f"cali{index}", addresses)
        for index, (owner, addresses) in enumerate(PODS.items())
    }
    speakers = {name: routed_run(machines[name], folders[name]) for name in names}
    for name in names:
        folders[name].put("cluster", cluster(machines, reflector=False))
        speakers[name].start()
    wait_for_routes(speakers)
    probes = [Probe(pods["worker01"], address) for address in PODS["worker02"]]

    for reflector, prefix in ((True, "Node_"), (False, "Mesh_")):
        for name in names:
            folders[name].put("cluster", cluster(machines, reflector=reflector))
            wait_for(
                lambda name=name, prefix=prefix: any(  # type: ignore[misc]
                    session["name"].startswith(prefix) for session in speakers[name].status()["sessions"]
                ),
                f"{name}: a session {prefix}...",
            )
        for name in names:
            wait_for_sessions(speakers[name], prefix, 2 if reflector and name != "control01" else 4)
        wait_for_answers(probes, 50)

    assert {probe.address: probe.lost() for probe in probes} == dict.fromkeys(PODS["worker02"], 0)
    for speaker in speakers.values():
        assert "Traceback" not in speaker.output()

"""An operator's actions on a session with a real BIRD 2, asked for with curl as in the documentation."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import Any

import pytest

from tests.daemons import Bird2, Config, Neighbor
from tests.netns import Lab, wait_for
from tests.routed_process import Records, RoutedProcess, block, configuration, node, peer, pool, routed_run

BLOCK, OUTSIDE = "10.244.0.0/26", "203.0.113.0/24"
MESSAGE = "line card swap until 15:00, ask Zoë"


def curl(routed: RoutedProcess, path: str, *options: str) -> Any:
    """The document at a path."""
    command = ["curl", "-sS", "--fail-with-body", "--unix-socket", str(routed.api), *options]
    done = subprocess.run([*command, f"http://localhost{path}"], capture_output=True, check=True, timeout=60)
    return json.loads(done.stdout)


def act(routed: RoutedProcess, path: str, body: dict[str, str] | None = None) -> str:
    """What an action answers."""
    options = ["-X", "POST", "-H", "Content-Type: application/json"]
    if body is not None:
        options += ["-d", json.dumps(body)]
    done: str = curl(routed, path, *options)["done"]
    return done


@pytest.mark.netns
@pytest.mark.daemon("bird2")
@pytest.mark.skipif(
    shutil.which("curl") is None, reason="curl is not installed (Debian: apt-get install curl)"
)
def test_shutdown_up_refresh_and_drain(lab: Lab) -> None:
    here, there = lab.machine("node", "192.0.2.1/24"), lab.machine("peer", "192.0.2.9/24")
    records = Records(lab.directory / "records")
    base = [configuration(), node(here), pool("10.244.0.0/16"), peer("outside", there.address(4), 64512)]
    records.put("base", [*base, *block("node", BLOCK)])
    bird = Bird2(there, Config(64512, there.address(4), (Neighbor(here.address(4), 64512),), (OUTSIDE,)))
    routed = routed_run(here, records)
    bird.start()
    routed.start()
    routed.wait_established(there.address(4))
    bird.wait_routes(have={BLOCK})
    routed.wait_kernel(OUTSIDE, {there.address(4)})
    (name,) = (one["name"] for one in curl(routed, "/api/v1/peers")["peers"])

    # Refresh: BIRD sends its routes again.
    before = curl(routed, f"/api/v1/peers/{name}")["messages_received"]["update"]
    act(routed, f"/api/v1/peers/{name}/refresh", {"direction": "both"})
    wait_for(
        lambda: curl(routed, f"/api/v1/peers/{name}")["messages_received"]["update"] > before,
        "BIRD sends its routes again",
    )
    assert curl(routed, f"/api/v1/peers/{name}")["messages_sent"]["route_refresh"] == 1

    # Drain: BIRD sees the last choice, and then the route as it was.
    def local_pref() -> int | None:
        return bird.path(BLOCK).local_pref

    usual = local_pref()
    act(routed, "/api/v1/drain")
    wait_for(lambda: local_pref() == 0, "BIRD sees LOCAL_PREF 0")
    act(routed, "/api/v1/undrain")
    wait_for(lambda: local_pref() == usual, "BIRD sees the usual LOCAL_PREF")

    # Down: BIRD knows why, both have no routes, and it stays so though BIRD dials.
    act(routed, f"/api/v1/peers/{name}/shutdown", {"message": MESSAGE})
    bird.wait_routes(lack={BLOCK})
    routed.wait_kernel(OUTSIDE, None)
    wait_for(lambda: MESSAGE in bird.ask("bird", "show", "protocols", "all"), "BIRD has the message")
    changed = peer("outside", there.address(4), 64512, maxRestartTime="77s")
    records.put("base", [*base[:3], changed, *block("node", BLOCK)])
    bird.ask("bird", "restart", "all")
    wait_for(lambda: curl(routed, f"/api/v1/peers/{name}")["restart_time"] == 77, "the record is read")
    wait_for(lambda: "reset by peer" in bird.ask("bird", "show", "protocols", "all"), "BIRD dials in vain")
    document = curl(routed, f"/api/v1/peers/{name}")
    assert (document["shut_down"], document["state"]) == (MESSAGE, "idle")

    # And up.
    act(routed, f"/api/v1/peers/{name}/up")
    bird.wait_routes(have={BLOCK})
    routed.wait_kernel(OUTSIDE, {there.address(4)})
    kinds = [event["kind"] for event in curl(routed, f"/api/v1/events?peer={name}")["events"]]
    assert kinds == [
        "peer-added",
        "session-up",
        "peer-refreshed",
        "peer-shut-down",
        "session-down",
        "peer-brought-up",
        "session-up",
    ]
    assert routed.stop() == 0
    assert not routed.api.exists()

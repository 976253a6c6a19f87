"""Two nodes at work in network namespaces, watched as Prometheus and a kubelet do it."""

from __future__ import annotations

import http.client
import json
from typing import Any

import pytest

from routed.kernel.base import PROTOCOL
from tests.netns import Lab, Machine, wait_for
from tests.observe.metrics.scrape import OPENMETRICS, Values, parse_openmetrics, total, value, values_of
from tests.routed_process import Records, block, configuration, node, pool, record, routed_run

PORT = 9179


def get(machine: Machine, path: str) -> tuple[int, str, str]:
    """Status, content type and body."""
    with machine.socket() as sock:
        sock.settimeout(10)
        sock.connect(("127.0.0.1", PORT))
        connection = http.client.HTTPConnection("127.0.0.1", PORT)
        connection.sock = sock
        connection.request("GET", path, headers={"Accept": OPENMETRICS, "Connection": "close"})
        response = connection.getresponse()
        body = response.read().decode()
        return response.status, response.headers["Content-Type"], body


def scrape(machine: Machine) -> Values:
    status, content_type, body = get(machine, "/metrics")
    assert status == 200
    assert content_type.startswith("application/openmetrics-text; version=1.0.0")
    return values_of(parse_openmetrics(body))


def health(machine: Machine, path: str) -> tuple[int, Any]:
    status, _, body = get(machine, path)
    return status, json.loads(body)


@pytest.mark.netns
def test_two_nodes_are_watched(lab: Lab) -> None:
    machines = [lab.machine(f"node-{n}", f"192.0.2.{n}/24") for n in (1, 2)]
    first, second = machines
    records = Records(lab.directory / "records")
    records.put(
        "base", [configuration(mesh=True), pool("10.244.0.0/16"), *(node(machine) for machine in machines)]
    )
    records.put("blocks", [*block("node-1", "10.244.1.0/26"), *block("node-2", "10.244.2.0/26")])
    nodes = [routed_run(machine, records, "--metrics", f"127.0.0.1:{PORT}") for machine in machines]
    nodes[0].start()
    assert health(first, "/liveness") == (200, {"ok": True, "reason": "the event loop turns"})
    status, document = health(first, "/readiness")
    assert status == 503
    assert not document["ok"]
    assert document["reason"].startswith("1 of 1 peers not Established: Mesh_192_0_2_2")
    read = scrape(first)
    assert value(read, "routed_ready") == value(read, "routed_converged") == 0
    assert value(read, "routed_datastore_synced") == 1
    assert total(read, "routed_bgp_peers", wanted="true") == 1

    nodes[1].start()
    nodes[0].wait_kernel("10.244.2.0/26", {"192.0.2.2"})
    wait_for(lambda: health(first, "/readiness")[0] == 200, "node-1 is ready")
    read = wait_for(lambda: _converged(first), "node-1 has converged")
    assert value(read, "routed_ready") == 1
    assert value(read, "routed_bgp_peers", state="established", wanted="true") == 1
    assert value(read, "routed_owned_blocks") == 1
    assert value(read, "routed_bgp_received_routes", family="ipv4") == 1
    ours = first.ip_json("-4", "route", "show", "proto", str(PROTOCOL))
    assert value(read, "routed_kernel_routes_installed", family="ipv4") == len(ours) == 2
    assert value(read, "routed_kernel_routes_wanted", family="ipv4") == 2
    assert value(read, "routed_kernel_operations_total", operation="install", result="done") >= 2
    assert value(read, "routed_kernel_error") == 0
    assert value(read, "routed_event_loop_turn_seconds_count") > 0

    before = value(scrape(second), "routed_datastore_to_wire_seconds_count")
    records.put("more", block("node-2", "10.244.3.0/26"))
    nodes[0].wait_kernel("10.244.3.0/26", {"192.0.2.2"})
    read = scrape(second)
    assert value(read, "routed_datastore_to_wire_seconds_count") == before + 1
    assert value(read, "routed_owned_blocks") == 2

    records.put("broken", [record("IPPool", "without-cidr")])
    wait_for(lambda: value(scrape(first), "routed_record_problems") == 1, "a problem is counted")
    assert nodes[1].stop() == 0
    wait_for(
        lambda: value(scrape(first), "routed_bgp_peers", state="established", wanted="true") == 0,
        "the session is down",
    )
    assert total(scrape(first), "routed_bgp_sessions_ended_total") == 1
    assert value(scrape(first), "routed_bgp_peers_restarting") == 1


def _converged(machine: Machine) -> Values | None:
    read = scrape(machine)
    return read if value(read, "routed_converged") else None

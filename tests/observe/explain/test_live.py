"""Real processes in namespaces: as records, filters and links change, so do the explanations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from routed.cli.client import Client, Server
from tests.netns import INTERFACE, Lab, wait_for
from tests.routed_process import Record, Records, block, configuration, node, pool, record, routed_run

OURS, THEIRS = "10.244.1.0/26", "10.244.2.0/26"
POD = "10.244.2.7"


class Asked:
    """`GET /api/v1/explain` of one process."""

    def __init__(self, socket: Path) -> None:
        self._client = Client(Server(socket))

    def explain(self, target: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self._client.get("/explain", {"target": target}))
        return found

    def wait(self, target: str, gate: str | None, words: str = "") -> dict[str, Any]:
        """Until this gate stops it (None: none does) and the verdict has these words."""

        def as_wanted() -> dict[str, Any]:
            said = self.explain(target)
            stop = said["stopped_by"]
            assert (stop and stop["gate"]) == gate, said["verdict"]
            assert words in said["verdict"], said["verdict"]
            return said

        return wait_for(as_wanted, f"{target} is explained by {gate or 'nothing that stops'}")


def strict(action: str) -> Record:
    rules = [{"action": action, "cidr": "10.244.0.0/16", "matchOperator": "In"}]
    return record("BGPFilter", "strict", importV4=rules)


@pytest.mark.netns
def test_explanations_follow_what_changes(lab: Lab) -> None:
    a, b = (lab.machine(name, f"192.0.2.{number}/24") for number, name in enumerate("ab", 1))
    pods = b.pod("pod", "cali1", (POD,))
    records = Records(lab.directory / "records")
    records.put("pools", [pool("10.244.0.0/16")])
    records.put(
        "cluster",
        [
            configuration(mesh=False),
            node(a),
            node(b),
            *block("a", OURS),
            *block("b", THEIRS, {POD: ("web", "b")}),
            record("BGPPeer", "nodes", peerSelector="all()", filters=["strict"]),
        ],
    )
    records.put("filters", [strict("Accept")])
    speakers = [routed_run(machine, records) for machine in (a, b)]
    for speaker in speakers:
        speaker.start()
    wait_for(lambda: all(speaker.api.exists() for speaker in speakers), "the sockets are there")
    asked, there = (Asked(speaker.api) for speaker in speakers)

    # All is well.
    said = asked.wait(THEIRS, None, f"installed: via 192.0.2.2 dev {INTERFACE}")
    assert said["ok"]
    asked.wait(OURS, None, "told to Global_192_0_2_2")
    asked.wait(POD, None, f"{POD} takes {THEIRS}")
    there.wait(POD, None, f"{POD} takes {POD}/32")
    assert asked.wait("b", None)["kind"] == "peer"

    # A filter changes.
    records.put("filters", [strict("Reject")])
    stop = asked.wait(THEIRS, "import", "rule 1 of importV4 of BGPFilter strict rejects")["stopped_by"]
    assert (stop["record"], stop["field"]) == ("BGPFilter strict", "spec.importV4[0]")
    asked.wait(POD, "longest-match")
    records.put("filters", [strict("Accept")])
    asked.wait(THEIRS, None)

    # The pool is taken away, and comes back as one that is not exported.
    records.put("pools", [pool("10.99.0.0/16")])
    said = asked.wait(THEIRS, None)
    assert ("pool", "in no IPPool") in [(step["gate"], step["text"]) for step in said["steps"]]
    records.put("pools", [pool("10.244.0.0/16", disableBGPExport=True)])
    stop = asked.wait(OURS, "export", "disableBGPExport")["stopped_by"]
    assert (stop["record"], stop["field"]) == ("IPPool pool-10-244-0-0-16", "spec.disableBGPExport")
    asked.wait(THEIRS, "received", "none of the peers announces it (1 Established)")
    records.put("pools", [record("IPPool", "vx", cidr="10.244.0.0/16", vxlanMode="Always")])
    stop = asked.wait(THEIRS, "kernel-policy", "is VXLAN")["stopped_by"]
    assert stop["field"] == "spec.vxlanMode"
    records.put("pools", [pool("10.244.0.0/16")])
    asked.wait(THEIRS, None)

    # The workload goes, without a word to IPAM.
    pods.run("ip", "link", "set", "eth0", "down")
    b.ip("link", "set", "cali1", "down")
    there.wait(POD, "workload", "the kernel has no route of its own")
    asked.wait(POD, None)

    # The link of a goes down.
    a.ip("link", "set", INTERFACE, "down")
    asked.wait(THEIRS, "next-hop")
    a.ip("link", "set", INTERFACE, "up")
    asked.wait(THEIRS, None)

    # The other end is gone.
    assert speakers[1].stop() == 0
    said = asked.wait("b", "tcp", "Connection refused")
    assert not said["ok"]
    for speaker in speakers:
        assert "Traceback" not in speaker.output()

"""A node whose datastore goes away: a real `routed run`, a real etcd, a recording peer."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from benchmarks.reflector.processes import free_port
from routed.datastore.etcd_layout import key_of
from tests.netns import Lab, Machine, Process, wait_for
from tests.recorder import Kind, RecordingPeer
from tests.routed_process import RoutedProcess, block, configuration, node, peer, pool

pytestmark = [pytest.mark.netns, pytest.mark.usefixtures("etcd")]

AS = 64512
BLOCKS = [f"10.244.{number}.0/26" for number in range(5)]


class Etcd:
    """In the machine itself, on its loopback."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.url = f"http://127.0.0.1:{free_port()}"
        self.process: Process | None = None

    def start(self) -> None:
        listen = ("--listen-client-urls", self.url, "--advertise-client-urls", self.url)
        data = ("--data-dir", str(self.machine.directory / "data"))
        self.process = self.machine.start("etcd", ["etcd", *data, *listen, "--logger", "zap"])

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()

    def put(self, *documents: dict[str, Any]) -> None:
        """With etcd's HTTP gateway, from inside the machine."""
        for document in documents:
            key, value = key_of(document)
            pair = {"key": key, "value": json.dumps(value)}
            body = json.dumps({k: base64.b64encode(v.encode()).decode() for k, v in pair.items()})
            program = f"import urllib.request as u; u.urlopen({self.url + '/v3/kv/put'!r}, {body.encode()!r})"
            wait_for(lambda program=program: self.machine.run("python3", "-c", program) == "", f"put {key}")  # type: ignore[misc]


def test_sessions_and_routes_stay_while_etcd_is_away(lab: Lab) -> None:
    here = lab.machine("node", "192.0.2.1/24")
    there = lab.machine("peer", "192.0.2.2/24")
    etcd = Etcd(here)
    with RecordingPeer(there, AS, "192.0.2.2") as recorder:
        routed = RoutedProcess(
            here, ["run", "--node", "node", "--datastore", etcd.url.replace("http:", "etcd:")]
        )
        # It starts before its datastore, waits, and says so.
        routed.start()
        wait_for(lambda: "waiting for the datastore" in routed.output(), "it says that it waits")
        assert routed.status()["datastore"]["synced"] is False
        etcd.start()
        records = [configuration(AS), node(here), pool("10.244.0.0/16"), peer("peer", "192.0.2.2", AS)]
        etcd.put(*records, *(one for cidr in BLOCKS for one in block("node", cidr)))
        recorder.wait_routes(have=BLOCKS, timeout=60)
        recorder.wait_end_of_rib()
        for cidr in BLOCKS:
            routed.wait_kernel(cidr, set())
        before = len(recorder.messages)

        # It goes away.
        killed = datetime.now(UTC)
        etcd.kill()
        wait_for(lambda: routed.status()["datastore"]["lost_since"], "the status says that it is lost")
        lost = routed.status()["datastore"]
        assert abs((datetime.fromisoformat(lost["lost_since"]) - killed).total_seconds()) < 5
        assert "127.0.0.1" in lost["lost_reason"]
        assert "datastore lost: sessions and routes stay as they are" in routed.output()
        assert routed.sessions() == {"192.0.2.2": "established"}

        # routed itself is killed and started: it has no records, and leaves the kernel as it is.
        kernel = here.routes(4)
        assert {cidr for cidr in kernel if kernel[cidr]["type"] == "blackhole"} == set(BLOCKS)
        assert [m.kind for m in recorder.messages[before:] if m.kind is not Kind.KEEPALIVE] == []
        routed.kill()
        routed.start()
        wait_for(
            lambda: routed.output().count("waiting for the datastore") >= 2,
            "it waits for the datastore again",
        )
        assert here.routes(4) == kernel

        # It comes back, and what is put then goes out.
        etcd.start()
        recorder.wait_established(timeout=60)
        etcd.put(*block("node", "10.244.9.0/26"))
        recorder.wait_routes(have=[*BLOCKS, "10.244.9.0/26"], timeout=60)
        assert routed.status()["datastore"] == {"synced": True, "lost_since": None, "lost_reason": None}
        withdrawn = [prefix for update in recorder.updates() for prefix in update.withdrawn]
        assert withdrawn == []

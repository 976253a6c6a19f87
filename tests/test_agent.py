"""Whole agents over real TCP on loopback, with their records in files and the kernel left alone."""

from __future__ import annotations

import asyncio
import json
import socket
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from functools import partial
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
import yaml

from routed import log
from routed.agent import Agent
from routed.agent_options import AgentOptions
from routed.bgp import handover
from routed.bgp.config import SpeakerConfig
from routed.bgp.nlri import Family, to_text
from routed.bgp.transport import Endpoint
from routed.datastore import open_datastore
from routed.intent.options import Options
from tests import waiting
from tests.agents import running

#: An agent has not got that far where it does not have what is asked for.
until = partial(waiting.until, not_yet=AttributeError)

CONFIGURATION = {
    "apiVersion": "projectcalico.org/v3",
    "kind": "BGPConfiguration",
    "metadata": {"name": "default"},
    "spec": {"asNumber": 64512, "bindMode": "NodeIP"},
}
POOLS = [
    {
        "apiVersion": "projectcalico.org/v3",
        "kind": "IPPool",
        "metadata": {"name": f"pool-{number}"},
        "spec": {"cidr": cidr, "ipipMode": "Never", "vxlanMode": "Never"},
    }
    for number, cidr in enumerate(("10.1.0.0/16", "fd00:1::/48"))
]


def node(number: int, *, ipv6: bool = False) -> dict[str, Any]:
    bgp = {"ipv4Address": f"127.0.7.{number}/24"}
    if ipv6:
        bgp["ipv6Address"] = f"fd00:7::{number}/64"
    return {
        "apiVersion": "projectcalico.org/v3",
        "kind": "Node",
        "metadata": {"name": f"node{number}"},
        "spec": {"bgp": bgp},
    }


def affinity(number: int, cidr: str) -> dict[str, Any]:
    return {
        "apiVersion": "projectcalico.org/v3",
        "kind": "BlockAffinity",
        "metadata": {"name": f"node{number}-" + cidr.replace(".", "-").replace("/", "-").replace(":", "-")},
        "spec": {"node": f"node{number}", "cidr": cidr, "state": "confirmed", "deleted": False},
    }


class Cluster:
    """A folder of records and the agents that follow it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.7.1", 0))
            self.port = free.getsockname()[1]
        configuration = {**CONFIGURATION, "spec": {**CONFIGURATION["spec"], "listenPort": self.port}}  # type: ignore[dict-item]
        self.put("configuration", configuration, *POOLS)

    def put(self, name: str, *documents: Any) -> None:
        """Replace a file as an editor does."""
        temporary = self.folder / f".{name}.swp"
        temporary.write_text(yaml.safe_dump_all(documents))
        temporary.replace(self.folder / f"{name}.yaml")

    def agent(self, number: int, **options: Any) -> AbstractAsyncContextManager[Agent]:
        """The agent of a node, running."""
        return self.run(AgentOptions(Options(node=f"node{number}"), use_kernel=False, **options))

    def run(self, options: AgentOptions) -> AbstractAsyncContextManager[Agent]:
        """Any agent, running."""
        return running(replace(options, log_level="warning"), open_datastore(f"file:{self.folder}"))


def table(agent: Agent, family: Family = Family.IPV4) -> set[str]:
    return {to_text(one, family) for one in agent._speaker.ribs[family].routes}


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    log.configure("warning", "json")
    return Cluster(tmp_path)


def test_a_mesh_comes_up_and_follows_its_records(cluster: Cluster) -> None:
    cluster.put("nodes", node(1), node(2))
    cluster.put("blocks", affinity(1, "10.1.1.0/26"), affinity(2, "10.1.2.0/26"))

    async def main() -> None:
        async with cluster.agent(1) as one, cluster.agent(2) as two:
            both = {"10.1.1.0/26", "10.1.2.0/26"}
            await until(lambda: table(one) == table(two) == both)
            cluster.put("more", affinity(2, "10.1.2.64/26"))
            await until(lambda: "10.1.2.64/26" in table(one))
            cluster.put("more", affinity(2, "10.1.2.128/26"))
            await until(lambda: table(one) == {*both, "10.1.2.128/26"})
            (cluster.folder / "more.yaml").unlink()
            await until(lambda: table(one) == both)
            session = next(iter(one._speaker.peers.values())).session
            assert session.flaps == 0

    asyncio.run(main())


def test_a_bad_file_leaves_everything_as_it_was(cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    cluster.put("nodes", node(1), node(2))
    cluster.put("blocks", affinity(1, "10.1.1.0/26"))

    async def main() -> None:
        async with cluster.agent(1) as one, cluster.agent(2) as two:
            await until(lambda: table(two) == {"10.1.1.0/26"})
            (cluster.folder / "blocks.yaml").write_text("apiVersion: projectcalico.org/v3\nkind: [Block")
            cluster.put("more", affinity(1, "10.1.1.64/26"))
            await until(lambda: "10.1.1.64/26" in table(two))
            assert table(two) == {"10.1.1.0/26", "10.1.1.64/26"}
            assert any("blocks.yaml:" in problem for problem in one.document()["problems"])

    asyncio.run(main())
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert any("blocks.yaml:2" in str(line.get("problem")) for line in said)


def test_a_datastore_that_goes_away_withdraws_nothing(cluster: Cluster) -> None:
    cluster.put("nodes", node(1), node(2))
    cluster.put("blocks", affinity(1, "10.1.1.0/26"))

    async def main() -> None:
        async with cluster.agent(1) as one, cluster.agent(2) as two:
            await until(lambda: table(two) == {"10.1.1.0/26"})
            away = cluster.folder.with_name("away")
            cluster.folder.rename(away)
            await until(lambda: one.document()["datastore"]["lost_since"] is not None)
            assert table(two) == {"10.1.1.0/26"}
            away.rename(cluster.folder)
            await until(lambda: one.document()["datastore"]["lost_since"] is None)
            cluster.put("more", affinity(1, "10.1.1.64/26"))
            await until(lambda: "10.1.1.64/26" in table(two))
            assert next(iter(one._speaker.peers.values())).session.flaps == 0

    asyncio.run(main())


def test_both_families_over_one_session_where_both_ends_want_it(cluster: Cluster) -> None:
    cluster.put("nodes", *(node(number, ipv6=True) for number in (1, 2, 3)))
    cluster.put("blocks", affinity(1, "10.1.1.0/26"), affinity(1, "fd00:1::40/122"))

    async def main() -> None:
        async with (
            cluster.agent(1, both_families=True) as one,
            cluster.agent(2, both_families=True) as two,
            cluster.agent(3) as three,
        ):
            await until(lambda: table(two, Family.IPV6) == {"fd00:1::40/122"})
            path = two._speaker.ribs[Family.IPV6].best(next(iter(two._speaker.ribs[Family.IPV6].routes)))
            assert path is not None
            assert path.source.name == "Mesh_127_0_7_1"
            assert path.attributes.next_hop == socket.inet_pton(socket.AF_INET6, "fd00:7::1")
            await until(lambda: table(three) == {"10.1.1.0/26"})
            session = one._speaker.peers["Mesh_127_0_7_3"].session
            assert session.negotiated is not None
            assert session.negotiated.families == {Family.IPV4}

    asyncio.run(main())


def test_a_node_without_a_record_waits_for_it(cluster: Cluster) -> None:
    cluster.put("nodes", node(2))
    cluster.put("blocks", affinity(1, "10.1.1.0/26"))

    async def main() -> None:
        async with cluster.agent(1) as one, cluster.agent(2) as two:
            await until(lambda: one.document()["datastore"]["synced"])
            assert one.document()["listening"] == []
            cluster.put("nodes", node(1), node(2))
            await until(lambda: table(two) == {"10.1.1.0/26"})

    asyncio.run(main())


def test_a_reflector_takes_its_clients_from_the_records(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each node whose BGPPeer names the reflector's address, and no other."""
    monkeypatch.setattr(handover, "LEAST_TIME", 0.1)
    monkeypatch.setattr(handover, "MOST_TIME", 0.2)
    address = IPv4Address("127.0.7.254")
    without_mesh = {"asNumber": 64512, "listenPort": cluster.port, "nodeToNodeMeshEnabled": False}
    cluster.put("configuration", {**CONFIGURATION, "spec": {**without_mesh, "bindMode": "NodeIP"}}, *POOLS)
    cluster.put("nodes", *(node(number) for number in (1, 2, 3)))
    cluster.put("blocks", *(affinity(number, f"10.1.{number}.0/26") for number in (1, 2, 3)))
    peer = {
        "apiVersion": "projectcalico.org/v3",
        "kind": "BGPPeer",
        "metadata": {"name": "reflector"},
        "spec": {"nodeSelector": "all()", "peerIP": f"{address}:{cluster.port}", "asNumber": 64512},
    }
    cluster.put("peers", peer)
    identity = SpeakerConfig(address.packed, 64512, address.packed, (Endpoint(address, cluster.port),))
    options = AgentOptions(
        Options(node="rr", router_id=address, reflector_address=address, reflector_as=64512),
        identity=identity,
    )

    async def main() -> None:
        async with cluster.run(options) as reflector, cluster.agent(1) as one, cluster.agent(2) as two:
            await until(lambda: table(one) == table(two) == {"10.1.1.0/26", "10.1.2.0/26"})
            path = two._speaker.ribs[Family.IPV4].best(b"\x1a\x0a\x01\x01\x00")
            assert path is not None
            assert path.attributes.cluster_list == (address.packed,)
            async with cluster.agent(3):
                await until(lambda: "10.1.3.0/26" in table(one))
            cluster.put("peers", {**peer, "spec": {**peer["spec"], "nodeSelector": "has(nothing)"}})  # type: ignore[dict-item]
            await until(lambda: not reflector._speaker.peers and table(one) == {"10.1.1.0/26"})

    asyncio.run(main())


def test_the_status_file_says_what_is_so(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> None:
    cluster.put("nodes", node(1), node(2))
    cluster.put("blocks", affinity(1, "10.1.1.0/26"), affinity(2, "10.1.2.0/26"))
    path = tmp_path_factory.mktemp("status") / "status.json"

    async def main() -> None:
        async with cluster.agent(1, status_file=path), cluster.agent(2):

            def up() -> bool:
                if not path.exists():
                    return False
                sessions = json.loads(path.read_text())["sessions"]
                return [(one["state"], one["received"]) for one in sessions] == [("established", {"ipv4": 1})]

            await until(up)
            document = json.loads(path.read_text())
            assert document["router_id"] == "127.0.7.1"
            assert document["announced"] == {"ipv4": ["10.1.1.0/26"], "ipv6": []}
            assert document["originated"][0]["record"] == "BlockAffinity node1-10-1-1-0-26"
            assert document["sessions"][0]["name"] == "Mesh_127_0_7_2"

    asyncio.run(main())


def test_stop_takes_less_than_a_second_of_the_loop(cluster: Cluster) -> None:
    """SIGTERM must be answered within a second, whatever the peers do: nothing is waited for."""
    cluster.put("nodes", node(1), node(2))

    async def main() -> None:
        stop = asyncio.Event()
        options = AgentOptions(compiler=Options(node="node1"), use_kernel=False, log_level="warning")
        agent = Agent(options, open_datastore(f"file:{cluster.folder}"))
        task = asyncio.create_task(agent.run(stop))
        await until(lambda: bool(agent._speaker.peers))
        stop.set()
        async with asyncio.timeout(1):
            await task

    asyncio.run(main())

"""CalicoNodeStatus: what is told, when it is written, and into which datastores."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from datetime import datetime
from ipaddress import ip_network
from pathlib import Path
from typing import Any, cast

import jsonschema
import pytest

from benchmarks.reflector.processes import free_port
from routed.agent import Agent
from routed.agent_options import AgentOptions
from routed.bgp.attributes import originate
from routed.bgp.nlri import Family, from_network
from routed.bgp.path import Router as PathRouter
from routed.bgp.path import Source, SourceKind
from routed.datastore import Datastore, StatusWriter, open_datastore, status_writer
from routed.datastore.kubernetes import open_kubernetes
from routed.datastore.retry import UnavailableError
from routed.intent.options import Options
from routed.observe import node_status, node_status_document
from routed.observe.node_status import NodeStatusReporter
from routed.observe.observed import Observed
from routed.observe.status_requests import StatusRequests
from routed.resources import CalicoNodeStatus, Key, NodeStatusClass
from tests import virtual
from tests.agents import running
from tests.bgp.test_speaker import Router
from tests.datastore import etcd_server, kube_apiserver
from tests.datastore.apiserver import CALICO_V3, CRD_V1, APIServer, write_kubeconfig
from tests.datastore.apiserver_api import Request
from tests.datastore.apiserver_storage import calico as calico_types
from tests.datastore.etcd_server import EtcdServer
from tests.datastore.kube_apiserver import KubeAPIServer
from tests.datastore.kubernetes_cluster import calico, node
from tests.observe.calico_node_status import STATUS, strict
from tests.observe.views.scene import observed
from tests.virtual import Wire
from tests.waiting import until

ALL = ("Agent", "BGP", "Routes")
VALIDATOR = jsonschema.Draft202012Validator(strict())
Document = dict[str, Any]


def check(status: Document) -> None:
    """The status is one that Calico's schema takes as it is; its times are times."""
    VALIDATOR.validate(status)
    times = [status["lastUpdated"]]
    times += [one["lastBootTime"] for one in status.get("agent", {}).values()]
    bgp = status.get("bgp", {})
    times += [one["since"] for name in ("peersV4", "peersV6") for one in bgp.get(name, ())]
    assert all(datetime.fromisoformat(one).utcoffset() is not None for one in times)


# Whole agents, with their records in an API server


def records(port: int) -> list[Document]:
    """Two nodes in a mesh; the second has a block."""
    return [
        node("node1", "127.0.9.1/24"),
        node("node2", "127.0.9.2/24"),
        calico("BGPConfiguration", "default", asNumber=64512, listenPort=port, bindMode="NodeIP"),
        calico("IPPool", "pool", cidr="10.1.0.0/16", ipipMode="Never", vxlanMode="Never"),
        calico(
            "BlockAffinity",
            "node2-10-1-2-0-26",
            cidr="10.1.2.0/26",
            node="node2",
            state="confirmed",
            deleted="false",
        ),
        calico(
            "BGPPeer", "nobody", peerIP="127.0.9.77", asNumber=64999, node="node1", description="is not there"
        ),
    ]


def request(name: str, of: str = "node1", classes: tuple[str, ...] = ALL, period: int | None = 1) -> Document:
    return calico("CalicoNodeStatus", name, node=of, classes=list(classes), updatePeriodSeconds=period)


@asynccontextmanager
async def agents(open_store: Callable[[str], Datastore], *nodes: str) -> AsyncIterator[None]:
    """Agents at work, each with its own view of the records."""
    async with AsyncExitStack() as running:
        for name in nodes:
            await running.enter_async_context(agent(name, open_store(name)))
        yield


def agent(name: str, datastore: Datastore) -> AbstractAsyncContextManager[Agent]:
    return running(AgentOptions(Options(node=name), use_kernel=False, log_level="warning"), datastore)


def status_of(server: APIServer, name: str) -> Document:
    found = server.storage.get(server.type("CalicoNodeStatus"), ("", name))
    status: Document = (found or {}).get("status", {})
    return status


def puts(server: APIServer) -> list[Request]:
    return [one for one in server.requests if one.method == "PUT"]


@pytest.mark.parametrize(
    ("group", "own_place"), [(CRD_V1, False), (CALICO_V3, True)], ids=["crd", "aggregated"]
)
def test_agents_fill_in_what_is_asked_of_their_node(tmp_path: Path, group: str, own_place: bool) -> None:
    async def main() -> None:
        places = frozenset({"CalicoNodeStatus"}) if own_place else frozenset[str]()
        async with APIServer(groups=[group], status_places=places) as server:
            server.put(*records(free_port("127.0.9.1")), request("all"), request("bgp", classes=("BGP",)))
            server.put(request("second", of="node2"), request("off", period=0), request("elsewhere", of="x"))
            before = {name: spec_of(server, name) for name in ("all", "bgp", "second")}
            kubeconfig = write_kubeconfig(tmp_path / "config", server.url)
            async with agents(lambda name: open_kubernetes(str(kubeconfig), {}, name), "node1", "node2"):
                await until(
                    lambda: (
                        status_of(server, "all").get("bgp", {}).get("numberEstablishedV4") == 1
                        and len(status_of(server, "all")["routes"]["routesV4"]) == 1
                        and status_of(server, "second").get("bgp", {}).get("numberEstablishedV4") == 1
                        and status_of(server, "second")["agent"]["birdV4"]["state"] == "Ready"
                        and "bgp" in status_of(server, "bgp")
                    )
                )
                status = status_of(server, "all")
                check(status)
                assert status["routes"]["routesV4"] == [
                    {
                        "type": "FIB",
                        "destination": "10.1.2.0/26",
                        "gateway": "127.0.9.2",
                        "learnedFrom": {"sourceType": "NodeMesh", "peerIP": "127.0.9.2"},
                    }
                ]
                mesh, nobody = status["bgp"]["peersV4"]
                assert (mesh["peerIP"], mesh["type"], mesh["state"]) == (
                    "127.0.9.2",
                    "NodeMesh",
                    "Established",
                )
                assert (nobody["peerIP"], nobody["type"]) == ("127.0.9.77", "NodePeer")
                assert nobody["state"] in ("Idle", "Connect", "Active")
                assert status["bgp"]["numberNotEstablishedV4"] == 1
                assert status["agent"]["birdV4"]["routerID"] == "127.0.9.1"
                # It waits yet for the one who does not come.
                assert status["agent"]["birdV4"]["state"] == "NotReady"
                assert status_of(server, "second")["routes"]["routesV4"][0]["learnedFrom"] == {
                    "sourceType": "Static"
                }
                assert status_of(server, "bgp").keys() == {"lastUpdated", "bgp"}
                assert status_of(server, "off") == status_of(server, "elsewhere") == {}
                # Deleted, it is not asked for any more, and is not made anew.
                server.delete("CalicoNodeStatus", "all")
                await asyncio.sleep(0)
                count = len(puts(server))
                await until(lambda: len(puts(server)) >= count + 3)
                assert server.storage.get(server.type("CalicoNodeStatus"), ("", "all")) is None
            assert {one.path.endswith("/status") for one in puts(server)} == {own_place}
            for name in ("bgp", "second"):
                assert spec_of(server, name) == before[name]

    asyncio.run(main())


def spec_of(server: APIServer, name: str) -> object:
    found = server.storage.get(server.type("CalicoNodeStatus"), ("", name))
    assert found is not None
    return found["spec"], found["metadata"]["uid"]


def test_an_api_that_is_away_is_written_to_when_it_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node_status, "RETRY_TIME", 0.2)

    async def main() -> None:
        async with APIServer() as server:
            server.put(*records(free_port("127.0.9.1")), request("all"))
            kubeconfig = write_kubeconfig(tmp_path / "config", server.url)
            async with agents(lambda name: open_kubernetes(str(kubeconfig), {}, name), "node1"):
                await until(lambda: "agent" in status_of(server, "all"))
                await server.stop()
                await asyncio.sleep(1.2)  # a period and more in which nothing can be written
                written = status_of(server, "all")["lastUpdated"]
                server.requests.clear()
                await server.start()
                await until(lambda: status_of(server, "all")["lastUpdated"] != written)
                # Nothing had piled up.
                assert len(puts(server)) == 1

    asyncio.run(main())


# Writers


def test_a_conflict_is_settled_by_reading_anew(tmp_path: Path) -> None:
    async def main() -> None:
        async with APIServer() as server:
            server.put(request("s"))
            datastore = open_kubernetes(str(write_kubeconfig(tmp_path / "c", server.url)), {}, "node1")
            key = Key("CalicoNodeStatus", "s")
            server.fail(409, "Conflict", match="caliconodestatuses/s?", times=1)
            for number in range(3):  # the first request of the three that match is refused
                assert await datastore.write_status(key, {"lastUpdated": f"2026-01-01T00:00:0{number}Z"})
            assert status_of(server, "s") == {"lastUpdated": "2026-01-01T00:00:02Z"}
            # Written by somebody else between our GET and our PUT, as the version tells:
            writer = datastore._writer
            assert writer is not None
            assert writer._caller is not None
            get = writer._caller.get
            count = len(puts(server))

            async def interfere(path: str, *arguments: Any) -> bytes:
                body = await get(path, *arguments)
                if len(puts(server)) == count:
                    server.put({**request("s", period=77), "status": status_of(server, "s")})
                return body

            writer._caller.get = interfere  # type: ignore[assignment, method-assign]
            assert await datastore.write_status(key, {"lastUpdated": "2026-01-01T00:00:09Z"})
            assert len(puts(server)) == count + 2
            found = server.storage.get(server.type("CalicoNodeStatus"), ("", "s"))
            assert found is not None
            assert found["spec"]["updatePeriodSeconds"] == 77
            assert found["status"] == {"lastUpdated": "2026-01-01T00:00:09Z"}
            await datastore.close()

    asyncio.run(main())


def test_what_cannot_be_written_is_told_and_tried_anew(tmp_path: Path) -> None:
    async def main() -> None:
        async with APIServer() as server:
            kubeconfig = write_kubeconfig(tmp_path / "config", server.url)
            datastore = open_kubernetes(str(kubeconfig), {}, "node1")
            key = Key("CalicoNodeStatus", "s")
            assert not await datastore.write_status(key, {})  # there is none
            server.put(request("s"))
            server.authorize = lambda _user, verb, _target: verb != "update"
            with pytest.raises(UnavailableError, match=r"PUT .*/s: 403 Forbidden"):
                await datastore.write_status(key, {})
            server.authorize = lambda _user, _verb, _target: True
            server.fail(409, "Conflict", match="caliconodestatuses/s?", times=1000)
            with pytest.raises(UnavailableError, match="409"):
                await datastore.write_status(key, {})
            server.faults.clear()
            assert await datastore.write_status(key, {"agent": {}})
            assert server.watchers == 0
            await server.stop()
            with pytest.raises(UnavailableError, match="refused"):
                await datastore.write_status(key, {})
            await server.start()
            assert await datastore.write_status(key, {"agent": {}})
            await datastore.close()
        async with APIServer(groups=[]) as empty:
            kubeconfig = write_kubeconfig(tmp_path / "config", empty.url)
            datastore = open_kubernetes(str(kubeconfig), {}, "node1")
            with pytest.raises(UnavailableError, match="caliconodestatuses is served in none of"):
                await datastore.write_status(key, {})
            await datastore.close()

    asyncio.run(main())


def test_only_one_who_speaks_for_a_node_reads_the_records(tmp_path: Path) -> None:
    """A relay's readers cannot answer them."""

    async def main() -> None:
        for name, read in (("node1", True), (None, False)):
            async with APIServer() as server:
                server.put(*records(179), request("s"))
                datastore = open_kubernetes(str(write_kubeconfig(tmp_path / "c", server.url)), {}, name)
                async for _ in datastore.watch():
                    break
                asked = any("caliconodestatuses" in one.path for one in server.requests)
                assert asked is read
                await datastore.close()

    asyncio.run(main())


@pytest.fixture(scope="module")
def kube(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[KubeAPIServer]:
    if reason := kube_apiserver.unavailable():
        if request.config.getoption("--require-all"):
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    server = KubeAPIServer(tmp_path_factory.mktemp("kube-apiserver"))
    try:
        server.start()
        yield server
    finally:
        server.close()


@pytest.mark.parametrize("own_place", [False, True])
def test_a_real_api_server_keeps_every_field(tmp_path: Path, kube: KubeAPIServer, own_place: bool) -> None:
    """With Calico's schema, which drops what it does not know."""
    scene = full_status()

    async def main() -> None:
        types = [one for one in calico_types(CRD_V1) if one.kind != "CalicoNodeStatus"]
        await kube.define(types)
        (kind,) = [one for one in calico_types(CRD_V1) if one.kind == "CalicoNodeStatus"]
        await kube.define([kind], STATUS, own_place)
        await kube.clear()
        await kube.apply([{**one, "apiVersion": one.get("apiVersion", CRD_V1)} for one in records(179)[1:]])
        kubeconfig = kube.kubeconfig(tmp_path / "config")
        datastore = open_kubernetes(str(kubeconfig), {}, "node2")
        await kube.apply([request("s", of="node2")])
        key = Key("CalicoNodeStatus", "s")
        assert await datastore.write_status(key, scene)
        assert (await kube.get("CalicoNodeStatus", "s"))["status"] == scene
        assert (await kube.get("CalicoNodeStatus", "s"))["spec"]["node"] == "node2"
        # The period is the users' field, and stays theirs.
        await kube.apply([request("s", of="node2", period=5)])
        assert await datastore.write_status(key, scene | {"lastUpdated": "2026-11-20T07:00:00Z"})
        document = await kube.get("CalicoNodeStatus", "s")
        assert document["spec"]["updatePeriodSeconds"] == 5
        assert document["status"]["lastUpdated"] == "2026-11-20T07:00:00Z"
        await kube.delete([("CalicoNodeStatus", "", "s")])
        assert not await datastore.write_status(key, scene)
        await datastore.close()

    asyncio.run(main())


def test_etcd_takes_a_status_and_keeps_the_rest(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    if reason := etcd_server.unavailable():
        if request.config.getoption("--require-all"):
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    path = "/calico/resources/v3/projectcalico.org/caliconodestatuses/s"

    async def main() -> None:
        async with EtcdServer(tmp_path / "etcd") as server:
            datastore = open_datastore(f"etcd://127.0.0.1:{server.port}", {})
            writer = status_writer(datastore)
            assert writer is not None
            key = Key("CalicoNodeStatus", "s")
            assert not await writer.write_status(key, {"agent": {}})
            document = {**calico("CalicoNodeStatus", "s", node="n"), "apiVersion": "projectcalico.org/v3"}
            await server.put([(path, json.dumps(document).encode())])
            assert await writer.write_status(key, {"agent": {}})
            value = await value_of(server, path)
            assert json.loads(value) == {**document, "status": {"agent": {}}}
            # Many at once: each one's change is whole, none undoes another's.
            async with asyncio.TaskGroup() as group:
                for number in range(3):
                    group.create_task(writer.write_status(key, {"lastUpdated": str(number)}))
            assert json.loads(await value_of(server, path))["status"]["lastUpdated"] in "012"
            await server.put([(path, b"[]")])
            with pytest.raises(UnavailableError, match="no object"):
                await writer.write_status(key, {})
            await server.stop()
            with pytest.raises(UnavailableError, match="refused"):
                await writer.write_status(key, {})

    asyncio.run(main())


async def value_of(server: EtcdServer, key: str) -> bytes:
    from routed.datastore import etcd_wire as wire

    answer = await server.call(wire.RANGE, wire.range_request(key.encode(), b""))
    (found,) = wire.RangeResponse.read(answer).kvs
    return found.value


# When: on virtual time


class Writes:
    """A datastore that takes statuses."""

    def __init__(self) -> None:
        self.at: list[tuple[float, str]] = []
        self.fails: Exception | None = None
        self.there = True
        self.hangs = False

    async def write_status(self, key: Key, status: Mapping[str, object]) -> bool:
        """See `StatusWriter`."""
        self.at.append((round(asyncio.get_running_loop().time(), 3), key.name))
        check(dict(status))
        if self.hangs:
            await asyncio.Event().wait()
        if self.fails is not None:
            raise self.fails
        return self.there


def record(name: str = "s", of: str = "n", period: int | None = 10, *classes: NodeStatusClass) -> Any:
    return CalicoNodeStatus(
        name=name, node=of, classes=classes or tuple(NodeStatusClass), update_period_seconds=period
    )


@asynccontextmanager
async def reporting(
    wire: Wire, writer: StatusWriter
) -> AsyncIterator[tuple[StatusRequests, NodeStatusReporter]]:
    requests = StatusRequests("n", answered=True)
    reporter = NodeStatusReporter(observed(Router(wire, 1)), requests, writer)
    await reporter.start()
    try:
        yield requests, reporter
    finally:
        await reporter.close()


@virtual.virtual
async def test_each_record_is_written_at_once_and_then_at_its_period(wire: Wire) -> None:
    writes = Writes()
    async with reporting(wire, writes) as (requests, _):
        await asyncio.sleep(5)
        assert writes.at == []
        requests.take([record("a", period=10), record("other", of="m"), record("never", period=0)], ())
        await asyncio.sleep(2)
        requests.take([record("b", period=None)], ())
        await asyncio.sleep(22)
    assert writes.at == [
        (5.0, "a"),
        (7.0, "b"),  # and then each 10 seconds, Calico's default
        (15.0, "a"),
        (17.0, "b"),
        (25.0, "a"),
        (27.0, "b"),
    ]


@virtual.virtual
async def test_changes_of_the_records_are_honoured(wire: Wire) -> None:
    writes = Writes()
    async with reporting(wire, writes) as (requests, _):
        requests.take([record(period=86400)], ())
        await asyncio.sleep(100)
        requests.take([record(period=60)], ())  # the last write was 100 seconds ago
        await asyncio.sleep(1)
        requests.take([record("s", "n", 60, NodeStatusClass.AGENT)], ())  # other classes
        await asyncio.sleep(1)
        assert [at for at, _ in writes.at] == [0.0, 100.0, 101.0]
        requests.take([record(period=0)], ())
        await asyncio.sleep(1000)
        requests.take([record(period=60)], ())
        await asyncio.sleep(1)
        requests.take((), [Key("CalicoNodeStatus", "s"), Key("Node", "s")])
        await asyncio.sleep(1000)
        requests.take([record(period=60)], ())
        await asyncio.sleep(1)
        requests.take([record(of="m", period=60)], ())  # it is another node's now
        await asyncio.sleep(1000)
    assert [at for at, _ in writes.at] == [0.0, 100.0, 101.0, 1102.0, 2103.0]


@virtual.virtual
async def test_a_failure_is_tried_again_later_and_nothing_piles_up(wire: Wire) -> None:
    writes = Writes()
    async with reporting(wire, writes) as (requests, _):
        writes.fails = UnavailableError("no", retry_after=None)
        requests.take([record("day", period=86400), record("second", period=1)], ())
        await asyncio.sleep(119)
        # 30 to 45 seconds, and 1 to 1.5.
        assert 3 <= sum(name == "day" for _, name in writes.at) <= 4
        assert 79 <= sum(name == "second" for _, name in writes.at) <= 120
        writes.fails = None
        await asyncio.sleep(50)
        writes.at.clear()
        await asyncio.sleep(100)
        assert {name for _, name in writes.at} == {"second"}
        assert len(writes.at) == 100
        # A server that asks to be left alone is.
        writes.fails = UnavailableError("no", retry_after=300.0)
        await asyncio.sleep(2)
        writes.at.clear()
        await asyncio.sleep(290)
        assert writes.at == []


@virtual.virtual
async def test_a_write_that_hangs_is_given_up_and_does_not_delay_the_stop(wire: Wire) -> None:
    writes = Writes()
    writes.hangs = True
    async with reporting(wire, writes) as (requests, _):
        requests.take([record(period=10)], ())
        await asyncio.sleep(75)
        assert writes.at[0][0] == 0.0
        assert 70.0 <= writes.at[1][0] <= 75.0


@virtual.virtual
async def test_a_record_that_is_gone_is_not_asked_for_in_a_loop(wire: Wire) -> None:
    writes = Writes()
    writes.there = False
    async with reporting(wire, writes) as (requests, _):
        requests.take([record(period=1)], ())
        await asyncio.sleep(100)
    assert len(writes.at) == 4


def test_a_datastore_that_takes_no_status_is_told_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from routed import log

    assert status_writer(open_datastore(f"file:{tmp_path}")) is None
    log.configure("debug", "json")

    requests = StatusRequests("n", answered=False)
    requests.take([record(of="m")], ())
    assert capsys.readouterr().out == ""
    requests.take([record()], ())
    requests.take([record(), record("b")], ())
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["event"] for line in told if line.get("room") == "node-status"] == [
        "this datastore takes no status: CalicoNodeStatus stays as it is"
    ]


# What


def scene_of(wire: Wire) -> Observed:
    """A speaker that three peers told of one prefix, two of them with equal paths."""
    router = Router(wire, 1)
    scene = observed(router)
    addresses = PathRouter(router_id=bytes(4))
    for number, local_pref in ((2, None), (3, None), (4, 50)):
        source = Source(
            f"Global_10_0_0_{number}",
            SourceKind.EBGP,
            addresses,
            address=bytes((10, 0, 0, number)),
            remote_as=64600 + number,
            local_as=64512,
        )
        attributes = originate(next_hop=bytes((10, 0, 0, number)), local_pref=local_pref)
        router.speaker.ribs[Family.IPV4].announce(
            source, attributes, [from_network(ip_network("10.9.0.0/26"))]
        )
    return scene


def full_status() -> Document:
    """A status with something in every field."""
    found: Document = {}

    @virtual.virtual
    async def scenario(wire: Wire) -> None:
        one, other = Router(wire, 1), Router(wire, 2)
        scene = observed(one)
        one.speaker.set_peer(one.peer(other))
        other.speaker.set_peer(other.peer(one))
        one.speaker.start()
        other.speaker.start()
        for prefix, kind in (
            ("10.1.2.0/26", SourceKind.STATIC),
            ("10.1.3.0/24", SourceKind.DIRECT),
            ("10.1.4.1/32", SourceKind.KERNEL),
            ("10.1.5.1/32", SourceKind.ALLOCATED),
        ):
            one.speaker.originate(Family.IPV4, from_network(ip_network(prefix)), kind)
        other.speaker.originate(Family.IPV4, from_network(ip_network("10.2.0.0/26")), SourceKind.STATIC)
        await virtual.until(lambda: len(one.speaker.ribs[Family.IPV4].routes) == 5)
        found.update(await node_status_document.node_status(scene, tuple(NodeStatusClass)))

    scenario()
    return found


def test_every_kind_of_route_and_peer_is_told() -> None:
    status = full_status()
    check(status)
    routes = {one["destination"]: one for one in status["routes"]["routesV4"]}
    assert {destination: one["learnedFrom"] for destination, one in routes.items()} == {
        "10.1.2.0/26": {"sourceType": "Static"},
        "10.1.3.0/24": {"sourceType": "Direct"},
        "10.1.4.1/32": {"sourceType": "Kernel"},
        "10.1.5.1/32": {"sourceType": "Static"},
        "10.2.0.0/26": {"sourceType": "BGPPeer", "peerIP": "10.0.0.2"},
    }
    assert routes["10.2.0.0/26"]["gateway"] == "10.0.0.2"
    assert "gateway" not in routes["10.1.2.0/26"]
    (peer,) = status["bgp"]["peersV4"]
    assert (peer["peerIP"], peer["state"]) == ("10.0.0.2", "Established")
    assert status["bgp"]["peersV6"] == []
    assert status["agent"]["birdV6"] == status["agent"]["birdV4"]


@virtual.virtual
async def test_a_path_that_is_not_used_is_in_the_rib_alone(wire: Wire) -> None:
    scene = scene_of(wire)
    status = await node_status_document.node_status(scene, (NodeStatusClass.ROUTES,))
    check(status)
    assert status.keys() == {"lastUpdated", "routes"}
    told = [(one["type"], one["learnedFrom"]["peerIP"]) for one in status["routes"]["routesV4"]]
    assert told == [("FIB", "10.0.0.2"), ("FIB", "10.0.0.3"), ("RIB", "10.0.0.4")]


@virtual.virtual
async def test_a_large_table_is_cut_and_that_is_told_once(wire: Wire) -> None:
    router = Router(wire, 1)
    scene = observed(router)
    source = Source(
        "p", SourceKind.IBGP, PathRouter(router_id=bytes(4)), address=bytes((10, 0, 0, 2)), local_as=64512
    )
    nlri = [from_network(ip_network((0x0B000000 + number * 64, 26))) for number in range(100_000)]
    router.speaker.ribs[Family.IPV4].announce(source, originate(next_hop=bytes((10, 0, 0, 2))), nlri)
    writes, requests = Writes(), StatusRequests("n", answered=True)
    reporter = NodeStatusReporter(scene, requests, writes)
    warnings: list[str] = []
    reporter._log = cast(
        Any, type("Log", (), {"warning": lambda _self, text, **_fields: warnings.append(text)})()
    )
    await reporter.start()
    requests.take([record(period=10)], ())
    await asyncio.sleep(25)
    await reporter.close()
    assert len(writes.at) == 3
    assert warnings == ["node status holds a part of the routes: `routed routes` shows all"]
    status = await node_status_document.node_status(scene, tuple(NodeStatusClass))
    assert len(status["routes"]["routesV4"]) == node_status_document.MOST_ROUTES
    # etcd takes 1.5 MB in one request; both families can be full.
    assert len(json.dumps(status)) < 700_000

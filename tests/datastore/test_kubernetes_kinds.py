"""Which resources are read, from which group, and what of an object is kept."""

from __future__ import annotations

import asyncio
import copy
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routed.datastore import Changes, Lost, Restored, Snapshot
from routed.datastore.kubernetes import open_kubernetes, reflector, scope_from_environ, session
from routed.datastore.kubernetes.kinds import CALICO_V3, CRD_V1, SERVICES, Scope, standing_resources
from routed.datastore.kubernetes.reduce import reduce_block, reduce_endpoints
from routed.ipam_blocks import node_blocks
from routed.resources import BlockAffinity, EndpointSlice, IPAMBlock, IPPool, Key, Node, Secret, parse_record
from tests.datastore.apiserver import APIServer, write_kubeconfig
from tests.datastore.kubernetes_cluster import (
    calico,
    cluster,
    configuration,
    endpoints,
    lists_of,
    node,
    peer,
    secret,
    service,
    watches_of,
)
from tests.datastore.watching import Watched, following
from tests.waiting import until

RANGES = {"serviceClusterIPs": [{"cidr": "10.96.0.0/16"}]}
PASSWORD = {"secretKeyRef": {"name": "bgp-secrets", "key": "rack-1"}}


@pytest.fixture(autouse=True)
def short_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reflector, "LEAST_WATCH", 0.01)
    monkeypatch.setattr(session, "REDISCOVER_SOON", 0.05)


def groups_asked(server: APIServer) -> set[str]:
    """The groups that BGPPeers were listed in."""
    return {"/".join(request.path.split("/")[2:4]) for request in lists_of(server, "bgppeers")}


# Groups


@pytest.mark.parametrize(
    ("served", "wanted", "asked"),
    [
        ([CRD_V1], None, CRD_V1),
        ([CALICO_V3], None, CALICO_V3),
        ([CALICO_V3, CRD_V1], None, CRD_V1),
        ([CALICO_V3, CRD_V1], CALICO_V3, CALICO_V3),
    ],
)
def test_the_group_is_the_one_that_is_served_or_wanted(
    tmp_path: Path, served: list[str], wanted: str | None, asked: str
) -> None:
    environ = {"CALICO_API_GROUP": wanted} if wanted else {}

    async def scenario() -> None:
        def prepare(server: APIServer) -> None:
            for group in served:
                server.storage.put(server.type("BGPPeer", group), peer("a"))

        async with cluster(tmp_path, prepare=prepare, groups=served, environ=environ) as (server, watch):
            snapshot = await watch.expect(Snapshot)
            assert [record.name for record in snapshot.upserts] == ["a"]
            assert groups_asked(server) == {asked}

    asyncio.run(scenario())


def test_a_cluster_without_calicos_kinds_is_waited_for(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with cluster(tmp_path, node("n"), groups=[]) as (server, watch):
            lost = await watch.expect(Lost)
            assert "are Calico's CRDs applied?" in lost.reason
            server.serve(CRD_V1)
            server.put(peer("a"))
            await watch.until(lambda: watch.names == {"a", "n"})
            assert [type(event) for event in watch.seen][-2:] == [Restored, Snapshot]

    asyncio.run(scenario())


def test_kinds_that_move_to_another_group_are_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "REDISCOVER", 0.1)

    async def scenario() -> None:
        async with cluster(tmp_path, peer("a"), peer("b"), groups=[CALICO_V3]) as (server, watch):
            await watch.expect(Snapshot)
            server.serve(CRD_V1)
            for name in ("a", "c"):
                server.storage.put(server.type("BGPPeer", CRD_V1), peer(name))
            await watch.until(lambda: watch.names == {"a", "c"})
            # One by one, as the groups are asked: what is in both was never withdrawn.
            assert watch.withdrawn() == {"b"}

    asyncio.run(scenario())


@pytest.mark.parametrize("missing", ["BGPFilter", "IPAMBlock"])
def test_kinds_that_older_clusters_lack_are_done_without(tmp_path: Path, missing: str) -> None:
    async def scenario() -> None:
        def prepare(server: APIServer) -> None:
            server.types.remove(server.type(missing))

        async with cluster(tmp_path, peer("a"), prepare=prepare) as (server, watch):
            snapshot = await watch.expect(Snapshot)
            assert watch.names == {"a"}
            (problem,) = snapshot.problems
            assert problem.severity == "warning"
            assert "is served in none of" in problem.reason
            server.put(peer("b"))
            await watch.until(lambda: "b" in watch.names)

    asyncio.run(scenario())


def test_a_kind_that_is_gone_keeps_what_it_had(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with cluster(tmp_path, peer("a"), node("n")) as (server, watch):
            await watch.expect(Snapshot)
            peers = server.type("BGPPeer")
            server.types.remove(peers)
            server.cut()
            await watch.until(lambda: bool(watch.last.problems))
            server.put(node("m"))
            await watch.until(lambda: watch.names == {"a", "n", "m"})
            server.types.append(peers)
            server.put(peer("b"))
            await watch.until(lambda: "b" in watch.names and not watch.last.problems)
            assert not watch.withdrawn()

    asyncio.run(scenario())


# Services


def test_services_are_read_only_where_a_range_is_configured(tmp_path: Path) -> None:
    async def scenario() -> None:
        documents = [service("web"), endpoints("web", "n"), configuration()]
        async with cluster(tmp_path, *documents) as (server, watch):
            await watch.expect(Snapshot)
            assert watch.names == {"default"}
            assert not lists_of(server, "services") + lists_of(server, "endpointslices")
            server.put(configuration(**RANGES))
            await watch.until(lambda: watch.names == {"default", "default/web", "default/web-1"})
            server.put(configuration())
            await watch.until(lambda: watch.names == {"default"})
            await until(lambda: server.watchers == 7)
            server.put(configuration(**RANGES))
            await watch.until(lambda: watch.names == {"default", "default/web", "default/web-1"})
            server.delete("BGPConfiguration", "default")
            await watch.until(lambda: not watch.names)

    asyncio.run(scenario())


def test_the_first_snapshot_has_the_services_and_secrets_that_it_needs(tmp_path: Path) -> None:
    async def scenario() -> None:
        documents = [
            service("web"),
            endpoints("web", "n"),
            configuration(**RANGES),
            peer("a", password=PASSWORD),
            secret("bgp-secrets", **{"rack-1": "x"}),
        ]
        async with cluster(tmp_path, *documents, latency=0.02) as (_, watch):
            snapshot = await watch.expect(Snapshot)
            assert [str(record.key) for record in snapshot.upserts] == [
                "BGPConfiguration default",
                "BGPPeer a",
                "EndpointSlice default/web-1",
                "Secret kube-system/bgp-secrets",
                "Service default/web",
            ]

    asyncio.run(scenario())


def test_services_are_read_where_the_environment_says(tmp_path: Path) -> None:
    async def scenario() -> None:
        environ = {"CALICO_ADVERTISE_CLUSTER_IPS": "10.96.0.0/16"}
        async with cluster(tmp_path, service("web"), environ=environ) as (_, watch):
            await watch.expect(Snapshot)
            assert watch.names == {"default/web"}

    asyncio.run(scenario())


def test_the_server_leaves_out_services_that_cannot_be_announced(tmp_path: Path) -> None:
    async def scenario() -> None:
        documents = [
            configuration(**RANGES),
            service("web"),
            service("headless", "None"),
            service("other", type="ExternalName", externalName="example.org"),
            endpoints("web", "n"),
            endpoints("headless", "n", **{"service.kubernetes.io/headless": ""}),
        ]
        async with cluster(tmp_path, *documents) as (_, watch):
            await watch.expect(Snapshot)
            assert watch.names == {"default", "default/web", "default/web-1"}

    asyncio.run(scenario())


def test_a_server_that_cannot_select_by_fields_sends_them_all(tmp_path: Path) -> None:
    async def scenario() -> None:
        documents = [configuration(**RANGES), service("web"), service("headless", "None")]
        async with cluster(tmp_path, *documents, selectable={}) as (server, watch):
            await watch.expect(Snapshot)
            assert watch.names == {"default", "default/web", "default/headless"}
            server.put(service("more", "10.96.0.11"))
            await watch.until(lambda: "default/more" in watch.names)
            assert watch.last.problems == ()

    asyncio.run(scenario())


# Secrets


def value(watch: Watched, key: str) -> bytes | None:
    """What the Secret has under a key."""
    record = watch.in_force.get(Key("Secret", "kube-system/bgp-secrets"))
    assert record is None or isinstance(record, Secret)
    found = None if record is None else record.data.get(key)
    return None if found is None else found.reveal()


def test_secrets_are_read_by_name_only(tmp_path: Path) -> None:
    async def scenario() -> None:
        documents = [
            peer("a", password=PASSWORD),
            secret("bgp-secrets", **{"rack-1": "first"}),
            secret("other", x="no business of ours"),
            secret("bgp-secrets", "default", **{"rack-1": "nor this one"}),
        ]
        async with cluster(tmp_path, *documents) as (server, watch):
            await watch.expect(Snapshot)
            assert watch.names == {"a", "kube-system/bgp-secrets"}
            assert value(watch, "rack-1") == b"first"
            server.put(secret("bgp-secrets", **{"rack-1": "second"}))
            await watch.until(lambda: value(watch, "rack-1") == b"second")
            server.put(peer("a"))
            await watch.until(lambda: watch.names == {"a"})
            server.put(configuration(nodeMeshPassword=PASSWORD))
            await watch.until(lambda: value(watch, "rack-1") == b"second")
            server.delete("Secret", "bgp-secrets", "kube-system")
            await watch.until(lambda: value(watch, "rack-1") is None)
            asked = [request for request in server.requests if "secrets" in request.path]
            assert {request.path for request in asked} == {"/api/v1/namespaces/kube-system/secrets"}
            assert {request.query["fieldSelector"] for request in asked} == {"metadata.name=bgp-secrets"}
            assert "second" not in repr(watch.seen) + repr(watch.in_force)

    asyncio.run(scenario())


def test_secrets_are_looked_for_in_the_namespace_of_the_environment(tmp_path: Path) -> None:
    async def scenario() -> None:
        documents = [peer("a", password=PASSWORD), secret("bgp-secrets", "calico-system", **{"rack-1": "x"})]
        async with cluster(tmp_path, *documents, environ={"NAMESPACE": "calico-system"}) as (_, watch):
            await watch.expect(Snapshot)
            assert watch.names == {"a", "calico-system/bgp-secrets"}

    asyncio.run(scenario())


def test_a_secret_that_may_not_be_read_is_a_problem_and_the_rest_goes_on(tmp_path: Path) -> None:
    async def scenario() -> None:
        allowed: set[str] = set()
        documents = [peer("a", password=PASSWORD), secret("bgp-secrets", **{"rack-1": "x"})]
        options: dict[str, Any] = {
            "authorize": lambda _user, _verb, target: target.type.kind != "Secret" or target.name in allowed
        }
        async with cluster(tmp_path, *documents, **options) as (server, watch):
            snapshot = await watch.expect(Snapshot)
            assert watch.names == {"a"}
            (problem,) = snapshot.problems
            assert "secrets/kube-system/bgp-secrets cannot be read" in problem.reason
            assert 'cannot list resource "secrets"' in problem.reason
            server.put(peer("b"))
            await watch.until(lambda: "b" in watch.names)
            allowed.add("bgp-secrets")
            await watch.until(lambda: value(watch, "rack-1") == b"x" and not watch.last.problems)

    asyncio.run(scenario())


def test_a_secret_that_is_garbage_shows_nothing_of_itself(tmp_path: Path) -> None:
    async def scenario() -> None:
        garbage = {
            "kind": "Secret",
            "metadata": {"name": "bgp-secrets", "namespace": "kube-system"},
            "data": {"rack-1": "geheim!"},
        }
        async with cluster(tmp_path, peer("a", password=PASSWORD), garbage) as (_, watch):
            snapshot = await watch.expect(Snapshot)
            assert [problem.key for problem in snapshot.problems] == [
                Key("Secret", "kube-system/bgp-secrets")
            ]
            assert "geheim" not in repr(snapshot)

    asyncio.run(scenario())


# What is not allowed


def test_a_needed_kind_that_may_not_be_read_is_waited_for(tmp_path: Path) -> None:
    async def scenario() -> None:
        forbidden = {"nodes"}
        options: dict[str, Any] = {
            "authorize": lambda _user, _verb, target: target.type.plural not in forbidden
        }
        async with cluster(tmp_path, peer("a"), node("n"), **options) as (_, watch):
            lost = await watch.expect(Lost)
            assert 'User "anybody" cannot list resource "nodes"' in lost.reason
            forbidden.clear()
            await watch.until(lambda: watch.names == {"a", "n"})

    asyncio.run(scenario())


def test_a_permission_that_is_taken_away_withdraws_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        forbidden: set[str] = set()
        options: dict[str, Any] = {
            "authorize": lambda _user, _verb, target: target.type.plural not in forbidden
        }
        async with cluster(tmp_path, peer("a"), node("n"), **options) as (server, watch):
            await watch.expect(Snapshot)
            forbidden.add("bgppeers")
            server.cut()
            await watch.until(lambda: bool(watch.last.problems))
            assert "what was read before stays in force" in watch.last.problems[0].reason
            server.put(node("m"), peer("b"))
            await watch.until(lambda: watch.names == {"a", "n", "m"})
            forbidden.clear()
            await watch.until(lambda: watch.names == {"a", "b", "n", "m"} and not watch.last.problems)
            assert not watch.withdrawn()

    asyncio.run(scenario())


# Nodes


def node_record(watch: Watched, name: str) -> Node:
    record = watch.in_force[Key("Node", name)]
    assert isinstance(record, Node)
    return record


def test_pod_cidrs_are_read_only_where_they_are_blocks(tmp_path: Path) -> None:
    async def scenario(environ: dict[str, str], expected: list[str]) -> None:
        document = node("n", podCIDR="10.1.0.0/24")
        async with cluster(tmp_path, document, environ=environ) as (_, watch):
            await watch.expect(Snapshot)
            record = node_record(watch, "n")
            assert [str(cidr) for cidr in record.pod_cidrs] == expected
            assert str(record.ipv4_address) == "10.0.0.1/24"
            assert record.labels == {"kubernetes.io/os": "linux"}

    asyncio.run(scenario({}, []))
    asyncio.run(scenario({"USE_POD_CIDR": "true"}, ["10.1.0.0/24"]))


def test_a_heartbeat_of_a_kubelet_is_told_to_nobody(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with cluster(tmp_path, node("n")) as (server, watch):
            await watch.expect(Snapshot)
            beating = node("n")
            beating["status"] = {
                "conditions": [{"type": "Ready", "lastHeartbeatTime": "2026-11-20T00:00:00Z"}]
            }
            server.put(beating)
            server.put(node("m"))
            changes = await watch.expect(Changes)
            assert [record.name for record in changes.upserts] == ["m"]

    asyncio.run(scenario())


def test_a_bad_annotation_names_the_node_and_leaves_the_last_good_one(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with cluster(tmp_path, node("n")) as (server, watch):
            await watch.expect(Snapshot)
            server.put(node("n", "not an address"))
            changes = await watch.expect(Changes)
            (problem,) = changes.problems
            assert problem.key == Key("Node", "n")
            assert problem.field == "metadata.annotations[projectcalico.org/IPv4Address]"
            assert str(problem).startswith("nodes/n: Node n: ")
            assert str(node_record(watch, "n").ipv4_address) == "10.0.0.1/24"

    asyncio.run(scenario())


# What is kept


def block(name: str, affinity: str | None, nodes: list[str | None], **secondary: str) -> dict[str, Any]:
    """An IPAMBlock of a /29 whose n-th address is allocated on the n-th node, as Calico writes it."""
    attributes = [
        {
            "handle_id": f"k8s-pod-network.{n}",
            "secondary": {
                "node": node_,
                "namespace": "default",
                "pod": f"pod-{n}",
                "timestamp": "x",
                **secondary,
            },
        }
        for n, node_ in enumerate(nodes)
        if node_ is not None
    ]
    places = iter(range(len(attributes)))
    allocations = [None if node_ is None else next(places) for node_ in nodes]
    spec = {
        "cidr": "10.9.0.0/29",
        "affinity": affinity,
        "allocations": allocations + [None] * (8 - len(nodes)),
        "attributes": attributes,
        "unallocated": [n for n, node_ in enumerate(nodes) if node_ is None],
        "strictAffinity": False,
        "deleted": False,
    }
    return calico("IPAMBlock", name, **spec)


def test_a_node_keeps_of_others_allocations_only_whose_they_are(tmp_path: Path) -> None:
    async def scenario() -> None:
        document = block("10-9-0-0-29", "host:n2", ["n2", "n1", "n2", None, "n3", "n3"])
        async with cluster(tmp_path, document, watch_node="n1") as (_, watch):
            await watch.expect(Snapshot)
            (record,) = watch.in_force.values()
            assert isinstance(record, IPAMBlock)
            kept = [dict(attribute.secondary) for attribute in record.attributes]
            assert kept == [
                {"node": "n2"},
                {"node": "n1", "namespace": "default", "pod": "pod-1"},
                {"node": "n3"},
            ]
            assert [attribute.node for _, attribute in record.allocated()] == ["n2", "n1", "n2", "n3", "n3"]

    asyncio.run(scenario())


@given(
    nodes=st.lists(st.sampled_from([None, "n1", "n2", "n3", ""]), max_size=8),
    owner=st.sampled_from([None, "host:n1", "host:n2", "virtual:x"]),
    tunnel=st.booleans(),
)
def test_a_reduced_block_says_the_same_to_its_node(
    nodes: list[str | None], owner: str | None, tunnel: bool
) -> None:
    document = block("b", owner, nodes, **({"type": "ipipTunnelAddress"} if tunnel else {}))
    document["apiVersion"] = CRD_V1
    reduced = copy.deepcopy(document)
    reduce_block(reduced["spec"], "n1")
    whole_record, reduced_record = parse_record(document).record, parse_record(reduced).record
    assert isinstance(whole_record, IPAMBlock)
    assert isinstance(reduced_record, IPAMBlock)
    claim = BlockAffinity(name="c", node="n1", cidr=whole_record.cidr)
    for claims in ([], [claim]):
        assert node_blocks("n1", claims, [reduced_record]) == node_blocks("n1", claims, [whole_record])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 9) | st.sampled_from(["", "n1", "node"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["attributes", "allocations", "secondary", "node", "conditions", "ready", "nodeName"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=15,
)


@given(spec=JSON)
def test_blocks_of_any_shape_are_reduced_without_a_fault(spec: object) -> None:
    """And where the whole of it would be rejected, what is left is rejected too."""
    document = {"apiVersion": CRD_V1, "kind": "IPAMBlock", "metadata": {"name": "b"}}
    whole = parse_record({**document, "spec": copy.deepcopy(spec)})
    reduce_block(spec, "n1")
    reduced = parse_record({**document, "spec": spec})
    assert (whole.record is None) == (reduced.record is None)


@given(
    items=st.lists(st.dictionaries(st.sampled_from(["nodeName", "conditions"]), JSON, max_size=2), max_size=4)
)
def test_endpoints_of_any_shape_are_reduced_without_a_fault(items: list[dict[str, Any]]) -> None:
    document = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "s"},
        "addressType": "IPv4",
    }
    whole = parse_record({**document, "endpoints": items}).record
    reduced = parse_record({**document, "endpoints": reduce_endpoints(items, "n1")}).record
    assert (whole is None) == (reduced is None)
    if isinstance(whole, EndpointSlice) and isinstance(reduced, EndpointSlice):
        assert len(reduced.endpoints) <= max(2, len(whole.endpoints))
        for slice_ in (whole, reduced):
            assert any(e.ready for e in slice_.endpoints) == any(e.ready for e in whole.endpoints)
            here = any(e.ready and e.node_name == "n1" for e in slice_.endpoints)
            assert here == any(e.ready and e.node_name == "n1" for e in whole.endpoints)


def test_an_endpoint_that_moves_between_other_nodes_is_told_to_nobody(tmp_path: Path) -> None:
    async def scenario() -> None:
        documents = [configuration(**RANGES), service("web"), endpoints("web", "n2", "n3")]
        async with cluster(tmp_path, *documents, watch_node="n1") as (server, watch):
            await watch.expect(Snapshot)
            server.put(endpoints("web", "n4", "n5", "n6"))
            server.put(peer("last"))
            changes = await watch.expect(Changes)
            assert [record.name for record in changes.upserts] == ["last"]
            server.put(endpoints("web", "n4", "n1"))
            changes = await watch.expect(Changes)
            (record,) = changes.upserts
            assert isinstance(record, EndpointSlice)
            assert {endpoint.node_name for endpoint in record.endpoints} == {"n1", None}

    asyncio.run(scenario())


def test_fields_that_nobody_reads_are_not_even_parsed() -> None:
    text = json.dumps(
        {
            "metadata": {
                "name": "n",
                "managedFields": [{"x": 1}] * 100,
                "ownerReferences": [{}],
                "resourceVersion": "5",
            },
            "spec": {"podCIDR": "10.0.0.0/24", "taints": [{}]},
            "status": {"images": [{}] * 50},
        }
    )
    resources = {resource.kind: resource for resource in (*standing_resources(Scope()), *SERVICES)}
    item = msgspec.json.decode(text, type=resources["Node"].objects)
    assert "managedFields" not in repr(item)
    assert "images" not in repr(item)
    assert item.read(Scope()) == {"metadata": {"name": "n", "annotations": None}}


def test_only_the_kinds_that_are_wanted_are_read(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with APIServer() as server:
            server.put(peer("a", password=PASSWORD), node("n"), calico("IPPool", "p", cidr="10.0.0.0/8"))
            path = str(write_kubeconfig(tmp_path / "config", server.url))
            kinds = frozenset({"BGPPeer", "Node"})
            async with following(open_kubernetes(path, {}, kinds=kinds)) as watch:
                await watch.expect(Snapshot)
                assert watch.names == {"a", "n"}
                assert not lists_of(server, "ippools") + lists_of(server, "secrets")
                assert len(watches_of(server, "nodes")) == 1

    asyncio.run(scenario())


def test_calico_pools_are_read(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with cluster(tmp_path, calico("IPPool", "p", cidr="10.0.0.0/8")) as (_, watch):
            await watch.expect(Snapshot)
            assert isinstance(watch.in_force[Key("IPPool", "p")], IPPool)

    asyncio.run(scenario())


def test_the_environment_is_calico_nodes() -> None:
    environ = {"CALICO_K8S_NODE_REF": "k8s-n", "NAMESPACE": "x", "USE_POD_CIDR": "true"}
    assert scope_from_environ(environ, "n") == Scope("n", "k8s-n", "x", True, False, None)
    assert scope_from_environ({"CALICO_ADVERTISE_CLUSTER_IPS": ""}) == Scope()
    with pytest.raises(ValueError, match=r"CALICO_API_GROUP='v2': write crd\.projectcalico\.org/v1 or"):
        scope_from_environ({"CALICO_API_GROUP": "v2"})

"""The manifests of deploy/: well formed, of options that there are, and with the rights that are needed."""

from __future__ import annotations

import asyncio
import functools
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from routed.cli import application
from routed.datastore import Snapshot
from routed.datastore.kubernetes import open_kubernetes
from routed.resources import Key
from tests.datastore.apiserver import CALICO_V3, CRD_V1, APIServer, Token, write_kubeconfig
from tests.datastore.apiserver_api import Target
from tests.datastore.kubernetes_cluster import (
    calico,
    cluster,
    configuration,
    endpoints,
    node,
    peer,
    secret,
    service,
)

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
USER = "system:serviceaccount:kube-system:routed"
PASSWORD = {"secretKeyRef": {"name": "bgp-secrets", "key": "k"}}


@functools.cache
def documents() -> list[tuple[Path, dict[str, Any]]]:
    """All manifests but the kustomizations."""
    paths = [path for path in sorted(DEPLOY.rglob("*.yaml")) if path.name != "kustomization.yaml"]
    return [(path, document) for path in paths for document in yaml.safe_load_all(path.read_text())]


def of_kind(*kinds: str) -> list[dict[str, Any]]:
    return [document for _, document in documents() if document["kind"] in kinds]


def workloads() -> list[dict[str, Any]]:
    return of_kind("DaemonSet", "Deployment")


def container(workload: dict[str, Any]) -> dict[str, Any]:
    (only,) = workload["spec"]["template"]["spec"]["containers"]
    assert isinstance(only, dict)
    return only


def test_every_file_is_of_a_kustomization_and_every_kustomization_finds_its_files() -> None:
    named: set[Path] = set()
    for path in DEPLOY.rglob("kustomization.yaml"):
        content = yaml.safe_load(path.read_text())
        assert content["kind"] == ("Component" if path.parent.name == "monitoring" else "Kustomization")
        for resource in content["resources"]:
            target = (path.parent / resource).resolve()
            assert target.exists(), f"{path}: {resource}"
            named.add(target / "kustomization.yaml" if target.is_dir() else target)
    files = set(DEPLOY.rglob("*.yaml"))
    # The base itself, and what is added to it by choice.
    by_choice = {DEPLOY / "reflector" / "kustomization.yaml", DEPLOY / "monitoring" / "kustomization.yaml"}
    assert files - named == {DEPLOY / "kustomization.yaml", *by_choice}


def test_manifests_have_what_every_object_has() -> None:
    seen = set()
    for path, document in documents():
        metadata = document["metadata"]
        assert document["apiVersion"], path
        assert metadata["labels"]["app.kubernetes.io/name"] == "routed", path
        cluster_wide = document["kind"].startswith("Cluster")
        assert ("namespace" in metadata) != cluster_wide, path
        seen.add((document["kind"], metadata["name"]))
    assert {kind for kind, _ in seen} == {
        "ServiceAccount",
        "ClusterRole",
        "ClusterRoleBinding",
        "Role",
        "RoleBinding",
        "DaemonSet",
        "Deployment",
        "PodDisruptionBudget",
        "PodMonitor",
        "PrometheusRule",
    }
    for workload in workloads():
        spec = workload["spec"]
        selector = spec["selector"]["matchLabels"]
        assert selector.items() <= spec["template"]["metadata"]["labels"].items()
        volumes = {volume["name"] for volume in spec["template"]["spec"]["volumes"]}
        assert {mount["name"] for mount in container(workload)["volumeMounts"]} == volumes


def test_workloads_run_commands_and_options_that_there_are() -> None:
    group: Any = typer.main.get_command(application())
    for workload in workloads():
        name, *args = container(workload)["args"]
        command = group.commands[name]
        environment = {
            variable
            for parameter in command.params
            for variable in (
                [parameter.envvar] if isinstance(parameter.envvar, str) else parameter.envvar or []
            )
        }
        # NAMESPACE is read by the compiler and the datastore, HOST_IP by the arguments, ROUTED_SOCKET by who
        # asks with `kubectl exec`.
        others = {"NAMESPACE", "HOST_IP", "ROUTED_SOCKET"}
        given = {entry["name"] for entry in container(workload)["env"]} - others
        assert given <= environment
        options = {option for parameter in command.params for option in parameter.opts}
        assert {argument.partition("=")[0] for argument in args} <= options


def test_workloads_have_no_more_rights_on_their_node_than_they_use() -> None:
    for workload in workloads():
        context = container(workload)["securityContext"]
        assert context["readOnlyRootFilesystem"] is True
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"]["drop"] == ["ALL"]
        added = context["capabilities"].get("add", [])
        assert added == (
            ["NET_ADMIN", "NET_RAW", "NET_BIND_SERVICE"] if workload["kind"] == "DaemonSet" else []
        )


def test_kustomize_builds_them(request: pytest.FixtureRequest) -> None:
    if shutil.which("kubectl") is None:
        (pytest.fail if request.config.getoption("--require-all") else pytest.skip)(
            "kubectl is not installed"
        )
    for folder in (DEPLOY, DEPLOY / "reflector"):
        built = subprocess.run(["kubectl", "kustomize", folder], capture_output=True, text=True, check=True)
        objects = list(yaml.safe_load_all(built.stdout))
        images = [container(o)["image"] for o in objects if o["kind"] in ("DaemonSet", "Deployment")]
        assert images == ["routed:0.1.0"]


# Rights


def allowed(user: str, verb: str, target: Target) -> bool:
    """RBAC with the roles of deploy/ and nothing else."""
    type_ = target.type
    group = type_.group.partition("/")[0] if "/" in type_.group else ""
    bound = {
        (binding["roleRef"]["kind"], binding["roleRef"]["name"])
        for binding in of_kind("ClusterRoleBinding", "RoleBinding")
        if any(f"system:serviceaccount:{s['namespace']}:{s['name']}" == user for s in binding["subjects"])
    }
    for role in of_kind("ClusterRole", "Role"):
        if (role["kind"], role["metadata"]["name"]) not in bound:
            continue
        if role["kind"] == "Role" and role["metadata"]["namespace"] != target.namespace:
            continue
        for rule in role["rules"]:
            if (
                group in rule["apiGroups"]
                and target.resource in rule["resources"]
                and verb in rule["verbs"]
                and ("resourceNames" not in rule or target.name in rule["resourceNames"])
            ):
                return True
    return False


@pytest.mark.parametrize("group", [CRD_V1, CALICO_V3])
def test_the_rights_are_enough_for_all_that_is_read(tmp_path: Path, group: str) -> None:
    async def scenario() -> None:
        objects = [
            configuration(serviceClusterIPs=[{"cidr": "10.96.0.0/16"}], nodeMeshPassword=PASSWORD),
            peer("a", password=PASSWORD),
            calico("BGPFilter", "f"),
            calico("IPPool", "p", cidr="10.0.0.0/8"),
            calico("BlockAffinity", "b", cidr="10.0.0.0/26", node="n", state="confirmed"),
            calico("IPAMBlock", "b", cidr="10.0.0.0/26", affinity="host:n"),
            node("n"),
            service("web"),
            endpoints("web", "n"),
            secret("bgp-secrets", k="x"),
        ]
        options: dict[str, Any] = {"groups": [group], "authorize": allowed, "tokens": {"t": Token(USER)}}
        async with cluster(tmp_path, *objects, user={"token": "t"}, **options) as (_, watch):
            snapshot = await watch.expect(Snapshot)
            assert snapshot.problems == ()
            assert {(record.kind, record.name) for record in snapshot.upserts} == {
                (o["kind"], o["metadata"]["name"]) for o in objects
            }

    asyncio.run(scenario())


@pytest.mark.parametrize("own_place", [False, True])
@pytest.mark.parametrize("group", [CRD_V1, CALICO_V3])
def test_the_rights_are_enough_for_the_status_of_a_node(tmp_path: Path, group: str, own_place: bool) -> None:
    """And for no other write."""

    async def scenario() -> None:
        options: dict[str, Any] = {"groups": [group], "authorize": allowed, "tokens": {"t": Token(USER)}}
        if own_place:
            options["status_places"] = frozenset({"CalicoNodeStatus"})
        async with APIServer(**options) as server:
            server.put(calico("CalicoNodeStatus", "s", node="n", classes=["Agent"]), peer("p"))
            kubeconfig = write_kubeconfig(tmp_path / "config", server.url, {"token": "t"})
            datastore = open_kubernetes(str(kubeconfig), {}, "n")
            assert await datastore.write_status(Key("CalicoNodeStatus", "s"), {"agent": {}})
            written = server.storage.get(server.type("CalicoNodeStatus"), ("", "s"))
            assert written is not None
            assert written["status"] == {"agent": {}}
            (put,) = [request for request in server.requests if request.method == "PUT"]
            assert put.path.endswith("/s/status" if own_place else "/s")
            await datastore.close()
            assert not allowed(USER, "update", Target(server.type("BGPPeer"), "", "p"))

    asyncio.run(scenario())


def test_the_rights_do_not_reach_other_secrets(tmp_path: Path) -> None:
    async def scenario() -> None:
        other = {"secretKeyRef": {"name": "admin", "key": "k"}}
        options: dict[str, Any] = {"authorize": allowed, "tokens": {"t": Token(USER)}}
        objects = [peer("a", password=other), secret("admin", k="x")]
        async with cluster(tmp_path, *objects, user={"token": "t"}, **options) as (_, watch):
            snapshot = await watch.expect(Snapshot)
            assert [record.name for record in snapshot.upserts] == ["a"]
            (problem,) = snapshot.problems
            assert "secrets/kube-system/admin cannot be read" in problem.reason

    asyncio.run(scenario())

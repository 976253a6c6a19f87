"""A real kube-apiserver on its own etcd, on loopback, for a session of tests.

It is looked for where Kubernetes' own test tools look (`KUBEBUILDER_ASSETS`), and on the PATH."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.reflector.processes import free_port
from routed.datastore.kubernetes.http import Connection, Endpoint
from tests.datastore.apiserver import write_kubeconfig
from tests.datastore.apiserver_storage import BUILT_IN, ResourceType, calico

STARTING = 90.0
"""Seconds after which a server that does not answer is given up."""

CRD_V1 = "crd.projectcalico.org/v1"
ADMIN = "admin-token"
TYPES = [*BUILT_IN, *calico(CRD_V1)]
WRITERS = 8


def binary(name: str) -> str | None:
    """Where the program is."""
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    return (
        shutil.which(name, path=assets) if assets and shutil.which(name, path=assets) else shutil.which(name)
    )


def unavailable() -> str | None:
    """Why there can be no kube-apiserver here, None where there can."""
    missing = [name for name in ("kube-apiserver", "etcd", "openssl") if binary(name) is None]
    return f"not installed: {', '.join(missing)} (set KUBEBUILDER_ASSETS)" if missing else None


def custom_resource(
    type_: ResourceType, status: Mapping[str, Any] | None = None, own_place: bool = False
) -> dict[str, Any]:
    """A CustomResourceDefinition that takes any spec, and a status of this schema; `own_place`: the status is
    a subresource."""
    properties: dict[str, Any] = {"spec": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    if status is not None:
        properties["status"] = status
    schema: dict[str, Any] = {"type": "object", "properties": properties}
    group, version = type_.group.split("/")
    names = {
        "kind": type_.kind,
        "listKind": f"{type_.kind}List",
        "plural": type_.plural,
        "singular": type_.kind.lower(),
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{type_.plural}.{group}"},
        "spec": {
            "group": group,
            "names": names,
            "scope": "Cluster",
            "versions": [
                {
                    "name": version,
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": schema},
                    "subresources": {"status": {}} if own_place else {},
                }
            ],
        },
    }


class KubeAPIServer:
    """kube-apiserver with RBAC; `ADMIN` may do all, `tokens` are further users with their groups."""

    def __init__(self, folder: Path, tokens: Mapping[str, str] | None = None) -> None:
        """`tokens`: user by token."""
        self.folder = folder
        self.port = free_port()
        self._etcd_ports = free_port(), free_port()
        self._etcd: subprocess.Popen[bytes] | None = None
        self._server: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        lines = [f"{ADMIN},admin,admin,system:masters"]
        lines += [f"{token},{user},{user}" for token, user in (tokens or {}).items()]
        (folder / "tokens.csv").write_text("\n".join(lines) + "\n")
        self._openssl("genrsa", "-out", str(folder / "sa.key"), "2048")

    def _openssl(self, *arguments: str) -> None:
        subprocess.run([binary("openssl") or "openssl", *arguments], check=True, capture_output=True)

    def start(self) -> None:
        """Starts etcd, where it is not on, and the server; returns when it is ready."""
        if self._etcd is None:
            client, peer = (f"http://127.0.0.1:{port}" for port in self._etcd_ports)
            self._etcd = self._run(
                "etcd",
                *("--data-dir", str(self.folder / "etcd"), "--unsafe-no-fsync"),
                *("--listen-client-urls", client, "--advertise-client-urls", client),
                *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
                *("--initial-cluster", f"default={peer}"),
            )
        self._server = self._run(
            "kube-apiserver",
            f"--etcd-servers=http://127.0.0.1:{self._etcd_ports[0]}",
            *(f"--secure-port={self.port}", "--bind-address=127.0.0.1"),
            f"--cert-dir={self.folder / 'certificates'}",
            f"--service-account-key-file={self.folder / 'sa.key'}",
            f"--service-account-signing-key-file={self.folder / 'sa.key'}",
            "--service-account-issuer=https://kubernetes.example",
            f"--token-auth-file={self.folder / 'tokens.csv'}",
            "--authorization-mode=RBAC",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--disable-admission-plugins=ServiceAccount",
        )
        self._wait()

    def _run(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        with (self.folder / f"{name}.log").open("ab") as log:
            return subprocess.Popen([binary(name) or name, *arguments], stdout=log, stderr=log)

    def _wait(self) -> None:
        deadline = time.monotonic() + STARTING
        request = urllib.request.Request(
            f"https://127.0.0.1:{self.port}/readyz", headers={"Authorization": f"Bearer {ADMIN}"}
        )
        while True:
            assert self._server is not None
            if self._server.poll() is not None or time.monotonic() > deadline:
                text = (self.folder / "kube-apiserver.log").read_text()
                raise AssertionError(f"kube-apiserver is not ready: {text[-2000:]}")
            try:
                with urllib.request.urlopen(request, context=_unchecked(), timeout=5):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)

    def stop(self) -> None:
        """Ends the server at once, as a crash does; etcd goes on."""
        if self._server is not None:
            self._server.kill()
            self._server.wait()
            self._server = None

    def close(self) -> None:
        """Ends all."""
        self.stop()
        if self._etcd is not None:
            self._etcd.kill()
            self._etcd.wait()
            self._etcd = None

    def kubeconfig(self, path: Path, port: int | None = None, token: str = ADMIN) -> Path:
        """One that leads here, or to a proxy before it."""
        cluster = {"certificate-authority": str(self.folder / "certificates" / "apiserver.crt")}
        return write_kubeconfig(path, f"https://127.0.0.1:{port or self.port}", {"token": token}, **cluster)

    # Records

    async def apply(self, documents: Sequence[Mapping[str, Any]]) -> None:
        """Creates or replaces (server-side apply)."""
        await self._all(("PATCH", _path(document), document) for document in documents)

    async def delete(self, objects: Iterable[tuple[str, str, str]]) -> None:
        """Deletes by kind, namespace and name; what is not there is no fault."""
        await self._all(("DELETE", _location(*each), None) for each in objects)

    async def clear(self) -> None:
        """No record is left but those that the server makes itself."""
        for type_ in TYPES:
            listed = json.loads(await self._request("GET", _root(type_, ""), None))
            names = [(i["metadata"].get("namespace", ""), i["metadata"]["name"]) for i in listed["items"]]
            await self.delete((type_.kind, *name) for name in names if name[1] != "kubernetes")

    async def define(
        self,
        types: Iterable[ResourceType] = calico(CRD_V1),
        status: Mapping[str, Any] | None = None,
        own_place: bool = False,
    ) -> None:
        """Has these custom resources, and waits until they are served. See `custom_resource`."""
        path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
        for type_ in types:
            definition = custom_resource(type_, status, own_place)
            await self._request("PATCH", f"{path}/{definition['metadata']['name']}", definition)
            async with asyncio.timeout(STARTING):
                while True:
                    try:
                        await self._request("GET", _root(type_, ""), None)
                        break
                    except AssertionError:
                        await asyncio.sleep(0.05)

    async def get(self, kind: str, name: str) -> dict[str, Any]:
        """An object that has no namespace."""
        document: dict[str, Any] = json.loads(await self._request("GET", _location(kind, "", name), None))
        return document

    async def _all(self, requests: Iterable[tuple[str, str, Mapping[str, Any] | None]]) -> None:
        waiting = list(requests)[::-1]

        async def work() -> None:
            connection = await self._connect()
            try:
                while waiting:
                    await self._send(connection, *waiting.pop())
            finally:
                await connection.close()

        async with asyncio.TaskGroup() as group:
            for _ in range(min(WRITERS, len(waiting))):
                group.create_task(work())

    async def _request(self, method: str, path: str, document: Mapping[str, Any] | None) -> bytes:
        connection = await self._connect()
        try:
            return await self._send(connection, method, path, document)
        finally:
            await connection.close()

    async def _connect(self) -> Connection:
        return await Connection.open(Endpoint("127.0.0.1", self.port), _unchecked())

    async def _send(
        self, connection: Connection, method: str, path: str, document: Mapping[str, Any] | None
    ) -> bytes:
        headers = [("Authorization", f"Bearer {ADMIN}"), ("Content-Type", "application/apply-patch+yaml")]
        body = b"" if document is None else json.dumps(document).encode()
        target = f"{path}?fieldManager=tests&force=true" if method == "PATCH" else path
        head = await connection.request(method, target, headers, 60.0, body)
        answer = bytearray()
        while piece := await connection.data(60.0):
            answer += piece
        assert head.status in (200, 201) or (method, head.status) == ("DELETE", 404), bytes(answer)
        return bytes(answer)


def _unchecked() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _root(type_: ResourceType, namespace: str) -> str:
    root = "/api/v1" if type_.group == "v1" else f"/apis/{type_.group}"
    return f"{root}/namespaces/{namespace}/{type_.plural}" if namespace else f"{root}/{type_.plural}"


def _location(kind: str, namespace: str, name: str) -> str:
    return f"{_root(next(t for t in TYPES if t.kind == kind), namespace)}/{name}"


def _path(document: Mapping[str, Any]) -> str:
    metadata = document["metadata"]
    return _location(document["kind"], metadata.get("namespace", ""), metadata["name"])

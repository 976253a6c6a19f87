"""A cluster in an API server of the tests, and a datastore that follows it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from routed.datastore.kubernetes import open_kubernetes
from tests.datastore.apiserver import CRD_V1, APIServer, write_kubeconfig
from tests.datastore.apiserver_api import Request
from tests.datastore.watching import LONG, Watched, following

Document = dict[str, Any]


def calico(kind: str, name: str, **spec: object) -> Document:
    """A record of Calico's."""
    return {"apiVersion": CRD_V1, "kind": kind, "metadata": {"name": name}, "spec": spec}


def peer(name: str, **spec: object) -> Document:
    """A BGPPeer."""
    return calico("BGPPeer", name, **{"peerIP": "192.0.2.1", "asNumber": 64512, **spec})


def configuration(**spec: object) -> Document:
    """The cluster's BGPConfiguration."""
    return calico("BGPConfiguration", "default", **spec)


def node(name: str, address: str = "10.0.0.1/24", **spec: object) -> Document:
    """A Node as calico-node annotates it."""
    annotations = {"projectcalico.org/IPv4Address": address, "volumes.kubernetes.io/x": "true"}
    metadata = {"name": name, "labels": {"kubernetes.io/os": "linux"}, "annotations": annotations}
    return {"apiVersion": "v1", "kind": "Node", "metadata": metadata, "spec": spec}


def service(name: str, cluster_ip: str = "10.96.0.10", **spec: object) -> Document:
    """A Service in the namespace `default`."""
    metadata = {"name": name, "namespace": "default", "labels": {"app": name}}
    return {"kind": "Service", "metadata": metadata, "spec": {"clusterIP": cluster_ip, **spec}}


def endpoints(service_name: str, *nodes: str, **labels: str) -> Document:
    """An EndpointSlice with a ready endpoint on each of these nodes."""
    return {
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"{service_name}-1",
            "namespace": "default",
            "labels": {"kubernetes.io/service-name": service_name, **labels},
        },
        "addressType": "IPv4",
        "endpoints": [
            {"addresses": ["10.1.0.1"], "nodeName": name, "conditions": {"ready": True}} for name in nodes
        ],
    }


def secret(name: str, namespace: str = "kube-system", **data: str) -> Document:
    """A Secret."""
    return {"kind": "Secret", "metadata": {"name": name, "namespace": namespace}, "stringData": data}


@asynccontextmanager
async def cluster(
    folder: Path,
    *documents: Mapping[str, object],
    watch_node: str | None = None,
    environ: Mapping[str, str] | None = None,
    user: Mapping[str, object] | None = None,
    prepare: Callable[[APIServer], object] = lambda _server: None,
    **options: Any,
) -> AsyncIterator[tuple[APIServer, Watched]]:
    """A server with these objects, made ready by `prepare`, and a watch of the datastore for `watch_node`."""
    async with asyncio.timeout(3 * LONG), APIServer(**options) as server:
        server.put(*documents)
        prepare(server)
        kubeconfig = write_kubeconfig(folder / "config", server.url, user)
        datastore = open_kubernetes(str(kubeconfig), environ or {}, watch_node)
        async with following(datastore) as watch:
            yield server, watch


def lists_of(server: APIServer, plural: str) -> list[Request]:
    """The lists that were asked for."""
    return [r for r in server.requests if r.path.endswith(f"/{plural}") and not r.is_watch]


def watches_of(server: APIServer, plural: str) -> list[Request]:
    """The watches that were asked for."""
    return [r for r in server.requests if r.path.endswith(f"/{plural}") and r.is_watch]

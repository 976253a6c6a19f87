"""From a datastore's URL, or the environment that calico-node has, to the datastore."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from routed.datastore.base import Datastore
from routed.datastore.file import FileDatastore

Environ = Mapping[str, str]


class DatastoreURLError(ValueError):
    """A URL, or an environment, that names no datastore. The text says what is wrong and what there is."""


class Wanted(NamedTuple):
    """What the records are wanted for. A datastore may leave out what is of no use for it."""

    node: str | None = None
    """The speaker of one node, by the name of its Node; None: whoever, as for a relay."""
    kinds: frozenset[str] | None = None
    """Only records of these kinds; None: all."""


ALL = Wanted()

# What is behind a network is imported when it is asked for: a reflector without records, or a node with
# files, does not pay for it.


def _open_file(rest: str, environ: Environ, wanted: Wanted) -> Datastore:
    """`file:PATH` as in a shell, or the `file:///PATH` of RFC 8089."""
    path = rest[2:] if rest.startswith("///") else rest
    if path.startswith("//"):
        raise DatastoreURLError(f"'file:{rest}' names a host: write file:PATH, such as file:/etc/routed")
    if not path:
        raise DatastoreURLError("'file:' needs a path: write file:PATH, such as file:/etc/routed")
    return FileDatastore(os.path.expanduser(path))


def _open_etcd(rest: str, environ: Environ, wanted: Wanted) -> Datastore:
    from routed.datastore.etcd import EtcdDatastore
    from routed.datastore.etcd_options import read_url

    return EtcdDatastore(read_url("etcd", rest, environ))


def _open_etcds(rest: str, environ: Environ, wanted: Wanted) -> Datastore:
    from routed.datastore.etcd import EtcdDatastore
    from routed.datastore.etcd_options import read_url

    return EtcdDatastore(read_url("etcds", rest, environ))


def _open_kubernetes(rest: str, environ: Environ, wanted: Wanted) -> Datastore:
    from routed.datastore.kubernetes import open_kubernetes

    return open_kubernetes(rest, environ, wanted.node, wanted.kinds)


def _open_mqtt(rest: str, environ: Environ, wanted: Wanted, scheme: str = "mqtt") -> Datastore:
    from routed.datastore.mqtt import MqttDatastore
    from routed.datastore.mqtt_client import read_url

    folder = environ.get("ROUTED_SECRETS")
    namespace = environ.get("NAMESPACE", "kube-system")
    options = read_url(f"{scheme}:{rest}", environ)
    return MqttDatastore(options, Path(folder) if folder else None, namespace)


def _open_mqtts(rest: str, environ: Environ, wanted: Wanted) -> Datastore:
    return _open_mqtt(rest, environ, wanted, "mqtts")


_SCHEMES: dict[str, Callable[[str, Environ, Wanted], Datastore]] = {
    "file": _open_file,
    "etcd": _open_etcd,
    "etcds": _open_etcds,
    "kubernetes": _open_kubernetes,
    "mqtt": _open_mqtt,
    "mqtts": _open_mqtts,
}

_SUPPORTED = (
    "file:PATH (a YAML or JSON file, or a folder of them), "
    "etcd://HOST:PORT[,HOST:PORT...] (etcds:// with TLS), "
    "mqtt://HOST:PORT/PREFIX (mqtts:// with TLS; where `routed relay` publishes), "
    "or kubernetes: (as every pod finds its API server; kubernetes:PATH?context=NAME for a kubeconfig)"
)


def open_datastore(url: str, environ: Environ | None = None, wanted: Wanted = ALL) -> Datastore:
    """The datastore that a URL names, with what the environment says about how to get in. Nothing is read
    yet: what is not there is waited for by the watch.

    Raises DatastoreURLError."""
    match = re.match(r"([A-Za-z][A-Za-z0-9+.-]*):", url)
    if match is None:
        raise DatastoreURLError(f"{url!r} is not the URL of a datastore: write {_SUPPORTED}")
    scheme = match[1].lower()
    if scheme not in _SCHEMES:
        raise DatastoreURLError(
            f"{scheme!r} is not a kind of datastore that is supported: write {_SUPPORTED}"
        )
    try:
        return _SCHEMES[scheme](url[match.end() :], os.environ if environ is None else environ, wanted)
    except DatastoreURLError:
        raise
    except ValueError as error:
        raise DatastoreURLError(str(error)) from None


def url_from_environ(environ: Environ) -> str:
    """The URL that calico-node's variables mean (DATASTORE_TYPE, ETCD_ENDPOINTS); empty where they mean
    none.

    As in Calico, DATASTORE_TYPE is etcdv3 where ETCD_ENDPOINTS is set, else kubernetes: but only where
    there is a hint of Kubernetes, since here there are other datastores too. Raises DatastoreURLError."""
    kind = environ.get("DATASTORE_TYPE", "").strip().lower()
    endpoints = environ.get("ETCD_ENDPOINTS", "").strip()
    if kind == "etcdv3" or (not kind and endpoints):
        return _etcd_url(endpoints, environ)
    if kind == "kubernetes" or (not kind and any(environ.get(name) for name in _KUBERNETES_HINTS)):
        return "kubernetes:"
    if kind:
        raise DatastoreURLError(f"DATASTORE_TYPE={kind!r} is not known: write etcdv3 or kubernetes")
    return ""


_KUBERNETES_HINTS = ("KUBERNETES_SERVICE_HOST", "KUBECONFIG", "K8S_API_ENDPOINT")


def _etcd_url(endpoints: str, environ: Environ) -> str:
    if not endpoints:
        if environ.get("ETCD_DISCOVERY_SRV"):
            raise DatastoreURLError(
                "ETCD_DISCOVERY_SRV is not supported: name the members, "
                "ETCD_ENDPOINTS=http://HOST:PORT[,http://HOST:PORT...]"
            )
        raise DatastoreURLError("DATASTORE_TYPE is etcdv3, but ETCD_ENDPOINTS is not set")
    addresses: list[str] = []
    schemes: set[str] = set()
    for endpoint in filter(None, map(str.strip, endpoints.split(","))):
        scheme, colon, rest = endpoint.rpartition("://")
        schemes.add(scheme.lower() if colon else "http")
        addresses.append(rest.rstrip("/"))
    if not schemes <= {"http", "https"} or len(schemes) != 1:
        raise DatastoreURLError("ETCD_ENDPOINTS: begin each with http://, or each with https://")
    return f"{'etcds' if schemes == {'https'} else 'etcd'}://{','.join(addresses)}"

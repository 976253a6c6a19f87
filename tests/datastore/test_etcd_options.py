"""From URLs and calico-node's variables to how to get at etcd."""

from __future__ import annotations

import pytest

from routed.datastore import DatastoreURLError, open_datastore, url_from_environ
from routed.datastore.etcd import EtcdDatastore
from routed.datastore.etcd_client import TLS, EtcdOptions

CERTIFICATES = {"ETCD_CERT_FILE": "/c.pem", "ETCD_KEY_FILE": "/k.pem"}


def options(url: str, environ: dict[str, str] | None = None) -> EtcdOptions:
    datastore = open_datastore(url, environ or {})
    assert isinstance(datastore, EtcdDatastore)
    return datastore.options


@pytest.mark.parametrize(
    ("url", "endpoints"),
    [
        ("etcd://localhost", [("localhost", 2379)]),
        ("etcd://10.0.0.1:1", [("10.0.0.1", 1)]),
        ("etcd://10.0.0.1:2379/", [("10.0.0.1", 2379)]),
        ("ETCD://a:1,b:2, c", [("a", 1), ("b", 2), ("c", 2379)]),
        ("etcd://[::1]:1,[fd00::2]", [("::1", 1), ("fd00::2", 2379)]),
    ],
)
def test_endpoints(url: str, endpoints: list[tuple[str, int]]) -> None:
    assert list(options(url).endpoints) == endpoints


@pytest.mark.parametrize(
    ("url", "environ", "tls"),
    [
        ("etcd://a", {}, None),
        ("etcds://a", {}, TLS()),
        ("etcds://a", {"ETCD_CA_CERT_FILE": ""}, TLS()),
        ("etcd://a", {"ETCD_CA_CERT_FILE": "/ca.pem"}, TLS("/ca.pem")),
        ("etcd://a", CERTIFICATES, TLS(None, "/c.pem", "/k.pem")),
        ("etcds://a", {**CERTIFICATES, "ETCD_CA_CERT_FILE": "/ca.pem"}, TLS("/ca.pem", "/c.pem", "/k.pem")),
    ],
)
def test_tls(url: str, environ: dict[str, str], tls: TLS | None) -> None:
    assert options(url, environ).tls == tls


def test_the_password_is_in_no_text() -> None:
    read = options("etcd://a", {"ETCD_USERNAME": "calico", "ETCD_PASSWORD": "s3cret"})
    assert (read.username, read.password) == ("calico", "s3cret")
    assert "s3cret" not in f"{read} {read!r}"


@pytest.mark.parametrize(
    ("url", "environ", "reason"),
    [
        ("etcd:a:1", {}, "//HOST:PORT"),
        ("etcd://", {}, "names no member"),
        ("etcd://,", {}, "names no member"),
        ("etcd://a:0", {}, "'a:0' is no member's address"),
        ("etcd://a:65536", {}, "no member's address"),
        ("etcd://a:x", {}, "no member's address"),
        ("etcd://:1", {}, "no member's address"),
        ("etcd://fd00::1:2379", {}, "in brackets"),
        ("etcd://a:1,a:1", {}, "names a member twice"),
        ("etcd://a:1/calico", {}, "leave out the path"),
        ("etcd://me:s3cret@a:1", {}, "ETCD_USERNAME"),
        ("etcd://me:s3cret/s3cret@a:1", {}, "ETCD_USERNAME"),
        ("etcds://a", {"ETCD_CERT_FILE": "/c.pem"}, "belong together"),
        ("etcds://a", {"ETCD_KEY_FILE": "/k.pem"}, "belong together"),
        ("etcd://a", {"ETCD_USERNAME": "me"}, "belong together"),
        ("etcd://a", {"ETCD_PASSWORD": "s3cret"}, "belong together"),
    ],
)
def test_what_cannot_be_meant(url: str, environ: dict[str, str], reason: str) -> None:
    with pytest.raises(DatastoreURLError, match=reason) as caught:
        open_datastore(url, environ)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("environ", "url"),
    [
        ({}, ""),
        ({"DATASTORE_TYPE": ""}, ""),
        ({"ETCD_ENDPOINTS": "http://10.0.0.1:2379"}, "etcd://10.0.0.1:2379"),
        ({"DATASTORE_TYPE": "etcdv3", "ETCD_ENDPOINTS": "https://a:1/, https://b:2"}, "etcds://a:1,b:2"),
        ({"DATASTORE_TYPE": "ETCDv3", "ETCD_ENDPOINTS": "a:1"}, "etcd://a:1"),
        ({"ETCD_ENDPOINTS": "http://a:1", "ETCD_DISCOVERY_SRV": "example.com"}, "etcd://a:1"),
        ({"DATASTORE_TYPE": "kubernetes", "ETCD_ENDPOINTS": "http://a:1"}, "kubernetes:"),
        ({"KUBERNETES_SERVICE_HOST": "10.96.0.1"}, "kubernetes:"),
        ({"KUBECONFIG": "/etc/kubeconfig"}, "kubernetes:"),
    ],
)
def test_the_datastore_that_calico_node_would_take(environ: dict[str, str], url: str) -> None:
    assert url_from_environ(environ) == url


@pytest.mark.parametrize(
    ("environ", "reason"),
    [
        ({"DATASTORE_TYPE": "etcdv2"}, "write etcdv3 or kubernetes"),
        ({"DATASTORE_TYPE": "etcdv3"}, "ETCD_ENDPOINTS is not set"),
        ({"DATASTORE_TYPE": "etcdv3", "ETCD_DISCOVERY_SRV": "example.com"}, "ETCD_DISCOVERY_SRV is not supp"),
        ({"ETCD_ENDPOINTS": "http://a:1,https://b:1"}, "each with"),
        ({"ETCD_ENDPOINTS": "ftp://a:1"}, "each with"),
        ({"ETCD_ENDPOINTS": ","}, "each with"),
    ],
)
def test_variables_that_mean_nothing(environ: dict[str, str], reason: str) -> None:
    with pytest.raises(DatastoreURLError, match=reason):
        url_from_environ(environ)

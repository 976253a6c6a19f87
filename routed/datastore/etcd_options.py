"""How to get at etcd: the URL says where it is, calico-node's variables say who we are."""

from __future__ import annotations

from collections.abc import Mapping

from routed.datastore.etcd_client import TLS, Endpoint, EtcdOptions

DEFAULT_PORT = 2379

_FILES = ("ETCD_CA_CERT_FILE", "ETCD_CERT_FILE", "ETCD_KEY_FILE")


def read_url(scheme: str, rest: str, environ: Mapping[str, str]) -> EtcdOptions:
    """What follows `etcd:` or `etcds:` (with TLS) in a URL, and the environment. `etcd:` means TLS too where
    certificates are named: they are for nothing else. Raises ValueError, which never quotes a password."""
    if not rest.startswith("//"):
        raise ValueError(f"'{scheme}:' is followed by //HOST:PORT[,HOST:PORT...]")
    authority, _, path = rest[2:].partition("/")
    if "@" in rest:
        # In the path too: a password with a slash in it would end the authority.
        raise ValueError(
            f"{scheme}://: a user or password does not belong in a URL, where others can read it: "
            "set ETCD_USERNAME and ETCD_PASSWORD"
        )
    if path:
        raise ValueError(f"{scheme}://{authority}/{path}: leave out the path: Calico has its own")
    endpoints = tuple(_endpoint(text.strip()) for text in authority.split(",") if text.strip())
    if not endpoints:
        raise ValueError(f"'{scheme}://' names no member: write {scheme}://HOST:PORT[,HOST:PORT...]")
    if len(set(endpoints)) < len(endpoints):
        raise ValueError(f"{scheme}://{authority}: names a member twice")
    return EtcdOptions(endpoints, _tls(scheme, environ), *_user(environ))


def _endpoint(text: str) -> Endpoint:
    host, colon, port = text.rpartition(":")
    if not colon or (text.startswith("[") and text.endswith("]")):
        host, port = text, str(DEFAULT_PORT)
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"{text!r}: put an IPv6 address in brackets, [ADDR]:PORT")
    if not host or not port.isascii() or not port.isdecimal() or not 1 <= int(port) <= 65535:
        raise ValueError(f"{text!r} is no member's address: write HOST:PORT, such as 192.0.2.1:2379")
    return Endpoint(host, int(port))


def _tls(scheme: str, environ: Mapping[str, str]) -> TLS | None:
    ca_file, cert_file, key_file = (environ.get(name) or None for name in _FILES)
    if (cert_file is None) != (key_file is None):
        raise ValueError("ETCD_CERT_FILE and ETCD_KEY_FILE belong together: set both or neither")
    if scheme == "etcd" and ca_file is None and cert_file is None:
        return None
    return TLS(ca_file, cert_file, key_file)


def _user(environ: Mapping[str, str]) -> tuple[str | None, str | None]:
    username, password = environ.get("ETCD_USERNAME") or None, environ.get("ETCD_PASSWORD") or None
    if (username is None) != (password is None):
        raise ValueError("ETCD_USERNAME and ETCD_PASSWORD belong together: set both or neither")
    return username, password

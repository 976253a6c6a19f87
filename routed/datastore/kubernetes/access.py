"""How to reach an API server: from a kubeconfig, or from where every pod finds it; and TLS to it."""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from routed.datastore.kubernetes.credentials import (
    ClientCertificate,
    Credential,
    Static,
    TokenFile,
)
from routed.datastore.kubernetes.http import Connection, Endpoint

SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")


class AccessError(Exception):
    """It cannot be told how to reach the server, or as whom. The text names file and field, and never holds
    what is secret."""


@dataclass(frozen=True, slots=True)
class Server:
    """The parts of a server's URL: `path` is what stands before every request path, without a `/` at its
    end."""

    endpoint: Endpoint
    tls: bool
    path: str = ""

    @classmethod
    def of(cls, url: str, source: str) -> Server:
        """From a URL, or `host:port` alone. Raises AccessError that names `source`."""
        parts = urlsplit(url if "://" in url else f"https://{url}")
        try:
            port = parts.port
        except ValueError:
            port = 0
        if parts.scheme not in ("http", "https") or not parts.hostname or port == 0 or not url.isprintable():
            raise AccessError(f"{source}: is not the URL of a server, such as https://10.0.0.1:6443")
        if parts.username or parts.password or parts.query or parts.fragment:
            raise AccessError(f"{source}: only scheme, host, port and a path belong into it")
        tls = parts.scheme == "https"
        return cls(Endpoint(parts.hostname, port or (443 if tls else 80)), tls, parts.path.rstrip("/"))


@dataclass(frozen=True, slots=True)
class Trust:
    """Whose certificate is accepted: a CA's, as PEM or in a file that is read anew for every connection;
    without either those that the system knows."""

    ca: bytes | None = None
    ca_file: Path | None = None
    insecure: bool = False
    server_name: str | None = None

    def pem(self) -> bytes | None:
        """The CA certificates. Raises AccessError."""
        if self.ca_file is None:
            return self.ca
        try:
            return self.ca_file.read_bytes()
        except OSError as error:
            raise AccessError(f"certificate authority {self.ca_file}: {error.strerror}") from None


class Access:
    """A server, and who we are there."""

    def __init__(
        self,
        server: Server,
        trust: Trust = Trust(),  # immutable
        credential: Credential = Static(),  # noqa: B008
        headers: tuple[tuple[str, str], ...] = (),
    ) -> None:
        """`headers` go with every request: impersonation."""
        self.server = server
        self.trust = trust
        self.credential = credential
        self.headers = headers
        self._context: tuple[object, ssl.SSLContext] | None = None

    async def connect(self) -> Connection:
        """A new connection. Raises DisconnectedError, AccessError, CredentialError."""
        tls = None
        if self.server.tls:
            tls = self._tls(self.trust.pem(), await self.credential.certificate())
        return await Connection.open(self.server.endpoint, tls, self.trust.server_name)

    def _tls(self, ca: bytes | None, pair: ClientCertificate | None) -> ssl.SSLContext:
        """The context for these, made once: the system's own store takes some 20 ms to load."""
        ingredients = (ca, pair)
        if self._context is None or self._context[0] != ingredients:
            self._context = ingredients, _make_context(self.trust, ca, pair)
        return self._context[1]


def _make_context(trust: Trust, ca: bytes | None, pair: ClientCertificate | None) -> ssl.SSLContext:
    try:
        # Certificates in a kubeconfig are PEM, as text.
        context = ssl.create_default_context(cadata=ca.decode("ascii") if ca is not None else None)
    except (ssl.SSLError, ValueError):
        where = trust.ca_file or "of the kubeconfig"
        raise AccessError(f"certificate authority {where}: is not a certificate in PEM") from None
    if trust.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if pair is not None:
        _load(context, pair)
    return context


def _load(context: ssl.SSLContext, pair: ClientCertificate) -> None:
    """OpenSSL takes the pair from a file only: this one is memory, nobody else can open it by name."""
    descriptor = os.memfd_create("client-certificate", os.MFD_CLOEXEC)
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(pair.certificate + b"\n" + pair.key)
        # An encrypted key would make OpenSSL ask the terminal: an empty password is an error instead.
        context.load_cert_chain(f"/proc/self/fd/{descriptor}", password="")
    except ssl.SSLError as error:
        raise AccessError(
            f"client certificate: is no PEM, has another key, or the key has a password ({error.reason})"
        ) from None
    finally:
        os.close(descriptor)


@dataclass(frozen=True, slots=True)
class Source:
    """Where to look for the access: a kubeconfig's path and context, as given in the datastore's URL, and the
    environment."""

    path: str = ""
    context: str | None = None
    environ: Mapping[str, str] = field(default_factory=dict, repr=False)

    def load(self) -> Access:
        """What there is now: the kubeconfig of the URL, of KUBECONFIG, in-cluster, ~/.kube/config, in this
        order; with what the environment overrides. Raises AccessError."""
        # Not at the top: kubeconfigs need YAML, and a pod has none.
        from routed.datastore.kubernetes.kubeconfig import default_kubeconfigs, load_kubeconfig

        if self.path:
            access = load_kubeconfig([Path(self.path).expanduser()], self.context)
        elif paths := self.environ.get("KUBECONFIG"):
            access = load_kubeconfig([Path(p) for p in paths.split(os.pathsep) if p], self.context)
        elif self.environ.get("KUBERNETES_SERVICE_HOST") and self.context is None:
            access = in_cluster(self.environ)
        elif files := default_kubeconfigs():
            access = load_kubeconfig(files, self.context)
        elif self.environ.get("K8S_API_ENDPOINT"):
            access = Access(Server.of(self.environ["K8S_API_ENDPOINT"], "K8S_API_ENDPOINT"))
        else:
            raise AccessError(
                "no API server is known: this is no pod with a service account, and there is no kubeconfig "
                "in KUBECONFIG or ~/.kube/config; write kubernetes:PATH, or set K8S_API_ENDPOINT"
            )
        return _overridden(access, self.environ)


def in_cluster(environ: Mapping[str, str], folder: Path = SERVICE_ACCOUNT) -> Access:
    """As every pod finds its API server: two variables, a token and a CA. Raises AccessError."""
    host = environ.get("KUBERNETES_SERVICE_HOST", "")
    port = environ.get("KUBERNETES_SERVICE_PORT", "443")
    url = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
    token = folder / "token"
    if not token.exists():
        raise AccessError(f"{token}: is not there: give the pod a service account (or a kubeconfig)")
    server = Server.of(url, "KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT")
    return Access(server, Trust(ca_file=folder / "ca.crt"), TokenFile(token))


def _overridden(access: Access, environ: Mapping[str, str]) -> Access:
    """With what calico-node's environment says instead."""
    given = {name: value for name, value in environ.items() if name.startswith("K8S_") and value}
    server, trust, credential = access.server, access.trust, access.credential
    if url := given.get("K8S_API_ENDPOINT"):
        server = Server.of(url, "K8S_API_ENDPOINT")
    if ca_file := given.get("K8S_CA_FILE"):
        trust = replace(trust, ca=None, ca_file=Path(ca_file))
    if insecure := given.get("K8S_INSECURE_SKIP_TLS_VERIFY"):
        trust = replace(trust, insecure=insecure.lower() in ("true", "1", "yes"))
    files = (given.get("K8S_CERT_FILE"), given.get("K8S_KEY_FILE"))
    pair = (Path(files[0]), Path(files[1])) if files[0] and files[1] else None
    if token := given.get("K8S_API_TOKEN"):
        credential = Static(f"Bearer {token}", files=pair)
    elif pair is not None:
        credential = Static(files=pair)
    return Access(server, trust, credential, access.headers)

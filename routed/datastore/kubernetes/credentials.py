"""Who we are to the API server: tokens, token files, client certificates, exec plugins.

Nothing here shows a token, a password or a key: not in a repr, not in an error."""

from __future__ import annotations

import asyncio
import base64
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Protocol

import msgspec

EXEC_TIMEOUT: Final = 60.0
"""Seconds that an exec plugin has."""

EXEC_VERSIONS: Final = ("client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1")

_EXPIRY_MARGIN: Final = 10.0
"""Seconds before its expiry at which what a plugin gave is asked for again."""


class CredentialError(Exception):
    """A credential cannot be had now. The text names file or command, and never holds what is secret."""


@dataclass(frozen=True, slots=True)
class ClientCertificate:
    """A certificate and its key, both PEM."""

    certificate: bytes
    key: bytes = field(repr=False)


class Credential(Protocol):
    """One way to say who we are."""

    async def authorization(self) -> str | None:
        """The value of the Authorization header. Raises CredentialError."""

    async def certificate(self) -> ClientCertificate | None:
        """What TLS presents. Raises CredentialError."""

    def refused(self) -> None:
        """The server answered 401: nothing that is remembered is to be used again."""


@dataclass(frozen=True, slots=True)
class Static:
    """What does not change: a fixed header, or nothing; perhaps a certificate, as bytes or in files that are
    read anew for every connection."""

    header: str | None = field(default=None, repr=False)
    pair: ClientCertificate | None = None
    files: tuple[Path, Path] | None = None

    async def authorization(self) -> str | None:
        """See Credential."""
        return self.header

    async def certificate(self) -> ClientCertificate | None:
        """See Credential."""
        if self.files is not None:
            certificate, key = (_read(path, "client certificate") for path in self.files)
            return ClientCertificate(certificate, key)
        return self.pair

    def refused(self) -> None:
        """See Credential."""


@dataclass(frozen=True, slots=True)
class TokenFile:
    """A token in a file that is read for every request: the kubelet replaces projected tokens long before
    they expire, and a request comes every few minutes."""

    path: Path
    rest: Static = Static()
    """What goes with it: a client certificate."""

    async def authorization(self) -> str | None:
        """See Credential."""
        token = _read(self.path, "token").decode("latin-1").strip()
        if not token or not token.isprintable():
            raise CredentialError(f"{self.path}: holds no token")
        return f"Bearer {token}"

    async def certificate(self) -> ClientCertificate | None:
        """See Credential."""
        return await self.rest.certificate()

    def refused(self) -> None:
        """See Credential."""


def _read(path: Path, what: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CredentialError(f"{what} {path}: {error.strerror}") from None


def basic(user: str, password: str) -> str:
    """The header for a user and a password (RFC 7617)."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


class _ExecStatus(msgspec.Struct, rename="camel"):
    """`ExecCredential.status`."""

    token: str | None = None
    client_certificate_data: str | None = None
    client_key_data: str | None = None
    expiration_timestamp: datetime | None = None


class _ExecCredential(msgspec.Struct, rename="camel"):
    api_version: str = ""
    kind: str = ""
    status: _ExecStatus | None = None


@dataclass(frozen=True, slots=True)
class ExecConfig:
    """`user.exec` of a kubeconfig. `cluster` is what the plugin is told of the cluster, where it asks for
    it."""

    command: str
    args: tuple[str, ...]
    env: Mapping[str, str] = field(repr=False)
    api_version: str
    install_hint: str = ""
    cluster: Mapping[str, object] | None = field(default=None, repr=False)


class ExecPlugin:
    """A command that gives credentials (client-go credential plugins, client.authentication.k8s.io/v1 and
    /v1beta1). It is run when they are first needed, shortly before they expire, and after a 401."""

    def __init__(self, config: ExecConfig, timeout: float = EXEC_TIMEOUT) -> None:
        self.config = config
        self._timeout = timeout
        self._lock = asyncio.Lock()
        self._status: _ExecStatus | None = None

    async def authorization(self) -> str | None:
        """See Credential."""
        token = (await self._current()).token
        return f"Bearer {token}" if token else None

    async def certificate(self) -> ClientCertificate | None:
        """See Credential."""
        status = await self._current()
        if not status.client_certificate_data or not status.client_key_data:
            return None
        return ClientCertificate(status.client_certificate_data.encode(), status.client_key_data.encode())

    def refused(self) -> None:
        """See Credential."""
        self._status = None

    async def _current(self) -> _ExecStatus:
        async with self._lock:  # several requests at once need one run
            status = self._status
            if status is None or _expires_soon(status):
                status = self._status = await self._run()
            return status

    async def _run(self) -> _ExecStatus:
        config = self.config
        spec: dict[str, object] = {"interactive": False}
        if config.cluster is not None:
            spec["cluster"] = config.cluster
        told = {"apiVersion": config.api_version, "kind": "ExecCredential", "spec": spec}
        environment = {**os.environ, **config.env, "KUBERNETES_EXEC_INFO": json.dumps(told)}
        try:
            # What the plugin says on standard error goes to ours, as with kubectl: it is for people.
            process = await asyncio.create_subprocess_exec(
                config.command,
                *config.args,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                env=environment,
            )
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else "has a zero byte in it"
            hint = f"; {config.install_hint}" if config.install_hint else ""
            raise CredentialError(f"exec plugin {config.command}: {why}{hint}") from None
        try:
            async with asyncio.timeout(self._timeout):
                output, _ = await process.communicate()
        except TimeoutError:
            raise CredentialError(
                f"exec plugin {config.command}: no answer in {self._timeout:.0f} s"
            ) from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode:
            raise CredentialError(f"exec plugin {config.command}: exit status {process.returncode}")
        return self._read(output)

    def _read(self, output: bytes) -> _ExecStatus:
        name = f"exec plugin {self.config.command}"
        try:
            credential = msgspec.json.decode(output, type=_ExecCredential)
        except msgspec.DecodeError:
            # msgspec's own text can quote from the output.
            raise CredentialError(f"{name}: its output is no ExecCredential in JSON") from None
        if credential.kind != "ExecCredential" or credential.api_version != self.config.api_version:
            raise CredentialError(f"{name}: its output is no ExecCredential of {self.config.api_version}")
        status = credential.status
        if status is None or not (
            status.token or (status.client_certificate_data and status.client_key_data)
        ):
            raise CredentialError(f"{name}: gave neither a token nor a certificate with its key")
        if status.token and not status.token.isprintable():
            raise CredentialError(f"{name}: gave a token with line ends in it")
        return status


def _expires_soon(status: _ExecStatus) -> bool:
    expiry = status.expiration_timestamp
    if expiry is None:
        return False
    if expiry.tzinfo is None:
        expiry = expiry.replace(tzinfo=UTC)
    return (expiry - datetime.now(UTC)).total_seconds() < _EXPIRY_MARGIN

"""Kubeconfig files, as client-go reads them."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from routed.datastore.kubernetes.access import Access, AccessError, Server, Trust
from routed.datastore.kubernetes.credentials import (
    EXEC_VERSIONS,
    ClientCertificate,
    Credential,
    ExecConfig,
    ExecPlugin,
    Static,
    TokenFile,
    basic,
)

_MAX_SIZE: Final = 16 * 1024 * 1024


def default_kubeconfigs() -> list[Path]:
    """`~/.kube/config`, where it is there."""
    try:
        path = Path.home() / ".kube" / "config"
    except RuntimeError:  # no home
        return []
    return [path] if path.exists() else []


class _Section:
    """A mapping in a kubeconfig, with where it is: for errors, and since paths in it are relative to its
    file."""

    def __init__(self, value: object, where: str, folder: Path) -> None:
        if value is None:
            value = {}
        if not isinstance(value, Mapping):
            raise AccessError(f"{where}: is not a mapping")
        self.values = value
        self.where = where
        self.folder = folder

    def text(self, name: str) -> str:
        """The field, empty where it is not given."""
        value = self.values.get(name)
        if value is None:
            return ""
        if not isinstance(value, str):
            raise AccessError(f"{self.where}.{name}: is not a text")
        return value

    def flag(self, name: str) -> bool:
        value = self.values.get(name)
        if value is None:
            return False
        if not isinstance(value, bool):
            raise AccessError(f"{self.where}.{name}: is not true or false")
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        value = self.values.get(name)
        if value is None:
            return ()
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise AccessError(f"{self.where}.{name}: is not a list of texts")
        return tuple(value)

    def path(self, name: str) -> Path | None:
        text = self.text(name)
        return self.folder / text if text else None

    def data(self, name: str) -> bytes | None:
        """A field in base64."""
        text = self.text(name)
        if not text:
            return None
        try:
            return base64.b64decode("".join(text.split()), validate=True)
        except (binascii.Error, ValueError):
            raise AccessError(f"{self.where}.{name}: is not base64") from None

    def section(self, name: str) -> _Section | None:
        value = self.values.get(name)
        return None if value is None else _Section(value, f"{self.where}.{name}", self.folder)


class _Kubeconfig:
    """Several files as one: of what is in two, the first counts."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.current_context = ""
        self.named: dict[str, dict[str, _Section]] = {"clusters": {}, "contexts": {}, "users": {}}
        self.shown = ", ".join(str(path) for path in paths)
        missing = []
        for path in paths:
            try:
                self._add(path)
            except FileNotFoundError:
                missing.append(path)  # as client-go: one of several may be missing
            except OSError as error:
                raise AccessError(f"kubeconfig {path}: {error.strerror}") from None
        if len(missing) == len(paths):
            raise AccessError(f"kubeconfig {self.shown}: No such file or directory")

    def _add(self, path: Path) -> None:
        with path.open("rb") as file:
            text = file.read(_MAX_SIZE)
        where = f"kubeconfig {path}"
        try:
            document: Any = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506
        except yaml.MarkedYAMLError as error:
            # What else it says can quote the file, a password that begins with '*' for one.
            line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
            raise AccessError(f"{where}{line}: is no YAML") from None
        except (yaml.YAMLError, ValueError, RecursionError):
            raise AccessError(f"{where}: is no YAML") from None
        top = _Section(document, where, path.parent)
        self.current_context = self.current_context or top.text("current-context")
        for plural, known in self.named.items():
            entries = top.values.get(plural)
            if entries is None:
                continue
            if not isinstance(entries, list):
                raise AccessError(f"{where}: {plural}: is not a list")
            for index, entry in enumerate(entries):
                item = _Section(entry, f"{where}: {plural}[{index}]", path.parent)
                content = item.section(plural.removesuffix("s"))
                if content is not None:
                    known.setdefault(item.text("name"), content)

    def get(self, plural: str, name: str) -> _Section:
        try:
            return self.named[plural][name]
        except KeyError:
            raise AccessError(f"kubeconfig {self.shown}: {plural} has no {name!r}") from None


def load_kubeconfig(paths: Sequence[Path], context: str | None = None) -> Access:
    """The access of a context, or of the current one. Raises AccessError."""
    config = _Kubeconfig(paths)
    name = context or config.current_context
    if not name:
        raise AccessError(
            f"kubeconfig {config.shown}: has no current-context: write kubernetes:PATH?context=NAME"
        )
    chosen = config.get("contexts", name)
    cluster = config.get("clusters", chosen.text("cluster"))
    user_name = chosen.text("user")
    user = config.get("users", user_name) if user_name else _Section({}, f"{chosen.where}.user", Path())
    if cluster.text("proxy-url"):
        raise AccessError(f"{cluster.where}.proxy-url: proxies are not supported")
    trust = Trust(
        ca=cluster.data("certificate-authority-data"),
        ca_file=(
            None if cluster.text("certificate-authority-data") else cluster.path("certificate-authority")
        ),
        insecure=cluster.flag("insecure-skip-tls-verify"),
        server_name=cluster.text("tls-server-name") or None,
    )
    server = Server.of(cluster.text("server"), f"{cluster.where}.server")
    return Access(server, trust, _credential(user, cluster), _impersonation(user))


def _credential(user: _Section, cluster: _Section) -> Credential:
    """The first that there is, in client-go's order: token, user and password, exec plugin."""
    if user.values.get("auth-provider") is not None:
        raise AccessError(f"{user.where}.auth-provider: is gone since Kubernetes 1.26: use an exec plugin")
    pair, files = _certificate(user)
    if token_file := user.path("tokenFile"):
        return TokenFile(token_file, Static(pair=pair, files=files))
    if token := user.text("token"):
        if not token.isprintable():
            raise AccessError(f"{user.where}.token: has line ends in it")
        return Static(f"Bearer {token}", pair, files)
    if name := user.text("username"):
        return Static(basic(name, user.text("password")), pair, files)
    if (plugin := user.section("exec")) is not None:
        return ExecPlugin(_exec(plugin, cluster))
    return Static(None, pair, files)


def _certificate(user: _Section) -> tuple[ClientCertificate | None, tuple[Path, Path] | None]:
    certificate, key = user.data("client-certificate-data"), user.data("client-key-data")
    if certificate is not None and key is not None:
        return ClientCertificate(certificate, key), None
    certificate_file, key_file = user.path("client-certificate"), user.path("client-key")
    if certificate_file is not None and key_file is not None:
        return None, (certificate_file, key_file)
    if certificate is None and key is None and certificate_file is None and key_file is None:
        return None, None
    if certificate is not None and key_file is not None:
        return ClientCertificate(certificate, _read(key_file, user)), None
    if certificate_file is not None and key is not None:
        return ClientCertificate(_read(certificate_file, user), key), None
    raise AccessError(f"{user.where}: has a client certificate without its key, or a key alone")


def _read(path: Path, user: _Section) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise AccessError(f"{user.where}: {path}: {error.strerror}") from None


def _exec(plugin: _Section, cluster: _Section) -> ExecConfig:
    command = plugin.text("command")
    if not command:
        raise AccessError(f"{plugin.where}.command: is missing")
    if "/" in command and not command.startswith("/"):
        command = str((plugin.folder / command).absolute())  # as client-go: relative to the kubeconfig
    version = plugin.text("apiVersion")
    if version not in EXEC_VERSIONS:
        raise AccessError(f"{plugin.where}.apiVersion: write {' or '.join(EXEC_VERSIONS)}")
    if plugin.text("interactiveMode") == "Always":
        raise AccessError(f"{plugin.where}.interactiveMode: Always: there is no terminal to ask")
    entries = plugin.values.get("env") or []
    if not isinstance(entries, list):
        raise AccessError(f"{plugin.where}.env: is not a list")
    env = [
        _Section(entry, f"{plugin.where}.env[{index}]", plugin.folder) for index, entry in enumerate(entries)
    ]
    return ExecConfig(
        command=command,
        args=plugin.texts("args"),
        env={entry.text("name"): entry.text("value") for entry in env if entry.text("name")},
        api_version=version,
        install_hint=" ".join(plugin.text("installHint").split()),
        cluster=_told_cluster(cluster) if plugin.flag("provideClusterInfo") else None,
    )


def _told_cluster(cluster: _Section) -> dict[str, object]:
    """`ExecCredential.spec.cluster`."""
    ca = cluster.data("certificate-authority-data")
    ca_file = cluster.path("certificate-authority")
    if ca is None and ca_file is not None:
        ca = _read(ca_file, cluster)
    told: dict[str, object] = {"server": cluster.text("server")}
    if ca is not None:
        told["certificate-authority-data"] = base64.b64encode(ca).decode()
    if cluster.flag("insecure-skip-tls-verify"):
        told["insecure-skip-tls-verify"] = True
    if name := cluster.text("tls-server-name"):
        told["tls-server-name"] = name
    for extension in cluster.values.get("extensions") or ():
        if isinstance(extension, Mapping) and extension.get("name") == "client.authentication.k8s.io/exec":
            told["config"] = extension.get("extension")
    return told


def _impersonation(user: _Section) -> tuple[tuple[str, str], ...]:
    headers = [("Impersonate-User", user.text("as")), ("Impersonate-Uid", user.text("as-uid"))]
    headers += [("Impersonate-Group", group) for group in user.texts("as-groups")]
    given = tuple((name, value) for name, value in headers if value)
    if any(not value.isprintable() for _, value in given):
        raise AccessError(f"{user.where}.as: has line ends in it")
    if user.values.get("as-user-extra"):
        raise AccessError(f"{user.where}.as-user-extra: is not supported")
    return given

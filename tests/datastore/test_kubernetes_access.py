"""Where the API server is and who we are: kubeconfigs, pods, tokens, certificates, exec plugins."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from routed.datastore import Lost, Snapshot, open_datastore
from routed.datastore.kubernetes import reflector
from routed.datastore.kubernetes.access import Access, AccessError, Server, Source, in_cluster
from routed.datastore.kubernetes.credentials import (
    ClientCertificate,
    CredentialError,
    ExecConfig,
    ExecPlugin,
    Static,
    TokenFile,
)
from routed.datastore.kubernetes.kubeconfig import load_kubeconfig
from tests import certificates
from tests.datastore.apiserver import APIServer, Token, write_kubeconfig
from tests.datastore.kubernetes_cluster import cluster, peer
from tests.datastore.watching import following
from tests.waiting import until

V1 = "client.authentication.k8s.io/v1"


@pytest.fixture(autouse=True)
def short_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reflector, "LEAST_WATCH", 0.01)


# Where


@pytest.mark.parametrize(
    ("url", "endpoint", "tls", "path"),
    [
        ("https://10.0.0.1:6443", "10.0.0.1:6443", True, ""),
        ("https://api.example", "api.example:443", True, ""),
        ("http://localhost", "localhost:80", False, ""),
        ("10.0.0.1:6443", "10.0.0.1:6443", True, ""),
        ("https://[fd00::1]:6443/", "[fd00::1]:6443", True, ""),
        ("https://rancher.example/k8s/clusters/c-1/", "rancher.example:443", True, "/k8s/clusters/c-1"),
    ],
)
def test_servers(url: str, endpoint: str, tls: bool, path: str) -> None:
    server = Server.of(url, "x")
    assert (str(server.endpoint), server.tls, server.path) == (endpoint, tls, path)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "ftp://x",
        "https://",
        "https://x:port",
        "https://x:0",
        "https://x:70000",
        "https://u:p@x",
        "https://x/?q",
        "https://x/\r\ny",
    ],
)
def test_no_servers(url: str) -> None:
    with pytest.raises(AccessError, match=r"^the field: ") as caught:
        Server.of(url, "the field")
    assert "u:p" not in str(caught.value)


def test_a_pod_finds_its_server(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("t\n")
    environ = {"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "6443"}
    access = in_cluster(environ, tmp_path)
    assert str(access.server.endpoint) == "[fd00::1]:6443"
    assert access.trust.ca_file == tmp_path / "ca.crt"
    assert asyncio.run(access.credential.authorization()) == "Bearer t"


def test_a_pod_without_a_service_account_says_so(tmp_path: Path) -> None:
    with pytest.raises(AccessError, match="give the pod a service account"):
        in_cluster({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, tmp_path)


@pytest.fixture
def no_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    return home


def test_sources_in_their_order(tmp_path: Path, no_home: Path) -> None:
    def config(name: str, folder: Path = tmp_path) -> str:
        return str(write_kubeconfig(folder / name, f"https://{name}.example"))

    def server(path: str = "", **environ: str) -> str:
        return Source(path, None, environ).load().server.endpoint.host

    (no_home / ".kube").mkdir()
    config("config", no_home / ".kube")
    environ = {"KUBECONFIG": config("environ"), "KUBERNETES_SERVICE_HOST": "10.0.0.1"}
    assert server(config("url"), **environ) == "url.example"
    assert server(**environ) == "environ.example"
    assert server() == "config.example"
    assert server(**environ, K8S_API_ENDPOINT="https://other.example") == "other.example"
    (no_home / ".kube" / "config").unlink()
    assert server(K8S_API_ENDPOINT="http://127.0.0.1:8001") == "127.0.0.1"
    with pytest.raises(AccessError, match="no API server is known"):
        server()


def test_the_environment_overrides(tmp_path: Path) -> None:
    path = write_kubeconfig(tmp_path / "config", "https://x", {"token": "of the file"})
    environ = {
        "K8S_CA_FILE": "/ca",
        "K8S_INSECURE_SKIP_TLS_VERIFY": "true",
        "K8S_API_TOKEN": "of the environment",
        "K8S_CERT_FILE": "/cert",
        "K8S_KEY_FILE": "/key",
    }
    access = Source(str(path), None, environ).load()
    assert (access.trust.ca_file, access.trust.insecure) == (Path("/ca"), True)
    assert access.credential == Static("Bearer of the environment", files=(Path("/cert"), Path("/key")))


# Kubeconfigs


def kubeconfig(
    folder: Path, user: object = None, cluster_: object = None, name: str = "config", **top: Any
) -> Path:
    document = {
        "clusters": [{"name": "c", "cluster": {"server": "https://x"} if cluster_ is None else cluster_}],
        "users": [{"name": "u", "user": user or {}}],
        "contexts": [
            {"name": "one", "context": {"cluster": "c", "user": "u"}},
            {"name": "anonymous", "context": {"cluster": "c"}},
        ],
        "current-context": "one",
        **top,
    }
    path = folder / name
    path.write_text(json.dumps(document))
    return path


def credential(folder: Path, user: object) -> object:
    return load_kubeconfig([kubeconfig(folder, user)]).credential


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def test_credentials_of_kubeconfigs(tmp_path: Path) -> None:
    assert credential(tmp_path, {"token": "t"}) == Static("Bearer t")
    assert credential(tmp_path, {"tokenFile": "here", "token": "t"}) == TokenFile(tmp_path / "here")
    assert credential(tmp_path, {"username": "u", "password": "p"}) == Static("Basic dTpw")
    assert credential(tmp_path, {}) == Static()
    pair = {"client-certificate-data": encoded("C"), "client-key-data": encoded("K")}
    assert credential(tmp_path, pair) == Static(None, ClientCertificate(b"C", b"K"))
    files = {"client-certificate": "c.pem", "client-key": "/k.pem"}
    assert credential(tmp_path, files) == Static(None, None, (tmp_path / "c.pem", Path("/k.pem")))
    (tmp_path / "k").write_text("K")
    mixed = {"client-certificate-data": encoded("C"), "client-key": "k"}
    assert credential(tmp_path, mixed) == Static(None, ClientCertificate(b"C", b"K"))
    plugin = credential(tmp_path, {"exec": {"apiVersion": V1, "command": "./get", "args": ["a"]}})
    assert isinstance(plugin, ExecPlugin)
    assert plugin.config.command == str(tmp_path / "get")


def test_contexts(tmp_path: Path) -> None:
    path = kubeconfig(tmp_path, {"token": "t"})
    assert load_kubeconfig([path], "anonymous").credential == Static()
    with pytest.raises(AccessError, match="contexts has no 'none'"):
        load_kubeconfig([path], "none")


def test_of_several_files_the_first_counts(tmp_path: Path) -> None:
    first = kubeconfig(tmp_path, cluster_={"server": "https://first"}, name="first", contexts=None)
    second = kubeconfig(tmp_path, {"token": "t"}, {"server": "https://second"}, "second")
    access = load_kubeconfig([first, tmp_path / "missing", second])
    assert access.server.endpoint.host == "first"


def test_trust_and_impersonation(tmp_path: Path) -> None:
    cluster_ = {
        "server": "https://x",
        "certificate-authority": "ca.pem",
        "tls-server-name": "kubernetes",
        "insecure-skip-tls-verify": True,
    }
    user = {"token": "t", "as": "system:node", "as-groups": ["a", "b"]}
    access = load_kubeconfig([kubeconfig(tmp_path, user, cluster_)])
    assert access.trust.ca_file == tmp_path / "ca.pem"
    assert (access.trust.server_name, access.trust.insecure) == ("kubernetes", True)
    assert access.headers == (
        ("Impersonate-User", "system:node"),
        ("Impersonate-Group", "a"),
        ("Impersonate-Group", "b"),
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "has no current-context"),
        ("[", "line 2: is no YAML"),
        ("a: b: geheim", "line 1: is no YAML"),
        ("- 1", "is not a mapping"),
        ("clusters: 5", "clusters: is not a list"),
        ("users: [5]", "users[0]: is not a mapping"),
        ("users: [{name: u, user: [geheim]}]", "users[0].user: is not a mapping"),
        ("current-context: 5", "current-context: is not a text"),
        ("current-context: x", "contexts has no 'x'"),
        ("password: *geheim", "line 1: is no YAML"),
        ("password: !geheim x", "line 1: is no YAML"),
        ("\x00", "is no YAML"),
        ("&a [*a]", "is not a mapping"),
    ],
)
def test_bad_kubeconfigs(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "config"
    path.write_text(text)
    with pytest.raises(AccessError) as caught:
        load_kubeconfig([path])
    assert reason in str(caught.value)
    assert str(path) in str(caught.value)
    assert "geheim" not in str(caught.value)


@pytest.mark.parametrize(
    ("user", "reason"),
    [
        ({"token": 5}, "token: is not a text"),
        ({"token": "a\r\nb"}, "token: has line ends"),
        ({"auth-provider": {}}, "use an exec plugin"),
        ({"client-certificate-data": "geheim!"}, "client-certificate-data: is not base64"),
        ({"client-key-data": encoded("geheim")}, "a key alone"),
        ({"client-certificate-data": encoded("C"), "client-key": "missing"}, "No such file"),
        ({"exec": {}}, "exec.command: is missing"),
        ({"exec": {"command": "x", "apiVersion": "v1alpha1"}}, "exec.apiVersion: write client."),
        ({"exec": {"command": "x", "apiVersion": V1, "interactiveMode": "Always"}}, "there is no terminal"),
        ({"exec": {"command": "x", "apiVersion": V1, "args": [5]}}, "args: is not a list of texts"),
        ({"exec": {"command": "x", "apiVersion": V1, "env": {"geheim": 1}}}, "env: is not a list"),
        ({"exec": {"command": "x", "apiVersion": V1, "provideClusterInfo": "yes"}}, "is not true or false"),
        ({"as": "a\nb"}, "as: has line ends"),
        ({"as-user-extra": {"a": ["b"]}}, "is not supported"),
    ],
)
def test_bad_users(tmp_path: Path, user: object, reason: str) -> None:
    with pytest.raises(AccessError) as caught:
        credential(tmp_path, user)
    assert reason in str(caught.value)
    assert "geheim" not in str(caught.value)


def test_bad_clusters(tmp_path: Path) -> None:
    for cluster_, reason in (
        ({}, "server: is not the URL"),
        ({"server": "https://x", "proxy-url": "http://p"}, "proxies are not supported"),
        ({"server": "https://x", "certificate-authority-data": "!"}, "is not base64"),
    ):
        with pytest.raises(AccessError, match=reason):
            load_kubeconfig([kubeconfig(tmp_path, None, cluster_)])
    with pytest.raises(AccessError, match="No such file or directory"):
        load_kubeconfig([tmp_path / "missing"])


def test_a_kubeconfig_that_is_missing_or_bad_is_waited_for(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with asyncio.timeout(30), APIServer() as server:
            server.put(peer("a"))
            path = tmp_path / "config"
            async with following(open_datastore(f"kubernetes:{path}", {})) as watch:
                assert "No such file" in (await watch.expect(Lost)).reason
                path.write_text("clusters: [")
                while "is no YAML" not in (await watch.expect(Lost)).reason:
                    pass
                write_kubeconfig(tmp_path / "new", server.url).rename(path)
                await watch.until(lambda: watch.names == {"a"})

    asyncio.run(scenario())


def test_urls() -> None:
    for url, reason in (
        ("kubernetes:?context=", "only \\?context=NAME"),
        ("kubernetes:/x?user=a", "only \\?context=NAME"),
    ):
        with pytest.raises(ValueError, match=reason):
            open_datastore(url, {})
    with pytest.raises(ValueError, match="CALICO_API_GROUP"):
        open_datastore("kubernetes:", {"CALICO_API_GROUP": "x"})


# Tokens


def test_a_token_that_the_kubelet_replaced_is_taken_up(tmp_path: Path) -> None:
    token_file = tmp_path / "token"
    token_file.write_text("first")

    async def scenario() -> None:
        tokens = {"first": Token("routed"), "second": Token("routed")}
        user = {"tokenFile": str(token_file)}
        async with cluster(tmp_path, peer("a"), user=user, tokens=tokens) as (server, watch):
            await watch.expect(Snapshot)
            token_file.write_text("second\n")
            tokens["first"].expires = time.monotonic()
            server.cut()
            server.put(peer("b"))
            await watch.until(lambda: "b" in watch.names)
            assert len(watch.seen) == 2
            assert not [r for r in server.requests if not r.user]

    asyncio.run(scenario())


def test_a_token_that_is_refused_is_told_and_waited_for(tmp_path: Path) -> None:
    token_file = tmp_path / "token"
    token_file.write_text("wrong")

    async def scenario() -> None:
        user = {"tokenFile": str(token_file)}
        async with cluster(tmp_path, peer("a"), user=user, tokens={"right": Token("x")}) as (_, watch):
            lost = await watch.expect(Lost)
            assert "401 Unauthorized" in lost.reason
            assert "wrong" not in lost.reason
            token_file.write_text("right")
            await watch.until(lambda: watch.names == {"a"})

    asyncio.run(scenario())


@pytest.mark.parametrize("text", ["", "\n", "a\nb"])
def test_files_without_a_token(tmp_path: Path, text: str) -> None:
    path = tmp_path / "token"
    path.write_text(text)
    with pytest.raises(CredentialError, match="holds no token"):
        asyncio.run(TokenFile(path).authorization())
    with pytest.raises(CredentialError, match=r"token .*missing: No such file"):
        asyncio.run(TokenFile(tmp_path / "missing").authorization())


# Exec plugins


def plugin(folder: Path, text: str) -> str:
    """A program that runs these lines of Python."""
    path = folder / "plugin"
    path.write_text(f"#!{sys.executable}\nimport json, os, sys, time\n{text}\n")
    path.chmod(0o755)
    return str(path)


def giving(**status: object) -> str:
    document = {"apiVersion": V1, "kind": "ExecCredential", "status": status}
    return f"print({json.dumps(json.dumps(document))})"


def exec_config(command: str, **more: Any) -> ExecConfig:
    return ExecConfig(command, more.pop("args", ()), more.pop("env", {}), V1, **more)


def test_a_plugin_is_run_again_when_what_it_gave_expires_or_is_refused(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    expiry = "{'expirationTimestamp': os.environ['EXPIRY']} if 'EXPIRY' in os.environ else {}"
    lines = f"""
runs = open({str(runs)!r}, "a"); runs.write("x"); runs.close()
count = os.path.getsize({str(runs)!r})
status = {{"token": f"token-{{count}}", **({expiry})}}
print(json.dumps({{"apiVersion": {V1!r}, "kind": "ExecCredential", "status": status}}))
"""

    async def scenario() -> None:
        command = plugin(tmp_path, lines)
        forever = ExecPlugin(exec_config(command))
        assert await asyncio.gather(*(forever.authorization() for _ in range(3))) == ["Bearer token-1"] * 3
        forever.refused()
        assert await forever.authorization() == "Bearer token-2"

        soon = (datetime.now(UTC) + timedelta(seconds=5)).strftime("%Y-%m-%dT%H:%M:%SZ")
        late = (datetime.now(UTC) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
        for when, tokens in ((soon, ["Bearer token-3", "Bearer token-4"]), (late, ["Bearer token-5"] * 2)):
            expiring = ExecPlugin(exec_config(command, env={"EXPIRY": when}))
            assert [await expiring.authorization() for _ in tokens] == tokens

    asyncio.run(scenario())


def test_a_plugin_is_told_what_client_go_tells(tmp_path: Path) -> None:
    answer = """
told = os.environ["KUBERNETES_EXEC_INFO"].encode().hex()
status = {"token": ".".join((told, sys.argv[1], os.environ["X"]))}
version = "client.authentication.k8s.io/v1"
print(json.dumps({"apiVersion": version, "kind": "ExecCredential", "status": status}))
"""
    command = plugin(tmp_path, answer)
    user = {
        "exec": {
            "apiVersion": V1,
            "command": command,
            "args": ["argument"],
            "env": [{"name": "X", "value": "y"}],
            "provideClusterInfo": True,
        }
    }
    cluster_ = {
        "server": "https://x",
        "certificate-authority-data": encoded("CA"),
        "extensions": [{"name": "client.authentication.k8s.io/exec", "extension": {"audience": "z"}}],
    }
    access = load_kubeconfig([kubeconfig(tmp_path, user, cluster_)])
    header = asyncio.run(access.credential.authorization())
    assert header is not None
    told, argument, variable = header.removeprefix("Bearer ").split(".")
    assert (argument, variable) == ("argument", "y")
    assert json.loads(bytes.fromhex(told)) == {
        "apiVersion": V1,
        "kind": "ExecCredential",
        "spec": {
            "interactive": False,
            "cluster": {
                "server": "https://x",
                "certificate-authority-data": encoded("CA"),
                "config": {"audience": "z"},
            },
        },
    }


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ("sys.exit(3)", "exit status 3"),
        ("print('geheim')", "no ExecCredential in JSON"),
        ("print('{}')", "no ExecCredential of"),
        (giving(), "neither a token nor a certificate"),
        (giving(clientKeyData="geheim"), "neither a token nor a certificate"),
        (giving(token="geheim\r\nX: y"), "a token with line ends"),
        (giving(token=["geheim"]), "no ExecCredential in JSON"),
        (giving(token="t", expirationTimestamp="geheim"), "no ExecCredential in JSON"),
        ("time.sleep(60)", "no answer in 1 s"),
    ],
)
def test_plugins_that_fail(tmp_path: Path, lines: str, reason: str) -> None:
    async def scenario() -> None:
        with pytest.raises(CredentialError) as caught:
            await ExecPlugin(exec_config(plugin(tmp_path, lines)), timeout=1.0).authorization()
        assert reason in str(caught.value)
        assert "geheim" not in str(caught.value)

    asyncio.run(scenario())


def test_a_plugin_that_is_not_there_shows_how_to_install_it() -> None:
    config = exec_config("/no/such/plugin", install_hint="apt install it")
    with pytest.raises(CredentialError, match="No such file or directory; apt install it"):
        asyncio.run(ExecPlugin(config).authorization())


def test_a_refused_token_of_a_plugin_is_replaced_without_a_word(tmp_path: Path) -> None:
    counter = tmp_path / "count"
    lines = f"""
open({str(counter)!r}, "a").write("x")
token = f"token-{{os.path.getsize({str(counter)!r})}}"
print(json.dumps({{"apiVersion": {V1!r}, "kind": "ExecCredential", "status": {{"token": token}}}}))
"""
    user = {"exec": {"apiVersion": V1, "command": plugin(tmp_path, lines)}}

    async def scenario() -> None:
        tokens = {"token-1": Token("x"), "token-2": Token("x")}
        async with cluster(tmp_path, peer("a"), user=user, tokens=tokens) as (server, watch):
            await watch.expect(Snapshot)
            await until(lambda: server.watchers == 7)
            tokens["token-1"].expires = time.monotonic()
            server.cut()
            server.put(peer("b"))
            await watch.until(lambda: "b" in watch.names)
            assert len(watch.seen) == 2

    asyncio.run(scenario())


# TLS


class Authority:
    """A certificate authority made with openssl(1), and what it signs."""

    def __init__(self, folder: Path) -> None:
        if reason := certificates.unavailable():
            pytest.skip(reason)
        self.folder = folder
        self._openssl(
            *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1"),
            *("-subj", "/CN=authority", "-keyout", "ca.key", "-out", "ca.pem"),
            *("-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign"),
        )
        self.ca = folder / "ca.pem"

    def _openssl(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=self.folder, check=True, capture_output=True)

    def sign(self, name: str, extension: str) -> tuple[Path, Path]:
        """A certificate and its key."""
        (self.folder / f"{name}.ext").write_text(extension)
        self._openssl(
            *(
                "req",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-nodes",
                "-subj",
                f"/CN={name}",
            ),
            *("-keyout", f"{name}.key", "-out", f"{name}.csr"),
        )
        self._openssl(
            *("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"),
            *("-days", "1", "-extfile", f"{name}.ext", "-out", f"{name}.pem"),
        )
        return self.folder / f"{name}.pem", self.folder / f"{name}.key"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    try:
        return Authority(tmp_path_factory.mktemp("authority"))
    except FileNotFoundError:
        pytest.skip("openssl is not installed")


def server_context(authority: Authority, client: bool = False, names: str = "IP:127.0.0.1") -> ssl.SSLContext:
    certificate, key = authority.sign("server", f"subjectAltName={names}\n")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    if client:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(authority.ca)
    return context


async def outcome(folder: Path, context: ssl.SSLContext, user: dict[str, object], **cluster_: object) -> str:
    """The names that are read, or why none can be."""
    async with asyncio.timeout(30), APIServer(tls=context) as server:
        server.put(peer("a"))
        path = write_kubeconfig(folder / "config", server.url, user, **cluster_)
        async with following(open_datastore(f"kubernetes:{path}", {})) as watch:
            event = await watch.next()
            return event.reason if isinstance(event, Lost) else " ".join(sorted(watch.names))


def test_tls(tmp_path: Path, authority: Authority) -> None:
    async def scenario() -> None:
        ca: dict[str, object] = {"certificate-authority": str(authority.ca)}
        data: dict[str, object] = {
            "certificate-authority-data": base64.b64encode(authority.ca.read_bytes()).decode()
        }
        context = server_context(authority)
        assert await outcome(tmp_path, context, {}, **ca) == "a"
        assert await outcome(tmp_path, context, {}, **data) == "a"
        assert await outcome(tmp_path, context, {}, **{"insecure-skip-tls-verify": True}) == "a"
        assert "is not accepted" in await outcome(tmp_path, context, {})
        missing: dict[str, object] = {"certificate-authority": "missing.pem"}
        assert "missing.pem: No such file" in await outcome(tmp_path, context, {}, **missing)
        (tmp_path / "no.pem").write_text("geheim")
        reason = await outcome(tmp_path, context, {}, **{"certificate-authority": "no.pem"})
        assert "is not a certificate in PEM" in reason
        other = server_context(authority, names="DNS:kubernetes")
        assert "is not accepted" in await outcome(tmp_path, other, {}, **ca)
        assert await outcome(tmp_path, other, {}, **ca, **{"tls-server-name": "kubernetes"}) == "a"

    asyncio.run(scenario())


def test_client_certificates(tmp_path: Path, authority: Authority) -> None:
    certificate, key = authority.sign("client", "extendedKeyUsage=clientAuth\n")
    texts = [path.read_bytes() for path in (certificate, key)]
    pair: Callable[[bytes, bytes], dict[str, object]] = lambda c, k: {  # noqa: E731
        "client-certificate-data": base64.b64encode(c).decode(),
        "client-key-data": base64.b64encode(k).decode(),
    }
    lines = giving(clientCertificateData=texts[0].decode(), clientKeyData=texts[1].decode())
    by_plugin: dict[str, object] = {"exec": {"apiVersion": V1, "command": plugin(tmp_path, lines)}}

    async def scenario() -> None:
        ca: dict[str, object] = {"certificate-authority": str(authority.ca)}
        context = server_context(authority, client=True)
        assert await outcome(tmp_path, context, pair(texts[0], texts[1]), **ca) == "a"
        files: dict[str, object] = {"client-certificate": str(certificate), "client-key": str(key)}
        assert await outcome(tmp_path, context, files, **ca) == "a"
        assert await outcome(tmp_path, context, by_plugin, **ca) == "a"
        assert await outcome(tmp_path, context, {}, **ca) != "a"
        assert "client certificate: is no PEM" in await outcome(tmp_path, context, pair(b"x", b"y"), **ca)

    asyncio.run(scenario())


def test_an_encrypted_key_asks_nobody(tmp_path: Path, authority: Authority) -> None:
    certificate, key = authority.sign("locked", "extendedKeyUsage=clientAuth\n")
    locked = tmp_path / "locked.key"
    subprocess.run(
        ["openssl", "pkcs8", "-topk8", "-in", key, "-out", locked, "-passout", "pass:geheim"], check=True
    )
    access = Access(Server.of("https://127.0.0.1:1", "x"), credential=Static(files=(certificate, locked)))
    with pytest.raises(AccessError, match="the key has a password"):
        asyncio.run(access.connect())


def test_secrets_are_in_no_repr(tmp_path: Path) -> None:
    shown = repr(
        [
            Static("Bearer geheim", ClientCertificate(b"C", b"geheim")),
            exec_config("x", env={"A": "geheim"}),
            Source("", None, {"K8S_API_TOKEN": "geheim"}),
            TokenFile(tmp_path, Static("geheim")),
        ]
    )
    assert "geheim" not in shown

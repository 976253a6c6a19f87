"""What is etcd's alone, against real ones: members, certificates, users, revisions."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from routed.datastore import (
    Changes,
    Datastore,
    Lost,
    Restored,
    Snapshot,
    etcd,
    etcd_client,
    open_datastore,
    remote,
    retry,
)
from routed.datastore import etcd_wire as wire
from routed.datastore.etcd_client import TLS, CompactedError, EtcdOptions
from routed.datastore.etcd_layout import key_of as etcd_key_of
from routed.datastore.remote import Feed, Follower
from routed.datastore.retry import UnavailableError
from routed.resources import IPPool, Key
from tests import certificates
from tests.datastore.contract import affinity, as_number, peer, upserts_of
from tests.datastore.etcd_server import EtcdServer
from tests.datastore.proxy import Proxy
from tests.datastore.watching import LONG, Watched, following

pytestmark = pytest.mark.usefixtures("etcd")

ROOT = Path(__file__).resolve().parent.parent.parent
RESOURCES = "/calico/resources/v3/projectcalico.org"


def run(scenario: Coroutine[object, object, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(60):
            await scenario

    asyncio.run(bounded())


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is silent or lost is noticed soon."""
    monkeypatch.setattr(remote, "LOST_GRACE", 0.1)
    monkeypatch.setattr(etcd_client, "PROGRESS_PERIOD", 0.3)
    monkeypatch.setattr(etcd_client, "ANSWER_TIME", 0.7)


@pytest.fixture
def listings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Has an element for each time that all records were read."""
    counted: list[int] = []
    listing = etcd._EtcdFollower._list

    async def counting(self: etcd._EtcdFollower, connection: etcd_client.Connection) -> None:
        counted.append(1)
        await listing(self, connection)

    monkeypatch.setattr(etcd._EtcdFollower, "_list", counting)
    return counted


async def put(server: EtcdServer, *documents: Mapping[str, object]) -> int:
    """Puts records at their places. Gives the revision."""
    pairs = (etcd_key_of(document) for document in documents)
    return await server.put((key, json.dumps(value).encode()) for key, value in pairs)


def opened(server: EtcdServer | Proxy, environ: Mapping[str, str] | None = None) -> Datastore:
    scheme = "etcds" if isinstance(server, EtcdServer) and server.scheme == "https" else "etcd"
    return open_datastore(f"{scheme}://127.0.0.1:{server.port}", environ or {})


@asynccontextmanager
async def proxied(folder: Path, *arguments: str) -> AsyncIterator[tuple[EtcdServer, Proxy]]:
    async with EtcdServer(folder, arguments) as server, Proxy(server.port) as proxy:
        yield server, proxy


async def away(watch: Watched, proxy: Proxy) -> None:
    """Cuts the way to the server, and waits until that is told."""
    proxy.refusing = True
    proxy.cut()
    await watch.expect(Lost)


def reasons(watch: Watched) -> str:
    """All that was said of losses."""
    return "\n".join(event.reason for event in watch.seen if isinstance(event, Lost))


# Revisions


def test_a_cut_is_resumed_from_the_last_revision_without_reading_all_again(
    tmp_path: Path, listings: list[int]
) -> None:
    async def scenario() -> None:
        async with proxied(tmp_path) as (server, proxy):
            await put(server, peer("a"), *(affinity(n) for n in range(50)))
            async with following(opened(proxy)) as watch:
                await watch.expect(Snapshot)
                await away(watch, proxy)
                await put(server, peer("a", as_number=64999))
                await put(server, peer("b"))
                proxy.refusing = False
                await watch.until(lambda: "b" in watch.names and as_number(watch, "a") == 64999)
                assert sorted(record.name for record in upserts_of(watch.seen[1:])) == ["a", "b"]
                assert len(listings) == 1

    run(scenario())


def test_after_a_compaction_all_is_read_again_and_only_the_difference_told(
    tmp_path: Path, listings: list[int]
) -> None:
    async def scenario() -> None:
        async with proxied(tmp_path) as (server, proxy):
            await put(server, peer("a"), peer("gone"), *(affinity(n) for n in range(50)))
            async with following(opened(proxy)) as watch:
                await watch.expect(Snapshot)
                await away(watch, proxy)
                await put(server, peer("a", as_number=64999), peer("b"))
                revision = await server.delete([f"{RESOURCES}/bgppeers/gone"])
                await server.compact(revision)
                seen = len(watch.seen)
                proxy.refusing = False
                await watch.until(lambda: isinstance(watch.seen[-1], Changes))
                told = watch.seen[seen:]
                assert sorted(record.name for record in upserts_of(told)) == ["a", "b"]
                assert watch.withdrawn() == {"gone"}
                assert len(listings) == 2
                # And it goes on from there.
                await put(server, peer("c"))
                await watch.until(lambda: "c" in watch.names)

    run(scenario())


def test_a_compaction_while_all_is_read(
    tmp_path: Path, listings: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It begins again, at a newer revision."""
    compactions = 0
    pages = etcd_client.Connection.pages
    monkeypatch.setattr(etcd_client, "PAGE", 10)

    async def scenario() -> None:
        async with EtcdServer(tmp_path) as server:
            await put(server, *(affinity(n) for n in range(50)))

            async def compacting(
                self: etcd_client.Connection, prefix: bytes, end: bytes, revision: int = 0
            ) -> AsyncIterator[wire.RangeResponse]:
                nonlocal compactions
                async for page in pages(self, prefix, end, revision):
                    yield page
                    if page.more and compactions < 2:
                        compactions += 1
                        await server.compact(await put(server, affinity(100 + compactions)))

            monkeypatch.setattr(etcd_client.Connection, "pages", compacting)
            async with following(opened(server)) as watch:
                await watch.expect(Snapshot)
                assert len(watch.in_force) == 52
                assert len(listings) == 3

    run(scenario())


def test_progress_moves_the_place_to_resume_from(tmp_path: Path, listings: list[int]) -> None:
    """Where only others' keys change, a compaction must not cost a reading of all."""

    async def scenario() -> None:
        every = ("--experimental-watch-progress-notify-interval", "50ms")
        async with proxied(tmp_path, *every) as (server, proxy):
            await put(server, peer("a"))
            datastore = opened(proxy)
            assert isinstance(datastore, etcd.EtcdDatastore)
            followers: list[etcd._EtcdFollower] = []
            make = datastore.follower

            def remember(feed: Feed) -> Follower:
                follower = make(feed)
                assert isinstance(follower, etcd._EtcdFollower)
                followers.append(follower)
                return follower

            datastore.follower = remember  # type: ignore[method-assign]
            async with following(datastore) as watch:
                await watch.expect(Snapshot)
                (follower,) = followers
                revision = await server.put((f"/other/{number}", b"x") for number in range(500))
                async with asyncio.timeout(LONG):
                    while not all(next_ > revision for next_ in follower.next_revisions or ()):
                        await asyncio.sleep(0.01)
                await away(watch, proxy)
                await server.compact(revision)
                await put(server, peer("b"))
                proxy.refusing = False
                await watch.until(lambda: "b" in watch.names)
                assert len(listings) == 1

    run(scenario())


def test_a_transaction_is_one_change(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with EtcdServer(tmp_path) as server:
            await put(server, peer("a"))
            async with following(opened(server)) as watch:
                await watch.expect(Snapshot)
                await put(server, peer("b"), peer("a", as_number=64999), peer("c"))
                changes = await watch.expect(Changes)
                assert [record.name for record in changes.upserts] == ["a", "b", "c"]

    run(scenario())


def test_large_values_in_one_answer_come_in_fragments(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with proxied(tmp_path) as (server, proxy):
            await put(server, peer("a"))
            async with following(opened(proxy)) as watch:
                await watch.expect(Snapshot)
                await away(watch, proxy)
                for number in range(8):
                    await put(server, peer(f"large-{number}", annotations={"note": "x" * 1_400_000}))
                proxy.refusing = False
                await watch.until(lambda: len(watch.in_force) == 9)
                await put(server, peer("b"))
                await watch.until(lambda: "b" in watch.names)

    run(scenario())


# A server that is not what it was


def test_an_etcd_that_was_reset_is_lost_not_empty(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with EtcdServer(tmp_path) as server:
            await put(server, *(peer(f"p{number}") for number in range(20)))
            async with following(opened(server)) as watch:
                await watch.expect(Snapshot)
                await server.stop()
                server.forget()
                await server.start()
                await watch.until(
                    lambda: any("was reset" in e.reason for e in watch.seen if isinstance(e, Lost))
                )
                assert not watch.withdrawn()
                # When it has records again, those count.
                seen = len(watch.seen)
                await put(server, *(peer(f"p{number}") for number in range(19)), peer("new"))
                await watch.until(lambda: "new" in watch.names)
                assert [record.name for record in upserts_of(watch.seen[seen:])] == ["new"]
                assert watch.withdrawn() == {"p19"}
                await put(server, peer("later"))
                await watch.until(lambda: "later" in watch.names)

    run(scenario())


def test_all_records_deleted_is_no_loss(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with proxied(tmp_path) as (server, proxy):
            await put(server, peer("a"), peer("b"))
            async with following(opened(proxy)) as watch:
                await watch.expect(Snapshot)
                await away(watch, proxy)
                revision = await server.delete(f"{RESOURCES}/bgppeers/{name}" for name in "ab")
                await server.compact(revision)
                proxy.refusing = False
                await watch.until(lambda: not watch.in_force)

    run(scenario())


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"", b"\0" * 100, b"\xff" * 4000])
def test_what_is_no_etcd_is_asked_seldom(tmp_path: Path, answer: bytes) -> None:
    async def scenario() -> None:
        asked = 0

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal asked
            asked += 1
            writer.write(answer)
            with contextlib.suppress(OSError):
                await writer.drain()
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server, following(open_datastore(f"etcd://127.0.0.1:{port}", {})) as watch:
            lost = await watch.expect(Lost)
            assert lost.reason.startswith(f"127.0.0.1:{port}: ")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.5):
                    await watch.ended.wait()
            assert 1 <= asked <= 20
            assert [event for event in watch.seen if not isinstance(event, Lost)] == []

    run(scenario())


def test_nothing_is_left_open_after_many_cuts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "STEADY", 0.0)

    async def scenario() -> None:
        async with proxied(tmp_path) as (server, proxy):
            await put(server, peer("a"))
            async with following(opened(proxy)) as watch:
                await watch.expect(Snapshot)
                descriptors = len(os.listdir("/proc/self/fd"))
                for number in range(8):
                    # Cut when it has come back, and again before it has.
                    proxy.cut()
                    await put(server, peer("a", as_number=65000 + number))
                    await watch.until(lambda number=number: as_number(watch, "a") == 65000 + number)  # type: ignore[misc]
                assert len(os.listdir("/proc/self/fd")) <= descriptors
                assert proxy.connections == 1

    run(scenario())


# Members


@asynccontextmanager
async def cluster(folder: Path) -> AsyncIterator[list[EtcdServer]]:
    """Three members."""
    servers = [EtcdServer(folder / name, name=name) for name in ("one", "two", "three")]
    together = ",".join(f"{server.name}=http://127.0.0.1:{server.peer_port}" for server in servers)
    try:
        for server in servers:
            server.cluster = together
            await server.launch()
        for server in servers:
            await server.answering()
        yield servers
    finally:
        for server in servers:
            with contextlib.suppress(ProcessLookupError):
                if server.process is not None:
                    server.process.send_signal(signal.SIGCONT)
            await server.stop()


async def member_in_use(servers: list[EtcdServer], proxies: list[Proxy]) -> int:
    """Which one the watch is at, when it is at one."""
    async with asyncio.timeout(LONG):
        while [proxy.connections for proxy in proxies].count(1) != 1:
            await asyncio.sleep(0.01)
    return [proxy.connections for proxy in proxies].index(1)


def test_other_members_take_over_and_one_without_a_leader_is_left(
    tmp_path: Path, listings: list[int]
) -> None:
    async def scenario() -> None:
        async with cluster(tmp_path) as servers, contextlib.AsyncExitStack() as stack:
            proxies = [await stack.enter_async_context(Proxy(server.port)) for server in servers]
            await put(servers[0], peer("a"))
            url = "etcd://" + ",".join(f"127.0.0.1:{proxy.port}" for proxy in proxies)
            async with following(open_datastore(url, {})) as watch:
                await watch.expect(Snapshot)
                # The member in use dies.
                used = await member_in_use(servers, proxies)
                await servers[used].stop()
                others = [index for index in range(3) if index != used]
                await put_somewhere(servers, others, "b")
                await watch.until(lambda: "b" in watch.names)
                assert await member_in_use(servers, proxies) != used
                await servers[used].start()
                # The member in use is cut off from the two others, which go on without it.
                used = await member_in_use(servers, proxies)
                others = [index for index in range(3) if index != used]
                for index in others:
                    suspended = servers[index].process
                    assert suspended is not None
                    suspended.send_signal(signal.SIGSTOP)
                await watch.until(lambda: isinstance(watch.seen[-1], Lost))
                for index in others:
                    resumed = servers[index].process
                    assert resumed is not None
                    resumed.send_signal(signal.SIGCONT)
                await watch.expect_skipping(Restored, Lost)
                await put_somewhere(servers, others, "c")
                await watch.until(lambda: "c" in watch.names)
                assert not watch.withdrawn()
                assert len(listings) == 1

    run(scenario())


async def put_somewhere(servers: list[EtcdServer], indexes: list[int], name: str) -> None:
    """Puts a record as soon as there is a leader again."""
    async with asyncio.timeout(LONG):
        while True:
            for index in indexes:
                with contextlib.suppress(UnavailableError):
                    await put(servers[index], peer(name))
                    return
            await asyncio.sleep(0.05)


def test_no_member_is_there(tmp_path: Path) -> None:
    async def scenario() -> None:
        closed = []
        for _ in range(2):
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                closed.append(probe.getsockname()[1])
        url = f"etcd://127.0.0.1:{closed[0]},127.0.0.1:{closed[1]},no-such-host.invalid:1"
        async with following(open_datastore(url, {})) as watch:
            lost = await watch.expect(Lost)
            assert f"127.0.0.1:{closed[0]}: Connection refused" in lost.reason
            assert f"127.0.0.1:{closed[1]}: Connection refused" in lost.reason
            assert "no-such-host.invalid:1: its name cannot be looked up" in lost.reason

    run(scenario())


# Certificates


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> certificates.Authority:
    if reason := certificates.unavailable():
        pytest.skip(reason)
    return certificates.Authority(tmp_path_factory.mktemp("authority"))


@asynccontextmanager
async def secured(
    folder: Path, authority: certificates.Authority, client_certificates: bool = True
) -> AsyncIterator[EtcdServer]:
    own = authority.sign("server")
    client = authority.sign("client")
    arguments = ["--cert-file", own.cert, "--key-file", own.key]
    if client_certificates:
        arguments += ["--client-cert-auth", "--trusted-ca-file", authority.certificate.cert]
    tls = TLS(authority.certificate.cert, client.cert, client.key)
    async with EtcdServer(folder, arguments, tls) as server:
        await put(server, peer("a"))
        yield server


def environ(ca: str | None = None, client: certificates.Certificate | None = None) -> dict[str, str]:
    made = {} if ca is None else {"ETCD_CA_CERT_FILE": ca}
    return made if client is None else {**made, "ETCD_CERT_FILE": client.cert, "ETCD_KEY_FILE": client.key}


def test_tls_with_client_certificates(tmp_path: Path, authority: certificates.Authority) -> None:
    async def scenario() -> None:
        async with secured(tmp_path, authority) as server:
            mine = environ(authority.certificate.cert, authority.sign("mine"))
            async with following(opened(server, mine)) as watch:
                await watch.expect(Snapshot)
                await put(server, peer("b"))
                await watch.until(lambda: watch.names == {"a", "b"})
                # Certificates mean TLS, whatever the scheme is.
            async with following(open_datastore(f"etcd://127.0.0.1:{server.port}", mine)) as watch:
                await watch.expect(Snapshot)

    run(scenario())


def test_tls_that_fails_says_why(tmp_path: Path, authority: certificates.Authority) -> None:
    async def scenario() -> None:
        ca = authority.certificate.cert
        stranger = certificates.Authority(tmp_path / "stranger")
        encrypted = authority.sign("encrypted", password="s3cret")
        unreadable = certificates.Certificate(str(tmp_path / "none.pem"), str(tmp_path / "none.key"))
        (tmp_path / "garbage.pem").write_text("garbage")
        cases = [
            (environ(stranger.certificate.cert, authority.sign("mine")), "certificate is not accepted"),
            (environ(None, authority.sign("mine")), "certificate is not accepted"),
            (environ(ca), "it wants a client certificate"),
            (environ(ca, stranger.sign("other")), "or does not accept this one"),
            (environ(ca, authority.sign("expired", days=-1)), "or does not accept this one"),
            (environ(ca, unreadable), "none.pem and .*none.key: No such file"),
            (environ(ca, encrypted), "encrypted.pem and "),
            (environ(str(tmp_path / "garbage.pem")), "garbage.pem: "),
        ]
        async with secured(tmp_path / "etcd", authority) as server:
            for variables, reason in cases:
                async with following(opened(server, variables)) as watch:
                    lost = await watch.expect(Lost)
                    assert re.search(reason, lost.reason), (reason, lost.reason)
                    assert "s3cret" not in lost.reason
            async with following(open_datastore(f"etcd://127.0.0.1:{server.port}", {})) as watch:
                assert "TLS" in (await watch.expect(Lost)).reason
        async with (
            EtcdServer(tmp_path / "plain") as plain,
            following(open_datastore(f"etcds://127.0.0.1:{plain.port}", {})) as watch,
        ):
            # Its reset can overtake the answer that would have told more.
            assert re.search("TLS|reset|Broken pipe", (await watch.expect(Lost)).reason)

    run(scenario())


def test_renewed_certificates_are_taken_up(tmp_path: Path, authority: certificates.Authority) -> None:
    async def scenario() -> None:
        async with secured(tmp_path, authority) as server:
            mine = authority.sign("renewed", days=-1)
            good = authority.sign("good")
            async with following(opened(server, environ(authority.certificate.cert, mine))) as watch:
                await watch.expect(Lost)
                for old, new in zip(mine, good, strict=True):
                    os.replace(new, old)
                await watch.expect_skipping(Restored, Lost)
                await watch.expect(Snapshot)

    run(scenario())


# Users


async def enable_users(server: EtcdServer) -> None:
    """root, and calico, who may read what is below /calico/; then nobody else may do anything."""
    user, grant = "/etcdserverpb.Auth/UserAdd", "/etcdserverpb.Auth/UserGrantRole"
    role, permit = "/etcdserverpb.Auth/RoleAdd", "/etcdserverpb.Auth/RoleGrantPermission"
    for name, password in ((b"root", b"r00t"), (b"calico", b"s3cret")):
        await server.call(role, wire.encode((1, name)))
        await server.call(user, wire.encode((1, name), (2, password)))
        await server.call(grant, wire.encode((1, name), (2, name)))
    permission = wire.encode((2, b"/calico/"), (3, b"/calico0"))
    await server.call(permit, wire.encode((1, b"calico")) + wire.embed(2, permission))
    await server.call("/etcdserverpb.Auth/AuthEnable", b"")


USER = {"ETCD_USERNAME": "calico", "ETCD_PASSWORD": "s3cret"}


def test_a_user_who_may_only_read(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with EtcdServer(tmp_path) as server:
            await put(server, peer("a"))
            await enable_users(server)
            await server._hang_up()
            server.options = EtcdOptions((server.endpoint,), None, "root", "r00t")
            async with following(opened(server, USER)) as watch:
                await watch.expect(Snapshot)
                await put(server, peer("b"))
                await watch.until(lambda: watch.names == {"a", "b"})
                # The tokens of before mean nothing to it now.
                await server.stop()
                await watch.expect(Lost)
                await server.start()
                await watch.expect_skipping(Restored, Lost)
                await put(server, peer("c"))
                await watch.until(lambda: watch.names == {"a", "b", "c"})
            for variables, reason in (
                ({}, "set ETCD_USERNAME and ETCD_PASSWORD"),
                (USER | {"ETCD_PASSWORD": "wr0ng"}, "authentication failed"),
                (USER | {"ETCD_USERNAME": "nobody"}, "authentication failed"),
            ):
                async with following(opened(server, variables)) as watch:
                    lost = await watch.expect(Lost)
                    assert reason in lost.reason
                    assert "s3cret" not in lost.reason
                    assert "wr0ng" not in lost.reason

    run(scenario())


def test_a_user_where_there_are_none(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with EtcdServer(tmp_path) as server:
            await put(server, peer("a"))
            async with following(opened(server, USER)) as watch:
                await watch.expect(Snapshot)

    run(scenario())


# Pools from before v3


def test_a_pool_that_is_kept_twice_counts_once(tmp_path: Path) -> None:
    async def scenario() -> None:
        old = (
            "/calico/v1/ipam/v4/pool/10.65.0.0-16",
            b'{"cidr": "10.65.0.0/16", "ipip": "tunl0", "ipip_mode": "always"}',
        )
        spec = {"cidr": "10.65.0.0/16", "ipipMode": "Never"}
        new = {"kind": "IPPool", "metadata": {"name": "default"}, "spec": spec}
        place, value = etcd_key_of(new)
        async with EtcdServer(tmp_path) as server:
            await server.put([old])
            async with following(opened(server)) as watch:
                await watch.expect(Snapshot)
                assert watch.names == {"10-65-0-0-16"}
                await server.put([(place, json.dumps(value).encode())])
                changes = await watch.expect(Changes)
                assert (changes.deletes, watch.names) == ((Key("IPPool", "10-65-0-0-16"),), {"default"})
                await server.delete([place])
                await watch.until(lambda: watch.names == {"10-65-0-0-16"})
                pool = watch.in_force[Key("IPPool", "10-65-0-0-16")]
                assert isinstance(pool, IPPool)
                await server.delete([old[0]])
                await watch.until(lambda: not watch.names)

    run(scenario())


# Keys


def test_problems_name_the_key(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with EtcdServer(tmp_path) as server:
            key = "/calico/ipam/v2/host/node-1/ipv4/block/10.65.0.64-99"
            await server.put([(key, b"{}"), (f"{RESOURCES}/bgppeers/a", b"[]")])
            async with following(opened(server)) as watch:
                snapshot = await watch.expect(Snapshot)
                assert [str(problem) for problem in snapshot.problems] == [
                    f"{key}: BlockAffinity node-1-10-65-0-64-99: spec.cidr: "
                    "'10.65.0.64/99' has a prefix length over 32",
                    f"{RESOURCES}/bgppeers/a: BGPPeer a: is JSON, but no object",
                ]

    run(scenario())


# The example


def test_the_example_cluster_is_the_same_from_etcd_as_from_its_files(tmp_path: Path) -> None:
    async def scenario() -> None:
        folder = ROOT / "examples" / "cluster"
        async with EtcdServer(tmp_path) as server:
            url = f"etcd://127.0.0.1:{server.port}"
            loader = await asyncio.create_subprocess_exec(
                *(sys.executable, ROOT / "examples" / "compose" / "load.py", folder, url),
                stdout=asyncio.subprocess.PIPE,
            )
            said, _ = await loader.communicate()
            assert (loader.returncode, said) == (0, b"31 records are in etcd\n")
            async with (
                following(open_datastore(f"file:{folder}")) as files,
                following(opened(server)) as watch,
            ):
                await files.expect(Snapshot)
                await watch.expect(Snapshot)
                assert watch.in_force == files.in_force
                assert len(watch.in_force) == 31
                assert watch.last.problems == files.last.problems

    run(scenario())


# Anything in any order


@pytest.mark.parametrize("seed", range(4))
def test_a_random_history_ends_as_etcd_has_it(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Puts, deletions and garbage, with cuts, silences, restarts and compactions in between."""
    monkeypatch.setattr(retry, "STEADY", 0.0)
    chance = random.Random(seed)

    async def scenario() -> None:
        async with proxied(tmp_path) as (server, proxy):
            wanted: dict[str, int] = {}
            revision = await put(server, peer("fence", as_number=1))

            async def change() -> int:
                name = f"p{chance.randrange(12)}"
                if chance.random() < 0.3:
                    wanted.pop(name, None)
                    return await server.delete([f"{RESOURCES}/bgppeers/{name}"])
                if chance.random() < 0.15 and name in wanted:
                    # The last good version stays in force.
                    return await server.put([(f"{RESOURCES}/bgppeers/{name}", b"{")])
                wanted[name] = chance.randrange(1, 65000)
                return await put(server, peer(name, as_number=wanted[name]))

            def settled() -> bool:
                return {name: as_number(watch, name) for name in watch.names - {"fence"}} == wanted

            async with following(opened(proxy)) as watch:
                await watch.expect(Snapshot)
                for step in range(40):
                    what = chance.random()
                    if what < 0.15:
                        proxy.cut()
                    elif what < 0.2:
                        proxy.refusing = not proxy.refusing
                        proxy.cut()
                    elif what < 0.23:
                        proxy.freeze()
                    elif what < 0.28:
                        proxy.thaw()
                    elif what < 0.3:
                        await server.stop()
                        await server.start()
                    elif what < 0.4:
                        with contextlib.suppress(UnavailableError, CompactedError):
                            await server.compact(revision)
                    for _ in range(chance.randrange(5)):
                        revision = await change()
                    if step % 10 == 9:
                        proxy.refusing = False
                        proxy.thaw()
                        # A garbage value that was never told good is not in force: begin with good ones.
                        for name in wanted:
                            revision = await put(server, peer(name, as_number=wanted[name]))
                        await watch.until(settled)

    run(scenario())

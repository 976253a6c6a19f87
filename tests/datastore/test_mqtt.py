"""The relay and its readers, with a real mosquitto: relays that die, several relays, secrets, and who may."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path

import aiomqtt
import msgspec
import pytest

from routed.datastore import Lost, Restored, Snapshot, mqtt, mqtt_wire, open_datastore
from routed.datastore.mqtt_client import MqttOptions, read_url
from routed.relay import Relay
from routed.resources import Key, Secret
from tests.datastore.contract import Document, as_number, peer
from tests.datastore.mosquitto import Mosquitto, Observer, observing
from tests.datastore.watching import Watched, following

PREFIX = "test"
TOPICS = mqtt_wire.Topics(PREFIX)

pytestmark = pytest.mark.usefixtures("mosquitto")


def run(scenario: Coroutine[object, object, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(60):
            await scenario

    asyncio.run(bounded())


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is silent is noticed soon."""
    monkeypatch.setattr(mqtt_wire, "BEAT", 1.0)
    monkeypatch.setattr(mqtt, "SECRETS_PERIOD", 0.05)


class Records:
    """A folder with a file for each record."""

    def __init__(self, folder: Path, *documents: Document) -> None:
        self.folder = folder
        folder.mkdir()
        self.put(*documents)

    def put(self, *documents: Document) -> None:
        for document in documents:
            metadata = document["metadata"]
            assert isinstance(metadata, dict)
            new = self.folder / ".new"
            new.write_text(json.dumps(document))
            new.rename(self.folder / f"{metadata['name']}.json")

    def delete(self, name: str) -> None:
        (self.folder / f"{name}.json").unlink()


@asynccontextmanager
async def relaying(records: Records, port: int, name: str) -> AsyncIterator[Relay]:
    relay = Relay(open_datastore(f"file:{records.folder}"), MqttOptions("127.0.0.1", port, PREFIX), name)
    task = asyncio.create_task(relay.run())
    try:
        yield relay
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def process(records: Records, port: int, name: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """`routed relay`, in a process of its own."""
    relay = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "routed", "relay", "--datastore", f"file:{records.folder}"),
        *("--to", f"mqtt://127.0.0.1:{port}/{PREFIX}", "--name", name),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield relay
    finally:
        with contextlib.suppress(ProcessLookupError):
            relay.kill()
        await relay.wait()


def reader(port: int, secrets: Path | None = None) -> mqtt.MqttDatastore:
    environ = {"ROUTED_SECRETS": str(secrets)} if secrets else {}
    datastore = open_datastore(f"mqtt://127.0.0.1:{port}/{PREFIX}", environ)
    assert isinstance(datastore, mqtt.MqttDatastore)
    return datastore


@asynccontextmanager
async def broker(folder: Path) -> AsyncIterator[tuple[int, Observer]]:
    async with (
        Mosquitto(folder / "mosquitto") as server,
        observing(server.port, PREFIX) as observer,
    ):
        yield server.port, observer


def marker(observer: Observer) -> mqtt_wire.Marker | None:
    return mqtt_wire.decode(observer.held.get(TOPICS.snapshot, b""), mqtt_wire.Marker)


def led_by(observer: Observer, name: str) -> Callable[[], bool]:
    return lambda: getattr(marker(observer), "relay", None) == name


def topic(name: str) -> str:
    return TOPICS.record(Key("BGPPeer", name))


def reasons(watch: Watched) -> str:
    return "\n".join(event.reason for event in watch.seen if isinstance(event, Lost))


def test_a_relay_that_is_killed_is_noticed_and_one_that_comes_back_catches_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its last will, long before it could be noticed that it is silent. What was deleted while there was
    none is withdrawn when there is one, and nothing before."""
    monkeypatch.setattr(mqtt_wire, "BEAT", 1000.0)
    records = Records(tmp_path / "records", peer("a"), peer("b"))

    async def scenario() -> None:
        async with broker(tmp_path) as (port, observer):  # noqa: SIM117
            async with process(records, port, "one") as relay, following(reader(port)) as watch:
                # There was no relay yet when it began.
                while not isinstance(event := await watch.next(), Snapshot):
                    assert isinstance(event, Lost | Restored)
                relay.kill()
                lost = await watch.expect(Lost)
                assert "no relay" in lost.reason
                assert TOPICS.relay("one") not in observer.held
                records.delete("b")
                records.put(peer("c"))
                assert watch.names == {"a", "b"}
                async with process(records, port, "two"):
                    await watch.expect(Restored)
                    await watch.until(lambda: watch.names == {"a", "c"})
                    assert watch.withdrawn() == {"b"}
                    await observer.until(lambda: topic("b") not in observer.held)

    run(scenario())


def test_a_relay_that_stops_says_so(tmp_path: Path) -> None:
    async def scenario() -> None:
        records = Records(tmp_path / "records", peer("a"))
        async with broker(tmp_path) as (port, observer), process(records, port, "one") as relay:
            await observer.until(led_by(observer, "one"))
            relay.terminate()
            assert await relay.wait() == 0
            await observer.until(lambda: TOPICS.relay("one") not in observer.held)
            assert topic("a") in observer.held

    run(scenario())


def test_of_two_relays_one_publishes_and_the_other_takes_over(tmp_path: Path) -> None:
    async def scenario() -> None:
        records = Records(tmp_path / "records", peer("a"), peer("b"))
        async with broker(tmp_path) as (port, observer), contextlib.AsyncExitStack() as stack:
            first = await stack.enter_async_context(contextlib.AsyncExitStack())
            await first.enter_async_context(relaying(records, port, "two"))
            await observer.until(led_by(observer, "two"))
            watch = await stack.enter_async_context(following(reader(port)))
            await watch.expect(Snapshot)
            # One that comes does not take over, though its name is lower.
            second = await stack.enter_async_context(relaying(records, port, "one"))
            await observer.until(lambda: TOPICS.relay("one") in observer.held)
            records.put(peer("a", as_number=64999))
            await watch.until(lambda: as_number(watch, "a") == 64999)
            assert led_by(observer, "two")()
            assert not second.leading
            # It does when the other goes, and all goes on.
            await first.aclose()
            records.delete("b")
            records.put(peer("c"))
            await watch.until(lambda: watch.names == {"a", "c"})
            await observer.until(led_by(observer, "one"))
            assert not [event for event in watch.seen if isinstance(event, Lost)]
            assert watch.withdrawn() == {"b"}

    run(scenario())


def test_two_relays_that_begin_at_once_agree(tmp_path: Path) -> None:
    async def scenario() -> None:
        records = Records(tmp_path / "records", *(peer(f"p{number}") for number in range(50)))
        async with (
            broker(tmp_path) as (port, observer),
            relaying(records, port, "one") as one,
            relaying(records, port, "two") as two,
            following(reader(port)) as watch,
        ):
            await watch.until(lambda: len(watch.in_force) == 50)
            records.delete("p7")
            await watch.until(lambda: len(watch.in_force) == 49)
            await observer.until(lambda: one.leading != two.leading)
            assert watch.withdrawn() == {"p7"}

    run(scenario())


def test_a_relay_whose_datastore_is_away_says_so(tmp_path: Path) -> None:
    async def scenario() -> None:
        records = Records(tmp_path / "records", peer("a"))
        async with broker(tmp_path) as (port, observer), relaying(records, port, "one"):
            await observer.until(led_by(observer, "one"))
            async with following(reader(port)) as watch:
                await watch.expect(Snapshot)
                records.folder.rename(tmp_path / "hidden")
                lost = await watch.expect(Lost)
                assert "relay one: its datastore is lost" in lost.reason
                (tmp_path / "hidden").rename(records.folder)
                await watch.expect(Restored)
                assert not watch.withdrawn()

    run(scenario())


def test_a_relay_that_hangs_is_noticed(tmp_path: Path) -> None:
    """Its connection is there, so that there is no last will."""

    async def scenario() -> None:
        async with Mosquitto(tmp_path / "mosquitto") as server:
            contents = mqtt_wire.Contents()
            async with aiomqtt.Client("127.0.0.1", server.port) as client:
                await publish(client, TOPICS.snapshot, contents.marker("one", 1))
                await publish(client, TOPICS.relay("one"), mqtt_wire.Status("one", 7))
                async with following(reader(server.port)) as watch:
                    await watch.expect(Snapshot)
                    await watch.expect(Lost)
                    # That the broker still has its last word changes nothing; a new one does.
                    await watch.until(lambda: "no relay is connected" in reasons(watch))
                    assert not [event for event in watch.seen if isinstance(event, Restored)]
                    await publish(client, TOPICS.relay("one"), mqtt_wire.Status("one", 8))
                    await watch.expect_skipping(Restored, Lost)

    run(scenario())


async def publish(client: aiomqtt.Client, to: str, message: mqtt_wire.Marker | mqtt_wire.Status) -> None:
    await client.publish(to, msgspec.json.encode(message), qos=1, retain=True)


def test_a_batch_takes_effect_when_it_is_whole(tmp_path: Path) -> None:
    """A reader that has part of the records, or one too many, does not take them for all."""

    async def scenario() -> None:
        envelope = b'{"revision":1,"record":' + json.dumps(peer("a")).encode() + b"}"
        record = mqtt_wire.record_of(envelope)
        assert record is not None
        contents = mqtt_wire.Contents()
        contents.put(topic("a"), record)
        async with Mosquitto(tmp_path / "mosquitto") as server:  # noqa: SIM117
            async with aiomqtt.Client("127.0.0.1", server.port) as client:
                await publish(client, TOPICS.relay("one"), mqtt_wire.Status("one", 1))
                await publish(client, TOPICS.snapshot, contents.marker("one", 1))
                await client.publish(topic("left-over"), envelope, qos=1, retain=True)
                async with following(reader(server.port)) as watch:
                    await client.publish(topic("a"), envelope, qos=1, retain=True)
                    await client.publish(topic("left-over"), b"", qos=1, retain=True)
                    snapshot = await watch.expect(Snapshot)
                    assert [item.name for item in snapshot.upserts] == ["a"]

    run(scenario())


def test_what_others_write_is_put_right(tmp_path: Path) -> None:
    async def scenario() -> None:
        records = Records(tmp_path / "records", peer("a"))
        async with broker(tmp_path) as (port, observer), relaying(records, port, "one"):
            await observer.until(led_by(observer, "one"))
            good = observer.held[topic("a")]
            async with following(reader(port)) as watch, aiomqtt.Client("127.0.0.1", port) as client:
                await watch.expect(Snapshot)
                seen = len(observer.seen)
                for name, payload in (("a", b"garbage"), ("foreign", good), ("odd", b"\xff{")):
                    await client.publish(topic(name), payload, qos=1, retain=True)
                await client.publish(TOPICS.snapshot, b"garbage", qos=1, retain=True)
                await observer.until(
                    lambda: (
                        len(observer.seen) > seen + 4
                        and not {topic("foreign"), topic("odd")} & observer.held.keys()
                        and mqtt_wire.record_of(observer.held[topic("a")]) == mqtt_wire.record_of(good)
                        and marker(observer) is not None
                    )
                )
                records.put(peer("b"))
                await watch.until(lambda: "b" in watch.names)
                assert watch.names == {"a", "b"}
                assert not watch.withdrawn()

    run(scenario())


def test_a_broker_that_drops_messages_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As mosquitto does where it is not set up for so many: what there is is part of all, and not taken."""
    monkeypatch.setattr(mqtt, "STUCK", 0.5)

    async def scenario() -> None:
        records = Records(tmp_path / "records", *(peer(f"p{number}") for number in range(400)))
        extra = "allow_anonymous true\nmax_queued_messages 100\nmax_inflight_messages 20\n"
        async with (
            Mosquitto(tmp_path / "mosquitto", extra=extra) as server,
            observing(server.port, TOPICS.snapshot) as observer,
            relaying(records, server.port, "one"),
        ):
            await observer.until(led_by(observer, "one"))
            async with following(reader(server.port)) as watch:
                await watch.until(lambda: "max_queued_messages" in reasons(watch))
                assert not [event for event in watch.seen if isinstance(event, Snapshot)]

    run(scenario())


# Secrets


def secret(name: str, **values: str) -> Document:
    data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
    metadata = {"name": name, "namespace": "kube-system"}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data}


def test_secrets_are_never_on_the_wire(tmp_path: Path) -> None:
    async def scenario() -> None:
        records = Records(tmp_path / "records", peer("a"), secret("bgp", mesh="correct horse"))
        bad = {**secret("bad"), "data": {"x": "correct horse!"}}
        records.put(bad)
        async with broker(tmp_path) as (port, observer), relaying(records, port, "one"):
            await observer.until(led_by(observer, "one"))
            records.put(secret("bgp", mesh="battery staple"), peer("b"))
            await observer.until(lambda: topic("b") in observer.held)
            written = b"\n".join(part for name, payload in observer.seen for part in (name.encode(), payload))
            for hidden in (b"correct horse", b"battery staple", b"kube-system%2Fbgp"):
                assert hidden not in written
                assert base64.b64encode(hidden) not in written
            assert not [name for name, _ in observer.seen if "/Secret/" in name]
            async with following(reader(port)) as watch:
                await watch.expect(Snapshot)
                assert {key.kind for key in watch.in_force} == {"BGPPeer"}

    run(scenario())


def test_secrets_come_from_mounted_files(tmp_path: Path) -> None:
    """As Kubernetes mounts them: `..data` links to a folder that is another after a change."""
    mounted = tmp_path / "secrets" / "bgp"
    for version, value in (("..1", b"correct horse"), ("..2", b"battery staple")):
        (mounted / version).mkdir(parents=True)
        (mounted / version / "mesh").write_bytes(value)
    (mounted / "..data").symlink_to("..1")
    (mounted / "mesh").symlink_to("..data/mesh")
    key = Key("Secret", "kube-system/bgp")

    def password(watch: Watched) -> bytes | None:
        record = watch.in_force.get(key)
        return record.data["mesh"].reveal() if isinstance(record, Secret) else None

    async def scenario() -> None:
        records = Records(tmp_path / "records", peer("a"))
        async with broker(tmp_path) as (port, observer), relaying(records, port, "one"):
            await observer.until(led_by(observer, "one"))
            async with following(reader(port, mounted.parent)) as watch:
                await watch.expect(Snapshot)
                assert watch.names == {"a", "kube-system/bgp"}
                assert password(watch) == b"correct horse"
                (mounted / "..new").symlink_to("..2")
                (mounted / "..new").rename(mounted / "..data")
                await watch.until(lambda: password(watch) == b"battery staple")
                mounted.parent.rename(tmp_path / "gone")
                await watch.until(lambda: bool(watch.last.problems))
                assert password(watch) == b"battery staple"

    run(scenario())


# Who may, and where


def test_users_and_passwords(tmp_path: Path) -> None:
    passwords = tmp_path / "passwords"
    made = subprocess.run(["mosquitto_passwd", "-b", "-c", passwords, "node", "geheim"], capture_output=True)
    assert made.returncode == 0, made.stderr
    passwords.chmod(0o600)

    async def scenario() -> None:
        server = Mosquitto(
            tmp_path / "mosquitto", extra=f"allow_anonymous false\npassword_file {passwords}\n"
        )
        async with server:
            url = f"mqtt://127.0.0.1:{server.port}/{PREFIX}"
            for environ in ({}, {"ROUTED_MQTT_USERNAME": "node", "ROUTED_MQTT_PASSWORD": "verkehrt"}):
                async with following(open_datastore(url, environ)) as watch:
                    lost = await watch.expect(Lost)
                    assert "uthori" in lost.reason
                    assert "verkehrt" not in lost.reason
            file = tmp_path / "password"
            file.write_text("geheim\n")
            environ = {"ROUTED_MQTT_USERNAME": "node", "ROUTED_MQTT_PASSWORD_FILE": str(file)}
            async with following(open_datastore(url, environ)) as watch:
                lost = await watch.expect(Lost)
                assert "no relay is connected" in lost.reason

    run(scenario())


# paho leaves the socket of a failed handshake to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_tls(tmp_path: Path) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    made = subprocess.run(
        [
            *(
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:prime256v1",
                "-nodes",
            ),
            *("-keyout", str(key), "-out", str(cert), "-days", "2", "-subj", "/CN=broker"),
            *("-addext", "subjectAltName=IP:127.0.0.1"),
        ],
        capture_output=True,
    )
    assert made.returncode == 0, made.stderr

    async def scenario() -> None:
        records = Records(tmp_path / "records", peer("a"))
        extra = f"certfile {cert}\nkeyfile {key}\nallow_anonymous true\n"
        async with Mosquitto(tmp_path / "mosquitto", extra=extra) as server:
            url = f"mqtts://127.0.0.1:{server.port}/{PREFIX}"
            async with following(open_datastore(url, {})) as watch:
                assert "certificate" in (await watch.expect(Lost)).reason
            environ = {"ROUTED_MQTT_CA_CERT_FILE": str(cert)}
            relay = Relay(open_datastore(f"file:{records.folder}"), read_url(url, environ), "one")
            task = asyncio.create_task(relay.run())
            async with following(open_datastore(url, environ)) as watch:
                await watch.until(lambda: watch.names == {"a"})
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    run(scenario())

"""Events to MQTT, with a real mosquitto: what is published, in what order, and what a broker that is away,
hangs or is slow costs."""

from __future__ import annotations

import asyncio
import functools
import ipaddress
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.reflector.processes import free_port
from routed import daemon
from routed.bgp.nlri import Family, from_network
from routed.bgp.rib import LocRib
from routed.bgp.speaker import Speaker
from routed.datastore import mqtt_client
from routed.observe import event_schema, mqtt_events, mqtt_messages
from routed.observe.events import Event, EventKind, EventLog
from routed.observe.mqtt_events import MqttEvents, read_events_url
from routed.observe.mqtt_messages import MOST_OCTETS, WAITING_OCTETS, Message, Messages, Outbox, Topics
from routed.observe.observed import Observed
from routed.observe.options import ObserveOptions
from routed.observe.outlets import Outlets
from routed.observe.route_changes import RouteChanges
from tests import certificates
from tests.datastore import mosquitto as mosquitto_server
from tests.datastore.mosquitto import Mosquitto, Observer, observing
from tests.datastore.proxy import Proxy
from tests.waiting import until

REPOSITORY = Path(__file__).resolve().parents[2]
PREFIX = "lab"
#: A name with all that means something in topics.
HOSTILE = "node/+1#$%\u00e9 <b>"
VALIDATOR = jsonschema.Draft202012Validator(event_schema.schema())


@pytest.fixture
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Mosquitto:
    """A mosquitto that is to be started."""
    if reason := mosquitto_server.unavailable():
        if request.config.getoption("--require-all"):
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    return Mosquitto(tmp_path / "mosquitto", persistent=True)


def run(scenario: Coroutine[object, object, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(40):
            await scenario

    asyncio.run(bounded())


def observed(node: str = "node-a") -> Observed:
    """A process that does nothing but have events."""
    events = EventLog()
    ribs = {family: LocRib(family) for family in Family}
    return Observed(
        node=node, speaker=cast(Speaker, None), events=events, route_changes=RouteChanges(ribs, events)
    )


@asynccontextmanager
async def publishing(
    process: Observed, port: int, environ: Mapping[str, str] | None = None, scheme: str = "mqtt"
) -> AsyncIterator[MqttEvents]:
    """The outlet at work, closed as `Outlets` does it."""
    url = f"{scheme}://127.0.0.1:{port}/{PREFIX}"
    outlet = MqttEvents(read_events_url(url, environ or {}), process)
    await outlet.start()
    try:
        yield outlet
    finally:
        process.events.close()
        begun = time.monotonic()
        await outlet.close()
        # A second, and as much for a busy machine; without bounds it would be ten.
        assert time.monotonic() - begun < 2.0
        assert not [task for task in asyncio.all_tasks() if "mqtt_events" in repr(task.get_coro())]


@functools.cache
def checked(topic: str, payload: bytes) -> dict[str, Any]:
    """The document of an event, which is as the schema and its topic say."""
    assert len(payload) <= MOST_OCTETS
    document: dict[str, Any] = json.loads(payload)
    VALIDATOR.validate(document)
    assert topic == f"{topic.partition('/events/')[0]}/events/{document['kind']}"
    return document


def documents(observer: Observer) -> list[dict[str, Any]]:
    """The events that went by."""
    return [checked(topic, payload) for topic, payload in observer.seen if "/events/" in topic]


def numbers(observer: Observer, kind: EventKind | None = None) -> list[int]:
    """The numbers of the events that went by, each once (QoS 1)."""
    return list(
        dict.fromkeys(d["number"] for d in documents(observer) if kind is None or d["kind"] == kind.value)
    )


# One of each kind, as they are published


def one_of_each(log: EventLog) -> None:
    """Publishes events of all kinds, with fields as the schema's table has them."""
    examples: dict[str, object] = {
        "string": "<script>\x1b[31m\u202e",
        "integer": 7,
        "number": 90.0,
        "boolean": True,
        "array": ["10.0.0.0/26"],
    }
    for kind, fields in event_schema.FIELDS.items():
        values: dict[str, object] = {}
        for name, one in fields.items():
            if "enum" in one:
                values[name] = one["enum"][0]
            elif name == "families":
                values[name] = ["ipv4"]
            else:
                kinds = one["type"]
                values[name] = examples[kinds if isinstance(kinds, str) else kinds[0]]
        if kind is not EventKind.MISSED:
            log.publish(kind, "it \u0000 happened", "Mesh_10_0_0_2", **values)


def test_the_published_schema_is_current() -> None:
    assert json.loads((REPOSITORY / "docs/events.schema.json").read_text()) == event_schema.schema()
    jsonschema.Draft202012Validator.check_schema(event_schema.schema())
    assert event_schema.FIELDS.keys() == set(EventKind)


def test_the_schema_refuses_what_lacks_a_field() -> None:
    messages = Messages(Topics(PREFIX, "a"), "a", 0.0)
    (message,) = messages.of(Event(1, 0.0, EventKind.SESSION_DOWN, "down", "p", {"reason": "x"}))
    with pytest.raises(jsonschema.ValidationError, match="'address' is a required property"):
        VALIDATOR.validate(json.loads(message.payload))


def test_every_kind_is_published_in_order_and_fits_its_schema(broker: Mosquitto) -> None:
    async def scenario() -> None:
        process = observed(HOSTILE)
        async with broker, observing(broker.port, PREFIX) as observer:
            async with publishing(process, broker.port):
                one_of_each(process.events)
                await observer.until(lambda: len(documents(observer)) == len(EventKind) - 1)
                await until(lambda: process.outlet_counters["mqtt_events_published"] == len(EventKind) - 1)
            node = "lab/nodes/node%2F%2B1%23%24%25%C3%A9%20%3Cb%3E"
            await observer.until(lambda: observer.held.get(f"{node}/online") == b"false")
            assert all(topic.startswith(f"{node}/") for topic, _ in observer.seen)
            assert [p for topic, p in observer.seen if topic.endswith("/online")] == [b"true", b"false"]
        assert numbers(observer) == list(range(1, len(EventKind)))
        assert {d["node"] for d in documents(observer)} == {HOSTILE}
        assert documents(observer)[0]["text"] == "it \u0000 happened"
        assert process.outlet_counters["mqtt_events_dropped"] == 0

    run(scenario())


def test_what_was_published_before_the_stop_arrives(
    broker: Mosquitto, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A busy machine may take longer over it than a process that stops would wait.
    for name in ("FLUSH_TIME", "GOODBYE_TIME"):
        monkeypatch.setattr(mqtt_events, name, 20.0)

    async def scenario() -> None:
        process = observed()
        async with broker, observing(broker.port, PREFIX) as observer:
            async with publishing(process, broker.port):
                await observer.until(lambda: observer.held.get("lab/nodes/node-a/online") == b"true")
                for _ in range(100):
                    process.events.publish(EventKind.CONVERGED, "it is")
                process.events.publish(EventKind.STOPPING, "routed stops")
            await observer.until(lambda: observer.held["lab/nodes/node-a/online"] == b"false")
            assert numbers(observer) == list(range(1, 102))
            # The goodbye is the last word.
            assert observer.seen[-1] == ("lab/nodes/node-a/online", b"false")

    run(scenario())


# Brokers in trouble


def test_a_broker_that_comes_back_gets_what_waited(broker: Mosquitto) -> None:
    async def scenario() -> None:
        process = observed()
        process.events.publish(EventKind.STARTED, "before any listener", peers=0)
        async with publishing(process, broker.port):
            process.events.publish(EventKind.DRAINING, "while the broker is away")
            await broker.start()
            async with observing(broker.port, PREFIX) as observer:
                await observer.until(lambda: observer.held.get("lab/nodes/node-a/online") == b"true")
                process.events.publish(EventKind.DRAIN_ENDED, "while it is there")
                await observer.until(lambda: numbers(observer, EventKind.DRAIN_ENDED) == [3])
            await broker.stop()
            await until(lambda: not process.outlet_counters["mqtt_connected"])
            process.events.publish(EventKind.STOPPING, "while it is away again")
            await broker.start()
            async with observing(broker.port, PREFIX) as observer:
                await observer.until(lambda: numbers(observer, EventKind.STOPPING) == [4])
                assert observer.held["lab/nodes/node-a/online"] == b"true"
                await until(lambda: process.outlet_counters["mqtt_events_published"] == 3)
        await broker.stop()
        assert process.outlet_counters["mqtt_connections_lost"] >= 1

    run(scenario())


def test_events_without_a_broker_are_bounded_counted_and_told(broker: Mosquitto) -> None:
    async def scenario() -> None:
        process = observed()
        counters = process.outlet_counters
        async with publishing(process, broker.port) as outlet:
            sent = 10_000
            for number in range(sent):
                process.events.publish(EventKind.BAD_UPDATE, "bad", "Mesh_10_0_0_2", finding="x", times=1)
                if number % 500 == 0:
                    await asyncio.sleep(0)  # Thousands in one turn are what the event log does not keep.
            await until(lambda: len(outlet._outbox) + counters["mqtt_events_dropped"] == sent)
            assert counters["mqtt_waiting_bytes"] <= WAITING_OCTETS
            dropped = counters["mqtt_events_dropped"]
            assert dropped > sent // 2
            await broker.start()
            async with observing(broker.port, PREFIX) as observer:
                await observer.until(lambda: bool(numbers(observer, EventKind.MISSED)))
                process.events.publish(EventKind.CONVERGED, "after")
                await observer.until(lambda: bool(numbers(observer, EventKind.CONVERGED)))
            found = documents(observer)
            missed = [d["fields"]["events"] for d in found if d["kind"] == "missed"]
            assert missed == [dropped]
            assert counters["mqtt_events_dropped"] == dropped
            # An acknowledgement comes after the message has gone to others.
            await until(lambda: counters["mqtt_events_published"] + dropped == sent + 1)
            # The word of it stands where they would have been.
            assert [d["kind"] for d in found[-2:]] == ["missed", "converged"]
        await broker.stop()

    run(scenario())


def test_a_broker_that_hangs_neither_blocks_nor_delays_the_stop(broker: Mosquitto) -> None:
    async def scenario() -> None:
        process = observed()
        async with broker:
            assert broker.process is not None
            async with publishing(process, broker.port):
                await until(lambda: process.outlet_counters["mqtt_connected"])
                broker.process.send_signal(signal.SIGSTOP)
                try:
                    for number in range(2000):
                        process.events.publish(EventKind.PROBLEM, "x" * 900, severity="error", record="r")
                        if number % 100 == 0:
                            await asyncio.sleep(0)
                    await until(lambda: process.outlet_counters["mqtt_events_dropped"])
                    assert process.outlet_counters["mqtt_waiting_bytes"] <= WAITING_OCTETS
                finally:
                    # `publishing` closes while it still hangs.
                    asyncio.get_running_loop().call_later(1.5, broker.process.send_signal, signal.SIGCONT)
            async with observing(broker.port, PREFIX) as observer:
                await observer.until(lambda: observer.held.get("lab/nodes/node-a/online") == b"false")

    run(scenario())


def test_a_broker_that_hangs_for_a_while_gets_all_in_the_end(
    broker: Mosquitto, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Longer than a broker may take for an answer: it is given up, connected to again, and the messages that
    it did not acknowledge are published again."""
    monkeypatch.setattr(mqtt_client, "ANSWER_TIME", 0.3)

    async def scenario() -> None:
        process = observed()
        async with broker, publishing(process, broker.port):
            assert broker.process is not None
            await until(lambda: process.outlet_counters["mqtt_connected"])
            broker.process.send_signal(signal.SIGSTOP)
            try:
                for _ in range(100):
                    process.events.publish(EventKind.CONVERGED, "it is")
                await until(lambda: process.outlet_counters["mqtt_connections_lost"])
            finally:
                broker.process.send_signal(signal.SIGCONT)
            async with observing(broker.port, PREFIX) as observer:
                await until(lambda: process.outlet_counters["mqtt_events_published"] == 100)
                await observer.until(lambda: observer.held.get("lab/nodes/node-a/online") == b"true")
        assert process.outlet_counters["mqtt_events_dropped"] == 0

    run(scenario())


@pytest.mark.parametrize(
    ("argument", "shown"),
    [
        ("mqtt://user:geheim@host:1883/lab", "mqtt://user:***@host:1883/lab"),
        ("--events=mqtts://u:ge@h:e/im@host/lab", "--events=mqtts://u:***@host/lab"),
        ("mqtt://host:1883/lab", "mqtt://host:1883/lab"),
        ("etcd://10.0.0.1:2379,10.0.0.2:2379", "etcd://10.0.0.1:2379,10.0.0.2:2379"),
        ("kubernetes:/etc/config?context=admin@lab", "kubernetes:/etc/config?context=admin@lab"),
    ],
)
def test_arguments_are_listed_without_passwords(argument: str, shown: str) -> None:
    assert daemon.without_password(argument) == shown


def test_a_broker_that_never_answers_does_not_delay_the_stop() -> None:
    """In TCP, and where TLS is awaited."""

    async def scenario(scheme: str) -> None:
        accepted = asyncio.Event()

        async def silent(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            accepted.set()
            try:
                await asyncio.Event().wait()
            finally:
                writer.close()

        server = await asyncio.start_server(silent, "127.0.0.1", 0)
        async with server:
            async with publishing(observed(), server.sockets[0].getsockname()[1], scheme=scheme):
                await accepted.wait()
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()

    for scheme in ("mqtt", "mqtts"):
        begun = time.monotonic()
        run(scenario(scheme))
        assert time.monotonic() - begun < 4.5  # not the five seconds of a thread that connects


def test_a_slow_broker_gets_all_in_order(broker: Mosquitto) -> None:
    async def scenario() -> None:
        process = observed()
        async with (
            broker,
            Proxy(broker.port) as proxy,
            observing(broker.port, PREFIX) as observer,
            publishing(process, proxy.port),
        ):
            await observer.until(lambda: observer.held.get("lab/nodes/node-a/online") == b"true")
            proxy.chunk, proxy.pace = 4, 0.005  # an acknowledgement each
            for _ in range(100):
                process.events.publish(EventKind.CONVERGED, "it is")
            await observer.until(lambda: len(numbers(observer)) == 100)
            proxy.cut()
            for _ in range(50):
                process.events.publish(EventKind.CONVERGED, "it is")
            await observer.until(lambda: len(numbers(observer)) == 150)
            proxy.chunk, proxy.pace = 1 << 16, 0.0
        assert numbers(observer) == list(range(1, 151))

    run(scenario())


def test_a_second_connection_of_a_node_takes_the_place_of_the_first(broker: Mosquitto) -> None:
    """As when the host lost its power: the broker has not noticed, and must not tell the last will later."""

    async def scenario() -> None:
        async with (
            broker,
            Proxy(broker.port) as proxy,
            observing(broker.port, PREFIX) as observer,
            publishing(observed(), proxy.port),
        ):
            await observer.until(lambda: observer.held.get("lab/nodes/node-a/online") == b"true")
            proxy.freeze()
            second = observed()
            async with publishing(second, broker.port):
                await until(lambda: second.outlet_counters["mqtt_connected"])
                proxy.refusing = True
                proxy.cut()
                await until(lambda: not proxy.connections)
                # What the broker had to say about the first connection comes before this.
                for number in (1, 2):
                    second.events.publish(EventKind.CONVERGED, "it is")
                    await observer.until(lambda: numbers(observer)[-1:] == [number])  # noqa: B023
                assert observer.held["lab/nodes/node-a/online"] == b"true"
            proxy.thaw()

    run(scenario())


# Large and many


def test_a_storm_of_routes_is_few_messages(broker: Mosquitto) -> None:
    async def scenario() -> None:
        process = observed()
        nlri = [
            from_network(ipaddress.ip_network((0x0A000000 + (number << 6), 26))) for number in range(100_000)
        ]
        async with broker, observing(broker.port, PREFIX) as observer, publishing(process, broker.port):
            for start in range(0, len(nlri), 1000):
                process.route_changes.changed(Family.IPV4, nlri[start : start + 1000])
                await asyncio.sleep(0)
            process.route_changes.publish()
            process.events.publish(EventKind.CONVERGED, "it is")
            await observer.until(lambda: bool(numbers(observer, EventKind.CONVERGED)))
            routes = [d for d in documents(observer) if d["kind"] == "routes"]
            assert sum(d["fields"]["changes"] for d in routes if d["part"] == 1) == 100_000
            assert len(routes) <= 10
            process.route_changes.close()

    run(scenario())


def test_a_large_event_is_split(broker: Mosquitto) -> None:
    async def scenario() -> None:
        process = observed()
        broker.extra = "allow_anonymous true\nmax_packet_size 40000\n"
        announced = [f"2001:db8:{number:x}:ffff:ffff:ffff:ffff:ffff/128" for number in range(5000)]
        withdrawn = [f"10.{number >> 8}.{number & 255}.0/26" for number in range(3000)]
        async with broker, observing(broker.port, PREFIX) as observer, publishing(process, broker.port):
            process.events.publish(
                EventKind.ROUTES,
                "IPv6: 8000 changes",
                family="ipv6",
                changes=8000,
                announced=announced,
                withdrawn=withdrawn,
                all_named=True,
            )
            await until(lambda: process.outlet_counters["mqtt_events_published"] == 1)
            await observer.until(lambda: documents(observer)[-1:] != [] and _complete(documents(observer)))
        parts = documents(observer)
        assert [part["part"] for part in parts] == list(range(1, len(parts) + 1))
        assert {part["number"] for part in parts} == {1}
        assert [prefix for part in parts for prefix in part["fields"]["announced"]] == announced
        assert [prefix for part in parts for prefix in part["fields"]["withdrawn"]] == withdrawn

    run(scenario())


def _complete(found: list[dict[str, Any]]) -> bool:
    return bool(found) and found[-1]["part"] == found[-1]["parts"]


_TEXTS = st.text(st.characters(exclude_categories=()), max_size=60)
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats() | _TEXTS,
    lambda children: st.lists(children, max_size=4) | st.dictionaries(_TEXTS, children, max_size=4),
    max_leaves=12,
)


@given(
    node=_TEXTS.filter(bool),
    text=_TEXTS,
    peer=st.none() | _TEXTS,
    fields=st.dictionaries(_TEXTS, _VALUES, max_size=5),
    factor=st.sampled_from((1, 3000)),
)
def test_whatever_is_in_an_event_messages_are_small_valid_json(
    node: str, text: str, peer: str | None, fields: dict[str, object], factor: int
) -> None:
    topics = Topics(PREFIX, node)
    topic = topics.event(EventKind.PROBLEM)
    assert topic.count("/") == 4
    assert topic.isascii()
    assert topic.isprintable()
    assert not set(topic) & set("+#$ ")
    fields = {
        name: value * factor if isinstance(value, str | list) else value for name, value in fields.items()
    }
    event = Event(1, 1.7e9, EventKind.PROBLEM, text * factor, peer, fields)
    messages = Messages(topics, node, 0.0).of(event)
    assert [message.events for message in messages] == [0] * (len(messages) - 1) + [1]
    for number, message in enumerate(messages, 1):
        assert len(message.payload) <= MOST_OCTETS
        document = json.loads(message.payload)
        assert (document["part"], document["parts"]) == (number, len(messages))


@given(
    st.lists(
        st.tuples(st.sampled_from(("put", "send")), st.integers(1, 400), st.integers(1, 40)), max_size=60
    )
)
def test_the_outbox_is_bounded_keeps_the_order_and_loses_no_count(steps: list[tuple[str, int, int]]) -> None:
    async def scenario() -> None:
        box = Outbox(lambda missed: [Message("missed", str(missed).encode(), 0)], most=4000)
        told: list[Message] = []
        put = 0
        for what, size, count in steps:
            if what == "put":
                put += 1
                box.put([Message(str(put), b"x" * size, 1)])
            else:
                batch = box.first(count, 10_000)
                told += batch
                box.sent(len(batch))
            assert box.octets <= 4000 + 300
        while batch := box.first(1000, 1 << 30):
            told += batch
            box.sent(len(batch))
        events = [int(message.topic) for message in told if message.topic != "missed"]
        missed = sum(int(message.payload) for message in told if message.topic == "missed")
        assert events == sorted(events)
        assert missed == box.dropped
        assert len(events) + missed == put
        assert box.octets == 0

    asyncio.run(scenario())


# Who may, and secrets


def test_tls_and_a_password(broker: Mosquitto, tmp_path: Path) -> None:
    if reason := certificates.unavailable():
        pytest.skip(reason)
    server = certificates.Authority(tmp_path / "ca")
    certificate = server.sign("broker")
    passwords = tmp_path / "passwords"
    subprocess.run(
        ["mosquitto_passwd", "-b", "-c", passwords, "node", "ge/h:e@im"], check=True, capture_output=True
    )
    passwords.chmod(0o600)
    broker.extra = (
        f"allow_anonymous false\npassword_file {passwords}\n"
        f"certfile {certificate.cert}\nkeyfile {certificate.key}\n"
    )
    right = {
        "ROUTED_EVENTS_USERNAME": "node",
        "ROUTED_EVENTS_PASSWORD": "ge/h:e@im",
        "ROUTED_EVENTS_CA_CERT_FILE": server.certificate.cert,
        # Of the datastore's broker, another one:
        "ROUTED_MQTT_USERNAME": "somebody",
        "ROUTED_MQTT_PASSWORD": "else",
    }

    async def scenario() -> None:
        async with broker:
            for wrong in (
                {"ROUTED_EVENTS_CA_CERT_FILE": certificate.cert},
                {"ROUTED_EVENTS_PASSWORD": "no"},
            ):
                process = observed()
                async with publishing(process, broker.port, right | wrong, "mqtts"):
                    await until(lambda: process.outlet_counters["mqtt_connections_lost"])  # noqa: B023
                    assert not process.outlet_counters["mqtt_connected"]
            process = observed()
            async with publishing(process, broker.port, right, "mqtts"):
                await until(lambda: process.outlet_counters["mqtt_connected"])
                process.events.publish(EventKind.CONVERGED, "it is")
                await until(lambda: process.outlet_counters["mqtt_events_published"] == 1)

    run(scenario())


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("mqtt://u:ge/heim@host/lab", "HOST:PORT/PREFIX"),
        ("mqtt://u:12/geheim@host/lab", "percent-encode"),
        ("mqtt://u:geheim@host", "a prefix of topics follows"),
        ("mqtt://u:geheim@host/a/#", "a prefix of topics follows"),
        ("mqtt://u:geheim#@host/a", "HOST:PORT/PREFIX"),
        ("mqtt://:geheim@host/a", "set ROUTED_EVENTS_USERNAME"),
    ],
)
def test_a_wrong_url_is_told_without_its_password(url: str, says: str) -> None:
    with pytest.raises(ValueError, match=says) as caught:
        read_events_url(url, {})
    assert "heim" not in str(caught.value)


def test_a_wrong_url_leaves_the_process_without_events_only(capsys: pytest.CaptureFixture[str]) -> None:
    async def scenario() -> None:
        outlets = Outlets(ObserveOptions(events="mqtt://u:geheim@host", node_status=False), observed())
        await outlets.start()
        await outlets.close()

    run(scenario())
    told = capsys.readouterr()
    assert "no --events" in told.out + told.err
    assert "geheim" not in told.out + told.err


def test_a_reflector_publishes_and_its_last_will_tells_when_it_is_killed(
    broker: Mosquitto, tmp_path: Path
) -> None:
    """The whole process: TLS, which a reflector does without else, is there; the password is in no list of
    processes and in no log."""
    if reason := certificates.unavailable():
        pytest.skip(reason)
    authority = certificates.Authority(tmp_path / "ca")
    certificate = authority.sign("broker")
    secured = free_port()
    broker.extra = (
        f"allow_anonymous true\nlistener {secured} 127.0.0.1\n"
        f"certfile {certificate.cert}\nkeyfile {certificate.key}\n"
    )
    command = [
        *(sys.executable, "-m", "routed", "rr", "--as", "64512", "--router-id", "10.0.0.1", "--api", "none"),
        *("--listen", f"127.0.0.1:{free_port()}", "--clients", "127.0.0.0/8", "--name", "rr-1"),
        *("--events", f"mqtts://user:geheim@127.0.0.1:{secured}/lab"),
    ]
    environ = os.environ | {"ROUTED_EVENTS_CA_CERT_FILE": authority.certificate.cert}

    async def scenario() -> None:
        async with broker, observing(broker.port, PREFIX) as observer:
            with (tmp_path / "log").open("wb") as log:
                for how in (signal.SIGKILL, signal.SIGTERM):
                    observer.seen.clear()
                    process = await asyncio.create_subprocess_exec(
                        *command, env=environ, cwd=REPOSITORY, stdout=log, stderr=log
                    )
                    try:
                        await observer.until(lambda: bool(numbers(observer, EventKind.STARTED)))
                        assert observer.held["lab/nodes/rr-1/online"] == b"true"
                        arguments = Path(f"/proc/{process.pid}/cmdline").read_bytes()
                        assert b"mqtts://user:***@127.0.0.1" in arguments
                    finally:
                        process.send_signal(how)
                        await process.wait()
                    await observer.until(lambda: observer.held["lab/nodes/rr-1/online"] == b"false")
                    stopping = numbers(observer, EventKind.STOPPING)
                    assert bool(stopping) == (how is signal.SIGTERM)
        assert "geheim" not in (tmp_path / "log").read_text()

    run(scenario())


def test_parts_of_messages_are_below_what_waits() -> None:
    """Else a large event could never be taken."""
    assert mqtt_messages.MOST_OCTETS * 4 < WAITING_OCTETS

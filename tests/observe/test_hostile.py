"""All ways out at once, of a node and of a reflector whose peers and records are hostile: texts are data on
each of them, and secrets are on none."""

from __future__ import annotations

import asyncio
import base64
import concurrent.futures
import contextlib
import http.client
import itertools
import json
import os
import re
import shlex
import socket
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import jsonschema
import pytest
import yaml

from routed.observe import event_schema
from tests import browser, netns
from tests.cli.conftest import run
from tests.cli.terminal import Terminal
from tests.daemons import bird2_program
from tests.datastore import mosquitto
from tests.netns import Machine, wait_for
from tests.observe.bird.replies import ask
from tests.observe.metrics.scrape import OPENMETRICS, parse_openmetrics, parse_text
from tests.raw_peer import (
    FOUR_OCTET_AS,
    OPTIONAL,
    TRANSITIVE,
    Attribute,
    Options,
    RawPeer,
    message,
    multiprotocol,
)
from tests.recorder import Kind
from tests.routed_process import (
    Record,
    Records,
    RoutedProcess,
    affinity,
    configuration,
    ipam_block,
    node,
    peer,
    pool,
    record,
    routed_rr,
    routed_run,
)

pytestmark = [pytest.mark.netns, pytest.mark.daemon("bird2")]

PORT: Final = 9179
AS: Final = 64512
PREFIX: Final = "lab"

#: What a terminal, a page, a line protocol, a quoted string and a reader's eye could be fooled with.
ESCAPES: Final = "\x1b[2J\x1b]0;owned\x07\x9b31m"
SCRIPT: Final = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
LINES: Final = "\r\n0000 owned\n0001-owned\n\nowned 1\n# EOF\n"
QUOTES: Final = '"\'\\`${owned}{{owned}}","owned":"'
EYES: Final = "\u202eowned\u2066\u2028\u2029\u200b\ufeff\U000e0041"
HOSTILE: Final = (ESCAPES, SCRIPT, LINES, QUOTES, EYES, "\x00\x7f\x80")
ALL: Final = "".join(HOSTILE)

#: What shutdown communications hold (RFC 9003); not all of it is UTF-8.
COMMUNICATIONS: Final[tuple[bytes, ...]] = (
    *(text.encode() for text in HOSTILE),
    (ESCAPES + SCRIPT).encode()[:128],
    (SCRIPT * 4).encode()[:128].ljust(255, b"\x1b"),
    b"\xff\xfe\xc0\xaf\xed\xa0\x80 owned \xf4\x90\x80\x80\x1b[31m",
    b"",
)

#: A name that the kernel takes, of 15 octets; one of them is not UTF-8.
INTERFACE: Final = '<b>\x1b[31m"&\udcff'

#: What must not be anywhere.
SECRETS: Final = {
    name: f"Tiramisu-{name}-8fd1" for name in ("peer", "unused", "mesh", "range", "broker", "annotation")
}


def notification(code: int, subcode: int, data: bytes = b"") -> bytes:
    return message(Kind.NOTIFICATION, bytes((code, subcode)) + data)


def communication(text: bytes, subcode: int = 2, length: int | None = None) -> bytes:
    """A Cease with a shutdown communication."""
    return notification(6, subcode, bytes((len(text) if length is None else length,)) + text)


#: How each of the peers ends its session; the last one stays.
ENDS: Final[tuple[bytes, ...]] = (
    *(communication(text) for text in COMMUNICATIONS),
    communication(ALL.encode()[:200], subcode=4),
    communication(b"\x1b[31m short", length=255),
    notification(6, 9, b"\x06\x02" + bytes((20,)) + ESCAPES.encode()[:20]),
    notification(2, 7, b"\xc8\x08\x1b[2J\x1b[31"),
    notification(27, 91, ALL.encode()),
    notification(3, 1, SCRIPT.encode()),
    # An UPDATE whose attributes lie about their length, one of an unknown well-known attribute; a header of
    # an unknown type.
    message(Kind.UPDATE, b"\0\0\0\x08" + ESCAPES.encode()[:8]),
    message(Kind.UPDATE, b"\0\0\0\x0b\x40\x1b\x08" + SCRIPT.encode()[:8]),
    b"\xff" * 16 + b"\0\x13\x1b",
    b"<script>\x1b[2J" + bytes(32),
)


def capabilities(asn: int) -> tuple[tuple[int, bytes], ...]:
    """With unknown ones, and those that hold names: of a host (73) and of software (75)."""
    name = (ESCAPES + SCRIPT).encode()[:60]
    return (
        *multiprotocol(4),
        (FOUR_OCTET_AS, asn.to_bytes(4, "big")),
        (73, bytes((len(name),)) + name + bytes((8,)) + b"\x1b[2Jnet\n"),
        (75, bytes((len(name),)) + name),
        (200, b"\x1b[2J<b>"),
        (27, b"\n0000 "),
    )


class Enemies:
    """A peer for each of `ENDS`, of one routed: each has its session, tells its routes, and ends it so."""

    def __init__(self, machine: Machine, first: int, target: str, asn: int, password: str | None) -> None:
        self.peers = [
            RawPeer(
                machine,
                Options(
                    asn,
                    f"192.0.2.{first + number}",
                    address=f"192.0.2.{first + number}",
                    remote=target,
                    port=0,
                    capabilities=capabilities(asn),
                    password=password,
                ),
            )
            for number in range(len(ENDS))
        ]
        self.internal = asn == AS

    def attack(self) -> None:
        """Each as long as its session holds."""
        odd = Attribute(OPTIONAL | TRANSITIVE, 200, ESCAPES.encode())
        for number, (one, end) in enumerate(zip(self.peers, ENDS, strict=True)):
            one.wait_established()
            with contextlib.suppress(OSError):
                one.announce(
                    f"203.0.{number}.0/24",
                    as_path=() if self.internal else (one.options.asn,),
                    local_pref=100 if self.internal else None,
                    communities=[(0x1B5B, 0x324A)],
                    more=(odd,),
                )
                one.send(end)

    def __enter__(self) -> Enemies:
        for enemy in self.peers:
            enemy.start()
        return self

    def __exit__(self, *_: object) -> None:
        for enemy in self.peers:
            enemy.stay_away()
        for enemy in self.peers:
            enemy.close()


def hostile_records(machine: Machine, enemies: Enemies) -> list[Record]:
    """A node that works, where names may be hostile they are; and records that are wrong in hostile words."""
    name = machine.name
    broken = [
        record("IPPool", f"broken {text}", cidr=text, blockSize=text, nodeSelector=text) for text in HOSTILE
    ]
    return [
        configuration(
            AS,
            mesh=True,
            communities=[{"name": ALL, "value": ALL}, {"name": "good", "value": "64512:1"}],
            prefixAdvertisements=[{"cidr": ALL, "communities": [ALL]}],
        ),
        node(machine, labels={ALL: ALL, "rack": ALL}),
        record("Node", "node-b", labels={ALL: ALL}, bgp={"ipv4Address": "192.0.2.99/24"}),
        record("Node", f"node {ALL}", labels={ALL: ALL}, bgp={"ipv4Address": ALL}),
        pool("10.244.0.0/16"),
        affinity(name, "10.244.0.0/26"),
        hostile_block(name, "node-b", "10.244.0.0/26", "10.244.0.7"),
        hostile_block("node-b", name, "10.244.1.0/26", "10.244.1.7"),
        hostile_block(ALL, ALL, "10.244.2.0/26", "10.244.2.7"),
        record(
            "BGPFilter",
            "strict",
            importV4=[{"action": "Reject", "matchOperator": "In", "cidr": "203.0.3.0/24"}],
        ),
        record("BGPFilter", f"broken {ALL}", importV4=[{"action": ALL, "matchOperator": ALL, "cidr": ALL}]),
        record("BGPFilter", "broken", importV4=[{"action": ALL, "interface": ALL, ALL: ALL}]),
        *(
            peer(
                f"enemy-{number}",
                one.address,
                one.options.asn,
                filters=["strict"],
                password=reference("bgp"),
            )
            for number, one in enumerate(enemies.peers)
        ),
        peer("unknown-filter", "192.0.2.97", 1, filters=[f"nobody's {ALL}"]),
        peer("unknown-secret", "192.0.2.98", 1, password=reference(ALL, ALL)),
        peer("wrong-secret", "192.0.2.96", 1, password=reference("wrong")),
        peer("no-map", "192.0.2.95", 1, password=reference("no-map")),
        record("BGPPeer", f"broken {ALL}", peerIP=ALL, asNumber=ALL, nodeSelector=ALL, peerSelector=ALL),
        record("BGPPeer", "selector", nodeSelector=f"has({ALL})", peerSelector=f"a == '{ALL}'"),
        *broken,
        {"apiVersion": f"projectcalico.org/{ALL}", "kind": ALL, "metadata": {"name": ALL}},
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": ALL, "namespace": ALL},
            "spec": {ALL: ALL},
        },
        record("CalicoNodeStatus", ALL, node=name, classes=[ALL], updatePeriodSeconds=ALL),
        *secrets(),
    ]


def reference(name: str, key: str = "password") -> Record:
    return {"secretKeyRef": {"name": name, "key": key}}


def hostile_block(owner: str, borrower: str, cidr: str, address: str) -> Record:
    """A block with one address that another node has, for a pod of all names."""
    made = ipam_block(owner, cidr, {address: ("web", borrower)})
    made["spec"]["attributes"] = [
        {"handle_id": f"k8s.{ALL}", "secondary": {"namespace": ALL, "node": borrower, "pod": ALL, ALL: ALL}}
    ]
    return made


def secrets() -> list[Record]:
    """As Kubernetes has them, right and wrong, one of them with what kubectl remembers of it."""

    def secret(name: str, data: dict[str, str], **more: Any) -> Record:
        metadata = {"name": name, "namespace": "kube-system", **more}
        return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data}

    def coded(text: str) -> str:
        return base64.b64encode(text.encode()).decode()

    return [
        secret(
            "bgp",
            {"password": coded(SECRETS["peer"]), ALL: coded(SECRETS["unused"])},
            annotations={"kubectl.kubernetes.io/last-applied-configuration": SECRETS["annotation"]},
        ),
        secret(ALL, {"password": coded(SECRETS["unused"] + ALL)}),
        secret("wrong", {"password": SECRETS["unused"]}),
        peer("inline", "192.0.2.94", 1, password=SECRETS["unused"]),
        peer("inline-ref", "192.0.2.93", 1, password={"secretKeyRef": SECRETS["unused"]}),
        peer("inline-more", "192.0.2.92", 1, password={"password": SECRETS["unused"]}),
        secret("list", {"password": [SECRETS["unused"]]}),  # type: ignore[dict-item]  # the same
        secret("no-map", SECRETS["unused"]),  # type: ignore[arg-type]  # as somebody may write it
    ]


# --- the scene


@dataclass
class Watched:
    """One routed with everything switched on."""

    machine: Machine
    routed: RoutedProcess
    name: str
    json_log: bool

    @property
    def bird(self) -> Path:
        return self.routed.api.parent / "bird.ctl"

    def get(self, path: str, accept: str = "*/*", **headers: str) -> tuple[int, str, str]:
        """Status, content type and body of a question over the Unix socket."""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(20)
            sock.connect(str(self.routed.api))
            connection = http.client.HTTPConnection("localhost")
            connection.sock = sock
            connection.request("GET", path, headers={"Accept": accept, "Connection": "close", **headers})
            response = connection.getresponse()
            return response.status, response.headers["Content-Type"], response.read().decode()

    def document(self, path: str) -> Any:
        status, content_type, body = self.get(f"/api/v1/{path}")
        assert (status, content_type) == (200, "application/json"), body
        # What is no string is printable ASCII; what is one holds control characters as escapes alone.
        assert not re.search(r"[\x00-\x09\x0b-\x1f]", body)
        return json.loads(body)

    def command(self, *arguments: str) -> list[str]:
        return [*arguments, "--socket", str(self.routed.api)]


@dataclass
class Scene:
    """Both, after the attack; and what the broker was told."""

    watched: list[Watched]
    published: list[tuple[str, bytes]] = field(default_factory=list)


def start(machine: Machine, routed: RoutedProcess, name: str, *, json_log: bool) -> Watched:
    """With everything switched on."""
    routed.command += ["--http", f"127.0.0.1:{PORT}", "--looking-glass", "--metrics", f"0.0.0.0:{PORT + 1}"]
    routed.command += ["--metrics-per-peer", "--bird-sockets", str(routed.api.parent)]
    routed.command += ["--log-level", "debug", "--log-format", "json" if json_log else "console"]
    routed.command += ["--events", f"mqtt://routed@192.0.2.50/{PREFIX}"]
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("ROUTED_EVENTS_PASSWORD", SECRETS["broker"])
        routed.start()
    return Watched(machine, routed, name, json_log)


class Broker:
    """A mosquitto on a machine, that wants a password; heard over a Unix socket."""

    def __init__(self, machine: Machine, folder: Path) -> None:
        self.path = folder / "mqtt"
        passwords = machine.directory / "passwords"
        subprocess.run(
            ["mosquitto_passwd", "-b", "-c", str(passwords), "routed", SECRETS["broker"]],
            check=True,
            capture_output=True,
            env={"PATH": mosquitto.PATH},
        )
        configuration = machine.directory / "mosquitto.conf"
        configuration.write_text(
            f"listener 1883 192.0.2.50\nlistener 0 {self.path}\nallow_anonymous false\nuser root\n"
            f"password_file {passwords}\nmax_queued_messages 0\nmax_inflight_messages 0\n"
        )
        machine.start("mosquitto", ["mosquitto", "-c", str(configuration)])
        wait_for(self.path.exists, "mosquitto listens")
        self.messages: list[tuple[str, bytes]] = []
        self._over = threading.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._listen()))

    async def _listen(self) -> None:
        import aiomqtt

        async with aiomqtt.Client(
            str(self.path), 1, transport="unix", username="routed", password=SECRETS["broker"]
        ) as client:
            await client.subscribe(f"{PREFIX}/#", 1)
            self._ready.set()

            async def take() -> None:
                async for one in client.messages:
                    assert isinstance(one.payload, bytes)
                    self.messages.append((str(one.topic), one.payload))

            taking = asyncio.create_task(take())
            await asyncio.to_thread(self._over.wait)
            taking.cancel()
            await asyncio.gather(taking, return_exceptions=True)

    def __enter__(self) -> Broker:
        self._thread.start()
        assert self._ready.wait(20)
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """A node and a reflector, and twenty enemies of each, after the attack."""
    if reason := mosquitto.unavailable():
        pytest.skip(reason)
    netns.remove_leftovers()
    folder = tmp_path_factory.mktemp("hostile")
    with netns.temporary_lab(folder) as lab, contextlib.ExitStack() as stack:
        here, there = (
            lab.machine("node-a", "192.0.2.1/24"),
            lab.machine("rr", "192.0.2.2/24", "2001:db8::2/64"),
        )
        evil = lab.machine(
            "evil",
            *(f"192.0.2.{first + one}/24" for first in (100, 200) for one in range(len(ENDS))),
        )
        broker = stack.enter_context(Broker(lab.machine("broker", "192.0.2.50/24"), folder))
        here.ip("link", "add", "name", INTERFACE, "type", "veth", "peer", "name", "other")
        here.ip("link", "set", INTERFACE, "up")
        here.ip("address", "add", "198.51.100.1/24", "dev", INTERFACE)
        scene = Scene([], broker.messages)
        enemies = Enemies(evil, 100, "192.0.2.1", 65001, SECRETS["peer"])
        clients = Enemies(evil, 200, "192.0.2.2", AS, SECRETS["range"])

        name = "rr" + ALL.replace("\x00", "")
        records = Records(lab.directory / "records")
        records.put("cluster", hostile_records(here, enemies))
        (records.directory / ("broken" + ALL.replace("\x00", "")[:40].replace("/", "") + ".yaml")).write_text(
            "{" + ALL
        )
        (Path(os.fsdecode(os.fsencode(records.directory) + b"/\xff\xfe\x1b[31m.yaml"))).write_text(
            f"kind: [{QUOTES}"
        )
        node_a = routed_run(here, records)
        password = folder / "password"
        password.write_text(SECRETS["range"] + "\n")
        reflector = routed_rr(there, AS, ["192.0.2.192/26"], "--name", name, "--password-file", str(password))
        scene.watched.append(start(here, node_a, here.name, json_log=True))
        scene.watched.append(start(there, reflector, name, json_log=False))
        for attackers in (enemies, clients):
            stack.enter_context(attackers)
            attackers.attack()
        for one in scene.watched:
            wait_for(lambda one=one: ended(one), f"{one.machine.name}: sessions have ended")  # type: ignore[misc]
        yield scene


def ended(one: Watched) -> bool:
    """Each but those that end no session did."""
    kinds = [event["kind"] for event in one.document("events")["events"]]
    assert kinds.count("session-down") >= len(ENDS) - 2, kinds
    return True


# --- the ways out


@pytest.fixture(params=[0, 1], ids=["node", "reflector"])
def one(scene: Scene, request: pytest.FixtureRequest) -> Watched:
    """Each of both."""
    number: int = request.param
    return scene.watched[number]


PATHS: Final = (
    "status",
    "peers",
    "routes",
    "routes?scope=kernel",
    "routes?scope=rejected",
    "blocks",
    "events",
    "rates",
    "openapi.json",
    "explain?target=203.0.3.0/24",
    "explain?target=10.244.1.7",
    "explain?target=10.244.0.7",
    "explain?target=198.51.100.1",
)


def texts(value: object) -> Iterator[str]:
    """All in a document, keys too."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from itertools.chain.from_iterable(map(texts, itertools.chain(value, value.values())))
    elif isinstance(value, list):
        yield from itertools.chain.from_iterable(map(texts, value))


def documents(one: Watched) -> Iterator[tuple[str, Any]]:
    """All of the API."""
    for path in PATHS:
        yield path, one.document(path)
    for found in one.document("peers")["peers"]:
        name = quote(found["name"], safe="")
        yield found["name"], one.document(f"peers/{name}")
        yield found["name"], one.document(f"explain?target={name}")


def test_the_api_says_it_as_data(one: Watched) -> None:
    said = "\n".join(itertools.chain.from_iterable(texts(document) for _, document in documents(one)))
    # What peers say arrives, in a form that can be read.
    assert "<script>document.title='owned'</script>" in said
    assert "\\x1b" in said or "\x1b" in said or "\ufffd" in said
    for question in ("peers/X", "explain?target=X", "routes?prefix=X", "events?kind=X", "events?peer=X", "X"):
        status, content_type, body = one.get("/api/v1/" + question.replace("X", quote(ALL, safe="")))
        assert content_type == "application/json"
        assert status in (200, 400, 404)
        assert json.loads(body)


def test_prometheus_reads_it(one: Watched) -> None:
    for accept, parse in ((OPENMETRICS, parse_openmetrics), ("text/plain", parse_text)):
        status, _, body = one.get("/metrics", accept)
        assert status == 200
        families = list(parse(body))
        samples = [sample for family in families for sample in family.samples]
        assert all(sample.name.startswith(("routed_", "process_")) for sample in samples)
        reasons = {sample.labels["reason"] for sample in samples if "reason" in sample.labels}
        assert len(reasons) >= 5
        assert any(sample.labels.get("peer", "").endswith("_192_0_2_100") for sample in samples) or (
            one.name.startswith("rr")
        )


BIRD_COMMANDS: Final = (
    "show status",
    "show protocols all",
    "show route all",
    "show route filtered all",
    "show interfaces",
    "show interfaces summary",
    "show static",
    "show symbols",
    "show memory",
    'show protocols all "*<script>*"',
    f"show route for {ESCAPES}",
    f"{SCRIPT}",
)


def test_lines_of_bird_stay_lines(one: Watched) -> None:
    if not one.name.startswith("rr"):
        # The octet that is no UTF-8, and the control character, are replaced.
        assert '<b>\ufffd[31m"&' in str(ask(one.bird, "show interfaces"))
    for name in ("bird.ctl", "bird6.ctl"):
        for command in BIRD_COMMANDS:
            # Raises ValueError for a line that no reply can have.
            ask(one.bird.with_name(name), command)
            done = subprocess.run(
                [bird2_program() + "cl", "-s", name, *command.split()],
                cwd=one.bird.parent,
                capture_output=True,
                text=True,
                timeout=15,
                stdin=subprocess.DEVNULL,
            )
            assert_safe(done.stdout)
            assert not re.search("^0000|^owned", done.stdout, re.MULTILINE)


def test_events_fit_their_schema(scene: Scene) -> None:
    validator = jsonschema.Draft202012Validator(event_schema.schema())
    nodes: set[str] = set()

    def heard() -> bool:
        kinds = [topic.rpartition("/")[2] for topic, _ in scene.published]
        return kinds.count("session-down") >= 2 * (len(ENDS) - 2)

    wait_for(heard, "the broker has the events")
    for topic, payload in scene.published:
        prefix, nodes_, node_, *rest = topic.split("/")
        assert (prefix, nodes_) == (PREFIX, "nodes")
        assert re.fullmatch(r"[A-Za-z0-9._~%-]+", node_)
        nodes.add(node_)
        if rest == ["online"]:
            assert payload in (b"true", b"false")
        else:
            validator.validate(json.loads(payload))
    assert len(nodes) == 2
    assert any(b"<script>" in payload for _, payload in scene.published)


#: What routed writes to a terminal: colours, and for `--watch` the other screen and the cursor.
OURS: Final = re.compile(r"\x1b\[(?:[0-9]{1,2}m|\?1049[hl]|\?25[hl]|H|K|J)")


def assert_safe(shown: str, *, ours: bool = False) -> None:
    """No character in it that a terminal acts on."""
    text = OURS.sub("", shown) if ours else shown
    for line in text.replace("\r\n", "\n").split("\n"):
        assert line.replace("\t", "").isprintable(), repr(line)


COMMANDS: Final[tuple[tuple[str, ...], ...]] = (
    ("status",),
    ("peers",),
    ("peers", ALL.replace("\x00", "")),
    ("routes",),
    ("routes", "--rejected"),
    ("routes", "203.0.3.0/24"),
    ("routes", ESCAPES),
    ("routes", "--received-from", SCRIPT + ESCAPES),
    ("blocks", "--all"),
    ("events",),
    ("events", "--peer", ESCAPES),
    ("explain", "203.0.3.0/24"),
    ("explain", "10.244.1.7"),
    ("explain", ALL.replace("\x00", "")),
    ("healthcheck",),
    ("peer", "shutdown", ESCAPES),
    ("status", ESCAPES),
    (ESCAPES,),
)


def test_terminals_get_no_escapes(one: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through a pseudo-terminal the commands that show most; all of them at once, for the time it takes."""
    on_terminals = [("peers",), ("events",), ("status",), ("explain", "203.0.3.0/24")]
    with contextlib.ExitStack() as stack:
        terminals = [
            stack.enter_context(Terminal(*one.command(*command), columns=100)) for command in on_terminals
        ]
        watching = stack.enter_context(Terminal(*one.command("peers", "--watch"), columns=100))
        for terminal in terminals:
            assert terminal.end() in (0, 1)
            assert_safe(terminal.screen, ours=True)
        # Notes are of sessions that are down: some enemies may be back by now.
        assert_safe(watching.until("192.0.2."), ours=True)
    monkeypatch.setenv("COLUMNS", "100")
    for command in COMMANDS:
        result = run(*one.command(*command))
        assert result.exit_code in (0, 1, 2), result.stderr
        assert_safe(result.stdout + result.stderr)
    for form, read in (("json", json.loads), ("yaml", yaml.safe_load)):
        for name in ("status", "peers", "blocks", "events"):
            result = run(*one.command(name, "-o", form))
            assert_safe(result.stdout)
            assert read(result.stdout)


def test_the_page_runs_nothing(one: Watched, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    if reason := browser.unavailable():
        if request.config.getoption("--require-all"):
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    # The page is on loopback: of the machine's own namespace.
    program = tmp_path / "chromium"
    program.write_text(f'#!/bin/sh\nexec {shlex.join(one.machine.command(str(browser.chromium())))} "$@"\n')
    program.chmod(0o755)
    # Playwright has an event loop of its own, which is that of its thread.
    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        thread.submit(visit_all, program, one).result()


def visit_all(program: Path, one: Watched) -> None:
    from playwright.sync_api import expect, sync_playwright

    name = one.document("peers")["peers"][0]["name"]
    places = ["overview", "peers", f"peers/{name}", "routes?scope=all", "blocks", "events"]
    places += [f"{view}/{quote(text, safe='')}" for view in ("explain", "peers") for text in HOSTILE[1:4]]
    errors: list[str] = []
    shown = ""
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=program)
        page = chromium.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("dialog", lambda dialog: errors.append(dialog.message))
        page.on(
            "request", lambda request: errors.append(request.url) if f":{PORT}/" not in request.url else None
        )
        for place in places:
            page.goto(f"http://127.0.0.1:{PORT}/#/{place}")
            expect(page.locator("main h1")).to_have_count(1)
            expect(page.locator(".state.loading")).to_have_count(0)
            # Any script of theirs would have changed it.
            assert page.title().endswith(" \u00b7 routed")
            assert page.locator("main script, main img").count() == 0
            shown += page.locator("main").inner_text()
        chromium.close()
    assert errors == []
    assert "<script>document.title=" in shown


def test_logs_are_a_line_an_event(one: Watched) -> None:
    lines = one.routed.process.log.read_bytes().decode().split("\n")  # type: ignore[union-attr]
    assert lines.pop() == ""
    assert len(lines) > len(ENDS)
    for line in lines:
        assert line.isprintable(), line
        if one.json_log:
            assert {"event", "level", "timestamp"} <= json.loads(line).keys()
        else:
            assert re.match(r"\d\d:\d\d:\d\d\.\d{6} \[\w+ *\] \S", line), line
    assert "Traceback" not in one.routed.output()


def test_no_secret_is_told(scene: Scene, one: Watched, tmp_path: Path) -> None:
    told: dict[str, str] = {path: json.dumps(document) for path, document in documents(one)}
    told["metrics"] = one.get("/metrics")[2]
    told["log"] = one.routed.output()
    told["status file"] = one.routed.status_file.read_text()
    told["broker"] = b"\n".join(
        itertools.chain.from_iterable((t.encode(), p) for t, p in scene.published)
    ).decode()
    for name, command in itertools.product(("bird.ctl", "bird6.ctl"), BIRD_COMMANDS):
        told[command] = str(ask(one.bird.with_name(name), command))
    told["processes"] = subprocess.run(
        ["ps", "axww", "-o", "args"], capture_output=True, text=True, check=True
    ).stdout
    if not one.name.startswith("rr"):
        records = one.routed.command[one.routed.command.index("--datastore") + 1]
        told["intent"] = run("show", "intent", "--node", one.name, "--datastore", records).stdout
        told["intent, JSON"] = run(
            "show", "intent", "--node", one.name, "--datastore", records, "-o", "json"
        ).stdout
        told["render"] = run("render", "--node", one.name, "--datastore", records, "--stdout").stdout
        assert min(len(told["intent"]), len(told["intent, JSON"]), len(told["render"])) > 1000
        for name in ("intent", "intent, JSON", "render"):
            assert_safe(told[name])
    for (where, text), (name, secret) in itertools.product(told.items(), SECRETS.items()):
        assert secret not in text, f"{name} in {where}"
        assert base64.b64encode(secret.encode()).decode()[:-4] not in text, f"{name} in {where}"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("run", "--datastore", "etcd://u:SECRET/x@127.0.0.1:1"), "--datastore"),
        (("run", "--datastore", "mqtt://u:SECRET@127.0.0.1:x/p"), "--datastore"),
        (("run", "--datastore", "u:SECRET@127.0.0.1"), "--datastore"),
        (("run", "--datastore", "file:/", "--events", "https://u:SECRET@127.0.0.1:1/p"), "--events"),
        (("run", "--datastore", "file:/", "--events", "u:SECRET@[::1"), "--events"),
        (("status", "--http", "https://u:SECRET@127.0.0.1:1/"), "--http"),
        (("status", "--http", "http://u:SECRET@127.0.0.1:1/"), "--http"),
    ],
)
@pytest.mark.usefixtures("daemons_in_process")
def test_no_error_quotes_a_password(arguments: tuple[str, ...], named: str) -> None:
    result = run(*(one.replace("SECRET", SECRETS["unused"]) for one in arguments))
    assert result.exit_code == 2
    assert named in result.stderr
    assert SECRETS["unused"] not in result.stdout + result.stderr

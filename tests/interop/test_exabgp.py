"""The real ExaBGP as a node of the example cluster; BIRD 2 is the router outside, and the reflector."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from base64 import b64encode
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
import yaml

from tests.daemons import BgpPath, Bird2, Config, Neighbor
from tests.netns import Lab, Machine, Process, wait_for
from tests.recorder import RecordingPeer
from tests.routed_process import Record, Records, block, configuration, node, peer, pool, record

REPOSITORY = Path(__file__).resolve().parent.parent.parent
EXAMPLE = REPOSITORY / "examples" / "cluster"
ROUTED = [sys.executable, "-m", "routed"]
NAME = "worker02"
NORMAL_LOCAL_PREF = 2147483647 - 1024
#: What worker02 of the example announces: its blocks, and the address that its pod `borrower` has from
#: worker01.
ANNOUNCED = (
    "10.244.0.128/26",
    "10.245.0.8/29",
    "10.244.0.70/32",
    "fd00:10:244::80/122",
    "fd00:10:244::46/128",
)
#: Octets that a configuration file would have to quote.
PASSWORD = "s;e{c}r#e\\t"
PROGRAMS = {"4": Path("/usr/sbin/exabgp"), "5": Path(sys.executable).with_name("exabgp")}


def missing(version: str) -> str | None:
    """Why that version of ExaBGP cannot run here, or None where it can."""
    program = PROGRAMS[version]
    if not program.exists():
        return f"no ExaBGP {version} at {program} (scripts/bootstrap test installs it)"
    said = ""
    for option in ("--version", "version"):
        done = subprocess.run([program, option], capture_output=True, text=True, stdin=subprocess.DEVNULL)
        said += done.stdout
    return None if f"ExaBGP : {version}." in said else f"{program} is not ExaBGP {version}"


pytestmark = pytest.mark.netns


@pytest.fixture(params=list(PROGRAMS))
def program(request: pytest.FixtureRequest) -> Path:
    """Each version of ExaBGP in turn."""
    if reason := missing(request.param):
        if request.config.getoption("--require-all"):
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    return PROGRAMS[request.param]


@dataclass
class Exabgp:
    """An ExaBGP on a machine that announces what a node of the cluster does."""

    machine: Machine
    program: Path
    records: Records
    name: str = NAME
    process: Process | None = None

    @property
    def configuration(self) -> Path:
        return self.machine.directory / "exabgp.conf"

    def render(self, *options: str) -> None:
        """`routed render --format exabgp`, checked by the very ExaBGP that is to run it."""
        command = [
            *ROUTED,
            "render",
            "--format",
            "exabgp",
            "--node",
            self.name,
            "--datastore",
            self.records.url,
        ]
        path = self.machine.directory / "bin"
        path.mkdir(exist_ok=True)
        shim = path / "exabgp"
        shim.unlink(missing_ok=True)
        shim.symlink_to(self.program)
        done = subprocess.run(
            [*command, "--out", str(self.machine.directory), "--check", *options],
            capture_output=True,
            text=True,
            cwd=REPOSITORY,
            env={**os.environ, "PATH": f"{path}:{os.environ['PATH']}"},
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        assert "takes it" in done.stderr

    def start(self) -> None:
        environment = {
            "exabgp_daemon_user": "root",
            "exabgp_api_cli": "false",
            "exabgp_log_destination": "stderr",
            "ROUTED_LOG_FORMAT": "json",
            "ROUTED_LOG_LEVEL": "debug",
            "PYTHONPATH": "",
        }
        command = [str(self.program), str(self.configuration)]
        self.process = self.machine.start("exabgp", command, env=environment, cwd=REPOSITORY)

    def output(self) -> str:
        assert self.process is not None
        self.process.check()
        return self.process.output()

    def reload(self) -> None:
        assert self.process is not None
        self.process.popen.send_signal(signal.SIGUSR1)

    def helper(self) -> int:
        """Process ID of the `routed exabgp` that it runs."""
        assert self.process is not None
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        for child in children:
            if b"routed" in Path(f"/proc/{child}/cmdline").read_bytes():
                return int(child)
        raise LookupError("no helper runs")


class PasswordBird(Bird2):
    """BIRD 2 that asks for a password."""

    guard: ClassVar[str] = f'password "{PASSWORD}";'

    def _bgp(self, neighbor: Neighbor, channels: str) -> str:
        return super()._bgp(neighbor, f"{self.guard} {channels}")


class GuardedBird(PasswordBird):
    """BIRD 2 that also asks for packets that crossed no router."""

    guard = f"{PasswordBird.guard} ttl security on; multihop 1;"


def imported_updates(bird: Bird2) -> dict[str, int]:
    """UPDATE prefixes that a BIRD got so far, announced and withdrawn, by session."""
    counts: dict[str, int] = {}
    name = ""
    for line in bird.ask("bird", "show", "protocols", "all").splitlines():
        if line and not line[0].isspace():
            name = line.split()[0]
        elif line.strip().startswith(("Import updates:", "Import withdraws:")) and name.startswith("peer_"):
            counts[name] = counts.get(name, 0) + int(line.split()[2])
    return counts


def sessions_since(bird: Bird2) -> dict[str, float]:
    """When each session of a BIRD came up, seconds of the day. BIRD reckons it from how long ago that was,
    and comes to a millisecond more or less."""
    lines = (line.split() for line in bird.ask("bird", "show", "protocols").splitlines())
    times = {words[0]: words[4].split(":") for words in lines if words and words[0].startswith("peer_")}
    return {name: 3600 * int(hh) + 60 * int(mm) + float(ss) for name, (hh, mm, ss) in times.items()}


@dataclass
class Cluster:
    """worker02 as an ExaBGP between two BIRDs."""

    exabgp: Exabgp
    outside: Bird2
    reflector: Bird2
    folder: Path

    def birds(self) -> tuple[Bird2, Bird2]:
        return self.outside, self.reflector

    def wait_routes(self, have: tuple[str, ...] = (), lack: tuple[str, ...] = ()) -> None:
        for bird in self.birds():
            bird.wait_routes(have, lack)

    def add(self, name: str, records: list[Record]) -> None:
        unfinished = self.folder / f".{name}.unfinished"
        unfinished.write_text(yaml.safe_dump_all(records, sort_keys=False))
        unfinished.rename(self.folder / f"{name}.yaml")


@pytest.fixture
def cluster(lab: Lab, program: Path) -> Cluster:
    """The example cluster's machines that matter to worker02, with its records copied; nothing runs yet."""
    worker = lab.machine(NAME, "192.0.2.12/24", "2001:db8::12/64")
    outside = lab.machine("outside", "192.0.2.1/24", "2001:db8::1/64")
    control = lab.machine("control01", "192.0.2.10/24", "2001:db8::10/64")
    folder = lab.directory / "records"
    folder.mkdir()
    for path in EXAMPLE.glob("*.yaml"):
        shutil.copy(path, folder / path.name)
    neighbors = tuple(Neighbor(worker.address(version), 64512) for version in (4, 6))
    return Cluster(
        Exabgp(worker, program, Records(folder)),
        Bird2(outside, Config(65001, "192.0.2.1", neighbors, hold_time=9)),
        Bird2(control, Config(64512, "192.0.2.10", neighbors, hold_time=9)),
        folder,
    )


def expected(prefix: str, *, ibgp: bool) -> BgpPath:
    """worker02's path to a prefix as a peer has it."""
    return BgpPath(
        next_hop="192.0.2.12" if "." in prefix else "2001:db8::12",
        as_path=() if ibgp else (64512,),
        origin="igp",
        # BIRD shows a LOCAL_PREF of its own, 100, for what an external peer announced.
        local_pref=NORMAL_LOCAL_PREF if ibgp else 100,
    )


def assert_tables(cluster: Cluster, prefixes: tuple[str, ...]) -> None:
    """Both peers have these routes and no others, with the attributes they must have."""
    for bird, ibgp in ((cluster.outside, False), (cluster.reflector, True)):
        table = {**bird.routes(4), **bird.routes(6)}
        assert table == {prefix: [expected(prefix, ibgp=ibgp)] for prefix in prefixes}


@pytest.mark.daemon("bird2")
def test_the_example_cluster_from_a_file(cluster: Cluster) -> None:
    """The routes are in the file; another file and a reload change them without touching the sessions."""
    for bird in cluster.birds():
        bird.start()
    cluster.exabgp.render()
    cluster.exabgp.start()
    cluster.wait_routes(have=ANNOUNCED)
    assert_tables(cluster, ANNOUNCED)
    since = [sessions_since(bird) for bird in cluster.birds()]

    cluster.add("more", block(NAME, "10.244.7.0/26"))
    cluster.exabgp.render()
    cluster.exabgp.reload()
    cluster.wait_routes(have=(*ANNOUNCED, "10.244.7.0/26"))
    (cluster.folder / "more.yaml").unlink()
    cluster.exabgp.render()
    cluster.exabgp.reload()
    cluster.wait_routes(have=ANNOUNCED, lack=("10.244.7.0/26",))
    assert_tables(cluster, ANNOUNCED)
    assert [sessions_since(bird) for bird in cluster.birds()] == [
        pytest.approx(one, abs=0.1) for one in since
    ]


@pytest.mark.daemon("bird2")
def test_the_example_cluster_from_a_process(cluster: Cluster) -> None:
    """Records come and go, the datastore is lost and back, the process is killed: BIRD has what it must."""
    exabgp = cluster.exabgp
    for bird in cluster.birds():
        bird.start()
    exabgp.render("--with-process")
    assert "route 10." not in exabgp.configuration.read_text()
    exabgp.start()
    cluster.wait_routes(have=ANNOUNCED)
    assert_tables(cluster, ANNOUNCED)

    # A record more, a record less.
    added = ("10.244.7.0/26", "fd00:10:244::700/122")
    cluster.add("more", [one for cidr in added for one in block(NAME, cidr)])
    cluster.wait_routes(have=(*ANNOUNCED, *added))
    assert_tables(cluster, (*ANNOUNCED, *added))
    (cluster.folder / "more.yaml").unlink()
    cluster.wait_routes(have=ANNOUNCED, lack=added)
    assert_tables(cluster, ANNOUNCED)

    # A record that comes and goes faster than ExaBGP can be trusted to keep changes in order.
    for _ in range(5):
        cluster.add("more", [one for cidr in added for one in block(NAME, cidr)])
        (cluster.folder / "more.yaml").unlink()
    cluster.add("more", block(NAME, added[1]))
    cluster.wait_routes(have=(*ANNOUNCED, added[1]), lack=added[:1])
    assert_tables(cluster, (*ANNOUNCED, added[1]))
    (cluster.folder / "more.yaml").unlink()
    cluster.wait_routes(have=ANNOUNCED, lack=added)

    # The datastore is lost, and back with a record more.
    away = cluster.folder.with_name("away")
    cluster.folder.rename(away)
    wait_for(lambda: "datastore lost" in exabgp.output(), "the process notices")
    assert_tables(cluster, ANNOUNCED)
    (away / "more.yaml").write_text(yaml.safe_dump_all(block(NAME, added[0])))
    away.rename(cluster.folder)
    cluster.wait_routes(have=(*ANNOUNCED, added[0]))
    assert_tables(cluster, (*ANNOUNCED, added[0]))

    # The process is killed, and a record goes before ExaBGP has it running again. The rest is not said again.
    before = [imported_updates(bird) for bird in cluster.birds()]
    killed = exabgp.helper()
    os.kill(killed, signal.SIGSTOP)
    (cluster.folder / "more.yaml").unlink()
    os.kill(killed, signal.SIGKILL)
    wait_for(lambda: exabgp.helper() != killed, "ExaBGP runs it again")
    cluster.wait_routes(have=ANNOUNCED, lack=added)
    assert_tables(cluster, ANNOUNCED)
    wait_for(lambda: '"found": 12' in exabgp.output(), "the process has found what was announced")
    for bird, counts in zip(cluster.birds(), before, strict=True):
        after = imported_updates(bird)
        assert {name: after[name] - counts[name] for name in after} == {
            "peer_192_0_2_12": 1,
            "peer_2001_db8__12": 0,
        }

    # ExaBGP ends, and its process with it.
    helper = exabgp.helper()
    assert exabgp.process is not None
    exabgp.process.stop()
    wait_for(lambda: not Path(f"/proc/{helper}").exists(), "the process is gone")
    assert "Traceback" not in exabgp.process.output()


def guarded_records(node_machine: Machine, other: Machine, outside: Machine) -> list[Record]:
    """A mesh of two with a password; a router outside with a password, TTL security and a filter."""
    password = {"secretKeyRef": {"name": "bgp", "key": "password"}}
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "bgp", "namespace": "kube-system"},
        "data": {"password": b64encode(PASSWORD.encode()).decode()},
    }
    rules = [
        {"action": "Reject", "matchOperator": "Equal", "cidr": "10.244.1.0/26"},
        {
            "action": "Accept",
            "matchOperator": "Equal",
            "cidr": "10.244.2.0/26",
            "operations": [
                {"addCommunity": {"value": "65001:7"}},
                {"prependASPath": {"prefix": [64512, 64999]}},
            ],
        },
    ]
    return [
        configuration(
            64512,
            mesh=True,
            nodeMeshPassword=password,
            communities=[{"name": "edge", "value": "64512:100"}],
            prefixAdvertisements=[{"cidr": "10.244.0.0/26", "communities": ["edge", "64512:1:4200000000"]}],
        ),
        secret,
        node(node_machine),
        node(other),
        pool("10.244.0.0/16"),
        pool("fd00:10:244::/64"),
        record("BGPFilter", "edge", exportV4=rules),
        *(
            peer(
                f"outside-{version}",
                outside.address(version),
                65001,
                node="node",
                password=password,
                ttlSecurity=1,
                filters=["edge"],
            )
            for version in (4, 6)
        ),
        *(one for cidr in GUARDED for one in block("node", cidr)),
    ]


GUARDED = ("10.244.0.0/26", "10.244.1.0/26", "10.244.2.0/26", "fd00:10:244::/122")


@pytest.mark.daemon("bird2")
def test_guarded_sessions_and_a_neighbor_that_comes_later(lab: Lab, program: Path) -> None:
    """Passwords for both ends, TTL security, filters, communities; a peering that comes later."""
    here = lab.machine("node", "192.0.2.1/24", "2001:db8::1/64")
    there = lab.machine("other", "192.0.2.9/24", "2001:db8::9/64")
    beyond = lab.machine("outside", "192.0.2.99/24", "2001:db8::99/64")
    late = lab.machine("late", "192.0.2.50/24")
    records = Records(lab.directory / "records")
    records.put("base", guarded_records(here, there, beyond))
    neighbors = tuple(Neighbor(here.address(version), 64512) for version in (4, 6))
    # 192.0.2.9 sorts after 192.0.2.1, so in the mesh it is this BIRD that dials.
    other = PasswordBird(there, Config(64512, "192.0.2.9", neighbors))
    outside = GuardedBird(beyond, Config(65001, "192.0.2.99", neighbors))
    for bird in (other, outside):
        bird.start()
    exabgp = Exabgp(here, program, records, "node")
    exabgp.render("--with-process")
    assert PASSWORD not in exabgp.configuration.read_text()
    exabgp.start()
    other.wait_routes(have=GUARDED)
    outside.wait_routes(have=[prefix for prefix in GUARDED if prefix != "10.244.1.0/26"])

    assert other.path("10.244.0.0/26").communities == {"64512:100"}
    assert "(64512, 1, 4200000000)" in other.ask("bird", "show", "route", "all", "10.244.0.0/26")
    assert "10.244.1.0/26" not in outside.routes(4), "the filter rejects it"
    path = outside.path("10.244.2.0/26")
    assert path.communities == {"65001:7"}, "accepted by the filter: prefixAdvertisements are not asked"
    assert path.as_path in ((64512, 64512, 64999), (64512, 64999, 64512))
    assert outside.path("10.244.0.0/26").as_path == (64512,)

    # A record adds a peering: refused until ExaBGP has read its configuration again.
    records.put("late", [peer("late", late.address(4), 65050, node="node")])
    wait_for(lambda: "ExaBGP refused a route" in exabgp.output(), "the process says so")
    latecomer = Bird2(late, Config(65050, "192.0.2.50", (Neighbor("192.0.2.1", 64512),)))
    latecomer.start()
    exabgp.render("--with-process")
    exabgp.reload()
    latecomer.wait_routes(have=[prefix for prefix in GUARDED if "." in prefix])
    assert latecomer.path("10.244.0.0/26").next_hop == "192.0.2.1"


def test_what_goes_over_the_wire(lab: Lab, program: Path) -> None:
    """All routes and then End-of-RIB, though the process starts later than the sessions; after that one
    UPDATE for one change."""
    here = lab.machine("node", "192.0.2.1/24", "2001:db8::1/64")
    there = lab.machine("peer", "192.0.2.9/24", "2001:db8::9/64")
    first = [f"10.244.{number}.0/26" for number in range(20)]
    records = Records(lab.directory / "records")
    records.put("base", [configuration(), node(here), pool("10.244.0.0/16")])
    records.put("blocks", [one for cidr in first for one in block("node", cidr)])
    records.put("peer", [peer("peer", there.address(4), 64512)])
    exabgp = Exabgp(here, program, records, "node")
    with RecordingPeer(there, 64512, there.address(4)) as recorder:
        exabgp.render("--with-process")
        exabgp.start()
        recorder.wait_routes(have=first)
        recorder.wait_end_of_rib()
        updates = recorder.updates()
        ends = [update.end_of_rib for update in updates]
        assert not any(ends[: ends.index(True)])
        assert all(ends[ends.index(True) :])
        assert {prefix for update in updates for prefix in update.announced} == set(first)
        assert not any(update.withdrawn for update in updates)
        assert {update.attributes[5] for update in updates if update.announced} == {
            NORMAL_LOCAL_PREF.to_bytes(4)
        }

        records.put("change", block("node", "10.244.100.0/26"))
        recorder.wait_routes(have=["10.244.100.0/26"])
        records.remove("change")
        recorder.wait_routes(lack=["10.244.100.0/26"])
        changes = [
            (update.announced, update.withdrawn)
            for update in recorder.updates()[len(updates) :]
            if not update.end_of_rib
        ]
        assert changes == [(("10.244.100.0/26",), ()), ((), ("10.244.100.0/26",))]
        assert recorder.connections == 1

"""`routed exabgp` as a process, and its parts, with a small model of ExaBGP at the other end of the pipes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path

import pytest

from routed import log
from routed.cli.exabgp import process_command
from routed.datastore.base import Changes, Event, Lost, Restored, Snapshot
from routed.intent.compiler import compile_intent
from routed.intent.options import Options
from routed.render.exabgp_api import SHOW
from routed.render.exabgp_process import ExabgpProcess, Pipes, RouteTables
from routed.resources import (
    BGPConfiguration,
    BGPPeer,
    BlockAffinity,
    IPAMBlock,
    IPPool,
    Node,
    PeerAddress,
    Problem,
    Record,
)
from tests.render.test_exabgp_api import Model
from tests.routed_process import Records, block, configuration, peer, pool, record

PEER = IPv4Address("192.0.2.1")
BLOCK, OTHER = IPv4Network("10.244.0.0/26"), IPv4Network("10.244.1.0/26")


class Exabgp:
    """The other end of two pipes: does commands as `Model` does, one after another, in a thread."""

    def __init__(self, *peers: str) -> None:
        self.model = Model(*peers)
        self.model.strict = False
        self._changed = threading.Condition()
        self.their_stdin, self._to_them = os.pipe()
        self._from_them, self.their_stdout = os.pipe()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def _run(self) -> None:
        rest = b""
        with contextlib.suppress(OSError):
            while octets := os.read(self._from_them, 4096):
                *lines, rest = (rest + octets).split(b"\n")
                with self._changed:
                    self.model.waiting.extend(line.decode() for line in lines)
                    self.model.log.extend(line.decode() for line in lines)
                    answers = self.model.do()
                    self._changed.notify_all()
                self.write(*answers)

    def write(self, *lines: str) -> None:
        os.write(self._to_them, "".join(f"{line}\n" for line in lines).encode())

    def wait(self, condition: Callable[[Model], bool], what: str) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: condition(self.model), 10), f"{what}: {self.model.log[-5:]}"

    def close(self) -> None:
        for descriptor in (self._to_them, self._from_them):
            with contextlib.suppress(OSError):
                os.close(descriptor)


@pytest.fixture
def exabgp() -> Iterator[Exabgp]:
    other = Exabgp(str(PEER))
    other.start()
    yield other
    other.close()


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    log.configure("none", "json")
    yield
    log.configure()


class Scripted:
    """A datastore that says what the test gives it."""

    def __init__(self) -> None:
        self.events: asyncio.Queue[Event | None] = asyncio.Queue()

    async def watch(self) -> AsyncIterator[Event]:
        while (event := await self.events.get()) is not None:
            yield event

    async def close(self) -> None:
        self.events.put_nowait(None)


def records(*blocks: IPv4Network) -> tuple[Record, ...]:
    return (
        BGPConfiguration(name="default", node_to_node_mesh_enabled=False),
        Node(name="n", ipv4_address=IPv4Interface("192.0.2.9/24")),
        BGPPeer(name="p", peer_ip=PeerAddress(PEER), as_number=65001),
        IPPool(name="pods", cidr=IPv4Network("10.244.0.0/16"), block_size=26),
        *(BlockAffinity(name=str(cidr), node="n", cidr=cidr) for cidr in blocks),
        *(IPAMBlock(name=str(cidr), cidr=cidr, affinity="host:n") for cidr in blocks),
    )


def has(*networks: IPv4Network) -> Callable[[Model], bool]:
    """The neighbor is announced just these."""
    return lambda model: set(model.rib) == {(str(PEER), str(network)) for network in networks}


@contextlib.asynccontextmanager
async def running(exabgp: Exabgp, tmp_path: Path) -> AsyncIterator[tuple[Scripted, asyncio.Event]]:
    store, stop = Scripted(), asyncio.Event()
    options = Options(node="n", endpoint_status_prefix=tmp_path)
    process = ExabgpProcess(options, store, exabgp.their_stdin, exabgp.their_stdout)
    task = asyncio.create_task(process.run(stop))
    yield store, stop
    stop.set()
    await asyncio.wait_for(task, 60)


def test_a_lost_datastore_withdraws_nothing(exabgp: Exabgp, tmp_path: Path) -> None:
    """Nor does one that is not there yet; and what changed meanwhile is said when it is back."""

    async def main() -> None:
        lost = Lost("gone", datetime.now(UTC))
        async with running(exabgp, tmp_path) as (store, _):
            exabgp.model.rib[str(PEER), str(OTHER)] = "next-hop self origin igp"
            store.events.put_nowait(lost)
            exabgp.write(f"neighbor {PEER} up")
            await asyncio.sleep(0)
            assert exabgp.model.log == []
            store.events.put_nowait(Restored())
            store.events.put_nowait(Snapshot(records(BLOCK)))
            await asyncio.to_thread(
                exabgp.wait, has(BLOCK), "the snapshot is announced, the stale route gone"
            )
            assert exabgp.model.log[0] == SHOW
            before = len(exabgp.model.log)
            store.events.put_nowait(lost)
            store.events.put_nowait(Restored())
            keys = [record.key for record in records(BLOCK) if record not in records()]
            store.events.put_nowait(Changes(records(OTHER), tuple(keys)))
            await asyncio.to_thread(exabgp.wait, has(OTHER), "the change is announced")
            said = [line for line in exabgp.model.log[before:] if " eor " not in line]
            assert sorted(line.split()[2] for line in said) == ["announce", "withdraw"]

    asyncio.run(main())


def test_a_node_that_is_not_there_yet_withdraws_nothing(exabgp: Exabgp, tmp_path: Path) -> None:
    """The process is restarted while the Node record is missing: what was announced stays, until it is
    back."""

    async def main() -> None:
        async with running(exabgp, tmp_path) as (store, _):
            exabgp.model.rib[str(PEER), str(OTHER)] = "next-hop self origin igp"
            whole = records(BLOCK)
            nodes = [one for one in whole if isinstance(one, Node)]
            store.events.put_nowait(Snapshot(tuple(one for one in whole if one not in nodes)))
            store.events.put_nowait(Changes(problems=(Problem(None, "", "a fence"),)))
            async with asyncio.timeout(10):
                while "a fence" not in "".join(texts):
                    await asyncio.sleep(0)
            assert exabgp.model.log == []
            store.events.put_nowait(Changes(tuple(nodes)))
            await asyncio.to_thread(exabgp.wait, has(BLOCK), "announced, and the stale route gone")
            # Gone while it runs, it has no sessions, and so no routes.
            store.events.put_nowait(Changes(deletes=tuple(one.key for one in nodes)))
            await asyncio.to_thread(exabgp.wait, has(), "withdrawn")

    texts: list[str] = []
    log.configure("warning", "json")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("builtins.print", lambda text, **_: texts.append(text))
        asyncio.run(main())
    assert "waiting: no router ID yet" in "".join(texts)


def test_the_end_of_the_pipe_ends_the_process(exabgp: Exabgp, tmp_path: Path) -> None:
    async def main() -> None:
        async with running(exabgp, tmp_path) as (store, stop):
            store.events.put_nowait(Snapshot(records(BLOCK)))
            await asyncio.to_thread(exabgp.wait, has(BLOCK), "announced")
            exabgp.close()
            await asyncio.wait_for(stop.wait(), 60)

    asyncio.run(main())


def test_word_of_the_shutdown_ends_the_process_and_withdraws_nothing(exabgp: Exabgp, tmp_path: Path) -> None:
    async def main() -> None:
        async with running(exabgp, tmp_path) as (store, stop):
            store.events.put_nowait(Snapshot(records(BLOCK)))
            await asyncio.to_thread(exabgp.wait, has(BLOCK), "announced")
            exabgp.write("shutdown 1 2")
            await asyncio.wait_for(stop.wait(), 60)
        assert has(BLOCK)(exabgp.model)

    asyncio.run(main())


def test_local_workloads_are_followed(exabgp: Exabgp, tmp_path: Path) -> None:
    """A workload that speaks BGP comes: it is a neighbor."""
    workload = "192.0.2.77"
    exabgp.model.peers.add(workload)
    status = {"ifaceName": "cali1", "ipv4Nets": [f"{workload}/32"], "bgpPeerName": "w"}
    by_record = {"kind": "BGPPeer", "apiVersion": "projectcalico.org/v3", "metadata": {"name": "w"}}

    async def main() -> None:
        from routed.resources import parse_record

        parsed = parse_record({**by_record, "spec": {"localWorkloadSelector": "all()", "asNumber": 65001}})
        assert parsed.record is not None
        (tmp_path / "endpoint-status").mkdir()
        async with running(exabgp, tmp_path) as (store, _):
            store.events.put_nowait(Snapshot((*records(BLOCK), parsed.record)))
            await asyncio.to_thread(exabgp.wait, has(BLOCK), "announced")
            (tmp_path / "endpoint-status" / "w1").write_text(json.dumps(status))
            wanted = {(str(PEER), str(BLOCK)), (workload, str(BLOCK))}
            await asyncio.to_thread(exabgp.wait, lambda model: set(model.rib) == wanted, "the workload's too")

    asyncio.run(main())


def test_pipes_never_make_each_other_wait() -> None:
    """ExaBGP reads nothing and writes a lot; then reads what was kept for it, all of it and in order."""
    read_end, to_us = os.pipe()
    from_us, write_end = os.pipe()
    ours = [f"neighbor 192.0.2.1 announce route 10.0.0.0/24 {number}" for number in range(20_000)]
    theirs = [f"neighbor 192.0.2.1 up {number}" for number in range(20_000)]
    heard: list[str] = []
    ended: list[str] = []

    def write_theirs() -> None:
        with os.fdopen(to_us, "w") as file:
            file.writelines(f"{line}\n" for line in theirs)

    async def main() -> None:
        done = asyncio.Event()

        def on_end(reason: str) -> None:
            ended.append(reason)
            done.set()

        pipes = Pipes(read_end, write_end, heard.append, on_end)
        pipes.write(ours)
        writer = threading.Thread(target=write_theirs)
        writer.start()
        await asyncio.wait_for(done.wait(), 60)
        writer.join()

    asyncio.run(main())
    assert heard == theirs
    assert ended == ["ExaBGP closed the pipe"]
    wanted = "".join(f"{line}\n" for line in ours).encode()
    got = b""
    while len(got) < len(wanted):
        got += os.read(from_us, 65536)
    assert got == wanted
    os.close(from_us)


def test_a_reader_that_went_away_is_an_end() -> None:
    read_end, to_us = os.pipe()
    from_us, write_end = os.pipe()
    os.close(from_us)

    async def main() -> str:
        ended: asyncio.Queue[str] = asyncio.Queue()
        Pipes(read_end, write_end, lambda line: None, ended.put_nowait).write(["x"])
        return await asyncio.wait_for(ended.get(), 60)

    assert asyncio.run(main()) == "cannot write to ExaBGP: Broken pipe"
    os.close(to_us)


def test_neighbors_of_one_group_share_a_table_that_lasts() -> None:
    others = [
        BGPPeer(name=f"p{n}", peer_ip=PeerAddress(IPv4Address(f"192.0.2.{n}")), as_number=65001)
        for n in range(20, 30)
    ]
    tables = RouteTables()
    first = tables.update(compile_intent((*records(BLOCK), *others), Options(node="n")))
    assert len(first) == 11
    assert len({id(table) for table in first.values()}) == 1
    second = tables.update(compile_intent((*records(BLOCK), *others[1:]), Options(node="n")))
    assert second[PEER] is first[PEER]
    third = tables.update(compile_intent((*records(BLOCK, OTHER), *others), Options(node="n")))
    assert third[PEER] is not first[PEER]
    assert third[PEER].keys() == {BLOCK, OTHER}


# --- the command --------------------------------------------------------------------------------------------


def command(url: str, *options: str, name: str = "n") -> list[str]:
    return [sys.executable, "-m", "routed", "exabgp", "--node", name, "--datastore", url, *options]


def folder(tmp_path: Path) -> Records:
    result = Records(tmp_path / "records")
    base = [
        configuration(),
        record("Node", "n", bgp={"ipv4Address": "192.0.2.9/24"}),
        peer("p", str(PEER), 65001),
        pool("10.244.0.0/16"),
    ]
    result.put("base", base)
    result.put("blocks", block("n", str(BLOCK)))
    return result


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_standard_output_is_exabgps_alone(tmp_path: Path, log_format: str) -> None:
    """Every line on it is a command; logs and record problems are on standard error; end of file ends it."""
    datastore = folder(tmp_path)
    datastore.put("bad", [record("BGPPeer", "bad", peerIP="nowhere")])
    process = subprocess.Popen(
        command(datastore.url, "--log-format", log_format, "--log-level", "debug"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    lines = []
    for _ in range(3):
        lines.append(process.stdout.readline())
        process.stdin.write("done\n")
        process.stdin.flush()
    rest, errors = process.communicate(timeout=60)  # closes standard input
    assert process.returncode == 0, errors
    assert rest == ""
    assert lines == [
        f"{SHOW}\n",
        f"neighbor {PEER} announce route {BLOCK} next-hop self origin igp\n",
        f"neighbor {PEER} announce eor ipv4 unicast\n",
    ]
    assert "record problem" in errors
    assert "BGPPeer bad" in errors
    assert "Traceback" not in errors


def test_sigterm_ends_it_within_a_second(tmp_path: Path) -> None:
    """Also while nobody reads what it says."""
    process = subprocess.Popen(
        command(folder(tmp_path).url),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == f"{SHOW}\n".encode()
    process.terminate()
    assert process.wait(5) == 0
    assert process.stdout.read() == b""
    process.stdout.close()
    assert process.stdin is not None
    process.stdin.close()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["exabgp", "--datastore", "nothing:x"], "--datastore"),
        (["exabgp", "--datastore", "file:/x", "--log-level", "loud"], "--log-level"),
        (["render", "--format", "exa", "--datastore", "file:/x", "--stdout"], "--format 'exa'"),
        (["render", "--with-process", "--datastore", "file:/x", "--stdout"], "--with-process"),
        (["render", "--watch", "--format", "exabgp", "--datastore", "file:/x", "--out", "/x"], "--watch"),
    ],
)
def test_wrong_options_are_named(arguments: list[str], complaint: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "routed", *arguments], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2
    assert complaint in done.stderr
    assert done.stdout == ""


def render(url: str, *options: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "routed",
            "render",
            "--format",
            "exabgp",
            "--node",
            "n",
            "--datastore",
            url,
            *options,
        ],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **(env or {})},
    )


def test_render_writes_one_file_and_leaves_it_alone(tmp_path: Path) -> None:
    url = folder(tmp_path).url
    out = tmp_path / "out"
    first = render(url, "--out", str(out))
    assert first.returncode == 0, first.stderr
    path = out / "exabgp.conf"
    assert sorted(out.iterdir()) == [path]
    assert path.stat().st_mode & 0o007 == 0, "there may be passwords in it"
    written = path.stat().st_mtime_ns
    assert "nothing changed" in render(url, "--out", str(out)).stderr
    assert path.stat().st_mtime_ns == written


def test_stdout_hides_passwords(tmp_path: Path) -> None:
    datastore = folder(tmp_path)
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": "kube-system"}}
    password = {"secretKeyRef": {"name": "s", "key": "k"}}
    datastore.put(
        "secret", [{**secret, "data": {"k": "aHVzaA=="}}, peer("q", "192.0.2.2", 65001, password=password)]
    )
    shown = render(datastore.url, "--stdout")
    assert "md5-password ********;" in shown.stdout
    assert "aHVzaA" not in shown.stdout + shown.stderr


def program(tmp_path: Path, script: str) -> dict[str, str]:
    """An environment in which `exabgp` is this shell script."""
    path = tmp_path / "bin"
    path.mkdir()
    (path / "exabgp").write_text(f"#!/bin/sh\n{script}\n")
    (path / "exabgp").chmod(0o755)
    return {"PATH": f"{path}:/usr/bin:/bin"}


def test_check_asks_the_exabgp_that_is_there(tmp_path: Path) -> None:
    real = Path(sys.executable).with_name("exabgp")
    if not real.exists():
        pytest.skip("no ExaBGP 5 beside this Python (scripts/bootstrap installs it)")
    env = program(tmp_path, f'exec {real} "$@"')
    done = render(folder(tmp_path).url, "--check", "--with-process", env=env)
    assert done.returncode == 0, done.stderr
    assert "takes it" in done.stderr


def test_check_says_what_exabgp_says_and_no_password(tmp_path: Path) -> None:
    script = (
        '[ "$1" = --version ] && { echo "ExaBGP : 4.2.21"; exit 0; }\n'
        '[ "$1" = --validate ] || exit 3\n'
        'grep -q "neighbor" "$2" || exit 4\n'
        "echo 'line 3: invalid keyword'; echo '  md5-password c2VjcmV0;'; exit 1"
    )
    out = tmp_path / "out"
    done = render(folder(tmp_path).url, "--check", "--out", str(out), env=program(tmp_path, script))
    assert done.returncode == 1
    assert "line 3: invalid keyword" in done.stderr
    assert "c2VjcmV0" not in done.stderr
    assert not out.exists()


@pytest.mark.parametrize("script", ["exit 1", "echo BIRD", None])
def test_check_without_an_exabgp(tmp_path: Path, script: str | None) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    env = {"PATH": str(empty)} if script is None else program(tmp_path, script)
    done = render(folder(tmp_path).url, "--check", env=env)
    assert done.returncode == 2
    assert "--check:" in done.stderr


def test_a_datastore_that_exabgp_cannot_be_told_of_is_refused(tmp_path: Path) -> None:
    folder(tmp_path)
    odd = tmp_path / "it's"
    shutil.move(tmp_path / "records", odd)
    done = render(f"file:{odd}", "--with-process", "--stdout")
    assert done.returncode == 2
    assert "cannot be written in ExaBGP's configuration" in done.stderr


def test_the_process_is_told_where_the_records_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """ExaBGP runs it from another folder, and perhaps with another PATH."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["/opt/x/__main__.py"])
    *beginning, url = process_command("file:records", "n")
    assert beginning == [sys.executable, "-m", "routed", "exabgp", "--node", "n", "--datastore"]
    assert url == f"file:{tmp_path}/records"
    assert process_command("file:/a/b", "n")[-1] == "file:/a/b"
    assert process_command("etcd://h:2379", "n")[-1] == "etcd://h:2379"
    installed = tmp_path / "routed"
    installed.write_text("#!/bin/sh\n")
    installed.chmod(0o755)
    monkeypatch.setattr(sys, "argv", ["./routed"])
    assert process_command("file:/a", "n")[0] == str(installed)

"""`routed render --watch`: BIRD is told, and what it refuses is taken back."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from routed.bgp.nlri import Family
from routed.datastore import open_datastore
from routed.intent.options import Options
from routed.render.control import ControlError, Reply, command
from routed.render.watch import Installer, follow
from routed.workload_files import WorkloadFiles, follow_workload_files
from tests import daemons, netns
from tests.waiting import until

from .cases import CASES

WORKER = next(case for case in CASES if case.name == "worker")
SERVICES = next(case for case in CASES if case.name == "services")


class Control:
    """A control socket that answers each command with the next of the answers, in the pieces given."""

    def __init__(self, path: Path, *answers: tuple[bytes, ...]) -> None:
        self.commands: list[bytes] = []
        self._answers = list(answers)
        self._server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._server.bind(str(path))
        self._server.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        for pieces in self._answers:
            connection, _ = self._server.accept()
            with connection:
                connection.sendall(b"0001 BIRD 1.6.8 ready.\n")
                self.commands.append(connection.recv(4096))
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    for piece in pieces:
                        connection.sendall(piece)

    def close(self) -> None:
        self._server.close()
        self._thread.join(10)


@pytest.mark.parametrize(
    ("pieces", "code", "text"),
    [
        ((b"0002-Reading configuration\n0003 Reconfigured\n",), 3, "Reading configuration\nReconfigured"),
        ((b"0002-Read", b"ing\n more\n00", b"04 In progress\n"), 4, "Reading\nmore\nIn progress"),
        ((b"8002 bird.cfg, line 3: syntax error\n",), 8002, "bird.cfg, line 3: syntax error"),
    ],
)
def test_a_reply(tmp_path: Path, pieces: tuple[bytes, ...], code: int, text: str) -> None:
    control = Control(tmp_path / "bird.ctl", pieces)
    assert command(tmp_path / "bird.ctl", "configure") == Reply(code, text)
    assert control.commands == [b"configure\n"]
    control.close()


@pytest.mark.parametrize("pieces", [(), (b"0002-half",), (b"x" * (1 << 21),)])
def test_a_bird_that_does_not_answer_properly(tmp_path: Path, pieces: tuple[bytes, ...]) -> None:
    control = Control(tmp_path / "bird.ctl", pieces)
    with pytest.raises(ControlError, match=r"bird\.ctl: "):
        command(tmp_path / "bird.ctl", "configure")
    control.close()


def test_no_bird_and_a_silent_one(tmp_path: Path) -> None:
    with pytest.raises(ControlError, match="No such file"):
        command(tmp_path / "bird.ctl", "configure")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(str(tmp_path / "silent.ctl"))
        server.listen()
        with pytest.raises(ControlError, match="did not answer"):
            command(tmp_path / "silent.ctl", "configure", time_limit=0.05)


class Birds:
    """Stands for both BIRDs: answers as told, and notes what it was asked and which files it saw."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.refuse: Callable[[str], bool] = lambda text: False
        self.away = False
        self.asked: list[str] = []
        self.said: list[tuple[str, str]] = []

    def ask(self, path: Path, text: str) -> Reply:
        assert text == "configure"
        if self.away:
            raise ControlError(f"{path}: Connection refused")
        self.asked.append(path.name)
        main = (self.out / path.name.replace(".ctl", ".cfg")).read_text()
        return Reply(8002, "syntax error") if self.refuse(main) else Reply(3, "Reconfigured")

    def installer(self) -> Installer:
        return Installer(
            self.out, Path("/control"), lambda level, text: self.said.append((level, text)), ask=self.ask
        )


@pytest.fixture
def birds(tmp_path: Path) -> Birds:
    return Birds(tmp_path / "out")


def test_only_the_family_that_changed_is_told(birds: Birds) -> None:
    installer = birds.installer()
    files = dict(WORKER.render().files)
    installer.install(files)
    assert birds.asked == ["bird.ctl", "bird6.ctl"]
    installer.install(files)
    assert len(birds.asked) == 2
    installer.install({**files, "bird6_ipam.cfg": files["bird6_ipam.cfg"] + "\n"})
    assert birds.asked[2:] == ["bird6.ctl"]


def test_what_bird_refuses_is_taken_back(birds: Birds) -> None:
    installer = birds.installer()
    good, bad = dict(SERVICES.render().files), dict(WORKER.render().files)
    installer.install(good)
    birds.refuse = lambda text: "router id 192.0.2.11;" in text and "listen bgp address 192" in text
    installer.install(bad)
    assert ("error", "BIRD refuses bird.cfg, the last good one is back: syntax error") in birds.said
    on_disk = {path.name: path.read_text() for path in birds.out.iterdir()}
    assert on_disk == {name: (bad if "6" in name else good)[name] for name in good}
    asked = len(birds.asked)
    installer.install(bad)
    assert len(birds.asked) == asked
    birds.refuse = lambda text: False
    installer.install({**bad, "bird.cfg": bad["bird.cfg"] + "\n"})
    assert (birds.out / "bird.cfg").read_text() == bad["bird.cfg"] + "\n"


def test_a_first_configuration_that_is_refused_stays_to_be_looked_at(birds: Birds) -> None:
    birds.refuse = lambda text: True
    birds.installer().install(dict(WORKER.render().files))
    assert "there is no earlier one" in birds.said[1][1]


def test_a_bird_that_starts_later_is_told_at_the_next_change(birds: Birds) -> None:
    installer = birds.installer()
    files = dict(WORKER.render().files)
    birds.away = True
    installer.install(files)
    assert birds.said[1][0] == "warning"
    birds.away = False
    installer.install(files)
    assert birds.asked == ["bird.ctl", "bird6.ctl"]


@pytest.mark.daemon("bird1")
def test_a_check_before_bird_is_told(birds: Birds) -> None:
    installer = birds.installer()
    folder = daemons.bird1_folder()
    installer.programs = {Family.IPV4: str(folder / "bird"), Family.IPV6: str(folder / "bird6")}
    files = dict(WORKER.render().files)
    installer.install({**files, "bird_aggr.cfg": "nonsense;\n"})
    assert birds.asked == ["bird6.ctl"]
    assert "refuses it" in birds.said[0][1]
    assert not (birds.out / "bird.cfg").exists()
    installer.install(files)
    assert birds.asked == ["bird6.ctl", "bird.ctl"]


def test_a_folder_that_cannot_be_written_is_said(birds: Birds) -> None:
    birds.out.write_text("a file")
    birds.installer().install(dict(WORKER.render().files))
    assert [level for level, _ in birds.said] == ["error", "error"]
    assert "bird.cfg is not written" in birds.said[0][1]


def test_records_are_followed(tmp_path: Path, birds: Birds) -> None:
    records = tmp_path / "records.yaml"
    text = (WORKER.folder / "records.yaml").read_text()
    records.write_text(text)
    options = Options("worker01", endpoint_status_prefix=tmp_path)
    main = birds.out / "bird.cfg"

    def has(words: str) -> bool:
        return main.exists() and words in main.read_text()

    async def scenario() -> None:
        stop = asyncio.Event()
        task = asyncio.create_task(
            follow(open_datastore(f"file:{records}"), options, birds.installer(), stop)
        )
        await until(lambda: len(birds.asked) == 2)
        assert not has("Local_Workload")
        replacement = tmp_path / "new"
        replacement.write_text(text.replace("asNumber: 64600", "asNumber: 64601", 1))
        os.replace(replacement, records)
        await until(lambda: has("local as 64601;"))
        (tmp_path / "half").write_text("kind: [")
        os.replace(tmp_path / "half", records)
        await until(lambda: any("records.yaml" in said for level, said in birds.said if level == "error"))
        assert has("local as 64601;")
        stop.set()
        async with asyncio.timeout(5):
            await task

    asyncio.run(scenario())
    assert not any("secret" in said and "Secret" not in said for _, said in birds.said)


def test_workload_files_are_followed(tmp_path: Path) -> None:
    folder = tmp_path / "endpoint-status"
    folder.mkdir()
    content = (WORKER.folder / "endpoint-status" / "router-0").read_text()

    async def scenario() -> None:
        changes = follow_workload_files(tmp_path, rescan_seconds=0.05)
        (folder / "a").write_text(content)
        first = await anext(changes)
        assert [record.name for record in first.upserts] == ["a"]
        (folder / ".b").write_text(content)
        (folder / ".b").rename(folder / "b")
        second = await anext(changes)
        assert [record.name for record in second.upserts] == ["b"]
        (folder / "b").unlink()
        third = await anext(changes)
        assert [key.name for key in third.deletes] == ["b"]
        await changes.aclose()

    asyncio.run(asyncio.wait_for(scenario(), 10))


def test_a_workload_file_half_written_leaves_the_last_good_one(tmp_path: Path) -> None:
    folder = tmp_path / "endpoint-status"
    files = WorkloadFiles(tmp_path)
    assert files.scan() is None
    folder.mkdir()
    content = (WORKER.folder / "endpoint-status" / "router-0").read_text()
    (folder / "a").write_text(content)
    changes = files.scan()
    assert changes is not None
    assert len(changes.upserts) == 1
    (folder / "a").write_text(content[:20])
    changes = files.scan()
    assert changes is not None
    assert (changes.upserts, changes.deletes, len(changes.problems)) == ((), (), 1)
    assert files.scan() is None
    (folder / "a").unlink()
    changes = files.scan()
    assert changes is not None
    assert [key.name for key in changes.deletes] == ["a"]


@pytest.fixture
def machine(lab: netns.Lab) -> netns.Machine:
    return lab.machine("m", "192.0.2.11/24", "2001:db8::11/64")


@pytest.mark.netns
@pytest.mark.daemon("bird1")
def test_a_real_bird(machine: netns.Machine, tmp_path: Path) -> None:
    """BIRD 1.6 runs what is rendered, takes a change, and goes on with the last good one."""
    out = tmp_path / "out"
    said: list[tuple[str, str]] = []
    installer = Installer(out, machine.directory, lambda level, text: said.append((level, text)))
    files = {
        name: text.replace("192.0.2.1;", "192.0.2.11;") for name, text in SERVICES.render().files.items()
    }
    installer.install(files)
    folder = daemons.bird1_folder()
    for name in ("bird", "bird6"):
        arguments = ["-f", "-c", str(out / f"{name}.cfg"), "-s", str(machine.directory / f"{name}.ctl")]
        machine.start(name, [str(folder / name), *arguments])
        netns.wait_for((machine.directory / f"{name}.ctl").is_socket, f"{name} listens")
    said.clear()
    changed = {**files, "bird_ipam.cfg": files["bird_ipam.cfg"] + "# changed\n"}
    installer.install(changed)
    assert ("info", "BIRD took bird.cfg: Reconfigured") in said
    installer.install({**changed, "bird_ipam.cfg": "nonsense;\n"})
    assert said[-1][0] == "error"
    assert "the last good one is back" in said[-1][1]
    assert (out / "bird_ipam.cfg").read_text() == changed["bird_ipam.cfg"]
    routes = command(machine.directory / "bird.ctl", "show route")
    assert "10.96.0.10/32" in routes.text

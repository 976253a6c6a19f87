"""`routed render`: files written whole, or left alone; problems told; BIRD asked."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from routed.cli.render import render
from routed.render.files import write_files
from tests import daemons

from .cases import CASES, GOLDEN

WORKER = next(case for case in CASES if case.name == "worker")
ARGUMENTS = ["--datastore", f"file:{WORKER.folder / 'records.yaml'}", "--node", "worker01"]
ENVIRONMENT = {"CALICO_ENDPOINT_STATUS_PATH_PREFIX": str(WORKER.folder)}


def run(*arguments: str, **environment: str) -> Result:
    app = typer.Typer()
    app.command()(render)
    unset = {name: None for name in os.environ if name.startswith(("CALICO_", "ROUTED_", "BGP_"))}
    return CliRunner().invoke(app, arguments, env={**unset, **ENVIRONMENT, **environment})


def test_the_files_are_written_and_then_left_alone(tmp_path: Path) -> None:
    out = tmp_path / "new" / "folder"
    first = run(*ARGUMENTS, "--out", str(out))
    assert first.exit_code == 0
    assert {path.name: path.read_text() for path in out.iterdir()} == WORKER.expected()
    assert "BGPFilter gone" in first.stderr
    assert "wrote bird.cfg, " in first.stderr
    before = {path: path.stat() for path in out.iterdir()}
    again = run(*ARGUMENTS, "--out", str(out))
    assert "nothing changed" in again.stderr
    assert {path: path.stat() for path in out.iterdir()} == before
    (out / "bird_ipam.cfg").write_text("spoilt")
    assert f"{out}: wrote bird_ipam.cfg\n" in run(*ARGUMENTS, "--out", str(out)).stderr
    assert (out / "bird_ipam.cfg").read_text() == WORKER.expected()["bird_ipam.cfg"]


def test_standard_output_shows_no_password(tmp_path: Path) -> None:
    shown = run(*ARGUMENTS, "--stdout")
    assert shown.exit_code == 0
    assert "protocol bgp Mesh_192_0_2_9 from bgp_template {" in shown.stdout
    assert 'password "********";' in shown.stdout
    assert "secret" not in shown.output


def test_the_node_and_the_datastore_from_the_environment(tmp_path: Path) -> None:
    datastore = f"file:{WORKER.folder / 'records.yaml'}"
    assert run("--out", str(tmp_path), ROUTED_DATASTORE=datastore, NODENAME="worker01").exit_code == 0
    assert (tmp_path / "bird.cfg").read_text() == WORKER.expected()["bird.cfg"]


@pytest.mark.parametrize(
    ("arguments", "environment", "words"),
    [
        (ARGUMENTS, {}, "give --out DIR, --stdout or --check"),
        (["--datastore", "file:/nowhere/at/all.yaml", "--node", "a", "--stdout"], {}, "/nowhere/at/all.yaml"),
        (["--datastore", "gopher://x", "--node", "a", "--stdout"], {}, "gopher"),
        ([*ARGUMENTS, "--stdout"], {"CALICO_ROUTER_ID": "seven"}, "CALICO_ROUTER_ID"),
        ([*ARGUMENTS, "--out", str(WORKER.folder / "records.yaml")], {}, "--out"),
        ([*ARGUMENTS, "--check"], {"PATH": "/nowhere"}, "there is no bird on the PATH"),
    ],
)
def test_what_cannot_be_done_is_said(arguments: list[str], environment: dict[str, str], words: str) -> None:
    said = run(*arguments, **environment)
    assert said.exit_code == 2
    assert words in said.stderr


def test_bad_records_are_told_and_the_rest_is_rendered(tmp_path: Path) -> None:
    records = tmp_path / "records.yaml"
    text = (WORKER.folder / "records.yaml").read_text()
    records.write_text(text.replace("peerIP: 203.0.113.1", "peerIP: nonsense"))
    said = run("--datastore", f"file:{records}", "--node", "worker01", "--stdout")
    assert said.exit_code == 0
    assert re.search(r"error: .*records.yaml:\d+: BGPPeer behind-a-gateway: spec.peerIP", said.stderr)
    assert "protocol bgp Mesh_192_0_2_9 from bgp_template {" in said.stdout
    assert "203_0_113_1 " not in said.stdout


@pytest.mark.daemon("bird1")
def test_a_check_before_anything_is_written(tmp_path: Path) -> None:
    path = f"{daemons.bird1_folder()}:{os.environ['PATH']}"
    said = run(*ARGUMENTS, "--check", "--out", str(tmp_path), PATH=path)
    assert said.exit_code == 0
    assert re.search(r"bird6.cfg: .*/bird6 takes it", said.stderr)
    assert (tmp_path / "bird.cfg").exists()


def test_a_check_that_fails_leaves_the_files_alone(tmp_path: Path) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("bird", "bird6"):
        script = (
            '#!/bin/sh\n[ "$1" = --version ] && echo "BIRD version 1.6.8" && exit\necho "$3:1:1 no"\nexit 1\n'
        )
        (programs / name).write_text(script)
        (programs / name).chmod(0o755)
    said = run(*ARGUMENTS, "--check", "--out", str(tmp_path / "out"), PATH=f"{programs}:{os.environ['PATH']}")
    assert said.exit_code == 1
    assert "bird.cfg: bird.cfg:1:1 no" in said.stderr
    assert not (tmp_path / "out").exists()


def test_another_bird_is_not_asked(tmp_path: Path) -> None:
    (tmp_path / "bird").write_text('#!/bin/sh\necho "BIRD version 2.0.12"\n')
    (tmp_path / "bird").chmod(0o755)
    said = run(*ARGUMENTS, "--check", PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert said.exit_code == 2
    assert "BIRD 1.6 is needed" in said.stderr


def test_files_are_replaced_as_a_whole(tmp_path: Path) -> None:
    """The old file's content stays with whoever has it open; its mode goes on to the new one."""
    path = tmp_path / "bird.cfg"
    path.write_text("old")
    path.chmod(0o604)
    with path.open() as reader:
        assert write_files(tmp_path, {"bird.cfg": "new", "bird6.cfg": "six"}) == ["bird.cfg", "bird6.cfg"]
        assert reader.read() == "old"
    assert path.read_text() == "new"
    assert path.stat().st_mode & 0o777 == 0o604
    assert (tmp_path / "bird6.cfg").stat().st_mode & 0o777 == 0o640
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bird.cfg", "bird6.cfg"]


def test_a_failed_write_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bird.cfg").write_text("old")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device", str(tmp_path / "bird.cfg"))

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="No space left"):
        write_files(tmp_path, {"bird.cfg": "new"})
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


def test_the_cases_are_all_found() -> None:
    assert len(CASES) == len([path for path in GOLDEN.iterdir() if path.is_dir()]) > 4

"""The command line: what it refuses and how it says so, and the two daemons as processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from routed import __version__, cli
from routed.cli import application, common

RR = ["rr", "--listen", "127.0.0.1:1790", "--as", "64512", "--router-id", "127.0.0.1"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["run", "--datastore", "redis://x", "--node", "n"], "redis"),
        (["run", "--datastore", "file:x", "--node", "n", "--on-stop", "never"], "--on-stop"),
        (["run", "--datastore", "file:x", "--node", "n", "--families-per-session", "3"], "one or both"),
        (["run", "--datastore", "file:x", "--node", "n", "--log-level", "loud"], "--log-level"),
        (["run", "--datastore", "file:x", "--node", "n", "--log-format", "xml"], "--log-format"),
        ([*RR], "--clients"),
        ([*RR, "--clients", "127.1.0.0/33"], "--clients"),
        ([*RR, "--clients", "127.1.0.0/16", "--cluster-id", "x"], "--cluster-id"),
        ([*RR[:4], "0", *RR[5:], "--clients", "127.1.0.0/16"], "--as"),
        ([*RR[:4], "4294967296", *RR[5:], "--clients", "127.1.0.0/16"], "--as"),
        ([*RR[:-1], "0.0.0.0", "--clients", "127.1.0.0/16"], "--router-id"),
        (["rr", "--listen", "::1:1790", *RR[3:], "--clients", "127.1.0.0/16"], "brackets"),
        (["rr", "--listen", "127.0.0.1", *RR[3:], "--clients", "127.1.0.0/16"], "--listen"),
        (["rr", "--listen", "127.0.0.1:0", *RR[3:], "--clients", "127.1.0.0/16"], "--listen"),
        (["rr", "--listen", "0.0.0.0:1790", *RR[3:], "--datastore", "file:x"], "--listen"),
    ],
)
@pytest.mark.usefixtures("daemons_in_process")
def test_a_wrong_option_is_named_and_ends_with_status_2(arguments: list[str], says: str) -> None:
    result = CliRunner().invoke(application(), arguments)
    assert result.exit_code == 2
    assert says in result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    "arguments", [("status",), ("peers", "--help"), ("peer", "--help"), ("unknown",), ()]
)
def test_what_is_asked_for_is_made_as_among_all(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command line with one command says what the one with all says."""
    monkeypatch.setenv("ROUTED_SOCKET", "/nonexistent")
    monkeypatch.setattr(sys, "argv", ["routed", *arguments])

    def said(run: Callable[[], None]) -> tuple[object, str, str]:
        with pytest.raises(SystemExit) as ended:
            run()
        return ended.value.code, *capsys.readouterr()

    alone = said(lambda: cli.main(arguments))
    assert alone == said(application())
    assert alone[0] == {"status": 3, "unknown": 2}.get("".join(arguments), alone[0])


def test_a_command_imports_no_other() -> None:
    program = (
        "import sys; from routed import cli\n"
        "try: cli.main(['status'])\n"
        "except SystemExit: print(*sys.modules)"
    )
    command = [sys.executable, "-c", program]
    environment = {**os.environ, "ROUTED_SOCKET": "/nonexistent"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True, timeout=60)
    loaded = {name.removeprefix("routed.cli.") for name in done.stdout.split()}
    others = {module for module, _ in cli.COMMANDS.values()} - {"status"}
    assert "status" in loaded
    assert not loaded & (others | {"rich", "yaml", "asyncio", "routed.bgp.speaker"})


def test_version() -> None:
    assert CliRunner().invoke(application(), ["--version"]).output == f"routed {__version__}\n"


def test_node_name_as_calico_node_finds_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "nodename"
    monkeypatch.setenv("CALICO_NODENAME_FILE", str(file))
    monkeypatch.setenv("HOSTNAME", "from-environment")
    assert common.node_name("given") == "given"
    assert common.node_name(None) == "from-environment"
    file.write_text("from-file\n")
    assert common.node_name(None) == "from-file"


def test_a_reflector_without_records_imports_no_more_than_it_needs() -> None:
    """Its memory is that of its modules: the command line, the records' types, TLS and the kernel's side stay
    away."""
    program = (
        "import sys\n"
        "from routed.daemon import reflector\n"
        "reflector._without_tls()\n"
        "import routed.rr.process\n"
        "print(*(name for name, module in sys.modules.items() if module is not None))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    imported = set(done.stdout.split())
    assert "routed.bgp.speaker" in imported
    assert imported.isdisjoint(
        {
            *(
                "typer",
                "pydantic",
                "rich",
                "msgspec",
                "yaml",
                "pyroute2",
                "jinja2",
                "ssl",
                "_ssl",
                "_hashlib",
                "h11",
                "prometheus_client",
            ),
            *("routed.agent", "routed.cli", "routed.resources", "routed.datastore", "routed.kernel"),
        }
    )


def test_a_daemon_begins_anew_with_the_options_it_was_given(tmp_path: Path) -> None:
    """Same process, same arguments; the options of the command line and of the environment arrive, and the
    variable that carried them is gone."""
    status = tmp_path / "status.json"
    arguments = [*RR[:-1], "127.0.0.9", "--clients", "127.1.0.0/16", "--status-file", str(status)]
    arguments[2] = "127.0.0.1:17904"
    process = subprocess.Popen(
        [sys.executable, "-m", "routed", *arguments],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "ROUTED_CLUSTER_ID": "127.0.0.8", "ROUTED_NAME": "rr9"},
    )
    assert process.stdout is not None
    for line in process.stdout:
        if json.loads(line)["event"] == "speaking BGP":
            break
    command = Path(f"/proc/{process.pid}/cmdline").read_bytes().split(b"\0")
    libraries = Path(f"/proc/{process.pid}/maps").read_text()
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert [one.decode() for one in command[1:-1]] == ["-m", "routed", *arguments]
    assert "pydantic" not in libraries
    document = json.loads(status.read_text())
    assert (document["node"], document["router_id"], document["cluster_id"]) == (
        "rr9",
        "127.0.0.9",
        "127.0.0.8",
    )


def test_a_reflector_process_starts_says_what_it_does_and_stops_on_sigterm(tmp_path: Path) -> None:
    status = tmp_path / "status.json"
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "routed", "rr", "--listen", "127.0.0.1:17903", "--as", "64512"),
            *("--router-id", "127.0.0.1", "--clients", "127.1.0.0/16", "--status-file", str(status)),
        ],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    lines: list[dict[str, object]] = []
    for line in process.stdout:
        lines.append(json.loads(line))
        if lines[-1]["event"] == "speaking BGP":
            break
    process.send_signal(signal.SIGTERM)
    lines += [json.loads(line) for line in process.stdout]
    assert process.wait(60) == 0
    process.stdout.close()
    assert [line["event"] for line in lines] == [
        "routed starts",
        "listening",
        "speaking BGP",
        "routed has stopped",
    ]
    assert json.loads(status.read_text())["cluster_id"] == "127.0.0.1"

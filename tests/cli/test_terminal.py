"""The commands as processes: on terminals, in pipes, in a shell that completes; and how they end."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys

import msgspec
import pytest
import yaml

from routed.cli.options import with_interval
from routed.cli.text import width
from routed.observe import documents
from tests.cli.conftest import run
from tests.cli.server import STATUS, ApiServer, peer_summary, route, routes_of
from tests.cli.terminal import TIMEOUT, Terminal, command

HOME = "\x1b[H"
#: What is not shown: CSI sequences (ECMA-48).
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def shown(screen: str) -> list[str]:
    """The lines of a whole picture."""
    return CONTROL.sub("", screen.split(HOME)[-2]).replace("\r", "").split("\n")


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (["--watch"], ["--watch=2"]),
        (["-w", "x"], ["--watch=2", "x"]),
        (["-w", "0.5", "x"], ["-w", "0.5", "x"]),
        (["x", "--watch", "5"], ["x", "--watch", "5"]),
        (["--watch=3"], ["--watch=3"]),
        (["--watch", "-o", "json"], ["--watch=2", "-o", "json"]),
        (["--", "--watch"], ["--", "--watch"]),
    ],
)
def test_watch_has_an_interval(given: list[str], wanted: list[str]) -> None:
    assert with_interval(given) == wanted


def test_watch_draws_in_place_and_ends_quietly(api: ApiServer) -> None:
    with Terminal("peers", "--watch", "0.1") as terminal:
        terminal.until(HOME, 3)
        terminal.press("\x03")
        assert terminal.end() == 130
    screen = terminal.screen
    assert screen.startswith("\x1b[?1049h")
    assert screen.endswith("\x1b[?25h\x1b[?1049l")
    assert "Traceback" not in screen
    assert "Aborted" not in screen
    lines = shown(screen)
    assert "every 0.1 s: routed peers --watch 0.1" in lines[0]
    assert lines[3].startswith("Node_192_0_2_10")


def test_watch_cuts_what_the_terminal_does_not_hold(api: ApiServer) -> None:
    api.answers["/api/v1/peers"] = documents.Peers(
        peers=[peer_summary(f"peer-{at}", last_error="x" * 200, state="idle") for at in range(50)]
    )
    with Terminal("peers", "-w", "0.1", columns=60, lines=10) as terminal:
        terminal.until(HOME, 3)
        terminal.press("\x03")
        terminal.end()
    lines = shown(terminal.screen)
    assert len(lines) == 10
    assert all(width(line) <= 60 for line in lines)
    assert lines[-1].startswith("44 more lines")


def test_watch_says_what_goes_wrong_and_tries_again(api: ApiServer) -> None:
    refused = msgspec.json.encode(documents.Error(error="no such peer \x1b[2J"))
    answers = iter([STATUS, (404, refused)])
    api.answers["/api/v1/status"] = lambda _: next(answers, STATUS)
    with Terminal("status", "-w", "0.1") as terminal:
        terminal.until("trying again")
        terminal.until("worker01", 2)
        terminal.press("\x03")
        assert terminal.end() == 130
    assert "no such peer \\x1b[2J" in terminal.screen


def test_watch_into_a_pipe_writes_no_answer_twice(api: ApiServer) -> None:
    """What was true before an error is not told again after it; the error is told once."""
    refused = (500, msgspec.json.encode(documents.Error(error="busy")))
    answers = iter([STATUS, refused, refused, refused, msgspec.structs.replace(STATUS, node="second")])
    api.answers["/api/v1/status"] = lambda _: next(answers, None)
    arguments = command("status", "-w", "0.1", "-o", "json")
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert [json.loads(process.stdout.readline())["node"] for _ in range(2)] == ["worker01", "second"]
        process.send_signal(signal.SIGINT)
        assert process.wait(TIMEOUT) == 130
        said = process.stderr.read()
    assert said.startswith("routed: busy; trying again\n")
    assert said.count("busy") == 1


def test_a_watch_that_is_ended_leaves_the_terminal_as_it_was(api: ApiServer) -> None:
    with Terminal("status", "--watch") as terminal:
        terminal.until("worker01")
        terminal.process.terminate()
        assert terminal.end() == 143
    assert terminal.screen.endswith("\x1b[?25h\x1b[?1049l")


@pytest.mark.parametrize("output", ["json", "yaml", "table"])
def test_watch_into_a_pipe_writes_documents(api: ApiServer, output: str) -> None:
    """JSON: one a line."""
    with subprocess.Popen(
        command("status", "-w", "0.1", "-o", output),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        wanted = json.loads(msgspec.json.encode(STATUS))
        found = 0
        text = ""
        for line in process.stdout:
            if output == "json":
                assert json.loads(line) == wanted
                found += 1
            elif output == "yaml" and line == "---\n":
                assert yaml.safe_load(text) == wanted
                found, text = found + 1, ""
            elif output == "table" and line == "\n":
                assert text.startswith("node")
                found, text = found + 1, ""
            else:
                text += line
            if found == 3:
                break
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        assert process.wait(TIMEOUT) == 130
        assert process.stderr.read() == ""


def test_colours_are_for_terminals_that_want_them(api: ApiServer) -> None:
    for environment, coloured in ((None, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)):
        with Terminal("peers", environment=environment) as terminal:
            assert terminal.end() == 0
        assert ("\x1b[32mestablished" in terminal.screen) is coloured
    assert "\x1b" not in run("peers").stdout


@pytest.mark.parametrize("columns", [40, 80, 120])
def test_tables_fit(api: ApiServer, columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    long = peer_summary("a-peer-with-a-name-that-is-rather-long", state="idle", last_error="why " * 50)
    api.answers["/api/v1/peers"] = documents.Peers(peers=[peer_summary(), long])
    for arguments in (["peers"], ["status"], ["explain", "x"], ["routes"], ["routes", "::/0"], ["blocks"]):
        lines = run(*arguments).stdout.splitlines()
        assert len(lines) > 2
        assert all(width(line) <= max(columns, 60) for line in lines), lines


def test_a_pipe_that_nobody_reads_is_no_error(api: ApiServer) -> None:
    api.answers["/api/v1/routes"] = routes_of([route()] * 20_000)
    for output in ("table", "json"):
        with subprocess.Popen(
            command("routes", "-o", output), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            process.stdout.readline()
            process.stdout.close()
            assert process.stderr.read() == b""
            assert process.wait(TIMEOUT) == 141


@pytest.mark.parametrize("redirection", [">&-", ">&- 2>&-"])
def test_a_standard_stream_may_be_closed(api: ApiServer, redirection: str) -> None:
    """As a supervisor may start a probe."""
    script = f'exec "$@" {redirection}'
    done = subprocess.run(
        ["sh", "-c", script, "sh", *command("healthcheck")], capture_output=True, text=True, timeout=TIMEOUT
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_full_disk_is_said(api: ApiServer) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(command("status"), stdout=full, stderr=subprocess.PIPE, timeout=TIMEOUT)
    assert (done.returncode, done.stderr) == (1, b"routed: cannot write: No space left on device\n")


def test_what_an_encoding_does_not_have_is_escaped(api: ApiServer) -> None:
    api.answers["/api/v1/peers"] = documents.Peers(peers=[peer_summary("wörker\u65e5")])
    done = subprocess.run(
        command("peers"),
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "latin-1"},
        timeout=TIMEOUT,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert "wörker\\u65e5".encode("latin-1") in done.stdout


def completed(line: str, **environment: str) -> list[str]:
    """What bash would offer at the end of a line."""
    words = line.split(" ")
    program = "import sys; sys.argv[0] = 'routed'; from routed.__main__ import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        env={
            **os.environ,
            "_ROUTED_COMPLETE": "complete_bash",
            "COMP_WORDS": line,
            "COMP_CWORD": str(len(words) - 1),
            **environment,
        },
    )
    assert done.stderr == ""
    return done.stdout.split()


def test_the_shell_completes_peers_of_the_running_routed(api: ApiServer) -> None:
    assert completed("routed peers N") == ["Node_192_0_2_10"]
    assert completed("routed peer shutdown ") == ["Node_192_0_2_10", "Global_192_0_2_1"]
    assert completed("routed routes --received-from Glo") == ["Global_192_0_2_1"]
    assert completed("routed events --kind session-") == ["session-up", "session-down"]
    hostile = "x$(touch y)\x1b[2J"
    api.answers["/api/v1/peers"] = documents.Peers(peers=[peer_summary(hostile), peer_summary("fine")])
    assert completed("routed peers ") == ["fine"]


def test_completion_without_a_routed_is_silent() -> None:
    assert completed("routed peers ", ROUTED_SOCKET="/nonexistent/a.sock") == []


def test_completion_can_be_shown() -> None:
    done = subprocess.run(
        command("--show-completion", "bash"),
        capture_output=True,
        text=True,
        env={**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"},
        timeout=TIMEOUT,
    )
    assert "COMP_WORDS" in done.stdout


@pytest.mark.parametrize("arguments", [("status",), ("peers",), ("events",), ("healthcheck",), ("drain",)])
def test_commands_import_no_more_than_they_need(api: ApiServer, arguments: tuple[str, ...]) -> None:
    """A quick start: the event loop, YAML, and all that is BGP stay away."""
    api.answers["/api/v1/drain"] = documents.Done(done="drains")
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "routed", *arguments],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    assert done.returncode == 0
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "routed.cli.servers" in imported
    assert imported.isdisjoint(
        {"asyncio", "yaml", "h11", "prometheus_client", "structlog", "jinja2", "pyroute2", "routed.bgp"}
    )

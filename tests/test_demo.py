"""The demonstration as a user runs it, under a name of its own: it ends well, and leaves nothing behind
however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import netns

_REPOSITORY = Path(__file__).resolve().parent.parent


class Demo:
    """`python -m examples.demo` with its output in a file."""

    def __init__(self, output: Path) -> None:
        self.name = f"{netns.unique_prefix()}-demo"
        self.output = output
        self._environment = {**os.environ, "DEMO_NAME": self.name, "KEEP": "", "COLUMNS": "100"}

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[bytes]:
        """Starts it, as from a terminal's shell: in a process group of its own."""
        with self.output.open("wb") as stream:
            return subprocess.Popen(
                [sys.executable, "-m", "examples.demo", *arguments],
                cwd=_REPOSITORY,
                env={**self._environment, **environment},
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def run(self, *arguments: str, **environment: str) -> tuple[int, str]:
        """Its exit status and output."""
        status = self.start(*arguments, **environment).wait(120)
        return status, self.output.read_text()

    def wait_output(self, text: str, timeout: float = 60) -> None:
        """Until it has printed `text`."""
        netns.wait_for(lambda: text in self.output.read_text(), f"the demo prints {text!r}", timeout)


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    one = Demo(tmp_path / "output")
    yield one
    # Whatever a failed test left; that it is nothing is what the tests assert.
    one.run("stop")


@pytest.mark.netns
@pytest.mark.daemon("bird2")
def test_every_probe_arrives_and_nothing_is_left(demo: Demo) -> None:
    status, output = demo.run("run")
    assert status == 0, output
    assert "20 of 20 established" in output
    assert "222 of 222 arrived" in output
    assert "10.244.1.0/26 via 192.0.2.13" in output
    assert netns.namespaces(demo.name) == []


@pytest.mark.netns
@pytest.mark.daemon("bird2")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_demo_leaves_nothing(demo: Demo, number: signal.Signals) -> None:
    process = demo.start("run")
    demo.wait_output("routed: running")
    process.send_signal(number)
    assert process.wait(30) == 130, demo.output.read_text()
    assert netns.namespaces(demo.name) == []


@pytest.mark.netns
@pytest.mark.daemon("bird2")
def test_leftovers_of_a_killed_demo_are_removed(demo: Demo) -> None:
    process = demo.start("run")
    demo.wait_output("routed: running")
    process.kill()
    process.wait(60)
    assert netns.namespaces(demo.name) != []
    status, output = demo.run("stop")
    assert (status, netns.namespaces(demo.name)) == (0, []), output


@pytest.mark.netns
@pytest.mark.daemon("bird2")
def test_keep_leaves_it_running_until_it_is_stopped(demo: Demo) -> None:
    status, output = demo.run("run", KEEP="1")
    assert status == 0, output
    assert "make demo-stop" in output
    assert f"{demo.name}-worker01" in netns.namespaces(demo.name)
    status, output = demo.run("stop")
    assert (status, netns.namespaces(demo.name)) == (0, []), output


def test_without_namespaces_it_runs_over_loopback(demo: Demo) -> None:
    status, output = demo.run("run", DEMO="loopback")
    assert status == 0, output
    assert "Left out: kernel routes, blackholes, pods and probes, IPv6 sessions." in output
    assert "established" in output

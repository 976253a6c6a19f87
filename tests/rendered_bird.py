"""BIRD 1.6 as a Calico node: bird and bird6 on the files that `routed render` writes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.daemons import bird1_folder
from tests.netns import CommandError, Machine, Process, wait_for
from tests.routed_process import Records

_REPOSITORY = Path(__file__).resolve().parent.parent
PROGRAMS = ("bird", "bird6")
#: Kernel protocol number of BIRD's routes.
BIRD_PROTOCOL = 12
#: Stands for Calico's `krt_tunnel="tunl0"` in a BIRD that knows no tunnels: what it marks the kernel shows.
TUNNEL_REALM = 77
#: BIRD, started as Calico starts it (-R), programs no route before each peer that it knows has come or 240 s
#: have passed. The tests have not that long.
RESTART_WAIT = "graceful restart wait 3;\n"
_KRT_TUNNEL = re.compile(r'\bkrt_tunnel\s*=\s*"([^"]*)"')


def for_stock_bird(text: str) -> str:
    """The configuration without `krt_tunnel`, which is Calico's own patch: it sends a route through a device,
    onlink. In its place stands a realm, so that the kernel shows which routes BIRD wanted to send through
    it."""
    return _KRT_TUNNEL.sub(lambda found: f"krt_realm = {TUNNEL_REALM if found[1] else 0}", text)


class RenderedBird:
    """bird and bird6 on a machine, as the node of its name."""

    def __init__(
        self, machine: Machine, records: Records, environment: Mapping[str, str] | None = None
    ) -> None:
        self.machine = machine
        self.records = records
        self.environment = dict(environment or {})
        self.directory = machine.directory
        self.processes: dict[str, Process] = {}

    def start(self) -> None:
        """Renders and starts both; returns when they answer."""
        self.render()
        for program in PROGRAMS:
            options = ["-R", "-d", "-c", f"{program}.cfg", "-s", f"{program}.ctl", "-P", f"{program}.pid"]
            command = [str(bird1_folder() / program), *options]
            self.processes[program] = self.machine.start(program, command, cwd=self.directory)
        for program in PROGRAMS:
            wait_for(lambda program=program: self._answers(program), f"{program} answers", timeout=60)  # type: ignore[misc]

    def stop(self) -> None:
        """SIGTERM; what is configured as `persist` stays in the kernel."""
        for process in self.processes.values():
            process.stop()

    def kill(self) -> None:
        """SIGKILL: a crash. The only end of a BIRD that its peers take for a restart."""
        for process in self.processes.values():
            process.kill()

    def configure(self) -> None:
        """Renders again, and has both read it, as confd does."""
        self.render()
        for program in PROGRAMS:
            answer = self.ask(program, "configure")
            if "Reconfigured" not in answer and "in progress" not in answer:
                raise CommandError(f"{program}: configure: {answer}")

    def render(self) -> None:
        """`routed render`, and what a stock BIRD needs changed in its files."""
        command = [sys.executable, "-m", "routed", "render", "--node", self.machine.name]
        done = subprocess.run(
            [*command, "--datastore", self.records.url, "--out", str(self.directory)],
            env={**os.environ, **self.environment},
            cwd=_REPOSITORY,
            capture_output=True,
            text=True,
            timeout=60,
        )
        if done.returncode:
            raise CommandError(f"routed render: {done.stderr}")
        for path in self.directory.glob("bird*.cfg"):
            path.write_text(for_stock_bird(path.read_text()))
        for program in PROGRAMS:
            with (self.directory / f"{program}.cfg").open("a") as main:
                main.write(RESTART_WAIT)

    def ask(self, program: str, *command: str) -> str:
        """The answer on the control socket of `bird` or `bird6`."""
        client = bird1_folder() / program.replace("bird", "birdc")
        done = subprocess.run(
            [client, "-s", f"{program}.ctl", *command],
            cwd=self.directory,
            capture_output=True,
            text=True,
            timeout=60,
            stdin=subprocess.DEVNULL,
        )
        if done.returncode:
            raise CommandError(f"{client} {' '.join(command)}: {done.stdout}{done.stderr}")
        return done.stdout

    def sessions(self) -> dict[str, bool]:
        """Whether each BGP protocol is Established, by its name and family."""
        states: dict[str, bool] = {}
        for program in PROGRAMS:
            for line in self.ask(program, "show", "protocols").splitlines():
                words = line.split()
                if len(words) > 1 and words[1] == "BGP":
                    states[f"{program} {words[0]}"] = words[-1] == "Established"
        return states

    def _answers(self, program: str) -> bool:
        self.processes[program].check()
        return "BIRD" in self.ask(program, "show", "status")

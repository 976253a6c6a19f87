"""BIRD 1.6 and BIRD 2."""

from __future__ import annotations

import abc
import subprocess
from pathlib import Path

from tests.daemons import bird1_folder, bird2_program
from tests.matrix.speakers.base import LARGE_COMMUNITY, Neighbor, Speaker, number_in, said_version
from tests.netns import CommandError, wait_for


class _Bird(Speaker):
    """What both BIRDs share: one process a configuration."""

    @abc.abstractmethod
    def _instances(self) -> dict[str, tuple[Path, str]]:
        """Program and configuration by name."""

    def start(self) -> None:
        self.processes = []
        for name, (program, configuration) in self._instances().items():
            (self.directory / f"{name}.conf").write_text(configuration)
            command = [
                str(program),
                "-R",
                "-f",
                "-c",
                f"{name}.conf",
                "-s",
                f"{name}.ctl",
                "-P",
                f"{name}.pid",
            ]
            self.processes.append(self.machine.start(name, command, cwd=self.directory))
        for name in self._instances():
            wait_for(lambda name=name: self._answers(name), f"{name} answers")  # type: ignore[misc]

    def _answers(self, name: str) -> bool:
        for process in self.processes:
            process.check()
        return "BIRD" in self.ask(name, "show", "status")

    def ask(self, instance: str, *command: str) -> str:
        """The answer on a control socket."""
        program = self._instances()[instance][0]
        client = program.with_name(program.name.replace("bird", "birdc"))
        done = subprocess.run(
            [client, "-s", f"{instance}.ctl", *command],
            cwd=self.directory,
            capture_output=True,
            text=True,
            timeout=60,
            stdin=subprocess.DEVNULL,
        )
        if done.returncode:
            raise CommandError(f"{client} {' '.join(command)}: {done.stdout}{done.stderr}")
        return done.stdout

    def show(self, prefix: str) -> str:
        text = self.ask(self._instance_of(prefix), "show", "route", "for", prefix, "all")
        return text if prefix in text else ""

    def path_count(self, prefix: str) -> int:
        return self.show(prefix).count("BGP.next_hop:")

    def refresh(self) -> None:
        self.ask("bird", "reload", "in", "routed4")

    @abc.abstractmethod
    def _instance_of(self, prefix: str) -> str: ...

    def _head(self) -> str:
        community = ", ".join(map(str, LARGE_COMMUNITY))
        return (
            f"log stderr all;\nrouter id {self.setup.router_id};\n"
            "graceful restart wait 10;\nprotocol device { }\n"
            f"filter told {{ bgp_large_community.add(({community})); accept; }}\n"
        )

    def _session(self, neighbor: Neighbor, channel: str) -> str:
        options = [
            f"local {self.setup.local[neighbor.version]} as {self.setup.asn};",
            f"neighbor {neighbor.address} as {neighbor.asn};",
            "graceful restart on; graceful restart time 60; enable extended messages on;",
            "connect delay time 1; connect retry time 1; error wait time 1, 2; hold time 90;",
        ]
        if neighbor.password:
            options.append(f'password "{neighbor.password}";')
        if neighbor.ttl_security:
            options.append("ttl security on;")
        return f"protocol bgp {neighbor.name} {{ {' '.join(options)} {channel} }}\n"


class Bird1(_Bird):
    """BIRD 1.6: a process a family."""

    name = "BIRD 1."

    @classmethod
    def version(cls) -> str:
        return number_in(said_version(bird1_folder() / "bird"))

    def _instances(self) -> dict[str, tuple[Path, str]]:
        names = {4: "bird", 6: "bird6"}
        return {
            name: (bird1_folder() / name, self._configuration(version)) for version, name in names.items()
        }

    def _instance_of(self, prefix: str) -> str:
        return "bird6" if ":" in prefix else "bird"

    def _configuration(self, version: int) -> str:
        routes = " ".join(f"route {prefix} blackhole;" for prefix in self.setup.announced(version))
        parts = [self._head(), "protocol direct { }\n", f"protocol static {{ {routes} }}\n"]
        for neighbor in self.setup.neighbors:
            if neighbor.version == version:
                parts.append(self._session(neighbor, "add paths on; import all; export filter told;"))
        return "".join(parts)


class Bird2(_Bird):
    """BIRD 2: one process."""

    name = "BIRD 2."

    @classmethod
    def version(cls) -> str:
        return number_in(said_version(bird2_program()))

    def _instances(self) -> dict[str, tuple[Path, str]]:
        parts = [self._head(), "protocol direct { ipv4; ipv6; }\n"]
        for version in (4, 6):
            routes = " ".join(f"route {prefix} blackhole;" for prefix in self.setup.announced(version))
            parts.append(f"protocol static static{version} {{ ipv{version}; {routes} }}\n")
        for neighbor in self.setup.neighbors:
            channel = f"ipv{neighbor.version} {{ add paths on; import all; export filter told; }};"
            parts.append(self._session(neighbor, channel))
        return {"bird": (Path(bird2_program()), "".join(parts))}

    def _instance_of(self, prefix: str) -> str:
        return "bird"

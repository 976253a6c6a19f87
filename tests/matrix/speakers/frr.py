"""FRR."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.matrix.speakers.base import LARGE_COMMUNITY, Setup, Speaker, number_in, said_version
from tests.netns import CommandError, Machine, wait_for, which


class Frr(Speaker):
    """FRR's bgpd, with zebra, which graceful restart asks for."""

    name = "FRR"
    _FOLDER = Path("/usr/lib/frr")

    def __init__(self, machine: Machine, setup: Setup) -> None:
        super().__init__(machine, setup)
        # zebra insists on being the user frr, who cannot look into the folders of a test run by root.
        folder = tempfile.TemporaryDirectory(prefix="routed-frr-")
        machine.lab.cleanup.enter_context(folder)
        self.directory = Path(folder.name)
        shutil.chown(self.directory, "frr", "frr")

    @classmethod
    def version(cls) -> str:
        if which("vtysh") is None:
            raise LookupError("no vtysh")
        return number_in(said_version(cls._FOLDER / "bgpd"))

    def start(self) -> None:
        (self.directory / "zebra.conf").write_text("hostname zebra\n")
        (self.directory / "bgpd.conf").write_text(self._configuration())
        sockets = [
            "--vty_socket",
            str(self.directory),
            "-z",
            str(self.directory / "zserv.api"),
            "--log",
            "stdout",
        ]
        (self.directory / "zserv.api").unlink(missing_ok=True)
        self.processes = []
        for name in ("zebra", "bgpd"):
            files = [
                "-f",
                str(self.directory / f"{name}.conf"),
                "-i",
                str(self.directory / f"{name}.pid"),
                "-P",
                "0",
            ]
            self.processes.append(self.machine.start(name, [str(self._FOLDER / name), *sockets, *files]))
            wait_for((self.directory / "zserv.api").exists, "zebra listens")
        wait_for(lambda: self.ask("show bgp summary json"), "bgpd answers")

    def _configuration(self) -> str:
        setup = self.setup
        lines = [
            f"router bgp {setup.asn}",
            f" bgp router-id {setup.router_id}",
            " no bgp ebgp-requires-policy",
            " no bgp default ipv4-unicast",
            " no bgp network import-check",
            " bgp graceful-restart",
            " bgp graceful-restart preserve-fw-state",
            " bgp graceful-restart restart-time 60",
            " timers bgp 30 90",
        ]
        for neighbor in setup.neighbors:
            lines += [
                f" neighbor {neighbor.address} remote-as {neighbor.asn}",
                f" neighbor {neighbor.address} update-source {setup.local[neighbor.version]}",
                f" neighbor {neighbor.address} timers connect 1",
                f" neighbor {neighbor.address} advertisement-interval 0",
            ]
            if neighbor.password:
                lines.append(f" neighbor {neighbor.address} password {neighbor.password}")
            if neighbor.ttl_security:
                lines.append(f" neighbor {neighbor.address} ttl-security hops 1")
        for version in (4, 6):
            lines.append(f" address-family ipv{version} unicast")
            lines += [f"  network {prefix}" for prefix in setup.announced(version)]
            for neighbor in setup.neighbors:
                if neighbor.version == version:
                    lines += [
                        f"  neighbor {neighbor.address} activate",
                        f"  neighbor {neighbor.address} addpath-tx-all-paths",
                        f"  neighbor {neighbor.address} route-map OUT out",
                    ]
            lines.append(" exit-address-family")
        community = ":".join(map(str, LARGE_COMMUNITY))
        lines += ["route-map OUT permit 10", f" set large-community {community} additive"]
        return "\n".join(lines) + "\n"

    def ask(self, command: str) -> str:
        """What vtysh prints for a command given to bgpd."""
        done = subprocess.run(
            [which("vtysh") or "vtysh", "--vty_socket", str(self.directory), "-d", "bgpd", "-c", command],
            capture_output=True,
            text=True,
            timeout=60,
            stdin=subprocess.DEVNULL,
        )
        if done.returncode or "% Unknown" in done.stdout:
            raise CommandError(f"vtysh {command}: {done.stdout[-500:]}{done.stderr[-500:]}")
        return done.stdout

    def _paths(self, prefix: str) -> list[object]:
        version = 6 if ":" in prefix else 4
        text = self.ask(f"show bgp ipv{version} unicast {prefix} json")
        found: list[object] = json.loads(text).get("paths", []) if text.strip() else []
        return found

    def show(self, prefix: str) -> str:
        paths = self._paths(prefix)
        return json.dumps(paths) if paths else ""

    def path_count(self, prefix: str) -> int:
        return len(self._paths(prefix))

    def refresh(self) -> None:
        self.ask(f"clear bgp ipv4 unicast {self.setup.neighbors[0].address} soft in")

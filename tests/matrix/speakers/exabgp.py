"""ExaBGP."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from tests.matrix.speakers.base import LARGE_COMMUNITY, Speaker, number_in, said_version


class ExaBgp(Speaker):
    """ExaBGP: it passes nothing on and keeps no table; what it hears goes to a process, here to a file."""

    name = "ExaBGP"
    has_table = False
    _PROGRAM = Path(sys.executable).with_name("exabgp")
    _SCRIPT = """#!/bin/sh
cd "$(dirname "$0")"
# A shell takes the standard input away from what it runs in the background.
exec 3<> commands 4<&0
cat <&4 >> heard.json &
exec cat <&3
"""

    @classmethod
    def version(cls) -> str:
        return number_in(said_version(cls._PROGRAM, "version"))

    def start(self) -> None:
        (self.directory / "exabgp.conf").write_text(self._configuration())
        script = self.directory / "process.sh"
        script.write_text(self._SCRIPT)
        script.chmod(0o755)
        commands = self.directory / "commands"
        if not commands.exists():
            subprocess.run(["mkfifo", commands], check=True)
        (self.directory / "heard.json").write_text("")
        environment = {
            "exabgp_daemon_user": "root",
            "exabgp_api_cli": "false",
            "exabgp_api_ack": "false",
            "exabgp_log_destination": "stderr",
            "exabgp_tcp_bind": " ".join(self.setup.local.values()),
        }
        command = [str(self._PROGRAM), str(self.directory / "exabgp.conf")]
        self.processes = [self.machine.start("exabgp", command, env=environment, cwd=self.directory)]

    def _configuration(self) -> str:
        community = ":".join(map(str, LARGE_COMMUNITY))
        parts = [f"process heard {{ run {self.directory / 'process.sh'}; encoder json; }}\n"]
        for neighbor in self.setup.neighbors:
            version = neighbor.version
            routes = [
                f"route {prefix} next-hop {self.setup.local[version]} large-community [ {community} ]"
                + " path-information 0.0.0.1;"
                for prefix in self.setup.announced(version)
            ]
            if self.setup.several is not None and version == 4:
                routes += [
                    f"route {self.setup.several} next-hop {self.setup.local[version]} "
                    f"as-path [ {self.setup.asn} {asn} ] path-information 0.0.0.{number};"
                    for number, asn in ((1, 65101), (2, 65102))
                ]
            options = [
                f"router-id {self.setup.router_id};",
                f"local-address {self.setup.local[version]};",
                f"local-as {self.setup.asn};",
                f"peer-as {neighbor.asn};",
                "hold-time 90;",
                *([f'md5-password "{neighbor.password}";'] if neighbor.password else []),
                *(["outgoing-ttl 255;", "incoming-ttl 255;"] if neighbor.ttl_security else []),
                "capability { asn4 enable; add-path send/receive; route-refresh enable; "
                "graceful-restart 60; extended-message enable; }",
                f"family {{ ipv{version} unicast; }}",
                f"add-path {{ ipv{version} unicast; }}",
                "api { processes [ heard ]; receive { parsed; update; } }",
                f"static {{ {' '.join(routes)} }}",
            ]
            parts.append(f"neighbor {neighbor.address} {{ {chr(10).join(options)} }}\n")
        return "".join(parts)

    def _events(self) -> Iterable[dict[str, object]]:
        for line in (self.directory / "heard.json").read_text().splitlines():
            try:
                yield json.loads(line)
            except ValueError:
                continue

    def _paths(self, prefix: str) -> dict[str, str]:
        """What was announced of a prefix and not withdrawn, by its path identifier."""
        found: dict[str, str] = {}
        for event in self._events():
            message = event.get("neighbor", {}).get("message", {})  # type: ignore[attr-defined]
            update = message.get("update") or {}
            for routes in update.get("withdraw", {}).values():
                for route in routes:
                    if route.get("nlri") == prefix:
                        found.pop(str(route.get("path-information")), None)
            for by_hop in update.get("announce", {}).values():
                for routes in by_hop.values():
                    for route in routes:
                        if isinstance(route, dict) and route.get("nlri") == prefix:
                            key = str(route.get("path-information"))
                            found[key] = json.dumps(update.get("attribute", {}))
        return found

    def show(self, prefix: str) -> str:
        return "\n".join(self._paths(prefix).values())

    def path_count(self, prefix: str) -> int:
        return len(self._paths(prefix))

    def large_communities(self, prefix: str) -> set[tuple[int, ...]]:
        return {tuple(map(int, one)) for one in re.findall(r"\[(\d+), ?(\d+), ?(\d+)\]", self.show(prefix))}

    def refresh(self) -> None:
        with (self.directory / "commands").open("w") as commands:
            commands.write(
                f"neighbor {self.setup.neighbors[0].address} announce route-refresh ipv4 unicast\n"
            )

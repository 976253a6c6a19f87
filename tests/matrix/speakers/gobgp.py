"""GoBGP."""

from __future__ import annotations

import json
import re

from tests.matrix.speakers.base import LARGE_COMMUNITY, Speaker, number_in, said_version
from tests.netns import wait_for, which


class GoBgp(Speaker):
    """GoBGP."""

    name = "GoBGP"

    @classmethod
    def version(cls) -> str:
        if which("gobgp") is None:
            raise LookupError("no gobgp")
        return number_in(said_version(which("gobgpd") or "gobgpd"))

    def start(self) -> None:
        (self.directory / "gobgpd.toml").write_text(self._configuration())
        options = ["-f", "gobgpd.toml", "--api-hosts", "127.0.0.1:50051", "--pprof-disable", "-p", "-r"]
        # -r: a start that is a restart, as after a crash.
        first = not self.processes
        command = [which("gobgpd") or "gobgpd", *(options[:-1] if first else options)]
        self.processes = [self.machine.start("gobgpd", command, cwd=self.directory)]
        wait_for(lambda: self.ask("global"), "gobgpd answers")
        community = ":".join(map(str, LARGE_COMMUNITY))
        for version in (4, 6):
            for prefix in self.setup.announced(version):
                path = ["nexthop", self.setup.local[version], "origin", "igp", "large-community", community]
                self.ask("global", "rib", "add", "-a", f"ipv{version}", prefix, *path)

    def _configuration(self) -> str:
        setup = self.setup
        addresses = ", ".join(f'"{address}"' for address in setup.local.values())
        lines = [
            "[global.config]",
            f"as = {setup.asn}",
            f'router-id = "{setup.router_id}"',
            f"local-address-list = [{addresses}]",
        ]
        for neighbor in setup.neighbors:
            lines += [
                "[[neighbors]]",
                "[neighbors.config]",
                f"peer-as = {neighbor.asn}",
                f'neighbor-address = "{neighbor.address}"',
                *([f'auth-password = "{neighbor.password}"'] if neighbor.password else []),
                "[neighbors.timers.config]",
                "connect-retry = 5",
                "idle-hold-time-after-reset = 1",
                "hold-time = 90",
                "[neighbors.transport.config]",
                f'local-address = "{setup.local[neighbor.version]}"',
                "[neighbors.graceful-restart.config]",
                "enabled = true",
                "restart-time = 60",
                "deferral-time = 10",
            ]
            if neighbor.ttl_security:
                lines += ["[neighbors.ttl-security.config]", "enabled = true", "ttl-min = 255"]
            lines += [
                "[[neighbors.afi-safis]]",
                "[neighbors.afi-safis.config]",
                f'afi-safi-name = "ipv{neighbor.version}-unicast"',
                "[neighbors.afi-safis.mp-graceful-restart.config]",
                "enabled = true",
                "[neighbors.afi-safis.add-paths.config]",
                "receive = true",
                "send-max = 8",
            ]
        return "\n".join(lines) + "\n"

    def ask(self, *arguments: str) -> str:
        """What `gobgp ARGUMENTS` prints."""
        return self.machine.run(which("gobgp") or "gobgp", *arguments)

    def _listed(self, prefix: str) -> list[object]:
        version = 6 if ":" in prefix else 4
        listed: dict[str, list[object]] = json.loads(self.ask("-j", "global", "rib", "-a", f"ipv{version}"))
        return listed.get(prefix, [])

    def show(self, prefix: str) -> str:
        listed = self._listed(prefix)
        return json.dumps(listed) if listed else ""

    def path_count(self, prefix: str) -> int:
        return len(self._listed(prefix))

    def large_communities(self, prefix: str) -> set[tuple[int, ...]]:
        fields = ("ASN", "LocalData1", "LocalData2")
        pattern = ", ".join(rf'"{field}": (\d+)' for field in fields)
        return {tuple(map(int, one)) for one in re.findall(pattern, self.show(prefix))}

    def refresh(self) -> None:
        self.ask("neighbor", self.setup.neighbors[0].address, "softresetin")

"""OpenBGPD."""

from __future__ import annotations

import functools
import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.matrix.speakers.base import LARGE_COMMUNITY, Speaker, number_in, said_version
from tests.netns import CommandError, wait_for

_UNPACKED = Path(__file__).resolve().parents[3] / ".cache" / "daemons"


class OpenBgpd(Speaker):
    """OpenBGPD, unpacked and not installed: its user exists in a mount namespace of its own only."""

    name = "OpenBGPD"

    @staticmethod
    @functools.cache
    def folder() -> Path:
        """Where its programs are; LookupError where they are not."""
        for folder in (_UNPACKED / "openbgpd/usr/sbin", Path("/usr/sbin")):
            if (folder / "bgpd").exists() and "OpenBGPD" in said_version(folder / "bgpd", "-V"):
                return folder
        raise LookupError("no OpenBGPD (Debian's package openbgpd; scripts/bootstrap test unpacks it)")

    @classmethod
    def version(cls) -> str:
        return number_in(said_version(cls.folder() / "bgpd", "-V"))

    def start(self) -> None:
        (self.directory / "bgpd.conf").write_text(self._configuration())
        (self.directory / "bgpd.conf").chmod(0o600)
        # It changes its root to its user's home, which must be root's.
        home = self.directory / "empty"
        home.mkdir(exist_ok=True, mode=0o755)
        accounts = {
            "passwd": f"_openbgpd:x:64999:64999::{home}:/bin/false\n",
            "group": "_openbgpd:x:64999:\n",
        }
        for name, line in accounts.items():
            (self.directory / name).write_text(Path("/etc", name).read_text() + line)
        script = (
            'for name in passwd group; do mount --bind "$1/$name" "/etc/$name"; done; '
            f'exec {self.folder() / "bgpd"} -d -v -f "$1/bgpd.conf"'
        )
        command = ["unshare", "--mount", "--propagation", "private", "sh", "-e", "-c", script, "sh"]
        self.processes = [self.machine.start("bgpd", [*command, str(self.directory)], cwd=self.directory)]
        wait_for(lambda: self.ask("show"), "bgpd answers")

    def kill(self) -> None:
        """All of its processes: a crash of one of three would be something else."""
        parent = self.processes[0].pid
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        subprocess.run(["kill", "-KILL", str(parent), *children], check=True)
        super().kill()

    def _configuration(self) -> str:
        setup = self.setup
        community = ":".join(map(str, LARGE_COMMUNITY))
        lines = [
            f"AS {setup.asn}",
            f"router-id {setup.router_id}",
            "fib-update no",
            "log updates",
            f'socket "{self._socket}"',
            *(f"listen on {address}" for address in setup.local.values()),
            *(f"network {prefix}" for prefix in setup.announce),
        ]
        for neighbor in setup.neighbors:
            lines += [
                f"neighbor {neighbor.address} {{",
                f"    remote-as {neighbor.asn}",
                f"    local-address {setup.local[neighbor.version]}",
                "    holdtime 90",
                f"    announce IPv{neighbor.version} unicast",
                "    announce add-path recv yes",
                "    announce add-path send all",
                "    announce restart yes",
                "    announce enhanced refresh yes",
                *([f'    tcp md5sig password "{neighbor.password}"'] if neighbor.password else []),
                *(["    ttl-security yes"] if neighbor.ttl_security else []),
                "}",
            ]
        lines += ["allow from any", f"allow to any set large-community {community}"]
        return "\n".join(lines) + "\n"

    @property
    def _socket(self) -> Path:
        # A Unix socket's path must fit in 108 bytes.
        folder = Path(tempfile.gettempdir()) / f"routed-bgpd-{self.machine.namespace}"
        if not folder.is_dir():
            folder.mkdir(mode=0o755)
            self.machine.lab.cleanup.callback(shutil.rmtree, folder, ignore_errors=True)
        return folder / "bgpd.sock"

    def ask(self, *command: str) -> str:
        """What bgpctl prints."""
        done = subprocess.run(
            [self.folder() / "bgpctl", "-s", str(self._socket), *command],
            capture_output=True,
            text=True,
            timeout=60,
            stdin=subprocess.DEVNULL,
        )
        if done.returncode:
            raise CommandError(f"bgpctl {' '.join(command)}: {done.stdout}{done.stderr}")
        return done.stdout

    def show(self, prefix: str) -> str:
        text = self.ask("show", "rib", "detail", prefix)
        return text if prefix in text else ""

    def path_count(self, prefix: str) -> int:
        return self.show(prefix).count("BGP routing table entry for")

    def refresh(self) -> None:
        self.ask("neighbor", self.setup.neighbors[0].address, "refresh")

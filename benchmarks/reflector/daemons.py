"""The reflectors that are compared: how each is configured and started.

All do the same: accept any session of AS 64512 from 127.1.0.0/16 at 127.0.0.1, make it a client, reflect IPv4
unicast; no kernel routes, no policy. Where a daemon has a setting that makes it faster here without changing
what it does, it gets it.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_UNPACKED = Path(__file__).resolve().parents[2] / ".cache" / "daemons"
_SEARCH = ":".join(("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"))

_BIRD = """\
log "{folder}/bird.log" {{ warning, error, fatal, bug }};
router id 127.0.0.1;
protocol device {{ scan time 3600; }}
protocol bgp clients {{
    local 127.0.0.1 port {port} as 64512;
    neighbor range 127.1.0.0/16 as 64512;
    passive on;
    rr client;
    rr cluster id 127.0.0.1;
    ipv4 {{ import all; export all; }};
}}
"""
# A session's first routes wait for `coalesce-time`; by default it grows with the number of peers, up to 10 s.
_FRR = """\
log file {folder}/bgpd.log warnings
router bgp 64512
 bgp router-id 127.0.0.1
 bgp cluster-id 127.0.0.1
 coalesce-time 0
 neighbor clients peer-group
 neighbor clients remote-as 64512
 neighbor clients passive
 bgp listen limit 5000
 bgp listen range 127.1.0.0/16 peer-group clients
 address-family ipv4 unicast
  neighbor clients activate
  neighbor clients route-reflector-client
 exit-address-family
"""
_GOBGP = """\
[global.config]
as = 64512
router-id = "127.0.0.1"
port = {port}
local-address-list = ["127.0.0.1"]
[[peer-groups]]
  [peer-groups.config]
    peer-group-name = "clients"
    peer-as = 64512
  [peer-groups.route-reflector.config]
    route-reflector-client = true
    route-reflector-cluster-id = "127.0.0.1"
  [[peer-groups.afi-safis]]
    [peer-groups.afi-safis.config]
      afi-safi-name = "ipv4-unicast"
[[dynamic-neighbors]]
  [dynamic-neighbors.config]
    prefix = "127.1.0.0/16"
    peer-group = "clients"
"""


@dataclass(frozen=True)
class Daemon:
    """One reflector. `command` gets the folder for its files and the port, and returns what to run."""

    name: str
    label: str
    find: Callable[[], str | None]
    """The program that runs here, or None."""
    package: str
    version_of: Callable[[str], str]
    command: Callable[[str, Path, int], list[str]]

    def version(self) -> str | None:
        """`BIRD 2.0.12`; None where it is not here."""
        program = self.find()
        return None if program is None else self.version_of(program)


def _says(program: str, *arguments: str) -> str:
    try:
        done = subprocess.run(
            [program, *arguments], capture_output=True, text=True, timeout=20, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return (done.stdout + done.stderr).strip()


def _find_bird() -> str | None:
    for program in (
        shutil.which("bird"),
        shutil.which("bird", path=_SEARCH),
        _UNPACKED / "bird2/usr/sbin/bird",
    ):
        if program and _says(str(program), "--version").startswith("BIRD version 2."):
            return str(program)
    return None


def _find_frr() -> str | None:
    return shutil.which("bgpd", path="/usr/lib/frr:/usr/libexec/frr:/usr/local/sbin")


def _find_gobgp() -> str | None:
    return shutil.which("gobgpd") or shutil.which("gobgpd", path=_SEARCH)


def _bird(program: str, folder: Path, port: int) -> list[str]:
    (folder / "bird.conf").write_text(_BIRD.format(folder=folder, port=port))
    return [program, "-f", "-c", "bird.conf", "-s", "bird.ctl", "-P", "bird.pid"]


def _frr(program: str, folder: Path, port: int) -> list[str]:
    (folder / "bgpd.conf").write_text(_FRR.format(folder=folder))
    files = ["-f", f"{folder}/bgpd.conf", "-i", f"{folder}/bgpd.pid", "--vty_socket", str(folder)]
    # By itself, as the user that runs the benchmark: no zebra, no kernel routes, no other user, no terminal.
    return [program, *files, "-Z", "-n", "-S", "-P", "0", "-l", "127.0.0.1", "-p", str(port)]


def _gobgp(program: str, folder: Path, port: int) -> list[str]:
    (folder / "gobgpd.toml").write_text(_GOBGP.format(port=port))
    return [
        program,
        "-f",
        "gobgpd.toml",
        "--api-hosts",
        f"unix://{folder}/api",
        "--pprof-disable",
        "-l",
        "warn",
    ]


def _routed(program: str, folder: Path, port: int) -> list[str]:
    identity = ["--as", "64512", "--router-id", "127.0.0.1", "--cluster-id", "127.0.0.1"]
    return [
        program,
        "-m",
        "routed",
        "rr",
        "--listen",
        f"127.0.0.1:{port}",
        *identity,
        "--clients",
        "127.1.0.0/16",
        "--api",
        f"{folder}/api.sock",
    ]


def _bird_version(program: str) -> str:
    return _says(program, "--version").replace("BIRD version", "BIRD")


def _frr_version(program: str) -> str:
    return _says(program, "--version").splitlines()[0].replace("bgpd version", "FRR")


def _gobgp_version(program: str) -> str:
    return _says(program, "--version").replace("gobgpd version", "GoBGP")


def _routed_version(program: str) -> str:
    return f"{_says(program, '-m', 'routed', '--version')}, Python {sys.version.split()[0]}"


DAEMONS = {
    daemon.name: daemon
    for daemon in (
        Daemon("routed", "routed", lambda: sys.executable, "", _routed_version, _routed),
        Daemon("bird2", "BIRD 2", _find_bird, "bird2", _bird_version, _bird),
        Daemon("frr", "FRR", _find_frr, "frr", _frr_version, _frr),
        Daemon("gobgp", "GoBGP", _find_gobgp, "gobgpd", _gobgp_version, _gobgp),
    )
}

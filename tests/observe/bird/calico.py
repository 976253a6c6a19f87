"""What Calico's tools read from BIRD's control sockets, written anew from what is known of them.

`calicoctl node status` asks `show protocols`; calico-node's readiness asks `show status` for a graceful
restart, and `show protocols` for sessions; its status reporter (CalicoNodeStatus) asks for the version and
the times too, and for routes. They send one command on a new connection, and read lines until one of the
codes that end it. They are strict about columns, and know peers by their names.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_PEER = re.compile(r"^(Global|Node|Mesh)_(.+)$")
_TYPES = {"Global": "global", "Node": "node specific", "Mesh": "node-to-node mesh"}
_COLUMNS = ["name", "proto", "table", "state", "since", "info"]


class FormatError(Exception):
    """Output that the tools refuse."""


@dataclass(frozen=True)
class Peer:
    """A line of `calicoctl node status`."""

    address: str
    kind: str
    state: str
    since: str
    bgp_state: str
    info: str


@dataclass(frozen=True)
class Status:
    """What the status reporter makes of `show status`."""

    ready: bool
    version: str
    router_id: str
    last_boot: str
    last_reconfiguration: str


@dataclass(frozen=True)
class Route:
    """A route in a CalicoNodeStatus."""

    destination: str
    gateway: str
    interface: str
    kind: str
    source: str
    peer: str
    best: bool


def _lines(path: Path, command: str, *ends: str) -> Iterator[str]:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(4)
        sock.connect(str(path))
        sock.sendall(command.encode() + b"\n")
        with sock.makefile(encoding="utf-8", newline="\n") as lines:
            for raw in lines:
                line = raw.rstrip("\n")
                if any(line.startswith(code) for code in ends):
                    yield line
                    return
                yield line
    raise FormatError(f"{command}: ended without {ends}")


def peers(path: Path, version: int) -> list[Peer]:
    """The BGP peers of one family, as calicoctl and calico-node list them."""
    found = []
    for line in _lines(path, "show protocols", "0000"):
        if line.startswith(("0000", "0001")):
            continue
        if line.startswith("2002"):
            if line[5:].split() != _COLUMNS:
                raise FormatError(f"unknown columns: {line}")
            continue
        if line.startswith("1002"):
            row = line[5:]
        elif line.startswith(" "):
            row = line[1:]
        else:
            raise FormatError(f"unexpected line: {line!r}")
        peer = _peer(row, "." if version == 4 else ":")
        if peer is not None:
            found.append(peer)
    return found


def _peer(row: str, separator: str) -> Peer | None:
    columns = row.split()
    if len(columns) < 6 or columns[1] != "BGP":
        return None
    name = _PEER.match(columns[0])
    if name is None:
        return None
    return Peer(
        name[2].replace("_", separator),
        _TYPES[name[1]],
        columns[3],
        columns[4],
        columns[5],
        " ".join(columns[6:]),
    )


def restarting(path: Path) -> bool:
    """Whether calico-node's readiness sees a graceful restart."""
    return any(line.startswith("0024") for line in _lines(path, "show status", "0013", "0024"))


def not_ready(path: Path, version: int) -> str | None:
    """Why calico-node would say that BIRD is not ready; None: it is."""
    if restarting(path):
        return "graceful restart in progress"
    down = [one.address for one in peers(path, version) if one.bgp_state != "Established"]
    return f"BGP not established with {','.join(down)}" if down else None


def status(path: Path) -> Status:
    """The daemon itself."""
    values: dict[str, str] = {}
    ready = False
    for line in _lines(path, "show status", "0013"):
        if line.startswith("0013"):
            ready = line[5:] == "Daemon is up and running"
        elif line.startswith("1000"):
            values["version"] = re.fullmatch(r"1000-BIRD (\S+)", line)[1]  # type: ignore[index]
        elif line.startswith(("1011", " ")):
            for name in ("Router ID is", "Last reboot on", "Last reconfiguration on"):
                text = line[5:] if line.startswith("1011") else line[1:]
                if text.startswith(name):
                    values[name] = text.removeprefix(name).strip()
        elif not line.startswith(("0001", "0024")):
            raise FormatError(f"unexpected line: {line!r}")
    return Status(
        ready,
        values["version"],
        values["Router ID is"],
        values["Last reboot on"],
        values["Last reconfiguration on"],
    )


_ROUTE = re.compile(
    r"^(?P<destination>\S+)?\s+(?:via (?P<gateway>\S+) on (?P<interface>\S+)|dev (?P<device>\S+)"
    r"|(?P<kind>blackhole|unreachable|prohibited|multipath)) \[(?P<source>\S+) (?P<since>\S+)(?: from \S+)?\]"
    r"(?P<best> \*)?(?: !)? \((?P<metric>[^)]*)\)(?: \[.*\])?$"
)
_SOURCES = {"kernel1": "kernel", "static1": "static", "direct1": "direct"}


def show_routes(path: Path, command: str = "show route", version: int = 4) -> list[Route]:
    """The routing table."""
    found: list[Route] = []
    separator = "." if version == 4 else ":"
    for line in _lines(path, command, "0000"):
        if line.startswith(("0000", "0001", "1008", "1012", " \t")):
            continue
        if not line.startswith(("1007", " ")):
            raise FormatError(f"unexpected line: {line!r}")
        match = _ROUTE.match(line[5:] if line.startswith("1007") else line[1:])
        if match is None:
            raise FormatError(f"no route: {line!r}")
        peer = _PEER.match(match["source"])
        found.append(
            Route(
                match["destination"] or found[-1].destination,
                match["gateway"] or "",
                match["interface"] or match["device"] or "",
                match["kind"] or "unicast",
                "peer" if peer else _SOURCES[match["source"]],
                peer[2].replace("_", separator) if peer else "",
                match["best"] is not None,
            )
        )
    return found


def details(path: Path, name: str) -> dict[str, str]:
    """`show protocols all NAME`: what is `key: value`."""
    found: dict[str, str] = {}
    for line in _lines(path, f"show protocols all {name}", "0000"):
        if line.startswith(("1006", " ")):
            key, colon, value = (line[5:] if line.startswith("1006") else line[1:]).partition(":")
            if colon:
                found[key.strip()] = value.strip()
    return found

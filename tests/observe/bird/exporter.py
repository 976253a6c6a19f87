"""What bird_exporter (Prometheus) reads of `show protocols all`, written anew from what is known of it.

It reads until a line of a code and a space alone, and takes protocols, numbers of routes and changes by
patterns; `---` counts 0."""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass, field
from pathlib import Path

_END = re.compile(rb"\d{4} \n$")
_PROTOCOL = re.compile(
    r"^(?:1002-)?([^\s]+)\s+(BGP|OSPF|Direct|Device|Kernel|Static)\s+([^\s]+)\s+([^\s]+)\s+([^\s]+)(?:\s+(.*?))?$"
)
_ROUTES = re.compile(
    r"^\s+Routes:\s+(\d+) imported, (?:(\d+) filtered, )?(\d+) exported(?:, (\d+) preferred)?"
)
_CHANGES = re.compile(
    r"(Import|Export) (updates|withdraws):\s+(\d+|---)\s+(\d+|---)\s+(\d+|---)\s+(\d+|---)\s+(\d+|---)\s*"
)
_UPTIME = re.compile(r"^\d{2}:\d{2}:\d{2}|\d{4}-\d{2}-\d{2}$")


@dataclass
class Protocol:
    """Metrics of one protocol."""

    kind: str
    up: bool
    imported: int = 0
    filtered: int = 0
    exported: int = 0
    preferred: int = 0
    changes: dict[str, int] = field(default_factory=dict)


def protocols(path: Path) -> dict[str, Protocol]:
    """By name."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(5)
        sock.connect(str(path))
        data = sock.recv(4096)
        assert data.startswith(b"0001 ")
        sock.sendall(b"show protocols all\n")
        data = b""
        while not _END.search(data):
            data += sock.recv(4096)
    found: dict[str, Protocol] = {}
    last: Protocol | None = None
    for line in data.decode().splitlines():
        text = line.strip()
        if match := _PROTOCOL.match(text):
            assert _UPTIME.match(match[5]), line
            last = found[match[1]] = Protocol(match[2], match[4] == "up")
        elif last is not None and (match := _ROUTES.match(re.sub(r"^\d{4}-", " ", line))):
            last.imported, last.exported = int(match[1]), int(match[3])
            last.filtered, last.preferred = int(match[2] or 0), int(match[4])
        elif last is not None and (match := _CHANGES.search(line)):
            for number in range(3, 8):
                value = 0 if match[number] == "---" else int(match[number])
                last.changes[f"{match[1]} {match[2]} {number}"] = value
    return found

"""What a reflector's routes cost in memory: resident octets at 20,000, 100,000 and 1,000,000 routes, and a
route.

Run: python -m benchmarks.memory [--routes N,N] [--clients N] [--routes-a-set N] [--json FILE]

`routed rr` runs as a user would run it. Ten sessions announce all routes between them, and the clients, ten
or as many as are asked for, hold those of the others. Three figures: when the sessions are up and there are
no routes, at the most (`VmHWM`), and when all is quiet again and what was kept for those who join has been
let go.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks._fleet import Fleet, Session, Settings
from benchmarks.soak import reflector

FEEDERS = 10
#: What is kept for those who join goes after two looks of this time each (`turns.SNAPSHOT_TIME`), seconds.
QUIET = 11.0


@dataclass(frozen=True)
class Row:
    """One size. Octets."""

    routes: int
    clients: int
    routes_a_set: int
    sessions_only: int
    most: int
    quiet: int

    @property
    def a_route(self) -> float:
        """What a route costs when all is quiet."""
        return (self.quiet - self.sessions_only) / self.routes

    @property
    def a_route_at_most(self) -> float:
        """What a route cost at the worst time."""
        return (self.most - self.sessions_only) / self.routes


def resident(pid: int) -> tuple[int, int]:
    """Resident octets of a process, now and at the most so far."""
    values = {}
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name in ("VmRSS", "VmHWM"):
            values[name] = int(value.split()[0]) * 1024
    return values["VmRSS"], values["VmHWM"]


def announce(feeder: Session, routes: range, a_set: int) -> None:
    """A feeder's routes, so many an attribute set (by a community); 0: all in one."""
    if not a_set:
        feeder.announce(routes, 1)
        return
    for first in range(routes.start, routes.stop, a_set):
        community = b"\xc0\x08\x04" + (0xFC000000 + first // a_set).to_bytes(4)
        feeder.announce(range(first, min(first + a_set, routes.stop)), 1, community)


def measure(routes: int, clients: int, a_set: int) -> Row:
    """One size, with a reflector of its own."""
    with (
        tempfile.TemporaryDirectory(prefix="bench-memory-") as folder,
        reflector(Path(folder)) as (port, process),
    ):
        fleet = Fleet(Settings(port, hold_time=0))
        sessions = fleet.add(max(clients, FEEDERS))
        fleet.connect(sessions)
        fleet.run(0.5)
        before, _ = resident(process.pid)
        each = routes // FEEDERS
        for number, feeder in enumerate(sessions[:FEEDERS]):
            announce(feeder, range(number * each, (number + 1) * each), a_set)
        # Every session gets what the others announce, five octets a route at the least.
        due = 5 * (routes * len(sessions) - routes)
        fleet.run_until(lambda: fleet.counts.octets >= due, 600, "all is told")
        end = time.monotonic() + QUIET
        while time.monotonic() < end:
            fleet.run(0.2)
        now, most = resident(process.pid)
        fleet.close()
    return Row(routes, len(sessions), a_set, before, most, now)


def table(rows: list[Row]) -> str:
    """Markdown."""
    lines = [
        "| routes | clients | one set for | sessions only | at the most | a route | at rest | a route |",
        "| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        sets = f"{row.routes_a_set:,} routes" if row.routes_a_set else "a client"
        cells = [
            f"{row.routes:,}",
            f"{row.clients:,}",
            sets,
            f"{row.sessions_only / 1e6:.1f} MB",
            f"{row.most / 1e6:.1f} MB",
            f"{row.a_route_at_most:.0f} B",
            f"{row.quiet / 1e6:.1f} MB",
            f"{row.a_route:.0f} B",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--routes", default="20000,100000,1000000", metavar="N,N")
    parser.add_argument("--clients", type=int, default=FEEDERS)
    parser.add_argument("--routes-a-set", default="0,20", metavar="N,N", help="0: all of a client in one")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    rows = []
    for a_set in options.routes_a_set.split(","):
        for routes in options.routes.split(","):
            rows.append(measure(int(routes), options.clients, int(a_set)))
            print(table(rows[-1:]).splitlines()[-1], file=sys.stderr)
    print(table(rows))
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")


if __name__ == "__main__":
    main()

"""How long one turn of a reflector's event loop lasts: its longest while it does what keeps it longest.

Run: python -m benchmarks.turns [--routes N] [--clients N] [--json FILE]

A turn is the time from one look at the sockets to the next. While it lasts no KEEPALIVE goes out and none
is read, so with timers of 1 s and 3 s a turn may take a second and no more. One session announces all
routes; the others read. The reflector runs in a process of its own, with a selector that looks at the
clock.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks._fleet import Fleet, Session, Settings
from benchmarks._measured import measured_reflector

#: A feed of this many routes shares one attribute set, as a session's routes do in Calico; see
#: --routes-a-set.
ROUTES_A_SET = 800
#: It is over when nothing came for so long, seconds.
QUIET = 0.3


def announce_all(feeder: Session, routes: int, version: int, a_set: int) -> None:
    """All routes, so many an attribute set (by a community)."""
    for number, first in enumerate(range(0, routes, a_set)):
        community = b"\xc0\x08\x04" + (0xFC000000 + number).to_bytes(4)
        feeder.announce(range(first, min(first + a_set, routes)), version, community)


def measure(routes: int, clients: int, a_set: int) -> list[tuple[str, float, float]]:
    """What was done, how long it took, and the longest turn, seconds."""
    rows: list[tuple[str, float, float]] = []
    with measured_reflector("--status-file") as process:
        fleet = Fleet(Settings(process.port, hold_time=0))
        feeder, *others = fleet.add(clients + 1)
        fleet.connect(fleet.sessions)

        def step(what: str, begin: Callable[[], object], octets: int = 0, sessions: int = clients) -> None:
            """Do something, and work until all of so many octets a session have come and it is quiet."""
            process.ask()
            begun = time.monotonic()
            before = fleet.counts.octets
            begin()
            while True:
                seen = fleet.counts.octets
                fleet.run(QUIET)
                if (
                    fleet.counts.octets == seen
                    and not any(one.backlog for one in fleet.sessions)
                    and (seen - before >= octets * sessions)
                ):
                    break
                if time.monotonic() - begun > 300:
                    raise TimeoutError(what)
            took = time.monotonic() - begun - QUIET
            rows.append((what, took, process.ask()["longest"]))

        size = 5 * routes
        step("a feed of all routes", lambda: announce_all(feeder, routes, 1, a_set), size)
        (late,) = fleet.add(1)
        step("one joins", lambda: fleet.connect([late]), size, 1)
        some = fleet.add(50)
        step("50 join together", lambda: fleet.connect(some), size, 50)
        everybody = [*others, late, *some]
        refresh = b"\xff" * 16 + b"\0\x17\x05\0\1\0\1"
        step("one asks for all again", lambda: late.send(refresh), size, 1)

        def all_refresh() -> None:
            for one in everybody:
                one.send(refresh)

        step("all ask for all again", all_refresh, size, len(everybody))
        other = Fleet(Settings(process.port, hold_time=0, four_octet_as=False), "127.1.128.1")
        (old,) = other.add(1)

        def join_other() -> None:
            other.connect([old])
            other.run_until(lambda: other.counts.octets >= size, 300)

        step("one joins that needs another encoding", join_other, 0)
        step("all routes change", lambda: announce_all(feeder, routes, 2, a_set), size, len(everybody))
        for one in everybody:
            one.pause()

        def change_unread() -> None:
            for version in (3, 4, 5):
                announce_all(feeder, routes, version, a_set)

        step("all routes change three times, and nobody reads", change_unread)

        def read_again() -> None:
            for one in everybody:
                one.pause(False)

        step("all read again", read_again)
        step("drain: every route is sent again", lambda: process.ask("drain"), size, len(everybody))
        step("the feeder goes", feeder.close)
        fleet.close()
        other.close()
    return rows


def table(rows: list[tuple[str, float, float]]) -> str:
    """Markdown."""
    lines = ["| what | takes | longest turn |", "| --- | ---: | ---: |"]
    lines += [f"| {what} | {took:.2f} s | {longest * 1000:.0f} ms |" for what, took, longest in rows]
    return "\n".join(lines)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--routes", type=int, default=100_000)
    parser.add_argument("--clients", type=int, default=100)
    parser.add_argument("--routes-a-set", type=int, default=ROUTES_A_SET)
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    rows = measure(options.routes, options.clients, options.routes_a_set)
    print(f"{options.routes:,} routes, {options.clients} clients\n\n{table(rows)}")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""A reflector for a long time: churn, flaps and joins under timers of 1 s and 3 s, and the same table
everywhere at the end.

Run: python -m benchmarks.soak [--minutes N] [--clients N] [--routes N] [--json FILE]

`routed rr` runs as a user would run it. All clients announce routes of their own and hold those of all
others. While it lasts a thousand routes a second get other attributes, go or come back; a client a second
is cut off and comes back; others join, take the table and leave. Ends with status 1 where a session was
lost that nobody cut, where any client's table is not exactly what was said, or where memory grew.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks._fleet import Fleet, Session, Settings
from benchmarks.reflector.processes import free_port, running

#: Routes that change together, in one UPDATE.
BATCH = 50
#: Memory at the end may be so much more than after the first part: as a share, and octets at least.
GROWTH = 0.05
GROWTH_OCTETS = 5e6
#: The part of the time after which memory is taken to be what it will stay.
WARM_UP = 0.25
SAMPLE_TIME = 5.0
#: How long a client that was cut off stays away, seconds.
AWAY = (0.2, 2.0)
#: How long one that joined stays, seconds.
STAYS = 5.0


@dataclass(frozen=True)
class Plan:
    """What is done, and for how long. Rates are a second."""

    seconds: float
    clients: int = 500
    routes: int = 200
    hold_time: int = 3
    changes: int = 1000
    flaps: float = 1.0
    joins: float = 0.5
    seed: int = 1


@dataclass
class Sample:
    """The reflector at one time."""

    at: float
    resident: int
    """Octets."""
    cpu: float
    """Processor time so far, seconds."""
    sessions: int


@dataclass
class Result:
    """What came out."""

    plan: Plan
    samples: list[Sample] = field(default_factory=list)
    delays: list[float] = field(default_factory=list)
    """From a change until the last client had it, seconds."""
    changes: int = 0
    flaps: int = 0
    joins: int = 0
    updates: int = 0
    """UPDATEs that the clients read."""
    lost: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    foreign: int = 0
    differing: int = 0
    """Clients whose table was not what it had to be at the end."""
    driver_late: float = 0.0
    """By how much this program was late with a KEEPALIVE at most, seconds."""

    @property
    def settled(self) -> tuple[float, float]:
        """Memory after the warm-up and at the end, octets: medians of the first and the last third."""
        after = [one.resident for one in self.samples if one.at >= self.plan.seconds * WARM_UP]
        third = max(1, len(after) // 3)
        return statistics.median(after[:third]), statistics.median(after[-third:])

    @property
    def growth(self) -> float:
        """By how much memory grew after the warm-up, as a share."""
        first, last = self.settled
        return last / first - 1

    @property
    def problems(self) -> list[str]:
        """What must not be; empty where all is well."""
        found = []
        if self.lost:
            found.append(f"{self.lost} sessions lost: {self.reasons}")
        if self.foreign:
            found.append(f"{self.foreign} routes told that cannot be")
        if self.differing:
            found.append(f"{self.differing} clients do not hold what was said")
        first, last = self.settled
        if self.growth > GROWTH and last - first > GROWTH_OCTETS:
            found.append(f"memory grew by {self.growth:.1%}")
        return found


class Soak:
    """A fleet, what it has said, and the reflector's process."""

    def __init__(self, plan: Plan, port: int, pid: int) -> None:
        self.plan = plan
        self.result = Result(plan)
        self.random = random.Random(plan.seed)
        self.total = plan.clients * plan.routes
        self.truth = array("I", bytes(4 * self.total))
        """The version of each route that is announced now; 0: none."""
        self.fleet = Fleet(Settings(port, hold_time=plan.hold_time, routes=self.total))
        self.clients = self.fleet.add(plan.clients)
        for client in self.clients:
            client.own = range(client.number * plan.routes, (client.number + 1) * plan.routes)
        self._pid = pid
        self._version = 0
        self._back: list[tuple[float, Session]] = []
        self._guests: list[tuple[float, Session]] = []
        self._probe: tuple[float, int, int] | None = None
        self._due = {"change": 0.0, "flap": 0.0, "join": 0.0, "sample": 0.0}
        self._begun = 0.0

    # What is said

    def _next_version(self) -> int:
        self._version += 1
        return self._version

    def announce(self, client: Session, routes: range | list[int]) -> int:
        """Announce some of a client's routes in a new version."""
        version = self._next_version()
        client.announce(routes, version)
        for route in routes:
            self.truth[route] = version
        return version

    def withdraw(self, client: Session, routes: range | list[int]) -> None:
        """Withdraw some."""
        client.withdraw(routes)
        self._forget(routes)

    def _forget(self, routes: range | list[int]) -> None:
        for route in routes:
            self.truth[route] = 0

    # The course of it

    def begin(self) -> float:
        """All clients up, with all their routes everywhere; returns how long that took."""
        begun = time.monotonic()
        self.fleet.connect(self.clients)
        for client in self.clients:
            self.announce(client, client.own)
        self.fleet.run_until(self.same_everywhere, 120, "all tables are whole")
        return time.monotonic() - begun

    def run(self) -> None:
        """Churn, flaps and joins for the time of the plan."""
        self._begun = time.monotonic()
        while (now := time.monotonic() - self._begun) < self.plan.seconds:
            self._take_turns(now)
            self.fleet.run(0.01)

    def end(self) -> None:
        """Let all come back and come to rest, then compare."""
        for _, client in self._back:
            self._come_back(client)
        self._back.clear()
        for _, guest in self._guests:
            guest.close()
        self._guests.clear()
        with contextlib.suppress(TimeoutError):
            self.fleet.run_until(self.same_everywhere, 60)
        result, counts = self.result, self.fleet.counts
        result.differing = sum(not self.is_whole(client) for client in self.clients)
        result.lost, result.reasons, result.foreign = counts.lost, counts.reasons, counts.foreign
        result.driver_late = self.fleet.latest
        self._sample(time.monotonic() - self._begun)

    def is_whole(self, client: Session) -> bool:
        """Whether a client holds exactly what the others announce."""
        own = client.own
        return (
            client.established
            and client.table[: own.start] == self.truth[: own.start]
            and client.table[own.stop :] == self.truth[own.stop :]
            and not any(client.table[own.start : own.stop])
        )

    def same_everywhere(self) -> bool:
        """Whether all do. From the one that was behind last on, so that looking is cheap."""
        while self.clients and self.is_whole(self.clients[0]):
            for place, client in enumerate(self.clients):
                if not self.is_whole(client):
                    self.clients.insert(0, self.clients.pop(place))
                    return False
            return True
        return False

    def _take_turns(self, now: float) -> None:
        plan, due = self.plan, self._due
        while due["change"] <= now:
            due["change"] += BATCH / plan.changes
            self._change()
        while plan.flaps and due["flap"] <= now:
            due["flap"] += self.random.expovariate(plan.flaps)
            self._flap(now)
        while plan.joins and due["join"] <= now:
            due["join"] += self.random.expovariate(plan.joins)
            self._join(now)
        while due["sample"] <= now:
            due["sample"] += SAMPLE_TIME
            self._sample(now)
        self._look_at_probe()
        while self._back and self._back[0][0] <= now:
            self._come_back(self._back.pop(0)[1])
        while self._guests and self._guests[0][0] <= now:
            self._guests.pop(0)[1].close()

    def _change(self) -> None:
        client = self.random.choice(self.clients)
        if not client.established:
            return
        first = self.random.randrange(client.own.start, client.own.stop, BATCH)
        routes = range(first, min(first + BATCH, client.own.stop))
        self.result.changes += len(routes)
        if self.random.random() < 0.2 and self.truth[routes.start]:
            self.withdraw(client, routes)
            return
        version = self.announce(client, routes)
        if self._probe is None:
            self._probe = (time.monotonic(), routes.start, version)

    def _flap(self, now: float) -> None:
        up = [client for client in self.clients if client.established]
        if len(up) < 2:
            return
        client = self.random.choice(up)
        client.close()
        self._forget(client.own)
        self._back.append((now + self.random.uniform(*AWAY), client))
        self._back.sort(key=lambda one: one[0])
        self.result.flaps += 1

    def _come_back(self, client: Session) -> None:
        """Connect again; what it has is announced once the session is up."""
        try:
            client.connect()
            self.fleet.run_until(lambda: client.established, 20, f"client {client.number} comes back")
        except OSError as error:
            reasons = self.fleet.counts.reasons
            reasons[f"not let back: {error}"] = reasons.get(f"not let back: {error}", 0) + 1
            self.fleet.counts.lost += 1
            return
        self.announce(client, client.own)

    def _join(self, now: float) -> None:
        free = next((one for one in self.fleet.sessions[self.plan.clients :] if not one.connected), None)
        guest = free or self.fleet.add(1)[0]
        guest.connect()
        self._guests.append((now + STAYS, guest))
        self.result.joins += 1

    def _look_at_probe(self) -> None:
        """Whether all clients have the change that is being timed."""
        if self._probe is None:
            return
        begun, route, version = self._probe
        if self.truth[route] != version:  # it has changed again
            self._probe = None
        elif all(
            client.table[route] == version or route in client.own
            for client in self.clients
            if client.established
        ):
            self.result.delays.append(time.monotonic() - begun)
            self._probe = None

    def _sample(self, now: float) -> None:
        resident, cpu = process_use(self._pid)
        self.result.samples.append(Sample(round(now, 1), resident, cpu, self.fleet.established()))


def process_use(pid: int) -> tuple[int, float]:
    """Resident octets and processor time in seconds of a process."""
    statm = Path(f"/proc/{pid}/statm").read_text().split()
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(statm[1]) * 4096, (int(fields[11]) + int(fields[12])) / 100


@contextmanager
def reflector(folder: Path, *options: str) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """`routed rr` in a folder of its own: its port and process."""
    port = free_port()
    command = [sys.executable, "-m", "routed", "rr", "--listen", f"127.0.0.1:{port}", "--as", "64512"]
    command += ["--router-id", "127.0.0.1", "--clients", "127.1.0.0/16", "--log-level", "warning"]
    command += ["--api", str(folder / "api.sock"), *options]
    with running(command, folder, port) as process:
        yield port, process


def soak(plan: Plan, say: bool = False) -> Result:
    """Carry out a plan."""
    with tempfile.TemporaryDirectory(prefix="bench-soak-") as name:
        folder = Path(name)
        status = folder / "status.json"
        with reflector(folder, "--status-file", str(status)) as (port, process):
            one = Soak(plan, port, process.pid)
            took = one.begin()
            if say:
                print(f"{one.total:,} routes at {plan.clients} clients in {took:.1f} s", file=sys.stderr)
            one.run()
            one.end()
            one.result.updates = one.fleet.counts.updates
            one.fleet.close()
    return one.result


def report(result: Result) -> str:
    """For people."""
    plan, samples = result.plan, result.samples
    delays = sorted(result.delays) or [0.0]
    memory = [one.resident / 1e6 for one in samples]
    used = samples[-1].cpu - samples[0].cpu
    rows = {
        "changes": f"{result.changes:,} routes, {result.flaps} flaps, {result.joins} joins",
        "UPDATEs read": f"{result.updates:,}",
        "sessions lost": str(result.lost),
        "tables differ": f"{result.differing} of {plan.clients}",
        "change to all": f"median {statistics.median(delays) * 1000:.0f} ms, "
        f"99 % {delays[int(len(delays) * 0.99)] * 1000:.0f} ms, most {delays[-1] * 1000:.0f} ms",
        "memory": f"{memory[0]:.0f} MB at the start, {memory[-1]:.0f} MB at the end, "
        f"most {max(memory):.0f} MB; {result.growth:+.1%} after the first quarter",
        "processor": f"{used / plan.seconds:.0%} of one core",
        "this program": f"late with a KEEPALIVE by {result.driver_late * 1000:.0f} ms at most",
    }
    lines = [
        f"{plan.seconds / 60:g} minutes, {plan.clients} clients, {plan.clients * plan.routes:,} routes, "
        f"timers of {plan.hold_time / 3:g} s and {plan.hold_time} s"
    ]
    lines += [f"{name:15} {text}" for name, text in rows.items()]
    lines += [f"PROBLEM: {problem}" for problem in result.problems] or ["all is well"]
    return "\n".join(lines)


def main() -> int:
    """See the module; the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--clients", type=int, default=500)
    parser.add_argument("--routes", type=int, default=200, help="that each client announces")
    parser.add_argument("--hold", type=int, default=3, help="hold time, seconds")
    parser.add_argument("--changes", type=int, default=1000, help="routes that change a second")
    parser.add_argument("--flaps", type=float, default=1.0, help="a second")
    parser.add_argument("--joins", type=float, default=0.5, help="a second")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all samples here")
    options = parser.parse_args()
    plan = Plan(
        options.minutes * 60,
        options.clients,
        options.routes,
        options.hold,
        options.changes,
        options.flaps,
        options.joins,
        options.seed,
    )
    result = soak(plan, say=True)
    print(report(result))
    if options.json:
        options.json.write_text(json.dumps(asdict(result), indent=1) + "\n")
    return 1 if result.problems else 0


if __name__ == "__main__":
    sys.exit(main())

"""Which loads are put on which daemons, how often, and what came out."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import statistics
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.reflector.daemons import DAEMONS, Daemon
from benchmarks.reflector.load import OUT_OF_TIME, Load, LoadError, Measured, measure
from benchmarks.reflector.processes import DaemonError, free_port, running


@dataclass(frozen=True)
class Scenario:
    """A load with a name. `slow`: only a daemon that is not known to be slow at it runs it by default."""

    name: str
    title: str
    load: Load
    slow: bool = False


def fan_out(clients: int) -> Scenario:
    """Every client announces 20 routes, and is to get those of all others."""
    deliveries = clients * (clients - 1) * 20
    title = f"{clients:,} clients × 20 routes ({deliveries / 1e6:.3g} million deliveries)"
    return Scenario(f"fan-out-{clients}", title, Load(clients, 20), slow=clients > 100)


#: /24s, as most of the Internet's table is. The feeder is one more session.
FEED = Scenario(
    "feed",
    "one feed of 1,000,000 routes to 10 clients",
    Load(11, 1_000_000, feeders=1, prefix_length=24, changes=20),
    slow=True,
)
FEED_SETS = Scenario(
    "feed-sets",
    "the same, 5 routes an attribute set",
    dataclasses.replace(FEED.load, routes_a_set=5),
    slow=True,
)
#: Daemons that take minutes for the loads marked slow: only a full run has them.
SLOW_DAEMONS = frozenset({"gobgp"})


@dataclass(frozen=True)
class Plan:
    """One invocation of the benchmark."""

    scenarios: tuple[Scenario, ...]
    daemons: tuple[str, ...]
    runs: int
    limit: float
    """Seconds that one run may take."""
    slow_daemons_too: bool = False

    def has(self, scenario: Scenario, daemon: str) -> bool:
        """Whether a daemon gets a load."""
        return self.slow_daemons_too or not (scenario.slow and daemon in SLOW_DAEMONS)


@dataclass
class Cell:
    """All runs of one daemon under one load."""

    scenario: str
    daemon: str
    runs: list[Measured] = field(default_factory=list)
    missing: str = ""
    """Why there are no results, or not all."""
    over: bool = False
    """No run of it is to follow."""

    def median(self, name: str) -> float | None:
        """The median of one measured value over the runs that have it."""
        values = [value for run in self.runs if (value := getattr(run, name)) is not None]
        return statistics.median(values) if values else None

    def times(self, name: str) -> list[float]:
        """The times of all runs together, ascending."""
        return sorted(time for run in self.runs for time in getattr(run, name))

    def percentile(self, name: str, share: float) -> float | None:
        """The smallest time that so many of all times do not exceed."""
        times = self.times(name)
        return times[max(0, -int(-share * len(times) // 1) - 1)] if times else None


@dataclass
class Results:
    """What a campaign found out."""

    machine: dict[str, Any]
    versions: dict[str, str]
    runs: int
    titles: dict[str, str] = field(default_factory=dict)
    cells: list[Cell] = field(default_factory=list)

    def cell(self, scenario: str, daemon: str) -> Cell | None:
        """The cell of one daemon and load."""
        return next((c for c in self.cells if (c.scenario, c.daemon) == (scenario, daemon)), None)

    def save(self, path: Path) -> None:
        """Write everything as JSON."""
        path.write_text(json.dumps(dataclasses.asdict(self), indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> Results:
        """Read what `save` wrote."""
        data = json.loads(path.read_text())
        cells = [
            Cell(**{**cell, "runs": [Measured(**run) for run in cell["runs"]]}) for cell in data.pop("cells")
        ]
        return cls(**data, cells=cells)


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    model = "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return {
        "cores": os.cpu_count(),
        "processor": model,
        "kernel": platform.release(),
        "load_at_start": round(os.getloadavg()[0], 2),
    }


def _run(daemon: Daemon, load: Load, limit: float) -> Measured:
    """One daemon, started for this alone, under one load."""
    program = daemon.find()
    assert program is not None
    with tempfile.TemporaryDirectory(prefix=f"bench-{daemon.name}-") as name:
        folder = Path(name)
        port = free_port()
        with running(daemon.command(program, folder, port), folder, port) as process:
            return measure(load, port, process.pid, limit)


def _jobs(plan: Plan) -> Iterator[tuple[int, Scenario, str]]:
    """Daemons take turns, so that a disturbance does not hit all runs of one."""
    for scenario in plan.scenarios:
        for number in range(1, plan.runs + 1):
            for name in plan.daemons:
                if plan.has(scenario, name):
                    yield number, scenario, name


def run(plan: Plan, results: Results, say: Callable[[str], None]) -> None:
    """Carry out a plan; `results` fills as it goes, so that what is there survives an interruption."""
    results.titles.update({scenario.name: scenario.title for scenario in plan.scenarios})
    for number, scenario, name in _jobs(plan):
        cell = results.cell(scenario.name, name)
        if cell is None:
            cell = Cell(scenario.name, name)
            results.cells.append(cell)
        if cell.over:
            continue
        try:
            measured = _run(DAEMONS[name], scenario.load, plan.limit)
        except (DaemonError, LoadError) as error:
            cell.missing = str(error)
            say(f"{scenario.title}: {DAEMONS[name].label}: {error}")
            continue
        cell.runs.append(measured)
        # What took too long once is not tried again.
        cell.over = bool(measured.problem)
        cell.missing = f"not within {plan.limit:g} s" if measured.problem == OUT_OF_TIME else measured.problem
        outcome = cell.missing or f"converged in {measured.converge:.2f} s"
        say(f"{scenario.title}, run {number} of {plan.runs}: {DAEMONS[name].label}: {outcome}")


def available(names: Iterable[str], say: Callable[[str], None]) -> dict[str, str]:
    """Versions of those of the named daemons that are here; the others are named with what to install."""
    versions: dict[str, str] = {}
    for name in names:
        version = DAEMONS[name].version()
        if version is None:
            daemon = DAEMONS[name]
            say(f"{daemon.label} is left out: not installed (Debian: apt-get install {daemon.package})")
        else:
            versions[name] = version
    return versions

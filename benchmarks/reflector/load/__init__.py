"""The load generator: C, for a thousand sessions must cost it less than they cost the reflector.

`build` compiles it once; `measure` runs it against a daemon and returns what it found. By hand:

    python -m benchmarks.reflector.load -p 1790 -n 1000 -k 20

The first comment of main.c says what it does, `-h` lists its options.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

_SOURCES = Path(__file__).parent
_CACHE = _SOURCES.parents[2] / ".cache" / "benchmarks"
_FLAGS = ("-O2", "-std=c11", "-Wall", "-Wextra")
#: Beyond its own time limit: to write its result, and to end.
_GRACE = 20.0
#: `Measured.problem` of a run that its time limit ended.
OUT_OF_TIME = "the time limit is over"


class LoadError(RuntimeError):
    """The generator cannot be built, or it failed without a result; the message says what to do."""


@dataclass(frozen=True)
class Load:
    """What a run of the generator does."""

    sessions: int
    routes: int
    """Prefixes that each feeder announces."""
    feeders: int = 0
    """How many of the sessions announce; 0: all."""
    routes_a_set: int = 0
    """Prefixes that share one attribute set; 0: all of a feeder."""
    prefix_length: int = 26
    changes: int = 50
    joins: int = 1


@dataclass
class Measured:
    """What a run found out. Seconds and octets; None where the run did not get so far."""

    establish: float | None = None
    converge: float | None = None
    converge_cpu: float | None = None
    deliveries: int | None = None
    """Routes that sessions received, without echoes."""
    repeats: int | None = None
    """Routes received although they were held already."""
    echoes: int | None = None
    """A session's own routes, sent back to it."""
    octets: int | None = None
    updates: int | None = None
    retries: int = 0
    """Connections that failed before the session was up."""
    memory_before: float | None = None
    memory: float | None = None
    memory_peak: float | None = None
    """The most until everything has converged."""
    memory_peak_all: float | None = None
    """The most until the end."""
    change_cpu: float | None = None
    change_first_p50: float | None = None
    change_times: list[float] = field(default_factory=list)
    """Of each single change, until all sessions had it."""
    late_times: list[float] = field(default_factory=list)
    """Of each late session, from the start of its TCP connection until it held the whole table."""
    complete: int | None = None
    """How many sessions held everything, where not all did."""
    problem: str = ""
    """Why the run did not get to its end; empty where it did."""


def compiler() -> str | None:
    """The C compiler, or None where there is none."""
    return shutil.which(os.environ.get("CC", "cc"))


def build() -> Path:
    """The generator's program, compiled anew only where its sources changed. Raises LoadError."""
    program = compiler()
    if program is None:
        raise LoadError(
            "no C compiler for the load generator: install one (Debian: apt-get install gcc libc6-dev)"
        )
    sources = sorted(_SOURCES.glob("*.[ch]"))
    digest = hashlib.sha256(b"\0".join(path.read_bytes() for path in sources)).hexdigest()[:16]
    target = _CACHE / f"fanload-{digest}"
    if target.exists():
        return target
    _CACHE.mkdir(parents=True, exist_ok=True)
    # Under another name first: two that build at the same time must not run half a program.
    unfinished = target.with_suffix(f".{os.getpid()}")
    units = [str(path) for path in sources if path.suffix == ".c"]
    done = subprocess.run([program, *_FLAGS, "-o", str(unfinished), *units], capture_output=True, text=True)
    if done.returncode:
        raise LoadError(f"{program} cannot compile the load generator:\n{done.stderr}")
    unfinished.replace(target)
    return target


def measure(load: Load, port: int, pid: int, limit: float) -> Measured:
    """Put a load on the daemon with this process ID at 127.0.0.1; at most `limit` seconds.

    Raises LoadError where there is no result at all."""
    command: list[str] = [str(build())]
    options = {
        "p": port,
        "P": pid,
        "T": round(limit),
        "n": load.sessions,
        "k": load.routes,
        "f": load.feeders,
        "g": load.routes_a_set,
        "l": load.prefix_length,
        "c": load.changes,
        "j": load.joins,
    }
    for name, value in options.items():
        command += [f"-{name}", str(value)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit + _GRACE)
        result = json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        raise LoadError(f"the load generator did not end within {limit + _GRACE:g} s") from None
    except ValueError:
        raise LoadError(f"the load generator failed: {done.stderr.strip() or done.returncode}") from None
    known = Measured.__dataclass_fields__
    return Measured(**{name: value for name, value in result.items() if name in known})

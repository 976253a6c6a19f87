"""What every daemon of the matrix is made from, and what it is asked."""

from __future__ import annotations

import abc
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from tests.netns import Machine, Process

#: What the daemon adds to the routes it announces: AS 65001, and two numbers.
LARGE_COMMUNITY = (65001, 1, 2)


@dataclass(frozen=True, slots=True)
class Neighbor:
    """One neighbour of the daemon."""

    name: str
    address: str
    asn: int
    password: str | None = None
    ttl_security: bool = False

    @property
    def version(self) -> int:
        """IP version."""
        return 6 if ":" in self.address else 4


@dataclass(frozen=True, slots=True)
class Setup:
    """What the daemon is to be."""

    asn: int
    router_id: str
    local: dict[int, str]
    """Its address by IP version."""
    neighbors: tuple[Neighbor, ...]
    """routed's sessions first."""
    announce: tuple[str, ...]
    several: str | None = None
    """A prefix that it has two paths to, by two of its neighbours; a daemon that passes nothing on announces
    two of its own accord."""

    def announced(self, version: int) -> list[str]:
        """The prefixes of one IP version."""
        return [prefix for prefix in self.announce if (":" in prefix) == (version == 6)]


class Speaker(abc.ABC):
    """A daemon on a machine."""

    name: ClassVar[str]
    """Begins its row in the matrix, its version follows: `BIRD 2.` for `BIRD 2.0.12`."""
    has_table: ClassVar[bool] = True
    """False for a daemon that keeps no routes, and so cannot keep ours while we restart."""

    def __init__(self, machine: Machine, setup: Setup) -> None:
        self.machine = machine
        self.setup = setup
        self.directory = machine.directory / self.name.rstrip(".").replace(" ", "-")
        self.directory.mkdir(exist_ok=True)
        self.processes: list[Process] = []

    @classmethod
    def title(cls) -> str:
        """Name and version, for people."""
        return f"{cls.name.split(' ')[0]} {cls.version()}"

    @classmethod
    @abc.abstractmethod
    def version(cls) -> str:
        """What it says its version is; LookupError where it is not here."""

    @abc.abstractmethod
    def start(self) -> None:
        """Configuration written, and started; returns when it answers."""

    @abc.abstractmethod
    def show(self, prefix: str) -> str:
        """All that it says of its routes to a prefix; empty where there is none."""

    @abc.abstractmethod
    def path_count(self, prefix: str) -> int:
        """How many paths to a prefix it has."""

    @abc.abstractmethod
    def refresh(self) -> None:
        """Have it ask routed for all IPv4 routes again."""

    def large_communities(self, prefix: str) -> set[tuple[int, ...]]:
        """The large communities of a prefix."""
        text = self.show(prefix)
        found = re.findall(r"(\d+)[:,] ?(\d+)[:,] ?(\d+)", text)
        return {tuple(map(int, one)) for one in found}

    def kill(self) -> None:
        """A crash."""
        for process in self.processes:
            process.kill()

    def output(self) -> str:
        """What it wrote."""
        return "\n".join(process.output()[-3000:] for process in self.processes)


def said_version(program: str | Path, *options: str) -> str:
    """What a program prints when it is asked for its version."""
    try:
        done = subprocess.run(
            [program, *(options or ("--version",))],
            capture_output=True,
            text=True,
            timeout=60,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise LookupError(f"{program}: {error}") from None
    return done.stdout + done.stderr


def number_in(text: str) -> str:
    """The first version number in a text."""
    found = re.search(r"\d+\.\d+(\.\d+)*", text)
    if found is None:
        raise LookupError(f"no version in {text[:80]!r}")
    return found[0]

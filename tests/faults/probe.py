"""Packets that are sent all the time between two pods, and what came of them."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.netns import Machine, Process, wait_for

#: Seconds between two packets.
INTERVAL = 0.005
_PINGER = Path(__file__).with_name("pinger.py")


@dataclass(frozen=True, slots=True)
class Count:
    """What a probe amounts to."""

    sent: int
    lost: int
    gap: float
    """The longest time without an answer, seconds."""

    def __str__(self) -> str:
        return f"{self.lost} of {self.sent} lost, longest gap {1000 * self.gap:.0f} ms"


class Probe:
    """An echo request every 5 ms until it is asked for its count."""

    def __init__(self, pod: Machine, address: str, interval: float = INTERVAL) -> None:
        """Returns when the first packets have been answered."""
        self.address = address
        self.name = f"{pod.name} to {address}"
        command = [sys.executable, "-I", "-S", str(_PINGER), address, str(interval)]
        self.process: Process = pod.start(f"ping-{address}", command)
        self.wait_answers(1)

    def answers(self) -> int:
        """Packets answered so far; told with every fifth."""
        with self.process.log.open("rb") as log:
            log.seek(0, 2)
            log.seek(max(0, log.tell() - 100))
            told = [line.split() for line in log.read().splitlines(keepends=True) if line.endswith(b"\n")]
        return max(
            (int(words[1]) for words in told if words[:1] == [b"answered"] and len(words) == 2), default=0
        )

    def wait_answers(self, count: int = 20, timeout: float = 60.0) -> None:
        """Until so many more packets have been answered."""
        wanted = self.answers() + count
        wait_for(lambda: self.answers() >= wanted, f"{self.name}: answers", timeout)

    def count(self) -> Count:
        """Ends it."""
        self.process.interrupt()
        lines = self.process.output().splitlines()
        assert "".join(lines[-1:]).startswith("{"), lines[-5:]
        return Count(**json.loads(lines[-1]))


def wait_all(probes: list[Probe], count: int = 20) -> None:
    """Until each probe has had so many more answers."""
    wanted = {probe: probe.answers() + count for probe in probes}
    for probe, number in wanted.items():
        probe.wait_answers(max(0, number - probe.answers()))

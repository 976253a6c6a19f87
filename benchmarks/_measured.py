"""A reflector in a process of its own, with a selector that looks at the clock, for benchmarks that ask what
its event loop does.

Standard input and output of the process are its control: each line of the one is a command (`mark`, `drain`),
and gets a line of JSON on the other; it ends with standard input.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import selectors
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address, ip_address, ip_network
from pathlib import Path

from benchmarks.reflector.processes import end, free_port, listens
from routed import log
from routed.bgp.transport import Endpoint
from routed.daemon import GC_THRESHOLDS
from routed.event_loop import FairSelector
from routed.observe.options import ObserveOptions
from routed.rr.process import ReflectorProcess
from routed.rr.standalone import Reflector, Running


class TimedSelector(FairSelector):
    """Knows how long the loop was away between two looks at the sockets."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        """`clock`: what a turn is measured by; `time.process_time` leaves out what other programs took."""
        super().__init__()
        self.longest = 0.0
        self.count = 0
        self._clock = clock
        self._left_at = clock()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """See `selectors.BaseSelector.select`."""
        self.count += 1
        self.longest = max(self.longest, self._clock() - self._left_at)
        ready = super().select(timeout)
        self._left_at = self._clock()
        return ready

    def take(self) -> dict[str, float]:
        """What was found since the last call, and the CPU time of the process, seconds."""
        found = {"longest": self.longest, "turns": self.count, "cpu": time.process_time()}
        self.longest, self.count = 0.0, 0
        return found


async def reflect(port: int, running: Running, selector: TimedSelector) -> None:
    """Run a reflector on loopback until standard input ends."""
    log.configure("error", "json")
    gc.freeze()  # as `daemon.run_until_stopped`
    gc.set_threshold(*GC_THRESHOLDS)
    identity = IPv4Address("127.0.0.1")
    reflector = Reflector(
        listen=(Endpoint(ip_address("127.0.0.1"), port),),
        local_as=64512,
        router_id=identity,
        cluster_id=identity,
        clients=(ip_network("127.1.0.0/16"),),
    )
    process = ReflectorProcess(reflector, running)
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()

    def on_command() -> None:
        line = sys.stdin.readline().strip()
        if not line:
            stop.set()
            loop.remove_reader(sys.stdin)
        elif line == "drain":
            process._speaker.drain()
        print(json.dumps(selector.take()), flush=True)

    loop.add_reader(sys.stdin, on_command)
    await process.run(stop)


class Child:
    """The reflector's process. Where it has an API, that is at `api`."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, api: Path) -> None:
        self.process = process
        self.port = port
        self.api = api

    def ask(self, command: str = "mark") -> dict[str, float]:
        """What was found since the last time: the `longest` turn, seconds, how many `turns` there were; and
        the `cpu` time since the start, seconds."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(command.encode() + b"\n")
        self.process.stdin.flush()
        answer: dict[str, float] = json.loads(self.process.stdout.readline())
        return answer


@contextmanager
def measured_reflector(*options: str) -> Iterator[Child]:
    """One at work, in a folder of its own. `options`: `--api`, `--metrics-per-peer` and `--status-file`, what
    it is to have; `--processor-time`: turns are seconds of the processor."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        port = free_port()
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks._measured", str(port), folder, *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        try:
            while not listens(port):
                if process.poll() is not None:
                    raise RuntimeError("the reflector does not start")
                time.sleep(0.02)
            yield Child(process, port, Path(folder) / "api.sock")
        finally:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.close()
            end(process)
            process.stdout.close()


def main() -> None:
    """The reflector's process."""
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--api", action="store_true")
    parser.add_argument("--metrics-per-peer", action="store_true")
    parser.add_argument("--status-file", action="store_true")
    parser.add_argument("--processor-time", action="store_true")
    options = parser.parse_args()
    running = Running(
        status_file=options.folder / "status.json" if options.status_file else None,
        observe=ObserveOptions(
            api=options.folder / "api.sock" if options.api else None,
            metrics_per_peer=options.metrics_per_peer,
        ),
    )
    selector = TimedSelector(time.process_time if options.processor_time else time.perf_counter)
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selector)) as runner:
        runner.run(reflect(options.port, running, selector))


if __name__ == "__main__":
    main()

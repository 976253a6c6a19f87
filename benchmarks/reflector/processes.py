"""Daemons as child processes: started with their files in a folder of their own, and always ended."""

from __future__ import annotations

import ctypes
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_LISTEN = "0A"  # TCP_LISTEN in /proc/net/tcp
START_TIME = 20.0
STOP_TIME = 10.0

_libc = ctypes.CDLL(None)


class DaemonError(RuntimeError):
    """A daemon does not start; the message has the last line of its output."""


def free_port(address: str = "127.0.0.1") -> int:
    """A TCP port of an IPv4 address that nobody has just now."""
    with socket.socket() as sock:
        sock.bind((address, 0))
        port: int = sock.getsockname()[1]
        return port


def listens(port: int) -> bool:
    """Whether somebody listens on this TCP port over IPv4; without a connection, which some daemons would log
    or count."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, _, state, *_ = line.split()
        if state == _LISTEN and int(local.partition(":")[2], 16) == port:
            return True
    return False


def _last_line(path: Path) -> str:
    lines = path.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "no output"


def _die_with_parent() -> None:
    """Runs in the child: SIGKILL of the benchmark must not leave a daemon behind."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def end(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM, and SIGKILL for a process that does not go."""
    process.terminate()
    try:
        process.wait(STOP_TIME)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextmanager
def running(command: Sequence[str], folder: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Start a daemon in its folder, wait until it listens, and end it afterwards. Raises DaemonError."""
    output = folder / "output"
    with output.open("wb") as sink:
        process = subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            preexec_fn=_die_with_parent,
        )
    try:
        deadline = time.monotonic() + START_TIME
        while not listens(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise DaemonError(
                    f"{command[0]} does not listen: {output.read_text(errors='replace')[-500:]}"
                )
            time.sleep(0.02)
        yield process
    finally:
        end(process)

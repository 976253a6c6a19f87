"""Without the capability there is a clear message, and nothing else happens."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from routed.kernel.base import KernelUnavailable
from routed.kernel.netlink import RouteSocket, _open_failure
from tests.kernel.kernel import Namespace

PROGRAM = """
import asyncio, ctypes, sys
from routed import log
from routed.kernel.base import KernelUnavailable
from routed.kernel.fib import Fib
from routed.kernel.monitor import Monitor

async def main():
    try:
        await Fib.open(log=log.get("kernel"))
    except KernelUnavailable as error:
        print(error)
    else:
        print("opened")
    monitor = await Monitor.open(log=log.get("kernel"))  # to watch needs no privilege
    print(len((await monitor.snapshot()).links) > 0)
    monitor.close()

asyncio.run(main())
"""


@pytest.mark.netns
def test_no_cap_net_admin(ns: Namespace, tmp_path: Path) -> None:
    """As root without CAP_NET_ADMIN, as a container gets it."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    command = ["ip", "netns", "exec", ns.name, "setpriv", "--bounding-set", "-net_admin"]
    command += ["--inh-caps", "-net_admin", sys.executable, "-W", "error", str(program)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    message, watched = done.stdout.splitlines()
    assert "CAP_NET_ADMIN" in message
    assert "--no-kernel" in message
    assert watched == "True"


@pytest.mark.parametrize("netns", [None, "blue"])
def test_a_socket_that_cannot_be_opened(monkeypatch: pytest.MonkeyPatch, netns: str | None) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("routed.kernel.netlink._socket", refuse)
    with pytest.raises(KernelUnavailable, match="Operation not permitted") as caught:
        RouteSocket.open(netns=netns)
    assert "--no-kernel" in str(caught.value)
    assert ("'blue'" in str(caught.value)) == (netns == "blue")


def test_messages_name_what_is_missing() -> None:
    assert "no such namespace" in _open_failure(FileNotFoundError(2, "No such file"), "blue")
    assert "CAP_SYS_ADMIN" in _open_failure(PermissionError(1, "not permitted"), "blue")

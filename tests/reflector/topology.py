"""Reflectors in machines of a laboratory, and clients of theirs that write down what they are told."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from tests.netns import Machine, Process, wait_for
from tests.raw_peer import CLUSTER_LIST, ORIGINATOR_ID, Attributes, Options, RawPeer, Route
from tests.routed_process import RoutedProcess

AS = 64512
LAN = "192.0.2.0/24"


def reflector(machine: Machine, cluster_id: str, *options: str) -> RoutedProcess:
    """`routed rr` on the machine's IPv4 address; not started yet."""
    address = machine.address(4)
    identity = ["--as", str(AS), "--router-id", address, "--cluster-id", cluster_id]
    return RoutedProcess(machine, ["rr", "--listen", f"{address}:179", *identity, *options])


def client(machine: Machine, remote: Machine, port: int = 179) -> RawPeer:
    """A client on the machine's own address, that dials a reflector."""
    return RawPeer(
        machine, Options(AS, machine.address(4), remote=remote.address(4), remote_port=port, port=0)
    )


def attributes(peer: RawPeer, prefix: str) -> Attributes:
    """With what it was told of a prefix; LookupError where it was not."""
    return peer.table()[Route(prefix)]


def originator(found: Attributes) -> str | None:
    """ORIGINATOR_ID."""
    one = found.get(ORIGINATOR_ID)
    return None if one is None else str(ipaddress.IPv4Address(one.value))


def cluster_list(found: Attributes) -> list[str]:
    """CLUSTER_LIST, the last reflector first."""
    value = found[CLUSTER_LIST].value if CLUSTER_LIST in found else b""
    return [str(ipaddress.IPv4Address(value[at : at + 4])) for at in range(0, len(value), 4)]


class RouteMonitor:
    """Everything that happens to the kernel routes of a machine from now on (`ip monitor route`)."""

    #: A route that tells when the monitor listens.
    _SIGN = "198.51.100.255/32"

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._process: Process = machine.start("monitor", ["ip", "monitor", "route"])
        wait_for(self._passed, f"{machine.name}: the monitor listens")
        self._seen = len(self._process.output())

    def deleted(self, prefixes: Iterable[str]) -> list[str]:
        """The lines that say that one of these prefixes lost its route."""
        signs = self._signs()
        self._passed()
        # The sign comes through behind all that happened before it.
        wait_for(lambda: self._signs() > signs, f"{self._machine.name}: the monitor is up to date")
        wanted = tuple(prefixes)
        lines = self._process.output()[self._seen :].splitlines()
        return [line for line in lines if line.startswith("Deleted") and any(one in line for one in wanted)]

    def _signs(self) -> int:
        return self._process.output().count(f"Deleted blackhole {self._SIGN.split('/')[0]}")

    def _passed(self) -> bool:
        """Make the sign; whether one has come through."""
        self._machine.ip("route", "replace", "blackhole", self._SIGN)
        self._machine.ip("route", "del", "blackhole", self._SIGN)
        return self._signs() > 0

"""From the put of a block affinity in etcd to the UPDATE at a peer and the route in a BIRD's kernel.

    python -m benchmarks datastore_to_wire [--nodes 1000] [--changes 300]

A laboratory of network namespaces: an etcd with the records of a cluster (a Node, an affinity and an IPAM
block for each node), one of its nodes (`routed run` with kernel routes), a BIRD 2 with kernel routes and a
peer that notes when each message comes. One affinity at a time is put, `confirmed` in place of `pending`, and
back when its route is in BIRD's kernel. Needs root, etcd and BIRD 2. The first row is etcd alone: a client
with a watch and nothing else. Take the differences.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import shutil
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

from routed.datastore import etcd_wire as wire
from routed.datastore.etcd_client import Connection, Endpoint, EtcdOptions, connected
from routed.datastore.etcd_layout import key_of, prefix_end
from routed.datastore.retry import UnavailableError
from tests.daemons import Bird2, Config, Neighbor, unavailable
from tests.netns import Lab, Machine, temporary_lab, wait_for
from tests.netns import unavailable as no_namespaces
from tests.recorder import Kind, RecordingPeer, parse_update
from tests.routed_process import (
    RoutedProcess,
    affinity,
    configuration,
    ipam_block,
    node,
    peer,
    pool,
    record,
)

AS = 64512
ROOT = Path(__file__).resolve().parent.parent
ETCD = "192.0.2.2"
HOSTS = b"/calico/ipam/v2/host/"

STAGES = (
    "etcd alone: the event is at a bare watch",
    "the blackhole is in the node's kernel",
    "the UPDATE is at a peer",
    "the route is in BIRD's kernel",
)


#: The blocks whose affinities are put while it is measured, in turns.
BLOCKS = [f"10.128.{number}.0/26" for number in range(10)]


def own(cidr: str, state: str) -> dict[str, Any]:
    """The measured node's affinity of a block. IPAM has it `pending` until it has made the block."""
    whole = affinity("node", cidr)
    return {**whole, "spec": {**whole["spec"], "state": state}}


def records(nodes: int, machines: Mapping[str, Machine]) -> Iterator[dict[str, Any]]:
    """The cluster: no mesh, and two peers of the measured node."""
    yield configuration(AS)
    yield pool("10.0.0.0/8")
    yield node(machines["node"])
    for name in ("bird", "recorder"):
        yield peer(name, machines[name].address(4), AS, node="node")
    for number in range(nodes - 1):
        name = f"other-{number}"
        cidr = str(IPv4Network((int(IPv4Address("10.0.0.0")) + 64 * number, 26)))
        yield record("Node", name, bgp={"ipv4Address": f"{IPv4Address(0xC6120000 + number)}/16"})
        yield affinity(name, cidr)
        yield ipam_block(name, cidr)
    for cidr in BLOCKS:
        yield own(cidr, "pending")
        yield ipam_block("node", cidr)


# The one who puts: a process in etcd's machine, told what to put by lines of standard input.


async def drive() -> None:
    """Puts what is asked for; says when it began, when etcd had it, and when a watch told it."""
    endpoint = Endpoint(ETCD, 2379)
    options = EtcdOptions((endpoint,))
    while True:
        try:
            async with connected(endpoint, options) as connection, connected(endpoint, options) as watching:
                await connection.call(wire.RANGE, wire.range_request(b"/", b"", 1))
                told: asyncio.Queue[float] = asyncio.Queue()
                watch = asyncio.create_task(_note_events(watching, told))
                await _serve(connection, told)
                watch.cancel()
                await asyncio.gather(watch, return_exceptions=True)
                return
        except UnavailableError:
            await asyncio.sleep(0.05)


async def _note_events(connection: Connection, told: asyncio.Queue[float]) -> None:
    requests = (wire.watch_create_request(HOSTS, prefix_end(HOSTS), 0, 1),)
    async for response in connection.watch(requests):
        at = time.monotonic()
        if response.created or response.events:
            told.put_nowait(at)


async def _serve(connection: Connection, told: asyncio.Queue[float]) -> None:
    await told.get()
    print("ready", flush=True)
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        if line.startswith("load "):
            pairs = json.loads(Path(line.removeprefix("load ").strip()).read_text())
            for key, value in pairs:
                await connection.call(wire.PUT, wire.put_request(key.encode(), value.encode()))
                if key.startswith(HOSTS.decode()):
                    await told.get()
            print("loaded", flush=True)
            continue
        key, value = json.loads(line)
        request = wire.put_request(key.encode(), value.encode())
        began = time.monotonic()
        await connection.call(wire.PUT, request)
        print(json.dumps((began, await told.get())), flush=True)


def etcd_pair(document: dict[str, Any]) -> tuple[str, str]:
    """Key and value in etcd."""
    key, value = key_of(document)
    return key, json.dumps(value)


# The ones who see


class KernelRoutes:
    """The IPv4 routes of a machine's kernel, and when each came, by netlink's notifications."""

    def __init__(self, machine: Machine) -> None:
        self.since: dict[str, float] = {}
        self._socket = machine.socket(socket.AF_NETLINK, socket.SOCK_RAW)
        self._socket.bind((0, 1 << 6))  # RTMGRP_IPV4_ROUTE (linux/rtnetlink.h)
        self._socket.settimeout(0.2)
        self._closing = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def close(self) -> None:
        """Stops listening."""
        self._closing = True
        self._thread.join()
        self._socket.close()

    def came(self, prefix: str) -> float:
        """When its route came, once it is there. Raises TimeoutError."""
        self._wait(lambda: prefix in self.since)
        return self.since[prefix]

    def gone(self, prefix: str) -> None:
        """Until it has no route. Raises TimeoutError."""
        self._wait(lambda: prefix not in self.since)

    def _wait(self, condition: Callable[[], bool]) -> None:
        with self._changed:
            if not self._changed.wait_for(condition, 30):
                raise TimeoutError("a route did not come, or go, within 30 s")

    def _read(self) -> None:
        while not self._closing:
            try:
                data = self._socket.recv(65536)
            except TimeoutError:
                continue
            at = time.monotonic()
            with self._changed:
                while len(data) >= 28:
                    length, kind = struct.unpack_from("=IH", data)
                    prefix = f"{_destination(data[28:length])}/{data[17]}"
                    if kind == 24:  # RTM_NEWROUTE
                        self.since[prefix] = at
                    elif kind == 25:  # RTM_DELROUTE
                        self.since.pop(prefix, None)
                    data = data[(length + 3) & ~3 :]
                self._changed.notify_all()


def _destination(attributes: bytes) -> IPv4Address:
    while attributes:
        length, kind = struct.unpack_from("=HH", attributes)
        if kind == 1:  # RTA_DST
            return IPv4Address(attributes[4:8])
        attributes = attributes[(length + 3) & ~3 :]
    return IPv4Address(0)


def announced(recorder: RecordingPeer, begin: int, prefix: str) -> float:
    """When a prefix was announced, in the messages from `begin` on. Raises LookupError."""
    for message in recorder.messages[begin:]:
        if message.kind is Kind.UPDATE and prefix in parse_update(message.body).announced:
            return message.at
    raise LookupError(prefix)


# The run


def measure(nodes: int, changes: int, say: Callable[[str], None]) -> dict[str, list[float]]:
    """Seconds from the put, for each stage."""
    with (
        tempfile.TemporaryDirectory() as folder,
        temporary_lab(Path(folder)) as lab,
        contextlib.ExitStack() as stack,
    ):
        addresses = {"node": 1, "etcd": 2, "bird": 3, "recorder": 4}
        machines = {name: lab.machine(name, f"192.0.2.{last}/24") for name, last in addresses.items()}
        start_etcd(machines["etcd"])
        driver = start_driver(lab, stack)
        pairs = [etcd_pair(document) for document in records(nodes, machines)]
        (lab.directory / "records.json").write_text(json.dumps(pairs))
        ask(driver, f"load {lab.directory / 'records.json'}")
        say(f"{len(pairs)} records of {nodes} nodes are in etcd")
        recorder = stack.enter_context(RecordingPeer(machines["recorder"], AS, "192.0.2.4"))
        neighbors = (Neighbor("192.0.2.1", AS),)
        bird = Bird2(machines["bird"], Config(AS, "192.0.2.3", neighbors, kernel=True))
        bird.start()
        command = ["run", "--node", "node", "--datastore", f"etcd://{ETCD}:2379"]
        routed = RoutedProcess(machines["node"], command)
        routed.start()
        kernels = [KernelRoutes(machines[name]) for name in ("node", "bird")]
        for kernel in kernels:
            stack.callback(kernel.close)
        routed.wait_established("192.0.2.3", "192.0.2.4")
        recorder.wait_end_of_rib()
        say("sessions are up")
        ours, birds = kernels
        times: list[tuple[float, ...]] = []
        for number in range(changes + len(BLOCKS)):
            cidr = BLOCKS[number % len(BLOCKS)]
            begin = len(recorder.messages)
            began, told = put(driver, own(cidr, "confirmed"))
            last = birds.came(cidr)
            at_peer = wait_for(partial(announced, recorder, begin, cidr), f"{cidr} at the peer")
            times.append(tuple(end - began for end in (told, ours.came(cidr), at_peer, last)))
            put(driver, own(cidr, "pending"))
            birds.gone(cidr)
            ours.gone(cidr)
        # The first of each block are not counted: much happens for the first time in them.
        return dict(zip(STAGES, map(list, zip(*times[len(BLOCKS) :], strict=True)), strict=True))


def start_etcd(machine: Machine) -> None:
    """An etcd as it comes, with its writes to disk."""
    url = f"http://{ETCD}:2379"
    listen = ("--listen-client-urls", url, "--advertise-client-urls", url)
    machine.start("etcd", ["etcd", "--data-dir", str(machine.directory / "data"), "--logger", "zap", *listen])


def start_driver(lab: Lab, stack: contextlib.ExitStack) -> subprocess.Popen[str]:
    """The process that puts, when it is ready."""
    driver = subprocess.Popen(
        lab.machines["etcd"].command(sys.executable, "-m", "benchmarks.datastore_to_wire", "--drive"),
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )

    def end() -> None:
        assert driver.stdin is not None
        assert driver.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            driver.stdin.close()
        try:
            driver.wait(10)
        except subprocess.TimeoutExpired:
            driver.kill()
            driver.wait()
        driver.stdout.close()

    stack.callback(end)
    assert driver.stdout is not None
    if driver.stdout.readline() != "ready\n":
        raise RuntimeError("the process that puts has ended")
    return driver


def ask(driver: subprocess.Popen[str], line: str) -> str:
    """One line there, one back."""
    assert driver.stdin is not None
    assert driver.stdout is not None
    driver.stdin.write(line + "\n")
    driver.stdin.flush()
    return driver.stdout.readline()


def put(driver: subprocess.Popen[str], document: dict[str, Any]) -> tuple[float, float]:
    """Puts a record. When that began, and when a bare watch told it."""
    began, told = json.loads(ask(driver, json.dumps(etcd_pair(document))))
    return began, told


def table(measured: Mapping[str, list[float]]) -> list[str]:
    """Lines of Markdown, milliseconds."""
    lines = ["| from the put until ... | median, ms | p99, ms | worst, ms |", "| --- | ---: | ---: | ---: |"]
    for stage, times in measured.items():
        ordered = sorted(times)
        p99 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
        figures = " | ".join(f"{1000 * value:.2f}" for value in (statistics.median(times), p99, ordered[-1]))
        lines.append(f"| {stage} | {figures} |")
    return lines


def missing() -> str | None:
    """What is not here and is needed."""
    if os.geteuid() != 0:
        return "it needs root, for network namespaces"
    etcd = None if shutil.which("etcd") else "it needs etcd (Debian: apt-get install etcd-server)"
    return no_namespaces() or unavailable("bird2") or etcd


def main() -> None:
    """The command."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--nodes", type=int, default=1000, help="nodes in the datastore")
    parser.add_argument("--changes", type=int, default=300, help="how many affinities are put")
    parser.add_argument("--drive", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.drive:
        asyncio.run(drive())
        return
    if reason := missing():
        print(f"skipped: {reason}", file=sys.stderr)
        return
    measured = measure(options.nodes, options.changes, lambda text: print(text, file=sys.stderr))
    print("\n".join(table(measured)))


if __name__ == "__main__":
    main()

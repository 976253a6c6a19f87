"""Routes learned from a peer into the kernel, and 200 sessions at rest: routed beside BIRD 2.

    python -m benchmarks.learn [--routes 50000] [--next-hops 5000] [--sessions 200] [--rest 10] [--runs 3]

Makes two network namespaces for each run, a node and its peers, and removes them; needs root, iproute2 and
BIRD 2 (without it routed is measured alone). Both get the job that they have on a Calico node: iBGP sessions
whose routes, IPv4, go into the kernel with the metric that LOCAL_PREF means, by next hops that are looked up
(`gateway recursive`), equal paths merged, other kernel routes learned.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import os
import shutil
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from routed.bgp.nlri import Family
from routed.kernel.decode import decode_route
from routed.kernel.netlink import (
    HEADER,
    NLM_F_ACK,
    NLM_F_REQUEST,
    RTM_GETROUTE,
    RTM_NEWROUTE,
    RouteSocket,
    attribute,
)
from routed.kernel.reader import KernelReader

AS = 64512
NODE = "10.99.0.1"
LOCAL_PREF = 2147483647 - 1024
#: The peers' hold time, seconds; one has a short one, and its keepalives are watched.
HOLD_TIME, SHORT_HOLD_TIME = 90, 3
PREFIXES_AN_UPDATE = 100
FEW_NEXT_HOPS = 50
MOST_NEXT_HOPS = 40_000
#: How long daemons may take for anything, seconds.
PATIENCE = 120.0
_PROTOCOLS = {"routed": 171, "BIRD 2": 12}
_CLONE_NEWNET = 0x40000000
_PR_SET_PDEATHSIG = 1
_RTM_F_FIB_MATCH = 0x2000
_libc = ctypes.CDLL(None, use_errno=True)

_BIRD = """\
log "{folder}/bird.log" {{ warning, error, fatal, bug }};
router id {node};
protocol device {{ scan time 2; }}
protocol direct {{ ipv4; }}
protocol kernel {{
    learn; persist; scan time 2; merge paths on;
    ipv4 {{ import all; export filter {{ krt_metric = 2147483647 - bgp_local_pref; accept; }}; }};
}}
template bgp peer {{
    local {node} as {asn};
    passive on; multihop;
    ipv4 {{ import all; export none; gateway recursive; }};
}}
"""
_RECORDS = """\
{{apiVersion: projectcalico.org/v3, kind: BGPConfiguration, metadata: {{name: default}}, spec:
  {{asNumber: {asn}, nodeToNodeMeshEnabled: false}}}}
---
{{apiVersion: projectcalico.org/v3, kind: Node, metadata: {{name: node}}, spec:
  {{bgp: {{ipv4Address: {node}/16}}}}}}
---
{{apiVersion: projectcalico.org/v3, kind: IPPool, metadata: {{name: pods}}, spec:
  {{cidr: 10.128.0.0/9, ipipMode: Never, vxlanMode: Never}}}}
"""
_PEER = """\
---
{{apiVersion: projectcalico.org/v3, kind: BGPPeer, metadata: {{name: peer-{number}}}, spec:
  {{peerIP: {address}, asNumber: {asn}}}}}
"""


@dataclass(frozen=True)
class Step:
    """Something the daemon had to do: how long until the kernel had it, and the processor time (seconds)."""

    wall: float
    processor: float


@dataclass(frozen=True)
class Run:
    """What was measured once."""

    learned: tuple[Step, ...]
    """All routes, for each number of next hops."""
    withdrawn: tuple[Step, ...]
    keepalive_gap: float
    """Seconds."""
    rest: float
    """Processor time a second."""
    memory: int
    """Octets."""


Value = Callable[[Run], float]


@dataclass(frozen=True)
class Load:
    """A table: by how many next hops, and in what order it is told. `scattered`: in the order of prefixes, as
    a reflector tells it that walks its table; the next hop is another for each. Else next hop by next hop."""

    next_hops: int
    scattered: bool

    def __str__(self) -> str:
        order = ", in the order of prefixes" if self.scattered else ""
        return f"{self.next_hops:,} next hops{order}"


def loads(next_hops: int) -> tuple[Load, ...]:
    """Those that are measured."""
    few = Load(min(FEW_NEXT_HOPS, next_hops), scattered=False)
    return few, Load(next_hops, scattered=False), Load(next_hops, scattered=True)


def rows(options: Options) -> Iterator[tuple[str, Value, str]]:
    """Headings, what of a run they are about, and how it is written."""

    def step(steps: str, place: int, part: str) -> Value:
        return lambda run: float(getattr(getattr(run, steps)[place], part))

    for place, load in enumerate(loads(options.next_hops)):
        text = f"{options.routes:,} routes by {load}"
        yield f"{text}: until the kernel has them", step("learned", place, "wall"), "{:.2f} s"
        yield "processor time of that", step("learned", place, "processor"), "{:.2f} s"
    yield "all withdrawn: until the kernel has none", step("withdrawn", 0, "wall"), "{:.2f} s"
    yield "processor time of that", step("withdrawn", 0, "processor"), "{:.2f} s"
    yield "longest wait for a keepalive (hold time 3 s)", lambda run: run.keepalive_gap, "{:.2f} s"
    yield f"at rest with {options.sessions} sessions: share of a processor", lambda run: run.rest, "{:.2%}"
    yield "resident memory", lambda run: run.memory / 1e6, "{:.0f} MB"


# The peers


def addresses(count: int) -> list[str]:
    """Addresses of the peers."""
    return [f"10.99.{1 + n // 250}.{1 + n % 250}" for n in range(count)]


def prefixes(count: int) -> list[bytes]:
    """NLRI of /26, all different, in 10.128.0.0/9."""
    return [b"\x1a" + (0x0A800000 + n * 64).to_bytes(4, "big") for n in range(count)]


def message(kind: int, body: bytes) -> bytes:
    """A BGP message (RFC 4271 section 4.1)."""
    return b"\xff" * 16 + struct.pack("!HB", 19 + len(body), kind) + body


KEEPALIVE = message(4, b"")


def open_message(address: str, hold_time: int) -> bytes:
    """OPEN with IPv4 unicast and 4-octet AS numbers."""
    capabilities = bytes((1, 4, 0, 1, 0, 1)) + bytes((65, 4)) + AS.to_bytes(4, "big")
    options = bytes((2, len(capabilities))) + capabilities
    body = struct.pack("!BHH4sB", 4, AS, hold_time, socket.inet_aton(address), len(options)) + options
    return message(1, body)


def table(nlri: Sequence[bytes], load: Load) -> bytes:
    """UPDATEs that announce these prefixes; each next hop has its share."""
    if load.scattered:
        order = [(number % load.next_hops, [one]) for number, one in enumerate(nlri)]
    else:
        share = -(-len(nlri) // load.next_hops)
        order = [
            (start // share, list(nlri[first : min(first + PREFIXES_AN_UPDATE, start + share)]))
            for start in range(0, len(nlri), share)
            for first in range(start, start + share, PREFIXES_AN_UPDATE)
            if first < len(nlri)
        ]
    out = []
    for n, some in order:
        next_hop = bytes((10, 99, 64 + n // 250, 1 + n % 250))
        attributes = bytes((0x40, 1, 1, 0, 0x40, 2, 0, 0x40, 3, 4)) + next_hop
        attributes += bytes((0x40, 5, 4)) + LOCAL_PREF.to_bytes(4, "big")
        body = struct.pack("!HH", 0, len(attributes)) + attributes + b"".join(some)
        out.append(message(2, body))
    return b"".join(out)


def withdrawals(nlri: Sequence[bytes]) -> bytes:
    """UPDATEs that withdraw these prefixes."""
    out = []
    for start in range(0, len(nlri), 500):
        some = b"".join(nlri[start : start + 500])
        out.append(message(2, struct.pack("!H", len(some)) + some + b"\0\0"))
    return b"".join(out)


class Peer(asyncio.Protocol):
    """One session, our end: keeps it up, and notes when messages came."""

    def __init__(self, address: str, hold_time: int) -> None:
        self.established = asyncio.get_running_loop().create_future()
        self.gap = 0.0
        self._open = open_message(address, hold_time)
        self._interval = hold_time / 3
        self._data = b""
        self._last = 0.0
        self._transport: asyncio.Transport
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(self._open)

    def data_received(self, data: bytes) -> None:
        self._data += data
        while len(self._data) >= 19:
            length = int.from_bytes(self._data[16:18], "big")
            if len(self._data) < length:
                return
            self._message(self._data[18])
            self._data = self._data[length:]

    def _message(self, kind: int) -> None:
        now = time.monotonic()
        if kind == 1:
            self._keepalive()
        elif kind == 4 and not self.established.done():
            self.established.set_result(None)
            self._last = now
        elif kind == 4:
            self.gap = max(self.gap, now - self._last)
            self._last = now
        elif kind == 3:
            raise RuntimeError("the daemon ended the session")

    def _keepalive(self) -> None:
        self.write(KEEPALIVE)
        self._timer = asyncio.get_running_loop().call_later(self._interval, self._keepalive)

    def connection_lost(self, exc: Exception | None) -> None:
        self.close()

    def write(self, data: bytes) -> None:
        """Send."""
        self._transport.write(data)

    def close(self) -> None:
        """End at once."""
        if self._timer is not None:
            self._timer.cancel()
        self._transport.abort()


def sockets_in(namespace: str, count: int) -> list[socket.socket]:
    """TCP sockets of a network namespace: made by a thread that enters it, they stay there."""
    made: list[socket.socket] = []
    failed: list[OSError] = []

    def make() -> None:
        with open(f"/run/netns/{namespace}", "rb") as handle:
            if _libc.setns(handle.fileno(), _CLONE_NEWNET):
                failed.append(OSError(ctypes.get_errno(), "setns"))
                return
        made.extend(socket.socket() for _ in range(count))

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return made


async def connect(namespace: str, count: int) -> list[Peer]:
    """Sessions from so many addresses, all established. The second has the short hold time."""
    loop = asyncio.get_running_loop()
    peers: list[Peer] = []
    for number, (sock, address) in enumerate(
        zip(sockets_in(namespace, count), addresses(count), strict=True)
    ):
        sock.setblocking(False)
        sock.bind((address, 0))
        await loop.sock_connect(sock, (NODE, 179))
        hold_time = SHORT_HOLD_TIME if number == 1 else HOLD_TIME
        _, peer = await loop.create_connection(partial(Peer, address, hold_time), sock=sock)
        peers.append(peer)
    await asyncio.gather(*(peer.established for peer in peers))
    return peers


# The node


@contextlib.contextmanager
def namespaces(peers: int) -> Iterator[tuple[str, str]]:
    """A node and its peers, in network namespaces on one link."""
    names = f"rtl{os.getpid()}n", f"rtl{os.getpid()}p"
    try:
        for name in names:
            subprocess.run(["ip", "netns", "add", name], check=True)
        node, other = names
        lines = [f"link add eth0 type veth peer name eth0 netns {other}", f"address add {NODE}/16 dev eth0"]
        there = [f"address add {address}/16 dev eth0" for address in addresses(peers)]
        for name, some in ((node, lines), (other, there)):
            some += ["link set lo up", "link set eth0 up"]
            subprocess.run(["ip", "-n", name, "-batch", "-"], input="\n".join(some), text=True, check=True)
        yield names
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], check=False, stderr=subprocess.DEVNULL)


def find_bird() -> str | None:
    """BIRD 2, or None."""
    unpacked = Path(__file__).parents[1] / ".cache/daemons/bird2/usr/sbin/bird"
    for program in (shutil.which("bird"), "/usr/sbin/bird", str(unpacked)):
        if program and os.access(program, os.X_OK):
            said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
            if "BIRD version 2." in said.stderr + said.stdout:
                return program
    return None


def command_of(daemon: str, folder: Path, peers: int) -> list[str]:
    """What to run, its files written."""
    if daemon == "routed":
        records = _RECORDS.format(asn=AS, node=NODE)
        for number, address in enumerate(addresses(peers)):
            records += _PEER.format(number=number, address=address, asn=AS)
        (folder / "records.yaml").write_text(records)
        options = ["--node", "node", "--datastore", f"file:{folder}/records.yaml", "--log-level", "warning"]
        options += ["--api", f"{folder}/api.sock"]
        return [sys.executable, "-m", "routed", "run", *options]
    program = find_bird()
    assert program is not None
    text = _BIRD.format(folder=folder, node=NODE, asn=AS)
    for number, address in enumerate(addresses(peers)):
        text += f"protocol bgp peer{number} from peer {{ neighbor {address} as {AS}; }}\n"
    (folder / "bird.conf").write_text(text)
    return [program, "-f", "-c", f"{folder}/bird.conf", "-s", f"{folder}/ctl", "-P", f"{folder}/pid"]


def _die_with_parent() -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


@contextlib.contextmanager
def running(daemon: str, namespace: str, peers: int) -> Iterator[int]:
    """A daemon in a namespace, until the end of the context; its process ID."""
    with tempfile.TemporaryDirectory(prefix="routed-learn-") as name:
        folder = Path(name)
        with (folder / "output").open("wb") as output:
            process = subprocess.Popen(
                ["ip", "netns", "exec", namespace, *command_of(daemon, folder, peers)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                preexec_fn=_die_with_parent,
                env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
            )
        try:
            deadline = time.monotonic() + PATIENCE
            while not listens(process.pid):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"{daemon} does not listen: {(folder / 'output').read_text()[-500:]}")
                time.sleep(0.02)
            yield process.pid
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def listens(pid: int) -> bool:
    """Whether somebody listens at port 179 in the namespace of a process."""
    try:
        lines = Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]
    except OSError:
        return False
    return any(line.split()[1].endswith(":00B3") and line.split()[3] == "0A" for line in lines)


def processor_time(pid: int) -> float:
    """Seconds that all threads of a process have run."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):  # a thread that has just ended
            total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


def resident(pid: int) -> int:
    """Octets."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0


class Kernel:
    """Looks into the kernel's table of a namespace."""

    def __init__(self, namespace: str, protocol: int) -> None:
        self._socket = RouteSocket.open(netns=namespace)
        self._reader = KernelReader(self._socket)
        self._protocol = protocol

    def has(self, nlri: bytes) -> bool:
        """Whether there is a route to a prefix: one question, some microseconds."""
        sequence = self._socket.sequences(1)
        body = struct.pack("=BBBBBBBBI", socket.AF_INET, 32, 0, 0, 0, 0, 0, 0, _RTM_F_FIB_MATCH)
        body += attribute(1, nlri[1:].ljust(4, b"\0"))
        request = HEADER.pack(16 + len(body), RTM_GETROUTE, NLM_F_REQUEST | NLM_F_ACK, sequence, 0) + body
        for reply in self._socket.transact(request, sequence).messages:
            if reply.type == RTM_NEWROUTE:
                found = decode_route(reply.body)
                return found is not None and found.nlri == nlri
        return False

    async def count(self) -> int:
        """The number of routes of the daemon's protocol."""
        return sum([len(part) async for part in self._reader.routes(Family.IPV4, self._protocol)])

    async def until(self, nlri: bytes, *, there: bool, count: int) -> float:
        """When the last prefix had come (or gone), and then all had."""
        deadline = time.monotonic() + PATIENCE
        while self.has(nlri) is not there:
            if time.monotonic() > deadline:
                raise RuntimeError(f"{await self.count()} routes in the kernel, not {count}")
            await asyncio.sleep(0.002)
        when = time.monotonic()
        while (found := await self.count()) != count:  # not in order: the count decides
            if time.monotonic() > deadline:
                raise RuntimeError(f"{found} routes in the kernel, not {count}")
            when = time.monotonic()
        return when

    def close(self) -> None:
        """Let go of it."""
        self._socket.close()


@contextlib.asynccontextmanager
async def sessions(namespace: str, count: int) -> AsyncIterator[list[Peer]]:
    """All sessions, ended afterwards."""
    peers = await asyncio.wait_for(connect(namespace, count), PATIENCE)
    try:
        yield peers
    finally:
        for peer in peers:
            peer.close()


async def measure(daemon: str, options: Options) -> Run:
    """One run of one daemon."""
    count = options.sessions
    nlri = prefixes(options.routes)
    withdraw = withdrawals(nlri)
    tables = [table(nlri, load) for load in loads(options.next_hops)]
    with namespaces(count) as (node, other), running(daemon, node, count) as pid:
        kernel = Kernel(node, _PROTOCOLS[daemon])
        try:
            async with sessions(other, count) as peers:

                async def step(data: bytes, *, there: bool) -> Step:
                    await asyncio.sleep(options.settle)
                    used, start = processor_time(pid), time.monotonic()
                    peers[0].write(data)
                    end = await kernel.until(nlri[-1], there=there, count=len(nlri) if there else 0)
                    return Step(end - start, processor_time(pid) - used)

                learned, withdrawn = [], []
                for announce in tables:
                    learned.append(await step(announce, there=True))
                    withdrawn.append(await step(withdraw, there=False))
                await step(tables[-1], there=True)
                gap = peers[1].gap
                await asyncio.sleep(options.settle)
                used = processor_time(pid)
                await asyncio.sleep(options.rest)
                rest = (processor_time(pid) - used) / options.rest
                return Run(tuple(learned), tuple(withdrawn), gap, rest, resident(pid))
        finally:
            kernel.close()


def show(results: dict[str, list[Run]], options: Options) -> str:
    """The table, as Markdown: medians."""
    names = list(results)
    lines = [
        f"| | {' | '.join(names)} |" + (" times as much |" if len(names) == 2 else ""),
        f"| --- |{' ---: |' * len(names)}" + (" ---: |" if len(names) == 2 else ""),
    ]
    for title, value_of, text in rows(options):
        values = [statistics.median(map(value_of, results[name])) for name in names]
        row = f"| {title} | {' | '.join(map(text.format, values))} |"
        lines.append(row + (f" {values[1] / values[0]:.1f} |" if len(values) == 2 and values[0] else ""))
    return "\n".join(lines)


@dataclass
class Options(argparse.Namespace):
    """What was asked for."""

    routes: int = 50_000
    next_hops: int = 5000
    sessions: int = 200
    rest: float = 10.0
    settle: float = 3.0
    runs: int = 3
    daemon: str = ""


def parse(arguments: list[str] | None) -> Options:
    """From the command line."""
    parser = argparse.ArgumentParser(
        prog="benchmarks.learn", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--routes", type=int)
    parser.add_argument("--next-hops", type=int, help="of the large loads")
    parser.add_argument("--sessions", type=int)
    parser.add_argument("--rest", type=float, help="seconds at rest")
    parser.add_argument("--settle", type=float, help="seconds between steps")
    parser.add_argument("--runs", type=int)
    parser.add_argument("--daemon", choices=("routed", "bird2"), help="this one alone")
    options = parser.parse_args(arguments, namespace=Options())
    if not 1 <= options.routes <= 100_000 or not 2 <= options.sessions <= 1000:
        parser.error("--routes is 1 to 100000, --sessions 2 to 1000")
    if not 1 <= options.next_hops <= min(options.routes, MOST_NEXT_HOPS):
        parser.error(f"--next-hops is 1 to {MOST_NEXT_HOPS}, and not more than --routes")
    return options


def main(arguments: list[str] | None = None) -> int:
    """Measure and print a table."""
    options = parse(arguments)
    if os.geteuid() != 0:
        print("learn: needs root for network namespaces of its own", file=sys.stderr)
        return 1
    daemons = {"routed": ["routed"], "bird2": ["BIRD 2"]}.get(options.daemon, ["routed", "BIRD 2"])
    if "BIRD 2" in daemons and find_bird() is None:
        print("learn: no BIRD 2 here (Debian's package bird2)", file=sys.stderr)
        daemons.remove("BIRD 2")
    results: dict[str, list[Run]] = {daemon: [] for daemon in daemons}
    for number in range(options.runs):
        for daemon in daemons:
            run = asyncio.run(measure(daemon, options))
            results[daemon].append(run)
            print(f"run {number + 1}, {daemon}: {run}", file=sys.stderr)
    print(show(results, options))
    return 0


if __name__ == "__main__":
    sys.exit(main())

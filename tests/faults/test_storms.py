"""Peers and strangers that do too much, or nothing: whatever one does, the others are served, packets pass,
and what it cost is given back."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from pathlib import Path

import pytest

from tests.faults.conftest import Report
from tests.faults.pair import BLOCKS, WATCHER, Pair, make_pair
from tests.faults.probe import wait_all
from tests.netns import Lab, wait_for
from tests.raw_peer import Options, RawPeer, attributes, message, update
from tests.recorder import Kind
from tests.routed_process import Records, RoutedProcess, configuration, node, peer, pool, routed_run

AS = 64512


def resident(routed: RoutedProcess) -> int:
    """Resident memory of a routed, octets."""
    assert routed.process is not None
    text = Path(f"/proc/{routed.process.pid}/status").read_text()
    (line,) = [line for line in text.splitlines() if line.startswith("VmRSS:")]
    return int(line.split()[1]) * 1024


def descriptors(routed: RoutedProcess) -> int:
    """How many file descriptors a routed has open."""
    assert routed.process is not None
    return len(os.listdir(f"/proc/{routed.process.pid}/fd"))


# --- a peer that does not read

ROUTES = 10_000
#: Prefixes of one UPDATE, and the communities that make each UPDATE large: half a megabyte a round.
PACKED = 10
COMMUNITIES = [(65001, number) for number in range(100)]
#: A peer may be 4 MB behind before it leaves the log; the rounds after that cost nothing.
ROUNDS_TO_LEAVE = 10
ROUNDS = 16


def prefixes() -> list[str]:
    """ROUTES prefixes of a pool."""
    return [f"10.{64 + number // 65536}.{number // 256 % 256}.{number % 256}/32" for number in range(ROUTES)]


def last_as(number: int) -> int:
    """The AS that ends the paths of a round: two rounds by turns, or the attributes alone would fill memory,
    since routed keeps thousands that it has seen."""
    return 65100 + number % 2


def burst(address: str, texts: list[str], number: int) -> bytes:
    """The UPDATEs that announce all prefixes with the attributes of a round, each UPDATE with its own."""
    updates = []
    for start in range(0, len(texts), PACKED):
        as_path = (65001, 1_000_000 + start, last_as(number))
        path = attributes(as_path=as_path, communities=COMMUNITIES)
        updates.append(message(Kind.UPDATE, update(texts[start : start + PACKED], address, path)))
    return b"".join(updates)


@pytest.mark.netns
def test_slow_reader(lab: Lab, report: Report) -> None:
    """A router announces 10,000 routes again and again with other attributes. One peer stops reading. Memory
    does not grow with the rounds that it misses, the other peer gets every round, and the slow one, when it
    reads again, ends with the same table without having been told each round."""
    here = lab.machine("node", "192.0.2.11/24")
    there = lab.machine("peers", *(f"192.0.2.{number}/24" for number in (1, 2, 3)))
    # The kernel would take megabytes off the hands of somebody who does not read.
    for machine in (here, there):
        machine.sysctl({f"ipv4/tcp_{kind}mem": "4096 16384 32768" for kind in ("r", "w")})
    records = Records(lab.directory / "records")
    members = (("feed", "192.0.2.1", 65001), ("quick", "192.0.2.2", AS), ("slow", "192.0.2.3", AS))
    peers = [peer(name, address, asn) for name, address, asn in members]
    records.put("all", [configuration(), node(here), pool("10.64.0.0/10"), *peers])
    routed = routed_run(here, records, "--no-kernel")
    routed.start()
    with contextlib.ExitStack() as stack:
        feed, quick, slow = (
            stack.enter_context(RawPeer(there, Options(asn, address, address=address, end_of_rib=True)))
            for _, address, asn in members
        )
        for one in (feed, quick, slow):
            one.wait_established()
        texts = prefixes()
        bursts = [burst(feed.address, texts, number) for number in range(2)]
        feed.send(bursts[0])
        wait_for(lambda: has_round(quick, 0) and has_round(slow, 0), "the first round", timeout=60)
        slow.read_pause.set()
        sizes = []
        for number in range(1, ROUNDS + 1):
            feed.send(bursts[number % 2])
            wait_for(lambda number=number: has_round(quick, number), f"round {number}", timeout=60)  # type: ignore[misc]
            sizes.append(resident(routed))
        report(f"memory after each round of {ROUTES} routes, MB: {[size // 2**20 for size in sizes]}")
        assert sizes[-1] - sizes[ROUNDS_TO_LEAVE] < 2 * 2**20, "what it will never be told is kept for it"
        assert sizes[-1] - sizes[0] < 32 * 2**20
        assert slow.sessions == 1
        slow.read_pause.clear()
        wait_for(lambda: has_round(slow, ROUNDS), "the slow one catches up", timeout=60)
        assert slow.prefixes() == quick.prefixes() == set(texts)
        told = sum(len(one.announced) for one in slow.updates()) - ROUTES
        report(f"the slow one was told {told} of {ROUNDS * ROUTES} routes once it read again")
        assert told < ROUNDS * ROUTES
        assert slow.sessions == quick.sessions == 1
    assert "Traceback" not in routed.output()


def has_round(listener: RawPeer, number: int) -> bool:
    """Whether the last thing a peer was told of is a round's, and all of it has come."""
    marker = last_as(number).to_bytes(4, "big")
    seen = 0
    for told in reversed(listener.updates()):
        if told.announced:
            if not told.attributes[2].value.endswith(marker):
                break
            seen += len(told.announced)
    return seen >= ROUTES


# --- flaps

FLAPS = 100


@pytest.mark.netns
def test_flap_storm(lab: Lab, report: Report) -> None:
    """A router announces and withdraws 500 routes a hundred times as fast as it can, and loses its session
    twenty times. Packets between pods pass, no other session ends, and the end is what was said last."""
    texts = [f"198.18.{number // 256}.{number % 256}/32" for number in range(500)]
    pair = make_pair(lab)
    there = lab.machine("router", "192.0.2.21/24")
    pair.records.put("router", [peer("router", "192.0.2.21", 65001, node="worker01"), pool("198.18.0.0/15")])
    pair.start()
    with RawPeer(there, Options(65001, "192.0.2.21", remote=pair.machines["worker01"].address(4))) as router:
        router.wait_established()
        probes = pair.probes()
        for _ in range(FLAPS):
            router.announce(*texts, as_path=(65001,))
            router.withdraw(*texts)
        router.announce(*texts[:250], as_path=(65001,))
        pair.watcher.wait_prefixes(have=texts[:250], lack=texts[250:])
        told = sum(len(one.announced) + len(one.withdrawn) for one in pair.watcher.updates())
        report(f"{FLAPS * 1000 + 250} changes were announced, {told} passed on")
        for _ in range(20):
            router.hang_up()
            with contextlib.suppress(OSError):
                router.send(message(Kind.UPDATE, update(texts[:1], router.address)))
        # It is held off for seconds after a session that ended; the others hear of it once.
        pair.watcher.wait_prefixes(lack=texts)
        wait_all(probes)
        finish(pair, probes_counted(probes, report))
    assert pair.watcher.sessions == 1


def probes_counted(probes: list, report: Report) -> list[int]:  # type: ignore[type-arg]
    """Ends the probes; how many packets each lost."""
    counts = [probe.count() for probe in probes]
    for probe, count in zip(probes, counts, strict=True):
        report(f"{probe.name}: {count}")
    return [count.lost for count in counts]


def finish(pair: Pair, lost: list[int]) -> None:
    """Nothing was lost, and all is as it was."""
    assert lost == [0] * len(lost)
    pair.wait_routes()
    pair.check()


# --- strangers

CONNECTIONS = 1000
#: What a bogus connection sends: nothing, noise, a message too long, an OPEN of nobody's, half of one.
BOGUS = (
    b"",
    b"GET / HTTP/1.1\r\nHost: 192.0.2.11\r\n\r\n",
    os.urandom(4096),
    b"\xff" * 16 + struct.pack("!HB", 65535, 1),
    message(Kind.OPEN, struct.pack("!BHH4sB", 4, 64512, 90, bytes((10, 0, 0, 99)), 0)),
    message(Kind.OPEN, struct.pack("!BHH4sB", 4, 64512, 90, bytes((10, 0, 0, 99)), 0))[:25],
    message(Kind.KEEPALIVE) * 50,
)


@pytest.mark.netns
def test_a_thousand_bogus_connections(lab: Lab, report: Report) -> None:
    """From a stranger, and from the address of a peer that is up already: all open at once. The sessions that
    are up stay, one with a hold time of 3 s among them, a new peer gets in, and nothing is left of it."""
    pair = make_pair(lab, Options(AS, WATCHER, hold_time=3, end_of_rib=True))
    stranger = lab.machine("stranger", "192.0.2.99/24")
    pair.start()
    routed = pair.speakers["worker01"]
    target = (pair.machines["worker01"].address(4), 179)
    probes = pair.probes()
    before = descriptors(routed), resident(routed)
    opened: list[socket.socket] = []
    with contextlib.ExitStack() as stack:
        for number in range(CONNECTIONS):
            machine = stranger if number % 2 else pair.watcher.machine
            connection = stack.enter_context(machine.socket())
            connection.setblocking(False)
            opened.append(connection)
            connection.connect_ex(target)
        for number, connection in enumerate(opened):
            with contextlib.suppress(OSError):
                connection.send(BOGUS[number % len(BOGUS)])
        # A newcomer in the middle of it.
        there = lab.machine("router", "192.0.2.21/24")
        pair.records.put("router", [peer("router", "192.0.2.21", 65001, node="worker01")])
        with RawPeer(there, Options(65001, "192.0.2.21", remote=target[0])) as router:
            router.wait_established()
            router.announce("203.0.113.0/24", as_path=(65001,))
            routed.wait_kernel("203.0.113.0/24", {"192.0.2.21"})
            # Longer than the hold time of the watcher: it would have gone.
            wait_all(probes, count=800)
    wait_for(lambda: descriptors(routed) <= before[0] + 5, "the descriptors are given back")
    report(f"memory grew by {(resident(routed) - before[1]) // 1024} KB with {CONNECTIONS} connections")
    assert resident(routed) - before[1] < 32 * 2**20
    assert pair.watcher.sessions == 1
    assert BLOCKS["worker01"][0] in pair.watcher.prefixes()
    finish(pair, probes_counted(probes, report))

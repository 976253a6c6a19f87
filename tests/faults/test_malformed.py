"""Every row of the table of malformed UPDATEs, sent to a live routed while others watch that nothing else is
disturbed (RFC 7606)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from tests.faults.malformed import ADDRESSES, ASNS, INSIDE, IPV6, OUTSIDE, ROWS, TARGETS, Outcome, Row
from tests.netns import Machine, temporary_lab, wait_for
from tests.raw_peer import AS_PATH, LOCAL_PREF, MP_REACH, ORIGIN, Options, RawPeer, decode_update, message
from tests.recorder import Kind
from tests.routed_process import Records, RoutedProcess, configuration, node, peer, pool, routed_run

NODE = {4: "192.0.2.11", 6: "2001:db8::11"}
#: Who watches: a session inside hears what is learned outside, and the other way round.
WATCHERS = {OUTSIDE: "watch-inside", INSIDE: "watch-outside", IPV6: "watch-ipv6"}
WATCHER_ADDRESSES = {"watch-inside": "192.0.2.3", "watch-outside": "192.0.2.4", "watch-ipv6": "2001:db8::4"}
WATCHER_ASNS = {"watch-inside": 64512, "watch-outside": 65003, "watch-ipv6": 64512}
#: Announced by each sender and left in peace; announced last, to know that what was before is done.
WITNESSES = {OUTSIDE: "198.18.1.0/24", INSIDE: "198.19.1.0/24", IPV6: "2001:db8:f1::/48"}
MARKERS = {OUTSIDE: "198.18.3.0/24", INSIDE: "198.19.3.0/24", IPV6: "2001:db8:f3::/48"}


#: Rows that end the session have a sender of their own each: routed holds a peer off for seconds after that.
RESETS = tuple(row.id for row in ROWS if row.outcome is Outcome.RESET)


def sender_address(row: Row) -> str:
    """The address of the sender of a row."""
    if row.id not in RESETS:
        return ADDRESSES[row.sender]
    number = 100 + RESETS.index(row.id)
    return f"2001:db8::{number}" if row.sender == IPV6 else f"192.0.2.{number}"


@dataclass
class Scene:
    """A live routed with its senders and their watchers, all established."""

    routed: RoutedProcess
    peers: dict[str, RawPeer]
    """By address."""

    def sender(self, row: Row) -> RawPeer:
        """Who sends a row."""
        return self.peers[sender_address(row)]

    def watcher(self, row: Row) -> RawPeer:
        """Who sees most of what becomes of it."""
        return self.peers[WATCHER_ADDRESSES[WATCHERS[row.sender]]]

    def everybody(self, row: Row) -> dict[str, RawPeer]:
        """The row's sender and all that no row resets."""
        resets = {sender_address(one) for one in ROWS if one.id in RESETS and one is not row}
        return {address: one for address, one in self.peers.items() if address not in resets}

    def announce(self, row: Row, *prefixes: str) -> None:
        """A sound UPDATE of the row's sender."""
        inside = row.sender == INSIDE
        self.sender(row).announce(
            *prefixes,
            as_path=() if inside else (ASNS[row.sender],),
            local_pref=2147482623 if inside else None,
        )

    def kernel(self, prefix: str) -> bool:
        """Whether the node's kernel has a route to a prefix."""
        return self.routed.kernel_gateways(prefix) is not None


@pytest.fixture(scope="module")
def scene(_no_leftovers: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    directory = tmp_path_factory.mktemp("malformed")
    asns = {sender_address(row): ASNS[row.sender] for row in ROWS}
    asns |= {WATCHER_ADDRESSES[one]: WATCHER_ASNS[one] for one in WATCHER_ADDRESSES}
    with temporary_lab(directory) as lab, ExitStack() as stack:
        here = lab.machine("node", f"{NODE[4]}/24", f"{NODE[6]}/64")
        there = lab.machine("peers", *(f"{one}/{64 if ':' in one else 24}" for one in asns))
        records = Records(directory / "records")
        peers = [peer(f"p{number}", address, asn) for number, (address, asn) in enumerate(asns.items())]
        pools = [pool("198.18.0.0/15"), pool("2001:db8:f0::/44")]
        records.put("all", [configuration(), node(here), *pools, *peers])
        routed = routed_run(here, records)
        routed.start()
        made = {
            address: stack.enter_context(RawPeer(there, _options(there, address, asn)))
            for address, asn in asns.items()
        }
        for one in made.values():
            one.wait_established()
        yield Scene(routed, made)
        assert "Traceback" not in routed.output()
        # The daemon ends first, so that nobody hears of it.
        routed.stop()


def _options(machine: Machine, address: str, asn: int) -> Options:
    version = 6 if ":" in address else 4
    last = int(address.rpartition("." if version == 4 else ":")[2])
    return Options(
        asn=asn,
        router_id=f"10.0.{version}.{last}",
        address=address,
        version=version,
        remote=NODE[version],
        port=0,
    )


@pytest.mark.netns
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_malformed(scene: Scene, row: Row) -> None:
    sender, watcher = scene.sender(row), scene.watcher(row)
    target, witness, marker = TARGETS[row.sender], WITNESSES[row.sender], MARKERS[row.sender]
    mine = {witness, target, marker}
    scene.announce(row, witness, target)
    watcher.wait_prefixes(have=[witness, target])
    everybody = scene.everybody(row)
    sessions = {name: one.sessions for name, one in everybody.items()}
    heard = {name: len(one.messages) for name, one in everybody.items()}

    sender.send(message(Kind.UPDATE, row.body))
    if row.outcome is Outcome.RESET:
        check_reset(row, sender, heard[sender.address])
        watcher.wait_prefixes(lack=mine)
        wanted = set()
    else:
        scene.announce(row, marker)
        watcher.wait_prefixes(have=[marker])
        wanted = {witness, marker} if row.outcome is Outcome.WITHDRAW else mine

    table = {route.prefix: attributes for route, attributes in watcher.table().items()}
    assert table.keys() & mine == wanted
    if target in wanted:
        usual = set(table[marker]) - {MP_REACH}
        assert set(table[target]) - {MP_REACH} == usual | row.passed_on
        for code in {ORIGIN, AS_PATH, LOCAL_PREF} & usual:
            assert table[target][code] == table[marker][code]
    wait_for(
        lambda: all(scene.kernel(prefix) == (prefix in wanted) for prefix in mine), f"{row.id}: the kernel"
    )

    # Nobody else has lost a session, or heard of anything but this sender's routes.
    assert {name: one.sessions for name, one in everybody.items()} == sessions
    for name, one in everybody.items():
        news = one.messages[heard[name] :]
        allowed = {Kind.UPDATE, Kind.KEEPALIVE} if one is not sender else set(Kind)
        assert {message.kind for message in news} <= allowed, name
        updates = [decode_update(message.body) for message in news if message.kind is Kind.UPDATE]
        assert {route.prefix for one in updates for route in one.announced + one.withdrawn} <= mine, name

    if row.outcome is not Outcome.RESET:
        sender.withdraw(*mine)
        watcher.wait_prefixes(lack=mine)


def check_reset(row: Row, sender: RawPeer, heard: int) -> None:
    """The sender gets a NOTIFICATION that says what was wrong, and the connection ends."""

    def notifications() -> list[bytes]:
        return [one.body for one in sender.messages[heard:] if one.kind is Kind.NOTIFICATION]

    (notification,) = wait_for(notifications, f"{row.id}: NOTIFICATION")
    assert (notification[0], notification[1]) == (3, row.subcode), notification.hex()
    wait_for(lambda: not sender.established, f"{row.id}: the connection ends")


@pytest.mark.netns
def test_sessions_that_were_reset_come_back(scene: Scene) -> None:
    scene.routed.wait_established(*scene.peers)

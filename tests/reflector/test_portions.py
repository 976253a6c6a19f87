"""Work that grows with the table is done in portions: groups made on a large one, changed policies."""

from __future__ import annotations

from routed.bgp.attributes import originate
from routed.bgp.export import Exporter
from routed.bgp.groups import ExportGroups, Limits, Member
from routed.bgp.nlri import Family
from routed.bgp.rib import LocRib
from tests.bgp.routes import Receiver, address, nlri, peer
from tests.bgp.test_groups import BORR, EORR, key, send

PREFIXES = [nlri(f"10.1.{number}.0/24") for number in range(100)]
FEEDER = peer(2, client=True)
LIMITS = Limits(build_prefixes=50)


class Table:
    """A Loc-RIB with a hundred prefixes, and groups that are filled in portions."""

    def __init__(self) -> None:
        self.rib = LocRib(Family.IPV4)
        self.groups = ExportGroups(self.rib, lambda group: Exporter(group.target), LIMITS)
        self.announce(1, *PREFIXES)

    def announce(self, version: int, *prefixes: bytes) -> None:
        self.rib.announce(
            FEEDER, originate(next_hop=address(2), local_pref=100, communities=[version]), prefixes
        )
        self.rib.flush()

    def withdraw(self, *prefixes: bytes) -> None:
        self.rib.withdraw(FEEDER, prefixes)
        self.rib.flush()

    def join(self, number: int = 3) -> tuple[Member, Receiver]:
        return self.groups.join(key(client=True), peer(number, client=True)), Receiver(Family.IPV4)


def versions(receiver: Receiver) -> dict[bytes, tuple[int, ...]]:
    return {name: attributes.communities for name, attributes in receiver.table.items()}


def test_a_group_on_a_large_table_is_filled_bit_by_bit() -> None:
    table = Table()
    member, receiver = table.join()
    seen = []
    while table.groups.unbuilt:
        table.groups.build(30)
        send(member, receiver)
        seen.append((len(receiver.table), receiver.ends_of_rib))
    # End-of-RIB is behind the last of them.
    assert seen == [(30, 0), (60, 0), (90, 0), (100, 1)]
    assert [name for name, _ in receiver.heard] == PREFIXES


def test_a_small_table_is_there_at_once() -> None:
    table = Table()
    table.withdraw(*PREFIXES[50:])
    member, receiver = table.join()
    assert table.groups.unbuilt == 0
    send(member, receiver)
    assert (len(receiver.table), receiver.ends_of_rib) == (50, 1)


def test_what_changes_meanwhile() -> None:
    """Prefixes that are filled in already, and prefixes that are not."""
    table = Table()
    member, receiver = table.join()
    table.groups.build(50)
    table.announce(2, PREFIXES[0], PREFIXES[99])
    table.withdraw(PREFIXES[1], PREFIXES[98])
    table.announce(3, nlri("10.2.0.0/16"))
    send(member, receiver)
    assert receiver.ends_of_rib == 0
    table.groups.build(100)
    send(member, receiver)
    wanted = dict.fromkeys(PREFIXES[2:98], (1,))
    wanted |= {PREFIXES[0]: (2,), PREFIXES[99]: (2,), nlri("10.2.0.0/16"): (3,)}
    assert versions(receiver) == wanted
    assert receiver.ends_of_rib == 1


def test_it_waits_for_what_changed_before() -> None:
    """Otherwise it would tell of a state before the other groups do."""
    table = Table()
    member, receiver = table.join()
    table.rib.withdraw(FEEDER, PREFIXES[:10])
    table.groups.build(100)
    assert table.groups.unbuilt == 100
    table.rib.flush()
    table.groups.build(100)
    send(member, receiver)
    assert set(receiver.table) == set(PREFIXES[10:])


def test_others_join_and_leave_meanwhile() -> None:
    table = Table()
    first, one = table.join(3)
    table.groups.build(40)
    second, two = table.join(4)
    table.groups.build(40)
    send(second, two)
    assert (len(two.table), two.ends_of_rib) == (80, 0)
    table.groups.leave(first)
    table.groups.build(40)
    send(second, two)
    assert (len(two.table), two.ends_of_rib) == (100, 1)
    assert not first.has_output
    assert not send(first, one)


def test_the_last_one_leaves_meanwhile() -> None:
    table = Table()
    first, _ = table.join(3)
    table.groups.build(40)
    table.groups.leave(first)
    assert table.groups.unbuilt == 0
    table.groups.build(40)
    second, two = table.join(3)
    table.groups.build(100)
    send(second, two)
    assert (len(two.table), two.ends_of_rib) == (100, 1)


def test_a_refresh_meanwhile_is_of_the_whole_table() -> None:
    """What is not between the marks the peer drops (RFC 7313 section 4)."""
    table = Table()
    member, receiver = table.join()
    table.groups.build(40)
    send(member, receiver)
    table.groups.resend(member, BORR, EORR)
    send(member, receiver)
    assert table.groups.unbuilt == 0
    assert set(receiver.table) == set(PREFIXES)
    assert receiver.ends_of_rib == 1


def test_a_move_between_two_that_are_being_filled() -> None:
    table = Table()
    member, receiver = table.join()
    table.groups.build(40)
    send(member, receiver)
    other = key(client=True, max_message=65535)
    table.groups.move(member, other)
    send(member, receiver)
    assert table.groups.unbuilt == 0
    assert set(receiver.table) == set(PREFIXES)
    assert not [name for name, told in receiver.heard if told is None], "nothing was withdrawn on the way"


def test_a_changed_policy_goes_out_in_portions() -> None:
    table = Table()
    member, receiver = table.join()
    table.groups.build(100)
    send(member, receiver)
    table.groups.refresh()
    assert table.rib.changes_pending == 100
    assert table.rib.flush(30) == 70
    assert not send(member, receiver), "the same exporter says the same"

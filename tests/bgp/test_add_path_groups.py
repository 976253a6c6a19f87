"""Export groups with path identifiers (RFC 7911): what is sent, under which identifier, in which order."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from routed.bgp.attributes import AttributeSet, originate
from routed.bgp.export import Exporter, ExportTarget
from routed.bgp.groups import ExportGroups, GroupKey
from routed.bgp.nlri import Family
from routed.bgp.path import Source, SourceKind
from routed.bgp.policy import compile_export
from routed.bgp.rib import LocRib
from routed.intent.types import ExportPolicy
from tests.bgp.routes import LOCAL_AS, OUR_ADDRESS, ROUTER, Receiver, address, local, nlri, peer
from tests.bgp.test_groups import send

P, Q = nlri("10.1.0.0/24"), nlri("10.2.0.0/16")


def key(paths: int, kind: SourceKind = SourceKind.IBGP) -> GroupKey:
    target = ExportTarget(Family.IPV4, kind, LOCAL_AS, OUR_ADDRESS, ROUTER, client=kind is SourceKind.IBGP)
    return GroupKey(target, add_path=paths)


class Reflector:
    """Clients 2 and up that announce, and one reader with ADD-PATH."""

    def __init__(self, paths: int = 10, policy: ExportPolicy | None = None) -> None:
        self.rib = LocRib(Family.IPV4)
        self.policy = policy
        self.groups = ExportGroups(self.rib, self.exporter)
        self.clients = {number: peer(number, client=True) for number in range(2, 10)}
        self.reader = peer(99, client=True)
        self.member = self.groups.join(key(paths), self.reader)
        self.receiver = Receiver(Family.IPV4, add_path=True)
        self.hear()

    def exporter(self, group_key: GroupKey) -> Exporter:
        if self.policy is None:
            return Exporter(group_key.target)
        return Exporter(group_key.target, compile_export(self.policy, Family.IPV4, ibgp=True))

    def announce(self, number: int, *prefixes: bytes, local_pref: int = 100) -> None:
        attributes = originate(next_hop=address(number), local_pref=local_pref)
        self.rib.update(self.clients[number], [(attributes, prefixes)])

    def withdraw(self, number: int, *prefixes: bytes) -> None:
        self.rib.update(self.clients[number], withdrawn=prefixes)

    def hear(self) -> list[tuple[bytes, int, int | None]]:
        """What the reader hears now: prefix, identifier, and whose path it is; None for a withdrawal."""
        self.rib.flush()
        before = len(self.receiver.heard)
        send(self.member, self.receiver)
        return [
            (name[4:], int.from_bytes(name[:4]), None if attributes is None else origin(attributes))
            for name, attributes in self.receiver.heard[before:]
        ]


def origin(attributes: AttributeSet) -> int:
    assert attributes.next_hop[:3] == bytes((10, 0, 0))
    return attributes.next_hop[3]


def test_every_path_of_a_prefix_has_an_identifier_of_its_own() -> None:
    reflector = Reflector()
    for number in (4, 3, 2):
        reflector.announce(number, P)
    assert reflector.hear() == [(P, 1, 2), (P, 2, 3), (P, 3, 4)]
    reflector.announce(5, P, Q)
    assert reflector.hear() == [(P, 4, 5), (Q, 1, 5)]
    reflector.withdraw(3, P)
    assert reflector.hear() == [(P, 2, None)]
    reflector.announce(3, P, local_pref=200)
    assert reflector.hear() == [(P, 2, 3)], "the smallest that is free, whatever the rank"


def test_changed_attributes_keep_the_identifier_and_other_paths_are_not_sent_again() -> None:
    reflector = Reflector()
    for number in (2, 3):
        reflector.announce(number, P)
    reflector.hear()
    reflector.announce(2, P, local_pref=50)
    assert reflector.hear() == [(P, 1, 2)]
    reflector.announce(3, P, local_pref=40)
    reflector.announce(2, P, local_pref=60)
    assert sorted(reflector.hear()) == [(P, 1, 2), (P, 2, 3)]
    reflector.announce(3, P, local_pref=40)
    assert reflector.hear() == []


def test_a_new_path_is_there_before_the_old_one_goes() -> None:
    reflector = Reflector()
    reflector.announce(2, P)
    reflector.hear()
    reflector.withdraw(2, P)
    reflector.announce(3, P)
    assert reflector.hear() == [(P, 2, 3), (P, 1, None)]
    reflector.announce(2, P)
    reflector.withdraw(3, P)
    assert reflector.hear() == [(P, 1, 2), (P, 2, None)]


def test_no_more_paths_than_agreed_and_the_best_ones() -> None:
    reflector = Reflector(paths=2)
    for number in (2, 3, 4):
        reflector.announce(number, P)
    assert reflector.hear() == [(P, 1, 2), (P, 2, 3)]
    reflector.announce(5, P, local_pref=200)
    assert reflector.hear() == [(P, 3, 5), (P, 2, None)]
    reflector.withdraw(2, P)
    assert reflector.hear() == [(P, 2, 3), (P, 1, None)]
    reflector.withdraw(3, P)
    reflector.withdraw(5, P)
    assert reflector.hear() == [(P, 1, 4), (P, 2, None), (P, 3, None)]
    reflector.withdraw(4, P)
    assert reflector.hear() == [(P, 1, None)]
    assert not reflector.receiver.table


def test_the_reader_does_not_get_its_own_path_back() -> None:
    reflector = Reflector(paths=2)
    reflector.rib.update(reflector.reader, [(originate(next_hop=address(99), local_pref=300), [P])])
    reflector.announce(2, P)
    reflector.announce(3, P)
    assert reflector.hear() == [(P, 2, 2)], "its own is one of the two"


def test_equal_paths_of_one_source_are_sent_once() -> None:
    reflector = Reflector()
    source = peer(7, client=True, add_path=True)
    same = originate(next_hop=address(7), local_pref=100)
    reflector.rib.update(source, [(same, [b"\0\0\0\1" + P, b"\0\0\0\2" + P])])
    assert reflector.hear() == [(P, 1, 7)]
    reflector.rib.update(source, withdrawn=[b"\0\0\0\1" + P])
    assert reflector.hear() == []
    other = originate(next_hop=address(8), local_pref=100)
    reflector.rib.update(source, [(other, [b"\0\0\0\1" + P])])
    assert reflector.hear() == [(P, 2, 8)]


def test_a_path_that_stands_for_want_of_another_is_not_sent_beside_one() -> None:
    reflector = Reflector()
    allocated = local(SourceKind.ALLOCATED)
    reflector.rib.insert(allocated.path(originate(next_hop=bytes(4))), [P])
    assert reflector.hear() == [(P, 1, OUR_ADDRESS[3])]
    reflector.announce(2, P)
    assert reflector.hear() == [(P, 2, 2), (P, 1, None)]
    reflector.withdraw(2, P)
    assert reflector.hear() == [(P, 1, OUR_ADDRESS[3]), (P, 2, None)]


def test_a_path_that_may_not_go_there_does_not_hide_those_that_may() -> None:
    """Without ADD-PATH the best path alone counts."""
    reflector = Reflector(paths=1)
    non_client, other = peer(50), peer(51)
    member = reflector.groups.join(
        GroupKey(ExportTarget(Family.IPV4, SourceKind.IBGP, LOCAL_AS, OUR_ADDRESS, ROUTER), add_path=1), other
    )
    receiver = Receiver(Family.IPV4, add_path=True)
    reflector.rib.update(non_client, [(originate(next_hop=address(50), local_pref=300), [P])])
    reflector.announce(2, P)
    reflector.rib.flush()
    send(member, receiver)
    assert [origin(attributes) for attributes in receiver.table.values()] == [2]
    assert reflector.hear() == [(P, 1, 50)]


@pytest.mark.parametrize("others", [0, 1])
def test_the_policy_judges_each_path(others: int) -> None:
    reflector = Reflector(policy=ExportPolicy(accepted=(ip_network("10.1.0.0/16"),)))
    for number in range(2, 3 + others):
        reflector.announce(number, P, Q)
    assert reflector.hear() == [(P, number - 1, number) for number in range(2, 3 + others)]
    reflector.policy = ExportPolicy(accepted=(ip_network("10.2.0.0/16"),))
    reflector.groups.refresh()
    reflector.rib.flush()
    assert sorted(reflector.hear()) == sorted(
        [(P, number - 1, None) for number in range(2, 3 + others)]
        + [(Q, number - 1, number) for number in range(2, 3 + others)]
    )
    assert next(iter(reflector.groups.groups.values())).prefixes() == {Q}


def test_peers_without_are_told_of_the_best_path_only() -> None:
    reflector = Reflector()
    plain = Source("plain", SourceKind.IBGP, ROUTER, address=address(98), client=True, local_as=LOCAL_AS)
    member, receiver = reflector.groups.join(key(0), plain), Receiver(Family.IPV4)
    for number in (2, 3):
        reflector.announce(number, P)
    reflector.hear()
    send(member, receiver)
    assert [(one, origin(attributes)) for one, attributes in receiver.table.items()] == [(P, 2)]
    assert [group.prefixes() for group in reflector.groups.groups.values()] == [{P}, {P}]

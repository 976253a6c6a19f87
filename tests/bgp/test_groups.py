"""Export groups against a plain model: one Adj-RIB-Out a peer as a dict, nothing shared.

The state machine lets routes come and go, peers join, leave, lag, move and ask again, in any order and with
octets sent in any pieces, and looks at the octets that each peer really got. Some peers send path
identifiers, some get them (RFC 7911).
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import replace
from ipaddress import ip_network
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from benchmarks import groups as benchmark
from routed.bgp.adj_out import Advert
from routed.bgp.attributes import AttributeSet, originate
from routed.bgp.export import Exporter, ExportTarget
from routed.bgp.groups import ExportGroups, Group, GroupKey, Limits, Member
from routed.bgp.log import Segment
from routed.bgp.nlri import Family
from routed.bgp.path import Router, Source, SourceKind
from routed.bgp.policy import compile_export
from routed.bgp.rib import LocRib
from routed.bgp.update import encode_announcements
from routed.intent.types import ExportPolicy
from tests.bgp.routes import LOCAL_AS, OUR_ADDRESS, ROUTER, Receiver, address, local, nlri, peer

KEEPALIVE = b"\xff" * 16 + b"\0\x13\4"
BORR, EORR = (b"\xff" * 16 + b"\0\x17\5\0\1" + bytes((kind, 1)) for kind in (1, 2))


def key(
    kind: SourceKind = SourceKind.IBGP,
    *,
    client: bool = False,
    router: Router = ROUTER,
    max_message: int = 4096,
    add_path: int = 0,
) -> GroupKey:
    target = ExportTarget(Family.IPV4, kind, LOCAL_AS, OUR_ADDRESS, router, client=client)
    return GroupKey(target, max_message_octets=max_message, add_path=add_path)


def accept_all(group_key: GroupKey) -> Exporter:
    return Exporter(group_key.target)


def send(member: Member, receiver: Receiver, octets: int | None = None, budget: int = 1 << 20) -> int:
    """Give the receiver at most so many octets, as a socket would."""
    sent = 0
    while octets is None or sent < octets:
        buffers = member.collect(budget)
        if not buffers:
            break
        data = b"".join(buffers)
        if octets is not None:
            data = data[: octets - sent]
        receiver.receive(data)
        member.advance(len(data))
        sent += len(data)
    return sent


# The model: what each peer is to hold, worked out for that peer alone.

CLIENTS, NON_CLIENTS, EXTERNAL = range(2, 5), range(5, 7), range(7, 10)
EXTERNAL_AS = 65000
CLUSTER_IDS = (b"\x0a\0\0\x63", b"\x0a\0\0\x64")
PEERS = [*CLIENTS, *NON_CLIENTS, *EXTERNAL]
PREFIXES = [nlri("10.1.0.0/24"), nlri("10.1.1.0/26"), nlri("10.1.2.3/32"), nlri("10.2.0.0/16")]

Announcement = tuple[int, int]
"""LOCAL_PREF, and a version. Most announcements have one of their own; some share it, so that what leaves
for an external peer can be the same from two sources."""


PathName = tuple[int, int]
"""The peer, and its path identifier; 0 where it sends none."""
Paths = dict[PathName, Announcement]
View = tuple[object, ...]
"""The values of the attributes that a reader gets."""


def model_ranked(paths: Paths) -> list[PathName]:
    """Best first: internal LOCAL_PREF, an external path has 100; AS_PATH; lowest ID; lowest identifier."""

    def rank(name: PathName) -> tuple[int, bool, PathName]:
        external = name[0] in EXTERNAL
        return (-(100 if external else paths[name][0]), external, name)

    return sorted(paths, key=rank)


def model_of_path(number: int, announcement: Announcement, reader: int, cluster_id: bytes) -> View | None:
    """What becomes of a path of another peer on its way to the reader: None where it does not go there."""
    local_pref, version = announcement
    if reader in EXTERNAL:
        as_path = (LOCAL_AS, EXTERNAL_AS) if number in EXTERNAL else (LOCAL_AS,)
        return (OUR_ADDRESS, as_path, None, version, None, ())
    if number in EXTERNAL:
        return (address(number), (EXTERNAL_AS,), 100, version, None, ())
    if number in NON_CLIENTS and reader in NON_CLIENTS:
        return None
    return (address(number), (), local_pref, version, address(number), (cluster_id,))


def model_views(paths: Paths, reader: int, cluster_id: bytes, add_path: int) -> list[View]:
    """What the reader is told of a prefix: the best path only, or with ADD-PATH at most so many."""
    views: dict[tuple[int, View], None] = {}
    for name in model_ranked(paths):
        view = model_of_path(name[0], paths[name], reader, cluster_id)
        if view is not None:
            views[name[0], view] = None
        if not add_path or len(views) == add_path:
            break
    return [view for number, view in views if number != reader]


def seen(attributes: AttributeSet) -> View:
    """Received attributes as `model_views` has them."""
    return (
        attributes.next_hop,
        tuple(asn for segment in attributes.as_path for asn in segment.asns),
        attributes.local_pref,
        attributes.communities[0],
        attributes.originator_id,
        attributes.cluster_list,
    )


some_prefixes = st.lists(st.sampled_from(PREFIXES), min_size=1, max_size=3, unique=True)
some_peer = st.sampled_from(PEERS)
any_member = precondition(lambda self: bool(self.members))


class Groups(RuleBasedStateMachine):
    """Segments, budgets and limits are tiny, so that each is passed again and again."""

    def __init__(self) -> None:
        super().__init__()
        self.rib = LocRib(Family.IPV4)
        self.version = 0
        self.sources: dict[int, Source] = {}
        self.adj_in: dict[int, dict[tuple[int, bytes], Announcement]] = {number: {} for number in PEERS}
        self.members: dict[int, Member] = {}
        self.receivers: dict[int, Receiver] = {}
        self.checked: dict[int, int] = {}
        self.history: dict[bytes, list[Paths]] = {prefix: [{}] for prefix in PREFIXES}
        self.place: dict[tuple[int, bytes], int] = {}
        self.cluster_id = dict.fromkeys(PEERS, CLUSTER_IDS[0])
        self.adverts: dict[Group, dict[bytes, Advert]] = {}

    @initialize(
        lag=st.sampled_from([60, 300, 2000]),
        segment=st.sampled_from([64, 200, 1000]),
        snapshot=st.sampled_from([0, 100, 5000]),
        catch_up=st.sampled_from([1, 3, 100]),
        joined=st.sets(some_peer),
        receive=st.sets(some_peer),
        send=st.sets(some_peer),
        paths=st.sampled_from([1, 2, 3, 10]),
        build=st.sampled_from([0, 1, 100]),
    )
    def begin(
        self,
        lag: int,
        segment: int,
        snapshot: int,
        catch_up: int,
        joined: set[int],
        receive: set[int],
        send: set[int],
        paths: int,
        build: int,
    ) -> None:
        self.sources = {
            number: peer(
                number,
                SourceKind.EBGP if number in EXTERNAL else SourceKind.IBGP,
                client=number in CLIENTS,
                add_path=number in receive,
            )
            for number in PEERS
        }
        self.add_path = {number: paths if number in send else 0 for number in PEERS}
        self.rib.subscribe(self.on_changes)
        self.groups = ExportGroups(self.rib, accept_all, Limits(lag, snapshot, catch_up, segment, build))
        for number in sorted(joined):
            self.join(number)

    def some_member(self, data: st.DataObject) -> int:
        return data.draw(st.sampled_from(sorted(self.members)), "peer")

    def keys(self, number: int, path_id: int, prefixes: list[bytes]) -> dict[tuple[int, bytes], bytes]:
        """What a peer calls its routes, on the wire."""
        if self.sources[number].add_path:
            return {(path_id, one): path_id.to_bytes(4) + one for one in prefixes}
        return {(0, one): one for one in prefixes}

    @any_member
    @rule(
        data=st.data(),
        prefixes=some_prefixes,
        path_id=st.integers(0, 2),
        local_pref=st.sampled_from([50, 100, 200]),
        own_version=st.booleans(),
        at_once=st.booleans(),
    )
    def announce(
        self,
        data: st.DataObject,
        prefixes: list[bytes],
        path_id: int,
        local_pref: int,
        own_version: bool,
        at_once: bool,
    ) -> None:
        number = self.some_member(data)
        keys = self.keys(number, path_id, prefixes)
        self.version += 1
        version = self.version if own_version else 0
        external = number in EXTERNAL
        attributes = originate(
            next_hop=address(number), local_pref=None if external else local_pref, communities=[version]
        )
        if external:
            attributes = attributes.prepend_as(EXTERNAL_AS)
        self.rib.update(self.sources[number], [(attributes, list(keys.values()))])
        self.adj_in[number].update(dict.fromkeys(keys, (local_pref, version)))
        if at_once:
            self.flush(None)

    @any_member
    @rule(data=st.data(), prefixes=some_prefixes, path_id=st.integers(0, 2), at_once=st.booleans())
    def withdraw(self, data: st.DataObject, prefixes: list[bytes], path_id: int, at_once: bool) -> None:
        number = self.some_member(data)
        keys = self.keys(number, path_id, prefixes)
        self.rib.update(self.sources[number], (), list(keys.values()))
        for key in keys:
            self.adj_in[number].pop(key, None)
        if at_once:
            self.flush(None)

    @rule(limit=st.sampled_from([None, None, 1, 3]))
    def flush(self, limit: int | None) -> None:
        self.rib.flush(limit)

    @rule(limit=st.sampled_from([1, 2, 100]))
    def build(self, limit: int) -> None:
        """Groups that were made not long ago are filled."""
        self.groups.build(limit)

    def on_changes(self, prefixes: Sequence[bytes]) -> None:
        for one in prefixes:
            self.history[one].append(self.paths(one))

    def paths(self, prefix: bytes) -> Paths:
        return {
            (number, path_id): announcement
            for number, routes in self.adj_in.items()
            for (path_id, one), announcement in routes.items()
            if one == prefix
        }

    @rule(number=some_peer)
    def join(self, number: int) -> None:
        if number in self.members:
            return
        self.members[number] = self.groups.join(self.key(number), self.sources[number])
        self.receivers[number] = Receiver(
            Family.IPV4, ibgp=number not in EXTERNAL, add_path=self.add_path[number] > 0
        )
        self.checked[number] = 0
        self.place = {known: place for known, place in self.place.items() if known[0] != number}

    def key(self, number: int) -> GroupKey:
        router = replace(ROUTER, cluster_id=self.cluster_id[number])
        kind = self.sources[number].kind
        return key(kind, client=number in CLIENTS, router=router, add_path=self.add_path[number])

    @any_member
    @rule(data=st.data())
    def move(self, data: st.DataObject) -> None:
        """The export rules of a peer change while its session is up."""
        number = self.some_member(data)
        self.cluster_id[number] = CLUSTER_IDS[self.cluster_id[number] == CLUSTER_IDS[0]]
        member = self.members[number]
        assert self.groups.move(member, self.key(number)) is member
        assert member.group.key == self.key(number)

    @any_member
    @rule(data=st.data(), keep=st.booleans(), back=st.booleans())
    def leave(self, data: st.DataObject, keep: bool, back: bool) -> None:
        """The session goes down. With `keep` its routes stay, as in a graceful restart."""
        number = self.some_member(data)
        member = self.members.pop(number)
        self.groups.leave(member)
        assert not member.has_output
        assert not member.collect(1000)
        del self.receivers[number]
        if not keep:
            self.rib.drop(self.sources[number])
            self.adj_in[number].clear()
        if back:
            self.join(number)

    @any_member
    @rule(data=st.data(), octets=st.integers(1, 300), budget=st.sampled_from([1, 100, 10000]))
    def send_some(self, data: st.DataObject, octets: int, budget: int) -> None:
        number = self.some_member(data)
        send(self.members[number], self.receivers[number], octets, budget)
        self.check_boundary(number)

    @any_member
    @rule(data=st.data())
    def send_all(self, data: st.DataObject) -> None:
        number = self.some_member(data)
        send(self.members[number], self.receivers[number])

    @any_member
    @rule(data=st.data())
    def keepalive(self, data: st.DataObject) -> None:
        """A control message goes out at the next message boundary."""
        number = self.some_member(data)
        member, receiver = self.members[number], self.receivers[number]
        rest = b"".join(member.collect_to_boundary())
        assert bool(rest) is not member.at_message_boundary
        member.advance(len(rest))
        receiver.receive(rest)
        assert member.at_message_boundary
        assert not receiver.inside_message
        receiver.receive(KEEPALIVE)

    @any_member
    @rule(data=st.data(), markers=st.booleans())
    def refresh(self, data: st.DataObject, markers: bool) -> None:
        number = self.some_member(data)
        self.groups.resend(self.members[number], *((BORR, EORR) if markers else ()))

    @rule()
    def release_snapshots(self) -> None:
        self.groups.release_snapshots()

    def check_boundary(self, number: int) -> None:
        member, receiver = self.members[number], self.receivers[number]
        assert member.at_message_boundary is not receiver.inside_message
        rest = member.collect_to_boundary()
        if receiver.inside_message and len(receiver._rest) >= 19:
            assert sum(map(len, rest)) == receiver.missing

    @invariant()
    def nothing_wrong_was_said(self) -> None:
        """No route went back to its source; states came in the order they had, none after a newer one."""
        for number, receiver in self.receivers.items():
            add_path = self.add_path[number]
            for name, attributes in receiver.heard[self.checked[number] :]:
                if attributes is None and add_path:
                    continue  # the others say what is there; what is gone, the end says
                prefix = name[4:] if add_path else name
                view = None if attributes is None else seen(attributes)
                clusters = self.cluster_id[number]
                if attributes is not None and view is not None:
                    assert view[0] != address(number), "a route went back to its source"
                    assert view[4] != address(number), "a route went back to its originator"
                    # What was on its way when the peer was moved still has the other cluster ID.
                    assert view[5] in ((), *((one,) for one in CLUSTER_IDS))
                    clusters = attributes.cluster_list[0] if attributes.cluster_list else clusters
                states = self.history[prefix]
                place = self.place.get((number, name), 0)
                while place < len(states):
                    views = model_views(states[place], number, clusters, add_path)
                    if view in views if view is not None else not views:
                        break
                    place += 1
                assert place < len(states), f"{name!r} was never so, or not after what was said before"
                self.place[number, name] = place
            self.checked[number] = len(receiver.heard)

    @invariant()
    def what_stays_keeps_its_identifier(self) -> None:
        """And none goes from one source to another at once."""
        if not hasattr(self, "groups"):
            return
        groups = list(self.groups.groups.values())
        for group in groups:
            before = self.adverts.get(group, {}) if group.key.add_path else {}
            now = group.adj_out
            for name in before.keys() & now.keys():
                assert before[name][1] is now[name][1]
            stayed = {(name[4:], advert) for name, advert in now.items()}
            for name, advert in before.items():
                assert (name[4:], advert) not in stayed or now.get(name) == advert
            if group.key.add_path:
                assert len(stayed) == len(now), "an advert is there twice"
        self.adverts = {group: dict(group.adj_out) for group in groups}

    def teardown(self) -> None:
        if not hasattr(self, "groups"):
            return
        self.flush(None)
        self.build(100)
        for number, member in self.members.items():
            receiver = self.receivers[number]
            send(member, receiver)
            assert not receiver.inside_message
            assert not member.lagging
            assert member.octets_behind == 0
            assert receiver.ends_of_rib == 1
            add_path = self.add_path[number]
            told: dict[bytes, list[View]] = {prefix: [] for prefix in PREFIXES}
            for name, attributes in receiver.table.items():
                told[name[4:] if add_path else name].append(seen(attributes))
            for prefix in PREFIXES:
                views = model_views(self.paths(prefix), number, self.cluster_id[number], add_path)
                assert sorted(told[prefix], key=repr) == sorted(views, key=repr)
        self.nothing_wrong_was_said()


Groups.TestCase.settings = settings(max_examples=200, stateful_step_count=50, deadline=None)
TestGroups = Groups.TestCase


# What the model cannot see: who shares what, and what is let go.

AS_KEY = key(client=True)


class Reflector:
    """A Loc-RIB and its groups, with some clients as members that have read all there is."""

    def __init__(self, clients: int, limits: Limits | None = None) -> None:
        self.rib = LocRib(Family.IPV4)
        self.groups = ExportGroups(self.rib, accept_all, limits or Limits())
        self.sources = [peer(number, client=True) for number in range(2, clients + 2)]
        self.members = [self.groups.join(AS_KEY, source) for source in self.sources]
        self.receivers = [Receiver(Family.IPV4) for _ in self.sources]
        self.drain()

    @property
    def group(self) -> Group:
        return self.groups.groups[AS_KEY]

    def announce(self, number: int, *prefixes: bytes, med: int | None = None) -> None:
        attributes = originate(next_hop=address(number + 2), local_pref=100, med=med)
        self.rib.update(self.sources[number], [(attributes, prefixes)])
        self.rib.flush()

    def drain(self, *numbers: int) -> None:
        for number in numbers or range(len(self.members)):
            send(self.members[number], self.receivers[number])


def count_encodings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of NLRI of each call to the encoder of announcements from now on."""
    calls: list[int] = []

    def counting(
        family: Family, attributes: AttributeSet, nlri: Sequence[bytes], **options: Any
    ) -> list[bytes]:
        calls.append(len(nlri))
        return encode_announcements(family, attributes, nlri, **options)

    monkeypatch.setattr("routed.bgp.group.encode_announcements", counting)
    return calls


def test_a_route_is_encoded_once_and_all_read_the_same_octets(monkeypatch: pytest.MonkeyPatch) -> None:
    reflector = Reflector(50)
    calls = count_encodings(monkeypatch)
    for number in range(50):
        reflector.announce(number, nlri(f"10.1.{number}.0/24"), nlri(f"10.2.{number}.0/24"))
    assert calls == [2] * 50
    collected = [member.collect(1 << 20) for member in reflector.members]
    memory = {id(buffer.obj) for buffers in collected for buffer in buffers if isinstance(buffer, memoryview)}
    assert (
        len(memory) == len({id(buffer.obj) for buffer in collected[0] if isinstance(buffer, memoryview)}) == 1
    )
    # One's own slice is left out of the middle; before the first and after the last there is but one piece.
    assert [len(buffers) for buffers in collected] == [1, *[2] * 48, 1]


def test_routes_are_packed_by_attributes() -> None:
    reflector = Reflector(2)
    prefixes = [nlri(f"10.{high}.{low}.0/24") for high in range(8) for low in range(250)]
    reflector.announce(0, *prefixes)
    reflector.drain()
    receiver = reflector.receivers[1]
    assert set(receiver.table) == set(prefixes)
    assert receiver.messages - receiver.ends_of_rib == 2
    reflector.rib.drop(reflector.sources[0])
    reflector.rib.flush()
    reflector.drain()
    assert not receiver.table
    assert receiver.messages - receiver.ends_of_rib == 4


def test_routes_of_one_flush_with_equal_attributes_from_one_source_go_together() -> None:
    """Attributes that differ only in what does not leave are the same to the group."""
    rib = LocRib(Family.IPV4)
    groups = ExportGroups(rib, accept_all)
    reader = peer(3, SourceKind.EBGP)
    member = groups.join(key(SourceKind.EBGP), reader)
    receiver = Receiver(Family.IPV4, ibgp=False)
    for med in range(10):
        attributes = originate(next_hop=address(2), local_pref=100, med=med)
        rib.update(
            peer(2) if med == 0 else next(iter(rib.sources)), [(attributes, [nlri(f"10.1.{med}.0/24")])]
        )
    rib.flush()
    send(member, receiver)
    assert len(receiver.table) == 10
    assert receiver.messages - receiver.ends_of_rib == 1


def test_an_unchanged_route_is_not_sent_again() -> None:
    reflector = Reflector(2)
    reflector.announce(0, PREFIXES[0], med=1)
    reflector.drain()
    heard = list(reflector.receivers[1].heard)
    reflector.announce(0, PREFIXES[0], med=1)
    reflector.announce(0, PREFIXES[0], med=2)
    assert reflector.members[1].has_output
    reflector.drain()
    assert len(reflector.receivers[1].heard) == len(heard) + 1
    # Changed and changed back before the loop turns: nothing to say.
    for med in (3, 2):
        attributes = originate(next_hop=address(2), local_pref=100, med=med)
        reflector.rib.update(reflector.sources[0], [(attributes, [PREFIXES[0]])])
    reflector.rib.flush()
    assert not reflector.members[1].has_output


def test_those_who_join_together_read_one_snapshot(monkeypatch: pytest.MonkeyPatch) -> None:
    reflector = Reflector(3)
    for number in range(3):
        reflector.announce(number, *(nlri(f"10.{number}.{low}.0/24") for low in range(200)))
    reflector.groups.release_snapshots()
    reflector.groups.release_snapshots()
    calls = count_encodings(monkeypatch)
    late = [peer(number, client=True) for number in range(100, 150)]
    members = [reflector.groups.join(AS_KEY, source) for source in late]
    assert calls == [200] * 3
    # The table changes before they read, and between two that join.
    reflector.announce(0, nlri("172.20.0.0/16"))
    members.append(reflector.groups.join(AS_KEY, peer(200, client=True)))
    assert calls == [200] * 3 + [1]
    for member in members:
        receiver = Receiver(Family.IPV4)
        send(member, receiver)
        assert len(receiver.table) == 601
        assert receiver.ends_of_rib == 1


def test_end_of_rib_comes_after_the_table_and_before_what_is_new() -> None:
    reflector = Reflector(1)
    reflector.announce(0, PREFIXES[0])
    member = reflector.groups.join(AS_KEY, peer(9, client=True))
    reflector.announce(0, PREFIXES[1])
    receiver = Receiver(Family.IPV4)
    order: list[str] = []
    while buffers := member.collect(1):
        before = len(receiver.heard), receiver.ends_of_rib
        receiver.receive(b"".join(buffers))
        member.advance(sum(map(len, buffers)))
        order += ["route"] * (len(receiver.heard) - before[0]) + ["end"] * (receiver.ends_of_rib - before[1])
    assert order == ["route", "end", "route"]


def test_end_of_rib_can_be_put_off() -> None:
    reflector = Reflector(1)
    member = reflector.groups.join(AS_KEY, peer(9, client=True), end_of_rib=False)
    receiver = Receiver(Family.IPV4)
    reflector.announce(0, PREFIXES[0])
    send(member, receiver)
    assert (len(receiver.table), receiver.ends_of_rib) == (1, 0)
    member.send_end_of_rib()
    send(member, receiver)
    assert receiver.ends_of_rib == 1


def test_a_source_that_was_told_something_alone_since_the_snapshot_gets_a_new_one() -> None:
    """Its routes outlive its session, as in a graceful restart. Read from the old snapshot on, the route that
    its own took the place of would stay with it for ever."""
    reflector = Reflector(2, Limits(snapshot_octets=1 << 20))
    reflector.announce(1, PREFIXES[0])
    restarting = peer(9, client=True)
    first = reflector.groups.join(AS_KEY, restarting)
    better = originate(next_hop=address(9), local_pref=200)
    reflector.rib.update(restarting, [(better, [PREFIXES[0]])])
    reflector.rib.flush()
    reflector.groups.leave(first)
    receiver = Receiver(Family.IPV4)
    send(reflector.groups.join(AS_KEY, restarting), receiver)
    assert receiver.table == {}


def test_route_refresh_after_something_was_told_to_that_peer_alone() -> None:
    """The log has not moved since the snapshot was taken, and the snapshot is old all the same: the route
    that the peer's own took the place of is in it."""
    reflector = Reflector(1, Limits(snapshot_octets=0))
    one, other = peer(8, SourceKind.EBGP), peer(7, SourceKind.EBGP)
    external = key(SourceKind.EBGP)
    reflector.groups.join(external, one)
    same = originate(next_hop=address(8)).prepend_as(EXTERNAL_AS)
    reflector.rib.update(one, [(same, [PREFIXES[0]])])
    reflector.rib.flush()
    member, receiver = reflector.groups.join(external, other), Receiver(Family.IPV4, ibgp=False)
    reflector.rib.update(other, [(same, [PREFIXES[0]])])
    reflector.rib.flush()
    member.resend()
    send(member, receiver)
    assert receiver.table == {}


def segments(member: Member) -> list[Segment]:
    """The part of the log that a member holds."""
    found = []
    segment = member._segment
    while segment is not None:
        found.append(segment)
        segment = segment.next
    return found


def test_what_all_have_read_is_freed() -> None:
    reflector = Reflector(3, Limits(segment_octets=256, snapshot_octets=0))
    first = weakref.ref(segments(reflector.members[0])[0])
    for number in range(50):
        reflector.announce(0, nlri(f"10.1.{number}.0/24"))
    reflector.drain(0, 1)
    assert first() is not None
    reflector.drain(2)
    assert first() is None
    assert len(segments(reflector.members[2])) == 1


def test_a_member_that_does_not_read_leaves_the_log_and_hears_the_newest_state() -> None:
    reflector = Reflector(3, Limits(lag_octets=2000, segment_octets=500, snapshot_octets=0))
    slow, receiver = reflector.members[2], reflector.receivers[2]
    reflector.announce(1, nlri("10.9.0.0/16"))
    reflector.announce(0, *PREFIXES, med=0)
    first = weakref.ref(segments(slow)[0])
    for version in range(200):
        reflector.announce(0, *PREFIXES, med=version)
        reflector.drain(0, 1)
    assert slow.lagging
    assert not segments(slow)
    assert first() is None
    assert slow.octets_behind < 100
    reflector.rib.withdraw(reflector.sources[1], [nlri("10.9.0.0/16")])
    reflector.rib.flush()
    assert receiver.heard == []
    reflector.drain(2)
    assert sorted(receiver.heard, key=lambda item: item[0]) == sorted(
        [*((one, reflector.receivers[1].table[one]) for one in PREFIXES), (nlri("10.9.0.0/16"), None)],
        key=lambda item: item[0],
    )
    assert not slow.lagging
    reflector.announce(0, PREFIXES[0], med=1000)
    reflector.drain()
    assert receiver.table[PREFIXES[0]].med == 1000


def test_a_slow_joiner_of_a_large_table_is_not_behind_the_log_yet() -> None:
    reflector = Reflector(1, Limits(lag_octets=1000, segment_octets=500))
    reflector.announce(0, *(nlri(f"10.{high}.{low}.0/24") for high in range(4) for low in range(250)))
    member = reflector.groups.join(AS_KEY, peer(9, client=True))
    assert member.octets_behind > 4000
    for version in range(3):
        reflector.announce(0, nlri("10.200.0.0/24"), med=version)
    assert not member.lagging


def test_collect_keeps_to_its_budget() -> None:
    reflector = Reflector(2, Limits(segment_octets=1000))
    for number in range(250):
        reflector.announce(0, nlri(f"10.1.{number}.0/24"), med=number)
    total = reflector.members[1].octets_behind
    assert total > 10_000
    receiver = reflector.receivers[1]
    while buffers := reflector.members[1].collect(3000):
        octets = sum(map(len, buffers))
        assert octets <= 4000
        assert reflector.members[1].collect(3000) == buffers, "collected twice, it is the same"
        receiver.receive(b"".join(buffers))
        assert not receiver.inside_message
        reflector.members[1].advance(octets)
    assert len(receiver.table) == 250


def test_a_member_with_many_slices_of_its_own_collects_a_bounded_number_of_buffers() -> None:
    reflector = Reflector(2, Limits(snapshot_octets=0))
    other = reflector.groups.join(AS_KEY, peer(9, client=True))
    send(other, Receiver(Family.IPV4))
    for number in range(2000):
        high, low = divmod(number, 250)
        reflector.announce(number % 2, nlri(f"10.{high}.{low}.0/24"))
    buffers = reflector.members[0].collect(1 << 20)
    assert 400 < len(buffers) < 1024
    reflector.drain()
    assert len(reflector.receivers[0].table) == len(reflector.receivers[1].table) == 1000
    assert len(other.collect(1 << 20)) < 5


def test_octets_that_were_not_collected_cannot_be_sent() -> None:
    reflector = Reflector(2)
    reflector.announce(0, PREFIXES[0])
    size = sum(map(len, reflector.members[1].collect(1000)))
    with pytest.raises(ValueError, match="more than were collected"):
        reflector.members[1].advance(size + 1)


def test_a_source_is_a_member_once() -> None:
    reflector = Reflector(1)
    with pytest.raises(ValueError, match="peer2 is a member of the group already"):
        reflector.groups.join(AS_KEY, reflector.sources[0])
    reflector.groups.leave(reflector.members[0])
    reflector.groups.leave(reflector.members[0])
    assert not reflector.groups.groups


def test_members_are_woken_when_there_is_something_to_send() -> None:
    rib = LocRib(Family.IPV4)
    groups = ExportGroups(rib, accept_all)
    woken: list[str] = []
    a, b, external = peer(2, client=True), peer(3, client=True), peer(4, SourceKind.EBGP)
    groups.join(AS_KEY, a, lambda: woken.append("a"))
    groups.join(AS_KEY, b, lambda: woken.append("b"))
    groups.join(key(SourceKind.EBGP), external, lambda: woken.append("external"))
    not_to_external = originate(next_hop=address(2), local_pref=100, communities=[0xFFFFFF01])
    rib.update(a, [(not_to_external, [PREFIXES[0]])])
    assert woken == []
    rib.flush()
    assert woken == ["a", "b"]


def test_a_changed_policy_sends_what_it_changes() -> None:
    rib = LocRib(Family.IPV4)
    policy = ExportPolicy(accepted=(ip_network("10.0.0.0/8"),))
    groups = ExportGroups(
        rib, lambda key: Exporter(key.target, compile_export(policy, Family.IPV4, ibgp=not key.target.ebgp))
    )
    source, reader = peer(2, client=True), peer(3, client=True)
    member, receiver = groups.join(AS_KEY, reader), Receiver(Family.IPV4)
    prefixes = [nlri("10.1.0.0/16"), nlri("10.2.0.0/16"), nlri("192.168.0.0/24")]
    rib.update(source, [(originate(next_hop=address(2), local_pref=100), prefixes)])
    rib.flush()
    send(member, receiver)
    assert set(receiver.table) == set(prefixes[:2])
    heard = len(receiver.heard)
    policy = ExportPolicy(accepted=(ip_network("10.1.0.0/16"), ip_network("192.168.0.0/16")))
    groups.refresh()
    assert receiver.heard[heard:] == []
    rib.flush(2)
    send(member, receiver)
    assert receiver.heard[heard:] == [(prefixes[1], None)]
    rib.flush()
    send(member, receiver)
    assert [one for one, _ in receiver.heard[heard + 1 :]] == [prefixes[2]]


@pytest.mark.parametrize("max_message", [4096, 65535])
def test_messages_are_as_long_as_negotiated(max_message: int) -> None:
    rib = LocRib(Family.IPV4)
    groups = ExportGroups(rib, accept_all)
    member = groups.join(key(client=True, max_message=max_message), peer(3, client=True))
    prefixes = [nlri(f"10.{high}.{low}.0/24") for high in range(64) for low in range(256)]
    rib.update(peer(2, client=True), [(originate(next_hop=address(2), local_pref=100), prefixes)])
    rib.flush()
    receiver = Receiver(Family.IPV4)
    octets = send(member, receiver)
    assert len(receiver.table) == len(prefixes)
    assert receiver.messages == octets // max_message + 2  # the last one is not full, and End-of-RIB


def test_ipv6() -> None:
    us, cluster = bytes(15) + b"\1", ROUTER.cluster_id
    assert cluster is not None
    target = ExportTarget(Family.IPV6, SourceKind.IBGP, LOCAL_AS, us, ROUTER, client=True)
    rib = LocRib(Family.IPV6)
    groups = ExportGroups(rib, accept_all)
    source, reader = peer(2, client=True), peer(3, client=True)
    member = groups.join(GroupKey(target), reader)
    receiver = Receiver(Family.IPV6)
    both = bytes(15) + b"\2" + b"\xfe\x80" + bytes(13) + b"\2"
    prefixes = [nlri("fd00::/64"), nlri("fd00:1::1/128"), nlri("::/0")]
    rib.update(source, [(originate(next_hop=both, local_pref=100), prefixes)])
    rib.insert(local().path(originate(next_hop=bytes(16))), [nlri("fd00:2::/122")])
    rib.flush()
    send(member, receiver)
    assert receiver.ends_of_rib == 1
    assert {one: attributes.next_hop for one, attributes in receiver.table.items()} == {
        **dict.fromkeys(prefixes, both),
        nlri("fd00:2::/122"): us,
    }
    rib.drop(source)
    rib.flush()
    send(member, receiver)
    assert list(receiver.table) == [nlri("fd00:2::/122")]


def test_a_moved_member_is_sent_what_differs() -> None:
    """A client that is none any more hears no more of the other non-client's routes, and of nothing else."""
    rib = LocRib(Family.IPV4)
    groups = ExportGroups(rib, accept_all)
    client, non_client, reader = peer(2, client=True), peer(3), peer(4, client=True)
    member, receiver = groups.join(AS_KEY, reader), Receiver(Family.IPV4)
    for source, one in ((client, PREFIXES[0]), (non_client, PREFIXES[1])):
        rib.update(source, [(originate(next_hop=source.address, local_pref=100), [one])])
    rib.flush()
    send(member, receiver)
    before = receiver.table[PREFIXES[0]]
    assert set(receiver.table) == {PREFIXES[0], PREFIXES[1]}
    reader.client = False
    assert groups.move(member, key()) is member
    send(member, receiver)
    assert receiver.heard[2:] == [(PREFIXES[1], None)]
    assert list(groups.groups) == [key()]
    reader.client = True
    groups.move(member, AS_KEY)
    send(member, receiver)
    assert [one for one, _ in receiver.heard[3:]] == [PREFIXES[1]]
    assert receiver.table[PREFIXES[0]] is before
    assert receiver.ends_of_rib == 1


@pytest.mark.parametrize("behind", ["nothing", "the log", "the limit", "the limit, asked before"])
def test_route_refresh_sends_everything_between_the_markers(behind: str) -> None:
    reflector = Reflector(
        2, Limits(lag_octets=500, segment_octets=200, snapshot_octets=0, catch_up_prefixes=2)
    )
    member, receiver = reflector.members[1], reflector.receivers[1]
    prefixes = [*PREFIXES, nlri("10.3.0.0/16"), nlri("10.4.0.0/16")]
    reflector.announce(0, *prefixes)
    reflector.drain()
    if behind == "the limit, asked before":
        member.resend(BORR, EORR)
    for version in range({"nothing": 0, "the log": 2}.get(behind, 50)):
        reflector.announce(0, prefixes[0], med=version)
    assert member.lagging is behind.startswith("the limit")
    if behind != "the limit, asked before":
        member.resend(BORR, EORR)
    receiver.table[nlri("10.66.0.0/16")] = receiver.table[prefixes[0]]  # lost on its way; EoRR removes it
    before = len(receiver.heard)
    reflector.drain(1)
    assert {one for one, _ in receiver.heard[before:]} == set(prefixes)
    assert set(receiver.table) == set(prefixes)
    assert receiver.stale == set()
    assert receiver.table[prefixes[0]].med == {"nothing": None, "the log": 1}.get(behind, 49)


@pytest.mark.parametrize("options", [[], ["--add-path", "4"]], ids=str)
def test_the_benchmark_runs(
    options: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = ["--members", "5", "--routes", "2", "--batch", "2", "--feed", "2000"]
    monkeypatch.setattr("sys.argv", ["groups", *sizes, *options])
    benchmark.main()
    assert capsys.readouterr().out.count("deliveries/s") == 5

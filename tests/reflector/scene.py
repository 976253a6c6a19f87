"""One reflector, and the same peers with the same routes whichever daemon it is.

Three clients, two non-client peers and an external one, all of them `RawPeer`s that say what a case wants and
write down what they are told. A case is a prefix; who announces it, and with which attributes, is its data.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.daemons import DAEMONS, Config, Neighbor
from tests.differential.outcome import attribute_texts
from tests.netns import Lab, Machine, wait_for
from tests.raw_peer import Attribute, Options, RawPeer
from tests.routed_process import Records, RoutedProcess, configuration, node, peer, pool, record

AS = 64512
EXTERNAL_AS = 64999
CLUSTER_ID = "244.0.0.1"
REFLECTOR_ID = "192.0.2.1"
#: Peers by name, with the last number of their addresses.
CLIENTS = {"c1": 11, "c2": 12, "c3": 13}
NON_CLIENTS = {"n1": 21, "n2": 22}
EXTERNAL = {"x1": 31}
PEERS = {**CLIENTS, **NON_CLIENTS, **EXTERNAL}

Outcome = dict[tuple[str, str, str], str]
"""(receiver, case, attribute) to its value; the attribute `route` is there where it was told of the
prefix."""


def router_id(name: str) -> str:
    """A peer's BGP identifier, which is also its IPv4 address."""
    return f"192.0.2.{PEERS[name]}"


def address(name: str, version: int) -> str:
    """A peer's address."""
    return router_id(name) if version == 4 else f"2001:db8::{PEERS[name]}"


@dataclass(frozen=True, slots=True)
class Said:
    """One announcement: by whom, with which attributes (`raw_peer.attributes`), and whose address is the next
    hop (its own)."""

    by: str
    path: Mapping[str, Any] = field(default_factory=dict)
    next_hop: str = ""


@dataclass(frozen=True, slots=True)
class Case:
    """A prefix and who announces it: at first, and then what changes (None: withdraws)."""

    id: str
    first: tuple[Said, ...]
    then: tuple[Said | tuple[str, None], ...] = ()


def _said(by: str, next_hop: str = "", **path: Any) -> Said:
    return Said(by, {"local_pref": 100, **path} if by not in EXTERNAL else path, next_hop)


def _plain(by: str) -> Said:
    """What a peer says where the case is not about attributes."""
    return _said(by, as_path=(EXTERNAL_AS,) if by in EXTERNAL else ())


def _unknown(code: int, flags: int, value: bytes) -> Attribute:
    return Attribute(flags, code, value)


_NO_EXPORT, _NO_ADVERTISE, _SHUTDOWN = (0xFFFF, 0xFF01), (0xFFFF, 0xFF02), (0xFFFF, 0x0000)

CASES = (
    # RFC 4456 section 6: who is told of what.
    Case("from-client", (_said("c1"),)),
    Case("from-non-client", (_said("n1"),)),
    Case("from-external", (_said("x1", as_path=(EXTERNAL_AS, 65001), med=30),)),
    # RFC 4456 section 8: what a reflector adds, and what it must not change.
    Case("local-pref-and-med", (_said("c1", local_pref=200, med=50),)),
    Case("no-local-pref", (Said("c1"),)),
    Case("third-party-next-hop", (_said("c1", next_hop="c2"),)),
    Case("as-path", (_said("c1", as_path=(65001, 65002, frozenset((65003, 65004))), origin=2),)),
    Case(
        "communities",
        (_said("c1", communities=((64512, 1), (65535, 9)), large_communities=((64512, 1, 2),)),),
    ),
    Case("lower-reflector", (_said("c1", originator_id="192.0.2.99", cluster_list=("244.0.0.9",)),)),
    Case(
        "two-lower-reflectors",
        (_said("n1", originator_id="192.0.2.99", cluster_list=("244.0.0.9", "244.0.0.8")),),
    ),
    Case("unknown-transitive", (_said("c1", more=(_unknown(99, 0xC0, b"abc"),)),)),
    Case("unknown-not-transitive", (_said("c1", more=(_unknown(98, 0x80, b"abc"),)),)),
    Case(
        "extended-communities", (_said("c1", more=(_unknown(16, 0xC0, bytes((0, 2, 252, 0, 0, 0, 0, 1))),)),)
    ),
    Case(
        "aggregator",
        (_said("c1", more=(_unknown(6, 0x40, b""), _unknown(7, 0xC0, b"\0\0\xfc\0\xc0\0\2\x0b"))),),
    ),
    # RFC 4456 section 8: loops.
    Case(
        "our-cluster-id", (_said("c1", originator_id="192.0.2.99", cluster_list=("244.0.0.9", CLUSTER_ID)),)
    ),
    Case(
        "our-cluster-id-from-non-client",
        (_said("n1", originator_id="192.0.2.99", cluster_list=(CLUSTER_ID,)),),
    ),
    Case("our-originator-id", (_said("c1", originator_id=REFLECTOR_ID, cluster_list=("244.0.0.9",)),)),
    Case(
        "originator-is-a-client", (_said("c1", originator_id=router_id("c2"), cluster_list=("244.0.0.9",)),)
    ),
    Case("next-hop-is-the-reflector", (_said("c1", next_hop="rr"),)),
    Case("as-loop", (_said("c1", as_path=(65001, AS)),)),
    # Well-known communities (RFC 1997, RFC 8326).
    Case("no-export", (_said("c1", communities=(_NO_EXPORT,)),)),
    Case("no-advertise", (_said("c1", communities=(_NO_ADVERTISE,)),)),
    Case("graceful-shutdown", (_said("c1", local_pref=0, communities=(_SHUTDOWN,)),)),
    # RFC 4271 section 9.1.2.2 and RFC 4456 section 9: which of two is reflected.
    Case("preference", (_said("c1"), _said("c2", local_pref=200))),
    Case("shorter-as-path", (_said("c1", as_path=(65001, 65002)), _said("c2", as_path=(65003,)))),
    Case("origin", (_said("c1", origin=2), _said("c2", origin=0))),
    Case("lower-med", (_said("c1", as_path=(65001,), med=20), _said("c2", as_path=(65001,), med=10))),
    Case("med-of-another-as", (_said("c1", as_path=(65001,), med=20), _said("c2", as_path=(65002,), med=10))),
    Case("external-first", (_said("c1", as_path=(EXTERNAL_AS,)), _said("x1", as_path=(EXTERNAL_AS,)))),
    Case("lower-identifier", (_said("c2"), _said("c1"))),
    Case(
        "originator-for-identifier",
        (_said("c1", originator_id="192.0.2.99", cluster_list=("244.0.0.9",)), _said("c2")),
    ),
    Case(
        "shorter-cluster-list",
        (
            _said("c1", originator_id="192.0.2.99", cluster_list=("244.0.0.9", "244.0.0.8")),
            _said("c2", originator_id="192.0.2.99", cluster_list=("244.0.0.9",)),
        ),
    ),
    Case("client-and-non-client", (_said("c1"), _said("n1", local_pref=200))),
    Case("two-non-clients", (_said("n1"), _said("n2", local_pref=200))),
    # What changes.
    Case("withdrawn", (_said("c1"),), (("c1", None),)),
    Case("best-withdrawn", (_said("c1"), _said("c2", local_pref=200)), (("c2", None),)),
    Case("other-withdrawn", (_said("c1"), _said("c2", local_pref=200)), (("c1", None),)),
    Case("best-changes", (_said("c1"), _said("c2", local_pref=200)), (_said("c1", local_pref=300),)),
    Case("client-to-non-client", (_said("c1"), _said("n1", local_pref=50)), (("c1", None),)),
    Case("attributes-change", (_said("c1", med=1),), (_said("c1", med=2, communities=((64512, 7),)),)),
    Case(
        "loop-appears", (_said("c1"),), (_said("c1", cluster_list=(CLUSTER_ID,), originator_id="192.0.2.99"),)
    ),
    Case("its-client-is-gone", (_said("c3"),)),
    Case("its-client-is-gone-another-has-it", (_said("c3"), _said("c2", local_pref=50))),
    # The last that each announces: who has these was told of all before.
    *(Case(f"last-of-{name}", (_plain(name),)) for name in PEERS),
    *(
        Case(
            f"very-last-of-{name}",
            (),
            (_plain(name),),
        )
        for name in PEERS
        if name != "c3"
    ),
)
#: It goes away after the first phase.
GOES = "c3"


def prefix(case: Case, version: int) -> str:
    """The prefix of a case."""
    number = CASES.index(case) + 1
    return f"10.{number}.0.0/16" if version == 4 else f"fd00:{number}::/32"


class Scene:
    """A reflector at work with its peers; `peers` by name."""

    def __init__(self, lab: Lab, kind: str, version: int) -> None:
        self.version = version
        self.machine = lab.machine("rr", f"{REFLECTOR_ID}/24", "2001:db8::1/64")
        addresses = [f"{address(name, v)}/{24 if v == 4 else 64}" for name in PEERS for v in (4, 6)]
        self.crowd = lab.machine("peers", *addresses)
        self.reflector = _start(lab.directory, self.machine, kind, version)
        self.peers = {name: self._peer(name) for name in PEERS}
        self._prefixes = {prefix(case, version): case.id for case in CASES}

    def _peer(self, name: str) -> RawPeer:
        remote = self.machine.address(self.version)
        asn = EXTERNAL_AS if name in EXTERNAL else AS
        mine = address(name, self.version)
        options = Options(asn, router_id(name), address=mine, version=self.version, remote=remote, port=0)
        return RawPeer(self.crowd, options)

    def outcome(self) -> Outcome:
        """What everybody whose session is up has been told of."""
        found: Outcome = {}
        for name, one in self.peers.items():
            for route, attributes in one.table().items() if one.established else ():
                case = self._prefixes.get(route.prefix, route.prefix)
                found[name, case, "route"] = "told"
                for attribute, text in attribute_texts(attributes):
                    found[name, case, attribute] = text
        return found

    def begin(self) -> None:
        """All sessions come up, and the first phase of every case is announced."""
        for one in self.peers.values():
            one.start()
        for one in self.peers.values():
            one.wait_established()
        for case in CASES:
            for said in case.first:
                self._say(case, said)

    def change(self) -> None:
        """The second phase."""
        self.peers[GOES].stay_away()
        for case in CASES:
            for change in case.then:
                if isinstance(change, Said):
                    self._say(case, change)
                else:
                    self.peers[change[0]].withdraw(prefix(case, self.version))

    def settled(self, last: str, quiet: float = 0.3) -> Outcome:
        """The outcome once everybody was told of the cases `last-of-...` (or `very-last-of-...`) that it
        can be told of, and then of nothing more for a while."""
        there = [name for name in PEERS if f"{last}-{name}" in self._prefixes.values()]
        # RFC 4456 section 6: non-clients are not told of each other's.
        due = [
            (receiver, f"{last}-{by}", "route")
            for receiver in there
            for by in there
            if by != receiver and not {by, receiver} <= NON_CLIENTS.keys()
        ]

        def complete() -> bool:
            told = self.outcome()
            missing = [one for one in due if one not in told]
            assert not missing, f"still to be told: {missing[:5]}"
            newest = max(self.peers[name].messages[-1].at for name in there)
            return time.monotonic() - newest > quiet

        wait_for(complete, "all was told", timeout=60)
        return self.outcome()

    def close(self) -> None:
        """End the sessions."""
        for one in self.peers.values():
            one.close()

    def _say(self, case: Case, said: Said) -> None:
        hop = {"": said.by}.get(said.next_hop, said.next_hop)
        next_hop = self.machine.address(self.version) if hop == "rr" else address(hop, self.version)
        self.peers[said.by].announce(prefix(case, self.version), next_hop=next_hop, **said.path)


@contextlib.contextmanager
def scene(lab: Lab, kind: str, version: int) -> Iterator[Scene]:
    """A scene whose sessions are closed at its end. `kind`: `routed`, or a key of `daemons.DAEMONS`."""
    made = Scene(lab, kind, version)
    try:
        yield made
    finally:
        made.close()


def _start(directory: Path, machine: Machine, kind: str, version: int) -> object:
    """Start the reflector; what it returns keeps it known."""
    if kind == "routed":
        return _start_routed(directory, machine, version)
    neighbors = tuple(
        Neighbor(
            address(name, version),
            EXTERNAL_AS if name in EXTERNAL else AS,
            passive=True,
            route_reflector_client=name in CLIENTS,
        )
        for name in PEERS
    )
    daemon = DAEMONS[kind](machine, Config(AS, REFLECTOR_ID, neighbors, cluster_id=CLUSTER_ID))
    daemon.start()
    return daemon


def _start_routed(directory: Path, machine: Machine, version: int) -> RoutedProcess:
    """A reflector with a Node record: its non-clients are nodes with the same cluster ID."""
    records = Records(directory / "records")
    nodes = [
        record(
            "Node",
            name,
            labels={"peer": "true"},
            bgp={
                "ipv4Address": f"{address(name, 4)}/24",
                "ipv6Address": f"{address(name, 6)}/64",
                **({"routeReflectorClusterID": CLUSTER_ID} if name in NON_CLIENTS else {}),
            },
        )
        for name in (*CLIENTS, *NON_CLIENTS)
    ]
    records.put(
        "cluster",
        [
            configuration(AS),
            node(machine, routeReflectorClusterID=CLUSTER_ID),
            *nodes,
            pool("10.0.0.0/8"),
            record("BGPPeer", "internal", node="rr", peerSelector="peer == 'true'"),
            *(peer(f"x1-{v}", address("x1", v), EXTERNAL_AS, node="rr") for v in (4, 6)),
        ],
    )
    reflector = RoutedProcess(machine, ["rr", "--node", "rr", "--datastore", records.url])
    reflector.start()
    return reflector


@dataclass(frozen=True, slots=True)
class Difference:
    """One value that two reflectors do not agree in; None: it is not there. Where one of them tells a
    receiver nothing at all of a prefix, that is one difference, of `route`."""

    case: str
    attribute: str
    receiver: str
    routed: str | None
    other: str | None

    def __str__(self) -> str:
        return (
            f"{self.case}: {self.attribute} at {self.receiver}: "
            f"routed {self.routed or '(none)'}, the other {self.other or '(none)'}"
        )


def differences(routed: Outcome, other: Outcome) -> list[Difference]:
    """All of them, in order."""
    found = []
    for receiver, case, attribute in routed.keys() | other.keys():
        ours, theirs = routed.get((receiver, case, attribute)), other.get((receiver, case, attribute))
        one_sided = ((receiver, case, "route") in routed) is not ((receiver, case, "route") in other)
        if ours != theirs and (attribute == "route" or not one_sided):
            found.append(Difference(case, attribute, receiver, ours, theirs))
    return sorted(found, key=lambda one: (one.case, one.attribute, one.receiver))

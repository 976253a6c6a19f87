"""The values of all metrics, read from what is there when somebody asks. Nothing is counted twice, nothing is
kept, and no table of routes is walked: what this costs grows with peers and export groups."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from operator import attrgetter
from typing import Final, NamedTuple
from zlib import crc32

from routed.bgp.fsm import State
from routed.bgp.group import Group, GroupKey
from routed.bgp.message import MessageType
from routed.bgp.nlri import Family
from routed.bgp.path import SourceKind
from routed.bgp.peer import Peer
from routed.bgp.speaker import Speaker
from routed.event_loop import turns_of
from routed.histogram import Histogram
from routed.observe.events import EventKind
from routed.observe.health import is_wanted, readiness
from routed.observe.observed import Observed
from routed.observe.views.text import FAMILY_NAMES

#: Export groups that have series of their own, those with the most members; the others are summed up.
MOST_GROUPS: Final = 16
OTHER_GROUPS: Final = "other"
#: How long a start takes until it has converged, seconds: `restart.ABSENT_PEER_TIME` and `END_OF_RIB_TIME`
#: bound it.
START_BOUNDS: Final = (1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 45.0, 60.0, 90.0, 120.0)

_STATE_NAMES: Final = {state: state.name.lower() for state in State}
_TYPE_NAMES: Final = {kind: kind.name.lower() for kind in MessageType}
_LOCAL_KINDS: Final = [kind for kind in SourceKind if not kind.bgp]
#: What `observe.mqtt_events` counts.
_MQTT_NAMES: Final = (
    "mqtt_connected",
    "mqtt_connections_lost",
    "mqtt_events_published",
    "mqtt_events_dropped",
    "mqtt_waiting_bytes",
)


class Sample(NamedTuple):
    """One value of a metric of the catalogue."""

    name: str
    labels: tuple[str, ...]
    value: float | Histogram


def samples(observed: Observed, *, per_peer: bool) -> Iterator[Sample]:
    """All values as they are now, those of one metric one after the other. What the process does not have,
    records or the kernel, has none."""
    yield from _process(observed)
    yield from _sessions(observed)
    yield from _routes(observed)
    yield from _groups(observed)
    yield from _datastore(observed)
    yield from _kernel(observed)
    yield from _broker(observed)
    if per_peer:
        yield from _peers(observed)


def _process(observed: Observed) -> Iterator[Sample]:
    speaker = observed.speaker
    role = "reflector" if observed.reflector else "node"
    yield Sample("routed_build", (observed.version, platform.python_version(), observed.node, role), 1)
    yield Sample("routed_ready", (), readiness(observed).ok)
    yield Sample("routed_converged", (), speaker.converged_at is not None)
    yield Sample("routed_draining", (), speaker.draining)
    start = Histogram(START_BOUNDS)
    if speaker.started_at is not None and speaker.converged_at is not None:
        start.observe(speaker.converged_at - speaker.started_at)
    yield Sample("routed_start_convergence_seconds", (), start)
    turns = turns_of(speaker.loop)
    if turns is not None:
        yield Sample("routed_event_loop_turn_seconds", (), turns.took)
    for kind in EventKind:
        if kind is not EventKind.MISSED:
            yield Sample("routed_events", (kind.value,), observed.events.counts.get(kind, 0))


def _sessions(observed: Observed) -> Iterator[Sample]:
    speaker = observed.speaker
    peers = Counter((peer.session.state, is_wanted(peer)) for peer in speaker.peers.values())
    for state, name in _STATE_NAMES.items():
        for wanted in (True, False):
            yield Sample("routed_bgp_peers", (name, str(wanted).lower()), peers[state, wanted])
    shut_down = sum(peer.shut_down is not None for peer in speaker.peers.values())
    yield Sample("routed_bgp_peers_shut_down", (), shut_down)
    restarting = sum(speaker.attachment(peer).restarting for peer in speaker.peers.values())
    yield Sample("routed_bgp_peers_restarting", (), restarting)
    messages = speaker.messages()
    for kind, name in _TYPE_NAMES.items():
        yield Sample("routed_bgp_messages_received", (name,), messages.received[kind])
    for kind, name in _TYPE_NAMES.items():
        yield Sample("routed_bgp_messages_sent", (name,), messages.sent[kind])
    octets = speaker.octets()
    yield Sample("routed_bgp_received_bytes", (), octets.received)
    yield Sample("routed_bgp_sent_bytes", (), octets.sent)
    incidents = speaker.incidents
    yield from _counts("routed_bgp_sessions_ended", incidents.sessions)
    yield from _counts("routed_bgp_attempts_failed", incidents.attempts)
    yield Sample("routed_bgp_connections_refused", (), incidents.refused)
    yield Sample("routed_bgp_second_connections", (), incidents.second_connections)
    yield from _counts("routed_bgp_update_errors", incidents.updates)


def _counts(name: str, counts: dict[str, int]) -> Iterator[Sample]:
    for label, count in sorted(counts.items()):
        yield Sample(name, (label,), count)


def _routes(observed: Observed) -> Iterator[Sample]:
    speaker = observed.speaker
    received, ignored = Counter[Family](), Counter[Family]()
    local = Counter[tuple[Family, SourceKind]]()
    for family, rib in speaker.ribs.items():
        for source, table in rib.sources.items():
            if source.kind.bgp:
                received[family] += len(table)
                ignored[family] += table.ignored
            else:
                local[family, source.kind] += len(table)
    for family, name in FAMILY_NAMES.items():
        yield Sample("routed_bgp_received_routes", (name,), received[family])
    for family, name in FAMILY_NAMES.items():
        yield Sample("routed_bgp_ignored_announcements", (name,), ignored[family])
    for family, name in FAMILY_NAMES.items():
        for kind in _LOCAL_KINDS:
            yield Sample("routed_bgp_local_routes", (name, kind.value), local[family, kind])
    for family, name in FAMILY_NAMES.items():
        yield Sample("routed_bgp_loc_rib_prefixes", (name,), len(speaker.ribs[family].routes))
    for family, name in FAMILY_NAMES.items():
        told = sum(
            len(group.members) * len(group.adj_out) for group in speaker.groups[family].groups.values()
        )
        yield Sample("routed_bgp_advertised_routes", (name,), told)
    for family, name in FAMILY_NAMES.items():
        yield Sample("routed_bgp_route_changes", (name,), observed.route_changes.total[family])
    yield Sample("routed_bgp_pending_changes", (), speaker.tables.changes_pending)
    yield Sample("routed_bgp_change_to_wire_seconds", (), speaker.turns.flush_times)
    if observed.compiler is not None:
        yield Sample("routed_originated_routes", (), len(observed.compiler.originated))
        yield Sample("routed_owned_blocks", (), len(observed.compiler.owned_blocks))


class _GroupValues:
    """The values of one export group, or of several."""

    def __init__(self) -> None:
        self.members = self.routes = self.behind = self.most_behind = self.lagging = 0

    def add(self, group: Group) -> None:
        """Count one in."""
        behind = [member.octets_behind for member in group.members.values()]
        self.members += len(group.members)
        self.routes += len(group.adj_out)
        self.behind += sum(behind)
        self.most_behind = max(self.most_behind, *behind, 0)
        self.lagging += len(group.lagging)


_OF_A_GROUP: Final = {
    "routed_bgp_export_group_members": attrgetter("members"),
    "routed_bgp_export_group_routes": attrgetter("routes"),
    "routed_bgp_export_group_behind_bytes": attrgetter("behind"),
    "routed_bgp_export_group_most_behind_bytes": attrgetter("most_behind"),
    "routed_bgp_export_group_lagging_members": attrgetter("lagging"),
}


def _groups(observed: Observed) -> Iterator[Sample]:
    groups = observed.speaker.groups
    for family, name in FAMILY_NAMES.items():
        yield Sample("routed_bgp_export_groups", (name,), len(groups[family].groups))
    found = [group for of_family in groups.values() for group in of_family.groups.values()]
    found.sort(key=lambda group: -len(group.members))
    values: dict[str, _GroupValues] = {}
    for place, group in enumerate(found):
        label = group_label(group.key) if place < MOST_GROUPS else OTHER_GROUPS
        values.setdefault(label, _GroupValues()).add(group)
    for metric, value_of in _OF_A_GROUP.items():
        for label, value in sorted(values.items()):
            yield Sample(metric, (label,), value_of(value))


def group_label(key: GroupKey) -> str:
    """A short name of an export group, the same on all nodes: family and kind of peer, and a checksum of what
    else makes peers share a group. Without our own address, so that groups which differ in that alone are one
    here."""
    target = key.target
    kind = target.kind.value + ("-client" if target.client else "") + ("-add-path" if key.add_path else "")
    rest = (
        target.local_as,
        target.next_hop_mode.value,
        target.long_lived,
        key.four_octet_as,
        key.max_message_octets,
        key.filters,
        key.add_path,
    )
    return f"{FAMILY_NAMES[target.family]}-{kind}-{crc32(repr(rest).encode()):08x}"


def _datastore(observed: Observed) -> Iterator[Sample]:
    state = observed.datastore
    if state is None:
        return
    lost_since = state.lost_since
    lost_for = 0.0 if lost_since is None else max(0.0, (datetime.now(UTC) - lost_since).total_seconds())
    yield Sample("routed_datastore_synced", (), state.synced)
    yield Sample("routed_datastore_lost", (), lost_since is not None)
    yield Sample("routed_datastore_lost_seconds", (), lost_for)
    yield Sample("routed_datastore_losses", (), state.losses)
    if state.changed_at is not None:
        yield Sample("routed_datastore_last_change_timestamp_seconds", (), state.changed_at)
    yield Sample("routed_record_problems", (), len(observed.problems()))
    yield Sample("routed_datastore_to_wire_seconds", (), observed.speaker.turns.batch_times)


def _kernel(observed: Observed) -> Iterator[Sample]:
    writer = observed.writer
    if writer is None:
        return
    fib = writer.fib
    yield Sample("routed_kernel_error", (), bool(observed.kernel_error()))
    for name, by_family in (
        ("routed_kernel_routes_wanted", fib.wanted),
        ("routed_kernel_routes_installed", fib.installed),
    ):
        for family, family_name in FAMILY_NAMES.items():
            yield Sample(name, (family_name,), len(by_family[family]))
    yield Sample("routed_kernel_routes_failed", (), fib.failures)
    for family, family_name in FAMILY_NAMES.items():
        yield Sample("routed_kernel_routes_kept_out", (family_name,), len(writer.reasons[family]))
    counters = fib.counters
    for operation, asked, refused, unknown in (
        ("install", counters.installs, counters.installs_refused, counters.installs_unknown),
        ("remove", counters.removals, counters.removals_refused, counters.removals_unknown),
    ):
        done = asked - refused - unknown
        for result, count in (("done", done), ("refused", refused), ("unknown", unknown)):
            yield Sample("routed_kernel_operations", (operation, result), count)
    yield from _counts("routed_kernel_errors", counters.errors_by_name)
    yield Sample("routed_kernel_sends", (), counters.sends)
    yield Sample("routed_kernel_resyncs", (), counters.resyncs)
    yield Sample("routed_kernel_repaired_routes", (), counters.repaired)


def _broker(observed: Observed) -> Iterator[Sample]:
    for name in _MQTT_NAMES:
        if name in observed.outlet_counters:
            yield Sample(f"routed_{name}", (), observed.outlet_counters[name])


def _updates_sent(speaker: Speaker, peer: Peer) -> int:
    return peer.session.counters.sent[MessageType.UPDATE] + speaker.attachment(peer).updates


def _uptime(speaker: Speaker, peer: Peer) -> float:
    since = peer.session.established_at
    return 0.0 if since is None else speaker.loop.time() - since


_OF_A_PEER: Final[Mapping[str, Callable[[Speaker, Peer], float]]] = {
    "routed_bgp_peer_up": lambda _, peer: peer.established,
    "routed_bgp_peer_wanted": lambda _, peer: is_wanted(peer),
    "routed_bgp_peer_state": lambda _, peer: peer.session.state,
    "routed_bgp_peer_uptime_seconds": _uptime,
    "routed_bgp_peer_flaps": lambda _, peer: peer.session.flaps,
    "routed_bgp_peer_ignored_announcements": lambda speaker, peer: speaker.ignored(peer)[0],
    "routed_bgp_peer_updates_received": lambda _, peer: peer.session.counters.received[MessageType.UPDATE],
    "routed_bgp_peer_updates_sent": _updates_sent,
    "routed_bgp_peer_bad_updates": lambda _, peer: peer.findings,
    "routed_bgp_peer_unsent_bytes": lambda speaker, peer: speaker.unsent(peer),
}
_OF_A_PEER_BY_FAMILY: Final[Mapping[str, Callable[[Speaker, Peer], Mapping[Family, int]]]] = {
    "routed_bgp_peer_received_routes": lambda speaker, peer: speaker.received(peer),
    "routed_bgp_peer_advertised_routes": lambda speaker, peer: speaker.advertised(peer),
}


def _peers(observed: Observed) -> Iterator[Sample]:
    """A metric after the other, and in each all peers."""
    speaker = observed.speaker
    peers = sorted(speaker.peers.values(), key=attrgetter("name"))
    for peer in peers:
        yield Sample("routed_bgp_peer", _who(observed, peer), 1)
    for name, value_of in _OF_A_PEER.items():
        for peer in peers:
            yield Sample(name, (peer.name,), value_of(speaker, peer))
    for name, values_of in _OF_A_PEER_BY_FAMILY.items():
        for peer in peers:
            values = values_of(speaker, peer)
            for family in sorted(peer.config.families):
                yield Sample(name, (peer.name, FAMILY_NAMES[family]), values.get(family, 0))


def _who(observed: Observed, peer: Peer) -> tuple[str, ...]:
    """The labels of `routed_bgp_peer`: name, address, AS and node."""
    negotiated = peer.session.negotiated
    remote_as = peer.config.remote_as if negotiated is None else negotiated.remote_as
    session = None if observed.compiler is None else observed.compiler.session(peer.name)
    return (
        peer.name,
        str(peer.config.remote.address),
        "" if remote_as is None else str(remote_as),
        "" if session is None else session.peer_node or "",
    )

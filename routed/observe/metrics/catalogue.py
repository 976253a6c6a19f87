"""Every metric there is: its name, type, labels and what it means. The documentation and the dashboard are
tested against this table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

Kind = Literal["gauge", "counter", "histogram", "info"]


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric family. `name` is without the endings that its kind adds (`_total`, `_bucket`, `_info`)."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()

    @property
    def series(self) -> tuple[str, ...]:
        """The names of its time series, as queries use them."""
        return tuple(self.name + ending for ending in _ENDINGS[self.kind])


_ENDINGS: Final[Mapping[Kind, tuple[str, ...]]] = {
    "gauge": ("",),
    "counter": ("_total",),
    "histogram": ("_bucket", "_sum", "_count"),
    "info": ("_info",),
}


def _gauge(name: str, help_: str, *labels: str) -> Metric:
    return Metric(name, "gauge", help_, labels)


def _counter(name: str, help_: str, *labels: str) -> Metric:
    return Metric(name, "counter", help_, labels)


def _histogram(name: str, help_: str, *labels: str) -> Metric:
    return Metric(name, "histogram", help_, labels)


#: By what they are about, in the order in which they are written.
SECTIONS: Final[Mapping[str, tuple[Metric, ...]]] = {
    "The process": (
        Metric(
            "routed_build",
            "info",
            "The version of routed and of Python, the node's or reflector's name, and which of both it is.",
            ("version", "python_version", "name", "role"),
        ),
        _gauge("routed_ready", "1 where /readiness says that it is ready."),
        _gauge("routed_converged", "1 since every peer that can be waited for has sent its table."),
        _gauge("routed_draining", "1 while it is the last choice of all its peers (RFC 8326)."),
        _histogram(
            "routed_start_convergence_seconds",
            "From the begin of BGP until it converged: one value in the life of a process.",
        ),
        _histogram(
            "routed_event_loop_turn_seconds",
            "How long turns of the event loop took. KEEPALIVEs and timers wait for the end of a turn.",
        ),
        _counter("routed_events", "Events of the event log, by kind.", "kind"),
    ),
    "Sessions": (
        _gauge(
            "routed_bgp_peers",
            "Peers by the state of their session; wanted is false for clients of a range, and for peers that "
            "the records hold back or an operator has shut down.",
            "state",
            "wanted",
        ),
        _gauge("routed_bgp_peers_shut_down", "Peers that an operator has shut down."),
        _gauge("routed_bgp_peers_restarting", "Peers whose routes outlive their session (RFC 4724)."),
        _counter("routed_bgp_messages_received", "Messages from all peers, by type.", "type"),
        _counter(
            "routed_bgp_messages_sent",
            "Messages to all peers, by type; an UPDATE counts when it is written for a peer.",
            "type",
        ),
        _counter("routed_bgp_received_bytes", "Octets from all peers."),
        _counter("routed_bgp_sent_bytes", "Octets that the sockets to all peers have taken."),
        _counter("routed_bgp_sessions_ended", "Sessions that ended, by what ended them.", "reason"),
        _counter(
            "routed_bgp_attempts_failed",
            "Connections that came to no session, by what ended them.",
            "reason",
        ),
        _counter("routed_bgp_connections_refused", "Connections from addresses that no peer has."),
        _counter(
            "routed_bgp_second_connections",
            "Connections of a peer whose session was up; one that has just restarted makes one.",
        ),
        _counter(
            "routed_bgp_update_errors",
            "Errors in UPDATEs that ended no session, by what was done (RFC 7606).",
            "action",
        ),
    ),
    "Routes": (
        _gauge("routed_bgp_received_routes", "Routes in all Adj-RIB-Ins of peers.", "family"),
        _gauge(
            "routed_bgp_ignored_announcements",
            "Announcements that could not be used (loops, our own next hop), of the sessions there are.",
            "family",
        ),
        _gauge(
            "routed_bgp_local_routes",
            "Routes in Loc-RIB that no peer sent: static (blocks, services), direct, kernel, allocated.",
            "family",
            "source",
        ),
        _gauge("routed_bgp_loc_rib_prefixes", "Prefixes in Loc-RIB.", "family"),
        _gauge(
            "routed_bgp_advertised_routes",
            "Routes of each peer's export group, summed over all peers (Adj-RIB-Out); with its own ones, "
            "which a reflector's client is not sent.",
            "family",
        ),
        _counter("routed_bgp_route_changes", "Changes of prefixes in Loc-RIB.", "family"),
        _gauge("routed_bgp_pending_changes", "Prefixes whose changes are yet to be written for peers."),
        _histogram(
            "routed_bgp_change_to_wire_seconds",
            "From a change in Loc-RIB until its UPDATEs were handed to the connections.",
        ),
        _gauge("routed_originated_routes", "Routes that the records have this node make."),
        _gauge("routed_owned_blocks", "IPAM blocks that this node holds."),
    ),
    "Export groups": (
        _gauge(
            "routed_bgp_export_groups", "Export groups: peers that are told the same share one.", "family"
        ),
        _gauge("routed_bgp_export_group_members", "Peers in the export group.", "group"),
        _gauge("routed_bgp_export_group_routes", "Routes that the export group advertises.", "group"),
        _gauge(
            "routed_bgp_export_group_behind_bytes",
            "Octets of the group's log that its members have yet to take, all of them together.",
            "group",
        ),
        _gauge(
            "routed_bgp_export_group_most_behind_bytes",
            "The same of the member that is furthest behind.",
            "group",
        ),
        _gauge(
            "routed_bgp_export_group_lagging_members",
            "Members that left the log because they do not read; they get the newest state only.",
            "group",
        ),
    ),
    "The datastore": (
        _gauge("routed_datastore_synced", "1 since the first snapshot of the records was read."),
        _gauge("routed_datastore_lost", "1 while the datastore cannot be reached; all stays as it is."),
        _gauge("routed_datastore_lost_seconds", "For how long it has not been reachable; 0 where it is now."),
        _counter("routed_datastore_losses", "How often it was lost."),
        _gauge(
            "routed_datastore_last_change_timestamp_seconds",
            "When records came last, seconds since 1970.",
        ),
        _gauge("routed_record_problems", "What is wrong with records now; `routed status` says what."),
        _histogram(
            "routed_datastore_to_wire_seconds",
            "From the arrival of changed records until their UPDATEs were handed to the connections.",
        ),
    ),
    "The kernel": (
        _gauge(
            "routed_kernel_error",
            "1 where no kernel routes can be programmed though they are wanted: BGP goes on without.",
        ),
        _gauge("routed_kernel_routes_wanted", "Routes that are to be in the kernel.", "family"),
        _gauge("routed_kernel_routes_installed", "Routes of ours in the kernel.", "family"),
        _gauge("routed_kernel_routes_failed", "Routes that the kernel refused; they are tried again."),
        _gauge(
            "routed_kernel_routes_kept_out",
            "Learned routes that are not to be in the kernel; `routed routes --rejected` says why.",
            "family",
        ),
        _counter(
            "routed_kernel_operations",
            "Requests to the kernel by operation (install, remove) and result: done; refused, those that met "
            "another route in their place included; unknown, where the answer was lost.",
            "operation",
            "result",
        ),
        _counter(
            "routed_kernel_errors",
            "Routes that could not be installed or removed, each try counted, by the name of the errno.",
            "error",
        ),
        _counter("routed_kernel_sends", "Batches of requests."),
        _counter("routed_kernel_resyncs", "How often all routes were read back from the kernel."),
        _counter("routed_kernel_repaired_routes", "Routes that were missing, changed or left over then."),
    ),
    "Events to a broker": (
        _gauge("routed_mqtt_connected", "1 while the broker of --events has our connection."),
        _counter("routed_mqtt_connections_lost", "How often the broker was lost, or could not be had."),
        _counter("routed_mqtt_events_published", "Events that the broker has acknowledged."),
        _counter("routed_mqtt_events_dropped", "Events that were dropped, since too many waited."),
        _gauge("routed_mqtt_waiting_bytes", "Octets of messages that wait for the broker."),
    ),
}

#: Only with `--metrics-per-peer`: a series of each per peer.
PER_PEER: Final[tuple[Metric, ...]] = (
    Metric(
        "routed_bgp_peer",
        "info",
        "Who a peer is: its address, its AS where it is known, and the Calico node.",
        ("peer", "address", "remote_as", "peer_node"),
    ),
    _gauge("routed_bgp_peer_up", "1 while the session is Established.", "peer"),
    _gauge("routed_bgp_peer_wanted", "1 where a session is to be up.", "peer"),
    _gauge(
        "routed_bgp_peer_state",
        "0 Idle, 1 Connect, 2 Active, 3 OpenSent, 4 OpenConfirm, 5 Established.",
        "peer",
    ),
    _gauge("routed_bgp_peer_uptime_seconds", "For how long the session has been Established.", "peer"),
    _counter("routed_bgp_peer_flaps", "How often the session was Established and was lost.", "peer"),
    _gauge("routed_bgp_peer_received_routes", "Routes in the Adj-RIB-In.", "peer", "family"),
    _gauge(
        "routed_bgp_peer_advertised_routes",
        "Routes of the peer's export group; with its own ones, which a reflector's client is not sent.",
        "peer",
        "family",
    ),
    _gauge(
        "routed_bgp_peer_ignored_announcements",
        "Announcements of the session that could not be used (loops).",
        "peer",
    ),
    _counter("routed_bgp_peer_updates_received", "UPDATEs from the peer.", "peer"),
    _counter("routed_bgp_peer_updates_sent", "UPDATEs that were written for the peer.", "peer"),
    _counter("routed_bgp_peer_bad_updates", "Errors in UPDATEs that ended no session (RFC 7606).", "peer"),
    _gauge("routed_bgp_peer_unsent_bytes", "Octets of UPDATEs that it has not taken yet, about.", "peer"),
)

#: By name.
METRICS: Final[Mapping[str, Metric]] = {
    metric.name: metric for metrics in (*SECTIONS.values(), PER_PEER) for metric in metrics
}

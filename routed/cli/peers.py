"""`routed peers [NAME]`: the sessions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from routed.cli import options, servers
from routed.cli.answer import show
from routed.cli.client import peer_path
from routed.cli.event_lines import event_lines
from routed.cli.failure import CommandError, Status, ends_well
from routed.cli.table import Cell, Column, Row, facts, table
from routed.cli.wording import by_family, count, duration, family, moment, state_colour, total

if TYPE_CHECKING:
    from routed.cli.screen import Screen
    from routed.observe.documents import Agreed, Messages, Peer, Peers, PeerSummary, Protection

COLUMNS = (
    Column("NAME", name=12),
    Column("NODE", drop=6),
    Column("ADDRESS"),
    Column("AS", right=True, drop=4),
    Column("STATE"),
    Column("UP", right=True, drop=3),
    Column("RECEIVED", right=True, drop=2),
    Column("REJECTED", right=True, drop=7),
    Column("SENT", right=True, drop=5),
    Column("FLAPS", right=True, drop=8),
    Column("NOTE", text=20, drop=1),
)


@ends_well
def peers(
    name: Annotated[
        str | None, typer.Argument(help="One peer, with all there is to know.", **options.PEER)
    ] = None,
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            help="Exit with 1 unless every session is Established; those that an operator shut down do "
            "not count.",
        ),
    ] = False,
    socket: options.Socket = None,
    node: options.Node = None,
    http: options.Http = None,
    output: options.Output = "table",
    watch: options.Watch = None,
    no_headers: options.NoHeaders = False,
) -> None:
    """Show all sessions, or one."""
    from routed.observe.documents import Peer, Peers

    client = servers.client(servers.Asked(socket, node, http))
    how = options.shown(output, watch, no_headers)
    if name is None:
        found: Sequence[PeerSummary] = show(lambda: client.get("/peers"), Peers, lines, how).peers
    else:
        path = peer_path(name)
        found = [show(lambda: client.get(path), Peer, peer_lines, how)]
    down = [peer for peer in found if peer.state != "established" and peer.shut_down is None]
    if check and down:
        raise CommandError(f"{count(len(down), 'session')} of {len(found)} not Established", Status.NO)


def lines(document: Peers, screen: Screen) -> Iterator[str]:
    """All peers, a line each."""
    if not document.peers:
        yield "no peers"
        return
    yield from table(COLUMNS, [_row(peer) for peer in document.peers], screen)


def _row(peer: PeerSummary) -> Row:
    return (
        peer.name,
        peer.node or "",
        peer.address,
        "" if peer.remote_as is None else str(peer.remote_as),
        Cell(peer.state, "" if peer.shut_down is not None else state_colour(peer.state)),
        duration(peer.established_for),
        total(peer.received),
        total(peer.rejected),
        total(peer.advertised),
        str(peer.flaps) if peer.flaps else "",
        _note(peer),
    )


def _note(peer: PeerSummary) -> str:
    """What one has to know, in a few words."""
    if peer.shut_down is not None:
        return f"shut down: {peer.shut_down}" if peer.shut_down else "shut down"
    stale = "stale routes kept" if peer.stale else ""
    error = peer.last_error or "" if peer.state != "established" else ""
    return "; ".join(part for part in (stale, error) if part)


def peer_lines(peer: Peer, screen: Screen) -> Iterator[str]:
    """One peer, whole."""
    yield from facts(_facts(peer), screen)
    if peer.history:
        yield ""
        yield screen.paint("history", "bold")
        yield from event_lines(peer.history, screen, of_one_peer=True)


def _facts(peer: Peer) -> Iterator[tuple[str, str | Cell]]:
    yield "peer", f"{peer.name}, node {peer.node}" if peer.node else peer.name
    yield "record", peer.record or ""
    for_how_long = f" for {duration(peer.established_for)}, since {moment(peer.since)}" if peer.since else ""
    yield "state", Cell(peer.state + for_how_long, state_colour(peer.state))
    if peer.shut_down is not None:
        yield "shut down", Cell(peer.shut_down or "by an operator, without a message", "yellow")
    yield "last error", Cell(peer.last_error or "", "" if peer.state == "established" else "red")
    yield "flaps", str(peer.flaps)
    yield "address", _address(peer)
    yield "AS", f"ours {peer.local_as}, theirs {_or(peer.remote_as, 'any')}{_kind(peer)}"
    yield "router ID", peer.router_id or ""
    yield "families", ", ".join(map(family, peer.families))
    yield "received", by_family(peer.received) or "none"
    yield "rejected", by_family(peer.rejected)
    yield "advertised", by_family(peer.advertised) or "none"
    yield "stale", "routes outlive the session (graceful restart)" if peer.stale else ""
    yield "timers", _timers(peer)
    yield "next hop", peer.next_hop_mode
    yield "filters", ", ".join(peer.filters)
    yield "max prefixes", "" if peer.max_prefixes is None else str(peer.max_prefixes)
    yield "protection", _protection(peer.protection)
    if peer.agreed is not None:
        yield "agreed", _agreed(peer.agreed)
    yield "capabilities", ", ".join(peer.capabilities)
    yield "messages in", _messages(peer.messages_received)
    yield "messages out", _messages(peer.messages_sent)
    yield "unsent", f"{peer.unsent_octets} octets of UPDATEs" if peer.unsent_octets else ""
    ignored = f"{count(peer.ignored, 'announcement')}: {peer.ignored_reason}" if peer.ignored else ""
    yield "ignored", ignored
    yield "bad UPDATEs", str(peer.bad_updates) if peer.bad_updates else ""
    shared = [f"{family(name)} shared by {count(size, 'peer')}" for name, size in peer.export_groups.items()]
    yield "export group", ", ".join(shared)


def _or(value: object, otherwise: str) -> str:
    return otherwise if value is None else str(value)


def _kind(peer: Peer) -> str:
    words = [{"ibgp": "iBGP", "ebgp": "eBGP", "unknown": ""}[peer.kind]]
    words += ["route reflector client"] if peer.route_reflector_client else []
    words += ["dynamic"] if peer.dynamic else []
    words += ["passive"] if peer.passive else []
    text = ", ".join(word for word in words if word)
    return f" ({text})" if text else ""


def _address(peer: Peer) -> str:
    remote = f"{peer.address} port {peer.port}"
    return f"{remote}, ours {peer.local_address}" if peer.local_address else remote


def _timers(peer: Peer) -> str:
    parts = []
    if peer.agreed is not None:
        parts.append(f"hold {peer.agreed.hold_time} s, keepalive {peer.agreed.keepalive:g} s")
    else:
        keepalive = "" if peer.configured_keepalive is None else f", keepalive {peer.configured_keepalive} s"
        parts.append(f"hold {peer.configured_hold_time} s{keepalive} (ours)")
    if peer.hold_timer is not None:
        parts.append(f"{peer.hold_timer:.0f} s until the session ends unless the peer is heard")
    parts.append(f"restart {peer.restart_time} s")
    return "; ".join(parts)


def _protection(protection: Protection) -> str:
    parts = ["TCP-MD5"] if protection.tcp_md5 else []
    parts += ["the old password is still in use"] if protection.old_password_in_use else []
    hops = protection.ttl_security_hops
    parts += [] if hops is None else [f"GTSM {count(hops, 'hop')}"]
    dropped = protection.segments_dropped
    parts += [f"{count(dropped, 'segment')} dropped"] if dropped else []
    return ", ".join(parts) or "none"


def _agreed(agreed: Agreed) -> str:
    add_path = {"receive": agreed.add_path_receive, "send": agreed.add_path_send}
    parts = [", ".join(map(family, agreed.families))]
    parts += [
        f"ADD-PATH {way} {', '.join(map(family, families))}" for way, families in add_path.items() if families
    ]
    said = {
        "extended messages": agreed.extended_messages,
        "enhanced route refresh": agreed.enhanced_route_refresh,
        "route refresh": agreed.route_refresh and not agreed.enhanced_route_refresh,
        "4-octet AS": agreed.four_octet_as,
        "graceful restart": agreed.graceful_restart,
        "long-lived graceful restart": agreed.long_lived_graceful_restart,
    }
    parts += [what for what, so in said.items() if so]
    if agreed.restart_time is not None:
        parts.append(f"its restart time {agreed.restart_time} s")
    return "; ".join(parts)


def _messages(messages: Messages) -> str:
    said = {
        "OPEN": messages.open,
        "UPDATE": messages.update,
        "KEEPALIVE": messages.keepalive,
        "NOTIFICATION": messages.notification,
        "ROUTE-REFRESH": messages.route_refresh,
    }
    return ", ".join(f"{name} {number}" for name, number in said.items() if number)

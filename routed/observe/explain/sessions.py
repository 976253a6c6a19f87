"""Gates of a session: what ended the last one and what that usually means, its state, what goes each way."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from routed.bgp.fsm import State
from routed.bgp.peer import Peer
from routed.observe.explain.gates import Finding, notes, passes, stops
from routed.observe.explain.peering import password_field
from routed.observe.explain.question import PeerQuestion
from routed.observe.explain.rules import FAMILY_TEXT
from routed.observe.views.text import time_text
from routed.resources import BGPPeer, Key

_EVENTS = 5


@dataclass(frozen=True, slots=True)
class Cause:
    """What a text of `Session.last_error` usually means."""

    gate: str
    pattern: re.Pattern[str]
    meaning: str


def _cause(gate: str, pattern: str, meaning: str) -> Cause:
    return Cause(gate, re.compile(pattern, re.IGNORECASE), meaning)


KEY_MISMATCH = _cause(
    "key-mismatch",
    r"segments of the peer dropped|is the password at the other|its TTL security the same",
    "the two ends have different passwords, or only one has any (or their TTL security differs): "
    "compare the Secrets of both ends",
)
#: The first that is found in the error counts.
CAUSES: tuple[Cause, ...] = (
    _cause(
        "tcp",
        r"no listening socket has room",
        "the kernel has no room for another password: raise net.core.optmem_max",
    ),
    KEY_MISMATCH,
    _cause(
        "prefix-limit",
        r"maximum number of prefixes",
        "one end sends more prefixes than the other takes: find out why, then raise the limit or filter",
    ),
    _cause(
        "tcp",
        r"connection refused",
        "the host is there, but nothing listens on that address and port, or it has no peering for this "
        "node's address: see that its BGP runs, its listenPort, and its own peerings",
    ),
    _cause(
        "tcp",
        r"no route to host|network is unreachable|host is unreachable|host is down",
        "there is no way to the peer: see this node's interfaces and default route, and the peer's link",
    ),
    _cause(
        "tcp",
        r"timed out",
        "nothing answers: a firewall, a wrong address, a host that is down, or a password at the other end",
    ),
    _cause(
        "tcp",
        r"cannot assign requested address",
        "the session's source address is not on this node: see the Node record's address",
    ),
    _cause(
        "tcp",
        r"connection lost|connection reset|broken pipe|no connection",
        "the connection broke, without a word of BGP: the other daemon ended or has no peering for this node",
    ),
    _cause(
        "open",
        r"bad peer as|is in AS \d+, configured is",
        "the two ends do not agree on the AS numbers: compare asNumber here with the other's own",
    ),
    _cause(
        "open",
        r"bad bgp identifier|has our router ID",
        "two speakers have one router ID: give each its own (CALICO_ROUTER_ID, the node's IPv4 address)",
    ),
    _cause(
        "open",
        r"unsupported capability|carries none of",
        "the two ends have no address family in common: see which the other's peering is for",
    ),
    _cause(
        "open",
        r"unacceptable hold|unsupported version|unsupported optional|authentication failure|OPEN Message",
        "the other end does not take this OPEN: see its log for what it wants",
    ),
    _cause(
        "hold-timer",
        r"hold timer expired|send hold timer|takes nothing of what",
        "the peer was not heard for the hold time: a link, a firewall, or a host too busy; or it is dead",
    ),
    _cause(
        "notification",
        r"administrative shutdown",
        "the operator of the other end shut the session down",
    ),
    _cause(
        "notification",
        r"peer de-?configured|connection rejected",
        "the other end has no peering with this node (any more): see its records",
    ),
    _cause(
        "notification",
        r"collision|administrative reset|configuration change|out of resources|cease|restarted",
        "the other end ended it, and should be back soon",
    ),
    _cause(
        "notification",
        r"notification",
        "one end did not take what the other sent: see the logs of both for the message",
    ),
)


def _cause_of(question: PeerQuestion) -> Cause | None:
    error, peer = _error(question), question.peer
    if error is None or peer is None:
        return None
    if "timed out" in error and peer.config.password is not None:
        return KEY_MISMATCH  # segments that are signed otherwise are dropped without a word
    return next((one for one in CAUSES if one.pattern.search(error)), None)


def _error(question: PeerQuestion) -> str | None:
    peer = question.peer
    return None if peer is None or peer.established else peer.session.last_error


def _ended(question: PeerQuestion, gate: str) -> Iterator[Finding]:
    """What ended the last session or attempt, where that is a gate's."""
    cause, peer = _cause_of(question), question.peer
    if cause is not None and cause.gate == gate and peer is not None:
        yield stops(f"{_error(question)}: {cause.meaning}", *_field_of(question, gate), peer=peer.name)


def _field_of(question: PeerQuestion, gate: str) -> tuple[Key | None, str | None]:
    """The record and field to look at first."""
    session = question.session
    if gate == "key-mismatch":
        return password_field(question)
    if session is None:
        return None, None
    if gate == "open" and session.record.kind == BGPPeer.kind:
        return session.record, "spec.asNumber"
    return session.record, None


def key_mismatch(question: PeerQuestion) -> Iterator[Finding]:
    """Whether the two ends have different passwords, by what TCP drops."""
    peer = question.peer
    yield from _ended(question, "key-mismatch")
    if peer is not None and (dropped := peer.protection.dropped):
        record, field = password_field(question)
        text = (
            f"{dropped} segments of the peer were dropped: signed with another password, or from too far away"
        )
        yield (notes if question.up else stops)(text, record, field, peer=peer.name)


def prefix_limit(question: PeerQuestion) -> Iterator[Finding]:
    """Whether it sent too many prefixes."""
    peer = question.peer
    yield from _ended(question, "prefix-limit")
    if peer is not None and peer.config.max_prefixes is not None:
        yield notes(f"at most {peer.config.max_prefixes} prefixes of a family are taken", peer=peer.name)


def tcp(question: PeerQuestion) -> Iterator[Finding]:
    """Whether there is a connection."""
    return _ended(question, "tcp")


def opened(question: PeerQuestion) -> Iterator[Finding]:
    """Whether each end takes the other's OPEN."""
    return _ended(question, "open")


def hold_timer(question: PeerQuestion) -> Iterator[Finding]:
    """Whether the peer is heard."""
    return _ended(question, "hold-timer")


def notification(question: PeerQuestion) -> Iterator[Finding]:
    """Whether either end ended the session with a NOTIFICATION."""
    return _ended(question, "notification")


def session(question: PeerQuestion) -> Iterator[Finding]:
    """The session's state."""
    peer = question.peer
    if peer is None:
        return
    observed = question.observed
    now = observed.speaker.loop.time()
    negotiated = peer.session.negotiated
    if negotiated is not None and peer.session.established_at is not None:
        since = int(now - peer.session.established_at)
        names = " and ".join(FAMILY_TEXT[family] for family in sorted(negotiated.families))
        text = f"Established for {since} s, {names}, hold time {negotiated.hold_time} s"
        flaps = f", lost {peer.session.flaps} times before" if peer.session.flaps else ""
        yield passes(text + flaps, peer=peer.name)
        if peer.session.last_error:
            yield notes(f"ended last by: {peer.session.last_error}", peer=peer.name)
        return
    yield stops(state_text(peer), peer=peer.name)


def state_text(peer: Peer) -> str:
    """The state of a session that is not Established, what it means, and why the last one ended."""
    state = peer.session.state
    error = f"; last error: {peer.session.last_error}" if peer.session.last_error else ""
    if peer.shut_down is not None:
        return f"Idle: shut down by an operator{error}"
    what = _STATES[state]
    if state is State.ACTIVE and peer.config.passive:
        what = "waits for the peer to connect: see that its BGP runs, and has this node as a peer"
        if peer.config.password is not None:
            what += ", with the same password"
    if state is State.IDLE:
        deadline = peer.session.deadline
        what = (
            "has no session until it is configured otherwise"
            if deadline is None
            else f"waits after an error, {max(0, round(deadline - peer.loop.time()))} s more"
        )
    return f"{state.name.capitalize()}: {what}{error}"


_STATES = {
    State.IDLE: "waits after an error",
    State.CONNECT: "dials",
    State.ACTIVE: "waits before it dials again, and for the peer to connect",
    State.OPENSENT: "is connected, and waits for the peer's OPEN",
    State.OPENCONFIRM: "has the peer's OPEN, and waits for its KEEPALIVE",
    State.ESTABLISHED: "is up",
}


def convergence(question: PeerQuestion) -> Iterator[Finding]:
    """What is waited for: after the start, and while the peer restarts."""
    observed, peer = question.observed, question.peer
    if peer is None:
        return
    if not observed.speaker.converged:
        yield notes(
            "this process has just started: End-of-RIB is held back until peers have sent their tables"
        )
    for family, rib in observed.speaker.ribs.items():
        for source, table in rib.sources.items():
            if source.name == peer.name and table.stale:
                text = (
                    f"{len(table.stale)} {FAMILY_TEXT[family]} routes of it are stale, kept while it restarts"
                )
                yield notes(text, peer=peer.name)


def exchanged(question: PeerQuestion) -> Iterator[Finding]:
    """How many routes go each way, and by which filters."""
    observed, peer, session_ = question.observed, question.peer, question.session
    if peer is None:
        return
    if peer.established:
        for family in sorted(peer.session.negotiated.families if peer.session.negotiated else ()):
            received = observed.speaker.received(peer).get(family, 0)
            advertised = observed.speaker.advertised(peer).get(family, 0)
            yield notes(
                f"{FAMILY_TEXT[family]}: {received} routes received, {advertised} advertised", peer=peer.name
            )
        ignored, reason = observed.speaker.ignored(peer)
        if ignored:
            yield notes(f"{ignored} announcements not used, the last since {reason}", peer=peer.name)
    for name, compiled in observed.speaker.tables.filters(peer.config.filters):
        missing = ", which does not exist: the peering does without" if compiled is None else ""
        yield notes(
            f"BGPFilter {name}{missing}",
            None if session_ is None else session_.record,
            "spec.filters",
            peer=peer.name,
        )
    if peer.config.route_reflector_client:
        yield notes("a route reflector client of this speaker", peer=peer.name)


def history(question: PeerQuestion) -> Iterator[Finding]:
    """What happened to it last."""
    if question.peer is not None:
        for event in question.observed.events.latest(peer=question.peer.name, most=_EVENTS):
            yield notes(f"{time_text(event.time)} {event.text}", peer=question.peer.name)

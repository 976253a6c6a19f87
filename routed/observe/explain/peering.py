"""Gates of a peering: what makes it, how it is protected, and what its session does."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from routed.bgp.fsm import State
from routed.bgp.nlri import Family
from routed.bgp.peer import Peer
from routed.intent.why_session import rule_of, why_no_local_end, why_no_session, why_no_session_with
from routed.observe.explain.gates import Finding, notes, passes, stops, stops_by
from routed.observe.explain.question import PeerQuestion
from routed.observe.explain.rules import FAMILY_TEXT
from routed.observe.views.text import time_text
from routed.resources import BGPConfiguration, BGPPeer, Key, Node, SecretKeyRef

_CONFIGURATION = Key(BGPConfiguration.kind, "default")
_EVENTS = 5


def target(question: PeerQuestion) -> Iterator[Finding]:
    """Whether there is anything of this name or address."""
    known = question.session or question.peer or question.node or question.address
    if known is None:
        yield stops(f"{question.asked!r} is no prefix, no address, no peering and no node that is known")


def local_end(question: PeerQuestion) -> Iterator[Finding]:
    """Whether this node can have sessions."""
    if question.tables is not None:
        yield from map(stops_by, why_no_local_end(question.tables))


def peering(question: PeerQuestion) -> Iterator[Finding]:
    """Which record and rule make the peering, or why there is none."""
    tables, session, peer = question.tables, question.session, question.peer
    if session is not None and tables is not None:
        rule, field = rule_of(session, tables.cluster.peers.get(session.record.name))
        who = f"{session.peer_address}, AS {session.peer_as}"
        node = f", node {session.peer_node}" if session.peer_node else ""
        yield passes(f"{who}{node}: made by {rule}", session.record, field, peer=session.name)
    elif peer is not None:
        where = "from a client range" if peer.config.dynamic else "by the command line"
        if tables is not None and not peer.config.dynamic:
            where = "by records that are gone: it ends when others give its routes"
        yield passes(f"{peer.config.remote.address}: made {where}", peer=peer.name)
    elif question.address is not None and question.node is None:
        ranges = question.observed.speaker.client_ranges
        found = next((one for one in ranges if question.address in one.network), None)
        if found is not None:
            yield stops(f"no client has come from {question.address}; it may, by the range {found.network}")
        reasons = [] if tables is None else why_no_session_with(tables, question.address)
        yield from map(stops_by, reasons)
        if found is None and not reasons:
            yield stops(f"no peering with {question.address}: no record names this address")
    elif question.node is not None and tables is not None:
        reasons = why_no_session(tables, question.node)
        yield from map(stops_by, reasons)
        if not reasons:
            yield stops(f"no peering with node {question.node}", Key(Node.kind, question.node))


def running(question: PeerQuestion) -> Iterator[Finding]:
    """Whether the peering runs, or another one stands for it."""
    session, peer, tables = question.session, question.peer, question.tables
    if session is None or peer is not None or tables is None:
        return
    place = (session.peer_address, session.port)
    others = question.observed.speaker.peers.values()
    found = next(
        (one for one in others if (one.config.remote.address, one.config.remote.port) == place), None
    )
    if found is None:
        yield stops(
            "is not running: the records' last change is not taken in yet", session.record, peer=session.name
        )
    else:
        wins = tables.sessions.get(found.name)
        yield stops(
            f"covered by {found.name}, which has the same address and port",
            wins.record if wins else session.record,
            peer=found.name,
        )


def families(question: PeerQuestion) -> Iterator[Finding]:
    """Which families the two nodes could speak of, and which do not meet."""
    tables, session, peer = question.tables, question.session, question.peer
    negotiated = None if peer is None else peer.session.negotiated
    if negotiated is not None and peer is not None:
        for family in sorted(peer.config.families - negotiated.families):
            yield stops(f"the peer's OPEN does not offer {FAMILY_TEXT[family]}", peer=peer.name)
    if tables is None or session is None or session.peer_node is None:
        return
    other, local = tables.cluster.neighbor(session.peer_node), tables.cluster.local()
    for family in Family:
        if other is None or local is None or Family.of(session.peer_address) is family:
            continue
        ends = [(local.address(family), local.name), (other.address(family), other.name)]
        missing = [name for address, name in ends if address is None]
        if len(missing) == 1:
            yield notes(
                f"no session in {FAMILY_TEXT[family]}: node {missing[0]} has no address of it",
                Key(Node.kind, missing[0]),
                f"spec.bgp.{family.name.lower()}Address",
            )


def held(question: PeerQuestion) -> Iterator[Finding]:
    """Whether the configuration forbids a session, since the password cannot be used."""
    peer = question.peer
    if peer is not None and peer.config.held is not None:
        record, field = _password_field(question)
        yield stops(peer.config.held, record, field, peer=peer.name)


def shut_down(question: PeerQuestion) -> Iterator[Finding]:
    """Whether an operator shut it down."""
    peer = question.peer
    if peer is not None and peer.shut_down is not None:
        message = f' ("{peer.shut_down}")' if peer.shut_down else ""
        yield stops(f"shut down by an operator{message}: bring it up again", peer=peer.name)


def password(question: PeerQuestion) -> Iterator[Finding]:
    """Whether the password that a record names is there."""
    peer, tables, session = question.peer, question.tables, question.session
    reference = _password_reference(question)
    record, field = _password_field(question)
    if reference is not None and tables is not None and session is not None and session.password is None:
        where = f"{tables.options.secret_namespace}/{reference.name}, key {reference.key!r}"
        yield stops(
            f"the password is missing: there is none at Secret {where}", record, field, peer=session.name
        )
    elif peer is not None and peer.config.password is not None:
        old = ", still with the old one" if peer.protection.old_key_in_use else ""
        yield passes(f"protected by TCP-MD5 with a password{old}", record, field, peer=peer.name)
    elif peer is not None:
        yield notes("no password (TCP-MD5) is configured", peer=peer.name)


def ttl_security(question: PeerQuestion) -> Iterator[Finding]:
    """Whether TTL security is on."""
    peer, session = question.peer, question.session
    if peer is not None and peer.config.ttl_security_hops is not None:
        hops = peer.config.ttl_security_hops
        text = f"TTL security: the peer may be {hops} hop{'s' if hops > 1 else ''} away"
        yield notes(text, None if session is None else session.record, "spec.ttlSecurity", peer=peer.name)


def dials(question: PeerQuestion) -> Iterator[Finding]:
    """Who makes the connection."""
    peer, session = question.peer, question.session
    if peer is None:
        return
    if not peer.config.passive:
        ours = f" from {peer.config.source}" if peer.config.source else ""
        yield notes(f"this end dials {peer.config.remote}{ours}, and accepts too", peer=peer.name)
        return
    why = "so it is configured"
    if session is not None and session.source_address is not None and session.peer_node is not None:
        why = f"its address sorts after {session.source_address} as text"
    yield notes(f"the peer dials, this end waits: {why}", peer=peer.name)


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
        "there is no way to the peer's address: see its interfaces, its default route, the peer's link",
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
        return _password_field(question)
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
        record, field = _password_field(question)
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
    return f"{state.name.capitalize()}: {what}{error}"


_STATES = {
    State.IDLE: "waits after an error before it tries again",
    State.CONNECT: "is about to connect",
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


def _password_reference(question: PeerQuestion) -> SecretKeyRef | None:
    tables, session = question.tables, question.session
    if tables is None or session is None:
        return None
    if session.record.kind == BGPConfiguration.kind:
        return tables.cluster.configuration.node_mesh_password
    peer = tables.cluster.peers.get(session.record.name)
    return None if peer is None else peer.password


def _password_field(question: PeerQuestion) -> tuple[Key | None, str | None]:
    session = question.session
    if session is None:
        return None, None
    mesh = session.record.kind == BGPConfiguration.kind
    return session.record, f"spec.{'nodeMeshPassword' if mesh else 'password'}.secretKeyRef"

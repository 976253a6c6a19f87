"""Gates of a peering: what makes it, and what is configured for it."""

from __future__ import annotations

from collections.abc import Iterator

from routed.bgp.nlri import Family
from routed.intent.why_session import rule_of, why_no_local_end, why_no_session, why_no_session_with
from routed.observe.explain.gates import Finding, notes, passes, stops, stops_by
from routed.observe.explain.question import PeerQuestion
from routed.observe.explain.rules import FAMILY_TEXT
from routed.resources import BGPConfiguration, Key, Node, SecretKeyRef

_CONFIGURATION = Key(BGPConfiguration.kind, "default")


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
            # A reflector offers both, and takes what the other has; what records ask for is asked for.
            found = stops if session is not None and session.family is family else notes
            yield found(f"the peer's OPEN does not offer {FAMILY_TEXT[family]}", peer=peer.name)
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
        record, field = password_field(question)
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
    record, field = password_field(question)
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
        gateway = None if session is None else session.reachable_by
        way = f", by way of {gateway} (reachableBy)" if gateway is not None else ""
        yield notes(f"this end dials {peer.config.remote}{ours}{way}, and accepts too", peer=peer.name)
        return
    why = "so it is configured"
    if session is not None and session.source_address is not None and session.peer_node is not None:
        why = f"its address sorts after {session.source_address} as text"
    yield notes(f"the peer dials, this end waits: {why}", peer=peer.name)


def _password_reference(question: PeerQuestion) -> SecretKeyRef | None:
    tables, session = question.tables, question.session
    if tables is None or session is None:
        return None
    if session.record.kind == BGPConfiguration.kind:
        return tables.cluster.configuration.node_mesh_password
    peer = tables.cluster.peers.get(session.record.name)
    return None if peer is None else peer.password


def password_field(question: PeerQuestion) -> tuple[Key | None, str | None]:
    """The record and field that name the password, where records make the peering."""
    session = question.session
    if session is None:
        return None, None
    mesh = session.record.kind == BGPConfiguration.kind
    return session.record, f"spec.{'nodeMeshPassword' if mesh else 'password'}.secretKeyRef"

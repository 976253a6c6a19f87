"""`show protocols`: BIRD's protocols, which here are the peers and four that stand for our own routes.

Those four have the names that BIRD gives them by itself, and so with Calico's bird.cfg: `static1` for the
routes that the records make (blocks, services), `kernel1` for what goes into the kernel and what others put
there, `direct1` for the networks of interfaces, `device1` for interfaces.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

from routed.bgp.capabilities import NO_ADD_PATH, AddPathMode
from routed.bgp.fsm import STATE_NAMES, State
from routed.bgp.group import Group
from routed.bgp.message import MAX_MESSAGE_OCTETS
from routed.bgp.path import PREFERENCE, Source, SourceKind
from routed.bgp.peer import Peer
from routed.bgp.restart import restart_families
from routed.bgp.session_types import Negotiated
from routed.observe.bird.counts import RouteCounts, count_adverts, count_routes
from routed.observe.bird.replies import (
    INVALID_SYMBOL,
    NO_PROTOCOLS_MATCH,
    PROTOCOL,
    PROTOCOL_DETAILS,
    PROTOCOL_HEADER,
    CommandError,
    Line,
    Portions,
    Reply,
    syntax_error,
)
from routed.observe.bird.statics import hidden_statics
from routed.observe.bird.view import View, short_time, symbol
from routed.observe.bird.words import Word, matcher
from routed.observe.events import EventKind

#: The local kinds of routes behind each of BIRD's protocols.
LOCAL_PROTOCOLS: Final[dict[str, tuple[str, tuple[SourceKind, ...]]]] = {
    "static1": ("Static", (SourceKind.STATIC, SourceKind.ALLOCATED)),
    "kernel1": ("Kernel", (SourceKind.KERNEL,)),
    "device1": ("Device", ()),
    "direct1": ("Direct", (SourceKind.DIRECT,)),
}
PROTOCOL_OF: Final = {kind: name for name, (_, kinds) in LOCAL_PROTOCOLS.items() for kind in kinds}
_PREFERENCE: Final = {
    "static1": PREFERENCE[SourceKind.STATIC],
    "kernel1": PREFERENCE[SourceKind.KERNEL],
    "device1": PREFERENCE[SourceKind.DIRECT],
    "direct1": PREFERENCE[SourceKind.DIRECT],
}
_ROW: Final = "{:<8} {:<8} {:<8} {:<6} {:<11} {}"
HEADER: Final = Line(PROTOCOL_HEADER, _ROW.format("name", "proto", "table", "state", "since", "info"))
#: How our words for what ended a session begin, and BIRD's (bgp_err_classes).
_ERRORS: Final = (
    ("connect: ", "Socket: "),
    ("connection lost: closed by the peer", "Socket: Connection closed"),
    ("connection lost: ", "Socket: "),
    ("received NOTIFICATION ", "Received: "),
    ("sent NOTIFICATION ", "BGP Error: "),
    ("", "Error: "),
)
#: What an operator did is no error (BE_MAN_DOWN).
_SHUT_DOWN: Final = (
    "sent NOTIFICATION Cease/Administrative Shutdown",
    "sent NOTIFICATION Cease/Hard Reset (Cease/Administrative Shutdown",
    "connect: given up: shut down by an operator",
)
#: What tells when a peering came into the state that it is in, where it is not Established.
_CHANGES: Final = frozenset(
    {
        EventKind.PEER_ADDED,
        EventKind.SESSION_DOWN,
        EventKind.PEER_SHUT_DOWN,
        EventKind.PEER_BROUGHT_UP,
    }
)


@dataclass(frozen=True, slots=True)
class Protocol:
    """One line of `show protocols`."""

    name: str
    kind: str
    """`BGP`, `Static`, ..."""
    state: str
    since: float
    """Seconds since 1970."""
    info: str = ""
    peer: Peer | None = None

    @property
    def line(self) -> Line:
        """As BIRD prints it (proto_cmd_show)."""
        since = short_time(self.since)
        return Line(PROTOCOL, _ROW.format(self.name, self.kind, "master", self.state, since, self.info))


def protocols(view: View) -> list[Protocol]:
    """All, the peers last, by name."""
    observed = view.observed
    since = observed.started_at
    if observed.writer is None:  # a reflector makes no routes, and knows no interface
        states = dict.fromkeys(LOCAL_PROTOCOLS, "down")
    else:
        states = dict.fromkeys(LOCAL_PROTOCOLS, "up")
        if not observed.writer.fib.port:
            states |= dict.fromkeys(("kernel1", "device1", "direct1"), "down")
    info = {"kernel1": observed.kernel_error()}
    local = [
        Protocol(name, kind, states[name], since, info.get(name, ""))
        for name, (kind, _) in LOCAL_PROTOCOLS.items()
    ]
    changed = _changed(view)
    return local + [_of_peer(view, peer, changed) for peer in view.peers]


def _changed(view: View) -> dict[str, float]:
    """When each peering's session was lost last, or it came, as far as that is still remembered."""
    found: dict[str, float] = {}
    for event in view.observed.events.latest(kinds=_CHANGES):
        if event.peer is not None:
            found[event.peer] = event.time
    return found


def _of_peer(view: View, peer: Peer, changed: dict[str, float]) -> Protocol:
    observed = view.observed
    since = changed.get(peer.name, observed.started_at)
    state, info = "start", _info(peer)
    if peer.established:
        state = "up"
        if peer.session.established_at is not None:
            since = time.time() - (observed.speaker.loop.time() - peer.session.established_at)
    elif peer.shut_down is not None:
        state, info = "down", ""
    return Protocol(symbol(peer.name), "BGP", state, since, info, peer)


def _info(peer: Peer) -> str:
    """State of the session, and the last error (bgp_get_status)."""
    return f"{state_text(peer):<14}{error_text(peer) or ''}"


def state_text(peer: Peer) -> str:
    """BIRD's word for the session's state."""
    if peer.shut_down is not None:
        return "Down"
    state = peer.session.state
    return "Passive" if peer.config.passive and state is State.ACTIVE else STATE_NAMES[state]


def error_text(peer: Peer) -> str | None:
    """What ended the session, or the last attempt at one; None: nothing, or it is up again."""
    error = peer.session.last_error
    if error is None or peer.established or error.startswith(_SHUT_DOWN):
        return None
    return next(word + error.removeprefix(ours) for ours, word in _ERRORS if error.startswith(ours))


def select(view: View, words: list[Word]) -> list[Protocol]:
    """The protocols that a command means: one by name, those of a quoted pattern, or with `all`, or without a
    word, every one. Raises CommandError where there is none."""
    found = protocols(view)
    if not words or words == [Word("all")]:
        return found
    if len(words) > 1:
        raise syntax_error()
    (word,) = words
    if word.quoted:
        matches = matcher(word.text).match
        chosen = [one for one in found if matches(one.name)]
        if not chosen:
            raise CommandError(NO_PROTOCOLS_MATCH, "No protocols match")
    else:
        chosen = [one for one in found if one.name == word.text]
        if not chosen:
            raise CommandError(INVALID_SYMBOL, f"{word} is not a protocol")
    return chosen


def show_protocols(view: View, words: list[Word]) -> Reply:
    """`show protocols [all] [NAME|"PATTERN"]`."""
    details = bool(words) and words[0] == Word("all")
    chosen = select(view, words[1:] if details else words)
    if len(words) > 1 and words[-1] == Word("all"):
        raise syntax_error()
    if not details:
        yield HEADER
        for one in chosen:
            yield one.line
        return
    counts = yield from count_routes(view.observed.speaker.ribs[view.family])
    told: dict[Group, Counter[Source]] = {}
    yield HEADER
    for one in chosen:
        exported = yield from _exported(view, one, told)
        if view.is_gone(one.peer):
            continue  # while others were counted
        yield one.line
        for text in _details(view, one, counts, exported):
            yield Line(PROTOCOL_DETAILS, text)
        yield Line(PROTOCOL_DETAILS, "")


def _exported(view: View, protocol: Protocol, told: dict[Group, Counter[Source]]) -> Portions[int]:
    """How many routes a protocol is told of. `told` remembers what was counted."""
    peer = protocol.peer
    if view.is_gone(peer):
        return 0
    if peer is None:
        writer = view.observed.writer
        return len(writer.fib.installed[view.family]) if protocol.name == "kernel1" and writer else 0
    member = view.observed.speaker.attachment(peer).members.get(view.family)
    if member is None:
        return 0
    group = member.group
    if group not in told:
        told[group] = yield from count_adverts(group)
    return told[group].total() - told[group][member.source]


def _details(view: View, protocol: Protocol, counts: RouteCounts, exported: int) -> Iterator[str]:
    """What `show protocols all` says of one (proto_show_basic_info, bgp_show_proto_info)."""
    peer = protocol.peer
    if peer is None:
        kinds = LOCAL_PROTOCOLS[protocol.name][1]
        extra = len(hidden_statics(view)) if protocol.name == "static1" else 0
        imported = sum(counts.imported[kind] for kind in kinds) + extra
        preferred = sum(counts.preferred[kind] for kind in kinds) + extra
        yield f"  Preference:     {_PREFERENCE[protocol.name]}"
        yield "  Input filter:   ACCEPT"
        to_kernel = protocol.name == "kernel1" and view.observed.compiler is not None
        yield f"  Output filter:  {'calico_kernel_programming' if to_kernel else 'REJECT'}"
        yield from _routes(imported, None, exported, preferred, None)
        return
    source = view.source(peer)
    imported, preferred, rejected = 0, 0, None
    if source is not None:
        imported, preferred = counts.imported[source], counts.preferred[source]
        received = view.observed.speaker.received(peer).get(view.family, 0)
        rejected = max(0, received - imported)
    yield f"  Description:    {_description(view, peer)}"
    yield f"  Preference:     {PREFERENCE[SourceKind.IBGP]}"
    yield "  Input filter:   (unnamed)"
    yield "  Output filter:  (unnamed)"
    if view.family in view.observed.speaker.awaited.get(peer.name, ()):
        yield "  GR recovery:    pending"
    yield from _routes(imported, rejected, exported, preferred, view.observed.speaker.ignored(peer)[0])
    yield from _session(view, peer)


def _description(view: View, peer: Peer) -> str:
    """The record that makes the peering, and the node at the other end, where the records say so."""
    compiler = view.observed.compiler
    intent = None if compiler is None else compiler.session(peer.name)
    if intent is None:
        return "Client of a range" if peer.config.dynamic else "Connection to BGP peer"
    node = "" if intent.peer_node is None else f", node {intent.peer_node}"
    return f"{intent.record}{node}"


def _routes(
    imported: int, filtered: int | None, exported: int, preferred: int, ignored: int | None
) -> Iterator[str]:
    """Numbers of routes. Changes of single routes are not counted, which BIRD's `---` says."""
    kept_out = f"{filtered} filtered, " if filtered else ""
    yield f"  Routes:         {imported} imported, {kept_out}{exported} exported, {preferred} preferred"
    yield "  Route change stats:     received   rejected   filtered    ignored   accepted"
    none = "---"
    for name, loops in (
        ("Import updates", none if ignored is None else ignored),
        ("Import withdraws", none),
        ("Export updates", none),
        ("Export withdraws", none),
    ):
        yield f"    {name + ':':<22} {none:>10} {none:>10} {none:>10} {loops:>10} {none:>10}"


def _session(view: View, peer: Peer) -> Iterator[str]:
    session = peer.session
    negotiated = session.negotiated
    remote_as = peer.config.remote_as if negotiated is None else negotiated.remote_as
    yield f"  BGP state:          {state_text(peer)}"
    yield f"    Neighbor address: {peer.config.remote.address}"
    yield f"    Neighbor AS:      {'any' if remote_as is None else remote_as}"
    attached = view.observed.speaker.attachment(peer)
    if attached.restarting:
        yield "    Neighbor graceful restart active"
    if negotiated is not None and peer.connection is not None:
        now = view.observed.speaker.loop.time()
        yield f"    Neighbor ID:      {ip_address(negotiated.remote_router_id)}"
        yield f"    Neighbor caps:    {' '.join(_capabilities(view, negotiated))}"
        yield f"    Session:          {' '.join(_agreed(view, peer, negotiated))}"
        yield f"    Source address:   {peer.connection.local.address}"
        if peer.config.max_prefixes is not None:
            received = view.observed.speaker.received(peer).get(view.family, 0)
            yield f"    Route limit:      {received}/{peer.config.max_prefixes}"
        yield f"    Hold timer:       {_left(session.hold_deadline, now)}/{negotiated.hold_time}"
        yield f"    Keepalive timer:  {_left(session.keepalive_deadline, now)}/{int(negotiated.keepalive)}"
    error = error_text(peer)
    if error is not None:
        yield f"    Last error:       {error}"


def _left(deadline: float | None, now: float) -> int:
    return 0 if deadline is None else max(0, int(deadline - now))


def _capabilities(view: View, negotiated: Negotiated) -> Iterator[str]:
    theirs = negotiated.capabilities
    restart, last = theirs.graceful_restart, theirs.long_lived_graceful_restart
    afi = int(view.family)
    restarts = view.family in restart_families(negotiated)
    outlives = last is not None and any(one[0] == afi for one in last.families)
    add_path = next((one[2] for one in theirs.add_path if one[0] == afi), NO_ADD_PATH)
    words = (
        ("refresh", theirs.route_refresh),
        ("enhanced-refresh", theirs.enhanced_route_refresh),
        ("restart-able", restarts),
        ("restart-aware", restart is not None and not restarts),
        ("llgr-able", outlives),
        ("llgr-aware", last is not None and not outlives),
        ("AS4", theirs.four_octet_as is not None),
        ("add-path-rx", AddPathMode.RECEIVE in add_path),
        ("add-path-tx", AddPathMode.SEND in add_path),
        ("ext-messages", theirs.extended_message),
    )
    return (word for word, has in words if has)


def _agreed(view: View, peer: Peer, negotiated: Negotiated) -> Iterator[str]:
    words = (
        ("internal", negotiated.ibgp),
        ("external", not negotiated.ibgp),
        ("multihop", peer.config.ttl_security_hops != 1),
        ("route-reflector", peer.config.route_reflector_client),
        ("AS4", negotiated.four_octet_as),
        ("add-path-rx", view.family in negotiated.add_path_receive),
        ("add-path-tx", view.family in negotiated.add_path_send),
        ("ext-messages", negotiated.max_message_size > MAX_MESSAGE_OCTETS),
    )
    return (word for word, has in words if has)

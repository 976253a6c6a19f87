"""Gates of what peers say: who could announce a prefix, who does, and which path is the best."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from routed.bgp.adj_rib_in import AdjRibIn, paths_of, route_key
from routed.bgp.bestpath import Step, why_not_best
from routed.bgp.nlri import Family
from routed.bgp.path import Path, SourceKind
from routed.intent.filters import Direction
from routed.intent.types import SessionIntent
from routed.intent.why_session import why_no_session
from routed.observe.events import EventKind
from routed.observe.explain.gates import Finding, notes, passes, stops, stops_by
from routed.observe.explain.question import PrefixQuestion
from routed.observe.explain.records import owner_of
from routed.observe.explain.rules import FAMILY_TEXT, attributes_text, deciding_rule, some, source_text
from routed.observe.explain.sessions import state_text
from routed.observe.observed import Observed
from routed.observe.views.text import time_text

#: The steps of the decision process, for people.
STEP_TEXT = {
    Step.PREFERENCE: "route preference",
    Step.NEXT_HOP: "a next hop that can be reached",
    Step.LOCAL_PREF: "LOCAL_PREF",
    Step.AS_PATH_LENGTH: "length of the AS path",
    Step.ORIGIN: "ORIGIN",
    Step.MED: "MED",
    Step.EBGP_OVER_IBGP: "eBGP over iBGP",
    Step.IGP_METRIC: "cost of the next hop",
    Step.ROUTER_ID: "router ID",
    Step.CLUSTER_LIST_LENGTH: "length of the cluster list",
    Step.PEER_ADDRESS: "peer address",
    Step.PATH_ID: "path identifier",
}
#: Events of the routes that are looked through for a prefix that is gone.
_EVENTS = 200
#: Peers, or paths, of which each is written out, by each gate.
_WRITTEN_OUT = 20


def session(question: PrefixQuestion) -> Iterator[Finding]:
    """Whether there is a session that could bring a prefix that nobody announces."""
    if question.known or question.made_here:
        return
    observed, tables = question.observed, question.tables
    node = owner_of(question)
    if tables is not None and node == tables.options.node:
        return
    established = _carriers(observed, question.family)
    if node is not None and tables is not None:
        direct = [s for s in tables.sessions.values() if s.peer_node == node and s.family is question.family]
        if direct:
            for one in direct:
                yield from _session_with(observed, node, one)
            return
        reasons = why_no_session(tables, node)
        if not established:
            for problem in reasons:
                yield stops_by(problem)
        elif reasons:
            yield notes(f"no session with node {node}: {reasons[0].reason}", reasons[0].key, reasons[0].field)
    if not established:
        count = len(observed.speaker.peers)
        yield stops(
            f"no session that carries {FAMILY_TEXT[question.family]} is Established ({count} configured)"
        )
    else:
        yield passes(f"Established: {some(established, 'sessions')}")


def _session_with(observed: Observed, node: str, session: SessionIntent) -> Iterator[Finding]:
    """Whether the session with the node that holds the prefix is up; if not, what happened to it last."""
    name, record = session.name, session.record
    peer = observed.speaker.peers.get(name)
    if peer is not None and peer.established:
        yield passes(f"the session with node {node} is Established", record, peer=name)
        return
    state = "not running" if peer is None else state_text(peer)
    yield stops(f"the session with node {node} is {state}", record, peer=name)
    for event in observed.events.latest(peer=name, most=2):
        yield notes(f"{time_text(event.time)} {event.text}", peer=name)


def _carriers(observed: Observed, family: Family) -> list[str]:
    """The peers with a session that carries a family."""
    return sorted(
        peer.name
        for peer in observed.speaker.peers.values()
        if (negotiated := peer.session.negotiated) is not None and family in negotiated.families
    )


def received(question: PrefixQuestion) -> Iterator[Finding]:
    """Who announces it."""
    observed = question.observed
    tables = _tables_with(question)
    for table in tables[:_WRITTEN_OUT]:
        source = table.source
        for path in paths_of(table.routes[question.nlri]):
            text = attributes_text(path.attributes)
            if (route_key(path, question.nlri) if source.add_path else question.nlri) in table.stale:
                text += "; stale, kept while the session restarts"
            if source.kind.bgp:
                yield passes(f"{source.describe()} announces it: {text}", peer=source.name)
            elif source.kind in (SourceKind.KERNEL, SourceKind.DIRECT):
                where = f" on {path.interface}" if path.interface else ""
                what = (
                    "a network of an interface"
                    if source.kind is SourceKind.DIRECT
                    else "a kernel route of others"
                )
                yield passes(f"{what}{where}: {text}")
    if len(tables) > _WRITTEN_OUT:
        yield notes(f"and {len(tables) - _WRITTEN_OUT} peers more announce it")
    if tables or question.made_here:
        return
    peers = len(_carriers(observed, question.family))
    yield stops(f"none of the peers announces it ({peers} Established)")
    yield from _withdrawn(question)


def _tables_with(question: PrefixQuestion) -> list[AdjRibIn]:
    tables = question.observed.speaker.ribs[question.family].sources.values()
    return sorted(
        (table for table in tables if question.nlri in table.routes), key=lambda table: table.source.name
    )


def _withdrawn(question: PrefixQuestion) -> Iterator[Finding]:
    """When it went, if that is still known."""
    text = str(question.network)
    for event in reversed(question.observed.events.latest(kinds=(EventKind.ROUTES,), most=_EVENTS)):
        withdrawn, announced = event.fields.get("withdrawn"), event.fields.get("announced")
        if isinstance(withdrawn, list) and text in withdrawn:
            yield notes(f"{time_text(event.time)} it was withdrawn")
            return
        if isinstance(announced, list) and text in announced:
            yield notes(f"{time_text(event.time)} it was announced")
            return


def loop(question: PrefixQuestion) -> Iterator[Finding]:
    """Which paths must not be used, whatever the filters say (RFC 4271 section 9.1.2, RFC 4456 section 8)."""
    return islice(_loops(question), _WRITTEN_OUT)


def _loops(question: PrefixQuestion) -> Iterator[Finding]:
    for table in _tables_with(question):
        for path in paths_of(table.routes[question.nlri]):
            if path.ineligible is not None:
                name = table.source.name
                yield stops(f"of {name} not used: {path.ineligible}", peer=name)


def imported(question: PrefixQuestion) -> Iterator[Finding]:
    """What the import filters say."""
    return islice(_imported(question), _WRITTEN_OUT)


def _imported(question: PrefixQuestion) -> Iterator[Finding]:
    observed = question.observed
    for table in _tables_with(question):
        source = table.source
        peer = observed.speaker.peers.get(source.name)
        if table.policy is None or not source.kind.bgp:
            continue
        raw = paths_of(table.routes[question.nlri])
        for before, after in zip(raw, table.admitted(question.nlri), strict=True):
            if before.ineligible is not None:
                continue
            rule = deciding_rule(
                observed,
                () if peer is None else peer.config.filters,
                question.family,
                Direction.IMPORT,
                ibgp=source.kind is SourceKind.IBGP,
                nlri=question.nlri,
                path=before,
                attributes=before.attributes,
            )
            if after.ineligible is not None:
                text = after.ineligible if rule is None else rule.text
                record, field = (None, None) if rule is None else (rule.record, rule.field)
                yield stops(f"of {source.name}: {text}", record, field, peer=source.name)
            elif rule is not None:
                changed = after.attributes is not before.attributes
                text = f"{rule.text}: {attributes_text(after.attributes)}" if changed else rule.text
                yield passes(f"of {source.name}: {text}", rule.record, rule.field, peer=source.name)


def best(question: PrefixQuestion) -> Iterator[Finding]:
    """Which path is the best, and by which step of the decision process against whom."""
    paths = question.paths
    if not paths:
        return
    winner = paths[0]
    sharing = question.observed.speaker.ribs[question.family].multipath(question.nlri)
    among = "the only path" if len(paths) == 1 else f"the best of {len(paths)} paths"
    yield passes(f"{among}: by {source_text(winner.source)}", peer=_peer(winner))
    for path in paths[1 : 1 + _WRITTEN_OUT]:
        other, step = why_not_best(paths, path)
        lost = f"loses to {_short(other)} at step {int(step)}, {STEP_TEXT[step]}"
        also = "; shares the load" if path in sharing else ""
        yield notes(f"{source_text(path.source)} {lost}{also}", peer=_peer(path))
    if len(paths) > 1 + _WRITTEN_OUT:
        yield notes(f"and {len(paths) - 1 - _WRITTEN_OUT} paths more")


def next_hop(question: PrefixQuestion) -> Iterator[Finding]:
    """Whether the next hop of the best path can be reached."""
    path = question.best
    if path is None or path.hop is None:
        return
    if not path.reachable:
        yield stops(path.hop.reason, peer=_peer(path))
        return
    ways = [
        f"{way.gateway} dev {way.interface}" if way.interface else str(way.gateway) for way in path.hop.ways
    ]
    yield passes(f"the next hop is reached by way of {some(ways)}", peer=_peer(path))


def _short(path: Path) -> str:
    return path.source.name if path.source.kind.bgp else source_text(path.source)


def _peer(path: Path) -> str | None:
    return path.source.name if path.source.kind.bgp else None

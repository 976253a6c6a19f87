"""The process as a whole: counts, and no walk through a table."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from routed.bgp.fsm import State
from routed.bgp.message import MessageType
from routed.bgp.path import SourceKind
from routed.bgp.speaker import Speaker
from routed.observe import documents
from routed.observe.health import readiness
from routed.observe.observed import DatastoreState, Observed
from routed.observe.views.text import FAMILY_NAMES, address_text, time_text
from routed.text import clean, plain

#: Problems of records in the document.
MOST_PROBLEMS: Final = 1_000


def status(observed: Observed) -> documents.Status:
    """The status. Its cost is in proportion to the number of peers, not of routes."""
    speaker = observed.speaker
    config = speaker.config
    messages = speaker.messages()
    states = Counter(peer.session.state for peer in speaker.peers.values())
    compiler = observed.compiler
    return documents.Status(
        node=clean(observed.node),
        version=observed.version,
        role="reflector" if observed.reflector else "node",
        started_at=time_text(observed.started_at, milliseconds=True),
        uptime=round(time.monotonic() - observed.started, 3),
        router_id=address_text(config.router_id),
        local_as=config.local_as,
        cluster_id=None if config.cluster_id is None else address_text(config.cluster_id),
        listening=[str(endpoint) for endpoint in speaker.listening],
        converged=speaker.converged,
        draining=speaker.draining,
        ready=readiness(observed).ok,
        peers=len(speaker.peers),
        peers_by_state={state.name.lower(): states[state] for state in State},
        routes={FAMILY_NAMES[family]: len(rib.routes) for family, rib in speaker.ribs.items()},
        paths={
            FAMILY_NAMES[family]: sum(map(len, rib.sources.values())) for family, rib in speaker.ribs.items()
        },
        originated=_static_routes(speaker) if compiler is None else len(compiler.originated),
        blocks=0 if compiler is None else len(compiler.owned_blocks),
        updates_received=messages.received[MessageType.UPDATE],
        updates_sent=messages.sent[MessageType.UPDATE],
        datastore=None if observed.datastore is None else _datastore(observed.datastore),
        kernel=_kernel(observed),
        problems=_problems(observed.problems()),
        incidents=incidents(speaker),
    )


def _problems(found: Sequence[str]) -> list[str]:
    """The first of them, and how many more there are: whoever looks each second is not to get megabytes."""
    told = [clean(problem) for problem in found[:MOST_PROBLEMS]]
    if len(found) > MOST_PROBLEMS:
        told.append(f"and {len(found) - MOST_PROBLEMS} more problems: `routed show intent` has all")
    return told


def incidents(speaker: Speaker) -> dict[str, Any]:
    """What peers did wrong, counted by what it was."""
    found = speaker.incidents
    return {
        "connections_refused": found.refused,
        "second_connections": found.second_connections,
        "attempts_failed": plain(found.attempts),
        "sessions_ended": plain(found.sessions),
        "bad_updates": plain(found.updates),
    }


def _static_routes(speaker: Speaker) -> int:
    return sum(
        len(table)
        for rib in speaker.ribs.values()
        for source, table in rib.sources.items()
        if source.kind is SourceKind.STATIC
    )


def _datastore(state: DatastoreState) -> documents.DatastoreStatus:
    lost = state.lost_since
    return documents.DatastoreStatus(
        synced=state.synced,
        lost_since=None if lost is None else time_text(lost.timestamp()),
        lost_reason=None if lost is None else clean(state.lost_reason),
        changed_at=None if state.changed_at is None else time_text(state.changed_at),
        losses=state.losses,
    )


def _kernel(observed: Observed) -> documents.KernelStatus | None:
    writer, error = observed.writer, clean(observed.kernel_error())
    if writer is None or not (writer.fib.port or error):  # a reflector; --no-kernel
        return None
    fib = writer.fib
    return documents.KernelStatus(
        error=error or None,
        installed={FAMILY_NAMES[family]: len(routes) for family, routes in fib.installed.items()},
        failed=len(fib.failed),
        kept_out={FAMILY_NAMES[family]: len(reasons) for family, reasons in writer.reasons.items()},
    )

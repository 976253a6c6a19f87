"""The state of a running routed as one document: plain JSON, written to a file on each change.

What it says is made as for the status API; it is older, and has names of its own for some of it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from routed import __version__, log
from routed.bgp.nlri import to_text
from routed.bgp.peer import Peer
from routed.bgp.speaker import Speaker
from routed.observe import documents
from routed.observe.observed import Observed
from routed.observe.views.peer_fields import PeerSummaries, agreed, protection
from routed.observe.views.status import incidents

if TYPE_CHECKING:
    from routed.kernel_writer import KernelWriter

#: Routes that are not in the kernel, of which the status gives the reason: at most so many of each family.
MOST_NOT_INSTALLED: Final = 100
#: Changes within this time share one write, seconds.
WRITE_TIME: Final = 0.1
#: So much of the time may go into writing: where a write takes long there are fewer.
WRITE_SHARE: Final = 0.05

Document = dict[str, Any]

#: What a session's document has of `documents.PeerSummary`, under the same names.
_OF_SUMMARY: Final = (
    *("name", "port", "remote_as", "router_id", "state", "families", "passive", "route_reflector_client"),
    *("established_for", "received", "advertised", "flaps", "last_error"),
)


def session_document(speaker: Speaker, peer: Peer, summary: Document) -> Document:
    """One session: who, what state since when, how many routes each way, and what ended it last. `summary`
    are the fields of the status API's line about it."""
    negotiated = peer.session.negotiated
    return {
        "peer": summary["address"],
        **{field: summary[field] for field in _OF_SUMMARY},
        "protection": msgspec.to_builtins(protection(peer)),
        "agreed": None if negotiated is None else msgspec.to_builtins(agreed(negotiated)),
        "unsent_octets": speaker.unsent(peer),
        "ignored": dict(zip(("announcements", "reason"), speaker.ignored(peer), strict=True)),
        "bad_updates": peer.findings,
    }


def announced(speaker: Speaker) -> dict[str, list[str]]:
    """The routes of our own that some peer is told of, by family."""
    result: dict[str, list[str]] = {}
    for family, groups in speaker.groups.items():
        # From the own routes, not from all that is told: those are few, and this is done with each change.
        tables = [table for source, table in speaker.ribs[family].sources.items() if not source.kind.bgp]
        nlri = {
            one
            for table in tables
            for one in table.routes
            if any(
                not source.kind.bgp
                for group in groups.groups.values()
                for _attributes, source in group.adverts(one)
            )
        }
        result[family.name.lower()] = [to_text(one, family) for one in sorted(nlri)]
    return result


def speaker_document(speaker: Speaker) -> Document:
    """The BGP part of the status."""
    peers = sorted(speaker.peers.values(), key=lambda peer: peer.name)
    summaries = PeerSummaries(speaker)
    return {
        "router_id": str(ip_address(speaker.config.router_id)),
        "local_as": speaker.config.local_as,
        "cluster_id": str(ip_address(speaker.config.cluster_id)) if speaker.config.cluster_id else None,
        "listening": [str(endpoint) for endpoint in speaker.listening],
        "converged": speaker.converged,
        "sessions": [session_document(speaker, peer, summaries.of(peer)) for peer in peers],
        "routes": {family.name.lower(): len(rib.routes) for family, rib in speaker.ribs.items()},
        "announced": announced(speaker),
        "incidents": incidents(speaker),
    }


def process_document(observed: Observed, writer: KernelWriter | None = None) -> Document:
    """The whole status. Where the process has no records, or no `writer` of kernel routes, there is nothing
    in their place."""
    compiler, state = observed.compiler, observed.datastore
    routes = {} if compiler is None else compiler.originated
    return {
        "node": observed.node,
        **speaker_document(observed.speaker),
        "originated": [
            {
                "prefix": str(network),
                "kind": route.kind.value,
                "reason": route.reason,
                "record": str(route.record),
                "advertise": route.advertise,
                "blackhole": route.blackhole,
            }
            for network, route in sorted(routes.items(), key=lambda item: str(item[0]))
        ],
        "datastore": None
        if state is None
        else {
            "synced": state.synced,
            "lost_since": state.lost_since.isoformat() if state.lost_since else None,
            "lost_reason": state.lost_reason if state.lost_since else None,
        },
        "problems": list(observed.problems()),
        "kernel": None if writer is None else _kernel_document(observed, writer),
    }


def _kernel_document(observed: Observed, writer: KernelWriter) -> Document:
    fib = writer.fib
    return {
        "error": observed.kernel_error() or None,
        "installed": {family.name.lower(): len(routes) for family, routes in fib.installed.items()},
        "failed": [f"{error.name}: {error.text}" for error in fib.failed.values()],
        "not_installed": writer.not_installed(MOST_NOT_INSTALLED),
    }


class StatusFile:
    """Writes the document, whole or not at all, some time after it has changed."""

    def __init__(self, path: Path, document: Callable[[], Document]) -> None:
        self._path = path
        self._document = document
        self._log = log.get("status")
        self._timer: asyncio.TimerHandle | None = None
        self._failed = ""
        self._took = 0.0

    def changed(self) -> None:
        """Write soon."""
        if self._timer is None:
            delay = max(WRITE_TIME, self._took / WRITE_SHARE)
            self._timer = asyncio.get_running_loop().call_later(delay, self.write)

    def write(self) -> None:
        """Write now."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        begun = time.monotonic()
        document = {"version": __version__, "written_at": datetime.now(UTC).isoformat(), **self._document()}
        temporary = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        try:
            temporary.write_bytes(msgspec.json.format(documents.encode(document), indent=2) + b"\n")
            temporary.replace(self._path)
            self._failed = ""
        except OSError as error:
            if self._failed != str(error):
                self._failed = str(error)
                self._log.error("cannot write the status file", path=str(self._path), error=error.strerror)
            with contextlib.suppress(OSError):
                temporary.unlink()
        self._took = time.monotonic() - begun

"""The state of a running routed as one document: plain JSON, written to a file on each change."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

import msgspec

from routed import __version__, log
from routed.bgp.message import MAX_MESSAGE_OCTETS
from routed.bgp.nlri import Family, to_text
from routed.bgp.peer import Peer
from routed.bgp.session import Negotiated
from routed.bgp.speaker import Speaker

#: Changes within this time share one write, seconds.
WRITE_TIME: Final = 0.1
#: So much of the time may go into writing: where a write takes long there are fewer.
WRITE_SHARE: Final = 0.05

Document = dict[str, Any]


def session_document(speaker: Speaker, peer: Peer) -> Document:
    """One session: who, what state since when, how many routes each way, and what ended it last."""
    session = peer.session
    negotiated = session.negotiated
    since = session.established_at
    return {
        "name": peer.name,
        "peer": str(peer.config.remote.address),
        "port": peer.config.remote.port,
        "remote_as": negotiated.remote_as if negotiated else peer.config.remote_as,
        "router_id": str(ip_address(negotiated.remote_router_id)) if negotiated else None,
        "state": session.state.name.lower(),
        "families": _families(negotiated.families if negotiated else peer.config.families),
        "passive": peer.config.passive,
        "route_reflector_client": peer.config.route_reflector_client,
        "established_for": round(speaker.loop.time() - since, 3)
        if since is not None and peer.established
        else None,
        "received": {family.name.lower(): count for family, count in speaker.received(peer).items()},
        "advertised": {family.name.lower(): count for family, count in speaker.advertised(peer).items()},
        "protection": {
            "tcp_md5": peer.config.password is not None,
            "old_password_in_use": peer.protection.old_key_in_use,
            "ttl_security_hops": peer.config.ttl_security_hops,
            "segments_dropped": peer.protection.dropped,
        },
        "agreed": _agreed(negotiated) if negotiated else None,
        "unsent_octets": speaker.unsent(peer),
        "ignored": dict(zip(("announcements", "reason"), speaker.ignored(peer), strict=True)),
        "bad_updates": peer.findings,
        "flaps": session.flaps,
        "last_error": session.last_error,
    }


def _agreed(negotiated: Negotiated) -> Document:
    """What both ends of a session can do."""
    return {
        "hold_time": negotiated.hold_time,
        "add_path_receive": _families(negotiated.add_path_receive),
        "add_path_send": _families(negotiated.add_path_send),
        "extended_messages": negotiated.max_message_size > MAX_MESSAGE_OCTETS,
        "route_refresh": negotiated.route_refresh,
        "enhanced_route_refresh": negotiated.enhanced_route_refresh,
        "graceful_restart": negotiated.capabilities.graceful_restart is not None,
        "long_lived_graceful_restart": negotiated.long_lived,
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
    return {
        "router_id": str(ip_address(speaker.config.router_id)),
        "local_as": speaker.config.local_as,
        "cluster_id": str(ip_address(speaker.config.cluster_id)) if speaker.config.cluster_id else None,
        "listening": [str(endpoint) for endpoint in speaker.listening],
        "converged": speaker.converged,
        "sessions": [session_document(speaker, peer) for peer in peers],
        "routes": {family.name.lower(): len(rib.routes) for family, rib in speaker.ribs.items()},
        "announced": announced(speaker),
        "incidents": {
            "connections_refused": speaker.incidents.refused,
            "second_connections": speaker.incidents.second_connections,
            "attempts_failed": speaker.incidents.attempts,
            "sessions_ended": speaker.incidents.sessions,
            "bad_updates": speaker.incidents.updates,
        },
    }


def _families(families: frozenset[Family]) -> list[str]:
    return [family.name.lower() for family in sorted(families)]


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
            temporary.write_bytes(msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n")
            temporary.replace(self._path)
            self._failed = ""
        except OSError as error:
            if self._failed != str(error):
                self._failed = str(error)
                self._log.error("cannot write the status file", path=str(self._path), error=error.strerror)
            with contextlib.suppress(OSError):
                temporary.unlink()
        self._took = time.monotonic() - begun

"""A reflector that takes nothing from records, at work: a speaker, and the status file. With records it is
the agent (`routed.agent`) that runs it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Any

from routed import __version__, log
from routed.bgp.nlri import Family
from routed.bgp.speaker import Speaker
from routed.observe.events import EventKind, EventLog
from routed.observe.observed import Observed
from routed.observe.outlets import Outlets
from routed.observe.recorder import SessionEvents
from routed.observe.route_changes import RouteChanges
from routed.rr.standalone import Reflector, Running

if TYPE_CHECKING:
    from routed.status import StatusFile


class ReflectorProcess:
    """`run` does it all."""

    def __init__(self, reflector: Reflector, running: Running) -> None:
        self._reflector = reflector
        self._running = running
        self._log = log.get("rr")
        self._events = EventLog()
        self._speaker: Speaker
        self._route_changes: RouteChanges
        self._watched: Observed
        self._status: StatusFile | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Reflect until `stop` is set, then stop cleanly."""
        reflector, running = self._reflector, self._running
        self._log.info("routed starts", version=__version__, node=reflector.own_name)
        speaker = self._speaker = Speaker(reflector.identity, self, sessions=SessionEvents(self._events))
        self._route_changes = RouteChanges(speaker.ribs, self._events)
        self._watched = Observed(
            node=reflector.own_name,
            speaker=speaker,
            events=self._events,
            route_changes=self._route_changes,
            reflector=True,
        )
        outlets = Outlets(running.observe, self._watched)
        await outlets.start()
        if running.status_file is not None:
            from routed.status import StatusFile

            self._status = StatusFile(running.status_file, self.document)
        speaker.set_client_ranges(reflector.client_ranges)
        for peer in reflector.peer_configs():
            speaker.set_peer(peer)
        speaker.start()
        log_start(self._log, speaker)
        self._events.publish(EventKind.STARTED, "speaking BGP", peers=len(speaker.peers))
        self.on_status()
        try:
            await until_stopped(stop, speaker, running.drain_time, self._log)
        finally:
            if self._status is not None:
                self._status.write()
            self._events.publish(EventKind.STOPPING, "routed stops")
            await outlets.close()
            speaker.close(graceful=running.graceful_stop, message="routed stops")
            self._log.info("routed has stopped")

    # What the speaker finds out: SpeakerListener

    def on_routes(self, family: Family, nlri: Sequence[bytes]) -> None:
        """Loc-RIB changed."""
        self._route_changes.changed(family, nlri)

    def on_converged(self, reason: str) -> None:
        """Every peer that can be waited for has sent its table."""
        self._log.info("converged", reason=reason)
        self._events.publish(EventKind.CONVERGED, reason)
        self.on_status()

    def on_status(self) -> None:
        """Something of the status changed."""
        if self._status is not None:
            self._status.changed()

    def document(self) -> dict[str, Any]:
        """The whole status: as the agent's, with nothing where it has records and the kernel."""
        from routed.status import process_document

        return process_document(self._watched)


def log_start(logger: log.Logger, speaker: Speaker, **fields: object) -> None:
    """Say who speaks, with these fields too."""
    config = speaker.config
    logger.info(
        "speaking BGP",
        router_id=str(IPv4Address(config.router_id)),
        local_as=config.local_as,
        peers=len(speaker.peers),
        reflector=config.cluster_id is not None,
        **fields,
    )


async def until_stopped(stop: asyncio.Event, speaker: Speaker, drain_time: float, logger: log.Logger) -> None:
    """Returns when it is time to close: when `stop` is set, and `drain_time` seconds after that where peers
    are to find other ways first (RFC 8326). While it drains all else goes on: peers get what changes."""
    await stop.wait()
    peers = sum(peer.established for peer in speaker.peers.values())
    if drain_time and peers:
        logger.info("draining: last choice of all peers", seconds=drain_time, peers=peers)
        speaker.drain(to_stop=True)
        await asyncio.sleep(drain_time)

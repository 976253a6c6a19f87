"""Speakers on virtual time, as they are observed."""

from __future__ import annotations

from routed.observe.events import EventLog
from routed.observe.observed import Observed
from routed.observe.recorder import SessionEvents
from routed.observe.route_changes import RouteChanges
from tests.bgp.test_speaker import Router


def observed(router: Router, *, reflector: bool = False) -> Observed:
    """What the views look at, of one speaker without records or kernel."""
    speaker, events = router.speaker, EventLog()
    speaker.sessions = SessionEvents(events)
    return Observed(
        node=f"node-{router.address}",
        speaker=speaker,
        events=events,
        route_changes=RouteChanges(speaker.ribs, events),
        reflector=reflector,
    )

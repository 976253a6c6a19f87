"""What the views look at: one running process, read-only."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from routed import __version__
from routed.bgp.speaker import Speaker
from routed.observe.events import EventLog
from routed.observe.route_changes import RouteChanges
from routed.observe.turns import Turns

if TYPE_CHECKING:
    from routed.datastore import StatusWriter
    from routed.intent.compiler import Compiler
    from routed.kernel_writer import KernelWriter
    from routed.next_hops import NextHops
    from routed.observe.status_requests import StatusRequests


@dataclass(slots=True)
class DatastoreState:
    """What is known of the datastore."""

    synced: bool = False
    """The first snapshot was read."""
    lost_since: datetime | None = None
    lost_reason: str = ""
    changed_at: float | None = None
    """When records came last, seconds since 1970."""
    losses: int = 0
    """How often it was lost."""


@dataclass(slots=True)
class Observed:
    """A running `routed run` or `routed rr`. Where it works without records, or without the kernel, that part
    is None."""

    node: str
    """The node's name, or the reflector's."""
    speaker: Speaker
    events: EventLog
    route_changes: RouteChanges
    reflector: bool = False
    """True for a standalone route reflector."""
    compiler: Compiler | None = None
    writer: KernelWriter | None = None
    next_hops: NextHops | None = None
    datastore: DatastoreState | None = None
    problems: Callable[[], Sequence[str]] = tuple
    """What is wrong with records, one line each."""
    kernel_error: Callable[[], str] = str
    """Why there are no kernel routes though they were wanted; else empty."""
    version: str = __version__
    started_at: float = field(default_factory=time.time)
    """Seconds since 1970."""
    started: float = field(default_factory=time.monotonic)
    """By the clock that only goes on."""
    outlet_counters: dict[str, int] = field(default_factory=dict)
    """What ways out count, for metrics, by name: those of `--events` begin with `mqtt_`."""
    turns: Turns = field(default_factory=Turns)
    """For all who answer questions about it."""
    status_requests: StatusRequests | None = None
    """The records that ask for this node's status (CalicoNodeStatus); None: nobody is to answer them."""
    status_writer: StatusWriter | None = None
    """Writes it, where the datastore takes it."""

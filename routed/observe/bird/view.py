"""One socket's look at the process: one family, as Calico runs a BIRD for each."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

from routed.bgp.nlri import Family
from routed.bgp.path import Source
from routed.bgp.peer import Peer
from routed.observe.observed import Observed

#: BIRD's `timeformat route` and `timeformat protocol`: the time of day, or after so many seconds the date.
TIME_OF_DAY: Final = 20 * 3600


@dataclass(frozen=True, slots=True)
class View:
    """What a command looks at."""

    observed: Observed
    family: Family

    @property
    def peers(self) -> list[Peer]:
        """The peers whose sessions carry the family, or, where there is none, are to; by name."""
        peers = self.observed.speaker.peers.values()
        return sorted((one for one in peers if self.family in _families(one)), key=lambda one: one.name)

    def is_gone(self, peer: Peer | None) -> bool:
        """Whether a peer is no more, or is another one of the same name."""
        return peer is not None and self.observed.speaker.peers.get(peer.name) is not peer

    def source(self, peer: Peer) -> Source | None:
        """Whom the peer's routes are from; None where it has none."""
        return self.observed.speaker.attachment(peer).sources.get(self.family)


def _families(peer: Peer) -> frozenset[Family]:
    negotiated = peer.session.negotiated
    return peer.config.families if negotiated is None else negotiated.families


def version(of: str) -> str:
    """What the greeting and `show status` say, one word: the version `of` routed, and whose output it gives.
    Calico's own BIRD says `v0.3.3+birdv1.6.8`."""
    return f"routed-{of}+birdv1.6.8"


def symbol(name: str) -> str:
    """A name as one word: columns are told apart by spaces."""
    return "_".join(name.split()) or "_"


def long_time(seconds: float) -> str:
    """Seconds since 1970 as `2026-11-20 07:35:27`, local time."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def short_time(seconds: float) -> str:
    """`07:35:27`, or the date where that is long ago."""
    recent = abs(time.time() - seconds) < TIME_OF_DAY
    return time.strftime("%H:%M:%S" if recent else "%Y-%m-%d", time.localtime(seconds))

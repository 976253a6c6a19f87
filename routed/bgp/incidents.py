"""What peers did wrong, counted by what it was: for those who watch, and longer than a peer is remembered."""

from __future__ import annotations

from typing import Final

from routed.bgp.errors import Finding
from routed.bgp.session_types import Down

#: So many different ones of a kind are told apart. NOTIFICATIONs have 65,536 names, and a peer chooses.
MOST_NAMES: Final = 100
OTHER: Final = "other"


class Incidents:
    """Counts since the start."""

    def __init__(self) -> None:
        self.refused = 0
        """Connections from an address that no peer has."""
        self.second_connections = 0
        """Connections of a peer whose session was up. One that restarted makes one, too."""
        self.attempts: dict[str, int] = {}
        """Connections that came to no session, by what ended them."""
        self.sessions: dict[str, int] = {}
        """Sessions that ended, by what ended them."""
        self.updates: dict[str, int] = {}
        """Errors in UPDATEs that ended no session, by what was done (RFC 7606)."""

    def down(self, down: Down) -> None:
        """A session, or an attempt at one, has ended."""
        if down.sent is not None:
            name = f"sent {down.sent.text}"
        elif down.received is not None:
            name = f"received {down.received.text}"
        elif down.cause is not None:
            name = "internal error"
        else:
            name = "connection lost"
        _count(self.sessions if down.was_established else self.attempts, name)

    def finding(self, finding: Finding) -> None:
        """An error in an UPDATE."""
        _count(self.updates, finding.action.name.lower().replace("_", " "))


def _count(counts: dict[str, int], name: str) -> None:
    if name not in counts and len(counts) >= MOST_NAMES:
        name = OTHER
    counts[name] = counts.get(name, 0) + 1

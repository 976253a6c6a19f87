"""Two connections of one peering: which of them stays (RFC 4271 section 6.8, RFC 6286 section 2.3)."""

from __future__ import annotations

from typing import Final

from routed.bgp.connection import Connection
from routed.bgp.fsm import Event, State
from routed.bgp.session_types import SessionConfig

# A connection on which no OPEN came for so long (seconds) is not taken for the other half of a collision.
_PATIENCE: Final = 5.0


def loss_of_other(
    config: SessionConfig, conn: Connection, other: Connection, established_at: float | None, now: float
) -> Event | None:
    """Judges `conn`, whose OPEN has just come, against another connection: the event that ends the other, or
    None where it is `conn` that loses.

    The other is judged in OPENSENT too, as the RFC allows where the peer is known without its OPEN: here
    both are of one configured peering. Else one end could go to ESTABLISHED on this connection just when
    the other end ends it in favour of that one, and both would be lost."""
    if other.state is State.ESTABLISHED:
        return Event.PEER_RESTARTED if may_restart(config, other, established_at, now) else None
    silent = other.state is State.OPENSENT and now - other.opened_at > _PATIENCE
    if not silent and conn.dialed is not _keeps_dialed(config, conn):
        return None
    return Event.COLLISION_DUMP


def may_restart(config: SessionConfig, conn: Connection, established_at: float | None, now: float) -> bool:
    """Whether a new connection of the peer beside this Established one can mean that it has restarted.
    Not in the first seconds: then it is the other half of a collision, come late."""
    return (
        config.restart_time > 0
        and conn.negotiated is not None
        and conn.negotiated.capabilities.graceful_restart is not None
        and established_at is not None
        and now - established_at > _PATIENCE
    )


def _keeps_dialed(config: SessionConfig, conn: Connection) -> bool:
    """Of two connections the one is kept that the speaker with the higher identifier opened; with the same
    identifier, the one with the higher AS."""
    negotiated = conn.negotiated
    assert negotiated is not None
    ours = (config.local_router_id, config.local_as)
    return ours > (negotiated.remote_router_id, negotiated.remote_as)

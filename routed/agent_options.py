"""How the agent is to run: what the command line says, ready for use."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from routed.bgp.config import ClientRange, PeerConfig, SpeakerConfig
from routed.bgp.transport import Endpoint
from routed.intent.options import Options
from routed.observe.options import NOTHING, ObserveOptions


@dataclass(frozen=True, slots=True)
class AgentOptions:
    """How to run. `compiler` says for which node, or reflector."""

    compiler: Options
    use_kernel: bool = True
    takeover: frozenset[int] = frozenset()
    """Protocols of kernel routes that a program left behind which we stand in for."""
    port: int | None = None
    """Listen here instead of at the records' listenPort."""
    listen: tuple[Endpoint, ...] | None = None
    """A reflector's listening endpoints, in place of what records say."""
    identity: SpeakerConfig | None = None
    """A reflector's own router ID, AS and cluster ID."""
    reflect: bool = False
    """Be a reflector whose identity the records say."""
    client_ranges: tuple[ClientRange, ...] = ()
    peers: tuple[PeerConfig, ...] = ()
    """Peers beside those of the records: other reflectors."""
    both_families: bool = False
    graceful_stop: bool = True
    drain_time: float = 0.0
    """How long to be the last choice of all peers before the stop, seconds (RFC 8326)."""
    status_file: Path | None = None
    log_level: str | None = None
    """Wins over the records' logSeverityScreen."""
    observe: ObserveOptions = NOTHING

    @property
    def reflector(self) -> bool:
        """True for a standalone route reflector: every route passes, none goes into the kernel."""
        return self.reflect or self.identity is not None

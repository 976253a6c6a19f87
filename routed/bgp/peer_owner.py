"""The speaker, as its peers see it."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Protocol

from routed.bgp.listener import SessionListener
from routed.bgp.network import Network
from routed.bgp.nlri import Family
from routed.bgp.session_types import Down, Negotiated
from routed.bgp.transport import Traffic
from routed.bgp.update import Update
from routed.log import Logger

if TYPE_CHECKING:
    from routed.bgp.peer import Peer


class PeerOwner(Protocol):
    """What a peer needs, and whom it tells what its session brings forth."""

    loop: asyncio.AbstractEventLoop
    network: Network
    read_buffer: memoryview
    traffic: Traffic
    log: Logger
    random: random.Random
    sessions: SessionListener

    def on_established(self, peer: Peer, negotiated: Negotiated) -> None:
        """The session is up on `peer.connection`."""

    def on_updates(self, peer: Peer, updates: list[Update]) -> None:
        """UPDATEs of one read, in order."""

    def on_refresh(self, peer: Peer, family: Family, subtype: int) -> None:
        """The peer asks for the whole table again (RFC 2918), or marks where its own begins and ends
        (`message.RefreshSubtype`, RFC 7313)."""

    def on_down(self, peer: Peer, down: Down) -> None:
        """The session was up and is no more."""

    def on_state(self, peer: Peer) -> None:
        """The session's state changed."""

    def on_listen_key(self, peer: Peer) -> None:
        """The peer's connections are to be signed with another key: `peer.protection.listening`."""

    def accept_waiting(self) -> None:
        """Accept connections that wait, before a key changes."""

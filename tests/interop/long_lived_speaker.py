"""A reflector with long-lived graceful restart, as a program: ADDRESS AS CLIENT...

A speaker by itself, because no Calico record asks for this option. It prints a line for each changed prefix.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from ipaddress import ip_address

from routed.bgp.config import PeerConfig, SpeakerConfig
from routed.bgp.nlri import Family, to_text
from routed.bgp.speaker import Speaker
from routed.bgp.transport import Endpoint

RESTART_TIME, LONG_LIVED_TIME = 2, 60


class Printer:
    """Tells what changes."""

    def on_routes(self, family: Family, nlri: Sequence[bytes]) -> None:
        """See `SpeakerListener`."""
        for one in nlri:
            print(to_text(one, family), flush=True)

    def on_converged(self, reason: str) -> None:
        """See `SpeakerListener`."""

    def on_status(self) -> None:
        """See `SpeakerListener`."""


async def main(own: str, asn: int, clients: Sequence[str]) -> None:
    """Run for ever."""
    address = ip_address(own)
    speaker = Speaker(
        SpeakerConfig(address.packed, asn, address.packed, (Endpoint(address, 179),)),
        Printer(),
    )
    for client in clients:
        speaker.set_peer(
            PeerConfig(
                f"to_{client}",
                Endpoint(ip_address(client), 179),
                frozenset({Family.IPV4}),
                asn,
                asn,
                passive=True,
                route_reflector_client=True,
                restart_time=RESTART_TIME,
                long_lived_time=LONG_LIVED_TIME,
            )
        )
    speaker.start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3:]))

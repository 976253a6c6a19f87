"""A TCP connection as every datastore behind a network wants it: made on the event loop, given up at once
when it is not wanted any more."""

from __future__ import annotations

import asyncio
import socket
from typing import Final

# A peer that is gone without a word (power, a firewall that forgot the flow) is noticed by the kernel after
# some 30 s: probes on an idle connection, and a bound for what is sent and never acknowledged.
_OPTIONS: Final = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 15),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 30_000),
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
)


async def connect(host: str, port: int, seconds: float) -> socket.socket:
    """A non-blocking socket that is connected to the first of the host's addresses that answers. `seconds`:
    for all of them together. Raises OSError.

    asyncio's own race between addresses loses a socket when it is cancelled (Python 3.11)."""
    loop = asyncio.get_running_loop()
    failure: OSError | None = None
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    for family, kind, protocol, _, address in found:
        connection = socket.socket(family, kind, protocol)
        try:
            connection.setblocking(False)
            for level, option, value in _OPTIONS:
                connection.setsockopt(level, option, value)
            # An address that swallows packets leaves the next one its time.
            async with asyncio.timeout(seconds / (len(found) + 1)):
                await loop.sock_connect(connection, address)
        except OSError as error:
            connection.close()
            failure = error
        except BaseException:
            connection.close()
            raise
        else:
            return connection
    raise failure or OSError(0, "the name has no address")

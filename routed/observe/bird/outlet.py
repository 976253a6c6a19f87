"""`--bird-sockets DIR`: `DIR/bird.ctl` and `DIR/bird6.ctl`, as Calico's two BIRDs have them."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from routed import log
from routed.bgp.nlri import Family
from routed.bgp.seldom import Seldom
from routed.observe.bird.connection import READ_OCTETS, Connection
from routed.observe.bird.view import View
from routed.observe.http.sockets import listen_unix, remove_unix
from routed.observe.observed import Observed

#: The sockets' names, and the family that each shows.
SOCKETS: Final = {"bird.ctl": Family.IPV4, "bird6.ctl": Family.IPV6}
#: As BIRD's: for its owner and the group.
MODE: Final = 0o660
#: Clients of one socket. One more, and the one that has been silent longest is disconnected: tools that were
#: left open, or hang, keep nobody out.
MOST_CLIENTS: Final = 32


@dataclass(frozen=True, slots=True)
class _Socket:
    path: Path
    sock: socket.socket
    made: os.stat_result


class BirdSockets:
    """Both sockets."""

    def __init__(self, folder: Path, observed: Observed) -> None:
        self._folder = folder
        self._observed = observed
        self._log = log.get("bird")
        self._open: list[_Socket] = []
        self._servers: list[asyncio.Server] = []
        self._clients: dict[Connection, asyncio.Task[None]] = {}
        self._crowded = Seldom(asyncio.get_running_loop(), self._say_crowded, burst=1, seconds=60.0)

    async def start(self) -> None:
        """Listen. Raises OSError where a BIRD is still there, or a socket cannot be made: then neither is."""
        try:
            for name in SOCKETS:
                path = self._folder / name
                sock = listen_unix(path, option="--bird-sockets DIR", mode=MODE)
                self._open.append(_Socket(path, sock, path.lstat()))
            for one in self._open:
                view = View(self._observed, SOCKETS[one.path.name])
                server = await asyncio.start_unix_server(
                    self._serving(view), sock=one.sock, limit=READ_OCTETS
                )
                self._servers.append(server)
        except OSError:
            await self.close()
            raise
        self._log.info("BIRD's control sockets are served", folder=str(self._folder))

    def _serving(self, view: View) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], None]:
        """What takes the clients of one socket."""

        def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            # Many may come in one turn of the event loop: one that is closed is still there until the next.
            ours = [one for one in self._clients if one.view is view and not one.closed]
            if len(ours) >= MOST_CLIENTS:
                longest = min(ours, key=lambda one: one.active_at)
                self._crowded()
                longest.close()
            client = Connection(view, reader, writer, self._log)
            task = asyncio.get_running_loop().create_task(client.serve())
            self._clients[client] = task
            task.add_done_callback(lambda _: self._clients.pop(client, None))

        return connected

    async def close(self) -> None:
        """End; clients are disconnected, and the sockets' files are gone."""
        for one in self._open:
            remove_unix(one.path, one.made)
        for server in self._servers:
            server.close()
        for one in self._open:
            one.sock.close()
        self._open.clear()
        self._servers.clear()
        tasks = list(self._clients.values())
        for client in list(self._clients):
            client.close()
        for task in tasks:
            task.cancel()
        self._crowded.close()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _say_crowded(self, count: int) -> None:
        self._log.warning(
            "too many clients of a BIRD socket: those that were silent longest go",
            limit=MOST_CLIENTS,
            times=count,
        )

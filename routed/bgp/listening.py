"""The sockets that accept: as many as are wanted, and patience where one cannot be had."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Iterable
from typing import Final

from routed.bgp.network import AcceptCallback, Listening, Network, descriptors_for_connections
from routed.bgp.nlri import Network as Prefix
from routed.bgp.route import Address
from routed.bgp.seldom import Seldom
from routed.bgp.transport import Endpoint
from routed.log import Logger
from routed.secret import SecretValue

#: How long to wait before a port that was taken is asked for again, seconds.
RETRY_TIME: Final = 5.0

_HINTS: Final = {
    errno.EADDRINUSE: "another process listens there (BIRD?): stop it, or use another listenPort; "
    "sessions that we dial go on",
    errno.EACCES: "ports below 1024 need CAP_NET_BIND_SERVICE: give it, or use another listenPort",
    errno.EADDRNOTAVAIL: "no interface has this address",
    errno.EMFILE: "raise the limit of open files (LimitNOFILE, ulimit -n)",
}
_KEY_HINTS: Final = {
    errno.ENOMEM: "raise the sysctl net.core.optmem_max, which bounds the keys of a socket: 136 octets each",
    errno.ENOPROTOOPT: "the kernel has no TCP-MD5 (CONFIG_TCP_MD5SIG)",
}


class Listeners:
    """Accepts on the wanted endpoints; one that cannot be had is said, and tried again."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        network: Network,
        on_accept: AcceptCallback,
        make_room: Callable[[], None],
        log: Logger,
    ) -> None:
        """`make_room` is called where there are no file descriptors left."""
        self._loop = loop
        self._network = network
        self._on_accept = on_accept
        self._make_room = make_room
        self._log = log
        self._open: dict[Endpoint, Listening] = {}
        self._wanted: tuple[Endpoint, ...] = ()
        self._errors: dict[Endpoint, str] = {}
        self._retry: asyncio.TimerHandle | None = None
        self._keys: dict[Prefix, SecretValue] = {}
        self._exhausted = Seldom(loop, self._say_exhausted, burst=1, seconds=10.0)
        self._refused = Seldom(loop, self._say_refused, burst=1, seconds=10.0)

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """Where connections are accepted now."""
        return tuple(self._open)

    @property
    def errors(self) -> dict[Endpoint, str]:
        """The wanted endpoints that could not be had, and why."""
        return dict(self._errors)

    def want(self, endpoints: Iterable[Endpoint]) -> None:
        """Accept on these and no others. Those that stay are not touched; the new ones are opened before the
        old ones close, wherever they can be open at the same time."""
        self._wanted = tuple(dict.fromkeys(endpoints))
        self._open_missing()
        for endpoint in self._surplus():
            self._open.pop(endpoint).close()

    def close(self) -> None:
        """Accept no more."""
        self.want(())
        self._exhausted.close()
        self._refused.close()

    def set_key(self, remote: Prefix, key: SecretValue | None) -> None:
        """Want connections from these addresses signed with a TCP-MD5 key; None: with none."""
        if self._keys.get(remote) == key:
            return
        if key is None:
            del self._keys[remote]
        else:
            self._keys[remote] = key
        for endpoint, listening in self._open.items():
            listening.set_key(remote, key)
            self._look_at_refused(endpoint, listening, (remote,))

    def accept_waiting(self) -> None:
        """Accept what waits, before a key changes."""
        for listening in list(self._open.values()):
            listening.accept_waiting()

    def unprotected(self, address: Address) -> bool:
        """Whether the key of this address could not be set on a socket, so that its connections are not
        checked."""
        return any(address in remote for one in self._open.values() for remote in one.refused)

    def _surplus(self) -> list[Endpoint]:
        return [endpoint for endpoint in self._open if endpoint not in self._wanted]

    def _open_missing(self) -> None:
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        before, self._errors = self._errors, {}
        for endpoint in self._wanted:
            if endpoint in self._open:
                continue
            try:
                listening = self._listen(endpoint)
            except OSError as error:
                self._errors[endpoint] = error.strerror or str(error)
                if endpoint not in before:  # said once, not every five seconds
                    hint = _HINTS.get(error.errno or 0, "")
                    self._log.error("cannot listen", endpoint=str(endpoint), error=error.strerror, hint=hint)
            else:
                self._open[endpoint] = listening
                self._log.info("listening", endpoint=str(endpoint))
                self._look_at_refused(endpoint, listening, tuple(listening.refused))
        if self._errors:
            self._retry = self._loop.call_later(RETRY_TIME, self._open_missing)

    def _listen(self, endpoint: Endpoint) -> Listening:
        """Open one; raises OSError. A socket of ours that is in the way, such as that of all addresses in the
        way of one address, and that is not wanted any more, is closed first."""
        listen = self._network.listen
        try:
            return listen(endpoint, self._on_accept, self._on_exhausted, self._keys)
        except OSError as error:
            in_the_way = [one for one in self._surplus() if _overlap(one, endpoint)]
            if error.errno != errno.EADDRINUSE or not in_the_way:
                raise
            for one in in_the_way:
                self._open.pop(one).close()
            return listen(endpoint, self._on_accept, self._on_exhausted, self._keys)

    def _look_at_refused(self, endpoint: Endpoint, listening: Listening, keys: Iterable[Prefix]) -> None:
        for remote in keys:
            error = listening.refused.get(remote)
            if error is not None:
                self._refused(endpoint, remote, error)

    def _say_refused(self, count: int, endpoint: Endpoint, remote: Prefix, error: OSError) -> None:
        self._log.error(
            "password not in force: connections from there are refused",
            peer=str(remote),
            peers=count,
            passwords=len(self._keys),
            endpoint=str(endpoint),
            error=error.strerror,
            hint=_KEY_HINTS.get(error.errno or 0, ""),
        )

    def _on_exhausted(self, waiting: int, error: OSError | None) -> None:
        self._exhausted(waiting, error)
        self._make_room()

    def _say_exhausted(self, count: int, waiting: int, error: OSError | None) -> None:
        self._log.error(
            "connections wait: no file descriptors are left",
            waiting=waiting,
            limit=descriptors_for_connections(),
            error=error.strerror if error is not None else None,
            times=count,
            hint=f"raise the limit of open files (LimitNOFILE, ulimit -n) by {waiting} or more",
        )


def _overlap(one: Endpoint, other: Endpoint) -> bool:
    """Whether two endpoints cannot be listened on at the same time."""
    return (
        one.port == other.port
        and one.address.version == other.address.version
        and (one.address == other.address or one.address.is_unspecified or other.address.is_unspecified)
    )

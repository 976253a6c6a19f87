"""Sends route requests of one family, hundreds in one netlink send, and tells what became of each."""

from __future__ import annotations

import errno
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, NamedTuple

from routed.bgp.nlri import Family
from routed.bgp.route import FibRoute
from routed.kernel.base import FibCounters
from routed.kernel.encode import DELETE, RouteEncoder, Tail, WishError, error_text, with_acknowledgement
from routed.kernel.fib_state import Install, Removal
from routed.kernel.netlink import Replies, RouteSocket
from routed.kernel.next_hop_objects import NextHopObjects, gateway_of

#: Requests in one send. The kernel works them off inside the send, a few µs each: this bounds how long
#: the event loop stands still.
CHUNK_REQUESTS = 512
#: A send must fit in the socket's send buffer (net.core.wmem_default is 208 KiB).
CHUNK_OCTETS = 128 << 10
#: What one queued error reply may take of the receive buffer, in the kernel's accounting of buffers.
ERROR_REPLY_OCTETS = 2048


class Refusal(NamedTuple):
    """Why a request did nothing."""

    errno: int
    text: str


class BatchResult(NamedTuple):
    """What became of a batch, by position in it: `refused`, and `unknown` where replies were lost. All others
    are done."""

    refused: dict[int, Refusal]
    unknown: set[int]


class Tails:
    """The encoded tails of FibRoutes. Interfaces are looked up once: not to be kept for long, as an interface
    that is made anew gets another index."""

    def __init__(
        self,
        encoder: RouteEncoder,
        interface_index: Callable[[str], int | None],
        objects: NextHopObjects | None = None,
    ) -> None:
        """`objects` None: routes name no nexthop objects."""
        self.objects = objects
        self._encoder = encoder
        self._interface_index = interface_index
        self._indexes: dict[str, int | None] = {}
        # Prefixes of one peer share the FibRoute object: its id is found in a tenth of the time that its hash
        # takes. The route is kept with the tail, so that its id is not another's meanwhile.
        self._by_id: dict[int, tuple[FibRoute, Tail]] = {}
        self._by_value: dict[FibRoute, Tail] = {}

    def of(self, route: FibRoute) -> Tail | WishError:
        """The tail, or why there is none."""
        known = self._by_id.get(id(route))
        if known is not None:
            return known[1]
        several = len(route.next_hops) > 1  # those are made a prefix; to encode one is as fast as to hash it
        tail = self._by_value.get(route) if several else None
        if tail is None:
            try:
                tail = self._encoder.install_tail(
                    route, self._index, None if self.objects is None else self._object_id
                )
            except WishError as error:
                return error  # asked again the next time: the interface may be there then
            if several:
                self._by_value[route] = tail
        self._by_id[id(route)] = (route, tail)
        return tail

    def without_object(self, route: FibRoute) -> Tail:
        """The tail of a route whose object the kernel did not take; from now on all that `of` gives."""
        _, known = self._by_id[id(route)]
        if known.object_id:
            known = self._encoder.install_tail(route, self._index)
            self._by_id[id(route)] = (route, known)
        return known

    def _object_id(self, flags: int, index: int, encoded: bytes) -> int:
        assert self.objects is not None
        gateway = gateway_of(flags, index, encoded)
        return 0 if gateway is None else self.objects.id_of(gateway)

    def _index(self, name: str) -> int | None:
        if name not in self._indexes:
            self._indexes[name] = self._interface_index(name)
        return self._indexes[name]


class BatchSender:
    """Installs and removes for one family, table and protocol."""

    def __init__(
        self, sock: RouteSocket, family: Family, *, table: int, protocol: int, counters: FibCounters, log: Any
    ) -> None:
        self.encoder = RouteEncoder(family, table=table, protocol=protocol)
        self.most = max(1, min(CHUNK_REQUESTS, sock.receive_buffer // ERROR_REPLY_OCTETS))
        """Requests in one send, so that an error for each fits in the receive buffer."""
        self._socket = sock
        self._counters = counters
        self._log = log

    def install(self, installs: Sequence[Install], tails: Tails) -> BatchResult:
        """Install routes, in order."""
        refused: dict[int, Refusal] = {}
        sendable: list[tuple[int, bytes, bytes, Tail]] = []
        for position, (nlri, route, flags) in enumerate(installs):
            tail = tails.of(route)
            if isinstance(tail, WishError):
                refused[position] = Refusal(tail.errno, tail.text)
            else:
                sendable.append((position, flags, nlri, tail))
        if tails.objects is not None and (missing := tails.objects.create()):
            sendable = self._without_objects(sendable, installs, tails, missing)
        result = self._send_all(sendable)
        if tails.objects is not None and result.refused:
            self._retry_without_objects(result, sendable, installs, tails)
        counters = self._counters
        counters.installs += len(sendable)
        counters.installs_refused += len(result.refused)
        counters.installs_unknown += len(result.unknown)
        for position, (number, words) in result.refused.items():
            refused[position] = Refusal(number, error_text(number, words, installs[position].route))
        return BatchResult(refused, result.unknown)

    def _retry_without_objects(
        self,
        result: BatchResult,
        sent: list[tuple[int, bytes, bytes, Tail]],
        installs: Sequence[Install],
        tails: Tails,
    ) -> None:
        """Send again what the kernel refused because the nexthop object that it names is not there (EINVAL).
        What it refused for another reason it refuses again, and says why."""
        failed = [
            item
            for item in sent
            if item[3].object_id
            and item[0] in result.refused
            and result.refused[item[0]].errno == errno.EINVAL
        ]
        if not failed:
            return
        assert tails.objects is not None
        gone = {tail.object_id for *_, tail in failed}
        tails.objects.forget(gone)
        for position, *_ in failed:
            del result.refused[position]
        again = self._send_all(self._without_objects(failed, installs, tails, gone))
        result.refused.update(again.refused)
        result.unknown.update(again.unknown)

    @staticmethod
    def _without_objects(
        items: list[tuple[int, bytes, bytes, Tail]],
        installs: Sequence[Install],
        tails: Tails,
        objects: Collection[int],
    ) -> list[tuple[int, bytes, bytes, Tail]]:
        """The same, but that those objects are not named."""
        return [
            (n, flags, nlri, tails.without_object(installs[n].route) if tail.object_id in objects else tail)
            for n, flags, nlri, tail in items
        ]

    def remove(self, removals: Sequence[Removal]) -> BatchResult:
        """Remove routes by prefix, metric and protocol. What is not there counts as removed."""
        tails = {one[1:]: self.encoder.delete_tail(*one[1:]) for one in removals}
        result = self._send_all([(n, DELETE, one.nlri, tails[one[1:]]) for n, one in enumerate(removals)])
        refused = {
            position: Refusal(number, error_text(number, words, None))
            for position, (number, words) in result.refused.items()
            if number not in (errno.ESRCH, errno.ENOENT)
        }
        counters = self._counters
        counters.removals += len(removals)
        counters.removals_refused += len(refused)
        counters.removals_unknown += len(result.unknown)
        return BatchResult(refused, result.unknown)

    def _send_all(self, items: list[tuple[int, bytes, bytes, Tail]]) -> BatchResult:
        result = BatchResult({}, set())
        request = self.encoder.request
        for chunk in _chunks(items, self.most):
            first = self._socket.sequences(len(chunk))
            replies = self._send(
                [request(flags, n, nlri, tail) for n, (_, flags, nlri, tail) in enumerate(chunk, first)],
                first,
            )
            for sequence, failure in replies.errors.items():
                if first <= sequence < first + len(chunk):
                    result.refused[chunk[sequence - first][0]] = Refusal(*failure)
            if not replies.complete:
                self.most = max(1, self.most // 2)  # so that replies fit the next time
                result.unknown.update(item[0] for item in chunk if item[0] not in result.refused)
        return result

    def _send(self, requests: list[bytes], first: int) -> Replies:
        self._counters.sends += 1
        self._counters.requests += len(requests)
        try:
            return self._socket.transact(with_acknowledgement(requests), first + len(requests) - 1)
        except OSError as error:
            self._log.error("netlink send failed", error=str(error), requests=len(requests))
            return Replies()


def _chunks(
    items: list[tuple[int, bytes, bytes, Tail]], most: int
) -> Iterator[list[tuple[int, bytes, bytes, Tail]]]:
    """Items cut into what goes into one send: at most `most` requests and CHUNK_OCTETS."""
    start = octets = 0
    for position, (_, _, _, tail) in enumerate(items):
        if position > start and (position - start >= most or octets + tail.length > CHUNK_OCTETS):
            yield items[start:position]
            start, octets = position, 0
        octets += tail.length
    if start < len(items):
        yield items[start:]

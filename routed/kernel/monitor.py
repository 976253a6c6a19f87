"""The monitor: links, addresses and alien routes as the kernel tells of them, without any periodic scan.

`snapshot` reads everything once; from then on `changes` gives events. Notifications of what our
own Fib does are dropped in the kernel by a socket filter, so that 50,000 installed routes do not come back as
50,000 wake-ups.
"""

from __future__ import annotations

import asyncio
import ctypes
import socket
import struct
from collections.abc import AsyncIterator, Sequence
from typing import Any

from routed.bgp.nlri import Family
from routed.kernel.base import (
    MAIN_TABLE,
    PROTOCOL,
    AddressAdded,
    AddressRemoved,
    AlienRoute,
    Event,
    InterfaceAddress,
    Link,
    LinkDown,
    LinkUp,
    Overflow,
    OwnNextHopGone,
    OwnRouteChanged,
    OwnRoutesInDoubt,
    RouteDown,
    RouteUp,
    Snapshot,
    is_workload_interface,
)
from routed.kernel.mirror import Mirror, differences
from routed.kernel.netlink import SO_ATTACH_FILTER, RouteSocket, messages
from routed.kernel.reader import KernelReader

__all__ = [
    "AddressAdded",
    "AddressRemoved",
    "AlienRoute",
    "InterfaceAddress",
    "Link",
    "LinkDown",
    "LinkUp",
    "Monitor",
    "Overflow",
    "OwnRouteChanged",
    "OwnRoutesInDoubt",
    "RouteDown",
    "RouteUp",
    "Snapshot",
    "is_workload_interface",
]

# RTMGRP_LINK, _IPV4_IFADDR, _IPV4_ROUTE, _IPV6_IFADDR, _IPV6_ROUTE, RTNLGRP_NEXTHOP: linux/rtnetlink.h
GROUPS = 0x1 | 0x10 | 0x40 | 0x100 | 0x400 | 1 << 31

#: Notifications taken in one turn of the event loop.
READS_PER_TURN = 256
#: Events waiting for the consumer; beyond that the kernel's buffer fills up, and then it is an overflow.
MOST_WAITING = 50_000
#: Between two fresh dumps that doubt asks for, in seconds.
REFRESH_INTERVAL = 0.2
#: Before a dump that failed is tried again, in seconds.
RETRY_INTERVAL = 1.0
RECEIVE_SIZE = 65536


class Monitor:
    """Watches one network namespace. Make it with `open`; use it from one event loop."""

    def __init__(
        self,
        events: RouteSocket,
        requests: RouteSocket,
        *,
        log: Any,
        protocol: int,
        fib_port: int,
        table: int,
    ) -> None:
        self.overflows = 0
        """How often notifications were lost since it was opened."""
        self._events = events
        self._requests = requests
        self._reader = KernelReader(requests, table)
        self._log = log
        self._protocol = protocol
        self._fib_port = fib_port
        self._table = table
        self._mirror = self._empty_mirror()
        self._waiting: list[Event] = []
        self._wake = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._closed = False
        self._reading = False
        self._started = False
        self._lost = False
        self._held: list[bytes] | None = None
        """Notifications that came while a dump is under way: applied on top of it."""
        self._refresh_lock = asyncio.Lock()
        self._refreshing: asyncio.Task[None] | None = None

    @classmethod
    async def open(
        cls,
        *,
        log: Any,
        fib_port: int = 0,
        protocol: int = PROTOCOL,
        table: int = MAIN_TABLE,
        netns: str | None = None,
        receive_buffer: int = 8 << 20,
    ) -> Monitor:
        """Start to listen, in the network namespace `netns` (a name as of `ip netns`) or this one.

        `fib_port` is `Fib.port`: changes that come from there are ours and are not reported.
        `receive_buffer`, in octets, is for bursts; needs no privilege, but without CAP_NET_ADMIN the buffer
        is at most net.core.rmem_max. Raises KernelUnavailable."""
        events = RouteSocket.open(netns=netns, groups=GROUPS, receive_buffer=receive_buffer)
        try:
            if fib_port:
                _ignore_port(events.socket, fib_port)
            requests = RouteSocket.open(netns=netns)
        except BaseException:
            events.close()
            raise
        return cls(events, requests, log=log, protocol=protocol, fib_port=fib_port, table=table)

    async def snapshot(self) -> Snapshot:
        """Read links, addresses and alien routes. `changes` gives what happens after that. Raises OSError
        where the kernel refuses."""
        self._start_reading()
        self._started = True
        async with self._refresh_lock:
            await self._read_all()
            # What concerns our own routes is not in the snapshot.
            own = (OwnRouteChanged, OwnNextHopGone, OwnRoutesInDoubt, Overflow)
            self._waiting = [event for event in self._waiting if isinstance(event, own)]
            return self._mirror.snapshot()

    async def changes(self) -> AsyncIterator[Sequence[Event]]:
        """Events in order, all that wait at a time. Ends when the monitor is closed. For one consumer."""
        while True:
            while self._waiting:
                waiting, self._waiting = self._waiting, []
                self._start_reading()
                yield waiting
            if self._closed:
                return
            self._wake.clear()
            await self._wake.wait()

    def close(self) -> None:
        """Stop to listen; `changes` ends after what waits."""
        if self._closed:
            return
        self._closed = True
        self._stop_reading()
        if self._refreshing is not None:
            self._refreshing.cancel()
        self._events.close()
        self._requests.close()
        self._wake.set()

    def _empty_mirror(self) -> Mirror:
        return Mirror(own_protocol=self._protocol, own_port=self._fib_port, table=self._table)

    def _start_reading(self) -> None:
        if not self._reading and not self._closed:
            self._reading = True
            self._loop.add_reader(self._events.socket, self._on_readable)

    def _stop_reading(self) -> None:
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._events.socket)

    def _on_readable(self) -> None:
        for _ in range(READS_PER_TURN):
            try:
                datagram, (sender, _groups) = self._events.socket.recvfrom(RECEIVE_SIZE)
            except BlockingIOError:
                break
            except OSError:  # ENOBUFS: the kernel reports it once, then goes on
                self._lost = True
                self.overflows += 1
                continue
            if sender != 0:
                continue  # not from the kernel
            if self._held is not None:
                self._held.append(datagram)
            else:
                self._take(datagram)
        if len(self._waiting) > MOST_WAITING:
            self._stop_reading()
        self._settle()

    def _take(self, datagram: bytes) -> None:
        for message in messages(datagram):
            for event in self._mirror.apply(message):
                self._waiting.append(event)
                if isinstance(event, LinkUp) and not is_workload_interface(event.link.name):
                    # What came and went while the link did is told, but not what was silently dropped before.
                    self._mirror.doubtful = True

    def _settle(self) -> None:
        """Wake the consumer; see to a fresh dump where one is needed."""
        if self._waiting:
            self._wake.set()
        if (
            (self._lost or self._mirror.doubtful)
            and self._started
            and self._refreshing is None
            and not self._closed
        ):
            self._refreshing = self._loop.create_task(self._refresh())

    async def _refresh(self) -> None:
        pause = REFRESH_INTERVAL
        try:
            async with self._refresh_lock:
                await self._read_all()
        except OSError as error:
            self._log.error("cannot read links, addresses and routes; trying again", error=str(error))
            self._mirror.doubtful = True
            pause = RETRY_INTERVAL
        await asyncio.sleep(pause)
        self._refreshing = None
        self._settle()

    async def _read_all(self) -> None:
        """Dump everything, tell the differences, then apply what was told meanwhile."""
        lost, self._lost = self._lost, False
        self._held = []
        fresh = self._empty_mirror()
        try:
            self._reader.wait_for_links()
            fresh.load_links(await self._reader.links())
            fresh.load_addresses(await self._reader.addresses())
            for family in Family:
                async for part in self._reader.routes(family):
                    fresh.load_routes(part)
        except BaseException:
            self._lost = self._lost or lost
            held, self._held = self._held, None
            for datagram in held:
                self._take(datagram)
            raise
        self._waiting += differences(self._mirror.snapshot(), fresh.snapshot())
        fresh.doubtful = False
        self._mirror = fresh
        held, self._held = self._held, None
        for datagram in held:
            self._take(datagram)
        if lost:
            self._log.warning("netlink notifications were lost; all was read again", overflows=self.overflows)
            self._waiting.append(Overflow())
        if self._waiting:
            self._wake.set()


def _ignore_port(sock: socket.socket, port: int) -> None:
    """Have the kernel drop notifications whose nlmsg_pid is `port`, by a classic BPF program
    (SO_ATTACH_FILTER): load the word at octet 12; if it is the port (loads are big-endian, the field is in
    host order) drop, else take all."""
    host_order = struct.unpack("=I", struct.pack(">I", port))[0]
    program = ctypes.create_string_buffer(
        struct.pack("=HBBI", 0x20, 0, 0, 12)  # ld [12]
        + struct.pack("=HBBI", 0x15, 0, 1, host_order)  # jeq port, 0, 1
        + struct.pack("=HBBI", 0x06, 0, 0, 0)  # ret 0
        + struct.pack("=HBBI", 0x06, 0, 0, 0xFFFFFFFF)  # ret all
    )
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HP", 4, ctypes.addressof(program)))

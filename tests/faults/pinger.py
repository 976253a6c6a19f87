"""Sends an ICMP echo request every few milliseconds until SIGINT or SIGTERM, then says what came of them.

    python pinger.py ADDRESS SECONDS

`ping` cannot: it waits at least 10 ms. This runs as a process of its own inside a pod, with nothing but the
standard library. It prints `answered N` now and then, and one JSON object at its end: `sent`, `lost`, and
`gap`, the longest time without an answer in seconds. A request is lost when one that was sent later has been
answered: those at the very end may be under way."""

from __future__ import annotations

import contextlib
import json
import select
import signal
import socket
import struct
import sys
import time

_HEADER = struct.Struct("!BBHHH")
#: Echo request and reply (RFC 792, RFC 4443).
_TYPES = {socket.AF_INET: (8, 0), socket.AF_INET6: (128, 129)}
_SAY_EVERY = 5


def checksum(octets: bytes) -> int:
    """The Internet checksum (RFC 1071) of an even number of octets."""
    total: int = sum(struct.unpack(f"!{len(octets) // 2}H", octets))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF


def request(family: int, identifier: int, number: int) -> bytes:
    """An echo request; the number is in its data too, where 16 bits are not the end."""
    data = struct.pack("!Q", number)
    head = _HEADER.pack(_TYPES[socket.AddressFamily(family)][0], 0, 0, identifier, number & 0xFFFF)
    # The kernel does it for IPv6, whose checksum covers the addresses.
    value = checksum(head + data) if family == socket.AF_INET else 0
    return head[:2] + struct.pack("!H", value) + head[4:] + data


def main(address: str, interval: float) -> None:
    """Until a signal."""
    stop: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.append(1))
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    protocol = socket.IPPROTO_ICMPV6 if family == socket.AF_INET6 else socket.IPPROTO_ICMP
    identifier = int(time.monotonic() * 1000) & 0xFFFF
    sent, gap, last_said = 0, 0.0, 0
    answered: set[int] = set()
    with socket.socket(family, socket.SOCK_RAW, protocol) as link:
        link.setblocking(False)
        next_at = last_answer = time.monotonic()
        while not stop:
            now = time.monotonic()
            if now >= next_at:
                # Without a route it is as lost as any other.
                with contextlib.suppress(OSError):
                    link.sendto(request(family, identifier, sent), (address, 0))
                sent += 1
                next_at = max(next_at + interval, now)
            if not select.select([link], [], [], max(0.0, next_at - time.monotonic()))[0]:
                continue
            octets, _ = link.recvfrom(2048)
            if family == socket.AF_INET:  # a raw socket gives the IP header too
                octets = octets[4 * (octets[0] & 15) :]
            kind, _, _, its, _ = _HEADER.unpack_from(octets)
            if kind != _TYPES[family][1] or its != identifier:
                continue
            (number,) = struct.unpack_from("!Q", octets, _HEADER.size)
            now = time.monotonic()
            if answered:
                gap = max(gap, now - last_answer)
            last_answer = now
            answered.add(number)
            if len(answered) >= last_said + _SAY_EVERY:
                last_said = len(answered)
                print("answered", last_said, flush=True)
    reached = max(answered, default=-1) + 1
    print(json.dumps({"sent": reached, "lost": reached - len(answered), "gap": gap}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))

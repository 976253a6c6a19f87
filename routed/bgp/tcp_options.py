"""TCP socket options that protect a session, as Linux has them: TCP-MD5 (RFC 2385) and GTSM (RFC 5082).

A key belongs to a socket and an address, or a range of addresses, of the other end. A listening socket needs
it before it listens, a dialing one before it connects; an accepted connection takes a copy along. It can be
set anew on an established connection too, and is in force from the next segment on: what `progress` says
tells whether the other end has the same key. docs/decisions/0005-tcp-md5-key-change.md has what was measured.
"""

from __future__ import annotations

import errno
import fcntl
import socket
import struct
import termios
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final, NamedTuple

from routed.secret import SecretValue

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

#: Linux' TCP_MD5SIG_MAXKEYLEN.
MAX_KEY_OCTETS: Final = 80
#: What is sent without GTSM: `multihop`, as Calico's BIRD has it.
MULTIHOP_TTL: Final = 64
#: RFC 5082 section 3.
GTSM_TTL: Final = 255

# linux/tcp.h, linux/in.h, linux/in6.h, asm-generic/socket.h; the socket module of Python 3.11 has none of
# them.
_TCP_MD5SIG: Final = 14
_TCP_MD5SIG_EXT: Final = 32
_MD5SIG_FLAG_PREFIX: Final = 1
_IP_MINTTL: Final = 21
_IPV6_MINHOPCOUNT: Final = 73
_SO_MEMINFO: Final = 55

# struct tcp_md5sig: struct sockaddr_storage (128 octets), flags, prefix length, key length, interface, key.
_MD5SIG: Final = struct.Struct("=128sBBHi80s")
_SOCKADDR_IN: Final = struct.Struct("=H2x4s")
_SOCKADDR_IN6: Final = struct.Struct("=H2x4x16s4x")
# struct tcp_info: tcpi_unacked at octet 24 (of a listening socket: connections that wait to be accepted);
# tcpi_bytes_acked and tcpi_bytes_received at 120. SO_MEMINFO: SK_MEMINFO_DROPS is the ninth number.
_TCP_INFO_OCTETS: Final = 136
_INFO_UNACKED: Final = struct.Struct("=24xI")
_INFO_OCTETS: Final = struct.Struct("=120xQQ")
_MEMINFO: Final = struct.Struct("=9I")
_INT: Final = struct.Struct("=i")


@dataclass(frozen=True, slots=True)
class TcpOptions:
    """How a connection to one peer is protected.

    key           TCP-MD5; None: segments are not signed
    hops          GTSM: how many hops away the peer may be; None: off, and multihop
    connect_time  how long an attempt to connect may take, seconds
    """

    key: SecretValue | None = None
    hops: int | None = None
    connect_time: float = 10.0


class Progress(NamedTuple):
    """What has happened on a connection so far.

    waiting       octets that TCP has taken and the other end has not acknowledged
    acknowledged  octets that it has
    received      octets received in order
    dropped       segments dropped: signed otherwise, from too far away, or no room for them
    """

    waiting: int
    acknowledged: int
    received: int
    dropped: int


def key_problem(key: SecretValue) -> str | None:
    """Why a key cannot be used for TCP-MD5; never shows it."""
    size = len(key.reveal())
    if size > MAX_KEY_OCTETS:
        return f"it has {size} octets, TCP-MD5 takes at most {MAX_KEY_OCTETS}"
    return None


def set_key(sock: socket.socket, remote: Network, key: SecretValue | None) -> None:
    """Sign segments to and from these addresses with `key`; None: no more. The longest prefix counts.

    Raises OSError: ENOMEM where the socket has no room for more keys (net.core.optmem_max), ENOPROTOOPT where
    the kernel has no TCP-MD5, EINVAL for a key that is too long."""
    host = remote.prefixlen == remote.max_prefixlen
    option = _TCP_MD5SIG if host else _TCP_MD5SIG_EXT
    try:
        sock.setsockopt(socket.IPPROTO_TCP, option, _md5sig(remote, host, key))
    except OSError as error:
        if key is None and error.errno in (errno.ENOENT, errno.ENOPROTOOPT):
            return  # there was none
        raise


def _md5sig(remote: Network, host: bool, key: SecretValue | None) -> bytes:
    address = remote.network_address.packed
    if len(address) == 4:
        name = _SOCKADDR_IN.pack(socket.AF_INET, address)
    else:
        name = _SOCKADDR_IN6.pack(socket.AF_INET6, address)
    value = b"" if key is None else key.reveal()
    if len(value) > MAX_KEY_OCTETS:
        raise OSError(errno.EINVAL, "the key is too long for TCP-MD5")
    flags, length = (0, 0) if host else (_MD5SIG_FLAG_PREFIX, remote.prefixlen)
    return _MD5SIG.pack(name, flags, length, len(value), 0, value)


def set_hops(sock: socket.socket, hops: int | None) -> None:
    """Take segments from at most so many hops away, and send so that the other end can do the same
    (RFC 5082 section 3); None: take all, and send with the TTL of a multihop session."""
    least = 0 if hops is None else GTSM_TTL + 1 - hops
    set_ttl(sock, MULTIHOP_TTL if hops is None else GTSM_TTL)
    if sock.family == socket.AF_INET:
        sock.setsockopt(socket.IPPROTO_IP, _IP_MINTTL, least)
    else:
        sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_MINHOPCOUNT, least)


def set_ttl(sock: socket.socket, ttl: int) -> None:
    """Send with this TTL, or hop limit."""
    if sock.family == socket.AF_INET:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, ttl)
    else:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, ttl)


def progress(sock: socket.socket) -> Progress:
    """What has happened on a connected TCP socket."""
    acknowledged, received = _INFO_OCTETS.unpack_from(_tcp_info(sock))
    dropped = _MEMINFO.unpack_from(sock.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size))[8]
    return Progress(unsent(sock), acknowledged, received, dropped)


def unsent(sock: socket.socket) -> int:
    """Octets that the socket has taken and the other end has not acknowledged (SIOCOUTQ)."""
    waiting: int = _INT.unpack(fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(_INT.size)))[0]
    return waiting


def waiting_connections(sock: socket.socket) -> int:
    """Connections that wait in the backlog of a listening socket."""
    waiting: int = _INFO_UNACKED.unpack_from(_tcp_info(sock))[0]
    return waiting


def _tcp_info(sock: socket.socket) -> bytes:
    return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_OCTETS)

"""Listening sockets: a Unix socket for its owner alone, and TCP."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from pathlib import Path
from typing import Final

from routed.bgp.transport import Endpoint
from routed.observe.options import runtime_folder

#: Connections that wait to be accepted.
BACKLOG: Final = 64
#: What sun_path of unix(7) holds, without the final zero.
LONGEST_PATH: Final = 107


def listen_unix(path: Path, *, option: str = "--api SOCKET", mode: int = 0o600) -> socket.socket:
    """Listen on a Unix socket that only its owner can connect to, or those whom `mode` lets. The folder is
    made, mode 0700, where there is none. A socket that nobody listens on any more is replaced. `option` is
    what to change where this cannot be.

    Raises OSError, with the path and what to do, where another process listens there, something else has the
    name, or it cannot be made."""
    if len(os.fsencode(path)) > LONGEST_PATH:
        raise _refused(
            errno.ENAMETOOLONG, path, f"the path has more than {LONGEST_PATH} octets: give a shorter one"
        )
    _make_folder(path.parent, option)
    _remove_dead(path, option)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        sock.bind(os.fspath(path))
        # Until `listen` nobody can connect, so nobody is faster than this.
        path.chmod(mode)
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise _refused(error.errno or errno.EINVAL, path, error.strerror or str(error)) from None
    return sock


def remove_unix(path: Path, made: os.stat_result) -> None:
    """Remove a socket's file, unless another process has put its own there: `made` is what it was."""
    with contextlib.suppress(OSError):
        found = path.lstat()
        # The number of a file that is gone may be another's at once; not with the time it was made at.
        if _identity(found) == _identity(made):
            path.unlink()


def listen_tcp(endpoint: Endpoint) -> socket.socket:
    """Listen on TCP. Raises OSError, with the endpoint and what to do."""
    family = socket.AF_INET if endpoint.address.version == 4 else socket.AF_INET6
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((str(endpoint.address), endpoint.port))
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        hint = {
            errno.EADDRINUSE: "another process listens there: give another port",
            errno.EADDRNOTAVAIL: "no interface has this address",
            errno.EACCES: "ports below 1024 need CAP_NET_BIND_SERVICE: give another port",
        }.get(error.errno or 0, error.strerror or str(error))
        raise OSError(error.errno, f"{endpoint}: {hint}") from None
    return sock


def _identity(found: os.stat_result) -> tuple[int, int, int]:
    return found.st_dev, found.st_ino, found.st_mtime_ns


def _refused(number: int, path: Path, text: str) -> OSError:
    return OSError(number, f"{path}: {text}")


def _make_folder(folder: Path, option: str) -> None:
    """The folder of sockets. One that is there stays as it is; but ours, at a well-known place where others
    may write, such as /tmp, must be ours alone."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder != runtime_folder():
            return
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
            raise _refused(errno.EPERM, folder, f"is another user's: remove it, or give another {option}")
        if stat.S_IMODE(found.st_mode) != 0o700:
            folder.chmod(0o700)
    except FileExistsError:
        raise _refused(errno.ENOTDIR, folder, f"is no folder: remove it, or give another {option}") from None


def _remove_dead(path: Path, option: str) -> None:
    """Make room: remove a socket that a process which was killed left behind."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise _refused(errno.EEXIST, path, f"is there and is no socket: remove it, or give another {option}")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        try:
            probe.connect(os.fspath(path))
        except (ConnectionRefusedError, FileNotFoundError):
            remove_unix(path, found)
            return
        except BlockingIOError:  # a backlog that is full is somebody's
            pass
    raise _refused(
        errno.EADDRINUSE,
        path,
        f"another process answers there: stop it, or give another {option}, or none",
    )

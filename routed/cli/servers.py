"""Which routed a command asks: the one that is named, else the only one that runs here."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from pathlib import Path

from routed.cli.client import Client, Server, UnreachableError
from routed.cli.failure import CommandError
from routed.observe import options

#: A routed that runs accepts a connection at once, seconds.
_PROBE = 1.0


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command line says: a socket, a node or a URL; at most one of them."""

    socket: Path | None = None
    node: str | None = None
    http: str | None = None


def client(asked: Asked, timeout: float = 10.0) -> Client:
    """A client of the routed that is meant. Raises `CommandError`, which says what to do where none or
    several may be."""
    return Client(server(asked), timeout)


def server(asked: Asked) -> Server:
    """As `client`. What the command line says wins over ROUTED_SOCKET."""
    if [asked.socket, asked.node, asked.http].count(None) < 2:
        raise CommandError("give one of --socket, --node and --http, not several")
    if asked.http is not None:
        try:
            return Server.from_url(asked.http)
        except ValueError as error:
            raise CommandError(f"--http {error}") from None
    if asked.node is not None:
        return Server(options.socket_of(asked.node))
    path = asked.socket or os.environ.get("ROUTED_SOCKET")
    return Server(Path(path) if path else _only_one(options.runtime_folder()))


def names(beginning: str) -> list[str]:
    """For the shell's completion: nodes and reflectors that run here, or did, whose names begin so."""
    try:
        found = [path.stem for path in _sockets(options.runtime_folder())]
    except OSError:
        return []
    return [name for name in found if name.startswith(beginning) and name.isprintable()]


def _sockets(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix == ".sock" and path.is_socket())


def _only_one(folder: Path) -> Path:
    """The socket of the only routed that runs."""
    try:
        sockets = _sockets(folder)
    except (FileNotFoundError, NotADirectoryError):
        sockets = []
    except PermissionError:
        raise UnreachableError(
            f"{folder} is its owner's alone: run this command as that user (sudo)"
        ) from None
    if len(sockets) == 1:
        return sockets[0]
    live = [path for path in sockets if _lives(path)]
    if len(live) == 1:
        return live[0]
    if live:
        names = ", ".join(path.stem for path in live)
        raise CommandError(f"{len(live)} routeds run here: say which with --node, one of {names}")
    left = f", but for {len(sockets)} that were left behind" if sockets else ""
    raise UnreachableError(
        f"no routed is running: there is no socket in {folder}{left}. "
        + ("" if os.geteuid() == 0 else "Root's are in /run/routed: try sudo. ")
        + "--socket PATH says where else to look"
    )


def _lives(path: Path) -> bool:
    """True where somebody accepts connections, or might."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_PROBE)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            return True
    return True

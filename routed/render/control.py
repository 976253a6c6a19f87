"""BIRD's control socket: one command, one reply.

A line of a reply is `NNNN-text` or ` text` where more follow, and `NNNN text` where it is the last. Codes
from 8000 on are failures, from 9000 on errors of the command itself.
"""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass
from pathlib import Path

TIME_LIMIT = 10.0
MAX_REPLY = 1 << 20
_LINE = re.compile(r"([0-9]{4})([ -])(.*)")


class ControlError(Exception):
    """BIRD could not be asked. The text says why."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What BIRD answered: the code of the last line, and the text of all."""

    code: int
    text: str

    @property
    def refused(self) -> bool:
        """True where the command failed."""
        return self.code >= 8000


def command(path: Path, text: str, time_limit: float = TIME_LIMIT) -> Reply:
    """Sends one command to the BIRD at this socket and waits for its reply. Blocks; raises ControlError."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(time_limit)
            connection.connect(str(path))
            reader = _Reader(connection)
            reader.reply()
            connection.sendall(text.encode() + b"\n")
            return reader.reply()
    except TimeoutError:
        raise ControlError(f"{path}: BIRD did not answer within {time_limit:.0f} s") from None
    except OSError as error:
        raise ControlError(f"{path}: {error.strerror or error}") from None


class _Reader:
    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._buffer = b""

    def reply(self) -> Reply:
        lines: list[str] = []
        while True:
            line = self._line()
            match = _LINE.fullmatch(line)
            lines.append(match[3] if match else line.removeprefix(" "))
            if match and match[2] == " ":
                return Reply(int(match[1]), "\n".join(lines))

    def _line(self) -> str:
        while b"\n" not in self._buffer:
            if len(self._buffer) > MAX_REPLY:
                raise OSError("the reply is too long")
            received = self._connection.recv(65536)
            if not received:
                raise OSError("BIRD closed the connection")
            self._buffer += received
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.decode(errors="replace")

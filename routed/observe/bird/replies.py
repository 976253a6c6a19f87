"""The line protocol of BIRD's control socket (nest/cli.c).

A reply is lines. `NNNN-text` goes on, ` text` goes on with the code of the line before, `NNNN text` is the
last one. Codes below 8000 are answers, 8000 to 8999 runtime errors, 9000 and above errors of the command.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from typing import Final, NamedTuple, TypeVar

from routed.text import printable

T = TypeVar("T")

# The codes that are used here (BIRD's doc/reply_codes).
OK: Final = 0
READY: Final = 1
READING: Final = 2
RECONFIGURED: Final = 3
ALREADY_DISABLED: Final = 8
DISABLED: Final = 9
ALREADY_ENABLED: Final = 10
ENABLED: Final = 11
RESTARTED: Final = 12
STATUS_REPORT: Final = 13
ROUTE_COUNT: Final = 14
RELOADING: Final = 15
RESTRICTED: Final = 16
NOTHING_TO_DO: Final = 19
CONFIGURATION_OK: Final = 20
UNDO_REQUESTED: Final = 21
GRACEFUL_RESTART: Final = 24
VERSION: Final = 1000
INTERFACE: Final = 1001
PROTOCOL: Final = 1002
INTERFACE_ADDRESS: Final = 1003
INTERFACE_FLAGS: Final = 1004
INTERFACE_SUMMARY: Final = 1005
PROTOCOL_DETAILS: Final = 1006
ROUTE: Final = 1007
ROUTE_DETAILS: Final = 1008
STATIC_ROUTE: Final = 1009
SYMBOL: Final = 1010
UPTIME: Final = 1011
ROUTE_ATTRIBUTES: Final = 1012
MEMORY: Final = 1018
PROTOCOL_HEADER: Final = 2002
INTERFACE_HEADER: Final = 2005
NOT_IN_TABLE: Final = 8001
CANNOT_READ: Final = 8002
NO_PROTOCOLS_MATCH: Final = 8003
PROTOCOL_IS_DOWN: Final = 8005
RELOAD_FAILED: Final = 8006
ACCESS_DENIED: Final = 8007
TOO_LONG: Final = 9000
PARSE_ERROR: Final = 9001
INVALID_SYMBOL: Final = 9002


class Line(NamedTuple):
    """One line of a reply. `last`: it ends it."""

    code: int
    text: str
    last: bool = False


class Block(NamedTuple):
    """Lines that are written already, for what ten thousand routes have in common; see `block`."""

    text: str
    code: int
    """Of the last of them."""


Reply = Iterator[Line | Block | None]
"""The lines of a reply; None: a good place for a turn of the event loop. Where no line is the last one,
`0000` follows."""

Portions = Generator[None, None, T]
"""Work in portions that ends with a T: `yield from` it."""


class CommandError(Exception):
    """A command is answered with an error, as its last line."""

    def __init__(self, code: int, text: str) -> None:
        self.code = code
        self.text = text
        super().__init__(text)


def syntax_error() -> CommandError:
    """What BIRD says of a command that it does not know."""
    return CommandError(PARSE_ERROR, "syntax error")


class Encoder:
    """Writes the lines of one reply."""

    def __init__(self) -> None:
        self._code = -1

    def encode(self, line: Line | Block) -> str:
        """One line, with its end. What could be taken for another line, or by a terminal for a command, is
        replaced: text may come from peers and records. Tabs stay."""
        if isinstance(line, Block):
            self._code = line.code
            return line.text
        code, text, last = line
        if not text.isprintable():
            text = "\t".join(map(printable, text.split("\t")))
        if last:
            self._code = -1
            return f"{code:04} {text}\n"
        if code == self._code:
            return f" {text}\n"
        self._code = code
        return f"{code:04}-{text}\n"


def whole(reply: Reply) -> Reply:
    """A reply with its last line: the one it has, that of the error that ends it, or `0000`.
    OSError is the system's, which could not say what was asked."""
    last = False
    try:
        for line in reply:
            yield line
            last = isinstance(line, Line) and line.last
    except CommandError as error:
        yield Line(error.code, error.text, last=True)
    except OSError as error:
        yield Line(CANNOT_READ, f"cannot be read: {error.strerror}", last=True)
    else:
        if not last:
            yield Line(OK, "", last=True)


def block(lines: Iterable[Line]) -> Block:
    """Write lines, none of them the last, that will come after one of another code."""
    encoder = Encoder()
    code = -1
    texts = []
    for line in lines:
        texts.append(encoder.encode(line))
        code = line.code
    return Block("".join(texts), code)

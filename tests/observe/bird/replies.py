"""What a client of BIRD's control socket makes of its lines: replies, tables and routes, as data.

Strict where the protocol is: a line that no reply can have is an error.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

_LINE = re.compile(r"^(?P<code>\d{4})(?P<kind>[- ])(?P<text>.*)$")


@dataclass(frozen=True)
class Reply:
    """One reply: each line with its code, the last one too."""

    lines: tuple[tuple[int, str], ...]

    @property
    def code(self) -> int:
        """Of the last line."""
        return self.lines[-1][0]

    @property
    def last(self) -> str:
        """The last line's text."""
        return self.lines[-1][1]

    def texts(self, *codes: int) -> list[str]:
        """The lines that have one of these codes; without codes all but the last."""
        return [text for code, text in self.lines[:-1] if not codes or code in codes]


class Reader:
    """Cuts what comes from a control socket into replies. Raises ValueError for what is none."""

    def __init__(self) -> None:
        self.replies: list[Reply] = []
        self.events: list[str] = []
        """Lines between replies, for `echo`."""
        self._rest = ""
        self._lines: list[tuple[int, str]] = []

    def feed(self, data: bytes) -> None:
        """Take in octets."""
        *whole, self._rest = (self._rest + data.decode()).split("\n")
        for line in whole:
            self._take(line)

    def end(self) -> None:
        """Nothing may be left."""
        if self._rest or self._lines:
            raise ValueError(f"a reply that does not end: {self._lines[-3:]} {self._rest[:200]!r}")

    def _take(self, line: str) -> None:
        if not line.replace("\t", "").isprintable():
            raise ValueError(f"control characters: {line!r}")
        if line.startswith("+"):
            self.events.append(line[1:])
        elif line.startswith(" "):
            if not self._lines:
                raise ValueError(f"goes on with nothing: {line!r}")
            self._lines.append((self._lines[-1][0], line[1:]))
        else:
            found = _LINE.match(line)
            if found is None:
                raise ValueError(f"no line of a reply: {line!r}")
            self._lines.append((int(found["code"]), found["text"]))
            if found["kind"] == " ":
                self.replies.append(Reply(tuple(self._lines)))
                self._lines.clear()


class Talk:
    """A connection to a real control socket."""

    def __init__(self, path: Path, timeout: float = 60.0) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(timeout)
        self.socket.connect(str(path))
        self._reader = Reader()
        self.greeting = self._next()

    def __call__(self, command: str) -> Reply:
        """Its reply."""
        self.socket.sendall(command.encode() + b"\n")
        return self._next()

    def close(self) -> None:
        """Hang up."""
        self.socket.close()

    def _next(self) -> Reply:
        while not self._reader.replies:
            data = self.socket.recv(65536)
            if not data:
                raise ConnectionError("hung up")
            self._reader.feed(data)
        return self._reader.replies.pop(0)


def ask(path: Path, command: str) -> Reply:
    """The reply to one command on a connection of its own: some commands BIRD 1.6 answers twice."""
    talk = Talk(path)
    try:
        return talk(command)
    finally:
        talk.close()


_ROUTE = re.compile(
    r"^(?P<prefix>\S*)\s+(?P<way>.*?) \[(?P<protocol>\S+) (?P<since>\S+)(?: from (?P<peer>\S+))?\]"
    r"(?P<best> [*!])? \((?P<preference>\d+s?)(?:/(?P<cost>\S+))?\)(?: \[(?P<origin>\S+)\])?$"
)


@dataclass
class Route:
    """One route of `show route`."""

    prefix: str
    way: str
    protocol: str
    peer: str | None
    best: bool
    preference: str
    cost: str | None
    origin: str | None
    ways: list[str] = field(default_factory=list)
    kind: str = ""
    attributes: dict[str, str] = field(default_factory=dict)


def routes(lines: Iterable[str]) -> list[Route]:
    """What `show route [all]` says. Raises ValueError for a line that is of no route."""
    found: list[Route] = []
    name = ""
    for line in lines:
        if line.startswith("\t\t"):
            found[-1].attributes[name] += " " + line.strip()
        elif line.startswith("\tvia "):
            found[-1].ways.append(line.strip())
        elif line.startswith("\tType: "):
            found[-1].kind = line.removeprefix("\tType: ")
        elif line.startswith("\t"):
            name, _, value = line.strip().partition(":")
            found[-1].attributes[name] = value.strip()
        else:
            match = _ROUTE.match(line)
            if match is None:
                raise ValueError(f"no route: {line!r}")
            found.append(
                Route(
                    match["prefix"] or found[-1].prefix,
                    match["way"],
                    match["protocol"],
                    match["peer"],
                    match["best"] is not None,
                    match["preference"],
                    match["cost"],
                    match["origin"],
                )
            )
    return found


@dataclass(frozen=True)
class Row:
    """One line of `show protocols`."""

    name: str
    proto: str
    table: str
    state: str
    since: str
    info: str


def rows(reply: Reply) -> dict[str, Row]:
    """`show protocols`, by name."""
    found = {}
    for line in reply.texts(1002):
        name, proto, table, state, since, *info = line.split(maxsplit=5)
        found[name] = Row(name, proto, table, state, since, info[0].strip() if info else "")
    return found


def details(reply: Reply) -> dict[str, list[str]]:
    """`show protocols all`, the lines of each by name."""
    found: dict[str, list[str]] = {}
    for code, text in reply.lines[:-1]:
        if code == 1002:
            found[text.split()[0]] = []
        elif code == 1006:
            list(found.values())[-1].append(text)
    return found

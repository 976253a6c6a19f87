"""A program on a terminal of its own (a pseudo-terminal), with a size and a keyboard."""

from __future__ import annotations

import codecs
import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

#: For what has to come, also on a machine that is busy.
TIMEOUT = 60.0


ROUTED = (sys.executable, "-m", "routed")


def command(*arguments: str) -> list[str]:
    """`routed`, as a process."""
    return [*ROUTED, *arguments]


class Terminal:
    """What the program wrote is in `screen`, as it came."""

    def __init__(
        self,
        *arguments: str,
        program: Sequence[str] = ROUTED,
        columns: int = 80,
        lines: int = 24,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        kept = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "NO_COLOR")}
        self._terminal = ours
        self.screen = ""
        self._found = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self.process = subprocess.Popen(
            [*program, *arguments],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={**kept, "TERM": "xterm", **(environment or {})},
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(theirs)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._terminal)

    def until(self, text: str, times: int = 1) -> str:
        """Read until the text was written so often; all that was written."""
        deadline = time.monotonic() + TIMEOUT
        while self.screen.count(text) < times:
            assert time.monotonic() < deadline, f"{text!r} does not come: {self.screen!r}"
            assert self._read(), f"it ended without {text!r}: {self.screen!r}"
        return self.screen

    def next(self, text: str) -> None:
        """Read until the text was written, after what the last call found."""
        self.until(text, self.screen.count(text, 0, self._found) + 1)
        self._found = self.screen.index(text, self._found) + len(text)

    def press(self, keys: str) -> None:
        """At the keyboard."""
        os.write(self._terminal, keys.encode())

    def end(self) -> int:
        """Read until it ends; its exit status."""
        deadline = time.monotonic() + TIMEOUT
        while self._read():
            assert time.monotonic() < deadline, f"it does not end: {self.screen[-2000:]!r}"
        return self.process.wait(TIMEOUT)

    def _read(self) -> bool:
        """Some more; False at the end."""
        ready, _, _ = select.select([self._terminal], [], [], TIMEOUT)
        assert ready, f"silence: {self.screen!r}"
        try:
            data = os.read(self._terminal, 65536)
        except OSError:  # EIO: nobody has the terminal open any more
            return False
        self.screen += self._decoder.decode(data)  # a read may end within a character
        return bool(data)

"""Linux's inotify on an asyncio loop: changes in directories as events, within microseconds and without
polling.

The libraries at hand poll their own thread's queue, which costs either milliseconds of delay or hundreds of
wake-ups a second, and hide IN_CLOSE_WRITE, which tells a file that is written from one that is still being
written. The whole of the kernel's interface is three calls and one struct (inotify(7)).
"""

from __future__ import annotations

import ctypes
import os
import struct
from enum import IntFlag
from typing import NamedTuple


class Mask(IntFlag):
    """The bits of inotify(7) that are of use for directories."""

    MODIFY = 0x2
    ATTRIB = 0x4
    CLOSE_WRITE = 0x8
    MOVED_FROM = 0x40
    MOVED_TO = 0x80
    CREATE = 0x100
    DELETE = 0x200
    DELETE_SELF = 0x400
    MOVE_SELF = 0x800
    UNMOUNT = 0x2000
    OVERFLOW = 0x4000
    IGNORED = 0x8000
    ONLYDIR = 0x1000000
    ISDIR = 0x40000000


ENTRIES = Mask.CREATE | Mask.DELETE | Mask.MOVED_FROM | Mask.MOVED_TO | Mask.DELETE_SELF | Mask.MOVE_SELF
"""What comes and goes in a directory."""

CONTENTS = ENTRIES | Mask.MODIFY | Mask.ATTRIB | Mask.CLOSE_WRITE
"""The same, and what is written to the files in it."""

_HEADER = struct.Struct("=iIII")  # wd, mask, cookie, length of the name that follows
_READ_SIZE = 256 * 1024

_libc = ctypes.CDLL(None, use_errno=True)


class FileEvent(NamedTuple):
    """Something happened to `name` in `directory`, or to the directory itself where `name` is empty. The
    two events of one move have the same `cookie`. After an OVERFLOW events were lost, and `directory` is
    empty."""

    directory: str
    name: str
    mask: Mask
    cookie: int = 0


class Inotify:
    """One inotify instance. Raises OSError where the kernel has none to give
    (fs.inotify.max_user_instances)."""

    def __init__(self) -> None:
        self._fd = _checked(_libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK))
        self._directories: dict[int, str] = {}
        self._watches: dict[str, int] = {}
        self._masks: dict[str, Mask] = {}

    def fileno(self) -> int:
        """Readable when there are events."""
        return self._fd

    def watch(self, directory: str, mask: Mask) -> None:
        """From now on changes in `directory` (a real path, no symbolic link in it) are events. A watch that
        is there is widened, never narrowed. Where another directory has taken the path's place, it is that
        which is watched. Raises OSError."""
        wanted = mask | self._masks.get(directory, Mask(0))
        before = self._watches.get(directory)
        watch = _checked(
            _libc.inotify_add_watch(self._fd, os.fsencode(directory), int(wanted | Mask.ONLYDIR))
        )
        if watch != before:
            if before is not None:
                self._remove(before)
            self._forget(watch)
        self._directories[watch] = directory
        self._watches[directory] = watch
        self._masks[directory] = wanted

    def watch_only(self, directories: set[str]) -> None:
        """Stops the watches of all others. It starts none."""
        for directory in self._watches.keys() - directories:
            self._remove(self._watches[directory])

    def _remove(self, watch: int) -> None:
        self._forget(watch)
        # It fails where the kernel has dropped the watch already, with the directory.
        _libc.inotify_rm_watch(self._fd, watch)

    def _forget(self, watch: int) -> None:
        directory = self._directories.pop(watch, None)
        if directory is not None and self._watches.get(directory) == watch:
            del self._watches[directory]
            del self._masks[directory]

    def read(self) -> list[FileEvent]:
        """All events that are there, without waiting."""
        events: list[FileEvent] = []
        while True:
            try:
                data = os.read(self._fd, _READ_SIZE)
            except BlockingIOError:
                return events
            position = 0
            while position < len(data):
                watch, bits, cookie, length = _HEADER.unpack_from(data, position)
                position += _HEADER.size
                name = data[position : position + length].rstrip(b"\0")
                position += length
                mask = Mask(bits)
                directory = self._directories.get(watch)
                if mask & Mask.IGNORED:
                    self._forget(watch)
                if mask & Mask.OVERFLOW:
                    events.append(FileEvent("", "", mask))
                elif directory is not None:
                    events.append(FileEvent(directory, os.fsdecode(name), mask, cookie))

    def close(self) -> None:
        """Gives the instance back. Closing twice does no harm."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result

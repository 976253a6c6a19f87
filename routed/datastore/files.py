"""The files of the file datastore: which there are, and what is in each. All of it is plain, blocking
code."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from routed.datastore.documents import (
    Document,
    DocumentError,
    line_of,
    read_json,
    read_yaml,
    split_list,
    with_lines,
)
from routed.datastore.store import Found
from routed.resources import Problem, parse_record
from routed.text import escaped

SUFFIXES = (".yaml", ".yml", ".json")

MAX_FILE_SIZE = 256 * 1024 * 1024
"""In bytes. A larger file is a mistake, and would take the memory of the process."""


class Signature(NamedTuple):
    """What tells one state of a file from another without reading it."""

    device: int
    inode: int
    size: int
    modified_ns: int
    changed_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> Signature:
        """From stat(2)."""
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


class MissingError(Exception):
    """The path of the datastore is not there, or cannot be looked at. The text says why."""


@dataclass(slots=True)
class Tree:
    """What a scan found. Paths are written as the datastore's own path is, with what follows it joined on."""

    identity: tuple[int, int]
    files: dict[str, Signature] = field(default_factory=dict)
    # Real directory to the paths by which it is reached (several, where symbolic links lead to it).
    directories: dict[str, list[str]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    # Folders that could not be listed: the files below them are unknown, not gone.
    unreadable: list[str] = field(default_factory=list)


def is_record_file(name: str) -> bool:
    """Whether a file in a folder is read. Hidden ones are not, nor what editors write beside the real one."""
    return name.endswith(SUFFIXES) and not name.startswith(".")


def scan(root: str, enter: Callable[[str], None]) -> Tree:
    """All record files at `root`, a file or a folder. `enter` is called with the real path of each
    directory before it is listed, so that a watch set there misses nothing. Raises MissingError."""
    try:
        status = os.stat(root)
    except OSError as error:
        raise MissingError(f"{escaped(root)}: {error.strerror}") from None
    tree = Tree((status.st_dev, status.st_ino))
    if stat.S_ISDIR(status.st_mode):
        _scan_folder(root, tree, enter)
        if root in tree.unreadable:
            raise MissingError(tree.problems[0].reason)
    elif stat.S_ISREG(status.st_mode):
        tree.files[root] = Signature.of(status)
        parent = os.path.dirname(root) or "."
        tree.directories[os.path.realpath(parent)] = [parent]
        enter(os.path.realpath(parent))
    else:
        raise MissingError(f"{escaped(root)}: is neither a file nor a folder")
    return tree


def _scan_folder(folder: str, tree: Tree, enter: Callable[[str], None]) -> None:
    waiting = [folder]
    while waiting:
        path = waiting.pop()
        real = os.path.realpath(path)
        if real in tree.directories:
            # Reached by a link again, perhaps from inside of itself.
            continue
        tree.directories[real] = [path]
        enter(real)
        try:
            entries = sorted(os.scandir(path), key=lambda entry: entry.name)
        except FileNotFoundError:
            continue
        except OSError as error:
            tree.unreadable.append(path)
            tree.problems.append(
                Problem(None, "", f"cannot be listed: {error.strerror}", source=escaped(path))
            )
            continue
        for entry in entries:
            if entry.name.startswith("."):
                continue
            try:
                if entry.is_dir():
                    waiting.append(entry.path)
                elif entry.is_file() and is_record_file(entry.name):
                    tree.files[entry.path] = Signature.of(entry.stat())
            except OSError:
                # It vanished between the listing and the look, or is a link in a circle.
                continue


def lookups(path: str) -> Iterator[tuple[str, str]]:
    """The directory entries that decide where `path` leads: (real directory, name) of its last component,
    and of each symbolic link on the way. Where the path breaks off, the entry that is missing is the
    last."""
    waiting = os.path.abspath(path).split("/")[:0:-1]
    at = "/"
    hops = 0
    while waiting and hops < 64:
        name = waiting.pop()
        if name in ("", "."):
            continue
        if name == "..":
            at = os.path.dirname(at)
            continue
        entry = os.path.join(at, name)
        try:
            target = os.readlink(entry)
        except OSError:
            if not waiting or not os.path.isdir(entry):
                yield at, name
                return
            at = entry
            continue
        yield at, name
        hops += 1
        if target.startswith("/"):
            at = "/"
        waiting += target.split("/")[::-1]


@dataclass(frozen=True, slots=True)
class Loaded:
    """What is in a file; `signature` is None where it could not be read. `gone`: there is no file at the
    path any more. `linked`: it has other names too, and only this one is told by inotify when it is written
    to."""

    path: str
    signature: Signature | None
    found: tuple[Found, ...] = ()
    problems: tuple[Problem, ...] = ()
    complete: bool = True
    gone: bool = False
    linked: bool = False


def load(path: str) -> Loaded:
    """Reads a file. Nothing is raised: what is wrong is in `problems`, and then the outcome is not
    `complete`."""
    place = escaped(path)
    try:
        text, status = _read(path)
    except OSError as error:
        if error.errno in _NO_FILE:
            return Loaded(path, None, gone=True)
        problem = Problem(None, "", f"cannot be read: {error.strerror}", source=place)
        return Loaded(path, None, problems=(problem,), complete=False)
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        problem = Problem(None, "", "is not UTF-8 text", source=f"{place}:{line}")
        return Loaded(path, None, problems=(problem,), complete=False)
    found: list[Found] = []
    problems: list[Problem] = []
    is_json = path.endswith(".json")
    for document in read_json(text) if is_json else read_yaml(text):
        if isinstance(document, DocumentError):
            problems.append(Problem(None, "", document.reason, source=f"{place}:{document.line}"))
            continue
        items = [_parse(place, item) for item in split_list(document)]
        if is_json and any(item.parsed.problems for item in items):
            # Lines are only worked out where someone has to be shown one.
            items = [_parse(place, item) for item in split_list(with_lines(text, document))]
        found += items
    complete, linked = not problems, status.st_nlink > 1
    return Loaded(path, Signature.of(status), tuple(found), tuple(problems), complete, linked=linked)


# What a scan passes over, too: nothing there, a link to nothing or to itself, a folder, a FIFO.
_NO_FILE = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EISDIR, errno.ENXIO, errno.EINVAL}


def _read(path: str) -> tuple[str, os.stat_result]:
    # Not blocking: a FIFO of a record file's name would otherwise hold the open up for ever.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        if status.st_size > MAX_FILE_SIZE:
            raise OSError(errno.EFBIG, f"it is larger than {MAX_FILE_SIZE >> 20} MiB")
        return file.read().decode("utf-8-sig"), status


def _parse(place: str, document: Document) -> Found:
    parsed = parse_record(document.value)
    source = f"{place}:{document.line}"
    if parsed.problems:
        placed = (replace(p, source=f"{place}:{line_of(document, p.field)}") for p in parsed.problems)
        parsed = parsed._replace(problems=tuple(placed))
    return Found(parsed, source)

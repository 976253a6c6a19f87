"""The embedded datastore: a file of records, or a folder of them, followed by inotify."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncGenerator, Iterable, Iterator
from datetime import UTC, datetime

from routed.datastore.base import Event, Lost, Restored
from routed.datastore.files import (
    Loaded,
    MissingError,
    Signature,
    Tree,
    is_record_file,
    load,
    lookups,
    scan,
)
from routed.datastore.inotify import CONTENTS, ENTRIES, FileEvent, Inotify, Mask
from routed.datastore.store import Store
from routed.resources import Problem
from routed.text import escaped

ABSENCE_GRACE = 0.1
"""Seconds that a file must be away to count as deleted: editors and tools delete or rename, then create
again."""

RETURN_GRACE = 1.0
"""Seconds without any event before a folder that came back is taken to hold all that it will."""

WRITING_PAUSE = 0.05
"""Seconds without a write after which a file is read though the writer still has it open. Nothing that is
not in it yet counts as deleted then."""

WRITING_LIMIT = 1.0
"""Seconds after which it is read even while it is written to without a pause."""

RESCAN_PERIOD = 30.0
"""Seconds between looks at all files for what inotify does not tell, such as changes that come over NFS."""

BLIND_RESCAN_PERIOD = 2.0
"""The same, where the kernel has no inotify watch to give."""

THREAD_SIZE = 256 * 1024
"""Bytes of text above which parsing leaves the event loop's thread."""

THREAD_FILES = 1000
"""Files above which a look at all of them does."""


class FileDatastore:
    """`file:PATH`. See `base.Datastore`; whatever may be at the path, or not be there, raises nothing."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._follower: _Follower | None = None

    async def watch(self) -> AsyncGenerator[Event, None]:
        """See `base.Datastore`. Raises RuntimeError where a watch is on already."""
        if self._follower is not None:
            raise RuntimeError("a datastore is watched once at a time")
        self._follower = follower = _Follower(self.path)
        try:
            while not follower.closed:
                for event in await follower.turn():
                    yield event
                await follower.wait()
        finally:
            follower.close()
            self._follower = None

    async def close(self) -> None:
        """See `base.Datastore`."""
        if self._follower is not None:
            self._follower.close()


class _Follower:
    """One watch: keeps a Store in step with the files.

    Each turn takes what inotify has, decides what to read, reads it, and tells the difference. What cannot
    be decided at once waits with a deadline: a file that is being written, a file that is away, the path
    itself being away."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.closed = False
        self.store = Store()
        self.loop = asyncio.get_running_loop()
        self.wake = asyncio.Event()
        self.tree: Tree | None = None
        self.signatures: dict[str, Signature | None] = {}  # of what was read; None: it could not be
        self.to_load: dict[str, bool] = {}  # path: whether all of the file is there
        self.writing: dict[str, tuple[float, float]] = {}  # path: when to read it, and when at the latest
        self.away: dict[str, float] = {}  # path: when it counts as deleted
        self.missing_since: float | None = None
        self.lost: Lost | None = None
        self.lost_told = False
        self.returning = False
        self.snapshot_sent = False
        self.rescan_at = 0.0
        # By real directory and name: the entries that decide where the root and the links below it lead, and
        # the files at the end of such links with the paths by which they are known.
        self.deciding: dict[str, set[str]] = {}
        self.link_ends: dict[tuple[str, str], set[str]] = {}
        self.blind = ""
        try:
            self.inotify: Inotify | None = Inotify()
        except OSError as error:
            self.inotify = None
            self.blind = f"inotify is not to be had ({error.strerror}): raise fs.inotify.max_user_instances"

    def close(self) -> None:
        """Ends the watch at once, from whatever it waits for."""
        self.closed = True
        self.wake.set()
        if self.inotify is not None:
            self._stop_listening()
            self.inotify.close()
            self.inotify = None

    async def turn(self) -> list[Event]:
        """Brings the store in step and gives what there is to tell."""
        now = self.loop.time()
        self._sort_events(self._read_events(), now)
        self._end_pauses(now)
        if now >= self.rescan_at or (self._overdue(now) and not self._root_is_the_same()):
            await self._rescan(now)
        await self._load_files()
        self._remove_overdue(now)
        return [] if self.closed else list(self._tell())

    async def wait(self) -> None:
        """Until there are events, a deadline passes, or the watch is closed."""
        if self.closed:
            return
        if self.inotify is not None:
            self.loop.add_reader(self.inotify.fileno(), self._on_readable)
        delay = max(0.0, self._next_deadline() - self.loop.time())
        try:
            async with asyncio.timeout(delay):
                await self.wake.wait()
        except TimeoutError:
            pass
        finally:
            self.wake.clear()
            self._stop_listening()

    def _on_readable(self) -> None:
        self._stop_listening()
        self.wake.set()

    def _stop_listening(self) -> None:
        if self.inotify is not None:
            self.loop.remove_reader(self.inotify.fileno())

    def _next_deadline(self) -> float:
        if self.to_load:
            return 0.0
        return min([self.rescan_at, *self.away.values(), *(first for first, _ in self.writing.values())])

    # What happened

    def _read_events(self) -> list[FileEvent]:
        return [] if self.inotify is None else self.inotify.read()

    def _sort_events(self, events: list[FileEvent], now: float) -> None:
        """Decides for each event which file is to be read, waited for or missed, or that all has to be
        looked at."""
        moved_here = {
            event.cookie for event in events if event.mask & Mask.MOVED_TO and self._paths_of(event)
        }
        for event in events:
            paths = self._paths_of(event)
            if self._needs_rescan(event):
                self.rescan_at = 0.0
            if self.missing_since is not None:
                # The files are elsewhere, and what happens to them there does not count until they are back.
                self.rescan_at = 0.0 if paths else self.rescan_at
                continue
            for path in paths:
                self._on_file_event(path, event, now, event.cookie in moved_here)

    def _folders_of(self, event: FileEvent) -> Iterable[str]:
        return self.tree.directories.get(event.directory, ()) if self.tree else ()

    def _paths_of(self, event: FileEvent) -> set[str]:
        """The files of the tree that an event is about, by the paths that they are known by."""
        paths = self.link_ends.get((event.directory, event.name), set())
        if event.mask & Mask.ISDIR or not event.name:
            return paths
        if self.tree is not None and self.root in self.tree.files:
            here = {self.root} if event.name == os.path.basename(self.root) else set()
            return paths | here if self._folders_of(event) else paths
        if not is_record_file(event.name):
            return paths
        return paths | {os.path.join(folder, event.name) for folder in self._folders_of(event)}

    def _needs_rescan(self, event: FileEvent) -> bool:
        """Whether more than one file may be other than it was."""
        if event.mask & (Mask.OVERFLOW | Mask.UNMOUNT | Mask.IGNORED):
            return True
        if not event.mask & ENTRIES:
            return False
        if event.name in self.deciding.get(event.directory, ()):
            return True
        if not self._folders_of(event):
            # Below a root that is away, all is new.
            return self.missing_since is not None and event.directory not in self.deciding
        if event.mask & Mask.ISDIR or not event.name:
            return not event.name.startswith(".")
        # Kubernetes swaps the whole content of a volume by renaming the link `..data`.
        return event.name.startswith("..")

    def _on_file_event(self, path: str, event: FileEvent, now: float, moved_here: bool) -> None:
        mask = event.mask
        if mask & (Mask.DELETE | Mask.MOVED_FROM):
            self.writing.pop(path, None)
            self.to_load.pop(path, None)
            # A move to another path that is ours says it all in one go; else it may come back.
            self.away[path] = now if moved_here and mask & Mask.MOVED_FROM else now + self._grace()
        elif mask & (Mask.CLOSE_WRITE | Mask.MOVED_TO):
            self._read_soon(path, complete=True)
        elif mask & Mask.CREATE and _is_link(path):
            self._read_soon(path, complete=True)  # nobody writes it: no CLOSE_WRITE will come
            self.rescan_at = 0.0  # where it leads is to be watched
        elif mask & (Mask.CREATE | Mask.MODIFY):
            self.away.pop(path, None)
            _, latest = self.writing.get(path, (0.0, now + WRITING_LIMIT))
            self.writing[path] = min(now + WRITING_PAUSE, latest), latest
        elif mask & Mask.ATTRIB and self.signatures.get(path, ()) is None:
            self._read_soon(path, complete=True)  # it could not be read before, perhaps now it can
        if self.returning:
            self.away = dict.fromkeys(self.away, now + RETURN_GRACE)

    def _read_soon(self, path: str, complete: bool) -> None:
        self.writing.pop(path, None)
        self.away.pop(path, None)
        self.to_load[path] = complete

    def _end_pauses(self, now: float) -> None:
        for path, (first, _) in list(self.writing.items()):
            if now >= first:
                self._read_soon(path, complete=False)

    # What is gone

    def _grace(self) -> float:
        return RETURN_GRACE if self.returning else ABSENCE_GRACE

    def _overdue(self, now: float) -> list[str]:
        return [path for path, deadline in self.away.items() if now >= deadline]

    def _root_is_the_same(self) -> bool:
        """False where it is perhaps not a file that went away, but the path above it."""
        try:
            status = os.stat(self.root)
        except OSError:
            return False
        return self.tree is not None and self.tree.identity == (status.st_dev, status.st_ino)

    def _remove_overdue(self, now: float) -> None:
        for path in self._overdue(now):
            del self.away[path]
            if os.path.isfile(path):
                self._read_soon(path, complete=True)
            else:
                self.store.remove(path)
                self.signatures.pop(path, None)
        if not self.away:
            self.returning = False

    def _on_missing(self, reason: str, now: float) -> None:
        """The path is away. For a moment that may be how someone replaces it; then it is lost."""
        self.away.clear()
        self.writing.clear()
        self.to_load.clear()
        if self.missing_since is None:
            self.missing_since = now
        lost_at = self.missing_since + ABSENCE_GRACE if self.snapshot_sent else now
        if now < lost_at:
            self.rescan_at = lost_at
        elif self.lost is None:
            self.lost = Lost(
                f"{reason}; nothing is withdrawn, it is read as soon as it is there", datetime.now(UTC)
            )
            self.lost_told = False

    # Looking at all

    async def _rescan(self, now: float) -> None:
        """Looks at all files: those that differ are read, those that are not there any more are missed."""
        if self.inotify is not None:
            self.blind = ""
        self.rescan_at = now + (BLIND_RESCAN_PERIOD if self.blind else RESCAN_PERIOD)
        self._watch_root()
        try:
            if self.tree is not None and len(self.tree.files) > THREAD_FILES:
                tree = await asyncio.to_thread(scan, self.root, self._watch)
            else:
                tree = scan(self.root, self._watch)
            if not tree.files and self.signatures and self.tree and tree.identity != self.tree.identity:
                raise MissingError(f"{escaped(self.root)}: has been replaced by an empty folder")
        except MissingError as error:
            self._on_missing(str(error), now)
            return
        self.returning = self.returning or (self.lost is not None and self.snapshot_sent)
        self.missing_since = None
        self.tree = tree
        self._compare(tree, now)
        self._watch_links(tree)
        self.store.set_common_problems(self._common_problems(tree))

    def _compare(self, tree: Tree, now: float) -> None:
        for path, signature in tree.files.items():
            if path not in self.writing and self.signatures.get(path, ()) != signature:
                self._read_soon(path, complete=True)
            else:
                self.away.pop(path, None)
        # A renamed folder has the same files in it: all but the time of their last change of status stays.
        files_here = {signature[:4] for signature in tree.files.values()}
        unknown = tuple(os.path.join(folder, "") for folder in tree.unreadable)
        for path, last in self.signatures.items():
            if path not in tree.files and not path.startswith(unknown):
                moved = last is not None and last[:4] in files_here
                self.away.setdefault(path, now if moved else now + self._grace())

    def _watch_root(self) -> None:
        """Watches where it is decided what the root is, also while it is not there."""
        self.deciding = {}
        for directory, name in lookups(self.root):
            self.deciding.setdefault(directory, set()).add(name)
            self._watch(directory, ENTRIES)

    def _watch_links(self, tree: Tree) -> None:
        """Watches where files that are symbolic links lead; then gives up the watches that nothing needs
        now."""
        self.link_ends = {}
        for path in tree.files:
            if os.path.islink(path):
                *links, (directory, name) = lookups(path)
                self.link_ends.setdefault((directory, name), set()).add(path)
                self._watch(directory)
                for link_directory, link in links:
                    self.deciding.setdefault(link_directory, set()).add(link)
                    self._watch(link_directory, ENTRIES)
        if self.root in tree.files and not os.path.islink(self.root):
            # What happens to a single file is told like that of any file in a folder.
            self.deciding.clear()
        if self.inotify is not None:
            needed = {directory for directory, _ in self.link_ends}
            self.inotify.watch_only(needed | self.deciding.keys() | tree.directories.keys())

    def _watch(self, directory: str, mask: Mask = CONTENTS) -> None:
        inotify = self.inotify  # a close can come while a scan is on in its thread
        if inotify is None:
            return
        try:
            inotify.watch(directory, mask)
        except (FileNotFoundError, NotADirectoryError):
            return  # it has just gone: a scan that comes to it will say so
        except OSError as error:
            reason = error.strerror
            self.blind = f"{directory} cannot be watched ({reason}): raise fs.inotify.max_user_watches"
            self.rescan_at = min(self.rescan_at, self.loop.time() + BLIND_RESCAN_PERIOD)

    def _common_problems(self, tree: Tree) -> Iterable[Problem]:
        yield from tree.problems
        if self.blind:
            reason = f"{self.blind}; until then changes are looked for every {BLIND_RESCAN_PERIOD:.0f} s"
            yield Problem(None, "", reason, source=escaped(self.root), severity="warning")

    # Reading and telling

    async def _load_files(self) -> None:
        wanted, self.to_load = self.to_load, {}
        if not wanted:
            return
        sizes = self.tree.files if self.tree else {}
        if sum(sizes[path].size for path in wanted if path in sizes) > THREAD_SIZE:
            loaded = await asyncio.to_thread(_load_all, wanted)
        else:
            loaded = _load_all(wanted)
        now = self.loop.time()
        events = self._read_events()
        # What was written to again while it was read is perhaps half of what it will be.
        disturbed: set[str] = set().union(*(self._paths_of(event) for event in events))
        for file in loaded:
            if file.gone:
                self.away.setdefault(file.path, now + self._grace())
                continue
            self.signatures[file.path] = file.signature
            if file.linked:
                self.rescan_at = 0.0
            complete = file.complete and wanted[file.path] and file.path not in disturbed
            self.store.replace(file.path, file.found, file.problems, complete)
        self._sort_events(events, now)

    def _tell(self) -> Iterator[Event]:
        if self.lost is not None:
            if self.missing_since is None:
                self.lost = None
                yield Restored()
            elif not self.lost_told:
                self.lost_told = True
                yield self.lost
        if self.missing_since is not None:
            return
        if self.snapshot_sent:
            changes = self.store.take_changes()
            if changes is not None:
                yield changes
        else:
            self.snapshot_sent = True
            yield self.store.take_snapshot()


def _is_link(path: str) -> bool:
    """Whether it is a symbolic link, or one of several hard links."""
    try:
        status = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISLNK(status.st_mode) or status.st_nlink > 1


def _load_all(paths: Iterable[str]) -> list[Loaded]:
    return [load(path) for path in paths]

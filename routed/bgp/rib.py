"""Adj-RIB-In and Loc-RIB of one address family (RFC 4271 sections 3.2 and 9).

There is no object for a route: a table maps NLRI bytes to a `Path`, which is shared by every route of a
source with the same attributes, or to a tuple of paths, in Loc-RIB best first, where there is more than one.
Nothing here is per peer on the way out; changed prefixes are gathered and handed to the listeners once a turn
of the event loop.

A source gives one path of a prefix, or, with path identifiers (RFC 7911), several, and then all of them are
in Loc-RIB. Such a source withdraws by route key (see `adj_rib_in`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice

from routed.bgp.adj_rib_in import AdjRibIn, Entry, by_path_id, entry_of, paths_of, route_key
from routed.bgp.attributes import AttributeSet
from routed.bgp.bestpath import multipath, rank, with_path
from routed.bgp.communities import LLGR_STALE, NO_LLGR
from routed.bgp.nlri import Family
from routed.bgp.nlri_codec import PATH_ID_OCTETS
from routed.bgp.path import Path, PathFilter, Router, Source

__all__ = ["AdjRibIn", "ChangeListener", "Entry", "LocRib", "NewListener", "Run"]

ChangeListener = Callable[[Sequence[bytes]], None]
"""Gets the prefixes whose Loc-RIB entry may have changed since the last call; each is there once."""

Run = tuple[Path, Sequence[bytes]]
"""Prefixes with the one path that each of them has."""

NewListener = Callable[[Sequence[Run]], None]
"""Gets prefixes that are new: none of them was in Loc-RIB at the last call, and each is there once."""


class LocRib:
    """All paths of one family: an Adj-RIB-In a source, and the best paths among them."""

    def __init__(self, family: Family) -> None:
        self.family = family
        self.routes: dict[bytes, Entry] = {}
        """Loc-RIB: prefixes that have an eligible path."""
        self.sources: dict[Source, AdjRibIn] = {}
        self._changed: dict[bytes, object] = {}  # used as a set in order of change
        # In a table transfer prefixes come that are new, each run of them with one path, and nothing else
        # happens until they are handed on. So they are handed on as they came, without being looked up
        # again. As soon as anything else happens they are among the changed ones: one of the two is empty.
        self._new: deque[Run] = deque()
        self._new_count = 0
        self._listeners: list[tuple[ChangeListener, NewListener | None]] = []

    def subscribe(self, listener: ChangeListener, new_listener: NewListener | None = None) -> None:
        """Have `listener` called by `flush`; and `new_listener`, where there is one, in its place for
        prefixes that are new."""
        self._listeners.append((listener, new_listener))

    @property
    def changes_pending(self) -> int:
        """The number of prefixes that `flush` would hand on."""
        return len(self._changed) + self._new_count

    def flush(self, limit: int | None = None) -> int:
        """Hand the changed prefixes, at most `limit`, to the listeners. Returns how many are still
        waiting."""
        if self._new:
            self._flush_new(limit)
            return self.changes_pending
        changed = self._changed
        if not changed:
            return 0
        if limit is None or len(changed) <= limit:
            self._changed = {}
            some = list(changed)
        else:
            some = list(islice(changed, limit))
            for nlri in some:
                del changed[nlri]
        for listener, _ in self._listeners:
            listener(some)
        return len(self._changed)

    def _flush_new(self, limit: int | None) -> None:
        runs: list[Run] = []
        left = self._new_count if limit is None else min(limit, self._new_count)
        self._new_count -= left
        while left:
            path, nlri = self._new.popleft()
            if len(nlri) > left:
                self._new.appendleft((path, nlri[left:]))
                nlri = nlri[:left]
            runs.append((path, nlri))
            left -= len(nlri)
        for listener, new_listener in self._listeners:
            if new_listener is not None:
                new_listener(runs)
            else:
                listener([one for _, nlri in runs for one in nlri])

    def _end_new(self) -> None:
        """Prefixes that are new may change again by what follows: they are as any others now."""
        for _, nlri in self._new:
            self._changed.update(dict.fromkeys(nlri))
        self._new.clear()
        self._new_count = 0

    def update(
        self,
        source: Source,
        announced: Iterable[tuple[AttributeSet, Sequence[bytes]]] = (),
        withdrawn: Sequence[bytes] = (),
    ) -> None:
        """Apply an UPDATE: the withdrawn prefixes first (RFC 4271 section 4.3)."""
        if withdrawn:
            self.withdraw(source, withdrawn)
        for attributes, nlri in announced:
            self.announce(source, attributes, nlri)

    def announce(self, source: Source, attributes: AttributeSet, nlri: Sequence[bytes]) -> None:
        """Apply an announcement: NLRI, or the route keys of a source with path identifiers."""
        if not source.add_path:
            self.insert(source.path(attributes), nlri)
            return
        for path_id, some in by_path_id(nlri):
            self.insert(source.path(attributes, path_id=path_id), some)

    def insert(self, path: Path, nlri: Sequence[bytes]) -> None:
        """Set the path of these prefixes from `path.source`, in place of any that it gave before with the
        same path identifier."""
        source = path.source
        adj_rib_in = self.sources.get(source)
        if adj_rib_in is None:
            adj_rib_in = self.sources[source] = AdjRibIn(source)
        if adj_rib_in.stale:
            adj_rib_in.stale.difference_update(
                [route_key(path, one) for one in nlri] if source.add_path else nlri
            )
        received = adj_rib_in.routes
        policy = adj_rib_in.policy
        if policy is not None or path.ineligible is not None:
            adj_rib_in.hides = True
            if path.ineligible is not None:
                adj_rib_in.ignored += len(nlri)
                adj_rib_in.ignored_reason = path.ineligible
        # A table transfer is nearly all prefixes that are new everywhere, and where attributes change,
        # prefixes that nobody else has: no loop in Python over those. The loops below do the same for each.
        elif self._is_new(adj_rib_in, nlri):
            same = dict.fromkeys(nlri, path)
            received.update(same)
            self.routes.update(same)
            if self._changed:  # one of these may be among them, as withdrawn
                self._changed.update(same)
            else:
                self._new.append((path, nlri if len(same) == len(nlri) else list(same)))
                self._new_count += len(same)
            return
        elif self._has_other_path(received, path, nlri):
            if self._new:
                self._end_new()
            same = dict.fromkeys(nlri, path)
            received.update(same)
            self.routes.update(same)
            self._changed.update(same)
            return
        if self._new:
            self._end_new()
        if source.add_path:
            for one in nlri:
                self._insert_beside(adj_rib_in, path, one)
            return
        for one in nlri:
            if received.get(one) is not path:
                received[one] = path
                self._place(source, one, path if policy is None else policy(one, path))

    def _is_new(self, adj_rib_in: AdjRibIn, nlri: Sequence[bytes]) -> bool:
        """Whether nobody has given a path of any of these prefixes, or only such as are not in Loc-RIB."""
        if not self.routes.keys().isdisjoint(nlri):
            return False
        # Where all that a source gave is in Loc-RIB there is no need to look for it twice.
        return not adj_rib_in.hides or adj_rib_in.routes.keys().isdisjoint(nlri)

    def _has_other_path(self, received: dict[bytes, Entry], path: Path, nlri: Sequence[bytes]) -> bool:
        """Whether Loc-RIB has of each of these prefixes just the one path that this source gave, which is not
        this one."""
        if path.source.add_path:
            return False  # it may stand beside the one there is
        before = list(map(received.get, nlri))
        return path not in before and before == list(map(self.routes.get, nlri))

    def _insert_beside(self, adj_rib_in: AdjRibIn, path: Path, nlri: bytes) -> None:
        """`insert` of a path with an identifier: other paths of the source stay."""
        before = adj_rib_in.put(path, nlri)
        if before is path:
            return
        if before is None and adj_rib_in.policy is None:
            if path.ineligible is None:
                old = self.routes.get(nlri)
                self._set(nlri, old, path if old is None else with_path(paths_of(old), path))
        else:
            self._place_all(adj_rib_in, nlri)

    def withdraw(self, source: Source, nlri: Iterable[bytes]) -> None:
        """Remove the source's path of these prefixes, or its paths of these route keys; what it has none for
        is ignored."""
        adj_rib_in = self.sources.get(source)
        if adj_rib_in is None:
            return
        if self._new:
            self._end_new()
        if source.add_path:
            for key in nlri:
                path_id, one = int.from_bytes(key[:PATH_ID_OCTETS]), key[PATH_ID_OCTETS:]
                if adj_rib_in.take(path_id, one):
                    adj_rib_in.stale.discard(key)
                    self._place_all(adj_rib_in, one)
            return
        received = adj_rib_in.routes
        routes = self.routes
        for one in nlri:
            path = received.pop(one, None)
            if path is None:
                continue
            adj_rib_in.stale.discard(one)
            if routes.get(one) is path:  # the only path there is
                del routes[one]
                self._changed[one] = None
            else:
                self._place(source, one, None)

    def drop(self, source: Source) -> None:
        """Remove all that came from a source: its session is down, or it is no more."""
        adj_rib_in = self.sources.get(source)
        if adj_rib_in is not None:
            self.withdraw(source, list(adj_rib_in.keys()))
            del self.sources[source]

    def mark_stale(self, source: Source) -> None:
        """Keep a source's paths in use while its session restarts (RFC 4724 section 4.2)."""
        adj_rib_in = self.sources.get(source)
        if adj_rib_in is not None:
            adj_rib_in.stale = set(adj_rib_in.keys())

    def make_long_lived(self, source: Source) -> None:
        """Keep a source's stale paths for longer, as a last resort (RFC 9494 section 4.2): with the community
        that says so, or not at all where they have the one that forbids it. They stay stale."""
        adj_rib_in = self.sources.get(source)
        if adj_rib_in is None:
            return
        by_path: dict[Path, list[bytes]] = {}
        for key in adj_rib_in.stale:
            path = adj_rib_in.path(key)
            if path is not None and LLGR_STALE not in path.attributes.communities:
                by_path.setdefault(path, []).append(key)
        for path, keys in by_path.items():
            attributes = path.attributes
            if NO_LLGR in attributes.communities:
                self.withdraw(source, keys)
            else:
                communities = (*attributes.communities, LLGR_STALE)
                self.announce(source, attributes.replace(communities=communities), keys)
                adj_rib_in.stale.update(keys)

    def sweep_stale(self, source: Source) -> None:
        """Remove what was not announced again since `mark_stale`: End-of-RIB came, or the time is over."""
        adj_rib_in = self.sources.get(source)
        if adj_rib_in is not None and adj_rib_in.stale:
            stale, adj_rib_in.stale = adj_rib_in.stale, set()
            self.withdraw(source, stale)

    def sweep_long_lived(self, source: Source) -> None:
        """Remove the stale paths that are a last resort, and no others: the time for those is over."""
        adj_rib_in = self.sources.get(source)
        if adj_rib_in is not None:
            paths = {key: adj_rib_in.path(key) for key in adj_rib_in.stale}
            self.withdraw(
                source,
                [key for key, path in paths.items() if path and LLGR_STALE in path.attributes.communities],
            )

    def set_policy(self, source: Source, policy: PathFilter | None) -> None:
        """Put another import policy in force and apply it to what the source sent before."""
        adj_rib_in = self.sources.get(source)
        if adj_rib_in is None:
            adj_rib_in = self.sources[source] = AdjRibIn(source)
        adj_rib_in.policy = policy
        adj_rib_in.hides = True
        self._end_new()
        for nlri in adj_rib_in.routes:
            self._place_all(adj_rib_in, nlri)

    def set_router(self, source: Source, router: Router) -> None:
        """Check all that a source sent again, after our own identity, addresses or priorities changed."""
        if source.router == router:
            return
        source.router = router
        self.recheck(source)

    def recheck(self, source: Source) -> None:
        """Judge all that a source sent again, after anything in the source changed: its paths may be eligible
        or not now, and listeners look at each of its prefixes."""
        source.forget_paths()
        adj_rib_in = self.sources.get(source)
        if adj_rib_in is None:
            return
        adj_rib_in.hides = True
        self._end_new()
        routes = adj_rib_in.routes
        for nlri, entry in routes.items():
            if isinstance(entry, tuple):
                routes[nlri] = tuple(map(source.same_path, entry))
            else:
                routes[nlri] = source.same_path(entry)
            self._place_all(adj_rib_in, nlri)
        self._changed.update(routes)

    def touch(self) -> None:
        """Hand every prefix to the listeners, with the changed ones: something that they add to a path is
        another now."""
        self._end_new()
        self._changed.update(self.routes)

    def rerank(self, nlri: Iterable[bytes]) -> None:
        """Put the paths of these prefixes in order again: the keys of some have changed."""
        self._end_new()
        for one in nlri:
            entry = self.routes.get(one)
            if isinstance(entry, tuple):
                ranked = rank(entry)
                if ranked != entry:
                    self.routes[one] = ranked
                    self._changed[one] = None

    def best(self, nlri: bytes) -> Path | None:
        """The best path of a prefix."""
        entry = self.routes.get(nlri)
        return entry[0] if isinstance(entry, tuple) else entry

    def multipath(self, nlri: bytes) -> tuple[Path, ...]:
        """The paths of a prefix that share the load, best first; empty where there is none."""
        entry = self.routes.get(nlri)
        if entry is None:
            return ()
        return multipath(entry) if isinstance(entry, tuple) else (entry,)

    def ranked(self, nlri: bytes) -> tuple[Path, ...]:
        """All eligible paths of a prefix, best first."""
        return paths_of(self.routes.get(nlri))

    def ineligible(self, nlri: bytes) -> Iterator[Path]:
        """The paths of a prefix that are not considered; `Path.ineligible` says why."""
        for adj_rib_in in self.sources.values():
            for path in adj_rib_in.admitted(nlri):
                if path.ineligible is not None:
                    yield path

    def _place(self, source: Source, nlri: bytes, path: Path | None) -> None:
        """Make `path` the only one of `source` in a prefix's Loc-RIB entry; None or an ineligible one:
        none."""
        if path is not None and path.ineligible is not None:
            path = None
        old = self.routes.get(nlri)
        new: Entry | None
        if old is None:
            new = path
        elif isinstance(old, tuple):
            others = tuple(one for one in old if one.source is not source)
            if path is not None:
                new = with_path(others, path)
            elif len(others) == 1:
                new = others[0]
            else:
                new = rank(others)
        elif old.source is source:
            new = path
        else:
            new = old if path is None else with_path((old,), path)
        self._set(nlri, old, new)

    def _place_all(self, adj_rib_in: AdjRibIn, nlri: bytes) -> None:
        """Make the eligible ones of a source's paths, as they are after import policy, its only ones in a
        prefix's Loc-RIB entry."""
        source = adj_rib_in.source
        old = self.routes.get(nlri)
        paths = [path for path in paths_of(old) if path.source is not source]
        paths += (path for path in adj_rib_in.admitted(nlri) if path.ineligible is None)
        self._set(nlri, old, entry_of(rank(paths)))

    def _set(self, nlri: bytes, old: Entry | None, new: Entry | None) -> None:
        """Make `new` the entry of a prefix, which was `old`."""
        if new is None:
            if old is not None:
                del self.routes[nlri]
                self._changed[nlri] = None
        elif new != old:
            self.routes[nlri] = new
            self._changed[nlri] = None

"""Adj-RIB-In: what one source said, as received (RFC 4271 section 3.2).

A table maps NLRI to a `Path`, which all routes of the source with the same attributes share. Where the peer
sends path identifiers (RFC 7911), a path belongs to one identifier, a prefix may have several of them, and a
route is named by its *route key*: the identifier in four octets, then the NLRI, as on the wire.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from routed.bgp.nlri_codec import PATH_ID_OCTETS
from routed.bgp.path import Path, PathFilter, Source

Entry = Path | tuple[Path, ...]
"""What a table holds for a prefix: the only path, or several. In Loc-RIB the best comes first."""


def paths_of(entry: Entry | None) -> tuple[Path, ...]:
    """The paths of an entry."""
    if isinstance(entry, tuple):
        return entry
    return () if entry is None else (entry,)


def entry_of(paths: Sequence[Path]) -> Entry | None:
    """The entry that holds these paths; None for none."""
    if len(paths) > 1:
        return tuple(paths)
    return paths[0] if paths else None


def route_key(path: Path, nlri: bytes) -> bytes:
    """How a source with path identifiers names the route: identifier and NLRI."""
    return path.path_id.to_bytes(PATH_ID_OCTETS) + nlri


def by_path_id(keys: Sequence[bytes]) -> Iterable[tuple[int, Sequence[bytes]]]:
    """Route keys as (path identifier, NLRI): one step for all that have the same."""
    found: dict[bytes, list[bytes]] = {}
    if len({key[:PATH_ID_OCTETS] for key in keys}) == 1:  # most messages
        found[keys[0][:PATH_ID_OCTETS]] = [key[PATH_ID_OCTETS:] for key in keys]
    else:
        for key in keys:
            found.setdefault(key[:PATH_ID_OCTETS], []).append(key[PATH_ID_OCTETS:])
    return [(int.from_bytes(path_id), nlri) for path_id, nlri in found.items()]


class AdjRibIn:
    """One source's table: the ineligible paths too, with the reason in the path."""

    __slots__ = ("_beside", "hides", "ignored", "ignored_reason", "policy", "routes", "source", "stale")

    def __init__(self, source: Source) -> None:
        self.source = source
        self.routes: dict[bytes, Entry] = {}
        """By NLRI. Several paths are in the order in which their identifiers came."""
        self._beside = 0  # paths more than prefixes
        self.ignored = 0
        """How many announcements had a path that must not be used: a loop, or our own next hop."""
        self.ignored_reason: str | None = None
        """Why, for the last of them."""
        self.policy: PathFilter | None = None
        self.hides = False
        """True where a route of it may not be in Loc-RIB: an ineligible one, or one that policy turned
        down."""
        self.stale: set[bytes] = set()
        """NLRI, or route keys, not announced again since the session went down (RFC 4724 section 4.2), or
        since the peer began to send everything again (RFC 7313 section 4)."""

    def __len__(self) -> int:
        """The number of routes: paths, not prefixes."""
        return len(self.routes) + self._beside

    def admitted(self, nlri: bytes) -> tuple[Path, ...]:
        """The paths of a prefix after import policy, the ineligible among them."""
        paths = paths_of(self.routes.get(nlri))
        policy = self.policy
        return paths if policy is None else tuple(policy(nlri, path) for path in paths)

    def keys(self) -> Iterator[bytes]:
        """What the source calls its routes: their NLRI, or their route keys."""
        if not self.source.add_path:
            yield from self.routes
            return
        for nlri, entry in self.routes.items():
            for path in paths_of(entry):
                yield route_key(path, nlri)

    def path(self, key: bytes) -> Path | None:
        """The path that the source gave under this NLRI or route key."""
        if not self.source.add_path:
            return entry if isinstance(entry := self.routes.get(key), Path) else None
        path_id = int.from_bytes(key[:PATH_ID_OCTETS])
        paths = paths_of(self.routes.get(key[PATH_ID_OCTETS:]))
        return next((path for path in paths if path.path_id == path_id), None)

    def put(self, path: Path, nlri: bytes) -> Path | None:
        """Set the path of a prefix that has this identifier; returns the one that had it before."""
        entry = self.routes.get(nlri)
        if entry is None:
            self.routes[nlri] = path
            return None
        paths = paths_of(entry)
        for place, old in enumerate(paths):
            if old.path_id == path.path_id:
                self.routes[nlri] = path if len(paths) == 1 else (*paths[:place], path, *paths[place + 1 :])
                return old
        self.routes[nlri] = (*paths, path)
        self._beside += 1
        return None

    def take(self, path_id: int, nlri: bytes) -> bool:
        """Remove the path of a prefix that has this identifier. False where there is none."""
        paths = paths_of(self.routes.get(nlri))
        rest = entry_of([path for path in paths if path.path_id != path_id])
        if rest is None:
            return self.routes.pop(nlri, None) is not None
        if len(paths_of(rest)) == len(paths):
            return False
        self.routes[nlri] = rest
        self._beside -= 1
        return True

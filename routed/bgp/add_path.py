"""Export groups whose members get several paths of a prefix (RFC 7911).

What is advertised: the eligible paths of a prefix that the export rules accept, best first, at most as many
as the group's key says. So a client of a reflector has what it needs to share the load (RFC 7911 section 1),
and a second path at hand when the best one goes. A local path that stands for want of any other
(`SourceKind.ALLOCATED`) is only sent where it is the best.

A path of a prefix has an identifier for as long as it is advertised, the smallest that was free. It stays
when the path's source announces other attributes, and never goes from one source to another in one step: the
reader that is the old source, and leaves out its own routes, would not notice. So everything about logs,
members and split horizon is as in other groups, with route keys (identifier and NLRI) in place of NLRI.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from routed.bgp.adj_out import Advert, Turn
from routed.bgp.adj_rib_in import Entry, paths_of
from routed.bgp.export import Exporter
from routed.bgp.group import DEFAULT_LIMITS, Group, GroupKey, Limits
from routed.bgp.nlri_codec import PATH_ID_OCTETS
from routed.bgp.path import Path, SourceKind

EntryChanges = Iterable[tuple[Entry | None, Sequence[bytes]]]
"""Changed prefixes by all their paths, as Loc-RIB holds them; None: there is none any more."""

PathIds = tuple[int, ...]

_ONLY: Final[PathIds] = (1,)
_FIRST: Final = (1).to_bytes(PATH_ID_OCTETS)


def _key(path_id: int, nlri: bytes) -> bytes:
    return path_id.to_bytes(PATH_ID_OCTETS) + nlri


class AddPathGroup(Group):
    """Peers that are told the same, with path identifiers."""

    def __init__(self, key: GroupKey, exporter: Exporter, limits: Limits = DEFAULT_LIMITS) -> None:
        """`key.add_path` is the greatest number of paths of a prefix, 1 or more."""
        super().__init__(key, exporter, limits)
        self._path_ids: dict[bytes, PathIds] = {}
        """The identifiers of a prefix, ascending, where they are others than just 1: most prefixes have one
        path, and are not here."""
        self._shapes: dict[PathIds, PathIds] = {}

    def apply_entries(self, changes: EntryChanges) -> bool:
        """`Group.apply`, with all paths of each prefix."""
        turn = Turn(self.adj_out)
        for entry, nlri in changes:
            for adverts, some in self._adverts(entry, nlri):
                if not adverts:
                    self._withdraw(turn, some)
                elif len(adverts) == 1:
                    self._announce_only(turn, adverts[0], some)
                else:
                    for one in some:
                        self._announce(turn, adverts, one)
        return self._write(turn)

    def prefixes(self) -> set[bytes]:
        """See `Group.prefixes`."""
        return {key[PATH_ID_OCTETS:] for key in super().prefixes()}

    def adverts(self, nlri: bytes) -> Sequence[Advert]:
        """See `Group.adverts`."""
        keys = (_key(path_id, nlri) for path_id in self._path_ids.get(nlri, _ONLY))
        return [advert for key in keys if (advert := self.adj_out.get(key)) is not None]

    def adverts_by_path_id(self, nlri: bytes) -> Sequence[tuple[int, Advert]]:
        """See `Group.adverts_by_path_id`."""
        keys = {path_id: _key(path_id, nlri) for path_id in self._path_ids.get(nlri, _ONLY)}
        return [
            (path_id, advert)
            for path_id, key in keys.items()
            if (advert := self.adj_out.get(key)) is not None
        ]

    def _adverts(
        self, entry: Entry | None, nlri: Sequence[bytes]
    ) -> Iterator[tuple[tuple[Advert, ...], Sequence[bytes]]]:
        """What is to be advertised of prefixes with the same paths, each advert once, best first."""
        paths = paths_of(entry)
        if len(paths) > 1:
            paths = (paths[0], *(one for one in paths[1:] if one.source.kind is not SourceKind.ALLOCATED))
        if not paths:
            yield (), nlri
        elif len(paths) == 1:
            (path,) = paths
            for attributes, some in self.exporter.export(path, nlri):
                yield () if attributes is None else ((attributes, path.source),), some
        else:
            found: dict[tuple[Advert, ...], list[bytes]] = {}
            for one in nlri:
                found.setdefault(self._accepted(paths, one), []).append(one)
            yield from found.items()

    def _accepted(self, paths: Sequence[Path], nlri: bytes) -> tuple[Advert, ...]:
        adverts: dict[Advert, None] = {}
        for path in paths:
            attributes = self.exporter.attributes_of(nlri, path)
            if attributes is not None:
                adverts[attributes, path.source] = None
                if len(adverts) == self.key.add_path:
                    break
        return tuple(adverts)

    def _withdraw(self, turn: Turn, nlri: Sequence[bytes]) -> None:
        path_ids = self._path_ids
        if not path_ids:
            turn.withdraw([_FIRST + one for one in nlri])
            return
        for one in nlri:
            turn.withdraw([_key(path_id, one) for path_id in path_ids.pop(one, _ONLY)])

    def _announce_only(self, turn: Turn, advert: Advert, nlri: Sequence[bytes]) -> None:
        """The one path of these prefixes: nearly all of a table transfer."""
        adj_out, path_ids = self.adj_out, self._path_ids
        keys = [_FIRST + one for one in nlri]
        if adj_out.keys().isdisjoint(keys) and path_ids.keys().isdisjoint(nlri):
            turn.announce(advert, keys)
            return
        source = advert[1]
        same: list[bytes] = []
        for one, key in zip(nlri, keys, strict=True):
            old = adj_out.get(key)
            if one in path_ids or (old is not None and old[1] is not source):
                self._announce(turn, (advert,), one)
            else:
                same.append(key)
        turn.announce(advert, same)

    def _announce(self, turn: Turn, adverts: Sequence[Advert], nlri: bytes) -> None:
        """Make these the adverts of a prefix: each keeps its identifier, or takes the one that its source's
        changed path had, or gets a new one."""
        adj_out = self.adj_out
        path_ids = self._path_ids.get(nlri)
        if path_ids is None:
            path_ids = _ONLY if _FIRST + nlri in adj_out else ()
        had = {path_id: adj_out[_key(path_id, nlri)] for path_id in path_ids}
        new = dict.fromkeys(adverts)
        has: dict[int, Advert] = {}
        for path_id, old in had.items():
            if old in new:
                has[path_id] = old
                del new[old]
        for path_id, old in had.items():
            if path_id not in has:
                for advert in new:
                    if advert[1] is old[1]:
                        has[path_id] = advert
                        del new[advert]
                        break
        path_id = 1
        for advert in new:
            while path_id in had or path_id in has:
                path_id += 1
            has[path_id] = advert
        for path_id in path_ids:
            if path_id not in has:
                turn.withdraw([_key(path_id, nlri)])
        for path_id, advert in has.items():
            if had.get(path_id) != advert:
                turn.announce(advert, [_key(path_id, nlri)])
        now = tuple(sorted(has))
        if now == _ONLY:
            self._path_ids.pop(nlri, None)
        else:
            self._path_ids[nlri] = self._shapes.setdefault(now, now)

"""One resource, kept in step: list in pages, watch from there, and again from where the watch ended.

client-go's reflector is the model (tools/cache/reflector.go); the API's rules are in Kubernetes' "API
concepts": resource versions, chunked lists, bookmarks, 410 Gone."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import msgspec

from routed.datastore.kubernetes.access import Access
from routed.datastore.kubernetes.api import JSON, METADATA, METADATA_LIST, Caller, RefusedError
from routed.datastore.kubernetes.http import DisconnectedError
from routed.datastore.kubernetes.kinds import Resource, Scope
from routed.datastore.retry import UnavailableError
from routed.datastore.store import Found, Store
from routed.resources import Record, parse_record

PAGE: Final = 500
"""Objects a page, as client-go asks for."""

WATCH_SECONDS: Final = (240, 480)
"""For how long a watch is asked for, at random between these: servers and load balancers see connections go
and come."""

SILENCE: Final = 150.0
"""Seconds without a byte after which a watch is opened anew. API servers send a bookmark every minute."""

BOOKMARK_DUE: Final = 120.0
"""Seconds of a watch in which a server that sends bookmarks has sent one."""

LEAST_WATCH: Final = 1.0
"""Seconds that pass at least between the beginnings of two watches where the first brought nothing."""

_YIELD_EVERY: Final = 50
"""Objects after which the rest of the process has its turn: a page of blocks takes 100 ms to parse."""


class _ListMetadata(msgspec.Struct):
    resource_version: str = msgspec.field(default="", name="resourceVersion")
    continue_token: str = msgspec.field(default="", name="continue")


class _List(msgspec.Struct):
    metadata: _ListMetadata
    items: list[msgspec.Raw] | None = None


class _Event(msgspec.Struct):
    type: str
    object: msgspec.Raw


class _Bookmark(msgspec.Struct):
    metadata: _ListMetadata


class _WentBackError(Exception):
    """The server is at an older version than it told us: it was restored from a backup, and may never tell
    what became different by that."""


class _Seen(NamedTuple):
    """An object, read: where it is, what became of it, its resource version."""

    origin: str
    found: Found
    version: str


_LISTS: Final = msgspec.json.Decoder(_List)
_EVENTS: Final = msgspec.json.Decoder(_Event)
_BOOKMARKS: Final = msgspec.json.Decoder(_Bookmark)


class Reflector:
    """Follows one resource into a store. What it knows outlives the connection, and the session."""

    def __init__(
        self,
        resource: Resource,
        scope: Scope,
        store: Store,
        changed: Callable[[], None],
        took: Callable[[str, Record | None, bool], None],
        nodes_known: Callable[[], bool],
    ) -> None:
        """`changed` is called after the store was changed; `took` for each object with its origin, its record
        (None where it was rejected or is gone), and whether it is gone. `nodes_known` says whether there was
        any Node."""
        self.resource = resource
        self.scope = scope
        self.synced = False
        """Whether the store ever held all that there is."""
        self._store = store
        self._changed = changed
        self._took = took
        self._nodes_known = nodes_known
        self._group = resource.groups[0]
        self._objects = msgspec.json.Decoder(resource.objects)
        self._version: str | None = None
        self._origins: set[str] = set()
        self._selectors = dict(resource.selectors)
        self._listed_at = float("-inf")
        self._bookmarks = False  # whether the server sends any

    def set_group(self, group: str) -> None:
        """Where the resource is served. Another group has objects and versions of its own."""
        if group != self._group:
            self._group = group
            self._version = None

    @property
    def shown(self) -> str:
        """The resource's name for people."""
        return self.resource.shown(self._group)

    @property
    def holds_any(self) -> bool:
        """Whether anything came from here."""
        return bool(self._origins)

    def forget(self) -> None:
        """Takes all that came from here out of the store."""
        for origin in sorted(self._origins):
            self._drop(origin)
        self._version = None
        self.synced = False
        self._changed()

    async def follow(self, access: Access, in_step: Callable[[], None]) -> None:
        """Lists where that is needed, and watches, without end. `in_step` is called whenever the server has
        said that it will tell what changes from here on.

        Raises RefusedError, DisconnectedError, AccessError, CredentialError; and UnavailableError where it
        goes round in circles. Where it had come to is kept for the next time."""
        caller = Caller(access)
        try:
            while True:
                try:
                    if self._version is None:
                        await self._list(caller)
                    await self._watch(caller, in_step)
                except RefusedError as refusal:
                    if not self._adapted(refusal):
                        raise
        finally:
            await caller.close()

    def _adapted(self, refusal: RefusedError) -> bool:
        """Whether it can be done in another way than the one that was refused."""
        code, status = refusal.status.code, refusal.status
        if code == 410 or status.version_too_large:
            # Compacted; or the server is behind what we saw: restored from a backup.
            self._version = None
            if asyncio.get_running_loop().time() - self._listed_at < LEAST_WATCH:
                raise UnavailableError(f"{refusal}: again, right after a list", refusal.retry_after)
            return True
        if code == 400 and self._selectors and not self.resource.name:
            # A server that is older than this selector: then it is told apart here.
            self._selectors.clear()
            return True
        return False

    # List

    async def _list(self, caller: Caller) -> None:
        """All objects, of one resource version; then those that are gone are dropped."""
        self._listed_at = asyncio.get_running_loop().time()
        query = {"limit": str(PAGE)} | self._selectors
        seen: dict[str, _Seen] = {}
        while True:
            try:
                page = await self._page(caller, query)
            except RefusedError as refusal:
                if refusal.status.code != 410 or "continue" not in query:
                    raise
                # Compacted between two pages: all at once cannot be.
                query = dict(self._selectors)
                seen.clear()
                continue
            for raw in page.items or ():
                if len(seen) % _YIELD_EVERY == 0:
                    await asyncio.sleep(0)
                item = self._read(raw)
                seen[item.origin] = item
            if not page.metadata.continue_token:
                break
            query = {"limit": str(PAGE), "continue": page.metadata.continue_token} | self._selectors
        gone = self._origins - seen.keys()
        if gone and await self._was_reset(caller):
            raise DisconnectedError(
                "it has no Nodes any more, as if it were another server or had been reset: restore it, or "
                "start routed anew to take it as it is"
            )
        for item in seen.values():
            self._take(item)
        for origin in sorted(gone):
            self._drop(origin)
        self._version = page.metadata.resource_version or None
        if self._version is None:
            raise DisconnectedError(f"list {self.shown}: the answer has no resourceVersion")
        self.synced = True
        self._changed()

    async def _was_reset(self, caller: Caller) -> bool:
        """Whether there is no Node where there were some. A cluster without any is none: not even the node
        that this runs on."""
        if not self._nodes_known():
            return False
        body = await caller.get("/api/v1/nodes", {"limit": "1"}, METADATA_LIST)
        try:
            return not _LISTS.decode(body).items
        except msgspec.DecodeError:
            return False

    async def _page(self, caller: Caller, query: dict[str, str]) -> _List:
        path = self.resource.path(self._group)
        body = await caller.get(path, query, METADATA_LIST if self.resource.metadata_only else JSON)
        try:
            return _LISTS.decode(body)
        except msgspec.DecodeError:
            raise DisconnectedError(f"GET {path}: the answer is no list in JSON") from None

    # Watch

    async def _watch(self, caller: Caller, in_step: Callable[[], None]) -> None:
        """Follows from the version that is known until the server ends it, or the connection breaks: then
        there is nothing wrong yet."""
        seconds = random.randint(*WATCH_SECONDS)  # noqa: S311  # spreads load, hides nothing
        query = {
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": self._version or "",
            "timeoutSeconds": str(seconds),
        } | self._selectors
        accept = METADATA if self.resource.metadata_only else JSON
        loop = asyncio.get_running_loop()
        begun = loop.time()
        accepted = heard = changed = False
        lines = caller.lines(self.resource.path(self._group), query, accept, SILENCE)
        try:
            async with contextlib.aclosing(lines):
                async for batch in lines:
                    if not accepted:
                        accepted = True
                        in_step()
                    if batch:
                        heard = True
                        changed = await self._take_events(batch) or changed
        except DisconnectedError:
            # The next watch tells whether the server can be had.
            if not accepted:
                raise
        except _WentBackError:
            self._version = None
        if self._bookmarks and not heard and loop.time() - begun >= BOOKMARK_DUE:
            # A server that was restored from a backup says nothing, not even a bookmark, until it comes to
            # the version that is asked for: what is different by then would never be told.
            self._version = None
        if not changed and (rest := begun + LEAST_WATCH - loop.time()) > 0:
            await asyncio.sleep(rest * random.uniform(1, 2))  # noqa: S311

    async def _take_events(self, batch: list[bytes]) -> bool:
        """Takes events of a watch, and says whether the store was changed. Raises RefusedError for an ERROR
        event, UnavailableError, _WentBackError."""
        changed = False
        try:
            for number, line in enumerate(batch):
                if number % _YIELD_EVERY == _YIELD_EVERY - 1:
                    await asyncio.sleep(0)
                changed = self._take_event(line) or changed
        finally:
            if changed:
                self._changed()
        return changed

    def _take_event(self, line: bytes) -> bool:
        """Takes one event, and says whether the store was changed."""
        try:
            event = _EVENTS.decode(line)
        except msgspec.DecodeError:
            raise UnavailableError(f"watch {self.shown}: an event is no JSON") from None
        if event.type == "BOOKMARK":
            self._bookmark(event.object)
            return False
        if event.type == "ERROR":
            raise RefusedError.of_event(f"watch {self.shown}", event.object)
        item = self._read(event.object)
        if event.type == "DELETED":
            self._drop(item.origin)
        else:
            self._take(item)
        if item.version:
            self._version = item.version
        return True

    def _bookmark(self, raw: msgspec.Raw) -> None:
        """Only says how far the watch is. Raises _WentBackError."""
        self._bookmarks = True
        with contextlib.suppress(msgspec.DecodeError):
            version = _BOOKMARKS.decode(raw).metadata.resource_version
            known = self._version or ""
            if version.isdecimal() and known.isdecimal() and int(version) < int(known):
                raise _WentBackError
            self._version = version or self._version

    # Objects

    def _read(self, raw: msgspec.Raw) -> _Seen:
        resource = self.resource
        document: dict[str, Any]
        try:
            item = self._objects.decode(raw)
            version = item.metadata.resource_version
            document = item.read(self.scope)
        except msgspec.DecodeError:
            # Not even its outline is as it should be: the record's parser says what is wrong.
            document, version = _untyped(raw)
        document["apiVersion"] = self._group
        document["kind"] = resource.kind
        parsed = parse_record(document)
        metadata = document.get("metadata")
        names = [metadata.get(part) for part in ("namespace", "name")] if isinstance(metadata, dict) else []
        origin = "/".join((resource.plural_in(self._group), *(str(name) for name in names if name)))
        return _Seen(origin, Found(parsed, origin), version)

    def _take(self, item: _Seen) -> None:
        self._origins.add(item.origin)
        self._store.replace(item.origin, [item.found])
        self._took(item.origin, item.found.parsed.record, False)

    def _drop(self, origin: str) -> None:
        self._origins.discard(origin)
        self._store.remove(origin)
        self._took(origin, None, True)


def _untyped(raw: msgspec.Raw) -> tuple[dict[str, Any], str]:
    """An object of whatever shape, and its resource version."""
    try:
        document = msgspec.json.decode(raw)
    except msgspec.DecodeError:
        document = None
    if not isinstance(document, dict):
        return {}, ""
    metadata = document.get("metadata")
    version = metadata.get("resourceVersion") if isinstance(metadata, dict) else None
    return document, version if isinstance(version, str) else ""

"""etcd with Calico's v3 layout: read at one revision, then watched from the next."""

from __future__ import annotations

import random
from collections.abc import Mapping
from contextlib import aclosing

from routed.datastore import etcd_wire as wire
from routed.datastore.etcd_client import CompactedError, Connection, Endpoint, EtcdOptions, connected
from routed.datastore.etcd_layout import (
    PREFIXES,
    NotADocumentError,
    is_old_pool,
    key_of_resource,
    prefix_end,
    read_value,
    with_status,
)
from routed.datastore.remote import Feed, Follower, RemoteDatastore
from routed.datastore.retry import UnavailableError
from routed.datastore.store import Found
from routed.resources import IPPool, Key
from routed.resources.values import Network

_RANGES = tuple((prefix.encode(), prefix_end(prefix.encode())) for prefix in PREFIXES)

MOST_WRITES = 4
"""How often a record is read anew because somebody else wrote it in between."""

MOST_LISTINGS = 3
"""How often in a row the records are read anew because the revision was compacted meanwhile."""


class EtcdDatastore(RemoteDatastore):
    """`etcd://HOST:PORT[,HOST:PORT...]`. See `base.Datastore`."""

    def __init__(self, options: EtcdOptions) -> None:
        super().__init__()
        self.options = options

    def follower(self, feed: Feed) -> Follower:
        """See `RemoteDatastore`."""
        return _EtcdFollower(self.options, feed)

    async def write_status(self, key: Key, status: Mapping[str, object]) -> bool:
        """See `base.StatusWriter`. For records that etcd has as resources (`etcd_layout`)."""
        reasons: list[str] = []
        for endpoint in random.sample(self.options.endpoints, len(self.options.endpoints)):
            try:
                async with connected(endpoint, self.options) as connection:
                    return await _write_status(connection, key_of_resource(key), status)
            except UnavailableError as error:
                reasons.append(error.reason)
        raise UnavailableError("; ".join(sorted(set(reasons))))


async def _write_status(connection: Connection, key: bytes, status: Mapping[str, object]) -> bool:
    """One member does it, unless others write the record again and again."""
    what = f"{connection.endpoint}: {key.decode()}"
    try:
        for _ in range(MOST_WRITES):
            answer = await connection.call(wire.RANGE, wire.range_request(key, b""))
            found = wire.RangeResponse.read(answer).kvs
            if not found:
                return False
            value = with_status(found[0].value, status)
            request = wire.replace_request(key, found[0].mod_revision, value)
            if wire.succeeded(await connection.call(wire.TXN, request)):
                return True
    except (wire.WireError, NotADocumentError) as error:
        raise UnavailableError(f"{what}: {error}") from None
    raise UnavailableError(f"{what}: is written too often by others")


class _EtcdFollower(Follower):
    """One watch.

    It knows a digest of every value that it has read, so that reading all again parses only what is
    different; and for each range the revision that comes next, None where the records have to be read
    (again)."""

    def __init__(self, options: EtcdOptions, feed: Feed) -> None:
        self.options = options
        self.feed = feed
        self.records = _Records(feed)
        self.next_revisions: list[int] | None = None
        self.cluster_id = 0
        self.revision = 0
        # Each node begins elsewhere, so that not all are at the first member.
        self.endpoints = list(options.endpoints)
        random.shuffle(self.endpoints)

    async def session(self) -> None:
        """See `Follower`: tries each endpoint, then says what was wrong with all of them."""
        reasons: list[str] = []
        for _ in self.endpoints:
            endpoint = self.endpoints[0]
            try:
                await self._follow(endpoint)
            except UnavailableError as error:
                # The next session begins with the next endpoint.
                self.endpoints.append(self.endpoints.pop(0))
                if self.feed.is_synced:
                    raise
                reasons.append(error.reason)
        raise UnavailableError("; ".join(sorted(set(reasons))))

    async def _follow(self, endpoint: Endpoint) -> None:
        async with connected(endpoint, self.options) as connection:
            while True:
                if self.next_revisions is None:
                    await self._list_somehow(connection)
                await self._watch(connection)

    async def _list_somehow(self, connection: Connection) -> None:
        for _ in range(MOST_LISTINGS):
            try:
                return await self._list(connection)
            except CompactedError:
                continue
        raise UnavailableError(f"{connection.endpoint}: it compacts faster than it can be read")

    # Reading all

    async def _list(self, connection: Connection) -> None:
        """Reads every key at one revision, and drops what is not there any more."""
        seen: set[str] = set()
        revision, cluster_id = 0, 0
        for prefix, end in _RANGES:
            async with aclosing(connection.pages(prefix, end, revision)) as pages:
                async for page in pages:
                    revision = revision or page.header.revision
                    cluster_id = page.header.cluster_id
                    seen.update(self.records.put(kv.key, kv.value) for kv in page.kvs)
        if not seen and self.records.digests and self._is_another(cluster_id, revision):
            raise UnavailableError(
                f"{connection.endpoint}: it is another etcd than before, or was reset, and has no records"
            )
        self.records.keep_only(seen)
        self.cluster_id, self.revision = cluster_id, revision
        self.next_revisions = [revision + 1] * len(_RANGES)
        self.feed.in_sync()

    def _is_another(self, cluster_id: int, revision: int) -> bool:
        return cluster_id != self.cluster_id or revision < self.revision

    # Following

    async def _watch(self, connection: Connection) -> None:
        """Follows from the last revision on. Returns where all has to be read again.

        From the last, not from the next: before etcd 3.4.36 and 3.5.18 a watch from a revision that was
        compacted just then misses what was deleted at it, and is not told. What is told twice does no
        harm."""
        assert self.next_revisions is not None
        requests = [
            wire.watch_create_request(prefix, end, following - 1, watch_id)
            for watch_id, ((prefix, end), following) in enumerate(
                zip(_RANGES, self.next_revisions, strict=True), start=1
            )
        ]
        waiting = len(requests)
        async with aclosing(connection.watch(requests)) as responses:
            async for response in responses:
                if response.canceled:
                    self._on_canceled(response, connection.endpoint)
                    return
                if response.created:
                    # A member that was reset would wait for revisions that are long to come.
                    if self._is_another(response.header.cluster_id, response.header.revision):
                        self.next_revisions = None
                        return
                    waiting -= 1
                    if not waiting:
                        self.feed.in_sync()
                elif response.watch_id > 0:
                    self._take(response)

    def _on_canceled(self, response: wire.WatchResponse, endpoint: Endpoint) -> None:
        if response.compact_revision:
            self.next_revisions = None
            return
        reason = response.cancel_reason.removeprefix("etcdserver: ") or "no reason given"
        raise UnavailableError(f"{endpoint}: it refused the watch: {reason}")

    def _take(self, response: wire.WatchResponse) -> None:
        """Events, or none: then all up to the header's revision was told, and it can be resumed from there.

        The answers to progress requests are no such promise: before etcd 3.4.25 and 3.5.8 they could
        overtake events."""
        assert self.next_revisions is not None
        for event in response.events:
            if event.deleted:
                self.records.delete(event.kv.key)
            else:
                self.records.put(event.kv.key, event.kv.value)
        if response.fragment:
            return
        last = response.events[-1].kv.mod_revision if response.events else response.header.revision
        index = response.watch_id - 1
        if not 0 <= index < len(self.next_revisions):
            return
        self.next_revisions[index] = max(last + 1, self.next_revisions[index])
        self.revision = max(self.revision, last)
        if response.events:
            self.feed.changed()


class _Records:
    """The keys that etcd has, read into a feed's store."""

    def __init__(self, feed: Feed) -> None:
        self.store = feed.store
        self.digests: dict[str, int] = {}
        # Pools from before v3 count only where no resource is about the same cidr.
        self._old_pools: dict[str, Found] = {}
        self._pool_cidrs: dict[str, Network] = {}

    def put(self, raw_key: bytes, value: bytes) -> str:
        """What a key holds now. Gives the key as text."""
        key = _text(raw_key)
        digest = hash(value)
        if self.digests.get(key) == digest:
            return key
        self.digests[key] = digest
        found = read_value(key, value)
        if found is None:
            return key
        if is_old_pool(key):
            self._old_pools[key] = found
            self._weigh_old_pools()
            return key
        self.store.replace(key, (found,))
        if isinstance(found.parsed.record, IPPool):
            self._pool_cidrs[key] = found.parsed.record.cidr
            self._weigh_old_pools()
        return key

    def delete(self, raw_key: bytes) -> None:
        """A key is gone."""
        self._forget(_text(raw_key))

    def keep_only(self, keys: set[str]) -> None:
        """All others are gone."""
        for key in self.digests.keys() - keys:
            self._forget(key)

    def _forget(self, key: str) -> None:
        self.digests.pop(key, None)
        self.store.remove(key)
        if self._old_pools.pop(key, None) is not None or self._pool_cidrs.pop(key, None) is not None:
            self._weigh_old_pools()

    def _weigh_old_pools(self) -> None:
        cidrs = set(self._pool_cidrs.values())
        for key, found in self._old_pools.items():
            record = found.parsed.record
            if isinstance(record, IPPool) and record.cidr in cidrs:
                self.store.remove(key)
            else:
                self.store.replace(key, (found,))


def _text(key: bytes) -> str:
    return key.decode("utf-8", "surrogateescape")

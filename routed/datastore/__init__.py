"""Where records come from: one snapshot, then changes, whatever the datastore is."""

from routed.datastore.base import Batch, Changes, Datastore, Event, Lost, Restored, Snapshot
from routed.datastore.url import DatastoreURLError, Wanted, open_datastore, url_from_environ
from routed.datastore.waiting import AbsentError, as_environ_says

__all__ = [
    "AbsentError",
    "Batch",
    "Changes",
    "Datastore",
    "DatastoreURLError",
    "Event",
    "Lost",
    "Restored",
    "Snapshot",
    "Wanted",
    "as_environ_says",
    "open_datastore",
    "url_from_environ",
]

"""Where records come from: one snapshot, then changes, whatever the datastore is."""

from routed.datastore.base import Batch, Changes, Datastore, Event, Lost, Restored, Snapshot
from routed.datastore.url import DatastoreURLError, open_datastore, url_from_environ

__all__ = [
    "Batch",
    "Changes",
    "Datastore",
    "DatastoreURLError",
    "Event",
    "Lost",
    "Restored",
    "Snapshot",
    "open_datastore",
    "url_from_environ",
]

"""Where records come from: one snapshot, then changes, whatever the datastore is."""

from routed.datastore.base import Batch, Changes, Datastore, Event, Lost, Restored, Snapshot, StatusWriter
from routed.datastore.url import DatastoreURLError, Wanted, open_datastore, url_from_environ
from routed.datastore.waiting import AbsentError, as_environ_says, status_writer

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
    "StatusWriter",
    "Wanted",
    "as_environ_says",
    "open_datastore",
    "status_writer",
    "url_from_environ",
]

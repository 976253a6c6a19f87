"""WAIT_FOR_DATASTORE: whether a start waits for a datastore that is not there."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping

from routed.datastore.base import Datastore, Event, Lost, Snapshot, StatusWriter


class AbsentError(Exception):
    """The datastore is not there at the start, and it was not to be waited for. The text says why."""


class _Impatient:
    """A datastore that has to be there at the start. Later losses are like those of any other."""

    def __init__(self, datastore: Datastore) -> None:
        self.datastore = datastore

    async def watch(self) -> AsyncGenerator[Event, None]:
        """See `base.Datastore`. Raises AbsentError where it is lost before the Snapshot."""
        started = False
        async for event in self.datastore.watch():
            if isinstance(event, Lost) and not started:
                raise AbsentError(f"{event.reason} (WAIT_FOR_DATASTORE is false)")
            started = started or isinstance(event, Snapshot)
            yield event

    async def close(self) -> None:
        """See `base.Datastore`."""
        await self.datastore.close()


def as_environ_says(datastore: Datastore, environ: Mapping[str, str]) -> Datastore:
    """The datastore, which is waited for unless WAIT_FOR_DATASTORE is false. Calico's own default is not to
    wait; its manifests set it to true, and a node that forwards by the routes it has is worth more than one
    that ends again and again. Raises ValueError where it is neither."""
    value = environ.get("WAIT_FOR_DATASTORE", "").strip().lower()
    if value in ("", "true", "1", "yes"):
        return datastore
    if value in ("false", "0", "no"):
        return _Impatient(datastore)
    raise ValueError(f"WAIT_FOR_DATASTORE={value!r}: write true or false")


def status_writer(datastore: Datastore) -> StatusWriter | None:
    """Who writes statuses into the datastore, where that can be done."""
    inner = datastore.datastore if isinstance(datastore, _Impatient) else datastore
    return inner if isinstance(inner, StatusWriter) else None

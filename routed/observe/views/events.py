"""Events as documents."""

from __future__ import annotations

from typing import Any, cast

from routed.observe import documents
from routed.observe.events import Event
from routed.observe.views.text import time_text
from routed.text import clean, clean_or_none, plain


def event_document(event: Event) -> documents.Event:
    """One event."""
    return documents.Event(
        number=event.number,
        time=time_text(event.time, milliseconds=True),
        kind=event.kind.value,
        text=clean(event.text),
        peer=clean_or_none(event.peer),
        fields=cast("dict[str, Any]", plain(dict(event.fields))),
    )

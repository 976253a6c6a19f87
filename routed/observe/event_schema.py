"""The JSON Schema of published events, from one table of what each kind has.

`python -m routed.observe.event_schema` prints it: `docs/events.schema.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from routed.observe.events import EventKind
from routed.observe.mqtt_messages import SCHEMA

Schema = Mapping[str, Any]

_TEXT: Final[Schema] = {"type": "string"}
_COUNT: Final[Schema] = {"type": "integer", "minimum": 0}
_YES_NO: Final[Schema] = {"type": "boolean"}
_TIME: Final[Schema] = {"type": "string", "format": "date-time"}
_FAMILY: Final[Schema] = {"enum": ["ipv4", "ipv6"]}
_ADDRESS: Final[Schema] = {"type": "string", "description": "The peer's address."}
_PREFIXES: Final[Schema] = {"type": "array", "items": _TEXT}
_AS: Final[Schema] = {"type": "integer", "minimum": 0, "maximum": 0xFFFFFFFF}

#: What `fields` has, by kind. All of it is always there; more may come.
FIELDS: Final[Mapping[EventKind, Mapping[str, Schema]]] = {
    EventKind.STARTED: {"peers": _COUNT},
    EventKind.STOPPING: {},
    EventKind.CONVERGED: {},
    EventKind.DRAINING: {},
    EventKind.DRAIN_ENDED: {},
    EventKind.PEER_ADDED: {"address": _ADDRESS},
    EventKind.PEER_REMOVED: {"address": _ADDRESS},
    EventKind.SESSION_UP: {
        "address": _ADDRESS,
        "remote_as": _AS,
        "router_id": _TEXT,
        "families": {"type": "array", "items": _FAMILY},
        "hold_time": {"type": "number", "minimum": 0, "description": "Seconds."},
    },
    EventKind.SESSION_DOWN: {
        "address": _ADDRESS,
        "reason": _TEXT,
        "routes": {"type": "string", "description": "What became of the peer's routes."},
        "times": {"type": "integer", "minimum": 1, "description": "How often since the last such event."},
        "flaps": {"type": "integer", "minimum": 0, "description": "How often since the start."},
    },
    EventKind.PEER_SHUT_DOWN: {"address": _ADDRESS, "message": _TEXT},
    EventKind.PEER_BROUGHT_UP: {"address": _ADDRESS},
    EventKind.PEER_REFRESHED: {
        "asked": {"type": "boolean", "description": "The peer was asked for its routes."},
        "resent": {"type": "boolean", "description": "Ours were sent again."},
    },
    EventKind.STALE_ROUTES: {},
    EventKind.BAD_UPDATE: {"finding": _TEXT, "times": {"type": "integer", "minimum": 1}},
    EventKind.ROUTES: {
        "family": _FAMILY,
        "changes": {"type": "integer", "minimum": 1, "description": "Of the whole event, not of a part."},
        "announced": {**_PREFIXES, "description": "Of the prefixes that are named, those in Loc-RIB now."},
        "withdrawn": {**_PREFIXES, "description": "Of the prefixes that are named, those that are gone."},
        "all_named": {**_YES_NO, "description": "No prefix changed that is not named."},
    },
    EventKind.DATASTORE_LOST: {"reason": _TEXT},
    EventKind.DATASTORE_BACK: {"lost_since": {"type": ["string", "null"]}},
    EventKind.RECORDS_READ: {"records": _COUNT},
    EventKind.PROBLEM: {"severity": {"enum": ["error", "warning"]}, "record": _TEXT},
    EventKind.PROBLEM_SOLVED: {"record": _TEXT},
    EventKind.KERNEL_ERROR: {"error": _TEXT},
    EventKind.MISSED: {"events": {"type": "integer", "minimum": 1}},
}

_DOCUMENT: Final[Mapping[str, Schema]] = {
    "schema": {"const": SCHEMA, "description": "The version of this document."},
    "node": {"type": "string", "description": "The node's name, or the reflector's."},
    "started_at": {**_TIME, "description": "When the process started; its events count from 1."},
    "number": {"type": "integer", "minimum": 0, "description": "0: made for this listener alone (missed)."},
    "part": {
        "type": "integer",
        "minimum": 1,
        "description": "Of an event that is too large for one message; lists go on from part to part.",
    },
    "parts": {"type": "integer", "minimum": 1},
    "time": _TIME,
    "kind": {"enum": [kind.value for kind in EventKind]},
    "text": {"type": "string", "description": "One line for people."},
    "peer": {"type": ["string", "null"], "description": "The peering's name, where it is about one."},
    "fields": {"type": "object"},
}


def schema() -> dict[str, Any]:
    """The schema of a message on `PREFIX/nodes/<node>/events/<kind>`."""
    kinds = {kind.value: _object(fields) for kind, fields in FIELDS.items()}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "An event of routed, as it is published to an MQTT broker",
        "description": "Fields may come within a version. Texts may be those of peers and records: data.",
        **_object(_DOCUMENT),
        "allOf": [
            {
                "if": {"properties": {"kind": {"const": kind}}},
                "then": {"properties": {"fields": {"$ref": f"#/$defs/{kind}"}}},
            }
            for kind in kinds
        ],
        "$defs": kinds,
    }


def _object(properties: Mapping[str, Schema]) -> dict[str, Any]:
    return {"type": "object", "required": list(properties), "properties": dict(properties)}


def main() -> None:
    """Print it."""
    print(json.dumps(schema(), indent=2))


if __name__ == "__main__":
    main()

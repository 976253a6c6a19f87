"""The schema of `CalicoNodeStatus.status` as Calico's CustomResourceDefinition has it
(crd.projectcalico.org_caliconodestatuses.yaml): an API server drops every field that is not in it."""

from __future__ import annotations

from typing import Any

_TEXT = {"type": "string"}
_DAEMON = {
    "type": "object",
    "properties": dict.fromkeys(
        ("lastBootTime", "lastReconfigurationTime", "routerID", "state", "version"), _TEXT
    ),
}
_PEERS = {
    "type": "array",
    "nullable": True,
    "items": {"type": "object", "properties": dict.fromkeys(("peerIP", "since", "state", "type"), _TEXT)},
}
_ROUTES = {
    "type": "array",
    "nullable": True,
    "items": {
        "type": "object",
        "properties": {
            **dict.fromkeys(("destination", "gateway", "interface", "type"), _TEXT),
            "learnedFrom": {
                "type": "object",
                "properties": dict.fromkeys(("peerIP", "sourceType"), _TEXT),
            },
        },
    },
}
_COUNTS = ("numberEstablishedV4", "numberEstablishedV6", "numberNotEstablishedV4", "numberNotEstablishedV6")

STATUS: dict[str, Any] = {
    "type": "object",
    "properties": {
        "agent": {"type": "object", "properties": {"birdV4": _DAEMON, "birdV6": _DAEMON}},
        "bgp": {
            "type": "object",
            "required": list(_COUNTS),
            "properties": {
                **{name: {"type": "integer"} for name in _COUNTS},
                "peersV4": _PEERS,
                "peersV6": _PEERS,
            },
        },
        "lastUpdated": {"type": "string", "format": "date-time", "nullable": True},
        "routes": {"type": "object", "properties": {"routesV4": _ROUTES, "routesV6": _ROUTES}},
    },
}


def strict(schema: dict[str, Any] = STATUS) -> dict[str, Any]:
    """The same as JSON Schema, in which a field that is not known is an error and not dropped."""
    result = {name: value for name, value in schema.items() if name != "nullable"}
    if "properties" in schema:
        result["properties"] = {name: strict(value) for name, value in schema["properties"].items()}
        result["additionalProperties"] = False
    if "items" in schema:
        result["items"] = strict(schema["items"])
    return result

"""What of an object one node can do without: most of a cluster's allocations and endpoints are of others.

Measured in `docs/kubernetes.md`: without this, each of 5,000 nodes keeps a copy of every pod of the cluster.
What has not the shape that it should is left as it is, so that the record's parser can say what is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from sys import intern
from typing import Any

# Of an allocation's `secondary`; `routed.ipam_blocks` reads nothing else.
_SECONDARY = ("node", "namespace", "pod", "type")


def reduce_block(spec: Any, node: str | None) -> None:
    """Makes the `attributes` of an IPAMBlock's spec fewer, in place: of another node's allocations only that
    node's name is kept, once for all of them; of `node`'s own what names the pod."""
    if not isinstance(spec, dict):
        return
    attributes, allocations = spec.get("attributes"), spec.get("allocations")
    if node is None or not isinstance(attributes, list) or not isinstance(allocations, list):
        return
    kept: list[dict[str, object]] = []
    places: dict[object, int] = {}
    moved: list[int] = []
    for attribute in attributes:
        secondary = attribute.get("secondary") or {} if isinstance(attribute, dict) else None
        if not isinstance(secondary, dict) or not all(isinstance(text, str) for text in secondary.values()):
            return
        owner = secondary.get("node")
        names = _SECONDARY if owner == node else ("node",)
        short = {name: intern(secondary[name]) for name in names if name in secondary}
        place = places.setdefault(tuple(short.items()), len(kept))
        if place == len(kept):
            kept.append({"secondary": short} if short else {})
        moved.append(place)
    for index in allocations:
        if index is not None and not (type(index) is int and 0 <= index < len(moved)):
            return
    spec["attributes"] = kept
    spec["allocations"] = [None if index is None else moved[index] for index in allocations]


def reduce_endpoints(endpoints: list[dict[str, Any]], node: str | None) -> list[dict[str, Any]]:
    """The endpoints of an EndpointSlice, as far as they tell `node` whether it has a ready one, and whether
    anybody has: at most two."""
    if node is None:
        return endpoints
    here = elsewhere = False
    for endpoint in endpoints:
        name, conditions = endpoint.get("nodeName"), endpoint.get("conditions")
        if not isinstance(conditions, Mapping | None) or not isinstance(name, str | None):
            return endpoints
        ready = (conditions or {}).get("ready")
        if not isinstance(ready, bool | None):
            return endpoints
        ready = ready is not False  # absent means ready
        if ready and name == node:
            here = True
        elif ready:
            elsewhere = True
    return [{"nodeName": node}] * here + [{}] * elsewhere

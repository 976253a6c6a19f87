"""What an API server keeps: objects with their resource versions, and the history that feeds watches."""

from __future__ import annotations

import asyncio
import base64
import bisect
import copy
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

Document = dict[str, Any]
Name = tuple[str, str]
"""Namespace (empty where there is none) and name."""


@dataclass(frozen=True)
class ResourceType:
    """A resource of the API."""

    group: str
    """`group/version`, or `v1`."""
    plural: str
    kind: str
    namespaced: bool = False
    custom: bool = False
    """From a CustomResourceDefinition: its lists say apiVersion and kind of every item."""

    @property
    def full_name(self) -> str:
        """As messages have it."""
        group = self.group.partition("/")[0] if "/" in self.group else ""
        return f"{self.plural}.{group}" if group else self.plural


def calico(group: str) -> list[ResourceType]:
    """Calico's kinds as custom resources of a group."""
    kinds = {
        "bgpconfigurations": "BGPConfiguration",
        "bgppeers": "BGPPeer",
        "bgpfilters": "BGPFilter",
        "ippools": "IPPool",
        "blockaffinities": "BlockAffinity",
        "ipamblocks": "IPAMBlock",
        "caliconodestatuses": "CalicoNodeStatus",
    }
    return [ResourceType(group, plural, kind, custom=True) for plural, kind in kinds.items()]


BUILT_IN = [
    ResourceType("v1", "nodes", "Node"),
    ResourceType("v1", "services", "Service", namespaced=True),
    ResourceType("v1", "secrets", "Secret", namespaced=True),
    ResourceType("discovery.k8s.io/v1", "endpointslices", "EndpointSlice", namespaced=True),
]


class Change(NamedTuple):
    """One write: the object before and after it, None where there was or is none."""

    revision: int
    type: ResourceType
    name: Name
    before: Document | None
    after: Document | None


class CompactedError(Exception):
    """The history does not reach back so far."""


class ConflictError(Exception):
    """The object is there already, is not there, or is of another version. `reason` as in a Status."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass
class Storage:
    """The objects of all resources, under one revision."""

    revision: int = 100
    compacted: int = 0
    objects: dict[ResourceType, dict[Name, Document]] = field(default_factory=dict)
    history: list[Change] = field(default_factory=list)
    managed_fields: bool = True
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def put(self, type_: ResourceType, document: Mapping[str, Any], how: str = "apply") -> Document:
        """Creates or replaces an object; a replacement that changes nothing has no new version.

        `how`: `create` and `update` fail where there is one, or none; `apply` does either. Raises
        ConflictError."""
        new = copy.deepcopy(dict(document))
        metadata = new.setdefault("metadata", {})
        if type_.namespaced:
            metadata.setdefault("namespace", "default")
        name = (metadata.get("namespace", ""), str(metadata["name"]))
        there = self.objects.setdefault(type_, {})
        before = there.get(name)
        if how == "create" and before is not None:
            raise ConflictError("AlreadyExists")
        if how == "update" and before is None:
            raise ConflictError("NotFound")
        wanted = metadata.pop("resourceVersion", None)
        if before is not None and wanted and wanted != before["metadata"]["resourceVersion"]:
            raise ConflictError("Conflict")
        _default(type_, new, before)
        self._complete(type_, new, before)
        if before is not None and _content(new) == _content(before):
            return before
        self.revision += 1
        metadata["resourceVersion"] = str(self.revision)
        there[name] = new
        self._record(Change(self.revision, type_, name, before, new))
        return new

    def delete(self, type_: ResourceType, name: Name) -> Document:
        """Removes an object. Raises ConflictError."""
        before = self.objects.get(type_, {}).pop(name, None)
        if before is None:
            raise ConflictError("NotFound")
        self.revision += 1
        self._record(Change(self.revision, type_, name, before, None))
        return before

    def get(self, type_: ResourceType, name: Name) -> Document | None:
        """The object."""
        return self.objects.get(type_, {}).get(name)

    def at(self, type_: ResourceType, revision: int) -> dict[Name, Document]:
        """All objects of a resource as of a revision. Raises CompactedError."""
        if revision < self.compacted:
            raise CompactedError
        then: dict[Name, Document | None] = dict(self.objects.get(type_, {}))
        for change in reversed(self.history):
            if change.revision <= revision:
                break
            if change.type == type_:
                then[change.name] = change.before
        return {name: document for name, document in sorted(then.items()) if document is not None}

    def since(self, type_: ResourceType, revision: int) -> Iterator[Change]:
        """What changed after a revision. Raises CompactedError."""
        if revision < self.compacted:
            raise CompactedError
        first = bisect.bisect_right(self.history, revision, key=lambda change: change.revision)
        for index in range(first, len(self.history)):
            if self.history[index].type == type_:
                yield self.history[index]

    def compact(self) -> None:
        """Forgets the history up to now."""
        self.compacted = self.revision
        self.history.clear()
        self._wake()

    def drop(self, type_: ResourceType) -> None:
        """The resource is no more, as when its CustomResourceDefinition is deleted."""
        for name in list(self.objects.get(type_, {})):
            self.delete(type_, name)

    def backup(self) -> Storage:
        """A copy, as of now."""
        return Storage(self.revision, self.compacted, copy.deepcopy(self.objects), list(self.history))

    def _record(self, change: Change) -> None:
        self.history.append(change)
        self._wake()

    def _wake(self) -> None:
        changed, self.changed = self.changed, asyncio.Event()
        changed.set()

    def _complete(self, type_: ResourceType, new: Document, before: Document | None) -> None:
        """What the server itself writes into metadata."""
        metadata = new["metadata"]
        new["apiVersion"], new["kind"] = type_.group, type_.kind
        old = before["metadata"] if before is not None else {}
        metadata["uid"] = old.get("uid") or str(uuid.uuid4())
        metadata["creationTimestamp"] = old.get("creationTimestamp") or "2026-01-01T00:00:00Z"
        if type_.custom:
            same = before is not None and before.get("spec") == new.get("spec")
            metadata["generation"] = old.get("generation", 0) + (0 if same else 1)
        if self.managed_fields and "spec" in new and isinstance(new["spec"], dict):
            fields: Document = {f"f:{name}": {} for name in new["spec"]}
            metadata["managedFields"] = [
                {
                    "manager": "kubectl",
                    "operation": "Update",
                    "apiVersion": type_.group,
                    "time": "2026-01-01T00:00:00Z",
                    "fieldsType": "FieldsV1",
                    "fieldsV1": {"f:spec": {".": {}, **fields}},
                }
            ]


def _content(document: Document) -> Document:
    """The object without what every write changes."""
    metadata = {k: v for k, v in document["metadata"].items() if k not in ("resourceVersion", "generation")}
    return {**document, "metadata": metadata}


def _default(type_: ResourceType, new: Document, before: Document | None) -> None:
    """The defaults of the kinds' schemas that matter to who reads them."""
    spec = new.get("spec")
    if type_.kind == "Secret":
        data = new.setdefault("data", {})
        for key, text in new.pop("stringData", {}).items():
            data[key] = base64.b64encode(text.encode()).decode()
        new.setdefault("type", "Opaque")
    elif type_.kind == "Service" and isinstance(spec, dict):
        _default_service(spec)
        new.setdefault("status", {"loadBalancer": {}})
    elif type_.kind == "Node":
        if not isinstance(spec, dict):
            spec = new["spec"] = {}
        if cidr := spec.get("podCIDR"):
            spec.setdefault("podCIDRs", [cidr])
        if before is None:
            spec.setdefault("taints", [{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}])
        new.setdefault("status", before["status"] if before is not None else _node_status())
    elif type_.kind == "EndpointSlice":
        new.setdefault("ports", None)
        new.setdefault("endpoints", None)


def _default_service(spec: dict[str, Any]) -> None:
    spec.setdefault("type", "ClusterIP")
    spec.setdefault("sessionAffinity", "None")
    if spec["type"] == "ExternalName":
        return
    spec.setdefault("internalTrafficPolicy", "Cluster")
    if spec["type"] in ("NodePort", "LoadBalancer"):
        spec.setdefault("externalTrafficPolicy", "Cluster")
    if address := spec.get("clusterIP"):
        spec.setdefault("clusterIPs", [address])
        families = ["IPv6" if ":" in ip else "IPv4" for ip in spec["clusterIPs"] if ip != "None"]
        spec.setdefault("ipFamilies", families or ["IPv4"])
    spec.setdefault("ipFamilyPolicy", "SingleStack")


def _node_status() -> dict[str, Any]:
    """Most of what makes a Node large: a kubelet lists up to 50 images."""
    images = [
        {
            "names": [
                f"registry.example/team/image-{n}@sha256:{'0' * 64}",
                f"registry.example/team/image-{n}:v1",
            ]
        }
        for n in range(50)
    ]
    return {"images": images, "nodeInfo": {"kubeletVersion": "v1.32.0"}, "daemonEndpoints": {}}

"""Which resources are read, and what of an object is kept: the rest is dropped while its JSON is parsed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from sys import intern
from typing import Any, Final

import msgspec

from routed.datastore.kubernetes.reduce import reduce_block, reduce_endpoints
from routed.resources.kubernetes import SERVICE_NAME_LABEL

CRD_V1: Final = "crd.projectcalico.org/v1"
CALICO_V3: Final = "projectcalico.org/v3"
CALICO_GROUPS: Final = (CRD_V1, CALICO_V3)
"""In the order in which they are preferred, as Calico does: where both are served, the second is most often
calico-apiserver, a view on the first that can be away when the first is there."""


@dataclass(frozen=True, slots=True)
class Scope:
    """For whom is watched. Without a node all is kept that any node needs: for reflectors and relays."""

    node: str | None = None
    """The name of the node's record."""
    kubernetes_node: str | None = None
    """Its name in EndpointSlices."""
    secret_namespace: str = "kube-system"  # noqa: S105  # a namespace, no secret
    pod_cidrs: bool = False
    """The nodes' pod CIDRs are their blocks (`USE_POD_CIDR`)."""
    services: bool = False
    """Services are needed whatever BGPConfiguration says (`CALICO_ADVERTISE_CLUSTER_IPS`)."""
    api_group: str | None = None
    """The only group to take Calico's kinds from (`CALICO_API_GROUP`); None: as discovery has it."""
    kinds: frozenset[str] | None = None
    """The only kinds to read; None: all."""

    def wants(self, resource: Resource) -> bool:
        """Whether a resource is to be read."""
        return self.kinds is None or resource.kind in self.kinds


class Metadata(msgspec.Struct, rename="camel"):
    """`metadata`, as far as it is used."""

    name: Any = None
    namespace: Any = None
    labels: Any = None
    annotations: Any = None
    resource_version: str = ""


class Object(msgspec.Struct):
    """The fields of an object that are parsed. `read` makes the document that `parse_record` takes, and may
    use up the object's own parts for it."""

    metadata: Metadata

    def labels(self) -> object:
        """The labels that are kept."""
        return self.metadata.labels

    def read(self, scope: Scope) -> dict[str, object]:
        """The document without `apiVersion` and `kind`."""
        metadata = self.metadata
        kept: dict[str, object] = {"name": metadata.name}
        if metadata.namespace is not None:
            kept["namespace"] = metadata.namespace
        if labels := self.labels():
            kept["labels"] = labels
        return {"metadata": kept}


class _Spec(Object):
    spec: Any = None

    def read(self, scope: Scope) -> dict[str, object]:
        return Object.read(self, scope) | {"spec": self.spec}


class _Affinity(_Spec):
    def labels(self) -> object:
        return None


class _Block(_Spec):
    def labels(self) -> object:
        return None

    def read(self, scope: Scope) -> dict[str, object]:
        reduce_block(self.spec, scope.node)
        return _Spec.read(self, scope)


class _NodeSpec(msgspec.Struct):
    pod_cidr: Any = msgspec.field(default=None, name="podCIDR")
    pod_cidrs: Any = msgspec.field(default=None, name="podCIDRs")


class _Node(Object):
    spec: _NodeSpec | None = None

    def labels(self) -> object:
        labels = self.metadata.labels
        if isinstance(labels, dict):
            # The same dozen of keys, and most values too, on every node.
            return {intern(k): intern(v) if isinstance(v, str) else v for k, v in labels.items()}
        return labels

    def read(self, scope: Scope) -> dict[str, object]:
        document = Object.read(self, scope)
        annotations = self.metadata.annotations
        if isinstance(annotations, dict):
            annotations = {k: v for k, v in annotations.items() if k.startswith("projectcalico.org/")}
        metadata = document["metadata"]
        assert isinstance(metadata, dict)
        metadata["annotations"] = annotations
        if self.spec is not None and scope.pod_cidrs:
            document["spec"] = {"podCIDR": self.spec.pod_cidr, "podCIDRs": self.spec.pod_cidrs}
        return document


class _ServiceStatus(msgspec.Struct):
    load_balancer: Any = msgspec.field(default=None, name="loadBalancer")


class _Service(_Spec):
    status: _ServiceStatus | None = None

    def labels(self) -> object:
        return None

    def read(self, scope: Scope) -> dict[str, object]:
        status = None if self.status is None else {"loadBalancer": self.status.load_balancer}
        return _Spec.read(self, scope) | {"status": status}


class _Endpoint(msgspec.Struct):
    node_name: Any = msgspec.field(default=None, name="nodeName")
    conditions: Any = None


class _EndpointSlice(Object):
    address_type: Any = msgspec.field(default=None, name="addressType")
    endpoints: list[_Endpoint] | None = None

    def labels(self) -> object:
        labels = self.metadata.labels
        if isinstance(labels, dict):
            return {SERVICE_NAME_LABEL: labels[SERVICE_NAME_LABEL]} if SERVICE_NAME_LABEL in labels else None
        return labels

    def read(self, scope: Scope) -> dict[str, object]:
        endpoints = [{"nodeName": e.node_name, "conditions": e.conditions} for e in self.endpoints or ()]
        return Object.read(self, scope) | {
            "addressType": self.address_type,
            "endpoints": reduce_endpoints(endpoints, scope.kubernetes_node or scope.node),
        }


class _Secret(Object):
    data: Any = None

    def labels(self) -> object:
        return None

    def read(self, scope: Scope) -> dict[str, object]:
        return Object.read(self, scope) | {"data": self.data}


@dataclass(frozen=True, slots=True)
class Resource:
    """A resource of the API, as it is read here."""

    kind: str
    plural: str
    groups: tuple[str, ...]
    """`group/version`, or `v1`: the first that is served counts."""
    objects: type[Object]
    namespace: str = ""
    """The only one to look in."""
    selectors: tuple[tuple[str, str], ...] = ()
    """What the server may leave out: `fieldSelector`, `labelSelector`."""
    metadata_only: bool = False
    """Neither spec nor status are wanted: the server need not send them."""
    required: bool = True
    """Without it nothing is known; else the rest is of use by itself."""
    name: str = ""
    """The only object that is read."""

    def path(self, group: str) -> str:
        """Where the API has it."""
        root = "/api/v1" if group == "v1" else f"/apis/{group}"
        return (
            f"{root}/namespaces/{self.namespace}/{self.plural}" if self.namespace else f"{root}/{self.plural}"
        )

    def plural_in(self, group: str) -> str:
        """As kubectl takes it: `ippools.crd.projectcalico.org`."""
        return self.plural if group == "v1" else f"{self.plural}.{group.partition('/')[0]}"

    def shown(self, group: str) -> str:
        """The same, with the one object that is meant."""
        return self.plural_in(group) + (f"/{self.namespace}/{self.name}" if self.name else "")


_CALICO: Final = (
    Resource("BGPConfiguration", "bgpconfigurations", CALICO_GROUPS, _Spec),
    Resource("BGPPeer", "bgppeers", CALICO_GROUPS, _Spec),
    # Older clusters have none.
    Resource("BGPFilter", "bgpfilters", CALICO_GROUPS, _Spec, required=False),
    Resource("IPPool", "ippools", CALICO_GROUPS, _Spec),
    Resource("BlockAffinity", "blockaffinities", CALICO_GROUPS, _Affinity),
    # Clusters with host-local IPAM have none, and calico-apiserver does not serve them.
    Resource("IPAMBlock", "ipamblocks", CALICO_GROUPS, _Block, required=False),
)

#: What a node is asked to tell of itself. Nobody needs it who speaks for no node.
NODE_STATUS: Final = Resource("CalicoNodeStatus", "caliconodestatuses", CALICO_GROUPS, _Spec, required=False)

SERVICES: Final = (
    # Headless services and names for other hosts have no address to announce.
    Resource(
        "Service",
        "services",
        ("v1",),
        _Service,
        selectors=(("fieldSelector", "spec.clusterIP!=None,spec.type!=ExternalName"),),
        required=False,
    ),
    Resource(
        "EndpointSlice",
        "endpointslices",
        ("discovery.k8s.io/v1",),
        _EndpointSlice,
        selectors=(("labelSelector", "!service.kubernetes.io/headless"),),
        required=False,
    ),
)


def standing_resources(scope: Scope) -> tuple[Resource, ...]:
    """What is read whatever the records say."""
    nodes = Resource("Node", "nodes", ("v1",), _Node, metadata_only=not scope.pod_cidrs)
    groups = (scope.api_group,) if scope.api_group else CALICO_GROUPS
    calico = (*_CALICO, NODE_STATUS) if scope.node is not None else _CALICO
    resources = (*(replace(resource, groups=groups) for resource in calico), nodes)
    return tuple(resource for resource in resources if scope.wants(resource))


def secret_resource(namespace: str, name: str) -> Resource:
    """One Secret: a Role that names it allows list and watch of that name only."""
    selectors = (("fieldSelector", f"metadata.name={name}"),)
    return Resource("Secret", "secrets", ("v1",), _Secret, namespace, selectors, required=False, name=name)

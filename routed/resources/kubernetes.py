"""Kubernetes' own kinds: `Service`, `EndpointSlice`, `Secret`."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import ClassVar

import msgspec

from routed.resources.record import NamespacedRecord
from routed.resources.values import Address, SecretValue

SERVICE_NAME_LABEL = "kubernetes.io/service-name"


class ServiceType(StrEnum):
    """`Service.spec.type`."""

    CLUSTER_IP = "ClusterIP"
    NODE_PORT = "NodePort"
    LOAD_BALANCER = "LoadBalancer"
    EXTERNAL_NAME = "ExternalName"


class TrafficPolicy(StrEnum):
    """`Service.spec.externalTrafficPolicy`."""

    CLUSTER = "Cluster"
    LOCAL = "Local"


class IPFamily(StrEnum):
    """A family as Kubernetes writes it."""

    IPV4 = "IPv4"
    IPV6 = "IPv6"


class AddressType(StrEnum):
    """`EndpointSlice.addressType`."""

    IPV4 = "IPv4"
    IPV6 = "IPv6"
    FQDN = "FQDN"


class Service(NamespacedRecord, frozen=True, kw_only=True, gc=False):
    """A service and its addresses. `cluster_ips` is empty for a headless one (`clusterIP: None`)."""

    kind: ClassVar[str] = "Service"

    type: ServiceType = ServiceType.CLUSTER_IP
    cluster_ips: tuple[Address, ...] = ()
    external_ips: tuple[Address, ...] = ()
    load_balancer_ingress_ips: tuple[Address, ...] = ()
    external_traffic_policy: TrafficPolicy = TrafficPolicy.CLUSTER
    ip_families: tuple[IPFamily, ...] = ()


class Endpoint(msgspec.Struct, frozen=True, gc=False):
    """`endpoints[]`: where it runs, and whether it is ready (`conditions.ready`; absent means ready)."""

    node_name: str | None = None
    ready: bool = True


class EndpointSlice(NamespacedRecord, frozen=True, kw_only=True, gc=False):
    """Some of a service's endpoints. `service_name` is the label `kubernetes.io/service-name`."""

    kind: ClassVar[str] = "EndpointSlice"

    service_name: str | None = None
    address_type: AddressType
    endpoints: tuple[Endpoint, ...] = ()


NO_DATA: Mapping[str, SecretValue] = MappingProxyType({})


class Secret(NamespacedRecord, frozen=True, kw_only=True, gc=False):
    """A Secret: its values, already out of base64, in a type that no text shows."""

    kind: ClassVar[str] = "Secret"

    data: Mapping[str, SecretValue] = NO_DATA

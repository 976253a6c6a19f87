"""Kubernetes' own kinds: `Service`, `EndpointSlice`, `Secret`."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import ClassVar

import msgspec

from routed.resources import readers
from routed.resources.fields import Fields, InvalidValueError, kind_of, step
from routed.resources.record import Header, NamespacedRecord
from routed.resources.values import Address
from routed.secret import SecretValue

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

    @classmethod
    def of(cls, address: Address) -> IPFamily:
        """The family of an address."""
        return cls.IPV4 if address.version == 4 else cls.IPV6


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


def read_service(header: Header, document: Fields) -> Service:
    """A Service from a document; faults go to the document's `faults`."""
    spec = document.section("spec")
    cluster_ips = _read_cluster_ips(spec)
    ingress = document.section("status").section("loadBalancer").sections("ingress")
    load_balancer_ips = [entry.read("ip", readers.address) for entry in ingress]
    return Service(
        name=header.name,
        namespace=header.namespace,
        labels=header.labels,
        type=spec.read_or("type", readers.one_of(ServiceType), ServiceType.CLUSTER_IP),
        cluster_ips=cluster_ips,
        external_ips=spec.read_list("externalIPs", readers.address),
        load_balancer_ingress_ips=tuple(ip for ip in load_balancer_ips if ip is not None),
        external_traffic_policy=spec.read_or(
            "externalTrafficPolicy", readers.one_of(TrafficPolicy), TrafficPolicy.CLUSTER
        ),
        ip_families=spec.read_list("ipFamilies", readers.one_of(IPFamily)) or _families_of(cluster_ips),
    )


def _read_cluster_ips(spec: Fields) -> tuple[Address, ...]:
    """`clusterIPs`, or the older `clusterIP` alone; `None` in either says that there is none."""
    if "None" in spec.items("clusterIPs") or spec.get("clusterIP") == "None":
        return ()
    cluster_ips = spec.read_list("clusterIPs", readers.address)
    cluster_ip = spec.read("clusterIP", readers.address)
    return cluster_ips or (() if cluster_ip is None else (cluster_ip,))


def _families_of(addresses: tuple[Address, ...]) -> tuple[IPFamily, ...]:
    """The families of the addresses in their order: clusters older than dual stack write no `ipFamilies`."""
    return tuple(dict.fromkeys(map(IPFamily.of, addresses)))


def read_endpoint_slice(header: Header, document: Fields) -> EndpointSlice:
    """An EndpointSlice from a document; faults go to the document's `faults`."""
    return EndpointSlice(
        name=header.name,
        namespace=header.namespace,
        labels=header.labels,
        service_name=header.labels.get(SERVICE_NAME_LABEL) or None,
        address_type=document.required("addressType", readers.one_of(AddressType)),
        endpoints=tuple(
            Endpoint(
                endpoint.read("nodeName", readers.name),
                endpoint.section("conditions").read_or("ready", readers.boolean, True),
            )
            for endpoint in document.sections("endpoints")
        ),
    )


def read_secret(header: Header, document: Fields) -> Secret:
    """A Secret from a document; faults go to the document's `faults`, and never quote a value."""
    values: dict[str, SecretValue] = {}
    for section, reader in (("data", _base64), ("stringData", _plain)):
        fields = document.section(section)
        for key in fields.values:
            if not isinstance(key, str):
                fields.faults.add(step(fields.path, key), "the key must be a text: put it in quotes")
                continue
            value = fields.read(key, reader)
            values[key] = SecretValue(b"") if value is None else value
    return Secret(
        name=header.name,
        namespace=header.namespace,
        labels=header.labels,
        data=MappingProxyType(values),
    )


def _base64(value: object) -> SecretValue:
    if not isinstance(value, str):
        raise InvalidValueError(f"must be a text in base64, but is {kind_of(value)}")
    try:
        return SecretValue(base64.b64decode("".join(value.split()), validate=True))
    except (binascii.Error, ValueError):
        raise InvalidValueError("is not base64: encode the value, or write it under stringData") from None


def _plain(value: object) -> SecretValue:
    return SecretValue(readers.text(value).encode())

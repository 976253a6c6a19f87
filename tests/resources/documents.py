"""One document of each kind and form with every field given, as YAML would give it."""

from __future__ import annotations

import json
import re
from typing import Any

Document = dict[str, Any]

V3 = "projectcalico.org/v3"
CRD = "crd.projectcalico.org/v1"

RULE_V4: Document = {
    "action": "Accept",
    "matchOperator": "In",
    "cidr": "10.0.0.0/8",
    "prefixLength": {"min": 16, "max": 24},
    "source": "RemotePeers",
    "interface": "eth*",
    "peerType": "eBGP",
    "communities": {"values": ["65000:100", "65000:1:2"]},
    "asPathPrefix": [65000, "65001"],
    "priority": 100,
    "operations": [
        {"addCommunity": {"value": "65000:42"}},
        {"prependASPath": {"prefix": [65000, 65001]}},
        {"setPriority": {"value": 200}},
    ],
}
RULE_V6: Document = {**RULE_V4, "cidr": "fd00::/16", "prefixLength": {"min": 32, "max": 128}}

FULL: dict[str, Document] = {
    "BGPConfiguration": {
        "apiVersion": V3,
        "kind": "BGPConfiguration",
        "metadata": {"name": "default", "labels": {"a": "b"}},
        "spec": {
            "asNumber": 64600,
            "nodeToNodeMeshEnabled": False,
            "listenPort": 1790,
            "bindMode": "NodeIP",
            "logSeverityScreen": "debug",
            "nodeMeshPassword": {"secretKeyRef": {"name": "bgp", "key": "mesh"}},
            "nodeMeshMaxRestartTime": "1m30s",
            "communities": [{"name": "standard", "value": "100:6532"}, {"name": "large", "value": "1:2:3"}],
            "prefixAdvertisements": [{"cidr": "10.0.0.0/8", "communities": ["standard", "65000:1"]}],
            "serviceClusterIPs": [{"cidr": "10.96.0.0/12"}, {}, {"cidr": "fd00:96::/112"}],
            "serviceExternalIPs": [{"cidr": "192.0.2.0/24"}],
            "serviceLoadBalancerIPs": [{"cidr": "198.51.100.7/32"}],
            "serviceLoadBalancerAggregation": "Disabled",
            "ignoredInterfaces": ["docker0", "br-*"],
            "programClusterRoutes": "EnabledIPIPOnly",
            "ipv4NormalRoutePriority": 512,
            "ipv6NormalRoutePriority": 513,
            "localWorkloadPeeringIPV4": "169.254.1.1",
            "localWorkloadPeeringIPV6": "fe80::1",
        },
    },
    "BGPPeer": {
        "apiVersion": CRD,
        "kind": "BGPPeer",
        "metadata": {"name": "tor", "labels": {"a": "b"}},
        "spec": {
            "node": "node-1",
            "nodeSelector": "rack == 'a'",
            "peerIP": "10.0.0.1:1790",
            "peerSelector": "has(rr)",
            "localWorkloadSelector": "app == 'bird'",
            "asNumber": "65001",
            "localASNumber": 65002,
            "keepOriginalNextHop": True,
            "nextHopMode": "Self",
            "password": {"secretKeyRef": {"name": "bgp", "key": "tor"}},
            "sourceAddress": "None",
            "maxRestartTime": "120s",
            "keepaliveTime": "20s",
            "numAllowedLocalASNumbers": 2,
            "ttlSecurity": 1,
            "reachableBy": "10.0.0.254",
            "filters": ["first", "second"],
            "reversePeering": "Manual",
        },
    },
    "BGPFilter": {
        "apiVersion": V3,
        "kind": "BGPFilter",
        "metadata": {"name": "filter", "labels": {"a": "b"}},
        "spec": {
            "exportV4": [RULE_V4],
            "importV4": [RULE_V4, {"action": "Reject"}],
            "exportV6": [RULE_V6],
            "importV6": [RULE_V6],
        },
    },
    "IPPool": {
        "apiVersion": V3,
        "kind": "IPPool",
        "metadata": {"name": "pool", "labels": {"a": "b"}},
        "spec": {
            "cidr": "192.168.0.0/16",
            "ipipMode": "CrossSubnet",
            "vxlanMode": "Always",
            "disableBGPExport": True,
            "disabled": True,
            "nodeSelector": "has(zone)",
            "blockSize": 29,
            "natOutgoing": True,
        },
    },
    "BlockAffinity": {
        "apiVersion": CRD,
        "kind": "BlockAffinity",
        "metadata": {"name": "node-1-192-168-1-0-26", "labels": {"a": "b"}},
        "spec": {"node": "node-1", "cidr": "192.168.1.0/26", "state": "pending", "deleted": "true"},
    },
    "IPAMBlock": {
        "apiVersion": CRD,
        "kind": "IPAMBlock",
        "metadata": {"name": "192-168-1-0-30", "labels": {"a": "b"}},
        "spec": {
            "cidr": "192.168.1.0/30",
            "affinity": "host:node-1",
            "allocations": [0, None, 1, None],
            "attributes": [
                {"handle_id": "k8s-pod-network.1", "secondary": {"node": "node-1", "pod": "web"}},
                {"handle_id": None, "secondary": {"node": "node-2"}},
            ],
            "strictAffinity": True,
            "deleted": True,
        },
    },
    "Node": {
        "apiVersion": V3,
        "kind": "Node",
        "metadata": {"name": "node-1", "labels": {"rack": "a"}},
        "spec": {
            "bgp": {
                "ipv4Address": "10.0.0.1/24",
                "ipv6Address": "fd00::1/64",
                "asNumber": 64513,
                "routeReflectorClusterID": "10.0.0.9",
                "ipv4IPIPTunnelAddr": "192.168.1.1",
            },
            "wireguard": {"interfaceIPv4Address": "192.168.1.2", "interfaceIPv6Address": "fd00:1::2"},
        },
    },
    "Node v1": {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": "node-1",
            "labels": {"rack": "a"},
            "annotations": {
                "projectcalico.org/IPv4Address": "10.0.0.1/24",
                "projectcalico.org/IPv6Address": "fd00::1/64",
                "projectcalico.org/ASNumber": "64513",
                "projectcalico.org/RouteReflectorClusterID": "10.0.0.9",
                "projectcalico.org/IPv4IPIPTunnelAddr": "192.168.1.1",
                "projectcalico.org/IPv4WireguardInterfaceAddr": "192.168.1.2",
                "projectcalico.org/IPv6WireguardInterfaceAddr": "fd00:1::2",
            },
        },
        "spec": {"podCIDR": "10.244.1.0/24", "podCIDRs": ["10.244.1.0/24", "fd00:244:1::/64"]},
    },
    "CalicoNodeStatus": {
        "apiVersion": V3,
        "kind": "CalicoNodeStatus",
        "metadata": {"name": "status", "labels": {"a": "b"}},
        "spec": {"node": "node-1", "classes": ["Agent", "BGP", "Routes"], "updatePeriodSeconds": 10},
    },
    "Service": {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web", "namespace": "shop", "labels": {"a": "b"}},
        "spec": {
            "type": "LoadBalancer",
            "clusterIP": "10.96.0.10",
            "clusterIPs": ["10.96.0.10", "fd00:96::10"],
            "externalIPs": ["192.0.2.1"],
            "externalTrafficPolicy": "Local",
            "ipFamilies": ["IPv4", "IPv6"],
        },
        "status": {"loadBalancer": {"ingress": [{"ip": "198.51.100.7"}, {"hostname": "lb.example"}]}},
    },
    "EndpointSlice": {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": "web-abc",
            "namespace": "shop",
            "labels": {"kubernetes.io/service-name": "web"},
        },
        "addressType": "IPv6",
        "endpoints": [
            {"addresses": ["fd00::10"], "nodeName": "node-1", "conditions": {"ready": False}},
            {"addresses": ["fd00::11"], "nodeName": "node-2", "conditions": {"ready": None}},
            {"addresses": ["fd00::12"]},
        ],
    },
    "Secret": {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "bgp", "namespace": "kube-system", "labels": {"a": "b"}},
        "data": {"mesh": "aHVudGVyMg==", "empty": ""},
        "stringData": {"tor": "correct horse"},
    },
}


def full(form: str) -> Document:
    """A copy of the full document of a form, free to be changed."""
    copied: Document = json.loads(json.dumps(FULL[form]))
    return copied


def parts_of(path: str) -> list[str | int]:
    """`spec.filters[2]` as `["spec", "filters", 2]`; `a[b.c/d]` is a key with dots."""
    parts: list[str | int] = []
    for word, bracket in re.findall(r"([^.\[\]]+)|\[([^\]]*)\]", path):
        parts.append(word or (int(bracket) if bracket.isdecimal() else bracket))
    return parts


def put(document: Document, path: str, value: object) -> Document:
    """The document, with the value at the path: mappings on the way that are not there are made."""
    *way, last = parts_of(path)
    at: Any = document
    for part in way:
        if isinstance(part, str):
            at = at.setdefault(part, {})
        else:
            at = at[part]
    at[last] = value
    return document


def drop(document: Document, path: str) -> Document:
    """The document without the field at the path."""
    *way, last = parts_of(path)
    at: Any = document
    for part in way:
        at = at[part]
    del at[last]
    return document

"""What the compiler is told beside the records: calico-node's environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from ipaddress import AddressValueError, IPv4Address, ip_network
from pathlib import Path
from typing import Literal

from routed.resources import Address, LogSeverity, Network

DEFAULT_STATUS_PREFIX = Path("/var/run/calico")


@dataclass(frozen=True, slots=True)
class Options:
    """For whom to compile, and how. Each field names its environment variable."""

    node: str
    """`NODENAME`: the node's record. For a reflector without a record any name for itself."""
    router_id: IPv4Address | Literal["hash"] | None = None
    """`CALICO_ROUTER_ID`; None: the node's IPv4 address."""
    k8s_node_ref: str | None = None
    """`CALICO_K8S_NODE_REF`: the Kubernetes node's name where it differs."""
    advertise_cluster_ips: tuple[Network, ...] | None = None
    """`CALICO_ADVERTISE_CLUSTER_IPS`, in place of `serviceClusterIPs`; None: not given."""
    use_pod_cidr: bool = False
    """`USE_POD_CIDR`: host-local IPAM, the node's pod CIDRs are its blocks."""
    secret_namespace: str = "kube-system"  # noqa: S105  # a namespace, no secret
    """`NAMESPACE`: where the Secrets with passwords live."""
    endpoint_status_prefix: Path = DEFAULT_STATUS_PREFIX
    """`CALICO_ENDPOINT_STATUS_PATH_PREFIX`: the folder that holds `endpoint-status/`."""
    log_severity: LogSeverity | None = None
    """`BGP_LOGSEVERITYSCREEN`: wins over the records."""
    reflector_address: Address | None = None
    """Compile for a route reflector that has no Node record: the address by which BGPPeers know it."""
    reflector_as: int | None = None
    """The reflector's AS; None: as each BGPPeer says."""
    reflector_cluster_id: IPv4Address | None = None
    """The reflector's cluster ID; None: its router ID."""

    @property
    def kubernetes_node(self) -> str:
        """The node's name in Kubernetes."""
        return self.k8s_node_ref or self.node

    @classmethod
    def from_environ(cls, environ: Mapping[str, str], node: str) -> Options:
        """Options for `node` from environment variables; an empty one counts as not set.

        Raises ValueError that names the variable and what to write."""
        given = {name: value for name, value in environ.items() if value}
        return cls(
            node=node,
            router_id=_router_id(given.get("CALICO_ROUTER_ID")),
            k8s_node_ref=given.get("CALICO_K8S_NODE_REF"),
            advertise_cluster_ips=_networks(given.get("CALICO_ADVERTISE_CLUSTER_IPS")),
            use_pod_cidr=_boolean("USE_POD_CIDR", given.get("USE_POD_CIDR")),
            secret_namespace=given.get("NAMESPACE", "kube-system"),
            endpoint_status_prefix=Path(
                given.get("CALICO_ENDPOINT_STATUS_PATH_PREFIX", DEFAULT_STATUS_PREFIX)
            ),
            log_severity=_severity(given.get("BGP_LOGSEVERITYSCREEN")),
        )


def hashed_router_id(node: str) -> IPv4Address:
    """The router ID for `CALICO_ROUTER_ID=hash`: the first four bytes of the SHA-256 of the node's name,
    the first one less 32 where it is over 223, so that it is no multicast or reserved address."""
    first, *rest = sha256(node.encode()).digest()[:4]
    return IPv4Address(bytes((first - 32 if first > 223 else first, *rest)))


def _router_id(text: str | None) -> IPv4Address | Literal["hash"] | None:
    if text is None or text == "hash":
        return text  # type: ignore[return-value]  # mypy does not narrow to the literal
    try:
        router_id = IPv4Address(text)
    except AddressValueError:
        raise ValueError(
            f"CALICO_ROUTER_ID={text!r}: write an IPv4 address, such as 10.0.0.1, or 'hash'"
        ) from None
    if not int(router_id):
        raise ValueError("CALICO_ROUTER_ID=0.0.0.0: zero is not a router ID (RFC 6286 section 2.1)")
    return router_id


def _networks(text: str | None) -> tuple[Network, ...] | None:
    if text is None:
        return None
    networks = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        try:
            networks.append(ip_network(part, strict=False))
        except ValueError:
            raise ValueError(
                f"CALICO_ADVERTISE_CLUSTER_IPS: {part!r} is no prefix; write prefixes, commas between them"
            ) from None
    return tuple(networks)


def _boolean(name: str, text: str | None) -> bool:
    known = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False, None: False}
    value = known.get(text.lower() if text else None)
    if value is None:
        raise ValueError(f"{name}={text!r}: write true or false")
    return value


def _severity(text: str | None) -> LogSeverity | None:
    if text is None:
        return None
    for severity in LogSeverity:
        if severity.value.lower() == text.lower():
            return severity
    names = ", ".join(severity.value.lower() for severity in LogSeverity)
    raise ValueError(f"BGP_LOGSEVERITYSCREEN={text!r}: write one of {names}")

"""From a document, as YAML or JSON gives it, to a record."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from routed.resources import readers
from routed.resources.bgp import read_bgp_configuration, read_bgp_peer
from routed.resources.bgpfilter import read_bgp_filter
from routed.resources.fields import Faults, Fields, kind_of, show
from routed.resources.ipam import read_block_affinity, read_ip_pool, read_ipam_block
from routed.resources.kubernetes import read_endpoint_slice, read_secret, read_service
from routed.resources.nodes import read_calico_node_status, read_node
from routed.resources.record import Header, Key, Parsed, Record

CALICO = ("projectcalico.org/v3", "crd.projectcalico.org/v1")
CORE = ("v1",)
DISCOVERY = ("discovery.k8s.io/v1",)


class Kind(NamedTuple):
    """How one kind is read: where it may come from, and the function that reads what is its own."""

    api_versions: tuple[str, ...]
    namespaced: bool
    read: Callable[[Header, Fields], Record]


KINDS: Mapping[str, Kind] = {
    "BGPConfiguration": Kind(CALICO, False, read_bgp_configuration),
    "BGPPeer": Kind(CALICO, False, read_bgp_peer),
    "BGPFilter": Kind(CALICO, False, read_bgp_filter),
    "IPPool": Kind(CALICO, False, read_ip_pool),
    "BlockAffinity": Kind(CALICO, False, read_block_affinity),
    "IPAMBlock": Kind(CALICO, False, read_ipam_block),
    "Node": Kind(CALICO + CORE, False, read_node),
    "CalicoNodeStatus": Kind(CALICO, False, read_calico_node_status),
    "Service": Kind(CORE, True, read_service),
    "EndpointSlice": Kind(DISCOVERY, True, read_endpoint_slice),
    "Secret": Kind(CORE, True, read_secret),
}

# Calico's other kinds: known, and nothing in them is about BGP.
IGNORED_KINDS = frozenset(
    {
        "ClusterInformation",
        "FelixConfiguration",
        "GlobalNetworkPolicy",
        "GlobalNetworkSet",
        "HostEndpoint",
        "IPAMConfig",
        "IPAMConfiguration",
        "IPAMHandle",
        "IPReservation",
        "KubeControllersConfiguration",
        "NetworkPolicy",
        "NetworkSet",
        "Profile",
        "StagedGlobalNetworkPolicy",
        "StagedKubernetesNetworkPolicy",
        "StagedNetworkPolicy",
        "Tier",
        "WorkloadEndpoint",
    }
)


def parse_record(document: object) -> Parsed:
    """The record that a document holds, or what is wrong with it. Any value may come in: nothing is raised.

    A document of a kind that is not about BGP gives neither; one of an unknown kind gives a warning."""
    faults = Faults()
    if not isinstance(document, Mapping):
        faults.add(
            "", f"is {kind_of(document)}: a record is a mapping with apiVersion, kind, metadata and spec"
        )
        return Parsed(None, None, faults.all_problems())
    fields = Fields(document, "", faults)
    kind_name = fields.required("kind", readers.text)
    if faults.rejected or kind_name in IGNORED_KINDS:
        return Parsed(None, None, faults.all_problems())
    kind = KINDS.get(kind_name)
    if kind is None:
        fields.warn("kind", f"{show(kind_name)} is of no use for BGP: it is ignored")
        return Parsed(None, None, faults.all_problems())
    header = _read_header(fields, kind_name, kind)
    record = kind.read(header, fields)
    return Parsed(faults.key, None if faults.rejected else record, faults.all_problems())


def _read_header(fields: Fields, kind_name: str, kind: Kind) -> Header:
    """The metadata; sets the key that the record's faults carry as soon as it is known."""
    metadata = fields.section("metadata")
    name = metadata.required("name", readers.name)
    namespace = (metadata.read_or("namespace", readers.name, "default")) if kind.namespaced else ""
    if not fields.faults.rejected:
        fields.faults.key = Key(kind_name, f"{namespace}/{name}" if kind.namespaced else name)
    api_version = fields.required("apiVersion", readers.text)
    if api_version is not None and api_version not in kind.api_versions:
        fields.error(
            "apiVersion", f"{show(api_version)} has no {kind_name}: write {' or '.join(kind.api_versions)}"
        )
    labels = metadata.read_texts("labels")
    return Header(api_version, name, namespace, labels)

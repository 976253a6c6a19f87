"""Bad values: each is told with its exact path and a reason, the record is rejected as a whole, and no
secret leaks."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import msgspec
import pytest

from routed.resources import Key, Problem, Secret, SecretValue, parse_record
from routed.resources.fields import MAX_PROBLEMS
from tests.resources.documents import CRD, V3, drop, full, put

HALF_A_PAIR = "\ud800"


def _name(value: object) -> str | None:
    """The name of a test's value; long and huge ones have none of their own."""
    return value if isinstance(value, str) and len(value) < 60 and value.isprintable() else "value"


# (form, path, value, a part of the reason); the path of the problem is the same
BAD: list[tuple[str, str, object, str]] = [
    ("BGPPeer", "spec.asNumber", 0, "out of range"),
    ("BGPPeer", "spec.asNumber", -1, "out of range"),
    ("BGPPeer", "spec.asNumber", 2**32, "out of range"),
    ("BGPPeer", "spec.asNumber", 10**5000, "out of range"),
    ("BGPPeer", "spec.asNumber", "0", "out of range"),
    ("BGPPeer", "spec.asNumber", "4294967296", "out of range"),
    ("BGPPeer", "spec.asNumber", "0.0", "out of range"),
    ("BGPPeer", "spec.asNumber", "1.65536", "no AS number"),
    ("BGPPeer", "spec.asNumber", 1.1, "in quotes"),
    ("BGPPeer", "spec.asNumber", True, "no AS number"),
    ("BGPPeer", "spec.asNumber", "sixty", "no AS number"),
    ("BGPPeer", "spec.asNumber", [64512], "no AS number"),
    ("BGPPeer", "spec.localASNumber", 0, "out of range"),
    ("BGPPeer", "spec.node", 7, "must be a text"),
    ("BGPPeer", "spec.node", "a b", "not a name"),
    ("BGPPeer", "spec.node", "a\nb", "not a name"),
    ("BGPPeer", "spec.nodeSelector", "a ==", "character 5"),
    ("BGPPeer", "spec.nodeSelector", "(" * 10_000, "nested parentheses"),
    ("BGPPeer", "spec.nodeSelector", {"a": "b"}, "must be a text"),
    ("BGPPeer", "spec.peerSelector", "has(", "character 4"),
    ("BGPPeer", "spec.localWorkloadSelector", "x", "character 2"),
    ("BGPPeer", "spec.peerIP", "10.0.0.300", "not a peer's address"),
    ("BGPPeer", "spec.peerIP", "10.0.0.1/24", "not a peer's address"),
    ("BGPPeer", "spec.peerIP", "10.0.0.1:", "not a peer's address"),
    ("BGPPeer", "spec.peerIP", "10.0.0.1:0", "port out of range"),
    ("BGPPeer", "spec.peerIP", "10.0.0.1:65536", "port out of range"),
    ("BGPPeer", "spec.peerIP", "[10.0.0.1]:179", "not a peer's address"),
    ("BGPPeer", "spec.peerIP", "[fd00::1]", "not a peer's address"),
    ("BGPPeer", "spec.peerIP", "fe80::1%eth0", "not a peer's address"),
    ("BGPPeer", "spec.peerIP", "router.example", "not a peer's address"),
    ("BGPPeer", "spec.peerIP", 167772161, "must be a text"),
    ("BGPPeer", "spec.keepOriginalNextHop", "true", "true or false"),
    ("BGPPeer", "spec.nextHopMode", "self", "Auto, Self, Keep"),
    ("BGPPeer", "spec.sourceAddress", "none", "UseNodeIP, None"),
    ("BGPPeer", "spec.reversePeering", 1, "Auto, Manual"),
    ("BGPPeer", "spec.maxRestartTime", 120, "number with a unit"),
    ("BGPPeer", "spec.maxRestartTime", "120", "write it like"),
    ("BGPPeer", "spec.maxRestartTime", "2 minutes", "write it like"),
    ("BGPPeer", "spec.maxRestartTime", "-5s", "negative"),
    ("BGPPeer", "spec.maxRestartTime", "9999999999h", "292 years"),
    ("BGPPeer", "spec.keepaliveTime", "5s x", "write it like"),
    ("BGPPeer", "spec.numAllowedLocalASNumbers", -1, "0 to 255"),
    ("BGPPeer", "spec.ttlSecurity", 256, "0 to 255"),
    ("BGPPeer", "spec.ttlSecurity", 1.5, "whole number"),
    ("BGPPeer", "spec.reachableBy", "gateway", "not an IP address"),
    ("BGPPeer", "spec.reachableBy", "fd00::1", "same address family"),
    ("BGPPeer", "spec.password", "hunter2", "must be a mapping"),
    ("BGPPeer", "spec.password.secretKeyRef", "hunter2", "must be a mapping"),
    ("BGPPeer", "spec.password.secretKeyRef.name", "", "is missing"),
    ("BGPPeer", "spec.password.secretKeyRef.key", None, "is missing"),
    ("BGPPeer", "spec.filters", "first", "must be a list"),
    ("BGPPeer", "spec.filters[1]", 5, "must be a text"),
    ("BGPPeer", "spec.filters[0]", "", "is empty"),
    ("BGPPeer", "spec.filters[0]", None, "must be a text"),
    ("BGPPeer", "spec", [], "must be a mapping"),
    ("BGPPeer", "spec", "peerIP", "must be a mapping"),
    ("BGPPeer", "metadata.labels", [], "must be a mapping"),
    ("BGPPeer", "metadata.labels.a", True, "put it in quotes"),
    ("BGPPeer", "metadata.labels.a", HALF_A_PAIR, "surrogate"),
    ("BGPConfiguration", "spec.asNumber", "x", "no AS number"),
    ("BGPConfiguration", "spec.nodeToNodeMeshEnabled", "false", "true or false"),
    ("BGPConfiguration", "spec.nodeToNodeMeshEnabled", 0, "true or false"),
    ("BGPConfiguration", "spec.listenPort", 0, "1 to 65535"),
    ("BGPConfiguration", "spec.listenPort", 65536, "1 to 65535"),
    ("BGPConfiguration", "spec.listenPort", "179", "whole number"),
    ("BGPConfiguration", "spec.bindMode", "Node", "None, NodeIP"),
    ("BGPConfiguration", "spec.logSeverityScreen", "loud", "Debug"),
    ("BGPConfiguration", "spec.nodeMeshMaxRestartTime", "soon", "write it like"),
    ("BGPConfiguration", "spec.communities", {}, "must be a list"),
    ("BGPConfiguration", "spec.communities[0]", None, "must be a mapping"),
    ("BGPConfiguration", "spec.communities[1].value", "65536:1", "goes to 65535"),
    ("BGPConfiguration", "spec.communities[1].value", "1:2:4294967296", "goes to 4294967295"),
    ("BGPConfiguration", "spec.communities[1].value", "large", "not a community"),
    ("BGPConfiguration", "spec.communities[1].value", -5, "must be a text"),
    ("BGPConfiguration", "spec.communities[1].name", None, "is missing"),
    ("BGPConfiguration", "spec.prefixAdvertisements[0].cidr", None, "is missing"),
    ("BGPConfiguration", "spec.prefixAdvertisements[0].communities[1]", "1:99999", "goes to 65535"),
    ("BGPConfiguration", "spec.serviceClusterIPs[2].cidr", "fd00::/129", "prefix length over 128"),
    ("BGPConfiguration", "spec.serviceExternalIPs[0].cidr", "10.0.0.0/255.0.0.0", "not a prefix"),
    ("BGPConfiguration", "spec.serviceLoadBalancerIPs[0]", "10.0.0.0/8", "must be a mapping"),
    ("BGPConfiguration", "spec.serviceLoadBalancerAggregation", "Off", "Enabled, Disabled"),
    ("BGPConfiguration", "spec.ignoredInterfaces[1]", "eth0; drop", "interface name"),
    ("BGPConfiguration", "spec.programClusterRoutes", "enabled", "EnabledNoEncapOnly"),
    ("BGPConfiguration", "spec.ipv4NormalRoutePriority", 0, "1 to 2147483646"),
    ("BGPConfiguration", "spec.ipv6NormalRoutePriority", 2**31 - 1, "1 to 2147483646"),
    ("BGPConfiguration", "spec.localWorkloadPeeringIPV4", "fd00::1", "an IPv4 address belongs here"),
    ("BGPConfiguration", "spec.localWorkloadPeeringIPV6", "10.0.0.1", "an IPv6 address belongs here"),
    ("BGPFilter", "spec.exportV4", {}, "must be a list"),
    ("BGPFilter", "spec.importV4[1].action", None, "is missing"),
    ("BGPFilter", "spec.importV4[1].action", "accept", "Accept, Reject"),
    ("BGPFilter", "spec.exportV4[0].cidr", "fd00::/16", "IPv4 prefix belongs"),
    ("BGPFilter", "spec.importV6[0].cidr", "10.0.0.0/8", "IPv6 prefix belongs"),
    ("BGPFilter", "spec.exportV4[0].matchOperator", None, "is missing"),
    ("BGPFilter", "spec.exportV4[0].matchOperator", "Within", "Equal, NotEqual, In, NotIn"),
    ("BGPFilter", "spec.importV4[1].matchOperator", "In", "needs a cidr"),
    ("BGPFilter", "spec.importV4[1].prefixLength", {"min": 8}, "needs a cidr"),
    ("BGPFilter", "spec.exportV4[0].prefixLength.max", 33, "0 to 32"),
    ("BGPFilter", "spec.exportV6[0].prefixLength.max", 129, "0 to 128"),
    ("BGPFilter", "spec.exportV4[0].prefixLength.min", 25, "over max"),
    ("BGPFilter", "spec.exportV4[0].source", "Local", "RemotePeers"),
    ("BGPFilter", "spec.exportV4[0].interface", 'eth0"', "interface name"),
    ("BGPFilter", "spec.exportV4[0].peerType", "ebgp", "eBGP, iBGP"),
    ("BGPFilter", "spec.exportV4[0].communities.values[0]", "x", "not a community"),
    ("BGPFilter", "spec.exportV4[0].communities.values", "65000:1", "must be a list"),
    ("BGPFilter", "spec.exportV4[0].asPathPrefix[1]", 0, "out of range"),
    ("BGPFilter", "spec.exportV4[0].priority", 0, "1 to 2147483646"),
    ("BGPFilter", "spec.exportV4[0].operations[0]", {}, "exactly one of"),
    ("BGPFilter", "spec.exportV4[0].operations[1]", {"log": {}}, "exactly one of"),
    ("BGPFilter", "spec.exportV4[0].operations[0].addCommunity.value", None, "is missing"),
    ("BGPFilter", "spec.exportV4[0].operations[1].prependASPath.prefix", [], "is missing"),
    ("BGPFilter", "spec.exportV4[0].operations[1].prependASPath.prefix[1]", "x", "no AS number"),
    ("BGPFilter", "spec.exportV4[0].operations[2].setPriority.value", "200", "whole number"),
    ("BGPFilter", "spec.importV4[1].operations", [{"setPriority": {"value": 1}}], "need action Accept"),
    ("IPPool", "spec.cidr", None, "is missing"),
    ("IPPool", "spec.cidr", "192.168.0.0/33", "prefix length over 32"),
    ("IPPool", "spec.cidr", "192.168.0/16", "not a prefix"),
    ("IPPool", "spec.cidr", "192.168.0.0/", "not a prefix"),
    ("IPPool", "spec.cidr", 3232235520, "must be a text"),
    ("IPPool", "spec.ipipMode", "always", "Never, Always, CrossSubnet"),
    ("IPPool", "spec.disableBGPExport", "yes", "true or false"),
    ("IPPool", "spec.disabled", 1, "true or false"),
    ("IPPool", "spec.nodeSelector", "zone = 'a'", "does not parse"),
    ("IPPool", "spec.blockSize", 33, "20 to 32"),
    ("IPPool", "spec.natOutgoing", [], "true or false"),
    ("BlockAffinity", "spec.node", None, "is missing"),
    ("BlockAffinity", "spec.cidr", "fd00:::/64", "not a prefix"),
    ("BlockAffinity", "spec.state", "Confirmed", "confirmed, pending, pendingDeletion"),
    ("BlockAffinity", "spec.deleted", "yes", "true or false"),
    ("BlockAffinity", "spec.deleted", 0, "true or false"),
    ("IPAMBlock", "spec.cidr", "192.168.1.0/x", "not a prefix"),
    ("IPAMBlock", "spec.affinity", 5, "must be a text"),
    ("IPAMBlock", "spec.allocations", [None] * 5, "has 5 entries"),
    ("IPAMBlock", "spec.allocations[2]", -1, "index into attributes"),
    ("IPAMBlock", "spec.allocations[2]", True, "index into attributes"),
    ("IPAMBlock", "spec.allocations[2]", "1", "index into attributes"),
    ("IPAMBlock", "spec.attributes[0]", 5, "must be a mapping"),
    ("IPAMBlock", "spec.attributes[1].secondary.node", 5, "put it in quotes"),
    ("IPAMBlock", "spec.strictAffinity", "true", "true or false"),
    ("Node", "spec.bgp.ipv4Address", "fd00::1/64", "an IPv4 address belongs here"),
    ("Node", "spec.bgp.ipv6Address", "10.0.0.1/24", "an IPv6 address belongs here"),
    ("Node", "spec.bgp.ipv4Address", "10.0.0.1/33", "prefix length over 32"),
    ("Node", "spec.bgp.asNumber", 0, "out of range"),
    ("Node", "spec.bgp.routeReflectorClusterID", "cluster-1", "not an IP address"),
    ("Node", "spec.bgp.ipv4IPIPTunnelAddr", "192.168.1.1/32", "not an IP address"),
    ("Node", "spec.wireguard.interfaceIPv4Address", "x", "not an IP address"),
    ("Node", "spec.wireguard.interfaceIPv6Address", "10.0.0.1", "an IPv6 address belongs here"),
    ("Node", "spec.bgp", [], "must be a mapping"),
    ("Node v1", "metadata.annotations[projectcalico.org/IPv4Address]", "node-1", "not a prefix"),
    ("Node v1", "metadata.annotations[projectcalico.org/ASNumber]", "0", "out of range"),
    ("Node v1", "metadata.annotations[projectcalico.org/ASNumber]", "4294967296", "out of range"),
    ("Node v1", "spec.podCIDRs[1]", "x", "not a prefix"),
    ("CalicoNodeStatus", "spec.node", None, "is missing"),
    ("CalicoNodeStatus", "spec.classes[1]", "Bgp", "Agent, BGP, Routes"),
    ("CalicoNodeStatus", "spec.updatePeriodSeconds", -1, "0 to 86400"),
    ("Service", "spec.type", "Balanced", "ClusterIP"),
    ("Service", "spec.clusterIPs[1]", "x", "not an IP address"),
    ("Service", "spec.externalIPs[0]", "192.0.2.0/24", "not an IP address"),
    ("Service", "spec.externalTrafficPolicy", "local", "Cluster, Local"),
    ("Service", "spec.ipFamilies[0]", "ipv4", "IPv4, IPv6"),
    ("Service", "status.loadBalancer.ingress[0].ip", "x", "not an IP address"),
    ("Service", "status.loadBalancer.ingress", "x", "must be a list"),
    ("EndpointSlice", "addressType", None, "is missing"),
    ("EndpointSlice", "addressType", "IPv5", "IPv4, IPv6, FQDN"),
    ("EndpointSlice", "endpoints[1].nodeName", 5, "must be a text"),
    ("EndpointSlice", "endpoints[0].conditions.ready", "yes", "true or false"),
    ("EndpointSlice", "endpoints[2]", [], "must be a mapping"),
    ("Secret", "data.mesh", "hunter2!", "not base64"),
    ("Secret", "data.mesh", 5, "in base64"),
    ("Secret", "data", "hunter2", "must be a mapping"),
    ("Secret", "stringData.tor", 5, "must be a text"),
]


@pytest.mark.parametrize(("form", "path", "value", "reason"), BAD, ids=_name)
def test_a_bad_value_is_told_and_rejects_the_record(form: str, path: str, value: object, reason: str) -> None:
    document = full(form)
    kind, name = document["kind"], document["metadata"]["name"]
    namespace = document["metadata"].get("namespace")
    key = Key(kind, f"{namespace}/{name}" if namespace else name)
    outcome = parse_record(put(document, path, value))
    assert outcome.record is None
    assert outcome.key == key
    errors = [problem for problem in outcome.problems if problem.severity == "error"]
    assert [problem.field for problem in errors] == [path]
    assert errors[0].key == key
    assert reason in errors[0].reason
    line = str(errors[0])
    assert line.startswith(f"{kind} {key.name}: {path}: ")
    assert "\n" not in line
    assert len(line) < 400


def test_all_faults_are_told_at_once() -> None:
    document = put(put(put(full("BGPPeer"), "spec.asNumber", 0), "spec.filters[1]", 1), "spec.peerIP", "x")
    fields = {problem.field for problem in parse_record(document).problems}
    assert fields == {"spec.asNumber", "spec.filters[1]", "spec.peerIP"}


def test_a_peer_needs_someone_to_peer_with() -> None:
    document = full("BGPPeer")
    for field in ("peerIP", "peerSelector", "localWorkloadSelector", "reachableBy"):
        drop(document, f"spec.{field}")
    outcome = parse_record(document)
    assert outcome.record is None
    assert [problem.field for problem in outcome.problems if problem.severity == "error"] == ["spec.peerIP"]
    assert "peerSelector" in outcome.problems[0].reason


# (form, path, value, the field that is warned of): Calico goes on with these, so the record is taken
WARNED: list[tuple[str, str, object, str]] = [
    ("BGPPeer", "spec.node", "n", "spec.node"),
    ("BGPPeer", "spec.peerIP", "10.0.0.1", "spec.peerIP"),
    ("BGPPeer", "spec.asNumber", 64512, "spec.asNumber"),
    ("BGPPeer", "spec.keepOriginalNextHop", True, "spec.keepOriginalNextHop"),
    ("IPPool", "spec.vxlanMode", "Always", "spec.vxlanMode"),
    ("IPAMBlock", "spec.allocations[3]", 2, "spec.allocations[3]"),
    ("IPAMBlock", "spec.allocations[3]", 10**5000, "spec.allocations[3]"),
]


@pytest.mark.parametrize(("form", "path", "value", "field"), WARNED, ids=_name)
def test_a_contradiction_is_told_and_the_record_taken(
    form: str, path: str, value: object, field: str
) -> None:
    outcome = parse_record(put(full(form), path, value))
    assert outcome.record is not None
    assert field in [problem.field for problem in outcome.problems if problem.severity == "warning"]


def test_ipip_for_ipv6_is_told() -> None:
    spec = {"cidr": "fd00::/48", "ipipMode": "Always", "blockSize": 122}
    outcome = parse_record({"apiVersion": V3, "kind": "IPPool", "metadata": {"name": "x"}, "spec": spec})
    assert outcome.record is not None
    assert [problem.field for problem in outcome.problems] == ["spec.ipipMode"]


# Documents whose key cannot be told, or that are of a wrong group: (document, field, part of the reason)
HEADERS: list[tuple[object, str, str]] = [
    (None, "", "is null"),
    ([], "", "is a list"),
    ("BGPPeer", "", "is a text"),
    (5, "", "is a number"),
    ({}, "kind", "is missing"),
    ({"kind": ["BGPPeer"]}, "kind", "must be a text"),
    ({"kind": "BGPPeer", "apiVersion": V3}, "metadata.name", "is missing"),
    ({"kind": "BGPPeer", "apiVersion": V3, "metadata": "tor"}, "metadata", "must be a mapping"),
    ({"kind": "BGPPeer", "apiVersion": V3, "metadata": {"name": 5}}, "metadata.name", "must be a text"),
    ({"kind": "BGPPeer", "apiVersion": V3, "metadata": {"name": "a b"}}, "metadata.name", "not a name"),
    ({"kind": "BGPPeer", "apiVersion": V3, "metadata": {"name": "x" * 254}}, "metadata.name", "not a name"),
    ({"kind": "BGPPeer", "metadata": {"name": "x"}}, "apiVersion", "is missing"),
    ({"kind": "BGPPeer", "apiVersion": "v1", "metadata": {"name": "x"}}, "apiVersion", f"{V3} or {CRD}"),
    ({"kind": "Secret", "apiVersion": V3, "metadata": {"name": "x"}}, "apiVersion", "write v1"),
]


@pytest.mark.parametrize(("document", "field", "reason"), HEADERS, ids=_name)
def test_a_bad_header(document: Any, field: str, reason: str) -> None:
    outcome = parse_record(document)
    assert outcome.record is None
    problem = next(problem for problem in outcome.problems if problem.field == field)
    assert problem.severity == "error"
    assert reason in problem.reason


def test_a_wrong_group_is_told_with_the_key() -> None:
    document = {
        "kind": "BGPPeer",
        "apiVersion": "v1",
        "metadata": {"name": "x"},
        "spec": {"peerIP": "10.0.0.1"},
    }
    outcome = parse_record(document)
    assert outcome.key == outcome.problems[0].key == Key("BGPPeer", "x")


def test_an_unknown_kind_is_ignored_with_a_warning() -> None:
    outcome = parse_record({"kind": "Deployment", "apiVersion": "apps/v1", "metadata": {"name": "x"}})
    assert outcome.record is None
    assert outcome.key is None
    assert [(problem.field, problem.severity) for problem in outcome.problems] == [("kind", "warning")]
    assert "'Deployment'" in outcome.problems[0].reason


def test_many_faults_in_one_record_are_counted() -> None:
    outcome = parse_record(put(full("BGPPeer"), "spec.filters", [5] * 100_000))
    assert len(outcome.problems) == MAX_PROBLEMS + 1
    assert "99980 faults more" in outcome.problems[-1].reason


def test_a_problem_reads_as_one_line() -> None:
    key = Key("BGPPeer", "tor")
    assert (
        str(Problem(key, "spec.peerIP", "is bad", "a.yaml:3")) == "a.yaml:3: BGPPeer tor: spec.peerIP: is bad"
    )
    assert str(Problem(None, "", "is not YAML", "a.yaml:3")) == "a.yaml:3: is not YAML"


def test_hostile_texts_are_shown_escaped_and_cut() -> None:
    outcome = parse_record(put(full("BGPPeer"), "spec.peerIP", "\x1b[2J\n" + "x" * 1_000_000))
    line = str(outcome.problems[0])
    assert line.isprintable()
    assert len(line) < 300


SECRETS = ("hunter2", "aHVudGVyMg", "correct horse")


def test_a_secret_is_never_shown() -> None:
    record = parse_record(full("Secret")).record
    assert isinstance(record, Secret)
    assert record.data["mesh"].reveal() == b"hunter2"
    for text in (repr(record), str(record), f"{record.data['mesh']}", f"{record.data}", repr(vars)):
        assert not any(secret in text for secret in SECRETS)
    value = record.data["mesh"]
    for leak in (pickle.dumps, copy.deepcopy, msgspec.json.encode, msgspec.to_builtins):
        with pytest.raises(TypeError):
            leak(value)
    assert not hasattr(value, "__dict__")


def test_secrets_are_compared_by_value() -> None:
    assert SecretValue(b"a") == SecretValue(b"a")
    assert hash(SecretValue(b"a")) == hash(SecretValue(b"a"))
    assert SecretValue(b"a") != SecretValue(b"b")
    assert SecretValue(b"a") != b"a"


@pytest.mark.parametrize(
    ("form", "path"),
    [
        ("Secret", "data.mesh"),
        ("Secret", "data"),
        ("Secret", "stringData"),
        ("BGPPeer", "spec.password"),
        ("BGPPeer", "spec.password.secretKeyRef"),
        ("BGPConfiguration", "spec.nodeMeshPassword"),
    ],
)
@pytest.mark.parametrize("value", ["hunter2!", ["hunter2"], [{"x": "hunter2"}]])
def test_a_secret_in_a_wrong_place_is_not_quoted(form: str, path: str, value: object) -> None:
    outcome = parse_record(put(full(form), path, value))
    assert outcome.record is None
    assert outcome.problems
    assert not any("hunter2" in str(problem) for problem in outcome.problems)

"""Which service addresses a node announces."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface, ip_address, ip_network
from typing import Any

import pytest

from routed.bgp.nlri import Family
from routed.intent.compiler import compile_intent
from routed.intent.options import Options
from routed.intent.services import EXCLUDE_LABEL
from routed.intent.types import KernelAction, NodeIntent, OriginKind
from routed.resources import (
    AddressType,
    BGPConfiguration,
    Endpoint,
    EndpointSlice,
    IPFamily,
    LoadBalancerAggregation,
    Node,
    Service,
    ServiceType,
    TrafficPolicy,
)

LOCAL, CLUSTER = TrafficPolicy.LOCAL, TrafficPolicy.CLUSTER
HERE, THERE = Endpoint("a"), Endpoint("b")


def networks(*texts: str) -> tuple[Any, ...]:
    return tuple(map(ip_network, texts))


def settings(
    cluster: tuple[str, ...] = (),
    external: tuple[str, ...] = (),
    balancer: tuple[str, ...] = (),
    **fields: Any,
) -> BGPConfiguration:
    return BGPConfiguration(
        name="default",
        service_cluster_ips=networks(*cluster),
        service_external_ips=networks(*external),
        service_load_balancer_ips=networks(*balancer),
        **fields,
    )


def service(policy: TrafficPolicy = LOCAL, name: str = "w", **fields: Any) -> Service:
    addresses: dict[str, Any] = {
        field: tuple(map(ip_address, fields.pop(field, default)))
        for field, default in (
            ("cluster_ips", ("10.2.0.1",)),
            ("external_ips", ()),
            ("load_balancer_ingress_ips", ()),
        )
    }
    fields.setdefault("type", ServiceType.LOAD_BALANCER)
    fields.setdefault("ip_families", (IPFamily.IPV4,))
    return Service(namespace="n", name=name, external_traffic_policy=policy, **addresses, **fields)


def endpoints(*found: Endpoint, family: AddressType = AddressType.IPV4, name: str = "w") -> EndpointSlice:
    return EndpointSlice(
        namespace="n", name=f"{name}-{family}", service_name=name, address_type=family, endpoints=found
    )


def compiled(
    *records: Any, labels: dict[str, str] | None = None, options: Options | None = None
) -> NodeIntent:
    own = Node(name="a", ipv4_address=IPv4Interface("10.0.0.1/24"), labels=labels or {})
    return compile_intent([own, *records], options or Options("a"))


def announced(*records: Any, **more: Any) -> list[str]:
    """Single addresses and ranges, in the order in which BIRD's files list them."""
    intent = compiled(*records, **more)
    found = [str(n) for family in Family for n in intent.families[family].export_policy.statics]
    routes = {str(n): r for n, r in intent.originated.items()}
    assert set(found) == set(routes)
    assert all(r.advertise and not r.blackhole for r in routes.values())
    return found


def test_nothing_without_a_range() -> None:
    assert announced(service(), endpoints(HERE)) == []


def test_ranges_are_announced_whole_but_for_single_addresses() -> None:
    ranges = settings(
        ("10.2.0.0/16", "10.9.0.1/32"), ("10.4.0.0/24", "10.4.1.1/32"), ("10.3.0.0/24", "10.3.1.1/32")
    )
    assert announced(ranges) == ["10.2.0.0/16", "10.3.0.0/24", "10.4.0.0/24", "10.9.0.1/32"]


def test_load_balancer_ranges_without_aggregation() -> None:
    ranges = settings(
        (),
        ("10.4.0.0/24",),
        ("10.3.0.0/24",),
        service_load_balancer_aggregation=LoadBalancerAggregation.DISABLED,
    )
    assert announced(ranges) == ["10.4.0.0/24"]


def test_the_environment_overrides_the_cluster_ranges() -> None:
    options = Options("a", advertise_cluster_ips=networks("10.7.0.0/16"))
    assert announced(settings(("10.2.0.0/16",)), options=options) == ["10.7.0.0/16"]


RANGES = settings(("10.2.0.0/24",), ("10.4.0.0/24",), ("10.3.0.0/24",))
WHOLE = ["10.2.0.0/24", "10.3.0.0/24", "10.4.0.0/24"]


def of_service(*records: Any, **more: Any) -> list[str]:
    ranges = more.pop("ranges", RANGES)
    intent = compiled(ranges, *records, **more)
    return [str(n) for n, r in intent.originated.items() if r.kind is OriginKind.SERVICE]


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ((HERE,), True),
        ((THERE,), False),
        ((THERE, HERE), True),
        ((Endpoint("a", False),), False),
        ((Endpoint(None),), False),
        ((), False),
    ],
)
def test_local_policy_asks_for_a_ready_endpoint_on_this_node(
    found: tuple[Endpoint, ...], expected: bool
) -> None:
    assert bool(of_service(service(), endpoints(*found))) is expected


def test_the_name_of_the_kubernetes_node_may_differ() -> None:
    assert of_service(service(), endpoints(Endpoint("k8s")), options=Options("a", k8s_node_ref="k8s"))
    assert not of_service(service(), endpoints(HERE), options=Options("a", k8s_node_ref="k8s"))


def test_all_slices_of_a_service_count_that_are_of_its_families() -> None:
    both = service(ip_families=(IPFamily.IPV4, IPFamily.IPV6))
    six = endpoints(HERE, family=AddressType.IPV6)
    assert of_service(both, endpoints(THERE), six)
    assert not of_service(service(), endpoints(THERE), six)
    assert of_service(service(ip_families=()), endpoints(HERE))
    assert not of_service(service(), endpoints(HERE, name="other"))


def test_which_of_its_addresses() -> None:
    full = service(
        cluster_ips=("10.2.0.1", "fd02::1"),
        external_ips=("10.4.0.1", "10.99.0.1"),
        load_balancer_ingress_ips=("10.3.0.1", "10.99.0.2"),
    )
    assert of_service(full, endpoints(HERE)) == ["10.2.0.1/32", "10.3.0.1/32", "10.4.0.1/32", "fd02::1/128"]
    assert of_service(full, endpoints(HERE), ranges=settings(external=("10.4.0.0/24",))) == ["10.4.0.1/32"]


@pytest.mark.parametrize("kind", [ServiceType.CLUSTER_IP, ServiceType.NODE_PORT, ServiceType.LOAD_BALANCER])
def test_types_that_are_announced(kind: ServiceType) -> None:
    assert of_service(service(type=kind), endpoints(HERE))


def test_what_is_not_announced() -> None:
    assert not of_service(service(type=ServiceType.EXTERNAL_NAME), endpoints(HERE))
    assert not of_service(service(cluster_ips=()), endpoints(HERE))


def test_cluster_policy_is_covered_by_the_ranges() -> None:
    assert not of_service(service(CLUSTER), endpoints(HERE))


@pytest.mark.parametrize(
    ("ranges", "addresses"),
    [
        (settings(balancer=("10.3.0.1/32",)), {"load_balancer_ingress_ips": ("10.3.0.1",)}),
        (settings(external=("10.3.0.1/32",)), {"external_ips": ("10.3.0.1",)}),
    ],
)
def test_cluster_policy_and_an_address_configured_by_itself(ranges: BGPConfiguration, addresses: Any) -> None:
    assert of_service(service(CLUSTER, **addresses), ranges=ranges) == ["10.3.0.1/32"]
    assert not of_service(service(LOCAL, **addresses), ranges=ranges)


def test_cluster_policy_without_aggregation_asks_for_any_ready_endpoint() -> None:
    ranges = settings(
        balancer=("10.3.0.0/24",), service_load_balancer_aggregation=LoadBalancerAggregation.DISABLED
    )
    balanced = service(CLUSTER, load_balancer_ingress_ips=("10.3.0.1",))
    assert of_service(balanced, endpoints(THERE), ranges=ranges) == ["10.3.0.1/32"]
    assert not of_service(balanced, endpoints(Endpoint("b", False)), ranges=ranges)
    assert not of_service(balanced, ranges=ranges)


def test_an_excluded_node_announces_none_and_still_rejects_the_ranges() -> None:
    intent = compiled(RANGES, service(), endpoints(HERE), labels={EXCLUDE_LABEL: "true"})
    assert not intent.originated
    rules = intent.families[Family.IPV4].kernel_policy.rules
    assert [(str(rule.network), rule.action, rule.service) for rule in rules] == [
        (network, KernelAction.REJECT, True) for network in WHOLE
    ]
    assert of_service(service(), endpoints(HERE), labels={EXCLUDE_LABEL: "false"})


def test_an_address_of_two_services_goes_with_the_last() -> None:
    from routed.intent.compiler import Compiler

    compiler = Compiler(Options("a"))
    first, second = service(), service(name="x")
    compiler.apply([RANGES, first, second, endpoints(HERE), endpoints(HERE, name="x")])
    network = ip_network("10.2.0.1/32")
    assert compiler.intent.originated[network].record == first.key
    delta = compiler.apply([], [first.key])
    route = delta.originated_changed[network]
    assert route is not None
    assert route.record == second.key
    assert compiler.apply([], [second.key]).originated_changed[network] is None


def test_a_reflector_passes_on_external_and_load_balancer_ranges() -> None:
    own = Node(
        name="a",
        ipv4_address=IPv4Interface("10.0.0.1/24"),
        route_reflector_cluster_id=IPv4Address("10.0.0.1"),
    )
    intent = compile_intent(
        [own, settings(("10.2.0.0/24",), ("10.4.0.1/32",), ("10.3.0.0/24",))], Options("a")
    )
    assert [str(n) for n in intent.families[Family.IPV4].export_policy.reflected] == [
        "10.3.0.0/24",
        "10.4.0.1/32",
    ]
    assert not compiled(RANGES).families[Family.IPV4].export_policy.reflected

"""From the multipath set of a prefix to its wanted kernel route (calico-semantics section 4).

Pure: Loc-RIB's paths and the node's kernel policy in; a `FibRoute`, or the reason
for none, out. The same decision serves the kernel, the status and an explanation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from ipaddress import ip_address

from routed.bgp.path import Path
from routed.bgp.route import FibRoute, NextHop
from routed.intent.types import PRIORITY_SUM, Interface, KernelAction, KernelPolicy

#: The kernel's view of a prefix: the action of the kernel policy, and its reason for people.
KernelVerdict = Callable[[bytes], tuple[KernelAction, str]]


def learned_route(
    nlri: bytes,
    paths: Sequence[Path],
    policy: KernelPolicy,
    verdict: KernelVerdict,
    node_address: Interface | None,
) -> FibRoute | str:
    """The kernel route of a prefix learned by BGP, or why there is none.

    `paths` is the multipath set, best first: every distinct next hop becomes one way (ECMP)."""
    action, reason = verdict(nlri)
    if action is KernelAction.REJECT:
        return reason
    hops: dict[NextHop, None] = {}
    for path in paths:
        hop = _next_hop(path.attributes.next_hop, action, policy, node_address)
        if hop.gateway in policy.rejected_next_hops:
            if not hops and path is paths[0]:
                return (
                    f"next hop {hop.gateway} runs WireGuard, as this node does: the node agent routes to it"
                )
            continue
        hops[hop] = None
    # One order for equal sets, so that an arrival in another order is no change to the kernel.
    ordered = sorted(hops, key=lambda hop: (hop.gateway.packed, hop.interface or ""))
    return FibRoute(tuple(ordered), kernel_metric(paths[0]))


def kernel_metric(path: Path) -> int:
    """2147483647 - LOCAL_PREF. A path without one, from an external peer, has 100, as in BIRD: so a route
    of the
    cluster (2147482623, metric 1024) is better than one from outside."""
    # 0 is "no metric" to the kernel, and IPv6 turns it into 1024; a LOCAL_PREF may be larger than
    # Calico's sum.
    return max(1, PRIORITY_SUM - path.local_pref)


def _next_hop(octets: bytes, action: KernelAction, policy: KernelPolicy, node: Interface | None) -> NextHop:
    # RFC 2545 section 3: the global address is the first of the two that a 32-octet next hop holds.
    gateway = ip_address(octets[:16])
    if action is KernelAction.TUNNEL_CROSS_SUBNET and node is not None and gateway in node.network:
        return NextHop(gateway)
    if action in (KernelAction.TUNNEL, KernelAction.TUNNEL_CROSS_SUBNET):
        return NextHop(gateway, policy.tunnel_device, onlink=True)
    return NextHop(gateway)

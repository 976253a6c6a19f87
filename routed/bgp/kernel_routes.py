"""From the multipath set of a prefix to its wanted kernel route.

Pure: Loc-RIB's paths, with the ways to their next hops, and the node's kernel policy in; a `FibRoute`, or the
reason for none, out. The same decision serves the kernel, the status and an explanation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from ipaddress import ip_address

from routed.bgp.path import Path
from routed.bgp.route import FibRoute, NextHop
from routed.intent.types import PRIORITY_SUM, Interface, KernelAction, KernelPolicy

#: The kernel's view of a prefix: the action of the kernel policy, and its reason for people.
KernelVerdict = Callable[[bytes], tuple[KernelAction, str]]

LinkIsUp = Callable[[str], bool]
"""Whether there is an interface of a name, and up."""


def learned_route(
    nlri: bytes,
    paths: Sequence[Path],
    policy: KernelPolicy,
    verdict: KernelVerdict,
    node_address: Interface | None,
    link_is_up: LinkIsUp | None = None,
) -> FibRoute | str:
    """The kernel route of a prefix learned by BGP, or why there is none.

    `paths` is the multipath set, best first: every distinct next hop becomes one way (ECMP), or several,
    where it is reached by several. Those that cannot be reached now are left out: the kernel would refuse the
    whole route for one of them. `link_is_up` None: nothing is known of links."""
    action, reason = verdict(nlri)
    if action is KernelAction.REJECT:
        return reason
    return route_by(paths, action, policy, node_address, link_is_up)


def route_by(
    paths: Sequence[Path],
    action: KernelAction,
    policy: KernelPolicy,
    node_address: Interface | None,
    link_is_up: LinkIsUp | None = None,
) -> FibRoute | str:
    """`learned_route` for an action other than REJECT: the same for all prefixes of these paths."""
    only = paths[0].hop if len(paths) == 1 else None
    if only is not None and action is KernelAction.ACCEPT and not policy.rejected_next_hops:
        # The common case in a fifth of the time: what is below does the same.
        ways = only.ways
        if len(ways) == 1:
            return FibRoute(ways, kernel_metric(paths[0]))
    hops: dict[NextHop, None] = {}
    problem = ""
    for path in paths:
        # RFC 2545 section 3: the global address is the first of the two that a 32-octet next hop holds.
        address = ip_address(path.attributes.next_hop[:16])
        if address in policy.rejected_next_hops:
            wireguard = f"next hop {address} runs WireGuard, as this node does: the node agent routes to it"
            if path is paths[0]:
                return wireguard
            continue
        tunnel = action is KernelAction.TUNNEL or (
            action is KernelAction.TUNNEL_CROSS_SUBNET
            and (node_address is None or address not in node_address.network)
        )
        if path.hop is not None and not path.hop.ways:
            problem = problem or path.hop.reason
        elif tunnel and link_is_up is not None and not link_is_up(policy.tunnel_device):
            problem = (
                problem or f"next hop {address}: there is no interface {policy.tunnel_device} that is up"
            )
        elif tunnel:
            hops[NextHop(address, policy.tunnel_device, onlink=True)] = None
        elif path.hop is not None:
            hops.update(dict.fromkeys(path.hop.ways))
        else:
            hops[NextHop(address)] = None
    if not hops:
        return problem
    # One order for equal sets, so that an arrival in another order is no change to the kernel.
    ordered = sorted(hops, key=lambda hop: (hop.gateway.packed, hop.interface or ""))
    return FibRoute(tuple(ordered), kernel_metric(paths[0]))


def kernel_metric(path: Path) -> int:
    """2147483647 - LOCAL_PREF. A path without one, from an external peer, has 100, as in BIRD: so a route
    of the cluster (2147482623, metric 1024) is better than one from outside."""
    # 0 is "no metric" to the kernel, and IPv6 turns it into 1024; a LOCAL_PREF may be larger than
    # Calico's sum.
    return max(1, PRIORITY_SUM - path.local_pref)

"""Route reflection as pure functions (RFC 4456).

Best path, export and the input checks call these; there is no state here.
"""

from __future__ import annotations

from routed.bgp.attributes import AttributeSet
from routed.bgp.path_attributes import OPTIONAL, Code, encode_attribute


def may_reflect(*, from_client: bool, to_client: bool) -> bool:
    """Whether a path learned by iBGP may go to an iBGP peer (RFC 4456 section 6): from a client to all,
    from a non-client to clients only. A router that reflects for nobody has no clients, and so passes
    nothing on."""
    return from_client or to_client


def reflected(attributes: AttributeSet, originator_id: bytes, cluster_id: bytes) -> AttributeSet:
    """The attributes of a path as it is reflected (RFC 4456 section 8): ORIGINATOR_ID is set where there is
    none, our CLUSTER_ID goes in front of CLUSTER_LIST, and nothing else changes.

    `originator_id` is the BGP identifier of the peer that the path came from; both arguments four octets."""
    clusters = b"".join((cluster_id, *attributes.cluster_list))
    octets = encode_attribute(OPTIONAL, Code.CLUSTER_LIST, clusters)
    if attributes.originator_id is None:
        octets = encode_attribute(OPTIONAL, Code.ORIGINATOR_ID, originator_id) + octets
        return attributes.splice(octets, Code.ORIGINATOR_ID, Code.CLUSTER_LIST)
    return attributes.splice(octets, Code.CLUSTER_LIST, Code.CLUSTER_LIST)


def reflection_loop(attributes: AttributeSet, router_id: bytes, cluster_id: bytes | None) -> str | None:
    """Why a path received by iBGP must be ignored (RFC 4456 section 8), for people; None where it need not
    be.

    `router_id` is our BGP identifier; `cluster_id` ours where we reflect. A reflector without a configured
    cluster ID uses its BGP identifier (section 7), and the caller passes that."""
    if attributes.originator_id == router_id:
        return "ORIGINATOR_ID is our own router ID"
    if cluster_id is not None and cluster_id in attributes.cluster_list:
        return "CLUSTER_LIST holds our own cluster ID"
    return None

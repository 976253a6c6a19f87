"""Names of route protocols (`rtm_protocol`), for people: linux/rtnetlink.h, iproute2's rt_protos, and what
else runs on Calico nodes."""

from __future__ import annotations

NAMES = {
    1: "redirect",
    2: "kernel",
    3: "boot",
    4: "static",
    8: "gated",
    9: "ra",
    10: "mrt",
    11: "zebra",
    12: "bird",
    13: "dnrouted",
    14: "xorp",
    15: "ntk",
    16: "dhcp",
    17: "mrouted",
    18: "keepalived",
    42: "babel",
    80: "felix",
    84: "ovn",
    99: "openr",
    171: "routed",
    186: "bgp",
    187: "isis",
    188: "ospf",
    189: "rip",
    190: "ripng",
    191: "nhrp",
    192: "eigrp",
    193: "ldp",
    194: "sharp",
    195: "pbr",
    196: "zstatic",
    197: "openfabric",
    198: "srte",
}


def protocol_name(number: int) -> str:
    """`static (4)`; the bare number where nobody is known by it."""
    name = NAMES.get(number)
    return f"{name} ({number})" if name else str(number)

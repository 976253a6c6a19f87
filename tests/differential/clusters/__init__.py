"""The clusters of the differential test."""

from tests.differential.clusters.kernel import BORROWED, CONNECTED, CROSS_SUBNET, ECMP
from tests.differential.clusters.outside import EBGP, EBGP_MESH, IPV6_OUTSIDE, LOCAL_AS
from tests.differential.clusters.peerings import ADD_PATHS, IPV6, MESH, REFLECTOR, REFLECTORS, SESSIONS
from tests.differential.clusters.policies import (
    COMMUNITIES,
    FILTERS,
    NEXT_HOPS,
    POOLS,
    PRIORITIES,
    SERVICES,
)

CLUSTERS = (
    MESH,
    IPV6,
    PRIORITIES,
    REFLECTORS,
    REFLECTOR,
    EBGP,
    FILTERS,
    COMMUNITIES,
    SERVICES,
    BORROWED,
    POOLS,
    CROSS_SUBNET,
    LOCAL_AS,
    NEXT_HOPS,
    ECMP,
    CONNECTED,
    SESSIONS,
    ADD_PATHS,
    EBGP_MESH,
    IPV6_OUTSIDE,
)

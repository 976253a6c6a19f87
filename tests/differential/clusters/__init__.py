"""The clusters of the differential test."""

from tests.differential.clusters.kernel import BORROWED, CONNECTED, CROSS_SUBNET, ECMP
from tests.differential.clusters.peerings import (
    ADD_PATHS,
    EBGP,
    IPV6,
    LOCAL_AS,
    MESH,
    REFLECTOR,
    REFLECTORS,
    SESSIONS,
)
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
)

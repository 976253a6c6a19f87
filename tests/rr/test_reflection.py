"""The rules of route reflection (RFC 4456)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routed.bgp.attributes import AttributeSet, originate
from routed.rr.reflection import may_reflect, reflected, reflection_loop

ORIGINATOR, CLUSTER, OTHER = b"\x0a\0\0\2", b"\x0a\0\0\x63", b"\x0a\0\0\x64"
RECEIVED = originate(next_hop=ORIGINATOR, local_pref=150, med=3, communities=[7])


@pytest.mark.parametrize(
    ("from_client", "to_client", "passes"),
    [(True, True, True), (True, False, True), (False, True, True), (False, False, False)],
)
def test_who_hears_of_an_internal_path(from_client: bool, to_client: bool, passes: bool) -> None:
    """Section 6."""
    assert may_reflect(from_client=from_client, to_client=to_client) is passes


def test_the_first_reflector_sets_the_originator() -> None:
    """Section 8."""
    once = reflected(RECEIVED, ORIGINATOR, CLUSTER)
    assert (once.originator_id, once.cluster_list) == (ORIGINATOR, (CLUSTER,))
    assert once.replace(originator_id=None, cluster_list=None) is RECEIVED


def test_a_second_reflector_keeps_it_and_prepends_its_cluster() -> None:
    """Section 8; the order of CLUSTER_LIST is the way the path came."""
    twice = reflected(reflected(RECEIVED, ORIGINATOR, CLUSTER), b"\1\1\1\1", OTHER)
    assert (twice.originator_id, twice.cluster_list) == (ORIGINATOR, (OTHER, CLUSTER))


@given(
    local_pref=st.none() | st.integers(0, 0xFFFFFFFF),
    communities=st.lists(st.integers(0, 0xFFFFFFFF), max_size=70),
    originator=st.none() | st.binary(min_size=4, max_size=4),
    clusters=st.lists(st.binary(min_size=4, max_size=4), max_size=70),
    large=st.lists(st.just((1, 2, 3)), max_size=1),
)
def test_reflected_octets_are_those_of_replaced_attributes(
    local_pref: int | None,
    communities: list[int],
    originator: bytes | None,
    clusters: list[bytes],
    large: list[tuple[int, int, int]],
) -> None:
    """Whatever stands before, between and behind the two attributes, and however long they are."""
    received = originate(
        next_hop=ORIGINATOR, local_pref=local_pref, communities=communities, large_communities=large
    ).replace(originator_id=originator, cluster_list=clusters)
    expected = received.replace(originator_id=originator or OTHER, cluster_list=[CLUSTER, *clusters])
    assert reflected(received, OTHER, CLUSTER) is expected


@pytest.mark.parametrize(
    ("attributes", "cluster_id", "reason"),
    [
        (RECEIVED, CLUSTER, None),
        (reflected(RECEIVED, ORIGINATOR, OTHER), CLUSTER, None),
        (reflected(RECEIVED, b"\x0a\0\0\1", OTHER), CLUSTER, "ORIGINATOR_ID is our own router ID"),
        (reflected(RECEIVED, ORIGINATOR, CLUSTER), CLUSTER, "CLUSTER_LIST holds our own cluster ID"),
        (
            reflected(reflected(RECEIVED, ORIGINATOR, CLUSTER), ORIGINATOR, OTHER),
            CLUSTER,
            "CLUSTER_LIST holds our own cluster ID",
        ),
        # One that reflects for nobody has no cluster ID that it could find.
        (reflected(RECEIVED, ORIGINATOR, CLUSTER), None, None),
        (reflected(RECEIVED, b"\x0a\0\0\1", OTHER), None, "ORIGINATOR_ID is our own router ID"),
    ],
)
def test_loops(attributes: AttributeSet, cluster_id: bytes | None, reason: str | None) -> None:
    """Section 8."""
    assert reflection_loop(attributes, b"\x0a\0\0\1", cluster_id) == reason

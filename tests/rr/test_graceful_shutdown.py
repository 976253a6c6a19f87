"""Being everybody's last choice before a stop (RFC 8326)."""

from __future__ import annotations

import pytest

from routed.bgp.attributes import originate
from routed.bgp.communities import GRACEFUL_SHUTDOWN, NO_ADVERTISE
from routed.bgp.export import ExportTarget
from routed.bgp.graceful_shutdown import LastChoiceExporter, last_choice
from routed.bgp.nlri import Family
from routed.bgp.path import Router, Source, SourceKind

ROUTER = Router(b"\x0a\0\0\1", b"\x0a\0\0\1")
CLIENT = Source(
    "c", SourceKind.IBGP, ROUTER, router_id=b"\x0a\0\0\2", remote_as=64512, local_as=64512, client=True
)
NLRI = b"\x18\x0a\1\2"


def target(kind: SourceKind = SourceKind.IBGP) -> ExportTarget:
    return ExportTarget(Family.IPV4, kind, 64512, b"\x0a\0\0\1", ROUTER, client=True)


def test_internal_peers_get_no_preference_and_the_community() -> None:
    path = CLIENT.path(originate(next_hop=b"\x0a\0\0\2", local_pref=150, communities=[7]))
    ((attributes, nlri),) = LastChoiceExporter(target()).export(path, [NLRI])
    assert attributes is not None
    assert (attributes.local_pref, attributes.communities) == (0, (7, GRACEFUL_SHUTDOWN))
    assert (attributes.next_hop, attributes.originator_id) == (b"\x0a\0\0\2", b"\x0a\0\0\2")
    assert list(nlri) == [NLRI]


def test_external_peers_get_the_community_alone() -> None:
    path = CLIENT.path(originate(next_hop=b"\x0a\0\0\2", local_pref=150))
    ((attributes, _),) = LastChoiceExporter(target(SourceKind.EBGP)).export(path, [NLRI])
    assert attributes is not None
    assert (attributes.local_pref, attributes.communities) == (None, (GRACEFUL_SHUTDOWN,))


def test_what_was_not_told_is_not_told_now() -> None:
    path = CLIENT.path(originate(next_hop=b"\x0a\0\0\2", communities=[NO_ADVERTISE]))
    exporter = LastChoiceExporter(target())
    assert [attributes for attributes, _ in exporter.export(path, [NLRI])] == [None]
    assert exporter.decide(NLRI, path).attributes is None


@pytest.mark.parametrize("kind", [SourceKind.IBGP, SourceKind.EBGP])
def test_twice_is_once(kind: SourceKind) -> None:
    """Two reflectors of a chain may both drain, and a filter may have set the community before."""
    once = last_choice(originate(next_hop=b"\x0a\0\0\2", local_pref=150), target(kind))
    assert last_choice(once, target(kind)) is once


def test_a_filter_sees_the_route_as_it_was() -> None:
    seen: list[int | None] = []

    def accept(nlri: bytes, path: object, attributes: object) -> object:
        seen.append(getattr(attributes, "local_pref"))  # noqa: B009
        return attributes

    path = CLIENT.path(originate(next_hop=b"\x0a\0\0\2", local_pref=150))
    exporter = LastChoiceExporter(target(), filters=[accept])  # type: ignore[list-item]
    ((attributes, _),) = exporter.export(path, [NLRI])
    assert seen == [150]
    assert attributes is not None
    assert attributes.local_pref == 0
    assert exporter.decide(NLRI, path).attributes is attributes

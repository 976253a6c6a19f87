"""Attributes that nobody here knows, on their way through a whole speaker (RFC 4271 section 5)."""

from __future__ import annotations

import struct

import pytest

from routed.bgp.attributes import AttributeSet, originate
from routed.bgp.config import PeerConfig
from routed.bgp.nlri import Family
from routed.bgp.path_attributes import OPTIONAL, PARTIAL, TRANSITIVE, Code, split_attributes
from routed.bgp.update import encode_announcements
from tests.bgp.scripted import Scripted
from tests.bgp.test_add_path import to
from tests.bgp.test_speaker import Router, nlri
from tests.virtual import Wire, until, virtual

V4 = Family.IPV4
PREFIX = "10.1.0.0/26"


def attributes_on_wire(attributes: AttributeSet) -> dict[int, tuple[int, bytes]]:
    wire = attributes.wire
    return {code: (wire[at], wire[start:end]) for _, code, at, start, end in split_attributes(wire)}


def with_raw(*extra: bytes) -> bytes:
    """An announcement with attributes as they are given, behind the usual ones."""
    attributes = originate(next_hop=bytes((10, 0, 0, 9)), local_pref=100)
    (message,) = encode_announcements(V4, attributes, [nlri(PREFIX)])
    size = int.from_bytes(message[21:23])
    more = b"".join(extra)
    body = message[23 : 23 + size] + more
    rest = message[23 + size :]
    return message[:16] + struct.pack("!HBHH", 23 + len(body) + len(rest), 2, 0, len(body)) + body + rest


@pytest.mark.parametrize("external", [False, True], ids=["ibgp", "ebgp"])
def test_unknown_transitive_attributes_are_passed_on_with_the_partial_bit(external: bool) -> None:
    @virtual
    async def test(wire: Wire) -> None:
        router = Router(wire, 1, cluster_id="10.0.0.1")

        def peer(number: int, asn: int) -> PeerConfig:
            return to(router, number, passive=True, remote_as=asn, route_reflector_client=asn == 64512)

        reader_as = 65001 if external else 64512
        router.set_peers(peer(9, 64512), peer(8, reader_as))
        sender, reader = (
            Scripted(wire, 9, router.address),
            Scripted(wire, 8, router.address, asn=reader_as),
        )
        await sender.connect()
        await reader.connect()
        long = bytes(range(256)) + b"end"
        sender.send(
            with_raw(
                bytes((OPTIONAL | TRANSITIVE, 99, 3)) + b"abc",
                bytes((OPTIONAL | TRANSITIVE | PARTIAL, 100, 0)),
                bytes((OPTIONAL | TRANSITIVE | 0x10, 101)) + len(long).to_bytes(2) + long,
                bytes((OPTIONAL, 102, 1, 7)),
                bytes((OPTIONAL | TRANSITIVE | PARTIAL, Code.COMMUNITIES, 4)) + b"\xff\xff\0\7",
            )
        )
        await until(lambda: any(update.announced for update in reader.updates))
        ((_, attributes, _),) = next(update.announced for update in reader.updates if update.announced)
        found = attributes_on_wire(attributes)
        marked = OPTIONAL | TRANSITIVE | PARTIAL
        assert found[99] == (marked, b"abc")
        assert found[100] == (marked, b"")
        assert found[101] == (marked | 0x10, long)
        assert 102 not in found, "not transitive: it ends here"
        assert found[Code.COMMUNITIES] == (marked, b"\xff\xff\0\7")
        shown = router.best(PREFIX).attributes.describe()
        assert shown["attribute_99"] == b"abc".hex()
        assert shown["communities"] == ["no-llgr"]
        assert shown["partial"] == ["communities", "attribute_99", "attribute_100", "attribute_101"]

    test()

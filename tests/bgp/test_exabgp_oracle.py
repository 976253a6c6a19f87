"""ExaBGP's codec as an oracle: it reads what we write, and we read what it writes."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routed.bgp.attributes import AttributeSet, SegmentType, originate
from routed.bgp.capabilities import AddPathMode, Capabilities, GracefulRestart
from routed.bgp.errors import Notification
from routed.bgp.message import (
    HEADER_OCTETS,
    Open,
    RefreshSubtype,
    decode_notification,
    decode_open,
    decode_route_refresh,
    encode_notification,
    encode_route_refresh,
)
from routed.bgp.nlri import Family, to_text
from routed.bgp.update import (
    Update,
    encode_announcements,
    encode_end_of_rib,
    encode_withdrawals,
    parse_update,
)
from tests.bgp import strategies

exabgp_message = pytest.importorskip("exabgp.bgp.message")


@pytest.fixture(scope="module", autouse=True)
def _quiet() -> None:
    """Without this ExaBGP's codec calls a logger that only its main program sets up."""
    from exabgp.logger import log

    log.disable()


def negotiated(*, four_octet_as: bool = True) -> Any:
    """ExaBGP's view of an iBGP session for both families."""
    from exabgp.bgp.message.open import ASN, RouterID
    from exabgp.bgp.neighbor import Neighbor
    from exabgp.configuration.check import _negotiated
    from exabgp.protocol.family import AFI, SAFI
    from exabgp.protocol.ip import IP

    neighbor = Neighbor()
    neighbor["local-as"] = neighbor["peer-as"] = ASN(64512)
    neighbor["router-id"] = RouterID("10.0.0.1")
    neighbor["local-address"], neighbor["peer-address"] = IP.create("10.0.0.1"), IP.create("10.0.0.2")
    neighbor.add_family((AFI.ipv4, SAFI.unicast))
    neighbor.add_family((AFI.ipv6, SAFI.unicast))
    result = _negotiated(neighbor)
    result.asn4 = four_octet_as
    return result


def theirs(message: bytes, *, four_octet_as: bool = True) -> Any:
    """An UPDATE as ExaBGP reads it."""
    from exabgp.bgp.message.direction import Direction

    agreed = negotiated(four_octet_as=four_octet_as)
    return exabgp_message.Update.unpack_message(message[HEADER_OCTETS:], Direction.IN, agreed)


def ours(message: bytes, *, four_octet_as: bool = True) -> Update:
    body = message[HEADER_OCTETS:]
    return parse_update(body, four_octet_as=four_octet_as, families=frozenset(Family), ibgp=True)


def check_attributes(found: Any, attributes: AttributeSet) -> None:
    """Compare ExaBGP's attributes with ours, one by one, through its JSON."""
    import json

    said = json.loads("{" + found.json() + "}")
    assert said["origin"] == ("igp", "egp", "incomplete")[attributes.origin]
    kinds = {SegmentType.AS_SEQUENCE: "as-sequence", SegmentType.AS_SET: "as-set"}
    path = [(part["element"], part["value"]) for part in said.get("as-path", {}).values()]
    assert path == [(kinds[SegmentType(kind)], list(asns)) for kind, asns in attributes.as_path]
    assert said.get("med") == attributes.med
    assert said.get("local-preference") == attributes.local_pref
    assert [tuple(c) for c in said.get("community", [])] == [
        (c >> 16, c & 0xFFFF) for c in sorted(attributes.communities)
    ]
    assert [tuple(c) for c in said.get("large-community", [])] == sorted(attributes.large_communities)
    originator = attributes.originator_id
    assert said.get("originator-id") == (None if originator is None else str(ip_address(originator)))
    assert said.get("cluster-list", []) == [str(ip_address(c)) for c in attributes.cluster_list]


def prefixes_of(update: Any) -> list[tuple[str, str]]:
    return sorted((str(nlri.cidr), str(nlri.nexthop)) for nlri in update.nlris)


@pytest.mark.parametrize("family", list(Family))
@given(st.data())
def test_exabgp_reads_our_announcements(family: Family, data: st.DataObject) -> None:
    attributes = data.draw(strategies.attribute_sets(family))
    nlri = data.draw(st.lists(strategies.nlri(family), min_size=1, max_size=20, unique=True))
    (message,) = encode_announcements(family, attributes, nlri)
    update = theirs(message)
    hops = [str(ip_address(h)) for h in (attributes.next_hop[:16], attributes.next_hop[16:]) if h]
    # ExaBGP makes a route of each of the two next hops of an MP_REACH_NLRI with a link-local one.
    assert prefixes_of(update) == sorted((to_text(one, family), hop) for one in nlri for hop in hops)
    check_attributes(update.attributes, attributes)


@given(st.data())
def test_exabgp_reads_our_announcements_to_2_octet_peers(data: st.DataObject) -> None:
    attributes = data.draw(strategies.attribute_sets())
    (message,) = encode_announcements(Family.IPV4, attributes, [b"\x18\x0a\0\0"], four_octet_as=False)
    update = theirs(message, four_octet_as=False)
    flat = [asn for _, asns in attributes.as_path for asn in asns]
    read = update.attributes[2].aspath if attributes.as_path else ()
    assert [int(asn) for segment in read for asn in segment] == flat


@pytest.mark.parametrize("family", list(Family))
@given(st.data())
def test_exabgp_reads_our_withdrawals(family: Family, data: st.DataObject) -> None:
    nlri = data.draw(st.lists(strategies.nlri(family), min_size=1, max_size=20, unique=True))
    (message,) = encode_withdrawals(family, nlri)
    update = theirs(message)
    assert sorted(str(n.cidr) for n in update.nlris) == sorted(to_text(one, family) for one in nlri)
    assert {n.action.name for n in update.nlris} == {"WITHDRAW"}


@pytest.mark.parametrize("family", list(Family))
def test_exabgp_reads_our_end_of_rib(family: Family) -> None:
    end = theirs(encode_end_of_rib(family))
    assert type(end).__name__ == "EOR"
    assert int(end.nlris[0].afi) == int(family)


@pytest.mark.parametrize("family", list(Family))
@given(st.data())
def test_we_read_what_exabgp_writes(family: Family, data: st.DataObject) -> None:
    attributes = data.draw(strategies.attribute_sets(family))
    attributes = attributes.replace(
        next_hop=attributes.next_hop[:16],  # ExaBGP writes no link-local next hop
        communities=sorted(set(attributes.communities)),  # and sorts these two
        large_communities=sorted(attributes.large_communities),
        local_pref=attributes.local_pref
        if attributes.local_pref is not None
        else 100,  # always there on iBGP
    )
    nlri = data.draw(st.lists(strategies.nlri(family), min_size=1, max_size=20, unique=True))
    update = theirs(encode_announcements(family, attributes, nlri)[0])
    written = exabgp_message.Update(update.nlris, update.attributes)
    announced: set[bytes] = set()
    for message in written.messages(negotiated()):
        ((read_family, read_attributes, prefixes),) = ours(message).announced
        assert (read_family, read_attributes) == (family, attributes)
        announced.update(prefixes)
    assert announced == set(nlri)


opens = st.builds(
    Open,
    asn=st.one_of(st.integers(1, 23455), st.integers(23457, 2**32 - 1)),
    hold_time=st.sampled_from([0, 3, 90, 65535]),
    router_id=strategies.router_ids,
    capabilities=st.builds(
        Capabilities,
        multiprotocol=st.sampled_from([(), ((1, 1),), ((2, 1),), ((1, 1), (2, 1))]),
        route_refresh=st.booleans(),
        extended_message=st.booleans(),
        enhanced_route_refresh=st.booleans(),
        graceful_restart=st.none()
        | st.builds(
            GracefulRestart,
            restart_time=st.integers(0, 4095),
            families=st.sampled_from([(), ((1, 1, True),), ((1, 1, False), (2, 1, True))]),
            restarted=st.booleans(),
        ),
        add_path=st.sampled_from(
            [(), ((1, 1, AddPathMode(3)),), ((1, 1, AddPathMode(1)), (2, 1, AddPathMode(2)))]
        ),
    ),
)


def with_as(message: Open) -> Open:
    from dataclasses import replace

    return replace(message, capabilities=replace(message.capabilities, four_octet_as=message.asn))


@given(opens)
def test_exabgp_reads_our_open(message: Open) -> None:
    message = with_as(message)
    read = exabgp_message.Open.unpack_message(message.encode()[HEADER_OCTETS:])
    said = read.capabilities
    assert int(read.hold_time) == message.hold_time
    assert str(read.router_id) == str(ip_address(message.router_id))
    assert int(said[65]) == message.asn
    assert [(int(afi), int(safi)) for afi, safi in said.get(1, [])] == list(
        message.capabilities.multiprotocol
    )
    assert (2 in said) == message.capabilities.route_refresh
    assert (6 in said) == message.capabilities.extended_message
    assert (70 in said) == message.capabilities.enhanced_route_refresh
    restart = message.capabilities.graceful_restart
    assert (64 in said) == (restart is not None)
    if restart is not None:
        assert said[64].restart_time == restart.restart_time
    modes = {(int(a), int(s)): int(mode) for (a, s), mode in said.get(69, {}).items()}
    assert modes == {(a, s): int(mode) for a, s, mode in message.capabilities.add_path}


@given(opens)
def test_we_read_the_open_that_exabgp_writes(message: Open) -> None:
    message = with_as(message)
    written = exabgp_message.Open.unpack_message(message.encode()[HEADER_OCTETS:]).message(negotiated())
    read = decode_open(written[HEADER_OCTETS:])
    assert (read.asn, read.hold_time, read.router_id) == (message.asn, message.hold_time, message.router_id)
    assert read.capabilities.multiprotocol == message.capabilities.multiprotocol
    assert read.capabilities.four_octet_as == message.asn
    assert read.capabilities.add_path == message.capabilities.add_path


@given(st.integers(1, 6), st.integers(0, 9), st.binary(max_size=20))
def test_notifications_both_ways(code: int, subcode: int, data: bytes) -> None:
    message = encode_notification(Notification(code, subcode, data))
    read = exabgp_message.Notification.unpack_message(message[HEADER_OCTETS:], None, negotiated())
    assert (read.code, read.subcode) == (code, subcode)
    written = exabgp_message.Notify(code, subcode, data).message(negotiated())
    assert decode_notification(written[HEADER_OCTETS:]) == Notification(code, subcode, data)


@pytest.mark.parametrize("family", list(Family))
@pytest.mark.parametrize("subtype", list(RefreshSubtype))
def test_route_refresh_both_ways(family: Family, subtype: RefreshSubtype) -> None:
    from exabgp.bgp.message.refresh import RouteRefresh

    message = encode_route_refresh(family, subtype)
    read = RouteRefresh.unpack_message(message[HEADER_OCTETS:], None, negotiated())
    assert (int(read.afi), int(read.safi), int(read.reserved)) == (family, 1, subtype)
    written = RouteRefresh(read.afi, read.safi, int(subtype)).message(negotiated())
    assert decode_route_refresh(written[HEADER_OCTETS:]).family is family


def test_both_agree_on_the_bytes_of_a_plain_route() -> None:
    attributes = originate(next_hop=bytes((10, 0, 0, 1)), local_pref=100, communities=[64512 << 16 | 1])
    (message,) = encode_announcements(Family.IPV4, attributes, [bytes((26, 10, 1, 0, 64))])
    update = theirs(message)
    assert list(exabgp_message.Update(update.nlris, update.attributes).messages(negotiated())) == [message]

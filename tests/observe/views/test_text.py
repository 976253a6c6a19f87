"""Texts as JSON can hold them; addresses, prefixes and times."""

from __future__ import annotations

import msgspec
from hypothesis import example, given, settings
from hypothesis import strategies as st

from routed.bgp.attributes import next_hop_text as plain_next_hop
from routed.bgp.nlri import Family, from_network, to_text
from routed.observe import events
from routed.observe.events import EventKind, EventLog
from routed.observe.views.events import event_document
from routed.observe.views.text import address_text, next_hop_text, prefix_text, time_text
from routed.text import clean, plain

HOSTILE = "\udcff\ud800 \x1b[2J</script>\x00\n\u202e\U0001f4a3"


@settings(deadline=None)
@given(st.text(alphabet=st.characters()) | st.text(alphabet=st.sampled_from("\ud83d\udca3\udcffa\n")))
@example(HOSTILE)
def test_any_text_becomes_one_that_json_holds_and_no_other(text: str) -> None:
    shown = clean(text)
    assert msgspec.json.decode(msgspec.json.encode(shown)) == shown
    try:
        text.encode()
    except UnicodeEncodeError:
        assert "\ufffd" in shown or len(shown) < len(text), "two halves of a character are that character"
    else:
        assert shown == text


def test_what_is_not_text_stays_and_what_holds_text_is_cleaned_throughout() -> None:
    value = {"\udcff": ["\udcff", 1, None, True, 0.5, ("\ud800", {"a": "\udcff"})]}
    shown = plain(value)
    assert shown == {"\ufffd": ["\ufffd", 1, None, True, 0.5, ["\ufffd", {"a": "\ufffd"}]]}
    assert msgspec.json.decode(msgspec.json.encode(shown)) == shown


@settings(deadline=None)
@given(st.ip_addresses().flatmap(lambda a: st.integers(0, a.max_prefixlen).map(lambda n: (a, n))))
def test_prefixes_and_addresses_are_written_as_ipaddress_does(case: tuple[object, int]) -> None:
    from ipaddress import ip_network

    address, length = case
    network = ip_network(f"{address}/{length}", strict=False)
    family, one = Family.of(network), from_network(network)
    assert prefix_text(one, family) == to_text(one, family)
    packed = network.network_address.packed
    assert address_text(packed) == str(network.network_address)
    assert next_hop_text(packed) == plain_next_hop(packed)
    assert next_hop_text(packed.rjust(16, b"\1") * 2) == plain_next_hop(packed.rjust(16, b"\1") * 2)


@settings(deadline=None)
@given(st.binary(min_size=16, max_size=16) | st.binary(max_size=5).map(lambda b: b.rjust(16, b"\0")))
@example(bytes(10) + b"\xff\xff\x0a\0\0\1")
@example(bytes(12) + b"\x0a\0\0\1")
def test_ipv6_addresses_that_look_like_ipv4_too(packed: bytes) -> None:
    from ipaddress import IPv6Address

    assert address_text(packed) == str(IPv6Address(packed))


def test_times_are_rfc_3339_in_utc() -> None:
    assert time_text(0) == "1970-01-01T00:00:00Z"
    assert time_text(1763624040.9876) == "2025-11-20T07:34:00Z"
    assert time_text(1763624040.9876, milliseconds=True) == "2025-11-20T07:34:00.987Z"


def test_an_event_is_a_document_whatever_is_in_it() -> None:
    log = EventLog(clock=lambda: 1763624040.5)
    event = log.publish(
        EventKind.SESSION_DOWN, HOSTILE, HOSTILE, reason=HOSTILE, times=3, nested={HOSTILE: [HOSTILE]}
    )
    document = event_document(event)
    assert (document.number, document.kind, document.time) == (1, "session-down", "2025-11-20T07:34:00.500Z")
    data = msgspec.json.encode(document)
    assert msgspec.json.decode(data, type=type(document)) == document
    assert b"\x1b" not in data
    assert b"\n" not in data, "one line, as server-sent events need it"
    assert document.fields["times"] == 3
    assert document.peer == clean(HOSTILE)
    assert isinstance(event, events.Event)

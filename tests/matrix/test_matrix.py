"""The matrix of docs/interoperability.md: its tools, its form, and one of its rows, run anew."""

from __future__ import annotations

import os
import struct

import pytest

from tests.matrix.cells import FEATURES, NOT_OFFERED, YES, row
from tests.matrix.document import BEGIN, DOCUMENT, END, read, written
from tests.matrix.speakers import SPEAKERS, Speaker
from tests.matrix.wire import Wire, parse_frame, tcp_options
from tests.netns import Lab
from tests.raw_peer import message
from tests.recorder import Kind

#: The quickest row, and one that has everything but a table.
QUICK = "ExaBGP"


@pytest.mark.netns
@pytest.mark.parametrize("kind", SPEAKERS, ids=lambda kind: kind.name.rstrip("."))
def test_the_document_says_what_is_seen(kind: type[Speaker]) -> None:
    if kind.name != QUICK and not os.environ.get("ROUTED_LONG_TESTS"):
        pytest.skip("takes longer: set ROUTED_LONG_TESTS=1")
    try:
        title = kind.title()
    except LookupError as error:
        pytest.skip(str(error))
    written_down = read(DOCUMENT.read_text())
    (documented,) = [cells for name, cells in written_down.items() if name.startswith(kind.name)]
    assert row(kind, print) == documented, f"{title}: write it anew: python -m tests.matrix {kind.name}"


def test_every_cell_is_there() -> None:
    table = read(DOCUMENT.read_text())
    for kind in SPEAKERS:
        assert [name for name in table if name.startswith(kind.name)], kind.name
    for daemon, cells in table.items():
        assert list(cells) == list(FEATURES), daemon
        for cell in cells.values():
            assert cell.startswith((YES, "no: ", NOT_OFFERED)), (daemon, cell)


def test_the_table_is_read_as_it_was_written() -> None:
    table = {"A 1.0": {"IPv4": YES, "IPv6": "no: why"}, "B 2.0": {"IPv4": NOT_OFFERED}}
    text = written(f"before\n{BEGIN}\nold\n{END}\nafter", table, ("IPv4", "IPv6"))
    assert read(text) == {**table, "B 2.0": {"IPv4": NOT_OFFERED, "IPv6": "not run"}}
    assert text.startswith("before\n")
    assert text.endswith("after")
    for broken in ("no marks", f"{END} {BEGIN}", f"{BEGIN}\n| | a |\n| - | - |\n| b |\n{END}"):
        with pytest.raises(ValueError, match=r"table|zip"):
            read(broken)


def test_tcp_options() -> None:
    assert tcp_options(b"\x02\x04\x05\xb4\x01\x01\x13\x12" + bytes(16)) == {2, 1, 19}
    assert tcp_options(b"\x01\x00\x13\x02") == {1}
    for broken in (b"\x02", b"\x02\x00", b"\x13\x01"):
        assert tcp_options(broken) == {broken[0]}


def frame(source: bytes, sequence: int, payload: bytes, *, syn: bool = False, port: int = 179) -> bytes:
    """An Ethernet frame with an IPv4 packet with a TCP segment."""
    tcp = struct.pack("!HHIIBBHHH", 40000, port, sequence, 0, 5 << 4, 2 if syn else 16, 0, 0, 0) + payload
    ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(tcp), 0, 0, 255, 6, 0) + source + bytes((192, 0, 2, 2))
    # Ethernet pads what is short: the padding is not payload.
    return bytes(12) + b"\x08\x00" + (ip + tcp).ljust(46, b"\0")


@pytest.mark.netns
def test_messages_are_put_together(lab: Lab) -> None:
    """Split, out of order, twice; two connections from one port one after the other."""
    lab.machine("a", "192.0.2.1/24")
    wire = Wire(lab.machines["bridge"], "br0")
    stream = message(Kind.KEEPALIVE) * 2 + message(Kind.UPDATE, b"\0\0\0\0")
    source = bytes((192, 0, 2, 1))
    for start in (1000, 0xFFFFFFF0):
        pieces = [(start + 1 + at, stream[at : at + 10]) for at in range(0, len(stream), 10)]
        for sequence, payload in ((start, b""), *reversed(pieces), *pieces):
            segment = parse_frame(frame(source, sequence & 0xFFFFFFFF, payload, syn=not payload))
            assert segment is not None
            assert segment.payload == payload
            wire._take(segment)
    heard = wire.messages("192.0.2.1", "192.0.2.2")
    assert [one.kind for one in heard] == [Kind.KEEPALIVE, Kind.KEEPALIVE, Kind.UPDATE] * 2
    assert wire.ttls["192.0.2.1", "192.0.2.2"] == {255}
    assert wire.signed["192.0.2.1", "192.0.2.2"] == {False}
    assert parse_frame(frame(source, 1, b"x", port=80)) is None
    assert parse_frame(bytes(60)) is None
    wire._socket.close()

"""Routers, sources and a receiving peer for the tests of RIB, export and groups."""

from __future__ import annotations

from ipaddress import ip_network

from routed.bgp.attributes import AttributeSet
from routed.bgp.nlri import Family, from_network
from routed.bgp.path import Router, Source, SourceKind
from routed.bgp.update import parse_update

UPDATE, KEEPALIVE, ROUTE_REFRESH = 2, 4, 5
LOCAL_AS = 64512
OUR_ADDRESS = b"\x0a\0\0\1"
ROUTER = Router(OUR_ADDRESS, b"\x0a\0\0\x63", frozenset({OUR_ADDRESS}))


def nlri(text: str) -> bytes:
    """`10.0.0.0/26` or `fd00::/64` as NLRI."""
    return from_network(ip_network(text))


def address(number: int) -> bytes:
    """The address, router ID and next hop of peer `number`."""
    return bytes((10, 0, number >> 8, number & 0xFF))


def peer(
    number: int,
    kind: SourceKind = SourceKind.IBGP,
    *,
    client: bool = False,
    router: Router = ROUTER,
    local_as: int = LOCAL_AS,
    remote_as: int | None = None,
    allowed_local_as: int = 0,
    add_path: bool = False,
) -> Source:
    """The source that peer `number` is, 2 or more."""
    if remote_as is None:
        remote_as = local_as if kind is SourceKind.IBGP else 65000 + number
    return Source(
        f"peer{number}",
        kind,
        router,
        address=address(number),
        router_id=address(number),
        remote_as=remote_as,
        local_as=local_as,
        client=client,
        allowed_local_as=allowed_local_as,
        add_path=add_path,
    )


def local(kind: SourceKind = SourceKind.STATIC, router: Router = ROUTER) -> Source:
    """A source of local routes."""
    return Source(kind.value, kind, router, local_as=LOCAL_AS)


class Receiver:
    """The far end of a session: takes octets in any pieces, and keeps what the UPDATEs say.

    heard    (NLRI, attributes or None for a withdrawal), in order
    table    NLRI to attributes: the far end's Adj-RIB-In

    With `add_path` it has route keys, identifier and NLRI, where else is NLRI.
    """

    def __init__(
        self, family: Family, *, ibgp: bool = True, four_octet_as: bool = True, add_path: bool = False
    ) -> None:
        self.family = family
        self.ibgp = ibgp
        self.four_octet_as = four_octet_as
        self.add_path = frozenset({family}) if add_path else frozenset[Family]()
        self.heard: list[tuple[bytes, AttributeSet | None]] = []
        self.table: dict[bytes, AttributeSet] = {}
        self.messages = 0
        self.ends_of_rib = 0
        self.stale: set[bytes] | None = None
        """Between BoRR and EoRR: what was not announced again so far (RFC 7313 section 4)."""
        self._rest = b""

    @property
    def inside_message(self) -> bool:
        """True while a message is here in part."""
        return bool(self._rest)

    @property
    def missing(self) -> int:
        """Octets until the end of the message that is here in part."""
        if len(self._rest) < 19:
            raise ValueError("not even the header is here")
        return int.from_bytes(self._rest[16:18]) - len(self._rest)

    def receive(self, data: bytes) -> None:
        """Take octets from the other end."""
        rest = self._rest + data
        while len(rest) >= 19:
            assert rest[:16] == b"\xff" * 16, "the stream lost its message boundaries"
            size = int.from_bytes(rest[16:18])
            if len(rest) < size:
                break
            self._message(rest[18], rest[19:size])
            rest = rest[size:]
        self._rest = rest

    def _message(self, kind: int, body: bytes) -> None:
        if kind == ROUTE_REFRESH:
            if body[2] == 1:
                self.stale = set(self.table)
            else:
                assert self.stale is not None, "EoRR without BoRR"
                for one in self.stale & self.table.keys():
                    del self.table[one]
                self.stale = set()
            return
        if kind != UPDATE:
            assert kind == KEEPALIVE
            return
        self.messages += 1
        update = parse_update(
            body,
            four_octet_as=self.four_octet_as,
            families=frozenset(Family),
            ibgp=self.ibgp,
            add_path=self.add_path,
        )
        assert not update.errors
        if update.end_of_rib is not None:
            assert update.end_of_rib is self.family
            self.ends_of_rib += 1
        for family, prefixes in update.withdrawn:
            assert family is self.family
            for one in prefixes:
                self.heard.append((one, None))
                self.table.pop(one, None)
        for family, attributes, prefixes in update.announced:
            assert family is self.family
            for one in prefixes:
                self.heard.append((one, attributes))
                self.table[one] = attributes
                if self.stale:
                    self.stale.discard(one)

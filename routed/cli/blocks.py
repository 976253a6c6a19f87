"""`routed blocks`: IPAM as the node sees it, like `calicoctl ipam show`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Final

import typer

from routed.cli import options, servers
from routed.cli.answer import show
from routed.cli.failure import CommandError, ends_well
from routed.cli.table import Cell, Column, Row, table

if TYPE_CHECKING:
    from routed.cli.screen import Screen
    from routed.observe.documents import Block, Blocks, Borrowed, Pool

POOLS: Final = (
    Column("POOL", name=10),
    Column("CIDR"),
    Column("BLOCKS", right=True),
    Column("SIZE", right=True),
    Column("IN USE", right=True),
    Column("%", right=True),
    Column("BORROWED", right=True, drop=1),
    Column("ENCAPSULATION", drop=3),
    Column("NOTE", text=8, drop=2),
)
BLOCKS: Final = (
    Column("BLOCK"),
    Column("POOL", drop=2),
    Column("OWNER", name=8),
    Column("STATE"),
    Column("SIZE", right=True, drop=3),
    Column("IN USE", right=True),
    Column("ADVERTISED", drop=4),
    Column("LENT TO", text=14, drop=1),
    Column("PROBLEM", text=20),
)
#: Numbers from here on are told as a power of two.
_MOST_DIGITS: Final = 10**7
BORROWED: Final = (
    Column("ADDRESS"),
    Column("BLOCK"),
    Column("OWNER", name=8),
    Column("USED BY", name=8),
    Column("POD", text=12, drop=1),
)


@ends_well
def blocks(
    pools: Annotated[bool, typer.Option("--pools", help="The IP pools alone.")] = False,
    borrowed: Annotated[bool, typer.Option("--borrowed", help="Borrowed addresses alone.")] = False,
    every: Annotated[bool, typer.Option("--all", help="The blocks of all nodes, alone.")] = False,
    socket: options.Socket = None,
    node: options.Node = None,
    http: options.Http = None,
    output: options.Output = "table",
    watch: options.Watch = None,
    no_headers: options.NoHeaders = False,
) -> None:
    """Show pools, blocks and borrowed addresses.

    The pools and how full they are, this node's blocks, and the addresses that were borrowed: by this node
    from others' blocks, and by others from its own."""
    from routed.observe.documents import Blocks

    if pools + borrowed + every > 1:
        raise CommandError("--pools, --borrowed and --all: give one of them")
    client = servers.client(servers.Asked(socket, node, http))
    draw = pool_lines if pools else borrowed_lines if borrowed else all_lines if every else lines
    how = options.shown(output, watch, no_headers)
    show(lambda: client.get("/blocks"), Blocks, draw, how)


def lines(document: Blocks, screen: Screen) -> Iterator[str]:
    """Pools, the node's own blocks, and borrowed addresses."""
    own = [block for block in document.blocks if block.ours]
    parts: list[tuple[str, Callable[[], Iterator[str]], int]] = [
        ("", lambda: pool_lines(document, screen), len(document.pools)),
        (f"blocks of {document.node}", lambda: _blocks(own, screen), len(own)),
        ("borrowed", lambda: borrowed_lines(document, screen), _borrowed_in_all(document)),
    ]
    written = False
    for _, part, size in parts:
        if size:
            if written:
                yield ""
            yield from part()
            written = True
    if not written:
        yield "no pools and no blocks"
    elif not own:
        yield ""
        yield f"no block of {len(document.blocks)} is this node's" if document.blocks else "no blocks"


def pool_lines(document: Blocks, screen: Screen) -> Iterator[str]:
    """IP pools."""
    yield from table(POOLS, [_pool(pool) for pool in document.pools], screen)


def all_lines(document: Blocks, screen: Screen) -> Iterator[str]:
    """The blocks of all nodes."""
    yield from _blocks(document.blocks, screen)


def borrowed_lines(document: Blocks, screen: Screen) -> Iterator[str]:
    """Borrowed addresses, in and out."""
    found = {(one.address, one.node): one for one in (*document.borrowed_in, *document.borrowed_out)}
    yield from table(BORROWED, [_borrowed(one) for one in found.values()], screen)


def _borrowed_in_all(document: Blocks) -> int:
    return len(document.borrowed_in) + len(document.borrowed_out)


def _pool(pool: Pool) -> Row:
    used = pool.allocated / pool.size if pool.size else 0.0
    percent = f"{100 * used:.1f}" if used >= 0.001 else "0" if not used else "<0.1"
    notes = [*(["disabled"] if pool.disabled else []), *([] if pool.bgp_export else ["not exported"])]
    return (
        pool.name,
        pool.cidr,
        str(pool.blocks),
        size(pool.cidr, pool.size),
        str(pool.allocated),
        Cell(percent, "red" if used > 0.95 else "yellow" if used > 0.8 else ""),
        str(pool.borrowed) if pool.borrowed else "",
        pool.encapsulation,
        ", ".join(notes),
    )


def _blocks(found: Sequence[Block], screen: Screen) -> Iterator[str]:
    yield from table(BLOCKS, [_block(block) for block in found], screen)


def _block(block: Block) -> Row:
    notes = ["advertised"] if block.advertised else []
    notes += ["blackhole"] if block.blackholed else []
    return (
        block.cidr,
        block.pool or Cell("none", "yellow"),
        block.owner or "",
        Cell(block.state or "none", "" if block.state == "confirmed" else "yellow"),
        size(block.cidr, block.size),
        "?" if block.allocated is None else str(block.allocated),
        ", ".join(notes),
        ", ".join(f"{lent.node} {lent.addresses}" for lent in block.lent),
        Cell(block.problem or "", "red"),
    )


def _borrowed(one: Borrowed) -> Row:
    return (one.address, one.block, one.owner or "", one.node, one.pod or "")


def size(cidr: str, addresses: int) -> str:
    """How many addresses, as people can still read it. The API's number is not the true one for the
    largest."""
    length = cidr.rpartition("/")[2]
    if addresses < _MOST_DIGITS or not length.isdecimal():
        return str(addresses)
    return f"2^{(128 if ':' in cidr else 32) - int(length)}"

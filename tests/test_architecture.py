"""docs/architecture.md tells the truth: each room imports what its table says and nothing else, and every
module is named."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from enum import Enum, auto
from fnmatch import fnmatch
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
PACKAGE = REPOSITORY / "routed"
DOCUMENT = (REPOSITORY / "docs" / "architecture.md").read_text()
ANYTHING = "all"
LATE = "all, inside its functions"


class When(Enum):
    """When an import is done."""

    AT_ONCE = auto()
    LATE = auto()
    """Inside of a function."""
    NEVER = auto()
    """For the type checker alone."""


class Import(NamedTuple):
    """One module of routed imports another; names without `routed.`."""

    importer: str
    imported: str
    when: When


class Row(NamedTuple):
    """What rooms may import. A room is a module or package, without `routed.`."""

    rooms: tuple[str, ...]
    allowed: frozenset[str]
    what: str
    """Of LATE, ANYTHING or neither, what the cell says."""


def name_of(path: Path) -> str:
    """`bgp.nlri` of routed/bgp/nlri.py; the empty text of routed itself."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__").rstrip(".")


MODULES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def inside(module: str, room: str) -> bool:
    return module == room or module.startswith(f"{room}.")


def imports_of(name: str) -> Iterator[Import]:
    """All that a module imports of routed."""

    def within(node: ast.AST, when: When) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            match child:
                case ast.If(test=ast.Name(id="TYPE_CHECKING")):
                    yield from within(child, When.NEVER)
                case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Lambda() if when is When.AT_ONCE:
                    yield from within(child, When.LATE)
                case ast.ImportFrom(module=str(source), names=names) if source.split(".")[0] == "routed":
                    for one in names:
                        full = f"{source}.{one.name}".removeprefix("routed.")
                        found = full if full in MODULES else source.removeprefix("routed").removeprefix(".")
                        yield Import(name, found, when)
                case ast.Import(names=names):
                    for one in names:
                        if one.name.split(".")[0] == "routed":
                            yield Import(name, one.name.removeprefix("routed").removeprefix("."), when)
                case ast.ImportFrom(level=level):
                    assert not level, f"{name}: imports are absolute"
                case _:
                    yield from within(child, when)

    yield from within(ast.parse(MODULES[name].read_text()), When.AT_ONCE)


def table() -> Iterator[Row]:
    """The rows of the table of rooms."""
    section = DOCUMENT.partition("\n## Rooms\n")[2].partition("\n## ")[0]
    for line in section.splitlines():
        if line.startswith("| `"):
            rooms, _, imports = (cell.strip() for cell in line.strip("|").split(" | "))
            what = next((words for words in (LATE, ANYTHING) if imports.endswith(words)), "")
            yield Row(
                tuple(
                    one.removesuffix("/").removesuffix(".py").replace("/", ".")
                    for one in re.findall(r"`([^`]+)`", rooms)
                ),
                frozenset(re.findall(r"`([^`]+)`", imports)),
                what,
            )


ROWS = {room: row for row in table() for room in row.rooms}
#: What all rooms may import: the rows that say so.
SHARED = frozenset(re.findall(r"`([\w.]+)`", DOCUMENT.partition("All may import ")[2].partition(".\n")[0]))


@cache
def room_of(module: str) -> str:
    """The longest name in the table that holds a module; the empty text where none does."""
    return max((room for room in ROWS if inside(module, room)), key=len, default="")


def allowed(one: Import) -> bool:
    """As the table has it. What is for the type checker alone has to be of a room of which anything may be
    imported."""
    room = room_of(one.importer)
    if not one.imported or inside(one.imported, room) or one.imported in SHARED:
        return True
    row = ROWS[room]
    if row.what == ANYTHING or (row.what == LATE and one.when is not When.AT_ONCE):
        return True
    if one.when is When.NEVER:
        return one.imported.split(".")[0] in {name.split(".")[0] for name in (room, *row.allowed)}
    # A room that has a row of its own inside of another one is named by itself.
    return any(inside(one.imported, name) and inside(name, room_of(one.imported)) for name in row.allowed)


def test_each_module_is_in_a_room() -> None:
    assert not [name for name in MODULES if name and not room_of(name)]


@pytest.mark.parametrize("room", ROWS)
def test_a_room_imports_what_it_may(room: str) -> None:
    mine = [name for name in MODULES if room_of(name) == room]
    wrong = [one for name in mine for one in imports_of(name) if not allowed(one)]
    assert not wrong, f"not in the row of {room}: {wrong}"


def test_the_table_names_nothing_that_is_not_there_or_not_imported() -> None:
    for room, row in ROWS.items():
        found = {one.imported for name in MODULES if room_of(name) == room for one in imports_of(name)}
        for name in row.allowed if len(row.rooms) == 1 else ():
            assert any(inside(one, name) for one in found), f"{room} does not import {name}"
        assert any(inside(name, room) for name in MODULES), f"there is no {room}"
    assert not SHARED - set(MODULES)


def test_no_modules_import_each_other() -> None:
    """However far around: what is imported at once is there before the one that imports it."""
    TopologicalSorter(
        {
            name: {one.imported for one in imports_of(name) if one.when is When.AT_ONCE} - {""}
            for name in MODULES
        }
    ).prepare()


@pytest.mark.parametrize("package", sorted({name.rpartition(".")[0] for name in MODULES}))
def test_every_module_is_named(package: str) -> None:
    """In the section about its room, by its name or a pattern such as `etcd*.py`."""
    heading = f"\n## Inside `{package.partition('.')[0]}/`\n" if package else "\n## Rooms\n"
    section = DOCUMENT.partition(heading)[2].partition("\n## ")[0] or DOCUMENT.partition("\n## Rooms\n")[2]
    named = {one.rpartition("/")[2] for one in re.findall(r"`([\w*/]+\.py)`", section)}
    for name, path in MODULES.items():
        if name.rpartition(".")[0] == package and not path.stem.startswith("__"):
            assert any(fnmatch(path.name, one) for one in named), f"{name}: docs/architecture.md"

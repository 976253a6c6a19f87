"""Tables fit, and are aligned, whatever is in them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routed.cli.screen import Screen
from routed.cli.table import Cell, Column, Layout, Row, facts, table
from routed.cli.text import width
from tests.cli.test_text import HOSTILE, harmless

COLUMNS = (
    Column("NAME", name=6),
    Column("ADDRESS"),
    Column("N", right=True, drop=2),
    Column("NOTE", text=8, drop=1),
)
ROWS = [("control01", "192.0.2.1", "7", "a note of some length"), ("w", "192.0.2.128", "12345", "")]


@pytest.mark.parametrize(
    ("columns", "lines"),
    [
        (
            None,
            [
                "NAME       ADDRESS          N  NOTE",
                "control01  192.0.2.1        7  a note of some length",
                "w          192.0.2.128  12345",
            ],
        ),
        (
            45,  # the text is cut first
            [
                "NAME       ADDRESS          N  NOTE",
                "control01  192.0.2.1        7  a note of som…",
                "w          192.0.2.128  12345",
            ],
        ),
        (
            36,  # then a column goes, and the text has room again
            [
                "NAME       ADDRESS      NOTE",
                "control01  192.0.2.1    a note of s…",
                "w          192.0.2.128",
            ],
        ),
        (
            20,  # then all that may go; and then names are cut
            [
                "NAME     ADDRESS",
                "contro…  192.0.2.1",
                "w        192.0.2.128",
            ],
        ),
    ],
)
def test_a_table_gives_way_as_its_columns_say(columns: int | None, lines: list[str]) -> None:
    assert list(table(COLUMNS, ROWS, Screen(columns))) == lines


def test_columns_without_a_value_and_headers_are_left_out() -> None:
    rows = [("a", "192.0.2.1", "", ""), ("b", "192.0.2.2", "", "")]
    assert list(table(COLUMNS, rows, Screen(headers=False))) == ["a  192.0.2.1", "b  192.0.2.2"]


def test_colours_do_not_move_what_follows() -> None:
    rows: list[Row] = [(Cell("up", "green"), "x"), ("down", "y")]
    columns = (Column("STATE"), Column("Y"))
    plain = list(table(columns, rows, Screen()))
    coloured = list(table(columns, rows, Screen(colours=True)))
    assert coloured[1] == "\x1b[32mup   \x1b[0m  x"
    assert plain[1:] == ["up     x", "down   y"]


@given(st.lists(st.tuples(HOSTILE, HOSTILE, HOSTILE), min_size=1, max_size=6), st.integers(30, 120))
def test_columns_are_aligned_and_fit(cells: list[tuple[str, str, str]], columns: int) -> None:
    """A bar in each line's last column stands in the same place, however wide what is before it."""
    table_of = (Column("A", text=5), Column("B", name=5), Column("C", drop=1), Column(""))
    rows = [(*row, "|") for row in cells]
    lines = list(table(table_of, rows, Screen(columns)))
    assert len(lines) == len(rows) + 1
    assert all(harmless(line) for line in lines)
    assert all(line.endswith("|") for line in lines[1:])
    assert len({width(line) for line in lines[1:]}) == 1
    assert all(width(line) <= columns for line in lines)


def test_what_comes_after_the_sample_is_still_safe_and_whole() -> None:
    layout = Layout((Column("A"), Column("B")), [("aa", "")], Screen(), more=True)
    assert layout.line(("aa", "")) == "aa"
    assert layout.line(("aa", "bb")) == "aa  bb"
    assert layout.line(("longer", "b")) == "longer  b"
    assert layout.line(("\x1b[2J", "b")) == "\\x1b[2J  b"
    assert layout.line(("日", "b")) == "日  b"


def test_facts_are_wrapped_below_themselves() -> None:
    pairs = [("one", "a b c d e f g h i j k l m"), ("nothing", ""), ("two", "\x1b")]
    assert list(facts(pairs, Screen(26))) == [
        "one  a b c d e f g h i j k",
        "     l m",
        "two  \\x1b",
    ]

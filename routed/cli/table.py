"""Tables for people: aligned, and as wide as the terminal at most."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import itemgetter
from typing import Final

from routed.cli.screen import Screen
from routed.cli.text import cut, pad, safe, width, wrap

_GAP: Final = "  "


@dataclass(frozen=True, slots=True)
class Column:
    """One column, and what becomes of it where the table is too wide:

    text  first, texts are cut to so many columns of the terminal; 0: this is none
    drop  then those with the highest number are left out; 0: it stays
    name  at last, names are cut to so many; 0: this is none
    """

    title: str
    right: bool = False
    text: int = 0
    drop: int = 0
    name: int = 0


@dataclass(frozen=True, slots=True)
class Cell:
    """A text with a colour, where the terminal has some. The text is a stranger's until it is shown."""

    text: str
    colour: str = ""


Row = Sequence[str | Cell]
"""A cell for each column."""


def table(columns: Sequence[Column], rows: Sequence[Row], screen: Screen) -> Iterator[str]:
    """The lines of a table. Columns whose cells are all empty are left out."""
    texts = safe_rows([tuple(map(_text, row)) for row in rows])
    layout = Layout(columns, texts, screen)
    if screen.headers:
        yield layout.header()
    for row, cells in zip(rows, texts, strict=True):
        colours = [cell.colour if isinstance(cell, Cell) else "" for cell in row]
        yield layout.line(cells, colours if screen.colours and any(colours) else None)


def _text(cell: str | Cell) -> str:
    return cell.text if isinstance(cell, Cell) else cell


def safe_rows(rows: Sequence[Sequence[str]]) -> Sequence[Sequence[str]]:
    """Each cell as `safe` has it; many cells are looked at together."""
    text = "".join(chain.from_iterable(rows))
    if text.isascii() and text.isprintable():
        return rows
    return [tuple(map(safe, row)) for row in rows]


def _picker(places: Sequence[int]) -> Callable[[Sequence[str]], tuple[str, ...]]:
    """Takes the cells at these places."""
    if len(places) > 1:
        return itemgetter(*places)
    return lambda cells: tuple(cells[at] for at in places)  # itemgetter would give no tuple


def _widest(column: Sequence[str]) -> int:
    """The width of the widest of safe cells."""
    return max(map(len if "".join(column).isascii() else width, column), default=0)


class Layout:
    """Which columns are shown, and how wide, worked out from safe cells: of all rows, or of the first ones.
    What comes later is cut where it may be, and else moves the rest of its line."""

    def __init__(
        self,
        columns: Sequence[Column],
        cells: Sequence[Sequence[str]],
        screen: Screen,
        *,
        more: bool = False,
    ) -> None:
        """`more`: other rows will come; a column that is empty so far may have something in them."""
        self._columns = columns
        self._screen = screen
        widths = [_widest(column) for column in zip(*cells, strict=True)] or [0] * len(columns)
        headers = screen.headers
        self._shown = [at for at, wide in enumerate(widths) if wide or more or not cells]
        self._widths = {at: max(widths[at], len(columns[at].title) if headers else 0) for at in self._shown}
        if screen.columns is not None:
            self._fit(screen.columns)
        self._total = self._taken()
        self._pick = _picker(self._shown)
        self._format = _GAP.join(
            f"%{'' if columns[at].right else '-'}{self._widths[at]}s" for at in self._shown
        )

    def _taken(self) -> int:
        return sum(self._widths.values()) + len(_GAP) * max(0, len(self._widths) - 1)

    def _fit(self, most: int) -> None:
        """As `Column` says, until it fits, or all that is left must stay."""
        texts = {at: self._columns[at].text for at in self._shown if self._columns[at].text}
        names = {at: self._columns[at].name for at in self._shown if self._columns[at].name}
        droppable = sorted(
            (at for at in self._shown if self._columns[at].drop), key=lambda at: self._columns[at].drop
        )
        whole = self._widths.copy()
        while not self._cut(texts, most) and droppable:
            gone = droppable.pop()
            self._shown.remove(gone)
            self._widths = {at: whole[at] for at in self._shown}
            texts.pop(gone, None)
            names.pop(gone, None)
        self._cut(names, most)

    def _cut(self, least: Mapping[int, int], most: int) -> bool:
        """Make these columns narrower, the widest first, none narrower than its title. True: it fits now."""
        floors = {at: max(wide, len(self._columns[at].title)) for at, wide in least.items()}
        while self._taken() > most:
            spare = [at for at, floor in floors.items() if self._widths[at] > floor]
            if not spare:
                return False
            self._widths[max(spare, key=self._widths.__getitem__)] -= 1
        return True

    def header(self) -> str:
        """The titles."""
        line = self.line([column.title for column in self._columns])
        return self._screen.paint(line, "bold")

    def line(self, cells: Sequence[str], colours: Sequence[str] | None = None) -> str:
        """A line of safe cells; of any cells where they are ASCII and print."""
        if colours is None:
            line = self._format % self._pick(cells)
            # Nothing to escape, and nothing to cut: no need to look at every cell.
            fits = self._screen.columns is None or len(line) == self._total
            if fits and line.isascii() and line.isprintable():
                return line.rstrip()
        return self._line(cells, colours)

    def _line(self, cells: Sequence[str], colours: Sequence[str] | None) -> str:
        parts = []
        limited = self._screen.columns is not None
        for at in self._shown:
            text = safe(cells[at])
            if limited and (self._columns[at].text or self._columns[at].name):
                text = cut(text, self._widths[at])
            padded = pad(text, self._widths[at], self._columns[at].right)
            parts.append(self._screen.paint(padded, colours[at]) if colours and colours[at] else padded)
        return _GAP.join(parts).rstrip()


def facts(pairs: Iterable[tuple[str, str | Cell]], screen: Screen) -> Iterator[str]:
    """Names and values, a line each; long values go on below themselves. Empty values are left out."""
    shown = [(name, value) for name, value in pairs if _text(value)]
    names = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        text = safe(_text(value))
        room = None if screen.columns is None else max(20, screen.columns - names - len(_GAP))
        lines = [text] if room is None else wrap(text, room)
        colour = value.colour if isinstance(value, Cell) else ""
        for at, line in enumerate(lines):
            title = name if at == 0 else ""
            yield f"{title:{names}}{_GAP}{screen.paint(line, colour)}".rstrip()

"""A document of the API as the user wants it: a table, JSON or YAML; once, or again and again."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

from routed.cli.client import UnreachableError
from routed.cli.failure import CommandError
from routed.cli.screen import Screen, redraw, screen, write
from routed.cli.text import json_escaped, safe, safe_lines
from routed.text import escape

if TYPE_CHECKING:
    import msgspec

    D = TypeVar("D", bound=msgspec.Struct)

#: For `-o`.
OUTPUTS: Final = ("table", "json", "yaml")


@dataclass(frozen=True, slots=True)
class Shown:
    """How: the options that all commands have. `watch`: seconds between two looks; None: one look."""

    output: str = "table"
    watch: float | None = None
    headers: bool = True

    def __post_init__(self) -> None:
        if self.output not in OUTPUTS:
            raise CommandError(f"-o {self.output!r}: use table, json or yaml")
        if self.watch is not None and not 0.1 <= self.watch <= 86400:
            raise CommandError(f"--watch {self.watch:g}: 0.1 to 86400 seconds")


def show(
    ask: Callable[[], bytes],
    kind: type[D],
    draw: Callable[[D, Screen], Iterator[str]],
    how: Shown,
) -> D:
    """Ask, and show the answer, which is also returned; with `how.watch` until the user ends it.

    `ask` raises `CommandError`. `draw` makes the lines of the table.
    """
    document = ask()
    decoded = decode(document, kind)
    if how.watch is None:
        write(_lines(document, decoded, draw, how, screen(how.headers)))
        return decoded
    return _watch(document, ask, kind, draw, how, how.watch)


def _watch(
    document: bytes,
    ask: Callable[[], bytes],
    kind: type[D],
    draw: Callable[[D, Screen], Iterator[str]],
    how: Shown,
    interval: float,
) -> D:
    """`document` is the first answer. What goes wrong later is said, and tried again."""
    if sys.stdout.isatty():

        def lines() -> Iterator[str]:
            try:
                again = ask()
                yield from _lines(again, decode(again, kind), draw, how, screen(how.headers))
            except CommandError as failure:
                yield f"routed: {failure}"
                yield "trying again"

        redraw(safe(" ".join(("routed", *sys.argv[1:]))), lines, interval)
    separator = {"table": [""], "yaml": ["---"], "json": []}[how.output]
    said = ""
    while True:
        try:
            decoded = decode(document, kind)
            write(_lines(document, decoded, draw, how, screen(how.headers), one_line=True))
            write(separator)
            sys.stdout.flush()
        except CommandError as failure:
            said = _say_once(failure, said)
        while True:
            time.sleep(interval)
            try:
                document = ask()
                break
            except CommandError as failure:
                said = _say_once(failure, said)


def _say_once(failure: CommandError, said: str) -> str:
    """Say it, unless it was said last."""
    text = f"routed: {failure}; trying again"
    if text != said:
        print(text, file=sys.stderr)
    return text


def _lines(
    document: bytes,
    decoded: D,
    draw: Callable[[D, Screen], Iterator[str]],
    how: Shown,
    where: Screen,
    *,
    one_line: bool = False,
) -> Iterator[str]:
    match how.output:
        case "json":
            yield from as_json(document, one_line=one_line).split("\n")
        case "yaml":
            yield from as_yaml(document).split("\n")
        case _:
            yield from draw(decoded, where)


def decode(document: bytes, kind: type[D]) -> D:
    """Raises `CommandError` where the document is of another API."""
    import msgspec

    try:
        return msgspec.json.decode(document, type=kind)
    except msgspec.DecodeError as error:
        raise UnreachableError(
            f"an answer that is not understood ({error}): are this command and the routed that runs of the "
            "same version?"
        ) from None


def as_json(document: bytes, *, one_line: bool = False) -> str:
    """The same document, indented or in one line, and safe for a terminal."""
    import msgspec

    try:
        text = msgspec.json.format(document, indent=-1 if one_line else 2).decode()
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UnreachableError(f"an answer that is not JSON ({error})") from None
    return text if is_harmless(document) else safe_lines(text, json_escaped)


def is_harmless(document: bytes) -> bool:
    """Whether there is nothing to escape in a JSON document that could be read: JSON has no control
    characters inside of strings (RFC 8259 section 7), but DEL is none to it. In a hundredth of the time that
    it takes to look at each character."""
    return document.isascii() and b"\x7f" not in document


def as_yaml(document: bytes) -> str:
    """The same document as YAML, safe for a terminal."""
    import msgspec
    import yaml

    class Dumper(yaml.CSafeDumper if yaml.__with_libyaml__ else yaml.SafeDumper):  # type: ignore[misc]
        """Quotes what has to be escaped."""

        def ignore_aliases(self, data: Any) -> bool:
            return True

    def text(dumper: Any, value: str) -> Any:
        style = None if value.isprintable() else '"'
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)

    Dumper.add_representer(str, text)
    try:
        data = msgspec.json.decode(document)
    except msgspec.DecodeError as error:
        raise UnreachableError(f"an answer that is not JSON ({error})") from None
    dumped: str = yaml.dump(
        data, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=2**30, default_flow_style=False
    )
    return safe_lines(dumped, escape).removesuffix("\n")

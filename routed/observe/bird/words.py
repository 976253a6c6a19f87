"""A command cut into words, as BIRD's lexer does (conf/cf-lex.l)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import translate
from typing import Final, NamedTuple

from routed.observe.bird.replies import PARSE_ERROR, CommandError, syntax_error

_WORD: Final = re.compile(
    r"""\s+ | (?P<comment>\#.*) | "(?P<text>[^"]*)" | '(?P<symbol>[^']*)' | (?P<word>[^\s"'\#]+)""",
    re.VERBOSE,
)


class Word(NamedTuple):
    """One word. `quoted`: it was in double quotes, and is a pattern or a file's name, never a keyword."""

    text: str
    quoted: bool = False

    def __str__(self) -> str:
        return self.text


def split(line: str) -> list[Word]:
    """The words of a command. Raises CommandError for quotes that do not end."""
    words: list[Word] = []
    at = 0
    while at < len(line):
        found = _WORD.match(line, at)
        if found is None:
            raise CommandError(PARSE_ERROR, "Unknown character")
        at = found.end()
        kind = found.lastgroup
        if kind == "text":
            words.append(Word(found["text"], quoted=True))
        elif kind in ("word", "symbol"):
            words.append(Word(found[kind]))
    return words


def none_left(words: Sequence[Word]) -> None:
    """Raises CommandError where there are words that the command does not take."""
    if words:
        raise syntax_error()


def matcher(pattern: str) -> re.Pattern[str]:
    """BIRD's patterns: `*` and `?` (lib/patmatch.c)."""
    return re.compile(translate(pattern.replace("[", "[[]")))

"""Calico's label selectors: parsed once into frozen nodes, then matched against labels.

The grammar, loosest binding first (a `!` binds to one operation, so `!a == 'b'` denies the comparison):

    selector   = [ or ]                                   empty: matches all
    or         = and { "||" and }
    and        = operation { "&&" operation }
    operation  = { "!" } ( "(" or ")" | "all()" | "global()" | "has(" KEY ")" | KEY comparison )
    comparison = ( "==" | "!=" ) STRING | ( "in" | "not in" ) "{" [ STRING { "," STRING } [ "," ] ] "}"
               | ( "contains" | "starts with" | "ends with" ) STRING
    KEY        = 1 to 512 of letters, digits, "_", ".", "/", "-"
    STRING     = text in single or double quotes, without that quote in it; there are no escapes
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

MAX_DEPTH = 64
"""How deep parentheses may nest: real selectors stay below five, and the parser recurses."""

MAX_KEY_LENGTH = 512

NO_KEYS: frozenset[str] = frozenset()


class SelectorError(ValueError):
    """A selector that does not parse. `position` counts characters from 0; `expected` belongs there."""

    def __init__(self, text: str, position: int, expected: str) -> None:
        self.position = position
        self.expected = expected
        rest = text[position : position + 20]
        found = f"found {rest!r}" if rest else "the selector ends"
        super().__init__(f"at character {position + 1}: expected {expected}, but {found}")


class Expression(Protocol):
    """A node of a parsed selector. `str` gives it as a selector reads, in one canonical way."""

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether a thing with these labels is selected."""

    def keys(self) -> frozenset[str]:
        """The label keys that the outcome can depend on."""


@dataclass(frozen=True, slots=True)
class All:
    """`all()`: everything."""

    def matches(self, labels: Mapping[str, str]) -> bool:
        return True

    def keys(self) -> frozenset[str]:
        return NO_KEYS

    def __str__(self) -> str:
        return "all()"


@dataclass(frozen=True, slots=True)
class Global:
    """`global()`: everything too; Calico tells it from `all()` only where namespaces are selected."""

    def matches(self, labels: Mapping[str, str]) -> bool:
        return True

    def keys(self) -> frozenset[str]:
        return NO_KEYS

    def __str__(self) -> str:
        return "global()"


@dataclass(frozen=True, slots=True)
class Has:
    """`has(key)`."""

    key: str

    def matches(self, labels: Mapping[str, str]) -> bool:
        return self.key in labels

    def keys(self) -> frozenset[str]:
        return frozenset((self.key,))

    def __str__(self) -> str:
        return f"has({self.key})"


@dataclass(frozen=True, slots=True)
class Comparison:
    """One label compared with one text."""

    key: str
    value: str

    def keys(self) -> frozenset[str]:
        return frozenset((self.key,))


class Equal(Comparison):
    """`key == 'value'`."""

    __slots__ = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        return labels.get(self.key) == self.value

    def __str__(self) -> str:
        return f"{self.key} == {_quote(self.value)}"


class NotEqual(Comparison):
    """`key != 'value'`: true also where the key is absent."""

    __slots__ = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        return labels.get(self.key) != self.value

    def __str__(self) -> str:
        return f"{self.key} != {_quote(self.value)}"


class Contains(Comparison):
    """`key contains 'value'`."""

    __slots__ = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        label = labels.get(self.key)
        return label is not None and self.value in label

    def __str__(self) -> str:
        return f"{self.key} contains {_quote(self.value)}"


class StartsWith(Comparison):
    """`key starts with 'value'`."""

    __slots__ = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        label = labels.get(self.key)
        return label is not None and label.startswith(self.value)

    def __str__(self) -> str:
        return f"{self.key} starts with {_quote(self.value)}"


class EndsWith(Comparison):
    """`key ends with 'value'`."""

    __slots__ = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        label = labels.get(self.key)
        return label is not None and label.endswith(self.value)

    def __str__(self) -> str:
        return f"{self.key} ends with {_quote(self.value)}"


@dataclass(frozen=True, slots=True)
class In:
    """`key in {'a', 'b'}`."""

    key: str
    values: frozenset[str]

    def matches(self, labels: Mapping[str, str]) -> bool:
        return labels.get(self.key) in self.values

    def keys(self) -> frozenset[str]:
        return frozenset((self.key,))

    def __str__(self) -> str:
        return f"{self.key} in {_quote_set(self.values)}"


@dataclass(frozen=True, slots=True)
class NotIn:
    """`key not in {'a', 'b'}`: true also where the key is absent."""

    key: str
    values: frozenset[str]

    def matches(self, labels: Mapping[str, str]) -> bool:
        return labels.get(self.key) not in self.values

    def keys(self) -> frozenset[str]:
        return frozenset((self.key,))

    def __str__(self) -> str:
        return f"{self.key} not in {_quote_set(self.values)}"


@dataclass(frozen=True, slots=True)
class Not:
    """`!operand`."""

    operand: Expression

    def matches(self, labels: Mapping[str, str]) -> bool:
        return not self.operand.matches(labels)

    def keys(self) -> frozenset[str]:
        return self.operand.keys()

    def __str__(self) -> str:
        return f"!({self.operand})" if isinstance(self.operand, And | Or) else f"!{self.operand}"


@dataclass(frozen=True, slots=True)
class And:
    """`a && b && ...`."""

    operands: tuple[Expression, ...]

    def matches(self, labels: Mapping[str, str]) -> bool:
        return all(operand.matches(labels) for operand in self.operands)

    def keys(self) -> frozenset[str]:
        return NO_KEYS.union(*(operand.keys() for operand in self.operands))

    def __str__(self) -> str:
        return " && ".join(f"({o})" if isinstance(o, And | Or) else str(o) for o in self.operands)


@dataclass(frozen=True, slots=True)
class Or:
    """`a || b || ...`."""

    operands: tuple[Expression, ...]

    def matches(self, labels: Mapping[str, str]) -> bool:
        return any(operand.matches(labels) for operand in self.operands)

    def keys(self) -> frozenset[str]:
        return NO_KEYS.union(*(operand.keys() for operand in self.operands))

    def __str__(self) -> str:
        return " || ".join(f"({o})" if isinstance(o, Or) else str(o) for o in self.operands)


def _quote(value: str) -> str:
    return f'"{value}"' if "'" in value else f"'{value}'"


def _quote_set(values: frozenset[str]) -> str:
    return "{" + ", ".join(_quote(value) for value in sorted(values)) + "}"


@dataclass(frozen=True, slots=True)
class Selector:
    """A parsed selector. Two are equal when their nodes are, whatever their white space and quotes.
    `text` keeps how it was written, `str` is the canonical form."""

    root: Expression
    text: str = field(default="", compare=False)

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether a thing with these labels is selected."""
        return self.root.matches(labels)

    def labels_used(self) -> frozenset[str]:
        """The label keys that the outcome can depend on: a change of any other label changes nothing."""
        return self.root.keys()

    def __str__(self) -> str:
        return str(self.root)


def parse_selector(text: str) -> Selector:
    """The selector that `text` says; an empty one matches all. Raises SelectorError."""
    parser = _Parser(text)
    if parser.at_end():
        return Selector(All(), text)
    root = parser.disjunction(0)
    if not parser.at_end():
        raise parser.error("'&&', '||' or the end")
    return Selector(root, text)


_SPACE = re.compile(r"[ \t\r\n]*")
_KEY = re.compile(r"[A-Za-z0-9_./-]+")
_STRING = re.compile(r"'([^']*)'|\"([^\"]*)\"")
_HAS = re.compile(r"has\([ \t\r\n]*([A-Za-z0-9_./-]+)[ \t\r\n]*\)")
_ALL = re.compile(r"all\([ \t\r\n]*\)")
_GLOBAL = re.compile(r"global\([ \t\r\n]*\)")
_OPERATOR = re.compile(r"==|!=|in\b|not[ \t\r\n]*in\b|contains\b|starts[ \t\r\n]*with\b|ends[ \t\r\n]*with\b")

_COMPARISONS: dict[str, type[Equal | NotEqual | Contains | StartsWith | EndsWith]] = {
    "==": Equal,
    "!=": NotEqual,
    "contains": Contains,
    "startswith": StartsWith,
    "endswith": EndsWith,
}
_SETS: dict[str, type[In | NotIn]] = {"in": In, "notin": NotIn}


class _Parser:
    """Recursive descent over the text; `position` is always at the next thing that is not white space."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.position = 0
        self.skip(_SPACE)

    def error(self, expected: str) -> SelectorError:
        return SelectorError(self.text, self.position, expected)

    def at_end(self) -> bool:
        return self.position == len(self.text)

    def skip(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        """What the pattern matches here, and passes over it and the white space behind; None: no match."""
        match = pattern.match(self.text, self.position)
        if match is not None:
            space = _SPACE.match(self.text, match.end())
            self.position = space.end() if space else match.end()
        return match

    def take(self, symbol: str) -> bool:
        """Passes over the symbol and the white space behind it; False where it is not here."""
        if not self.text.startswith(symbol, self.position):
            return False
        self.position += len(symbol)
        self.skip(_SPACE)
        return True

    def disjunction(self, depth: int) -> Expression:
        operands = [self.conjunction(depth)]
        while self.take("||"):
            operands.append(self.conjunction(depth))
        return operands[0] if len(operands) == 1 else Or(tuple(operands))

    def conjunction(self, depth: int) -> Expression:
        operands = [self.operation(depth)]
        while self.take("&&"):
            operands.append(self.operation(depth))
        return operands[0] if len(operands) == 1 else And(tuple(operands))

    def operation(self, depth: int) -> Expression:
        denied = False
        while self.take("!"):
            denied = not denied
        operand = self.operand(depth)
        if not denied:
            return operand
        return operand.operand if isinstance(operand, Not) else Not(operand)

    def operand(self, depth: int) -> Expression:
        if self.text.startswith("(", self.position):
            if depth == MAX_DEPTH:
                raise self.error(f"at most {MAX_DEPTH} nested parentheses")
            self.take("(")
            inner = self.disjunction(depth + 1)
            if not self.take(")"):
                raise self.error("'&&', '||' or ')'")
            return inner
        start = self.position
        if has := self.skip(_HAS):
            return Has(self.bounded_key(has[1], start))
        if self.skip(_ALL):
            return All()
        if self.skip(_GLOBAL):
            return Global()
        if key := self.skip(_KEY):
            return self.comparison(self.bounded_key(key[0], start))
        raise self.error("a label key, has(key), all(), '!' or '('")

    def bounded_key(self, key: str, start: int) -> str:
        if len(key) > MAX_KEY_LENGTH:
            raise SelectorError(self.text, start, f"a label key of at most {MAX_KEY_LENGTH} characters")
        return key

    def comparison(self, key: str) -> Expression:
        operator = self.skip(_OPERATOR)
        if operator is None:
            raise self.error(
                "'==', '!=', 'in', 'not in', 'contains', 'starts with' or 'ends with' after the key"
            )
        word = "".join(operator[0].split())
        if word in _SETS:
            return _SETS[word](key, self.set_of_strings())
        return _COMPARISONS[word](key, self.string())

    def string(self) -> str:
        match = self.skip(_STRING)
        if match is None:
            raise self.error("a text in quotes")
        return match[1] if match[1] is not None else match[2]

    def set_of_strings(self) -> frozenset[str]:
        if not self.take("{"):
            raise self.error("'{'")
        values: set[str] = set()
        while not self.take("}"):
            values.add(self.string())
            if not self.take(",") and not self.text.startswith("}", self.position):
                raise self.error("',' or '}'")
        return frozenset(values)

"""Walks a document field by field, and notes every fault with its path instead of stopping at the first."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import TypeVar, cast

from routed.resources.record import NO_LABELS, Key, Problem, Severity
from routed.text import escaped

T = TypeVar("T")

_NOTHING: Mapping[object, object] = {}
_SHOWN_CHARACTERS = 60

MAX_PROBLEMS = 20
"""How many Problems of one record are told one by one."""


class InvalidValueError(ValueError):
    """Raised by the reader of a single value; its text says what is wrong and what to write instead."""


def show(value: object) -> str:
    """A value as a reason may quote it: one short line of printable characters. Structures are only named,
    since what is in them may be of another field, a secret even."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        # Only the ends are shown, so a text of a megabyte is cut before it is escaped.
        return shorten(repr(value if len(value) <= 200 else value[:100] + value[-100:]))
    if isinstance(value, int):
        # Python refuses to print integers of thousands of digits.
        return str(value) if value.bit_length() <= 128 else "a number of over 128 bits"
    if isinstance(value, float):
        return repr(value)
    return kind_of(value)


def kind_of(value: object) -> str:
    """What sort of thing a value is, in words."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, str):
        return "a text"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, Mapping):
        return "a mapping"
    return "a list" if isinstance(value, list | tuple) else f"a {type(value).__name__}"


def shorten(text: str) -> str:
    """The text, its middle left out where it is too long for a line."""
    if len(text) <= _SHOWN_CHARACTERS:
        return text
    half = _SHOWN_CHARACTERS // 2
    return f"{text[:half]}...{text[-half:]}"


def step(path: str, key: object) -> str:
    """The path of `key` in the mapping at `path`: `path.key`, or `path[key]` where it is no plain word."""
    word = key if isinstance(key, str) else show(key)
    if word and word.isascii() and word.replace("-", "_").isidentifier():
        return f"{path}.{word}" if path else word
    return f"{path}[{escaped(word)}]"


class Faults:
    """Gathers the Problems of one record."""

    def __init__(self, key: Key | None = None) -> None:
        self.key = key
        self.problems: list[Problem] = []
        self.rejected = False
        self.left_out = 0

    def add(self, path: str, reason: str, severity: Severity = "error") -> None:
        """Notes a fault; an error rejects the record."""
        self.rejected = self.rejected or severity == "error"
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(Problem(self.key, path, reason, severity=severity))
        else:
            self.left_out += 1

    def all_problems(self) -> tuple[Problem, ...]:
        """What was noted. A list of 100,000 bad elements is one mistake: its rest is only counted."""
        if not self.left_out:
            return tuple(self.problems)
        severity: Severity = "error" if self.rejected else "warning"
        rest = Problem(self.key, "", f"and {self.left_out} faults more in this record", severity=severity)
        return (*self.problems, rest)


class Fields:
    """The fields of one mapping in a record.

    A field that is absent, null or an empty text is not given. A field that cannot be read is noted, and a
    placeholder comes back: the record is rejected in the end, so the placeholder never leaves the parser."""

    __slots__ = ("faults", "path", "values")

    def __init__(self, values: Mapping[object, object], path: str, faults: Faults) -> None:
        self.values = values
        self.path = path
        self.faults = faults

    def get(self, name: str) -> object:
        """The raw value, None where the field is not given."""
        value = self.values.get(name)
        return None if value == "" else value

    def error(self, name: str, reason: str) -> None:
        """Notes an error at the field."""
        self.faults.add(step(self.path, name), reason)

    def warn(self, name: str, reason: str) -> None:
        """Notes a warning at the field."""
        self.faults.add(step(self.path, name), reason, "warning")

    def read(self, name: str, reader: Callable[[object], T]) -> T | None:
        """The field, None where it is not given."""
        value = self.get(name)
        if value is None:
            return None
        try:
            return reader(value)
        except InvalidValueError as fault:
            self.error(name, str(fault))
            return None

    def read_or(self, name: str, reader: Callable[[object], T], default: T) -> T:
        """The field, `default` where it is not given."""
        value = self.read(name, reader)
        return default if value is None else value

    def required(self, name: str, reader: Callable[[object], T]) -> T:
        """The field, which must be given."""
        if self.get(name) is None:
            self.error(name, "is missing: it must be given")
        return cast(T, self.read(name, reader))

    def items(self, name: str) -> list[object] | tuple[object, ...]:
        """The raw elements of a list; none where the field is not given."""
        value = self.get(name)
        if value is None:
            return ()
        if isinstance(value, list | tuple):
            return value
        self.error(name, f"must be a list, but is {kind_of(value)}")
        return ()

    def read_list(self, name: str, reader: Callable[[object], T]) -> tuple[T, ...]:
        """A list of values, empty where the field is not given."""
        read: list[T] = []
        for index, item in enumerate(self.items(name)):
            try:
                read.append(reader(item))
            except InvalidValueError as fault:
                self.error_at(name, index, str(fault))
        return tuple(read)

    def error_at(self, name: str, index: int, reason: str) -> None:
        """Notes an error at an element of a list."""
        self.faults.add(f"{step(self.path, name)}[{index}]", reason)

    def warn_at(self, name: str, index: int, reason: str) -> None:
        """Notes a warning at an element of a list."""
        self.faults.add(f"{step(self.path, name)}[{index}]", reason, "warning")

    def section(self, name: str) -> Fields:
        """The fields of a mapping inside this one; of an empty one where it is not given."""
        value = self.get(name)
        path = step(self.path, name)
        if value is None:
            return Fields(_NOTHING, path, self.faults)
        # What is missing in a thing that is no mapping is not worth a word beside that.
        return self._fields(value, path) or Fields(_NOTHING, path, Faults())

    def sections(self, name: str) -> Iterator[Fields]:
        """The fields of each mapping in a list of them."""
        for index, item in enumerate(self.items(name)):
            path = f"{step(self.path, name)}[{index}]"
            fields = self._fields(item, path)
            if fields is not None:
                yield fields
            elif item is None:
                self.faults.add(path, "must be a mapping, but is null")

    def _fields(self, value: object, path: str) -> Fields | None:
        if isinstance(value, Mapping):
            return Fields(value, path, self.faults)
        if value is not None:
            self.faults.add(path, f"must be a mapping, but is {kind_of(value)}")
        return None

    def read_texts(self, name: str) -> Mapping[str, str]:
        """A mapping of texts to texts, such as labels; empty where the field is not given. A null in it is an
        empty text, as it is to Kubernetes."""
        read: dict[str, str] = {}
        section = self.section(name)
        for key, value in section.values.items():
            if value is None and isinstance(key, str) and is_encodable(key):
                read[key] = ""
            elif (
                isinstance(key, str) and isinstance(value, str) and is_encodable(key) and is_encodable(value)
            ):
                read[key] = value
            else:
                self.faults.add(step(section.path, key), _wrong_text(key, value))
        return MappingProxyType(read) if read else NO_LABELS


def is_encodable(text: str) -> bool:
    """Whether the text has a UTF-8 form: JSON can smuggle in half a surrogate pair, which has none."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _wrong_text(key: object, value: object) -> str:
    for what, part in (("key", key), ("value", value)):
        if not isinstance(part, str):
            return f"the {what} must be a text, but is {kind_of(part)}: put it in quotes"
    return "holds half a surrogate pair, which is no character"

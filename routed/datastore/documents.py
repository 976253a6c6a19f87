"""Text to documents: YAML or JSON, with the line of every field, and bounds on what a text may expand to.

YAML is read from libyaml's events rather than by PyYAML's own loader: the nesting is then bounded before
any recursion, aliases are counted before they multiply, and plain words mean what they mean to Kubernetes
(Go's YAML), so that `65000:42` is a text and not a number of base 60, and a date is a text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import yaml

MAX_DEPTH = 64
"""How deep mappings and lists may nest; no record needs ten."""

MAX_EXPANSION = 100_000
"""How many values the aliases of one document may stand for, beyond those that are written out."""

_TEXT_SIZE = 100

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class DocumentError(ValueError):
    """A text that is no document. `line` counts from 1."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(reason)
        self.line = line
        self.reason = reason


class LocatedMapping(dict[str, object]):
    """A mapping that knows the line of each key."""

    __slots__ = ("lines",)

    def __init__(self) -> None:
        super().__init__()
        self.lines: dict[str, int] = {}


class LocatedList(list[object]):
    """A list that knows the line of each element."""

    __slots__ = ("lines",)

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[int] = []


class Document(NamedTuple):
    """One document of a file, and the line it begins on (from 1)."""

    value: object
    line: int


def read_yaml(text: str) -> Iterator[Document | DocumentError]:
    """The documents of a YAML text in order; an error in the place of each that is malformed: the others
    are not hurt. Empty documents are left out."""
    for line, chunk in _split(text):
        try:
            yield from _read_chunk(chunk, line)
        except DocumentError as error:
            yield error


def read_json(text: str) -> Iterator[Document | DocumentError]:
    """The document of a JSON text, or an error. Its fields have no lines yet: see `with_lines`."""
    if not text.strip():
        return
    try:
        yield Document(json.loads(text, object_pairs_hook=_object_of_unique_keys), 1)
    except json.JSONDecodeError as error:
        yield DocumentError(error.lineno, f"is not JSON: {error.msg}")
    except RecursionError:
        yield DocumentError(1, f"nests deeper than {MAX_DEPTH} levels")
    except ValueError as error:
        yield DocumentError(1, f"is not JSON: {error}")


def _object_of_unique_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    made = dict(pairs)
    if len(made) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice[:60]!r} is given twice")
    return made


def with_lines(text: str, document: Document) -> Document:
    """A JSON document again, now with the lines of its fields: JSON is read as the YAML that it all but is.
    Where that fails the document comes back as it was."""
    read = list(read_yaml(text))
    return read[0] if len(read) == 1 and isinstance(read[0], Document) else document


def split_list(document: Document) -> Iterator[Document]:
    """The items of a `List` of any kind (`List`, `BGPPeerList`, ...), each as a document; anything else as
    it is.

    The items of `BGPPeerList` may leave kind and apiVersion to the list, as Kubernetes' API does."""
    value = document.value
    kind = value.get("kind") if isinstance(value, Mapping) else None
    if not isinstance(value, Mapping) or not isinstance(kind, str) or not kind.endswith("List"):
        yield document
        return
    items = value.get("items")
    if not isinstance(items, list):
        # `items: null` is how Go writes an empty list.
        if items is not None:
            yield document
        return
    inherited = {"kind": kind.removesuffix("List"), "apiVersion": value.get("apiVersion")}
    lines = items.lines if isinstance(items, LocatedList) else [document.line] * len(items)
    for item, line in zip(items, lines, strict=True):
        if isinstance(item, Mapping) and inherited["kind"] and "kind" not in item:
            yield Document(_inherit(item, inherited, line), line)
        else:
            yield Document(item, line)


def _inherit(item: Mapping[str, object], inherited: Mapping[str, object], line: int) -> LocatedMapping:
    whole = LocatedMapping()
    whole.update(inherited)
    whole.update(item)
    whole.lines = dict.fromkeys(whole, line)
    if isinstance(item, LocatedMapping):
        whole.lines.update(item.lines)
    return whole


def line_of(document: Document, path: str) -> int:
    """The line of the field at a dotted path (`spec.filters[2]`), or of the nearest thing around it that is
    there."""
    value: object = document.value
    line = document.line
    while path:
        if isinstance(value, LocatedMapping):
            key, rest = _first_key(value, path)
            if key is None:
                break
            line, value, path = value.lines[key], value[key], rest
        elif isinstance(value, LocatedList) and (match := _INDEX.match(path)) and int(match[1]) < len(value):
            index, path = int(match[1]), path[match.end() :]
            line, value = value.lines[index], value[index]
        else:
            break
    return line


_INDEX = re.compile(r"\[([0-9]{1,9})\]")


def _first_key(mapping: Mapping[str, object], path: str) -> tuple[str | None, str]:
    """The key that the path begins with, and the rest of the path. Keys may hold dots, so the mapping
    decides."""
    if path.startswith("["):
        for key in mapping:
            if path.startswith(f"[{key}]"):
                return key, path[len(key) + 2 :]
        return None, path
    path = path.removeprefix(".")
    word = re.split(r"[.\[]", path, maxsplit=1)[0]
    return (word, path[len(word) :]) if word in mapping else (None, path)


_MARKER = re.compile(r"^---(?=[ \t\r\n]|\Z)", re.MULTILINE)
_ONLY_DIRECTIVES = re.compile(r"(?:[ \t]*(?:#[^\n]*)?\r?\n|%[^\n]*\n)*\Z")


def _split(text: str) -> Iterator[tuple[int, str]]:
    """The text cut before each `---`, with the line that each piece begins on. YAML lets that marker stand
    nowhere else in a first column, not in a quoted or block text either, so that one malformed document
    ends there."""
    start = 0
    line = 1
    for cut in (*(match.start() for match in _MARKER.finditer(text)), len(text)):
        chunk = text[start:cut]
        if cut < len(text) and _ONLY_DIRECTIVES.match(chunk):
            continue
        yield line, chunk
        line += chunk.count("\n")
        start = cut


def _read_chunk(chunk: str, first_line: int) -> Iterator[Document]:
    builder = _Builder(first_line)
    try:
        for event in yaml.parse(chunk, Loader=_LOADER):
            document = builder.take(event)
            if document is not None:
                yield document
    except yaml.MarkedYAMLError as error:
        line, column = (error.problem_mark.line, error.problem_mark.column) if error.problem_mark else (0, 0)
        lines = chunk.rstrip().split("\n")
        reason = ", ".join(part for part in (error.context, error.problem) if part)
        if line < len(lines) and lines[line][column : column + 1] == "\t":
            reason += ", a tab: indent with spaces"
        # libyaml often finds out only at the end of the text, which is on no line any more.
        raise DocumentError(first_line + min(line, len(lines) - 1), f"is not YAML: {reason}") from None
    except yaml.reader.ReaderError as error:
        line = chunk.count("\n", 0, error.position)
        raise DocumentError(first_line + line, f"is not YAML: {error.reason}") from None
    except yaml.YAMLError as error:
        raise DocumentError(first_line, f"is not YAML: {error}") from None


@dataclass(slots=True)
class _Open:
    """A mapping or list whose end is not reached yet. `key` is the key that waits for its value."""

    value: LocatedMapping | LocatedList
    anchor: str | None
    line: int
    size: int = 1
    key: str | None = None
    merged: list[LocatedMapping] = field(default_factory=list)


class _Merge(str):
    """The key `<<`, unquoted."""

    __slots__ = ()


class _Builder:
    """Makes values of the events of one text.

    `size` is what reading a value can cost: how many values it stands for with its aliases followed, a long
    text counting for several. `written` is the size of all that stands in the document itself."""

    def __init__(self, first_line: int) -> None:
        self.first_line = first_line
        self.stack: list[_Open] = []
        self.anchors: dict[str, tuple[object, int]] = {}
        self.written = 0
        self.root: Document | None = None

    def take(self, event: yaml.Event) -> Document | None:
        """A document where the event ends one that is not empty."""
        if isinstance(event, yaml.ScalarEvent):
            value: object
            if self._wants_key():
                merge = event.value == "<<" and event.implicit[0]
                value = _Merge("<<") if merge else event.value
            else:
                value = self._scalar(event)
            size = 1 + len(event.value) // _TEXT_SIZE
            self.written += size
            self._place(value, size, event, event.anchor)
        elif isinstance(event, yaml.MappingStartEvent):
            self._open(LocatedMapping(), event)
        elif isinstance(event, yaml.SequenceStartEvent):
            self._open(LocatedList(), event)
        elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
            self._close(event)
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor not in self.anchors:
                raise self._error(
                    event, f"the alias *{event.anchor} stands before its anchor, or inside of it"
                )
            value, size = self.anchors[event.anchor]
            self._place(value, size, event, None)
        elif isinstance(event, yaml.DocumentStartEvent):
            self.anchors, self.written, self.root = {}, 0, None
        elif (
            isinstance(event, yaml.DocumentEndEvent) and self.root is not None and self.root.value is not None
        ):
            return self.root
        return None

    def _line(self, event: yaml.Event) -> int:
        return self.first_line + (event.start_mark.line if event.start_mark else 0)

    def _error(self, event: yaml.Event, reason: str) -> DocumentError:
        return DocumentError(self._line(event), reason)

    def _wants_key(self) -> bool:
        return (
            bool(self.stack)
            and isinstance(self.stack[-1].value, LocatedMapping)
            and self.stack[-1].key is None
        )

    def _open(self, value: LocatedMapping | LocatedList, event: yaml.CollectionStartEvent) -> None:
        if len(self.stack) == MAX_DEPTH:
            raise self._error(event, f"nests deeper than {MAX_DEPTH} levels")
        if self._wants_key():
            raise self._error(event, "a key must be a text, but is a mapping or a list")
        self.written += 1
        self.stack.append(_Open(value, event.anchor, self._line(event)))

    def _close(self, event: yaml.Event) -> None:
        done = self.stack.pop()
        if isinstance(done.value, LocatedMapping):
            for source in done.merged:
                for key, value in source.items():
                    if key not in done.value:
                        done.value[key] = value
                        done.value.lines[key] = source.lines[key]
        self._place(done.value, done.size, event, done.anchor, done.line)

    def _place(
        self, value: object, size: int, event: yaml.Event, anchor: str | None, line: int | None = None
    ) -> None:
        """Puts a value that is complete where it belongs: into what is open, or at the root."""
        line = self._line(event) if line is None else line
        if anchor is not None:
            self.anchors[anchor] = (value, size)
        if not self.stack:
            self.root = Document(value, line)
            return
        parent = self.stack[-1]
        parent.size += size
        if parent.size > self.written + MAX_EXPANSION:
            raise DocumentError(line, f"its aliases stand for more than {MAX_EXPANSION} values")
        if isinstance(parent.value, LocatedList):
            parent.value.append(value)
            parent.value.lines.append(line)
        elif parent.key is None:
            self._set_key(parent, value, line)
        else:
            self._set_value(parent, value, line)

    def _set_key(self, parent: _Open, key: object, line: int) -> None:
        if not isinstance(key, str):
            raise DocumentError(line, "a key must be a text, but is a mapping or a list")
        assert isinstance(parent.value, LocatedMapping)
        if key in parent.value and not isinstance(key, _Merge):
            raise DocumentError(line, f"the key {key[:60]!r} is given twice")
        parent.key = key
        if not isinstance(key, _Merge):
            parent.value.lines[key] = line

    def _set_value(self, parent: _Open, value: object, line: int) -> None:
        assert isinstance(parent.value, LocatedMapping)
        assert parent.key is not None
        if isinstance(parent.key, _Merge):
            sources = value if isinstance(value, LocatedList) else [value]
            for source in sources:
                if not isinstance(source, LocatedMapping):
                    raise DocumentError(line, "'<<' takes a mapping or a list of them")
                parent.merged.append(source)
        else:
            parent.value[parent.key] = value
        parent.key = None

    def _scalar(self, event: yaml.ScalarEvent) -> object:
        """The value of a scalar: a plain one is resolved, a quoted one is a text; a tag says which it is."""
        if event.tag is None:
            return resolve(event.value) if event.implicit[0] else event.value
        if event.tag == "!":
            return event.value
        name = event.tag.removeprefix("tag:yaml.org,2002:")
        if name == "str":
            return event.value
        value = resolve(event.value)
        if name in _TAGS and isinstance(value, _TAGS[name]):
            return value
        raise self._error(event, f"the tag {event.tag[:60]!r} does not go with what follows: leave it out")


_TAGS: dict[str, tuple[type, ...]] = {
    "int": (int,),
    "float": (int, float),
    "bool": (bool,),
    "null": (type(None),),
}

# What a plain word that begins so can be, other than a text.
_TYPED = frozenset("-+.0123456789~nNtTfFyYoO")
_WORDS: dict[str, object] = {"~": None, "null": None, "Null": None, "NULL": None} | {
    spelt: value
    for value, words in ((True, ("true", "yes", "on")), (False, ("false", "no", "off")))
    for word in words
    for spelt in (word, word.capitalize(), word.upper())
}
_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9_]{0,40})")
_BASED = re.compile(r"([-+]?)0(?:x([0-9a-fA-F_]{1,40})|b([01_]{1,140})|o?([0-7_]{1,50}))")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]{1,4})?")
_SPECIAL_FLOAT = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")


def resolve(word: str) -> object:
    """The value of a plain (unquoted) word, as Kubernetes' YAML reader has it: null, a boolean, a number,
    else text."""
    if not word:
        return None
    if word[0] not in _TYPED:
        return word
    if word in _WORDS:
        return _WORDS[word]
    if _INTEGER.fullmatch(word):
        return int(word.replace("_", ""))
    if match := _BASED.fullmatch(word):
        base = 16 if match[2] else 2 if match[3] else 8
        digits = (match[2] or match[3] or match[4]).replace("_", "")
        return int(match[1] + digits, base) if digits else word
    if _FLOAT.fullmatch(word):
        return float(word) if len(word) <= 400 else word
    if _SPECIAL_FLOAT.fullmatch(word):
        return float(word.replace(".", ""))
    return word

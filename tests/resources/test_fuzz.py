"""Whatever a document holds, wherever: `parse_record` gives a record or says what is wrong, and never
raises."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from routed.resources import Parsed, parse_record
from routed.resources.fields import MAX_PROBLEMS
from tests.resources.documents import FULL, full

# Texts that are nearly something, beside those that are nothing.
_NEARLY = [
    "",
    " ",
    "0",
    "-1",
    "4294967296",
    "1.1",
    "1.1.1.1",
    "10.0.0.0/8",
    "10.0.0.0/99",
    "::/0",
    "::ffff:1.2.3.4",
    "[::]:179",
    "1.1.1.1:179",
    "65000:1",
    "1:2:3",
    "1h",
    "1h-1m",
    "true",
    "None",
    "Accept",
    "all()",
    "has(",
    "host:a",
    "eth*",
    "\x00\x1b[31m",
    "\ud800",
    "=" * 3,
]
_scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.just(10**300),
    st.floats(),
    st.text(st.characters(), max_size=20),
    st.sampled_from(_NEARLY),
)
_values = st.recursive(
    _scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.one_of(st.text(max_size=8), _scalars), inner, max_size=4),
    ),
    max_leaves=10,
)
Path = tuple[str | int, ...]


def _paths(value: object, path: Path = ()) -> Iterator[Path]:
    if path:
        yield path
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _paths(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _paths(inner, (*path, index))


_PLACES = [(form, path) for form, document in FULL.items() for path in _paths(document)]


def _put(document: Any, path: Path, value: object) -> None:
    for part in path[:-1]:
        document = document[part]
    document[path[-1]] = value


def _check(outcome: Parsed) -> None:
    errors = [problem for problem in outcome.problems if problem.severity == "error"]
    assert outcome.record is None or not errors
    assert len(outcome.problems) <= MAX_PROBLEMS + 1
    for problem in outcome.problems:
        line = str(problem)
        assert line.isprintable()
        assert line.isascii() or line.encode()
        assert len(line) < 1000
        assert "hunter2" not in line
        assert problem.key in (None, outcome.key)
    if outcome.record is not None:
        assert outcome.key == outcome.record.key
        assert hash(outcome.key) is not None
        assert "hunter2" not in repr(outcome.record)


@given(st.sampled_from(_PLACES), _values)
def test_any_value_at_any_field(place: tuple[str, Path], value: object) -> None:
    form, path = place
    document = full(form)
    _put(document, path, value)
    _check(parse_record(document))


@given(st.lists(st.tuples(st.sampled_from(_PLACES), _values), min_size=1, max_size=5))
def test_any_values_at_several_fields(changes: list[tuple[tuple[str, Path], object]]) -> None:
    form = changes[0][0][0]
    document = full(form)
    for (_, path), value in changes:
        try:
            _put(document, path, value)
        except (KeyError, IndexError, TypeError):
            continue  # a path of another form, or one that an earlier change took away
    _check(parse_record(document))


@given(_values)
def test_any_document_at_all(value: object) -> None:
    _check(parse_record(value))


@given(
    st.sampled_from(sorted(FULL)),
    st.dictionaries(st.sampled_from(["spec", "metadata", "data", "status", "endpoints"]), _values),
)
def test_any_sections(form: str, sections: dict[str, object]) -> None:
    _check(parse_record({**full(form), **sections}))

"""Whatever stands in the records: no exception, a report of record and field, and the rest goes on."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from routed.datastore.documents import Document, read_yaml
from routed.intent.compiler import compile_intent
from routed.intent.options import Options
from routed.render.bird import render
from routed.resources import parse_record

from .cases import CASES

DOCUMENTS: list[Any] = [
    document.value
    for case in CASES
    for document in read_yaml((case.folder / "records.yaml").read_text())
    if isinstance(document, Document)
]


def paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where each value in a document is."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(found for key, child in items for found in paths(child, (*path, key)))][bool(not path) :]


def put(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    """A copy of the document with another value there, or without it (`value` is paths)."""
    changed = copy.deepcopy(document)
    place = changed
    for key in path[:-1]:
        place = place[key]
    if value is paths:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return changed


ODD = st.sampled_from(
    (
        *(paths, None, "", "x", -1, 0, 1.5, 2**32, 2**70, True, [], {}, [None], [{}], {"x": 1}, "a" * 300),
        *(
            "0.0.0.0/0",
            "::/0",
            "10.0.0.1",
            "fd00::1",
            "255.255.255.255",
            "10.0.0.0/33",
            "all()",
            "has(",
            "é\0",
        ),
    )
)
MUTATIONS = [(index, path) for index, document in enumerate(DOCUMENTS) for path in paths(document)]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(MUTATIONS), ODD), min_size=1, max_size=3))
def test_never_an_exception(mutations: list[tuple[tuple[int, tuple[Any, ...]], Any]]) -> None:
    documents = {index: DOCUMENTS[index] for index in range(len(DOCUMENTS))}
    touched = set()
    for (index, path), value in mutations:
        if index not in touched:
            documents[index] = put(documents[index], path, value)
            touched.add(index)
    records = []
    for document in documents.values():
        parsed = parse_record(document)
        if parsed.record is not None:
            records.append(parsed.record)
        else:
            assert parsed.problems
    intent = compile_intent(records, Options("worker01"))
    for problem in intent.problems:
        assert problem.key is not None
        assert problem.reason
    assert render(intent).files

"""Records become documents that are read as the same records."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from routed.datastore.mqtt_documents import encode
from routed.resources import KINDS, parse_record
from tests.resources import documents

EXAMPLES = Path(__file__).parents[2] / "examples"
FORMS = sorted(documents.FULL)


def assert_comes_back(document: object) -> None:
    record = parse_record(document).record
    if record is None or record.kind == "Secret":
        return
    written = json.loads(json.dumps(encode(record)))
    again = parse_record(written)
    assert again.record == record
    assert encode(record) == encode(again.record)


@pytest.mark.parametrize("form", FORMS)
def test_a_record_with_all_fields(form: str) -> None:
    document = documents.full(form)
    assert parse_record(document).record is not None
    assert_comes_back(document)


def test_there_is_one_of_each_kind() -> None:
    assert {str(documents.full(form)["kind"]) for form in FORMS} == set(KINDS)


def test_a_secret_is_never_written_down() -> None:
    secret = parse_record(
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}, "stringData": {"b": "hidden"}}
    ).record
    assert secret is not None
    with pytest.raises(ValueError, match="never") as raised:
        encode(secret)
    assert "hidden" not in str(raised.value)


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(0, 1 << 33),
    st.text(max_size=8),
    st.sampled_from(
        [
            *(
                "all()",
                "",
                "has(a) && b in {'c','d'}",
                "10.0.0.1",
                "fd00::1",
                "10.1.2.3/8",
                "fd00::/64",
                "0.1ns",
            ),
            *("1m30.000000001s", "2562047h", "5663:12", "1:2:3", "[fd00::1]:1790", "::ffff:10.0.0.1", "None"),
        ]
    ),
    st.just([]),
)


@given(form=st.sampled_from(FORMS), data=st.data())
def test_any_field_in_any_form(form: str, data: st.DataObject) -> None:
    """What the parser takes comes back equal, whatever is in a field or left out."""
    document: Any = documents.full(form)
    for path in data.draw(st.lists(st.sampled_from(sorted(_simple(document))), max_size=3)):
        keys = path.split("\0")
        target = document
        for key in keys[:-1]:
            target = target.get(key) if isinstance(target, dict) else None
        if isinstance(target, dict):
            if data.draw(st.booleans()):
                target.pop(keys[-1], None)
            else:
                target[keys[-1]] = data.draw(VALUES)
    assert_comes_back(document)


def _simple(value: object, path: tuple[str, ...] = ()) -> list[str]:
    if not isinstance(value, Mapping):
        return ["\0".join(path)]
    return [found for key, part in value.items() for found in _simple(part, (*path, str(key)))]


def test_the_examples() -> None:
    read = 0
    for path in EXAMPLES.rglob("*.yaml"):
        for document in yaml.safe_load_all(path.read_text()):
            assert_comes_back(document)
            read += 1
    assert read

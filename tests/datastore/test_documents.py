"""YAML and JSON texts to documents: what plain words mean, lines, lists, and texts that are malformed or
hostile."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from routed.datastore.documents import (
    MAX_DEPTH,
    MAX_EXPANSION,
    Document,
    DocumentError,
    line_of,
    read_json,
    read_yaml,
    resolve,
    split_list,
    with_lines,
)


def only(text: str) -> Document:
    (document,) = read_yaml(text)
    assert isinstance(document, Document), document
    return document


def value(text: str) -> Any:
    return only(text).value


def error(text: str) -> DocumentError:
    (outcome,) = read_yaml(text)
    assert isinstance(outcome, DocumentError), outcome
    return outcome


WORDS: list[tuple[str, object]] = [
    ("", None),
    ("~", None),
    ("null", None),
    ("true", True),
    ("True", True),
    ("yes", True),
    ("on", True),
    ("false", False),
    ("NO", False),
    ("off", False),
    ("0", 0),
    ("-5", -5),
    ("+5", 5),
    ("64512", 64512),
    ("4294967296", 4294967296),
    ("1_000", 1000),
    ("0x10", 16),
    ("0b101", 5),
    ("0o17", 15),
    ("017", 15),
    ("1.10", 1.1),
    (".5", 0.5),
    ("1e3", 1000.0),
    ("-.inf", -math.inf),
    # Texts that YAML 1.1 takes for numbers of base 60, dates and the like: to Kubernetes they are texts.
    ("65000:42", "65000:42"),
    ("1:20:30", "1:20:30"),
    ("2001-01-01", "2001-01-01"),
    ("10.0.0.1", "10.0.0.1"),
    ("10.0.0.0/8", "10.0.0.0/8"),
    ("fd00::1", "fd00::1"),
    ("089", "089"),
    ("0x", "0x"),
    ("1.2.3", "1.2.3"),
    ("-", "-"),
    (".", "."),
    ("yesterday", "yesterday"),
    ("9" * 5000, "9" * 5000),
]


@pytest.mark.parametrize(("word", "meaning"), WORDS, ids=lambda word: str(word)[:20])
def test_plain_words(word: str, meaning: object) -> None:
    assert resolve(word) == meaning
    assert type(resolve(word)) is type(meaning)


def test_not_a_number() -> None:
    number = resolve(".nan")
    assert isinstance(number, float)
    assert math.isnan(number)


def test_quoted_words_are_texts() -> None:
    assert value("a: '1'\nb: \"true\"\nc: |\n  5\nd: ''\n") == {"a": "1", "b": "true", "c": "5\n", "d": ""}


def test_keys_are_texts() -> None:
    assert value("1: a\ntrue: b\n65000:1: c\n~: d\n") == {"1": "a", "true": "b", "65000:1": "c", "~": "d"}


def test_tags() -> None:
    assert value("a: !!str 12\nb: !!int '12'\nc: !!float 1\nd: !!bool true\ne: ! 12\n") == {
        "a": "12",
        "b": 12,
        "c": 1,
        "d": True,
        "e": "12",
    }


@given(
    st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text()),
        lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(), inner, max_size=4)),
        max_leaves=15,
    ),
    st.booleans(),
)
def test_what_pyyaml_writes_is_read_back(written: object, flow: bool) -> None:
    text = yaml.safe_dump(written, default_flow_style=flow)
    read = list(read_yaml(text))
    if written is None:
        assert read == []
    else:
        assert [item.value for item in read if isinstance(item, Document)] == [written]


@given(
    st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(), st.text()),
        lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(), inner, max_size=4)),
        max_leaves=15,
    )
)
def test_json_is_read_as_json_reads_it(written: object) -> None:
    (document,) = read_json(json.dumps(written))
    assert isinstance(document, Document)
    assert document.value == written


@given(st.text(alphabet="ab:-?[]{}&*!|>'\"%@#\n\t <,~0", max_size=60))
def test_any_text_gives_documents_or_errors(text: str) -> None:
    for outcome in [*read_yaml(text), *read_json(text)]:
        line = outcome.line
        assert 1 <= line <= text.count("\n") + 1


def test_documents_and_their_lines() -> None:
    text = "# a comment\n---\n# another\na: 1\n---\n---\nb: 2\n...\n---\n- c\n--- {d: 4}\n"
    assert list(read_yaml(text)) == [({"a": 1}, 4), ({"b": 2}, 7), (["c"], 10), ({"d": 4}, 11)]


def test_empty_texts_hold_no_document() -> None:
    for text in ("", "\n", "# nothing\n", "---\n", "---\n---\n", "~\n"):
        assert list(read_yaml(text)) == []
    assert list(read_json("  \n")) == []


def test_directives_belong_to_the_document_behind_them() -> None:
    assert list(read_yaml("%YAML 1.1\n---\na: 1\n")) == [({"a": 1}, 3)]


def test_a_marker_inside_of_a_line_is_no_marker() -> None:
    assert value("a: |\n  x\n  ---\n  y\nb: a---\n") == {"a": "x\n---\ny\n", "b": "a---"}


def test_windows_line_ends() -> None:
    assert list(read_yaml("a: 1\r\n---\r\nb: 2\r\n")) == [({"a": 1}, 1), ({"b": 2}, 3)]


MALFORMED = [
    ("a: b: c\n", 1, "mapping values"),
    ("a: 1\n b: 2\n", 2, "mapping values"),
    ("a:\n\tb: 1\n", 2, "tab"),
    ("a: [1, 2\n", 1, "flow sequence"),
    ("a: 'x\n", 1, "quoted scalar"),
    ("a: *b\n", 1, "alias *b"),
    ("a: &a [*a]\n", 1, "alias *a"),
    ("a: 1\nb: 2\na: 3\n", 3, "'a' is given twice"),
    ("? [a]\n: b\n", 1, "key must be a text"),
    ("? {a: b}\n: c\n", 1, "key must be a text"),
    ("x: &x [a]\n? *x\n: b\n", 2, "key must be a text"),
    ("a: 1\nb: \x07\n", 2, "control characters"),
    ("a: !!binary aGk=\n", 1, "binary"),
    ("a: !!python/object:os.system x\n", 1, "tag"),
    ("a: !!int x\n", 1, "int"),
    ("a:\n  <<: 5\n", 2, "'<<'"),
    ("[" * 100_000, 1, "nests deeper"),
    ("- " * 100_000, 1, "nests deeper"),
    ("{a: " * 100_000, 1, "nests deeper"),
    ("a:\n" + "".join(" " * n + "a:\n" for n in range(1, 2000)), MAX_DEPTH + 1, "nests deeper"),
]


@pytest.mark.parametrize(("text", "line", "reason"), MALFORMED, ids=lambda text: repr(text)[:25])
def test_malformed(text: str, line: int, reason: str) -> None:
    fault = error(text)
    assert fault.line == line
    assert reason in fault.reason


@pytest.mark.parametrize("text", [text for text, _, _ in MALFORMED])
def test_a_malformed_document_does_not_hurt_the_others(text: str) -> None:
    before, fault, after = read_yaml(f"before: 1\n---\n{text}\n---\nafter: 2\n")
    assert isinstance(fault, DocumentError)
    assert before == ({"before": 1}, 1)
    assert after == ({"after": 2}, text.count("\n") + 5)


def test_aliases_and_merge_keys() -> None:
    text = "base: &base {a: 1, b: 2}\nlist: &list [x, y]\nuse:\n  <<: *base\n  b: 3\n  c: *list\n"
    assert value(text)["use"] == {"a": 1, "b": 3, "c": ["x", "y"]}
    assert value("a: {<<: [{x: 1}, {x: 2, y: 2}], z: 3}\n")["a"] == {"x": 1, "y": 2, "z": 3}
    assert value("'<<': 5\n") == {"<<": 5}


def bomb(levels: int, width: int = 9) -> str:
    """Each level holds the one before `width` times: text grows in proportion, what it stands for as a
    power."""
    text = "l0: &l0 x\n"
    for level in range(1, levels):
        text += f"l{level}: &l{level} [{', '.join([f'*l{level - 1}'] * width)}]\n"
    return text


def test_a_bomb_of_aliases_is_refused() -> None:
    for text in (bomb(9), bomb(40), bomb(30, 2)):
        assert str(MAX_EXPANSION) in error(text).reason


def test_a_bomb_of_merge_keys_is_refused() -> None:
    text = "l0: &l0 {" + ", ".join(f"k{n}: 1" for n in range(1000)) + "}\n"
    text += "".join(f"u{n}: {{<<: *l0}}\n" for n in range(1000))
    assert str(MAX_EXPANSION) in error(text).reason


def test_a_long_text_that_is_repeated_by_aliases_counts_by_its_length() -> None:
    text = f"a: &a {'x' * 100_000}\nb: [{', '.join(['*a'] * 1000)}]\n"
    assert str(MAX_EXPANSION) in error(text).reason


def test_what_aliases_are_used_for_is_allowed() -> None:
    text = "labels: &labels {a: b, c: d}\nitems:\n" + "- *labels\n" * 10_000
    assert len(value(text)["items"]) == 10_000


def test_large_documents_without_aliases_are_allowed() -> None:
    assert len(value("a:\n" + "- x\n" * 300_000)["a"]) == 300_000
    assert len(value("a: " + "x" * 2_000_000)["a"]) == 2_000_000


LOCATED = """\
apiVersion: v3
spec:
  filters:
  - first
  - second
  rules:
  - cidr: x
    values: [a,
      b]
  annotations:
    a.b/c: 1
    plain: 2
"""


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("", 1),
        ("apiVersion", 1),
        ("spec", 2),
        ("spec.filters", 3),
        ("spec.filters[0]", 4),
        ("spec.filters[1]", 5),
        ("spec.rules[0].cidr", 7),
        ("spec.rules[0].values[1]", 9),
        ("spec.annotations[a.b/c]", 11),
        ("spec.annotations.plain", 12),
        # What is not there is told where it belongs.
        ("spec.filters[7]", 3),
        ("spec.missing", 2),
        ("spec.rules[0].missing.deeper", 7),
        ("spec.annotations[no.such]", 10),
        ("apiVersion.x", 1),
    ],
)
def test_lines_of_fields(path: str, line: int) -> None:
    assert line_of(only(LOCATED), path) == line
    (after,) = [d for d in read_yaml("---\n---\n" + LOCATED) if isinstance(d, Document)]
    assert line_of(after, path) == line + 2


def test_lines_of_merged_keys_are_where_they_are_written() -> None:
    document = only("base: &base\n  a: 1\nuse:\n  <<: *base\n")
    assert line_of(document, "use.a") == 2


def items(text: str) -> list[Document]:
    return list(split_list(only(text)))


def test_lists() -> None:
    assert items("kind: List\napiVersion: v1\nitems:\n- kind: A\n- kind: B\n") == [
        ({"kind": "A"}, 4),
        ({"kind": "B"}, 5),
    ]
    assert items("kind: List\nitems:\n") == []
    assert items("kind: List\nitems: []\n") == []
    assert items("kind: BGPPeer\n") == [({"kind": "BGPPeer"}, 1)]
    assert items("- kind: BGPPeer\n") == [([{"kind": "BGPPeer"}], 1)]


def test_items_of_a_typed_list_inherit_kind_and_group() -> None:
    (item,) = items("kind: BGPPeerList\napiVersion: g/v3\nitems:\n- metadata:\n    name: x\n")
    assert item.value == {"kind": "BGPPeer", "apiVersion": "g/v3", "metadata": {"name": "x"}}
    assert (item.line, line_of(item, "metadata.name"), line_of(item, "kind")) == (4, 5, 4)


def test_a_list_whose_items_are_no_list_stays_as_it_is() -> None:
    assert [document.value for document in items("kind: List\nitems: 5\n")] == [{"kind": "List", "items": 5}]


JSON_TEXT = '{\n  "kind": "BGPPeer",\n  "spec": {\n    "filters": [\n      "a",\n      5\n    ]\n  }\n}\n'


def test_json_gets_lines_when_they_are_asked_for() -> None:
    (document,) = read_json(JSON_TEXT)
    assert isinstance(document, Document)
    located = with_lines(JSON_TEXT, document)
    assert located.value == document.value
    assert line_of(located, "spec.filters[1]") == 6


def test_json_that_yaml_cannot_read_keeps_its_value() -> None:
    text = '{"a": "\\ud83d\\ude00", "b": 5}'
    (document,) = read_json(text)
    assert isinstance(document, Document)
    assert document.value == {"a": "😀", "b": 5}
    assert with_lines(text, document).value == document.value


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ('{\n  "a": 1,\n}\n', 3, "not JSON"),
        ('{"a": 1} x', 1, "Extra data"),
        ('{"a": 1, "a": 2}', 1, "'a' is given twice"),
        ("[" * 100_000, 1, "nests deeper"),
        (f'{{"a": {"9" * 5000}}}', 1, "not JSON"),
    ],
    ids=lambda text: repr(text)[:25],
)
def test_malformed_json(text: str, line: int, reason: str) -> None:
    (fault,) = read_json(text)
    assert isinstance(fault, DocumentError)
    assert fault.line == line
    assert reason in fault.reason

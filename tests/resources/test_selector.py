"""Calico's selectors: the grammar, what they match, and their errors."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routed.resources import Selector, SelectorError, parse_selector
from routed.resources.selector import MAX_DEPTH, And, Equal, Has, In, Not, Or

LABELS = {"role": "rr", "zone": "eu-1", "empty": "", "in": "x", "node-role.kubernetes.io/master": ""}

MATCHING = [
    "",
    "  \t ",
    "all()",
    "all( )",
    "global()",
    "has(role)",
    "has( role )",
    "has(node-role.kubernetes.io/master)",
    "!has(rack)",
    "! has(rack)",
    "!!has(role)",
    "role == 'rr'",
    'role == "rr"',
    "role=='rr'",
    "role != 'x'",
    "rack != 'x'",
    "empty == ''",
    "rack != ''",
    "zone in {'eu-1'}",
    "zone in {'us-1','eu-1'}",
    "zone in {'us-1', 'eu-1', }",
    "zone not in {'us-1'}",
    "zone notin {'us-1'}",
    "zone not in {}",
    "rack not in {'a'}",
    "zone contains 'u-'",
    "zone contains ''",
    "zone starts with 'eu'",
    "zone startswith 'eu'",
    "zone ends with '-1'",
    "in in {'x'}",
    "in == 'x'",
    "!(role == 'x')",
    "!role == 'x'",
    "(((role == 'rr')))",
    "role == 'x' || zone == 'eu-1'",
    "role == 'rr' || role == 'x' && role == 'y'",
    "has(role)&&has(zone)",
    "role == 'rr'\n&& zone == 'eu-1'",
]

NOT_MATCHING = [
    "!all()",
    "has(rack)",
    "!has(role)",
    "rack == ''",
    "rack == 'x'",
    "role != 'rr'",
    "zone in {}",
    "rack in {'a'}",
    "zone not in {'eu-1'}",
    "rack contains ''",
    "rack starts with ''",
    "rack ends with ''",
    "zone starts with 'u'",
    "(role == 'rr' || role == 'x') && role == 'y'",
    "!(role == 'rr' || has(rack))",
    "! !has(rack)",
]


@pytest.mark.parametrize("text", MATCHING)
def test_matches(text: str) -> None:
    assert parse_selector(text).matches(LABELS)


@pytest.mark.parametrize("text", NOT_MATCHING)
def test_does_not_match(text: str) -> None:
    assert not parse_selector(text).matches(LABELS)


# (text, position of the error from 0, a part of what is expected there)
MALFORMED = [
    ("role", 4, "'=='"),
    ("role ==", 7, "a text in quotes"),
    ("role == rr", 8, "a text in quotes"),
    ("role == 'rr", 8, "a text in quotes"),
    ("role = 'rr'", 5, "'=='"),
    ("== 'rr'", 0, "a label key"),
    ("role in 'a'", 8, "'{'"),
    ("role in {'a'", 12, "',' or '}'"),
    ("role in {'a' 'b'}", 13, "',' or '}'"),
    ("role in {a}", 9, "a text in quotes"),
    ("role in {,}", 9, "a text in quotes"),
    ("role inside 'x'", 5, "'=='"),
    ("has()", 3, "'=='"),
    ("has(a b)", 3, "'=='"),
    ("(has(a)", 7, "')'"),
    ("has(a))", 6, "the end"),
    ("has(a) has(b)", 7, "the end"),
    ("has(a) &&", 9, "a label key"),
    ("has(a) & has(b)", 7, "the end"),
    ("&& has(a)", 0, "a label key"),
    ("!", 1, "a label key"),
    ("()", 1, "a label key"),
    ("a == 'b' and c == 'd'", 9, "the end"),
    ("rôle == 'a'", 1, "'=='"),
    ("k" * 513 + " == 'a'", 0, "512"),
    ("has(" + "k" * 513 + ")", 0, "512"),
    ("(" * 10_000, MAX_DEPTH, "nested parentheses"),
    ("(" * 10_000 + "all()" + ")" * 10_000, MAX_DEPTH, "nested parentheses"),
]


@pytest.mark.parametrize(("text", "position", "expected"), MALFORMED)
def test_malformed(text: str, position: int, expected: str) -> None:
    with pytest.raises(SelectorError) as caught:
        parse_selector(text)
    assert caught.value.position == position
    assert expected in caught.value.expected
    assert f"character {position + 1}" in str(caught.value)
    assert len(str(caught.value)) < 250


def test_nesting_is_allowed_up_to_the_limit() -> None:
    assert parse_selector("(" * MAX_DEPTH + "all()" + ")" * MAX_DEPTH).matches({})


def test_long_chains_do_not_nest() -> None:
    assert parse_selector(" || ".join(["has(a)"] * 20_000) + " || all()").matches({})
    assert not parse_selector(" && ".join(["all()"] * 20_000) + " && has(a)").matches({})
    assert parse_selector("!" * 20_000 + "all()").matches({})


def test_labels_used() -> None:
    text = "has(a) && (b == 'x' || !c in {'y'}) && d contains 'z' || all() && e != 'q' && f not in {}"
    assert parse_selector(text).labels_used() == frozenset("abcdef")
    assert parse_selector("all()").labels_used() == frozenset()


def test_equality_is_that_of_the_nodes_and_the_text_is_kept() -> None:
    one, other = parse_selector("a=='b'&&has(c)"), parse_selector('  a == "b"  &&  (has(c))')
    assert one == other
    assert hash(one) == hash(other)
    assert one.text == "a=='b'&&has(c)"
    assert str(one) == str(other) == "a == 'b' && has(c)"
    assert parse_selector("a == 'b'") != parse_selector("a != 'b'")


def test_precedence_in_the_nodes() -> None:
    a, b, c = Has("a"), Equal("b", "x"), In("c", frozenset("yz"))
    assert parse_selector("has(a) || b == 'x' && !c in {'y', 'z'}").root == Or((a, And((b, Not(c)))))


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("", "all()"),
        ("k in {'b','a'}", "k in {'a', 'b'}"),
        ('k == "it\'s"', 'k == "it\'s"'),
        ("k == 'say \"x\"'", "k == 'say \"x\"'"),
        ("!(has(a) && has(b))", "!(has(a) && has(b))"),
        ("(has(a) || has(b)) && has(c)", "(has(a) || has(b)) && has(c)"),
        ("(has(a) && has(b)) || has(c)", "has(a) && has(b) || has(c)"),
        ("! a startswith 'x'", "!a starts with 'x'"),
    ],
)
def test_canonical_text(text: str, canonical: str) -> None:
    assert str(parse_selector(text)) == canonical
    assert str(parse_selector(canonical)) == canonical


# Random selectors as a text together with what it means, said in Python and without the parser's nodes.

Predicate = Callable[[Mapping[str, str]], bool]
Case = tuple[str, Predicate]

_keys = st.sampled_from(["a", "b", "in", "not", "has", "contains", "x.y/z-1", "7"])
_values = st.sampled_from(["", "a", "b", "ab", "ba", "it's", 'say "x"', "&& ||"])
_space = st.sampled_from(["", " ", "\t", "  "])
_gap = st.sampled_from([" ", "\t", "  "])


def _quoted(draw: st.DrawFn, value: str) -> str:
    quotes = [quote for quote in "'\"" if quote not in value]
    quote = draw(st.sampled_from(quotes))
    return f"{quote}{value}{quote}"


_COMPARISONS: dict[str, Callable[[str | None, str], bool]] = {
    "==": lambda label, value: label == value,
    "!=": lambda label, value: label != value,
    "contains": lambda label, value: label is not None and value in label,
    "starts with": lambda label, value: label is not None and label.startswith(value),
    "ends with": lambda label, value: label is not None and label.endswith(value),
}


@st.composite
def _comparisons(draw: st.DrawFn) -> Case:
    key, value, operator = draw(_keys), draw(_values), draw(st.sampled_from(sorted(_COMPARISONS)))
    meaning = _COMPARISONS[operator]
    text = f"{key}{draw(_gap)}{operator}{draw(_space)}{_quoted(draw, value)}"
    return text, lambda labels: meaning(labels.get(key), value)


@st.composite
def _sets(draw: st.DrawFn) -> Case:
    key, values, denied = draw(_keys), draw(st.lists(_values, max_size=3)), draw(st.booleans())
    inside = ",".join(f"{draw(_space)}{_quoted(draw, value)}{draw(_space)}" for value in values)
    text = f"{key}{draw(_gap)}{'not in' if denied else 'in'}{draw(_space)}{{{inside}}}"
    return text, lambda labels: (labels.get(key) in values) != denied


@st.composite
def _existences(draw: st.DrawFn) -> Case:
    key = draw(_keys)
    return f"has({draw(_space)}{key}{draw(_space)})", lambda labels: key in labels


_leaves = st.one_of(_comparisons(), _sets(), _existences(), st.just(("all()", lambda labels: True)))


def _joined(cases: list[Case], operator: str, every: bool, space: str) -> Case:
    text = f"{space}{operator}{space}".join(f"({text})" for text, _ in cases)
    fold = all if every else any
    return text, lambda labels: fold(meaning(labels) for _, meaning in cases)


def _denied(case: Case, space: str) -> Case:
    return f"!{space}({case[0]})", lambda labels: not case[1](labels)


_cases = st.recursive(
    _leaves,
    lambda inner: st.one_of(
        st.builds(_joined, st.lists(inner, min_size=2, max_size=4), st.just("&&"), st.just(True), _space),
        st.builds(_joined, st.lists(inner, min_size=2, max_size=4), st.just("||"), st.just(False), _space),
        st.builds(_denied, inner, _space),
    ),
    max_leaves=8,
)
_label_sets = st.lists(st.dictionaries(_keys, _values), min_size=1, max_size=8)


@given(_cases, _label_sets)
def test_means_what_python_says(case: Case, label_sets: list[dict[str, str]]) -> None:
    text, meaning = case
    selector = parse_selector(text)
    again = parse_selector(str(selector))
    for labels in label_sets:
        assert selector.matches(labels) == meaning(labels)
        assert again.matches(labels) == meaning(labels)
    assert again == selector


@given(_cases, st.dictionaries(_keys, _values), _keys, _values)
def test_only_the_labels_used_count(case: Case, labels: dict[str, str], key: str, value: str) -> None:
    selector = parse_selector(case[0])
    if key not in selector.labels_used():
        assert selector.matches(labels) == selector.matches({**labels, key: value})


@given(_leaves, _leaves, _leaves, st.dictionaries(_keys, _values))
def test_precedence(a: Case, b: Case, c: Case, labels: dict[str, str]) -> None:
    selector = parse_selector(f"{a[0]} || !{b[0]} && {c[0]}")
    assert selector.matches(labels) == (a[1](labels) or (not b[1](labels) and c[1](labels)))


@given(st.text(alphabet="ab'\"{}()!&|=<> ,hasinotclgwe\n", max_size=40))
def test_any_text_parses_or_says_where_it_does_not(text: str) -> None:
    outcome: Selector | SelectorError
    try:
        outcome = parse_selector(text)
    except SelectorError as error:
        outcome = error
    if isinstance(outcome, Selector):
        assert parse_selector(str(outcome)) == outcome
    else:
        assert 0 <= outcome.position <= len(text)
        assert f"character {outcome.position + 1}" in str(outcome)

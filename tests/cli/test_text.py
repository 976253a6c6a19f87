"""Nothing that a stranger wrote makes a terminal do anything; and columns stay aligned."""

from __future__ import annotations

import json
import unicodedata

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from routed.cli.answer import as_json, as_yaml
from routed.cli.text import cut, pad, safe, width, wrap

#: What terminals act on, or show as something else, more often than chance has it.
HOSTILE = st.text(
    st.one_of(
        st.characters(),
        st.characters(categories=["Cc", "Cf", "Zl", "Zp", "Mn", "Cs", "Co"]),
        st.sampled_from("\x1b\x07\x08\r\n\t\x7f\x9b\x9d\u202e\u2066\u200b\ufeff\u0301\u65e5\U0001f44d \\"),
    ),
    max_size=60,
)
#: What JSON and YAML in UTF-8 can say.
SPEAKABLE = HOSTILE.map(lambda text: text.encode("utf-8", "replace").decode())


def harmless(line: str) -> bool:
    """No character is a command, nor invisible."""
    return all(unicodedata.category(one)[0] not in "C" and one not in "\u2028\u2029" for one in line)


@given(HOSTILE)
def test_a_safe_text_has_nothing_that_a_terminal_acts_on(text: str) -> None:
    shown = safe(text)
    assert harmless(shown)
    assert not shown or width(shown[0])
    assert safe(shown) == shown


@given(st.text(st.characters(categories=["L", "N", "P", "S"])))
def test_what_prints_stays_as_it_is(text: str) -> None:
    assert safe(text) in (text, safe(text[:1]) + text[1:])
    if text.isascii():
        assert safe(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J\x1b]0;owned\x07", "\\x1b[2J\\x1b]0;owned\\x07"),
        ("\x9b31m", "\\x9b31m"),
        ("a\r\nb\tc", "a\\r\\nb\\tc"),
        ("safe\u202etxt.exe", "safe\\u202etxt.exe"),
        ("\u0301x", "\\u0301x"),
        ("e\u0301", "e\u0301"),
        ("\udc80", "\\udc80"),
        ("wörk\u65e5", "wörk\u65e5"),
        ("tag\U000e0041", "tag\\U000e0041"),
    ],
)
def test_escapes(text: str, shown: str) -> None:
    assert safe(text) == shown


@given(HOSTILE, st.integers(0, 40))
def test_cut_fits_and_pad_fills(text: str, columns: int) -> None:
    shown = cut(safe(text), columns)
    assert width(shown) <= columns
    assert harmless(shown)
    if width(safe(text)) <= columns:
        assert shown == safe(text)
    assert width(pad(shown, columns)) == columns
    assert pad(shown, columns, right=True).endswith(shown)


@given(HOSTILE, st.integers(2, 40))
def test_wrapped_lines_fit_and_lose_nothing_but_spaces(text: str, columns: int) -> None:
    shown = safe(text)
    lines = wrap(shown, columns)
    assert lines
    assert all(width(line) <= columns for line in lines)
    assert "".join(lines).replace(" ", "") == shown.replace(" ", "")


@example({"a": "\x7f"}, False)
@example({"a": "\x9b"}, False)
@example({"a": "\x1b"}, True)
@given(st.dictionaries(SPEAKABLE, SPEAKABLE | st.lists(SPEAKABLE), max_size=5), st.booleans())
def test_json_says_the_same_and_is_safe(document: dict[str, object], one_line: bool) -> None:
    shown = as_json(json.dumps(document, ensure_ascii=False).encode(), one_line=one_line)
    assert json.loads(shown) == document
    assert all(harmless(line) for line in shown.split("\n"))
    assert not (one_line and "\n" in shown)


@given(st.dictionaries(SPEAKABLE, SPEAKABLE | st.lists(SPEAKABLE), max_size=5))
def test_yaml_says_the_same_and_is_safe(document: dict[str, object]) -> None:
    shown = as_yaml(json.dumps(document, ensure_ascii=False).encode())
    assert yaml.safe_load(shown) == document
    assert all(harmless(line) for line in shown.split("\n"))

"""Text that others wrote, as one that can be shown or sent: peers, records, file names and keys hold any
character.

What does not print (Unicode's Cc, Cf, Cs, Co, Cn, Zl, Zp, and Zs but for the space) would end a line, or be a
command to a terminal (ECMA-48), or show a line as what it is not (Unicode Technical Report 36).
"""

from __future__ import annotations

from collections.abc import Callable


def escape(character: str) -> str:
    """A character as Python and YAML write it in a string: `\\n`, `\\x1b`, `\\u202e`, `\\U000e0001`."""
    return character.encode("unicode_escape").decode("ascii")


def escaped(text: str, by: Callable[[str], str] = escape) -> str:
    """The text with each character that does not print as `by` writes it. For what has to be found again by
    what is shown."""
    return text if text.isprintable() else "".join(one if one.isprintable() else by(one) for one in text)


def clean(text: str) -> str:
    """A text as one that UTF-8 can hold: lone surrogates, such as those of file names and of the command
    line, become U+FFFD. Control characters stay: they are data."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def clean_or_none(text: str | None) -> str | None:
    """`clean`, where there is a text."""
    return None if text is None else clean(text)


def plain(value: object) -> object:
    """A value that JSON has, with every text in it clean."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, dict):
        return {clean(str(key)): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def printable(text: str) -> str:
    """The text with each character that does not print replaced by U+FFFD. For words."""
    return text if text.isprintable() else "".join(one if one.isprintable() else "\ufffd" for one in text)

"""Text that others wrote, as one that can be shown: peers, records, file names and keys hold any character.

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


def printable(text: str) -> str:
    """The text with each character that does not print replaced by U+FFFD. For words."""
    return text if text.isprintable() else "".join(one if one.isprintable() else "\ufffd" for one in text)

"""Text that others wrote, on its way to a terminal.

Shutdown messages, host names, names of records: a peer or whoever writes records chose them. On a terminal
a control character is a command (ECMA-48), and a bidirectional override shows a line as what it is not
(Unicode Technical Report 36). So whatever comes from the server passes `safe`, or `safe_lines` where it is
a document.
"""

from __future__ import annotations

from collections.abc import Callable

from routed.text import escape, escaped

#: What stands for what was cut off.
ELLIPSIS = "\u2026"


def json_escaped(character: str) -> str:
    """A character as JSON writes it in a string (RFC 8259 section 7)."""
    units = character.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))


def safe(text: str) -> str:
    """The text in one line, with nothing in it that a terminal acts on: each character that does not print
    (Unicode's Cc, Cf, Cs, Co, Cn, Zl, Zp, and Zs but for the space) is written as its escape. A combining
    mark at the beginning is too: it would change what stands before the text."""
    if text.isascii() or not text or width(text[0]):
        return escaped(text)
    return escape(text[0]) + escaped(text[1:])


def safe_lines(document: str, by: Callable[[str], str]) -> str:
    """A JSON or YAML document that is as safe as `safe` makes a text, and still says the same: what does not
    print can only be inside of a string, where what `by` writes for it means the same. Ends of lines stay."""
    if document.replace("\n", "").isprintable():
        return document
    return "\n".join(escaped(line, by) for line in document.split("\n"))


def width(text: str) -> int:
    """How many columns of a terminal a safe text takes: wide characters two, combining ones none."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def cut(text: str, columns: int) -> str:
    """A safe text in at most so many columns; the end of a longer one gives way to an ellipsis."""
    if width(text) <= columns:
        return text
    if columns <= 1:
        return ELLIPSIS[:columns]
    if text.isascii():
        return text[: columns - 1] + ELLIPSIS
    return _head(text, columns - 1) + ELLIPSIS


def pad(text: str, columns: int, right: bool = False) -> str:
    """A safe text, filled up with spaces to so many columns; at its left where it is to be aligned right."""
    space = " " * (columns - width(text))
    return space + text if right else text + space


def wrap(text: str, columns: int) -> list[str]:
    """A safe text in lines of at most so many columns, broken at spaces, and inside a longer word. At least
    one line."""
    lines: list[str] = []
    line = ""
    for word in text.split(" "):
        longer = f"{line} {word}" if line else word
        if width(longer) <= columns:
            line = longer
            continue
        if line:
            lines.append(line)
        while width(word) > columns:
            head = _head(word, columns) or word[0]
            lines.append(head)
            word = word[len(head) :]
        line = word
    if line or not lines:
        lines.append(line)
    return lines


def _head(text: str, columns: int) -> str:
    """The beginning of a text that fits."""
    end = min(len(text), columns)
    # A character takes two columns at most, so half of them fit; combining marks may make it more.
    while end > 0 and width(text[:end]) > columns:
        end -= 1
    while end < len(text) and width(text[: end + 1]) <= columns:
        end += 1
    return text[:end]

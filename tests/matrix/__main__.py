"""Runs routed with each of the other daemons and writes the matrix into docs/interoperability.md.

    python -m tests.matrix [DAEMON ...]

Without names, all of them. The rows of daemons that are not run stay as they are. It needs root, network
namespaces and the daemons (scripts/bootstrap test)."""

from __future__ import annotations

import sys

from tests import netns
from tests.matrix.cells import FEATURES, row
from tests.matrix.document import DOCUMENT, Table, formatted, read, written
from tests.matrix.speakers import SPEAKERS


def main(names: list[str]) -> int:
    """The exit status: 0 where every wanted row was run."""
    known = {kind.name.rstrip("."): kind for kind in SPEAKERS}
    if unknown := set(names) - known.keys():
        print(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(known)}", file=sys.stderr)
        return 2
    if reason := netns.unavailable():
        print(reason, file=sys.stderr)
        return 2
    text = DOCUMENT.read_text()
    old = read(text)
    table: Table = {}
    missing = []
    for name, kind in known.items():
        if names and name not in names:
            table |= {title: cells for title, cells in old.items() if title.startswith(kind.name)}
            continue
        try:
            title = kind.title()
        except LookupError as error:
            missing.append(f"{name}: {error}")
            continue
        table[title] = row(kind, lambda line: print(line, file=sys.stderr, flush=True))
    DOCUMENT.write_text(written(text, table, FEATURES))
    print(formatted(table, FEATURES))
    for line in missing:
        print(f"left out: {line}", file=sys.stderr)
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

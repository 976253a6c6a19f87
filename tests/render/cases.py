"""Whole nodes: records of ours in `golden/<case>/records.yaml`, and the files that they make beside it.

`python -m tests.render.cases` writes the files anew. Read the difference before it is committed: these
files are what a BIRD is given.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from routed.datastore.documents import Document, read_yaml
from routed.intent.compiler import compile_intent
from routed.intent.local_workloads import read_endpoint_statuses
from routed.intent.options import Options
from routed.render.bird import FILES, Rendered, render
from routed.resources import Problem, Record, parse_record

GOLDEN = Path(__file__).parent / "golden"
_NAMES = sorted(name for names in FILES.values() for name in (names.main, names.aggregates, names.ipam))


@dataclass(frozen=True)
class Case:
    """One folder: `records.yaml`, `environment.json` (NODENAME and what calico-node sets), perhaps
    `endpoint-status/`, and what comes out."""

    folder: Path

    @property
    def name(self) -> str:
        return self.folder.name

    def records(self) -> tuple[list[Record], list[Problem]]:
        records: list[Record] = []
        problems: list[Problem] = []
        for document in read_yaml((self.folder / "records.yaml").read_text()):
            assert isinstance(document, Document), document
            parsed = parse_record(document.value)
            problems += parsed.problems
            if parsed.record is not None:
                records.append(parsed.record)
        return records, problems

    def render(self) -> Rendered:
        environment = json.loads((self.folder / "environment.json").read_text())
        options = Options.from_environ(environment, environment["NODENAME"])
        records, problems = self.records()
        workloads, unread = read_endpoint_statuses(self.folder)
        intent = compile_intent([*records, *workloads], options)
        rendered = render(intent)
        return Rendered(rendered.files, (*problems, *unread, *intent.problems, *rendered.problems))

    def expected(self) -> dict[str, str]:
        return {name: (self.folder / name).read_text() for name in _NAMES}

    def problems_expected(self) -> list[str]:
        path = self.folder / "problems.txt"
        return path.read_text().splitlines() if path.exists() else []


CASES = [Case(folder) for folder in sorted(GOLDEN.iterdir()) if (folder / "records.yaml").exists()]


def main() -> None:
    """Writes the expected files of all cases anew."""
    for case in CASES:
        rendered = case.render()
        for name, text in rendered.files.items():
            (case.folder / name).write_text(text)
        problems = case.folder / "problems.txt"
        problems.unlink(missing_ok=True)
        if rendered.problems:
            problems.write_text("".join(f"{problem}\n" for problem in rendered.problems))


if __name__ == "__main__":
    main()

"""Gates in a row: what an explanation is made of.

A gate looks at one thing that lets what is asked for through, or stops it, and says what it found with the
record and field, or the peer, that decided. Each explanation is a table of gates; the first that stops is the
answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Generic, Literal, TypeVar

from routed.observe import documents
from routed.resources import Key, Problem
from routed.text import printable

Q = TypeVar("Q")
Outcome = Literal["pass", "stop", "info"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What a gate found."""

    outcome: Outcome
    text: str
    record: Key | None = None
    field: str | None = None
    peer: str | None = None
    prefix: str | None = None


#: It lets it through.
passes: Final = partial(Finding, "pass")
#: It stops it.
stops: Final = partial(Finding, "stop")
#: It is worth knowing, and decides nothing.
notes: Final = partial(Finding, "info")


def stops_by(problem: Problem) -> Finding:
    """A finding of the compiler stops it."""
    return stops(problem.reason, problem.key, problem.field or None)


@dataclass(frozen=True, slots=True)
class Gate(Generic[Q]):
    """One gate.

    name   as in `documents.Step.gate`
    asks   the question that it answers, for people
    look   what it finds, in order
    held   True where a stop here is why what is asked for is missing; else it is only worth knowing, since
           the facts further on say that it came through all the same
    """

    name: str
    asks: str
    look: Callable[[Q], Iterable[Finding]]
    held: Callable[[Q], bool]


def walk(gates: Sequence[Gate[Q]], question: Q) -> list[documents.Step]:
    """What all the gates found, in order."""
    return [
        _step(gate.name, found, held=gate.held(question)) for gate in gates for found in gate.look(question)
    ]


def first_stop(steps: Iterable[documents.Step]) -> documents.Step | None:
    """The answer; None: nothing stopped it."""
    return next((step for step in steps if step.outcome == "stop"), None)


def _step(gate: str, found: Finding, *, held: bool) -> documents.Step:
    """Names in records and words of peers are made safe to print here, all of them."""
    return documents.Step(
        gate=gate,
        outcome=found.outcome if held or found.outcome != "stop" else "info",
        text=printable(found.text),
        record=None if found.record is None else printable(str(found.record)),
        field=None if found.field is None else printable(found.field),
        peer=None if found.peer is None else printable(found.peer),
        prefix=found.prefix,
    )

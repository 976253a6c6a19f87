"""Field and label selectors, as a list or watch of Kubernetes' API has them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple


class SelectorError(ValueError):
    """It is no selector."""


class FieldTerm(NamedTuple):
    """`name=value`, or `name!=value`."""

    name: str
    equal: bool
    value: str


LabelTerm = Callable[[Mapping[str, str]], bool]

_SET = re.compile(r"(\S+)\s+(in|notin)\s+\(([^)]*)\)")
_COMPARE = re.compile(r"([^\s!=]+)\s*(==|=|!=)\s*([^\s!=]*)")
_EXISTS = re.compile(r"(!?)\s*([A-Za-z0-9][\w./-]*)")


@dataclass(frozen=True)
class Selectors:
    """Both kinds together; true where there is any term."""

    fields: tuple[FieldTerm, ...] = ()
    labels: tuple[LabelTerm, ...] = ()

    @classmethod
    def parse(cls, query: Mapping[str, str]) -> Selectors:
        """From `fieldSelector` and `labelSelector`. Raises SelectorError."""
        fields = tuple(_field(term) for term in query.get("fieldSelector", "").split(",") if term.strip())
        # A comma in parentheses separates values.
        terms = re.split(r",(?![^(]*\))", query.get("labelSelector", ""))
        return cls(fields, tuple(_label(term.strip()) for term in terms if term.strip()))

    def __bool__(self) -> bool:
        return bool(self.fields or self.labels)

    @property
    def field_names(self) -> set[str]:
        """The fields that are selected by."""
        return {term.name for term in self.fields}

    @property
    def only_name(self) -> str:
        """The name of the only object that can match; empty where there can be others."""
        return next((t.value for t in self.fields if t.name == "metadata.name" and t.equal), "")

    def match(self, document: Mapping[str, Any]) -> bool:
        """Whether an object is selected."""
        labels = document["metadata"].get("labels") or {}
        return all(
            _at(document, t.name) == t.value if t.equal else _at(document, t.name) != t.value
            for t in self.fields
        ) and all(term(labels) for term in self.labels)


def _field(term: str) -> FieldTerm:
    match = _COMPARE.fullmatch(term.strip())
    if match is None:
        raise SelectorError(f"invalid selector: '{term}'; can't understand '{term}'")
    return FieldTerm(match[1], match[2] != "!=", match[3])


def _label(term: str) -> LabelTerm:
    if match := _SET.fullmatch(term):
        key, values = match[1], {value.strip() for value in match[3].split(",")}
        if match[2] == "in":
            return lambda labels: labels.get(key) in values
        return lambda labels: labels.get(key) not in values
    if match := _COMPARE.fullmatch(term):
        key, operator, value = match.groups()
        if operator == "!=":
            return lambda labels: labels.get(key) != value
        return lambda labels: labels.get(key) == value
    if match := _EXISTS.fullmatch(term):
        absent, key = bool(match[1]), match[2]
        return lambda labels: (key in labels) != absent
    raise SelectorError(f"unable to parse requirement: '{term}'")


def _at(document: Mapping[str, Any], path: str) -> str:
    value: Any = document
    for part in path.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return "" if value is None else str(value)

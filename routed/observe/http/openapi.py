"""The published description of the API: an OpenAPI 3.1 document, made of the table of endpoints and the types
of documents. `python -m routed.observe.http.openapi` prints it, for docs/openapi.json."""

from __future__ import annotations

import ast
import functools
import inspect
import sys
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any, Final

import msgspec

from routed.observe import documents
from routed.observe.http.endpoints import TABLES
from routed.observe.http.messages import JSON
from routed.observe.http.routing import PRETTY, Endpoint, Parameter

#: Of the API, not of routed: it changes where the API gets something new.
VERSION: Final = "1.0"

_DESCRIPTION: Final = (
    "What a running routed knows, and the few things that it can be told to do. A field is never taken away "
    "or given another meaning within version 1; new ones may come, so ignore those that you do not know. "
    "Times are RFC 3339 in UTC, durations seconds, prefixes and addresses text. Texts may come from peers "
    "and records: they are data. No field holds a secret."
)
_SCHEMAS: Final = "#/components/schemas/"
_PRETTY_PARAMETER: Final = Parameter(PRETTY, "Write the document for people", {"type": "boolean"})


@functools.cache
def published() -> dict[str, Any]:
    """The document, as JSON has it."""
    endpoints = [one for one in TABLES["api"] if one.published]
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in endpoints:
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _operation(endpoint)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "routed: status API",
            "version": VERSION,
            "description": _DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "http://localhost:9179", "description": "--http; or --api, a Unix socket"}],
        "paths": paths,
        "components": {"schemas": _schemas(endpoints)},
    }


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    answers = {HTTPStatus.OK: _answer("The answer", endpoint.answer, endpoint.content_type)}
    for status, when in endpoint.errors.items():
        answers[status] = _answer(when, endpoint.error_answer or documents.Error)
    if endpoint.parameters or endpoint.body:
        wrong = "A parameter or the body is wrong; the text names it"
        answers[HTTPStatus.BAD_REQUEST] = _answer(wrong, documents.Error)
    operation: dict[str, Any] = {
        "operationId": _operation_id(endpoint),
        "summary": endpoint.summary,
        "parameters": [
            *(_path_parameter(part[1:-1]) for part in endpoint.segments if part.startswith("{")),
            *(_query_parameter(one) for one in endpoint.parameters),
            *([_query_parameter(_PRETTY_PARAMETER)] if endpoint.content_type == JSON else []),
        ],
        "responses": {str(int(status)): answers[status] for status in sorted(answers)},
    }
    if endpoint.body is not None:
        operation["requestBody"] = {"required": False, "content": _content(endpoint.body, JSON)}
    return operation


def _operation_id(endpoint: Endpoint) -> str:
    """`getPeersName`, for those who generate clients."""
    parts = [part.strip("{}") for part in endpoint.segments if part not in ("api", "v1")]
    return endpoint.method.lower() + "".join(part.capitalize() for part in parts)


def _answer(when: str, kind: type[documents.Document] | None, content_type: str = JSON) -> dict[str, Any]:
    return {"description": when, "content": _content(kind, content_type)}


def _content(kind: type[documents.Document] | None, content_type: str) -> dict[str, Any]:
    schema = {"type": "string"} if kind is None else {"$ref": f"{_SCHEMAS}{kind.__name__}"}
    return {content_type: {"schema": schema}}


def _path_parameter(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}


def _query_parameter(one: Parameter) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": one.name,
        "in": "query",
        "description": one.description,
        "required": one.required,
        "schema": dict(one.schema),
    }
    if one.many:
        found |= {"style": "form", "explode": False}
    return found


def _schemas(endpoints: Iterable[Endpoint]) -> dict[str, Any]:
    kinds: dict[type[documents.Document], None] = {documents.Error: None, documents.Event: None}
    for endpoint in endpoints:
        kinds |= {one: None for one in (endpoint.answer, endpoint.body) if one is not None}
    _, found = msgspec.json.schema_components(kinds, ref_template=_SCHEMAS + "{name}")
    texts = _field_texts()
    for name, schema in found.items():
        for field, text in texts.get(name, {}).items():
            if field in schema.get("properties", {}):
                schema["properties"][field] = _described(schema["properties"][field], text)
    return dict(sorted(found.items()))


def _described(schema: Mapping[str, Any], text: str) -> dict[str, Any]:
    return {**schema, "description": text}


def _field_texts() -> dict[str, dict[str, str]]:
    """What `documents.py` says of fields: the string after each, by class and field; those of a class it
    builds on too. Nothing where there is no source."""
    try:
        tree = ast.parse(inspect.getsource(documents))
    except (OSError, TypeError):
        return {}
    texts: dict[str, dict[str, str]] = {}
    for node in tree.body:
        if not isinstance(node, ast.ClassDef):
            continue
        found: dict[str, str] = {}
        for base in node.bases:
            found |= texts.get(base.id, {}) if isinstance(base, ast.Name) else {}
        for field, after in zip(node.body, node.body[1:], strict=False):
            match field, after:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                    found[name] = " ".join(text.split())
        texts[node.name] = found
    return texts


if __name__ == "__main__":
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(published()), indent=2).decode() + "\n")

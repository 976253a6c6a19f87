"""The published document: valid, current, and true of what is answered."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from routed.observe.events import EventKind
from routed.observe.http.endpoints import TABLES
from routed.observe.http.openapi import published
from tests.observe.http.client import JSON_HEADERS, api_of
from tests.observe.http.test_api import TO_B, pair
from tests.virtual import Wire, virtual

FILE = Path(__file__).parents[3] / "docs" / "openapi.json"


def test_it_is_an_openapi_document() -> None:
    OpenAPIV31SpecValidator(published()).validate()


def test_the_committed_file_is_current() -> None:
    assert json.loads(FILE.read_text()) == published(), (
        f"run: python -m routed.observe.http.openapi > docs/{FILE.name}"
    )


def test_every_endpoint_is_in_it_and_described() -> None:
    document = published()
    rows = [one for one in TABLES["api"] if one.published]
    assert len(rows) == sum(len(methods) for methods in document["paths"].values())
    identifiers = set()
    for one in rows:
        operation = document["paths"][one.path][one.method.lower()]
        identifiers.add(operation["operationId"])
        assert operation["summary"]
        for parameter in operation["parameters"]:
            assert parameter["in"] == "path" or parameter["description"]
    assert len(identifiers) == len(rows)
    peer = document["components"]["schemas"]["PeerSummary"]["properties"]
    assert peer["flaps"]["description"] == "How often the session was up and was lost."
    assert document["components"]["schemas"]["Peer"]["properties"]["flaps"]["description"]
    kinds = document["paths"]["/api/v1/events"]["get"]["parameters"][1]["schema"]["items"]["enum"]
    assert kinds == [kind.value for kind in EventKind]


def test_no_schema_has_a_field_for_a_secret() -> None:
    text = json.dumps(published()["components"]).lower()
    for word in ('"password"', '"secret"', '"key"', '"token"'):
        assert word not in text


def validator(reference: dict[str, Any]) -> Draft202012Validator:
    return Draft202012Validator({**reference, "components": published()["components"]})


@pytest.mark.parametrize("path", list(published()["paths"]))
def test_answers_are_as_it_says(path: str) -> None:
    async def body(wire: Wire) -> None:
        one, *_ = await pair(wire)
        async with api_of(one) as here:
            for method, operation in published()["paths"][path].items():
                target = path.format(name=TO_B) + ("?target=10.2.0.0/26" if path.endswith("explain") else "")
                if path.endswith("/stream"):
                    return
                answered = await here.ask(method.upper(), target, b"", JSON_HEADERS)
                content = operation["responses"][str(answered.status)]["content"]
                ((content_type, described),) = content.items()
                if content_type != "application/json":
                    assert answered.headers["content-type"].startswith(content_type.partition(";")[0])
                    continue
                assert answered.headers["content-type"] == content_type
                validator(described["schema"]).validate(answered.json())

    virtual(body)()


@virtual
async def test_it_is_served(wire: Wire) -> None:
    one, *_ = await pair(wire)
    async with api_of(one) as here:
        assert await here.good("/api/v1/openapi.json") == published()

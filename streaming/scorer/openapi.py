"""The OpenAPI document: the operations of `api_operations`, with schemas from their msgspec declarations."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable, Mapping
from functools import cache
from types import MappingProxyType
from typing import Any

import msgspec

from streaming.scorer.api_operations import OPERATIONS, Operation
from streaming.scorer.schema import Problem

ABOUT: Mapping[str, Any] = MappingProxyType(
    {
        "title": "Driftline scorer",
        "summary": "Ranks candidates by a frozen backbone and a kernel that learns from the live stream.",
        "description": (
            "Send candidates to `/v1/score`, show the ranking, and send what the user did to `/v1/events` under the "
            "same `request_id`: seconds later a kernel that has learned from it answers.\n\nBodies are JSON in UTF-8, "
            "whatever their Content-Type, plain or with `Content-Encoding: gzip`. If an object contains a key twice, "
            "the last value counts. Every refusal is a `Problem`.\n\nIf keys are configured, send one as "
            "`Authorization: Bearer KEY`."
        ),
        "version": importlib.metadata.version("driftline"),
        "license_info": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
    }
)

_TAGS: Mapping[str, str] = MappingProxyType(
    {
        "scoring": "Ranking candidates, and reporting what the user did.",
        "kernels": "Which kernel answers, and how fresh it is.",
        "operations": "Health and readiness; both are also served on `scorer.metrics_port`, beside `/metrics`, where "
        "they answer even while requests are being scored.",
    }
)

_KEY = "key"
"""Name of the security scheme. An operation that may refuse with 401 takes a key, if keys are configured."""
_SECURITY_SCHEMES: Mapping[str, Any] = MappingProxyType(
    {
        _KEY: {
            "type": "http",
            "scheme": "bearer",
            "description": "A key of `access.keys` with the right to the call; `driftline key new` makes one.",
        }
    }
)


@cache
def document() -> dict[str, Any]:
    """The OpenAPI 3.1 document, built once."""
    types = list(dict.fromkeys(type_ for operation in OPERATIONS for type_ in _types(operation)))
    schemas, components = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    schema_of = dict(zip(types, schemas, strict=True))
    paths: dict[str, Any] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _described(operation, schema_of)
    return {
        "openapi": "3.1.0",
        "info": dict(ABOUT),
        "tags": [{"name": name, "description": text} for name, text in _TAGS.items()],
        "paths": paths,
        "components": {"schemas": components, "securitySchemes": dict(_SECURITY_SCHEMES)},
    }


def _types(operation: Operation) -> Iterable[Any]:
    yield Problem
    yield from (type_ for type_, _ in operation.answers.values())
    yield from (type_ for type_, _ in operation.query.values())
    if operation.body is not None:
        yield operation.body


def _described(operation: Operation, schema_of: Mapping[Any, Any]) -> dict[str, Any]:
    answers = {str(status): _answer(schema_of[type_], text) for status, (type_, text) in operation.answers.items()}
    if operation.answer_example is not None:
        (answer,) = answers.values()
        answer["content"]["application/json"]["example"] = msgspec.to_builtins(operation.answer_example)
    problems = {str(status): _answer(schema_of[Problem], text) for status, text in operation.problems.items()}
    described: dict[str, Any] = {
        "tags": [operation.tag],
        "operationId": operation.path.removeprefix("/v1").removeprefix("/"),
        "summary": operation.summary,
        "description": operation.description,
        "responses": answers | problems,
    }
    if 401 in operation.problems:
        described["security"] = [{}, {_KEY: []}]
    if operation.query:
        described["parameters"] = [
            {"name": name, "in": "query", "required": False, "description": text, "schema": schema_of[type_]}
            | ({"example": operation.query_example[name]} if name in operation.query_example else {})
            for name, (type_, text) in operation.query.items()
        ]
    if operation.body is not None:
        media = {"schema": schema_of[operation.body], **_examples(operation.body_examples)}
        described["requestBody"] = {"required": True, "content": {"application/json": media}}
    return described


def _examples(values: Mapping[str, Any]) -> dict[str, Any]:
    plain = {name: msgspec.to_builtins(value) for name, value in values.items()}
    if len(plain) == 1:
        return {"example": next(iter(plain.values()))}
    return {"examples": {name: {"value": value} for name, value in plain.items()}}


def _answer(schema: Any, description: str) -> dict[str, Any]:
    kind = "text/plain" if schema == {"type": "string"} else "application/json"
    return {"description": description, "content": {kind: {"schema": schema}}}

"""`/docs`: the OpenAPI document as one readable page. It loads no other files and runs no script.

The usual viewers load scripts from public hosts. A scorer in a closed network cannot reach those, and a company's
service should not depend on them.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import shlex
from collections.abc import Iterator, Mapping
from functools import cache
from types import MappingProxyType
from typing import Any
from urllib.parse import urlencode

from streaming.scorer import openapi

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1c1c1c;
  background: #fff; }
h2 { margin-top: 2.5rem; border-bottom: 1px solid #ccc; }
h3 code:first-child { font-weight: bold; }
table { border-collapse: collapse; width: 100%; }
td, th { border: 1px solid #ddd; padding: .3rem .6rem; text-align: left; vertical-align: top; }
code { font-family: ui-monospace, monospace; font-size: .92em; overflow-wrap: anywhere; }
pre { background: #f6f6f6; padding: .7rem; overflow-x: auto; }
@media (prefers-color-scheme: dark) {
  body { color: #e6e6e6; background: #181818; } pre { background: #242424; } a { color: #8ab4f8; }
  td, th { border-color: #444; } h2 { border-color: #555; }
}
"""
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
HEADERS: Mapping[str, str] = MappingProxyType(
    {
        "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'",
        "X-Content-Type-Options": "nosniff",
    }
)


@cache
def page() -> str:
    """The whole page, made once."""
    document = openapi.document()
    about = document["info"]
    body = [f"<h1>{_text(about['title'])} {_text(about['version'])}</h1>", _paragraphs(about["description"])]
    body.append('<p>The same for programs: <a href="openapi.json">openapi.json</a>.</p>')
    body.append("<p>In the calls below, <code>SCORER</code> is the address of this page without its path.</p>")
    for tag in document["tags"]:
        body += [f"<h2>{_text(tag['name']).capitalize()}</h2>", _paragraphs(tag["description"])]
        body += [
            part
            for path, operations in document["paths"].items()
            for method, operation in operations.items()
            if tag["name"] in operation["tags"]
            for part in _operation(method, path, operation)
        ]
    body.append("<h2>Types</h2>")
    for name, schema in document["components"]["schemas"].items():
        body += _schema(name, schema)
    head = f'<meta charset="utf-8"><title>{_text(about["title"])}</title><style>{_STYLE}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(body)}</body></html>'


def _operation(method: str, path: str, operation: Mapping[str, Any]) -> Iterator[str]:
    yield f"<h3><code>{method.upper()} {_text(path)}</code> {_text(operation['summary'])}</h3>"
    yield _paragraphs(operation["description"])
    yield f"<pre>{html.escape(_call(path, operation))}</pre>"
    if "parameters" in operation:
        items = [
            f"<li><code>{_text(parameter['name'])}</code> {_text(parameter['description'])}</li>"
            for parameter in operation["parameters"]
        ]
        yield f"<p>Query:</p><ul>{''.join(items)}</ul>"
    for media in operation.get("requestBody", {}).get("content", {}).values():
        yield f"<p>Body: {_type(media['schema'])}</p>"
        yield from _examples(media)
    rows = []
    for status, answer in operation["responses"].items():
        types = " ".join(_type(media["schema"]) for media in answer["content"].values())
        rows.append(f"<tr><td>{_text(status)}</td><td>{types}</td><td>{_text(answer['description'])}</td></tr>")
    yield f"<table><tr><th>Status</th><th>Body</th><th>Meaning</th></tr>{''.join(rows)}</table>"
    for answer in operation["responses"].values():
        for media in answer["content"].values():
            yield from _examples(media)


def _call(path: str, operation: Mapping[str, Any]) -> str:
    """A shell command that makes the call, with the first example of its body."""
    given = {one["name"]: one["example"] for one in operation.get("parameters", ()) if "example" in one}
    query = f"?{urlencode(given)}" if given else ""
    command = f'curl -s "$SCORER{path}{query}"'
    for media in operation.get("requestBody", {}).get("content", {}).values():
        example, *_ = _example_values(media)
        command += f" -d {shlex.quote(json.dumps(example, ensure_ascii=False))}"
    return command


def _example_values(media: Mapping[str, Any]) -> list[Any]:
    return [media["example"]] if "example" in media else [e["value"] for e in media.get("examples", {}).values()]


def _examples(media: Mapping[str, Any]) -> Iterator[str]:
    for value in _example_values(media):
        yield f"<pre>{html.escape(json.dumps(value, indent=2, ensure_ascii=False))}</pre>"


def _schema(name: str, schema: Mapping[str, Any]) -> Iterator[str]:
    yield f'<h3 id="{_text(name)}"><code>{_text(name)}</code></h3>{_paragraphs(schema.get("description", ""))}'
    required = set(schema.get("required", ()))
    rows = [
        f"<tr><td><code>{_text(key)}</code>{'' if key in required else ' (optional)'}</td>"
        f"<td>{_type(part)}</td><td>{_text(part.get('description', ''))}</td></tr>"
        for key, part in schema.get("properties", {}).items()
    ]
    yield f"<table><tr><th>Key</th><th>Type</th><th>Meaning</th></tr>{''.join(rows)}</table>"


def _type(schema: Mapping[str, Any]) -> str:
    """A JSON schema in words."""
    if "$ref" in schema:
        name = _text(schema["$ref"].rsplit("/", 1)[1])
        return f'<a href="#{name}">{name}</a>'
    if "anyOf" in schema:
        return " or ".join(_type(one) for one in schema["anyOf"])
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    if "enum" in schema:
        return " or ".join(f"<code>{_text(json.dumps(one))}</code>" for one in schema["enum"])
    return _text(str(schema.get("type", "anything")))


def _paragraphs(text: str) -> str:
    return "".join(f"<p>{_text(part)}</p>" for part in text.split("\n\n") if part)


def _text(text: str) -> str:
    """Escaped text, with backquoted parts as `<code>`."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text))

"""Text files are read and written as UTF-8 by name: the locale of a machine decides nothing."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
ROOMS = ("driftline", "local", "lab", "streaming", "features", "model", "benchmarks")
_TEXT_CALLS = {"read_text": 0, "write_text": 1, "open_text": 1}
"""Methods of paths that read or write text, and the positional argument that is their encoding."""


def _unnamed(tree: ast.AST) -> Iterator[int]:
    """Lines of calls that leave the encoding to the locale."""
    awaited = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Await)}  # a connection, no file
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or id(node) in awaited:
            continue
        if not any(word.arg == "encoding" for word in node.keywords) and _is_text(node):
            yield node.lineno


def _is_text(call: ast.Call) -> bool:
    """Whether a call reads or writes text without an encoding among its positional arguments."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    if name == "open":
        return not _binary(call)
    return isinstance(call.func, ast.Attribute) and len(call.args) <= _TEXT_CALLS.get(name, -1)


def _binary(call: ast.Call) -> bool:
    """Whether a call of `open` names a binary mode, or is no opening of a file (an archive's, say)."""
    modes = [a.value for a in (*call.args, *(w.value for w in call.keywords)) if isinstance(a, ast.Constant)]
    if isinstance(call.func, ast.Attribute) and call.args and not any(_is_mode(mode) for mode in modes):
        return True
    return any(_is_mode(mode) and "b" in str(mode) for mode in modes)


def _is_mode(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= 3 and set(value) <= set("rwaxbt+")


def test_no_text_file_is_read_or_written_by_the_locale() -> None:
    sources = [path for room in ROOMS for path in (ROOT / room).rglob("*.py")]
    assert sources
    unnamed = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in sources
        for line in _unnamed(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert not unnamed, "name the encoding: " + ", ".join(unnamed)

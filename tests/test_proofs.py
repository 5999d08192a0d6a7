"""The page of failures names every proof of `tests/chaos/`, and no other."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "failures.md").read_text(encoding="utf-8")


def proofs() -> set[str]:
    """Every test function of the chaos folder."""
    return {
        node.name
        for path in (ROOT / "tests" / "chaos").glob("test_*.py")
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    }


def test_the_page_of_failures_lists_exactly_the_existing_proofs() -> None:
    table = PAGE.partition("\n## Proofs\n")[2]
    assert set(re.findall(r"^\|[^|]*\| `(test_\w+)` \|", table, flags=re.MULTILINE)) == proofs()

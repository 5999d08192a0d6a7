"""Imports run one way: driftline -> local -> lab -> streaming -> features -> model."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ORDER = ("driftline", "local", "lab", "streaming", "features", "model")
MODULES = sorted(path for package in ORDER for path in (ROOT / package).rglob("*.py"))


def imported_packages(path: Path) -> set[str]:
    """First names of everything that `path` imports, wherever in the file the import stands."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import hides which package it goes to"
            names.add((node.module or "").split(".")[0])
    return names


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_imports_only_its_own_package_and_the_ones_below(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]
    allowed = set(ORDER[ORDER.index(package) :])
    above = imported_packages(path) & (set(ORDER) - allowed)
    assert not above, f"{path.relative_to(ROOT)} imports {sorted(above)}, which stand above {package}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_product_module_imports_tests_or_benchmarks(path: Path) -> None:
    assert not imported_packages(path) & {"tests", "benchmarks"}

"""The packages of `local` import in one direction: the demo uses replay, report and broker, none of which uses it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

LOCAL = Path(__file__).resolve().parents[2] / "local"
ALLOWED = {
    "broker": {"broker"},
    "replay": {"replay"},
    "report": {"report"},
    "demo": {"demo", "replay", "report", "broker"},
}


@pytest.mark.parametrize("package", ALLOWED)
def test_a_package_of_local_imports_only_its_declared_dependencies(package: str) -> None:
    imports = re.compile(r"^\s*(?:from|import) local\.(\w+)", re.MULTILINE)
    for path in (LOCAL / package).glob("*.py"):
        imported = set(imports.findall(path.read_text(encoding="utf-8"))) & ALLOWED.keys()
        assert imported <= ALLOWED[package], f"{path} imports {imported - ALLOWED[package]}"

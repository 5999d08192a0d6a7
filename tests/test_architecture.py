"""The map in docs/architecture.md and every other page name files and functions that exist."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
PACKAGES = ("driftline", "local", "lab", "streaming", "features", "model")
STEPS = re.findall(r"`([\w/.-]+\.py)::([\w.]+)`", PAGE)
PAGES = sorted(p.relative_to(ROOT).as_posix() for p in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")))
FOLDERS = sorted(
    folder.relative_to(ROOT).as_posix()
    for package in PACKAGES
    for folder in (ROOT / package, *(ROOT / package).iterdir())
    if folder.is_dir() and any(folder.glob("*.py"))
)


@cache
def definitions(path: str) -> frozenset[str]:
    """Names that a file defines at its top, and `Class.method` names."""
    names: set[str] = set()
    for node in ast.parse((ROOT / path).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef):
            names |= {node.name, *(f"{node.name}.{part.name}" for part in node.body if hasattr(part, "name"))}
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {target.id for target in targets if isinstance(target, ast.Name)}
    return frozenset(names)


@pytest.mark.parametrize(("path", "name"), sorted(set(STEPS)))
def test_every_step_of_the_map_exists(path: str, name: str) -> None:
    assert (ROOT / path).is_file(), f"docs/architecture.md names {path}, which does not exist"
    assert name in definitions(path), f"docs/architecture.md names {path}::{name}, which is not defined there"


def test_the_map_follows_a_click_and_a_kernel_end_to_end() -> None:
    assert len(STEPS) >= 30


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_folder_has_a_line_on_the_map(folder: str) -> None:
    assert f"`{folder}/`" in PAGE, f"docs/architecture.md has no line for {folder}/"


@pytest.mark.parametrize("page", PAGES)
def test_files_and_folders_named_on_pages_exist(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    tops = "|".join((*PACKAGES, "tests", "benchmarks", "docs"))
    for path in re.findall(rf"`((?:{tops})/[\w/.-]+)(?:`|::)", text):
        assert (ROOT / path).exists(), f"{page} names {path}, which does not exist"

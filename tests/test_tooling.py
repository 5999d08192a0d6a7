"""The tools around the code say the same thing: versions, line lengths, commands, workflow, documentation site."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

import driftline

ROOT = Path(__file__).resolve().parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
WORKFLOW = ROOT / ".github" / "workflows" / "ci.yml"


def test_the_changelog_has_a_section_for_the_version() -> None:
    assert f"\n## [{driftline.__version__}] - 20" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_line_width_of_editors_is_that_of_the_formatter() -> None:
    lengths = re.findall(r"max_line_length = (\d+)", (ROOT / ".editorconfig").read_text(encoding="utf-8"))
    assert lengths
    assert set(lengths) == {str(PROJECT["tool"]["ruff"]["line-length"])}


def test_the_workflow_runs_every_python_that_the_package_names() -> None:
    workflow = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))
    named = {c.rsplit(" ", 1)[1] for c in PROJECT["project"]["classifiers"] if "Python :: 3." in c}
    assert set(workflow["jobs"]["test"]["strategy"]["matrix"]["python"]) == named


@pytest.mark.slow
@pytest.mark.parametrize(
    ("schema", "path"),
    [
        ("vendor.github-workflows", WORKFLOW),
        ("vendor.github-issue-forms", ROOT / ".github/ISSUE_TEMPLATE/bug.yml"),
        ("vendor.github-issue-forms", ROOT / ".github/ISSUE_TEMPLATE/feature.yml"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.name,
)
def test_github_files_follow_their_schemas(schema: str, path: Path) -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_make_target_named_in_a_file_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", MAKEFILE, flags=re.MULTILINE))
    for name in (".pre-commit-config.yaml", "CONTRIBUTING.md", "README.md", ".ci/run", ".github/workflows/ci.yml"):
        text = (ROOT / name).read_text(encoding="utf-8")
        used = set(re.findall(r"(?:^|`|: |run: )make ([a-z-]+)", text, flags=re.MULTILINE))
        assert used <= targets, f"{name} names make {sorted(used - targets)}"


def test_processes_started_by_make_cache_bytecode_even_if_the_environment_forbids_it() -> None:
    command = ["make", "--no-print-directory", "--eval", "told: ; @echo forbidden=$${PYTHONDONTWRITEBYTECODE-}", "told"]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert result.stdout == "forbidden=\n"


def test_every_package_is_marked_as_typed_and_is_in_the_wheel() -> None:
    packages = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert len(packages) == 6
    for package in packages:
        assert (ROOT / package / "py.typed").is_file()


@pytest.mark.slow
def test_the_documentation_site_builds_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "site" / "architecture" / "index.html").is_file()

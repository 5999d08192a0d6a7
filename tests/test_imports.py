"""Imports run one way: driftline -> local -> lab -> streaming -> features -> model."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ORDER = ("driftline", "local", "lab", "streaming", "features", "model")


def imported_packages(path: Path) -> set[str]:
    """Top-level names of everything that `path` imports, anywhere in the file."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import hides which package it goes to"
            names.add((node.module or "").split(".")[0])
    return names


@pytest.mark.parametrize("package", ORDER)
def test_a_package_imports_only_itself_and_lower_packages(package: str) -> None:
    above = {*ORDER[: ORDER.index(package)], "tests", "benchmarks"}
    paths = sorted((ROOT / package).rglob("*.py"))
    assert paths
    wrong = {str(path.relative_to(ROOT)): reached for path in paths if (reached := imported_packages(path) & above)}
    assert not wrong


CORES = {
    "streaming/join": ("streaming.group", "streaming.processor", "streaming.scorer", "streaming.ingest"),
    "streaming/group": ("streaming.processor", "streaming.scorer", "streaming.ingest"),
}
SHELLS = ("kafka", "faust", "mode", "fastapi", "time", "threading", "asyncio")
"""Brokers, clocks and threads."""


@pytest.mark.parametrize("core", CORES)
def test_a_core_imports_no_broker_clock_or_thread_and_none_of_its_shells(core: str) -> None:
    paths = [*(ROOT / core).glob("*.py")]
    assert paths
    for path in paths:
        assert not imported_packages(path) & set(SHELLS), path
        nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        modules = [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
        assert not [name for name in modules if name.startswith(CORES[core])], path


HEAVY = ("torch", "faust", "feast", "pandas", "scipy", "fastapi", "kafka")


def test_the_command_line_starts_without_the_libraries_that_take_seconds() -> None:
    program = f"import sys, driftline.cli; print(*[name for name in {HEAVY!r} if name in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert loaded.stdout.split() == []


def test_ingest_without_external_impressions_starts_without_pytorch_and_what_feast_seldom_uses() -> None:
    heavy = ("torch", "scipy", "sklearn", "sqlalchemy", "uvicorn")
    modules = "streaming.ingest.service, features.store.feature_store, features.text"
    program = f"import sys, {modules}; print(*[name for name in {heavy!r} if name in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert loaded.stdout.split() == []


def test_an_evaluation_starts_without_the_statistics_of_scipy() -> None:
    modules = "lab.evaluate.command, lab.detection.command, lab.text_models.command"
    program = f"import sys, {modules}; print('scipy.stats' in sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert loaded.stdout.split() == ["False"]


def test_a_pretraining_does_not_load_the_compiler_of_pytorch() -> None:
    program = """if True:
        import sys
        from model.backbone.pretrain import pretrain
        from model.config import PretrainConfig
        from tests.model.conftest import SIZES, SMALL, World

        world, once = World(examples=100), PretrainConfig(epochs=1, batch_size=64, content_steps=2)
        parts = world.examples, world.users, world.items, world.encoder
        pretrain(*parts, domain_sizes=SIZES, backbone=SMALL, config=once)
        print("torch" in sys.modules, "torch._dynamo" in sys.modules)
    """
    loaded = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert loaded.stdout.split() == ["True", "False"]

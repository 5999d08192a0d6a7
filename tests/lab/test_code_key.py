"""Kept work is keyed by all code that it runs, and by none that only reads it."""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lab.code_key import PACKAGES, ROOT, code_digest, deciding_files
from lab.evaluate.plan import WORK
from tests.lab.evaluate.small import write_small_log

BACKBONE = "lab.backbone_training"
READERS = ("report", "page", "plots", "compare", "tables", "measures", "goals", "tune", "command", "pool")

EVALUATE = """
from lab.evaluate.plan import make_plan
from lab.evaluate.work import prepare_stream, run_adapter
from lab.streams.sources import Source
source = Source("shop", log=folder / "log.csv", mapping=folder / "mapping.yaml")
plan = make_plan([source], ("all",), 1, folder, folder, quick=True)
prepare_stream(plan, source, 0)
for name in plan.adapters:
    run_adapter(plan, source, 0, name)
"""

TRAIN = """
from lab.backbone_training import train_backbone
from lab.streams.logged.logs import open_log
from lab.streams.recording import Recording
from model.config import PretrainConfig
from streaming.config import Config
config = Config(cache_dir=folder, pretrain=PretrainConfig(epochs=1))
data = Recording(open_log(folder / "mapping.yaml", folder / "log.csv"), "shop")
(folder / "backbone").mkdir()
train_backbone(config, data, folder / "backbone", lambda *_: None, lambda *_: None)
"""


def loaded_by(script: str, folder: Path) -> set[Path]:
    """The files of our modules that a process of its own has loaded once `script` is through."""
    write_small_log(folder)
    head = f"import json, sys\nfrom pathlib import Path\nfolder = Path({str(folder)!r})\n"
    tail = "\nprint(json.dumps({name: module.__file__ for name, module in sys.modules.items() if module is not None"
    tail += " and getattr(module, '__file__', None)}))"
    done = subprocess.run(
        [sys.executable, "-c", head + script + tail], cwd=ROOT, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    modules = json.loads(done.stdout.splitlines()[-1])
    return {Path(file) for name, file in modules.items() if name.partition(".")[0] in PACKAGES}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "entries"),
    [(EVALUATE, (WORK,)), (TRAIN, (BACKBONE, "lab.streams.recording", "lab.streams.logged.logs", "streaming.config"))],
    ids=["evaluate", "pretrain"],
)
def test_every_module_that_a_real_run_loads_is_in_its_key(
    script: str, entries: tuple[str, ...], tmp_path: Path
) -> None:
    loaded = loaded_by(script, tmp_path)
    missing = loaded - set(deciding_files(*entries))
    assert len(loaded) > 25
    assert not missing, f"run but not keyed: {sorted(str(path.relative_to(ROOT)) for path in missing)}"


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Our packages as a tree of their own, to be changed."""
    root = tmp_path_factory.mktemp("tree")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, root / package, ignore=shutil.ignore_patterns("__pycache__"))
    return root


def with_a_constant_changed(source: str) -> str:
    """`source` with its last number or word changed; with one more constant where it has none."""
    tree = ast.parse(source)
    docstrings = {node.body[0].value for node in ast.walk(tree) if isinstance(node, ast.Module | ast.ClassDef |
                  ast.FunctionDef) and node.body and isinstance(node.body[0], ast.Expr)}  # fmt: skip
    numbers = [
        node for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and type(node.value) in {int, float} and node not in docstrings
    ]  # fmt: skip
    if not numbers:
        return source + "\nCHANGED = 1\n"
    lines = source.splitlines(keepends=True)
    number = max(numbers, key=lambda node: (node.lineno, node.col_offset))
    line = lines[number.lineno - 1].encode()
    lines[number.lineno - 1] = (line[: number.col_offset] + b"7654321" + line[number.end_col_offset :]).decode()
    return "".join(lines)


@pytest.mark.slow
@pytest.mark.parametrize("entry", [WORK, BACKBONE])
def test_a_changed_constant_changes_the_key_exactly_if_the_work_runs_its_module(entry: str, copied: Path) -> None:
    key = code_digest(entry, root=copied)
    deciding = set(deciding_files(entry, root=copied))
    assert {path.relative_to(copied) for path in deciding} == {path.relative_to(ROOT) for path in deciding_files(entry)}
    others = {path: path.read_text(encoding="utf-8") for path in copied.rglob("*.py") if path not in deciding}
    assert len(others) > 50
    for path, before in others.items():  # all at once: none of them may count
        path.write_text(with_a_constant_changed(before), encoding="utf-8")
    assert code_digest(entry, root=copied) == key
    for path, before in others.items():
        path.write_text(before, encoding="utf-8")
    for path in sorted(deciding):
        before = path.read_text(encoding="utf-8")
        path.write_text(with_a_constant_changed(before), encoding="utf-8")
        assert code_digest(entry, root=copied) != key, path.relative_to(copied)
        path.write_text(before, encoding="utf-8")
    assert code_digest(entry, root=copied) == key


def test_modules_that_only_read_results_or_serve_are_in_no_key() -> None:
    keyed = {str(path.relative_to(ROOT)) for path in deciding_files(WORK, BACKBONE)}
    assert not keyed & {f"lab/evaluate/{name}.py" for name in READERS}
    assert not keyed & {"lab/pretraining.py", "lab/progress.py"}
    assert not [path for path in keyed if path.startswith("streaming/")]


def test_the_code_of_every_part_of_the_work_is_in_the_key() -> None:
    keyed = {str(path.relative_to(ROOT)) for path in deciding_files(WORK)}
    assert keyed >= {
        "lab/adapters/full_fine_tuning.py",
        "lab/evaluate/prequential.py",
        "lab/streams/logged/tables.py",
        "features/live/table.py",
        "features/text.py",
        "model/kernel/learner.py",
        "model/config/backbone.py",
    }


def tree(folder: Path, **sources: str) -> Path:
    """A package `lab` with the given modules."""
    (folder / "lab" / "inner").mkdir(parents=True)
    for package in ("lab", "lab/inner"):
        (folder / package / "__init__.py").write_text("")
    for name, source in sources.items():
        (folder / f"{name.replace('_', '/')}.py").write_text(source)
    return folder


@pytest.mark.parametrize(
    "source",
    [
        "import lab.inner.deep",
        "import lab.inner.deep as other",
        "from lab.inner import deep",
        "from lab.inner.deep import VALUE",
        "def work():\n    from lab.inner import deep",
        "try:\n    pass\nfinally:\n    import lab.inner.deep",
        "if True:\n    pass\nelse:\n    import lab.inner.deep",
        "if TYPE_CHECKING:\n    pass\nelse:\n    import lab.inner.deep",
    ],
)
def test_an_import_counts_wherever_and_however_it_is_written(source: str, tmp_path: Path) -> None:
    root = tree(tmp_path, lab_entry=source, lab_inner_deep="VALUE = 1")
    names = [str(path.relative_to(root)) for path in deciding_files("lab.entry", root=root)]
    assert names == ["lab/__init__.py", "lab/entry.py", "lab/inner/__init__.py", "lab/inner/deep.py"]


def test_what_a_parent_package_imports_counts_and_what_the_type_checker_reads_does_not(tmp_path: Path) -> None:
    checked = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from lab import other\n"
    root = tree(tmp_path, lab_entry="import lab.inner.deep", lab_inner_deep=checked, lab_other="", lab_more="")
    (root / "lab" / "inner" / "__init__.py").write_text("import lab.more")
    names = [path.name for path in deciding_files("lab.entry", root=root)]
    assert names == ["__init__.py", "entry.py", "__init__.py", "deep.py", "more.py"]


def test_two_modules_with_swapped_contents_change_the_key(tmp_path: Path) -> None:
    root = tree(tmp_path, lab_entry="from lab import a, b", lab_a="X = 1", lab_b="X = 2")
    key = code_digest("lab.entry", root=root)
    (root / "lab" / "a.py").write_text("X = 2")
    (root / "lab" / "b.py").write_text("X = 1")
    assert code_digest("lab.entry", root=root) != key


def test_a_missing_module_of_the_project_is_refused_and_a_foreign_module_adds_nothing() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"lab\.evaluate\.gone"):
        code_digest(WORK, "lab.evaluate.gone")
    assert code_digest(WORK, "torch") == code_digest(WORK)

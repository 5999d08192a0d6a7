"""A hash of the code that a piece of work runs: what is kept under it is made again when that code changes.

The code is what the work's modules import, read from their source: imports inside functions count, imports for the
type checker alone do not. A module counts with the packages that hold it, for Python runs their `__init__` first.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("lab", "streaming", "features", "model")
"""Our own packages, as far as the lab may import them; the locked environment decides all others."""


def code_digest(*modules: str, root: Path = ROOT) -> str:
    """Hash of the source of `modules` and of all of Driftline's modules that they import, however indirectly.

    Raises ModuleNotFoundError if one of Driftline's modules is not below `root`; other modules are ignored.
    """
    digest = hashlib.sha256()
    for path in deciding_files(*modules, root=root):
        source = path.read_bytes()
        digest.update(f"{path.relative_to(root)} {len(source)}\n".encode())
        digest.update(source)
    return digest.hexdigest()


def deciding_files(*modules: str, root: Path = ROOT) -> list[Path]:
    """The files that `code_digest` hashes, sorted. Raises ModuleNotFoundError as it does."""
    files: set[Path] = set()
    waiting, looked_up = list(modules), set[str]()  # a name is imported in many files, and looked for once
    for module in modules:
        if _is_ours(module) and _file(root, module) is None:
            raise ModuleNotFoundError(f"there is no module {module} below {root}", name=module)
    while waiting:
        name = waiting.pop()
        if name in looked_up:
            continue
        looked_up.add(name)
        path = _file(root, name)
        if path is not None and path not in files:
            files.add(path)
            waiting += _imports(path.read_text(encoding="utf-8"))
            waiting += [".".join(folder.parts) for folder in path.relative_to(root).parents if folder.parts]
    return sorted(files)


def _is_ours(module: str) -> bool:
    return module.partition(".")[0] in PACKAGES


def _file(root: Path, module: str) -> Path | None:
    """The file of one of Driftline's modules; None for other modules, and for an imported name that is no module."""
    if not _is_ours(module):
        return None
    path = root.joinpath(*module.split("."))
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)


@lru_cache(maxsize=1024)
def _imports(source: str) -> tuple[str, ...]:
    """Every name that `source` imports: `from a import b` may mean the module `a.b` as well as `a`."""
    return tuple(dict.fromkeys(_names(ast.parse(source))))


def _names(node: ast.AST) -> Iterator[str]:
    children = ast.iter_child_nodes(node)
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module:
        yield node.module
        yield from (f"{node.module}.{alias.name}" for alias in node.names)
    elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
        children = iter(node.orelse)
    for child in children:
        yield from _names(child)

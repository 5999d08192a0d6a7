"""Decision records: each is listed, and code refers to records that exist."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "decisions"
RECORDS = sorted(FOLDER.glob("[0-9]*.md"))
PACKAGES = ("driftline", "local", "lab", "streaming", "features", "model", "benchmarks")


def test_every_record_is_listed_once_with_its_title() -> None:
    listed = re.findall(r"\| \[(\d{4})\]\((\S+)\) \| (.+) \|", (FOLDER / "index.md").read_text(encoding="utf-8"))
    titles = [path.read_text(encoding="utf-8").split("\n", 1)[0] for path in RECORDS]
    assert [f"# {number} {title}" for number, _, title in sorted(listed)] == titles
    assert sorted(name for _, name, _ in listed) == [path.name for path in RECORDS]


def test_decision_records_named_in_code_exist() -> None:
    numbers = {path.name[:4] for path in RECORDS}
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            for number in re.findall(r"decisions?[ /](\d{1,4})\b", path.read_text(encoding="utf-8")):
                assert number.zfill(4) in numbers, f"{path.relative_to(ROOT)} names decision {number}"

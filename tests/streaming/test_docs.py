"""What the pages say of settings, metrics, refusals and files is so."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import typer
from prometheus_client import REGISTRY
from typer.core import TyperGroup

from driftline.cli import app
from streaming.config import load_config
from streaming.config_docs import keys
from streaming.events import REASONS, decode_event
from streaming.monitoring import metrics
from streaming.monitoring.metrics.join import JOIN_DROPPED

ROOT = Path(__file__).resolve().parents[2]
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text() for path in [ROOT / "README.md", *ROOT.glob("docs/**/*.md")]
}
FAILURES, OPERATIONS = PAGES["docs/failures.md"], PAGES["docs/operations.md"]


@pytest.mark.parametrize("page", PAGES)
def test_relative_links_lead_to_files(page: str) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", PAGES[page]):
        if "://" not in target:
            assert (ROOT / page).parent.joinpath(target).exists(), f"{page} links to {target}"


@pytest.mark.parametrize("page", PAGES)
def test_links_into_a_page_find_their_heading(page: str) -> None:
    for target, anchor in re.findall(r"\]\(([^)#\s]*)#([^)]+)\)", PAGES[page]):
        if "://" in target:
            continue
        other = (ROOT / page).parent.joinpath(target).resolve() if target else ROOT / page
        headings = re.findall(r"^#+ (.+)$", other.read_text(), re.M)
        assert anchor in {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_every_setting_a_page_names_exists(page: str) -> None:
    sections = {key.section[0] for key in keys() if key.section}
    known = {key.path for key in keys()}
    named = set(re.findall(rf"`((?:{'|'.join(sections)})\.[a-z0-9_]+)(?: = [^`]*)?`", PAGES[page]))
    assert named - known - {f"{section}.py" for section in sections} == set()


@pytest.mark.parametrize("page", PAGES)
def test_every_environment_variable_a_page_names_exists(page: str) -> None:
    known = {key.environment for key in keys()} | {"DRIFTLINE_CONFIG"}
    assert set(re.findall(r"\bDRIFTLINE_[A-Z0-9_]*[A-Z0-9]", PAGES[page])) - known == set()


def test_every_metric_a_page_names_exists() -> None:
    assert metrics.every_process.TASK_FAILURES in REGISTRY._collector_to_names
    declared = {name for name in REGISTRY._names_to_collectors if name.startswith("driftline_")}
    for page, text in PAGES.items():
        assert set(re.findall(r"\bdriftline_\w+", text)) <= declared, page


def test_every_reason_for_a_dead_letter_is_explained() -> None:
    table = FAILURES.split("\n| reason | what was wrong |\n", 1)[1].split("\n\n", 1)[0]
    assert set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`.*?) \|", table, re.M)))) == set(REASONS)


def test_the_events_on_the_page_are_valid() -> None:
    block = OPERATIONS.split("```json\n", 1)[1].split("```", 1)[0]
    kinds = [msgspec.json.decode(line)["event"] for line in block.splitlines()]
    assert kinds == ["item", "user", "impression", "feedback", "drift"]
    for line in block.splitlines():
        decode_event(line.encode())


def test_the_configurations_on_the_page_are_valid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRIFTLINE_KAFKA__SASL_PASSWORD", "of-this-test")
    blocks = [block.split("```", 1)[0] for block in OPERATIONS.split("```toml\n")[1:]]
    assert len(blocks) == 5
    for block in blocks:
        (tmp_path / "driftline.toml").write_text(block, encoding="utf-8")
        load_config(tmp_path / "driftline.toml")


def test_the_join_reasons_on_the_pages_exist_in_the_code() -> None:
    folders = [ROOT / "streaming" / name for name in ("join", "group", "processor")]
    code = "".join(path.read_text() for folder in folders for path in folder.glob("*.py"))
    for reason in re.findall(r'driftline_join_dropped_total\{reason="(\w+)"\}', "".join(PAGES.values())):
        assert f'"{reason}"' in code


def test_every_reason_for_which_the_join_drops_a_record_is_explained() -> None:
    reasons = JOIN_DROPPED._documentation.partition("by reason: ")[2].rstrip(".").split(", ")
    assert [
        reason for reason in reasons if f"`{reason}`" not in FAILURES and f'reason="{reason}"' not in FAILURES
    ] == []


def test_every_alert_a_page_names_exists() -> None:
    alerts = set(re.findall(r"alert: (\w+)", (ROOT / "streaming/monitoring/rules.yml").read_text()))
    for page, text in PAGES.items():
        assert set(re.findall(r"\bDriftline[A-Z][a-z]\w+", text)) <= alerts, page


def commands_in(text: str) -> Iterator[list[str]]:
    """The words of each `driftline` command: in backticks, also over a line end, or indented as a block."""
    whole = text.replace("\\\n", " ")
    quoted = re.findall(r"(?<!`)`(?:[A-Z_]+=\S+ )?driftline (?!->)([^`]+)`", whole)
    blocks = re.findall(r"^(?: {4}|\$ )driftline (.+)$", whole, re.M)
    for words in (*quoted, *blocks):
        yield shlex.split(words.partition(">")[0], comments=True)


@pytest.mark.parametrize("page", [page for page in PAGES if "/decisions/" not in page])
def test_every_command_a_page_names_exists_with_its_options(page: str) -> None:
    for words in commands_in(PAGES[page]):
        command, rest = typer.main.get_command(app), words
        context = typer.Context(command)
        while rest and isinstance(command, TyperGroup):
            _, rest, _ = command.make_parser(context).parse_args(list(rest))
            name, found, rest = command.resolve_command(context, rest)
            assert found is not None
            command = found
            context = typer.Context(command, parent=context, info_name=name)
        _, left, _ = command.make_parser(context).parse_args(list(rest))
        assert not left, f"{page}: driftline {shlex.join(words)}"

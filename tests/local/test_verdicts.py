"""Verdicts of the drift monitor, read back from its decisions: spans computed by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from rich.console import Console

from local.report import build_report, draw_plot, report_table, scored_stream
from local.report.verdicts import bands_of, verdict_spans
from model.drift.verdict import VerdictKind
from streaming.events.decisions import Decision
from tests.local.test_report import LOG, run


def verdict(stratum: str, to: str, time: float, **changes: Any) -> Decision:
    detail = {"stratum": stratum, "from": "stable", "to": to, "since": time - 1, "words": f"{stratum} is {to}."}
    return Decision("verdict", "main", time, "monitor", detail | changes)


def test_a_verdict_holds_until_the_next_one_of_its_stratum() -> None:
    spans = verdict_spans(
        [
            verdict("group", "stable", 1.0),
            verdict("scene=home", "drifting_unhandled", 2.0),
            verdict("scene=home", "drifting_handled", 5.0),
        ]
    )
    spanned = [(span.stratum, span.kind, span.begins, span.ends) for span in spans]
    assert spanned == [
        ("group", VerdictKind.STABLE, 1.0, None),
        ("scene=home", VerdictKind.UNHANDLED, 2.0, 5.0),
        ("scene=home", VerdictKind.HANDLED, 5.0, None),
    ]


def test_groups_with_equal_strata_do_not_end_each_others_verdicts() -> None:
    first, second = verdict("group", "stable", 1.0), verdict("group", "stable", 2.0)
    spans = verdict_spans([first, Decision("verdict", "other", second.time, "monitor", second.detail)])
    assert [span.ends for span in spans] == [None, None]


@pytest.mark.parametrize(
    "changes", [{"to": "splendid"}, {"since": "yesterday"}, {"since": None}], ids=["kind", "text", "none"]
)
def test_an_unreadable_verdict_is_skipped(changes: dict[str, Any]) -> None:
    spoilt = verdict("group", changes.pop("to", "stable"), 1.0, **changes)
    assert verdict_spans([spoilt, Decision("alarm", "main", 1.0, "monitor")]) == []


def test_the_file_holds_the_first_and_last_item_of_a_verdict() -> None:
    stream = scored_stream(LOG)
    stream = replace(stream, time=np.arange(len(stream), dtype=np.float64))
    spans = verdict_spans([verdict("group", "labels_faulty", 2.0), verdict("group", "stable", 4.0)])
    report = build_report(stream, run(verdicts=spans))
    spanned = [(one["verdict"], one["first_item"], one["last_item"]) for one in report.as_json()["verdicts"]]
    assert spanned == [("labels_faulty", 2, 4), ("stable", 4, len(stream))]


def test_the_table_lists_only_strata_with_changes() -> None:
    spans = verdict_spans(
        [
            verdict("region=north", "stable", 1.0),
            verdict("scene=home", "broken_by_us", 2.0),
            verdict("scene=home", "stable", 9.0),
        ]
    )
    console = Console(width=120, record=True)
    console.print(report_table(build_report(scored_stream(LOG), run(verdicts=spans))))
    text = console.export_text()
    assert "scene=home is broken_by_us." in text and "scene=home is stable." in text and "region=north" not in text


def test_the_plot_has_a_row_for_the_group_and_for_each_domain_with_changes(tmp_path: Path) -> None:
    spans = verdict_spans(
        [
            verdict("group", "stable", 0.0),
            verdict("scene=home", "input_fault", 0.0),
            verdict("region=north", "stable", 0.0),
        ]
    )
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        path = draw_plot(scored_stream(LOG), tmp_path / "plot.svg", title="Drift", verdicts=spans)
        quiet = draw_plot(scored_stream(LOG), tmp_path / "quiet.svg", title="Drift", verdicts=spans[:1])
    drawn = path.read_text()
    assert ">scene home<" in drawn and ">group<" in drawn and ">input fault<" in drawn and "region" not in drawn
    assert ">group<" not in quiet.read_text()


def test_strata_of_several_groups_are_distinguished() -> None:
    first = verdict("scene=home", "input_fault", 1.0)
    other = Decision("verdict", "other", 1.0, "monitor", first.detail)
    bands = bands_of(verdict_spans([first, other]), scored_stream(LOG))
    assert {band.stratum for band in bands} == {"main: scene=home", "other: scene=home"}

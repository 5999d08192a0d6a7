"""Trials put together: rows per stream and detector, totals, goals and files."""

from __future__ import annotations

import json

import pytest

from lab.detection.detections import ALWAYS, NEVER, VERDICT
from lab.detection.episodes import Origin
from lab.detection.rows import rate, report_of
from lab.detection.scenarios import NO_DRIFT
from lab.detection.score import EpisodeResult, Score
from lab.detection.tables import markdown, page
from lab.detection.trial import Trial

KEYS = {"stream", "detector", "episodes", "recalled", "right_cause", "delay_examples", "false_alarms_per_million"}


def found(detected_cause: Origin | None, cause: Origin = Origin.DRIFT, delay: int = 0) -> EpisodeResult:
    return EpisodeResult("one", cause, detected_cause, True, delay)


def trials(false: int = 0, stable: int = 1_000_000) -> list[Trial]:
    missed, nothing = (found(None), found(None, Origin.LABELS)), Score((), 0, 1_000_000)
    return [
        Trial(stream, seed, 1_000_000, scores, None)
        for seed in (0, 1)
        for stream, scores in {
            "abrupt": {
                VERDICT: Score(
                    (found(Origin.DRIFT, delay=100 * seed), found(Origin.LABELS, Origin.LABELS)),
                    0,
                    500,
                ),
                "adwin log_loss": Score((found(Origin.DRIFT), found(Origin.DRIFT, Origin.LABELS)), 3, 500),
                ALWAYS: Score((found(Origin.DRIFT), found(Origin.DRIFT, Origin.LABELS)), 50, 500),
                NEVER: Score(missed, 0, 500),
            },
            NO_DRIFT: {VERDICT: Score((), false, stable), ALWAYS: Score((), 900, 1_000_000), NEVER: nothing},
        }.items()
    ]


def test_there_is_one_row_per_stream_and_detector_with_exactly_these_keys() -> None:
    rows = json.loads(json.dumps(report_of(trials()).to_json()))["rows"]
    assert all(set(row) == KEYS for row in rows)
    assert {(row["stream"], row["detector"]) for row in rows} == {
        (stream, detector) for stream in ("abrupt", NO_DRIFT) for detector in (VERDICT, "adwin log_loss", ALWAYS, NEVER)
    }


def test_a_row_sums_over_the_seeds() -> None:
    rows = {(row.stream, row.detector): row for row in report_of(trials()).rows}
    verdict, adwin, never = (rows["abrupt", name] for name in (VERDICT, "adwin log_loss", NEVER))
    assert (verdict.episodes, verdict.recalled, verdict.right_cause, verdict.delay_examples) == (4, 4, 1.0, 0.0)
    assert (adwin.recalled, adwin.right_cause, adwin.false_alarms_per_million) == (4, 0.5, 6_000.0)
    assert (never.recalled, never.right_cause, never.delay_examples, never.false_alarms_per_million) == (
        0,
        None,
        None,
        0,
    )
    assert rows[NO_DRIFT, "adwin log_loss"].false_alarms_per_million == 0, "a detector that said nothing"
    assert rows[NO_DRIFT, ALWAYS].false_alarms_per_million == 900


def test_the_goals_are_missed_with_one_false_alarm_too_many() -> None:
    assert all(goal.met for goal in report_of(trials(stable=2_000_000)).goals)
    drift, labels, false = report_of(trials(false=2)).goals
    assert drift.met and labels.met and not false.met
    assert drift.found == "2 of 2"


def test_a_goal_that_no_stream_can_show_is_left_out() -> None:
    still = [trial for trial in trials(stable=2_000_000) if trial.stream == NO_DRIFT]
    assert [(goal.wanted, goal.met) for goal in report_of(still).goals] == [("below 1", True)]
    assert [goal.found for goal in report_of(trials()[:1]).goals] == ["1 of 1", "1 of 1"]


def test_too_few_examples_without_a_false_alarm_are_inconclusive() -> None:
    report = report_of(trials())
    assert report.goals[2].met is None
    assert "not shown" in markdown(report)


def test_missed_episodes_are_listed() -> None:
    one = trials()[:1]
    one[0].scores[VERDICT] = Score((found(None), found(Origin.DRIFT, Origin.LABELS)), 0, 500)
    report = report_of(one)
    assert report.missed == (
        "abrupt, seed 0: one (drift) was not announced in time",
        "abrupt, seed 0: one (labels) was called drift",
    )
    assert "\n- Missed by the verdict: abrupt, seed 0: one (labels) was called drift.\n" in markdown(report)
    assert "<p>Missed by the verdict: abrupt, seed 0: one (drift) was not announced in time.</p>" in page(report, {})
    assert not report.goals[0].met


def test_a_rate_has_its_exact_interval() -> None:
    none, least, most = rate(0, 3_000_000)
    assert none == least == 0 and most == pytest.approx(3.6889 / 3, rel=1e-3)
    each, low, high = rate(10, 1_000_000)
    assert each == 10 and low == pytest.approx(4.795, rel=1e-3) and high == pytest.approx(18.39, rel=1e-3)


def test_the_page_loads_no_external_resource() -> None:
    text = page(report_of(trials()), {"detectors-abrupt.png": b"png"})
    assert "http" not in text and "data:image/png" in text and "adwin log_loss" in text

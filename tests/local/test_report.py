"""The report on small logs whose figures were computed by hand."""

from __future__ import annotations

import json
import math
from pathlib import Path

import matplotlib
import msgspec
import numpy as np
import pytest
from rich.console import Console

from local.report import (
    KernelUse,
    Run,
    announced_spans,
    build_report,
    draw_plot,
    report_table,
    scored_stream,
)
from local.report.plot import rolling_mean, rolling_request_auc, swap_positions, window_size
from model.encoding.domain import Domain
from streaming.events import (
    ConvertingImpression,
    DriftEvent,
    DriftPhase,
    ServedFeedback,
    ServedImpression,
    Tick,
    Traffic,
)

REQUIRED = {
    "request_auc_frozen", "request_auc_live", "ndcg_5_frozen", "ndcg_5_live", "lists",
    "auc_frozen", "auc_live", "log_loss_frozen", "log_loss_live", "examples", "examples_per_second", "freshness_p50_s",
    "freshness_p99_s", "score_p50_ms", "score_p99_ms", "kernels_published", "dead_letters", "backbone_unchanged",
    "seconds_total",
}  # fmt: skip


def served(
    request: str, items: dict[str, tuple[float, float]], *, version: int = 0, user: str = "u"
) -> ServedImpression:
    frozen, live = (np.array([pair[arm] for pair in items.values()], dtype="<f4").tobytes() for arm in (0, 1))
    return ServedImpression(
        request, 10.0, user, Domain(), list(items), "print", version, "live", b"", b"", b"", b"", frozen, live
    )  # fmt: skip


def converting(shown: ServedImpression, frozen: list[float], live: list[float]) -> ConvertingImpression:
    before, after = (np.array(logit, dtype="<f4").tobytes() for logit in (frozen, live))
    served_too = msgspec.structs.asdict(shown)
    return ConvertingImpression(**served_too, cvr_live=b"", cvr_frozen_logit=before, cvr_live_logit=after)


def click(request: str, item: str) -> ServedFeedback:
    return ServedFeedback(request, item, 10.2)


def run(**values: object) -> Run:
    defaults: dict[str, object] = {
        "examples_learned": 8, "learn_seconds": 2.0, "latencies_s": [0.001, 0.003],
        "swaps": [KernelUse(1, 10.0, 11.0), KernelUse(2, 11.0, 13.0)], "kernels_published": 2,
    }  # fmt: skip
    return Run(**(defaults | values))  # type: ignore[arg-type]


# the frozen arm orders one pair of four wrongly in AUC terms, the live arm none
LOG: list[Traffic] = [
    served("r1", {"a": (1.0, 2.0), "b": (0.0, -2.0)}),
    click("r1", "a"),
    Tick(11.0),
    served("r2", {"c": (-1.0, 2.0), "d": (-2.0, -2.0)}, version=3),
    click("r2", "c"),
]


def test_labels_are_the_logged_clicks_and_scores_are_the_served_ones() -> None:
    stream = scored_stream(LOG)
    assert stream.label.tolist() == [1, 0, 1, 0]
    assert stream.frozen == pytest.approx(1 / (1 + np.exp(-np.array([1.0, 0.0, -1.0, -2.0]))))
    assert stream.version.tolist() == [0, 0, 3, 3]
    assert stream.request_ids == {"r1", "r2"}
    assert stream.fingerprints == {"print"}


def test_a_click_logged_before_its_impression_still_counts() -> None:
    assert scored_stream([click("r1", "a"), LOG[0]]).label.tolist() == [1, 0]


def test_a_click_on_an_unshown_item_is_counted_and_is_no_label() -> None:
    stream = scored_stream([LOG[0], click("r1", "z"), click("r9", "a")])
    assert stream.label.sum() == 0
    assert stream.orphan_feedback == 2


def convert(request: str, item: str) -> ServedFeedback:
    return ServedFeedback(request, item, 10.3, "conversion")


def test_conversions_are_reported_for_both_arms_if_the_backbone_has_the_task() -> None:
    # by clicks alone both arms put a before b; what a click on b is worth to the live arm turns its order round
    shown = served("r1", {"a": (0.5, 0.5), "b": (0.0, 0.0), "c": (-9.0, -9.0)})
    log: list[Traffic] = [
        converting(shown, [0.0, 0.0, 0.0], [-2.0, 2.0, 0.0]),
        click("r1", "a"),
        click("r1", "b"),
        convert("r1", "b"),
        convert("r1", "c"),
    ]
    report = build_report(scored_stream(log), run())
    figures = report.as_json()
    assert (figures["conversions"], figures["lists_ctcvr"]) == (1, 1)  # a conversion without a click does not count
    assert (figures["request_auc_ctcvr_frozen"], figures["request_auc_ctcvr_live"]) == (0.5, 1.0)
    assert (figures["auc_ctcvr_frozen"], figures["auc_ctcvr_live"]) == (0.5, 1.0)
    assert figures["auc_ctcvr_by_clicks"] == figures["auc_ctcvr_frozen"]  # both arms' clicks are the same
    assert figures["log_loss_cvr_frozen"] == pytest.approx(np.log(2), abs=1e-6)
    assert figures["log_loss_cvr_live"] == pytest.approx(np.log1p(np.exp(-2.0)), abs=1e-6)
    console = Console(width=120, record=True, file=None)
    with console.capture() as text:
        console.print(report_table(report))
    assert "CTCVR-AUC within requests (1 with a conversion)" in text.get()
    assert "log loss of CVR among clicks" in text.get()


def test_the_report_of_a_backbone_without_conversions_has_no_conversion_figures() -> None:
    figures = build_report(scored_stream([*LOG, convert("r1", "a")]), run()).as_json()
    assert not [key for key in figures if "conver" in key or "ctcvr" in key]


def test_a_conversion_is_not_a_click() -> None:
    assert scored_stream([LOG[0], ServedFeedback("r1", "a", 10.2, "conversion")]).label.sum() == 0


def test_a_duplicate_impression_counts_once() -> None:
    assert len(scored_stream([LOG[0], LOG[0]])) == 2


def test_auc_log_loss_and_calibration_are_those_worked_out_by_hand() -> None:
    report = build_report(scored_stream(LOG), run())
    assert report.frozen.auc == pytest.approx(3 / 4)
    assert report.live.auc == 1.0
    assert report.live.log_loss == pytest.approx(math.log1p(math.exp(-2.0)), abs=1e-6)
    assert report.live.calibration == pytest.approx(1.0, abs=1e-6)


def test_the_order_of_a_request_is_judged_within_the_requests_that_hold_both_labels() -> None:
    unclicked = served("r3", {"e": (3.0, 1.0), "f": (2.0, 1.5)})
    turned = served("r4", {"a": (1.0, 2.0), "b": (0.0, -2.0)})
    report = build_report(scored_stream([*LOG, unclicked, turned, click("r4", "b")]), run())
    assert report.lists == 3
    assert report.live.request_auc == report.frozen.request_auc == pytest.approx(2 / 3)
    assert report.live.ndcg_5 == report.live.ndcg_10 == pytest.approx((2 + 1 / math.log2(3)) / 3)


def test_the_file_has_every_promised_key_and_is_valid_json() -> None:
    report = build_report(scored_stream(LOG), run(dead_letters={"not_json": 2}, seconds_total=7.0))
    values = json.loads(json.dumps(report.as_json(), allow_nan=False))
    assert values.keys() >= REQUIRED
    assert values["examples_per_second"] == 4.0
    assert values["freshness_p50_s"] == 1.5
    assert values["score_p99_ms"] == pytest.approx(2.98)
    assert values["dead_letters"] == 2
    assert len(values["auc_quarters_live"]) == len(values["request_auc_quarters_live"]) == 4


def test_an_empty_log_gives_a_report_of_nulls_instead_of_an_error() -> None:
    report = build_report(scored_stream([]), run(latencies_s=[], swaps=[], examples_learned=0))
    values = report.as_json()
    assert values["auc_live"] is None
    assert values["freshness_p50_s"] is None
    assert values["items_served"] == 0


def test_the_table_names_both_arms_and_alarms_on_a_changed_backbone() -> None:
    console = Console(width=120, record=True, file=None, quiet=False)
    with console.capture() as captured:
        console.print(report_table(build_report(scored_stream(LOG), run(backbone_unchanged=False))))
    text = captured.get()
    assert "frozen" in text
    assert "live" in text
    assert "CHANGED" in text
    assert "0.7500" in text


def test_the_plot_is_written_and_an_empty_stream_is_refused(tmp_path: Path) -> None:
    path = draw_plot(scored_stream(LOG), tmp_path / "new" / "log_loss.png", title="Small")
    assert path.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="empty stream"):
        draw_plot(scored_stream([]), tmp_path / "none.png", title="None")


def test_the_rolling_mean_uses_all_values_until_the_window_is_full() -> None:
    assert rolling_mean(np.array([2.0, 4.0, 6.0, 8.0]), 2).tolist() == [2.0, 3.0, 5.0, 7.0]


def test_the_rolling_order_judges_the_requests_that_ended_within_the_window() -> None:
    turned = served("r3", {"e": (1.0, -2.0), "f": (0.0, 2.0), "g": (-1.0, -1.0)})
    stream = scored_stream([*LOG, served("r4", {"h": (0.0, 0.0)}), turned, click("r3", "e")])
    areas = rolling_request_auc(stream, stream.live, window=6)
    assert np.isnan(areas[0])
    assert areas[1:7].tolist() == [1.0] * 6
    assert areas[7] == pytest.approx((2 * 1.0 + 3 * 0.0) / 5)


def test_a_quarter_of_the_stream_holds_whole_requests() -> None:
    report = build_report(scored_stream(timed(*np.arange(0.0, 7.0))), run())
    assert report.live.request_auc_quarters == (1.0,) * 4
    assert report.frozen.request_auc_quarters == (0.0,) * 4


def test_a_swap_is_marked_once_although_older_requests_end_after_it() -> None:
    assert swap_positions(np.array([0, 0, 1, 0, 1, 4, 4])).tolist() == [2, 5]


@pytest.mark.parametrize("examples", [1, 19, 400, 1_000_000])
def test_the_window_is_never_longer_than_the_stream(examples: int) -> None:
    assert 1 <= window_size(examples) <= examples


# --- announced drift ---


def event(phase: DriftPhase, time: float, name: str = "taste", **more: object) -> DriftEvent:
    return DriftEvent(name, "taste", phase, time, **more)  # type: ignore[arg-type]


def timed(*times: float) -> list[Traffic]:
    """One request of two items per time; the live arm is right of the first, the frozen of none."""
    log: list[Traffic] = []
    for number, time in enumerate(times):
        one = served(f"r{number}", {"a": (-1.0, 2.0), "b": (1.0, -2.0)})
        log += [msgspec.structs.replace(one, time=time), click(f"r{number}", "a")]
    return log


def test_announcements_become_spans_by_name_and_kind() -> None:
    spans = announced_spans([
        event("ends", 9.0), event("begins", 1.0, returns=True), event("full", 3.0), event("begins", 5.0, "other"),
        event("begins", 11.0), event("ends", 30.0, "never began"),
    ])  # fmt: skip
    assert [(span.name, span.begins, span.full, span.ends, span.returns) for span in spans] == [
        ("taste", 1.0, 3.0, 9.0, True), ("other", 5.0, None, None, False), ("taste", 11.0, None, None, False),
    ]  # fmt: skip


def test_a_duplicate_announcement_counts_once() -> None:
    events = [event("begins", 1.0), event("full", 3.0), event("ends", 9.0)]
    assert announced_spans([*events, *events]) == announced_spans(events)


def test_the_file_holds_the_announced_drift_and_both_arms_during_it() -> None:
    stream = scored_stream(timed(1.0, 2.0, 3.0, 4.0))
    drift = announced_spans([event("begins", 1.5, domain={"period": ["evening"]}), event("ends", 3.5)])
    values = json.loads(json.dumps(build_report(stream, run(drift=drift)).as_json(), allow_nan=False))
    (span,) = values["drift_spans"]
    assert (span["name"], span["begins"], span["full"], span["ends"]) == ("taste", 1.5, None, 3.5)
    assert span["domain"] == {"period": ["evening"]}
    assert (span["items_served"], span["auc_frozen"], span["auc_live"]) == (4, 0.0, 1.0)
    assert (span["request_auc_frozen"], span["request_auc_live"]) == (0.0, 1.0)
    assert build_report(stream, run()).as_json()["drift_spans"] == []


def test_a_span_without_traffic_has_no_figures() -> None:
    stream = scored_stream(timed(1.0))
    values = build_report(stream, run(drift=announced_spans([event("begins", 5.0)]))).as_json()
    (span,) = values["drift_spans"]
    assert (span["items_served"], span["auc_live"], span["request_auc_live"], span["ends"]) == (0, None, None, None)


def test_a_span_is_one_range_of_a_slightly_unordered_log_and_two_ranges_across_groups() -> None:
    (span,) = announced_spans([event("begins", 100.0), event("ends", 200.0)])
    times = [*np.arange(0.0, 300.0)]
    times[100], times[98], times[150] = 98.0, 100.0, 201.0
    assert span.stretches(scored_stream(timed(*times))) == [(196, 400)]
    groups = scored_stream(timed(*np.arange(0.0, 300.0), *np.arange(0.0, 300.0)))
    assert span.stretches(groups) == [(200, 400), (800, 1_000)]
    assert span.stretches(scored_stream(timed(1.0))) == []


def test_the_plot_labels_its_shaded_spans(tmp_path: Path) -> None:
    stream = scored_stream(timed(*np.arange(0.0, 50.0)))
    phases: list[tuple[DriftPhase, float]] = [("begins", 10.0), ("full", 20.0), ("ends", 40.0)]
    drift = announced_spans([
        *(event(phase, time, "young evenings") for phase, time in phases),
        event("begins", 12.0), event("begins", 90.0, "after the end"),
    ])  # fmt: skip
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        drawn = draw_plot(stream, tmp_path / "plot.svg", title="Drift", drift=drift).read_text()
    assert "young evenings (taste)" in drawn
    assert ">taste<" in drawn
    assert "after the end" not in drawn


def test_the_table_shows_the_arms_during_drift() -> None:
    console = Console(width=120, quiet=False)
    drift = announced_spans([event("begins", 1.5, "young evenings")])
    with console.capture() as captured:
        console.print(report_table(build_report(scored_stream(timed(1.0, 2.0)), run(drift=drift))))
    assert "young evenings (taste)" in captured.get()

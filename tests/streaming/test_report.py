"""The report on small logs whose figures are known by hand."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from model.domain import Domain
from streaming.events import ServedFeedback, ServedImpression, Tick, Traffic
from streaming.report import KernelSwap, Run, build_report, draw_plot, report_table, scored_stream
from streaming.report.plot import rolling_mean, swap_places, window_size

REQUIRED = {
    "auc_frozen", "auc_live", "log_loss_frozen", "log_loss_live", "examples", "examples_per_second", "freshness_p50_s",
    "freshness_p99_s", "score_p50_ms", "score_p99_ms", "kernels_published", "dead_letters", "backbone_unchanged",
    "seconds_total",
}  # fmt: skip


def served(
    request: str, items: dict[str, tuple[float, float]], *, version: int = 0, user: str = "u"
) -> ServedImpression:
    frozen, live = (np.array([pair[arm] for pair in items.values()], dtype="<f4").tobytes() for arm in (0, 1))
    return ServedImpression(
        request, 10.0, user, Domain(), list(items), "print", version, b"", b"", b"", frozen, live
    )  # fmt: skip


def click(request: str, item: str) -> ServedFeedback:
    return ServedFeedback(request, item, 10.2)


def run(**values: object) -> Run:
    defaults: dict[str, object] = {
        "examples_learned": 8, "learn_seconds": 2.0, "latencies_s": [0.001, 0.003],
        "swaps": [KernelSwap(1, 10.0, 11.0), KernelSwap(2, 11.0, 13.0)], "kernels_published": 2,
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


def test_labels_are_the_clicks_of_the_log_and_scores_the_ones_that_were_served() -> None:
    stream = scored_stream(LOG)
    assert stream.label.tolist() == [1, 0, 1, 0]
    assert stream.frozen == pytest.approx(1 / (1 + np.exp(-np.array([1.0, 0.0, -1.0, -2.0]))))
    assert stream.version.tolist() == [0, 0, 3, 3]
    assert stream.request_ids == {"r1", "r2"}
    assert stream.fingerprints == {"print"}


def test_a_click_that_stands_before_its_impression_still_counts() -> None:
    assert scored_stream([click("r1", "a"), LOG[0]]).label.tolist() == [1, 0]


def test_a_click_on_an_item_that_was_not_shown_is_counted_and_labels_nothing() -> None:
    stream = scored_stream([LOG[0], click("r1", "z"), click("r9", "a")])
    assert stream.label.sum() == 0
    assert stream.orphan_feedback == 2


def test_a_conversion_is_no_click() -> None:
    assert scored_stream([LOG[0], ServedFeedback("r1", "a", 10.2, "conversion")]).label.sum() == 0


def test_an_impression_that_stands_twice_counts_once() -> None:
    assert len(scored_stream([LOG[0], LOG[0]])) == 2


def test_auc_log_loss_and_calibration_are_those_worked_out_by_hand() -> None:
    report = build_report(scored_stream(LOG), run())
    assert report.frozen.auc == pytest.approx(3 / 4)
    assert report.live.auc == 1.0
    assert report.live.log_loss == pytest.approx(math.log1p(math.exp(-2.0)), abs=1e-6)
    assert report.live.calibration == pytest.approx(1.0, abs=1e-6)
    assert report.live.grouped_auc == 1.0


def test_the_file_has_every_promised_key_and_is_valid_json() -> None:
    report = build_report(scored_stream(LOG), run(dead_letters={"not_json": 2}, seconds_total=7.0))
    values = json.loads(json.dumps(report.as_json(), allow_nan=False))
    assert values.keys() >= REQUIRED
    assert values["examples_per_second"] == 4.0
    assert values["freshness_p50_s"] == 1.5
    assert values["score_p99_ms"] == pytest.approx(2.98)
    assert values["dead_letters"] == 2
    assert len(values["auc_quarters_live"]) == 4


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


def test_the_rolling_mean_takes_what_there_is_until_the_window_is_full() -> None:
    assert rolling_mean(np.array([2.0, 4.0, 6.0, 8.0]), 2).tolist() == [2.0, 3.0, 5.0, 7.0]


def test_a_swap_is_marked_once_although_older_requests_end_after_it() -> None:
    assert swap_places(np.array([0, 0, 1, 0, 1, 4, 4])).tolist() == [2, 5]


@pytest.mark.parametrize("examples", [1, 19, 400, 1_000_000])
def test_the_window_is_never_longer_than_the_stream(examples: int) -> None:
    assert 1 <= window_size(examples) <= examples

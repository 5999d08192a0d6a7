"""The monitor as a whole: which verdict for which fault, where, and through restarts."""

from __future__ import annotations

import dataclasses

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from model.drift.config import DriftConfig
from model.drift.verdict import Verdict, VerdictKind
from tests.model.drift.world import HEALTHY, STRATA, Batch, Raters, Story

DRIFTING = {VerdictKind.HANDLED, VerdictKind.UNHANDLED}


def test_a_new_system_reports_too_little_data() -> None:
    story = Story()
    assert {one.kind for one in story.monitor.verdicts} == {VerdictKind.TOO_LITTLE}
    assert "nothing is known" in story.monitor.verdicts[0].words
    assert all(np.isnan(one.expected_log_loss) and np.isnan(one.label_rate) for one in story.monitor.signals())


def test_without_drift_every_stratum_with_traffic_stays_stable() -> None:
    story = Story()
    story.go_on(120)
    assert {one.kind for one in story.said} == {VerdictKind.STABLE}
    assert story.kind("scene=unknown") is VerdictKind.TOO_LITTLE


def test_users_who_rate_a_hundred_items_in_a_row_are_neither_drift_nor_a_fault() -> None:
    story = Story()
    story.go_on(160, Raters())
    assert {one.kind for one in story.said} == {VerdictKind.STABLE}


def test_inverted_labels_of_such_users_are_still_detected() -> None:
    raters = Raters()

    def turned(batch: Batch) -> None:
        raters(batch)
        batch.flip[:] = True

    story = Story()
    story.go_on(60, raters)
    story.go_on(16, turned)
    assert story.own()["group"] is VerdictKind.LABELS


def test_a_taste_change_of_all_users_is_unhandled_drift_of_the_group_within_2000_examples() -> None:
    story = Story()
    story.go_on(30)
    began = story.time
    said = story.go_on(16, Batch.new_taste)
    assert [(one.stratum, one.kind) for one in said if one.kind is not VerdictKind.STABLE] == [
        ("group", VerdictKind.UNHANDLED)
    ]
    assert abs(said[-1].since - began) <= 60.0
    assert story.kind("scene=home") is VerdictKind.UNHANDLED  # it shares the group's


def test_drift_is_handled_once_the_live_arm_has_learned_the_new_taste() -> None:
    def learned(batch: Batch) -> None:
        batch.new_taste()
        batch.live = batch.truth.copy()

    story = Story()
    story.go_on(30)
    story.go_on(12, Batch.new_taste)
    story.go_on(24, learned)
    assert story.own()["group"] is VerdictKind.HANDLED
    assert "recovers" in story.monitor.verdicts[0].words


def test_drift_of_one_scene_is_reported_for_that_scene_only() -> None:
    story = Story()
    story.go_on(40)
    story.go_on(60, lambda batch: batch.new_taste(batch.within(0, 2)))
    drifting = {stratum for stratum, kind in story.own().items() if kind in DRIFTING}
    assert drifting == {"scene=search"}
    assert story.kind("scene=home") is VerdictKind.STABLE


@pytest.mark.parametrize("seed", [15, 16, 20, 22])
def test_drift_of_a_value_that_has_all_traffic_for_a_time_ends_at_that_value(seed: int) -> None:
    story, played = Story(seed), 0

    def in_turns(batch: Batch) -> None:
        nonlocal played
        batch.domain[:, 1] = 1 + played // 10 % 2  # one region after the other, as periods of the day follow each other
        played += 1

    def south_drifts(batch: Batch) -> None:
        in_turns(batch)
        south = batch.within(1, 2)
        batch.truth[south] = 0.65 * batch.truth[south] - 0.7

    story.go_on(60, in_turns)
    story.go_on(60, south_drifts)
    assert {stratum for stratum, kind in story.own().items() if kind in DRIFTING} == {"region=south"}


def test_an_old_taste_that_comes_back_ends_the_drift() -> None:
    story = Story()
    story.go_on(30)
    story.go_on(20, Batch.new_taste)
    assert story.own()["group"] in DRIFTING
    story.go_on(30)
    assert story.own()["group"] is VerdictKind.STABLE


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_inverted_labels_are_reported_as_label_fault_and_not_as_drift(share: float) -> None:
    def turned(batch: Batch) -> None:
        batch.flip = batch.rng.random(len(batch.flip)) < share

    story = Story()
    story.go_on(30)
    said = story.go_on(20, turned)
    assert {one.kind for one in said if one.kind is not VerdictKind.STABLE} == {VerdictKind.LABELS}
    story.go_on(30)
    assert story.own()["group"] is VerdictKind.STABLE


def test_lost_clicks_are_reported_as_label_fault_and_not_as_drift() -> None:
    def lost(batch: Batch) -> None:
        batch.lost = batch.rng.random(len(batch.lost)) < 0.6

    story = Story()
    story.go_on(30)
    said = story.go_on(20, lost)
    assert {one.kind for one in said if one.kind is not VerdictKind.STABLE} == {VerdictKind.LABELS}
    assert "missing" in next(one for one in said if one.kind is VerdictKind.LABELS).words


def test_a_kernel_worse_than_a_stable_frozen_arm_is_reported_as_broken_by_us() -> None:
    def broken(batch: Batch) -> None:
        batch.live = -1.5 - (batch.frozen + 1.5)

    story = Story()
    story.go_on(30)
    said = story.go_on(20, broken)
    assert [(one.stratum, one.kind) for one in said if one.kind is not VerdictKind.STABLE] == [
        ("group", VerdictKind.BROKEN_BY_US)
    ]
    story.go_on(60)
    assert story.own()["group"] is VerdictKind.STABLE


def test_a_kernel_replaced_by_the_gate_is_reported_as_broken_by_us() -> None:
    story = Story()
    story.go_on(10)
    told = dataclasses.replace(HEALTHY, rolled_back=1)
    story.go_on(2, lambda batch: setattr(batch, "health", told))
    assert story.own()["group"] is VerdictKind.BROKEN_BY_US


def test_inputs_far_from_the_reference_are_an_input_fault_and_not_drift() -> None:
    def zeroed(batch: Batch) -> None:
        batch.x[:] = 0.0
        batch.frozen[:] = -1.5
        batch.live[:] = -1.5

    story = Story()
    story.go_on(30)
    said = story.go_on(30, zeroed)
    assert {one.kind for one in said if one.kind is not VerdictKind.STABLE} == {VerdictKind.INPUTS}


@pytest.mark.parametrize(("factor", "faulty"), [(1.2, False), (1.3, True)])
def test_inputs_are_at_fault_at_a_moderate_distance_and_not_at_a_small_one(factor: float, faulty: bool) -> None:
    def longer(batch: Batch) -> None:
        batch.x *= factor

    story = Story()
    story.go_on(30)
    said = story.go_on(30, longer)
    assert story.monitor.signals()[0].inputs["norm"]["psi"] < 1.0
    assert {one.kind for one in said} == ({VerdictKind.INPUTS} if faulty else set())


def test_a_feature_empty_for_all_is_an_input_fault_although_no_single_input_is_far() -> None:
    def emptied(batch: Batch) -> None:
        batch.x[:, :3] = 0.0

    story = Story()
    story.go_on(60)
    said = story.go_on(16, emptied)  # 2 048 examples
    assert max(one["psi"] for one in story.monitor.signals()[0].inputs.values()) < 1.0
    assert [(one.stratum, one.kind) for one in said] == [("group", VerdictKind.INPUTS)]
    assert "at once" in said[0].words


def test_inputs_that_move_as_far_slowly_are_not_a_fault() -> None:
    left = 1.0

    def fading(batch: Batch) -> None:
        nonlocal left
        batch.x[:, :3] *= left
        left -= 1 / 200

    story = Story()
    story.go_on(60)
    story.go_on(200, fading)
    assert {one.kind for one in story.said} == {VerdictKind.STABLE}


def test_inputs_outside_the_allow_list_are_neither_tested_nor_shown() -> None:
    def longer(batch: Batch) -> None:
        batch.x *= 2.0

    story = Story(config=DriftConfig(inputs=("score",)))
    story.go_on(30)
    assert story.go_on(30, longer) == []
    shown = story.monitor.signals()[0].inputs
    assert [what for what, distances in shown.items() if np.isfinite(distances["psi"])] == ["score"]


@pytest.mark.parametrize("inputs", [["age"], [], ["norm", "norm"]])
def test_an_invalid_list_of_inputs_is_refused(inputs: list[str]) -> None:
    with pytest.raises(ValidationError, match=r"'projection_4'|at least 1 item|'norm' is listed twice"):
        DriftConfig.model_validate({"inputs": inputs})


def test_a_single_facet_value_at_a_moderate_distance_is_not_a_fault() -> None:
    def longer_in_one(batch: Batch) -> None:
        batch.x[batch.domain[batch.request, 1] == 2] *= 1.3

    story = Story()
    story.go_on(30)
    said = story.go_on(30, longer_in_one)
    worst = [signals.inputs["norm"]["psi"] for signals in story.monitor.signals()]
    assert worst[0] < 0.4 < max(worst) < 1.0
    assert not said


def test_labels_quarantined_by_the_gate_are_a_label_fault_of_those_strata() -> None:
    aside = HEALTHY.aside.copy()
    aside[[STRATA.name(n) for n in range(len(STRATA))].index("region=south")] = True
    story = Story()
    story.go_on(30)
    story.go_on(2, lambda batch: setattr(batch, "health", dataclasses.replace(HEALTHY, aside=aside)))
    assert story.own()["region=south"] is VerdictKind.LABELS
    assert story.own()["group"] is VerdictKind.STABLE


def test_non_finite_numbers_are_counted_and_change_nothing_else() -> None:
    def holed(batch: Batch) -> None:
        batch.live[3] = np.nan
        batch.frozen[7] = np.inf

    story = Story()
    story.go_on(60, holed)
    assert {one.kind for one in story.said} == {VerdictKind.STABLE}
    signals = story.monitor.signals()[0]
    assert signals.refused > 50
    assert np.isfinite([signals.expected_log_loss, signals.arms["frozen"].log_loss, signals.gap]).all()


def test_a_clock_that_jumps_back_changes_no_result() -> None:
    story = Story()
    story.go_on(30)
    story.time -= 100_000.0
    story.go_on(20, Batch.new_taste)
    assert all(one.since >= 1_000.0 for one in story.said)
    assert story.own()["group"] in DRIFTING


def test_without_a_reference_the_first_examples_are_the_reference() -> None:
    story = Story(reference=False)
    story.go_on(20)
    assert np.isnan(story.monitor.signals()[0].inputs["score"]["psi"])
    story.go_on(40)
    assert story.monitor.signals()[0].inputs["score"]["psi"] == 0.0


def test_without_drift_the_performance_expected_before_labels_is_observed() -> None:
    story = Story()
    story.go_on(80)
    signals = story.monitor.signals()[0]
    assert signals.expected_log_loss == pytest.approx(signals.arms["live"].log_loss, abs=0.05)
    assert signals.expected_auc == pytest.approx(signals.arms["live"].auc, abs=0.05)
    assert 0 < signals.expected_error < 0.08


@settings(max_examples=8, deadline=None)
@given(cuts=st.sets(st.integers(0, 50), max_size=6), reference=st.booleans())
def test_a_restart_anywhere_changes_no_verdict(cuts: set[int], reference: bool) -> None:
    whole, cut = Story(reference=reference), Story(reference=reference)
    for number in range(52):
        change = Batch.new_taste if 20 <= number < 40 else None
        whole.go_on(1, change)
        cut.go_on(1, change)
        if number in cuts:
            cut.restart()
    assert _plain(whole.said) == _plain(cut.said)
    assert whole.alarms == cut.alarms
    assert _plain(whole.monitor.verdicts) == _plain(cut.monitor.verdicts)
    assert msgspec.msgpack.encode(whole.monitor.state()) == msgspec.msgpack.encode(cut.monitor.state())


def _plain(verdicts: list[Verdict]) -> bytes:
    return msgspec.msgpack.encode([dataclasses.asdict(one) for one in verdicts])


def test_the_state_does_not_grow() -> None:
    story = Story()
    story.go_on(128)
    early = len(msgspec.msgpack.encode(story.monitor.state()))
    story.go_on(128)
    late = len(msgspec.msgpack.encode(story.monitor.state()))
    assert late < early + 1_500 * len(STRATA)
    assert late < 6_000 * len(STRATA) + 40_000

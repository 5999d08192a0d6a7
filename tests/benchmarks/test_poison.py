"""What is put wrong in a stream, and how its harm is measured."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks.excess import worst_excess
from benchmarks.poison import Measured, cost_table, harm_table, measure
from benchmarks.poisoned import POISONS, poisoned, span_of
from lab.evaluate.pretrained import pretrain_on
from lab.replay.half import LiveHalf
from lab.replay.replay import ReplayedExamples, replay
from model.gate.config import GateConfig
from tests.lab.evaluate.small import CONFIG, KERNEL, small, texts

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def half() -> LiveHalf:
    stream = small("[]")
    return LiveHalf.of(stream, pretrain_on(stream, CONFIG, KERNEL, texts, 0), CONFIG)


def test_the_worst_excess_is_taken_over_consecutive_examples() -> None:
    live, frozen = np.array([1.0, 1.0, 3.0, 3.0, 1.0, 0.5]), np.ones(6)
    assert worst_excess(live, frozen, 2) == pytest.approx(2.0)
    assert worst_excess(live, frozen, 3) == pytest.approx(7 / 3 - 1)
    assert worst_excess(live, frozen, 50) == pytest.approx(9.5 / 6 - 1)
    assert worst_excess(0.9 * frozen, frozen, 2) == pytest.approx(-0.1)


def test_examples_after_the_poison_are_measured_separately() -> None:
    sure, unsure = np.full(200, 3.0), np.zeros(200)
    live = np.concatenate([-sure, sure])  # wrong while poisoned, right behind it
    truth, request = np.ones(400), np.repeat(np.arange(40), 10)
    examples = ReplayedExamples(live, np.concatenate([unsure, unsure]), truth, request, request.astype(float), 7)
    found = measure(examples, 20)
    assert found.after == pytest.approx(np.log1p(np.exp(-3)) / np.log(2) - 1)
    assert found.worst > 0 > found.after
    assert found.set_aside == 7


def test_labels_are_wrong_only_in_the_span_and_the_true_labels_are_unchanged(half: LiveHalf) -> None:
    sound = poisoned(half, "none", 0)
    begin, end = sound.span
    outside = np.r_[0:begin, end : len(half.chunk)]
    for poison in ("labels flipped", "no clicks"):
        replayed = poisoned(half, poison, 0)
        assert np.array_equal(replayed.truth, half.chunk.clean_click)
        assert np.array_equal(replayed.click[outside], sound.click[outside])
        assert replayed.measured.all()
    assert np.array_equal(poisoned(half, "labels flipped", 0).click[begin:end], ~sound.click[begin:end])
    assert not poisoned(half, "no clicks", 0).click[begin:end].any()


@pytest.mark.parametrize("clicks", [False, True])
def test_one_user_sends_nine_tenths_of_the_span_and_is_excluded_from_the_measures(half: LiveHalf, clicks: bool) -> None:
    replayed = poisoned(half, "one user clicks everything" if clicks else "one user clicks nothing", 1)
    user = half.chunk.user[replayed.origin]
    one = user[~replayed.measured][0]
    assert np.array_equal(replayed.measured, user != one)
    begin, end = replayed.span
    inside = (replayed.place >= begin - 0.95) & (replayed.place < end)
    assert inside.sum() == 10 * (end - begin)
    assert (user[inside] == one).mean() >= 0.9
    assert (replayed.click[inside & (user == one)] == clicks).all()
    assert (np.diff(replayed.place) > 0).all()
    assert np.array_equal(replayed.origin[replayed.measured], np.flatnonzero(half.chunk.user != one))


def test_the_seed_decides_where_the_poison_begins() -> None:
    spans = [span_of(1_500, seed) for seed in range(20)]
    assert len(set(spans)) > 10
    assert all(end - begin == 300 and begin >= 300 and (1_500 - end) * 10 >= 5_000 for begin, end in spans)


@pytest.mark.parametrize("gate", [None, GateConfig()])
def test_requests_served_before_the_poison_are_unaffected_by_it(half: LiveHalf, gate: GateConfig | None) -> None:
    sound, wrong = (replay(half, poisoned(half, poison, 0), gate) for poison in ("none", "labels flipped"))
    before = sound.place < span_of(len(half.chunk), 0)[0]
    assert np.array_equal(sound.live[before], wrong.live[before])
    assert not np.array_equal(sound.live[~before], wrong.live[~before])
    assert np.array_equal(sound.live[:60], sound.frozen[:60])  # no label was known yet
    assert not np.array_equal(sound.live[before], sound.frozen[before])


def test_flipped_labels_do_less_harm_with_the_gate(half: LiveHalf) -> None:
    replayed = poisoned(half, "labels flipped", 0)
    without, guarded = (measure(replay(half, replayed, gate), replayed.span[1]) for gate in (None, GateConfig()))
    assert without.worst > guarded.worst
    assert without.set_aside == 0 < guarded.set_aside


def test_the_tables_have_a_row_per_poison_and_a_figure_per_seed() -> None:
    pair = (Measured(0.4, 0.2, 0.01, 0.02, 0), Measured(0.01, -0.01, 0.01, 0.02, 3_000))
    results = {("abrupt", poison): [pair, pair] for poison in POISONS}
    table = harm_table(results, (0, 1))
    assert table.row_count == len(POISONS)
    assert list(table.columns[2].cells) == ["+40.0, +40.0"] * len(POISONS)
    assert list(table.columns[6].cells) == ["3,000, 3,000"] * len(POISONS)
    assert cost_table(results).row_count == 1

"""Labels that are not what they should be are set aside, and come back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from model.gate.config import GateConfig
from model.gate.decision import GateDecision
from model.gate.labels import KINDS
from model.gate.quarantine import Quarantine
from model.gate.scored_examples import ScoredExamples
from tests.model.gate.streams import STRATA, both, micro_batch

Change = Callable[[ScoredExamples], ScoredExamples]


def turned(scored: ScoredExamples) -> ScoredExamples:
    return replace(scored, label=1 - scored.label)


def silent(scored: ScoredExamples) -> ScoredExamples:
    return replace(scored, label=np.zeros_like(scored.label))


def halved(scored: ScoredExamples) -> ScoredExamples:
    """Half of the clicks do not arrive."""
    kept = np.random.default_rng(len(scored.label)).random(len(scored.label)) < 0.5
    return replace(scored, label=scored.label * kept)


class Stream:
    """A quarantine and the batches it is given."""

    def __init__(self, seed: int = 0, config: GateConfig | None = None, **keys: float) -> None:
        self.random, self.keys = np.random.default_rng(seed), keys
        self.quarantine = Quarantine(STRATA, config or GateConfig())
        self.decisions: list[GateDecision] = []
        self.waited = 0

    def play(self, batches: int, change: Change = lambda scored: scored) -> Stream:
        for _ in range(batches):
            scored = change(micro_batch(self.random, **self.keys))  # type: ignore[arg-type]
            verdict = self.quarantine.judge(scored, np.ones(len(scored.label)))
            self.decisions += verdict.decisions
            self.waited += verdict.wait
        return self

    @property
    def kinds(self) -> list[str]:
        return [decision.kind for decision in self.decisions]


@pytest.mark.parametrize("rate", [0.05, 0.2, 0.5])
def test_correct_labels_are_never_quarantined(rate: float) -> None:
    stream = Stream(rate=rate).play(300)
    assert stream.kinds == []
    assert stream.waited < 6


@pytest.mark.parametrize("change", [turned, silent])
@pytest.mark.parametrize("rate", [0.2, 0.5])
def test_wrong_labels_are_quarantined_within_three_batches_and_released_soon_after_recovery(
    change: Change, rate: float
) -> None:
    stream = Stream(rate=rate).play(60).play(3, change)
    assert stream.kinds == ["quarantined"]
    assert stream.quarantine.aside[0]
    stream.play(15)
    assert stream.kinds == ["quarantined", "resumed"]
    assert not stream.quarantine.aside.any()


@pytest.mark.parametrize("change", [turned, silent])
def test_correct_labels_need_no_more_evidence_to_return_than_the_alarm_did(change: Change) -> None:
    stream = Stream(rate=0.2).play(60).play(60, change)
    labels = stream.quarantine.labels
    assert labels.suspicion[0].max() == labels.alarm
    falls = 0.0
    while stream.quarantine.aside[0]:
        before = labels.suspicion[0].max()
        stream.play(1)
        falls += before - labels.suspicion[0].max()
    assert falls == pytest.approx(labels.alarm)


def test_a_decision_names_the_change_shown_by_its_last_batch() -> None:
    stream = Stream(rate=0.5).play(60)
    # An older change of another kind has left more suspicion, and is over.
    stream.quarantine.labels.suspicion[0, KINDS.index("many")] = stream.quarantine.labels.alarm
    stream.play(3, silent)
    assert stream.kinds[0] == "quarantined"
    assert stream.decisions[0].detail["change"] == "few"


def test_no_batch_is_admitted_between_the_first_wrong_label_and_the_alarm() -> None:
    quarantine, random = Quarantine(STRATA, GateConfig()), np.random.default_rng(3)
    for _ in range(60):
        scored = micro_batch(random)
        quarantine.judge(scored, np.ones(len(scored.label)))
    while not quarantine.aside[0]:
        scored = silent(micro_batch(random))
        verdict = quarantine.judge(scored, np.ones(len(scored.label)))
        assert verdict.wait or verdict.set_aside.all()


def test_inverted_and_missing_labels_are_never_accepted_as_a_new_label_rate() -> None:
    config = GateConfig(hold_max_examples=1_000)
    for change in (turned, silent):
        assert Stream(config=config, rate=0.5).play(60).play(60, change).kinds == ["quarantined"]


def test_a_lasting_lower_click_rate_is_accepted() -> None:
    stream = Stream(config=GateConfig(hold_max_examples=2_000, label_odds=2.0), rate=0.3).play(60).play(60, halved)
    assert stream.kinds == ["quarantined", "accepted"]
    accepted = stream.decisions[-1].detail
    assert 2_000 <= accepted["examples"] <= 2_500
    assert stream.play(100, halved).kinds == ["quarantined", "accepted"]


def test_a_slow_change_of_the_rate_is_followed() -> None:
    stream = Stream()
    for step in range(60):
        stream.keys = {"rate": 0.2 * 0.965**step}
        stream.play(6)
    assert stream.kinds == []


def test_only_the_domain_with_wrong_labels_is_quarantined() -> None:
    quarantine, random = Quarantine(STRATA, GateConfig()), np.random.default_rng(5)
    decisions: list[GateDecision] = []
    for batch in range(90):
        home, search = micro_batch(random, scene=1), micro_batch(random, scene=2, requests=8)
        scored = both(home, turned(search) if batch >= 60 else search)
        verdict = quarantine.judge(scored, np.ones(len(scored.label)))
        decisions += verdict.decisions
    assert [decision.detail["stratum"] for decision in decisions] == ["scene=search"]
    assert verdict.set_aside.tolist() == [False] * 13 + [True] * 8


def test_a_single_user_is_no_evidence_against_labels() -> None:
    quarantine, random = Quarantine(STRATA, GateConfig()), np.random.default_rng(6)
    for batch in range(66):
        scored = micro_batch(random) if batch < 60 else silent(micro_batch(random, user="one"))
        assert quarantine.judge(scored, np.ones(len(scored.label))).decisions == []


def test_consecutive_users_who_rarely_click_are_no_evidence_however_many_batches_each_fills() -> None:
    """A few people with opinions of their own, each for hundreds of examples: MovieLens is like that."""
    stream = Stream(rate=0.5).play(40)
    for rater in range(3):
        for _ in range(20):
            scored = micro_batch(stream.random, rate=0.5, user=f"rater {rater}")
            one = scored.select(np.arange(scored.requests) == 0)
            rare = replace(one, label=(stream.random.random(len(one.label)) < 0.1).astype(np.float64))
            stream.quarantine.judge(rare, np.ones(len(rare.label)))
    assert not stream.quarantine.aside.any()
    assert stream.quarantine.labels.suspicion.max() < stream.quarantine.labels.alarm


def test_a_restored_quarantine_continues_identically() -> None:
    one = Stream(seed=8).play(60).play(2, turned)
    other = Stream(seed=8)
    other.quarantine.load(one.quarantine.state())
    other.random = np.random.default_rng(9)
    one.random = np.random.default_rng(9)
    for stream in (one, other):
        stream.play(5, turned).play(15)
    assert one.quarantine.state() == other.quarantine.state()
    assert one.kinds[-1:] == other.kinds[-1:] == ["resumed"]

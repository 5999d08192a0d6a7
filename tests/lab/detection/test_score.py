"""What counts as announced, with the right cause, in time, and falsely."""

from __future__ import annotations

import numpy as np

from lab.detection.episodes import Episode, Origin
from lab.detection.score import WITHIN, Detection, Score, Traffic, score
from model.encoding.domain import DomainSpace

SPACE = DomainSpace({"scene": ["home", "search"], "region": [], "period": []})
REQUESTS = 2_000
"""Ten examples each, one a second, every second one in search."""
TRAFFIC = Traffic(
    np.arange(REQUESTS, dtype=np.float64),
    np.full(REQUESTS, 10),
    np.stack([1 + np.arange(REQUESTS) % 2, np.zeros(REQUESTS, int), np.zeros(REQUESTS, int)], axis=1),
    SPACE,
)


def episode(begin: float, end: float, cause: Origin = Origin.DRIFT, scene: str = "", full: float = -1) -> Episode:
    facets = {"scene": (scene,)} if scene else {}
    return Episode("one", cause, begin, max(begin, full), end, 1.0, facets)


def detection(
    time: float, stratum: str = "group", cause: Origin | None = Origin.DRIFT, *, lasts: bool = True
) -> Detection:
    return Detection(time, stratum, cause, lasts)


def scored(detections: list[Detection], *episodes: Episode) -> Score:
    return score(detections, episodes, TRAFFIC)


def test_an_episode_is_recalled_only_within_the_limit_of_examples_of_its_domain() -> None:
    drift = episode(500, 2_000)
    for time, delay in ((500, 10), (600, 1_010), (699, 2_000)):
        found = scored([detection(time)], drift).found[0]
        assert found.detected_cause is Origin.DRIFT and found.correct and found.delay == delay
    assert scored([detection(700 + WITHIN)], drift).found[0].detected_cause is None
    assert scored([detection(499)], drift).found[0].detected_cause is None


def test_the_examples_of_an_episode_of_one_domain_are_those_of_that_domain() -> None:
    drift = episode(500, 2_000, scene="search")
    found = scored([detection(800, "scene=search")], drift).found[0]
    assert found.correct and found.delay == 1_500  # every second request is there


def test_a_detection_in_another_domain_does_not_count() -> None:
    drift = episode(500, 2_000, scene="search")
    for stratum in ("group", "scene=home", "region=unknown"):
        assert scored([detection(600, stratum)], drift).found[0].detected_cause is None


def test_a_wrong_cause_recalls_the_episode_but_counts_as_wrong_unless_corrected_in_time() -> None:
    fault = episode(500, 800, Origin.LABELS)
    wrong = scored([detection(520)], fault).found[0]
    assert wrong.detected_cause is Origin.DRIFT and not wrong.correct
    assert scored([detection(520), detection(600, cause=Origin.LABELS)], fault).found[0].correct
    assert not scored([detection(520), detection(900, cause=Origin.LABELS)], fault).found[0].correct


def test_the_cause_of_the_whole_group_decides_for_an_episode_of_all_domains() -> None:
    fault = episode(500, 800, Origin.LABELS)
    detections = [detection(520, cause=Origin.LABELS), detection(560, "scene=home", Origin.INPUTS)]
    assert scored(detections, fault).found[0].correct


def test_a_gradual_episode_may_be_detected_early_and_its_delay_counts_from_full_strength() -> None:
    drift = episode(500, 2_000, full=1_000)
    assert scored([detection(600)], drift).found[0].delay == 0
    assert scored([detection(1_100)], drift).found[0].delay == 1_010
    assert scored([detection(1_100)], drift).false_alarms == 0


def test_a_detection_outside_every_episode_is_a_false_alarm() -> None:
    drift = episode(1_000, 1_200)
    assert scored([detection(500)], drift).false_alarms == 1
    assert scored([detection(500, cause=None)], drift).false_alarms == 0
    assert scored([detection(1_300)], drift).false_alarms == 0, "its end is a change, too"
    assert scored([detection(1_500)], drift).false_alarms == 1


def test_an_episode_of_one_domain_excuses_only_strata_that_share_its_requests() -> None:
    drift = episode(500, 2_000, scene="search")
    detections = [
        detection(600, "scene=search"),
        detection(600, "group"),
        detection(600, "region=unknown"),
        detection(600, "scene=home"),
    ]
    assert scored(detections, drift).false_alarms == 1


def test_false_alarms_are_counted_over_the_examples_outside_every_episode() -> None:
    assert scored([]).stable_examples == 20_000
    assert scored([], episode(500, 1_000)).stable_examples == 20_000 - 5_010 - WITHIN + 10
    assert scored([], episode(0, 2_000)).stable_examples == 0
    assert scored([], episode(0, 2_000, scene="search")).stable_examples == 20_000, (
        "other strata are judged all the time"
    )


def test_a_verdict_of_an_earlier_episode_detects_a_later_one_only_while_the_earlier_one_lasts() -> None:
    later = episode(1_000, 2_000)
    assert scored([detection(550)], episode(500, 2_000), later).found[1].correct
    assert scored([detection(550)], episode(500, 2_000), later).found[1].delay == 0
    assert scored([detection(550)], episode(500, 700), later).found[1].detected_cause is None
    assert (
        scored([detection(550), detection(900, cause=None)], episode(500, 2_000), later).found[1].detected_cause is None
    )
    assert scored([detection(550, lasts=False)], episode(500, 2_000), later).found[1].detected_cause is None
    assert scored([detection(400)], episode(500, 2_000), later).found[1].detected_cause is None, (
        "it was false from the start"
    )

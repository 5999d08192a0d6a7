"""The truth of scripts and faults, and what is put wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from lab.detection.detections import ALWAYS, NEVER, VERDICT, detections
from lab.detection.episodes import Origin, scripted_episodes
from lab.detection.scenarios import FAULTS, faulty, scenarios
from lab.evaluate.pretrained import Pretrained, pretrain_on
from lab.replay.half import LiveHalf, ReplayRequests
from lab.replay.record import JudgeCall, LearnCall, MonitorOutput, Recorder, ServeCall
from lab.replay.replay import replay
from lab.streams.sources import NamedStreams
from lab.verdict_bands import Band, bands
from model.drift.verdict import Alarm, Verdict, VerdictKind
from model.gate.config import GateConfig
from model.gate.scored_examples import Strata
from tests.lab.evaluate.small import CONFIG, KERNEL, small, texts
from tests.lab.streams.worlds import stream

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def opened() -> tuple[LiveHalf, Pretrained]:
    source = small("[]")
    pretrained = pretrain_on(source, CONFIG, KERNEL, texts, 0)
    return LiveHalf.of(source, pretrained, CONFIG), pretrained


def test_each_event_of_a_script_is_an_episode_with_its_cause_and_domain() -> None:
    source = stream(
        "[{kind: taste, at: 0.2, strength: 0.9, where: {region: [south]}}, {kind: label_delay, at: 0.5, mean_s: 900},"
        " {kind: new_domain, at: 0.6, value: shorts}, {kind: new_items, at: 0.7}]"
    )
    taste, late, domain, items = scripted_episodes(source)
    assert (taste.cause, taste.strong, taste.facets) == (Origin.DRIFT, True, {"region": ("south",)})
    assert (late.cause, late.strong) == (Origin.LABELS, True)
    assert (domain.strength, domain.facets) == (0.7, {"scene": ("shorts",)})
    assert not items.strong and np.isnan(items.strength)
    assert taste.concerns("region=south") and not taste.concerns("region=north") and not taste.concerns("group")
    assert taste.touches("scene=home") and taste.touches("group") and not taste.touches("region=north")


def test_a_gradual_drift_must_be_announced_once_it_is_strong_and_a_recurring_one_every_time() -> None:
    events = "[{kind: taste, at: 0.2, shape: gradual, ramp: 0.5, strength: 1.0}]"
    source = stream(events)
    one = scripted_episodes(source)[0]
    assert source.clock.position(np.array([one.begin, one.full])) == pytest.approx([0.2, 0.55])
    weak = scripted_episodes(stream(events.replace("1.0", "0.5")))[0]
    assert source.clock.position(np.array([weak.full])) == pytest.approx([0.7]) and not weak.strong
    again = scripted_episodes(stream("[{kind: taste, at: 0.0, shape: recurring, cycle: 0.5}]"))
    assert len(again) == 2 and again[0].end < again[1].begin


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_affects_only_its_span(opened: tuple[LiveHalf, Pretrained], name: str) -> None:
    half, pretrained = opened
    (wrong, requests), episode = faulty(name, half, pretrained, 3)
    sound, (begin, end) = ReplayRequests.sound(half, requests.span), requests.span
    edges = np.concatenate([[0], np.cumsum(half.chunk.shown.sum(axis=1))])
    changed = np.zeros(len(half.chunk), dtype=np.bool_)
    for one in range(len(half.chunk)):
        part = slice(edges[one], edges[one + 1])
        changed[one] = (
            (requests.click[one] != sound.click[one]).any()
            or (requests.delay[one] != sound.delay[one]).any()
            or requests.gain[one] != 1.0
            or (wrong.pairs.x[part] != half.pairs.x[part]).any()
            or (wrong.pairs.frozen_logit[part] != half.pairs.frozen_logit[part]).any()
        )
    assert changed[begin:end].mean() > 0.9 and not changed[:begin].any() and not changed[end:].any()
    assert (episode.begin, episode.end) == (half.chunk.time[begin], half.chunk.time[end])
    assert episode.cause is FAULTS[name].cause and episode.strong


def test_a_replay_records_the_calls_that_the_processor_makes_to_a_monitor(opened: tuple[LiveHalf, Pretrained]) -> None:
    half, _ = opened
    recorder = Recorder()
    examples = replay(half, ReplayRequests.sound(half, (0, 0)), GateConfig(), recorder)
    served = [call for call in recorder.record.calls if isinstance(call, ServeCall)]
    decided = [call for call in recorder.record.calls if isinstance(call, LearnCall)]
    assert len(served) == len(half.chunk) and [call.time for call in served] == half.chunk.time.tolist()
    assert np.array_equal(np.concatenate([call.live for call in served]), examples.live.astype(np.float32))
    assert sum(len(call.weight) for call in decided) > 0.5 * len(examples.live)
    assert np.isfinite(np.concatenate([call.candidate for call in decided])).mean() > 0.9
    order = [type(call) for call in recorder.record.calls]
    assert order[0] is ServeCall and JudgeCall in order and order.index(LearnCall) > order.index(ServeCall)


def test_late_clicks_are_corrected_in_a_replay(opened: tuple[LiveHalf, Pretrained]) -> None:
    half, _ = opened
    gate, recorder = GateConfig(), Recorder()
    late = ReplayRequests.sound(half, (0, 0))
    late.delay[:] = half.join_s + 1
    corrected = replay(half, late, gate, recorder)
    lost = ReplayRequests.sound(half, (0, 0))
    lost.delay[:] = half.horizon_s + 1
    assert not np.array_equal(corrected.live, replay(half, lost, gate).live)
    health = [call.health for call in recorder.record.calls if isinstance(call, JudgeCall)][-1]
    assert health.late_share == pytest.approx(1.0) and health.delay_s == pytest.approx(half.join_s + 1)


def test_the_suite_is_all_scripts_and_all_faults_and_the_stream_without_drift_is_long() -> None:
    chosen = {one.name: one for one in scenarios(NamedStreams("scripted"))}
    assert set(FAULTS) < set(chosen) and {"abrupt", "recurring", "feedback", "no-drift"} < set(chosen)
    still, fault = chosen["no-drift"].source.script, chosen["labels-late"].source.script
    assert still is not None and fault is not None and still.requests > 10 * fault.requests
    assert still.days / still.requests == pytest.approx(fault.days / fault.requests)


def test_a_stream_that_is_named_is_played_alone_and_without_faults(tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("name: own\nrequests: 300\n")
    assert [(one.name, one.fault) for one in scenarios(NamedStreams(script=own))] == [("own", "")]
    assert [one.name for one in scenarios(NamedStreams(mapping="movielens-sessions"))] == ["movielens-sessions"]
    (still,) = scenarios(NamedStreams(script=Path("no-drift")))
    assert still.source == {one.name: one.source for one in scenarios(NamedStreams())}["no-drift"]


def test_a_verdict_announces_a_cause_once_and_alarms_each_time() -> None:
    def verdict(time: float, kind: VerdictKind) -> MonitorOutput:
        return MonitorOutput(time, Verdict("group", kind, time))

    def alarm(time: float, signal: str) -> MonitorOutput:
        detector = "page_hinkley" if signal == "residual" else "psi"
        return MonitorOutput(time, Alarm(detector, signal, "group", time, 1.0, 0.5))

    strata = Strata({"scene": ["home"]})
    outputs = [
        verdict(1, VerdictKind.STABLE), verdict(2, VerdictKind.UNHANDLED), verdict(3, VerdictKind.HANDLED),
        alarm(3, "projection_1"), alarm(4, "projection_2"), alarm(4, "residual"), verdict(5, VerdictKind.STABLE),
    ]  # fmt: skip
    heard = detections(outputs, strata, [1.0, 2.0])
    assert [(one.time, one.cause) for one in heard[VERDICT]] == [(2, Origin.DRIFT), (5, None)]
    assert [one.cause for one in heard["psi projection"]] == [Origin.INPUTS, Origin.INPUTS]
    assert [one.cause for one in heard["page_hinkley residual"]] == [Origin.DRIFT]
    assert len(heard[ALWAYS]) == 4 and heard[NEVER] == []
    drawn = bands([(one.time, one.output) for one in outputs if isinstance(one.output, Verdict)], 9.0)
    assert drawn[0] == Band("group", VerdictKind.STABLE, 1, 2) and drawn[-1] == Band("group", VerdictKind.STABLE, 5, 9)


def test_a_detector_that_announced_nothing_is_listed_beside_the_others() -> None:
    heard = detections([], Strata({"scene": ["home"]}), [1.0])
    silent = {name for name, found in heard.items() if not found}
    assert {"adwin log_loss", "adwin residual", "kswin log_loss", "page_hinkley residual", "ks norm"} < silent
    assert {"psi projection", "threshold late_share", "change gap", VERDICT, NEVER} < silent
    assert not any(name[-1].isdigit() for name in heard), "projections count together"

"""User encoders compared: what each arm knows, how differences are paired, what is refused."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

import lab.encoders.command as command_module
from driftline.cli import app
from lab.encoders.command import NoEncodersError, run_encoders
from lab.encoders.rows import better, report_of
from lab.encoders.slices import ALL_USERS, CLICK_SLICES, clicks_before, measure_users
from lab.encoders.tables import markdown
from lab.encoders.trial import (
    ARMS,
    FROZEN,
    FROZEN_LIVE,
    OVER_FROZEN,
    OVER_LIVE,
    ArmFigures,
    EncoderTrial,
    run_encoder_trial,
    with_encoder,
)
from lab.evaluate.config import EvaluationConfig
from lab.evaluate.known_labels import live_histories
from lab.evaluate.label_times import decided_labels
from lab.evaluate.options import ComparisonOptions
from lab.evaluate.plan import Plan
from lab.evaluate.prepare import PreparedStream, prepare
from lab.evaluate.pretrained import Pretrained, pretrain_on, pretraining_examples
from lab.evaluate.slices import USER_SLICES, SliceMeasures
from lab.streams import Chunk, Stream
from lab.streams.sources import NamedStreams
from model.config import BackboneConfig, PretrainConfig
from model.encoding.history import PastEvents
from streaming.config import Config
from tests.lab.evaluate.small import CONFIG, KERNEL, SMALL, small, texts, write_small_log

QUIET = Console(quiet=True)
USERS = (ALL_USERS, *USER_SLICES, *CLICK_SLICES)
POOLED = SMALL.model_copy(update={"user_encoder": "pool", "history_length": 5, "history_width": 8})


def trial(encoder: str, seed: int, gain: float = 0.0, nats: float = 0.0) -> EncoderTrial:
    """A frozen model without an encoder has 0.6, 0.7 and 0.5, and a little more with each seed."""
    base = 0.01 * seed
    arms = ARMS if encoder != "none" else (FROZEN, OVER_FROZEN)
    figures = {
        arm: ArmFigures(0.60 + base + gain + 0.02 * arm.startswith("kernel"), 0.70 + base + gain, 0.50 + base - nats)
        for arm in arms
    }
    shares, pretrain_s = {FROZEN: 0.1, FROZEN_LIVE: 0.4}, 40.0 if seed == 0 else None
    slices = {
        arm: {name: SliceMeasures(90, 60, one.request_auc, one.auc, one.log_loss) for name in USERS}
        for arm, one in figures.items()
    }
    return EncoderTrial("shop", seed, encoder, 60.0, figures, shares, 2.0 + gain, pretrain_s, slices)


def _both(stream: Stream, trained: Pretrained, config: EvaluationConfig) -> tuple[PreparedStream, PreparedStream]:
    """The live half with histories left as they were, and with live ones."""
    known = decided_labels(Chunk.concat(list(stream.chunks("live"))), config)
    past = live_histories(stream, trained, known, followed=False)
    return prepare(stream, trained, config, past), prepare(stream, trained, config)


def test_the_arm_without_a_live_history_ignores_the_live_half() -> None:
    config, stream = replace(CONFIG, backbone=POOLED), small()
    trained = pretrain_on(stream, config, KERNEL, texts, 0)
    left, live = _both(stream, trained, config)
    (chunk,) = stream.chunks("live", 4096)
    flipped = small()
    changed = replace(chunk, click=~chunk.click)
    flipped.chunks = lambda half, requests=4096: iter([changed]) if half == "live" else stream.chunks(half, requests)  # type: ignore[method-assign]
    again, followed = _both(flipped, trained, config)
    assert np.array_equal(again.frozen_logit, left.frozen_logit)
    assert not np.array_equal(followed.frozen_logit, live.frozen_logit)
    assert not np.array_equal(left.frozen_logit, live.frozen_logit)


def test_a_trial_has_every_arm_of_its_backbone_and_runs_once(tiny: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    worked_out = 0

    def counted(*given: Any, **named: Any) -> PastEvents | None:
        nonlocal worked_out
        worked_out += 1
        return live_histories(*given, **named)

    for module in ("lab.encoders.trial", "lab.evaluate.prepare"):
        monkeypatch.setattr(f"{module}.live_histories", counted)
    source = tiny.sources[0]
    delay = POOLED.history_delay_s
    plan = replace(tiny, config=replace(CONFIG, backbone=POOLED))
    made = run_encoder_trial(plan, source, 0, "pool", delay)
    assert set(made.figures) == set(ARMS)
    assert worked_out == 2, "histories were worked out twice for an arm"
    plain = run_encoder_trial(tiny, source, 0, "none", delay)
    assert set(plain.figures) == {FROZEN, OVER_FROZEN}, "a model that reads no history has none to be live"
    assert made.figures[FROZEN] != made.figures[FROZEN_LIVE]
    assert made.with_history[FROZEN_LIVE] >= made.with_history[FROZEN] > 0 == plain.with_history[FROZEN_LIVE]
    assert made.request_ms > 0
    for by in (USER_SLICES, CLICK_SLICES):
        for of_arm in made.slices.values():
            assert sum(of_arm[name].examples for name in by) == of_arm[ALL_USERS].examples
    assert made.pretrain_s is not None
    again = run_encoder_trial(plan, source, 0, "pool", delay)
    assert repr(again) == repr(made), "a finished trial was made again"
    other = run_encoder_trial(plan, tiny.sources[1], 0, "pool", delay)
    assert other.pretrain_s is None, "the same first half was trained on twice"


def test_differences_are_paired_by_seed_and_against_the_arm_that_learns_as_much() -> None:
    gains = [0.010, 0.012, 0.014]
    trials = [trial("none", seed) for seed in range(3)]
    trials += [trial("pool", seed, gain, gain / 10) for seed, gain in enumerate(gains)]
    (stream,) = report_of(trials, 60.0).streams
    rows = {(row.encoder, row.arm): row for row in stream.arms}
    for arm in ARMS:
        above = rows["pool", arm].above
        assert above["auc"].mean == pytest.approx(0.012)
        assert above["log_loss"].mean == pytest.approx(-0.0012)
        assert above["auc"].half_width < 0.006, "the seeds' own level is no spread of a difference"
    assert rows["none", OVER_FROZEN].above["request_auc"].mean == 0
    share = next(one for one in stream.shares if one.figure == "request_auc")
    assert share.history.mean == pytest.approx(0.012)
    assert share.kernel.mean == pytest.approx(0.02)
    assert share.both.mean == pytest.approx(0.032)
    assert share.on_top.mean == pytest.approx(0.02)
    cost = stream.costs[-1]
    assert cost.request_ms_above.mean == pytest.approx(0.012)
    assert cost.pretrain_s.mean == pytest.approx(40.0)


@pytest.mark.parametrize(
    ("gain", "nats", "says"),
    [
        ([0.010, 0.012, 0.014], [0.001, 0.0012, 0.0014], ["pool"]),
        ([0.010, 0.012, 0.014], [0.001, -0.001, 0.0001], []),
        ([0.010, -0.012, 0.014], [0.001, 0.0012, 0.0014], []),
        ([-0.010, -0.012, -0.014], [-0.001, -0.0012, -0.0014], []),
    ],
)
def test_an_encoder_is_better_only_beyond_the_interval_of_request_auc_and_log_loss(
    gain: list[float], nats: list[float], says: list[str]
) -> None:
    trials = [trial("none", seed) for seed in range(3)]
    trials += [trial("pool", seed, gain[seed], nats[seed]) for seed in range(3)]
    (stream,) = report_of(trials, 60.0).streams
    assert better(stream, FROZEN_LIVE) == better(stream, OVER_LIVE) == says


def test_one_seed_shows_no_significant_difference() -> None:
    report = report_of([trial("none", 0), trial("pool", 0, 0.1, 0.1)], 60.0)
    assert better(report.streams[0], FROZEN_LIVE) == []
    assert math.isnan(report.streams[0].arms[-1].above["auc"].half_width)
    assert "pool" in markdown(report)


@pytest.mark.parametrize("models", [None, ["pool"]])
def test_a_log_is_compared_from_the_command_to_its_files(
    models: list[str] | None, tmp_path: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if models is None:
        monkeypatch.setattr(command_module, "ENCODERS", ("none", "pool"))
    monkeypatch.setattr("lab.evaluate.plan.PRETRAIN", PretrainConfig(epochs=1, content_steps=0))
    log, mapping = write_small_log(tmp_path)
    order = ComparisonOptions(tmp_path / "out", NamedStreams(log=log, mapping=str(mapping)), seeds=2, processes=1)
    (report,) = run_encoders(Config(cache_dir=cache_dir), order, models=models, console=QUIET)
    written = json.loads((tmp_path / "out" / "user-encoders.json").read_text())
    (stream,) = written["streams"]
    assert [row["encoder"] for row in stream["costs"]] == ["none", "pool"]
    assert stream["better_than_none"].keys() == {FROZEN_LIVE, OVER_LIVE}
    assert written["delay_s"] == report.delay_s == BackboneConfig().history_delay_s
    page = (tmp_path / "out" / "user-encoders.md").read_text()
    assert "| pool | kernel, live history |" in page
    assert "| pool | none | frozen, live history |" in page
    assert "log loss by users, differences" in page


def test_a_custom_backbone_is_refused_by_its_key(tmp_path: Path) -> None:
    config = Config(backbone=BackboneConfig(factory="mine.py:model"))
    with pytest.raises(NoEncodersError, match=r"backbone\.factory names mine\.py:model"):
        run_encoders(config, ComparisonOptions(tmp_path), console=QUIET)


def test_a_backbone_that_no_encoder_fits_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    config = Config(backbone=BackboneConfig(item_aspects=("id", "sparse")))
    with pytest.raises(NoEncodersError, match=r"history_items is both, but item_aspects has no text"):
        run_encoders(config, ComparisonOptions(tmp_path), console=QUIET)
    assert not list(tmp_path.iterdir())


def test_without_an_encoder_there_is_no_user_objective() -> None:
    config = BackboneConfig(user_encoder="sasrec", user_objective="clue")
    assert with_encoder(config, "none", 0.0) == BackboneConfig()


@pytest.mark.parametrize("configured", ["own", "clue"])
def test_the_name_of_an_encoder_says_what_teaches_it_before_the_clicks(configured: Any) -> None:
    config = BackboneConfig(user_encoder="pool", user_objective=configured)
    plain, clue = with_encoder(config, "sasrec", 0.0), with_encoder(config, "sasrec-clue", 0.0)
    assert (plain.user_encoder, plain.user_objective) == ("sasrec", "own")
    assert (clue.user_encoder, clue.user_objective) == ("sasrec", "clue")


@pytest.mark.parametrize("name", ["lstm", "none-clue", "sasrec-cloze"])
def test_an_encoder_that_does_not_exist_is_refused_with_those_that_do(name: str, tmp_path: Path) -> None:
    with pytest.raises(NoEncodersError, match=f"no user encoder '{name}': there are none, pool, .*sasrec-clue"):
        run_encoders(Config(), ComparisonOptions(tmp_path), models=["pool", name], console=QUIET)
    assert not list(tmp_path.iterdir())


def test_clue_is_compared_with_none_and_with_the_same_encoder_without_it() -> None:
    trials = [trial("none", seed) for seed in range(3)]
    trials += [trial("sasrec", seed, 0.01) for seed in range(3)]
    trials += [trial("sasrec-clue", seed, 0.03) for seed in range(3)]
    (stream,) = report_of(trials, 60.0).streams
    above = {(row.encoder, row.against, row.arm): row.above["auc"] for row in stream.slices}
    assert len(above) == 6
    for arm in (FROZEN_LIVE, OVER_LIVE):
        for name in USERS:
            assert above["sasrec", "none", arm][name].mean == pytest.approx(0.01)
            assert above["sasrec-clue", "none", arm][name].mean == pytest.approx(0.03)
            assert above["sasrec-clue", "sasrec", arm][name].mean == pytest.approx(0.02)


def test_the_clicks_known_before_a_request_are_those_of_pretraining_and_those_decided_before_its_batch() -> None:
    stream = small()
    chunk = Chunk.concat(list(stream.chunks("live")))
    known, log = decided_labels(chunk, CONFIG), pretraining_examples(stream)
    counted = clicks_before(known, log)
    assert counted.max() > log.label.sum() / len(stream.catalogue.users) / 4
    request = np.repeat(np.arange(len(chunk)), np.diff(known.begin))
    for asked in range(0, len(chunk), 17):
        user = chunk.user[asked]
        before = int(log.label[log.user == user].sum())
        decided = known.label & (chunk.user[request] == user) & (known.decided[request] < known.batch[asked])
        assert counted[asked] == before + int(decided.sum())


def test_users_are_new_by_whether_pretraining_saw_them_and_not_by_their_clicks() -> None:
    stream = small()
    known, log = decided_labels(Chunk.concat(list(stream.chunks("live"))), CONFIG), pretraining_examples(stream)
    user = np.repeat(known.chunk.user, np.diff(known.begin))
    half = log.select(np.flatnonzero(log.user % 2 == 0))
    label, logit = known.label.astype(np.float32), np.zeros(len(user), dtype=np.float32)
    sizes = {name: one.examples for name, one in measure_users(label, logit, known, half, user).items()}
    seen = np.isin(user, half.user)
    assert (sizes["user new"], sizes["user known"]) == ((~seen).sum(), seen.sum())
    assert 0 < sizes["user new"] < sizes[ALL_USERS] == len(user)


@pytest.mark.parametrize(
    "more", [["--detectors"], ["--adapters", "iak"], ["--base", "plain"], ["--tune", "--seeds", "2"]]
)
def test_options_that_do_not_go_with_it_are_refused(more: list[str], tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["evaluate", "--user-encoders", *more, "--out", str(tmp_path)])
    assert result.exit_code == 2
    assert "does not go with" in result.output

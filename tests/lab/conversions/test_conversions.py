"""Methods for predicting conversions: what is known when, what each learns from, and how they are compared."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from rich.console import Console
from typer.testing import CliRunner

from driftline.cli import app
from lab.conversion_start import clicked_log
from lab.conversions.command import NoConversionsError, run_conversions
from lab.conversions.known_conversions import KnownConversions, conversion_features
from lab.conversions.tables import markdown, report_of
from lab.conversions.trial import (
    COUNTERS,
    FROZEN,
    METHODS,
    POSTERIOR,
    ConversionTrial,
    CvrFigures,
    run_conversion_trial,
)
from lab.evaluate.options import ComparisonOptions
from lab.evaluate.plan import Plan
from lab.evaluate.pretrained import Pretrained, pretrain_on
from lab.streams import Chunk, ScriptedStream
from lab.streams.sources import NamedStreams, Source
from model.config import BackboneConfig
from streaming.config import Config
from tests.lab.evaluate.small import CONFIG, DRIFT, KERNEL, SMALL, small, texts, write_small_log
from tests.lab.streams.worlds import script

SHOP = "{rate: 0.3, taste: 2.0, delay_s: 900}"
BOTH = replace(CONFIG, backbone=SMALL.model_copy(update={"tasks": "ctr_ctcvr"}))


@pytest.fixture(scope="module")
def converting() -> tuple[ScriptedStream, Pretrained]:
    stream = small(conversions=SHOP)
    return stream, pretrain_on(stream, BOTH, KERNEL, texts, 0)


def live(stream: ScriptedStream) -> Chunk:
    return Chunk.concat(list(stream.chunks("live")))


def features(stream: ScriptedStream, pretrained: Pretrained, chunk: Chunk) -> NDArray[np.float32]:
    known = KnownConversions.of(chunk, BOTH)
    return conversion_features(stream, pretrained, known, np.zeros(len(known.clicked), np.float32), BOTH)


def moved(chunk: Chunk, delay_s: float) -> Chunk:
    """The same conversions, each so long after its click."""
    assert chunk.conversions is not None
    delay = np.full_like(chunk.conversions.delay, delay_s)
    return replace(chunk, conversions=replace(chunk.conversions, delay=delay))


def test_only_clicks_that_convert_within_their_window_count(
    converting: tuple[ScriptedStream, Pretrained],
) -> None:
    chunk = live(converting[0])
    assert chunk.conversions is not None
    known = KnownConversions.of(moved(chunk, 10.0), BOTH)
    assert 0 < known.converted.sum() < known.clicked.sum()
    assert not (known.converted & ~known.clicked).any()
    assert (known.closed_at >= known.converted_at).all() and (known.converted_at >= known.clicked_at).all()
    assert not KnownConversions.of(moved(chunk, BOTH.horizon_s + 1), BOTH).converted.any()
    order, closed_at = known.closing()
    assert sorted(order.tolist()) == np.flatnonzero(known.clicked).tolist() and (np.diff(closed_at) >= 0).all()


def test_the_log_of_conversions_holds_the_clicks_labelled_by_what_followed(
    converting: tuple[ScriptedStream, Pretrained],
) -> None:
    log = converting[1].log
    clicked = clicked_log(log)
    assert log.examples.conversion is not None
    assert len(clicked.examples) == log.examples.label.sum()
    assert clicked.examples.label.sum() == log.examples.conversion.sum() > 0


def test_features_include_a_conversion_only_once_it_has_arrived(
    converting: tuple[ScriptedStream, Pretrained],
) -> None:
    stream, pretrained = converting
    chunk = live(stream)
    assert chunk.conversions is not None
    none = replace(chunk, conversions=replace(chunk.conversions, happened=np.zeros_like(chunk.conversions.happened)))
    soon, never = features(stream, pretrained, moved(chunk, 10.0)), features(stream, pretrained, none)
    differs = np.flatnonzero((soon != never).any(axis=1))
    known = KnownConversions.of(moved(chunk, 10.0), BOTH)
    batch = known.click_labels.batch[known.request]
    first = known.converted_at[known.converted].min()
    assert batch[differs[0]] == first + 1, "the first example that knows is of the batch behind the first conversion"


def test_a_late_conversion_gives_the_same_counters_as_one_with_the_click(
    converting: tuple[ScriptedStream, Pretrained],
) -> None:
    stream, pretrained = converting
    chunk, counters = live(stream), slice(pretrained.layout.residual_width, None)
    at_once, late = (features(stream, pretrained, moved(chunk, delay)) for delay in (0.0, 1_200.0))
    known = KnownConversions.of(moved(chunk, 1_200.0), BOTH)
    batch = known.click_labels.batch[known.request]
    clicked_at, converted_at = (at[known.converted][:, None] for at in (known.clicked_at, known.converted_at))
    numbers = np.arange(batch[-1] + 1)
    under_way: NDArray[np.bool_] = np.asarray(((clicked_at < numbers) & (numbers <= converted_at)).any(axis=0))
    settled = ~under_way[batch]
    assert not np.array_equal(at_once, late)
    assert (settled & (batch > converted_at.min())).any()
    assert np.allclose(at_once[settled, counters], late[settled, counters], atol=1e-5)


def test_a_trial_has_every_method_learns_only_from_known_labels_and_runs_once(tiny: Plan) -> None:
    keys = {"requests": 300, "pretrain_requests": 300, "users": 40}
    source = Source("shop", script=script(DRIFT, conversions=SHOP, **keys).model_copy(update={"name": "shop"}))
    plan = replace(tiny, config=BOTH, sources=(source,))
    made = run_conversion_trial(plan, source, 0)
    assert set(made.figures) == set(METHODS)
    assert made.figures[FROZEN] != made.figures[POSTERIOR] != made.figures[COUNTERS]
    assert 0 < made.conversions < made.clicks
    assert run_conversion_trial(plan, source, 0) == made, "a finished trial was made again"
    never = replace(plan, config=replace(BOTH, horizon_s=1e12))
    untaught = run_conversion_trial(never, source, 0).figures[POSTERIOR]
    assert untaught.cvr_auc == made.figures[FROZEN].cvr_auc, "a kernel learned from windows that had not closed"


def figures(level: float) -> CvrFigures:
    return CvrFigures(level, level + 0.1, 0.5 - level, level, level, level, 1.0)


def test_methods_are_paired_by_seed_with_the_frozen_probability() -> None:
    def one(seed: int) -> ConversionTrial:
        gains = {FROZEN: 0.0, COUNTERS: -0.02, POSTERIOR: 0.01 + 0.001 * seed}
        known = {method: figures(0.5 + seed / 10 + gain) for method, gain in gains.items()}
        return ConversionTrial("shop", seed, 100, 15, 12, known)

    trials = [one(seed) for seed in range(3)]
    report = report_of(trials, (0, 1, 2))
    rows = {row.method: row for row in report.rows}
    assert rows[POSTERIOR].above["request_auc"].mean == pytest.approx(0.011)
    assert rows[POSTERIOR].above["request_auc"].half_width < 0.01, "the seeds' own level is no spread of a difference"
    assert rows[COUNTERS].above["log_loss"].mean == pytest.approx(0.02)
    assert "45 conversions of 300 clicks in 3 seeds (36 requests with one)" in markdown(report)


def test_a_backbone_that_reads_histories_is_refused_by_its_key(tmp_path: Path) -> None:
    config = Config(backbone=BackboneConfig(user_encoder="pool"), cache_dir=tmp_path)
    with pytest.raises(NoConversionsError, match=r"backbone.user_encoder is 'pool'.*set it to none"):
        run_conversions(config, ComparisonOptions(tmp_path / "out"), console=Console(quiet=True))


def test_a_stream_without_conversions_is_refused_by_name_before_any_work(tmp_path: Path) -> None:
    log, mapping = write_small_log(tmp_path)
    order = ComparisonOptions(tmp_path / "out", NamedStreams(log=log, mapping=str(mapping)))
    with pytest.raises(NoConversionsError, match=r"the stream mapping knows of none.*interactions\.conversion"):
        run_conversions(Config(cache_dir=tmp_path), order, console=Console(quiet=True))
    assert not list(tmp_path.glob("out/work/*"))


def test_an_option_of_another_comparison_is_refused_by_name() -> None:
    shown = CliRunner().invoke(app, ["evaluate", "--conversions", "--adapters", "iak"])
    assert shown.exit_code == 2
    assert "--adapters" in shown.output and "it does not go with --conversions" in " ".join(shown.output.split())

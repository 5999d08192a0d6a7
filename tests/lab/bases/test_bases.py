"""The base beside baselines: the same halves for all, no own label in a column, a table for any log."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from lab.bases.baselines import BASELINES
from lab.bases.columns import log_odds, one_hot
from lab.bases.command import run_bases
from lab.bases.halves import Halves, cross, fields_of
from lab.bases.presets import BASES, plain_base, shipped_base
from lab.streams.choice import StreamChoice, open_recording
from model.backbone.statistics import fit_statistics
from model.config import BackboneConfig, PretrainConfig
from model.encoding.features import FeatureEncoder
from model.encoding.profile import ItemFeatures, UserFeatures
from streaming.config import Config
from tests.lab.evaluate.small import write_small_log

QUIET = Console(quiet=True)


def halves_of(folder: Path) -> Halves:
    log, mapping = write_small_log(folder)
    recording = open_recording(Config(), StreamChoice(log=log, mapping=str(mapping)), QUIET)
    users = [UserFeatures(user.user_id, user.fields) for user in recording.users]
    items = [ItemFeatures(item.item_id, item.fields, np.zeros(4, dtype=np.float32)) for item in recording.items]
    encoder = FeatureEncoder.fit(users, items, user_fields=(), item_fields=(), text_width=4)
    return Halves.of(recording, encoder, items)


@pytest.fixture
def halves(tmp_path: Path) -> Halves:
    return halves_of(tmp_path)


def test_every_pair_of_the_log_is_in_one_half(halves: Halves) -> None:
    assert len(halves.train) + len(halves.test) == 600
    assert len(halves.request) == len(halves.test)


def test_single_columns_are_the_statistics_that_the_base_reads(halves: Halves) -> None:
    mine = log_odds(halves).test
    statistics = fit_statistics(halves.shape, halves.encoder, halves.train).served(halves.test).numpy()
    np.testing.assert_allclose(mine[:, 0], statistics[:, 0], atol=1e-5)  # the user's
    np.testing.assert_allclose(mine[:, 1], statistics[:, 5], atol=1e-5)  # the item's, behind count and facets


@pytest.mark.parametrize("row", [0, 150, 299])
def test_columns_of_a_training_row_exclude_its_own_label(halves: Halves, row: int) -> None:
    before = log_odds(halves, crosses=True, counts=True).train[row].copy()
    halves.train.label[row] = 1 - halves.train.label[row]
    after = log_odds(halves, crosses=True, counts=True).train[row]
    moved = np.abs(after - before)
    # The overall rate that all deviations are taken from is that of the whole half: one label in 300 moves it a little.
    assert moved.max() < 0.02


def test_a_cross_has_a_key_of_its_own_for_every_pair(halves: Halves) -> None:
    user, item = fields_of(halves, halves.train)[:2]
    both = cross(user, item)
    pairs = {(int(u), int(i)) for u, i in zip(user.rows[:, 0], item.rows[:, 0], strict=True)}
    assert len(torch.unique(both.rows)) == len(pairs)
    assert int(both.rows.max()) < both.size == user.size * item.size


def test_one_hot_rows_sum_to_the_number_of_fields(halves: Halves) -> None:
    train, test = one_hot(halves)
    assert train.shape[1] == test.shape[1]
    assert np.allclose(train.sum(axis=1), len(fields_of(halves, halves.train)))


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize("labels", ["mixed", "all clicks", "no clicks"])
def test_every_baseline_gives_finite_scores_for_any_labels(halves: Halves, name: str, labels: str) -> None:
    if labels != "mixed":
        halves.train.label.fill_(float(labels == "all clicks"))
    logits = BASELINES[name].logits(halves, 0)
    assert logits.shape == (len(halves.test),)
    assert np.isfinite(logits).all()
    if labels == "mixed":
        assert logits.std() > 0
    else:
        assert ((logits > 0) == (labels == "all clicks")).all()


def test_the_presets_differ_in_the_documented_settings() -> None:
    shipped, plain = shipped_base(), plain_base()
    assert shipped.backbone == BackboneConfig()
    assert shipped.pretrain == PretrainConfig()
    assert (shipped.backbone.target_statistics, plain.backbone.target_statistics) == (True, False)
    assert (shipped.pretrain.refit, plain.pretrain.refit) == (True, False)


def test_the_table_has_a_row_per_base_and_baseline(tmp_path: Path, cache_dir: Path) -> None:
    log, mapping = write_small_log(tmp_path)
    config = Config(cache_dir=cache_dir)
    table = run_bases(config, StreamChoice(log=log, mapping=str(mapping)), seeds=1, console=QUIET)
    title, _, head, _, *rows = table.splitlines()
    assert title == "Log shop, seeds: 1"
    assert head.startswith("| model | AUC in requests | AUC |")
    assert [row.split(" | ")[0].lstrip("| ") for row in rows] == [*BASES, *BASELINES]

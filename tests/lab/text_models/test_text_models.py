"""Text encoders of growing size, and what they are worth to a backbone that knows items by them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from typer.testing import CliRunner

from driftline.cli import app
from features.text import TextEncoder
from lab.evaluate.named_tables import show_tables
from lab.evaluate.options import ComparisonOptions
from lab.evaluate.plan import Plan
from lab.evaluate.slices import FIGURES, ITEM_SLICES, USER_SLICES
from lab.streams import StreamError
from lab.streams.sources import NamedStreams
from lab.text_models.command import run_text_models
from lab.text_models.encoders import (
    HASHED_WIDTH,
    HashedWords,
    UnknownTextModelError,
    cost_of,
    cut_model,
    text_encoder,
)
from lab.text_models.table import markdown, report_of, tables
from lab.text_models.trial import ALL, run_text_trial
from model.backbone.schema import BackboneRefused
from streaming.config import Config
from tests.lab.evaluate.small import write_small_log

QUIET = Console(quiet=True)
TITLES = ["Toy Story (1995)", "GoldenEye", "The Empire Strikes Back, a Star Wars film"]


# --- encoders ---


@given(st.lists(st.sampled_from(["star", "wars", "toy", "story", "empire"]), min_size=1, max_size=8), st.randoms())
def test_hashed_words_depend_on_word_counts_and_not_on_word_order(words: list[str], random: Any) -> None:
    other = list(words)
    random.shuffle(other)
    one, two = HashedWords().encode([" ".join(words), " ".join(other)])
    assert np.array_equal(one, two)
    assert np.linalg.norm(one) == pytest.approx(1, abs=1e-5)


def test_a_text_without_words_is_a_zero_vector_of_hashed_words() -> None:
    assert not HashedWords().encode(["", "  "]).any()
    assert HashedWords().encode(["a film"]).shape == (1, HASHED_WIDTH)


@pytest.mark.slow
@pytest.mark.parametrize("layers", [1, 3])
def test_a_cut_model_gives_the_mean_of_the_layer_at_which_it_is_cut(layers: int, tmp_path: Path) -> None:
    cut = text_encoder(f"minilm-{layers}", tmp_path).encode(TITLES)
    network = TextEncoder().network
    for text, vector in zip(TITLES, cut, strict=True):
        tokens = network[0].tokenizer([text], return_tensors="pt")
        with torch.no_grad():
            states = network[0].auto_model(**tokens, output_hidden_states=True).hidden_states[layers]
        mean = states[0].mean(0)
        assert np.allclose(vector, (mean / mean.norm()).numpy(), atol=1e-4)


@pytest.mark.slow
def test_a_cut_model_is_written_once_as_a_folder_that_the_text_encoder_reads(tmp_path: Path) -> None:
    folder = cut_model(1, tmp_path)
    stamp = (folder / "modules.json").stat().st_mtime_ns
    assert cut_model(1, tmp_path) == folder
    assert (folder / "modules.json").stat().st_mtime_ns == stamp
    by_folder, by_name = (text_encoder(name, tmp_path).encode(TITLES) for name in (str(folder), "minilm-1"))
    assert np.array_equal(by_folder, by_name)


@pytest.mark.slow
def test_the_cost_of_an_encoder_grows_with_its_layers(tmp_path: Path) -> None:
    hashed, one, whole = (cost_of(name, tmp_path, TITLES) for name in ("hashed-words", "minilm-1", "minilm-6"))
    assert hashed.parameters == 0 < one.parameters < whole.parameters
    assert hashed.width == one.width == whole.width == HASHED_WIDTH


def test_an_unknown_model_is_refused_with_the_known_names(tmp_path: Path) -> None:
    with pytest.raises(UnknownTextModelError, match=r"no text model 'bert': there are hashed-words, minilm-1.* folder"):
        text_encoder("bert", tmp_path)


# --- trials and their table ---


@pytest.fixture
def titled(tiny: Plan) -> Plan:
    return replace(tiny, sources=tiny.sources[:1])


@pytest.mark.slow
def test_a_trial_is_stored_measured_by_slices_and_computed_again_if_truncated(titled: Plan) -> None:
    tried = {by: run_text_trial(titled, titled.sources[0], 0, model, by) for model, by in
             (("", "id"), ("hashed-words", "text"), ("hashed-words", "both"))}  # fmt: skip
    for one in tried.values():
        whole = one.slices[ALL].examples
        assert sum(one.slices[name].examples for name in ITEM_SLICES) == whole
        assert sum(one.slices[name].examples for name in USER_SLICES) == whole
    assert len({one.slices[ALL].auc for one in tried.values()}) == 3
    stamps = {path: path.stat().st_mtime_ns for path in titled.work_dir.rglob("*.json")}
    assert len(stamps) == 3
    torn = min(stamps)
    torn.write_text(torn.read_text()[:40])
    for by, one in tried.items():
        again = run_text_trial(titled, titled.sources[0], 0, one.model, by)
        assert repr(again.slices) == repr(one.slices)
    assert [path for path in stamps if path.stat().st_mtime_ns != stamps[path]] == [torn]


@pytest.mark.slow
def test_the_table_compares_with_items_by_id_paired_by_seed(titled: Plan) -> None:
    source = titled.sources[0]
    tried = [
        run_text_trial(titled, source, seed, model, by)
        for model, by in (("", "id"), ("hashed-words", "text"))
        for seed in titled.seeds
    ]
    report = report_of(tried, [])
    by_id, by_text = report.rows
    assert all(by_id.above_id[figure][ALL].mean == 0 for figure in FIGURES)
    for figure in FIGURES:
        above = by_text.figures[figure][ALL].mean - by_id.figures[figure][ALL].mean
        assert by_text.above_id[figure][ALL].mean == pytest.approx(above)
    for title, head, body in tables(report):
        assert all(len(row) == len(head) for row in body), title
        assert not [cell for row in body for cell in row if "nan" in cell], title
    assert "| text | hashed-words |" in markdown(report)
    narrow = Console(record=True, width=40)
    show_tables(tables(report), narrow)
    assert "…" not in narrow.export_text()
    json.dumps(report.to_json(), allow_nan=False)


# --- the command ---


def test_a_stream_without_item_texts_is_refused_by_name(tmp_path: Path) -> None:
    log, mapping = write_small_log(tmp_path)
    order = ComparisonOptions(tmp_path / "out", NamedStreams(log=log, mapping=str(mapping)), seeds=1)
    with pytest.raises(StreamError, match="mapping: no item has a text"):
        run_text_models(Config(), order, models=["hashed-words"], console=QUIET)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"user_encoder": "pool"}, "backbone.user_encoder"),
        ({"factory": "a.b:c"}, "backbone.factory"),
    ],
)
def test_an_incompatible_backbone_is_refused_by_its_key(keys: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(BackboneRefused, match=words):
        run_text_models(Config.model_validate({"backbone": keys}), ComparisonOptions(tmp_path), console=QUIET)


@pytest.mark.parametrize(
    "options",
    [["--text-models", "--tune"], ["--text-models", "--adapters", "full"], ["--models", "minilm-1"],
     ["--text-models", "--detectors"]],
)  # fmt: skip
def test_options_that_do_not_go_together_are_refused(options: list[str]) -> None:
    result = CliRunner().invoke(app, ["evaluate", *options])
    assert result.exit_code == 2
    assert "--text-models" in result.output

"""A text encoder trained with the backbone: what is trained of it, what it becomes, and what is refused."""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import nn

from features.text import TextEncoder
from lab.evaluate.options import ComparisonOptions
from lab.evaluate.plan import Plan
from lab.evaluate.pretrained import TrainedBackbone, train_backbone_on
from lab.evaluate.slices import SLICES, SliceMeasures
from lab.streams import StreamError
from lab.streams.sources import NamedStreams
from lab.text_models.command import run_text_models
from lab.text_models.encoders import TextModel, UnknownTextModelError, encoder_layers
from lab.text_models.table import markdown, report_of
from lab.text_models.trial import ALL, ANEW, TextTrial, known_by, run_text_trial
from lab.text_models.tuned import LINEAGE, LowerStates, TunedText, Tuning
from model.backbone.content import catalogue_aspects, fit_content
from model.backbone.dataset import ProfileTable
from model.backbone.foundation import FoundationBackbone
from model.backbone.schema import BackboneRefused
from model.backbone.shape import BackboneShape
from streaming.config import Config
from tests.lab.evaluate.small import CONFIG, SMALL, small, write_small_log

QUIET = Console(quiet=True)
TITLES = ["Toy Story", "GoldenEye", "Alien", "The Empire Strikes Back, a Star Wars film", "Heat", "word " * 400]


@pytest.fixture(scope="module")
def encoder() -> TextEncoder:
    """MiniLM, loaded once; nothing that is tuned may change it."""
    return TextEncoder()


Trained = tuple[Tuning, TrainedBackbone]
ONE_PASS = replace(CONFIG, pretrain=CONFIG.pretrain.model_copy(update={"epochs": 1}))


def _trained(encoder: TextEncoder, tuned: int = 1) -> Trained:
    """A backbone of the small stream with so many layers of the encoder trained beside it."""
    stream = small()
    tuning = Tuning.of(encoder, tuned, [item.text for item in stream.catalogue.items])
    return tuning, train_backbone_on(stream, known_by(ONE_PASS, "both"), tuning.numbers, 0, tuning.backbone)


@pytest.fixture(scope="module")
def trained(encoder: TextEncoder) -> Trained:
    """A backbone with one layer trained beside it, made once; who changes it takes a copy."""
    return _trained(encoder)


def _text_of(made: TrainedBackbone) -> TunedText:
    assert isinstance(made.backbone, FoundationBackbone)
    assert isinstance(made.backbone.item_text, TunedText)
    return made.backbone.item_text


def _weights(network: Any) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


@pytest.mark.slow
@pytest.mark.parametrize("tuned", [1, 2, 6])
def test_kept_outputs_of_the_lower_layers_and_the_top_ones_give_the_whole_encoders_vectors(
    tuned: int, encoder: TextEncoder
) -> None:
    asked = [*TITLES, "", "  ", "Heat", " Alien "]
    tuning = Tuning.of(encoder, tuned, asked)
    with torch.no_grad():
        vectors = tuning.text_aspect(nn.Identity()).eval()(torch.from_numpy(tuning.numbers(asked)))
    assert np.allclose(vectors.numpy(), encoder.encode(asked), atol=1e-5)
    assert not vectors[6:8].any(), "a blank text has no words"


@pytest.mark.slow
def test_kept_outputs_are_those_of_the_layer_below_the_tuned_ones(encoder: TextEncoder) -> None:
    lower = LowerStates.of(encoder, TITLES, 2)
    transformer = encoder.network[0]
    for text in TITLES[:5]:
        tokens = transformer.tokenizer([text], return_tensors="pt")
        with torch.no_grad():
            whole = transformer.auto_model(**tokens, output_hidden_states=True).hidden_states[4]
        number = lower.place[text]
        kept = lower.states[int(lower.group[number])][int(lower.row[number])]
        assert torch.allclose(kept, whole[0], atol=1e-5)


@pytest.mark.slow
def test_training_changes_the_top_layers_and_nothing_below_them(
    encoder: TextEncoder,
    tmp_path: Path,
) -> None:
    before = _weights(encoder.network)
    tuning, made = _trained(encoder, tuned=2)
    assert isinstance(made.backbone, FoundationBackbone)
    tuning.save(tmp_path / "tuned", made.backbone, {"stream": "drift"})
    after = _weights(TextEncoder(str(tmp_path / "tuned")).network)
    assert after.keys() == before.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert {name.partition(".encoder.layer.")[2][:1] for name in changed} == {"4", "5"}
    top = [name for name in before if ".encoder.layer.4." in name or ".encoder.layer.5." in name]
    # The softmax takes the same constant from every key, so the bias of the keys has no gradient but rounding.
    assert {name for name in top if "key.bias" not in name} <= changed
    assert all(torch.equal(value, before[name]) for name, value in _weights(encoder.network).items())


@pytest.mark.slow
def test_the_folder_of_a_tuned_encoder_gives_the_vectors_that_its_backbone_read(
    encoder: TextEncoder,
    trained: Trained,
    tmp_path: Path,
) -> None:
    tuning, made = trained
    assert isinstance(made.backbone, FoundationBackbone)
    tuning.save(tmp_path / "tuned", made.backbone, {"stream": "drift", "seed": 0})
    texts = list(tuning.lower.place)
    with torch.no_grad():
        read = _text_of(made).vectors(torch.arange(1, len(texts) + 1)).numpy()
    written = TextEncoder(str(tmp_path / "tuned")).encode(texts)
    assert np.allclose(written, read, atol=1e-5)
    assert not np.allclose(written, encoder.encode(texts), atol=1e-3), "the clicks taught it nothing"
    assert json.loads((tmp_path / "tuned" / LINEAGE).read_text()) == {
        "encoder": encoder.model, "layers_tuned": 1, "backbone": made.backbone.fingerprint, "stream": "drift",
        "seed": 0,
    }  # fmt: skip


@pytest.mark.slow
def test_training_twice_gives_the_same_encoder_bit_for_bit(encoder: TextEncoder, trained: Trained) -> None:
    (_, first), (_, second) = trained, _trained(encoder)
    assert first.backbone.fingerprint == second.backbone.fingerprint
    assert np.array_equal(first.held_out, second.held_out)
    for name, value in _text_of(first).top.moved.items():
        assert torch.equal(value, _text_of(second).top.moved[name])


@pytest.mark.slow
def test_each_model_begins_with_the_encoders_own_weights_and_as_one_of_frozen_vectors_else(
    encoder: TextEncoder,
) -> None:
    tuning, shape = Tuning.of(encoder, 1, TITLES), BackboneShape(5, 5, 3, 3, (1,), (1,), (1, 1, 1))
    models = []
    for _ in range(2):
        torch.manual_seed(3)
        models.append(tuning.backbone(SMALL, shape, ""))
        for value in models[-1].parameters():
            if value.requires_grad:
                value.data.add_(1.0)
    assert all(torch.equal(a, b) for a, b in zip(models[0].parameters(), models[1].parameters(), strict=True))
    trained = {name for name, value in models[0].named_parameters() if value.requires_grad}
    assert {name for name in trained if name.startswith("item_text.")} == {
        "item_text.mapped.weight", "item_text.mapped.bias",
        *(f"item_text.top.moved.{name}" for name in models[0].item_text.top.moved),  # type: ignore[union-attr]
    }  # fmt: skip
    assert len(models[0].item_text.top.moved) == 16, "one layer has 16 weights"  # type: ignore[union-attr, arg-type]


@pytest.mark.slow
def test_content_vectors_are_fitted_without_dropout(trained: Trained) -> None:
    _, made = trained
    model = deepcopy(made.backbone)
    assert isinstance(model, FoundationBackbone)
    profiles: ProfileTable = made.profiles
    expected = catalogue_aspects(model, profiles).mean(0)
    fit_content(model.train(), profiles, made.examples, seed=0, steps=0)
    assert torch.allclose(model.content_mean, expected, atol=1e-6)


# --- trials ---


@pytest.mark.slow
def test_a_tuned_trial_has_both_backbones_and_an_encoder_to_serve(tiny: Plan) -> None:
    source = tiny.sources[0]
    name = "minilm-1:tuned-1"
    by_id = [run_text_trial(tiny, source, seed, "", "id") for seed in tiny.seeds]
    tuned = [run_text_trial(tiny, source, seed, name, "both") for seed in tiny.seeds]
    again = run_text_trial(tiny, source, 0, name, "both")
    assert repr(again) == repr(tuned[0]), "a finished trial was made again"
    anew = [one.anew for one in tuned if one.anew is not None]
    assert [one.model for one in anew] == [f"{name}{ANEW}"] * 2
    assert tuned[0].slices[ALL].auc != anew[0].slices[ALL].auc != by_id[0].slices[ALL].auc
    assert len({one.folder for one in tuned}) == 2
    for one in tuned:
        lineage = json.loads((Path(one.folder) / LINEAGE).read_text())
        assert (lineage["seed"], lineage["items_by"], lineage["stream"]) == (one.seed, "both", "drift")
    page = markdown(report_of([*by_id, *tuned, *anew], []))
    assert f"| both | {name} |" in page
    assert f"| both | {name}{ANEW} |" in page
    assert all(one.folder in page for one in tuned)


def test_a_tuned_encoder_is_compared_with_the_same_one_frozen_seed_by_seed() -> None:
    gains = {
        "": 0.0,
        "minilm-1": 0.1,
        "minilm-1:tuned-1": 0.13,
        f"minilm-1:tuned-1{ANEW}": 0.12,
        "minilm-3:tuned-1": 0.2,
    }

    def tried(model: str, seed: int) -> TextTrial:
        level = 0.6 + 0.05 * seed + gains[model]
        slices = {name: SliceMeasures(500, 60, level, level, level) for name in (ALL, *SLICES)}
        return TextTrial("shop", seed, model, "text" if model else "id", 9.0, slices)

    report = report_of([tried(model, seed) for model in gains for seed in range(3)], [])
    above = {row.model: row.above_frozen for row in report.rows}
    assert above[""] is above["minilm-1"] is above["minilm-3:tuned-1"] is None, "there is no frozen one to compare"
    for model, gain in (("minilm-1:tuned-1", 0.03), (f"minilm-1:tuned-1{ANEW}", 0.02)):
        compared = above[model]
        assert compared is not None
        assert compared["auc"][ALL].mean == pytest.approx(gain)
        assert compared["auc"][ALL].half_width == pytest.approx(0, abs=1e-9)
    assert "| text | minilm-1:tuned-1 | AUC within requests | +0.0300 ±0.0000 |" in markdown(report)


# --- refusals ---


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("hashed-words:tuned-1", "hashed-words has no layers that could be tuned"),
        ("minilm-1:tuned-2", "minilm-1 has 1 layers, so from 1 to 1 can be tuned"),
        ("minilm-6:tuned-7", "minilm-6 has 6 layers, so from 1 to 6 can be tuned"),
        ("minilm-6:tuned-0", "from 1 to 6 can be tuned"),
        ("minilm-6:tuned-x", r"no text model 'minilm-6:tuned-x': .* minilm-1:tuned-1"),
        ("bert:tuned-1", "no text model 'bert'"),
    ],
)
def test_what_cannot_be_tuned_is_refused_by_its_name(name: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(UnknownTextModelError, match=words):
        run_text_models(Config(), ComparisonOptions(tmp_path / "out"), models=["hashed-words", name], console=QUIET)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_the_layers_of_a_folder_are_counted_before_they_are_tuned(encoder: TextEncoder, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    encoder.network.save(str(folder), create_model_card=False)
    assert TextModel.of(f"{folder}:tuned-6") == TextModel(str(folder), 6)
    with pytest.raises(UnknownTextModelError, match="has 6 layers"):
        TextModel.of(f"{folder}:tuned-7")


def test_a_model_that_is_not_bert_like_is_refused() -> None:
    with pytest.raises(UnknownTextModelError, match="only a BERT-like model can be tuned"):
        encoder_layers([nn.Linear(2, 2)])


@pytest.mark.slow
def test_an_encoder_whose_top_layers_do_not_run_by_themselves_is_refused(
    encoder: TextEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoder, "encode", lambda texts: np.ones((len(texts), 384), dtype=np.float32))
    with pytest.raises(UnknownTextModelError, match="need more than what is below them"):
        Tuning.of(encoder, 1, TITLES)


def test_a_stream_without_texts_has_nothing_to_tune_on(tmp_path: Path) -> None:
    log, mapping = write_small_log(tmp_path)
    order = ComparisonOptions(tmp_path / "out", NamedStreams(log=log, mapping=str(mapping)), seeds=1)
    with pytest.raises(StreamError, match="mapping: no item has a text"):
        run_text_models(Config(), order, models=["minilm-1:tuned-1"], console=QUIET)


def test_a_backbone_that_reads_queries_is_refused_for_tuned_encoders(tmp_path: Path) -> None:
    config = Config.model_validate({"backbone": {"query_aspects": ["text"]}})
    with pytest.raises(BackboneRefused, match=r"set backbone\.query_aspects to \[\]"):
        run_text_models(config, ComparisonOptions(tmp_path), models=["minilm-1:tuned-1"], console=QUIET)

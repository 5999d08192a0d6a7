"""CLUE pretraining: views of a history, the contrastive loss, and that it separates users."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from model.backbone.dataset import ProfileTable, TrainingData
from model.backbone.encoders.clue import clue_pretrain, contrast, user_vectors, view
from model.backbone.examples import Examples
from model.config import BackboneConfig, PretrainConfig
from model.encoding.features import FeatureEncoder
from model.encoding.profile import ItemFeatures, UserFeatures
from tests.model.backbone.encoders.test_encoders import ENCODERS, ITEMS, TEXT, config, encoder, history, table


def lot(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("seed", range(20))
def test_a_view_holds_only_events_of_its_user_with_their_ages(seed: int) -> None:
    past = history([1, 2, 3, 4, 5], [6, 7], [8, 0, 1, 2])
    seen = view(past, lot(seed))
    for user in range(3):
        age_of = dict(zip(past.event[user].tolist(), past.age[user].tolist(), strict=True))
        kept = seen.event[user][seen.there[user]].tolist()
        assert 0 < len(kept) == len(set(kept))
        assert all(age_of[event] == age for event, age in zip(kept, seen.age[user].tolist(), strict=False))
        assert set(kept) <= set(past.event[user][past.there[user]].tolist())
        assert seen.there[user].tolist() == sorted(seen.there[user].tolist(), reverse=True)


def test_views_crop_mask_and_reorder() -> None:
    whole = list(range(9))
    seen = [view(history(whole), lot(seed)) for seed in range(60)]
    kept = [one.event[0][one.there[0]].tolist() for one in seen]
    reordered = [one for one in kept if sorted(one) == whole and one != whole]
    cropped = [one for one in kept if one == list(range(one[0], one[0] + 6))]
    thinned = [one for one in kept if one == sorted(one) and len(one) < 9 and one[-1] == 8]
    assert min(len(reordered), len(cropped), len(thinned)) >= 10


def test_the_contrastive_loss_is_least_if_each_view_is_nearest_to_the_other_view_of_its_user() -> None:
    users = torch.eye(4)
    assert contrast(users, users) < contrast(users, users.roll(1, 0))
    alike = torch.ones(4, 3)
    assert contrast(alike, alike).item() == pytest.approx(math.log(7), abs=1e-5)


@pytest.fixture(scope="module")
def data() -> TrainingData:
    """Twenty users in two camps, each with its own half of the items."""
    rng = np.random.default_rng(0)
    user = np.tile(np.arange(20), 12)
    item = np.where(user % 2 == 0, rng.integers(0, 4, len(user)), rng.integers(4, ITEMS, len(user)))
    users = [UserFeatures(f"u{n}", {}) for n in range(20)]
    items = [ItemFeatures(f"i{n}", {}, rng.normal(size=TEXT).astype(np.float32)) for n in range(ITEMS)]
    coded = FeatureEncoder.fit(users, items, user_fields=(), item_fields=(), text_width=TEXT)
    time = np.arange(len(user), dtype=np.float64) * 1_000
    ones = np.ones(len(user), dtype=np.float32)
    examples = Examples(user, item, np.zeros((len(user), 3), dtype=np.int64), ones, time)
    return TrainingData.of(examples, ProfileTable(coded, users, items), config("sasrec").history)


@pytest.mark.parametrize("name", ENCODERS)
def test_pretraining_separates_users_and_is_deterministic(name: str, data: TrainingData) -> None:
    assert data.past is not None
    last = data.profiles.history(data.past, torch.arange(len(data) - 20, len(data)))

    def apart(steps: int) -> tuple[float, torch.Tensor]:
        made, ids = encoder(name, dropout=0.0), torch.nn.Embedding(ITEMS + 1, 4)
        torch.nn.init.normal_(ids.weight, generator=lot())
        clue_pretrain(made, ids, data, PretrainConfig(clue_steps=steps, learning_rate=1e-2))
        with torch.inference_mode():
            views = [user_vectors(made.eval(), ids, view(last, lot(seed))) for seed in (1, 2)]
            return contrast(*views).item(), views[0]

    (before, _), (after, vectors) = apart(0), apart(30)
    assert after < 0.9 * before
    assert torch.equal(vectors, apart(30)[1])


def test_pretraining_on_a_single_user_changes_no_parameter(data: TrainingData) -> None:
    made, alone = encoder("gru4rec"), data.part(0, 20)
    before = [parameter.clone() for parameter in made.parameters()]
    clue_pretrain(made, table(), alone, PretrainConfig(clue_steps=3))
    assert all(torch.equal(one, other) for one, other in zip(before, made.parameters(), strict=True))


@pytest.mark.parametrize("keys", [{}, {"factory": "mine.py:model", "user_encoder": "sasrec"}])
def test_clue_without_a_user_encoder_is_refused(keys: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match="user_objective is clue, but there is no user encoder to learn by it"):
        BackboneConfig.model_validate({"user_objective": "clue", **keys})

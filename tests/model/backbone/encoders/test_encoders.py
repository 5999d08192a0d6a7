"""What every user encoder promises, whichever it is, and what only some of them do."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn

from model.backbone.encoders.bert4rec import Bert4Rec
from model.backbone.encoders.causal import CausalEncoder
from model.backbone.encoders.user_encoder import UserEncoder
from model.config import BackboneConfig
from model.encoding.history import PAD, History

ENCODERS = tuple(name for name in get_args(BackboneConfig.model_fields["user_encoder"].annotation) if name != "none")
CAUSAL = ("gru4rec", "nextitnet", "sasrec")
LENGTH, ITEMS, TEXT = 7, 9, 5


def config(name: str, **changes: Any) -> BackboneConfig:
    small = {"history_length": LENGTH, "history_width": 8, "text_width": TEXT, "id_width": 4, "width": 6}
    return BackboneConfig.model_validate({"user_encoder": name, **small, **changes})


def encoder(name: str, **changes: Any) -> UserEncoder:
    torch.manual_seed(0)
    made = UserEncoder(config(name, **changes)).eval()
    nn.init.normal_(made.empty)
    return made


def table() -> nn.Embedding:
    torch.manual_seed(1)
    return nn.Embedding(ITEMS, 4)


def history(*events: list[int], age: float = 60.0) -> History:
    """Users by the items of their events, oldest first; unused places are filled up."""
    longest = max(map(len, events))
    rows = torch.tensor([[*items, *[PAD] * (longest - len(items))] for items in events], dtype=torch.int64)
    steps = torch.arange(longest, 0, -1) * age
    return History(
        row=torch.arange(ITEMS),
        text=torch.randn(ITEMS, TEXT, generator=torch.Generator().manual_seed(2)),
        event=rows,
        age=steps.expand(len(events), -1).float(),
        clicked=torch.ones_like(rows),
        of=torch.arange(len(events)),
    )


@torch.inference_mode()
def encoded(made: UserEncoder, past: History) -> Tensor:
    out: Tensor = made(past, table())
    return out


def close(one: Tensor, other: Tensor) -> bool:
    return torch.allclose(one, other, rtol=1e-4, atol=1e-5)


@pytest.fixture(params=ENCODERS, name="name")
def _name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_an_encoder_gives_a_finite_vector_per_user_deterministically(name: str) -> None:
    made, past = encoder(name), history([1, 2, 3], [4], [])
    out = encoded(made, past)
    assert out.shape == (3, 6)
    assert torch.isfinite(out).all()
    assert torch.equal(out, encoded(made, past))


def test_padding_changes_nothing(name: str) -> None:
    made = encoder(name)
    alone = encoded(made, history([1, 2, 3]))
    beside_longer = encoded(made, history([1, 2, 3], [8, 7, 6, 5, 4, 3]))
    assert close(alone[0], beside_longer[0])


def test_a_user_does_not_depend_on_the_others(name: str) -> None:
    made = encoder(name)
    together = encoded(made, history([1, 2], [3, 4, 5], []))
    for place, events in enumerate(([1, 2], [3, 4, 5], [])):
        assert close(together[place], encoded(made, history(events))[0])


def test_a_user_without_history_has_a_learned_vector(name: str) -> None:
    made = encoder(name)
    nobody = encoded(made, History.of_nobody(2, TEXT))
    assert close(nobody, made.map(made.empty).expand(2, -1))
    assert not close(nobody[0], encoded(made, history([1]))[0])


def test_a_history_of_ten_thousand_events_equals_its_newest_events(name: str) -> None:
    made = encoder(name)
    events = [(7 * n) % ITEMS for n in range(10_000)]
    assert close(encoded(made, history(events)), encoded(made, history(events[-LENGTH:])))


def test_the_newest_event_matters(name: str) -> None:
    made = encoder(name)
    assert not close(encoded(made, history([1, 2, 3])), encoded(made, history([1, 2, 4])))


def test_all_encoders_but_the_pooled_mean_depend_on_the_order(name: str) -> None:
    made = encoder(name)
    same = close(encoded(made, history([1, 2, 3])), encoded(made, history([2, 1, 3])))
    assert same == (name == "pool")


def test_training_reaches_every_parameter_of_the_encoder(name: str) -> None:
    made, ids = encoder(name), table()
    made(history([1, 2, 3], [4, 5], []), ids).square().sum().backward()
    assert [n for n, p in made.named_parameters() if p.grad is None or not p.grad.abs().sum()] == []
    assert ids.weight.grad is not None


@pytest.mark.parametrize("items", ["id", "text", "both"])
def test_history_items_are_encoded_by_id_by_text_or_by_both(name: str, items: str) -> None:
    made, past = encoder(name, history_items=items), history([1, 2])
    before = encoded(made, past)
    other_ids = encoded(made, replace(past, row=past.row.flip(0)))
    other_texts = encoded(made, replace(past, text=past.text.flip(0)))
    assert close(before, other_ids) == (items == "text")
    assert close(before, other_texts) == (items == "id")


@pytest.mark.parametrize("known", [False, True])
def test_ages_and_outcomes_count_where_they_are_configured(name: str, known: bool) -> None:
    made, past = encoder(name, history_gaps=known, history_skips=known), history([1, 2])
    before = encoded(made, past)
    assert close(before, encoded(made, replace(past, age=past.age * 1e3))) == (not known)
    assert close(before, encoded(made, replace(past, clicked=torch.zeros_like(past.clicked)))) == (not known)


def test_negative_and_very_large_ages_are_accepted(name: str) -> None:
    made = encoder(name, history_gaps=True)
    for age in (-60.0, 1e15):
        assert torch.isfinite(encoded(made, history([1, 2], age=age))).all()


@pytest.mark.parametrize("causal", CAUSAL)
def test_causal_encoders_never_attend_to_a_later_event(causal: str) -> None:
    sequence = encoder(causal).sequence
    assert isinstance(sequence, CausalEncoder)
    tokens, mask = torch.randn(1, LENGTH, 8), torch.ones(1, LENGTH, dtype=torch.bool)
    with torch.inference_mode():
        before = sequence.states(tokens, mask)
        for cut in range(1, LENGTH):
            changed = tokens.clone()
            changed[:, cut:] += 1.0
            assert close(sequence.states(changed, mask)[:, :cut], before[:, :cut])


def test_bert4rec_attends_in_both_directions_but_never_to_masked_events() -> None:
    sequence = encoder("bert4rec").sequence
    assert isinstance(sequence, Bert4Rec)
    tokens, mask = torch.randn(1, LENGTH, 8), torch.ones(1, LENGTH, dtype=torch.bool)
    hidden = torch.zeros_like(mask)
    hidden[0, 3] = True
    with torch.inference_mode():
        before = sequence.guesses(tokens, mask, hidden)
        for place in range(LENGTH):
            changed = tokens.clone()
            changed[:, place] += torch.randn(8)
            assert close(sequence.guesses(changed, mask, hidden), before) == (place == 3)


def test_an_encoder_without_a_name_is_refused() -> None:
    with pytest.raises(ValueError, match="none"):
        UserEncoder(config("none"))

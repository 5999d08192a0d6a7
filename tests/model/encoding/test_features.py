"""Profiles to tensors: what is unknown, too long or broken is handled by name."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from model.config import FieldSpec
from model.encoding.features import FeatureEncoder
from model.encoding.profile import HistoryEvent, ItemFeatures, UserFeatures
from model.encoding.vocabulary import FieldEncoder, Vocabulary
from tests.model.conftest import TEXT, World


def test_unknown_ids_and_values_map_to_the_out_of_vocabulary_row_and_are_counted(world: World) -> None:
    encoder = FeatureEncoder.from_json(world.encoder.to_json())
    user = encoder.encode_user(UserFeatures("nobody", {"job": "astronaut", "age": "old"}))
    item = encoder.encode_item(ItemFeatures("nothing", {"genres": ["opera"]}, np.zeros(TEXT, dtype=np.float32)))
    assert user.row == item.row == 0
    assert (user.unknown_values, item.unknown_values) == (2, 1)


def test_extending_a_vocabulary_keeps_known_rows(world: World) -> None:
    late = UserFeatures("u-new", {"age": 30.0, "job": "cook"})
    known = world.encoder.encode_user(world.users[3])
    world.encoder.encode_user(late)
    again = world.encoder.encode_user(world.users[3])
    assert known.row == again.row
    assert np.array_equal(known.sparse, again.sparse)


def test_ten_thousand_values_are_cut_to_the_declared_number_and_counted(world: World) -> None:
    encoder = FeatureEncoder.from_json(world.encoder.to_json())
    item = encoder.encode_item(ItemFeatures("i1", {"genres": ["war"] * 10_000}, np.zeros(TEXT, dtype=np.float32)))
    assert item.sparse.shape == (3,)
    assert item.cut_values == 9_997


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (np.zeros(TEXT + 1, dtype=np.float32), "shape"),
        (np.full(TEXT, np.nan, dtype=np.float32), "non-finite"),
    ],
)
def test_a_broken_text_vector_is_refused_with_the_items_name(
    world: World, text: np.ndarray[tuple[int], np.dtype[np.float32]], says: str
) -> None:
    with pytest.raises(ValueError, match=f"'i1'.*{says}"):
        world.encoder.encode_item(ItemFeatures("i1", {}, text))


def test_an_empty_list_of_items_is_refused(world: World) -> None:
    with pytest.raises(ValueError, match="at least one item"):
        world.encoder.batch(world.encoder.encode_user(world.users[0]), [], (0, 0, 0))


def test_encoder_survives_json_and_its_digest_names_its_content(world: World) -> None:
    again = FeatureEncoder.from_json(world.encoder.to_json())
    assert again.digest == world.encoder.digest
    other = FeatureEncoder.from_json({**world.encoder.to_json(), "users": ["someone"]})
    assert other.digest != again.digest


def test_a_history_encodes_each_item_once_and_measures_ages_from_the_request(world: World) -> None:
    encoder = world.encoder
    items = {item.item_id: encoder.encode_item(item) for item in world.items[:3]}
    first, second = list(items)[:2]
    events = [HistoryEvent(first, 10.0, True), HistoryEvent(second, 20.0, False), HistoryEvent(first, 30.0, True)]
    history = encoder.history(events, items, 40.0)
    assert history.row.tolist() == [items[first].row, items[second].row]
    assert history.event.tolist() == [[0, 1, 0]]
    assert history.age.tolist() == [[30.0, 20.0, 10.0]]
    assert history.clicked.tolist() == [[1, 0, 1]]
    assert encoder.history([], {}, 40.0).event.shape == (1, 0)


def test_a_value_listed_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="twice"):
        Vocabulary(["a", "a"])


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1), st.floats(allow_nan=False))
def test_every_number_falls_in_a_bucket_that_exists(seen: list[float], asked: float) -> None:
    field = FieldEncoder.fit(FieldSpec(name="price", kind="number", buckets=5), seen)
    rows, _, _ = field.encode(asked)
    assert 0 <= rows[0] < field.rows


@given(st.lists(st.floats(-1e6, 1e6), min_size=2))
def test_buckets_keep_the_order_of_numbers(seen: list[float]) -> None:
    field = FieldEncoder.fit(FieldSpec(name="price", kind="number", buckets=4), seen)
    rows = [field.encode(value)[0][0] for value in sorted(seen)]
    assert rows == sorted(rows)


@given(
    st.dictionaries(st.sampled_from(["age", "job", "other"]), st.one_of(st.text(), st.floats(), st.lists(st.text())))
)
def test_any_profile_is_encoded_to_valid_rows_whose_weights_sum_to_one_per_field(
    fields: dict[str, str | float | list[str]],
) -> None:
    world = _WORLD
    user = world.encoder.encode_user(UserFeatures("u1", fields))
    assert user.sparse.min() >= 0
    assert user.sparse.max() < world.encoder.user_rows
    assert user.weight.sum() == pytest.approx(len(world.encoder.user_fields))


def test_one_user_with_many_items_represents_like_pairs(world: World, backbone: torch.nn.Module) -> None:
    encoder = world.encoder
    user, items = encoder.encode_user(world.users[2]), [encoder.encode_item(item) for item in world.items[:9]]
    together = encoder.batch(user, items, (1, 2, 1))
    apart = [encoder.batch(user, [item], (1, 2, 1)) for item in items]
    whole = backbone.represent(together)  # type: ignore[operator]
    parts = torch.cat([backbone.represent(one) for one in apart])  # type: ignore[operator]
    torch.testing.assert_close(whole, parts, rtol=1e-4, atol=1e-5)
    rows = replace(together, user=together.user.expand(9), user_sparse=together.user_sparse.expand(9, -1),
                   user_weight=together.user_weight.expand(9, -1), domain=together.domain.expand(9, -1))  # fmt: skip
    torch.testing.assert_close(backbone.represent(rows), whole, rtol=1e-4, atol=1e-5)  # type: ignore[operator]


_WORLD = World()

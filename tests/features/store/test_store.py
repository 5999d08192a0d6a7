"""The feature store on the real SQLite and the real Redis: one behaviour, two stores."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis
from pydantic import ValidationError

from features.config import FeatureConfig
from features.live.layout import OVERALL, Kind, LiveRow
from features.profiles import ItemProfile, UserProfile
from features.store.definitions import UPDATED_AT, join_key
from features.store.feature_store import FeatureStore
from features.store.online import StoreUnavailableError
from features.text import TextEncoder
from model.config import OWN_COLUMNS
from model.encoding.spelling import FieldValue
from tests.features.conftest import Counting, Counts
from tests.redis_server import redis_server

Make = Callable[..., FeatureStore]


@pytest.fixture(params=["sqlite", pytest.param("redis", marks=pytest.mark.redis)])
def make(request: pytest.FixtureRequest, tmp_path: Path, counts: Counts, text_encoder: TextEncoder) -> Make:
    """Makes stores on one online store, as several processes would."""
    keys: dict[str, Any] = {}
    if request.param == "redis":
        keys = {"online_store": "redis", "redis": request.getfixturevalue("redis_address")}

    def build(**changes: Any) -> FeatureStore:
        config = FeatureConfig.model_validate({**keys, "project": tmp_path.name, **changes})

        return FeatureStore(config, tmp_path, Counting(counts), text=text_encoder)

    return build


@pytest.fixture
def store(make: Make) -> FeatureStore:
    """A store that has been applied."""
    made = make()
    made.apply()
    return made


def row(key: str, number: float, kind: Kind = "item", updated_at: float = 100.0) -> LiveRow:
    return LiveRow(kind, key, updated_at, np.array([number, 1 / 3, -number], dtype=np.float32))


def test_profiles_round_trip(store: FeatureStore, text_encoder: TextEncoder) -> None:
    store.write_users([UserProfile("u", 5.0, {"age": 33.0, "gender": "F"})])
    store.write_items([ItemProfile("i", 5.0, "Toy Story", {"genres": ["Comedy", "Children's"], "year": 1995.0})])
    user = store.read_users(["u"])[0]
    item = store.read_items(["i"])[0]
    assert user is not None
    assert item is not None
    assert dict(user.fields) == {"age": 33.0, "gender": "F"}
    assert dict(item.fields) == {"genres": ["Comedy", "Children's"], "year": 1995.0}
    assert item.text.tobytes() == text_encoder.encode(["Toy Story"])[0].tobytes()


def test_a_new_profile_replaces_the_old_profile_completely(store: FeatureStore) -> None:
    store.write_users([UserProfile("u", 5.0, {"age": 33.0, "gender": "F"})])
    store.write_users([UserProfile("u", 4.0, {"gender": "M"}), UserProfile("u", 4.0, {"gender": "X"})])
    user = store.read_users(["u"])[0]
    assert user is not None
    assert dict(user.fields) == {"gender": "X"}


def test_rows_are_returned_in_key_order_and_missing_rows_are_counted(store: FeatureStore, counts: Counts) -> None:
    store.push_live([row(f"i{n}", n) for n in range(5)])
    stored = store.read_live("item", ["i3", "nothing", "i0", "i3"], now=101.0)
    assert [one and float(one.values[0]) for one in stored] == [3.0, None, 0.0, 3.0]
    assert counts == {("live_item", "missing"): 1, ("live_item", "found"): 3}
    assert store.read_users(["nobody"]) == [None]
    assert store.read_items(["nothing"]) == [None]
    assert counts["user_profile", "missing"] == 1
    assert counts["item_profile", "missing"] == 1


def test_a_history_round_trips_with_its_items_in_order(store: FeatureStore) -> None:
    values = np.array([104_150.0, 104_150.0, 7.0, 9.0, 1.0, 0.0], dtype=np.float32)
    store.push_live([LiveRow("history", "u", 5.0, values, ("i9", "film \u00e9")), row("u", 1.0, kind="user")])
    stored = store.read_live("history", ["u", "nobody"], now=6.0)
    assert stored[0] is not None and stored[1] is None
    assert stored[0].items == ("i9", "film \u00e9")
    assert stored[0].values.tobytes() == values.tobytes()


@pytest.mark.parametrize("kind", ["user", "item", "domain", "facet"])
def test_a_live_row_round_trips_bit_for_bit(store: FeatureStore, kind: Kind) -> None:
    values = np.random.default_rng(1).normal(size=191).astype(np.float32)
    values[:3] = 0.0, np.float32(1e-40), np.float32(3e38)
    store.push_live([LiveRow(kind, "key", 1_750_000_000.123456, values)])
    stored = store.read_live(kind, ["key"], now=1_750_000_001.0)[0]
    assert stored is not None
    assert (stored.kind, stored.key, stored.updated_at) == (kind, "key", 1_750_000_000.123456)
    assert stored.values.tobytes() == values.tobytes()


def test_a_stale_live_row_counts_as_missing_under_its_own_reason(make: Make, counts: Counts) -> None:
    store = make(max_age_live_s=50)
    store.apply()
    store.push_live([row("old", 1.0, updated_at=100.0), row("new", 2.0, updated_at=130.0)])
    stored = store.read_live("item", ["old", "new", "none"], now=160.0)
    assert [one is not None for one in stored] == [False, True, False]
    assert counts == {("live_item", "stale"): 1, ("live_item", "missing"): 1, ("live_item", "found"): 1}


def test_a_stale_profile_counts_as_missing_where_an_age_is_set(make: Make, counts: Counts) -> None:
    store = make(max_age_profile_s=10)
    store.apply()
    store.write_users([UserProfile("old", 0.0, {"gender": "M"}), UserProfile("new", 95.0, {"gender": "M"})])
    stored = store.read_users(["old", "new"], now=100.0)
    assert [one is not None for one in stored] == [False, True]
    assert counts == {("user_profile", "stale"): 1, ("user_profile", "found"): 1, ("user_profile", "gender"): 1}


def test_found_profiles_are_counted_with_those_of_their_fields_that_have_a_value(
    store: FeatureStore, counts: Counts
) -> None:
    store.write_users([UserProfile("whole", 1.0, {"age": 30.0, "gender": "F"}), UserProfile("empty", 1.0, {})])
    store.write_items([ItemProfile("i", 1.0, "a film", {"year": 1990.0})])
    counts.clear()
    store.read_users(["whole", "empty", "nobody"])
    store.read_items(["i", "nothing"])
    assert counts == {
        ("user_profile", "found"): 2,
        ("user_profile", "missing"): 1,
        ("user_profile", "age"): 1,
        ("user_profile", "gender"): 1,
        ("item_profile", "found"): 1,
        ("item_profile", "missing"): 1,
        ("item_profile", "year"): 1,
        ("item_text", "found"): 1,
    }, "a text vector is missing only where the item was found"


def test_a_scope_is_held_while_the_row_of_all_its_traffic_is_there(store: FeatureStore, counts: Counts) -> None:
    assert not store.holds_live("main")
    store.push_live([row(OVERALL, 1.0, kind="domain", updated_at=0.0)], "main")
    assert store.holds_live("main")
    assert not store.holds_live("other")
    assert not counts


def test_a_tombstone_makes_the_row_missing_until_it_is_written_again(store: FeatureStore) -> None:
    store.push_live([row("i", 1.0)])
    store.push_live([LiveRow("item", "i", 0.0, np.zeros(0, dtype=np.float32))])
    assert store.read_live("item", ["i"], now=100.0) == [None]
    store.push_live([row("i", 2.0)])
    assert store.read_live("item", ["i"], now=100.0)[0] is not None


def stored_keys(store: FeatureStore) -> int:
    """How many keys the online store holds, whatever their rows say."""
    config = store.config
    if config.online_store == "redis":
        host, port = config.redis.split(":")
        return sum(1 for _ in redis.Redis(host, int(port)).scan_iter(f"*{config.project}"))
    tables = f"{config.project}_live_item", f"{config.project}_user_profile"
    with sqlite3.connect(store.online.folder / "online.db") as connection:
        counts = [connection.execute(f'SELECT COUNT(DISTINCT entity_key) FROM "{name}"').fetchone() for name in tables]
    return sum(count for (count,) in counts)


def test_an_evicted_key_is_deleted_and_the_same_key_in_another_view_stays(store: FeatureStore) -> None:
    before = stored_keys(store)
    store.write_users([UserProfile("i", 5.0, {"gender": "F"})])
    store.push_live([row(f"i{number}", 1.0) for number in range(1_000)] + [row("i", 1.0)], "main")
    gone = [LiveRow("item", f"i{number}", 0.0, np.zeros(0, dtype=np.float32)) for number in range(1, 1_000)]
    store.push_live([*gone, row("i0", 2.0)], "main")
    store.push_live(gone, "main")
    assert stored_keys(store) == before + 3
    assert store.read_users(["i"])[0] is not None
    assert [one is not None for one in store.read_live("item", ["i", "i0", "i1"], 100.0, "main")] == [True, True, False]


def test_the_last_push_of_a_key_wins_however_quickly_it_follows(store: FeatureStore) -> None:
    for number in range(50):
        store.push_live([row("i", number, updated_at=7.0)])
    stored = store.read_live("item", ["i"], now=7.0)[0]
    assert stored is not None
    assert stored.values[0] == 49.0


def test_a_writer_with_a_slow_clock_still_overwrites(make: Make) -> None:
    first, second = make(), make()
    first.apply()
    first.online._newest_stamp = first.online._stamp().replace(year=2200)
    first.push_live([row("i", 1.0)])
    second.push_live([row("i", 2.0)])
    stored = second.read_live("item", ["i"], now=100.0)[0]
    assert stored is not None
    assert stored.values[0] == 2.0


def test_scopes_separate_the_rows_of_two_groups(store: FeatureStore) -> None:
    store.push_live([row("i", 1.0)], scope="north")
    store.push_live([row("i", 2.0)], scope="south")
    for scope, number in (("north", 1.0), ("south", 2.0)):
        stored = store.read_live("item", ["i"], 100.0, scope)[0]
        assert stored is not None
        assert (stored.key, stored.values[0]) == ("i", number)
    assert store.read_live("item", ["i"], 100.0) == [None]


@pytest.mark.parametrize(
    ("fields", "kept", "wrong"),
    [
        ({"age": "old"}, {}, 1),
        ({"age": float("nan"), "gender": "F"}, {"gender": "F"}, 1),
        ({"age": float("inf")}, {}, 1),
        ({"gender": ["a", "b"]}, {}, 1),
        ({"age": [30.0]}, {}, 1),
        ({"age": "30"}, {"age": 30.0}, 0),
        ({"gender": 7.0}, {"gender": "7"}, 0),
        ({"gender": 2**53 + 1}, {"gender": "9007199254740993"}, 0),
        ({"gender": True}, {"gender": "true"}, 0),
        ({"gender": None, "age": None}, {}, 0),
        ({"gender": "", "age": ""}, {}, 0),
        ({"shoe size": 44.0}, {}, 0),
        ({}, {}, 0),
    ],
)
def test_a_bad_profile_value_is_left_out_and_counted(
    store: FeatureStore, counts: Counts, fields: dict[str, FieldValue], kept: dict[str, FieldValue], wrong: int
) -> None:
    store.write_users([UserProfile("u", 1.0, fields)])
    user = store.read_users(["u"])[0]
    assert user is not None
    assert dict(user.fields) == kept
    assert counts["user_profile", "bad_value"] == wrong


def test_a_field_that_nobody_declared_is_counted_and_named_once(
    store: FeatureStore, counts: Counts, caplog: pytest.LogCaptureFixture
) -> None:
    for time in (1.0, 2.0):
        store.write_items([ItemProfile("i", time, "", {"genre": ["Drama"], "year": 1990.0})])
    store.write_users([UserProfile("u", 1.0, {f"made-up-{number}": 1.0 for number in range(1_000)})])
    assert counts["item_profile", "undeclared"] == 2
    assert counts["user_profile", "undeclared"] == 1_000
    assert store.read_items(["i"])[0].fields == {"year": 1990.0}  # type: ignore[union-attr]
    said = [record.message for record in caplog.records if "does not declare" in record.message]
    assert said[0] == (
        "profiles of item_profile come with a field 'genre', which features.item_fields does not declare: it is not "
        "stored; did you mean 'genres'?"
    )
    assert len(said) == 21, "a sender that makes up names does not fill the log"


def test_items_with_unusual_values_are_stored(store: FeatureStore) -> None:
    odd = [
        ItemProfile("", 1.0, "", {"genres": []}),
        ItemProfile("\ud800 lone surrogate", 1.0, "\ud800", {"genres": ["\ud800"]}),
        ItemProfile("many", 1.0, "x" * 100_000, {"genres": [f"g{n}" for n in range(10_000)]}),
        ItemProfile("one", 1.0, "   ", {"genres": "Drama"}),
    ]
    store.write_items(odd)
    stored = store.read_items([item.item_id for item in odd])
    assert all(stored)
    assert not stored[0].text.any()  # type: ignore[union-attr]
    assert len(stored[2].fields["genres"]) == 10_000  # type: ignore[union-attr, arg-type]
    assert stored[3].fields["genres"] == ["Drama"]  # type: ignore[union-attr]


def test_feast_itself_reads_what_is_stored(store: FeatureStore) -> None:
    from features.store.feast_guard import import_feast

    store.push_live([row("i", 4.0)])
    feast = import_feast().FeatureStore(config=store.online.repo_config)
    names = {view.name for view in feast.list_feature_views()}
    assert {"user_profile", "item_profile", "item_text", "live_user", "live_item", "live_domain"} <= names
    answer = feast.get_online_features(["live_item:values", "live_item:updated_at"], [{"item_id": "i"}]).to_dict()
    assert answer["updated_at"] == [100.0]
    assert answer["values"][0][0] == 4.0


def test_feasts_own_push_is_read_too(store: FeatureStore) -> None:
    import pandas as pd

    from features.store.feast_guard import import_feast

    frame = pd.DataFrame({
        "item_id": ["i"], "values": [[1.5, 2.5]], "updated_at": [90.0],
        "event_timestamp": [pd.Timestamp.now(tz="UTC")],
    })  # fmt: skip
    import_feast().FeatureStore(config=store.online.repo_config).push("live_item_push", frame)
    stored = store.read_live("item", ["i"], now=100.0)[0]
    assert stored is not None
    assert stored.values.tolist() == [1.5, 2.5]


def test_applying_again_changes_nothing_and_a_new_field_is_added(make: Make) -> None:
    first = make()
    assert not first.applied
    first.apply()
    first.write_users([UserProfile("u", 1.0, {"gender": "F"})])
    first.apply()
    wider = make(user_fields=[{"name": "gender"}, {"name": "city"}])
    assert not wider.applied
    wider.apply()
    wider.write_users([UserProfile("v", 1.0, {"city": "Ulm"})])
    stored = wider.read_users(["u", "v"])
    assert [dict(user.fields) for user in stored if user] == [{"gender": "F"}, {"city": "Ulm"}]


def test_writing_items_without_a_text_encoder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="without a text encoder"):
        FeatureStore(FeatureConfig(), tmp_path).write_items([ItemProfile("i", 1.0)])


@pytest.mark.redis
@pytest.mark.parametrize("password", ["s3=cret", 'a,b "c" \\', "1e5", "null"])
def test_a_redis_with_a_password_is_used_by_the_secret_and_the_address_stays_printable(
    tmp_path: Path, password: str
) -> None:
    with redis_server(tmp_path, password=password) as address:
        config = FeatureConfig.model_validate({"online_store": "redis", "redis": address, "redis_password": password})
        FeatureStore(config, tmp_path).apply()
        with pytest.raises(StoreUnavailableError, match=f"Redis at {address}"):
            FeatureStore(config.model_copy(update={"redis_password": None}), tmp_path / "other").apply()
    assert password not in config.model_dump_json()


def test_a_password_in_the_address_is_refused_with_a_remedy() -> None:
    with pytest.raises(ValidationError, match=r"features\.redis_password"):
        FeatureConfig.model_validate({"redis": "localhost:6379,password=x"})


def test_an_unreachable_redis_is_reported_with_its_address_and_a_remedy(tmp_path: Path) -> None:
    store = FeatureStore(FeatureConfig(online_store="redis", redis="localhost:1"), tmp_path)
    with pytest.raises(StoreUnavailableError, match=r"Redis at localhost:1 .*DRIFTLINE_FEATURES__REDIS"):
        store.apply()
    assert not store.applied


def test_no_field_can_have_the_name_of_a_column_of_every_profile() -> None:
    assert set(OWN_COLUMNS) == {UPDATED_AT, join_key("user"), join_key("item")}


@pytest.mark.parametrize("address", ["h:6379", "h:1,ssl=true,db=3", "10.0.0.1:65535"])
def test_an_address_of_redis_may_carry_options(address: str) -> None:
    assert FeatureConfig(redis=address).redis == address

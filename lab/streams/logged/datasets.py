"""Public data sets as streams. They are downloaded by the user; their folder is given.

Each function raises StreamError naming the file that is missing or not in the format its makers publish.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from lab.streams.logged.click_datasets import microlens, ninerec
from lab.streams.logged.logs import LoggedStream, make_stream, periods, read_log
from lab.streams.logged.mapping import (
    ConversionRule,
    FacetRule,
    FieldRule,
    Interactions,
    LabelRule,
    LogMapping,
    SideTable,
    TableSource,
    TimeRule,
)
from lab.streams.logged.rows import LogRows
from lab.streams.logged.tables import read_table
from lab.streams.stream import StreamError

_LIKED = 4.0


def movielens_1m(folder: Path) -> LoggedStream:
    """MovieLens 1M: `ratings.dat`, `movies.dat`, `users.dat` (`::` between fields, Latin-1). 4 stars are a click."""
    dat = {"format": "csv", "delimiter": "::", "encoding": "latin-1"}
    mapping = LogMapping(
        name="movielens-1m",
        interactions=Interactions(
            path="ratings.dat",
            columns=("user", "movie", "rating", "time"),
            user="user",
            item="movie",
            time=TimeRule(column="time"),
            label=LabelRule(column="rating", at_least=_LIKED),
            region=FacetRule(user_column="zip", first=1),
            **dat,
        ),
        users=SideTable(
            path="users.dat",
            columns=("user", "gender", "age", "occupation", "zip"),
            key="user",
            fields={"gender": FieldRule(), "age": FieldRule(kind="number"), "occupation": FieldRule()},
            **dat,
        ),
        items=_movies("movies.dat", "movie", **dat).model_copy(update={"columns": ("movie", "title", "genres")}),
    )
    return read_log(mapping, folder)


def movielens_latest(folder: Path) -> LoggedStream:
    """MovieLens latest, small or full: `ratings.csv`, `movies.csv`. 4 stars are a click; there is no user table."""
    mapping = LogMapping(
        name="movielens-latest",
        interactions=Interactions(
            path="ratings.csv",
            user="userId",
            item="movieId",
            time=TimeRule(column="timestamp"),
            label=LabelRule(column="rating", at_least=_LIKED),
        ),
        items=_movies("movies.csv", "movieId"),
    )
    return read_log(mapping, folder)


def _movies(path: str, key: str, **how: str) -> SideTable:
    fields = {"genres": FieldRule(kind="multi")}
    return SideTable.model_validate({"path": path, "key": key, "text": ("title",), "fields": fields, **how})


def kuairand_pure(folder: Path) -> LoggedStream:
    """KuaiRand-Pure: the standard logs, user features and basic video features; the tab is the scene."""
    return _kuairand(folder, None)


def kuairand_likes(folder: Path) -> LoggedStream:
    """KuaiRand with a like as the conversion of a click (docs/decisions/0128)."""
    return replace(_kuairand(folder, ConversionRule(column="is_like")), name="kuairand-likes")


def _kuairand(folder: Path, conversion: ConversionRule | None) -> LoggedStream:
    users = ("user_active_degree", "follow_user_num_range", "fans_user_num_range", "register_days_range")
    mapping = LogMapping(
        name="kuairand-pure",
        interactions=Interactions(
            path="log_standard_*_pure.csv",
            user="user_id",
            item="video_id",
            time=TimeRule(column="time_ms", unit="ms"),
            label=LabelRule(column="is_click"),
            conversion=conversion,
            scene=FacetRule(column="tab"),
        ),
        users=SideTable(path="user_features_pure.csv", key="user_id", fields={name: FieldRule() for name in users}),
        items=SideTable(
            path="video_features_basic_pure.csv",
            key="video_id",
            fields={
                "author_id": FieldRule(),
                "video_type": FieldRule(),
                "upload_type": FieldRule(),
                "music_type": FieldRule(),
                "duration": FieldRule(column="video_duration", kind="number"),
                "tag": FieldRule(kind="multi", separator=","),
            },
        ),
    )
    return read_log(mapping, folder / "data" if (folder / "data").is_dir() else folder)


def mind(folder: Path) -> LoggedStream:
    """MIND: `behaviors.tsv` (impressions `N1-1 N2-0`, `-1` clicked) and `news.tsv` (category, title, abstract)."""
    behaviours = TableSource(path="behaviors.tsv", columns=("impression", "user", "time", "history", "shown"))
    table = read_table(behaviours, folder)
    time = table.times(TimeRule(column="time", format="%m/%d/%Y %I:%M:%S %p"))
    user, request = table.ids("user", "user"), table.ids("impression", "request")
    split = [(cell or "").split() for cell in table.texts("shown", "impressions")]
    count = np.array([len(parts) for parts in split])
    parsed = [part.rpartition("-") for parts in split for part in parts]
    wrong = next((parts for parts in parsed if parts[2] not in ("0", "1") or not parts[0]), None)
    if wrong is not None:
        raise StreamError(
            f"{table.source}: impression {''.join(wrong)!r} is not news-0 or news-1 (MIND's test part has no labels)"
        )
    when = np.repeat(time, count)
    rows = LogRows(
        user=np.repeat(user, count),
        item=np.array([news for news, _, _ in parsed], dtype=object),
        time=when,
        click=np.array([label == "1" for _, _, label in parsed], dtype=bool),
        scene=np.full(len(when), "news", dtype=object),
        region=np.full(len(when), "all", dtype=object),
        period=periods(when),
        request=np.repeat(request, count),
    )
    news = SideTable(
        path="news.tsv",
        columns=("news", "category", "subcategory", "title", "abstract", "url", "title_entities", "abstract_entities"),
        key="news",
        text=("title", "abstract"),
        fields={"category": FieldRule(), "subcategory": FieldRule()},
    )
    interactions = Interactions(user="user", item="news", time=TimeRule(column="time"), request="impression")
    mapping = LogMapping(name="mind", interactions=interactions, items=news, shown=100)
    return make_stream(mapping, rows, None, read_table(news, folder), table.source)


DATASETS: dict[str, Callable[[Path], LoggedStream]] = {
    "movielens-1m": movielens_1m,
    "movielens-latest": movielens_latest,
    "kuairand-pure": kuairand_pure,
    "kuairand-likes": kuairand_likes,
    "mind": mind,
    "microlens": microlens,
    "ninerec": ninerec,
}
"""Loaders by name; each takes the folder that the user downloaded."""

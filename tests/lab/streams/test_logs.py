"""Any log with a mapping file; and the message when log or mapping are wrong."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lab.streams import Chunk, Stream, StreamError, requests
from lab.streams.logged.logs import open_log, read_log
from lab.streams.logged.mapping import load_mapping

LOG = """who,what,ts,stars,tab
a,x,1000,5,feed
b,y,1010,2,search
a,y,1020,4,feed
a,z,9000,1,feed
b,x,9100,5,
c,z,9200,4,search
"""
MAPPING = """
name: shop
interactions:
  path: log.csv
  user: who
  item: what
  time: ts
  label: {column: stars, at_least: 4}
  scene: tab
users:
  path: users.jsonl
  key: id
  fields: {age: {kind: number}, tags: {kind: multi}}
items:
  path: items.tsv
  key: id
  text: [title, blurb]
  fields: {colours: {column: colour, kind: multi, separator: ;}}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "log.csv").write_text(LOG)
    (tmp_path / "map.yaml").write_text(MAPPING)
    users = [{"id": "a", "age": 30, "tags": ["new", "vip"]}, {"id": "b", "age": 41, "tags": []}]
    (tmp_path / "users.jsonl").write_text("\n".join(json.dumps(p) for p in users))
    items = 'id\ttitle\tblurb\tcolour\nx\tA "quoted" lamp\tIt shines\tred;blue\ny\tA chair\t\tgreen\n'
    (tmp_path / "items.tsv").write_text(items)
    return tmp_path


def whole(stream: Stream) -> Chunk:
    return Chunk.concat([*stream.chunks("pretrain"), *stream.chunks("live")])


def test_a_log_becomes_requests_of_one_user_with_labels_by_the_rule(folder: Path) -> None:
    stream = open_log(folder / "map.yaml")
    named = [*requests(stream, "pretrain"), *requests(stream, "live")]
    assert [(r.time, r.user_id, r.items, r.clicks) for r in named] == [
        (1000, "a", ("x", "y"), (True, True)),
        (1010, "b", ("y",), (False,)),
        (9000, "a", ("z",), (False,)),
        (9100, "b", ("x",), (True,)),
        (9200, "c", ("z",), (True,)),
    ]
    assert [(r.domain.scene, r.domain.region, r.domain.period) for r in named][:4] == [
        ("feed", "all", "night"), ("search", "all", "night"), ("feed", "all", "night"), ("unknown", "all", "night"),
    ]  # fmt: skip
    assert stream.size("pretrain") == 2
    assert stream.name == "shop"
    assert stream.drift_spans == ()
    assert np.isnan(whole(stream).probability).all()


def test_side_tables_give_text_and_fields_and_a_missing_row_gives_none(folder: Path) -> None:
    catalogue = open_log(folder / "map.yaml").catalogue
    items = {item.item_id: item for item in catalogue.items}
    users = {user.user_id: user for user in catalogue.users}
    assert items["x"].text == 'A "quoted" lamp. It shines'
    assert items["y"].text == "A chair"
    assert items["x"].fields == {"colours": ["red", "blue"]}
    assert items["z"].text == "" and items["z"].fields == {}
    assert users["a"].fields == {"age": 30.0, "tags": ["new", "vip"]}
    assert users["c"].fields == {}
    assert [(spec.name, spec.kind) for spec in catalogue.user_fields] == [("age", "number"), ("tags", "multi")]


@pytest.mark.parametrize("ending", ["csv", "csv.gz", "tsv", "jsonl", "parquet"])
def test_every_format_gives_the_same_stream(folder: Path, ending: str) -> None:
    frame = pd.read_csv(folder / "log.csv")
    path = folder / f"other.{ending}"
    if ending == "parquet":
        frame.to_parquet(path)
    elif ending == "jsonl":
        frame.to_json(path, orient="records", lines=True)
    else:
        frame.to_csv(path, index=False, sep="\t" if ending == "tsv" else ",")
    expected, got = open_log(folder / "map.yaml"), open_log(folder / "map.yaml", path)
    assert list(requests(got, "live")) == list(requests(expected, "live"))


@pytest.mark.parametrize(
    ("unit", "times"),
    [
        ("{column: ts, unit: ms}", ["1000000", "2000000"]),
        ("{column: ts, unit: us}", ["1000000000", "2000000000"]),
        ("{column: ts, unit: iso}", ["1970-01-01T00:16:40", "1970-01-01T00:33:20Z"]),
        ("{column: ts, format: '%d.%m.%Y %H:%M:%S'}", ["01.01.1970 00:16:40", "01.01.1970 00:33:20"]),
    ],
)
def test_times_are_read_in_every_unit(tmp_path: Path, unit: str, times: list[str]) -> None:
    (tmp_path / "log.csv").write_text(f"u,i,ts,y\na,x,{times[0]},1\nb,y,{times[1]},0\n")
    (tmp_path / "m.yaml").write_text(
        f"interactions: {{path: log.csv, user: u, item: i, time: {unit}, label: y}}\npretrain_share: 0.5"
    )
    assert whole(open_log(tmp_path / "m.yaml")).time.tolist() == [1000.0, 2000.0]


def test_a_request_column_keeps_requests_together_and_long_ones_are_cut(tmp_path: Path) -> None:
    lines = [f"a,i{n},{1000 + n},{n % 2},r1" for n in range(5)] + ["a,i9,1002,1,r2"]
    (tmp_path / "log.csv").write_text("u,i,ts,y,r\n" + "\n".join(lines))
    (tmp_path / "m.yaml").write_text(
        "interactions: {path: log.csv, user: u, item: i, time: ts, label: y, request: r}\nshown: 3"
    )
    stream = open_log(tmp_path / "m.yaml")
    assert [r.items for half in ("pretrain", "live") for r in requests(stream, half)] == [
        ("i0", "i1", "i2"), ("i9",), ("i3", "i4"),
    ]  # fmt: skip


def test_a_log_with_clicks_only_gets_negatives_that_the_user_never_clicked(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    lines = [f"u{rng.integers(20)},i{rng.integers(100)},{1000 + n}" for n in range(300)]
    (tmp_path / "log.csv").write_text("u,i,ts\n" + "\n".join(lines))
    base = "interactions: {path: log.csv, user: u, item: i, time: ts}\n"
    (tmp_path / "m.yaml").write_text(base + "negatives: {per_click: 4}")
    chunk = whole(open_log(tmp_path / "m.yaml"))
    assert chunk.items.shape == (300, 5)
    assert (chunk.click.sum(axis=1) == 1).all()
    clicked = set(zip(chunk.user, chunk.items[chunk.click], strict=True))
    rest = ~chunk.click
    pairs = zip(np.repeat(chunk.user, 4), chunk.items[rest], strict=True)
    assert not clicked & set(pairs)
    assert 0.1 < (chunk.click.argmax(axis=1) == 0).mean() < 0.35
    (tmp_path / "m.yaml").write_text(base)
    with pytest.raises(StreamError, match="every row is a click; correct the label rule, or add `negatives`"):
        open_log(tmp_path / "m.yaml")


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("user: who", "user: whom", r"log\.csv: no column 'whom' for user; the columns are who, what, ts, stars, tab"),
        ("time: ts", "time: tab", r"log\.csv: column 'tab', row 1: cannot read 'feed' as a time .*set time\.unit"),
        ("time: ts", "time: {column: ts, unit: h}", r"map\.yaml: interactions\.time\.unit: Input should be 's'"),
        ("{column: stars, at_least: 4}", "{column: tab, at_least: 4}", r"row 1: 'feed' is no number"),
        ("{column: stars, at_least: 4}", "stars", r"row 1: '5' is neither 0/1 nor true/false; add at_least or among"),
        ("{column: stars, at_least: 4}", "{column: stars, at_least: 9}", "no row is a click; correct the label rule"),
        ("{column: stars, at_least: 4}", "{column: stars, at_least: 4, among: [a]}", "either at_least or among"),
        ("scene: tab", "scene: {column: tab, value: home}", "exactly one of column, user_column and value"),
        ("scene: tab", "region: {user_column: city}", r"users\.jsonl: no column 'city' for a domain facet"),
        ("text: [title, blurb]", "text: [titel]", r"items\.tsv: no column 'titel' for the item's text"),
        (
            "kind: multi, separator: ;",
            "kind: number",
            r"field 'colours' is declared a number, but 'red;blue' is none",
        ),
        ("path: log.csv", "path: gone.csv", r"gone\.csv: no such file; .* holds .*log\.csv.*correct the path"),
        ("path: log.csv", "path: away/log.csv", r"away/log\.csv: no such file"),
        ("  key: id", "  keey: id", "unknown key 'keey'.*did you mean 'key'"),
        ("path: log.csv", "path: log.csv\n  format: parquet", r"log\.csv: cannot be read as parquet"),
    ],
)
def test_a_wrong_mapping_is_refused_with_file_reason_and_remedy(folder: Path, old: str, new: str, says: str) -> None:
    assert old in MAPPING
    (folder / "map.yaml").write_text(MAPPING.replace(old, new, 1))
    with pytest.raises(StreamError, match=says):
        open_log(folder / "map.yaml")


def test_a_folder_that_is_not_there_is_named_as_the_fault(folder: Path) -> None:
    mapping = load_mapping(folder / "map.yaml")
    with pytest.raises(StreamError, match=r"no such file; there is no folder .*elsewhere: give the folder"):
        read_log(mapping, folder / "elsewhere", None)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("who,what,ts,stars,tab\n", "the table is empty"),
        (LOG.replace("b,y,1010", ",y,1010"), r"column 'who' \(user\) is empty in row 2"),
    ],
)
def test_a_wrong_log_is_refused_with_file_and_row(folder: Path, text: str, says: str) -> None:
    (folder / "log.csv").write_text(text)
    with pytest.raises(StreamError, match=says):
        open_log(folder / "map.yaml")


def test_a_log_of_one_request_is_refused(folder: Path) -> None:
    (folder / "log.csv").write_text("who,what,ts,stars,tab\na,x,1,5,f\na,y,2,1,f\n")
    with pytest.raises(StreamError, match=r"log\.csv: 1 requests are too few for two halves"):
        open_log(folder / "map.yaml")


def test_an_unknown_file_extension_requires_the_format(folder: Path) -> None:
    (folder / "log.csv").rename(folder / "log.txt")
    with pytest.raises(StreamError, match=r"log\.txt: unknown ending; set `format`"):
        open_log(folder / "map.yaml", folder / "log.txt")
    with pytest.raises(StreamError, match="No such file"):
        open_log(folder / "gone.yaml")


def test_the_example_on_the_page_works_unchanged(tmp_path: Path) -> None:
    page = (Path(__file__).parents[3] / "docs" / "streams.md").read_text(encoding="utf-8")
    for part in page.split("\n# ")[1:]:
        name, _, rest = part.partition("\n")
        (tmp_path / name).write_text(rest.split("```")[0].split("\n\n")[0])
    stream = open_log(tmp_path / "mapping.yaml")
    named = [*requests(stream, "pretrain"), *requests(stream, "live")]
    assert [(r.user_id, r.items, r.clicks, (r.domain.scene, r.domain.region)) for r in named] == [
        ("u17", ("a1", "a2"), (True, False), ("front", "DE")),
        ("u9", ("a1",), (False,), ("search", "FR")),
    ]
    assert stream.catalogue.items[1].fields == {"topics": ["sport", "local"], "words": 510.0}

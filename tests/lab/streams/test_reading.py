"""Values of a log as they really come: integers with gaps, lists, labels, delimiters, identifiers."""

from __future__ import annotations

import gzip
import json
import logging
import os
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lab.streams import Chunk, StreamError
from lab.streams.logged.logs import open_log
from lab.streams.logged.mapping import load_mapping
from model.encoding.spelling import spell
from tests.lab.streams.log_files import CSV, MAPPING, SECONDS, USERS, frame, opened, parquet, times

# --- one value, one spelling ---


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_integers_keep_every_digit_in_a_column_with_missing_values(tmp_path: Path, ending: str) -> None:
    big = 2**53 + 1
    users = pd.DataFrame({"id": [f"u{n}" for n in range(9)]})
    users["job"] = pd.array([big, None, *range(7)], dtype="Int64")
    side = tmp_path / f"users.{ending}"
    {"csv": lambda: users.to_csv(side, index=False), "parquet": lambda: users.to_parquet(side),
     "jsonl": lambda: users.to_json(side, orient="records", lines=True)}[ending]()  # fmt: skip
    more = f"users: {{path: users.{ending}, key: id, fields: {{job: {{}}}}}}"
    stream = opened(tmp_path, parquet(tmp_path), more=more)
    jobs = {user.user_id: user.fields.get("job") for user in stream.catalogue.users}
    assert (jobs["u0"], jobs["u1"], jobs["u2"]) == (str(big), None, "0")


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_integers_that_a_data_frame_made_floats_are_integers_again(tmp_path: Path, ending: str) -> None:
    users = pd.DataFrame({"id": [f"u{n}" for n in range(9)], "job": [7.0, None, *[2.0] * 7], "paid": [True] * 9})
    side = tmp_path / f"users.{ending}"
    users.to_csv(side, index=False) if ending == "csv" else users.to_parquet(side)
    more = f"users: {{path: users.{ending}, key: id, fields: {{job: {{}}, paid: {{}}}}}}"
    fields = opened(tmp_path, parquet(tmp_path), more=more).catalogue.users[0].fields
    assert fields == {"job": "7", "paid": "true"}


def test_lists_are_converted_part_by_part_and_infinity_is_a_missing_value(tmp_path: Path) -> None:
    rows = [{"id": f"u{n}", "age": float("inf") if n else 34, "tags": [1, 2.0, "x", None]} for n in range(9)]
    (tmp_path / "users.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    more = "users: {path: users.jsonl, key: id, fields: {age: {kind: number}, tags: {kind: multi}}}"
    users = opened(tmp_path, parquet(tmp_path), more=more).catalogue.users
    assert users[0].fields == {"age": 34.0, "tags": ["1", "2", "x"]}
    assert users[1].fields == {"tags": ["1", "2", "x"]}


def test_a_list_where_one_value_is_wanted_is_refused(tmp_path: Path) -> None:
    log = parquet(tmp_path, user=[["a", "b"]] * 40)
    with pytest.raises(StreamError, match=r"column 'user' \(user\), row 1: .* is a list"):
        opened(tmp_path, log)


def test_numbers_of_a_mapping_match_the_spelling_of_the_log(tmp_path: Path) -> None:
    log = parquet(tmp_path, label=[float(n % 5) for n in range(40)])
    stream = opened(tmp_path, log, label="{column: label, among: [3, 4]}")
    assert Chunk.concat(list(stream.chunks("pretrain"))).click.any()


def test_a_lookup_without_a_match_reports_both_spellings(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "users.csv").write_text("id,job,age,tags\n7,cook,3,a\n8,nurse,4,b\n", encoding="utf-8")
    opened(tmp_path, parquet(tmp_path, user=["007", "008"] * 20), more=USERS)
    assert "0 of the log's 2 users have a row; the log says '007', the table '7'" in caplog.text
    caplog.clear()
    opened(tmp_path, parquet(tmp_path, user=[7, 8] * 20), more=USERS)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize("label", ["label", "{column: label, at_least: 1}", "{column: label, among: ['1']}"])
def test_a_blank_label_is_no_click(tmp_path: Path, label: str) -> None:
    log = tmp_path / "log.csv"
    frame(label=["1", ""] * 20).to_csv(log, index=False)
    stream = opened(tmp_path, log, label=label)
    chunk = Chunk.concat([*stream.chunks("pretrain"), *stream.chunks("live")])
    assert chunk.click.sum() == 20


def test_a_float_column_reads_to_the_same_numbers_as_its_text() -> None:
    from lab.streams.logged.columns import numbers

    values = np.random.default_rng(0).normal(size=200)
    assert np.array_equal(numbers(pd.Series([repr(float(v)) for v in values], dtype=object)), values)


# --- what a reader would alter in silence ---


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("log.csv", CSV.replace("u3", "u\0003", 1).encode(), "line 5: holds a zero byte"),
        ("log.csv", CSV.replace("label", "label,user", 1).encode(), "two columns are called 'user'"),
        ("log.csv", CSV.encode("utf-32"), "set `encoding` in the mapping, for instance utf-32"),
        ("log.csv", CSV.replace(",", ";").encode(), "set `delimiter`"),
        ("log.csv.gz", gzip.compress(gzip.compress(CSV.encode())), "compressed twice"),
        ("log.csv.gz", CSV.encode(), "or drop the .gz"),
        ("log.csv", b"PAR1\xff\xff", "set `format` in the mapping to parquet"),
        ("log.csv", b"PK\3\4\xff\xff", "packed by zip: unpack it"),
    ],
)
def test_a_file_with_a_wrong_extension_is_refused_with_a_remedy(
    tmp_path: Path, name: str, data: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(StreamError, match=message):
        opened(tmp_path, tmp_path / name)


def test_a_folder_in_place_of_a_log_is_reported(tmp_path: Path) -> None:
    (tmp_path / "log.csv").mkdir()
    with pytest.raises(StreamError, match="a folder: name a file, or a pattern"):
        opened(tmp_path, tmp_path / "log.csv")


@pytest.mark.parametrize("delimiter", ["||", ".", "((", "::", "\N{EURO SIGN}"])
def test_a_delimiter_is_text_and_no_pattern(tmp_path: Path, delimiter: str) -> None:
    whole = frame(time=[int(second) for second in SECONDS]).to_csv(index=False).replace(",", delimiter)
    (tmp_path / "log.csv").write_text(whole, encoding="utf-8")
    mapping = tmp_path / "m.yaml"
    mapping.write_text(MAPPING.format(time="time", label=f"label, delimiter: '{delimiter}'", more=""), encoding="utf-8")
    assert times(open_log(mapping, tmp_path / "log.csv")) == SECONDS


@pytest.mark.parametrize("ending", ["CSV", "Csv.GZ", "JSONL"])
def test_the_ending_may_be_in_capitals(tmp_path: Path, ending: str) -> None:
    text = frame().to_json(orient="records", lines=True) if ending == "JSONL" else CSV
    data = gzip.compress(text.encode()) if ending.endswith("GZ") else text.encode()
    (tmp_path / f"log.{ending}").write_bytes(data)
    assert times(opened(tmp_path, tmp_path / f"log.{ending}")) == SECONDS


def test_binary_identifiers_that_are_not_text_stay_distinct(tmp_path: Path) -> None:
    stream = opened(tmp_path, parquet(tmp_path, user=[bytes([0xF0 + n % 9]) for n in range(40)]))
    assert len(stream.catalogue.users) == 9


def test_infinity_is_not_a_label(tmp_path: Path) -> None:
    with pytest.raises(StreamError, match="row 1: infinity is no label"):
        opened(tmp_path, parquet(tmp_path, label=[float("inf"), *[n % 2 for n in range(1, 40)]]))


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ("interactions: {user: u, user: v, item: i, time: t}", "line 1: the key 'user' is listed twice"),
        ("name: a\nname: b\ninteractions: {user: u, item: i, time: t}", "line 2: the key 'name' is listed twice"),
        ("gap_s: .inf\ninteractions: {user: u, item: i, time: t}", "gap_s: .*finite"),
        ("shown: yes\ninteractions: {user: u, item: i, time: t}", "shown: a number is wanted, not true or false"),
        ("name: NO\ninteractions: {user: u, item: i, time: t}", "name: YAML reads this as False.*quotes"),
        ("interactions: {user: u, item: i, time: t, separator: x}", "unknown key 'separator'(?!.*mean 'separator')"),
        ("interactions: {user: u, item: i, time: t, columns: [a, a]}", "two columns are called 'a'"),
        ("interactions: {user: u, item: i, time: t, delimiter: '\"'}", "cannot separate columns"),
        ("interactions: {user: u, item: i, time: {column: t, format: ''}}", "interactions.time.format: .*at least 1"),
    ],
)
def test_a_contradictory_or_empty_mapping_is_refused_by_key(tmp_path: Path, mapping: str, message: str) -> None:
    (tmp_path / "m.yaml").write_text(mapping, encoding="utf-8")
    with pytest.raises(StreamError, match=message):
        load_mapping(tmp_path / "m.yaml")


def test_decimals_keep_every_digit_and_are_spelled_as_the_equal_float(tmp_path: Path) -> None:
    long = [Decimal("12345678901234567890.5") + n for n in range(3)]
    assert [spell(value) for value in long] == [str(value) for value in long]
    assert [spell(Decimal(text)) for text in ("0.10", "1E-7", "2.50")] == [spell(0.1), spell(1e-7), spell(2.5)]


def test_text_in_a_field_of_numbers_is_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "users.csv").write_text('id,job,age,tags\nu0,a,"1,5",x\nu1,a,5,x\n', encoding="utf-8")
    stream = opened(tmp_path, parquet(tmp_path), more=USERS)
    assert [user.fields.get("age") for user in stream.catalogue.users[:2]] == [None, 5.0]
    assert "field 'age': 1 of 2 values are no numbers and count as missing, the first in row 1: '1,5'" in caplog.text


@pytest.mark.parametrize(
    ("pattern", "found"),
    [("users.csv", True), ("u*.csv", True), ("ROOT/u*.csv", True), ("a**b", False), ("x" * 300, False)],
)
def test_a_path_of_a_table_may_be_any_pattern(tmp_path: Path, pattern: str, found: bool) -> None:
    (tmp_path / "users.csv").write_text("id,job,age,tags\nu0,a,1,x\n", encoding="utf-8")
    users = USERS.replace("users.csv", pattern.replace("ROOT", str(tmp_path)))
    if found:
        assert opened(tmp_path, parquet(tmp_path), more=users).catalogue.users[0].fields["age"] == 1.0
    else:
        with pytest.raises(StreamError, match=r"(no such file|too long).*correct the path"):
            opened(tmp_path, parquet(tmp_path), more=users)


@pytest.mark.parametrize("name", ["log.csv.zip", "log.csv.bz2", "log.xz", "log.csv.zst"])
def test_a_name_of_another_packer_is_reported_with_the_remedy(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(StreamError, match=r"it is packed by \w+: unpack it, or pack it by gzip"):
        opened(tmp_path, tmp_path / name)


def test_a_pipe_in_place_of_a_log_is_reported_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "log.csv")
    with pytest.raises(StreamError, match=r"log\.csv: a pipe or a device, .*; save it as a file"):
        opened(tmp_path, tmp_path / "log.csv")


@pytest.mark.parametrize("name", ["updated_at", "user_id", " "])
def test_a_field_of_a_mapping_may_not_have_a_name_that_profiles_use(tmp_path: Path, name: str) -> None:
    users = f"users: {{path: users.csv, key: id, fields: {{'{name}': {{column: age}}}}}}"
    with pytest.raises(StreamError, match=r"users\.fields.*(give the field another name|give it printable text)"):
        opened(tmp_path, parquet(tmp_path), more=users)
